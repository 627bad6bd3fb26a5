"""From what a user or the layer before gives to what a layer receives."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from .lanes import Arrivals


def from_input(in_spikes: Float[Array, "inputs spikes"]) -> Arrivals:
    """Input spikes sorted by time. Equal times keep the order of their channels."""
    inputs, spikes = in_spikes.shape
    times = in_spikes.reshape(-1)
    order = jnp.argsort(times)
    sources = order // max(spikes, 1)
    return Arrivals(times[order], sources.astype(jnp.int32))
