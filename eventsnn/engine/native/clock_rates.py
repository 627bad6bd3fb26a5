"""What time constants and couplings receive on the way back, for which the states of the forward run have to be known.

The states are not stored but computed again from the log, which is fast, because nothing has to be looked for. A first
pass keeps the state at every so many events; then, from the last such state to the first, the events behind it are run
again with all their states, and swept back. With the square root of the number of events between two of them, memory
grows with that root. States are those after an event of all neurons; after a spike or a refractory time of one neuron
they are known from the record of spikes.
"""

import math

import numpy as np

from eventsnn.engine.native.compiled import compiled, fast
from eventsnn.engine.native.kinds import (
    BLOCKS,
    COUPLING,
    DECAY,
    DRIVE,
    FREE,
    HOLDS_I,
    HOLDS_V,
    I0,
    INPUT,
    INSTANT,
    JUMPS,
    LEAK,
    NUMBERS,
    QUERY,
    SPIKE,
    TREF,
    V0,
    VRESET,
)
from eventsnn.engine.native.linear import coefficients
from eventsnn.engine.native.scratch import matrix_at, room, vector_at
from eventsnn.engine.native.sweep import add_row, move
from eventsnn.engine.native.words_back import (
    ANY_JUMPS,
    ARRIVAL_ROWS,
    ARRIVAL_TIMES,
    BY_RATES,
    CAPACITY,
    CURRENTS,
    DELAYS,
    FREE_CURRENTS,
    GROUPS,
    INFO,
    KEPT_ENTRIES,
    KEPT_REST,
    KEPT_T,
    KEPT_V,
    KINDS,
    LI,
    LOG,
    LV,
    N_GROUPS,
    N_KEPT,
    N_OUT,
    NEURONS,
    NUMBERS_AT,
    OUT,
    OUT_AT,
    OUT_REST,
    OUT_T,
    PAST_V,
    QUERIES,
    STEPS,
    TIMES,
    WEIGHTS,
    WORDS,
    N,
)


@compiled
def sensitivities(dt, a, b, r):
    """How keep, feed and gain change with a, feed per b, and how feed changes with r; fade changes by -dt fade."""
    keep, feed, fade, gain = coefficients(dt, a, b, r)
    # phi = (exp(-a dt) - exp(-r dt)) / (r - a) and its derivatives: the slower exponential times a function of how far
    # the other one is below it.
    slower = math.exp(-min(a, r) * dt)
    first, second = _falling(abs(r - a) * dt)
    phi = dt * slower * first
    by_faster = -dt * dt * slower * second
    by_slower = -dt * phi - by_faster
    by_a, by_r = (by_slower, by_faster) if a <= r else (by_faster, by_slower)
    _, curve = _falling(a * dt)
    return -dt * keep, b * by_a, -dt * dt * curve, phi, b * by_r


@compiled
def _falling(x):
    """(1 - exp(-x)) / x, and minus its derivative (1 - (1 + x) exp(-x)) / x**2."""
    if abs(x) > 0.5:
        less = -math.expm1(-x)
        return less / x, (less - x * math.exp(-x)) / (x * x)
    # Their series: sums over k of (-x)**k / (k + 1)! and (k + 1) (-x)**k / (k + 2)!, exact to rounding with 16 terms.
    value, slope, term = 0.0, 0.0, 1.0
    for k in range(16):
        term_value = term / (k + 1)
        value += term_value
        slope += term_value * (k + 1) / (k + 2)
        term = -term_value * x
    return value, slope


@fast
def add_rates(by_a, by_b, by_r, lv, li, v, i, d, keep_a, feed_a, gain_a, phi, feed_r, fade_r):
    """What the numbers of all neurons receive from a stretch that begins with the states `v` and `i`."""
    for j in range(lv.shape[0]):
        by_a[j] += lv[j] * (keep_a * v[j] + feed_a * i[j] + gain_a * d[j])
        by_b[j] += lv[j] * phi * i[j]
        by_r[j] += (lv[j] * feed_r + li[j] * fade_r) * i[j]


@compiled
def rates_of_stretch(dtype, m, dt, place):
    """The same for a stretch from the `place`-th state that is known, before the adjoint moves through it."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    numbers, groups = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64), vector_at(s[GROUPS], n + 1, np.int64)
    by_rates, past = matrix_at(s[BY_RATES], 3, n, np.float64), matrix_at(s[PAST_V], 2 * place + 2, n, np.float64)
    lv, li = vector_at(s[LV], n, dtype), vector_at(s[LI], n, dtype)
    v, i = past[2 * place], past[2 * place + 1]
    for g in range(s[N_GROUPS]):
        low, high = groups[g], groups[g + 1]
        a, b, r = numbers[LEAK, low], numbers[COUPLING, low], numbers[DECAY, low]
        keep_a, feed_a, gain_a, phi, feed_r = sensitivities(dt, a, b, r)
        add_rates(
            by_rates[0, low:high], by_rates[1, low:high], by_rates[2, low:high], lv[low:high], li[low:high],
            v[low:high], i[low:high], numbers[DRIVE, low:high], keep_a, feed_a, gain_a, phi, feed_r,
            -dt * math.exp(-r * dt),
        )  # fmt: skip


@compiled
def rates_of_one(m, j, dt, v, i, by_v, by_i, stands_v, stands_i):
    """The same for one neuron."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    numbers, by_rates = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64), matrix_at(s[BY_RATES], 3, n, np.float64)
    a, b, r, d = numbers[LEAK, j], numbers[COUPLING, j], numbers[DECAY, j], numbers[DRIVE, j]
    keep_a, feed_a, gain_a, phi, feed_r = sensitivities(dt, a, b, r)
    if not stands_v:
        by_rates[0, j] += by_v * (keep_a * v + feed_a * i + gain_a * d)
        by_rates[1, j] += by_v * phi * i
        by_rates[2, j] += by_v * feed_r * i
    if not stands_i:
        by_rates[2, j] -= by_i * dt * math.exp(-r * dt) * i


@compiled
def set_out_rates(m, place, entries):
    """Places for all of this, for a log of up to `entries`; gives where the memory ends."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    s[STEPS] = int(math.sqrt(entries)) + 16
    kept = entries // s[STEPS] + 2
    for word, count in (
        (BY_RATES, 3 * n), (PAST_V, 2 * n * (s[STEPS] + 1)), (KEPT_V, 2 * n * kept), (KEPT_REST, n * kept),
        (KEPT_T, kept), (KEPT_ENTRIES, kept), (OUT, n), (OUT_AT, n), (OUT_T, n), (OUT_REST, n),
    ):  # fmt: skip
        s[word] = place
        place += room(count)
    return place


@compiled
def _go(m, j, v, i, until):
    """One neuron that is apart from the others, forth to `until`."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    numbers, kinds = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64), vector_at(s[KINDS], n, np.int32)
    out_t, rests = vector_at(s[OUT_T], n, np.float64), vector_at(s[OUT_REST], n, np.bool_)[j]
    dt = until - out_t[j]
    if dt <= 0:
        return
    out_t[j] = until
    keep, feed, fade, gain = coefficients(dt, numbers[LEAK, j], numbers[COUPLING, j], numbers[DECAY, j])
    if not (rests and kinds[j] & HOLDS_V):
        v[j] = keep * v[j] + feed * i[j] + gain * numbers[DRIVE, j]
    if not (rests and kinds[j] & HOLDS_I):
        i[j] = fade * i[j]


@compiled
def replay(dtype, m, first, last, t, keep_all):
    """Run the entries of the log from `first` to `last` again from the first state in `past`; gives the time.

    States after events of all neurons follow behind it if `keep_all`. Otherwise it is replaced, and kept now and then.
    """
    s = vector_at(m, WORDS, np.int64)
    n, capacity = s[N], s[CAPACITY]
    numbers, kinds = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64), vector_at(s[KINDS], n, np.int32)
    groups, log = vector_at(s[GROUPS], n + 1, np.int64), vector_at(s[LOG], 2**40, np.int32)
    past, kept = matrix_at(s[PAST_V], 2**40, n, np.float64), matrix_at(s[KEPT_V], 2**40, n, np.float64)
    kept_rest, kept_t = matrix_at(s[KEPT_REST], 2**40, n, np.bool_), vector_at(s[KEPT_T], 2**40, np.float64)
    kept_entries = vector_at(s[KEPT_ENTRIES], 2**40, np.int64)
    out, out_at = vector_at(s[OUT], n, np.int64), vector_at(s[OUT_AT], n, np.int64)
    out_t, out_rest = vector_at(s[OUT_T], n, np.float64), vector_at(s[OUT_REST], n, np.bool_)
    times, neurons = vector_at(s[TIMES], capacity, np.float64), vector_at(s[NEURONS], capacity, np.int32)
    currents, free_currents = (
        vector_at(s[CURRENTS], capacity, np.float64), vector_at(s[FREE_CURRENTS], capacity, np.float64),
    )  # fmt: skip
    arrival_times, rows = vector_at(s[ARRIVAL_TIMES], 2**40, dtype), vector_at(s[ARRIVAL_ROWS], 2**40, np.int32)
    delays, queries = vector_at(s[DELAYS], 2**40, dtype), vector_at(s[QUERIES], 2**40, dtype)
    place, events = 0, 0
    s[N_OUT] = 0
    for j in range(n):
        out_at[j] = -1
        if out_rest[j]:
            out[s[N_OUT]], out_at[j], out_t[j] = j, s[N_OUT], t
            s[N_OUT] += 1
    for entry in range(first, last):
        kind, number = np.int64(log[entry]) & 7, np.int64(log[entry]) >> 3
        v, i = past[2 * place], past[2 * place + 1]
        if kind == SPIKE or kind == INSTANT or kind == FREE:
            j = np.int64(neurons[number])
            if out_at[j] < 0:
                # Its state in `past` stays that after the last event of all: this one goes on in the row behind.
                out[s[N_OUT]], out_at[j], out_t[j] = j, s[N_OUT], t
                s[N_OUT] += 1
            if kind == FREE:
                if kinds[j] & HOLDS_V:
                    out_t[j] = times[number] + numbers[TREF, j]
                    past[2 * s[STEPS], j], past[2 * s[STEPS] + 1, j] = numbers[VRESET, j], free_currents[number]
                out_rest[j] = False
            else:
                out_t[j] = times[number]
                past[2 * s[STEPS], j], past[2 * s[STEPS] + 1, j] = numbers[VRESET, j], currents[number]
                out_rest[j] = numbers[TREF, j] > 0
            continue
        if kind == QUERY:
            te, row = np.float64(queries[number]), np.int64(-1)
        elif kind == INPUT:
            row = np.int64(rows[number])
            te = np.float64(arrival_times[number]) + np.float64(delays[row])
        else:
            row = np.int64(neurons[number])
            te = times[number] + np.float64(delays[row])
        te = max(te, t)
        target = place + 1 if keep_all else place
        apart_v, apart_i = past[2 * s[STEPS]], past[2 * s[STEPS] + 1]
        new_v, new_i = past[2 * target], past[2 * target + 1]
        for j in range(n):
            new_v[j], new_i[j] = v[j], i[j]
        for g in range(s[N_GROUPS]):
            low, high = groups[g], groups[g + 1]
            keep, feed, fade, gain = coefficients(
                te - t, numbers[LEAK, low], numbers[COUPLING, low], numbers[DECAY, low]
            )
            move(new_v[low:high], new_i[low:high], numbers[DRIVE, low:high], keep, feed, fade, gain)
        for k in range(s[N_OUT]):
            _go(m, out[k], apart_v, apart_i, te)
            new_v[out[k]], new_i[out[k]] = apart_v[out[k]], apart_i[out[k]]
        if row >= 0:
            weights = matrix_at(s[WEIGHTS], row + 1, n, dtype)[row]
            if s[ANY_JUMPS]:
                for j in range(n):
                    if kinds[j] & JUMPS:
                        new_v[j] += weights[j]
                    else:
                        new_i[j] += weights[j]
            else:
                add_row(new_i, weights)
        count = 0
        for k in range(s[N_OUT]):
            j = out[k]
            if out_rest[j]:
                if kinds[j] & (BLOCKS | HOLDS_V):
                    new_v[j] = apart_v[j]
                if kinds[j] & (BLOCKS | HOLDS_I):
                    new_i[j] = apart_i[j]
                apart_v[j], apart_i[j] = new_v[j], new_i[j]
                out[count], out_at[j] = j, count
                count += 1
            else:
                out_at[j] = -1
        s[N_OUT] = count
        place, t = target, te
        events += 1
        if not keep_all and events % (s[STEPS] - 1) == 0:
            where = s[N_KEPT]
            for j in range(n):
                kept[2 * where, j], kept[2 * where + 1, j], kept_rest[where, j] = new_v[j], new_i[j], out_rest[j]
            kept_t[where], kept_entries[where] = t, entry + 1
            s[N_KEPT] += 1
    return t


@compiled
def keep_states(dtype, m):
    """The first pass."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    numbers, by_rates = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64), matrix_at(s[BY_RATES], 3, n, np.float64)
    past, kept = matrix_at(s[PAST_V], 2, n, np.float64), matrix_at(s[KEPT_V], 2, n, np.float64)
    kept_rest, out_rest = matrix_at(s[KEPT_REST], 1, n, np.bool_), vector_at(s[OUT_REST], n, np.bool_)
    for j in range(n):
        past[0, j], past[1, j] = numbers[V0, j], numbers[I0, j]
        kept[0, j], kept[1, j] = numbers[V0, j], numbers[I0, j]
        kept_rest[0, j], out_rest[j] = False, False
        by_rates[0, j], by_rates[1, j], by_rates[2, j] = 0, 0, 0
    vector_at(s[KEPT_T], 1, np.float64)[0] = 0
    vector_at(s[KEPT_ENTRIES], 1, np.int64)[0] = 0
    s[N_KEPT] = 1
    replay(dtype, m, 0, np.int64(vector_at(s[INFO], 2, np.int32)[1]), 0.0, False)


@compiled
def states_behind(dtype, m, which, last):
    """All states behind the one that was kept as number `which`, up to the entry `last`; gives its entry."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    past, kept = matrix_at(s[PAST_V], 2, n, np.float64), matrix_at(s[KEPT_V], 2 * which + 2, n, np.float64)
    kept_rest, out_rest = matrix_at(s[KEPT_REST], which + 1, n, np.bool_), vector_at(s[OUT_REST], n, np.bool_)
    for j in range(n):
        past[0, j], past[1, j] = kept[2 * which, j], kept[2 * which + 1, j]
        out_rest[j] = kept_rest[which, j]
    first = vector_at(s[KEPT_ENTRIES], which + 1, np.int64)[which]
    # A neuron that rests is apart, where its state is as well.
    apart = matrix_at(s[PAST_V], 2 * s[STEPS] + 2, n, np.float64)
    for j in range(n):
        apart[2 * s[STEPS], j], apart[2 * s[STEPS] + 1, j] = past[0, j], past[1, j]
    replay(dtype, m, first, last, vector_at(s[KEPT_T], which + 1, np.float64)[which], True)
    return first
