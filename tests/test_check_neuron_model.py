"""`check_neuron_model`: one deliberately broken model for every part of the contract."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import EIF, Leaky

from eventsnn.neuron_models import LIF, QIF, Parameter, hyperparameter
from eventsnn.neuron_models.check import check_neuron_model


def problems(model, **keywords):
    """The lines of the error, without the first."""
    with pytest.raises(ValueError, match="breaks the contract of a neuron model") as error:
        check_neuron_model(model, **keywords)
    return str(error.value).split("\n- ")[1:]


def only_problem(model, **keywords):
    (problem,) = problems(model, **keywords)
    # What was found; what is expected: what to do.
    got, _, rest = problem.partition("; expected ")
    assert got and ": " in rest
    return problem


@pytest.mark.parametrize("model", [LIF, QIF, Leaky, EIF])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("n_neurons", [1, 4])
def test_a_sound_model_passes(model, dtype, n_neurons):
    assert check_neuron_model(model(n_neurons, dtype=dtype)) is None


@pytest.mark.parametrize("seed", range(2))
def test_a_sound_model_with_a_parameter_per_neuron_passes_at_any_random_state(seed):
    model = LIF(3, thresh=np.array([1.0, 0.5, 3.0]), vreset=np.array([0.0, 0.25, -7.0]), dtype=jnp.float64)
    assert check_neuron_model(model, key=jax.random.PRNGKey(seed)) is None


class Scalar(Leaky):
    """Its parameters are scalars, its state is made from `n_neurons`."""

    def init_state(self, n_neurons):
        return jnp.zeros((n_neurons, 1), self.thresh.value.dtype)


def test_a_model_whose_parameters_are_scalars_is_tried_with_the_given_number_of_neurons():
    assert check_neuron_model(Scalar(5), 5) is None


def test_a_class_is_not_an_instance():
    with pytest.raises(TypeError, match=r"the class LIF, expected an instance: pass LIF\(3\)"):
        check_neuron_model(LIF)


def test_something_else_is_not_a_model():
    with pytest.raises(TypeError, match="expected an instance of a subclass of NeuronModel"):
        check_neuron_model("LIF")


def test_a_given_state_of_wrong_shape_is_an_error():
    with pytest.raises(ValueError, match=r"y has shape \(2,\), expected \(3, 2\)"):
        check_neuron_model(LIF(3), y=jnp.zeros(2))


# Shapes.


class FlatInit(Leaky):
    def init_state(self, n_neurons):
        return self.y0.value


def test_an_initial_state_without_a_channel_axis_is_told():
    assert (
        "init_state: it gives an array of shape (3,) and dtype float32; expected an array of shape (3, channels)"
        in only_problem(FlatInit(3))
    )


class NoneInit(Leaky):
    def init_state(self, n_neurons):
        pass


def test_a_forgotten_return_is_told():
    assert "init_state: it gives None" in only_problem(NoneInit(3))


class FlatDynamics(LIF):
    def dynamics(self, t, y, args):
        return super().dynamics(t, y, args)[:, 0]


def test_dynamics_of_one_channel_of_two_is_told():
    assert (
        "dynamics: it gives an array of shape (3,) and dtype float32; expected an array of shape (3, 2)"
        in only_problem(FlatDynamics(3))
    )


class SquareDynamics(Leaky):
    def dynamics(self, t, y, args):
        return self.drive.value - y


def test_a_broadcast_of_neurons_against_channels_is_told():
    assert (
        "dynamics: it gives an array of shape (3, 3) and dtype float32; expected an array of shape (3, 1)"
        in only_problem(SquareDynamics(3))
    )


class ColumnCondition(Leaky):
    def spike_condition(self, t, y, args):
        return y - self.thresh.value[:, None]


def test_a_condition_with_a_channel_axis_is_told():
    assert (
        "spike_condition: it gives an array of shape (3, 1) and dtype float32; expected an array of shape (3,)"
        in only_problem(ColumnCondition(3))
    )


class RowJump(LIF):
    def input_spikes(self, y, weights):
        return (y[:, 1] + weights)[None]


def test_a_jump_of_wrong_shape_is_told():
    assert (
        "input_spikes: it gives an array of shape (1, 3) and dtype float32; expected an array of shape (3, 2)"
        in only_problem(RowJump(3))
    )


class FlatReset(LIF):
    def reset_spiked(self, y, spiked):
        return jnp.where(spiked, self.vreset.value, y[:, 0])


def test_a_reset_of_wrong_shape_is_told():
    assert (
        "reset_spiked: it gives an array of shape (3,) and dtype float32; expected an array of shape (3, 2)"
        in only_problem(FlatReset(3))
    )


class FlatObserve(LIF):
    def observe(self, y):
        return y[:, 0]


def test_an_observation_without_channels_is_told():
    assert (
        "observe: it gives an array of shape (3,) and dtype float32; expected an array of shape (3, channels)"
        in only_problem(FlatObserve(3))
    )


class Unnamed(Leaky):
    channels = ("V", "I")


def test_channel_names_that_do_not_fit_the_state_are_told():
    assert "channels: it is ('V', 'I'); expected a tuple of 1 different names" in only_problem(Unnamed(3))


class OneTime(Leaky):
    def dynamics(self, t, y, args):
        return super().dynamics(jnp.reshape(t, (-1,))[:1] * jnp.arange(3, dtype=y.dtype) * jnp.ndim(t), y, args)


def test_a_method_that_treats_one_time_per_neuron_differently_is_told():
    model = OneTime(3, area=5.0)
    assert "dynamics: it differs between t = 0.7 and t = 0.7 for each neuron" in only_problem(model)


# Numbers.


class NumpyInit(Leaky):
    def init_state(self, n_neurons):
        return np.zeros((n_neurons, 1))


def test_an_initial_state_of_another_precision_is_told():
    assert "init_state: it gives an array of shape (3, 1) and dtype float64; expected" in only_problem(
        NumpyInit(3, dtype=jnp.float32)
    )


class DoubleJump(Leaky):
    def input_spikes(self, y, weights):
        return y.astype(jnp.float64) + weights.astype(jnp.float64)[:, None]


def test_a_jump_that_changes_the_precision_is_told():
    assert "input_spikes: it gives an array of shape (3, 1) and dtype float64; expected" in only_problem(DoubleJump(3))


class Comparison(Leaky):
    def spike_condition(self, t, y, args):
        return y[:, 0] >= self.thresh.value


def test_a_condition_that_compares_is_told_to_subtract():
    problem = only_problem(Comparison(3))
    assert (
        "spike_condition: it gives an array of shape (3,) and dtype bool; expected" in problem
        and "difference such as V - thresh" in problem
    )


class MixedParameters(Leaky):
    def __init__(self, n_neurons):
        super().__init__(n_neurons, dtype=jnp.float32)
        self.drive = type(self.drive)(jnp.zeros(n_neurons, jnp.float64))


def test_parameters_of_two_precisions_are_told():
    assert any("parameters have dtypes float32 and float64" in problem for problem in problems(MixedParameters(3)))


class NotFinite(Leaky):
    def dynamics(self, t, y, args):
        return jnp.log(y)


def test_dynamics_that_are_not_finite_at_the_initial_state_are_told():
    assert "dynamics: there are NaN or infinite numbers for the state [0.]" in only_problem(NotFinite(3))


# Rows.


class MeanField(Leaky):
    def dynamics(self, t, y, args):
        return super().dynamics(t, y, args) - jnp.mean(y)


def test_dynamics_that_see_the_other_neurons_are_told():
    assert "dynamics: row 1 changes with the state of neuron 0; expected rows that are independent" in only_problem(
        MeanField(3)
    )


class WinnerTakesAll(Leaky):
    def spike_condition(self, t, y, args):
        return y[:, 0] - jnp.maximum(self.thresh.value, jnp.roll(y[:, 0], 1) + 0.5)


def test_a_condition_that_sees_the_other_neurons_is_told():
    # The first neuron stands so high that the second one's threshold moves with it.
    y = jnp.asarray([[3.0], [0.0], [0.0]], jnp.float32)
    assert "spike_condition: row 1 changes with the state of neuron 0" in only_problem(WinnerTakesAll(3), y=y)


class Inhibiting(Leaky):
    def input_spikes(self, y, weights):
        return y[::-1] + weights[:, None]


def test_a_jump_that_mixes_rows_is_told():
    assert "input_spikes: row 2 changes with the state of neuron 0" in only_problem(Inhibiting(3))


class ResetsAll(LIF):
    def reset_spiked(self, y, spiked):
        v = jnp.where(jnp.any(spiked), self.vreset.value, y[:, 0])
        return jnp.stack([v, y[:, 1]], axis=1)


class ResetsRest(LIF):
    def reset_spiked(self, y, spiked):
        v = jnp.where(spiked, self.vreset.value, y[:, 0])
        return jnp.stack([v, jnp.zeros_like(v)], axis=1)


@pytest.mark.parametrize("model", [ResetsAll, ResetsRest])
def test_a_reset_that_touches_neurons_that_did_not_spike_is_told(model):
    problem = only_problem(model(3))
    assert "reset_spiked: a neuron that did not spike goes from" in problem
    assert "expected that it keeps its state: use jnp.where" in problem


# Reset.


class NoReset(Leaky):
    def reset_spiked(self, y, spiked):
        return y


def test_a_neuron_that_is_not_reset_keeps_the_contract():
    check_neuron_model(NoReset(3))


def test_a_reset_to_the_threshold_is_told():
    problem = only_problem(Leaky(3, vreset=1.0))
    assert "reset_spiked: from [1.] at threshold neuron 0 goes on with spike_condition = 0" in problem
    assert "expected a number below 0" in problem


def test_a_reset_above_a_threshold_towards_which_the_neuron_falls_keeps_the_contract():
    check_neuron_model(Leaky(3, vreset=1.5, leak=0.1))


def test_a_reset_above_threshold_is_told_with_the_neuron():
    model = Leaky(3, vreset=np.array([0.0, 0.5, 1.5]))
    assert "at threshold neuron 2 goes on with spike_condition = 0.5" in only_problem(model)


# Differentiable.


class Step(Leaky):
    def spike_condition(self, t, y, args):
        return jnp.where(y[:, 0] >= self.thresh.value, jnp.ones_like(y[:, 0]), -jnp.ones_like(y[:, 0]))


class Rounded(Leaky):
    def spike_condition(self, t, y, args):
        return jnp.round(y[:, 0] - self.thresh.value)


class Stopped(Leaky):
    def spike_condition(self, t, y, args):
        return jax.lax.stop_gradient(y[:, 0]) - self.thresh.value


@pytest.mark.parametrize("model", [Step, Rounded, Stopped])
def test_a_condition_without_a_slope_is_told(model):
    problem = only_problem(model(3))
    assert "spike_condition: its derivative is 0 for neuron 0 at every state that was tried" in problem


class HalfStopped(LIF):
    def spike_condition(self, t, y, args):
        return y[:, 0] + 3 * jax.lax.stop_gradient(y[:, 1]) - self.thresh.value


def test_a_condition_whose_derivative_disagrees_with_differences_is_told():
    problem = only_problem(HalfStopped(3))
    assert "where its derivative says" in problem and "a derivative that agrees with differences" in problem


class Root(Leaky):
    def spike_condition(self, t, y, args):
        return jnp.sqrt(jnp.abs(y[:, 0])) - self.thresh.value


def test_a_condition_with_an_infinite_derivative_is_told():
    assert "spike_condition: its derivative is not finite at [0.]" in only_problem(Root(3))


class SafeDivision(Leaky):
    def dynamics(self, t, y, args):
        # The well-known trap: where() picks the finite value, but the derivative of the other one is NaN.
        return jnp.where(y == 0, 0, jnp.sqrt(jnp.maximum(y, 0)))


def test_dynamics_with_a_derivative_that_is_nan_are_told():
    assert "dynamics: its derivative is not finite at [0.]" in only_problem(SafeDivision(3))


# Methods that cannot be called.


class Raises(Leaky):
    def input_spikes(self, y, weights):
        raise KeyError("synapse")


def test_a_method_that_raises_is_told_and_does_not_raise_through():
    problem = only_problem(Raises(3))
    assert problem.startswith("input_spikes: KeyError: 'synapse'; expected an array of shape (3, 1)")


class RaisesAtOnce(Leaky):
    def init_state(self, n_neurons):
        raise RuntimeError


def test_an_initial_state_that_raises_is_told():
    assert only_problem(RaisesAtOnce(3)).startswith("init_state: RuntimeError: no message")


class Branches(Leaky):
    def dynamics(self, t, y, args):
        if y[0, 0] > 0.5:
            return jnp.zeros_like(y)
        return super().dynamics(t, y, args)


def test_a_python_if_on_the_state_is_told():
    problem = only_problem(Branches(3))
    assert "dynamics: TracerBoolConversionError" in problem and "jnp.where in the place of if" in problem


class UsesNumpy(Leaky):
    def spike_condition(self, t, y, args):
        return jnp.asarray(np.maximum(np.asarray(y)[:, 0], -5)) - self.thresh.value


def test_numpy_in_a_method_is_told():
    problem = only_problem(UsesNumpy(3))
    assert "spike_condition: TracerArrayConversionError" in problem and "use jax.numpy throughout" in problem


class WrongArguments(Leaky):
    def reset_spiked(self, y):
        return y


def test_a_wrong_signature_is_told():
    assert "reset_spiked: TypeError" in only_problem(WrongArguments(3))


class Everything(Leaky):
    channels = ()

    def dynamics(self, t, y, args):
        return y[:, 0]

    def spike_condition(self, t, y, args):
        return y[:, 0] > 1

    def input_spikes(self, y, weights):
        raise ZeroDivisionError("oops")

    def reset_spiked(self, y, spiked):
        return jnp.zeros_like(y)


def test_all_problems_are_listed_at_once():
    listed = problems(Everything(3))
    methods = ["channels", "dynamics", "spike_condition", "input_spikes", "reset_spiked"]
    assert [problem.split(":")[0] for problem in listed] == methods


class CountsArrivals(LIF):
    def input_spikes(self, y, weights):
        return y.at[:, 1].add(weights + 1)


def test_a_spike_of_weight_0_that_changes_something():
    problem = only_problem(CountsArrivals(3))
    assert problem.startswith("input_spikes: a spike of weight 0 takes the state") and "let the jump be 0" in problem


class Gated(LIF):
    def input_spikes(self, y, weights):
        return y.at[:, 1].add(weights * (1 + y[:, 0]) ** 2).at[:, 0].add(weights)


def test_spikes_at_one_instant_whose_order_matters():
    assert only_problem(Gated(3)).startswith("input_spikes: two spikes at one instant give another state")


class EmitsNumbers(LIF):
    def emits(self, y):
        return y[:, 0]


class CarriesTooMuch(LIF):
    def spike_values(self):
        return jnp.ones((3, 2))


@pytest.mark.parametrize(("model", "method"), [(EmitsNumbers, "emits"), (CarriesTooMuch, "spike_values")])
def test_a_method_that_most_leave_alone_and_that_gives_something_else(model, method):
    assert only_problem(model(3)).startswith(f"{method}: it gives an array of shape ")


def test_an_unknown_keyword_of_a_declared_model_names_the_model_and_the_nearest():
    with pytest.raises(TypeError, match="LIF has no 'thres': did you mean thresh?"):
        LIF(3, thres=1.0)


def test_a_declaration_without_a_type_says_what_to_write():
    with pytest.raises(TypeError, match="Untyped declares extra without a type: write extra: Parameter = …"):

        class Untyped(LIF):
            extra = hyperparameter(1.0)


def test_a_declaration_that_a_constructor_written_by_hand_knows_nothing_of():
    with pytest.raises(TypeError, match="Late declares extra, but inherits a constructor that was written by hand"):

        class Late(Leaky):
            extra: Parameter = hyperparameter(1.0)
