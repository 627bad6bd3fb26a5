"""Crossings that a simulator misses, doubles, or puts at the wrong time. Numbered as in the list of hostile cases."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import EIF, SIZES, Leaky, assert_times, every_combination, every_dtype, inputs, layer, spikes, trains
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm

from eventsnn import LIF, QIF, FFEvNN

# What the tolerances of `models.TOLERANCE` are good for, relative to the time.
ACCURACY = {jnp.float32: 2e-5, jnp.float64: 1e-8}


def halved(weight, theta, tmem, x_of):
    """For tsyn = tmem/2 and one arrival: V = w (x - x²) with x = exp(-s/tmem), so x solves x² - x + theta/w = 0."""
    return -tmem * np.log(x_of(weight, theta))


def earlier_root(weight, theta=1.0):
    return (1 + np.sqrt(1 - 4 * theta / weight)) / 2


# 1. V' = (2θ - V)/τ from 0: V = 2θ (1 - exp(-t/τ)) is θ at τ ln 2, and again after every reset.


@every_combination
def test_01_constant_drive_of_twice_the_threshold_spikes_every_tau_ln_2(dtype, way):
    tmem = [10.0, 20.0, 13.0, 30.0]
    net = layer(LIF, dtype, SIZES[way], init_bias=2.6, thresh=1.3, tmem=tmem)
    expected = [[k * tau * np.log(2) for k in range(1, 10) if k * tau * np.log(2) < 64.0] for tau in tmem]
    assert_times(spikes(net, inputs([], dtype), way, 16), trains(expected, SIZES[way], 16), rtol=ACCURACY[dtype])


@pytest.mark.parametrize(
    "dtype, log_step",
    [
        (jnp.float32, 0),
        (jnp.float64, 0),
        pytest.param(jnp.float32, -5, marks=pytest.mark.slow),
        pytest.param(jnp.float64, -5, marks=pytest.mark.slow),
        pytest.param(jnp.float32, -10, marks=pytest.mark.slow),
        pytest.param(jnp.float64, -10, marks=pytest.mark.slow),
    ],
)
def test_01_the_same_spikes_whatever_the_constant_step(dtype, log_step):
    # Tsit5 of order 5 with h = 1 and τ = 15: (h/τ)⁶ is about 1e-7 for each of 10 steps, less for shorter steps.
    controller = diffrax.ConstantStepSize()
    net = layer(LIF, dtype, 3, init_bias=1.4, thresh=0.7, tmem=15.0, stepsize_controller=controller, end=40.0,
                solver_stepsize=2.0**log_step)  # fmt: skip
    expected = [[15 * np.log(2) * k for k in (1, 2, 3)]]
    steps = 40 / 2.0**log_step
    rounding = jnp.finfo(dtype).eps * np.sqrt(steps)
    assert_times(spikes(net, inputs([], dtype), "eager"), trains(expected, 3), rtol=1e-7 * 2.0**log_step + 8 * rounding)


# 2. A peak between the ends of a step, or between two inputs.


@every_combination
def test_02_a_peak_between_excitation_and_inhibition_is_a_spike(dtype, way):
    # tsyn = tmem/2: the crossing of `halved`, and inhibition of three times the weight right behind it.
    tmem, weight = 2.0, np.array([4.1, 4.5, 6.0, 3.9])
    reached = halved(weight[:3], 1.0, tmem, earlier_root)
    cut = 20.0 + 1.05 * reached.max()
    net = layer(LIF, dtype, SIZES[way], tsyn=1.0, tmem=tmem, weights=[weight, -3 * weight])
    got = spikes(net, inputs([[20.0], [cut]], dtype), way)
    # The last neuron peaks at w/4 < 1: no spike.
    expected = [[20 + time] for time in reached] + [[]]
    assert_times(got, trains(expected, SIZES[way]), rtol=ACCURACY[dtype])


@pytest.mark.parametrize("step, weight", [(2.0, [4.8, 4.06, 3.9]), (1.0, [4.1, 4.01, 3.99])])
@every_dtype
def test_02_a_peak_narrower_than_a_constant_step_is_a_spike(dtype, step, weight):
    # tmem = 4, tsyn = 2, V = w (x - x²): above 1 for 4 ln(x1/x2), which is 0.98 ms of the step of 2 ms for w = 4.06,
    # and 0.40 ms of the step of 1 ms for w = 4.01. The peak at 4 ln 2 = 2.77 ms lies inside of the second, third step.
    net = layer(LIF, dtype, 3, tsyn=2.0, tmem=4.0, weights=[weight], solver_stepsize=step, end=20.0,
                stepsize_controller=diffrax.ConstantStepSize())  # fmt: skip
    got = spikes(net, inputs([[8.3]], dtype), "eager")
    exact = 8.3 + halved(np.array(weight[:2]), 1.0, 4.0, earlier_root)
    # One step of a method of order 5 errs by about w (h/tsyn)⁶/6!, and V' = w (2x² - x)/4 turns that into time.
    x = earlier_root(np.array(weight[:2]))
    error = 3 * 4 * (step / 2) ** 6 / 720 / (4 * (2 * x**2 - x) / 4)
    assert_times(got, trains([[time] for time in exact] + [[]], 3), rtol=0.0, atol=float(error.max()))


@pytest.mark.parametrize("engine, within", [("auto", 1e-10), ("numerical", 1e-7)])
def test_02_the_lossless_triple_of_nest(engine, within):
    # NEST's test of lossless spike detection: C 250 pF, τm 100 ms, τs 1 ms, θ 21 mV, an input of w pA when
    # V = 21 - 0.001 exp(-0.02). In our units the input has the size w τm/C. Times from NEST, which
    # are 0.6e-6 later than the closed form below.
    weight = np.array([55.0, 70.0, 90.0]) * 100 / 250
    start = 21 - 0.001 * np.exp(-0.02)
    numbers = {"thresh": 21.0, "tmem": 100.0, "tsyn": 1.0, "y0": (start, 0.0), "engine": engine}
    net = layer(LIF, jnp.float64, 3, weights=[weight], end=8.0, **numbers)
    first = spikes(net, inputs([[0.0]], jnp.float64), "eager")[:, 0]
    assert first[0] == np.inf
    np.testing.assert_allclose(first[1:], [0.014416, 0.006587], atol=1e-6)

    kappa = 1 / (1 - 100)

    def v(s, w):
        return kappa * w * np.exp(-s) + (start - kappa * w) * np.exp(-s / 100)

    exact = [brentq(lambda s, w=w: v(s, w) - 21, 0, 0.03, xtol=1e-15) for w in weight[1:]]
    np.testing.assert_allclose(first[1:], exact, rtol=0, atol=within)


# 3. tsyn = tmem/2: the peak is w/4, tmem ln 2 after the input.


@every_combination
def test_03_a_graze_just_below_threshold_is_no_spike_and_just_above_is_one(dtype, way):
    # 1e-6 of the threshold is 8 units in the last place of float32: less than the error of any solver. There 1e-4.
    off = {jnp.float32: 1e-4, jnp.float64: 1e-6}[dtype]
    weight = 4 * np.array([1 - off, 1 + off])
    net = layer(LIF, dtype, SIZES[way], tsyn=8.0, tmem=16.0, weights=[weight])
    got = spikes(net, inputs([[5.0]], dtype), way)
    exact = 5 + halved(weight[1], 1.0, 16.0, earlier_root)
    # V' at the crossing is (w/tmem) sqrt(off)/2 or so: an error of V counts 1/V' times.
    slope = 4 / 16 * np.sqrt(off) / 2
    atol = {jnp.float32: 4e-6, jnp.float64: 1e-9}[dtype] / slope
    assert_times(got, trains([[], [exact]], SIZES[way]), rtol=0.0, atol=atol)


@every_combination
def test_03_a_peak_at_threshold_gives_no_spike_or_one_at_the_peak(dtype, way):
    net = layer(LIF, dtype, SIZES[way], tsyn=8.0, tmem=16.0, weights=4.0)
    got = spikes(net, inputs([[5.0], [], []], dtype), way)
    first, rest = got[:, 0], got[:, 1:]
    assert np.all(rest == np.inf)
    # sqrt(error of V) in time: the parabola at the top has the curvature w/(2 tmem²).
    near = np.sqrt({jnp.float32: 4e-6, jnp.float64: 1e-9}[dtype] * 2 * 16**2 / 2)
    assert np.all((first == np.inf) | (np.abs(first - 5 - 16 * np.log(2)) < near))


@every_combination
def test_04_a_start_above_threshold_is_one_spike_at_once(dtype, way):
    # Leak towards 0 takes V from 1.5 through 1; but the start is the spike, and from the reset V only decays.
    net = layer(Leaky, dtype, SIZES[way], y0=[1.5, 1.0, 0.99], leak=0.2, vreset=[0.0, 0.5, 0.0])
    got = spikes(net, inputs([], dtype), way)
    np.testing.assert_array_equal(got, trains([[0.0], [0.0], []], SIZES[way]))


# 5. V' = 2⁻⁴ reaches 1 at 16, 32, 48 and 64, the end; every number is a binary fraction.


@every_combination
def test_05_a_crossing_exactly_at_the_end_and_at_an_input_counts_once(dtype, way):
    # V of a solver is 1 at 16 to rounding, which decides whether the spike or the input at 16 comes first:
    # 1/4 more is lost in the reset or brings the next spike to 28; 1/2 less delays the spike to 24 or the next to 40.
    net = layer(Leaky, dtype, SIZES[way], drive=1 / 16, weights=[[0.0, 0.25, -0.5]])
    got = spikes(net, inputs([[16.0]], dtype), way)
    possible = [
        ([16.0, 32.0, 48.0, 64.0], [16.0, 32.0, 48.0, 64.0]),
        ([16.0, 32.0, 48.0, 64.0], [16.0, 28.0, 44.0, 60.0]),
        ([24.0, 40.0, 56.0], [16.0, 40.0, 56.0]),
    ]
    for neuron in range(SIZES[way]):
        found = got[neuron][np.isfinite(got[neuron])]
        rtol = 8 * float(jnp.finfo(dtype).eps)
        assert any(len(found) == len(train) and np.allclose(found, train, rtol, 0) for train in possible[neuron % 3])


@every_dtype
def test_05_a_crossing_exactly_at_the_end_of_a_constant_step_counts_once(dtype):
    controller = diffrax.ConstantStepSize()
    net = layer(Leaky, dtype, 4, drive=[1 / 16, 1 / 8, 1 / 32, 3 / 32], stepsize_controller=controller,
                solver_stepsize=1.0)  # fmt: skip
    expected = [[k / rate for k in range(1, 9) if k / rate <= 64] for rate in (1 / 16, 1 / 8, 1 / 32, 3 / 32)]
    got = spikes(net, inputs([], dtype), "eager")
    # One step per ms rounds V by half an ulp at most, which is eps/(2 rate) of the time; and the step itself by a few.
    assert_times(got, trains(expected, 4), rtol=(16 + 8) * float(jnp.finfo(dtype).eps))


@every_dtype
def test_05_a_query_exactly_at_a_crossing_sees_the_state_just_before_or_after_one_reset(dtype):
    net = layer(Leaky, dtype, 3, drive=[1 / 16, 1 / 8, 1 / 32], vreset=-0.25)
    times = jnp.asarray([15.0, 16.0, 17.0, 32.0, 33.0], dtype)
    got = np.array(net.state_at_t(inputs([], dtype), times)[..., 0])
    # V = V0 + rate t. Rate 1/16: 1 at 16, the next at 36. Rate 1/8: 1 at 8, 18, 28. Rate 1/32: 1 at 32.
    expected = np.array([
        [15 / 16, -0.25, -0.25 + 1 / 16, 0.75, 0.75 + 1 / 16],
        [0.625, 0.75, 0.875, 0.25, 0.375],
        [15 / 32, 0.5, 17 / 32, -0.25, -0.25 + 1 / 32],
    ])  # fmt: skip
    # To rounding the crossing is at 16 and 32, so that V may still be 1 there.
    atol = 64 * float(jnp.finfo(dtype).eps)
    for neuron, query in ((0, 1), (2, 3)):
        if abs(got[neuron, query] - 1) < atol:
            got[neuron, query] = -0.25
    np.testing.assert_allclose(got, expected, atol=atol)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("step", [None, 8.0])
@every_dtype
def test_06_the_earlier_of_two_crossings_in_one_step_comes_first(dtype, reverse, step):
    # V = rate t: 20.5 and 21 lie within one step of 8 ms, and after the reset 41 and 42 do.
    at = [21.0, 20.5][:: -1 if reverse else 1]
    constant = {} if step is None else {"stepsize_controller": diffrax.ConstantStepSize(), "solver_stepsize": step}
    net = layer(Leaky, dtype, 2, drive=1 / np.array(at), end=50.0, **constant)
    record = net.record(inputs([], dtype))
    first = int(np.argmin(at))
    np.testing.assert_array_equal(record.neurons[0][:4], [first, 1 - first] * 2)
    np.testing.assert_allclose(record.times[0][:4], [20.5, 21.0, 41.0, 42.0], rtol=16 * float(jnp.finfo(dtype).eps))
    assert np.all(np.asarray(record.times[0][4:]) == np.inf)


# 7. One input w at 3 ms.


@every_combination
def test_07_any_ratio_of_the_time_constants_gives_the_closed_form(dtype, way):
    # tsyn = tmem = 7: V = w u exp(-u), u = s/7. Off by 1e-10, that changes by 1e-10.
    equal = 7 * brentq(lambda u: 4 * u * np.exp(-u) - 1, 0, 1, xtol=1e-15)
    # tsyn = 2 tmem: with x = exp(-s/tsyn), V = 2 w (x - x²).
    slow = -14 * np.log(earlier_root(8.0))  # 2 w = 8
    net = layer(LIF, dtype, SIZES[way], tsyn=[7.0, 7.0 * (1 + 1e-10), 14.0], tmem=7.0, weights=[[4.0, 4.0, 4.0]])
    got = spikes(net, inputs([[3.0]], dtype), way)
    # The current that is left after the first spike goes on: later spikes are not this test's business.
    expected = trains([[3 + equal], [3 + equal], [3 + slow]], SIZES[way])[:, 0]
    np.testing.assert_allclose(got[:, 0], expected, rtol=ACCURACY[dtype])


@every_dtype
def test_07_a_synapse_a_thousand_times_faster_than_the_membrane_gives_the_closed_form(dtype):
    # V = w κ (exp(-s/tsyn) - exp(-s/tmem)), κ = 1/(1 - 1000): by SciPy's root search.
    exact = brentq(lambda s: 2000 / 999 * (np.exp(-s / 7) - np.exp(-s / 0.007)) - 1, 0, 0.03, xtol=1e-16)
    net = layer(LIF, dtype, 3, tsyn=0.007, tmem=7.0, weights=[[2000.0, 990.0]], end=6.0)
    got = spikes(net, inputs([[3.0]], dtype), "eager")
    # 990 peaks below 990/999 of the threshold.
    assert got[1, 0] == np.inf
    np.testing.assert_allclose(got[[0, 2], 0], 3 + exact, rtol=ACCURACY[dtype])


@every_dtype
def test_07_an_input_after_a_very_long_silence_acts_as_any_other(dtype):
    # An input at 2 and one at 1e5, when nothing is left of the first: tsyn = tmem/2 as in `halved`. An explicit solver
    # takes a step for every few tsyn of a decay, however small the state: more than the default number.
    weight = np.array([5.0, 4.2, 3.9])
    net = layer(LIF, dtype, 3, tsyn=8.0, tmem=16.0, weights=[weight], end=1.01e5, max_steps=20_000)
    got = spikes(net, inputs([[2.0, 1e5]], dtype), "eager")
    after = halved(weight[:2], 1.0, 16.0, earlier_root)
    assert_times(got[:, :1], trains([[2.0 + s] for s in after] + [[]], 3, 1), rtol=ACCURACY[dtype])
    ulp = 1e5 * float(jnp.finfo(dtype).eps)
    assert_times(got[:, 1:], trains([[1e5 + s] for s in after] + [[]], 3, 7), rtol=0.0, atol=max(2 * ulp, 1e-6))


# 8. A field that is flat for long.


@every_combination
def test_08_a_fast_synapse_after_a_flat_stretch_is_not_stepped_over(dtype, way):
    # V' = 0 for 50 ms, then an input whose effect is over within 1 ms: V = w (x - x²), tmem = 0.4, tsyn = 0.2.
    weight = np.array([4.4, 5.0, 3.9])
    net = layer(LIF, dtype, SIZES[way], tsyn=0.2, tmem=0.4, weights=[weight])
    got = spikes(net, inputs([[50.0]], dtype), way)
    exact = [[50 + halved(w, 1.0, 0.4, earlier_root)] for w in weight[:2]] + [[]]
    assert_times(got, trains(exact, SIZES[way]), rtol=ACCURACY[dtype])


@every_dtype
def test_08_a_bump_in_time_is_not_stepped_over_with_dtmax_below_its_width(dtype):
    # V is the integral of a narrow bump of area a at 41.3: a Φ(z), which is 1 at z = Φ⁻¹(1/a). No solver can see from
    # afar what the dynamics will do at some later time; dtmax is how a user says how narrow the features are.
    area, width = np.array([1.5, 4.0, 0.99]), 0.5
    tolerance = {jnp.float32: 1e-6, jnp.float64: 1e-9}[dtype]
    controller = diffrax.PIDController(rtol=tolerance, atol=tolerance, dtmax=width)
    net = layer(Leaky, dtype, 3, area=area, centre=41.3, width=width, vreset=-8.0, stepsize_controller=controller)
    got = spikes(net, inputs([], dtype), "eager")
    exact = [[41.3 + width * norm.ppf(1 / a)] for a in area[:2]] + [[]]
    assert_times(got, trains(exact, 3), rtol=ACCURACY[dtype])


# 9. Blow-up: the time is an integral over V.


@pytest.mark.parametrize(
    "tolerance, within", [(1e-4, 1e-2), (1e-7, 1e-5), pytest.param(1e-10, 1e-8, marks=pytest.mark.slow)]
)
def test_09_the_spike_time_of_an_eif_converges_with_the_tolerance(tolerance, within):
    # t = ∫₀^peak tmem dV/(ic - V + exp(V - vt)): by SciPy's quadrature.
    ic = np.array([0.8, 1.5, 3.0])
    exact = [quad(lambda v, i=i: 10 / (i - v + np.exp(v - 1)), 0, 20, epsabs=1e-13, limit=200)[0] for i in ic]
    net = FFEvNN([3], 1, EIF, 60.0, jax.random.PRNGKey(0), dtype=jnp.float64, rtol=tolerance, atol=tolerance, ic=ic,
                 init_weights=0.0)  # fmt: skip
    np.testing.assert_allclose(net.ttfs(jnp.zeros((1, 0))), exact, atol=within)


@every_dtype
@pytest.mark.parametrize("way", ["eager", pytest.param("vmap", marks=pytest.mark.slow)])
def test_09_qif_blows_up_at_the_closed_form_times(dtype, way):
    # τ V' = V² - V + ic = (V - ½)² + ω², ω² = ic - ¼: from V = 0 to ∞ in τ/ω (π/2 + atan(1/(2ω))), from -∞ in τπ/ω.
    ic = np.array([0.5, 1.0, 4.0, 0.2])
    omega = np.sqrt(ic[:3] - 0.25)
    first, period = 6 / omega * (np.pi / 2 + np.arctan(0.5 / omega)), 6 * np.pi / omega
    expected = [[f + k * p for k in range(10) if f + k * p < 64] for f, p in zip(first, period, strict=True)] + [[]]
    net = layer(QIF, dtype, SIZES[way], tmem=6.0, init_bias=ic)
    assert_times(spikes(net, inputs([], dtype), way), trains(expected, SIZES[way]), rtol=ACCURACY[dtype])
