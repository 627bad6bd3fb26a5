"""When the spike condition of one linear system first reaches 0 from below, with certainty.

The time is cut into parts. Where a bound says that the condition g stays below 0 in a part, that is all. Otherwise the
part is halved, until the norm of the matrix times its length is at most 1. There g is a polynomial, exact to rounding,
because its Taylor series ends after some 18 terms. In Bernstein's form its coefficients change their sign at least as
often as g does (Descartes' rule): not at all means no crossing, once means exactly one, which is then closed in on by
Newton's method with a bracket, and anything else that the part has to be halved.

The other way, the chain of functions of `flows/exponentials.py`, needs rates that are real, looks for the zeros of each
function in turn, and has to say which signs of decayed functions are noise. This one needs no rates, and two
evaluations of a series where most crossings are. A part may be as long as a bound allows, so a long silence and time
constants far apart cost only the logarithm of the number of short parts.
"""

from eventsnn.engine.native.compiled import compiled, fast
from eventsnn.engine.native.matrices import exponentials, part, times_vector
from eventsnn.engine.native.systems_words import DOWN, EXP, MOST, NOISE, NOISE_C, OVER, PHI, TERMS, UNDER, UP

# Parts that are looked at in one stretch. A peak that grazes the threshold takes some 60, a long silence a few more.
_MAX_PARTS = 100_000
# Each round at least halves the bracket, and 64 halvings reach the last bit of any number in it.
_MAX_ROUNDS = 64
# A step of Newton's method this small, as a part of the polynomial's interval, is exact to rounding once it is taken.
_SMALL_STEP = 1e-9
# What rounding makes of the condition at one state, relative to its terms.
FLAT = 9e-16
# Over a time with this norm the exponential of the matrix takes as long as the series of the state in parts.
_SHORT = 4.0


@fast
def height_at(run, y):
    """The spike condition."""
    h = run.h
    return run.h0 + (h[0] * y[0] + h[1] * y[1] + h[2] * y[2] + h[3] * y[3])


@compiled
def find_velocity(run, y, out):
    """A y + c."""
    times_vector(out, run.at, y, 1.0)
    for k in range(MOST):
        out[k] += run.a_c[k]


@compiled
def slope_at(run, y):
    """How fast the spike condition changes."""
    v, h = run.y_end, run.h
    find_velocity(run, y, v)
    return h[0] * v[0] + h[1] * v[1] + h[2] * v[2] + h[3] * v[3]


@compiled
def expand(run, dt):
    """The Taylor series of the state over `dt`, from 0 to 1: gives the number of its last term."""
    terms, y = run.terms, run.y
    for k in range(MOST):
        terms[k] = y[k]
    term = part(terms, MOST)
    find_velocity(run, y, term)
    for k in range(MOST):
        term[k] *= dt
    last, size = 1, run.norm * dt
    rest = 0.5 * size
    while rest > 1e-17 and last < TERMS:
        last += 1
        after = part(terms, MOST * last)
        times_vector(after, run.at, term, dt / last)
        term = after
        rest *= size / (last + 1)
    return last


@fast
def sum_series(run, last, s):
    """The state at `s` between 0 and 1 of its series."""
    terms, y = run.terms, run.y
    place = MOST * last
    y0, y1, y2, y3 = terms[place], terms[place + 1], terms[place + 2], terms[place + 3]
    for place in range(MOST * (last - 1), -1, -MOST):
        y0 = terms[place] + s * y0
        y1 = terms[place + 1] + s * y1
        y2 = terms[place + 2] + s * y2
        y3 = terms[place + 3] + s * y3
    y[0], y[1], y[2], y[3] = y0, y1, y2, y3


@compiled
def advance(run, dt):
    """The state `run.y` of the system that is loaded goes on for `dt`."""
    if not dt > 0:
        return
    if run.norm * dt > _SHORT:
        row = exponentials_of(run, dt)
        move_by(run, row)
        return
    parts = int(run.norm * dt) + 1
    for _ in range(parts):
        sum_series(run, expand(run, dt / parts), 1.0)


@compiled
def exponentials_of(run, dt):
    """E and F of the system that is loaded, over `dt`."""
    run.chain_of = -1
    return exponentials(run, run.a, run.chain, dt)


@compiled
def move_by(run, row):
    """The state goes on as E and F say."""
    y, out, c = run.y, run.y_end, run.a_c
    for k in range(MOST):
        total = 0.0
        for m in range(MOST):
            total += row[EXP + MOST * k + m] * y[m] + row[PHI + MOST * k + m] * c[m]
        out[k] = total
    for k in range(MOST):
        y[k] = out[k]


@compiled
def stays_below(run, level):
    """Whether the condition stays below 0 through a part of this level; if so, the state goes on to its end."""
    row, y, c, v = run.chain[level], run.y, run.a_c, run.terms
    before = height_at(run, y)
    find_velocity(run, y, v)
    over = FLAT * abs(run.h0)
    up = 0.0
    for k in range(MOST):
        over += row[NOISE + k] * abs(y[k]) + row[NOISE_C + k] * abs(c[k])
    up = over
    for k in range(MOST):
        over += row[OVER + k] * v[k] if v[k] > 0 else row[UNDER + k] * v[k]
        up += row[UP + k] * v[k] if v[k] > 0 else row[DOWN + k] * v[k]
    below = before + up < 0
    if not below and not before + over < 0:
        return False
    for k in range(MOST):
        v[k] = y[k]
    move_by(run, row)
    after = height_at(run, y)
    if after < 0 and (below or after + over < 0):
        return True
    for k in range(MOST):
        y[k] = v[k]
    return False


@compiled
def find_bernstein(run, last):
    """The condition along the series: its coefficients, and those of Bernstein's form; gives their changes of sign."""
    terms, h, poly, bern = run.terms, run.h, run.poly, run.bern
    poly[0] = height_at(run, terms)
    share = 1.0
    bern[0] = poly[0]
    for k in range(1, last + 1):
        place = MOST * k
        poly[k] = h[0] * terms[place] + h[1] * terms[place + 1] + h[2] * terms[place + 2] + h[3] * terms[place + 3]
        # Over the number of ways to choose k of `last`.
        share *= k / (last - k + 1)
        bern[k] = share * poly[k]
    for start in range(1, last + 1):
        for k in range(last, start - 1, -1):
            bern[k] += bern[k - 1]
    changes = 0
    for k in range(1, last + 1):
        if (bern[k] >= 0) != (bern[k - 1] >= 0):
            changes += 1
    return changes


@compiled
def may_rise_to_0(run, last):
    """Whether the condition may reach 0 along the series: for most parts the sum of what rises says no."""
    terms, h = run.terms, run.h
    top = height_at(run, terms)
    for k in range(1, last + 1):
        place = MOST * k
        value = h[0] * terms[place] + h[1] * terms[place + 1] + h[2] * terms[place + 2] + h[3] * terms[place + 3]
        top += max(value, 0.0)
    return top >= 0


@compiled
def root(run, last):
    """Where the polynomial is 0 that is below 0 at 0, not at 1, and rises through 0 once."""
    poly = run.poly
    low, high = 0.0, 1.0
    end = run.bern[last]
    s = poly[0] / (poly[0] - end)
    for _ in range(_MAX_ROUNDS):
        value, slope = poly[last], 0.0
        for k in range(last - 1, -1, -1):
            slope = value + s * slope
            value = poly[k] + s * value
        if value < 0:
            low = s
        else:
            high = s
        step = -value / slope if slope > 0 else 2.0
        if not (low <= s + step <= high):
            # The end of a bracket may be the zero itself.
            if abs(step) <= 2e-16:
                break
            s, step = 0.5 * (low + high), 1.0
        else:
            s += step
        if abs(step) <= _SMALL_STEP or high - low <= 2e-16 * high:
            break
    return s


@compiled
def peak(run, last):
    """Where the polynomial is largest, as far as its coefficients tell, if it is not below 0 there; -1 otherwise."""
    poly, bern = run.poly, run.bern
    best = 0
    for k in range(1, last + 1):
        if bern[k] > bern[best]:
            best = k
    s = best / last
    value = poly[last]
    for k in range(last - 1, -1, -1):
        value = poly[k] + s * value
    return s if value >= 0 else -1.0


@compiled
def is_flat(run, last):
    """Whether the polynomial changes by no more than rounding."""
    y, h, bern = run.y, run.h, run.bern
    noise = abs(run.h0)
    for k in range(MOST):
        noise += abs(h[k] * y[k])
    for k in range(1, last + 1):
        if abs(bern[k] - bern[0]) > FLAT * noise:
            return False
    return True


@compiled
def first_crossing(run, left, passing):
    """After what time, up to `left`, the state `run.y` of the loaded system first reaches its threshold from below.

    -1 if it does not. The state goes on to there, or to the end. The chain has been set for a time of `left` or more.

    A state that starts at the threshold or above crosses at once if it rises, unless it is `passing`: has spiked and
    not been below since. Otherwise it has to be below first.
    """
    y = run.y
    above = height_at(run, y) >= 0
    if above and not passing and slope_at(run, y) > 0:
        return 0.0
    spent, level, longest = 0.0, run.levels, run.base
    piece = longest
    for _ in range(_MAX_PARTS):
        rest = left - spent
        if not rest > 0:
            break
        if level > 0:
            span = longest * (1 << level)
            if not above and span <= rest and stays_below(run, level):
                spent += span
                level = min(level + 1, run.levels)
            else:
                level -= 1
            continue
        dt = min(piece, rest)
        last = expand(run, dt)
        if not above:
            if height_at(run, y) >= 0:
                # The part before has reached it by rounding.
                return spent
            if not may_rise_to_0(run, last):
                sum_series(run, last, 1.0)
                spent += dt
                piece, level = min(2 * piece, longest), min(1, run.levels)
                continue
        changes, s = find_bernstein(run, last), -1.0
        if changes > 1:
            if not is_flat(run, last):
                piece = 0.5 * dt
                continue
            s = -1.0 if above else peak(run, last)
        elif changes == 1 and not above:
            s = root(run, last)
        if s >= 0:
            sum_series(run, last, s)
            return spent + s * dt
        above = above and run.bern[last] >= 0
        sum_series(run, last, 1.0)
        spent += dt
        piece, level = min(2 * piece, longest), min(1, run.levels)
    return -1.0


@compiled
def fill(run, y, x, j):
    """The state of a neuron, into four numbers."""
    for k in range(MOST):
        y[k] = x[k, j] if k < run.size else 0.0
