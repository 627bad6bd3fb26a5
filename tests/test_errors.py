"""An error says which sample it is about, and is one that can be caught wherever Python can raise it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from eventsnn import LIF, FFEvNN, SimulationError

# The weight lifts the neuron over its threshold again and again.
NET = FFEvNN([1], 1, LIF, 40.0, jax.random.PRNGKey(0), dtype=jnp.float64, init_weights=80.0)
SILENT = jnp.full((4, 1, 1), jnp.inf, jnp.float64)
ONE_BUSY = SILENT.at[3].set(1.0)
ONE_WRONG = SILENT.at[2].set(-1.0)
SENTENCE = "layer 0, neuron 0 emitted more than max_spikes = 2 spikes"


def busy(in_spikes, net=NET):
    return net.spikes_until_t(in_spikes, 40.0, max_spikes=2)


def loss(weights, in_spikes):
    net = eqx.tree_at(lambda net: net.connections[0].weights, NET, weights)
    return jnp.sum(jnp.where(jnp.isinf(times := busy(in_spikes, net)), 40.0, times))


def test_a_run_that_fails_under_vmap_is_a_simulation_error_that_names_the_sample():
    with pytest.raises(SimulationError, match=f"^sample 3: {SENTENCE}"):
        jax.vmap(busy)(ONE_BUSY)


def test_a_wrong_input_under_vmap_is_a_value_error_that_names_the_sample():
    with pytest.raises(ValueError, match=r"^sample 2: in_spikes\[0, 0\] is -1: expected a time"):
        jax.vmap(busy)(ONE_WRONG)


def test_under_two_vmaps_both_places_of_the_sample_are_named():
    with pytest.raises(SimulationError, match=rf"^sample \[1, 3\]: {SENTENCE}"):
        jax.vmap(jax.vmap(busy))(jnp.stack([SILENT, ONE_BUSY]))


def test_what_is_wrong_for_all_samples_names_none():
    net = eqx.tree_at(lambda net: net.connections[0].weights, NET, jnp.full((1, 1), jnp.nan, jnp.float64))
    with pytest.raises(ValueError, match=r"^weights\[0\]\[0, 0\] is nan"):
        jax.vmap(net.ttfs)(SILENT)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["grad of vmap", "vmap of grad"])
def test_under_grad_and_vmap_it_is_a_simulation_error_that_names_the_sample(order):
    weights = NET.connections[0].weights
    with pytest.raises(SimulationError, match=f"^sample 3: {SENTENCE}"):
        if order == "grad of vmap":
            jax.grad(lambda weights: jnp.sum(jax.vmap(lambda x: loss(weights, x))(ONE_BUSY)))(weights)
        else:
            jax.vmap(jax.grad(loss), in_axes=(None, 0))(weights, ONE_BUSY)


@pytest.mark.parametrize("jit", [jax.jit, eqx.filter_jit])
def test_under_jit_the_sentence_follows_a_single_line_of_traceback_and_nothing_else_is_logged(jit, caplog):
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jax.block_until_ready(jit(jax.vmap(busy))(ONE_BUSY))
    head, line, sentence = str(caught.value).splitlines()
    assert head.endswith("Traceback (most recent call last):") and line.startswith("  File")
    assert sentence.startswith(f"SimulationError: sample 3: {SENTENCE}")
    assert {record.getMessage() for record in caplog.records} <= {sentence}
    assert not any(record.exc_info for record in caplog.records)


def test_a_caller_who_catches_runtime_errors_gets_them_with_and_without_jit():
    assert issubclass(SimulationError, RuntimeError) and issubclass(jax.errors.JaxRuntimeError, RuntimeError)
