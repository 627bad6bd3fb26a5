"""From the list of a layer's spikes to a spike train per neuron."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def spike_trains(
    times: Float[Array, " capacity"], neurons: Int[Array, " capacity"], n_neurons: int, n_spikes: int
) -> Float[Array, "neurons spikes"]:
    """The first `n_spikes` spikes of every neuron, `inf` where there is none.

    Those of one neuron have to be in the order of time.
    """
    capacity = times.shape[0]
    owner = jnp.where(jnp.isfinite(times), neurons, n_neurons)
    if n_spikes == 1:
        number = jnp.arange(capacity, dtype=jnp.int32)
        first = jnp.full(n_neurons, capacity, jnp.int32).at[owner].min(number, mode="drop")
        return jnp.where(first < capacity, times[jnp.minimum(first, capacity - 1)], jnp.inf)[:, None]
    order = jnp.argsort(owner, stable=True)
    first = jnp.searchsorted(owner[order], jnp.arange(n_neurons + 1, dtype=owner.dtype)).astype(jnp.int32)
    place = first[:-1, None] + jnp.arange(n_spikes, dtype=jnp.int32)[None]
    exists = place < first[1:, None]
    # A spike that does not exist has no derivative: it never touches the list.
    return jnp.where(exists, times[order[jnp.minimum(place, capacity - 1)]], jnp.inf)
