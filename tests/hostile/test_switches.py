"""An ordinary training step is quiet, and gives the same, under the switches with which JAX looks for mistakes."""

import contextlib
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from eventsnn import LIF, QIF, EvNN, FFEvNN, Refractory, trainable

KEY = jax.random.PRNGKey(0)

# As few events as show everything: both layers spike, recurrent neurons hear each other.
NETWORKS = {
    "LIF": lambda dtype: FFEvNN([2, 1], 1, LIF, 4.0, KEY, dtype=dtype, init_weights=[12.0, 12.0]),
    "QIF": lambda dtype: FFEvNN([2], 1, QIF, 6.0, KEY, dtype=dtype, init_weights=40.0),
    "Refractory": lambda dtype: FFEvNN([2], 1, Refractory(LIF), 6.0, KEY, dtype=dtype, init_weights=20.0),
    "one clock": lambda dtype: EvNN(LIF, 2, 1, 5.0, KEY, dtype=dtype, init_weights=MEETING, max_event_steps=8),
    "windows": lambda dtype: EvNN(
        LIF, 2, 1, 5.0, KEY, dtype=dtype, init_weights=MEETING, init_delays=1.0, max_event_steps=8, max_pending=6
    ),
}
# The input drives the first neuron, and that one the second.
MEETING = np.array([[0.0, 22.0], [0.0, 0.0], [11.0, 0.0]])

SWITCHES = {
    "jax_debug_nans": lambda: jax.debug_nans(True),
    "jax_check_tracer_leaks": jax.checking_leaks,
    "jax_numpy_rank_promotion": lambda: jax.numpy_rank_promotion("raise"),
    "jax_disable_jit": jax.disable_jit,
}


def training_step(network, dtype):
    """The loss before, the gradients, and the weights after a step of Adam on first spikes of a batch of two."""
    net = NETWORKS[network](dtype)
    x = jnp.asarray([[[0.5, 1.0]], [[1.5, jnp.inf]]], dtype)
    learned, fixed = eqx.partition(net, trainable(net))
    optimizer = optax.adam(1e-2)

    def loss(learned):
        times = jax.vmap(eqx.combine(learned, fixed).ttfs)(x)
        return jnp.mean((jnp.where(jnp.isfinite(times), times, net.max_solver_time) - 2.0) ** 2)

    @eqx.filter_jit
    def step(learned, state):
        value, gradient = eqx.filter_value_and_grad(loss)(learned)
        # Adam counts in integers, which it multiplies with floats.
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(gradient, state, learned)
        return value, gradient, eqx.apply_updates(learned, updates)

    value, gradient, learned = step(learned, optimizer.init(learned))
    return [np.asarray(leaf) for leaf in jax.tree.leaves((value, gradient, learned))]


@functools.cache
def without_switch(network, bits):
    with jax.enable_x64(bits == 64):
        return training_step(network, jnp.dtype(f"float{bits}"))


QUICK = {
    ("jax_debug_nans", "LIF", 32),
    ("jax_check_tracer_leaks", "LIF", 32),
    ("jax_numpy_rank_promotion", "LIF", 32),
    ("jax_numpy_rank_promotion", "one clock", 64),
    ("jax_disable_jit", "LIF", 32),
}
# Windows are many operations, and each of them takes long under the switches that look at every operation. Without
# `jit` only what a loop does is looked at, which does not depend on the precision; nor do the ranks of arrays.
TOO_LONG = {("jax_debug_nans", "windows"), ("jax_check_tracer_leaks", "windows"), ("jax_disable_jit", "windows")}
CASES = [
    pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
    for case in ((switch, network, bits) for network in NETWORKS for bits in (32, 64) for switch in SWITCHES)
    if case[:2] not in TOO_LONG and not (case[2] == 64 and (case[0] == "jax_disable_jit" or case[1] == "windows"))
]


@pytest.mark.parametrize(("switch", "network", "bits"), CASES)
def test_a_training_step_is_quiet_under(switch, network, bits):
    expected = without_switch(network, bits)
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.enable_x64(bits == 64))
        stack.enter_context(SWITCHES[switch]())
        found = training_step(network, jnp.dtype(f"float{bits}"))
    assert any(np.any(leaf != 0) for leaf in expected[1:])
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-4 if bits == 32 else 1e-9, atol=1e-6)
