"""The reverse sweep: exact gradients of spike times and states, one recorded step at a time.

The adjoint of the steps that the forward run took, with their sizes held fixed. A step that ends
at an arrival or at the end has the size that is left; a step that ends at a spike has the size at
which g = 0, so that the implicit function theorem gives its derivative.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..materialise import materialised
from .iteration import Physics, after_event, from_list, next_weights
from .lanes import ARRIVAL, END, INSTANT, NOTHING, ROOT, Segment
from .rows import Channels, Rows
from .run import Lookups, answer


class Cotangents(eqx.Module):
    """The adjoint on its way back through a run.

    - `y`, `t`: of each lane's state and clock.
    - `numbers`, `weights`, `arrivals`: what the parameters, the weights and the arrival times have received so far,
        per sample; for weights, in all if their leading axis is 1.
    - `arrival`: how many arrivals each lane has had.
    """

    y: Channels
    t: Float[Array, "batch neurons"]
    numbers: PyTree
    weights: Float[Array, "batch inputs neurons *ports"]
    arrivals: Float[Array, "batch lists arrivals"]
    arrival: Int[Array, "batch neurons"]


class QueryCotangents(eqx.Module):
    """What the queries pass to the segments that answered them.

    - `segment`: which segment each query was answered from.
    - `y`, `t`: what it passes to the state and the clock there.
    - `times`: what the query times themselves receive.
    """

    segment: Int[Array, "batch neurons times"]
    y: Channels
    t: Float[Array, "batch neurons times"]
    times: Float[Array, "batch times"]


def end_of_run(
    physics: Physics,
    wanted: PyTree,
    weights: int,
    channels: int,
    arrival: Int[Array, "batch neurons"],
    lookups: Lookups | None,
    ct_states: Float[Array, "batch neurons times channels"] | None,
) -> tuple[Cotangents, QueryCotangents | None]:
    """The cotangents at the end of a run: zero, but for the queries answered from the final state.

    Those of the weights are told for each of `weights` samples, or in all if that is 1.
    """
    rows = physics.rows
    zero = jnp.zeros(arrival.shape, physics.t_end.dtype)
    batch = arrival.shape[0]
    numbers, fixed = eqx.partition(rows.numbers, wanted)
    numbers = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (batch, *leaf.shape[1:])), numbers)
    ct = Cotangents(
        y=(zero,) * channels,
        t=zero,
        numbers=jax.tree.map(jnp.zeros_like, numbers),
        weights=jnp.zeros((weights, *physics.weights.shape[1:]), zero.dtype),
        arrivals=jnp.zeros(physics.arrivals.times.shape, zero.dtype),
        arrival=arrival,
    )
    if lookups is None or ct_states is None:
        return ct, None

    def answers(numbers, lookups):
        combined = rows.with_numbers(eqx.combine(numbers, fixed))
        return answer(eqx.tree_at(lambda physics: physics.rows, physics, combined), lookups)

    floats, integers = eqx.partition(lookups, eqx.is_inexact_array)
    _, pull = jax.vjp(lambda numbers, floats: answers(numbers, eqx.combine(floats, integers)), numbers, floats)
    ct_numbers, by = pull(tuple(ct_states[..., channel] for channel in range(channels)))
    by_query = QueryCotangents(lookups.segment, by.y, by.t, by.times)
    ct = eqx.tree_at(lambda ct: ct.numbers, ct, ct_numbers)
    return ct, by_query


def add_queries(by_query: QueryCotangents, segment: Int[Array, "batch lanes"], ct: Any) -> Any:
    """Let the queries answered from one segment flow into the cotangents at its start."""
    by_y, by_t = of_segment(by_query, segment, ct.t.shape)
    y = tuple(total + by for total, by in zip(ct.y, by_y, strict=True))
    return eqx.tree_at(lambda ct: (ct.y, ct.t), ct, (y, ct.t + by_t))


def of_segment(by_query: QueryCotangents, segment, shape: tuple[int, ...]) -> tuple[Channels, Array]:
    """What the queries answered from one segment pass to the state and the clock at its start."""
    here = by_query.segment == jnp.broadcast_to(segment, shape)[..., None]
    y, t = jax.tree.map(lambda by: jnp.sum(jnp.where(here, by, 0), axis=-1), (by_query.y, by_query.t))
    return y, t


@eqx.filter_jit
def sweep_back(
    physics: Physics,
    wanted: PyTree,
    spike_times: Float[Array, "batch capacity"],
    segment: Segment,
    after: Cotangents,
) -> Cotangents:
    """From just after one segment of every lane to just before it.

    `wanted` marks the leaves of the model's numbers that take gradients, and `spike_times` holds
    the derivative of the loss by each spike time, in the order in which the loop found them.
    """
    kind = segment.kind
    # A step of size 0 passes everything on, and nothing to the parameters.
    h = jnp.where(kind == NOTHING, 0, segment.h)
    spiked, arrived = kind >= ROOT, kind == ARRIVAL
    arrival = after.arrival - arrived.astype(jnp.int32)
    by_spike = _spike_cotangents(spike_times, segment.slot, spiked)
    sources, weights = None, jnp.zeros((*h.shape, *physics.weights.shape[3:]), h.dtype)
    if physics.arrivals.times.shape[-1]:
        sources = from_list(physics.arrivals.sources, arrival, 0)
        weights = next_weights(physics.weights, sources)

    numbers, fixed = eqx.partition(physics.rows.numbers, wanted)
    numbers = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (h.shape[0], *leaf.shape[1:])), numbers)

    def rows(numbers) -> Rows:
        return physics.rows.with_numbers(eqx.combine(numbers, fixed))

    def forward(numbers, t, y, h):
        return physics.stepper.linearise(rows(numbers), t, y, h)

    def event(numbers, t, h, y_end, dy_dh, weights, ct_y, ct_t):
        _, pull_event = jax.vjp(lambda y, w, n: after_event(rows(n), y, arrived, w, spiked), y_end, weights, numbers)
        ct_end, ct_weights, ct_numbers = pull_event(ct_y)
        _, slope = jax.jvp(rows(numbers).condition, (t + h, y_end), (jnp.ones_like(t), dy_dh))
        total = ct_t + sum(c * d for c, d in zip(ct_end, dy_dh, strict=True))
        root = kind == ROOT
        steepness = jnp.maximum(jnp.abs(slope), physics.min_slope)
        implicit = jnp.where(root, -total / jnp.where(root, jnp.copysign(steepness, slope), 1), 0)
        _, pull_condition = jax.vjp(lambda t, y, n: rows(n).condition(t, y), t + h, y_end, numbers)
        by_t, by_y, by_numbers = pull_condition(implicit)
        ct_end = tuple(a + b for a, b in zip(ct_end, by_y, strict=True))
        return ct_end, by_t, ct_weights, _add(ct_numbers, by_numbers)

    def back(numbers, t, y, h, known, ct_end):
        return physics.stepper.pull_back(rows, numbers, t, y, h, known, ct_end)

    happened = jnp.any(kind != NOTHING)
    ct_t = after.t + by_spike
    y_end, dy_dh, known = materialised(happened, forward, numbers, segment.t, segment.y, h)
    ct_end, by_t, ct_weights, ct_event = materialised(
        happened, event, numbers, segment.t, h, y_end, dy_dh, weights, after.y, ct_t
    )
    ct_numbers, step_t, ct_y = materialised(happened, back, numbers, segment.t, segment.y, h, known, ct_end)
    ct_h = sum(c * d for c, d in zip(ct_end, dy_dh, strict=True))

    fixed_end = arrived | (kind == END)
    ct_before = jnp.where(fixed_end, step_t - ct_h, ct_t + by_t + step_t)
    ct_before = jnp.where((kind == NOTHING) | (kind == INSTANT), ct_t, ct_before)
    nothing = kind == NOTHING
    return Cotangents(
        y=tuple(jnp.where(nothing, old, new) for old, new in zip(after.y, ct_y, strict=True)),
        t=ct_before,
        numbers=_add(after.numbers, _add(ct_numbers, ct_event)),
        weights=_scatter_weights(after.weights, sources, where_rows(arrived, ct_weights)),
        arrivals=_scatter_arrivals(after.arrivals, arrival, jnp.where(arrived, ct_t + ct_h, 0)),
        arrival=arrival,
    )


def _spike_cotangents(spike_times, slot, spiked):
    if spike_times.shape[1] == 0:
        return jnp.zeros(spiked.shape, spike_times.dtype)
    # An event that is not a spike has its slot behind the list.
    listed = spiked & (slot < spike_times.shape[1])
    return jnp.where(listed, jnp.take_along_axis(spike_times, slot, axis=1, mode="clip"), 0)


def where_rows(mask: Bool[Array, "batch neurons"], ct: Float[Array, "batch neurons *ports"]) -> Array:
    """A cotangent of weights where the mask says so, and 0 elsewhere."""
    return jnp.where(mask.reshape(*mask.shape, *[1] * (ct.ndim - mask.ndim)), ct, 0)


def _scatter_weights(total, sources, ct):
    if sources is None:
        return total
    neurons = jnp.arange(ct.shape[1])
    sample = 0 if total.shape[0] == 1 else jnp.arange(ct.shape[0])[:, None]
    return total.at[sample, sources, neurons].add(ct)


def _scatter_arrivals(total, arrival, ct):
    batch, lists, length = total.shape
    if length == 0:
        return total
    each = jnp.arange(lists) if lists > 1 else 0
    return total.at[jnp.arange(batch)[:, None], each, arrival].add(ct)


def _add(a: PyTree, b: PyTree) -> PyTree:
    return jax.tree.map(jnp.add, a, b)
