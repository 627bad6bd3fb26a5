"""Spikes of neurons that are not reset, or reset to above their threshold. Number 45 of the hostile cases."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from eventsnn import (
    RESULTS,
    AbstractExponentialFlow,
    AtMostOneSpike,
    EvNN,
    FFEvNN,
    HodgkinHuxley,
    NeuronModel,
    Parameter,
    Refractory,
    SimulationError,
    check_neuron_model,
    hyperparameter,
    initial_state,
)

KEY, slow = jax.random.PRNGKey(0), pytest.mark.slow
NONE = jnp.full((1, 1), jnp.inf)


def train(net, x=NONE, neuron=0):
    record = net.record(x)
    times = np.asarray(record.times[0])
    return times[np.isfinite(times) & (np.asarray(record.neurons[0]) == neuron)]


class Sine(NeuronModel):
    """V = sin(2π t / period), whatever arrives; a spike wherever it rises through `thresh`."""

    channels = ("V",)
    period: Parameter = hyperparameter(10.0, positive=True)
    thresh: Parameter = hyperparameter(0.5)
    y0: Parameter = initial_state(0.0)

    def dynamics(self, t, y, args):
        rate = 2 * jnp.pi / self.period.value
        return (rate * jnp.cos(rate * t) + 0 * y[:, 0])[:, None]

    def spike_condition(self, t, y, args):
        return y[:, 0] - self.thresh.value

    def input_spikes(self, y, weights):
        return y + weights[:, None]


class SineWithReset(Sine):
    """The same, with a reset that is written down."""

    def reset_spiked(self, y, spiked):
        return y


class Counting(Sine):
    """The same, with a reset that leaves the potential alone."""

    channels = ("V", "count")

    def dynamics(self, t, y, args):
        return jnp.concatenate([super().dynamics(t, y[:, :1], args), 0 * y[:, 1:]], axis=1)

    def input_spikes(self, y, weights):
        return y.at[:, 0].add(weights)

    def reset_spiked(self, y, spiked):
        return y.at[:, 1].add(jnp.where(spiked, 1, 0).astype(y.dtype))


def passages(thresh, t_end, period=10.0):
    """When sin(2π t / period) rises through `thresh`."""
    first = period * np.arcsin(thresh) / (2 * np.pi)
    times = first + period * np.arange(-1, t_end / period + 1)
    return times[(times >= 0) & (times <= t_end)]


@pytest.mark.parametrize("thresh", [0.5, 0.0, -0.95, 0.999])
@pytest.mark.parametrize("model", [Sine, pytest.param(SineWithReset, marks=slow), pytest.param(Counting, marks=slow)])
def test_45_a_neuron_that_is_not_reset_spikes_once_at_each_upward_passage(model, thresh):
    # At -0.95 it is below threshold for a tenth of the time, and starts above. At 0.999 it is above for a seventieth.
    keywords = {"dtype": jnp.float64, "rtol": 1e-10, "thresh": thresh, "y0": 0.0 if thresh else -1e-3}
    times = train(FFEvNN([2], 1, model, 99.0, KEY, init_weights=0.0, **keywords))
    expected = passages(thresh if thresh else 1e-3, 99.0)
    expected = np.concatenate([[0.0] * (thresh < 0), expected])
    np.testing.assert_allclose(times, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("thresh", [0.5, -0.5])
@pytest.mark.parametrize("kind", ["layer", pytest.param("clock", marks=slow), pytest.param("windows", marks=slow)])
def test_45_whatever_the_step(kind, thresh):
    # From a hundredth of the period to a quarter of it. The solver is as wrong as it may be; the number is right.
    for step in 0.1, 0.7, 1.3, 2.5:
        keywords = {"solver_stepsize": step, "stepsize_controller": diffrax.ConstantStepSize(), "thresh": thresh}
        keywords |= {"dtype": jnp.float64, "init_weights": 0.0, "y0": 0.01}
        if kind == "layer":
            net = FFEvNN([1], 1, Sine, 99.0, KEY, **keywords)
        else:
            net = EvNN(Sine, 1, 1, 99.0, KEY, init_delays=1.0, windows=kind == "windows", **keywords)
        expected = passages(thresh - 0.01, 99.0)
        assert len(train(net)) == len(expected) + (thresh < 0), step


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_45_a_burst_of_inputs_during_an_action_potential_is_no_spike(dtype):
    # It rises through 0.5 at 0.83 ms and falls through it at 4.17 ms. The inputs between keep it above, those at 2.5 ms
    # cancel, and that at 7.5 ms lifts it from -0.8 over its threshold.
    x = jnp.asarray([[1.0, 1.5, 2.0, 2.5, 7.5], [2.5, jnp.inf, jnp.inf, jnp.inf, jnp.inf]], dtype)
    weights = np.array([[0.05], [-0.05]])
    net = FFEvNN([1], 2, Sine, 8.0, KEY, init_weights=weights, dtype=dtype, rtol=1e-6)
    np.testing.assert_allclose(train(net, x), [10 * np.arcsin(0.5) / (2 * np.pi)], rtol=1e-5)
    weights = np.array([[1.6], [-4.8 - 1.6]])
    # Four of 1.6 lift it to 7, one of -6.4 takes that back, and one of 1.6 makes -1 + 1.6 at 7.5 ms.
    net = FFEvNN([1], 2, Sine, 8.0, KEY, init_weights=weights, dtype=dtype, rtol=1e-6)
    np.testing.assert_allclose(train(net, x), [10 * np.arcsin(0.5) / (2 * np.pi), 7.5], rtol=1e-5)


def test_45_an_input_that_takes_the_potential_below_makes_the_next_passage_a_spike():
    # Lowered by 1 at 2 ms, lifted by 1 at 3 ms.
    x = jnp.array([[2.0], [3.0]])
    net = FFEvNN([1], 2, Sine, 8.0, KEY, init_weights=np.array([[-1.0], [1.0]]), dtype=jnp.float64, rtol=1e-9)
    np.testing.assert_allclose(train(net, x), [10 * np.arcsin(0.5) / (2 * np.pi), 3.0], rtol=1e-8)


class FitzHughNagumo(NeuronModel):
    channels = ("V", "W", "I")
    thresh: Parameter = hyperparameter(0.5)
    tau: Parameter = hyperparameter(12.5, positive=True)
    tsyn: Parameter = hyperparameter(5.0, positive=True)
    drive: Parameter = hyperparameter(0.5)
    y0: Parameter = initial_state((-1.2, -0.6, 0.0))

    def dynamics(self, t, y, args):
        v, w, i = y[:, 0], y[:, 1], y[:, 2]
        dv = v - v**3 / 3 - w + self.drive.value + i
        return jnp.stack([dv, (v + 0.7 - 0.8 * w) / self.tau.value, -i / self.tsyn.value], axis=1)

    def spike_condition(self, t, y, args):
        return y[:, 0] - self.thresh.value

    def input_spikes(self, y, weights):
        return y.at[:, 2].add(weights)


def scipy_passages(drive, arrivals, t_end, thresh=0.5):
    """Upward passages of FitzHugh and Nagumo's neuron, by SciPy alone."""

    def slope(t, y):
        v, w, i = y
        return [v - v**3 / 3 - w + drive + i, (v + 0.7 - 0.8 * w) / 12.5, -i / 5]

    def rises(t, y):
        return y[0] - thresh

    rises.direction = 1
    y, t, found = [-1.2, -0.6, 0.0], 0.0, []
    for stop, weight in [*sorted(arrivals), (t_end, 0.0)]:
        part = solve_ivp(slope, (t, stop), y, "DOP853", rtol=1e-12, atol=1e-12, events=rises, max_step=0.5)
        found += part.t_events[0].tolist()
        y, t = [*part.y[:2, -1], part.y[2, -1] + weight], stop
    return np.array(found)


def test_45_fitzhugh_and_nagumo_spike_as_scipy_says_without_a_channel_of_the_users_own():
    arrivals = [(20.0, 0.4), (33.0, -0.6), (60.0, 0.5), (61.0, 0.5), (61.5, 0.3)]
    weights = np.array([[w] for _, w in arrivals])
    x = jnp.array([[t] for t, _ in arrivals])
    net = FFEvNN([1], 5, FitzHughNagumo, 200.0, KEY, init_weights=weights, dtype=jnp.float64, rtol=1e-10)
    expected = scipy_passages(0.5, arrivals, 200.0)
    assert len(expected) >= 5
    np.testing.assert_allclose(train(net, x), expected, rtol=0, atol=1e-6)


@slow
def test_45_gradients_through_the_spikes_of_a_neuron_that_is_not_reset():
    def third(drive):
        net = FFEvNN(
            [1], 1, FitzHughNagumo, 150.0, KEY, init_weights=0.0, dtype=jnp.float64, rtol=1e-11, solver=diffrax.Dopri8()
        )
        net = eqx.tree_at(lambda net: net.neurons[0].drive, net, Parameter(drive, trainable=True))
        return net.spikes_until_t(NONE, 150.0, 5)[0, 2]

    drive, step = jnp.asarray(0.6), 1e-4
    difference = (third(drive + step) - third(drive - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(third)(drive), difference, rtol=1e-6)


@pytest.mark.parametrize("windows", [True, False])
@slow
def test_45_a_recurrent_network_of_neurons_that_are_not_reset(windows):
    # A neuron that listens to another one, which has the drive of the test above.
    weights = np.array([[0.0, 0.4], [0.0, 0.0], [0.0, 0.0]])
    keywords = {"init_weights": weights, "wmask": weights != 0, "init_delays": 1.5, "drive": np.array([0.5, 0.2])}
    net = EvNN(FitzHughNagumo, 2, 1, 200.0, KEY, windows=windows, dtype=jnp.float64, rtol=1e-10, **keywords)
    first = scipy_passages(0.5, [], 200.0)
    np.testing.assert_allclose(train(net), first, rtol=0, atol=1e-6)
    second = scipy_passages(0.2, [(t + 1.5, 0.4) for t in first if t < 198.5], 200.0)
    assert len(second) >= 4
    np.testing.assert_allclose(train(net, neuron=1), second, rtol=0, atol=1e-6)


def test_45_a_neuron_that_is_not_reset_hears_its_own_spike_at_once_and_does_not_spike_again():
    net = EvNN(Sine, 1, 1, 25.0, KEY, init_weights=np.array([[0.2], [0.0]]), dtype=jnp.float64, rtol=1e-9)
    first = 10 * np.arcsin(0.5) / (2 * np.pi)
    # Each spike adds 0.2 to the potential.
    expected = [first, *(10 * k + 10 * np.arcsin(0.5 - 0.2 * k) / (2 * np.pi) for k in (1, 2))]
    np.testing.assert_allclose(train(net), expected, rtol=0, atol=1e-7)


def test_45_refractoriness_shorter_than_an_action_potential_is_no_second_spike():
    # Above threshold for 3.3 ms.
    for tref in 1.0, 4.0:
        net = FFEvNN(
            [1], 1, Refractory(Sine, hold=()), 49.0, KEY, init_weights=0.0, tref=tref, dtype=jnp.float64, rtol=1e-9
        )
        np.testing.assert_allclose(train(net), passages(0.5, 49.0), rtol=0, atol=1e-6)


@slow
def test_45_refractoriness_longer_than_a_period_leaves_passages_out():
    net = FFEvNN(
        [1], 1, Refractory(Sine, hold=()), 49.0, KEY, init_weights=0.0, tref=12.0, dtype=jnp.float64, rtol=1e-9
    )
    # At 0.83 ms. Free at 12.83 ms, above threshold; at 20.83 ms, free at 32.83 ms; at 40.83 ms.
    np.testing.assert_allclose(train(net), passages(0.5, 49.0)[::2], rtol=0, atol=1e-6)


def test_45_a_neuron_that_is_not_reset_may_spike_once_only():
    net = FFEvNN([1], 1, AtMostOneSpike(Sine), 49.0, KEY, init_weights=0.0, dtype=jnp.float64, rtol=1e-9)
    np.testing.assert_allclose(train(net), passages(0.5, 49.0)[:1], rtol=0, atol=1e-7)


@slow
def test_45_hodgkin_and_huxley_need_no_channel_to_remember_that_they_have_spiked():
    assert HodgkinHuxley.channels == ("V", "m", "h", "n", "I")
    check_neuron_model(HodgkinHuxley(2))
    check_neuron_model(FitzHughNagumo(2))


class ResonateAndFire(NeuronModel):
    """Izhikevich 2001: z' = (b + i w) z, a spike where Im z reaches 1, after which z is i."""

    channels = ("x", "y")
    damping: Parameter = hyperparameter(-0.1)
    frequency: Parameter = hyperparameter(0.5)
    y0: Parameter = initial_state((0.0, 0.0))

    def dynamics(self, t, y, args):
        b, w = self.damping.value, self.frequency.value
        return jnp.stack([b * y[:, 0] - w * y[:, 1], w * y[:, 0] + b * y[:, 1]], axis=1)

    def spike_condition(self, t, y, args):
        return y[:, 1] - 1

    def input_spikes(self, y, weights):
        return y.at[:, 0].add(weights)

    def reset_spiked(self, y, spiked):
        return jnp.where(spiked[:, None], jnp.array([0.0, 1.0], y.dtype), y)


def resonate(arrivals, t_end, b=-0.1, w=0.5):
    """Spikes from a grid of a millionth of the run and bisection, with NumPy alone."""
    z, t, found = 0j, 0.0, []
    for stop, weight in [*arrivals, (t_end, 0.0)]:
        while True:
            s = np.linspace(0, stop - t, 1_000_001)
            height = (z * np.exp((b + 1j * w) * s)).imag - 1
            rises = np.flatnonzero((height[:-1] < 0) & (height[1:] >= 0))
            if not len(rises):
                z, t = z * np.exp((b + 1j * w) * (stop - t)) + weight, stop
                break
            low, high = s[rises[0]], s[rises[0] + 1]
            for _ in range(60):
                middle = 0.5 * (low + high)
                below = (z * np.exp((b + 1j * w) * middle)).imag < 1
                low, high = (middle, high) if below else (low, middle)
            t, z = t + high, 1j
            found.append(t)
    return np.array(found)


@pytest.mark.parametrize("kind", ["layer", pytest.param("clock", marks=slow), pytest.param("windows", marks=slow)])
def test_45_resonate_and_fire_comes_from_below_again_after_its_reset(kind):
    arrivals = [(1.0, 2.5), (11.0, 2.2), (22.0, 1.2), (34.0, 3.0)]
    x = jnp.array([[t for t, _ in arrivals[k : k + 1]] for k in range(4)])
    weights = np.array([[w] for _, w in arrivals])
    keywords = {"dtype": jnp.float64, "rtol": 1e-10}
    if kind == "layer":
        net = FFEvNN([1], 4, ResonateAndFire, 60.0, KEY, init_weights=weights, **keywords)
    else:
        weights, delays = np.concatenate([[[0.0]], weights]), np.array([[1.0], *[[0.0]] * 4])
        keywords |= {"init_weights": weights, "init_delays": delays, "windows": kind == "windows"}
        net = EvNN(ResonateAndFire, 1, 4, 60.0, KEY, **keywords)
    expected = resonate(arrivals, 60.0)
    assert len(expected) >= 3
    np.testing.assert_allclose(train(net, x), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["layer", pytest.param("clock", marks=slow), pytest.param("windows", marks=slow)])
def test_45_a_reset_to_above_a_threshold_from_which_the_condition_rises_is_an_error(kind):
    class Rising(ResonateAndFire):
        def reset_spiked(self, y, spiked):
            return jnp.where(spiked[:, None], jnp.array([2.0, 1.5], y.dtype), y)

    keywords = {"init_weights": 3.0, "throw": False}
    if kind == "layer":
        net = FFEvNN([1], 1, Rising, 20.0, KEY, **keywords)
    else:
        net = EvNN(Rising, 1, 1, 20.0, KEY, init_delays=1.0, windows=kind == "windows", **keywords)
    x = jnp.array([[1.0]], jnp.float32)
    assert net.record(x).result == RESULTS.reset_above_threshold
    with pytest.raises(
        SimulationError, match=r"neuron 0, t = [12]\.\d* ms: still at or above threshold after its reset"
    ):
        (FFEvNN([1], 1, Rising, 20.0, KEY, init_weights=3.0) if kind == "layer" else _raising(net)).record(x)


def _raising(net):
    return EvNN(type(net.neurons), 1, 1, 20.0, KEY, init_delays=1.0, windows=net.windows, init_weights=3.0)


class Falling(AbstractExponentialFlow):
    """V' = (c - V) / τ in closed form."""

    rate: jax.Array
    level: jax.Array

    def after(self, y, dt):
        return self.level[:, None] + (y - self.level[:, None]) * jnp.exp(-self.rate * dt)[:, None]

    def velocity(self, y):
        return self.rate[:, None] * (self.level[:, None] - y)

    def height(self, y):
        return y[:, 0] - 1

    def rates(self):
        return (self.rate,)


class ResetHigh(NeuronModel):
    """A leaky neuron that is reset to 3, from where it falls to its threshold of 1 and below."""

    channels = ("V",)
    tmem: Parameter = hyperparameter(10.0, positive=True)
    level: Parameter = hyperparameter(0.0)
    y0: Parameter = initial_state(0.0)

    def dynamics(self, t, y, args):
        return ((self.level.value - y[:, 0]) / self.tmem.value)[:, None]

    def spike_condition(self, t, y, args):
        return y[:, 0] - 1

    def input_spikes(self, y, weights):
        return y + weights[:, None]

    def reset_spiked(self, y, spiked):
        return jnp.where(spiked, 3, y[:, 0])[:, None]

    def closed_form(self):
        n = self.y0.value.shape[0]
        return Falling(jnp.broadcast_to(1 / self.tmem.value, (n,)), jnp.broadcast_to(self.level.value, (n,)))


@pytest.mark.parametrize("engine", ["auto", "numerical"])
@pytest.mark.parametrize("recurrent", [False, pytest.param(True, marks=slow)])
def test_45_a_reset_high_above_threshold_is_followed_down_in_closed_form_too(recurrent, engine):
    # Lifted at 1 ms to 2 and reset to 3. The input at 8 ms finds it above its threshold.
    x = jnp.array([[1.0, 8.0, 20.0]])
    keywords = {"dtype": jnp.float64, "engine": engine, "rtol": 1e-8}
    if recurrent:
        net = EvNN(ResetHigh, 1, 1, 60.0, KEY, init_weights=np.array([[0.0], [2.0]]), **keywords)
    else:
        net = FFEvNN([1], 1, ResetHigh, 60.0, KEY, init_weights=2.0, **keywords)
    v = (3 * np.exp(-0.7) + 2) * np.exp(-1.2)
    # Still above at 20 ms: no spike there either.
    assert v > 1
    np.testing.assert_allclose(train(net, x), [1.0], rtol=1e-12)
    later = x.at[0, 2].set(40.0)
    np.testing.assert_allclose(train(net, later), [1.0, 40.0], rtol=1e-12)
