"""The native kernel for delays per synapse and sparse synapses: answers as those of XLA's engines, or on one clock."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import IF, LIF, AtMostOneSpike, DeltaLIF, EvNN, FFEvNN, Refractory, SimulationError
from eventsnn.engine.native.target import available

pytestmark = pytest.mark.skipif(not available(), reason="Numba is not installed")

KEY = jax.random.PRNGKey(0)
T_END = 60.0
# In any order, repeated, and at both ends of the run.
TIMES = jnp.array([T_END, 0.0, 31.7, 3.3, 3.3, 12.5])


def loss(net, in_spikes, times=None):
    """A sum over the first forty spikes, and over states at `times`; besides, the record."""
    record = net.record(in_spikes)
    first = record.times[-1][:40]
    total = jnp.sum(jnp.where(jnp.isfinite(first), jnp.cos(first), 0))
    if times is not None:
        total = total + jnp.sum(jnp.sin(net.state_at_t(in_spikes, times)[:, :, :2]))
    return total, record


def gradients(net, in_spikes, times=None):
    """By every number of the network, by the input times, and by the query times; and the record."""
    numbers, rest = eqx.partition(net, eqx.is_inexact_array)

    def of(numbers, in_spikes, times):
        return loss(eqx.combine(numbers, rest), in_spikes, times)

    arguments = (0, 1) if times is None else (0, 1, 2)
    return jax.grad(of, argnums=arguments, has_aux=True)(numbers, in_spikes, times)


def assert_same_gradients(got, expected, apart_from=(), bar=1e-9):
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        if a.size and not any(name in jax.tree_util.keystr(path) for name in apart_from):
            scale = max(float(jnp.max(jnp.abs(b))), 1e-3)
            np.testing.assert_allclose(a, b, rtol=0, atol=bar * scale, err_msg=jax.tree_util.keystr(path))


def assert_same_spikes(got, expected, at_least, bar=1e-10):
    count = int(np.isfinite(expected.times[-1]).sum())
    assert count >= at_least
    for a, b, neurons, others in zip(got.times, expected.times, got.neurons, expected.neurons, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=bar)
        np.testing.assert_array_equal(neurons, others)


def random_numbers(seed=0, n=8, inputs=3):
    """Weights, delays among neurons from 1 ms on and from inputs from 0 on, a mask, and inputs."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0.6, 1.2, (n + inputs, n))
    weights[n:] = rng.uniform(2, 5, (inputs, n))
    delays = rng.uniform(1, 8, weights.shape)
    delays[n:] -= 1
    return weights, delays, rng.uniform(size=weights.shape) < 0.6, jnp.asarray(rng.uniform(0, 30, (inputs, 6)))


@functools.cache
def dense_by_xla():
    net, x = dense("xla", windows=True)
    return gradients(net, x)


def dense(engine, dtype=jnp.float64, **keywords):
    weights, delays, mask, x = random_numbers()
    net = EvNN(
        LIF, 8, 3, T_END, KEY, dtype=dtype, init_weights=weights, init_delays=delays, wmask=mask, init_bias=0.3,
        max_event_steps=600, trainable=("delays", "tmem", "thresh", "y0"), engine=engine, **keywords,
    )  # fmt: skip
    return net, jnp.asarray(x, dtype)


@pytest.mark.slow
def test_a_matrix_of_delays_with_a_mask_gives_spikes_and_gradients_as_xla():
    expected, record = dense_by_xla()
    got, own = gradients(*dense("native"))
    assert_same_spikes(own, record, 100)
    assert_same_gradients(got, expected)


@pytest.mark.slow
def test_float32_is_float64_rounded():
    record, exact = (net.record(x) for net, x in (dense("native", jnp.float32), dense("native")))
    assert record.times[0].dtype == jnp.float32
    np.testing.assert_array_equal(record.neurons[0][:100], exact.neurons[0][:100])
    np.testing.assert_allclose(record.times[0][:100], exact.times[0][:100], rtol=0, atol=1e-3)


@pytest.mark.slow
def test_the_gradient_of_a_vmap_is_the_sum_of_the_vmap_of_gradients():
    net, x = dense("native")
    batch = x + jnp.array([0.0, 0.3, 0.7])[:, None, None]
    numbers, rest = eqx.partition(net, eqx.is_inexact_array)

    def of(numbers, x):
        return loss(eqx.combine(numbers, rest), x, TIMES)[0]

    each = jax.vmap(jax.grad(of), in_axes=(None, 0))(numbers, batch)
    total = jax.grad(lambda numbers: jnp.sum(jax.vmap(of, in_axes=(None, 0))(numbers, batch)))(numbers)
    assert_same_gradients(total, jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), each))
    assert_same_gradients(jax.tree.map(lambda leaf: leaf[0], each), jax.grad(of)(numbers, x))


@pytest.mark.slow
def test_two_runs_give_the_same_bits():
    net, x = dense("native", jnp.float32)
    first, second = (gradients(net, x, jnp.asarray(TIMES, jnp.float32))[0] for _ in range(2))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)


def both_kernels(model, grid=None, scale=1.0, trainable=(), windows=None, shortest=1.0, **keywords):
    """The same network by the kernel with one clock and by that with windows, which trained delays call for."""
    weights, delays, mask, x = random_numbers()
    weights, delays = weights * scale, np.repeat(delays[:, :1], 8, axis=1)
    delays[0] = shortest
    if grid:
        delays, x = np.round(delays / grid) * grid, jnp.round(x / grid) * grid
        # Sums of these are exact, so that thresholds are met to the bit.
        weights = np.round(weights * 8) / 8
    keywords = {"init_bias": 0.3, "max_event_steps": 600, "windows": windows, "engine": "native"} | keywords
    keywords |= {"dtype": jnp.float64, "init_weights": weights, "init_delays": delays, "wmask": mask}
    nets = [EvNN(model, 8, 3, T_END, KEY, trainable=(*trainable, *more), **keywords) for more in ((), ("delays",))]
    assert nets[0].by_source and not nets[1].by_source and nets[1].shortest_window < 1
    return *nets, x


@pytest.mark.parametrize(
    ("model", "keywords"),
    [
        (LIF, {"trainable": ("tmem", "tsyn", "thresh", "vreset", "y0")}),
        (Refractory(LIF), {"tref": 2.3, "trainable": ("tref", "tmem", "tsyn")}),
        (DeltaLIF, {"scale": 0.3, "grid": 0.5, "init_bias": 0.0}),
        pytest.param(
            Refractory(LIF, hold=("V", "I")), {"tref": 2.3, "trainable": ("tref", "tsyn")}, marks=pytest.mark.slow
        ),
        pytest.param(Refractory(LIF, block=True), {"tref": 2.3, "trainable": ("tref",)}, marks=pytest.mark.slow),
        pytest.param(Refractory(DeltaLIF), {"scale": 0.3, "grid": 0.5, "tref": 1.0}, marks=pytest.mark.slow),
        pytest.param(DeltaLIF, {"scale": 0.3, "trainable": ("tmem", "vreset")}, marks=pytest.mark.slow),
        pytest.param(AtMostOneSpike(LIF), {}, marks=pytest.mark.slow),
        pytest.param(IF, {"scale": 0.2, "trainable": ("thresh",)}, marks=pytest.mark.slow),
    ],
)
def test_every_answer_is_that_of_one_clock(model, keywords):
    clock, windows, x = both_kernels(model, **keywords)
    (expected, record), (got, own) = (gradients(net, x, TIMES) for net in (clock, windows))
    assert_same_spikes(own, record, 8)
    # On a grid spikes are lifted over the threshold by several arrivals at once, one of which receives the derivative.
    apart = ["delays"] + (["[1]"] if "grid" in keywords else [])
    assert_same_gradients(got, expected, apart)
    times = jnp.concatenate([TIMES, record.times[0][:5], x.ravel()[:3]])
    np.testing.assert_allclose(windows.state_at_t(x, times), clock.state_at_t(x, times), rtol=0, atol=1e-10)
    np.testing.assert_allclose(windows.ttfs(x), clock.ttfs(x), rtol=0, atol=1e-10)
    np.testing.assert_allclose(windows.spikes_until_t(x, 25.0, 64), clock.spikes_until_t(x, 25.0, 64), atol=1e-10)
    count = int(np.isfinite(record.times[0]).sum())
    np.testing.assert_allclose(own.slopes[0][:count], record.slopes[0][:count], rtol=1e-9)


@pytest.mark.slow
def test_with_more_windows_than_states_are_kept_for_time_constants_are_right_as_well():
    # 300,000 windows of 8 neurons, of which a quarter of a million would be kept.
    clock, windows, x = both_kernels(LIF, trainable=("tmem", "tsyn"), windows=True, shortest=2e-4)
    (expected, record), (got, own) = (gradients(net, x) for net in (clock, windows))
    # On one clock all states are moved 300,000 times. That leaves 5e-14 of them, which grazes multiply by thousands.
    assert_same_spikes(own, record, 20, 1e-9)
    assert_same_gradients(got, expected, ["delays"])


def test_a_full_list_is_an_error_that_says_so():
    net, x = dense("native")
    with pytest.raises(SimulationError, match="max_event_steps = 20 spikes"):
        net.with_(max_event_steps=20).record(x)


@functools.cache
def sparse(engine):
    """Seventy synapses, some of which join the same neurons."""
    n, inputs = 10, 3
    rng = np.random.default_rng(3)
    pairs = np.stack([rng.integers(0, n + inputs, 60), rng.integers(0, n, 60)], axis=1)
    pairs = np.concatenate([pairs, pairs[:10]])
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    weights = np.where(pairs[:, 0] >= n, rng.uniform(3, 8, 70), rng.normal(0.3, 1.0, 70))
    net = EvNN(
        LIF, n, inputs, T_END, KEY, synapses=pairs, init_weights=weights, init_delays=rng.uniform(1, 8, 70),
        trainable=("delays",), windows=True, init_bias=0.0, max_event_steps=600, max_pending=200, dtype=jnp.float64,
        engine=engine,
    )  # fmt: skip
    return gradients(net, jnp.asarray(rng.uniform(0, 30, (inputs, 6))))


@pytest.mark.slow
def test_sparse_synapses_that_repeat_give_spikes_and_gradients_as_xla():
    (got, own), (expected, record) = sparse("native"), sparse("xla")
    assert_same_spikes(own, record, 20)
    assert_same_gradients(got, expected)


def layers(engine):
    rng = np.random.default_rng(3)
    weights = [rng.uniform(0.5, 3, shape) for shape in ((3, 6), (6, 4))]
    delays = [rng.uniform(0, 6, shape) for shape in ((3, 6), (6, 4))]
    net = FFEvNN(
        [6, 4], 3, LIF, T_END, KEY, init_weights=weights, init_delays=delays, init_bias=0.3, dtype=jnp.float64,
        trainable=("delays", "tmem", "thresh", "y0"), engine=engine,
    )  # fmt: skip
    return gradients(net, jnp.asarray(rng.uniform(0, 30, (3, 6))))


@pytest.mark.slow
def test_layers_with_delays_give_spikes_and_gradients_as_xla():
    (got, own), (expected, record) = layers("native"), layers("xla")
    assert_same_spikes(own, record, 30)
    assert_same_gradients(got, expected)
