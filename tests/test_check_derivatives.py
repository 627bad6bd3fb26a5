"""`check_neuron_model` moves every parameter: what no derivative sees is told, with what to write instead."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_check_neuron_model import only_problem

from eventsnn import (
    LIF,
    AtMostOneSpike,
    FFEvNN,
    FunctionCurrent,
    Mixed,
    NeuronModel,
    Parameter,
    RampCurrent,
    Refractory,
    SineCurrent,
    StepCurrent,
    WithBiasCurrent,
    check_neuron_model,
    hyperparameter,
    initial_state,
)

every_precision = pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.slow)])


class Driven(NeuronModel):
    """V' = 1 / tmem from the start."""

    channels = ("V",)
    tmem: Parameter = hyperparameter(1.0, "time from 0 to 1 in ms", positive=True)
    ton: Parameter = hyperparameter(5.0, "when the drive is switched on in ms")
    y0: Parameter = initial_state(0.0)

    def drive(self, t, y):
        return jnp.ones_like(y[:, 0])

    def dynamics(self, t, y, args):
        return (self.drive(t, y) / self.tmem.value)[:, None]

    def spike_condition(self, t, y, args):
        return y[:, 0] - 1

    def input_spikes(self, y, weights):
        return y + weights[:, None]

    def reset_spiked(self, y, spiked):
        return jnp.where(spiked[:, None], 0.0, y)


class Switched(Driven):
    def drive(self, t, y):
        return jnp.where(t < self.ton.value, 0.0, 1.0)


class Stopping(Driven):
    """The same with the cure."""

    channels = ("V", "on")

    def dynamics(self, t, y, args):
        return jnp.stack([y[:, 1] / self.tmem.value, 0 * y[:, 1]], axis=1)

    def input_spikes(self, y, weights):
        return y.at[:, 0].add(weights)

    def reset_spiked(self, y, spiked):
        return y.at[:, 0].set(jnp.where(spiked, 0.0, y[:, 0]))

    def breakpoints(self):
        return self.ton.value[..., None]

    def pass_breakpoint(self, y):
        return y.at[:, 1].add(1)


@pytest.mark.parametrize("ton", [0.0, 0.3, 5.0, np.array([3.0, 40.0, 1000.0])])
@every_precision
def test_a_switching_time_that_no_derivative_sees_is_told_with_breakpoints(ton, dtype):
    got, _, rest = only_problem(Switched(3, ton=ton, dtype=dtype)).partition("; expected ")
    assert got.startswith("dynamics: it jumps at a time that moves with ton, near t = ")
    assert got.endswith("no derivative with respect to ton sees that")
    assert "let breakpoints() give that time and pass_breakpoint count it in a channel" in rest


def by_ton(model):
    """The derivative of the one spike, at ton + 1, by the time of the switch."""
    net = FFEvNN([1], 1, model, 6.5, jax.random.PRNGKey(0), dtype=jnp.float64, init_weights=0.1, trainable="ton")
    time, slope = eqx.filter_value_and_grad(lambda net: net.ttfs(jnp.full((1, 1), jnp.inf))[0])(net)
    np.testing.assert_allclose(time, 6.0, rtol=1e-6)
    return float(slope.neurons[0].ton.value)


def test_with_breakpoints_the_time_of_a_switch_has_its_gradient():
    check_neuron_model(Stopping(3))
    assert by_ton(Stopping) == pytest.approx(1.0, rel=1e-9)


@pytest.mark.slow
def test_without_breakpoints_it_has_none():
    assert by_ton(Switched) == 0.0


class SwitchedThreshold(Driven):
    def spike_condition(self, t, y, args):
        return y[:, 0] - jnp.where(t < 2 * self.ton.value, 1.0, 2.0)


def test_a_threshold_that_is_switched_is_told():
    got = only_problem(SwitchedThreshold(3))
    assert got.startswith("spike_condition: it jumps at a time that moves with ton") and "breakpoints()" in got


class SwitchedByState(Driven):
    def drive(self, t, y):
        return jnp.where(y[:, 0] < self.ton.value / 10, 0.5, 1.0)


@every_precision
def test_a_state_at_which_dynamics_jump_is_told_with_an_event(dtype):
    got = only_problem(SwitchedByState(3, dtype=dtype))
    assert got.startswith("dynamics: it jumps at a state that moves with ton, near [0.")
    assert "let spike_condition reach 0 there" in got and "breakpoints" not in got


class Stopped(Driven):
    def drive(self, t, y):
        return jnp.broadcast_to(jax.lax.stop_gradient(self.ton.value), y.shape[:1])


class StoppedReset(Driven):
    def reset_spiked(self, y, spiked):
        return jnp.where(spiked[:, None], -jax.lax.stop_gradient(self.ton.value)[:, None], y)


class StoppedBreakpoint(Stopping):
    def breakpoints(self):
        return jax.lax.stop_gradient(self.ton.value)[..., None]


@pytest.mark.parametrize(
    ("model", "method", "difference"),
    [(Stopped, "dynamics", "1"), (StoppedReset, "reset_spiked", "-1"), (StoppedBreakpoint, "breakpoints", "1")],
)
@every_precision
def test_a_derivative_that_is_not_what_a_difference_gives_is_told(model, method, difference, dtype):
    problem = only_problem(model(3, dtype=dtype))
    assert problem.startswith(
        f"{method}: its derivative with respect to ton is 0 where a difference gives {difference};"
    )


class Steep(Driven):
    """Within 3 µs, but not at once."""

    def drive(self, t, y):
        return jax.nn.sigmoid((t - self.ton.value) / 0.003) + 0 * y[:, 0]


class Bent(Driven):
    """A kink, but no jump, in the state and in time."""

    def drive(self, t, y):
        return 1 + jnp.maximum(y[:, 0] - self.ton.value / 10, 0) + jnp.where(t > self.ton.value, t - self.ton.value, 0)


class BentAtStart(Driven):
    """A kink where every neuron starts."""

    def drive(self, t, y):
        return 1 + jnp.where(y[:, 0] > self.y0.value[:, 0], y[:, 0] - self.y0.value[:, 0], 0)


class FixedSwitch(Driven):
    """It jumps at a time that no parameter moves, so that there is nothing to differentiate."""

    def drive(self, t, y):
        return jnp.where(t < 5.0, 0.0, 1.0) + 0 * y[:, 0]


@pytest.mark.parametrize("model", [Steep, Bent, BentAtStart, FixedSwitch])
@every_precision
def test_what_has_a_derivative_passes(model, dtype):
    check_neuron_model(model(3, dtype=dtype))


STEP = StepCurrent(2.0, start=5.0, stop=20.0, trainable=("amplitude", "start", "stop"))
RAMP = RampCurrent(0.0, 2.0, start=5.0, stop=20.0)


@pytest.mark.parametrize(
    ("model", "current"),
    [
        (Mixed((LIF, 1), (LIF, 2, {"tmem": 5.0})), None),
        (AtMostOneSpike(Refractory(LIF)), None),
        (WithBiasCurrent(LIF), STEP),
        (WithBiasCurrent(Mixed((LIF, 1), (LIF, 2))), RAMP),
        (WithBiasCurrent(LIF), SineCurrent(2.0, frequency=50.0, trainable="frequency") + StepCurrent(1.0, start=3.0)),
        (WithBiasCurrent(LIF), FunctionCurrent(lambda t: jnp.where(t < 5, 0, 2 * t), breakpoints=(5.0,))),
    ],
    ids=["mixed", "wrapped", "step", "ramp", "sine", "function"],
)
@pytest.mark.slow
def test_wrappers_and_currents_pass(model, current):
    check_neuron_model(model(3, **({} if current is None else {"current": current})))
