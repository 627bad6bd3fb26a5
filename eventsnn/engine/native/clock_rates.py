"""What time constants and couplings receive on the way back, for which the states of the forward run have to be known.

The states are not stored but computed again from the log, which is fast, because nothing has to be looked for. A first
pass keeps the state at every so many events; then, from the last such state to the first, the events behind it are run
again with all their states, and swept back. With the square root of the number of events between two of them, memory
grows with that root. States are those after an event of all neurons; after a spike or a refractory time of one neuron
they are known from the record of spikes.
"""

import math

import numpy as np

from eventsnn.engine.native.block import set_places
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
    QUERY,
    SPIKE,
    TREF,
    V0,
    VRESET,
)
from eventsnn.engine.native.linear import coefficients
from eventsnn.engine.native.sweep import add_row, move
from eventsnn.engine.native.synapses import replay_arrival, time_of
from eventsnn.engine.native.words_back import BACK


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
def add_rates(by_a, by_b, by_r, lv, li, v, i, d, low, high, keep_a, feed_a, gain_a, phi, feed_r, fade_r):
    """What the numbers of all neurons receive from a stretch that begins with the states `v` and `i`."""
    for j in range(low, high):
        by_a[j] += lv[j] * (keep_a * v[j] + feed_a * i[j] + gain_a * d[j])
        by_b[j] += lv[j] * phi * i[j]
        by_r[j] += (lv[j] * feed_r + li[j] * fade_r) * i[j]


@compiled
def rates_of_stretch(run, dt, place):
    """The same for a stretch from the `place`-th state that is known, before the adjoint moves through it."""
    numbers, groups = run.numbers, run.groups
    by_rates = run.by_rates
    lv, li = run.lv, run.li
    v, i = run.past[2 * place], run.past[2 * place + 1]
    for g in range(run.n_groups):
        low, high = groups[g], groups[g + 1]
        a, b, r = numbers[LEAK, low], numbers[COUPLING, low], numbers[DECAY, low]
        keep_a, feed_a, gain_a, phi, feed_r = sensitivities(dt, a, b, r)
        add_rates(
            by_rates[0], by_rates[1], by_rates[2], lv, li, v, i, numbers[DRIVE], low, high, keep_a, feed_a, gain_a, phi,
            feed_r, -dt * math.exp(-r * dt),
        )  # fmt: skip


@compiled
def rates_of_one(run, j, dt, v, i, by_v, by_i, stands_v, stands_i):
    """The same for one neuron."""
    a, b, r, d = run.numbers[LEAK, j], run.numbers[COUPLING, j], run.numbers[DECAY, j], run.numbers[DRIVE, j]
    keep_a, feed_a, gain_a, phi, feed_r = sensitivities(dt, a, b, r)
    if not stands_v:
        run.by_rates[0, j] += by_v * (keep_a * v + feed_a * i + gain_a * d)
        run.by_rates[1, j] += by_v * phi * i
        run.by_rates[2, j] += by_v * feed_r * i
    if not stands_i:
        run.by_rates[2, j] -= by_i * dt * math.exp(-r * dt) * i


_BY_RATES, _PAST, _KEPT = BACK.span("by_rates"), BACK.span("past"), BACK.span("kept")
_KEPT_OF_NEURONS, _KEPT_AT = BACK.span("kept_rest", "kept_drives"), BACK.span("kept_t", "kept_entries")
_OUT = BACK.span("out", "drives")


@compiled
def set_out_rates(run, place, entries):
    """Places for all of this, for a log of up to `entries`; gives where the memory ends."""
    n = run.n
    run.steps = int(math.sqrt(entries)) + 16
    kept = entries // run.steps + 2
    for span, count in (
        (_BY_RATES, 3 * n), (_PAST, 2 * n * (run.steps + 1)), (_KEPT, 2 * n * kept), (_KEPT_OF_NEURONS, n * kept),
        (_KEPT_AT, kept), (_OUT, n),
    ):  # fmt: skip
        place = set_places(run, span, count, place)
    return place


@compiled
def _go(run, j, v, i, until):
    """One neuron that is apart from the others, forth to `until`."""
    rests = run.out_rest[j]
    dt = until - run.out_t[j]
    if dt <= 0:
        return
    run.out_t[j] = until
    keep, feed, fade, gain = coefficients(dt, run.numbers[LEAK, j], run.numbers[COUPLING, j], run.numbers[DECAY, j])
    if not (rests and run.kinds[j] & HOLDS_V):
        v[j] = keep * v[j] + feed * i[j] + gain * run.drives[j]
    if not (rests and run.kinds[j] & HOLDS_I):
        i[j] = fade * i[j]


@compiled
def replay(run, first, last, t, keep_all, by_synapse):
    """Run the entries of the log from `first` to `last` again from the first state in `past`; gives the time.

    States after events of all neurons follow behind it if `keep_all`. Otherwise it is replaced, and kept now and then.
    """
    n = run.n
    numbers, kinds = run.numbers, run.kinds
    groups, log = run.groups, run.log
    past, kept = run.past, run.kept
    kept_rest, kept_t = run.kept_rest, run.kept_t
    kept_entries, kept_drives = run.kept_entries, run.kept_drives
    out, out_at = run.out, run.out_at
    out_t, out_rest = run.out_t, run.out_rest
    times, neurons = run.times, run.neurons
    currents, free_currents = run.currents, run.free_currents
    arrival_times, rows = run.arrival_times, run.arrival_rows
    delays, queries, drives = run.delays, run.queries, run.drives
    place, events = 0, 0
    run.n_out = 0
    for j in range(n):
        out_at[j] = -1
        if out_rest[j]:
            out[run.n_out], out_at[j], out_t[j] = j, run.n_out, t
            run.n_out += 1
    for entry in range(first, last):
        kind, number = np.int64(log[entry]) & 7, np.int64(log[entry]) >> 3
        v, i = past[2 * place], past[2 * place + 1]
        if kind == SPIKE or kind == INSTANT or kind == FREE:
            j = np.int64(neurons[number])
            if out_at[j] < 0:
                # Its state in `past` stays that after the last event of all: this one goes on in the row behind.
                out[run.n_out], out_at[j], out_t[j] = j, run.n_out, t
                run.n_out += 1
            if kind == FREE:
                if kinds[j] & HOLDS_V:
                    out_t[j] = times[number] + numbers[TREF, j]
                    past[2 * run.steps, j], past[2 * run.steps + 1, j] = numbers[VRESET, j], free_currents[number]
                out_rest[j] = False
            else:
                out_t[j] = times[number]
                past[2 * run.steps, j], past[2 * run.steps + 1, j] = numbers[VRESET, j], currents[number]
                out_rest[j] = numbers[TREF, j] > 0
            continue
        if kind == QUERY:
            te, row = np.float64(queries[number]), np.int64(-1)
        elif by_synapse is not None:
            te, row = time_of(run, run.through[number]), np.int64(-1)
        elif kind == INPUT:
            row = np.int64(rows[number])
            te = np.float64(arrival_times[number]) + np.float64(delays[row])
        else:
            row = np.int64(neurons[number])
            te = times[number] + np.float64(delays[row])
        change = row
        if row >= run.first_change:
            row = np.int64(-1)
        te = max(te, t)
        target = place + 1 if keep_all else place
        apart_v, apart_i = past[2 * run.steps], past[2 * run.steps + 1]
        new_v, new_i = past[2 * target], past[2 * target + 1]
        for j in range(n):
            new_v[j], new_i[j] = v[j], i[j]
        for g in range(run.n_groups):
            low, high = groups[g], groups[g + 1]
            keep, feed, fade, gain = coefficients(
                te - t, numbers[LEAK, low], numbers[COUPLING, low], numbers[DECAY, low]
            )
            move(new_v, new_i, drives, low, high, keep, feed, fade, gain)
        for k in range(run.n_out):
            _go(run, out[k], apart_v, apart_i, te)
            new_v[out[k]], new_i[out[k]] = apart_v[out[k]], apart_i[out[k]]
        if row >= 0:
            weights = run.weights[row]
            if run.any_jumps:
                for j in range(n):
                    if kinds[j] & JUMPS:
                        new_v[j] += weights[j]
                    else:
                        new_i[j] += weights[j]
            else:
                add_row(new_i, weights, n)
        if by_synapse is not None:
            if kind != QUERY:
                replay_arrival(run, run.through[number], new_v, new_i)
        count = 0
        for k in range(run.n_out):
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
        run.n_out = count
        if change >= run.first_change:
            add_row(drives, run.weights[change], n)
        place, t = target, te
        events += 1
        if not keep_all and events % (run.steps - 1) == 0:
            where = run.n_kept
            for j in range(n):
                kept[2 * where, j], kept[2 * where + 1, j], kept_rest[where, j] = new_v[j], new_i[j], out_rest[j]
                kept_drives[where, j] = drives[j]
            kept_t[where], kept_entries[where] = t, entry + 1
            run.n_kept += 1
    return t


@compiled
def keep_states(run, by_synapse):
    """The first pass."""
    n = run.n
    numbers, by_rates = run.numbers, run.by_rates
    past, kept = run.past, run.kept
    kept_rest, out_rest = run.kept_rest, run.out_rest
    for j in range(n):
        past[0, j], past[1, j] = numbers[V0, j], numbers[I0, j]
        kept[0, j], kept[1, j] = numbers[V0, j], numbers[I0, j]
        kept_rest[0, j], out_rest[j] = False, False
        run.drives[j], run.kept_drives[0, j] = run.given[DRIVE, j], run.given[DRIVE, j]
        by_rates[0, j], by_rates[1, j], by_rates[2, j] = 0, 0, 0
    run.kept_t[0] = 0
    run.kept_entries[0] = 0
    run.n_kept = 1
    replay(run, 0, np.int64(run.info[1]), 0.0, False, by_synapse)


@compiled
def states_behind(run, which, last, by_synapse):
    """All states behind the one that was kept as number `which`, up to the entry `last`; gives its entry."""
    n = run.n
    past, kept = run.past, run.kept
    kept_rest, out_rest = run.kept_rest, run.out_rest
    for j in range(n):
        past[0, j], past[1, j] = kept[2 * which, j], kept[2 * which + 1, j]
        out_rest[j], run.drives[j] = kept_rest[which, j], run.kept_drives[which, j]
    first = run.kept_entries[which]
    # A neuron that rests is apart, where its state is as well.
    apart = run.past
    for j in range(n):
        apart[2 * run.steps, j], apart[2 * run.steps + 1, j] = past[0, j], past[1, j]
    replay(run, first, last, run.kept_t[which], True, by_synapse)
    return first
