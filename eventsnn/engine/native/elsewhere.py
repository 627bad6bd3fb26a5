"""The same run by the programs of XLA, for devices that are no CPU.

A program that is traced where the CPU is the default may be lowered for another device. So it holds both: a call of a
kernel, and a run by XLA that is only traced when the program is lowered for a device that needs it.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..batching import as_shared, batched_first
from ..layer_run import LayerRun


class Elsewhere(eqx.Module):
    """A run by XLA.

    - `numbers`: arrays, with a leading axis that is the batch or has length 1; without it when the run of one sample is
        described.
    - `function`: the run of one sample from its numbers.
    """

    numbers: PyTree[Array]
    function: Callable[[Any], LayerRun] = eqx.field(static=True)


def elsewhere(function: Callable[[Any], LayerRun], given: PyTree) -> Elsewhere:
    """The run of one sample by `function(given)`, which must take all its arrays from there."""
    numbers, rest = eqx.partition(given, eqx.is_array)
    return Elsewhere(numbers, lambda numbers: function(eqx.combine(numbers, rest)))


def on_cpu_or_elsewhere(on_cpu: Callable[[Any], Any], by_xla: Callable[[Any], Any], arguments: PyTree) -> Any:
    """`on_cpu(arguments)` in programs for CPUs, `by_xla(arguments)` in others; both give arrays of the same shapes.

    `jax.lax.platform_dependent` traces all that it may choose from, but the primitive of `batched_first` says its
    shapes without being traced. The run by XLA takes seconds.
    """

    def shapes(arguments):
        return jax.eval_shape(on_cpu, arguments)

    return jax.lax.platform_dependent(arguments, cpu=on_cpu, default=batched_first(by_xla, shapes))


def run_by_xla(elsewhere: Elsewhere, batch: int) -> LayerRun:
    """The runs of a batch."""
    shared = jax.tree.map(lambda leaf: leaf.shape[0] == 1, elsewhere.numbers)
    numbers = jax.tree.map(lambda leaf, once: leaf[0] if once else leaf, elsewhere.numbers, shared)
    axes = jax.tree.map(lambda once: None if once else 0, shared)
    return jax.vmap(elsewhere.function, in_axes=(axes,), axis_size=batch)(numbers)


def sweep_by_xla(
    elsewhere: Elsewhere, moving: PyTree, like: PyTree, batch: int, by_times: Array, by_states: Array | None
) -> PyTree:
    """The cotangents of those numbers that are `moving`, with the leading axes of `like`.

    The run is repeated, since a kernel, whose trace is what is kept, has not made it.
    """
    # What is shared by the runs may receive something else from each.
    numbers = jax.tree.map(
        lambda leaf, like: jnp.broadcast_to(leaf, (max(leaf.shape[0], like.shape[0]), *leaf.shape[1:])),
        elsewhere.numbers,
        like,
    )
    moved, fixed = eqx.partition(numbers, moving)

    def times_and_states(moved):
        run = run_by_xla(Elsewhere(eqx.combine(moved, fixed), elsewhere.function), batch)
        return run.times, run.states

    _, pull_back = jax.vjp(times_and_states, moved)
    (by_moved,) = pull_back((by_times, by_states))
    return jax.tree.map(as_shared, by_moved, eqx.filter(like, moving))
