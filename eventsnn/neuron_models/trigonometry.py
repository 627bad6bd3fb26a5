"""Sine and cosine of multiples of π, for neurons whose state is a phase."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_jvp
def sincospi(x: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """sin(πx) and cos(πx), both to about one unit in the last place.

    On CPUs XLA's own sine and cosine take some twenty times as long, since they must be right for
    arguments of any size. Here the argument is first reduced to [-1/4, 1/4], which is exact, and
    then a Taylor polynomial is as good as the number format allows.
    """
    quarter = jnp.round(2 * x)
    angle = jnp.pi * (x - 0.5 * quarter)
    square = angle * angle
    double = x.dtype == jnp.float64
    sine = angle * _polynomial(square, 1, 15 if double else 9)
    cosine = _polynomial(square, 0, 16 if double else 10)
    turn = quarter - 4 * jnp.floor(0.25 * quarter)
    swapped = (turn == 1) | (turn == 3)
    s, c = jnp.where(swapped, cosine, sine), jnp.where(swapped, sine, cosine)
    return jnp.where(turn >= 2, -s, s), jnp.where((turn == 1) | (turn == 2), -c, c)


@sincospi.defjvp
def _sincospi_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    s, c = sincospi(x)
    return (s, c), (jnp.pi * c * dx, -jnp.pi * s * dx)


def _polynomial(square: Array, lowest: int, highest: int) -> Array:
    """Terms of the Taylor series of sine or cosine, from degree `lowest` to `highest`, by Horner's rule."""
    degrees = range(highest, lowest - 1, -2)
    value = jnp.zeros_like(square)
    for degree in degrees:
        value = value * square + (-1) ** (degree // 2) / math.factorial(degree)
    return value
