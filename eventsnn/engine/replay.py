"""The reverse sweep over a whole run, with memory that does not grow with its length."""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from .adjoint import Cotangents, QueryCotangents, add_queries, sweep_back
from .iteration import Physics
from .lanes import NOTHING, Segment
from .rows import Channels
from .run import Run, advance, start_run

# How many bytes the starts of blocks may take, and how many starts there are at least.
_BYTES, _FEWEST = 8_000_000, 8


class Past(eqx.Module):
    """A run that is over: its iterations, the number of segments of each neuron, and the first of those segments."""

    iterations: Int[Array, ""]
    count: Int[Array, "batch neurons"]
    segments: Segment


class _Visit(NamedTuple):
    """On the way back through a run in blocks.

    - `target`: the block to sweep next; `block`: the block to repeat next, from `run`.
    - `starts`: the run at the start of some blocks.
    - `segments`: what the neurons did in the block repeated last.
    """

    target: Int[Array, ""]
    block: Int[Array, ""]
    run: Run
    starts: Run
    segments: Segment
    ct: Cotangents


def sweep_run(
    physics: Physics,
    wanted: PyTree,
    by_spike: Float[Array, "batch capacity"],
    y0: Channels,
    past: Past,
    max_iterations: int,
    ct: Cotangents,
    by_query: QueryCotangents | None,
) -> Cotangents:
    """From the end of a run to its start.

    The forward run wrote the first segments of every neuron down. If no neuron had more, they are
    swept as they are. Otherwise the run is repeated in blocks of as many iterations, and each block
    is swept when it has been repeated: the last first. Some starts of blocks are kept, evenly
    spaced, and a block is reached from the nearest one.
    """
    length = past.segments.t.shape[0] - 1
    fits = jnp.max(past.count) <= length
    blocks = jnp.where(fits, 1, -(-past.iterations // length))
    # Everything of a run but the segments, which are carried beside it.
    start = eqx.tree_at(lambda run: run.segments, start_run(physics, y0, 0, None, 1), None)
    kept = _n_starts(start, -(-max_iterations // length))
    stride = -(-blocks // kept)
    if by_query is not None:
        ct = add_queries(by_query, past.count, ct)

    def visit(now: _Visit) -> _Visit:
        first = now.run.lanes.segments
        run, segments = _repeat(physics, now.run, now.segments, jnp.where(fits, 0, length))
        count = jnp.where(fits, past.count, run.lanes.segments - first)
        reached = now.block == now.target
        ct = _sweep(physics, wanted, by_spike, segments, first, jnp.where(reached, count, 0), now.ct, by_query)

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


def _n_starts(run: Run, blocks: int) -> int:
    """How many starts of blocks are kept: all that fit into little memory, but a few in any case."""
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(run))
    return max(min(blocks, _BYTES // max(size, 1)), min(blocks, _FEWEST))


def _repeat(physics: Physics, run: Run, segments: Segment, iterations: Int[Array, ""]) -> tuple[Run, Segment]:
    """Repeat that many iterations, and write them down from the first row on."""
    end = run.iteration + iterations
    run = eqx.tree_at(
        lambda run: (run.segments, run.first_segment),
        run,
        (segments, run.lanes.segments),
        is_leaf=lambda leaf: leaf is None,
    )
    run = jax.lax.while_loop(lambda run: run.iteration < end, lambda run: advance(physics, run), run)
    return eqx.tree_at(lambda run: run.segments, run, None), _written(run)


def _written(run: Run) -> Segment:
    if run.segments is None:
        raise ValueError("this run was not recorded")
    return run.segments


def _sweep(
    physics: Physics,
    wanted: PyTree,
    by_spike: Float[Array, "batch capacity"],
    segments: Segment,
    first: Int[Array, "batch neurons"],
    count: Int[Array, "batch neurons"],
    ct: Cotangents,
    by_query: QueryCotangents | None,
) -> Cotangents:
    """Back over `count` segments of each lane, the first of which was its segment number `first`."""

    def back(carry):
        row, ct = carry
        segment = jax.tree.map(lambda rows: rows[row], segments)
        kind = jnp.where(row < count, segment.kind, jnp.int8(NOTHING))
        ct = sweep_back(physics, wanted, by_spike, eqx.tree_at(lambda s: s.kind, segment, kind), ct)
        if by_query is not None:
            ct = add_queries(by_query, jnp.where(row < count, first + row, -1), ct)
        return row - 1, ct

    return jax.lax.while_loop(lambda carry: carry[0] >= 0, back, (jnp.max(count) - 1, ct))[1]
