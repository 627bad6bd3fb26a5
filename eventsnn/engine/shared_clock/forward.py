"""One iteration of a network whose neurons share a clock.

All neurons of a sample step together. A step in which one of them may cross its threshold is not kept: the earliest
crossing is located, and the next step of all ends there.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..crossing import crossing_resolution, shortest_step
from ..instants import PreciseTime, instant_width, rounding_width, time_at
from ..iteration import next_weights
from ..lanes import BY_ARRIVAL, BY_SPIKE, ENDLESS, FINE, NO_JUMP, NOT_FINITE, QUEUE_FULL, RESET_HIGH, STEP_SMALL
from ..rows import Channels, Rows, all_finite, select
from ..standing import Situation, after_reset, next_jump
from .clock import FREE, Clock, Queue, Wiring
from .motion import AbstractMotion, Ahead

# How a segment ends: without a step, with one as long as it likes, with a spike that arrives, with the run, with a
# crossing. 0 is for a segment that does not exist.
HOLD, STEP, ARRIVAL, END, ROOT = range(1, 6)

_Reals = Float[Array, "batch neurons"]
_Bools = Bool[Array, "batch neurons"]
_Integers = Int[Array, "batch neurons"]
_Each = Float[Array, " batch"]


class Physics(eqx.Module):
    """Everything about a network that does not change during a run.

    - `outputs`: a sample is done when each of these neurons has spiked `stop_after` times; `None` for no such limit.
    - `capacity`: how many spikes there may be, and `at_most` how many without time passing.
    - `pending`: how many may be on their way to a neuron.
    """

    rows: Rows
    wiring: Wiring
    motion: AbstractMotion
    t_end: _Each
    outputs: Bool[Array, " neurons"]
    stop_after: int | None = eqx.field(static=True)
    capacity: int = eqx.field(static=True)
    at_most: int = eqx.field(static=True)
    pending: int = eqx.field(static=True)
    min_slope: float = eqx.field(static=True)

    @property
    def t_stop(self) -> _Each:
        """The end of the run, to the end of its last instant."""
        return self.t_end + instant_width(self.t_end)


class Event(NamedTuple):
    """What became of an iteration.

    - `counts`: whether anything happened. A step that is not kept does not count.
    - `y`: the state after what was heard at the start.
    - `source`: the row of the weights that each neuron heard, -1 for none.
    - `slot`: where the spike that it heard stands in the list, if it had been on its way.
    - `kind`, `h`: how it ended, and the size of the step.
    - `crossed`, `spiked`: who reached the threshold at its end, and for whom this is a spike.
    - `target`: whose crossing its size is that of.
    - `slope`: dg/dt of every neuron there.
    """

    counts: Bool[Array, " batch"]
    y: Channels
    source: _Integers
    slot: _Integers
    kind: Int[Array, " batch"]
    h: _Each
    crossed: _Bools
    spiked: _Bools
    target: Int[Array, " batch"]
    slope: _Reals


class _Heard(NamedTuple):
    """What arrives now, one spike for each neuron.

    - `y`, `arrival`, `waiting`, `queue`: what it makes of these.
    - `source`, `slot`: as in `Event`.
    - `more`: whether there is more to arrive now.
    - `due`: when the next spike arrives.
    - `full`: to whom more spikes are on their way than there is room for.
    """

    y: Channels
    arrival: Int[Array, "batch lists"]
    waiting: _Bools
    queue: Queue | None
    source: _Integers
    slot: _Integers
    more: Bool[Array, " batch"]
    due: PreciseTime
    full: _Bools


def iterate(physics: Physics, clock: Clock, count: Int[Array, " batch"]) -> tuple[Clock, Event]:
    """One step of every sample that is not done, or one try at a step. `count` is how many spikes there were."""
    rows, motion, live = physics.rows, physics.motion, ~clock.done
    shape = clock.spikes.shape
    neuron = jnp.arange(shape[1], dtype=jnp.int32)[None]
    heard = _hear(physics, clock)
    y, t = heard.y, jnp.broadcast_to(clock.t[:, None], shape)
    # A neuron that its reset left above threshold is not lifted there by what it hears at the same instant, which may be
    # its own spike with weight 0.
    reset_high = (clock.jump == BY_SPIKE) & (rows.condition(t, clock.y) >= 0)
    jump = jnp.where((heard.source >= 0) & ~reset_high, BY_ARRIVAL, clock.jump)
    arrives = heard.due.t <= physics.t_stop
    limit = jax.tree.map(lambda due, stop: jnp.where(arrives, due, stop), heard.due, time_at(physics.t_stop))
    room, landing = jnp.maximum(clock.time.until(limit), 0), clock.target != FREE
    wish, waits = jnp.where(landing, clock.x, clock.h), ~live | heard.more
    # More arrives at this instant, but somewhat later.
    jumped = jnp.any(jump != NO_JUMP, axis=1)
    soon = ~waits & arrives & jumped & (clock.instant + room <= instant_width(clock.t))
    # What is left after the step would be no step, but rounding. To a crossing it is a step, unless both are rounded to
    # the same time.
    least = jnp.where(landing, rounding_width(limit.t), instant_width(limit.t))
    to_limit = ~waits & (soon | (wish >= room - least))
    h = jnp.where(waits, 0, jnp.where(to_limit, room, wish))
    settled = jnp.broadcast_to((~waits & ~soon)[:, None], shape)
    situation = Situation(jump, clock.passing, clock.g_at_spike, settled, instant_width(t))
    at_arrival, width = to_limit & arrives, instant_width(clock.t + h)
    shortest, aimed = shortest_step(physics.t_end), landing & (clock.target >= 0)
    ahead = Ahead(situation, at_arrival[:, None], width[:, None], shortest, ~jnp.all(clock.done))
    step, look = motion.attempt(rows, t, y, jnp.broadcast_to(h[:, None], shape), clock.memory, ahead)
    standing = look.standing
    at_once = standing.instant & live[:, None]
    any_at_once = jnp.any(at_once, axis=1)
    still = waits | any_at_once

    moving, finite = (h > 0) & ~still, all_finite(step)
    to_limit, at_arrival = to_limit & ~still, at_arrival & ~still
    is_target = aimed[:, None] & (neuron == clock.target[:, None])
    # Neurons that cross at the time of the crossing that this step is for spike with it. Both crossings are only
    # located so far, so that each could seem to be the earlier one.
    same = rounding_width(clock.t + h) + 2 * crossing_resolution(h)
    earliest, tied_now = jnp.where(aimed, clock.x - same, jnp.inf), aimed[:, None] & clock.tied
    early = (look.place < earliest[:, None]) & ~is_target & ~tied_now & settled
    kept = moving & jnp.all(finite, axis=1) & (landing | look.keep)
    places = jnp.where(early, look.place, jnp.inf)
    first, soonest = jnp.argmin(places, axis=1).astype(jnp.int32), jnp.min(places, axis=1, keepdims=True)
    search = kept & jnp.any(early, axis=1)
    # Equal neurons have the same place, but at the end of the next step rounding may leave one of them below.
    tied = look.crosses & (places <= soonest + 4 * jnp.finfo(places.dtype).eps * soonest)
    target, x = motion.locate(rows, clock.t, y, h, first, look, search)
    # A step of no length is one as well: at the end of the run, or to a crossing that is here.
    passed = (kept & ~search) | ((to_limit | (landing & ~still)) & ~moving)

    # A spike at the instant of an arrival is decided by the arrival; other events, such as the end of refractoriness,
    # come before it.
    y_end = select(passed[:, None], step, y)
    emits = rows.emits(y_end)
    reached = look.crosses | is_target | (tied_now & standing.below)
    at_root = (passed & aimed)[:, None] & reached & ~(at_arrival[:, None] & emits)
    root = jnp.any(at_root, axis=1)
    kind = jnp.where(root, ROOT, jnp.where(to_limit, jnp.where(arrives, ARRIVAL, END), STEP))
    kind = jnp.where(passed, kind, HOLD)
    crossed = at_once | at_root
    y_new = select(crossed, rows.reset(y_end, crossed), y_end)
    spiked = crossed & emits
    ends_at = jnp.where(at_arrival, jnp.argmax(at_root, axis=1).astype(jnp.int32), clock.target)
    time = jax.tree.map(
        lambda old, there, new: jnp.where(passed, jnp.where(to_limit, there, new), old),
        clock.time,
        limit,
        clock.time.after(h),
    )

    # A step of which nothing is kept but that some neuron may cross in it says nothing about the size of the next.
    decided = moving & ~landing & ~search
    too_small = decided & ~to_limit & (h < shortest)
    many = jnp.where(time.t > clock.t, 0, clock.at_once) + jnp.sum(crossed, axis=1, dtype=jnp.int32)
    status = jnp.where((decided & look.keep)[:, None] & ~finite | ~all_finite(y_new), NOT_FINITE, FINE)
    status = jnp.where(standing.stuck & live[:, None], RESET_HIGH, status)
    status = jnp.where(too_small[:, None], STEP_SMALL, status)
    status = jnp.where((many > physics.at_most)[:, None] & crossed, ENDLESS, status)
    status = jnp.where(heard.full, QUEUE_FULL, status)
    status = jnp.where(clock.done[:, None], clock.status, status)
    failed = jnp.any(status != FINE, axis=1)
    crossed, spiked = crossed & ~failed[:, None], spiked & ~failed[:, None]
    spikes = clock.spikes + spiked.astype(jnp.int32)
    done = clock.done | failed | (passed & (kind == END))
    done = done | (count + jnp.sum(spiked, axis=1, dtype=jnp.int32) > physics.capacity)
    if physics.stop_after is not None:
        done = done | jnp.all((spikes >= physics.stop_after) | ~physics.outputs[None], axis=1)
    counts = live & ~failed & (passed | any_at_once | jnp.any(heard.source >= 0, axis=1))

    next_h = jnp.where(look.keep & to_limit, jnp.maximum(look.next_h, clock.h), look.next_h)
    h = jnp.where(passed, h, 0)
    before = jnp.where(((h > 0) & ~soon)[:, None], NO_JUMP, jump)
    reset = after_reset(rows, y_end, y_new, jnp.where(at_once, look.g0, look.g1), spiked)
    new = Clock(
        time=jax.tree.map(lambda old, new: jnp.where(failed, old, new), clock.time, time),
        y=y_new,
        h=jnp.where(decided, next_h, clock.h),
        memory=jax.tree.map(lambda a, b: jnp.where(decided[:, None], a, b), look.memory, clock.memory),
        arrival=heard.arrival,
        waiting=heard.waiting | spiked,
        queue=_note_sent(heard.queue, spiked, count),
        target=jnp.where(search, target, jnp.where(moving | passed, FREE, clock.target)),
        x=jnp.where(search, x, clock.x),
        tied=jnp.where(search[:, None], tied, clock.tied),
        instant=jnp.where(soon | (h == 0), clock.instant + h, 0),
        jump=next_jump(before, jnp.zeros(shape, bool), crossed, spiked),
        passing=reset.passing | (standing.passing & ~crossed),
        g_at_spike=jnp.where(crossed, reset.g_at_spike, clock.g_at_spike),
        spikes=spikes,
        at_once=many,
        segments=clock.segments + counts.astype(jnp.int32)[:, None],
        done=done,
        status=status,
    )
    return new, Event(counts, y, heard.source, heard.slot, kind, h, crossed, spiked, ends_at, look.slope)


def _hear(physics: Physics, clock: Clock) -> _Heard:
    """What arrives now: first what the network itself sent, then input."""
    wiring, live, shape = physics.wiring, ~clock.done, clock.spikes.shape
    sender = jnp.argmax(clock.waiting, axis=1).astype(jnp.int32)
    sends = live & jnp.any(clock.waiting, axis=1)
    waiting = clock.waiting & ~(sends[:, None] & (jnp.arange(shape[1], dtype=jnp.int32)[None] == sender[:, None]))
    queue, full = clock.queue, jnp.zeros(shape, bool)
    source = slot = jnp.full(shape, -1, jnp.int32)
    if queue is None or wiring.delays is None:
        source = jnp.broadcast_to(jnp.where(sends, sender, -1)[:, None], shape)
        next_due = time_at(jnp.full(shape[:1], jnp.inf, clock.t.dtype))
    else:
        queue, full = _send(wiring.delays, clock, queue, sender, sends)
        queue, source, slot = _receive(queue, clock.time, live)
        next_due = _earliest(queue.times)
    due = from_lists(wiring.inputs.times, clock.arrival, jnp.inf)
    # One after the other: input waits until the network has been heard.
    now = _column(clock.time).until(due) <= 0
    comes = (live & ~jnp.any(source >= 0, axis=1))[:, None] & now
    channel = jnp.where(comes, from_lists(wiring.inputs.sources, clock.arrival, 0), -1)
    source = jnp.maximum(source, channel)
    y = physics.rows.arrive(clock.y, next_weights(wiring.weights, jnp.maximum(source, 0)))
    arrival = clock.arrival + comes.astype(jnp.int32)
    from_input = time_at(jnp.min(from_lists(wiring.inputs.times, arrival, jnp.inf), axis=1))
    sooner = next_due.until(from_input) < 0
    next_due = jax.tree.map(lambda a, b: jnp.where(sooner, a, b), from_input, next_due)
    more = live & (jnp.any(waiting, axis=1) | (clock.time.until(next_due) <= 0))
    return _Heard(select(source >= 0, y, clock.y), arrival, waiting, queue, source, slot, more, next_due, full)


def _column(time: PreciseTime) -> PreciseTime:
    """The time of every sample with an axis for its neurons."""
    return jax.tree.map(lambda leaf: leaf[:, None], time)


def _earliest(times: PreciseTime) -> PreciseTime:
    """The earliest of the times of each sample."""
    times = jax.tree.map(lambda leaf: leaf.reshape(leaf.shape[0], -1), times)
    first = jnp.argmin(times.t, axis=1)[:, None]
    return jax.tree.map(lambda leaf: jnp.take_along_axis(leaf, first, axis=1)[:, 0], times)


def _send(delays: Array, clock: Clock, queue: Queue, sender, sends) -> tuple[Queue, _Bools]:
    """Put the spike of one neuron on its way to all that it reaches. Also for whom there was no room."""
    delays = delays[0, sender] if delays.shape[0] == 1 else delays[jnp.arange(len(sender), dtype=jnp.int32), sender]
    reached = sends[:, None] & jnp.isfinite(delays)
    arrives = _column(clock.time).after(jnp.where(reached, delays, 0))
    free = jnp.isinf(queue.times.t)
    place = jnp.argmax(free, axis=2).astype(jnp.int32)[..., None]
    goes = reached[..., None] & (jnp.arange(free.shape[2], dtype=jnp.int32)[None, None] == place) & free
    sent = jnp.take_along_axis(queue.sent, sender[:, None], axis=1)[..., None]
    new = Queue(
        jax.tree.map(lambda new, old: jnp.where(goes, new[..., None], old), arrives, queue.times),
        jnp.where(goes, sender[:, None, None], queue.sources),
        jnp.where(goes, sent, queue.slots),
        queue.sent,
    )
    return new, reached & ~jnp.any(free, axis=2)


def _receive(queue: Queue, time: PreciseTime, live) -> tuple[Queue, _Integers, _Integers]:
    """Take one spike out for each neuron to which one is due, with its source and its place in the list."""
    first = jnp.argmin(queue.times.t, axis=2).astype(jnp.int32)[..., None]
    columns = (queue.times, queue.sources, queue.slots)
    due, source, slot = jax.tree.map(lambda column: jnp.take_along_axis(column, first, axis=2)[..., 0], columns)
    hears = live[:, None] & (_column(time).until(due) <= 0)
    taken = hears[..., None] & (jnp.arange(queue.sources.shape[2], dtype=jnp.int32)[None, None] == first)
    times = PreciseTime(jnp.where(taken, jnp.inf, queue.times.t), jnp.where(taken, 0, queue.times.rest))
    queue = Queue(times, queue.sources, queue.slots, queue.sent)
    return queue, jnp.where(hears, source, -1), jnp.where(hears, slot, -1)


def _note_sent(queue: Queue | None, spiked: _Bools, count: Int[Array, " batch"]) -> Queue | None:
    """Remember where the new spikes stand in the list: behind those before, in the order of the neurons."""
    if queue is None:
        return None
    ones = spiked.astype(jnp.int32)
    slot = count[:, None] + jnp.cumsum(ones, axis=1, dtype=jnp.int32) - ones
    return Queue(queue.times, queue.sources, queue.slots, jnp.where(spiked, slot, queue.sent))


def from_lists(table: Float[Array, "batch lists arrivals"], index: Int[Array, "batch lists"], beyond):
    """The entry of each list at its `index`, or `beyond` if the list is shorter."""
    length = table.shape[-1]
    if length == 0:
        return jnp.full(index.shape, beyond, table.dtype)
    value = jnp.take_along_axis(table, jnp.minimum(index, length - 1)[..., None], axis=2)[..., 0]
    return jnp.where(index < length, value, jnp.asarray(beyond, table.dtype))
