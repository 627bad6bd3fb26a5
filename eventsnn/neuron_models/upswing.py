r"""A coordinate in which an exponential upswing is a smooth passage.

The potential of a neuron with an exponential spike current runs to infinity within a time that no step can
resolve. With the distance $x = (V - V_T)/\Delta_T$ from the soft threshold the coordinate is

$$z = -\log(1 + e^{-x})$$

It is $x$ far below $V_T$, and goes to 0 like $-e^{-x}$ where V goes to infinity. Its speed is
$\dot z = (1 - e^z)\,\dot x$, in which the exponential current $e^x$ becomes $e^z$: bounded.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

# How close to 0 a coordinate counts: solvers try states behind the threshold, where there is no potential.
_NEAREST = 1e-30


def coordinate(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The coordinate z of a distance from the soft threshold, in units of the sharpness."""
    return -jnp.logaddexp(0, -x)


def distance(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """The distance x from the soft threshold at coordinate z."""
    z = jnp.minimum(z, -_NEAREST)
    # log(1 + e^-x) = -z, solved for x without e^-z, which is too large far below threshold.
    return z - jnp.log(-jnp.expm1(z))


def passed(z: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""A primitive of the distance's singular part: $s \log s - s$ with $s = 1 - e^z$.

    What integrates the potential has a logarithm in its slope at a spike, which no step integrates to the end; how
    much of it is missed depends on where the last step begins, so that gradients are wrong by as much. Taking this
    primitive off leaves nothing singular.
    """
    s = -jnp.expm1(jnp.minimum(z, -_NEAREST))
    return s * jnp.log(s) - s


def passed_slope(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """The derivative of `passed` by z."""
    z = jnp.minimum(z, -_NEAREST)
    return -jnp.exp(z) * jnp.log(-jnp.expm1(z))
