"""The state of a layer at the times that were asked for.

A query is answered from the last event before it, an arrival or a spike of the neuron, so that asking changes
nothing.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...neuron_models.linear_flow import MaybeArray
from .forward import Layer, Run
from .schedule import Schedule


class Lookups(eqx.Module):
    """For every query time and neuron, the last event at or before it.

    - `times`: the query times, and `stretch` the one in which each lies.
    - `last`: where the last spike of the neuron up to then stands in the list, -1 if there is none.
    - `from_spike`: whether that spike is the last event, and not the arrival at the start of the stretch.
    - `v`, `i`: the state after that event.
    - `t`: when it was.
    """

    times: Float[Array, "batch times"]
    stretch: Int[Array, "batch times"]
    last: Int[Array, "batch neurons times"]
    from_spike: Bool[Array, "batch neurons times"]
    v: Float[Array, "batch neurons times"]
    i: MaybeArray
    t: Float[Array, "batch neurons times"]


def start_lookups(schedule: Schedule, times: Float[Array, "batch times"], y0) -> Lookups:
    """Before the run. A time outside the run is answered from its nearest end."""
    stretch = schedule.stretch_at(times)
    shape = (*y0[0].shape, times.shape[1])
    zero = jnp.zeros(shape, times.dtype)
    none = jnp.full(shape, -1, jnp.int32)
    return Lookups(times, stretch, none, none >= 0, zero, None if y0[1] is None else zero, zero)


def note_states(layer: Layer, lookups: Lookups, window: Int[Array, ""], seen) -> Lookups:
    """Note the state just after the arrivals of a window for the queries that lie in it."""
    row = lookups.stretch - window * layer.window
    inside = ((row >= 0) & (row < layer.window))[:, None, :]
    row = jnp.clip(row, 0, layer.window - 1)

    def pick(rows, old):
        return jnp.where(inside, jnp.take_along_axis(jnp.moveaxis(rows, 0, -1), row[:, None, :], axis=-1), old)

    v, i = jax.tree.map(pick, seen, (lookups.v, lookups.i))
    return eqx.tree_at(lambda lookups: (lookups.v, lookups.i), lookups, (v, i), is_leaf=lambda leaf: leaf is None)


def settle_lookups(layer: Layer, lookups: Lookups, run: Run) -> Lookups:
    """After the run: find the queries that a spike of their stretch comes before."""
    if run.marks is None:
        raise ValueError("this run was not marked")
    marks, times = run.marks, lookups.times[:, None, :]
    sample = jnp.arange(times.shape[0])[:, None, None]

    def late(slot) -> Bool[Array, "batch neurons times"]:
        return (slot >= 0) & (run.spikes.times[sample, jnp.maximum(slot, 0)] > times)

    slot = jnp.broadcast_to(run.neurons.last[..., None], lookups.last.shape)
    slot = jax.lax.while_loop(
        lambda slot: jnp.any(late(slot)),
        lambda slot: jnp.where(late(slot), marks.before[sample, jnp.maximum(slot, 0)], slot),
        slot,
    )
    safe = jnp.maximum(slot, 0)
    here = (slot >= 0) & (jnp.abs(marks.stretch[sample, safe]) - 1 == lookups.stretch[:, None, :])
    starts = layer.schedule.start_of(lookups.stretch)[:, None, :]
    return Lookups(
        times=lookups.times,
        stretch=lookups.stretch,
        last=slot,
        from_spike=here,
        v=jnp.where(here, layer.flow.vreset[..., None], lookups.v),
        i=None if lookups.i is None else jnp.where(here, marks.current[sample, safe], lookups.i),
        t=jnp.where(here, run.spikes.times[sample, safe], starts),
    )


def answer(layer: Layer, lookups: Lookups) -> tuple[Array, MaybeArray]:
    """V and I at every query time."""
    flow = jax.tree.map(lambda number: number[..., None], layer.flow)
    return flow.advance(flow.coefficients(lookups.times[:, None, :] - lookups.t), lookups.v, lookups.i)
