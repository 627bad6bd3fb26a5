"""Small matrices: those of one linear system, their exponentials over a time, and what these say of the condition.

A neuron follows x' = A x + c and spikes when h x + h0 reaches 0 from below. After a time t its state is E(t) x +
F(t) c, with E = exp(A t) and its integral F, both from one series: nothing is singular where rates are equal, or 0.
"""

import math

from numba import types

from eventsnn.engine.native.block import room
from eventsnn.engine.native.compiled import compiled, fast, intrinsic
from eventsnn.engine.native.systems_words import (
    CONDITION,
    DOWN,
    ENTRIES,
    EXP,
    HELD,
    LEVELS,
    MATRIX,
    MATRIX_AT,
    MOST,
    NOISE,
    NOISE_C,
    OVER,
    PHI,
    TERMS,
    UNDER,
    UP,
)

# Sixteen roundings of a sum of up to ten terms.
_ROUNDING = 3.6e-15
# A bound that excludes nothing. It is finite, since infinity times 0 would be no number, with which nothing is found.
_NO_BOUND = 1e100


@intrinsic
def part(typingctx, array, index):
    """The array that starts at an entry of another one."""

    def codegen(context, builder, signature, args):
        return builder.gep(args[0], [args[1]])

    return array(array, types.int64), codegen


@compiled
def set_rows(run, size):
    """Where the numbers of neurons with so many channels are, row by row: A is first."""
    run.size = size
    run.at_c = size * size
    run.at_h = run.at_c + size
    run.at_h0 = run.at_h + size
    run.at_into = run.at_h0 + 1
    run.at_r = run.at_into + size
    run.at_rho = run.at_r + size * size
    run.at_tref = run.at_rho + size
    run.at_y0 = run.at_tref + 1
    run.numbers_rows = run.at_y0 + size


def places_of_small(layout):
    """A function that gives everything small its place in the memory of a run; it gives where this ends."""
    first, end = layout.span("chain", "bern")

    @compiled
    def set_out_small(run, place):
        for word in range(first, end):
            run.words[word] = place
            place += room(ENTRIES * (LEVELS + 1) if word < first + 2 else MOST * (TERMS + 4))
        return place

    return set_out_small


def exchange(layout, one, other):
    """A function that exchanges two arrays of a run."""
    first, second = layout.place(one), layout.place(other)

    @compiled
    def swap(run):
        run.words[first], run.words[second] = run.words[second], run.words[first]

    return swap


@compiled
def load(run, j, rests):
    """Make the system of a neuron the one that everything here is about; while it `rests` some channels stand still."""
    size, numbers = run.size, run.numbers
    a, at, a_c, h, ha, hat = run.a, run.at, run.a_c, run.h, run.ha, run.hat
    held = run.kinds[j] // HELD if rests else 0
    by_rows, by_columns = 0.0, 0.0
    upper, lower, signed = True, True, False
    for k in range(MATRIX):
        a[k], at[k], hat[k] = 0.0, 0.0, 0.0
    for k in range(MOST):
        in_row, in_column = 0.0, 0.0
        moves = k < size and not held >> k & 1
        a_c[k] = numbers[run.at_c + k, j] if moves else 0.0
        h[k] = numbers[run.at_h + k, j] if k < size else 0.0
        for m in range(size if k < size else 0):
            value = numbers[k * size + m, j] if moves else 0.0
            a[MOST * k + m], at[MOST * m + k] = value, value
            hat[MOST * k + m] = value if m == k else abs(value)
            in_row += abs(value)
            in_column += 0.0 if held >> m & 1 else abs(numbers[m * size + k, j])
            signed = signed or (value < 0 and m != k)
            upper, lower = upper and (value == 0 or m >= k), lower and (value == 0 or m <= k)
        by_rows, by_columns = max(by_rows, in_row), max(by_columns, in_column)
    for m in range(MOST):
        total = 0.0
        for k in range(MOST):
            total += h[k] * a[MOST * k + m]
        ha[m] = total
    run.h0 = run.offset[j]
    # Both are norms, and bound every term of a series.
    run.norm = min(by_rows, by_columns)
    run.triangular, run.signed, run.chain_of = upper or lower, signed, -1


@fast
def multiply(out, p, q, scale, unit):
    """The matrix `unit` + `scale` p q, which may replace p."""
    for i in range(0, MATRIX, MOST):
        p0, p1, p2, p3 = scale * p[i], scale * p[i + 1], scale * p[i + 2], scale * p[i + 3]
        x0 = p0 * q[0] + p1 * q[4] + p2 * q[8] + p3 * q[12]
        x1 = p0 * q[1] + p1 * q[5] + p2 * q[9] + p3 * q[13]
        x2 = p0 * q[2] + p1 * q[6] + p2 * q[10] + p3 * q[14]
        x3 = p0 * q[3] + p1 * q[7] + p2 * q[11] + p3 * q[15]
        out[i], out[i + 1], out[i + 2], out[i + 3] = x0, x1, x2, x3
    for i in range(0, MATRIX, MOST + 1):
        out[i] += unit


@fast
def times_vector(out, columns, x, scale):
    """`scale` times the matrix with these columns times a vector."""
    x0, x1, x2, x3 = scale * x[0], scale * x[1], scale * x[2], scale * x[3]
    y0 = columns[0] * x0 + columns[4] * x1 + columns[8] * x2 + columns[12] * x3
    y1 = columns[1] * x0 + columns[5] * x1 + columns[9] * x2 + columns[13] * x3
    y2 = columns[2] * x0 + columns[6] * x1 + columns[10] * x2 + columns[14] * x3
    y3 = columns[3] * x0 + columns[7] * x1 + columns[11] * x2 + columns[15] * x3
    out[0], out[1], out[2], out[3] = y0, y1, y2, y3


@compiled
def exponentials(run, a, chain, dt):
    """E and F of the matrix `a` over `dt`, and over halves of it, halves of these and so on: a chain, shortest first.

    The shortest time is so short that a series is exact to rounding; the others follow by squaring. Squaring doubles
    relative errors each time, except off the diagonal of a triangular matrix, where terms of one sign are added: there
    the diagonal, which is known, replaces what squaring gives.
    """
    size, step, levels = run.norm * dt, dt, 0
    while size > 1 and levels < LEVELS:
        size, step, levels = 0.5 * size, 0.5 * step, levels + 1
    run.levels, run.base = levels, step
    terms, rest = 1, 0.5 * size
    while rest > 1e-17 and terms < TERMS:
        terms += 1
        rest *= size / (terms + 1)
    row, p, q = chain[0], run.spare_1, run.spare_2
    for k in range(MATRIX):
        p[k] = a[k] * step / (terms + 1)
    for k in range(0, MATRIX, MOST + 1):
        p[k] += 1
    for term in range(terms, 1, -1):
        multiply(q, a, p, step / term, 1.0)
        p, q = q, p
    multiply(row, a, p, step, 1.0)
    for k in range(MATRIX):
        row[PHI + k] = step * p[k]
    for level in range(levels + 1):
        if level > 0:
            before, row = row, chain[level]
            multiply(p, before, part(before, PHI), 1.0, 0.0)
            multiply(row, before, before, 1.0, 0.0)
            for k in range(MATRIX):
                row[PHI + k] = before[PHI + k] + p[k]
            step *= 2
        if run.triangular:
            for k in range(0, MATRIX, MOST + 1):
                row[EXP + k] = math.exp(a[k] * step)
    return row


@compiled
def take(run, j, g, dt):
    """Make neuron `j` of group `g` the one that everything here is about, with its chain over `dt`."""
    if run.chain_of != g:
        set_chain(run, j, g, dt)
        return
    # All else is that of the group.
    a_c, numbers = run.a_c, run.numbers
    for k in range(run.size):
        a_c[k] = numbers[run.at_c + k, j]
    run.h0 = run.offset[j]


@compiled
def set_chain(run, j, g, dt):
    """The chain of neuron `j`, which is one of group `g`, over `dt`, with all that it says of the condition."""
    load(run, j, False)
    exponentials(run, run.a, run.chain, dt)
    if run.signed:
        exponentials(run, run.hat, run.hat_chain, dt)
    for level in range(run.levels + 1):
        set_bounds(run, level)
    run.chain_of = g


@compiled
def _bounded(x):
    return x if x < _NO_BOUND else _NO_BOUND


@compiled
def set_bounds(run, level):
    """How far the condition g can get within a time T, for any state: two bounds, both without a miss.

    With the velocity v = A x + c at the start, g(t) = g(0) + h F(t) v.

    - If no entry of A off its diagonal is below 0, no entry of F ever falls, so all are between 0 and F(T). Otherwise
      their absolute values are below those of the matrix with the absolute values of these entries. So h F(t) v rises
      at most to the sum over v of `UP` or `DOWN`, by the sign of v.
    - Above the chord from g(0) to g(T), g is by T^2/8 times -g'' at most. g'' = h A E v, and E = 1 + A F is bounded as
      F is.

    The first is better for long times, as it does not grow where rates are negative; the second for short ones.
    """
    size, a, h, ha = run.size, run.a, run.h, run.ha
    row, dt = run.chain[level], run.base * (1 << level)
    most = run.hat_chain[level] if run.signed else row
    sign = -1.0 if run.signed else 0.0
    for m in range(MOST):
        row[NOISE + m] = _ROUNDING * abs(h[m])
    for m in range(size):
        up, down, low, high = 0.0, 0.0, 0.0, 0.0
        for k in range(size):
            top = most[PHI + MOST * k + m]
            bottom = sign * top
            up += max(h[k] * top, h[k] * bottom)
            down += min(h[k] * top, h[k] * bottom)
            e_low = 1.0 if k == m else 0.0
            e_high = e_low
            for i in range(size):
                top = a[MOST * k + i] * most[PHI + MOST * i + m]
                bottom = sign * top
                e_low += min(top, bottom)
                e_high += max(top, bottom)
            if not run.signed:
                e_low = max(e_low, 0.0)
            low += min(ha[k] * e_low, ha[k] * e_high)
            high += max(ha[k] * e_low, ha[k] * e_high)
        row[UP + m], row[DOWN + m] = _bounded(up), -_bounded(-down)
        row[OVER + m] = _bounded(0.125 * dt * dt * max(-low, 0.0))
        row[UNDER + m] = -_bounded(0.125 * dt * dt * max(high, 0.0))
        size_of = _ROUNDING * max(row[UP + m], -row[DOWN + m])
        row[NOISE_C + m] = size_of
        for k in range(size):
            row[NOISE + k] += size_of * abs(a[MOST * m + k])
    for m in range(size, MOST):
        row[UP + m], row[DOWN + m], row[OVER + m], row[UNDER + m], row[NOISE_C + m] = 0.0, 0.0, 0.0, 0.0, 0.0


@compiled
def note_system(run, row):
    """The system itself, next to what its exponentials say."""
    for k in range(MATRIX):
        row[MATRIX_AT + k] = run.a[k]
    for k in range(MOST):
        row[CONDITION + k] = run.h[k]


@compiled
def reset(run, j):
    """What the state `run.y` becomes after a spike of neuron `j`."""
    size, numbers, y, out = run.size, run.numbers, run.y, run.y_end
    for k in range(size):
        total = numbers[run.at_rho + k, j]
        for m in range(size):
            total += numbers[run.at_r + k * size + m, j] * y[m]
        out[k] = total
    for k in range(size):
        y[k] = out[k]
