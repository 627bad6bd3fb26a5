"""What the matrices of linear systems receive on the way back, for which the states of the run have to be known.

They are computed again from the log, as in `clock_rates.py`: states that are kept at every so many events, and all
states between two of these.

Over a stretch with the adjoint l at its end, entry (k, m) of A receives the integral of l_k(s) x_m(s). It is a sum over
l_i, x_j and c_j with coefficients that a group shares: integrals of E_ik(T - s) E_mj(s), and of E_ik(T - s) F_mj(s).
For a short time they follow from the series of both factors, as the integral of (T - s)^p / p! s^q / q! is
T^(p+q+1) / (p+q+1)!; for longer ones by doubling the time.
"""

import math

import numpy as np

from eventsnn.engine.native.block import set_places
from eventsnn.engine.native.compiled import compiled, fast
from eventsnn.engine.native.crossings import advance, exponentials_of, fill
from eventsnn.engine.native.kinds import ARRIVAL, BLOCKS, FREE, INPUT, INSTANT, QUERY, SPIKE
from eventsnn.engine.native.matrices import exchange, load, multiply, part, reset
from eventsnn.engine.native.systems_sweep import add_product, keep, move
from eventsnn.engine.native.systems_words import EXP, HELD, MATRIX, MOST, PHI, SYSTEMS_BACK, TERMS

# How many coefficients there are: for each i, k, m and j, in this order.
_ALL = MATRIX * MATRIX
_X, _PAST, _KEPT = SYSTEMS_BACK.span("x", "apart_x"), SYSTEMS_BACK.span("past"), SYSTEMS_BACK.span("kept")
_KEPT_REST, _KEPT_AT = SYSTEMS_BACK.span("kept_rest"), SYSTEMS_BACK.span("kept_t", "kept_entries")
_OUT, _SERIES = SYSTEMS_BACK.span("out", "out_rest"), SYSTEMS_BACK.span("psi", "new_by_drive")
_go_on = exchange(SYSTEMS_BACK, "x", "new_x")


@compiled
def set_out_rates(run, place, entries):
    """Places for all of this, for a log of up to `entries`; gives where the memory ends."""
    n, size = run.n, run.size
    run.steps = int(math.sqrt(entries)) + 16
    kept = entries // run.steps + 2
    for span, count in (
        (_X, size * n), (_PAST, size * n * (run.steps + 1)), (_KEPT, size * n * kept), (_KEPT_REST, n * kept),
        (_KEPT_AT, kept), (_OUT, n), (_SERIES, max(_ALL, MATRIX * (TERMS + 4))),
    ):  # fmt: skip
        place = set_places(run, span, count, place)
    return place


@fast
def _add_outer(out, p, q, scale):
    """The outer product of two matrices."""
    for i in range(MATRIX):
        factor = scale * p[i]
        for k in range(MATRIX):
            out[MATRIX * i + k] += factor * q[k]


@fast
def _from_left(out, e, t):
    """The first index goes through `e`, which belongs to the second half of the time."""
    third, rest = MATRIX * MOST, _ALL
    for i in range(MOST):
        e0, e1, e2, e3 = e[MOST * i], e[MOST * i + 1], e[MOST * i + 2], e[MOST * i + 3]
        for k in range(third):
            out[third * i + k] = e0 * t[k] + e1 * t[third + k] + e2 * t[2 * third + k] + e3 * t[rest - third + k]


@fast
def _add_from_right(out, t, e):
    """The last index goes through `e`, which belongs to the first half."""
    for i in range(0, _ALL, MOST):
        t0, t1, t2, t3 = t[i], t[i + 1], t[i + 2], t[i + 3]
        for k in range(MOST):
            out[i + k] += t0 * e[k] + t1 * e[MOST + k] + t2 * e[2 * MOST + k] + t3 * e[3 * MOST + k]


@compiled
def set_sensitivities(run, dt):
    """The coefficients for the system that is loaded over `dt`; the chain over it is set."""
    exponentials_of(run, dt)
    step, size, psi = run.base, run.norm * run.base, run.psi
    terms, rest = 1, 0.5 * size
    while rest > 1e-17 and terms < TERMS:
        terms += 1
        rest *= size / (terms + 1)
    # psi_q is the sum over p of (A T)^p / (p + q)!.
    unit = 1.0
    for q in range(1, terms + 3):
        unit /= q
    for k in range(MATRIX):
        psi[MATRIX * (terms + 2) + k] = unit if k % (MOST + 1) == 0 else 0.0
    for q in range(terms + 1, 0, -1):
        unit *= q + 1
        multiply(part(psi, MATRIX * q), run.a, part(psi, MATRIX * (q + 1)), step, unit)
    t, d, power, other = run.by_state, run.by_drive, run.spare_1, run.spare_2
    for k in range(_ALL):
        t[k], d[k] = 0.0, 0.0
    for k in range(MATRIX):
        power[k] = 1.0 if k % (MOST + 1) == 0 else 0.0
    for p in range(terms + 1):
        _add_outer(t, power, part(psi, MATRIX * (p + 1)), step)
        _add_outer(d, power, part(psi, MATRIX * min(p + 2, terms + 2)), step * step)
        multiply(other, run.a, power, step, 0.0)
        power, other = other, power
    new_t, new_d = run.new_by_state, run.new_by_drive
    for level in range(run.levels):
        row = run.chain[level]
        e, f = part(row, EXP), part(row, PHI)
        _from_left(new_t, e, t)
        _add_from_right(new_t, t, e)
        _from_left(new_d, e, d)
        _add_from_right(new_d, t, f)
        for k in range(_ALL):
            new_d[k] += d[k]
        t, d, new_t, new_d = new_t, new_d, t, d
    if run.levels % 2 == 1:
        _exchange_states(run)
        _exchange_drives(run)


_exchange_states = exchange(SYSTEMS_BACK, "by_state", "new_by_state")
_exchange_drives = exchange(SYSTEMS_BACK, "by_drive", "new_by_drive")


@fast
def _add_triple(out, adjoint, x, scale, low, high):
    for j in range(low, high):
        out[j] += scale * adjoint[j] * x[j]


@compiled
def rates_of_stretch(run, dt, place):
    """What all matrices receive from a stretch that begins with the `place`-th states that are known.

    The adjoint has not moved through it.
    """
    size, groups, adjoint, by = run.size, run.groups, run.adjoint, run.by_numbers
    for g in range(run.n_groups):
        low, high = groups[g], groups[g + 1]
        load(run, low, False)
        set_sensitivities(run, dt)
        t, d = run.by_state, run.by_drive
        for i in range(size):
            for k in range(size):
                for m in range(size):
                    out, start = by[k * size + m], MATRIX * (MOST * i + k) + MOST * m
                    for j in range(size):
                        if t[start + j] != 0:
                            _add_triple(out, adjoint[i], run.past[size * place + j], t[start + j], low, high)
                        if run.driven >> j & 1 and d[start + j] != 0:
                            _add_triple(out, adjoint[i], run.numbers[run.at_c + j], d[start + j], low, high)


@compiled
def rates_of_one(run, j, dt, rests):
    """The same for a special neuron, whose state at the start is `run.y`, and whose system is loaded."""
    size, y, c, side, by = run.size, run.y, run.a_c, run.side, run.by_numbers
    held = run.kinds[j] // HELD if rests else 0
    set_sensitivities(run, dt)
    t, d = run.by_state, run.by_drive
    for k in range(size):
        for m in range(size if not held >> k & 1 else 0):
            total = 0.0
            for i in range(size):
                start = MATRIX * (MOST * i + k) + MOST * m
                for one in range(size):
                    total += side[j, i] * (t[start + one] * y[one] + d[start + one] * c[one])
            by[k * size + m, j] += total


@compiled
def _set_apart(run, j, t):
    """A neuron is apart from the others, in the state `run.y`, since `t`."""
    if run.out_at[j] < 0:
        run.out[run.n_out], run.out_at[j] = j, run.n_out
        run.n_out += 1
    run.out_t[j] = t
    keep(run, run.apart_x, j)


@compiled
def _replay_one(run, kind, number):
    """A spike, or the end of a refractory time."""
    j = np.int64(run.neurons[number])
    for k in range(run.size):
        run.y[k] = run.at_free[number, k] if kind == FREE else run.at_spikes[number, k]
    if kind != FREE:
        reset(run, j)
        _set_apart(run, j, run.times[number])
        run.out_rest[j] = run.numbers[run.at_tref, j] > 0
        return
    _set_apart(run, j, run.times[number] + run.numbers[run.at_tref, j])
    run.out_rest[j] = False


@compiled
def _replay_all(run, dt, te, row):
    """All neurons to an event at `te`, `dt` after the last one, through a row of the weights or none."""
    size, n, kinds, out = run.size, run.n, run.kinds, run.out
    for g in range(run.n_groups):
        load(run, run.groups[g], False)
        move(run, run.new_x, g, exponentials_of(run, dt))
    _go_on(run)
    x, apart_x = run.x, run.apart_x
    for k in range(run.n_out):
        j = out[k]
        load(run, j, run.out_rest[j] != 0)
        fill(run, run.y, apart_x, j)
        advance(run, te - run.out_t[j])
        run.out_t[j] = te
        keep(run, apart_x, j)
        keep(run, x, j)
    for k in range(size if row >= 0 else 0):
        if run.reached >> k & 1:
            add_product(x[k], run.weights[row], run.numbers[run.at_into + k], n)
    count = 0
    for place in range(run.n_out):
        j = out[place]
        if run.out_rest[j]:
            for k in range(size):
                if kinds[j] & BLOCKS or kinds[j] // HELD >> k & 1:
                    x[k, j] = apart_x[k, j]
                apart_x[k, j] = x[k, j]
            out[count], run.out_at[j] = j, count
            count += 1
        else:
            run.out_at[j] = -1
    run.n_out = count


@compiled
def event_of(run, entry):
    """When an event of all neurons that is in the log happens, and through which row of the weights, or -1."""
    kind, number = np.int64(run.log[entry]) & 7, np.int64(run.log[entry]) >> 3
    if kind == QUERY:
        return np.float64(run.queries[number]), np.int64(-1)
    if kind == INPUT:
        row = np.int64(run.arrival_rows[number])
        return np.float64(run.arrival_times[number]) + np.float64(run.delays[row]), row
    row = np.int64(run.neurons[number])
    return run.times[number] + np.float64(run.delays[row]), row


@compiled
def replay(run, first, last, t, keep_all):
    """Run the entries of the log from `first` to `last` again from the states `x`.

    States after events of all neurons go to `past` if `keep_all`. Otherwise they are kept now and then.
    """
    n, size, log, past, kept = run.n, run.size, run.log, run.past, run.kept
    place, events = 0, 0
    run.n_out = 0
    for j in range(n):
        run.out_at[j] = -1
        if run.out_rest[j]:
            fill(run, run.y, run.x, j)
            _set_apart(run, j, t)
    for k in range(size if keep_all else 0):
        for j in range(n):
            past[k, j] = run.x[k, j]
    for entry in range(first, last):
        kind = np.int64(log[entry]) & 7
        if kind == SPIKE or kind == INSTANT or kind == FREE:
            _replay_one(run, kind, np.int64(log[entry]) >> 3)
            continue
        te, row = event_of(run, entry)
        te = max(te, t)
        _replay_all(run, te - t, te, row)
        t = te
        place += 1
        events += 1
        x = run.x
        for k in range(size if keep_all else 0):
            for j in range(n):
                past[size * place + k, j] = x[k, j]
        if not keep_all and events % (run.steps - 1) == 0:
            where = run.n_kept
            for j in range(n):
                for k in range(size):
                    kept[size * where + k, j] = x[k, j]
                run.kept_rest[where, j] = run.out_rest[j]
            run.kept_t[where], run.kept_entries[where] = t, entry + 1
            run.n_kept += 1


@compiled
def keep_states(run):
    """The first pass."""
    for j in range(run.n):
        for k in range(run.size):
            run.x[k, j] = run.numbers[run.at_y0 + k, j]
            run.kept[k, j] = run.x[k, j]
        run.kept_rest[0, j], run.out_rest[j] = False, False
    run.kept_t[0], run.kept_entries[0], run.n_kept = 0, 0, 1
    replay(run, 0, np.int64(run.info[1]), 0.0, False)


@compiled
def states_behind(run, which, last):
    """All states behind the one that was kept as number `which`, up to the entry `last`; gives its entry."""
    for j in range(run.n):
        for k in range(run.size):
            run.x[k, j] = run.kept[run.size * which + k, j]
        run.out_rest[j] = run.kept_rest[which, j]
    first = run.kept_entries[which]
    replay(run, first, last, run.kept_t[which], True)
    return first


@compiled
def states_before(run, first, entry):
    """How many events of all neurons there are from one entry of the log to another, both included."""
    count = 0
    for other in range(first, entry + 1):
        kind = np.int64(run.log[other]) & 7
        count += 1 if kind <= ARRIVAL or kind == QUERY else 0
    return count
