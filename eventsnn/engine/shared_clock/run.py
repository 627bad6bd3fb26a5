"""The forward run of a network: the loop, its spikes, and the states that were asked for."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..instants import instant_width
from ..lanes import NO_SLOT, NOTHING
from ..rows import Channels
from ..run import Lookups, start_lookups
from ..spike_list import SpikeList, append, empty_list
from .clock import Clock, start_clock
from .forward import ROOT, Event, Physics, iterate


class Segment(eqx.Module):
    """What an iteration did: a spike heard by some neurons at (`t`, `y`), then a step of size `h`, and how it ended.

    - `kind`, `source`, `target`: as in `Event`.
    - `heard`: where the spikes that were heard stand in the list, -1 if they were not on their way.
    - `slot`: where the spikes at its end stand in the list, `NO_SLOT` for an event that is not a spike, -1 for none.
    """

    kind: Int[Array, "*segments batch 1"]
    t: Float[Array, "*segments batch 1"]
    h: Float[Array, "*segments batch 1"]
    target: Int[Array, "*segments batch 1"]
    source: Int[Array, "*segments batch neurons"]
    heard: Int[Array, "*segments batch neurons"]
    slot: Int[Array, "*segments batch neurons"]
    y: Channels


class Run(eqx.Module):
    """A run in progress.

    - `first_segment`: how many segments each sample had had when the record in `segments` began.
    """

    iteration: Int[Array, ""]
    clock: Clock
    spikes: SpikeList
    lookups: Lookups | None
    segments: Segment | None
    first_segment: Int[Array, "batch 1"]

    @property
    def taken(self) -> Int[Array, "batch 1"]:
        """How many segments each sample has had."""
        return self.clock.segments


def start_run(
    physics: Physics,
    y0: Channels,
    capacity: int,
    times: Float[Array, "batch times"] | None,
    recorded: int,
    slopes: bool = False,
) -> Run:
    """A run at time 0, with room for `capacity` spikes per sample and `recorded` segments."""
    batch, dtype = y0[0].shape[0], y0[0].dtype
    lists = physics.wiring.inputs.times.shape[1]
    clock = start_clock(y0, *physics.motion.start(y0, physics.t_stop), lists, physics.pending)
    lookups = None if times is None else start_lookups(y0, times)
    segments = _empty_segments(y0, recorded) if recorded else None
    spikes = empty_list(batch, capacity, dtype, slopes)
    return Run(jnp.zeros((), jnp.int32), clock, spikes, lookups, segments, clock.segments)


def _empty_segments(y0: Channels, recorded: int) -> Segment:
    """Room for `recorded` segments, and one more row where the rest are dropped."""
    (batch, neurons), dtype = y0[0].shape, y0[0].dtype

    def room(size, dtype):
        return jnp.zeros((recorded + 1, batch, size), dtype)

    return Segment(
        kind=room(1, jnp.int8),
        t=room(1, dtype),
        h=room(1, dtype),
        target=room(1, jnp.int32),
        source=room(neurons, jnp.int32),
        heard=room(neurons, jnp.int32),
        slot=room(neurons, jnp.int32),
        y=tuple(room(neurons, dtype) for _ in y0),
    )


def finish(physics: Physics, run: Run, max_iterations: int) -> Run:
    """Iterate until every sample is done."""

    def running(run: Run):
        return (run.iteration < max_iterations) & ~jnp.all(run.clock.done)

    run = jax.lax.while_loop(running, lambda run: advance(physics, run), run)
    if run.lookups is None:
        return run
    return eqx.tree_at(lambda run: run.lookups, run, _look_up(run.lookups, run.clock, run.clock.y))


def advance(physics: Physics, run: Run) -> Run:
    """One iteration, with its spikes and, where they are wanted, its segment and its lookups."""
    clock, event = iterate(physics, run.clock, run.spikes.count)
    times = jnp.broadcast_to(jnp.minimum(clock.t, physics.t_end)[:, None], event.spiked.shape)
    slopes = jnp.where((event.kind == ROOT)[:, None], event.slope, jnp.inf)
    spikes, slot = append(run.spikes, event.spiked, times, slopes)
    lookups = None if run.lookups is None else _look_up(run.lookups, run.clock, event.y)
    segments = None
    if run.segments is not None:
        segments = _store(run.segments, _segment(run.clock, event, slot), run.clock.segments - run.first_segment)
    return Run(run.iteration + 1, clock, spikes, lookups, segments, run.first_segment)


def _segment(clock: Clock, event: Event, slot: Int[Array, "batch neurons"]) -> Segment:
    return Segment(
        kind=jnp.where(event.counts, event.kind, NOTHING).astype(jnp.int8)[:, None],
        t=clock.t[:, None],
        h=event.h[:, None],
        target=event.target[:, None],
        source=event.source,
        heard=event.slot,
        slot=jnp.where(event.spiked, slot, jnp.where(event.crossed, NO_SLOT, -1)),
        y=clock.y,
    )


def _store(segments: Segment, segment: Segment, row: Int[Array, "batch 1"]) -> Segment:
    """Write what each sample did as its next segment; what does not fit lands in the last row."""
    last = segments.t.shape[0] - 1
    row = jnp.where(segment.kind == NOTHING, last, jnp.minimum(row, last))[:, 0]
    sample = jnp.arange(row.shape[0], dtype=jnp.int32)
    return jax.tree.map(lambda rows, new: rows.at[row, sample].set(new), segments, segment)


def _look_up(lookups: Lookups, clock: Clock, y: Channels) -> Lookups:
    """Note for the queries behind it the state `y` that a segment starts its step from."""
    # What happens at the instant of a query comes before it.
    begun = (clock.t[:, None] <= lookups.times + instant_width(lookups.times))[:, None, :]
    return Lookups(
        lookups.times,
        jnp.where(begun, clock.segments[..., None], lookups.segment),
        jnp.where(begun, clock.t[:, None, None], lookups.t),
        tuple(jnp.where(begun, new[..., None], old) for new, old in zip(y, lookups.y, strict=True)),
    )
