"""What time constants and couplings receive in windows on the way back, for which the states have to be known.

The states are computed again from the record of spikes, which is fast, because no crossing has to be located. A first
pass keeps the states at the start of every window, or of every so many if that is too much memory; then the windows
between two of those are run once more. Within a window, the state of a neuron is known after its last spike, or at the
start of the window. These passes have a block of words of their own, with another ring of buckets.
"""

import math

import numpy as np

from eventsnn.engine.native.clock_rates import sensitivities
from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.kinds import (
    BLOCKS,
    COUPLING,
    DECAY,
    DRIVE,
    HOLDS_I,
    HOLDS_V,
    I0,
    JUMPS,
    LEAK,
    NUMBERS,
    TREF,
    V0,
    VRESET,
)
from eventsnn.engine.native.linear import coefficients
from eventsnn.engine.native.pool import allocate, free
from eventsnn.engine.native.scratch import matrix_at, vector_at
from eventsnn.engine.native.windows_queue import (
    make_ring,
    release_ring,
    send,
    sort_bucket,
    sorted_synapses,
    sorted_times,
)
from eventsnn.engine.native.windows_start import (
    CELL,
    MARK_FREE_PLACE,
    MARK_FREE_WINDOW,
    MARK_PLACE,
    MARK_WINDOW,
    kind_of,
)
from eventsnn.engine.native.windows_words import (
    AFTER,
    ASIDE,
    BUCKETS,
    BY_NUMBERS,
    CAPACITY,
    CELLS,
    COMING,
    CURRENTS,
    DELAYS,
    FREE_CHUNK,
    FREE_STATES,
    INDPTR,
    INPUT_AT,
    INPUT_ROWS,
    KEPT,
    KEPT_FINELY,
    LONGEST,
    MARKS,
    N_COMING,
    N_INPUTS,
    N_ROWS,
    N_SORTED,
    N_SYNAPSES,
    N_WINDOWS,
    NEURONS,
    NO_MEMORY,
    PER_LENGTH,
    RECURRENT,
    REPLAYED,
    SORTED,
    STARTS,
    STRIDE,
    TARGETS,
    TIMES,
    WEIGHTS,
    WORDS,
    N,
    reals_of,
    words_of,
)

# What is kept of a neuron: V, I and since when, and twice the number of its next spike, plus 1 while it is refractory
# after that one; -2 if there is none.
STATE_V, STATE_I, STATE_T, NEXT = range(4)
KEPT_COLUMNS = 4
# If the states at the start of every window take no more bytes than this, all of them are kept.
_BYTES = 2**26


@compiled
def rates_of_stretch(m, j, dt, v, i, by_v, by_i, resting):
    """What the rates of a neuron receive from a stretch that begins with `v` and `i`, from the adjoint at its end."""
    if by_v == 0 and by_i == 0:
        return
    s = words_of(m)
    cell, kind = matrix_at(s[CELLS], s[N], CELL, np.float64)[j], kind_of(m, j)
    by = matrix_at(s[BY_NUMBERS], s[N], NUMBERS, np.float64)[j]
    a, b, r = cell[LEAK], cell[COUPLING], cell[DECAY]
    keep_a, feed_a, gain_a, phi, feed_r = sensitivities(dt, a, b, r)
    if not (resting and kind & HOLDS_V):
        by[LEAK] += by_v * (keep_a * v + feed_a * i + gain_a * cell[DRIVE])
        by[COUPLING] += by_v * phi * i
        by[DECAY] += by_v * feed_r * i
    if not (resting and kind & HOLDS_I):
        by[DECAY] -= by_i * dt * math.exp(-r * dt) * i


@compiled
def to_arrival(m, j, x, y, dt, weight, resting):
    """The state of a neuron `dt` later, after an arrival."""
    s = words_of(m)
    cell, kind = matrix_at(s[CELLS], s[N], CELL, np.float64)[j], kind_of(m, j)
    if dt > 0:
        keep, feed, fade, gain = coefficients(dt, cell[LEAK], cell[COUPLING], cell[DECAY])
        if not (resting and kind & HOLDS_V):
            x = keep * x + feed * y + gain * cell[DRIVE]
        if not (resting and kind & HOLDS_I):
            y = fade * y
    if kind & JUMPS:
        return (x if resting and kind & (BLOCKS | HOLDS_V) else x + weight), y
    return x, (y if resting and kind & (BLOCKS | HOLDS_I) else y + weight)


@compiled
def past_v(s):
    """V after each arrival of a window, as far as it is known."""
    return vector_at(s[SORTED] + 32 * s[N_SORTED], s[N_SORTED], np.float64)


@compiled
def past_i(s):
    """I after each arrival."""
    return vector_at(s[SORTED] + 40 * s[N_SORTED], s[N_SORTED], np.float64)


@compiled
def note_past(dtype, m, j, p, end, x, y, t, resting):
    """The states after the arrivals from `p` to `end`, between which nothing else happens, from the state at `t`."""
    s = words_of(m)
    times, synapses = sorted_times(s), sorted_synapses(s)
    weights, vs, currents = vector_at(s[WEIGHTS], s[N_SYNAPSES], dtype), past_v(s), past_i(s)
    while p < end:
        x, y = to_arrival(m, j, x, y, times[p] - t, np.float64(weights[synapses[p]]), resting)
        t = max(t, times[p])
        vs[p], currents[p] = x, y
        p += 1


@compiled
def begin_rates(dtype, m, count, windows):
    """The first pass, if memory allows."""
    s = words_of(m)
    n = s[N]
    s[STRIDE] = 1 if 8 * KEPT_COLUMNS * n * windows <= _BYTES else np.int64(math.sqrt(windows)) + 1
    kept = (windows - 1) // s[STRIDE] + 1
    size = 8 * KEPT_COLUMNS * n
    s[KEPT], s[KEPT_FINELY] = allocate(size * (kept + 1)), allocate(size * (s[STRIDE] + 1))
    s[AFTER], s[ASIDE] = allocate(8 * (s[CAPACITY] + n)), allocate(8 * WORDS)
    if s[KEPT] == 0 or s[KEPT_FINELY] == 0 or s[AFTER] == 0 or s[ASIDE] == 0:
        s[NO_MEMORY] = 1
        return
    other = words_of(s[ASIDE])
    for word in range(WORDS):
        other[word] = s[word]
    for word in (BUCKETS, SORTED, N_SORTED, FREE_CHUNK):
        other[word] = 0
    states = matrix_at(s[KEPT_FINELY], n, KEPT_COLUMNS, np.float64)
    cells, after = matrix_at(s[CELLS], n, CELL, np.float64), vector_at(s[AFTER], s[CAPACITY] + n, np.int64)
    neurons = vector_at(s[NEURONS], s[CAPACITY], np.int32)
    # The spike after each, and behind these the first of each neuron.
    for j in range(n):
        after[s[CAPACITY] + j] = -1
    for k in range(count - 1, -1, -1):
        j = np.int64(neurons[k])
        after[k] = after[s[CAPACITY] + j]
        after[s[CAPACITY] + j] = k
    for j in range(n):
        states[j, STATE_V], states[j, STATE_I], states[j, STATE_T] = cells[j, V0], cells[j, I0], 0
        states[j, NEXT] = 2 * after[s[CAPACITY] + j]
    if make_ring(s[ASIDE]):
        s[REPLAYED] = -1
        other[STRIDE] = s[STRIDE]
        replay(dtype, s[ASIDE], count, 0, windows, 0)
    s[NO_MEMORY] = other[NO_MEMORY]


@compiled
def end_rates(m):
    """Give back the memory."""
    s = words_of(m)
    if s[ASIDE] != 0:
        if words_of(s[ASIDE])[BUCKETS] != 0:
            release_ring(s[ASIDE])
        free(s[ASIDE])
    for word in (KEPT, KEPT_FINELY, AFTER):
        if s[word] != 0:
            free(s[word])


@compiled
def replay(dtype, m, count, first, end, finely):
    """Run the windows from `first` to `end` again from the first states that are kept finely.

    Keeps the states at the start of every so many, or `finely` those at the start of each.
    """
    s, f = words_of(m), reals_of(m)
    n, capacity, last = s[N], s[CAPACITY], s[N_WINDOWS] - 1
    indptr, targets = vector_at(s[INDPTR], s[N_ROWS] + 1, np.int32), vector_at(s[TARGETS], s[N_SYNAPSES], np.int32)
    delays, rows = vector_at(s[DELAYS], s[N_SYNAPSES], dtype), vector_at(s[INPUT_ROWS], s[N_INPUTS], np.int32)
    at, order = vector_at(s[INPUT_AT], s[N_INPUTS], np.float64), vector_at(s[COMING], s[N_INPUTS], np.int64)
    times, neurons = vector_at(s[TIMES], capacity, np.float64), vector_at(s[NEURONS], capacity, np.int32)
    marks = matrix_at(s[MARKS], capacity, 4, np.int32)
    states = vector_at(s[KEPT_FINELY], KEPT_COLUMNS * n * (s[STRIDE] + 1), np.float64)
    kept = vector_at(s[KEPT], 2**40, np.float64)
    number, coming, size = 0, 0, KEPT_COLUMNS * n
    for k in range(first, end):
        if s[NO_MEMORY]:
            return
        if finely == 0 and k % s[STRIDE] == 0:
            for place in range(size):
                kept[k // s[STRIDE] * size + place] = states[place]
        while number < count and s[RECURRENT] and np.int64(marks[number, MARK_WINDOW]) >> 1 < k:
            # Those of windows before the first one are sent if they may still be on their way.
            soonest = (np.int64(marks[number, MARK_WINDOW]) >> 1) + 1
            if max(np.int64((times[number] + f[LONGEST]) * f[PER_LENGTH]), soonest) >= first:
                row = np.int64(neurons[number])
                send(dtype, m, times[number], indptr, targets, delays, row, soonest, end - 1, last, None, first)
            number += 1
        while coming < s[N_COMING]:
            one = order[coming]
            if min(np.int64(at[one] * f[PER_LENGTH]), last) > k:
                break
            if min(np.int64((at[one] + f[LONGEST]) * f[PER_LENGTH]), last) >= first:
                send(dtype, m, at[one], indptr, targets, delays, np.int64(rows[one]), 0, end - 1, last, None, first)
            coming += 1
        sort_bucket(m, k, None)
        here = (k - first) * size if finely else 0
        for j in range(n):
            replay_neuron(dtype, m, j, k, here, here + size if finely else 0)


@compiled
def replay_neuron(dtype, m, j, window, here, there):
    """A neuron through a window, from one state that is kept finely to another."""
    s = words_of(m)
    starts, times, synapses = vector_at(s[STARTS], s[N] + 2, np.int64), sorted_times(s), sorted_synapses(s)
    weights, states = vector_at(s[WEIGHTS], s[N_SYNAPSES], dtype), vector_at(s[KEPT_FINELY], 2**40, np.float64)
    here, there = here + KEPT_COLUMNS * j, there + KEPT_COLUMNS * j
    x, y, t, mark = states[here], states[here + 1], states[here + 2], np.int64(states[here + NEXT])
    for p in range(starts[j], starts[j + 1] + 1):
        while mark >= 0 and mark_is(m, mark, window, p - starts[j]):
            x, y, t = state_at_mark(m, j, mark)
            mark = mark_after(m, j, mark)
        if p < starts[j + 1]:
            x, y = to_arrival(m, j, x, y, times[p] - t, np.float64(weights[synapses[p]]), mark >= 0 and mark & 1 == 1)
            t = max(t, times[p])
    states[there], states[there + 1], states[there + 2], states[there + NEXT] = x, y, t, mark


@compiled
def mark_is(m, mark, window, place):
    """Whether a spike, or the end of its refractory time if `mark` is odd, comes in this window before this arrival."""
    s = words_of(m)
    entry = matrix_at(s[MARKS], s[CAPACITY], 4, np.int32)[mark >> 1]
    if mark & 1:
        return np.int64(entry[MARK_FREE_WINDOW]) == window and np.int64(entry[MARK_FREE_PLACE]) <= place
    return np.int64(entry[MARK_WINDOW]) >> 1 == window and np.int64(entry[MARK_PLACE]) <= place


@compiled
def state_at_mark(m, j, mark):
    """The state just after it, and when."""
    s = words_of(m)
    cell, number = matrix_at(s[CELLS], s[N], CELL, np.float64)[j], mark >> 1
    t = vector_at(s[TIMES], s[CAPACITY], np.float64)[number]
    if mark & 1:
        free_states = matrix_at(s[FREE_STATES], s[CAPACITY], 2, np.float64)[number]
        return free_states[0], free_states[1], t + cell[TREF]
    return cell[VRESET], vector_at(s[CURRENTS], s[CAPACITY], np.float64)[number], t


@compiled
def mark_after(m, j, mark):
    """What comes next for the neuron."""
    s = words_of(m)
    if mark & 1 == 0 and matrix_at(s[CELLS], s[N], CELL, np.float64)[j, TREF] > 0:
        return mark | 1
    return 2 * vector_at(s[AFTER], s[CAPACITY] + s[N], np.int64)[mark >> 1]


@compiled
def states_of_window(dtype, m, window, windows, count):
    """The address of the states at the start of a window. Windows are asked for in reverse."""
    s = words_of(m)
    size = KEPT_COLUMNS * s[N]
    coarse = window // s[STRIDE]
    if s[STRIDE] == 1:
        return s[KEPT] + 8 * size * window
    if s[REPLAYED] != coarse:
        kept, finely = vector_at(s[KEPT], 2**40, np.float64), vector_at(s[KEPT_FINELY], 2**40, np.float64)
        for place in range(size):
            finely[place] = kept[coarse * size + place]
        s[REPLAYED] = coarse
        replay(dtype, s[ASIDE], count, coarse * s[STRIDE], window, 1)
        s[NO_MEMORY] = s[NO_MEMORY] or words_of(s[ASIDE])[NO_MEMORY]
    return s[KEPT_FINELY] + 8 * size * (window - coarse * s[STRIDE])
