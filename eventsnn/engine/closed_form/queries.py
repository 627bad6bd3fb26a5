"""The state of a layer at the times that were asked for.

A query is answered from the last event before it, an arrival or a spike of the neuron, so that asking changes
nothing.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...flows.linear import LinearFlow, MaybeArray
from ..instants import instant_width, time_since
from ..spike_list import at
from .forward import Layer, Run
from .rates import only_rates
from .schedule import Schedule


class Lookups(eqx.Module):
    """For every query time and neuron, the last event at or before it.

    - `times`: the query times, and `stretch` the one in which each lies; `lists` is 1 where all neurons receive
        the same spikes.
    - `last`: where the last spike of the neuron up to then stands in the list, -1 if there is none.
    - `t_last`: when that was, the start of the run if there is none.
    - `from_spike`: whether that spike is the last event, and not the arrival at the start of the stretch.
    - `v`, `i`: the state after that event.
    - `t`: when it was.
    """

    times: Float[Array, "batch times"]
    stretch: Int[Array, "batch lists times"]
    last: Int[Array, "batch neurons times"]
    t_last: Float[Array, "batch neurons times"]
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
    return Lookups(times, stretch, none, zero, none >= 0, zero, None if y0[1] is None else zero, zero)


def note_states(layer: Layer, lookups: Lookups, window: Int[Array, ""], seen) -> Lookups:
    """Note the state just after the arrivals of a window for the queries that lie in it."""
    row = lookups.stretch - window * layer.window
    inside = (row >= 0) & (row < layer.window)
    row = jnp.clip(row, 0, layer.window - 1)

    def pick(rows, old):
        return jnp.where(inside, jnp.take_along_axis(jnp.moveaxis(rows, 0, -1), row, axis=-1), old)

    v, i = jax.tree.map(pick, seen, (lookups.v, lookups.i))
    return eqx.tree_at(lambda lookups: (lookups.v, lookups.i), lookups, (v, i), is_leaf=lambda leaf: leaf is None)


def settle_lookups(layer: Layer, lookups: Lookups, run: Run) -> Lookups:
    """After the run: find the queries that a spike of their stretch comes before."""
    if run.marks is None:
        raise ValueError("this run was not marked")
    marks, spikes, times = run.marks, run.spikes, lookups.times[:, None, :]
    # What happens at the instant of a query comes before it.
    times = times + instant_width(times + layer.schedule.origin[:, None, None])

    def late(slot) -> Bool[Array, "batch neurons times"]:
        return (slot >= 0) & (at(spikes.times, slot) > times)

    slot = jnp.broadcast_to(run.neurons.last[..., None], lookups.last.shape)
    slot = jax.lax.while_loop(
        lambda slot: jnp.any(late(slot)),
        lambda slot: jnp.where(late(slot), at(marks.before, slot), slot),
        slot,
    )
    here = (slot >= 0) & (jnp.abs(at(marks.stretch, slot)) - 1 == lookups.stretch)
    starts = layer.schedule.start_of(lookups.stretch)
    return Lookups(
        times=lookups.times,
        stretch=lookups.stretch,
        last=slot,
        t_last=jnp.where(slot >= 0, at(spikes.times, slot), 0),
        from_spike=here,
        v=jnp.where(here, layer.flow.vreset[..., None], lookups.v),
        i=None if lookups.i is None else jnp.where(here, at(marks.current, slot), lookups.i),
        t=jnp.where(here, at(spikes.times, slot), starts),
    )


def answer(flow: LinearFlow, lookups: Lookups) -> tuple[Array, MaybeArray]:
    """V and I at every query time."""
    flow = jax.tree.map(lambda number: number[..., None], flow)
    return flow.advance(flow.coefficients(time_since(lookups.t, lookups.times[:, None, :])), lookups.v, lookups.i)


class FromQueries(eqx.Module):
    """What the answers to queries pass on to V and I.

    - `by_spike`: just after every spike, in the order of time: whatever arrived in between.
    - `by_start`: at the start of the stretch in which the query lies, if no spike lies between.
    - `stretch`: which stretch that is.
    """

    by_spike: tuple[Float[Array, "batch capacity"], MaybeArray]
    by_start: tuple[Float[Array, "batch neurons times"], MaybeArray]
    stretch: Int[Array, "batch lists times"]

    def of_window(self, window: Int[Array, ""], length: int, shape: tuple[int, ...]) -> tuple[Array, MaybeArray]:
        """`by_start` of a window of `length` stretches, summed over queries: `(stretches, batch, neurons)`."""
        row = self.stretch - window * length
        row = jnp.where((row >= 0) & (row < length), row, length)
        sample, neuron = jnp.arange(shape[0])[:, None, None], jnp.arange(shape[1])[:, None]

        def put(by):
            return jnp.zeros((length, *shape), by.dtype).at[row, sample, neuron].add(by, mode="drop")

        return jax.tree.map(put, self.by_start)


def sweep_queries(
    layer: Layer,
    wanted: LinearFlow,
    lookups: Lookups,
    by_states: tuple[Float[Array, "batch neurons times"], MaybeArray],
    capacity: int,
) -> tuple[FromQueries, LinearFlow, Float[Array, "batch times"]]:
    """What the answers pass on, if they receive `by_states`: to the states, the flow, and the query times."""
    shape = by_states[0].shape[:2]
    numbers, fixed = eqx.partition(layer.flow, only_rates(layer.flow, wanted))
    numbers = jax.tree.map(lambda number: jnp.broadcast_to(number, shape), numbers)

    def answers(numbers, v, i, times):
        asked = eqx.tree_at(lambda lookups: (lookups.v, lookups.times), lookups, (v, times))
        asked = eqx.tree_at(lambda lookups: lookups.i, asked, i, is_leaf=lambda leaf: leaf is None)
        return answer(eqx.combine(numbers, fixed), asked)

    _, pull = jax.vjp(answers, numbers, lookups.v, lookups.i, lookups.times)
    by_flow, by_v, by_i, by_times = pull(by_states)
    # From the query to the last spike, or to the start of the run.
    flow = jax.tree.map(lambda number: number[..., None], layer.flow)
    through = flow.coefficients(time_since(lookups.t_last, lookups.times[:, None, :]))
    if wanted.drive:
        drive = jnp.sum(through.gain * by_states[0], axis=-1)
        by_flow = eqx.tree_at(lambda flow: flow.drive, by_flow, drive, is_leaf=lambda leaf: leaf is None)
    slot = jnp.where(lookups.last >= 0, lookups.last, capacity)

    def to_spikes(by):
        sample = jnp.arange(slot.shape[0])[:, None, None]
        return jnp.zeros((len(slot), capacity), by.dtype).at[sample, slot].add(by, mode="drop")

    by_spike = jax.tree.map(to_spikes, through.transposed(*by_states))
    by_start = jax.tree.map(lambda by: jnp.where(lookups.from_spike, 0, by), (by_v, by_i))
    return FromQueries(by_spike, by_start, lookups.stretch), by_flow, by_times
