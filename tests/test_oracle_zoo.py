"""The oracle of the zoo against what is known without it: closed forms, quadrature, NEST, another integrator."""

import json
import math
from pathlib import Path

import numpy as np
import oracle
import pytest
from oracle_zoo import MODELS, Accuracy, constant, ramp, simulate, sine, states, step
from scipy.integrate import Radau, quad
from scipy.linalg import expm

NEST = json.loads(Path(__file__).with_name("data").joinpath("nest_neurons.json").read_text())["cases"]

# For every model that spikes: parameters, arrivals and duration with which it does so a few times.
DRIVEN = {
    "IF": ({"ic": 0.5}, [(3.0, 0.7), (11.0, 2.0)], 60.0),
    "LIF": ({"ic": 0.9}, [(3.0, 0.7), (11.0, 2.0), (30.0, -1.0), (41.0, 3.0)], 60.0),
    "DeltaLIF": ({"ic": 1.2}, [(3.0, 0.7), (11.0, 0.2)], 60.0),
    "AlphaLIF": ({"ic": 0.9}, [(3.0, 0.7), (11.0, 2.0), (30.0, -1.0)], 60.0),
    "DualExpLIF": ({"ic": 0.9}, [(3.0, 0.7), (11.0, 2.0), (30.0, -1.0), (40.0, 4.0)], 60.0),
    "ConductanceLIF": ({"ic": 5.0}, [(3.0, 0.7), (11.0, 2.0), (20.0, -1.0), (25.0, 1.0)], 60.0),
    "ExpLIF": ({"I_e": 9.0}, [(3.0, 10.0), (11.0, 20.0), (20.0, -10.0), (30.0, 60.0)], 60.0),
    "QIF": ({"ic": 1.5}, [(3.0, 3.0), (11.0, 2.0), (40.0, -0.5)], 120.0),
    "EIF": ({"ic": 8.0}, [(3.0, 10.0), (11.0, -20.0), (30.0, 30.0)], 60.0),
    "AdEx": ({"ic": 800.0}, [(3.0, 300.0), (30.0, -500.0), (50.0, 900.0)], 100.0),
    "Izhikevich": ({"ic": 8.0}, [(3.0, 10.0), (30.0, -5.0), (40.0, 20.0)], 70.0),
    "ALIF": ({"ic": 1.5}, [(3.0, 3.0), (20.0, -1.0), (30.0, 6.0)], 60.0),
    "MAT": ({"ic": 20.0}, [(3.0, 30.0), (20.0, -10.0), (30.0, 60.0)], 60.0),
    "TwoCompartment": ({"ic": 1.5}, [(3.0, 3.0), (10.0, -1.0), (15.0, 5.0)], 60.0),
    "HodgkinHuxley": ({"ic": 5.0}, [(3.0, 10.0), (20.0, 15.0)], 30.0),
    "EGRU": ({"bias_z": 1.0}, [(3.0, (1.0, 0.5, 2.0)), (10.0, (-1.0, 0.3, 3.0))], 60.0),
}


def driven(name, **options):
    parameters, arrivals, t_end = DRIVEN[name]
    return simulate(name, parameters, arrivals, t_end, **options)


def test_every_model_that_can_spike_is_driven():
    assert set(DRIVEN) == set(MODELS) - {"LeakyIntegrator"}
    assert min((len(driven(name)), name) for name in DRIVEN) >= (2, "")


def test_the_leaky_integrator_never_spikes_however_high_it_goes():
    assert len(simulate("LeakyIntegrator", {"ic": 100.0}, [(1.0, 50.0)], 30.0)) == 0
    assert states("LeakyIntegrator", {"ic": 100.0}, [], [20.0])[0, 0] == pytest.approx(100 * (1 - math.exp(-1)))


@pytest.mark.parametrize("name", DRIVEN)
def test_a_tighter_tolerance_changes_nothing_but_the_last_digits(name):
    loose, tight = driven(name, accuracy=Accuracy(1e-10, 1e-11)), driven(name)
    np.testing.assert_allclose(loose, tight, rtol=0, atol=1e-7)
    tighter = driven(name, accuracy=Accuracy(3e-14, 3e-15))
    np.testing.assert_allclose(tighter, tight, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", DRIVEN)
def test_an_implicit_integrator_gives_the_same_spikes(name):
    other = driven(name, accuracy=Accuracy(1e-7, 1e-9, Radau))
    np.testing.assert_allclose(other, driven(name), rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    "case", NEST, ids=lambda case: f"{case['nest_model']}-{case['tref']:g}-{len(case['arrivals'])}"
)
def test_spikes_are_where_nest_has_them(case):
    ours = simulate(case["model"], case["parameters"], case["arrivals"], case["t_end"], tref=case["tref"])
    assert len(ours) == len(case["times"]) > 1
    late = np.array(case["times"]) - ours
    # What is on NEST's grid is reported at the end of a step, so never early; Euler's method errs either way.
    earliest = 1e-9 if case["nest_model"] in ("aeif_psc_exp", "iaf_cond_exp", "mat2_psc_exp") else case["accuracy"]
    assert -earliest <= late.min() and late.max() <= case["accuracy"]


@pytest.mark.parametrize("kind", ["LIF", "QIF"])
def test_random_arrivals_agree_with_the_oracle_that_is_exact_between_arrivals(kind):
    rng = np.random.default_rng(1)
    times, weights = np.sort(rng.uniform(0, 100, 40)), rng.normal(1.5, 3.0, 40)
    parameters = {"tmem": 10.0, "tsyn": 3.0, "ic": 0.4}
    exact = parameters | ({"thresh": 1.0, "vreset": -0.2} if kind == "LIF" else {})
    ours = simulate(kind, exact, list(zip(times, weights, strict=True)), 120.0)
    one = {name: np.array([value]) for name, value in exact.items()} | {"y0": np.array([[0.5 * (kind == "QIF"), 0.0]])}
    layer = oracle.simulate(kind, times, np.arange(40), weights[:, None], one, 120.0)
    assert len(ours) > 3
    np.testing.assert_allclose(ours, layer.times(0), rtol=0, atol=1e-10)


def test_lif_under_constant_current_fires_at_its_analytic_rate():
    interval = 20 * math.log((1.5 + 0.2) / (1.5 - 1))
    first = 20 * math.log(1.5 / (1.5 - 1))
    times = simulate("LIF", {"ic": 1.5, "vreset": -0.2}, [], 200.0)
    np.testing.assert_allclose(times, first + interval * np.arange(len(times)), rtol=0, atol=1e-11)
    assert len(times) == 1 + int((200 - first) / interval)


def test_qif_under_constant_current_has_the_period_of_a_full_turn():
    # tmem dV/dt = (V - 1/2)^2 + s^2 with s^2 = ic - 1/4: atan((V - 1/2)/s) grows by s/tmem.
    s = math.sqrt(0.7 - 0.25)
    first = 20 / s * (math.pi / 2 + math.atan(0.5 / s))
    times = simulate("QIF", {"ic": 0.7}, [], 500.0)
    np.testing.assert_allclose(times, first + 20 * math.pi / s * np.arange(len(times)), rtol=0, atol=1e-11)
    assert len(times) == 5


def test_eif_and_adex_without_adaptation_take_the_time_that_quadrature_finds():
    def pace(v):
        return 10 / (-(v + 65) + 3.48 * math.exp((v + 59.9) / 3.48) + 12)

    # From -30 mV on, the exponential rules and the quadrature is done piece by piece.
    places = [-68, -60, -55, -50, -40, -30, -20, -10, 0]
    interval = sum(quad(pace, a, b, epsabs=1e-13, epsrel=1e-13)[0] for a, b in zip(places, places[1:], strict=False))
    np.testing.assert_allclose(np.diff(simulate("EIF", {"ic": 12.0}, [], 100.0)), interval, rtol=0, atol=1e-10)
    same = {"capacitance": 300.0, "gleak": 30.0, "vrest": -65.0, "vt": -59.9, "delta_t": 3.48, "vreset": -68.0}
    times = simulate("AdEx", same | {"a": 0.0, "b": 0.0, "ic": 360.0}, [], 100.0)
    np.testing.assert_allclose(np.diff(times), interval, rtol=0, atol=1e-10)


def test_izhikevich_with_a_constant_recovery_follows_the_closed_form_of_a_quadratic():
    # 0.04 V^2 + 5 V + q = 0.04 ((V + 62.5)^2 + s^2), where q = 140 + 13 + 20 is free of U since d = a = 0.
    s = math.sqrt((140 + 13 + 20) / 0.04 - 62.5**2)
    interval = (math.atan((30 + 62.5) / s) - math.atan((-70 + 62.5) / s)) / (0.04 * s)
    times = simulate("Izhikevich", {"a": 0.0, "d": 0.0, "c": -70.0, "ic": 20.0}, [], 30.0)
    np.testing.assert_allclose(np.diff(times), interval, rtol=0, atol=1e-11)


def test_mat_and_alif_spike_where_the_sum_of_their_thresholds_is_reached():
    def gap(t, ic, tmem, start, jumps, spikes, height):
        voltage = ic * (1 - math.exp(-(t - start) / tmem))
        return voltage - height - sum(a * math.exp(-(t - k) / tau) for k in spikes for a, tau in jumps)

    mat = simulate("MAT", {"ic": 30.0}, [], 120.0)
    gaps = [gap(t, 30, 5, 0, [(37, 10), (2, 200)], mat[:n], 19) for n, t in enumerate(mat)]
    alif = simulate("ALIF", {"ic": 3.0}, [], 120.0)
    gaps += [gap(t, 3, 20, alif[n - 1] if n else 0, [(0.5, 100)], alif[:n], 1) for n, t in enumerate(alif)]
    assert len(mat) > 4 and len(alif) > 4
    np.testing.assert_allclose(gaps, 0, atol=1e-11)


def test_two_compartments_follow_the_exponential_of_their_matrix():
    matrix = np.array([[-2 / 10, 1 / 10, 0], [0.2 / 20, -1.2 / 20, 1 / 20], [0, 0, -1 / 5]])
    expected = expm(7 * matrix) @ [0, 0, 3.0]
    np.testing.assert_allclose(states("TwoCompartment", {}, [(2.0, 3.0)], [9.0])[0], expected, rtol=1e-11)


def test_egru_under_constant_gates_fires_at_its_analytic_rate():
    u, z = 1 / (1 + math.exp(-0.3)), math.tanh(1.0)
    times = simulate("EGRU", {"bias_u": 0.3, "bias_z": 1.0}, [], 100.0)
    np.testing.assert_allclose(np.diff(times), 10 / u * math.log(z / (z - 0.5)), rtol=0, atol=1e-11)
    # Gates that hardly decay: a closed reset gate lets nothing of a_z through.
    arrivals = [(0.0, (0.2, 1.5, 0.7)), (0.0, (0.1, -0.5, 0.2))]
    after = states("EGRU", {"thresh": 9.0, "tsyn": 1e12}, arrivals, [4.0])[0]
    u, z = 1 / (1 + math.exp(-0.3)), math.tanh(0.9 / (1 + math.exp(-1.0)))
    np.testing.assert_allclose(after, [z * (1 - math.exp(-u * 4 / 10)), 0.3, 1.0, 0.9], rtol=1e-10)


def test_a_constant_conductance_speeds_the_membrane_up():
    # Conductances that hardly decay: tmem dV/dt = (1 + g + h) (target - V).
    arrivals, g, h, ic = [(0.0, 0.3), (0.0, -0.4)], 0.3, 0.4, 2.0
    target = (-60 + h * -80 + ic) / (1 + g + h)
    expected = target + (-60 - target) * math.exp(-(1 + g + h) * 10 / 20)
    parameters = {"texc": 1e12, "tinh": 1e12, "ic": ic}
    assert states("ConductanceLIF", parameters, arrivals, [10.0])[0, 0] == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("tmem", [20.0, 5.0 * (1 + 1e-5)])
def test_the_response_of_lif_to_one_spike_is_a_difference_of_exponentials(tmem):
    times = np.linspace(2.0, 60.0, 7)
    s, tsyn = times - 2, 5.0
    expected = 0.8 * tsyn / (tmem - tsyn) * (np.exp(-s / tmem) - np.exp(-s / tsyn))
    atol = 1e-11 if tmem == 20 else 1e-9  # the formula loses digits where the time constants meet
    np.testing.assert_allclose(states("LIF", {"tmem": tmem}, [(2.0, 0.8)], times)[:, 0], expected, rtol=0, atol=atol)


@pytest.mark.parametrize(
    "shape", [{"trise": 1.0, "tdecay": 5.0}, {"trise": 6.0, "tdecay": 2.0}, {"trise": 3.0, "tdecay": 3.0}]
)
def test_the_current_of_one_spike_peaks_at_its_weight_in_two_exponentials(shape):
    times = np.arange(1.0, 7.0, 5e-3)
    current = states("DualExpLIF", shape, [(1.0, 0.6)], times)[:, 1]
    assert current.max() == pytest.approx(0.6, rel=3e-6) and 0 < current.argmax() < len(times) - 1


def test_the_current_of_one_spike_in_alpha_form_peaks_at_its_weight_after_tsyn():
    at, before, after = states("AlphaLIF", {}, [(1.0, 0.6)], [6.0, 5.99, 6.01])[:, 1]
    assert at == pytest.approx(0.6, rel=1e-12) and at > before and at > after


@pytest.mark.parametrize("margin, count", [(1e-9, 1), (-1e-9, 0)])
def test_a_maximum_is_seen_that_touches_the_threshold_between_two_steps(margin, count):
    # The response peaks after log(tmem/tsyn)/(1/tsyn - 1/tmem).
    peak = math.log(4) / (1 / 5 - 1 / 20)
    height = 5 / 15 * (math.exp(-peak / 20) - math.exp(-peak / 5))
    assert len(simulate("LIF", {}, [(2.0, (1 + margin) / height)], 50.0)) == count


def test_all_arrivals_at_an_instant_come_before_the_threshold_is_tested():
    assert len(simulate("DeltaLIF", {}, [(1.0, 1.4), (1.0, -0.6)], 5.0)) == 0
    assert simulate("DeltaLIF", {}, [(1.0, 0.8), (1.0, 0.2)], 5.0).tolist() == [1.0]
    assert states("DeltaLIF", {"vreset": -0.5}, [(1.0, 3.0)], [1.0]).tolist() == [[-0.5]]


def test_a_spike_of_hodgkin_and_huxley_counts_only_after_the_voltage_has_fallen_below_vrearm():
    assert len(simulate("HodgkinHuxley", {"ic": 12.0}, [], 40.0)) == 3
    assert len(simulate("HodgkinHuxley", {"ic": 12.0, "vrearm": -200.0}, [], 40.0)) == 1


def test_a_refractory_membrane_is_held_while_its_current_goes_on():
    times = simulate("LIF", {"ic": 1.5}, [], 100.0, tref=2.0)
    np.testing.assert_allclose(np.diff(times), 2 + 20 * math.log(3), rtol=0, atol=1e-11)
    # A spike by a jump at 1, released at 4, with what is left of the current by then.
    spiked = [(1.0, 2.0)]
    after = states("DeltaLIF", {"ic": 0.5, "vreset": 0.2}, [*spiked, (2.0, 0.3), (4.0, 0.1)], [3.9, 4.0, 6.0], tref=3.0)
    expected = [0.2, 0.3, 0.5 + (0.3 - 0.5) * math.exp(-2 / 20)]
    np.testing.assert_allclose(after[:, 0], expected, rtol=1e-11)
    first = simulate("LIF", {"ic": 1.5}, [(20.0, 1.0)], 22.0)[0]
    v, i = states("LIF", {"ic": 1.5}, [(20.0, 1.0)], [first + 3.0], tref=2.0)[0]
    left = math.exp(-(first + 2 - 20) / 5)
    assert i == pytest.approx(left * math.exp(-1 / 5), rel=1e-10)
    rising = 1.5 * (1 - math.exp(-1 / 20)) + left * 5 / 15 * (math.exp(-1 / 20) - math.exp(-1 / 5))
    assert v == pytest.approx(rising, rel=1e-10)


def test_blocked_arrivals_do_nothing_and_the_membrane_moves_on():
    v, i = states("LIF", {"ic": 1.5}, [(22.5, 7.0)], [23.0], tref=2.0, block=True)[0]
    assert i == 0 and v == pytest.approx(1.5 * (1 - math.exp(-(23 - 20 * math.log(3)) / 20)), rel=1e-10)
    held = states("LIF", {"ic": 1.5}, [(22.5, 7.0)], [23.0], tref=2.0, block=True, held=("V",))[0]
    assert held.tolist() == [0, 0]


def test_at_most_one_spike_is_the_first():
    assert simulate("LIF", {"ic": 1.5}, [], 100.0, once=True).tolist() == [simulate("LIF", {"ic": 1.5}, [], 100.0)[0]]


def test_a_bias_current_in_time_drives_the_membrane_as_its_convolution():
    def convolved(current, t, breakpoints):
        return quad(lambda s: current(s) * math.exp(-(t - s) / 20) / 20, 0, t, points=breakpoints, epsabs=1e-12)[0]

    cases = [
        (constant(0.7), lambda s: 0.7, []),
        (step(0.9, 3.0, 8.0), lambda s: 0.9 * (3 <= s < 8), [3, 8]),
        (ramp(0.2, 1.2, 2.0, 7.0), lambda s: (0.2 + (s - 2) / 5) * (2 <= s < 7), [2, 7]),
        (sine(0.8, 6.0, 0.3, 1.0, 9.0), lambda s: 0.8 * math.sin(math.pi * s / 3 + 0.3) * (1 <= s < 9), [1, 9]),
    ]
    for current, function, breakpoints in cases:
        for t in (5.0, 12.0):
            inside = [b for b in breakpoints if b < t] or None
            v = states("LIF", {}, [], [t], current=current)[0, 0]
            assert v == pytest.approx(convolved(function, t, inside), abs=1e-10)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(TypeError, match="no parameters"):
        simulate("LIF", {"tau": 3.0}, [], 1.0)
    with pytest.raises(ValueError, match="starts at 0"):
        simulate("LIF", {}, [(-1.0, 1.0)], 1.0)
    with pytest.raises(ValueError, match="no bias current"):
        simulate("EGRU", {}, [], 1.0, current=constant(1.0))
    with pytest.raises(RuntimeError, match="above threshold"):
        simulate("LIF", {"vreset": 2.0}, [(0.0, 50.0)], 10.0)
