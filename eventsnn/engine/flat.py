"""Entries of tables by their place in memory.

XLA is several times faster with one flat index than with one per axis. And JAX counts negative places from the end
unless it is told that there are none, at the price of a kernel.
"""

import jax.numpy as jnp
from jaxtyping import Array, Int


def read(table: Array, places: Int[Array, "*any"]) -> Array:
    """The entries of a table; anything for places outside of it."""
    return table.reshape(-1).at[places].get(mode="clip", wrap_negative_indices=False)


def write(table: Array, places: Int[Array, "*any"], values: Array) -> Array:
    """A table with new entries at places that all differ; what lies outside is dropped."""
    flat = table.reshape(-1).at[places]
    values = jnp.broadcast_to(values, places.shape)
    return flat.set(values, mode="drop", unique_indices=True, wrap_negative_indices=False).reshape(table.shape)


def add(table: Array, places: Int[Array, "*any"], values: Array) -> Array:
    """As `write`, but added, and places may be equal."""
    return table.reshape(-1).at[places].add(values, mode="drop", wrap_negative_indices=False).reshape(table.shape)
