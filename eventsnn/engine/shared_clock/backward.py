"""The reverse sweep of a network whose neurons share a clock: exact gradients, one segment at a time.

As in `adjoint.py`, but that the size of a step is that of all neurons: at a crossing, what it receives from those that
did not cross goes to the neuron that did.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from ...materialise import materialised
from ..adjoint import QueryCotangents, of_segment, where_rows
from ..iteration import next_weights
from ..lanes import NOTHING
from ..rows import Channels, Rows, select
from .forward import ARRIVAL, END, ROOT, Physics
from .run import Segment

_Reals = Float[Array, "batch neurons"]


class Cotangents(eqx.Module):
    """The adjoint on its way back through a run.

    - `y`, `t`: of each neuron's state, and what it gives to the clock.
    - `numbers`, `weights`, `delays`, `inputs`, `spikes`: what the parameters, the weights, the delays, the input times
        and the spike times have received so far.
    - `arrival`: how many input spikes have arrived.
    - `next`: the spike that arrives next: its place in the list, or below 0, in which list of input times it is.
    """

    y: Channels
    t: _Reals
    numbers: PyTree
    weights: Float[Array, "batch rows neurons *ports"]
    delays: Float[Array, "batch neurons neurons"] | None
    inputs: Float[Array, "batch lists arrivals"]
    spikes: Float[Array, "batch capacity"]
    arrival: Int[Array, "batch lists"]
    next: Int[Array, " batch"]


def sweep_back(
    physics: Physics,
    wanted: PyTree,
    by_query: QueryCotangents | None,
    segment: Segment,
    number: Int[Array, "batch 1"],
    after: Cotangents,
) -> Cotangents:
    """From just after one segment of every sample, its `number` in the run, to just before it."""
    shape = after.t.shape
    kind = segment.kind.astype(jnp.int32)
    nothing = kind == NOTHING
    t = jnp.broadcast_to(segment.t, shape)
    h = jnp.broadcast_to(jnp.where(nothing, 0, segment.h), shape)
    source = jnp.where(nothing, -1, segment.source)
    heard, spiked = source >= 0, ~nothing & (segment.slot >= 0)
    weights = next_weights(physics.wiring.weights, jnp.maximum(source, 0))
    # Each neuron that crossed has a time of its own, also where several did so at the same time.
    root, target = (kind == ROOT) & spiked, jnp.arange(shape[1], dtype=jnp.int32)[None] == segment.target

    numbers, fixed = eqx.partition(physics.rows.numbers, wanted)
    numbers = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (shape[0], *leaf.shape[1:])), numbers)

    def rows(numbers) -> Rows:
        return physics.rows.with_numbers(eqx.combine(numbers, fixed))

    def hear(numbers, y, weights):
        return select(heard, rows(numbers).arrive(y, weights), y)

    def forward(numbers, t, y, h):
        y1 = hear(numbers, y, weights)
        return y1, *physics.motion.linearise(rows(numbers), t, y1, h)

    def event(numbers, t, h, y_end, dy_dh, ct_y, ct_t):
        _, pull_reset = jax.vjp(lambda y, n: select(spiked, rows(n).reset(y, spiked), y), y_end, numbers)
        ct_end, ct_numbers = pull_reset(ct_y)
        _, slope = jax.jvp(rows(numbers).condition, (t + h, y_end), (jnp.ones_like(t), dy_dh))
        total = ct_t + sum(c * d for c, d in zip(ct_end, dy_dh, strict=True))
        rest = jnp.sum(jnp.where(root, 0, total), axis=1, keepdims=True)
        total = jnp.where(target, total + rest, total)
        steepness = jnp.maximum(jnp.abs(slope), physics.min_slope)
        implicit = jnp.where(root, -total / jnp.where(root, jnp.copysign(steepness, slope), 1), 0)
        _, pull_condition = jax.vjp(lambda t, y, n: rows(n).condition(t, y), t + h, y_end, numbers)
        by_t, by_y, by_numbers = pull_condition(implicit)
        ct_end = tuple(a + b for a, b in zip(ct_end, by_y, strict=True))
        return ct_end, by_t, jax.tree.map(jnp.add, ct_numbers, by_numbers)

    asked = None if by_query is None else of_segment(by_query, number, shape)

    def back(numbers, t, y, y1, h, known, ct_end):
        by_numbers, step_t, ct_y1 = physics.motion.pull_back(rows, numbers, t, y1, h, known, ct_end)
        if asked is not None:
            step_t, ct_y1 = step_t + asked[1], tuple(a + b for a, b in zip(ct_y1, asked[0], strict=True))
        _, pull = jax.vjp(hear, numbers, y, weights)
        more, ct_y, ct_weights = pull(ct_y1)
        # Had a spike come later, its neuron would have moved on until then.
        waits = sum(c * f for c, f in zip(ct_y, rows(numbers).dynamics(t, y), strict=True))
        return jax.tree.map(jnp.add, by_numbers, more), step_t, ct_y, ct_weights, waits

    happened = jnp.any(~nothing)
    ct_t = after.t
    if after.spikes.shape[1]:
        listed = spiked & (segment.slot < after.spikes.shape[1])
        ct_t = ct_t + jnp.where(listed, jnp.take_along_axis(after.spikes, segment.slot, axis=1, mode="clip"), 0)
    y1, y_end, dy_dh, known = materialised(happened, forward, numbers, t, segment.y, h)
    ct_end, by_t, ct_event = materialised(happened, event, numbers, t, h, y_end, dy_dh, after.y, ct_t)
    back_to = materialised(happened, back, numbers, t, segment.y, y1, h, known, ct_end)
    ct_numbers, step_t, ct_y, ct_weights, waits = back_to
    ct_h = sum(c * d for c, d in zip(ct_end, dy_dh, strict=True))

    given = (kind == ARRIVAL) | (kind == END)
    ct_start = jnp.where(given, step_t - ct_h, ct_t + by_t + step_t)
    # The spike that ended the step also ended it for those that did not hear it.
    left = jnp.sum(jnp.where(kind == ARRIVAL, ct_t + ct_h, 0), axis=1)
    total = _to_arrival(after, left)
    # What was heard has a time of its own: a step of no length lies before it.
    from_input, on_its_way = heard & (source >= shape[1]), heard & (segment.heard >= 0)
    timed = from_input | on_its_way
    late = jnp.where(timed, ct_start + waits, 0)
    ct_start = jnp.where(timed, -waits, ct_start)
    lists = after.arrival.shape[1]
    arrival = after.arrival - from_input[:, :lists].astype(jnp.int32)
    inputs = _to_inputs(total.inputs, arrival, jnp.where(from_input, late, 0))
    spikes, delays = _to_spikes(total.spikes, total.delays, segment.heard, source, jnp.where(on_its_way, late, 0))
    return Cotangents(
        y=select(nothing, after.y, ct_y),
        t=jnp.where(nothing, after.t, ct_start),
        numbers=jax.tree.map(lambda total, a, b: total + a + b, after.numbers, ct_numbers, ct_event),
        weights=_to_weights(after.weights, source, where_rows(heard, ct_weights)),
        delays=delays,
        inputs=inputs,
        spikes=spikes,
        arrival=arrival,
        next=_which(from_input, on_its_way, segment.heard, after.next),
    )


def _to_weights(total: Array, source: Int[Array, "batch neurons"], ct: Array) -> Array:
    sample = jnp.arange(source.shape[0], dtype=jnp.int32)[:, None] if total.shape[0] > 1 else 0
    return total.at[sample, jnp.maximum(source, 0), jnp.arange(source.shape[1], dtype=jnp.int32)].add(ct)


def _to_inputs(total: Array, arrival: Int[Array, "batch lists"], ct: _Reals) -> Array:
    batch, lists, length = total.shape
    if length == 0:
        return total
    ct = jnp.sum(ct, axis=1, keepdims=True) if lists == 1 else ct
    return total.at[jnp.arange(batch, dtype=jnp.int32)[:, None], jnp.arange(lists, dtype=jnp.int32), arrival].add(ct)


def _to_spikes(spikes: Array, delays: Array | None, slot: Int[Array, "batch neurons"], source, ct: _Reals):
    if delays is None:
        return spikes, None
    sample, neuron = jnp.arange(slot.shape[0], dtype=jnp.int32)[:, None], jnp.arange(slot.shape[1], dtype=jnp.int32)
    place = jnp.where(slot >= 0, slot, spikes.shape[1])
    delayed = delays.at[sample if delays.shape[0] > 1 else 0, jnp.clip(source, 0, delays.shape[1] - 1), neuron].add(ct)
    return spikes.at[sample, place].add(ct, mode="drop"), delayed


def _to_arrival(after: Cotangents, ct: Float[Array, " batch"]) -> Cotangents:
    """To the time of the spike that arrives next."""
    sample = jnp.arange(ct.shape[0], dtype=jnp.int32)
    spikes, inputs = after.spikes, after.inputs
    if inputs.shape[2]:
        which = jnp.clip(-1 - after.next, 0, inputs.shape[1] - 1)
        place = jnp.take_along_axis(after.arrival, which[:, None], axis=1)[:, 0]
        inputs = inputs.at[sample, which, place].add(jnp.where(after.next < 0, ct, 0))
    if after.delays is not None:
        spikes = spikes.at[sample, jnp.maximum(after.next, 0)].add(jnp.where(after.next >= 0, ct, 0))
    return eqx.tree_at(lambda ct: (ct.spikes, ct.inputs), after, (spikes, inputs))


def _which(from_input, on_its_way, slot, before: Int[Array, " batch"]) -> Int[Array, " batch"]:
    """As `Cotangents.next`, for the spike that was heard now."""
    on_way, of_input = jnp.any(on_its_way, axis=1), jnp.any(from_input, axis=1)
    first = jnp.argmax(on_its_way, axis=1).astype(jnp.int32)[:, None]
    of_spike = jnp.take_along_axis(slot, first, axis=1)[:, 0]
    of_list = -1 - jnp.argmax(from_input, axis=1).astype(jnp.int32)
    return jnp.where(on_way, of_spike, jnp.where(of_input, of_list, before))
