"""Looking at states and spikes, at awkward times. Numbered as in the list of hostile cases."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import SIZES, Leaky, cycle, every_combination, every_dtype, inputs, layer, spikes

# Every query in this file has as many times as this, so that they share a program.
MANY = 1000
LEAK, WEIGHT = 0.125, np.array([0.5, 0.75, 1.5])


def states(net, x, times, way):
    """`(neurons, times)`; the times are repeated up to `MANY`."""
    full = jnp.asarray(np.resize(np.asarray(times), MANY), net.dtype)
    if way == "eager":
        out = net.state_at_t(x, full)
    elif way == "jit":
        out = _jitted(net, x, full)
    else:
        out = _batched(net, jnp.stack([jnp.full_like(x, jnp.inf), x]), jnp.stack([jnp.full_like(full, 7.0), full]))[1]
    return np.asarray(out)[:, : len(times), 0]


@eqx.filter_jit
def _jitted(net, x, times):
    return net.state_at_t(x, times)


@eqx.filter_jit
def _batched(net, x, times):
    return jax.vmap(net.state_at_t)(x, times)


def decaying(dtype, way):
    """Inputs at 4 and 8 into a V that decays from -1/4; no drive."""
    net = layer(Leaky, dtype, SIZES[way], leak=LEAK, y0=-0.25, vreset=-0.5, weights=[WEIGHT])
    return net, inputs([[8.0, 4.0]], dtype)


def exact(times, n_neurons):
    """V by hand: after 4 it is -1/4 e^(-1/2) + w, after 8 another w; a value of 1 or more becomes -1/2."""
    rows = []
    for w in WEIGHT:
        at_4 = -0.25 * np.exp(-0.5) + w
        at_4 = -0.5 if at_4 >= 1 else at_4
        at_8 = at_4 * np.exp(-0.5) + w
        at_8 = -0.5 if at_8 >= 1 else at_8
        starts = ((8.0, at_8), (4.0, at_4), (0.0, -0.25))
        rows.append([next(v * np.exp(-LEAK * (t - s)) for s, v in starts if t >= s) for t in times])
    return np.stack([rows[k] for k in cycle(np.arange(3), n_neurons)])


def test_26_the_example_covers_a_spike_at_each_input_and_none():
    # 1/2: 0.35, 0.71. 3/4: 0.60, 1.11 spikes. 3/2: 1.35 spikes, 1.20 spikes.
    at_inputs = exact([4.0, 8.0], 3)
    np.testing.assert_allclose(at_inputs, [[0.3484, 0.7113], [0.5984, -0.5], [-0.5, -0.5]], atol=1e-4)


@every_combination
def test_26_times_in_any_order_are_answered_in_the_order_asked(dtype, way):
    net, x = decaying(dtype, way)
    # Unsorted, repeated, at 0, at the inputs and spikes, an instant before them, between, after the last event, at the
    # end.
    before = [t * (1 - 4 * float(jnp.finfo(dtype).eps)) for t in (4, 8)]
    times = [64.0, 4.0, 0.0, 6.5, before[0], 4.0, 30.0, before[1], 8.0, 2.0, 6.5, 64.0]
    got = states(net, x, times, way)
    rtol = {jnp.float32: 2e-5, jnp.float64: 1e-8}[dtype]
    np.testing.assert_allclose(got, exact(times, SIZES[way]), rtol=rtol, atol=rtol)


@every_combination
def test_26_a_repeated_time_has_one_answer(dtype, way):
    net, x = decaying(dtype, way)
    got = states(net, x, [5.0, 4.0, 5.0, 63.0, 4.0, 5.0], way)
    np.testing.assert_array_equal(got[:, [0, 1, 0]], got[:, [2, 4, 5]])


@every_combination
def test_26_the_state_at_a_spike_of_a_moving_potential_is_the_one_after_it(dtype, way):
    # V' = 1/16 - V/64 has the rest 4; from 0 it is 1 at 64 ln(4/3) = 18.41; the layer is asked at its own answer.
    net = layer(Leaky, dtype, SIZES[way], leak=1 / 64, drive=1 / 16, vreset=-2.0)
    # Equal neurons may differ in the last bit, so each is looked up at its own spike (the diagonal).
    spike = spikes(net, inputs([], dtype), way)[:, 0]
    np.testing.assert_allclose(spike, 64 * np.log(4 / 3), rtol={jnp.float32: 2e-5, jnp.float64: 1e-8}[dtype])
    at, just_before, earlier = (
        np.diagonal(states(net, inputs([], dtype), times, way))
        for times in (spike, spike * (1 - 4 * np.finfo(spike.dtype).eps), spike * spike.dtype.type(0.999))
    )
    np.testing.assert_array_equal(at, np.full(SIZES[way], -2.0))
    np.testing.assert_allclose(just_before, 4 - 4 * np.exp(-spike / 64), rtol=2e-5)
    np.testing.assert_allclose(earlier, 4 - 4 * np.exp(-spike * 0.999 / 64), rtol=2e-5)


@pytest.mark.parametrize("bad, shown", [(64.5, "64.5"), (np.nan, "nan"), (np.inf, "inf"), (-1.0, "-1")])
@every_combination
def test_27_a_time_outside_the_run_is_an_error(dtype, way, bad, shown):
    net, x = decaying(dtype, way)
    times = np.linspace(0, 64, MANY)
    times[17] = bad
    with pytest.raises(Exception, match=rf"times\[17\] is {shown}: .*0 to max_solver_time = 64") as error:
        states(net, x, times, way)
    if way == "eager":
        assert isinstance(error.value, ValueError)


@pytest.mark.parametrize("bad", [65.0, np.nan, np.inf, -1.0])
@every_dtype
def test_27_a_final_time_outside_the_run_is_an_error(dtype, bad):
    net = layer(Leaky, dtype, SIZES["eager"], leak=LEAK, weights=[WEIGHT])
    with pytest.raises(ValueError, match="final_time is .*0 to max_solver_time = 64"):
        net.spikes_until_t(inputs([[8.0]], dtype), bad, 8)


def test_27_times_of_another_shape_are_an_error():
    net, x = decaying(jnp.float64, "eager")
    with pytest.raises(ValueError, match=r"times has shape \(2, 2\), expected \(times,\)"):
        net.state_at_t(x, jnp.ones((2, 2)))


@every_dtype
def test_28_a_thousand_queries_leave_every_other_answer_the_same_to_the_bit(dtype):
    net, x = decaying(dtype, "eager")
    few = [3.0, 9.0, 20.0]
    alone = states(net, x, few, "eager")
    among = states(net, x, few + list(np.random.default_rng(0).uniform(0, 64, MANY - 3)), "eager")
    np.testing.assert_array_equal(among[:, :3], alone)


@every_dtype
def test_28_a_thousand_queries_see_the_reset_exactly_at_every_spike(dtype):
    # The spikes of a run without queries are where a run with queries resets: V there is vreset to the bit.
    net = layer(Leaky, dtype, SIZES["eager"], leak=0.01, drive=[0.11, 0.13, 0.17], vreset=0.125)
    trains = np.asarray(net.spikes_until_t(inputs([], dtype), 64.0, 16))
    for neuron in range(3):
        found = trains[neuron][np.isfinite(trains[neuron])]
        assert len(found) >= 5
        times = np.concatenate([found, np.random.default_rng(neuron).uniform(0, 64, MANY - len(found))])
        got = states(net, inputs([], dtype), times, "eager")
        np.testing.assert_array_equal(got[neuron, : len(found)], np.full(len(found), 0.125))
