"""Threshold crossings inside a step.

A step hands over the spike condition g and its slope along the trajectory at both ends. Together
they fix a cubic. The cubic decides which steps to look into and where to look; the answer itself
always comes from true solver steps to that place, so that a spike time carries the solver's order
and not the cubic's.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .rows import Channels, Rows

_Lanes = Float[Array, "batch neurons"]

# A step whose cubic peaks below threshold is looked into if the threshold lies within this fraction of the height by
# which the peak stands out over both ends.
PEAK_MARGIN = 0.5

# The shortest step is what rounding makes of this fraction of the run: 5e-9 ms in a run of 40 ms in float32. Step sizes
# fall that low only where the dynamics have a singularity.
_SHORTEST = 1e-3


def condition_and_slope(rows: Rows, t: _Lanes, y: Channels, slope: Channels) -> tuple[_Lanes, _Lanes]:
    """The spike condition g, and dg/dt along the trajectory."""
    return jax.jvp(rows.condition, (t, y), (jnp.ones_like(t), slope))


def crossing_resolution(h: _Lanes) -> _Lanes:
    """How exactly a crossing is located within a step of size `h`, in ms.

    It is a fraction of the step and not of the time: what is lost at every spike would add up over a run.
    """
    return 4 * jnp.finfo(h.dtype).eps * h


def shortest_step(t_end: Float[Array, "..."]) -> Float[Array, "..."]:
    """A step that is shorter says that the solver cannot go on."""
    return _SHORTEST * jnp.finfo(t_end.dtype).eps * t_end


class Cubic(eqx.Module):
    """The cubic through g at both ends of a step with the slopes there, over x in [0, 1].

    - `g0`, `g1`: the spike condition at the start and the end.
    - `d0`, `d1`: its slopes there, times the step size.
    """

    g0: _Lanes
    g1: _Lanes
    d0: _Lanes
    d1: _Lanes

    def value(self, x: _Lanes) -> _Lanes:
        c2, c3 = self._coefficients()
        return self.g0 + x * (self.d0 + x * (c2 + x * c3))

    def peak(self) -> tuple[_Lanes, _Lanes]:
        """Where the interior maximum is, and its value; 0 and -inf where there is none."""
        c2, c3 = self._coefficients()
        discriminant = c2**2 - 3 * c3 * self.d0
        root = jnp.sqrt(jnp.maximum(discriminant, 0))
        # The root of the derivative with negative curvature, in the form without cancellation.
        falling = c2 <= 0
        numerator = jnp.where(falling, self.d0, -c2 - root)
        denominator = jnp.where(falling, root - c2, 3 * c3)
        x = numerator / jnp.where(denominator == 0, 1, denominator)
        inside = (discriminant > 0) & (denominator != 0) & (x > 0) & (x < 1)
        x = jnp.where(inside, x, 0)
        return x, jnp.where(inside, self.value(x), -jnp.inf)

    def first_root(self, end: _Lanes) -> _Lanes:
        """The crossing in (0, end), for g below 0 at 0 and above at `end`: four bracketed Newton steps."""
        c2, c3 = self._coefficients()
        low, high = jnp.zeros_like(end), end
        at_end = self.value(end)
        x = end * self.g0 / jnp.where(self.g0 == at_end, 1, self.g0 - at_end)
        for _ in range(4):
            x = jnp.where((x > low) & (x < high), x, 0.5 * (low + high))
            value = self.value(x)
            slope = self.d0 + x * (2 * c2 + x * 3 * c3)
            low, high = jnp.where(value < 0, x, low), jnp.where(value < 0, high, x)
            x = x - value / jnp.where(slope == 0, 1, slope)
        return jnp.where((x > low) & (x < high), x, 0.5 * (low + high))

    def _coefficients(self) -> tuple[_Lanes, _Lanes]:
        rise = self.g1 - self.g0
        return 3 * rise - 2 * self.d0 - self.d1, self.d0 + self.d1 - 2 * rise


class Inside(NamedTuple):
    """What the cubic says of the inside of a step.

    - `x_root`: where the crossing is, for a step that ends on the other side of the threshold.
    - `x_peak`: where the trajectory comes nearest to the threshold, for one that ends on the same side, and `touches`
        whether it may reach it.
    """

    x_root: _Lanes
    x_peak: _Lanes
    touches: Bool[Array, "batch neurons"]


def look_inside(
    g0: _Lanes, d0: _Lanes, g1: _Lanes, d1: _Lanes, h: _Lanes, above: Bool[Array, "batch neurons"]
) -> Inside:
    """Look for a crossing inside steps of size `h` from `g0` with slope `d0` to `g1` with slope `d1`.

    For neurons `above` the threshold the cubic is that of the negative spike condition: what may lie inside is a dip.
    """
    sign = jnp.where(above, -1, 1).astype(g0.dtype)
    g0, g1 = sign * g0, sign * g1
    cubic = Cubic(g0, g1, sign * h * d0, sign * h * d1)
    x_peak, peak = cubic.peak()
    x_root = cubic.first_root(jnp.where(peak >= 0, x_peak, 1))
    height = peak - jnp.maximum(g0, g1)
    touches = (g1 < 0) & (peak + PEAK_MARGIN * height >= 0) & (x_peak * h > crossing_resolution(h))
    return Inside(x_root, x_peak, touches)


class Bracket(eqx.Module):
    """A crossing on its way to being found: g < 0 at `low`, g >= 0 at `high`.

    - `x`: the place to try next, as an offset from the start of the step.
    - `last_x`, `last_g`: the latest try that is known; `last_x` is `x` before the first.
    """

    low: _Lanes
    high: _Lanes
    x: _Lanes
    last_x: _Lanes
    last_g: _Lanes

    def refine(self, g: _Lanes, slope: _Lanes, resolution: _Lanes) -> tuple["Bracket", Bool[Array, "batch neurons"]]:
        """After a try at `x` gave `g`: the smaller bracket, and whether `x` is the crossing.

        First a Newton step with the `slope` along the trajectory, then secant steps: the end of a
        long step moves with the step's size at a somewhat different rate than the trajectory, so
        that Newton steps alone could circle around the crossing. The middle of the bracket is
        tried where this leaves the bracket, or does not halve the change from one try to the next.
        """
        run = self.x - self.last_x
        first = run == 0
        slope = jnp.where(first, slope, (g - self.last_g) / jnp.where(first, 1, run))
        change = -g / jnp.where(slope == 0, 1, slope)
        low, high = jnp.where(g < 0, self.x, self.low), jnp.where(g < 0, self.high, self.x)
        sound = (slope > 0) & (first | (jnp.abs(change) < 0.5 * jnp.abs(run)))
        found = ((jnp.abs(change) <= resolution) & (slope > 0)) | (g == 0) | (high - low <= resolution)
        x = self.x + change
        x = jnp.where(sound & (x > low) & (x < high), x, 0.5 * (low + high))
        return Bracket(low, high, x, self.x, g), found
