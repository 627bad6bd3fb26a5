"""Keeping XLA from computing the same thing many times."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool


def materialised(running: Bool[Array, ""], function, *args):
    """`function(*args)`, computed once and kept.

    XLA on CPUs otherwise copies the computation into every consumer, which multiplies the calls
    of transcendental functions by the number of results. It cannot look through a conditional
    whose predicate is known only at run time.
    """
    shapes = jax.eval_shape(function, *args)

    def nothing(*args):
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    return jax.lax.cond(running, function, nothing, *args)
