"""A network is a tree of floating point arrays and nothing else, so JAX and optax take it as it is."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import zoo

import eventsnn
from eventsnn import (
    LIF,
    QIF,
    AtMostOneSpike,
    ConstantCurrent,
    EvNN,
    FFEvNN,
    FunctionCurrent,
    Mixed,
    RampCurrent,
    Refractory,
    SineCurrent,
    StepCurrent,
    WithBiasCurrent,
    trainable,
)
from eventsnn.neuron_models.parameter import WholeNumbers

IN_SPIKES = jnp.array([[1.0]], jnp.float32)
CURRENT = (
    ConstantCurrent(1.0)
    + StepCurrent(2.0, start=5.0, stop=9.0)
    + RampCurrent(0.0, 1.0, start=2.0, stop=3.0)
    + SineCurrent(1.0, frequency=50.0)
    + FunctionCurrent(jnp.sin, breakpoints=[4.0])
)
SYNAPSES = np.array([[0, 1], [1, 2], [3, 0], [3, 1]])
WMASK = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 1, 0]], bool)


def forward(model=LIF, seed=0, **keywords):
    return FFEvNN([3], 1, model, 20.0, jax.random.PRNGKey(seed), **({"wmean": 9.0, "wlim": 1.0} | keywords))


def recurrent(model=LIF, seed=0, **keywords):
    keywords = {"wmean": 9.0, "wlim": 1.0, "max_event_steps": 60} | keywords
    return EvNN(model, 3, 1, 20.0, jax.random.PRNGKey(seed), **keywords)


NETWORKS = {
    **{name: lambda name=name: forward(getattr(eventsnn, name)) for name in zoo.DRIVES},
    "Refractory": lambda: forward(Refractory(LIF)),
    "AtMostOneSpike": lambda: forward(AtMostOneSpike(Refractory(QIF))),
    "WithBiasCurrent": lambda: forward(WithBiasCurrent(LIF), current=CURRENT),
    "Mixed": lambda: forward(Mixed((LIF, 2), (QIF, 1))),
    "delays": lambda: forward(dlim=2.0, axonal_dlim=1.0, trainable="delays"),
    "an implicit solver": lambda: forward(QIF, solver=diffrax.Kvaerno5()),
    "recurrent": lambda: recurrent(),
    "recurrent with a mask": lambda: recurrent(wmask=WMASK, init_delays=1.0),
    "recurrent with synapses": lambda: recurrent(synapses=SYNAPSES, init_delays=1.0),
    "recurrent and mixed": lambda: recurrent(Mixed((LIF, 2), (Refractory(QIF), 1))),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_leaf_is_a_floating_point_array_of_one_dtype_that_is_no_weak_type(name):
    leaves = jax.tree.leaves(NETWORKS[name]())
    assert leaves
    for leaf in leaves:
        assert isinstance(leaf, jax.Array) and leaf.dtype == jnp.float32 and not leaf.weak_type


# Each call of Mixed makes a class of its own.
@pytest.mark.parametrize("name", [name for name in NETWORKS if "ixed" not in name])
def test_networks_that_are_built_alike_are_equal_and_have_one_hash(name):
    one, other = NETWORKS[name](), NETWORKS[name]()
    assert one == other and hash(one) == hash(other)


def test_networks_that_differ_in_one_number_or_option_are_not_equal():
    net = forward()
    for other in (forward(seed=1), forward(tmem=11.0), forward(rtol=1e-5), forward(throw=False), recurrent()):
        assert net != other


def test_another_network_of_the_same_shape_takes_the_compiled_program():
    traces = []

    @jax.jit
    def first_spikes(net, in_spikes):
        traces.append(net)
        return net.ttfs(in_spikes)

    first_spikes.trace(forward(), IN_SPIKES)
    first_spikes.trace(forward(seed=1, tmem=11.0, init_bias=0.3), IN_SPIKES)
    first_spikes.trace(forward(solver=diffrax.Tsit5(), rtol=1e-4), IN_SPIKES)
    assert len(traces) == 1
    first_spikes.trace(recurrent(synapses=SYNAPSES, init_delays=1.0), IN_SPIKES)
    # As many synapses, and as many from inputs for each neuron, but others.
    others = np.array([[1, 0], [2, 1], [3, 1], [3, 2]])
    first_spikes.trace(recurrent(synapses=others, init_delays=1.0), IN_SPIKES)
    assert len(traces) == 2


@pytest.mark.slow
def test_jax_jit_of_a_query_is_right_for_networks_that_differ_in_numbers_only():
    nets = forward(), forward(seed=1)
    times = [np.asarray(jax.jit(net.ttfs)(IN_SPIKES)) for net in nets]
    assert not np.array_equal(*times)
    for net, found in zip(nets, times, strict=True):
        np.testing.assert_allclose(found, net.ttfs(IN_SPIKES), rtol=1e-6)


def test_jax_jit_of_a_query_works_twice_while_another_function_is_traced():
    net = forward()
    found = jax.eval_shape(lambda x: jax.jit(net.ttfs)(x) + jax.jit(net.ttfs)(x + 1), IN_SPIKES)
    assert found.shape == (3,)
    # The numbers of the network are traced as well, and nobody knows whether they are equal.
    jax.eval_shape(lambda net, x: jax.jit(net.ttfs)(x) + jax.jit(net.ttfs)(x + 1), net, IN_SPIKES)


def loss(net):
    times = net.ttfs(IN_SPIKES)
    return jnp.sum(jnp.where(jnp.isinf(times), 20.0, times))


def a_step(net):
    """The gradient, and the network after a step of Adam."""
    value, gradient = jax.value_and_grad(loss)(net)
    optimizer = optax.adam(1e-2)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = optimizer.update(gradient, optimizer.init(net))
        return value, gradient, optax.apply_updates(net, updates)


def unchanged(net, new):
    """Which leaves are the same in two networks."""
    return jax.tree.map(lambda a, b: bool(jnp.all(a == b)), net, new)


def test_jax_grad_and_optax_give_trees_like_the_network():
    net = forward()
    gradient, state = jax.eval_shape(lambda net: (jax.grad(loss)(net), optax.adam(1e-3).init(net)), net)
    assert jax.tree.structure(gradient) == jax.tree.structure(state[0].mu) == jax.tree.structure(net)


@pytest.mark.slow
def test_jax_grad_and_optax_take_a_network_as_it_is_and_leave_alone_what_is_fixed():
    net = forward(trainable="tmem")
    value, gradient, new = a_step(net)
    assert jax.tree.structure(gradient) == jax.tree.structure(net)
    assert jnp.all(gradient.connections[0].weights != 0) and gradient.neurons[0].tmem.value != 0
    same = unchanged(net, new)
    assert not same.connections[0].weights and not same.neurons[0].tmem.value
    assert same.neurons[0].tsyn.value and same.neurons[0].thresh.value
    assert loss(new) < value


@pytest.mark.slow
@pytest.mark.parametrize("keywords", [{"wmask": WMASK}, {"synapses": SYNAPSES}])
def test_jax_grad_and_optax_leave_alone_which_connections_there_are(keywords):
    net = recurrent(init_delays=1.0, **keywords)
    value, gradient, new = a_step(net)
    assert loss(new) < value
    kinds = [(leaf, isinstance(leaf, WholeNumbers)) for leaf in whole_numbers_and_others(gradient)]
    assert sum(is_whole for _, is_whole in kinds) == (1 if "wmask" in keywords else 3)
    assert all(not jnp.any(leaf.digits) for leaf, is_whole in kinds if is_whole)
    for before, after in zip(whole_numbers_and_others(net), whole_numbers_and_others(new), strict=True):
        if isinstance(before, WholeNumbers):
            np.testing.assert_array_equal(before, after)


def whole_numbers_and_others(net):
    return jax.tree.leaves(net, is_leaf=lambda leaf: isinstance(leaf, WholeNumbers))


@pytest.mark.parametrize("keywords", [{"wmask": WMASK}, {"synapses": SYNAPSES}])
def test_masks_and_indices_are_not_trainable(keywords):
    marked = trainable(recurrent(init_delays=1.0, **keywords))
    marks = [leaf for leaf in whole_numbers_and_others(marked) if isinstance(leaf, WholeNumbers)]
    assert marks and not any(mark.digits for mark in marks)


@pytest.mark.slow
def test_an_optimiser_that_shrinks_indices_meets_an_error_that_says_what_to_do():
    net = recurrent(init_delays=1.0, synapses=SYNAPSES)
    shrunk = jax.tree.map(lambda leaf: 0.999 * leaf, net)
    with pytest.raises(ValueError, match=r"^rows is 0\.999: expected a whole number: .*eventsnn\.trainable"):
        shrunk.ttfs(IN_SPIKES)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_whole_numbers_are_exact_up_to_the_largest(dtype):
    numbers = np.array([[0, 1, 2**16 - 1, 2**16], [2**24 - 1, 2**24, 2**24 + 1, 2**31 - 1]], np.int32)
    whole = WholeNumbers(numbers, dtype, 2**31)
    np.testing.assert_array_equal(whole.value, numbers)
    np.testing.assert_array_equal(whole, numbers)
    assert whole.value.dtype == jnp.int32 and whole.digits.dtype == dtype and not whole.check()[1]


def test_options_may_be_given_as_arrays_of_one_number():
    one = forward(stepsize_controller=diffrax.PIDController(rtol=jnp.asarray(1e-3), atol=np.asarray(1e-5)))
    other = forward(stepsize_controller=diffrax.PIDController(rtol=float(jnp.asarray(1e-3)), atol=1e-5))
    assert one == other and hash(one) == hash(other)


def test_an_option_that_is_being_traced_is_refused():
    def build(rtol):
        return forward(stepsize_controller=diffrax.PIDController(rtol=rtol, atol=1e-5))

    with pytest.raises(TypeError, match="stepsize_controller holds .*expected Python numbers"):
        jax.eval_shape(build, 1e-3)


@pytest.mark.parametrize("name", ["recurrent with a mask", "recurrent with synapses", "Refractory"])
def test_a_network_is_equal_to_itself_saved_and_loaded(name, tmp_path):
    net = NETWORKS[name]()
    eventsnn.save(tmp_path / "net.zip", net)
    assert eventsnn.load(tmp_path / "net.zip") == net


@pytest.mark.slow
def test_equinox_takes_the_gradient_of_everything_as_before():
    found = eqx.filter_grad(loss)(forward())
    np.testing.assert_array_equal(found.connections[0].weights, jax.grad(loss)(forward()).connections[0].weights)
