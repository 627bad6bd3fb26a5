"""What happens at one instant: jumps, starts, resets, inputs that coincide. Numbered like the hostile cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import SIZES, Leaky, assert_times, cycle, every_combination, every_dtype, inputs, layer, spikes, trains

from eventsnn import LIF, RESULTS, FFEvNN, SimulationError

# Binary fractions throughout: where nothing has to be rounded, the answers hold to the bit.


@every_combination
def test_10_a_delta_synapse_that_lifts_over_threshold_spikes_at_the_arrival(dtype, way):
    # V stays where an input puts it. 0.75: below, then 1.5; 1: exactly at threshold; 1.5; -1: never.
    net = layer(Leaky, dtype, SIZES[way], weights=[[0.75, 1.0, 1.5, -1.0]])
    got = spikes(net, inputs([[7.3, 19.1]], dtype), way)
    first, second = (float(jnp.asarray(time, dtype)) for time in (7.3, 19.1))
    expected = [[second], [first, second], [first, second], []]
    np.testing.assert_array_equal(got, trains(expected, SIZES[way]))


@every_combination
def test_11_an_initial_state_at_or_above_threshold_spikes_at_0(dtype, way):
    # V' = 1/10 after the reset to 0: again after 10 ms.
    below = 1 - 2.0**-20
    net = layer(Leaky, dtype, SIZES[way], y0=[1.0, 7.0, 0.5, below], drive=[0.1, 0.0, 0.0, 0.0])
    expected = [[10.0 * k for k in range(7)], [0.0], [], []]
    assert_times(spikes(net, inputs([], dtype), way), trains(expected, SIZES[way]), rtol=1e-6)


def test_11_the_ninth_spike_of_the_train_is_an_error_and_not_dropped():
    net = layer(Leaky, jnp.float64, 8, y0=1.0, drive=0.15)
    with pytest.raises(SimulationError, match="max_spikes = 8"):
        spikes(net, inputs([], jnp.float64), "eager")


class StartsAtItsBias(LIF):
    def init_state(self, n_neurons):
        return jnp.stack([self.ic, jnp.zeros_like(self.ic)], axis=1)


@every_dtype
def test_11_a_bias_that_starts_the_neuron_above_threshold_spikes_at_0(dtype):
    # tmem V' = ic - V from V = ic: constant for 0.9; 1.25 spikes at once and then every tmem ln(ic/(ic - 1)).
    net = layer(StartsAtItsBias, dtype, 2, init_bias=np.array([0.9, 1.25]), tmem=20.0)
    period = 20 * np.log(5)
    got = spikes(net, inputs([], dtype), "eager")
    assert_times(got, trains([[], [0.0, period]], 2), rtol={jnp.float32: 2e-5, jnp.float64: 1e-8}[dtype])


@pytest.mark.parametrize("vreset", [1.0, 1.5, np.array([0.0, 0.5, 1.0])])
@every_dtype
def test_12_a_lif_reset_at_or_above_threshold_is_refused_before_the_run(dtype, vreset):
    with pytest.raises(ValueError, match=r"vreset.* below thresh"):
        FFEvNN([3], 2, LIF, 30.0, jax.random.PRNGKey(0), dtype=dtype, thresh=1.0, vreset=vreset)


@every_combination
def test_12_and_18_a_neuron_that_resets_above_threshold_is_a_clear_error_that_names_it(dtype, way):
    # Neuron 5 reaches 1 at 20 ms and is reset to 1.25; all others to 0.
    vreset = np.zeros(SIZES[way])
    vreset[5] = 1.25
    net = layer(Leaky, dtype, SIZES[way], drive=0.05, vreset=vreset)
    with pytest.raises(Exception, match=r"layer 0, neuron 5, t = (20|19.9+\d*|20.0+\d*) ms: .*reset") as error:
        spikes(net, inputs([], dtype), way)
    if way == "eager":
        assert isinstance(error.value, SimulationError)


@every_dtype
def test_18_a_neuron_stuck_above_threshold_does_not_hide_the_spikes_of_the_others(dtype):
    # V' = 1/16: 16, 32, 48, 64; the stuck neuron has spiked once, at its start.
    vreset = np.array([0.0, 2.0, 0.0, 0.5])
    y0 = np.array([0.0, 2.0, 0.0, 0.5])
    net = layer(Leaky, dtype, 4, drive=1 / 16, vreset=vreset, y0=y0, throw=False)
    record = net.record(inputs([], dtype))
    times, neurons = np.asarray(record.times[0]), np.asarray(record.neurons[0])
    assert record.result == RESULTS.reset_above_threshold
    for neuron, train in ((0, [16, 32, 48, 64]), (2, [16, 32, 48, 64]), (3, [8 * k for k in range(1, 9)])):
        np.testing.assert_allclose(times[(neurons == neuron) & np.isfinite(times)], train, rtol=1e-6)
    np.testing.assert_array_equal(times[(neurons == 1) & np.isfinite(times)], [0.0])


@every_combination
def test_13_excitation_and_inhibition_at_one_instant_count_as_their_sum(dtype, way):
    # 2 - 1.5 = 0.5: no spike, however the inputs are listed; 2 - 0.5: a spike.
    first, second = np.array([2.0, 2.0, -1.5, -0.5]), np.array([-1.5, -0.5, 2.0, 2.0])
    net = layer(Leaky, dtype, SIZES[way], weights=[first, second])
    got = spikes(net, inputs([[10.0], [10.0]], dtype), way)
    np.testing.assert_array_equal(got, trains([[], [10.0], [], [10.0]], SIZES[way]))


@every_combination
def test_13_any_order_of_inputs_at_one_instant_gives_the_same_result(dtype, way):
    # A decaying V and several instants; weights and so their sums are exact, V is rounded alike in every order.
    weights = np.array([[0.75, 2.5, -3.0], [-0.5, -2.0, 1.0], [0.5, 0.25, 3.5]])
    rows = [[3.0, 11.0], [3.0, 3.0, 11.0], [3.0, 11.0, 11.0]]
    results = []
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        net = layer(Leaky, dtype, SIZES[way], leak=0.25, weights=weights[order])
        results.append(spikes(net, inputs([rows[i] for i in order], dtype), way))
    # At 3: 0.75 - 1 + 0.5 = 0.25; 2.5 - 4 + 0.25 = -1.25; -3 + 2 + 3.5 = 2.5: a spike, reset to 0.
    # At 11: 0.25/e² + 0.75 - 0.5 + 1 = 1.28: a spike; -1.25/e² + 2.5 - 2 + 0.5 = 0.83; -3 + 1 + 7 = 5: a spike.
    np.testing.assert_array_equal(results[0], trains([[11.0], [], [3.0, 11.0]], SIZES[way]))
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])


@every_combination
def test_14_k_equal_spikes_on_a_channel_are_one_spike_of_k_times_the_weight(dtype, way):
    k = np.array([1, 2, 3, 4])
    together = []
    for count in k:
        net = layer(Leaky, dtype, SIZES[way], weights=[[0.375]], leak=0.03125)
        together.append(spikes(net, inputs([[9.0] * count], dtype), way)[0])
    net = layer(Leaky, dtype, SIZES[way], weights=[0.375 * k], leak=0.03125)
    alone = spikes(net, inputs([[9.0]], dtype), way)
    np.testing.assert_array_equal(np.stack(together), alone[:4])
    # 0.375, 0.75 | 1.125, 1.5: one spike from three on, and not one per arrival beyond the threshold.
    np.testing.assert_array_equal(alone, trains([[], [], [9.0], [9.0]], SIZES[way]))


@every_combination
def test_14_k_equal_spikes_into_a_current_are_one_spike_of_k_times_the_weight(dtype, way):
    counts = np.array([1, 2, 4])
    net = layer(LIF, dtype, SIZES[way], weights=[1.5 * counts])
    alone = spikes(net, inputs([[9.0]], dtype), way)
    for number, count in enumerate(counts):
        net = layer(LIF, dtype, SIZES[way], weights=1.5)
        together = spikes(net, inputs([[9.0] * count], dtype), way)
        np.testing.assert_allclose(together, np.tile(alone[number], (SIZES[way], 1)), rtol=1e-6)
    # tmem = 20, tsyn = 5: the peak of V is w 4^(-1/3)/4 = 0.157 w: above 1 from w = 6.35 on.
    np.testing.assert_array_equal(np.isfinite(alone[:3, 0]), [False, False, False])
    net = layer(LIF, dtype, SIZES[way], weights=6.3)
    assert np.all(spikes(net, inputs([[9.0]], dtype), way) == np.inf)
    net = layer(LIF, dtype, SIZES[way], weights=1.6)
    assert np.all(np.isfinite(spikes(net, inputs([[9.0] * 4], dtype), way)[:, 0]))


@every_combination
def test_15_inputs_at_0_and_at_the_end_act_and_those_after_the_end_do_not(dtype, way):
    net = layer(Leaky, dtype, SIZES[way], weights=[[1.5, 0.0, 0.0], [0.0, 1.5, 0.0], [0.0, 0.0, 1.5]])
    # An instant at 64 ms is 2 eps wide, in units of that time.
    after = 64 * (1 + 4 * float(jnp.finfo(dtype).eps))
    got = spikes(net, inputs([[0.0], [64.0], [after, 70.0]], dtype), way)
    np.testing.assert_array_equal(got, trains([[0.0], [64.0], []], SIZES[way]))


@every_dtype
def test_15_an_input_at_the_end_is_in_the_state_at_the_end(dtype):
    net = layer(Leaky, dtype, 4, weights=[[0.25, 1.5, 0.0, -2.0]])
    state = np.asarray(net.state_at_t(inputs([[64.0]], dtype), jnp.asarray([64.0, 63.0, 0.0], dtype)))[..., 0]
    np.testing.assert_array_equal(state[:, 0], cycle([0.25, 0.0, 0.0, -2.0], 4))
    np.testing.assert_array_equal(state[:, 1:], np.zeros((4, 2)))
