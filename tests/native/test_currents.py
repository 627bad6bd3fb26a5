"""Currents that are switched on and off, in the native kernels: exact, and as the XLA engines have them."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import (
    LIF,
    AtMostOneSpike,
    DeltaLIF,
    EvNN,
    FFEvNN,
    LeakyIntegrator,
    Mixed,
    Refractory,
    StepCurrent,
    WithBiasCurrent,
)
from eventsnn.engine.native.target import available
from eventsnn.flows.linear import LinearFlow
from eventsnn.neuron_models.base import native_rules

pytestmark = pytest.mark.skipif(not available(), reason="Numba is not installed")

slow = pytest.mark.slow
KEY = jax.random.PRNGKey(0)
T_END = 30.0
# At breakpoints, between them, and in no order. A query at the end is cut off there by XLA's engines.
TIMES = jnp.array([29.0, 0.0, 3.0, 14.0, 14.0, 7.7])
STEPS = ("amplitude", "start", "stop")


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


def assert_same(one, other, in_spikes, at_least=20, times=TIMES, bar=1e-9):
    """Spikes, states and gradients; gives how many numbers of currents have a gradient."""
    (got, own), (expected, record) = (gradients(net, in_spikes, times) for net in (one, other))
    assert int(np.isfinite(record.times[-1]).sum()) >= at_least
    for a, b, c, d in zip(own.times, record.times, own.neurons, record.neurons, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)
        np.testing.assert_array_equal(c, d)
    states = [net.state_at_t(in_spikes, times) for net in (one, other)]
    np.testing.assert_allclose(*states, rtol=0, atol=1e-10)
    moved = 0
    leaves, others = (jax.tree_util.tree_leaves_with_path(tree) for tree in (got, expected))
    others = {jax.tree_util.keystr(path): b for path, b in others}
    for path, a in leaves:
        name = jax.tree_util.keystr(path)
        # One network may have delays of 0 where the other one has none.
        if name in others and a.size:
            scale = max(float(jnp.max(jnp.abs(others[name]))), 1e-3)
            np.testing.assert_allclose(a, others[name], rtol=0, atol=bar * scale, err_msg=name)
            moved += bool(np.any(a)) * ("current" in name)
    return moved


def steps(rng, size, times=((3.0, 14.0), (8.0, 19.5)), trainable=STEPS):
    """A sum of currents, with an amplitude for each neuron and with the last one until the end."""
    current = StepCurrent(0.9, start=11.0, trainable=("amplitude", "start"))
    for start, stop in times:
        current = current + StepCurrent(rng.uniform(0.3, 1.2, size), start=start, stop=stop, trainable=trainable)
    return current


CURRENT_LIF = WithBiasCurrent(LIF)
TRAINED = ("tmem", "tsyn", "thresh", "vreset", "y0")


def layer(engine, model=LIF, size=10, current=None, dtype=jnp.float64, trainable=TRAINED, scale=1.0, **keywords):
    rng = np.random.default_rng(1)
    current = steps(rng, size) if current is None else current
    weights = scale * rng.normal(1.0, 1.2, (3, size))
    net = FFEvNN(
        [size], 3, model, T_END, KEY, init_weights=weights, engine=engine, dtype=dtype, current=current,
        trainable=trainable, **keywords,
    )  # fmt: skip
    return net, jnp.asarray(rng.uniform(0, 25, (3, 8)), dtype)


# Exact.


@pytest.mark.parametrize(
    "delays", [pytest.param({}, id="clock"), pytest.param({"init_delays": 1.0}, id="windows", marks=slow)]
)
def test_a_neuron_that_is_switched_on_spikes_when_the_closed_form_says_so(delays):
    # V = a (1 - exp(-(t - start) / tau)) reaches 1 tau ln(a / (a - 1)) after the start, then every so often.
    current = StepCurrent(2.0, start=4.0, stop=23.0, trainable=STEPS)
    net = FFEvNN(
        [1], 1, WithBiasCurrent(LIF), T_END, KEY, init_weights=1.0, tmem=10.0, current=current, engine="native",
        trainable=("tmem",), dtype=jnp.float64, **delays,
    )  # fmt: skip
    x = jnp.full((1, 1), jnp.inf)
    period = 10 * np.log(2.0)
    times = net.record(x).times[0]
    np.testing.assert_allclose(times[:2], 4 + period * np.array([1, 2]), rtol=0, atol=1e-12)
    assert np.isinf(times[2])
    gradient = eqx.filter_grad(lambda net: net.record(x).times[0][1])(net).neurons[0]
    np.testing.assert_allclose(gradient.current.start.value, 1.0, rtol=1e-12)
    np.testing.assert_allclose(gradient.current.stop.value, 0.0)
    # tau d/da ln(a / (a - 1)) = tau (1/a - 1/(a - 1)) for each period.
    np.testing.assert_allclose(gradient.current.amplitude.value, 2 * 10 * (1 / 2 - 1), rtol=1e-12)
    np.testing.assert_allclose(gradient.neuron.tmem.value, 2 * np.log(2.0), rtol=1e-12)
    # Afterwards V decays from where it was: V = v exp(-(t - stop) / tau), and the count of breakpoints goes on.
    v = 2 * (1 - np.exp(-(23 - 4 - 2 * period) / 10))
    states = net.state_at_t(x, jnp.array([27.0, 23.0, 22.9, 4.0, 3.9]))[0]
    np.testing.assert_allclose(states[:2, 0], [v * np.exp(-0.4), v], rtol=1e-12)
    np.testing.assert_array_equal(states[:, 2], [2, 2, 1, 1, 0])


@pytest.mark.parametrize("delays", [{}, {"init_delays": 1.0}], ids=["clock", "windows"])
def test_a_step_at_the_very_time_of_a_spike_does_not_double_or_hide_it(delays):
    # It spikes after 10 ln 2, is reset just as the current rises from 2 to 3, and spikes again 10 ln(3 / 2) later.
    net = FFEvNN(
        [1], 1, WithBiasCurrent(LIF), 13.0, KEY, init_weights=1.0, tmem=10.0, init_bias=2.0, engine="native",
        current=StepCurrent(1.0, start=5.0), dtype=jnp.float64, **delays,
    )  # fmt: skip
    first = 10 * np.log(2.0)
    record = jax.jit(lambda start: _started_at(net, start).record(jnp.full((1, 1), jnp.inf)).times[0][:3])
    for start in (first, *(np.nextafter(first, to) for to in (0.0, 9.0)), first - 3e-15, first + 3e-15):
        np.testing.assert_allclose(record(start), [first, first + 10 * np.log(1.5), np.inf], rtol=0, atol=1e-12)


def _started_at(net, start):
    return eqx.tree_at(lambda net: net.neurons[0].current.start.value, net, jnp.asarray(start))


@slow
def test_both_kernels_give_the_same_for_neurons_that_share_their_times_and_for_each_with_its_own():
    (clock, x), (windows, _) = (layer("native", WithBiasCurrent(LIF), **more) for more in ({}, {"init_delays": 0.0}))
    assert assert_same(clock, windows, x) == 8
    rng = np.random.default_rng(5)
    own = StepCurrent(1.1, start=rng.uniform(0, 9, 10), stop=rng.uniform(12, 25, 10), trainable=STEPS)
    (clock, x), (windows, _) = (
        layer("native", WithBiasCurrent(LIF), current=own, **more) for more in ({}, {"init_delays": 0.0})
    )
    assert assert_same(clock, windows, x) == 3


def test_a_current_that_moves_another_number_than_the_drive_is_not_for_kernels():
    class Tired(LIF):
        def closed_form(self):
            flow: LinearFlow = super().closed_form()
            return eqx.tree_at(lambda flow: flow.thresh, flow, flow.thresh + self.ic)

    for model, known in ((LIF, True), (Mixed((LIF, 1), (DeltaLIF, 1)), True), (Tired, False)):
        neurons = WithBiasCurrent(model)(2, current=StepCurrent(1.0, start=3.0))
        assert (native_rules(neurons, 2) is not None) == known


# Against the XLA engines.

GRID = ((3.0, 14.0), (5.0, 5.5), (14.0, 20.0), (-2.0, 1.0))
LAYERS = {
    "LIF": (WithBiasCurrent(LIF), {}),
    "delays": (WithBiasCurrent(LIF), {"init_delays": np.arange(30).reshape(3, 10) / 7}),
    "delta": (WithBiasCurrent(DeltaLIF), {"scale": 0.4, "trainable": ("tmem", "thresh")}),
    "once": (AtMostOneSpike(WithBiasCurrent(LIF)), {"at_least": 8}),
    "mixed": (WithBiasCurrent(Mixed((LIF, 6), (DeltaLIF, 2), (LeakyIntegrator, 2))), {"scale": 0.6, "trainable": ()}),
}


@slow
@pytest.mark.parametrize("kind", LAYERS)
def test_layers_give_what_xla_gives_with_all_gradients(kind):
    model, keywords = LAYERS[kind]
    keywords = dict(keywords)
    at_least = keywords.pop("at_least", 20)
    (native, x), (xla, _) = (layer(engine, model, **keywords) for engine in ("native", "xla"))
    assert assert_same(native, xla, x, at_least) == 8


@slow
@pytest.mark.parametrize("delays", [{}], ids=["clock"])
def test_steps_at_the_times_of_arrivals_and_of_each_other_give_what_xla_gives(delays):
    # Breakpoints that coincide, with each other and with arrivals; some before the start, one after the end.
    rng = np.random.default_rng(1)
    current = steps(rng, 10, GRID) + StepCurrent(0.5, start=[*range(9), 40.0], trainable=("amplitude", "start"))
    nets = [layer(engine, WithBiasCurrent(LIF), current=current, **delays)[0] for engine in ("native", "xla")]
    x = jnp.round(jnp.asarray(rng.uniform(0, 25, (3, 8))))
    times = jnp.concatenate([TIMES, jnp.array([5.0, 5.5, 20.0])])
    # What has begun before the start does not depend on when.
    assert assert_same(*nets, x, times=times) == 14


@slow
@pytest.mark.parametrize("delays", [{"init_delays": 0.5}], ids=["windows"])
def test_many_steps_give_what_xla_gives(delays):
    rng = np.random.default_rng(3)
    times = [(a, a + rng.uniform(0.2, 4)) for a in rng.uniform(0, 28, 40)]
    currents = steps(rng, 10, times)
    nets = [layer(engine, WithBiasCurrent(LIF), current=currents, **delays)[0] for engine in ("native", "xla")]
    assert assert_same(*nets, layer("native", WithBiasCurrent(LIF))[1]) > 100


def network(engine, model=CURRENT_LIF, dtype=jnp.float64, delays=None, **keywords):
    rng = np.random.default_rng(4)
    weights = np.concatenate([np.minimum(rng.normal(-0.4, 0.6, (6, 6)), 0.3), rng.normal(1.5, 1.0, (2, 6))])
    x = jnp.asarray(rng.uniform(0, 25, (2, 6)), dtype)
    each = {
        "none": {},
        "uniform": {"init_axonal_delays": 1.0, "trainable": (*TRAINED, "axonal_delays")},
        "axonal": {"init_axonal_delays": np.arange(8) % 3 * 1.1, "trainable": (*TRAINED, "axonal_delays")},
        "synapses": {"init_delays": 0.8 + rng.uniform(0, 4, (8, 6)), "trainable": (*TRAINED, "delays")},
        "sparse": {},
    }[delays]
    if delays == "sparse":
        places = np.argwhere(rng.uniform(size=(8, 6)) < 0.7)
        weights = weights[tuple(places.T)]
        each = {"synapses": places, "init_delays": 0.8 + rng.uniform(0, 4, len(places)), "max_pending": 200}
    keywords = {"trainable": TRAINED, "current": steps(rng, 6), "tmem": 8.0} | each | keywords
    net = EvNN(model, 6, 2, T_END, KEY, init_weights=weights, engine=engine, dtype=dtype, **keywords)
    return net, x


@slow
@pytest.mark.parametrize("delays", ["none", "sparse"])
def test_networks_give_what_xla_gives_with_all_gradients(delays):
    (native, x), (xla, _) = (network(engine, delays=delays) for engine in ("native", "xla"))
    assert assert_same(native, xla, x) == 8


@slow
@pytest.mark.parametrize(
    "model, delays",
    [(WithBiasCurrent(Refractory(LIF)), "axonal"), (Refractory(WithBiasCurrent(LIF)), "synapses")],
)
def test_networks_of_refractory_neurons_give_what_xla_gives_with_all_gradients(model, delays):
    (native, x), (xla, _) = (network(engine, model, delays=delays) for engine in ("native", "xla"))
    assert assert_same(native, xla, x) == 8


@slow
@pytest.mark.parametrize("delays", ["synapses"])
def test_each_neuron_with_its_own_times_in_a_network_gives_what_xla_gives(delays):
    rng = np.random.default_rng(8)
    own = StepCurrent(1.3, start=rng.uniform(0, 9, 6), stop=rng.uniform(12, 25, 6), trainable=STEPS)
    (native, x), (xla, _) = (network(engine, delays=delays, current=own) for engine in ("native", "xla"))
    assert assert_same(native, xla, x) == 3


# Batches and precision.


@functools.cache
def own_loss(delays):
    net, x = network("native", delays=delays)
    numbers, rest = eqx.partition(net, eqx.is_inexact_array)
    return numbers, x, lambda numbers, x: loss(eqx.combine(numbers, rest), x, TIMES)[0]


@slow
@pytest.mark.parametrize("delays", ["axonal"])
def test_the_gradient_of_a_vmap_is_the_sum_of_the_vmap_of_gradients(delays):
    numbers, x, of = own_loss(delays)
    batch = x + jnp.array([0.0, 0.3, 0.7])[:, None, None]
    each = jax.jit(jax.vmap(jax.grad(of), in_axes=(None, 0)))(numbers, batch)
    total = jax.jit(jax.grad(lambda numbers: jnp.sum(jax.vmap(of, in_axes=(None, 0))(numbers, batch))))(numbers)
    one = jax.jit(jax.grad(of))(numbers, batch[1])
    for a, b, c in zip(*map(jax.tree.leaves, (each, total, one)), strict=True):
        np.testing.assert_allclose(jnp.sum(a, axis=0), b, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(a[1], c, rtol=1e-9, atol=1e-9)


@slow
def test_a_batch_of_amplitudes_is_each_by_itself():
    numbers, x, of = own_loss("axonal")
    batch = jax.tree.map(lambda leaf: leaf * jnp.array([1.0, 1.1]).reshape(2, *[1] * leaf.ndim), numbers)
    together = jax.jit(jax.vmap(jax.grad(of), in_axes=(0, None)))(batch, x)
    for k in range(2):
        one = jax.jit(jax.grad(of))(jax.tree.map(lambda leaf, k=k: leaf[k], batch), x)
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(one), strict=True):
            np.testing.assert_allclose(a[k], b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("delays", ["axonal", pytest.param("synapses", marks=slow)])
def test_float32_is_float64_rounded(delays):
    (single, x), (double, _) = (network("native", dtype=dtype, delays=delays) for dtype in (jnp.float32, jnp.float64))
    record, exact = single.record(x), double.record(x.astype(jnp.float64))
    count = int(np.isfinite(exact.times[0]).sum())
    assert record.times[0].dtype == jnp.float32 and count > 20
    np.testing.assert_array_equal(record.neurons[0], exact.neurons[0])
    np.testing.assert_allclose(record.times[0][:count], exact.times[0][:count], rtol=0, atol=1e-3)
