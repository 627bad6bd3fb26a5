"""What `literature.py` and `literature_hodgkin_huxley.py` say is what the oracle finds, and what its names mean."""

import math

import literature
import literature_hodgkin_huxley as hh
import numpy as np
import pytest
from firing_patterns import bursts, stops
from oracle_zoo import MODELS, Accuracy, Current, constant, simulate, states, step

QUICK = Accuracy(1e-11, 1e-12)

REGIMES = {regime.name: regime for regime in literature.IZHIKEVICH_2003 + literature.NAUD_2008}


def train(regime):
    parameters = regime.parameters | {"y0": regime.start}
    return simulate(regime.model, parameters, [], regime.t_end, QUICK, current=step(*regime.stimulus))


@pytest.fixture(scope="module")
def trains():
    return {name: train(regime) for name, regime in REGIMES.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", REGIMES)
def test_a_regime_does_what_it_is_named_after(name, trains):
    regime, times = REGIMES[name], trains[name]
    assert regime.is_named_so(times)
    assert regime.count in (None, len(times))
    assert times[0] == pytest.approx(regime.first, abs=2e-6)
    np.testing.assert_allclose(np.diff(times)[:3], regime.intervals, rtol=0, atol=2e-6)
    assert regime.bursts in (None, bursts(times))


@pytest.mark.slow
def test_the_names_tell_the_regimes_apart(trains):
    """Each behaviour is refused by at least six of the others."""
    for regime in REGIMES.values():
        others = [times for name, times in trains.items() if name != regime.name and len(times) > 6]
        refused = [not regime.is_named_so(times) for times in others]
        assert sum(refused) >= 6, regime.name


@pytest.mark.parametrize("name", literature.AS_PRINTED)
def test_the_rows_as_printed_do_not_do_what_they_are_named_after(name):
    (model, parameters, start), current = literature.AS_PRINTED[name]
    times = simulate(model, parameters | {"y0": start, "ic": current}, [], 500.0, QUICK)
    assert len(times) == 0 or not REGIMES[name].is_named_so(times)


def test_fast_spiking_is_fast_and_low_threshold_spiking_has_a_low_threshold(trains):
    assert len(trains["fast spiking"]) > 4 * len(trains["regular spiking"])
    counts = {}
    for name in ("regular spiking", "low-threshold spiking"):
        regime = REGIMES[name]
        parameters = regime.parameters | {"y0": regime.start}
        counts[name] = len(simulate(regime.model, parameters, [], 320.0, current=step(2.0, 20.0)))
    assert counts["regular spiking"] == 0 and counts["low-threshold spiking"] > 2


def test_the_resonator_oscillates_answers_in_step_and_has_two_ways_to_be():
    model, parameters, start = literature.RESONATOR
    parameters = parameters | {"y0": start}
    # The linearization at rest: a focus whose oscillation decays.
    slope = MODELS[model](**parameters)
    jacobian = [(slope.slope(start + e, 0) - slope.slope(start - e, 0)) / 2e-6 for e in 1e-6 * np.eye(3)[:2]]
    eigenvalue = np.linalg.eigvals(np.array(jacobian)[:, :2].T)[0]
    period = 2 * math.pi / abs(eigenvalue.imag)
    assert eigenvalue.real < 0 and 35 < period < 50

    pair = literature.RESONANT_PAIR
    for distances, spiking in ((pair["silent"], False), (pair["spiking"], True)):
        for distance in distances:
            times = (20.0, 20.0 + pair["duration"], 20.0 + distance, 20.0 + distance + pair["duration"])
            heights = [0.0, pair["amplitude"], 0.0, pair["amplitude"], 0.0]
            current = Current((-math.inf, *times), tuple(lambda t, h=h: h for h in heights))
            assert (len(simulate(model, parameters, [], 100.0, current=current)) > 0) == spiking

    bistable = literature.BISTABLE_RESONATOR
    parameters["ic"] = bistable["ic"]
    assert len(simulate(model, parameters, [], 500.0)) == 0
    assert simulate(model, parameters, [], 500.0, current=step(*bistable["pulse"]))[-1] > 400


@pytest.mark.parametrize("ic", [1.01, 1.5, 4.0])
def test_the_rate_of_lif_is_what_the_formula_says(ic):
    times = simulate("LIF", {"ic": ic, "vreset": -0.3}, [], 400.0, tref=1.5)
    np.testing.assert_allclose(1 / np.diff(times), literature.lif_rate(ic, vreset=-0.3, tref=1.5), rtol=1e-11)
    assert len(times) > 2


@pytest.mark.parametrize("ic", [0.3, 0.5, 3.0])
def test_the_rate_of_qif_is_what_the_formula_says(ic):
    times = simulate("QIF", {"ic": ic}, [], 900.0)
    np.testing.assert_allclose(1 / np.diff(times), literature.qif_rate(ic), rtol=1e-11)
    assert len(times) > 2


def test_lif_and_qif_are_silent_below_their_rheobase():
    assert literature.lif_rate(1.0) == 0 == len(simulate("LIF", {"ic": 1.0}, [], 400.0))
    assert literature.qif_rate(0.25) == 0 == len(simulate("QIF", {"ic": 0.25}, [], 400.0))


def steady(voltage):
    rates = MODELS["HodgkinHuxley"].rates(voltage)
    return np.array([voltage, *(opening / (opening + closing) for opening, closing in rates), 0.0, 1.0])


@pytest.mark.parametrize("point", hh.HOPF_POINTS)
def test_hodgkin_and_huxleys_equilibrium_oscillates_without_decay_at_the_hopf_points(point):
    neuron, rest = MODELS["HodgkinHuxley"](ic=point.current), steady(point.voltage)
    np.testing.assert_allclose(neuron.slope(rest, 0), 0, atol=1e-11)
    steps = np.diag([1e-4, 1e-6, 1e-6, 1e-6, 0, 0])[:4]
    jacobian = [(neuron.slope(rest + e, 0) - neuron.slope(rest - e, 0))[:4] / (2 * e.max()) for e in steps]
    eigenvalues = np.linalg.eigvals(np.array(jacobian).T)
    pair = eigenvalues[np.abs(eigenvalues.imag) > 0.1]
    np.testing.assert_allclose(pair.real, 0, atol=1e-8)
    np.testing.assert_allclose(np.abs(pair.imag), point.frequency, rtol=1e-8)


def test_hodgkin_and_huxley_rest_or_fire_under_the_same_current():
    rest = steady(hh.AT_8["equilibrium"])
    undisturbed = {"ic": 8.0, "y0": rest[:5]}
    assert len(simulate("HodgkinHuxley", undisturbed, [(5.0, 0.05)], 100.0)) == 0
    times = simulate("HodgkinHuxley", {"ic": 8.0}, [], 215.0)
    np.testing.assert_allclose(np.diff(times)[-2:], hh.AT_8["period"], rtol=0, atol=2e-11)
    late = times[9] + np.append(np.linspace(0.2, 0.3, 60), np.linspace(2.6, 3.0, 60))
    voltage = states("HodgkinHuxley", {"ic": 8.0}, [], late, QUICK)[:, 0]
    assert hh.AT_8["lowest"][0] < voltage.min() < hh.AT_8["lowest"][1]
    assert hh.AT_8["highest"][0] < voltage.max() < hh.AT_8["highest"][1]


@pytest.mark.parametrize("times", [[], [5.0], [5.0, 8.0]])
def test_too_few_spikes_have_no_structure_that_goes_on(times):
    for regime in REGIMES.values():
        assert not regime.is_named_so(np.array(times)) or regime.is_named_so is stops and times


def test_hodgkin_and_huxley_fire_again_and_again_only_above_the_fold():
    assert [len(simulate("HodgkinHuxley", {"ic": ic}, [], 60.0, QUICK)) for ic in hh.ONE_SPIKE] == [0, 1]
    assert hh.REPETITIVE[0] < hh.FOLD["current"] < hh.REPETITIVE[1]
    below, above = (simulate("HodgkinHuxley", {}, [], 200.0, QUICK, current=constant(ic)) for ic in hh.REPETITIVE)
    assert below[-1] < 60 and above[-1] > 180
    assert np.diff(above).max() < hh.FOLD["period"] * 1.1


@pytest.mark.parametrize("ic", hh.INTERVALS)
def test_hodgkin_and_huxley_fire_at_the_intervals_given(ic):
    times = simulate("HodgkinHuxley", {"ic": ic}, [], 300.0 if ic < 7 else 150.0, QUICK)
    assert np.diff(times)[-1] == pytest.approx(hh.INTERVALS[ic], abs=2e-6)
    assert hh.INTERVALS[ic] < hh.FOLD["period"]
