"""One iteration of a network whose neurons share a clock.

All neurons of a sample step together. A step in which one of them may cross its threshold is not kept: the earliest
crossing is located, and the next step of all ends there.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..crossing import shortest_step, time_resolution
from ..iteration import next_weights
from ..lanes import ENDLESS, FINE, NOT_FINITE, QUEUE_FULL, RESET_HIGH, STEP_SMALL
from ..rows import Channels, Rows, all_finite, select
from .clock import FREE, Clock, Queue, Wiring
from .motion import AbstractMotion

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
    due: _Each
    full: _Bools


def iterate(physics: Physics, clock: Clock, count: Int[Array, " batch"]) -> tuple[Clock, Event]:
    """One step of every sample that is not done, or one try at a step. `count` is how many spikes there were."""
    rows, motion, live = physics.rows, physics.motion, ~clock.done
    shape = clock.spikes.shape
    neuron = jnp.arange(shape[1], dtype=jnp.int32)
    heard = _hear(physics, clock)
    y, t = heard.y, jnp.broadcast_to(clock.t[:, None], shape)
    g0 = rows.condition(t, y)
    jumped = clock.jumped | (heard.source >= 0)
    at_once = jumped & (g0 >= 0) & (live & ~heard.more)[:, None]
    any_at_once = jnp.any(at_once, axis=1)
    still = ~live | heard.more | any_at_once

    limit = jnp.minimum(heard.due, physics.t_end)
    room, landing = limit - clock.t, clock.target != FREE
    wish = jnp.where(landing, clock.x, clock.h)
    to_limit = ~still & ((wish >= room) | (clock.t + wish >= limit))
    h = jnp.where(still, 0, jnp.where(to_limit, room, wish))
    step, look = motion.attempt(rows, t, y, jnp.broadcast_to(h[:, None], shape), g0, clock.memory, ~jnp.all(clock.done))

    moving, finite = h > 0, all_finite(step)
    aimed = landing & (clock.target >= 0)
    is_target = aimed[:, None] & (neuron == clock.target[:, None])
    # Whoever crosses a hair before or behind the neuron whose crossing this is spikes with it.
    earliest = jnp.where(aimed, h - time_resolution(clock.t + h), jnp.inf)
    early = (look.place < earliest[:, None]) & ~is_target
    kept = moving & jnp.all(finite, axis=1) & (landing | look.keep)
    first = jnp.argmin(jnp.where(early, look.place, jnp.inf), axis=1).astype(jnp.int32)
    search = kept & ~still & jnp.any(early, axis=1)
    target, x = motion.locate(rows, clock.t, y, h, first, look, search)
    # A step of no length is one as well: at the end of the run, or to a crossing that is here.
    passed = (kept & ~search) | ((to_limit | (landing & ~still)) & ~moving)

    # A crossing that cannot be told from an arrival is decided by the arrival.
    arrives = heard.due <= physics.t_end
    root = passed & aimed & ~(to_limit & arrives)
    kind = jnp.where(root, ROOT, jnp.where(to_limit, jnp.where(arrives, ARRIVAL, END), STEP))
    kind = jnp.where(passed, kind, HOLD)
    crossed = at_once | (root[:, None] & (look.crosses | is_target))
    y_end = select(passed[:, None], step, y)
    y_new = select(crossed, rows.reset(y_end, crossed), y_end)
    spiked = crossed & rows.emits(y_end)
    t_new = jnp.where(passed, jnp.where(to_limit, limit, jnp.minimum(clock.t + h, limit)), clock.t)

    # A step of which nothing is kept but that some neuron may cross in it says nothing about the size of the next.
    decided = moving & ~landing & ~search
    too_small = decided & ~to_limit & (h < shortest_step(clock.t, physics.t_end))
    many = jnp.where(t_new > clock.t, 0, clock.at_once) + jnp.sum(crossed, axis=1, dtype=jnp.int32)
    status = jnp.where((decided & look.keep)[:, None] & ~finite | ~all_finite(y_new), NOT_FINITE, FINE)
    status = jnp.where(at_once & clock.reset & (heard.source < 0), RESET_HIGH, status)
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
        done = done | jnp.all((spikes >= physics.stop_after) | ~physics.outputs, axis=1)
    counts = live & ~failed & (passed | any_at_once | jnp.any(heard.source >= 0, axis=1))

    next_h = jnp.where(look.keep & to_limit, jnp.maximum(look.next_h, clock.h), look.next_h)
    moved = (t_new > clock.t)[:, None]
    new = Clock(
        t=jnp.where(failed, clock.t, t_new),
        y=y_new,
        h=jnp.where(decided, next_h, clock.h),
        memory=jax.tree.map(lambda a, b: jnp.where(decided[:, None], a, b), look.memory, clock.memory),
        arrival=heard.arrival,
        waiting=heard.waiting | spiked,
        queue=_note_sent(heard.queue, spiked, count),
        target=jnp.where(search, target, jnp.where(moving | passed, FREE, clock.target)),
        x=jnp.where(search, x, clock.x),
        jumped=crossed | (jumped & ~moved),
        reset=spiked | (clock.reset & ~moved & (heard.source < 0) & ~crossed),
        spikes=spikes,
        at_once=many,
        segments=clock.segments + counts.astype(jnp.int32)[:, None],
        done=done,
        status=status,
    )
    h = jnp.where(passed, h, 0)
    return new, Event(counts, y, heard.source, heard.slot, kind, h, crossed, spiked, clock.target, look.slope)


def _hear(physics: Physics, clock: Clock) -> _Heard:
    """What arrives now: first what the network itself sent, then input."""
    wiring, live, shape = physics.wiring, ~clock.done, clock.spikes.shape
    sender = jnp.argmax(clock.waiting, axis=1).astype(jnp.int32)
    sends = live & jnp.any(clock.waiting, axis=1)
    waiting = clock.waiting & ~(sends[:, None] & (jnp.arange(shape[1], dtype=jnp.int32) == sender[:, None]))
    queue, full = clock.queue, jnp.zeros(shape, bool)
    source = slot = jnp.full(shape, -1, jnp.int32)
    if queue is None or wiring.delays is None:
        source = jnp.broadcast_to(jnp.where(sends, sender, -1)[:, None], shape)
        next_due = jnp.full(shape[:1], jnp.inf, clock.t.dtype)
    else:
        queue, full = _send(wiring.delays, clock, queue, sender, sends)
        queue, source, slot = _receive(queue, clock.t, live)
        next_due = jnp.min(queue.times, axis=(1, 2))
    due = from_lists(wiring.inputs.times, clock.arrival, jnp.inf)
    # One after the other: input waits until the network has been heard.
    comes = (live & ~jnp.any(source >= 0, axis=1))[:, None] & (due <= clock.t[:, None])
    channel = jnp.where(comes, from_lists(wiring.inputs.sources, clock.arrival, 0), -1)
    source = jnp.maximum(source, channel)
    y = physics.rows.arrive(clock.y, next_weights(wiring.weights, jnp.maximum(source, 0)))
    arrival = clock.arrival + comes.astype(jnp.int32)
    next_due = jnp.minimum(next_due, jnp.min(from_lists(wiring.inputs.times, arrival, jnp.inf), axis=1))
    more = live & (jnp.any(waiting, axis=1) | (next_due <= clock.t))
    return _Heard(select(source >= 0, y, clock.y), arrival, waiting, queue, source, slot, more, next_due, full)


def _send(delays: Array, clock: Clock, queue: Queue, sender, sends) -> tuple[Queue, _Bools]:
    """Put the spike of one neuron on its way to all that it reaches. Also for whom there was no room."""
    delays = delays[0, sender] if delays.shape[0] == 1 else delays[jnp.arange(len(sender), dtype=jnp.int32), sender]
    arrives = jnp.where(sends[:, None], clock.t[:, None] + delays, jnp.inf)
    free = jnp.isinf(queue.times)
    place = jnp.argmax(free, axis=2).astype(jnp.int32)[..., None]
    goes = jnp.isfinite(arrives)[..., None] & (jnp.arange(queue.times.shape[2], dtype=jnp.int32) == place) & free
    sent = jnp.take_along_axis(queue.sent, sender[:, None], axis=1)[..., None]
    new = Queue(
        jnp.where(goes, arrives[..., None], queue.times),
        jnp.where(goes, sender[:, None, None], queue.sources),
        jnp.where(goes, sent, queue.slots),
        queue.sent,
    )
    return new, jnp.isfinite(arrives) & ~jnp.any(free, axis=2)


def _receive(queue: Queue, t: _Each, live) -> tuple[Queue, _Integers, _Integers]:
    """Take one spike out for each neuron to which one is due, with its source and its place in the list."""
    first = jnp.argmin(queue.times, axis=2).astype(jnp.int32)[..., None]
    columns = (queue.times, queue.sources, queue.slots)
    due, source, slot = (jnp.take_along_axis(column, first, axis=2)[..., 0] for column in columns)
    hears = live[:, None] & (due <= t[:, None])
    taken = hears[..., None] & (jnp.arange(queue.times.shape[2], dtype=jnp.int32) == first)
    queue = Queue(jnp.where(taken, jnp.inf, queue.times), queue.sources, queue.slots, queue.sent)
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
