"""Where a potential with a linear flow reaches its threshold.

Between arrivals V has one extremum at most. With p(t) = b I(t) + d - a thresh, which is dV/dt on the threshold:

- If p does not fall through 0, V crosses on its way to the end of the stretch or not at all.
- If p falls through 0 at t*, then V is concave and rises until it crosses or until t* is past. Whether it
  crosses is decided at t*: behind a maximum below threshold V falls, and at t* it is still below.

So no maximum has to be found, and t* depends on the current alone.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ...neuron_models.linear_flow import LinearFlow

_Reals = Float[Array, "..."]
_Bools = Bool[Array, "..."]

# Halley's method triples the digits. Grazes, where it cannot, end by halving the bracket.
_MAX_ROUNDS = 100


def slope_at_threshold(flow: LinearFlow, i: _Reals | None) -> _Reals:
    """dV/dt where V is at the threshold and the current is `i`."""
    slope = flow.drive - flow.leak * flow.thresh
    return slope if i is None else slope + flow.coupling * i


def may_cross(flow: LinearFlow, v: _Reals, i: _Reals | None, dt: _Reals, v_end: _Reals, i_end: _Reals | None) -> _Bools:
    """Whether V may cross the threshold from below on its way to `v_end`. Cheap, and never wrong when it says no."""
    crosses = v_end >= flow.thresh
    if i is None or i_end is None:
        return crosses
    falls = (slope_at_threshold(flow, i) > 0) & (slope_at_threshold(flow, i_end) <= 0)
    # A concave function stays below its tangent.
    tangent = v + dt * (flow.coupling * i + flow.drive - flow.leak * v)
    return crosses | (falls & (tangent >= flow.thresh))


def locate(flow: LinearFlow, v: _Reals, i: _Reals | None, dt: _Reals, active: _Bools) -> tuple[_Bools, _Reals]:
    """Whether V crosses the threshold within `dt`, and after what time. It starts below."""
    limit = dt
    if i is not None:
        limit = jnp.minimum(dt, _time_of_fall(flow, i))
    height, _, _ = _above(flow, v, i, limit)
    crosses = active & (height >= 0)
    slope, _ = _slopes(flow, v, i)
    # The parabola through the start, with its slope there, and the limit.
    below = flow.thresh - v
    bend = (height + below - slope * limit) / limit
    root = jnp.sqrt(jnp.maximum(slope * slope + 4 * bend * below / limit, 0))
    guess = 2 * below / (slope + root)
    low, high = jnp.zeros_like(limit), limit
    guess = jnp.where((guess > low) & (guess < high), guess, 0.5 * high)
    resolution = 2 * jnp.finfo(dt.dtype).eps * limit

    def running(carry):
        return jnp.any(carry[0]) & (carry[-1] < _MAX_ROUNDS)

    def refine(carry):
        searching, low, high, s, rounds = carry
        f, slope, bend = _above(flow, v, i, s)
        low, high = jnp.where(f < 0, s, low), jnp.where(f < 0, high, s)
        step = -2 * f * slope / (2 * slope * slope - f * bend)
        inside = (s + step > low) & (s + step < high)
        new = jnp.where(inside, s + step, jnp.where(f == 0, s, 0.5 * (low + high)))
        done = (jnp.abs(new - s) <= resolution) | (high - low <= resolution)
        return searching & ~done, low, high, jnp.where(searching, new, s), rounds + 1

    _, _, _, s, _ = jax.lax.while_loop(running, refine, (crosses, low, high, guess, jnp.int32(0)))
    return crosses, s


def _time_of_fall(flow: LinearFlow, i: _Reals) -> _Reals:
    """When dV/dt at the threshold falls through 0; infinite if it never does."""
    needed = flow.leak * flow.thresh - flow.drive
    excess = slope_at_threshold(flow, i)
    falls = (excess > 0) & (needed > 0)
    return jnp.where(falls, jnp.log1p(jnp.where(falls, excess / needed, 1)) / flow.decay, jnp.inf)


def _above(flow: LinearFlow, v: _Reals, i: _Reals | None, s: _Reals) -> tuple[_Reals, _Reals, _Reals]:
    """How far V is above threshold after `s`, and its first two derivatives. Right to rounding, not to all digits."""
    v1, i1 = flow.advance(flow.coefficients(s), v, i)
    return (v1 - flow.thresh, *_slopes(flow, v1, i1))


def _slopes(flow: LinearFlow, v: _Reals, i: _Reals | None) -> tuple[_Reals, _Reals]:
    """The first two derivatives of V."""
    first = flow.drive - flow.leak * v
    if i is None:
        return first, -flow.leak * first
    first = first + flow.coupling * i
    return first, -flow.leak * first - flow.coupling * flow.decay * i
