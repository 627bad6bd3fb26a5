"""Rates and traces are those of the spikes and states that the network gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import LIF, QIF, FFEvNN, fi_curve, firing_rates, mean_interval_rates, sample_traces

INF = np.inf


@pytest.fixture(scope="module")
def net():
    """A neuron that fires every 20 ln 2 = 13.86 ms, one that fires every 20 ln 1.5 = 8.11 ms, and a silent one."""
    return FFEvNN([3], 0, LIF, 30.0, jax.random.PRNGKey(0), init_bias=jnp.array([2.0, 3.0, 0.0]), max_event_steps=16)


NO_INPUT = np.zeros((0, 0))


def test_a_rate_is_the_number_of_spikes_over_the_duration():
    # 3, 1 and 0 spikes in 200 ms.
    trains = [[150.0, 50.0, 100.0], [50.0, INF, INF], [INF, INF, INF]]
    np.testing.assert_allclose(firing_rates(trains, 200.0), [15.0, 5.0, 0.0])


def test_spikes_of_the_transient_and_after_the_duration_do_not_count():
    np.testing.assert_allclose(firing_rates([1.0, 60.0, 90.0, 150.0, 201.0], 200.0, transient=50.0), 20.0)


def test_what_can_be_confused_with_the_duration_is_named():
    with pytest.raises(TypeError, match="positional"):
        firing_rates([1.0, 2.0], 200.0, 50.0)
    with pytest.raises(ValueError, match="transient is 50.0 and duration 20.0"):
        firing_rates([1.0, 2.0], 20.0, transient=50.0)


def test_a_mean_interval_rate_is_one_over_the_mean_interval_after_the_transient():
    # Intervals of 10 and 30 ms, after a spike at 1 ms that belongs to the transient.
    np.testing.assert_allclose(mean_interval_rates([45.0, 1.0, INF, 5.0, 15.0], transient=2.0), 50.0)


def test_one_spike_or_none_is_the_mean_interval_rate_0():
    np.testing.assert_array_equal(mean_interval_rates([[[5.0, INF], [INF, INF]]]), [[0.0, 0.0]])
    assert mean_interval_rates(np.zeros((2, 0))).tolist() == [0.0, 0.0]
    assert mean_interval_rates(np.zeros((0, 4))).shape == (0,)


def test_spike_times_without_a_rate_are_an_error():
    for rates in (mean_interval_rates, lambda times: firing_rates(times, 10.0)):
        with pytest.raises(ValueError, match=r"spike_times\[1, 0\] is nan"):
            rates([[1.0], [np.nan]])
        with pytest.raises(ValueError, match=r"expected an array of shape \(\.\.\., spikes\)"):
            rates(3.0)
    with pytest.raises(ValueError, match="all spikes of a train are at 3 ms"):
        mean_interval_rates([3.0, 3.0])


def test_the_rate_of_a_lif_neuron_is_that_of_its_period():
    # V = ic (1 - exp(-t / tmem)) reaches 1 after tmem ln(ic / (ic - 1)).
    rates = fi_curve(LIF, [3.0, 0.5, 2.0], duration=200.0, transient=50.0, tmem=10.0)
    np.testing.assert_allclose(rates, [100 / np.log(1.5), 0.0, 100 / np.log(2.0)], rtol=1e-5)


@pytest.mark.slow
def test_the_rate_of_a_qif_neuron_is_that_of_its_period():
    # From minus to plus infinity, dV / (V (V - 1) + ic) takes pi / sqrt(ic - 1/4).
    rates = fi_curve(QIF, [0.2, 2.25], duration=300.0, transient=60.0, tmem=10.0, rtol=1e-6)
    np.testing.assert_allclose(rates, [0.0, 100 * np.sqrt(2.0) / np.pi], rtol=1e-4)


def test_an_f_i_curve_of_no_currents_is_empty():
    assert fi_curve(LIF, []).shape == (0,)


class Unbiased(LIF):
    def __init__(self, n_neurons, *, dtype=jnp.float32, key=None):
        super().__init__(n_neurons, dtype=dtype, key=key)


def test_an_f_i_curve_says_what_it_cannot_use():
    with pytest.raises(TypeError, match="Unbiased takes no 'init_bias': pass bias_name"):
        fi_curve(Unbiased, [1.0])
    with pytest.raises(TypeError, match="expected a class that subclasses NeuronModel"):
        fi_curve(LIF(1), [1.0])
    with pytest.raises(ValueError, match=r"currents has shape \(1, 1\)"):
        fi_curve(LIF, [[1.0]])
    with pytest.raises(ValueError, match="currents holds inf"):
        fi_curve(LIF, [1.0, np.inf])
    with pytest.raises(ValueError, match="transient is 10.0, expected"):
        fi_curve(LIF, [1.0], duration=10.0, transient=10.0)


def test_traces_reach_the_threshold_and_the_reset_at_every_spike(net):
    traces = sample_traces(net, NO_INPUT, n_times=5)
    np.testing.assert_allclose(traces.spikes[0, :2], 20 * np.log(2.0) * np.array([1, 2]), rtol=1e-5)
    assert not np.isfinite(traces.spikes[0, 2:]).any() and not np.isfinite(traces.spikes[2]).any()
    for neuron in (0, 1):
        for spike in traces.spikes[neuron][np.isfinite(traces.spikes[neuron])]:
            at = np.searchsorted(traces.times, spike)
            assert traces.times[at] == spike
            np.testing.assert_allclose(traces.states[neuron, at - 1, 0], 1.0, atol=1e-3)
            np.testing.assert_allclose(traces.states[neuron, at, 0], 0.0, atol=1e-6)
    assert traces.channels == ("V", "I") and traces.neurons == (0, 1, 2)
    assert (np.diff(traces.times) > 0).all()


def test_traces_are_of_the_neurons_and_times_asked_for(net):
    traces = sample_traces(net, NO_INPUT, neurons=[2, 0], t_start=10.0, t_end=20.0, n_times=5)
    assert (traces.times[0], traces.times[-1]) == (10.0, 20.0)
    assert traces.states.shape[0] == 2 and traces.spikes.shape == (2, 1)
    np.testing.assert_array_equal(np.isfinite(traces.spikes), [[False], [True]])
    assert sample_traces(net, NO_INPUT, neurons=[], n_times=5).states.shape == (0, 5, 2)


def test_traces_of_what_does_not_exist_are_an_error(net):
    for wrong, message in [
        ({"layer": 1}, "layer is 1, expected one of the 1 layers"),
        ({"neurons": [3]}, "neurons holds 3, expected numbers from 0 to 2"),
        ({"t_end": 31.0}, "max_solver_time = 30 ms"),
    ]:
        with pytest.raises(ValueError, match=message):
            sample_traces(net, NO_INPUT, **wrong)
