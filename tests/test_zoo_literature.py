"""The package's neurons against numbers written down from NEST, and against what the literature says they do."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import literature
import literature_hodgkin_huxley as hodgkin_huxley
import numpy as np
import pytest
from firing_patterns import bursts

import eventsnn
from eventsnn import (
    LIF,
    QIF,
    AdEx,
    FFEvNN,
    HodgkinHuxley,
    Izhikevich,
    Refractory,
    StepCurrent,
    WithBiasCurrent,
    izhikevich_regime,
)

KEY = jax.random.PRNGKey(0)
NEST = json.loads(Path(__file__).with_name("data").joinpath("nest_neurons.json").read_text())["cases"]
slow = pytest.mark.slow


def run(model, size, t_end, max_spikes, inputs=None, **options):
    """The spike trains of neurons that do not meet; the inputs have a channel for each arrival."""
    times = np.full((0, 1), np.inf) if inputs is None else inputs
    given = {"dtype": jnp.float64, "rtol": 1e-9, "max_steps": 40000, "max_event_steps": size * max_spikes} | options
    net = FFEvNN([size], len(times), model, t_end, KEY, **given)
    trains = net.spikes_until_t(jnp.asarray(times), t_end, max_spikes=max_spikes)
    return [np.asarray(train[jnp.isfinite(train)]) for train in trains]


GROUPS = sorted({(case["model"], case["tref"] > 0) for case in NEST})
QUICK = ("LIF", True)


@pytest.mark.slow
@pytest.mark.parametrize("group", [group if group == QUICK else pytest.param(group, marks=slow) for group in GROUPS])
def test_spikes_are_where_nest_has_them(group):
    # All cases of a group at once, a neuron for each, which hears only its own arrivals.
    cases = [case for case in NEST if (case["model"], case["tref"] > 0) == group]
    arrivals = [(*arrival, neuron) for neuron, case in enumerate(cases) for arrival in case["arrivals"]]
    inputs, weights = (
        np.array([[time] for time, _, _ in arrivals]).reshape(-1, 1),
        np.zeros((len(arrivals), len(cases))),
    )
    for channel, (_, weight, neuron) in enumerate(arrivals):
        weights[channel, neuron] = weight
    names = {"ic": "init_bias"}
    numbers = {
        names.get(name, name): np.array([case["parameters"][name] for case in cases]) for name in cases[0]["parameters"]
    }
    model = getattr(eventsnn, cases[0]["model"])
    if group[1]:
        model = Refractory(model, hold=() if cases[0]["model"] == "MAT" else None)
        numbers["tref"] = np.array([case["tref"] for case in cases])
    t_end = max(case["t_end"] for case in cases)
    trains = run(model, len(cases), t_end, 64, inputs, init_weights=weights, **numbers)
    for case, train in zip(cases, trains, strict=True):
        found = train[train <= case["t_end"]]
        assert len(found) == len(case["times"]) > 1
        np.testing.assert_allclose(found, case["times"], rtol=0, atol=case["accuracy"] + 1e-6)


def of_regimes(model, regimes, max_spikes):
    """All regimes at once, a neuron for each."""
    amplitude, start, stop = np.array([regime.stimulus for regime in regimes]).T
    numbers = {name: np.array([regime.parameters[name] for regime in regimes]) for name in regimes[0].parameters}
    y0 = np.array([regime.start for regime in regimes])
    t_end = max(regime.t_end for regime in regimes)
    current = StepCurrent(amplitude, start=start, stop=stop)
    trains = run(WithBiasCurrent(model), len(regimes), t_end, max_spikes, y0=y0, current=current, **numbers)
    return {regime.name: (regime, train[train <= regime.t_end]) for regime, train in zip(regimes, trains, strict=True)}


@pytest.fixture(scope="module")
def patterns():
    # As published, spikes of Naud's neurons are cut at 0 mV.
    return of_regimes(Izhikevich, literature.IZHIKEVICH_2003, 128) | of_regimes(AdEx, literature.NAUD_2008, 128)


@slow
@pytest.mark.parametrize("name", [regime.name for regime in literature.IZHIKEVICH_2003 + literature.NAUD_2008])
def test_a_regime_fires_as_it_is_named(name, patterns):
    regime, train = patterns[name]
    assert regime.is_named_so(train)
    assert regime.count in (None, len(train))
    assert regime.bursts in (None, bursts(train))
    np.testing.assert_allclose(train[0], regime.first, rtol=0, atol=5e-6)
    np.testing.assert_allclose(np.diff(train)[:3], regime.intervals, rtol=0, atol=5e-6)


def test_izhikevichs_regimes_are_known_by_name():
    for regime in literature.IZHIKEVICH_2003:
        published = izhikevich_regime(regime.name.split(",")[0])
        assert published == {name: regime.parameters[name] for name in "abcd"}
    assert izhikevich_regime("resonator") == {name: literature.RESONATOR[1][name] for name in "abcd"}
    with pytest.raises(ValueError, match="name is 'bursting', expected one of 'regular spiking', "):
        izhikevich_regime("bursting")


@pytest.mark.slow
def test_lif_and_qif_fire_at_their_analytic_rates():
    bias = np.array([0.9, 1.01, 1.5, 4.0])
    for model, rate in ((LIF, literature.lif_rate), (QIF, literature.qif_rate)):
        for train, ic in zip(run(model, 4, 400.0, 96, init_bias=bias), bias, strict=True):
            expected = rate(ic)
            assert (len(train) > 1) == (expected > 0)
            if expected:
                np.testing.assert_allclose(1 / np.diff(train), expected, rtol=1e-8)


@slow
def test_hodgkin_and_huxleys_neuron_begins_to_fire_where_it_should():
    # From rest it fires once at all, and again and again, from between two currents each; the period at 8 is proven.
    one, repetitive = hodgkin_huxley.ONE_SPIKE, hodgkin_huxley.REPETITIVE
    currents = np.array([*one, *repetitive, 8.0, *hodgkin_huxley.INTERVALS])
    trains = run(HodgkinHuxley, len(currents), 400.0, 64, init_bias=currents)
    counts = [len(train) for train in trains]
    assert counts[:2] == [0, 1] and 1 <= counts[2] < 10 and counts[3] > 18
    assert np.diff(trains[4])[-1] == pytest.approx(hodgkin_huxley.AT_8["period"], abs=1e-6)
    intervals = [np.diff(train)[-1] for train in trains[5:]]
    np.testing.assert_allclose(intervals, list(hodgkin_huxley.INTERVALS.values()), rtol=0, atol=2e-6)
