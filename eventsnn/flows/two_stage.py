"""Two stages one behind the other, driven by a current that decays."""

from typing import Any, Self

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..materialise import materialised
from .differences import first_difference, second_difference
from .exponentials import AbstractExponentialFlow


class TwoStageFlow(AbstractExponentialFlow):
    r"""A potential behind another stage, which a decaying current drives.

    **Free dynamics**, of three channels in this order

    $$\dot x = -a x + b y + d, \qquad \dot y = c x - s y + k z, \qquad \dot z = -r z$$

    **Threshold** $x = \vartheta$.

    The stage is a synaptic current that rises and falls, or a dendrite. No factor is negative, and nothing is
    singular where rates are equal, so that no digits are lost. Every number is a scalar or has one value per neuron.

    - `leak`, `coupling`, `drive`: $a$, $b$, $d$, per ms.
    - `back`: $c$, 0 or more, or `None` for 0: a stage that does not hear of the potential.
    - `stage_leak`, `stage_coupling`: $s$, $k$.
    - `decay`: $r$.
    - `thresh`: $\vartheta$.
    - `linear_jumps`: what `jumps_are_linear` says.
    """

    leak: Float[Array, "*neurons"]
    coupling: Float[Array, "*neurons"]
    drive: Float[Array, "*neurons"]
    back: Any
    stage_leak: Float[Array, "*neurons"]
    stage_coupling: Float[Array, "*neurons"]
    decay: Float[Array, "*neurons"]
    thresh: Float[Array, "*neurons"]
    linear_jumps: bool = eqx.field(static=True, default=False)

    def after(self, y: Float[Array, "neurons channels"], dt: Float[Array, " neurons"]) -> Array:
        # For a matrix A with eigenvalues p <= q, f(A) = f(p) + f[p, q] (A - p): divided differences of exponentials
        # are positive, and the entries of A - p are not negative.
        back = 0.0 if self.back is None else self.back
        moved = materialised(jnp.any(dt >= 0), lambda dt: self._coefficients(dt), dt)
        over_x, over_y, keep, cross, fed, fed_cross, driven, driven_cross, fade = moved
        x, stage, z = y[:, 0], y[:, 1], y[:, 2]
        input_ = self.stage_coupling * z
        x1 = (keep + cross * over_x) * x + self.coupling * (cross * stage + fed_cross * input_)
        x1 = x1 + self.drive * (driven + driven_cross * over_x)
        stage1 = (keep + cross * over_y) * stage + (fed + fed_cross * over_y) * input_
        stage1 = stage1 + back * (cross * x + driven_cross * self.drive)
        return jnp.stack([x1, stage1, fade * z], axis=1)

    def _coefficients(self, dt: Float[Array, " neurons"]) -> tuple[Array, ...]:
        """What everything after `dt` is made of, besides the state."""
        slow, fast, over_x, over_y = (jnp.broadcast_to(x, dt.shape) for x in self._stages())
        p, q, r = -fast * dt, -slow * dt, -self.decay * dt
        zero = jnp.zeros_like(p)
        return (
            over_x,
            over_y,
            jnp.exp(p),
            dt * first_difference(p, q),
            dt * first_difference(p, r),
            dt * dt * second_difference(p, q, r),
            dt * first_difference(p, zero),
            dt * dt * second_difference(p, q, zero),
            jnp.exp(r),
        )

    def velocity(self, y: Float[Array, "neurons channels"]) -> Float[Array, "neurons channels"]:
        x, stage, z = y[:, 0], y[:, 1], y[:, 2]
        dx = self.drive - self.leak * x + self.coupling * stage
        dstage = self.stage_coupling * z - self.stage_leak * stage
        if self.back is not None:
            dstage = dstage + self.back * x
        return jnp.stack([dx, dstage, -self.decay * z], axis=1)

    def height(self, y: Float[Array, "neurons channels"]) -> Float[Array, " neurons"]:
        return y[:, 0] - self.thresh

    def jumps_are_linear(self) -> bool:
        return self.linear_jumps

    def rates(self) -> tuple[Float[Array, "*neurons"], ...]:
        if self.back is None:
            return self.leak, self.stage_leak, self.decay
        slow, fast, _, _ = self._stages()
        return fast, slow, self.decay

    def held(self, channels: tuple[int, ...]) -> Self:
        none = jnp.zeros_like(self.leak)

        def row(channel: int, *numbers: Any) -> tuple[Any, ...]:
            return tuple(none if channel in channels and number is not None else number for number in numbers)

        leak, coupling, drive = row(0, self.leak, self.coupling, self.drive)
        back, stage_leak, stage_coupling = row(1, self.back, self.stage_leak, self.stage_coupling)
        (decay,) = row(2, self.decay)
        return type(self)(leak, coupling, drive, back, stage_leak, stage_coupling, decay, self.thresh)

    def _stages(self) -> tuple[Array, Array, Array, Array]:
        """The rates of the two stages together, the smaller first, and by how much the larger exceeds each leak."""
        if self.back is None:
            slow, fast = jnp.minimum(self.leak, self.stage_leak), jnp.maximum(self.leak, self.stage_leak)
            return slow, fast, fast - self.leak, fast - self.stage_leak
        middle, half = 0.5 * (self.leak + self.stage_leak), 0.5 * (self.stage_leak - self.leak)
        product = self.coupling * self.back
        # The square root has no derivative at 0. This is so little that only there it makes a difference.
        little = jnp.finfo(middle.dtype).eps * middle
        apart = jnp.sqrt(half * half + product + little * little)
        larger = apart + jnp.abs(half)
        smaller = product / jnp.where(larger == 0, 1, larger)
        over_x, over_y = jnp.where(half >= 0, larger, smaller), jnp.where(half >= 0, smaller, larger)
        fast = middle + apart
        return (self.leak * self.stage_leak - product) / jnp.where(fast == 0, 1, fast), fast, over_x, over_y
