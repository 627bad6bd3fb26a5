"""A linear neuron between two events, in scalars: how its state moves, and when it first reaches the threshold.

The potential follows V' = -a V + b I + d and the current I' = -r I, as in `LinearFlow`. Everything here is in float64,
whatever the states are kept in.
"""

import math

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
def crossing(v, i, d, dt, a, b, r, theta, passing, resolution):
    """After what time, up to `dt`, V first reaches `theta` from below; -1 if it does not.

    At the threshold the slope of V is p = b I + d - a theta. It moves one way only, because the current decays. If p is
    above 0 in the end, the potential has crossed the threshold if and only if it is above it in the end. If p falls
    through 0 on the way, the potential comes closest to the threshold from below, or highest above it, right there.
    Where p stays below 0, nothing can cross. This leaves one bracket with one crossing in it.

    A potential that starts at the threshold or above crosses at once if it rises there, unless it is `passing`: has
    spiked and not been below since. If it falls, it may come from below later, after p has risen through 0.
    """
    target = a * theta - d
    drive = b * i
    begin, end = drive - target, drive * math.exp(-r * dt) - target
    low, high = 0.0, dt
    if v >= theta:
        if begin > 0 and not passing:
            return 0.0
        if begin > 0 or end <= 0:
            return -1.0
        low = math.log(drive / target) / r
        keep, feed, fade, gain = coefficients(low, a, b, r)
        if keep * v + feed * i + gain * d >= theta:
            return -1.0
        v, i = keep * v + feed * i + gain * d, fade * i
        return _resume(low, crossing_between(v, i, d, dt - low, a, b, r, theta, resolution))
    if end <= 0:
        if begin <= 0:
            return -1.0
        # With a target of 0 or less, the current has only become too small to be told from 0.
        if target > 0:
            high = min(dt, math.log(drive / target) / r)
    return crossing_between(v, i, d, high, a, b, r, theta, resolution)


@compiled
def _resume(low, found):
    return found if found < 0 else low + found


@compiled
def crossing_between(v, i, d, high, a, b, r, theta, resolution):
    """The crossing within `high`, where V is highest against the threshold if it is reached at all; -1 if it is not.

    Each round goes to where the parabola through the value, the slope and the bend reaches the threshold. That leaves
    the third derivative as the error, so that three or four rounds are enough. The bracket guards them.
    """
    keep, feed, fade, gain = coefficients(high, a, b, r)
    if keep * v + feed * i + gain * d < theta:
        return -1.0
    low, s = 0.0, 0.0
    value, slope = v - theta, d + b * i - a * v
    bend = -a * slope - r * b * i
    for _ in range(_MAX_ROUNDS):
        inside = slope * slope - 2 * value * bend
        new, done = -1.0, False
        if slope > 0 and inside > 0:
            steep = math.sqrt(inside)
            step = -2 * value / (slope + steep)
            third = -a * bend - r * (bend + a * slope)
            new = s + step
            done = abs(step * step * step * third) <= 6 * steep * resolution * new
        if not (low <= new <= high):
            new = 0.5 * (low + high)
            done = high - low <= resolution * high
        s = new
        if done:
            break
        keep, feed, fade, gain = coefficients(s, a, b, r)
        potential, current = keep * v + feed * i + gain * d, b * fade * i
        value, slope = potential - theta, d + current - a * potential
        bend = -a * slope - r * current
        if value < 0:
            low = s
        else:
            high = s
        if value == 0:
            break
    return s
