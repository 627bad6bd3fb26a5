"""The reverse sweep over a whole run, with memory that does not grow with its length."""

import abc
import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from .lanes import NOTHING
from .rows import Channels

# How many bytes the starts of blocks may take, and how many starts there are at least.
_BYTES, _FEWEST = 8_000_000, 8


class Past(eqx.Module):
    """A run that is over: its iterations, the number of segments of each lane, and the first of those segments.

    A lane is whatever has a clock of its own: a neuron, or a network whose neurons share one.
    """

    iterations: Int[Array, ""]
    count: Int[Array, "batch lanes"]
    segments: PyTree


class AbstractMachine(eqx.Module):
    """What can be run forwards and swept backwards.

    Its runs have an `iteration`; how many segments each lane has `taken`; `segments`, the record of them, or `None`;
    and `first_segment`, how many had been taken when the record began.
    """

    @abc.abstractmethod
    def start(self, y0: Channels) -> Any:
        """A run at time 0 without a record."""

    @abc.abstractmethod
    def advance(self, run: Any) -> Any:
        """One iteration, recorded if the run has a record."""

    @abc.abstractmethod
    def sweep(self, segment: PyTree, number: Int[Array, "batch lanes"], ct: Any) -> Any:
        """The cotangents from just after one segment of every lane to just before it.

        `number` says which segment of the lane it is, -1 where there is none.
        """


class _Visit(NamedTuple):
    """On the way back through a run in blocks.

    - `target`: the block to sweep next; `block`: the block to repeat next, from `run`.
    - `starts`: the run at the start of some blocks.
    - `segments`: what the neurons did in the block repeated last.
    """

    target: Int[Array, ""]
    block: Int[Array, ""]
    run: Any
    starts: Any
    segments: PyTree
    ct: Any


def sweep_run(
    machine: AbstractMachine,
    y0: Channels,
    past: Past,
    max_iterations: int,
    ct: Any,
) -> Any:
    """From the end of a run to its start.

    The forward run wrote the first segments of every lane down. If no lane had more, they are swept
    as they are. Otherwise the run is repeated in blocks of as many iterations, and each block
    is swept when it has been repeated: the last first. Some starts of blocks are kept, evenly
    spaced, and a block is reached from the nearest one.
    """
    length = past.segments.t.shape[0] - 1
    fits = jnp.max(past.count) <= length
    blocks = jnp.where(fits, 1, -(-past.iterations // length))
    # Everything of a run but the segments, which are carried beside it.
    start = machine.start(y0)
    kept = _n_starts(start, -(-max_iterations // length))
    stride = -(-blocks // kept)

    def visit(now: _Visit) -> _Visit:
        first = now.run.taken
        run, segments = _repeat(machine, now.run, now.segments, jnp.where(fits, 0, length))
        count = jnp.where(fits, past.count, run.taken - first)
        reached = now.block == now.target
        ct = _sweep(machine, segments, first, jnp.where(reached, count, 0), now.ct)

        after = now.block + 1
        place = jnp.where(after % stride == 0, jnp.minimum(after // stride, kept), kept)
        starts = jax.tree.map(lambda rows, row: rows.at[place].set(row), now.starts, run)
        target = jnp.where(reached, now.target - 1, now.target)
        nearest = jnp.maximum(target, 0) // stride
        run = jax.tree.map(lambda rows, row: jnp.where(reached, rows[nearest], row), starts, run)
        return _Visit(target, jnp.where(reached, nearest * stride, after), run, starts, segments, ct)

    # One row more than needed: what is not kept lands there.
    starts = jax.tree.map(lambda leaf: jnp.zeros((kept + 1, *leaf.shape), leaf.dtype).at[0].set(leaf), start)
    begin = _Visit(blocks - 1, jnp.zeros_like(blocks), start, starts, past.segments, ct)
    return jax.lax.while_loop(lambda now: now.target >= 0, visit, begin).ct


def _n_starts(run: Any, blocks: int) -> int:
    """How many starts of blocks are kept: all that fit into little memory, but a few in any case."""
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(run))
    return max(min(blocks, _BYTES // max(size, 1)), min(blocks, _FEWEST))


def _repeat(machine: AbstractMachine, run: Any, segments: PyTree, iterations: Int[Array, ""]) -> tuple[Any, PyTree]:
    """Repeat that many iterations, and write them down from the first row on."""
    end = run.iteration + iterations
    run = eqx.tree_at(
        lambda run: (run.segments, run.first_segment),
        run,
        (segments, run.taken),
        is_leaf=lambda leaf: leaf is None,
    )
    run = jax.lax.while_loop(lambda run: run.iteration < end, lambda run: machine.advance(run), run)
    return eqx.tree_at(lambda run: run.segments, run, None), run.segments


def _sweep(
    machine: AbstractMachine,
    segments: PyTree,
    first: Int[Array, "batch lanes"],
    count: Int[Array, "batch lanes"],
    ct: Any,
) -> Any:
    """Back over `count` segments of each lane, the first of which was its segment number `first`."""

    def back(carry):
        row, ct = carry
        segment = jax.tree.map(lambda rows: rows[row], segments)
        kind = jnp.where(row < count, segment.kind, jnp.int8(NOTHING))
        number = jnp.where(row < count, first + row, -1)
        return row - 1, machine.sweep(eqx.tree_at(lambda s: s.kind, segment, kind), number, ct)

    return jax.lax.while_loop(lambda carry: carry[0] >= 0, back, (jnp.max(count) - 1, ct))[1]
