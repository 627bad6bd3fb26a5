"""Sizes at which an internal decision flips, and what a failed run gives. Numbers 46 and 51 of the hostile cases."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import LIF, QIF, RESULTS, DeltaLIF, EvNN, FFEvNN, SimulationError
from eventsnn.engine import independent
from eventsnn.engine.closed_form import layer as closed_form
from eventsnn.engine.shared_clock import network as shared_clock

KEY, slow = jax.random.PRNGKey(0), pytest.mark.slow


# 51. What a run keeps for its gradient has the same shape for a sample alone and in a batch of any size: `vmap` may
# trace the run before it knows of the batch, and the sweep back after.

ENGINES = {"own clocks": (independent, QIF), "closed form": (closed_form, LIF), "one clock": (shared_clock, QIF)}


class Captured(Exception):
    pass


def task_and_inputs(monkeypatch, kind, neurons):
    """What the engine is asked for a single sample, with an axis for a batch in front."""
    module, model = ENGINES[kind]

    def capture(differentiable, task, inputs):
        raise Captured(task, jax.tree.map(lambda leaf: leaf[None], inputs))

    monkeypatch.setattr(module, "run_one", capture)
    keywords = {"init_weights": 1.0, "trainable": ("tmem", "tsyn"), "dtype": jnp.float32, "engine": "xla"}
    if kind == "one clock":
        net = EvNN(model, neurons, 1, 10.0, KEY, **keywords)
    else:
        net = FFEvNN([neurons], 1, model, 10.0, KEY, **keywords)
    with pytest.raises(Captured) as captured:
        net.state_at_t(jnp.zeros((1, 40), jnp.float32), jnp.zeros(1, jnp.float32))
    return module, *captured.value.args


def shapes_of_record(module, task, inputs, batch):
    def batched(leaf):
        return jax.ShapeDtypeStruct((batch, *leaf.shape[1:]), leaf.dtype)

    def forward(inputs):
        if module is closed_form:
            return module._forward(task, inputs, jax.tree.map(lambda _: True, inputs))
        return module._forward(task, inputs, module._RECORDED)

    return [leaf.shape[1:] for leaf in jax.tree.leaves(jax.eval_shape(forward, jax.tree.map(batched, inputs)))]


# In each engine decisions flip at 12 neurons (how much is written down) or at 64 (how long a window is), and would
# do so between one sample and many if they were made for the whole batch.
@pytest.mark.parametrize("neurons", [pytest.param(3, marks=slow), 70])
@pytest.mark.parametrize("kind", ENGINES)
def test_51_the_record_of_a_run_does_not_depend_on_the_batch(monkeypatch, kind, neurons):
    asked = task_and_inputs(monkeypatch, kind, neurons)
    assert shapes_of_record(*asked, batch=1024) == shapes_of_record(*asked, batch=1)


@pytest.mark.parametrize(
    "model",
    [
        # Neurons that a solver moves, and those in closed form.
        pytest.param(QIF, id="QIF", marks=slow),
        pytest.param(LIF, id="LIF", marks=slow),
    ],
)
def test_51_a_gradient_of_a_batch_of_seventy_neurons_in_windows_compiles(model):
    net = EvNN(model, 70, 1, 4.0, KEY, wmean=1.0, init_delays=2.0, max_event_steps=50)
    x = jnp.ones((64, 1, 1), jnp.float32)

    def total(net, x):
        times = jax.vmap(net.ttfs)(x)
        states = jax.vmap(lambda x: net.state_at_t(x, jnp.array([3.0], jnp.float32)))(x)
        return jnp.sum(jnp.where(jnp.isfinite(times), times, 0)) + jnp.sum(states)

    many = eqx.filter_jit(eqx.filter_grad(total))(net, x).connection.weights
    one = eqx.filter_jit(eqx.filter_grad(total))(net, x[:1]).connection.weights
    assert np.any(one)
    np.testing.assert_allclose(many, 64 * one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "kind", ["closed form", pytest.param("own clocks", marks=slow), pytest.param("one clock", marks=slow)]
)
def test_51_a_batch_of_query_times_or_of_cotangents_alone_has_the_gradients_of_its_samples(kind):
    model = LIF if kind == "closed form" else QIF
    weights = np.array([[9.0, 12.0]]) if model is LIF else np.array([[40.0, 60.0]])
    keywords = {"dtype": jnp.float64, "rtol": 1e-8}
    if kind == "one clock":
        net = EvNN(model, 2, 1, 20.0, KEY, init_weights=np.concatenate([np.zeros((2, 2)), weights]), **keywords)
    else:
        net = FFEvNN([2], 1, model, 20.0, KEY, init_weights=weights, **keywords)
    x, times = jnp.array([[1.0]]), jnp.array([0.5, 3.0, 8.0])

    def state(weights, time):
        return net.with_(weights=weights).state_at_t(x, time[None])[1, 0, 1]

    def first(weights):
        return net.with_(weights=weights).ttfs(x)

    weights = net.connection.weights if kind == "one clock" else net.connections[0].weights
    both = jax.vmap(jax.grad(state, argnums=(0, 1)), in_axes=(None, 0))(weights, times)
    alone = [jax.grad(state, argnums=(0, 1))(weights, time) for time in times]
    for batched, one in zip(
        jax.tree.leaves(both), jax.tree.leaves(jax.tree.map(lambda *x: jnp.stack(x), *alone)), strict=True
    ):
        np.testing.assert_allclose(batched, one, rtol=1e-12, atol=1e-14)
    jacobian = jax.jacrev(first)(weights)
    for neuron in range(2):
        one = jax.grad(lambda weights, neuron=neuron: first(weights)[neuron])(weights)
        np.testing.assert_allclose(jacobian[neuron], one, rtol=1e-12, atol=1e-14)
    assert np.any(jacobian)


# 46. A run that fails and does not raise.


def full_list(**keywords):
    options = {"init_weights": [80.0, 1.0], "max_event_steps": 2, "throw": False, **keywords}
    return FFEvNN([3, 2], 1, LIF, 40.0, KEY, **options)


@pytest.mark.parametrize("way", [pytest.param("eager", marks=slow), pytest.param("jit", marks=slow), "vmap"])
def test_46_nothing_in_a_failed_run_can_be_taken_for_silence(way):
    net, x = full_list(), jnp.array([[2.0, 12.0]], jnp.float32)
    times = jnp.array([0.0, 39.0], jnp.float32)
    queries = {
        "ttfs": lambda x: net.ttfs(x),
        "spikes_until_t": lambda x: net.spikes_until_t(x, 40.0, 3),
        "state_at_t": lambda x: net.state_at_t(x, times),
    }
    for name, query in queries.items():
        if way == "vmap":
            out, silent = jax.vmap(query)(jnp.stack([x, jnp.full_like(x, jnp.inf)]))
            # The other sample of the batch is as it would be alone.
            assert not np.any(np.isnan(silent)), name
        else:
            out = (jax.jit(query) if way == "jit" else query)(x)
        assert np.all(np.isnan(out)), name


def test_46_a_record_says_why_a_run_failed_and_has_nan_behind_what_was_found():
    record = full_list().record(jnp.array([[2.0, 12.0]], jnp.float32))
    assert record.result == RESULTS.too_many_spikes
    for times in record.times:
        assert not np.any(np.isinf(times))
    assert np.all(np.isfinite(record.times[0])) and np.all(np.isnan(record.times[1]))
    np.testing.assert_array_equal(record.neurons[1], -1)


def test_46_bad_input_and_a_broken_state_give_nan_as_well():
    nan, fine = jnp.array([[jnp.nan]], jnp.float32), jnp.array([[1.0]], jnp.float32)
    net = FFEvNN([2], 1, DeltaLIF, 40.0, KEY, init_weights=1.5, throw=False)
    assert np.all(np.isnan(net.ttfs(nan))) and net.record(nan).result == RESULTS.invalid_input
    np.testing.assert_array_equal(net.ttfs(fine), [1.0, 1.0])
    broken = eqx.tree_at(lambda net: net.connections[0].weights, net, jnp.full((1, 2), jnp.inf, jnp.float32))
    assert np.all(np.isnan(broken.state_at_t(fine, jnp.array([0.0], jnp.float32))))


def test_46_a_failed_run_that_raises_still_does():
    with pytest.raises(SimulationError, match="max_event_steps = 2"):
        full_list(throw=True).ttfs(jnp.array([[2.0, 12.0]], jnp.float32))
