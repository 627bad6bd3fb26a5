"""The exponential function and the logarithm relative to their arguments, right to rounding near 0."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_jvp
def relative_growth(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """`(exp(z) - 1) / z`, and 1 at 0."""
    zero = z == 0
    return jnp.where(zero, 1, jnp.expm1(z) / jnp.where(zero, 1, z))


@relative_growth.defjvp
def _relative_growth_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    value = relative_growth(z)
    near = jnp.abs(z) < 0.1
    # The derivative (exp(z) - value) / z loses its digits near 0, where its series is short.
    series = jnp.zeros_like(z)
    for n in reversed(range(9)):
        series = series * z + (n + 1) / _factorial(n + 2)
    slope = jnp.where(near, series, (jnp.exp(z) - value) / jnp.where(near, 1, z))
    return value, slope * dz


def _factorial(n: int) -> float:
    return n * _factorial(n - 1) if n > 1 else 1.0


@jax.custom_jvp
def relative_log(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """`log(1 + z) / z`, and 1 at 0."""
    zero = z == 0
    return jnp.where(zero, 1, jnp.log1p(z) / jnp.where(zero, 1, z))


@relative_log.defjvp
def _relative_log_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    value = relative_log(z)
    near = jnp.abs(z) < 0.05
    # As above: Σ (-z)^(n-1) n/(n+1), with a minus sign.
    series = jnp.zeros_like(z)
    for n in reversed(range(1, 13)):
        series = -series * z - n / (n + 1)
    slope = jnp.where(near, series, (1 / (1 + z) - value) / jnp.where(near, 1, z))
    return value, slope * dz
