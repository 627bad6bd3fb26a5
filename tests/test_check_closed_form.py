"""`check_neuron_model` on models whose closed form is another neuron than their methods."""

import jax.numpy as jnp
import numpy as np
import pytest
from test_check_neuron_model import only_problem

from eventsnn import (
    ALIF,
    IF,
    LIF,
    MAT,
    AlphaLIF,
    AtMostOneSpike,
    DeltaLIF,
    DualExpLIF,
    LeakyIntegrator,
    LinearFlow,
    Mixed,
    Refractory,
    StepCurrent,
    WithBiasCurrent,
    check_neuron_model,
)
from eventsnn.flows import AbstractFlow


def slow(model):
    return pytest.param(model, marks=pytest.mark.slow)


# In single precision those that spike are looked at with the rest of the zoo.
@pytest.mark.parametrize("model", [ALIF, *(slow(model) for model in (IF, DeltaLIF, LeakyIntegrator, MAT, DualExpLIF))])
def test_the_closed_forms_of_the_library_pass(model):
    check_neuron_model(model(3, dtype=jnp.float64))


@pytest.mark.slow
@pytest.mark.parametrize("make", [Refractory(LIF), AtMostOneSpike(AlphaLIF), Mixed((LIF, 2), (ALIF, 1))])
def test_the_closed_forms_of_wrappers_pass(make):
    check_neuron_model(make(3))


def test_the_closed_form_of_a_neuron_with_a_step_current_passes():
    check_neuron_model(WithBiasCurrent(LIF)(3, current=StepCurrent(2.0, start=5.0, stop=20.0)))


@pytest.mark.slow
def test_columns_that_neurons_of_a_mixture_do_not_have_are_left_at_0():
    check_neuron_model(Refractory(Mixed((LIF, 2), (ALIF, 2)))(4))


class Changed(LIF):
    """What its methods say is right; its closed form has other numbers."""

    def changed(self):
        return {}

    def closed_form(self):
        flow = LIF.closed_form(self)
        numbers = {name: getattr(flow, name) for name in ("leak", "drive", "thresh", "vreset", "coupling", "decay")}
        return LinearFlow(**(numbers | self.changed()))


class WrongLeak(Changed):
    def changed(self):
        return {"leak": 1.01 / self.tmem.value}


class ForgottenDrive(Changed):
    def changed(self):
        return {"drive": jnp.zeros_like(self.ic)}


class WrongDecay(Changed):
    def changed(self):
        return {"decay": 1.01 / self.tsyn.value}


@pytest.mark.parametrize(("model", "channel"), [(WrongLeak, "V"), (ForgottenDrive, "V"), (WrongDecay, "I")])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_state_that_goes_elsewhere_is_told_with_its_channel(model, channel, dtype):
    problem = only_problem(model(3, dtype=dtype))
    assert problem.startswith(f"closed_form: after takes {channel} from the state [")
    assert "where dynamics leads to: compare its numbers" in problem
    assert "with a bias current of" in problem or model is not ForgottenDrive


class WrongThreshold(Changed):
    def changed(self):
        return {"thresh": 1.01 * self.thresh.value}


def test_another_threshold_is_told():
    assert "closed_form: at V = thresh = 1.01 of the LinearFlow spike_condition is 0.01" in only_problem(
        WrongThreshold(3)
    )


class WrongReset(Changed):
    def changed(self):
        return {"vreset": self.vreset.value - 0.1}


class ResetCurrent(LIF):
    def reset_spiked(self, y, spiked):
        return jnp.where(spiked[:, None], 0, y)

    def closed_form(self):
        return LIF.closed_form(self)


@pytest.mark.parametrize("model", [WrongReset, ResetCurrent])
def test_another_reset_is_told(model):
    problem = only_problem(model(3))
    assert problem.startswith("closed_form: reset_spiked takes [") and "a LinearFlow sets V to vreset" in problem


class SoftReset(DeltaLIF):
    """Agrees at the threshold, but not above, to where a spike can lift it."""

    def reset_spiked(self, y, spiked):
        return y - jnp.where(spiked, self.thresh.value - self.vreset.value, 0)[:, None]

    def closed_form(self):
        return DeltaLIF.closed_form(self)


def test_a_reset_that_differs_only_above_the_threshold_is_told():
    assert "closed_form: reset_spiked takes [" in only_problem(SoftReset(3))


class SoftResetAtThreshold(LIF):
    def reset_spiked(self, y, spiked):
        return y.at[:, 0].add(jnp.where(spiked, self.vreset.value - self.thresh.value, 0))

    def closed_form(self):
        return LIF.closed_form(self)


def test_a_reset_that_differs_only_where_no_spike_is_passes():
    check_neuron_model(SoftResetAtThreshold(3))


class ScaledJump(LIF):
    def input_spikes(self, y, weights):
        return y.at[:, 1].add(2 * weights)

    def closed_form(self):
        return LIF.closed_form(self)


class JumpOfPotential(LIF):
    def input_spikes(self, y, weights):
        return y.at[:, 0].add(weights)

    def closed_form(self):
        return LIF.closed_form(self)


@pytest.mark.parametrize("model", [ScaledJump, JumpOfPotential])
def test_another_jump_is_told(model):
    problem = only_problem(model(3))
    assert problem.startswith("closed_form: input_spikes takes [") and "adds the weight to I" in problem


class NeverInClosedForm(Changed):
    def changed(self):
        return {"thresh": None}


def test_a_closed_form_without_the_threshold_that_the_model_has_is_told():
    problem = only_problem(NeverInClosedForm(3))
    assert "closed_form: first_crossing gives inf" in problem and "since spike_condition is" in problem


class OnlyLifted(DeltaLIF):
    """Without a bias current it is above its threshold only where a spike lifts it there."""

    def with_current(self, current):
        raise TypeError("there is no bias current")

    def closed_form(self):
        flow = DeltaLIF.closed_form(self)
        return LinearFlow(flow.leak, flow.drive, None, flow.vreset)


def test_a_closed_form_without_a_threshold_that_is_reached_by_jumps_alone_is_told():
    assert "closed_form: first_crossing gives inf" in only_problem(OnlyLifted(3))


class Delegating(AbstractFlow):
    flow: AbstractFlow
    shift: jnp.ndarray

    def after(self, y, dt):
        return self.flow.after(y, dt)

    def first_crossing(self, y, dt, resolution):
        return self.flow.first_crossing(y, dt, resolution)


class NeverMay(Delegating):
    def may_cross(self, y, y_end, dt):
        return jnp.zeros(dt.shape, bool)


class EndOnly(Delegating):
    """Overlooks maxima between start and end."""

    def first_crossing(self, y, dt, resolution):
        found = self.flow.first_crossing(y, dt, resolution)
        return jnp.where(self.flow.height(self.flow.after(y, dt)) >= 0, found, jnp.inf)


class Late(Delegating):
    def first_crossing(self, y, dt, resolution):
        found = self.flow.first_crossing(y, dt, resolution)
        return jnp.where(jnp.isinf(found), jnp.inf, jnp.minimum(1.2 * found, dt))


class Early(Delegating):
    def first_crossing(self, y, dt, resolution):
        return 0.9 * self.flow.first_crossing(y, dt, resolution)


class Beyond(Delegating):
    """Finds what comes behind `dt`, too."""

    def first_crossing(self, y, dt, resolution):
        return self.flow.first_crossing(y, 100 * dt, resolution)


class Flat(Delegating):
    def after(self, y, dt):
        return self.flow.after(y, dt)[:, 0]


class Ints(Delegating):
    def may_cross(self, y, y_end, dt):
        return jnp.ones(dt.shape, dt.dtype)


class Moved(Delegating):
    """Not where it starts after no time."""

    def after(self, y, dt):
        return self.flow.after(y, dt).at[:, 1].multiply(1.01)


class Branching(Delegating):
    def after(self, y, dt):
        return self.flow.after(y, dt) if dt[0] > 0 else y


def delegated(kind):
    class Model(LIF):
        def closed_form(self):
            return kind(LIF.closed_form(self), self.ic)

    return Model


@pytest.mark.parametrize(
    ("kind", "told", "expected"),
    [
        (NeverMay, "may_cross says no for the state", "yes, since first_crossing gives"),
        (EndOnly, "first_crossing gives inf for the state", "an earlier crossing, since spike_condition is"),
        (Late, "first_crossing gives", "an earlier crossing, since spike_condition is"),
        (Early, "first_crossing gives", "that it is 0"),
        (Beyond, "first_crossing gives", "a time from 0 to dt, or inf"),
        (Flat, "after gives an array of shape (3,)", "an array of shape (3, 2) and dtype float32"),
        (Ints, "may_cross gives an array of shape (3,) and dtype float32", "an array of shape (3,) and dtype bool"),
        (Moved, "after takes I from the state", "where dynamics leads to"),
        (Branching, "TracerBoolConversionError", "an array of shape (3, 2)"),
    ],
)
def test_a_flow_of_ones_own_is_looked_at(kind, told, expected):
    got, _, rest = only_problem(delegated(kind)(3)).partition("; expected ")
    assert got.startswith(f"closed_form: {told}") and expected in rest


def test_a_flow_of_ones_own_that_is_right_passes():
    check_neuron_model(delegated(Delegating)(3))


class Tuple(LIF):
    def closed_form(self):
        return (1.0, 2.0)


class Failing(LIF):
    def closed_form(self):
        return self.flow


@pytest.mark.parametrize(("model", "told"), [(Tuple, "it gives a tuple"), (Failing, "AttributeError")])
def test_a_closed_form_that_is_none_is_told(model, told):
    assert f"closed_form: {told}" in only_problem(model(3))


def test_every_neuron_is_looked_at():
    class LastLeaks(Changed):
        def changed(self):
            return {"leak": np.array([1, 1, 1.1], np.float32) / self.tmem.value}

    assert "closed_form: after takes V" in only_problem(LastLeaks(3))
