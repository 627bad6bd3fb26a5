"""A recurrent network in windows of its shortest delay, within which its neurons do not see each other.

What a neuron emits in a window arrives behind it. So a window is a run of independent neurons from the state and the
arrivals at its start, and the next window starts with the state at its end.
"""

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..neuron_models.base import NeuronModel
from ..neuron_models.parameter import per_neuron
from .arrivals import order_by_time
from .feed_forward import Solving, Start, Wanted, run_independent
from .instants import PreciseTime, between, instant_width, time_at
from .lanes import FINE, MANY_WINDOWS, QUEUE_FULL, Arrivals
from .layer_run import LayerRun
from .wiring import AbstractWiring

# How many windows there may be; `report.py` names the number.
_MAX_WINDOWS = 2**20
# How many states between windows are kept for gradients; the windows between them are run again.
_CHECKPOINTS = 64
# How many spikes there is room for in a window, besides two of each neuron. With more of them it is made shorter.
_ROOM = 256
# How many spikes are passed on together.
_TOGETHER = 2**14


class Limits(eqx.Module):
    """What is asked of the network, and how much it may hold.

    - `outputs`: which neurons have to emit `stop_after` spikes before the run is over; `None` for until the end.
    - `pending`: how many spikes may be on their way to a neuron.
    - `capacity`: how many spikes the network may emit.
    """

    outputs: tuple[bool, ...] = eqx.field(static=True)
    stop_after: int | None = eqx.field(static=True)
    pending: int = eqx.field(static=True)
    capacity: int = eqx.field(static=True)


class _Queue(eqx.Module):
    """The spikes on their way to every neuron, in any order.

    - `spike`: where each stands in the list of spikes.
    - `synapse`: through which synapse it arrives.
    - `filled`: how many there are, which may be more than fit.
    """

    spike: Int[Array, "neurons pending"]
    synapse: Int[Array, "neurons pending"]
    filled: Int[Array, " neurons"]


class _Spikes(eqx.Module):
    """All spikes by time. There is anything after `count`, and room for one more window after the capacity.

    A time that is heard again later is not rounded: rounding would add up over spikes that cause each other.
    """

    times: PreciseTime
    neurons: Int[Array, " room"]
    slopes: Float[Array, " room"] | None
    count: Int[Array, ""]


class _Run(eqx.Module):
    """A run between two windows.

    - `time`, `y`: when, and the state of the neurons.
    - `passing`: which neurons have spiked and have not been below their threshold since.
    - `share`: the length of the next window, in shortest delays.
    - `states`: at the query times up to now.
    - `emitted`: how many spikes each neuron emitted.
    - `status`, `stopped`: how and when each ended.
    """

    window: Int[Array, ""]
    time: PreciseTime
    y: Float[Array, "neurons channels"]
    passing: Bool[Array, " neurons"]
    share: Float[Array, ""]
    queue: _Queue
    spikes: _Spikes
    states: Float[Array, "neurons times channels"] | None
    emitted: Int[Array, " neurons"]
    status: Int[Array, " neurons"]
    stopped: Float[Array, " neurons"]
    done: Bool[Array, ""]


class _Window(eqx.Module):
    """What happens in a window before any neuron spikes. All times are counted from its start.

    - `end`: how long it is, and `last` whether the run is over then.
    - `arrivals`: what arrives before, with the columns of `weights` as their sources.
    - `queue`: what does not.
    - `stuck`: who receives more at one instant than there is room for.
    """

    end: Float[Array, ""]
    last: Bool[Array, ""]
    arrivals: Arrivals
    weights: Float[Array, "arrivals neurons *ports"]
    queue: _Queue
    stuck: Bool[Array, " neurons"]


def run_windows(
    solving: Solving,
    model: NeuronModel,
    wiring: AbstractWiring,
    in_spikes: Float[Array, "inputs spikes"],
    wanted: Wanted,
    limits: Limits,
) -> LayerRun:
    """Run a network whose neurons hear of each other after delays greater than 0."""
    shortest, t_end = jax.lax.stop_gradient((wiring.shortest(len(limits.outputs)), wanted.t_end))
    inputs = wiring.from_inputs(in_spikes)
    size, room = len(limits.outputs), min(limits.capacity, 2 * len(limits.outputs) + _ROOM)

    def advance(run: _Run) -> _Run:
        window = _look_ahead(wiring, inputs, run, shortest * run.share, t_end)
        times = window.end[None]
        if wanted.times is not None:
            since = run.time.until(wanted.times)
            times = jnp.concatenate([between(since, jnp.zeros_like(since), window.end), times])
        asked = Wanted(window.end, times, slopes=wanted.slopes)
        start = Start(run.y, run.passing, run.time.t)
        found = run_independent(solving, model, window.weights, window.arrivals, start, window.last, asked, room)
        return _settle(wiring, limits, wanted, run, window, found)

    run = _start(per_neuron(model, size).init_state(size), wanted, limits, room)
    # NaN and negative delays as well: that they were given is told elsewhere.
    hopeless = ~(shortest * _MAX_WINDOWS >= t_end)
    run = eqx.tree_at(lambda run: run.done, run, hopeless)
    run = eqxi.while_loop(
        lambda run: ~run.done & (run.window < _MAX_WINDOWS),
        advance,
        run,
        kind="checkpointed",
        checkpoints=_CHECKPOINTS,
    )
    spikes = run.spikes
    there = jnp.arange(limits.capacity, dtype=jnp.int32) < spikes.count

    def listed(column, beyond):
        return jnp.where(there, column[: limits.capacity], beyond)

    return LayerRun(
        times=listed(between(spikes.times.t, jnp.zeros_like(t_end), t_end), jnp.inf),
        neurons=listed(spikes.neurons, 0),
        slopes=None if spikes.slopes is None else listed(spikes.slopes, jnp.inf),
        count=spikes.count,
        spikes=run.emitted,
        status=jnp.where(hopeless | ~run.done, MANY_WINDOWS, run.status),
        stopped=jnp.where(run.status != FINE, run.stopped, run.time.t),
        passing=run.passing,
        states=run.states,
    )


def _start(y0: Float[Array, "neurons channels"], wanted: Wanted, limits: Limits, room: int) -> _Run:
    size, dtype = y0.shape[0], y0.dtype
    nought, column = jnp.zeros(size, jnp.int32), limits.capacity + room
    empty = jnp.zeros((size, limits.pending), jnp.int32)
    spikes = _Spikes(
        time_at(jnp.full(column, jnp.inf, dtype)),
        jnp.zeros(column, jnp.int32),
        jnp.full(column, jnp.inf, dtype) if wanted.slopes else None,
        jnp.zeros((), jnp.int32),
    )
    states = None if wanted.times is None else jnp.zeros((size, wanted.times.shape[0], y0.shape[1]), dtype)
    return _Run(
        window=jnp.zeros((), jnp.int32),
        time=time_at(jnp.zeros((), dtype)),
        y=y0,
        passing=nought > 0,
        share=jnp.ones((), dtype),
        queue=_Queue(empty, empty, nought),
        spikes=spikes,
        states=states,
        emitted=nought,
        status=nought + FINE,
        stopped=jnp.zeros(size, dtype),
        done=jnp.zeros((), bool),
    )


def _look_ahead(wiring: AbstractWiring, inputs: Arrivals, run: _Run, end: Array, t_end: Array) -> _Window:
    """The window from here on that is `end` long, or as far as there is room for what arrives from the inputs."""
    size, pending = run.queue.spike.shape
    slot = jnp.arange(pending, dtype=jnp.int32)[None]
    waiting = slot < run.queue.filled[:, None]
    emitted = jax.tree.map(lambda column: column[run.queue.spike], run.spikes.times)
    queued = run.time.until(emitted) + wiring.delays[run.queue.synapse]
    queued = sent = jnp.where(waiting, queued, jnp.inf)
    synapses = run.queue.synapse

    # The last window includes all of the instant at which the run ends.
    t_stop = run.time.until(t_end + instant_width(t_end))
    stuck = jnp.zeros(size, bool)
    # What is emitted at the start of a window may arrive at its end: the last one, which includes its end, is shorter.
    t_end = run.time.until(t_end)
    last = end > t_end
    end = jnp.minimum(end, t_end)
    if inputs.times.shape[1]:
        coming, sources, beyond = _next_inputs(inputs, run.time, min(pending, inputs.times.shape[1]))
        stuck = jnp.broadcast_to(beyond <= 0, size)
        first_beyond = jnp.min(beyond)
        last = last & (first_beyond > t_stop)
        end = jnp.minimum(end, first_beyond)
        coming = jnp.where((coming < end) | last & (coming <= t_stop), coming, jnp.inf)
        # Behind the queue, so that the filled part of the rows is short: sorting is most of the work of a window.
        shape = (size, coming.shape[1])
        coming, sources = jnp.broadcast_to(coming, shape), jnp.broadcast_to(wiring.synapse(sources), shape)
        place = jnp.arange(pending + shape[1], dtype=jnp.int32)[None] - run.queue.filled[:, None]
        queued, synapses = _behind(queued, coming, place, jnp.inf), _behind(synapses, sources, place, 0)

    order = order_by_time(queued, synapses, finely=True)
    times, synapses = (jnp.take_along_axis(column, order, axis=1) for column in (queued, synapses))
    due = (times < end) | last & (times <= t_stop)
    n_due = jnp.sum(due, axis=1, dtype=jnp.int32)
    column = jnp.broadcast_to(jnp.arange(times.shape[1], dtype=jnp.int32), times.shape)
    weights = jnp.swapaxes(wiring.weights.at[synapses].get(mode="fill", fill_value=0), 0, 1)

    # Of the inputs, only those that are due were looked at: behind them stands the rest of the queue.
    kept = jnp.take_along_axis(order, n_due[:, None] + slot, axis=1, mode="clip")
    kept = jnp.minimum(kept, pending - 1)
    arrived = waiting & ((sent < end) | last & (sent <= t_stop))
    queue = _Queue(
        jnp.take_along_axis(run.queue.spike, kept, axis=1),
        jnp.take_along_axis(run.queue.synapse, kept, axis=1),
        run.queue.filled - jnp.sum(arrived, axis=1, dtype=jnp.int32),
    )
    return _Window(end, last, Arrivals(jnp.where(due, times, jnp.inf), column), weights, queue, stuck)


def _behind(row: Array, more: Array, place: Array, beyond) -> Array:
    """Rows that go on with `more` from `place` 0 on, and `beyond` behind that."""
    row = jnp.pad(row, ((0, 0), (0, more.shape[1])))
    end = jnp.take_along_axis(more, jnp.maximum(place, 0), axis=1, mode="fill", fill_value=beyond)
    return jnp.where(place < 0, row, end)


def _next_inputs(inputs: Arrivals, time: PreciseTime, room: int) -> tuple[Array, Array, Array]:
    """The next `room` arrivals of each list from `time` on, their sources, and when the one after them arrives.

    All times are counted from `time`.
    """
    # An input at the rounded time has arrived before if the rest is greater than 0.
    side = jax.vmap(lambda times, side: jnp.searchsorted(times, time.t, side=side), in_axes=(0, None))
    first = jnp.where(time.rest > 0, side(inputs.times, "right"), side(inputs.times, "left")).astype(jnp.int32)
    place = first[:, None] + jnp.arange(room + 1, dtype=jnp.int32)[None]
    times = jnp.take_along_axis(inputs.times, place, axis=1, mode="fill", fill_value=jnp.inf)
    sources = jnp.take_along_axis(inputs.sources, place[:, :-1], axis=1, mode="clip")
    times = time.until(times)
    beyond = jax.lax.stop_gradient(times[:, -1])
    return times[:, :-1], sources, jnp.where(jnp.isnan(beyond), jnp.inf, beyond)


def _settle(
    wiring: AbstractWiring, limits: Limits, wanted: Wanted, run: _Run, window: _Window, found: LayerRun
) -> _Run:
    """What the run is at the end of a window, or at its start again if it was too long."""
    again = (found.count > found.times.shape[0]) & (found.times.shape[0] < limits.capacity)
    count, old = run.spikes.count, run.spikes
    times = _from_start(run.time, found.times)
    spikes = _Spikes(
        jax.tree.map(lambda old, new: jax.lax.dynamic_update_slice(old, new, (count,)), old.times, times),
        jax.lax.dynamic_update_slice(old.neurons, found.neurons, (count,)),
        None if old.slopes is None else jax.lax.dynamic_update_slice(old.slopes, jnp.asarray(found.slopes), (count,)),
        jnp.where(again, count, count + found.count),
    )
    queue = _pass_on(wiring, window.queue, found, count)
    queue = jax.tree.map(lambda before, after: jnp.where(again, before, after), run.queue, queue)
    emitted = run.emitted + jnp.where(again, 0, found.spikes)

    full = window.stuck | (queue.filled > limits.pending)
    status = jnp.where(again, FINE, jnp.where(full, QUEUE_FULL, found.status))
    latest = jnp.max(jnp.where(jnp.isfinite(found.times), found.times, 0), initial=0)
    stopped = run.time.t + jnp.where(full, latest, found.stopped)
    enough = jnp.zeros((), bool)
    if limits.stop_after is not None:
        enough = jnp.all((emitted >= limits.stop_after) | ~jnp.asarray(limits.outputs))
    done = jnp.any(status != FINE) | (spikes.count > limits.capacity) | (~again & (window.last | enough))

    states = run.states
    y = jnp.asarray(found.states)[:, -1]
    if wanted.times is not None:
        # A query at the instant of the end is answered at the start of the next window, which knows what arrives then.
        since = run.time.until(wanted.times) + instant_width(wanted.times)
        inside = (since >= 0) & ((since < window.end) | window.last) & ~again
        states = jnp.where(inside[:, None], jnp.asarray(found.states)[:, :-1], jnp.asarray(states))
    return _Run(
        window=run.window + 1,
        time=jax.tree.map(lambda old, new: jnp.where(again, old, new), run.time, run.time.after(window.end)),
        y=jnp.where(again, run.y, y),
        passing=jnp.where(again, run.passing, found.passing),
        share=jnp.where(again, run.share / 2, jnp.minimum(run.share * 2, 1)),
        queue=queue,
        spikes=spikes,
        states=states,
        emitted=emitted,
        status=status,
        stopped=stopped,
        done=done,
    )


def _from_start(start: PreciseTime, times: Float[Array, " spikes"]) -> PreciseTime:
    """Times that are counted from the start of a window, counted from that of the run. A derivative goes to `t`."""
    there = jnp.isfinite(times)
    late = start.after(jnp.where(there, times, 0))
    exact = jax.lax.stop_gradient(late)
    times = jnp.where(there, times - jax.lax.stop_gradient(times) + exact.t, jnp.inf)
    return PreciseTime(times, exact.rest)


def _pass_on(wiring: AbstractWiring, queue: _Queue, found: LayerRun, before: Int[Array, ""]) -> _Queue:
    """Put the spikes of a window into the queues of those that they reach; `before` it there were so many."""
    size, pending = queue.spike.shape
    room = found.times.shape[0]
    number = jnp.arange(room, dtype=jnp.int32)
    first = wiring.first(found.neurons)
    reach = jnp.where(number < found.count, wiring.first(found.neurons + 1) - first, 0)
    behind = jnp.cumsum(reach, dtype=jnp.int32)
    total = behind[-1]
    together = _TOGETHER
    while together * (size + 1) >= 2**31:
        together //= 2
    event = jnp.arange(together, dtype=jnp.int32)
    slot = jnp.arange(pending, dtype=jnp.int32)[None]

    def some(carry):
        begin, queue = carry
        which = jnp.minimum(jnp.searchsorted(behind, begin + event, side="right"), room - 1).astype(jnp.int32)
        synapse = first[which] + begin + event - (behind[which] - reach[which])
        target = jnp.where(begin + event < total, wiring.target(synapse), size)
        # One array of whole numbers sorts ten times faster than anything that carries something along.
        key = jnp.sort(target * together + event)
        start = jnp.searchsorted(key, jnp.arange(size + 1, dtype=jnp.int32) * together).astype(jnp.int32)
        arriving = start[1:] - start[:-1]
        place = slot - queue.filled[:, None]
        new = (place >= 0) & (place < arriving[:, None])
        of = key.at[start[:-1, None] + jnp.maximum(place, 0)].get(mode="clip") % together
        queue = _Queue(
            jnp.where(new, before + which[of], queue.spike),
            jnp.where(new, synapse[of], queue.synapse),
            queue.filled + arriving,
        )
        return begin + together, queue

    return jax.lax.while_loop(lambda carry: carry[0] < total, some, (jnp.zeros((), jnp.int32), queue))[1]
