"""Divided differences of the exponential function, right to rounding for arguments that are near to each other too."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from .growth import relative_growth

_Reals = Float[Array, "..."]

# Of the series below. The first term left out is under 1e-17 of the first.
_TERMS = 17


def first_difference(a: _Reals, b: _Reals) -> _Reals:
    """`(exp(a) - exp(b)) / (a - b)`, and `exp(a)` where they are equal."""
    a, b = _ordered(a, b)
    return jnp.exp(a) * relative_growth(b - a)


def second_difference(a: _Reals, b: _Reals, c: _Reals) -> _Reals:
    """The divided difference of the exponential function at three places, in any order; positive."""
    a, b = _ordered(a, b)
    b, c = _ordered(b, c)
    a, b = _ordered(a, b)
    return jnp.exp(a) * _below_zero(a - b, a - c)


def _ordered(a: _Reals, b: _Reals) -> tuple[_Reals, _Reals]:
    """The larger first. By selection, so that of equal ones each keeps its own derivative."""
    swap = a < b
    return jnp.where(swap, b, a), jnp.where(swap, a, b)


def _below_zero(u: _Reals, v: _Reals) -> _Reals:
    """The second difference at 0, `-u` and `-v`, for 0 <= u <= v."""
    near = v < 1
    far = jnp.where(near, 1, v)
    direct = (relative_growth(-u) - jnp.exp(-u) * relative_growth(u - v)) / far
    # The difference loses its digits where all are near each other. Its series has the complete homogeneous
    # polynomials of -u and -v over factorials.
    u, v = jnp.where(near, u, 0), jnp.where(near, v, 0)
    total, polynomial, power = jnp.full_like(v, 0.5), jnp.ones_like(v), jnp.ones_like(v)
    for n in range(1, _TERMS):
        power = -v * power
        polynomial = power - u * polynomial
        total = total + polynomial / float(math.factorial(n + 2))
    return jnp.where(near, total, direct)
