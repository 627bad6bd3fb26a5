"""The forward run of a layer: the loop, its spikes, and the states that were asked for."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .instants import time_since
from .iteration import Physics, iterate
from .lanes import NO_SLOT, NOTHING, ROOT, Lanes, Segment, start_lanes
from .rows import Channels
from .spike_list import SpikeList, append, empty_list


class Lookups(eqx.Module):
    """For every query time and neuron, the last segment that starts at or before it.

    A query is answered by one more solver step from there, so that asking changes nothing.

    - `times`: the query times.
    - `segment`: which segment of the neuron that is.
    - `t`, `y`: where it starts.
    """

    times: Float[Array, "batch times"]
    segment: Int[Array, "batch neurons times"]
    t: Float[Array, "batch neurons times"]
    y: Channels


class Run(eqx.Module):
    """A run in progress.

    - `first_segment`: how many segments each neuron had had when the record in `segments` began.
    """

    iteration: Int[Array, ""]
    lanes: Lanes
    spikes: SpikeList
    lookups: Lookups | None
    segments: Segment | None
    first_segment: Int[Array, "batch neurons"]

    @property
    def taken(self) -> Int[Array, "batch neurons"]:
        """How many segments each neuron has had."""
        return self.lanes.segments


def start_run(
    physics: Physics,
    y0: Channels,
    capacity: int,
    times: Float[Array, "batch times"] | None,
    recorded: int,
    slopes: bool = False,
) -> Run:
    """A run at its start, with room for `capacity` spikes per sample and `recorded` segments per neuron."""
    batch, dtype = y0[0].shape[0], y0[0].dtype
    lanes = start_lanes(y0, physics.passing, *physics.control.init(y0))
    lookups = None if times is None else start_lookups(y0, times)
    segments = empty_segments(y0, recorded) if recorded else None
    return Run(
        jnp.zeros((), jnp.int32), lanes, empty_list(batch, capacity, dtype, slopes), lookups, segments, lanes.segments
    )


def start_lookups(y0: Channels, times: Float[Array, "batch times"]) -> Lookups:
    """All queries before the first segment."""
    shape = (*y0[0].shape, times.shape[1])
    start = tuple(jnp.broadcast_to(channel[..., None], shape) for channel in y0)
    return Lookups(times, jnp.zeros(shape, jnp.int32), jnp.zeros(shape, times.dtype), start)


def empty_segments(y0: Channels, recorded: int) -> Segment:
    """Room for `recorded` segments per neuron, and one more row where the rest are dropped."""

    def room(dtype):
        return jnp.zeros((recorded + 1, *y0[0].shape), dtype)

    dtype = y0[0].dtype
    return Segment(room(jnp.int8), room(dtype), room(dtype), room(jnp.int32), tuple(room(dtype) for _ in y0))


def finish(physics: Physics, run: Run, max_iterations: int) -> Run:
    """Iterate until every neuron is done."""

    def running(run: Run):
        return (run.iteration < max_iterations) & ~jnp.all(run.lanes.done)

    run = jax.lax.while_loop(running, lambda run: advance(physics, run), run)
    if run.lookups is None:
        return run
    return eqx.tree_at(lambda run: run.lookups, run, _look_up(physics, run.lookups, run.lanes))


def advance(physics: Physics, run: Run) -> Run:
    """One iteration, with its spikes and, where they are wanted, its segments and its lookups."""
    lookups = None if run.lookups is None else _look_up(physics, run.lookups, run.lanes)
    lanes, event = iterate(physics, run.lanes)
    slopes = jnp.where(event.kind == ROOT, event.slope, jnp.inf)
    times = jnp.minimum(lanes.t, physics.t_end[:, None])
    spikes, slot = append(run.spikes, event.spiked, times, slopes)
    segments = None
    if run.segments is not None:
        slot = jnp.where(event.spiked, slot, NO_SLOT)
        segment = Segment(event.kind.astype(jnp.int8), run.lanes.t, event.h, slot, run.lanes.y)
        segments = _store(run.segments, segment, run.lanes.segments - run.first_segment)
    return Run(run.iteration + 1, lanes, spikes, lookups, segments, run.first_segment)


def _store(segments: Segment, segment: Segment, row: Int[Array, "batch neurons"]) -> Segment:
    """Write what each lane did as its next segment; what does not fit lands in the last row."""
    last = segments.t.shape[0] - 1
    row = jnp.where(segment.kind == NOTHING, last, jnp.minimum(row, last))
    sample, neuron = jnp.arange(row.shape[0])[:, None], jnp.arange(row.shape[1])
    return jax.tree.map(lambda rows, new: rows.at[row, sample, neuron].set(new), segments, segment)


def _look_up(physics: Physics, lookups: Lookups, lanes: Lanes) -> Lookups:
    # What happens at the instant of a query comes before it.
    until = lookups.times + physics.instant_width(lookups.times)
    begun = lanes.t[..., None] <= until[:, None, :]
    return Lookups(
        lookups.times,
        jnp.where(begun, lanes.segments[..., None], lookups.segment),
        jnp.where(begun, lanes.t[..., None], lookups.t),
        tuple(jnp.where(begun, new[..., None], old) for new, old in zip(lanes.y, lookups.y, strict=True)),
    )


def answer(physics: Physics, lookups: Lookups) -> Channels:
    """The state at every query time: one solver step from where its segment starts."""

    def one(t, y, time):
        return physics.stepper.advance(physics.rows, t, y, time_since(t, time[:, None]))

    return jax.vmap(one, in_axes=(2, 2, 1), out_axes=2)(lookups.t, lookups.y, lookups.times)
