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

from ...flows.cubic import root_of_cubic
from ...flows.linear import Coefficients, LinearFlow, MaybeArray
from ...materialise import materialised

_Reals = Float[Array, "..."]
_Bools = Bool[Array, "..."]

# Halley's method triples the digits. Grazes, where it cannot, end by halving the bracket.
_MAX_ROUNDS = 100


def slope_at_threshold(flow: LinearFlow, i: MaybeArray) -> _Reals:
    """dV/dt where V is at the threshold and the current is `i`."""
    slope = flow.drive - flow.leak * flow.thresh
    return slope if i is None else slope + flow.coupling * i


def may_cross(flow: LinearFlow, v: _Reals, i: MaybeArray, dt: _Reals, v_end: _Reals, i_end: MaybeArray) -> _Bools:
    """Whether V may cross the threshold from below on its way to `v_end`. Cheap, and never wrong when it says no."""
    crosses = v_end >= flow.thresh
    if i is None or i_end is None:
        return crosses
    excess, needed = slope_at_threshold(flow, i), flow.leak * flow.thresh - flow.drive
    falls = (excess > 0) & (slope_at_threshold(flow, i_end) <= 0)
    # A concave function stays below its tangent. And until t* = log(1 + x) / r it gains at most the charge that
    # comes, less what leaks from where it starts.
    x = excess / jnp.where(needed > 0, needed, 1)
    leaks = flow.drive - flow.leak * v
    at_fall = v + (excess + leaks * jnp.where(leaks > 0, x * jax.lax.rsqrt(1 + x), x / (1 + x))) / flow.decay
    tangent = v + dt * (flow.coupling * i + leaks)
    # Both are sums of few terms; what rounding may take from them is added again.
    reach = jnp.minimum(tangent, at_fall) + 8 * jnp.finfo(dt.dtype).eps * (jnp.abs(v) + jnp.abs(flow.thresh))
    return crosses | (falls & (reach >= flow.thresh))


def locate(
    flow: LinearFlow,
    v: _Reals,
    i: MaybeArray,
    dt: _Reals,
    active: _Bools,
    any_active: Bool[Array, ""],
    interval: _Reals | float = 0.0,
) -> tuple[_Bools, _Reals]:
    """Whether V crosses the threshold within `dt`, and after what time. It starts below.

    The time is as exact as rounding makes it, or as that of an `interval` if this is longer: the time since the last
    spike, whose error is all that may add up over a run.
    """
    limit, eps = dt, jnp.finfo(dt.dtype).eps
    if i is not None:
        limit = jnp.minimum(dt, _time_of_fall(flow, i))

    def polish(v, i, s):
        """One more step, and whether there is nothing left to do behind it."""
        f, size, slope, bend = _above(flow, v, i, s)
        # To where the parabola that V follows here is at the threshold, and what its third derivative moves that by.
        steepness = jnp.sqrt(jnp.maximum(slope * slope - 2 * f * bend, 0))
        step = -2 * f / (slope + steepness)
        left = jnp.abs(step**3 * _third(flow, i, slope, bend)) / (6 * steepness)
        return f, s + step, left <= eps * jnp.maximum(s, interval), jnp.abs(f) <= 2 * eps * size

    def begin(v, i, limit):
        height, _, slope_at_limit, _ = _above(flow, v, i, limit)
        slope, _ = _slopes(flow, v, i)
        s = limit * root_of_cubic(flow.thresh - v, height, slope * limit, slope_at_limit * limit)
        _, s, _, _ = polish(v, i, s)
        _, s, close, _ = polish(v, i, s)
        # All in one number, so that XLA makes one kernel of it: negative where it is not good enough.
        inside = (s > 0) & (s < limit)
        s = jnp.where(close & inside, s, -jnp.where(inside, s, 0.5 * limit))
        return jnp.where(height >= 0, s, jnp.inf)

    s = materialised(any_active, begin, v, i, limit)
    crosses = active & (s < jnp.inf)

    def running(carry):
        return jnp.any(carry[0]) & (carry[-1] < _MAX_ROUNDS)

    def refine(carry):
        searching, low, high, s, rounds = carry
        f, new, close, vanishes = materialised(rounds >= 0, polish, v, i, s)
        low, high = jnp.where(f < 0, s, low), jnp.where(f < 0, high, s)
        inside = (new > low) & (new < high)
        found = (inside & close) | vanishes | (high - low <= eps * jnp.maximum(high, interval))
        new = jnp.where(inside, new, jnp.where(found, s, 0.5 * (low + high)))
        return searching & ~found, low, high, jnp.where(searching, new, s), rounds + 1

    start = (crosses & (s < 0), jnp.zeros_like(limit), limit, jnp.abs(s), jnp.int32(0))
    return crosses, jax.lax.while_loop(running, refine, start)[3]


def _time_of_fall(flow: LinearFlow, i: _Reals) -> _Reals:
    """When dV/dt at the threshold falls through 0; infinite if it never does."""
    needed = flow.leak * flow.thresh - flow.drive
    excess = slope_at_threshold(flow, i)
    falls = (excess > 0) & (needed > 0)
    return jnp.where(falls, jnp.log1p(jnp.where(falls, excess / needed, 1)) / flow.decay, jnp.inf)


def _above(flow: LinearFlow, v: _Reals, i: MaybeArray, s: _Reals) -> tuple[_Reals, _Reals, _Reals, _Reals]:
    """How far V is above threshold after `s`, the size of the terms that this is the sum of, and two derivatives.

    Right to rounding errors of those terms, and with few exponentials: this is where the time goes.
    """
    if i is None or flow.decay is None:
        lost = jnp.expm1(-flow.leak * s)
        through = Coefficients(1 + lost, _over(-lost, flow.leak, s), None, None)
    else:
        slow, lost = flow.leak <= flow.decay, jnp.expm1(-jnp.minimum(flow.leak, flow.decay) * s)
        apart = jnp.abs(flow.decay - flow.leak)
        less = jnp.expm1(-apart * s)
        slower, faster = 1 + lost, (1 + lost) * (1 + less)
        gain = -jnp.where(slow, lost, lost + (1 + lost) * less)
        feed = flow.coupling * slower * _over(-less, apart, s)
        keep, fade = jnp.where(slow, slower, faster), jnp.where(slow, faster, slower)
        through = Coefficients(keep, _over(gain, flow.leak, s), feed, fade)
    v1, i1 = flow.advance(through, v, i)
    size = jnp.abs(flow.thresh) + jnp.abs(v) + jnp.abs(flow.drive * through.gain)
    if i is not None:
        size = size + jnp.abs(through.feed * i)
    return v1 - flow.thresh, size, *_slopes(flow, v1, i1)


def _third(flow: LinearFlow, i: MaybeArray, first: _Reals, second: _Reals) -> _Reals:
    """The third derivative of V, from the first two."""
    third = -flow.leak * second
    return third if i is None else third - flow.decay * (second + flow.leak * first)


def _over(numerator: _Reals, rate: _Reals, at_zero: _Reals) -> _Reals:
    return jnp.where(rate == 0, at_zero, numerator / jnp.where(rate == 0, 1, rate))


def _slopes(flow: LinearFlow, v: _Reals, i: MaybeArray) -> tuple[_Reals, _Reals]:
    """The first two derivatives of V."""
    first = flow.drive - flow.leak * v
    if i is None:
        return first, -flow.leak * first
    first = first + flow.coupling * i
    return first, -flow.leak * first - flow.coupling * flow.decay * i
