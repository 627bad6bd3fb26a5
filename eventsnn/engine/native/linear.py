"""A linear neuron between two events, in scalars: how its state moves, and when it first reaches the threshold.

The potential follows V' = -a V + b I + d and the current I' = -r I, as in `LinearFlow`. Everything here is in float64,
whatever the states are kept in.
"""

import math

import numpy as np

from .compiled import compiled

# Below this part of a time constant, 1 - exp(-x) has lost digits, and four terms of its series are exact to 1e-14.
_SMALL = 1e-3
# Each round at least halves the bracket, and 64 halvings reach the last bit of any number in it.
_MAX_ROUNDS = 64


@compiled
def coefficients(dt, a, b, r):
    """`keep`, `feed`, `fade` and `gain` of a stretch: V -> keep V + feed I + gain d, I -> fade I.

    The response to a current is b (exp(-a dt) - exp(-r dt)) / (r - a). It is written with the difference of the rates,
    so that nothing is lost where they are equal.
    """
    slow, apart = min(a, r), abs(r - a)
    slower = math.exp(-slow * dt)
    less = math.expm1(-apart * dt)
    # The first way loses the digits of a current that has decayed far.
    faster = slower * (1 + less) if apart * dt < 1 else math.exp(-max(a, r) * dt)
    feed = b * slower * (dt if apart == 0 else -less / apart)
    keep, fade = (slower, faster) if a <= r else (faster, slower)
    x = a * dt
    gain = dt * (1 - x / 2 * (1 - x / 3 * (1 - x / 4))) if x < _SMALL else (1 - keep) / a
    return keep, feed, fade, gain


@compiled
def crossing(v, i, d, dt, a, b, r, theta, passing, resolution, keep, feed, fade, gain):
    """After what time, up to `dt`, V first reaches `theta` from below; -1 if it does not.

    The last four are the `coefficients` of `dt`, which a caller has anyway.

    At the threshold the slope of V is p = b I + d - a theta. It moves one way only, because the current decays. If p is
    above 0 in the end, the potential has crossed the threshold if and only if it is above it in the end. If p falls
    through 0 on the way, the potential comes closest to the threshold from below, or highest above it, right there.
    Where p stays below 0, nothing can cross. This leaves one bracket with one crossing in it.

    A potential that starts at the threshold or above crosses at once if it rises there, unless it is `passing`: has
    spiked and not been below since. If it falls, it may come from below later, after p has risen through 0.
    """
    target = a * theta - d
    drive = b * i
    begin, end = drive - target, drive * fade - target
    end_v, end_i = keep * v + feed * i + gain * d, fade * i
    if v >= theta:
        if begin > 0 and not passing:
            return 0.0
        if begin > 0 or end <= 0:
            return -1.0
        low = math.log(drive / target) / r
        keep, feed, fade, gain = coefficients(low, a, b, r)
        low_v, low_i = keep * v + feed * i + gain * d, fade * i
        if low_v >= theta or end_v < theta:
            return -1.0
        return low + crossing_between(low_v, low_i, end_v, end_i, d, dt - low, a, b, r, theta, resolution)
    high = dt
    if end <= 0:
        if begin <= 0:
            return -1.0
        # With a target of 0 or less, the current has only become too small to be told from 0.
        if target > 0:
            high = math.log(drive / target) / r
            if high < dt:
                keep, feed, fade, gain = coefficients(high, a, b, r)
                end_v, end_i = keep * v + feed * i + gain * d, fade * i
            else:
                high = dt
    if end_v < theta:
        return -1.0
    return crossing_between(v, i, end_v, end_i, d, high, a, b, r, theta, resolution)


@compiled
def _towards(value, slope, bend, third):
    """How far it is to where a parabola reaches the threshold, and how far off that may be; infinitely far if nowhere.

    The step is negative from above the threshold. What the third derivative moves it by is the error.
    """
    inside = slope * slope - 2 * value * bend
    if inside <= 0 or (slope <= 0 and value < 0):
        return -np.inf, np.inf
    steep = math.sqrt(inside)
    step = -2 * value / (slope + steep)
    return step, abs(step * step * step * third) / (6 * steep)


# Where each term of the series below is less than this part of the one before it, its fourth order is below 1e-3 of it.
_NEAR = 0.05


@compiled
def _closer(value, slope, bend, third, fastest):
    """The same from a place that may be close: then by the inverse series of the potential f, which needs no root.

    With u = f / f1 the threshold is u + q u^2 + (2 q^2 - p) u^3 + ... before it, where q = f2 / (2 f1), p = f3 / (6 f1)
    and f1 to f3 are the derivatives. The terms of fourth order are sums of products of three of q u, p u^2 and
    `fastest` u, with factors of up to 5; `fastest` is the faster of the two rates.
    """
    if slope > 0:
        one = 1 / slope
        u, q, p = value * one, 0.5 * bend * one, third * one * (1 / 6)
        size = abs(q * u) + abs(p * u * u) + abs(fastest * u)
        if size < _NEAR:
            return -u * (1 + u * (q + u * (2 * q * q - p))), abs(u) * (5 * size * size * size)
    return _towards(value, slope, bend, third)


@compiled
def crossing_between(v, i, end_v, end_i, d, high, a, b, r, theta, resolution):
    """The crossing between a state below the threshold and one that is not, `high` ms later.

    The search starts from that end of the bracket whose potential is closer to the threshold, by a parabola through
    its value, slope and bend. Each round looks at the exact state and steps from there; one or two are enough. The
    bracket guards them.
    """
    low, top, fastest = 0.0, high, max(a, r)
    from_end = end_v - theta < theta - v
    value, current = (end_v - theta, b * end_i) if from_end else (v - theta, b * i)
    slope = d + current - a * (value + theta)
    bend = -a * slope - r * current
    s, error = _towards(value, slope, bend, r * r * current - a * bend)
    s += high if from_end else 0.0
    for _ in range(_MAX_ROUNDS):
        if not (low <= s <= top):
            s, error = 0.5 * (low + top), top - low
        if error <= resolution * s:
            break
        keep, feed, fade, gain = coefficients(s, a, b, r)
        potential, current = keep * v + feed * i + gain * d, b * fade * i
        value, slope = potential - theta, d + current - a * potential
        if value < 0:
            low = s
        else:
            top = s
        if value == 0:
            break
        bend = -a * slope - r * current
        step, error = _closer(value, slope, bend, r * r * current - a * bend, fastest)
        s += step
    return s
