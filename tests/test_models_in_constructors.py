"""Mistakes in a model of one's own are found when a network is built, and the message says what to write."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import (
    LIF,
    QIF,
    AtMostOneSpike,
    EvNN,
    FFEvNN,
    LinearFlow,
    Mixed,
    NeuronModel,
    Parameter,
    Refractory,
    StepCurrent,
    WithBiasCurrent,
    hyperparameter,
    initial_state,
)

KEY = jax.random.PRNGKey(0)


def feed_forward(model, dtype=jnp.float32, **keywords):
    return FFEvNN([3], 1, model, 10.0, KEY, dtype=dtype, **{"init_weights": 0.0, **keywords})


def recurrent(model, dtype=jnp.float32):
    return EvNN(model, 3, 1, 10.0, KEY, dtype=dtype, init_weights=0.0)


class Plain(NeuronModel):
    """A sound model, from which the others depart by one mistake each."""

    channels = ("V", "I")
    tmem: Parameter = hyperparameter(10.0, "time constant of V in ms", positive=True)
    tsyn: Parameter = hyperparameter(5.0, "time constant of I in ms", positive=True)
    y0: Parameter = initial_state(0.0)

    def dynamics(self, t, y, args):
        return jnp.stack([(y[:, 1] - y[:, 0]) / self.tmem.value, -y[:, 1] / self.tsyn.value], axis=1)

    def spike_condition(self, t, y, args):
        return y[:, 0] - 1

    def input_spikes(self, y, weights):
        return y.at[:, 1].add(weights)

    def reset_spiked(self, y, spiked):
        return y.at[:, 0].set(jnp.where(spiked, 0, y[:, 0]))


class ForgetsValue(Plain):
    def dynamics(self, t, y, args):
        return -y / self.tmem


class ForgetsValues(Plain):
    def dynamics(self, t, y, args):
        v, i = y.T
        return jnp.stack([(i - v) * jnp.exp(self.tmem), -i / self.tsyn], axis=1)


class ReturnsParameter(Plain):
    def spike_condition(self, t, y, args):
        return self.tmem


class OneChannel(Plain):
    def dynamics(self, t, y, args):
        return -y[:, 0] / self.tmem.value


class ChannelsFirst(Plain):
    def dynamics(self, t, y, args):
        return jnp.stack([y[:, 1], y[:, 0]])


class BroadcastsNumbers(Plain):
    def input_spikes(self, y, weights):
        return y + weights


class Branches(Plain):
    def dynamics(self, t, y, args):
        return -y if t < 5 else y


class BranchesOnItsNumbers(Plain):
    def dynamics(self, t, y, args):
        return -y if self.tmem.value[0] > 5 else y


class UsesNumpy(Plain):
    def spike_condition(self, t, y, args):
        return np.tanh(y[:, 0]) - np.asarray(y)[:, 1]


class UsesFloat(Plain):
    def spike_condition(self, t, y, args):
        return y[:, 0] - float(self.tmem.value[0])


class CallsWhatIsNotThere(Plain):
    def spike_condition(self, t, y, args):
        return y[:, 0] - self.tmen.value


class IndexesTooMuch(Plain):
    def spike_condition(self, t, y, args):
        return y[:, 0, 0]


class TakesOneArgument(Plain):
    def reset_spiked(self, y):
        return y


class Compares(Plain):
    def spike_condition(self, t, y, args):
        return y[:, 0] > 1


class Doubles(Plain):
    def reset_spiked(self, y, spiked):
        return jax.lax.convert_element_type(y, jnp.float64)


class Integers(Plain):
    def reset_spiked(self, y, spiked):
        return jnp.zeros(y.shape, jnp.int32)


class ForgetsReturn(Plain):
    def dynamics(self, t, y, args):
        jnp.zeros_like(y)


class StartsFlat(Plain):
    def init_state(self, n_neurons):
        return self.y0.value[:, 0]


class ObservesFlat(Plain):
    def observe(self, y):
        return y[:, 0]


class EmitsNumbers(Plain):
    def emits(self, y):
        return y[:, 0]


class CarriesTooMuch(Plain):
    def spike_values(self):
        return jnp.ones((3, 2), jnp.float32)


class StopsAtAScalar(Plain):
    def breakpoints(self):
        return self.tmem.value


class StopsPerNeuronOnly(Plain):
    def breakpoints(self):
        return self.tmem.value[:, None]


class PassesFlat(Plain):
    def pass_breakpoint(self, y):
        return y[:, 0]


class TimePerNeuronOnly(Plain):
    def dynamics(self, t, y, args):
        return -y * t[:, None]


class FlowOfWrongShape(LIF):
    def closed_form(self):
        leak = 1 / self.tmem.value
        return LinearFlow(leak[:, None], self.ic, thresh=self.thresh.value, vreset=0 * leak, coupling=leak, decay=leak)


class NoFlow(LIF):
    def closed_form(self):
        return 1.0, 2.0


# What it gives, what is expected, what to do, and the exception behind it.
MISTAKES = {
    ForgetsValue: ("dynamics: TypeError: ", "(3, 2) and dtype float32", "write self.tmem.value", TypeError),
    ForgetsValues: ("dynamics: TypeError: ", "(3, 2)", "write self.tmem.value and self.tsyn.value", TypeError),
    ReturnsParameter: ("spike_condition: it gives a Parameter", "(3,)", "write .value", None),
    OneChannel: ("dynamics: it gives an array of shape (3,) and dtype float32", "(3, 2)", "jnp.stack([", None),
    ChannelsFirst: ("dynamics: it gives an array of shape (2, 3)", "(3, 2)", "axis=1", None),
    BroadcastsNumbers: ("input_spikes: ", "(3, 2)", "write weights[:, None]", Exception),
    Branches: ("dynamics: ValueError: The truth value of", "(3, 2)", "use jnp.where", ValueError),
    BranchesOnItsNumbers: ("dynamics: TracerBool", "(3, 2)", "jnp.where", jax.errors.TracerBoolConversionError),
    UsesNumpy: ("spike_condition: TracerArray", "(3,)", "use jax.numpy", jax.errors.TracerArrayConversionError),
    UsesFloat: ("spike_condition: Concretization", "(3,)", "place of float()", jax.errors.ConcretizationTypeError),
    CallsWhatIsNotThere: ("spike_condition: AttributeError", "(3,)", "did you mean tmem?", AttributeError),
    IndexesTooMuch: ("spike_condition: IndexError", "(3,)", "y is (neurons, channels)", IndexError),
    TakesOneArgument: ("reset_spiked: TypeError", "(3, 2)", "write def reset_spiked(self, y, spiked)", TypeError),
    Compares: ("spike_condition: it gives an array of shape (3,) and dtype bool", "float32", "V - thresh", None),
    Doubles: ("reset_spiked: it gives an array of shape (3, 2) and dtype float64", "float32", "without dtype", None),
    Integers: ("reset_spiked: it gives an array of shape (3, 2) and dtype int32", "float32", "without dtype", None),
    ForgetsReturn: ("dynamics: it gives None", "(3, 2)", "return what it computes", None),
    StartsFlat: ("init_state: it gives an array of shape (3,)", "(3, channels)", "one column per channel", None),
    ObservesFlat: ("observe: it gives an array of shape (3,)", "(3, channels)", "one column per channel", None),
    EmitsNumbers: ("emits: it gives an array of shape (3,) and dtype float32", "bool", "return booleans", None),
    CarriesTooMuch: ("spike_values: it gives an array of shape (3, 2)", "a scalar or shape (3,)", "", None),
    StopsAtAScalar: ("breakpoints: it gives an array of shape ()", "(times,) or (3, times)", "[..., None]", None),
    StopsPerNeuronOnly: ("breakpoints: IndexError", "(times,) or (3, times)", "[..., None]", IndexError),
    PassesFlat: ("pass_breakpoint: it gives an array of shape (3,)", "(3, 2)", "one column per channel", None),
    TimePerNeuronOnly: ("dynamics: IndexError", "(3, 2)", "t may be a scalar", IndexError),
    FlowOfWrongShape: ("closed_form: ", "(3, 2)", "", Exception),
    NoFlow: ("closed_form: it gives a tuple", "an AbstractFlow", "", None),
}


@pytest.mark.parametrize("model", MISTAKES)
def test_a_mistake_is_told_with_model_method_got_expected_and_advice(model):
    got, expected, advice, cause = MISTAKES[model]
    with pytest.raises(ValueError, match=f"^{model.__name__} breaks the contract of a neuron model") as error:
        feed_forward(model)
    listed = str(error.value).split("\n- ")[1:]
    assert len(listed) == 1
    before, _, after = listed[0].partition("; expected ")
    assert before.startswith(got), listed
    wanted, _, told = after.partition(": ")
    assert expected in wanted and advice in told and told, listed
    # The user's own exception, with the line in which it happened.
    assert (error.value.__cause__ is None) if cause is None else isinstance(error.value.__cause__, cause)


def test_a_recurrent_network_finds_it_as_well():
    with pytest.raises(ValueError, match="ForgetsValue breaks the contract.*\n- dynamics: .*write self.tmem.value"):
        recurrent(ForgetsValue)


def test_all_methods_that_are_wrong_are_listed():
    class Two(OneChannel):
        def spike_condition(self, t, y, args):
            return y[:, :1]

    with pytest.raises(ValueError, match="in 2 places:\n- dynamics: .*\n- spike_condition: ") as error:
        feed_forward(Two)
    assert len(str(error.value).splitlines()) == 3


def test_it_is_found_where_a_network_is_built_inside_jit():
    def built(bias):
        return feed_forward(ForgetsValue, tmem=bias).ttfs(jnp.ones((1, 1), jnp.float32))

    with pytest.raises(ValueError, match="write self.tmem.value"):
        jax.jit(built)(jnp.float32(2.0))


def test_a_sound_network_is_built_inside_jit_and_grad():
    @jax.jit
    def weights(tmem):
        return feed_forward(Plain, tmem=tmem, init_weights=2.0).connections[0].weights.sum() * tmem

    assert float(jax.grad(weights)(jnp.float32(2.0))) == 6.0


SOUND = [Plain, LIF, QIF, Refractory(Plain), AtMostOneSpike(QIF), Mixed((LIF, 1), (Plain, 2)), WithBiasCurrent(LIF)]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("model", SOUND)
def test_a_sound_model_passes_in_both_precisions(model, dtype):
    feed_forward(model, dtype)


def test_a_sound_model_passes_without_64_bits():
    with jax.enable_x64(False):
        feed_forward(Plain)
        feed_forward(WithBiasCurrent(LIF), current=StepCurrent(2.0, start=1.0, stop=3.0))


class DrivenAfter(Plain):
    """What moves it has no dtype of its own: JAX calls such numbers weak."""

    def dynamics(self, t, y, args):
        on = jnp.broadcast_to(jnp.where(t < 2.0, 0.0, 0.5), y.shape[:1])
        return jnp.stack([on, 0 * on], axis=1)


def test_numbers_without_a_dtype_are_fine_in_float32_next_to_64_bits():
    net = feed_forward(DrivenAfter)
    np.testing.assert_allclose(net.ttfs(jnp.full((1, 1), jnp.inf, jnp.float32)), 4.0, rtol=1e-5)


def test_nothing_is_computed():
    class Counts(Plain):
        def dynamics(self, t, y, args):
            assert isinstance(y, jax.core.Tracer) and isinstance(self.tmem.value, jax.core.Tracer)
            return super().dynamics(t, y, args)

    feed_forward(Counts)


def test_a_model_without_a_reset_of_its_own_keeps_its_state():
    class NoReset(Plain):
        reset_spiked = NeuronModel.reset_spiked

    feed_forward(NoReset)


def test_the_name_of_a_parameter_is_found_without_the_text_of_the_program():
    space = {"Plain": Plain}
    exec("class Typed(Plain):\n def dynamics(self, t, y, args):\n  return -y / self.tsyn", space)
    with pytest.raises(ValueError, match="tsyn is a Parameter: write self.tsyn.value"):
        feed_forward(space["Typed"])


def test_a_mistake_inside_a_wrapper_is_told_with_what_to_write():
    with pytest.raises(ValueError, match=r"Refractory\(ForgetsValue\) breaks.*\n- dynamics: .*write self.tmem.value"):
        feed_forward(Refractory(ForgetsValue))


def test_a_function_as_current_that_uses_numpy_is_told():
    with pytest.raises(ValueError, match="dynamics: TracerArrayConversionError: .*use jax.numpy"):
        feed_forward(WithBiasCurrent(LIF), current=lambda t: jnp.asarray(np.array(t)))


def test_a_network_with_a_number_per_neuron_passes():
    assert eqx.is_array(feed_forward(Plain, tmem=jnp.array([1.0, 2.0, 3.0], jnp.float32)).neurons[0].tmem.value)
