"""The list of spikes that a layer emits."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class SpikeList(eqx.Module):
    """Spikes in the order in which the loop found them, `inf` where there is none.

    - `times`, `neurons`: when, and which neuron.
    - `slopes`: how steeply each crossed the threshold, or `None` where nobody asks.
    - `count`: how many spikes there were, which may be more than fit.
    """

    times: Float[Array, "batch capacity"]
    neurons: Int[Array, "batch capacity"]
    slopes: Float[Array, "batch capacity"] | None
    count: Int[Array, " batch"]


def empty_list(batch: int, capacity: int, dtype, slopes: bool) -> SpikeList:
    """A list for `capacity` spikes of each sample, with the `slopes` if they are wanted."""
    return SpikeList(
        jnp.full((batch, capacity), jnp.inf, dtype),
        jnp.zeros((batch, capacity), jnp.int32),
        jnp.full((batch, capacity), jnp.inf, dtype) if slopes else None,
        jnp.zeros((batch,), jnp.int32),
    )


def append(
    spikes: SpikeList,
    spiked: Bool[Array, "batch neurons"],
    times: Float[Array, "batch neurons"],
    slopes: Float[Array, "batch neurons"],
) -> tuple[SpikeList, Int[Array, "batch neurons"]]:
    """Add the spikes of one iteration; those that do not fit are only counted. Also where each one went."""
    batch, neurons = spiked.shape
    ones = spiked.astype(jnp.int32)
    slot = spikes.count[:, None] + jnp.cumsum(ones, axis=1, dtype=jnp.int32) - ones
    slot = jnp.where(spiked, slot, spikes.times.shape[1])
    sample, neuron = jnp.broadcast_arrays(jnp.arange(batch)[:, None], jnp.arange(neurons, dtype=jnp.int32))
    noted = None
    if spikes.slopes is not None:
        noted = spikes.slopes.at[sample, slot].set(slopes, mode="drop")
    spikes = SpikeList(
        spikes.times.at[sample, slot].set(times, mode="drop"),
        spikes.neurons.at[sample, slot].set(neuron, mode="drop"),
        noted,
        spikes.count + jnp.sum(ones, axis=1, dtype=jnp.int32),
    )
    return spikes, slot


def sort(spikes: SpikeList) -> tuple[SpikeList, Int[Array, "batch capacity"]]:
    """The list by time, then by neuron; and where each of its entries stood before.

    Sorting costs far more per entry than the physics, so only as much of the list is sorted as
    the fullest sample of the batch needs, rounded up to a power of two.
    """
    capacity = spikes.times.shape[1]
    sizes = [size for size in (2**k for k in range(5, 31, 2)) if size < capacity] + [capacity]
    needed = jnp.max(spikes.count, initial=0)
    branch = jnp.searchsorted(jnp.asarray(sizes, jnp.int32), needed)
    order = jnp.broadcast_to(jnp.arange(capacity, dtype=jnp.int32), spikes.times.shape)

    def sort_first(size: int, *columns):
        head = jax.lax.sort([column[:, :size] for column in columns], dimension=1, num_keys=2)
        return tuple(jnp.concatenate([h, c[:, size:]], axis=1) for h, c in zip(head, columns, strict=True))

    branches = [lambda *columns, size=size: sort_first(size, *columns) for size in sizes]
    times, neurons, order = jax.lax.switch(
        jnp.minimum(branch, len(sizes) - 1), branches, spikes.times, spikes.neurons, order
    )
    slopes = None
    if spikes.slopes is not None:
        slopes = jnp.take_along_axis(spikes.slopes, order, axis=1)
    return SpikeList(times, neurons, slopes, spikes.count), order
