"""The native kernel for delays of single synapses, some of them 0: answers as by source, in windows, or by XLA."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import LIF, AtMostOneSpike, DeltaLIF, EvNN, Refractory, SimulationError, StepCurrent, WithBiasCurrent
from eventsnn.engine.native.target import available

pytestmark = pytest.mark.skipif(not available(), reason="Numba is not installed")

slow = pytest.mark.slow
KEY = jax.random.PRNGKey(0)
T_END = 40.0
TIMES = jnp.array([39.0, 0.0, 31.7, 3.3, 3.3, 12.5])
TRAINED = ("delays", "tmem", "tsyn", "thresh", "vreset", "y0")


def loss(net, in_spikes, times):
    record = net.record(in_spikes)
    first = record.times[-1]
    total = jnp.sum(jnp.where(jnp.isfinite(first), jnp.cos(first), 0))
    return total + jnp.sum(jnp.sin(net.state_at_t(in_spikes, times))), record


@eqx.filter_jit
def gradients(net, in_spikes, times):
    """With respect to every number of the network, the input times and the query times; and the record."""
    numbers, rest = eqx.partition(net, eqx.is_inexact_array)

    def of(numbers, in_spikes, times):
        return loss(eqx.combine(numbers, rest), in_spikes, times)

    return jax.grad(of, argnums=(0, 1, 2), has_aux=True)(numbers, in_spikes, times)


def assert_same(one, other, in_spikes, at_least=20, apart_from=(), bar=1e-9):
    (got, own), (expected, record) = (gradients(net, in_spikes, TIMES) for net in (one, other))
    assert int(np.isfinite(record.times[-1]).sum()) >= at_least
    np.testing.assert_allclose(own.times[0], record.times[0], rtol=0, atol=1e-10)
    np.testing.assert_array_equal(own.neurons[0], record.neurons[0])
    states = [net.state_at_t(in_spikes, TIMES) for net in (one, other)]
    np.testing.assert_allclose(*states, rtol=0, atol=1e-10)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        name = jax.tree_util.keystr(path)
        if a.size and not any(part in name for part in apart_from):
            scale = max(float(jnp.max(jnp.abs(b))), 1e-3)
            np.testing.assert_allclose(a, b, rtol=0, atol=bar * scale, err_msg=name)
    return got[0]


def numbers(seed=4, n=6, inputs=2, scale=1.0):
    """Weights, and delays of which a third are 0."""
    rng = np.random.default_rng(seed)
    among = np.minimum(rng.normal(-0.4, 0.6, (n, n)), 0.3)
    weights = scale * np.concatenate([among, rng.normal(1.5, 1.0, (inputs, n))])
    delays = np.maximum(rng.uniform(-2, 4, weights.shape), 0)
    return weights, delays, jnp.asarray(rng.uniform(0, 30, (inputs, 8)))


def network(engine="native", model=LIF, delays=None, n=6, scale=1.0, dtype=jnp.float64, **keywords):
    weights, own, x = numbers(n=n, scale=scale)
    keywords = {"trainable": TRAINED, "tmem": 8.0, "init_bias": 0.4} | keywords
    net = EvNN(
        model, n, 2, T_END, KEY, init_weights=weights, init_delays=own if delays is None else delays, engine=engine,
        dtype=dtype, max_event_steps=600, **keywords,
    )  # fmt: skip
    return net, x.astype(dtype)


def on_grid(net, x, grid=0.5):
    """The same with times and delays whose sums are exact, so that spikes coincide."""
    delays = jnp.round(net.connection.delays.value / grid) * grid
    weights = jnp.round(net.connection.weights * 8) / 8
    return net.with_(delays=delays, weights=weights), jnp.round(x / grid) * grid


# Where all synapses of a source have the same delay, another kernel runs the same network.

MODELS = {
    "LIF": (LIF, {}),
    "delta": (DeltaLIF, {"scale": 0.4, "trainable": ("tmem", "thresh", "vreset")}),
    "refractory": (Refractory(LIF), {"tref": 2.3, "trainable": (*TRAINED[1:], "tref")}),
    "all held": (Refractory(LIF, hold=("V", "I")), {"tref": 2.3, "trainable": (*TRAINED[1:], "tref")}),
    "blocking": (Refractory(LIF, block=True), {"tref": 2.3, "trainable": (*TRAINED[1:], "tref")}),
    "refractory delta": (Refractory(DeltaLIF), {"scale": 0.4, "tref": 2.3, "trainable": ("tref", "tmem")}),
    "once": (AtMostOneSpike(LIF), {"trainable": TRAINED[1:]}),
}


@pytest.mark.parametrize("kind", ["LIF", *(pytest.param(kind, marks=slow) for kind in ("delta", "all held", "once"))])
def test_every_answer_is_that_of_delays_by_source(kind):
    model, keywords = MODELS[kind]
    trainable = keywords.get("trainable", TRAINED[1:])
    # Two neurons and an input send without delay.
    delays = np.repeat(np.array([[0.0], [1.3], [0.0], [2.2], [4.1], [0.7], [0.0], [1.9]]), 6, axis=1)
    keywords = {"model": model, "delays": delays} | keywords
    by_source, x = network(**keywords | {"trainable": trainable})
    by_synapse, _ = network(**keywords | {"trainable": ("delays", *trainable)})
    assert by_source.by_source and not by_synapse.by_source
    assert_same(by_synapse, by_source, x, 6 if kind == "once" else 20, ["delays"])
    np.testing.assert_allclose(by_synapse.ttfs(x), by_source.ttfs(x), rtol=0, atol=1e-10)


@slow
@pytest.mark.parametrize("kind", ["delta", "refractory delta"])
def test_spikes_that_coincide_are_those_of_delays_by_source(kind):
    model, keywords = MODELS[kind]
    delays = np.repeat(np.array([[0.0], [1.5], [0.0], [2.0], [4.0], [0.5], [0.0], [2.0]]), 6, axis=1)
    keywords = {"model": model, "delays": delays} | keywords | {"init_bias": 0.0, "tref": 1.0}
    keywords = keywords if "refractory" in kind else {k: v for k, v in keywords.items() if k != "tref"}
    by_source, x = on_grid(*network(**keywords | {"trainable": ()}))
    by_synapse, _ = on_grid(*network(**keywords | {"trainable": ("delays",)}))
    # Of several arrivals that lift a neuron over its threshold at once, one receives the derivative.
    assert_same(by_synapse, by_source, x, 10, ["delays", "[1]"])


def test_one_clock_gives_what_windows_give():
    weights, delays, _ = numbers()
    delays = delays + 0.5
    one, x = network(delays=delays, windows=False)
    windows, _ = network(delays=delays, windows=True)
    gradient = assert_same(one, windows, x)
    assert np.all(np.isfinite(gradient.connection.delays.value))


def test_delays_decide_when_the_program_runs_and_nothing_changes_where_they_become_0():
    net, x = network()
    traces = []

    @jax.jit
    def of(delays):
        traces.append(1)
        return loss(net.with_(delays=delays), x, TIMES)[0]

    # Sums of delays that a training step may go through: all long enough for windows, then some so short, then 0.
    long = net.connection.delays.value + 1e-2
    values = [float(of(long - step)) for step in (0.0, 1e-2 - 1e-9, 1e-2)]
    assert len(traces) == 1
    np.testing.assert_allclose(values[1], values[2], rtol=0, atol=1e-6)
    assert values[0] != values[1]
    gradient, slope = jax.grad(of)(long), np.cos(np.arange(long.size)).reshape(long.shape)
    change = float(of(long + 1e-7 * slope) - of(long - 1e-7 * slope)) / 2e-7
    np.testing.assert_allclose(jnp.sum(gradient * slope), change, rtol=1e-5)


# Chains and loops without delay.


def test_a_spike_travels_along_a_chain_without_delay_while_others_are_on_their_way():
    weights, delays = np.zeros((5, 4)), np.full((5, 4), 3.0)
    for j in range(3):
        weights[j, j + 1], delays[j, j + 1] = 1.5, 0.0
    weights[0, 3], weights[4, 0] = -0.25, 1.5
    net = EvNN(
        DeltaLIF, 4, 1, 20.0, KEY, init_weights=weights, init_delays=delays, trainable=("delays",), tmem=10.0,
        engine="native", dtype=jnp.float64,
    )  # fmt: skip
    x = jnp.array([[2.0, 9.0]])
    record = net.record(x)
    np.testing.assert_array_equal(record.times[0][:8], [5.0] * 4 + [12.0] * 4)
    np.testing.assert_array_equal(record.neurons[0][:8], [0, 1, 2, 3] * 2)
    gradient, by_input = jax.grad(lambda net, x: net.record(x).times[0][7], argnums=(0, 1))(net, x)
    expected = np.zeros((5, 4))
    expected[[0, 1, 2, 4], [1, 2, 3, 0]] = 1
    np.testing.assert_array_equal(gradient.connection.delays.value, expected)
    np.testing.assert_array_equal(by_input, [[0.0, 1.0]])
    # What is on its way arrives at the last neuron 3 ms later.
    np.testing.assert_allclose(net.state_at_t(x, jnp.array([8.0]))[3, 0, 0], -0.25, rtol=1e-12)


def test_a_loop_without_delay_that_goes_on_forever_is_an_error_that_says_so():
    weights, delays = np.array([[0.0, 1.5], [1.5, 0.0], [1.5, 0.0]]), np.array([[0.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    net = EvNN(
        DeltaLIF,
        2,
        1,
        20.0,
        KEY,
        init_weights=weights,
        init_delays=delays,
        trainable=("delays",),
        engine="native",
        dtype=jnp.float64,
    )
    with pytest.raises(SimulationError, match=r"neuron [01], t = 3 ms: the network spikes on and on"):
        net.record(jnp.array([[2.0]]))


def test_no_delay_and_a_tiny_one_agree():
    net, x = network()
    delays = net.connection.delays.value
    tiny = net.with_(delays=jnp.where(delays == 0, 1e-13, delays))
    assert_same(tiny, net, x, bar=1e-8)


def test_a_full_list_says_so():
    net, x = network()
    count = int(np.isfinite(net.record(x).times[0]).sum())
    assert np.isfinite(net.with_(max_event_steps=count).record(x).times[0]).all()
    with pytest.raises(SimulationError, match=f"max_event_steps = {count - 1} spikes"):
        net.with_(max_event_steps=count - 1).record(x)


# Against the XLA engines.


@slow
@pytest.mark.parametrize("model", [LIF, DeltaLIF])
def test_delays_some_of_which_are_0_give_what_xla_gives_with_all_gradients(model):
    keywords = {"scale": 0.4, "trainable": ("delays", "tmem", "thresh")} if model is DeltaLIF else {}
    mask = np.random.default_rng(2).uniform(size=(8, 6)) < 0.8
    (native, x), (xla, _) = (network(engine, model, wmask=mask, **keywords) for engine in ("native", "xla"))
    gradient = assert_same(native, xla, x, 15).connection.delays.value
    zero = (np.asarray(native.connection.delays.value) == 0) & mask
    assert np.any(gradient[zero] != 0) and np.any(gradient[~zero] != 0)


@slow
def test_currents_that_are_switched_in_such_a_network_give_what_xla_gives():
    steps = ("amplitude", "start", "stop")
    current = StepCurrent(np.linspace(0.5, 1, 6), start=3.0, stop=14.0, trainable=steps)
    current = current + StepCurrent(0.5, start=np.arange(6) * 1.7, trainable=steps[:2])
    model = WithBiasCurrent(LIF)
    (native, x), (xla, _) = (network(engine, model, current=current) for engine in ("native", "xla"))
    gradient = assert_same(native, xla, x)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient.neurons.current))


@slow
def test_sparse_synapses_without_delay_give_what_xla_gives():
    rng = np.random.default_rng(3)
    places = np.argwhere(rng.uniform(size=(13, 10)) < 0.5)
    weights = np.where(places[:, 0] >= 10, rng.uniform(2, 5, len(places)), rng.normal(-0.2, 0.5, len(places)))
    delays = np.maximum(rng.uniform(-2, 6, len(places)), 0)
    nets = [
        EvNN(
            LIF, 10, 3, T_END, KEY, synapses=places, init_weights=weights, init_delays=delays, max_pending=200,
            trainable=("delays",), engine=engine, max_event_steps=600, dtype=jnp.float64,
        )
        for engine in ("native", "xla")
    ]  # fmt: skip
    assert_same(*nets, jnp.asarray(rng.uniform(0, 30, (3, 6))))


# Batches and precision.


@slow
def test_the_gradient_of_a_vmap_is_the_sum_of_the_vmap_of_gradients():
    net, x = network()
    batch = x + jnp.array([0.0, 0.3, 0.7])[:, None, None]
    own, rest = eqx.partition(net, eqx.is_inexact_array)

    def of(numbers, x):
        return loss(eqx.combine(numbers, rest), x, TIMES)[0]

    each = jax.jit(jax.vmap(jax.grad(of), in_axes=(None, 0)))(own, batch)
    total = jax.jit(jax.grad(lambda own: jnp.sum(jax.vmap(of, in_axes=(None, 0))(own, batch))))(own)
    one = jax.jit(jax.grad(of))(own, batch[1])
    for a, b, c in zip(*map(jax.tree.leaves, (each, total, one)), strict=True):
        np.testing.assert_allclose(jnp.sum(a, axis=0), b, rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(a[1], c)


@slow
def test_a_batch_of_delays_of_which_some_are_0_is_each_by_itself():
    net, x = network()
    batch = net.connection.delays.value + jnp.array([0.0, 0.5])[:, None, None]

    def of(delays):
        return loss(net.with_(delays=delays), x, TIMES)[0]

    together = jax.jit(jax.vmap(jax.grad(of)))(batch)
    for delays, gradient in zip(batch, together, strict=True):
        np.testing.assert_allclose(gradient, jax.jit(jax.grad(of))(delays), rtol=1e-8, atol=1e-9)


@slow
def test_float32_is_float64_rounded():
    (single, x), (double, _) = (network(dtype=dtype) for dtype in (jnp.float32, jnp.float64))
    record, exact = single.record(x), double.record(x.astype(jnp.float64))
    count = int(np.isfinite(exact.times[0]).sum())
    assert record.times[0].dtype == jnp.float32 and count > 20
    np.testing.assert_array_equal(record.neurons[0], exact.neurons[0])
    np.testing.assert_allclose(record.times[0][:count], exact.times[0][:count], rtol=0, atol=1e-3)


@slow
def test_gradients_through_thousands_of_arrivals_are_those_of_windows():
    # More than the memory of arrivals holds at first, and than states are kept for.
    rng = np.random.default_rng(9)
    weights = np.concatenate([rng.normal(-0.1, 0.3, (40, 40)), rng.normal(0.5, 0.7, (20, 40))])
    one, windows = (
        EvNN(
            LIF, 40, 20, 60.0, KEY, init_weights=weights, init_delays=np.random.default_rng(1).uniform(1, 5, (60, 40)),
            windows=windows, trainable=TRAINED, engine="native", dtype=jnp.float64, max_event_steps=4000,
        )
        for windows in (False, True)
    )  # fmt: skip
    assert_same(one, windows, jnp.asarray(rng.uniform(0, 55, (20, 15))), 200, bar=1e-7)
