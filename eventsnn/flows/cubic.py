"""A first guess for a crossing."""

import jax.numpy as jnp
from jaxtyping import Array, Float

_Reals = Float[Array, "..."]


def root_of_cubic(below: _Reals, height: _Reals, slope0: _Reals, slope1: _Reals) -> _Reals:
    """About where the cubic that goes from `-below` at 0 to `height` at 1, with those slopes, is 0."""
    # The parabola with the slope at 0 is 0 near there.
    rise = height + below
    bend = rise - slope0
    x = 2 * below / (slope0 + jnp.sqrt(jnp.maximum(slope0 * slope0 + 4 * bend * below, 0)))
    x = jnp.where((x > 0) & (x < 1), x, 0.5)
    # The cubic is that parabola and twist x² (x - 1).
    twist = slope0 + slope1 - 2 * rise
    for _ in range(2):
        f = -below + x * (slope0 + x * (bend + twist * (x - 1)))
        first = slope0 + x * (2 * bend + twist * (3 * x - 2))
        second = 2 * bend + twist * (6 * x - 2)
        x_new = x - 2 * f / (first + jnp.sqrt(jnp.maximum(first * first - 2 * f * second, 0)))
        x = jnp.where((x_new > 0) & (x_new < 1), x_new, x)
    return x
