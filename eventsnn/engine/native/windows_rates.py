"""What time constants and couplings receive in windows on the way back, for which the states have to be known.

The states are computed again from the record of spikes, which is fast, because no crossing has to be located. A first
pass keeps the states at the start of every window, or of every so many if that is too much memory; then the windows
between two of those are run once more. Within a window, the state of a neuron is known after its last spike, or at the
start of the window. These passes have a block of words of their own, with another ring of buckets.
"""

import math

import numpy as np

from eventsnn.engine.native.block import array_at
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
    TREF,
    V0,
    VRESET,
)
from eventsnn.engine.native.linear import coefficients
from eventsnn.engine.native.pool import allocate, free
from eventsnn.engine.native.windows_queue import (
    make_ring,
    release_ring,
    send,
    sort_bucket,
)
from eventsnn.engine.native.windows_start import (
    MARK_FREE_PLACE,
    MARK_FREE_WINDOW,
    MARK_PLACE,
    MARK_WINDOW,
    kind_of,
)
from eventsnn.engine.native.windows_words import WINDOWS, windows_block

# What is kept of a neuron: V, I and since when, and twice the number of its next spike, plus 1 while it is refractory
# after that one, -2 if there is none; and its drive.
STATE_V, STATE_I, STATE_T, NEXT, STATE_D = range(5)
KEPT_COLUMNS = 5
# If the states at the start of every window take no more bytes than this, all of them are kept.
_BYTES = 2**26
_BLOCK_SIZE = 8 * WINDOWS.size


@compiled
def rates_of_stretch(run, j, dt, v, i, by_v, by_i, resting):
    """What the rates of a neuron receive from a stretch that begins with `v` and `i`, from the adjoint at its end."""
    if by_v == 0 and by_i == 0:
        return
    cell, kind = run.cells[j], kind_of(run, j)
    by = run.by_numbers[j]
    a, b, r = cell[LEAK], cell[COUPLING], cell[DECAY]
    keep_a, feed_a, gain_a, phi, feed_r = sensitivities(dt, a, b, r)
    if not (resting and kind & HOLDS_V):
        by[LEAK] += by_v * (keep_a * v + feed_a * i + gain_a * cell[DRIVE])
        by[COUPLING] += by_v * phi * i
        by[DECAY] += by_v * feed_r * i
    if not (resting and kind & HOLDS_I):
        by[DECAY] -= by_i * dt * math.exp(-r * dt) * i


@compiled
def to_arrival(run, j, x, y, d, dt, synapse, resting):
    """The state and the drive of a neuron `dt` later, after an arrival."""
    cell, kind, weight = run.cells[j], kind_of(run, j), np.float64(run.weights[synapse])
    if dt > 0:
        keep, feed, fade, gain = coefficients(dt, cell[LEAK], cell[COUPLING], cell[DECAY])
        if not (resting and kind & HOLDS_V):
            x = keep * x + feed * y + gain * d
        if not (resting and kind & HOLDS_I):
            y = fade * y
    if synapse >= run.first_change:
        return x, y, d + weight
    if kind & JUMPS:
        return (x if resting and kind & (BLOCKS | HOLDS_V) else x + weight), y, d
    return x, (y if resting and kind & (BLOCKS | HOLDS_I) else y + weight), d


@compiled
def note_past(run, j, p, end, x, y, t, resting):
    """The states after the arrivals from `p` to `end`, between which nothing else happens, from the state at `t`."""
    times, synapses = run.sorted_times, run.sorted_synapses
    weights, vs, currents = run.weights, run.past_v, run.past_i
    # The drive is that after these arrivals.
    d = run.cells[j, DRIVE]
    for k in range(p, end):
        if synapses[k] >= run.first_change:
            d -= weights[synapses[k]]
    while p < end:
        x, y, d = to_arrival(run, j, x, y, d, times[p] - t, np.int64(synapses[p]), resting)
        t = max(t, times[p])
        vs[p], currents[p] = x, y
        p += 1


@compiled
def begin_rates(run, count, windows):
    """The first pass, if memory allows."""
    n = run.n
    run.stride = 1 if 8 * KEPT_COLUMNS * n * windows <= _BYTES else np.int64(math.sqrt(windows)) + 1
    kept = (windows - 1) // run.stride + 1
    size = 8 * KEPT_COLUMNS * n
    run.kept, run.kept_finely = allocate(size * (kept + 1)), allocate(size * (run.stride + 1))
    run.after, run.aside = allocate(8 * (run.capacity + n)), allocate(_BLOCK_SIZE)
    if run.kept == 0 or run.kept_finely == 0 or run.after == 0 or run.aside == 0:
        run.no_memory = 1
        return
    other = windows_block(run.aside, run.dtype)
    for word in range(_BLOCK_SIZE // 8):
        other.words[word] = run.words[word]
    other.buckets, other.sorted, other.n_sorted, other.free_chunk = 0, 0, 0, 0
    states = array_at(run.kept_finely, np.float64)
    cells, after = run.cells, array_at(run.after, np.int64)
    neurons = run.neurons
    # The spike after each, and behind these the first of each neuron.
    for j in range(n):
        after[run.capacity + j] = -1
    for k in range(count - 1, -1, -1):
        j = np.int64(neurons[k])
        after[k] = after[run.capacity + j]
        after[run.capacity + j] = k
    for j in range(n):
        state = KEPT_COLUMNS * j
        states[state + STATE_V], states[state + STATE_I], states[state + STATE_T] = cells[j, V0], cells[j, I0], 0
        states[state + NEXT], states[state + STATE_D] = 2 * after[run.capacity + j], run.given[DRIVE, j]
    if make_ring(other):
        run.replayed = -1
        replay(other, count, 0, windows, 0)
    run.no_memory = other.no_memory


@compiled
def end_rates(run):
    """Give back the memory."""
    if run.aside != 0:
        other = windows_block(run.aside, run.dtype)
        if other.buckets != 0:
            release_ring(other)
        free(run.aside)
    for address in (run.kept, run.kept_finely, run.after):
        if address != 0:
            free(address)


@compiled
def replay(run, count, first, end, finely):
    """Run the windows from `first` to `end` again from the first states that are kept finely.

    Keeps the states at the start of every so many, or `finely` those at the start of each.
    """
    n, last = run.n, run.n_windows - 1
    indptr, targets = run.indptr, run.targets
    delays, rows = run.delays, run.input_rows
    at, order = run.input_at, run.coming
    times, neurons = run.times, run.neurons
    marks = run.marks
    states = array_at(run.kept_finely, np.float64)
    kept = array_at(run.kept, np.float64)
    number, coming, size = 0, 0, KEPT_COLUMNS * n
    for k in range(first, end):
        if run.no_memory:
            return
        if finely == 0 and k % run.stride == 0:
            for place in range(size):
                kept[k // run.stride * size + place] = states[place]
        while number < count and run.recurrent and np.int64(marks[number, MARK_WINDOW]) >> 1 < k:
            # Those of windows before the first one are sent if they may still be on their way.
            soonest = (np.int64(marks[number, MARK_WINDOW]) >> 1) + 1
            if max(np.int64((times[number] + run.longest) * run.per_length), soonest) >= first:
                row = np.int64(neurons[number])
                send(run, times[number], indptr, targets, delays, row, soonest, end - 1, last, None, first)
            number += 1
        while coming < run.n_coming:
            one = order[coming]
            if min(np.int64(at[one] * run.per_length), last) > k:
                break
            if min(np.int64((at[one] + run.longest) * run.per_length), last) >= first:
                send(run, at[one], indptr, targets, delays, np.int64(rows[one]), 0, end - 1, last, None, first)
            coming += 1
        sort_bucket(run, k, None)
        here = (k - first) * size if finely else 0
        for j in range(n):
            replay_neuron(run, j, k, here, here + size if finely else 0)


@compiled
def replay_neuron(run, j, window, here, there):
    """A neuron through a window, from one state that is kept finely to another."""
    starts, times, synapses = run.starts, run.sorted_times, run.sorted_synapses
    states = array_at(run.kept_finely, np.float64)
    here, there = here + KEPT_COLUMNS * j, there + KEPT_COLUMNS * j
    x, y, t, mark = states[here], states[here + 1], states[here + 2], np.int64(states[here + NEXT])
    d = states[here + STATE_D]
    for p in range(starts[j], starts[j + 1] + 1):
        while mark >= 0 and mark_is(run, mark, window, p - starts[j]):
            x, y, t = state_at_mark(run, j, mark)
            mark = mark_after(run, j, mark)
        if p < starts[j + 1]:
            resting = mark >= 0 and mark & 1 == 1
            x, y, d = to_arrival(run, j, x, y, d, times[p] - t, np.int64(synapses[p]), resting)
            t = max(t, times[p])
    states[there], states[there + 1], states[there + 2], states[there + NEXT] = x, y, t, mark
    states[there + STATE_D] = d


@compiled
def mark_is(run, mark, window, place):
    """Whether a spike, or the end of its refractory time if `mark` is odd, comes in this window before this arrival."""
    entry = run.marks[mark >> 1]
    if mark & 1:
        return np.int64(entry[MARK_FREE_WINDOW]) == window and np.int64(entry[MARK_FREE_PLACE]) <= place
    return np.int64(entry[MARK_WINDOW]) >> 1 == window and np.int64(entry[MARK_PLACE]) <= place


@compiled
def state_at_mark(run, j, mark):
    """The state just after it, and when."""
    cell, number = run.cells[j], mark >> 1
    t = run.times[number]
    if mark & 1:
        free_states = run.free_states[number]
        return free_states[0], free_states[1], t + cell[TREF]
    return cell[VRESET], run.currents[number], t


@compiled
def mark_after(run, j, mark):
    """What comes next for the neuron."""
    if mark & 1 == 0 and run.cells[j, TREF] > 0:
        return mark | 1
    return 2 * array_at(run.after, np.int64)[mark >> 1]


@compiled
def states_of_window(run, window, windows, count):
    """The address of the states at the start of a window. Windows are asked for in reverse."""
    size = KEPT_COLUMNS * run.n
    coarse = window // run.stride
    if run.stride == 1:
        return run.kept + 8 * size * window
    if run.replayed != coarse:
        kept, finely = array_at(run.kept, np.float64), array_at(run.kept_finely, np.float64)
        for place in range(size):
            finely[place] = kept[coarse * size + place]
        run.replayed = coarse
        other = windows_block(run.aside, run.dtype)
        replay(other, count, coarse * run.stride, window, 1)
        run.no_memory = run.no_memory or other.no_memory
    return run.kept_finely + 8 * size * (window - coarse * run.stride)
