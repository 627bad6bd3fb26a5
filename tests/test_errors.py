"""An error says which sample it is about, and is one that can be caught wherever Python can raise it."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import IF, LIF, QIF, DeltaLIF, EvNN, FFEvNN, SimulationError
from eventsnn.engine import failure
from eventsnn.engine.native.target import NativeUnavailable, available
from eventsnn.training.losses import checked_labels

needs_numba = pytest.mark.skipif(not available(), reason="Numba is not installed")

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


# Compiled programs. JAX 0.10 raises ValueError in place of JaxRuntimeError if a small program has run before.
XlaError = (jax.errors.JaxRuntimeError, ValueError)


@pytest.mark.parametrize("jit", [jax.jit, eqx.filter_jit])
@needs_numba
def test_under_jit_the_text_is_a_code_of_xla_and_the_sentence_and_nothing_is_logged(jit, caplog):
    for x, code in ((ONE_BUSY, f"ABORTED: sample 3: {SENTENCE}"), (ONE_WRONG, "INVALID_ARGUMENT: sample 2: in_spikes")):
        with pytest.raises(jax.errors.JaxRuntimeError, match=f"^{re.escape(code)}"):
            jax.block_until_ready(jit(jax.vmap(busy))(x))
    assert not caplog.records


def text_of_error(function, *arguments):
    with pytest.raises((SimulationError, *XlaError)) as caught:
        jax.block_until_ready(function(*arguments))
    return str(caught.value)


def with_leaf(net, where, value):
    return eqx.tree_at(where, net, value)


KEY, F64 = jax.random.PRNGKey(0), {"dtype": jnp.float64}
TWO_LAYERS = FFEvNN([3, 2], 2, LIF, 40.0, KEY, init_weights=30.0, max_event_steps=400, **F64)
LISTED = FFEvNN([3, 2], 2, LIF, 40.0, KEY, init_weights=30.0, max_event_steps=20, **F64)
HIGH_RESET = FFEvNN([3], 2, IF, 40.0, KEY, init_weights=0.0, init_bias=1.0, tmem=np.array([10.0, 7.0, 9.0]), **F64)
LIFTING = np.array([[0.0, 2.0], [2.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
PAIR = EvNN(DeltaLIF, 2, 2, 40.0, KEY, init_weights=LIFTING, max_event_steps=100_000, **F64)
FEW_STEPS = FFEvNN([3], 2, QIF, 40.0, KEY, wmean=1.0, rtol=1e-9, atol=1e-9, max_steps=1, max_event_steps=1, **F64)
TIMES = jnp.array([[0.0, 5.0], [1.0, jnp.inf]])
FAILURES = {
    "nan": lambda x: TWO_LAYERS.ttfs(x.at[1, 0].set(jnp.nan)),
    "negative": lambda x: TWO_LAYERS.record(x.at[0, 1].set(-1.2345678e-7)).times,
    "infinite": lambda x: TWO_LAYERS.ttfs(x.at[0, 1].set(-jnp.inf)),
    "final time": lambda x: TWO_LAYERS.spikes_until_t(x, 40.5 + x[0, 0], 90),
    "query times": lambda x: TWO_LAYERS.state_at_t(x, x[0] * -5.0),
    "weight": lambda x: with_leaf(
        TWO_LAYERS, lambda net: net.connections[1].weights, jnp.full((3, 2), x[1, 0]).at[2, 1].set(jnp.nan)
    ).ttfs(x),
    "parameter": lambda x: with_leaf(
        TWO_LAYERS, lambda net: net.neurons[1].tmem.value, jnp.array([20.0, -123456.78]) * x[1, 0]
    ).ttfs(x),
    "labels": lambda x: checked_labels(jnp.array([1, 7]) + x[1, 0].astype(int), (2, 3)),
    "many spikes": lambda x: TWO_LAYERS.spikes_until_t(x, 40.0, 2),
    "full list": lambda x: LISTED.record(x).times,
    "resets": lambda x: with_leaf(
        HIGH_RESET, lambda net: net.neurons[0].vreset.value, jnp.array([0.0, 1.5, 1.25]) * x[1, 0]
    ).ttfs(x * jnp.inf + 1),
    "endless": lambda x: PAIR.record(x + 3.25).times,
    "steps": lambda x: FEW_STEPS.record(x).times,
}
QUICK = ("nan", "negative", "full list", "resets", "labels", "endless")


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAILURES]
)
@needs_numba
def test_under_jit_the_sentence_is_that_of_eager_code(name, batched):
    query, x = FAILURES[name], TIMES
    if batched:
        query, x = jax.vmap(query), jnp.stack([TIMES, TIMES])
    expected = text_of_error(query, x)
    assert ("sample 0: " in expected) == batched
    codes = ("ABORTED", "INVALID_ARGUMENT")
    assert text_of_error(jax.jit(query), x) in [f"{code}: {expected}" for code in codes]


@needs_numba
@pytest.mark.parametrize(
    "query, arguments",
    [
        (busy, (ONE_BUSY[0],)),
        (jax.vmap(busy), (ONE_BUSY,)),
        (jax.vmap(jax.value_and_grad(loss), (None, 0)), (NET.connections[0].weights, ONE_BUSY)),
    ],
)
@needs_numba
def test_a_program_that_may_raise_calls_a_kernel_and_not_python(query, arguments):
    program = jax.jit(query).lower(*arguments).as_text()
    assert "eventsnn_raise_float64" in program and "callback" not in program


@pytest.mark.parametrize("jit", [jax.jit, eqx.filter_jit])
def test_without_numba_the_sentence_follows_a_single_line_of_traceback_and_nothing_else_is_logged(
    jit, caplog, monkeypatch
):
    def unavailable(dtype):
        raise NativeUnavailable("numba is not installed")

    monkeypatch.setattr(failure._RAISE, "target", unavailable)
    # Nothing that was lowered with the kernel is used.
    query = jit(lambda x: jax.vmap(busy)(x))
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jax.block_until_ready(query(ONE_BUSY))
    head, line, sentence = str(caught.value).splitlines()
    assert head.endswith("Traceback (most recent call last):") and line.startswith("  File")
    assert sentence.startswith(f"SimulationError: sample 3: {SENTENCE}")
    assert {record.getMessage() for record in caplog.records} <= {sentence}
    assert not any(record.exc_info for record in caplog.records)


def test_a_caller_who_catches_runtime_errors_gets_them_with_and_without_jit():
    assert issubclass(SimulationError, RuntimeError) and issubclass(jax.errors.JaxRuntimeError, RuntimeError)
