"""Batches, compilation, gradients and precision. Numbered as in the list of hostile cases."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import (
    DTYPES,
    END,
    SIZES,
    Leaky,
    assert_times,
    every_combination,
    every_dtype,
    inputs,
    layer,
    spikes,
    trains,
)

from eventsnn import LIF, QIF, RESULTS, FFEvNN

EPS = {dtype: float(jnp.finfo(dtype).eps) for dtype in DTYPES}


@eqx.filter_jit
def gradients(net, xs, by_neuron):
    """The derivative of the weighted sum of all first spikes of a batch, by weights, drive and inputs."""

    def total(weights, drive, xs):
        changed = eqx.tree_at(lambda n: (n.connections[0].weights, _bias(n)), net, (weights, drive))
        times = jax.vmap(changed.ttfs)(xs)
        return jnp.sum(jnp.where(jnp.isfinite(times), by_neuron * times, 0)), times

    return jax.grad(total, (0, 1, 2), has_aux=True)(net.connections[0].weights, _bias(net), xs)


def _bias(net):
    return net.neurons[0].ic


# 31. Large times.


@pytest.mark.parametrize("start", [1e3, pytest.param(9e4, marks=pytest.mark.slow)])
@every_dtype
def test_31_late_spikes_are_right_to_a_few_units_in_the_last_place(dtype, start):
    # tsyn = tmem/2 = 8: the crossing is at -16 ln((1 + sqrt(1 - 4/w))/2) after the input.
    weight = np.array([4.5, 5.0, 8.0])
    net = layer(LIF, dtype, 3, tsyn=8.0, tmem=16.0, weights=[weight], end=1e5, max_steps=20_000)
    exact = start - 16 * np.log((1 + np.sqrt(1 - 4 / weight)) / 2)
    got = spikes(net, inputs([[start]], dtype), "eager")
    np.testing.assert_allclose(got[:, 0], exact, rtol=0.0, atol=max(4 * EPS[dtype] * start, 1e-7))


@every_dtype
def test_31_a_hundred_seconds_of_regular_spikes_do_not_drift_beyond_rounding(dtype):
    # V' = 1/1000, all resets exact: spikes at 1000, 2000, … Each interval is rounded to a few ulp of the time.
    net = layer(Leaky, dtype, 3, drive=1e-3, end=1e5)
    got = spikes(net, inputs([], dtype), "eager", 128)
    expected = 1000.0 * np.arange(1, 100)
    assert np.all(np.isfinite(got[:, :99]))
    np.testing.assert_allclose(got[:, :99], np.tile(expected, (3, 1)), rtol=2 * 99 * EPS[dtype])


# 32. One bad sample.


@every_dtype
def test_32_one_failing_sample_is_reported_and_the_others_are_untouched(dtype):
    # V' = 1/16. An input of 1 at 2 ms lifts V over threshold; the reset of that neuron is above it in no sample
    # but the one that reaches it.
    net = layer(Leaky, dtype, 5, drive=np.array([1 / 16, 0.0, 1 / 16, 1 / 16, 1 / 16]), throw=False,
                vreset=np.array([0.0, 3.0, 0.0, 0.0, 0.0]), weights=[[0.0, 1.5, 0.0, 0.0, 0.0]])  # fmt: skip
    xs = jnp.stack([inputs([[70.0]], dtype), inputs([[2.0]], dtype), inputs([], dtype)])
    record = jax.vmap(net.record)(xs)
    alone = [net.record(x) for x in xs]
    assert [one.result == RESULTS.successful for one in alone] == [True, False, True]
    codes = [jax.tree.map(lambda leaf, k=k: leaf[k], record.result) for k in range(3)]
    assert [bool(code == RESULTS.successful) for code in codes] == [True, False, True]
    assert bool(codes[1] == RESULTS.reset_above_threshold)
    for sample in (0, 2):
        times = np.asarray(record.times[0][sample])
        np.testing.assert_allclose(times[:16], np.repeat([16.0, 32.0, 48.0, 64.0], 4), rtol=1e-6)
        assert np.all(times[16:] == np.inf)


@every_dtype
def test_32_one_failing_sample_raises_when_errors_are_wanted(dtype):
    net = layer(Leaky, dtype, 5, vreset=np.array([0.0, 3.0, 0.0, 0.0, 0.0]), weights=[[0.0, 1.5, 0.0, 0.0, 0.0]])
    xs = jnp.stack([inputs([[70.0]], dtype), inputs([[2.0]], dtype), inputs([], dtype)])
    with pytest.raises(Exception, match="layer 0, neuron 1, t = 2 ms"):
        jax.block_until_ready(jax.jit(jax.vmap(lambda x: net.record(x).times))(xs))


# 33. Compilation.


@every_dtype
def test_33_jit_and_vmap_give_what_eager_gives(dtype):
    # The programs round differently, and the step sizes with them: equal to the tolerance, not to the bit.
    net = {way: layer(LIF, dtype, size, weights=[[3.0, 4.0, 5.5]] * 3) for way, size in SIZES.items()}
    x = inputs([[1.0, 9.0], [4.0], [4.5, 30.0]], dtype)
    got = {way: spikes(net[way], x, way)[:3] for way in ("eager", "vmap")}
    assert np.isfinite(got["eager"]).any()
    assert_times(got["vmap"], got["eager"], rtol={jnp.float32: 2e-5, jnp.float64: 1e-9}[dtype])


class Counting(Leaky):
    def dynamics(self, t, y, args):
        Counting.traces += 1
        return super().dynamics(t, y, args)


Counting.traces = 0


@every_dtype
def test_33_new_numbers_and_a_second_network_of_the_same_shape_compile_nothing(dtype):
    def build(seed, **keywords):
        key = jax.random.PRNGKey(seed)
        return FFEvNN([3, 2], 1, Counting, 20.0, key, dtype=dtype, wlim=0.5, wmean=1.0, **keywords)

    query = eqx.filter_jit(lambda net, x: net.ttfs(x))
    x = jnp.asarray([[3.0, jnp.inf]], dtype)
    first = build(0, drive=0.1, thresh=1.0)
    later = [(build(1, drive=0.1), x), (build(2, drive=0.3, thresh=2.0, vreset=-1.0, y0=0.5), 2 * x)]
    later.append((eqx.tree_at(lambda net: net.connections[0].weights, *later[0][:1], jnp.ones((1, 3), dtype)), x))
    # Constructors look at the shapes of what the methods give, which is not counted.
    Counting.traces = 0
    query(first, x)
    first.ttfs(x)
    compiled = Counting.traces
    assert compiled > 0
    for net, spike_times in later:
        query(net, spike_times)
        net.ttfs(spike_times)
    assert Counting.traces == compiled


# 34 – 36. Gradients, with tsyn = tmem/2 and so V = w (x - x²), x = exp(-s/tmem), for an input of total weight w at a:
# x = (1 + r)/2, r = sqrt(1 - 4/w), t = a - tmem ln x, dx/dw = 1/(w² r), dt/dw = -tmem/(x w² r), dt/da = 1.

TMEM = 16.0


def crossing(weight):
    root = np.sqrt(1 - 4 / weight)
    x = (1 + root) / 2
    return -TMEM * np.log(x), -TMEM / (x * weight**2 * root)


def current_net(dtype, weights, **keywords):
    return layer(LIF, dtype, 4, tsyn=TMEM / 2, tmem=TMEM, weights=weights, **keywords)


def batch_of(rows, dtype):
    """Four samples, whatever is asked for: one program for all."""
    rows = rows + [[]] * (4 - len(rows))
    return jnp.stack([inputs(row, dtype) for row in rows])


@every_dtype
def test_34_a_batch_in_which_some_spike_and_some_do_not_has_exact_gradients_and_no_nan(dtype):
    # Samples: an input at 3, at 11, none, and one after the end. Neurons: two spike, two do not.
    weight = np.array([4.5, 3.5, 6.0, -2.0])
    xs = batch_of([[[3.0]], [[11.0]], [], [[70.0]]], dtype)
    net = current_net(dtype, [weight])
    by_neuron = jnp.asarray([1.0, 2.0, 3.0, 4.0], dtype)
    (by_weights, by_bias, by_inputs), times = gradients(net, xs, by_neuron)
    np.testing.assert_array_equal(np.isfinite(times), [[True, False, True, False]] * 2 + [[False] * 4] * 2)
    slope = np.array([crossing(w)[1] if w > 4 else 0.0 for w in weight])
    # Two samples with a spike each; rows 1 and 2 of the weights saw no input.
    rtol = {jnp.float32: 2e-4, jnp.float64: 1e-7}[dtype]
    np.testing.assert_allclose(by_weights[0], 2 * slope * np.arange(1, 5), rtol=rtol)
    np.testing.assert_array_equal(by_weights[1:], np.zeros((2, 4)))
    np.testing.assert_array_equal(np.asarray(by_weights)[0, [1, 3]], [0.0, 0.0])
    np.testing.assert_array_equal(np.asarray(by_bias)[[1, 3]], [0.0, 0.0])
    assert np.all(np.isfinite(by_bias)) and np.all(np.asarray(by_bias)[[0, 2]] < 0)
    # dt/da = 1 for each spike: 1 + 3 in the samples with an input, exactly 0 elsewhere.
    expected = np.zeros((4, 3, 4))
    expected[:2, 0, 0] = 4.0
    np.testing.assert_allclose(by_inputs, expected, rtol=rtol, atol=0.0)


@every_dtype
def test_34_neurons_that_never_spike_have_gradient_exactly_0(dtype):
    net = current_net(dtype, [np.array([3.9, 1.0, 0.0, -5.0])])
    grads, times = gradients(net, batch_of([[[3.0]], [[0.0]]], dtype), jnp.ones(4, dtype))
    assert np.all(np.asarray(times) == np.inf)
    for grad in grads:
        np.testing.assert_array_equal(grad, np.zeros(grad.shape))


@pytest.mark.parametrize("above", [1e-2, 1e-4, 1e-6])
def test_35_near_a_graze_the_gradient_is_large_and_within_a_thousandth_of_the_closed_form(above):
    # 1e-6 above threshold dt/dw is about -tmem/8/sqrt(1e-6) = -2000 ms.
    weight = 4 * (1 + above)
    net = current_net(jnp.float64, [np.full(4, weight)])
    (by_weights, _, _), times = gradients(net, batch_of([[[3.0]]], jnp.float64), jnp.ones(4))
    time, slope = crossing(weight)
    np.testing.assert_allclose(np.asarray(times)[0], np.full(4, 3 + time), atol=1e-4)
    assert slope < -0.1 * TMEM / np.sqrt(above)
    np.testing.assert_allclose(by_weights[0], np.full(4, slope), rtol=1e-3)


@pytest.mark.parametrize("above", [1e-2, 1e-3])
def test_35_near_a_graze_the_gradient_agrees_with_central_differences(above):
    weight, h = 4 * (1 + above), 4 * above * 1e-3
    xs = batch_of([[[3.0]]], jnp.float64)
    nets = [current_net(jnp.float64, [np.full(4, w)]) for w in (weight, weight + h, weight - h)]
    (by_weights, _, _), _ = gradients(nets[0], xs, jnp.ones(4))
    up, down = (np.asarray(gradients(net, xs, jnp.ones(4))[1])[0] for net in nets[1:])
    np.testing.assert_allclose(by_weights[0], (up - down) / (2 * h), rtol=1e-3)


def test_35_near_a_graze_float32_has_the_right_sign_and_size():
    # The error of V at float32 tolerances is some 1e-6, against a height of 1e-3 over threshold: r is good to 1e-3.
    weight = 4 * (1 + 1e-3)
    net = current_net(jnp.float32, [np.full(4, weight)])
    (by_weights, _, _), _ = gradients(net, batch_of([[[3.0]]], jnp.float32), jnp.ones(4, jnp.float32))
    np.testing.assert_allclose(by_weights[0], np.full(4, crossing(weight)[1]), rtol=1e-2)


@every_dtype
def test_36_the_gradient_through_simultaneous_inputs_is_that_of_their_sum(dtype):
    # Three inputs at 5 ms: V depends on the sum of their weights alone.
    weights = np.array([[2.0, 3.0, 1.5, 4.5], [1.5, 1.0, 1.5, -1.0], [1.0, 2.0, 1.5, 1.5]])
    net = current_net(dtype, weights)
    (by_weights, _, by_inputs), times = gradients(net, batch_of([[[5.0]] * 3], dtype), jnp.ones(4, dtype))
    time, slope = crossing(weights.sum(axis=0))
    rtol = {jnp.float32: 2e-4, jnp.float64: 1e-7}[dtype]
    np.testing.assert_allclose(np.asarray(times)[0], 5 + time, rtol=2e-5)
    np.testing.assert_allclose(by_weights, np.tile(slope, (3, 1)), rtol=rtol)
    # Moving all inputs together moves the spikes with them.
    np.testing.assert_allclose(np.asarray(by_inputs)[0, :, 0].sum(), 4.0, rtol=rtol)
    # Each alone: V = Σ w_k (x_k - x_k²) with x_k = exp((a_k - t)/tmem), so dt/da_k = w_k/Σw where all a_k are equal.
    expected = (weights / weights.sum(axis=0)).sum(axis=1)
    np.testing.assert_allclose(np.asarray(by_inputs)[0, :, 0], expected, rtol=rtol)


@pytest.mark.slow
@every_dtype
def test_36_the_gradient_through_simultaneous_spikes_of_a_layer_is_finite_and_exact(dtype):
    # Three integrators V' = d spike together at 1/d = 8, each adds 1/4 to an integrator with V' = 1/40 below threshold:
    # t = (1 - 3/4)/(1/40) = 10, so dt/d(weight) = -40 for each, and dt/dd of the hidden ones is 0.
    net = FFEvNN([3, 1], 1, Leaky, 30.0, jax.random.PRNGKey(0), dtype=dtype, drive=[np.full(3, 0.125), 0.025],
                 init_weights=[0.0, 0.25])  # fmt: skip
    x = jnp.zeros((1, 0), dtype)

    def time(weights, drive):
        leaves = (weights, drive)
        return eqx.tree_at(lambda n: (n.connections[1].weights, n.neurons[0].drive.value), net, leaves).ttfs(x)[0]

    value, (by_weights, by_drive) = jax.value_and_grad(time, (0, 1))(
        net.connections[1].weights, net.neurons[0].drive.value
    )
    rtol = {jnp.float32: 1e-5, jnp.float64: 1e-10}[dtype]
    np.testing.assert_allclose(value, 10.0, rtol=rtol)
    np.testing.assert_allclose(by_weights, np.full((3, 1), -40.0), rtol=rtol)
    np.testing.assert_allclose(by_drive, np.zeros(3), atol=100 * EPS[dtype])

    # With a weight of 1/2 the second (or third) spike lifts it at once: t = 1/d = 8 whatever the weights, and
    # dt/dd = -1/d² = -64 in all: along d together, whoever of the three gets it.
    value, (by_weights, by_drive) = jax.value_and_grad(time, (0, 1))(
        jnp.full((3, 1), 0.5, dtype), net.neurons[0].drive.value
    )
    np.testing.assert_allclose(value, 8.0, rtol=rtol)
    np.testing.assert_array_equal(by_weights, np.zeros((3, 1)))
    np.testing.assert_allclose(np.sum(by_drive), -64.0, rtol=1e-4 if dtype == jnp.float32 else 1e-9)


# 37. Precision.


@pytest.mark.slow
@every_dtype
def test_37_everything_that_comes_out_has_the_dtype_that_was_asked_for(dtype):
    net = FFEvNN([2], 1, QIF, 20.0, jax.random.PRNGKey(0), dtype=dtype, init_weights=25.0)
    x = jnp.asarray([[1.0, 2.0]], dtype)
    assert net.ttfs(x).dtype == dtype
    assert net.spikes_until_t(x, 20.0, 2).dtype == dtype
    assert net.state_at_t(x, jnp.asarray([1.0], dtype)).dtype == dtype
    assert net.record(x).times[0].dtype == dtype
    assert net.record(x).neurons[0].dtype == jnp.int32
    assert jax.grad(lambda x: net.ttfs(x).sum())(x).dtype == dtype


def numbers_in(jaxpr):
    """The abstract value of every number that a program computes, in all programs within it."""
    for equation in jaxpr.eqns:
        yield from (variable.aval for variable in equation.outvars)
        parts = jax.tree.leaves(equation.params, is_leaf=lambda part: hasattr(part, "eqns") or hasattr(part, "jaxpr"))
        for part in parts:
            inner = getattr(part, "jaxpr", part)
            if hasattr(inner, "eqns"):
                yield from numbers_in(inner)


@pytest.mark.parametrize("model", [LIF, QIF, Leaky])
@every_dtype
def test_37_no_number_of_the_other_precision_is_computed_anywhere_in_the_program(dtype, model):
    net = FFEvNN([3, 2], 2, model, 20.0, jax.random.PRNGKey(0), dtype=dtype, wlim=1.0)
    x = jnp.asarray([[1.0, 2.0], [1.5, jnp.inf]], dtype)
    numbers, rest = eqx.partition(net, eqx.is_inexact_array)

    def loss(numbers, x):
        return jnp.sum(eqx.combine(numbers, rest).ttfs(x))

    program = jax.make_jaxpr(jax.value_and_grad(loss, (0, 1)))(numbers, x)
    # What is weakly typed comes from numbers written in Python, as in where(mask, 1.0, 0.2), which Diffrax's step size
    # controller has: it gives way to whatever it meets.
    values = [value for value in numbers_in(program.jaxpr) if jnp.issubdtype(value.dtype, jnp.floating)]
    found = {value.dtype for value in values if not value.weak_type}
    assert found == {jnp.dtype(dtype)}


# 38. Symmetries.


@every_combination
def test_38_permuted_neurons_give_permuted_spikes(dtype, way):
    rng = np.random.default_rng(3)
    size = SIZES[way]
    weights, bias, tmem = rng.normal(2, 2, (3, size)), rng.uniform(0, 2, size), rng.uniform(5, 30, size)
    order = rng.permutation(size)
    x = inputs([[1.0, 17.0], [4.0], [4.5, 30.0, 31.0]], dtype)
    straight = spikes(layer(LIF, dtype, size, weights=weights, init_bias=bias, tmem=tmem), x, way, 32)
    turned = layer(LIF, dtype, size, weights=weights[:, order], init_bias=bias[order], tmem=tmem[order])
    assert np.isfinite(straight).sum() > size
    # To rounding: a compiled loop treats the last neurons of a row with other instructions than the rest.
    assert_times(spikes(turned, x, way, 32), straight[order], rtol={jnp.float32: 2e-5, jnp.float64: 1e-12}[dtype])


@every_combination
def test_38_shifted_inputs_give_shifted_spikes(dtype, way):
    # At rest nothing happens before the first input. The shift is a binary fraction, and exact.
    rows, shift = [[1.0, 9.0], [4.0], [4.5, 30.0]], 16.0
    net = layer(LIF, dtype, SIZES[way], weights=[[3.0, 4.0, 5.0]] * 3, tsyn=3.0, tmem=9.0)
    here = spikes(net, inputs(rows, dtype), way)
    there = spikes(net, inputs([[time + shift for time in row] for row in rows], dtype), way)
    assert np.isfinite(here).sum() > SIZES[way] and np.all(here[np.isfinite(here)] < END - shift)
    assert_times(there, here + shift, rtol={jnp.float32: 2e-5, jnp.float64: 1e-8}[dtype])


@every_dtype
def test_38_a_train_of_no_spikes_stays_empty_in_the_padding(dtype):
    net = layer(Leaky, dtype, SIZES["eager"], drive=0.03, output_no_spike_value=-1.0)
    got = spikes(net, inputs([], dtype), "eager")
    expected = trains([[100 / 3]], SIZES["eager"])
    np.testing.assert_allclose(got, np.where(np.isfinite(expected), expected, -1.0), rtol=1e-5)
