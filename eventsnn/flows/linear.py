"""Neurons whose free dynamics are linear, and therefore known in closed form."""

from typing import Any, Self, TypeAlias

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .exponentials import AbstractExponentialFlow
from .growth import relative_growth
from .rules import LinearRules

MaybeArray: TypeAlias = Any
"""An array, or `None` where a neuron has no such thing: no current, or no threshold."""


class LinearFlow(AbstractExponentialFlow):
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
        leak, coupling, decay = (_with_axes(number, dt.ndim) for number in (self.leak, self.coupling, self.decay))
        keep = jnp.exp(-leak * dt)
        gain = dt * relative_growth(-leak * dt)
        if coupling is None or decay is None:
            return Coefficients(keep, gain, None, None)
        slower, faster = jnp.minimum(leak, decay), jnp.maximum(leak, decay)
        # Not the absolute value of a difference, whose derivative at 0 is 1 in JAX and should be 0 here.
        apart = faster - slower
        feed = coupling * dt * jnp.exp(-slower * dt) * relative_growth(-apart * dt)
        return Coefficients(keep, gain, feed, jnp.exp(-decay * dt))

    def advance(
        self, through: "Coefficients", v: Float[Array, "..."], i: MaybeArray
    ) -> tuple[Float[Array, "..."], MaybeArray]:
        """The state after the stretch of time that `through` belongs to."""
        v_end = through.keep * v + self.drive * through.gain
        if i is None or through.feed is None:
            return v_end, None
        return v_end + through.feed * i, through.fade * i

    def after(self, y: Float[Array, "neurons channels"], dt: Float[Array, " neurons"]) -> Array:
        return _join(*self.advance(self.coefficients(dt), *self._split(y)))

    def first_crossing(self, y, dt, resolution) -> Float[Array, " neurons"]:
        return jnp.full_like(dt, jnp.inf) if self.thresh is None else super().first_crossing(y, dt, resolution)

    def may_cross(self, y, y_end, dt) -> Bool[Array, " neurons"]:
        return jnp.zeros(dt.shape, bool) if self.thresh is None else super().may_cross(y, y_end, dt)

    def velocity(self, y: Float[Array, "neurons channels"]) -> Float[Array, "neurons channels"]:
        v, i = self._split(y)
        dv = self.drive - self.leak * v
        return dv[:, None] if i is None else _join(dv + self.coupling * i, -self.decay * i)

    def height(self, y: Float[Array, "neurons channels"]) -> Float[Array, " neurons"]:
        return y[:, 0] - self.thresh

    def jumps_are_linear(self) -> bool:
        return True

    def rates(self) -> tuple[Float[Array, "*neurons"], ...]:
        return (self.leak,) if self.decay is None else (self.leak, self.decay)

    def held(self, channels: tuple[int, ...]) -> Self:
        def still(number: MaybeArray, channel: int) -> MaybeArray:
            return jnp.zeros_like(number) if channel in channels and number is not None else number

        leak, drive, coupling = (still(number, 0) for number in (self.leak, self.drive, self.coupling))
        return type(self)(leak, drive, self.thresh, self.vreset, coupling, still(self.decay, 1))

    def rules(self, n_neurons: int) -> LinearRules:
        def each(number: MaybeArray) -> Array:
            return jnp.broadcast_to(jnp.zeros_like(self.leak) if number is None else number, (n_neurons,))

        def every(flag: bool) -> tuple[bool, ...]:
            return (flag,) * n_neurons

        return LinearRules(
            leak=each(self.leak),
            coupling=each(self.coupling),
            decay=each(self.decay),
            drive=each(self.drive),
            thresh=each(self.thresh),
            vreset=each(self.vreset),
            tref=each(None),
            jumps=every(self.decay is None),
            spikes=every(self.thresh is not None),
            once=every(False),
            holds_v=every(False),
            holds_i=every(False),
            blocks=every(False),
            columns=("V",) if self.decay is None else ("V", "I"),
        )

    def _split(self, y: Float[Array, "neurons channels"]) -> tuple[Array, MaybeArray]:
        return y[:, 0], None if self.decay is None else y[:, 1]


def _with_axes(number: MaybeArray, ndim: int) -> MaybeArray:
    """A number that broadcasts against `ndim` axes, with these axes: JAX can be told not to add them by itself."""
    return number if number is None or number.ndim == 0 else jnp.expand_dims(number, tuple(range(ndim - number.ndim)))


def _join(v: Float[Array, " neurons"], i: MaybeArray) -> Float[Array, "neurons channels"]:
    return v[:, None] if i is None else jnp.stack([v, i], axis=1)


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
