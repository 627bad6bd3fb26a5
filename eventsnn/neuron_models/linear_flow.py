"""Neurons whose free dynamics are linear, and therefore known in closed form."""

from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

MaybeArray: TypeAlias = Any
"""An array, or `None` where a neuron has no such thing: no current, or no threshold."""


class LinearFlow(eqx.Module):
    r"""A potential that leaks, driven by a constant and by a current that decays.

    **Free dynamics**

    $$\dot V = -a V + b I + d, \qquad \dot I = -r I$$

    **Threshold** $V = \vartheta$. At a spike $V \to V_\text{reset}$; $I$ is kept.

    **Jumps** an arriving spike of weight $w$ adds $w$ to $I$, or to $V$ if there is no current.

    A neuron model that is of this form says so with `closed_form`. Every number is a scalar or has
    one value per neuron.

    - `leak`: $a$, per ms, 0 or more. At 0 the potential integrates.
    - `drive`: $d$, per ms.
    - `thresh`, `vreset`: $\vartheta$ and $V_\text{reset}$; `thresh` is `None` for a neuron that
        never spikes.
    - `coupling`, `decay`: $b$ and $r > 0$, per ms; both `None` for a synapse without a current,
        whose spikes act on $V$ at once.
    """

    leak: Float[Array, "*neurons"]
    drive: Float[Array, "*neurons"]
    thresh: MaybeArray
    vreset: Float[Array, "*neurons"]
    coupling: MaybeArray = None
    decay: MaybeArray = None

    def coefficients(self, dt: Float[Array, "..."]) -> "Coefficients":
        """What becomes of the state after `dt`.

        The response to a current is $(e^{-a t} - e^{-r t}) / (r - a)$. Written with the function
        $(e^z - 1)/z$ it has no singularity at $a = r$, and all its factors are positive, so that
        no digits are lost for any ratio of the time constants.
        """
        keep = jnp.exp(-self.leak * dt)
        gain = dt * relative_growth(-self.leak * dt)
        if self.coupling is None or self.decay is None:
            return Coefficients(keep, gain, None, None)
        slower, faster = jnp.minimum(self.leak, self.decay), jnp.maximum(self.leak, self.decay)
        # Not the absolute value of a difference, whose derivative at 0 is 1 in JAX and should be 0 here.
        apart = faster - slower
        feed = self.coupling * dt * jnp.exp(-slower * dt) * relative_growth(-apart * dt)
        return Coefficients(keep, gain, feed, jnp.exp(-self.decay * dt))

    def advance(
        self, through: "Coefficients", v: Float[Array, "..."], i: MaybeArray
    ) -> tuple[Float[Array, "..."], MaybeArray]:
        """The state after the stretch of time that `through` belongs to."""
        v_end = through.keep * v + self.drive * through.gain
        if i is None or through.feed is None:
            return v_end, None
        return v_end + through.feed * i, through.fade * i


class Coefficients(eqx.Module):
    """The flow over some stretch of time: `V -> keep V + feed I + gain d`, `I -> fade I`."""

    keep: Float[Array, "..."]
    gain: Float[Array, "..."]
    feed: MaybeArray
    fade: MaybeArray

    def transposed(self, v: Float[Array, "..."], i: MaybeArray) -> tuple[Float[Array, "..."], MaybeArray]:
        """The adjoint at the start of the stretch, from that at its end."""
        if i is None or self.feed is None:
            return self.keep * v, None
        return self.keep * v, self.fade * i + self.feed * v


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
