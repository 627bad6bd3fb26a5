"""From what a user or the layer before gives to what a layer receives."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .batching import hand_batched
from .lanes import Arrivals
from .spike_list import Sortable, SpikeList, sort


def from_input(in_spikes: Float[Array, "inputs spikes"]) -> Arrivals:
    """Input spikes sorted by time, in one list. Equal times keep the order of their channels."""
    inputs, spikes = in_spikes.shape
    times = in_spikes.reshape(-1)
    order = jnp.argsort(times)
    sources = order // max(spikes, 1)
    return Arrivals(times[order][None], sources.astype(jnp.int32)[None])


def unordered(in_spikes: Float[Array, "inputs spikes"]) -> Arrivals:
    """Input spikes in one list, channel by channel."""
    inputs, spikes = in_spikes.shape
    sources = jnp.repeat(jnp.arange(inputs, dtype=jnp.int32), spikes)
    return Arrivals(in_spikes.reshape(1, -1), sources[None])


def delayed(arrivals: Arrivals, delays: Float[Array, "inputs neurons"]) -> Arrivals:
    """What becomes of the spikes of one list where each takes its own time to each neuron: a list per neuron."""
    sources = jnp.broadcast_to(arrivals.sources, (delays.shape[1], arrivals.sources.shape[1]))
    times = arrivals.times + delays[arrivals.sources[0]].T
    return in_order(times, sources)


def delayed_alike(arrivals: Arrivals, delays: Float[Array, " inputs"]) -> Arrivals:
    """The same where all spikes of an input take the same time to all neurons: one list."""
    return in_order(arrivals.times + delays[arrivals.sources], arrivals.sources)


def in_order(times: Float[Array, "lists spikes"], sources: Int[Array, "lists spikes"]) -> Arrivals:
    """Lists of arrivals by time."""
    if times.size == 0:
        return Arrivals(times, sources)
    order = order_by_time(times, sources)
    return Arrivals(jnp.take_along_axis(times, order, axis=1), jnp.take_along_axis(sources, order, axis=1))


def order_by_time(
    times: Float[Array, "lists spikes"], sources: Int[Array, "lists spikes"], finely: bool = False
) -> Int[Array, "lists spikes"]:
    """Where the spikes of each list stand that come first, second, …; those at one time by their sources.

    The cost follows the fullest list, and if wanted `finely`, for more compilation.
    """
    order = hand_batched(lambda times, sources: _order(times, sources, finely))
    return order(jax.lax.stop_gradient(times)[None], sources[None])[0]


def _order(times: Float[Array, "batch lists spikes"], sources: Int[Array, "batch lists spikes"], finely: bool) -> Array:
    """The order by time, as far as lists are filled."""
    shape = jnp.broadcast_shapes(times.shape, sources.shape)
    times, sources = (jnp.broadcast_to(x, shape).reshape(-1, shape[-1]) for x in (times, sources))
    place = jnp.broadcast_to(jnp.arange(shape[-1], dtype=jnp.int32), times.shape)
    filled = jnp.max(jnp.where(jnp.isfinite(times), place + 1, 0), axis=1)
    return sort(Sortable(SpikeList(times, sources, None, filled), columns=place), finely).columns.reshape(shape)
