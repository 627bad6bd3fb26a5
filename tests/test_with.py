"""A network with other values, by `with_`; and what to write where something was put in that does not fit."""

import re

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import (
    LIF,
    QIF,
    EvNN,
    FFEvNN,
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
WEIGHTS = jnp.asarray([[7.0, 8.0, 9.0], [9.0, 8.0, 7.0]])
MASK = np.array([True, False, False])


def forward(model=LIF, layers=(3, 2), **keywords):
    return FFEvNN(list(layers), 2, model, 20.0, KEY, **({"init_weights": 5.0} | keywords))


def recurrent(model=LIF, **keywords):
    return EvNN(model, 3, 1, 20.0, KEY, **({"init_weights": 3.0, "init_delays": 1.0} | keywords))


# Networks by `with_` are those that the constructor makes.


@pytest.mark.parametrize(
    ("changes", "keywords"),
    [
        ({}, {}),
        ({"tmem": 15.0}, {"tmem": 15.0}),
        ({"tmem": [15.0, 16.0], "thresh": 2.0}, {"tmem": [15.0, 16.0], "thresh": 2.0}),
        ({"ic": 0.5, "y0": (0.1, 0.2)}, {"init_bias": 0.5, "y0": (0.1, 0.2)}),
        ({"weights": [3.0, 4.0]}, {"init_weights": [3.0, 4.0]}),
        ({"delays": 2.0, "axonal_delays": 1.0}, {"init_delays": 2.0, "init_axonal_delays": 1.0}),
        ({"max_solver_time": 100.0}, {"max_solver_time": 100.0}),
        ({"rtol": 1e-6}, {"rtol": 1e-6}),
        ({"rtol": 1e-6, "atol": 1e-7, "throw": False}, {"rtol": 1e-6, "atol": 1e-7, "throw": False}),
        (
            {"stepsize_controller": diffrax.ConstantStepSize(), "solver_stepsize": 0.1},
            {"stepsize_controller": diffrax.ConstantStepSize(), "solver_stepsize": 0.1},
        ),
        (
            {"solver": diffrax.Bosh3(), "min_slope": 0.1, "engine": "numerical", "max_event_steps": 7, "max_steps": 9},
            {"solver": diffrax.Bosh3(), "min_slope": 0.1, "engine": "numerical", "max_event_steps": 7, "max_steps": 9},
        ),
    ],
)
def test_with_gives_the_network_that_the_constructor_gives(changes, keywords):
    expected = {"max_solver_time": 20.0, "init_weights": 5.0} | keywords
    t_end = expected.pop("max_solver_time")
    assert forward().with_(**changes) == FFEvNN([3, 2], 2, LIF, t_end, KEY, **expected)


@pytest.mark.parametrize(
    ("changes", "keywords"),
    [
        ({"tmem": 15.0, "ic": 0.5}, {"tmem": 15.0, "init_bias": 0.5}),
        ({"delays": 0.0}, {"init_delays": 0.0}),
        ({"max_pending": 9, "output_neurons": MASK}, {"max_pending": 9, "output_neurons": MASK}),
        ({"windows": False}, {"windows": False}),
    ],
)
def test_the_same_for_a_recurrent_network(changes, keywords):
    assert recurrent().with_(**changes) == recurrent(**keywords)


def test_windows_that_were_chosen_stay_and_those_that_followed_from_the_delays_follow_again():
    assert not recurrent(windows=False).with_(delays=2.0).windows
    assert recurrent(init_delays=0.0).with_(delays=2.0).windows
    with pytest.raises(ValueError, match="windows is True, but the shortest delay"):
        recurrent(trainable="delays", windows=True).with_(delays=0.0)


def test_the_weights_of_synapses_are_in_the_order_in_which_they_are_read():
    net = recurrent(synapses=np.array([[2, 1], [0, 1], [3, 0]]), init_weights=np.array([1.0, 2.0, 3.0]))
    assert net.with_(weights=net.connection.weights) == net
    np.testing.assert_array_equal(net.with_(weights=2 * net.connection.weights).connection.weights, [4, 2, 6])


def test_one_layer_can_be_changed_alone():
    net = forward().with_(layer=0, weights=WEIGHTS, tmem=15.0)
    np.testing.assert_array_equal(net.connections[0].weights, WEIGHTS)
    assert net.connections[1] == forward().connections[1] and net.neurons[1] == forward().neurons[1]
    assert net.neurons[0].tmem.value == 15.0


def test_what_is_trainable_stays_trainable_and_what_is_fixed_fixed():
    net = forward(trainable=("tmem", "delays"), init_delays=1.0).with_(tmem=15.0, tsyn=6.0, delays=2.0)
    assert net.neurons[0].tmem.trainable and not net.neurons[0].tsyn.trainable
    assert net.connections[0].delays.trainable and net.neurons[0].tmem.bounds == (0.0, np.inf)


def test_wrapped_and_mixed_models_take_what_the_models_inside_know():
    model = Refractory(Mixed((LIF, 2, {"tmem": 9.0}), (QIF, 1)))
    net = forward(model, layers=[3]).with_(tmem=3.0, tref=1.0, tsyn=4.0)
    lif, qif = net.neurons[0].neuron.parts
    assert (net.neurons[0].tref.value, lif.tmem.value, qif.tmem.value, lif.tsyn.value) == (1.0, 9.0, 3.0, 4.0)
    current = forward(WithBiasCurrent(LIF), layers=[3]).with_(current=StepCurrent(2.0, start=5.0), tmem=3.0).neurons[0]
    assert current.current.amplitude.value == 2.0 and current.neuron.tmem.value == 3.0


class Named(NeuronModel):
    channels = ("V",)
    rest: Parameter = hyperparameter(0.25)
    y0: Parameter = initial_state(("rest",))

    def dynamics(self, t, y, args):
        return 0 * y

    def spike_condition(self, t, y, args):
        return y[:, 0] - 1

    def input_spikes(self, y, weights):
        return y + weights[:, None]

    def reset_spiked(self, y, spiked):
        return jnp.where(spiked[:, None], 0, y)


class ByHand(Named):
    slope: Parameter
    offset: jax.Array

    def __init__(self, n_neurons, *, dtype=jnp.float32, key=None):
        self.rest = Parameter(jnp.zeros((), dtype))
        self.y0 = Parameter(jnp.zeros((n_neurons, 1), dtype))
        self.slope = Parameter(jnp.ones((2, 5), dtype), trainable=True, bounds=(0.0, np.inf))
        self.offset = jnp.zeros(n_neurons, dtype)


def test_an_initial_state_may_name_a_number_that_changes_at_the_same_time():
    net = forward(Named, layers=[2]).with_(y0=("rest",), rest=0.5)
    np.testing.assert_array_equal(net.neurons[0].y0.value, [[0.5], [0.5]])


def test_a_model_with_a_constructor_of_its_own_keeps_the_shapes_that_it_has():
    net = forward(ByHand, layers=[2])
    new = net.with_(slope=jnp.full((2, 5), 2.0), offset=1.0).neurons[0]
    assert new.slope.trainable and new.slope.value.shape == (2, 5) and new.offset.shape == (2,)
    with pytest.raises(ValueError, match=r"slope\[0, 0\] is -1.0, expected a value that is greater than 0"):
        net.with_(slope=jnp.full((2, 5), -1.0))


def test_a_loss_may_go_through_with():
    def silent(weights):
        return jnp.sum(forward(layers=[3]).with_(weights=weights).connections[0].weights ** 2)

    np.testing.assert_array_equal(jax.jit(jax.grad(silent))(WEIGHTS), 2 * WEIGHTS)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"tmen": 3.0}, TypeError, "with_ does not take 'tmen': did you mean tmem?"),
        ({"init_weights": 3.0}, TypeError, "did you mean weights?"),
        ({"init_bias": 3.0}, TypeError, "did you mean ic?"),
        ({"wlim": 3.0}, TypeError, "it is for drawing random numbers: pass weights"),
        ({"layers": [3]}, TypeError, "build a new one"),
        ({"tmem": -1.0}, ValueError, "tmem is -1.0, expected a value that is greater than 0"),
        ({"tmem": jnp.ones(3)}, ValueError, r"tmem has shape \(3,\), expected a scalar or shape \(2,\)"),
        ({"tmem": [1.0, 2.0, 3.0]}, ValueError, "one entry for each of the 2 layers"),
        ({"thresh": -1.0}, ValueError, "vreset is 0.0, expected a value that is below thresh"),
        ({"weights": WEIGHTS}, ValueError, r"weights has shape \(2, 3\), expected a scalar or shape \(3, 2\)"),
        ({"delays": -1.0}, ValueError, "delay in ms, 0 or more"),
        ({"layer": 2, "tmem": 1.0}, ValueError, "layer is 2, expected one of the 2 layers"),
        ({"engine": "fast"}, ValueError, "engine is 'fast'"),
        ({"solver": diffrax.Euler()}, ValueError, "has no error estimate"),
    ],
)
def test_what_the_constructor_refuses_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        forward().with_(**changes)


# Networks that were put together by hand.

IN_SPIKES = jnp.zeros((2, 1), jnp.float32)


TMEM, WEIGHTS_0 = (lambda n: n.neurons[0].tmem), (lambda n: n.connections[0].weights)


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (TMEM, 10.0, "neurons[0].tmem is 10.0, expected a Parameter: write net.with_(tmem=10.0, layer=0)"),
        (
            lambda n: TMEM(n).value,
            10.0,
            "neurons[0].tmem.value is 10.0, expected an array of float32: write net.with_(",
        ),
        (
            lambda n: TMEM(n).value,
            jnp.ones(2),
            "has shape (2,), expected a scalar or shape (3,): write net.with_(tmem=",
        ),
        (
            lambda n: n.neurons[1].ic,
            jnp.ones(7),
            "neurons[1].ic has shape (7,), expected shape (2,): write net.with_(ic=",
        ),
        (lambda n: n.neurons[0].y0, 0.0, "neurons[0].y0 is 0.0, expected a Parameter"),
        (
            WEIGHTS_0,
            jnp.ones((7, 7)),
            "connections[0].weights has shape (7, 7), expected shape (2, 3): write net.with_(",
        ),
        (WEIGHTS_0, np.ones((2, 3), int), "has dtype int64, expected float32"),
        (WEIGHTS_0, 3.0, "is 3.0, expected an array of float32: write net.with_(weights=3.0, layer=0)"),
        (
            lambda n: n.connections[1].delays,
            3.0,
            "connections[1].delays is 3.0, expected a Parameter: write net.with_(",
        ),
    ],
)
@pytest.mark.parametrize("jit", [False, True])
def test_what_tree_at_puts_in_is_named_with_what_to_write(where, value, message, jit):
    net = eqx.tree_at(where, forward(init_delays=1.0), value)
    query = (lambda net, x: jax.jit(net.ttfs).trace(x)) if jit else (lambda net, x: net.ttfs(x))
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        query(net, IN_SPIKES)


def test_the_models_inside_of_wrappers_and_mixtures_are_looked_at_as_well():
    net = forward(Refractory(Mixed((LIF, 2), (QIF, 1))), layers=[3])
    bad = eqx.tree_at(lambda net: net.neurons[0].neuron.parts[1].tsyn, net, 3.0)
    with pytest.raises(TypeError, match=r"neurons\[0\].neuron.parts\[1\].tsyn is 3.0, .*write net.with_\(tsyn=3.0\)"):
        bad.ttfs(IN_SPIKES)
    net = forward(WithBiasCurrent(LIF), layers=[3], current=StepCurrent(2.0, start=5.0))
    bad = eqx.tree_at(lambda net: net.neurons[0].current.start, net, 3.0)
    with pytest.raises(TypeError, match=r"neurons\[0\].current.start is 3.0, .*write net.with_\(current=...\)"):
        bad.ttfs(IN_SPIKES)
    bad = eqx.tree_at(lambda net: net.neurons[0].slope, forward(ByHand, layers=[2]), 3.0)
    with pytest.raises(TypeError, match=r"neurons\[0\].slope is 3.0, expected a Parameter"):
        bad.ttfs(IN_SPIKES)


def test_a_recurrent_network_is_looked_at_as_well():
    bad = eqx.tree_at(lambda net: net.connection.weights, recurrent(), jnp.ones((3, 3)))
    with pytest.raises(
        ValueError, match=r"connection.weights has shape \(3, 3\), expected shape \(4, 3\): write net.with_"
    ):
        bad.ttfs(IN_SPIKES[:1])


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (lambda net: net, "weights", "weights=..."),
        (lambda net: net, "max_solver_time", "max_solver_time=..."),
        (lambda net: net, "connections", "weights=..."),
        (lambda net: net.neurons[0], "tmem", "tmem=..."),
        (lambda net: net.neurons[0].tmem, "value", "tmem=..."),
        (lambda net: net.connections[0], "delays", "delays=..."),
    ],
)
def test_assignment_is_an_attribute_error_that_names_the_call(owner, name, call):
    with pytest.raises(AttributeError, match=rf"{name} cannot be assigned to.*write net = net.with_\({call}\)"):
        setattr(owner(forward()), name, 1.0)
