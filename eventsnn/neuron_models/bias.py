"""How the bias current of a layer is drawn."""

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from .parameter import checked_array


def make_bias(
    n_neurons: int,
    init_bias: ArrayLike | None,
    blim: float | None,
    bmean: float,
    dtype,
    key: PRNGKeyArray | None,
) -> Float[Array, " neurons"]:
    """A given bias, or one drawn uniformly from `bmean ± blim/2`, or `bmean` everywhere.

    **Raises:** `ValueError` if both `init_bias` and `blim` are given, if `blim` is negative, or if
    a bias has to be drawn and there is no `key`.
    """
    if init_bias is not None:
        if blim is not None:
            raise ValueError("init_bias and blim were both given: pass one of them")
        bias = checked_array("init_bias", init_bias, ((), (n_neurons,)), dtype)
        return jnp.broadcast_to(bias, (n_neurons,))
    mean = checked_array("bmean", bmean, ((), (n_neurons,)), dtype)
    if blim is None:
        return jnp.broadcast_to(mean, (n_neurons,))
    width = checked_array("blim", blim, ((),), dtype)
    if not isinstance(width, Tracer) and width < 0:
        raise ValueError(f"blim is {blim}, expected a width that is 0 or more")
    if key is None:
        raise ValueError("blim draws a random bias and needs a key: pass key=jax.random.PRNGKey(0), or init_bias")
    return mean + width * jax.random.uniform(key, (n_neurons,), dtype, -0.5, 0.5)
