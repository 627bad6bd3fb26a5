"""Arrivals at single synapses, for neurons on one clock: a network in which some spikes arrive at once, others later.

All neurons move to each arrival, so that it costs as much as there are neurons. Where every delay is long enough,
windows are faster. But they cannot be shorter than the shortest delay, and delays that are trained may become 0.

When a spike is sent, its synapses without delay act at once, and the others go into a heap. An entry of the heap is a
time and a whole number: what has emitted the spike, in the upper half, which is the number of a spike or for inputs
-1 less that of the input; and the synapse. Entries of the same time leave it in the order of these numbers. So the
order in which spikes arrive follows from the spikes alone. The forward run only writes down how many arrive between
two other events, which takes no more memory than the spikes do, and the way back finds out which.
"""

import numpy as np

from eventsnn.engine.native.block import array_at
from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.kinds import (
    BLOCKS,
    COUPLING,
    DECAY,
    DRIVE,
    HOLDS_I,
    HOLDS_V,
    INSTANT,
    JUMPS,
    LEAK,
    SPIKE,
    SYNAPSE,
)
from eventsnn.engine.native.order import pop, push, sort_evenly
from eventsnn.engine.native.pool import allocate, free
from eventsnn.engine.native.sweep import width_of
from eventsnn.engine.native.words import CLOCK
from eventsnn.engine.native.words_back import BACK

# For how many entries there is room at first.
_ROOM = 1024


@compiled
def synapse_of(number):
    """The synapse of an entry of the heap."""
    return number & 0xFFFFFFFF


@compiled
def grow(run, place, room):
    """Twice as much memory for an array of so many words, whose address is at a place of the block."""
    new = allocate(16 * room)
    if new == 0:
        run.no_memory = 1
        return
    old, fresh = array_at(run.words[place], np.int64), array_at(new, np.int64)
    for k in range(room):
        fresh[k] = old[k]
    free(run.words[place])
    run.words[place] = new


_HEAPS = (CLOCK.span("heap_times", "heap_numbers"), BACK.span("heap_times", "heap_numbers"))
_THROUGH, _LOG = BACK.place("through"), BACK.place("log")


@compiled
def make_heap(run, back):
    """An empty heap."""
    first, end = _HEAPS[0] if back is None else _HEAPS[1]
    run.n_heap, run.n_input, run.room_heap, run.no_memory = 0, 0, _ROOM, 0
    for place in range(first, end):
        run.words[place] = allocate(8 * _ROOM)
        if run.words[place] == 0:
            run.no_memory = 1


@compiled
def release_heap(run, back):
    """Give its memory back."""
    first, end = _HEAPS[0] if back is None else _HEAPS[1]
    for place in range(first, end):
        if run.words[place] != 0:
            free(run.words[place])


@compiled
def _will_arrive(run, t, number, back):
    if run.n_heap == run.room_heap:
        first, end = _HEAPS[0] if back is None else _HEAPS[1]
        for place in range(first, end):
            grow(run, place, run.room_heap)
        if run.no_memory:
            return
        run.room_heap *= 2
    push(run.heap_times, run.heap_numbers, run.n_heap, t, number)
    run.n_heap += 1


@compiled
def send_through(run, row, t, emitter, back):
    """A spike sets out through all synapses of a row; gives through how many it has arrived at once."""
    starts, delays, count = run.starts, run.delays, 0
    for synapse in range(np.int64(starts[row]), np.int64(starts[row + 1])):
        delay, number = np.float64(delays[synapse]), (np.int64(emitter) << 32) | synapse
        if emitter >= 0 and delay <= 0:
            if back is None:
                _arrive(run, synapse)
            else:
                _note(run, number)
            count += 1
        elif t + delay <= run.t_stop:
            _will_arrive(run, t + delay, number, back)
        if run.no_memory:
            break
    return count


@compiled
def _send_inputs(run, back):
    """Inputs set out before anything arrives that may come after theirs."""
    at, coming, rows = run.at, run.coming, run.arrival_rows
    while run.n_input < run.n_coming and not run.no_memory:
        k = coming[run.n_input]
        if run.n_heap > 0 and run.heap_times[0] < at[k]:
            break
        run.n_input += 1
        send_through(run, np.int64(rows[k]), at[k], -1 - k, back)


@compiled
def next_arrival(run):
    """When the next spike arrives, infinite if none does."""
    _send_inputs(run, None)
    return run.heap_times[0] if run.n_heap > 0 else np.inf


@compiled
def take_arrival(run):
    """The next spike arrives."""
    number = run.heap_numbers[0]
    pop(run.heap_times, run.heap_numbers, run.n_heap)
    run.n_heap -= 1
    _arrive(run, synapse_of(number))
    log_arrivals(run, 1)


@compiled
def log_arrivals(run, count):
    """Write down that so many spikes have arrived, together with those just before."""
    log, last = run.log, run.n_log - 1
    if last >= 0 and np.int64(log[last]) & 7 == SYNAPSE:
        log[last] += 8 * count
    elif count > 0:
        log[last + 1] = 8 * count + SYNAPSE
        run.n_log += 1


@compiled
def _arrive(run, synapse):
    """A spike arrives through a synapse, or a change of the drive of its target."""
    j, weight = np.int64(run.targets[synapse]), np.float64(run.weights[0][synapse])
    kind, refractory, rests = np.int64(run.kinds[j]), run.refractory, False
    for k in range(run.n_refractory):
        rests = rests or refractory[k] == j
    if synapse >= run.first_change:
        run.numbers[DRIVE, j] += weight
        run.d[j] = run.numbers[DRIVE, j]
    elif kind & JUMPS:
        if not (rests and kind & (BLOCKS | HOLDS_V)):
            run.v[j] += weight
    elif not (rests and kind & (BLOCKS | HOLDS_I)):
        run.i[j] += weight


# The way back.


@compiled
def unfold(run):
    """Write down which spikes have arrived: a log like that of arrivals through rows, with an entry for each.

    `through` has what the heap had of each. False if there is no memory.
    """
    short, neurons, times = run.log, run.neurons, run.times
    n_short, sent, spikes = np.int64(run.info[1]), 0, 0
    run.n_coming = sort_evenly(run.at, run.n_arrivals, run.t_stop, run.coming, run.buckets, run.spare)
    make_heap(run, True)
    run.n_log, run.n_through, run.room_through = 0, 0, _ROOM
    # An entry of the log takes half a word.
    run.room_log = n_short + _ROOM
    run.words[_THROUGH], run.words[_LOG] = allocate(8 * _ROOM), allocate(8 * run.room_log)
    if run.words[_THROUGH] == 0 or run.words[_LOG] == 0:
        run.no_memory = 1
    for entry in range(n_short):
        kind, number = np.int64(short[entry]) & 7, np.int64(short[entry]) >> 3
        if run.no_memory:
            break
        if kind != SYNAPSE:
            run.log[run.n_log] = short[entry]
            run.n_log += 1
            if kind == SPIKE or kind == INSTANT:
                spikes = number + 1
            continue
        while sent < spikes:
            number -= send_through(run, np.int64(neurons[sent]), times[sent], sent, True)
            sent += 1
        while number > 0 and not run.no_memory:
            _send_inputs(run, True)
            _note(run, run.heap_numbers[0])
            pop(run.heap_times, run.heap_numbers, run.n_heap)
            run.n_heap -= 1
            number -= 1
    release_heap(run, True)
    return run.no_memory == 0


@compiled
def release_log(run):
    """Give its memory back."""
    for place in (_THROUGH, _LOG):
        if run.words[place] != 0:
            free(run.words[place])


@compiled
def _note(run, number):
    if run.n_through == run.room_through:
        grow(run, _THROUGH, run.room_through)
        grow(run, _LOG, run.room_log)
        if run.no_memory:
            return
        run.room_through *= 2
        run.room_log *= 2
    run.through[run.n_through] = number
    run.log[run.n_log] = 8 * run.n_through + SYNAPSE
    run.n_through += 1
    run.n_log += 1


@compiled
def time_of(run, number):
    """When a spike has arrived."""
    emitter, delay = number >> 32, np.float64(run.delays[synapse_of(number)])
    if emitter >= 0:
        return run.times[emitter] + max(delay, 0.0)
    return np.float64(run.arrival_times[-1 - emitter]) + delay


@compiled
def drives_at_end(run):
    """The drives at the end of the run, from those at its start."""
    for k in range(run.n_through):
        synapse = synapse_of(run.through[k])
        if synapse >= run.first_change:
            run.numbers[DRIVE, np.int64(run.targets[synapse])] += run.weights[0][synapse]


@compiled
def back_through_synapse(run, number, t):
    """An arrival through a synapse at `t`, where all neurons are: what its weight, its delay and its spike receive."""
    synapse, emitter = synapse_of(number), number >> 32
    j, weight = np.int64(run.targets[synapse]), np.float64(run.weights[0][synapse])
    kind, special = np.int64(run.kinds[j]), run.place[j] >= 0
    rests = special and run.resting[j] != 0
    x = run.side_v[j] if special else np.float64(run.lv[j])
    y = run.side_i[j] if special else np.float64(run.li[j])
    stands, got, by = rests and kind & HOLDS_V != 0, 0.0, run.by_weights[0]
    if synapse >= run.first_change:
        by[synapse] += run.by_drive[j] + run.by_numbers[DRIVE, j]
        run.numbers[DRIVE, j] -= weight
        got = 0.0 if stands else -weight * x
    else:
        if run.owed[j] != 0 and weight != 0 and run.owed_at[j] - t <= 2 * width_of(run.owed_at[j], run.eps):
            # This arrival has lifted the neuron over its threshold.
            got = run.owed[j]
            run.owed[j] = 0
        if rests and kind & BLOCKS:
            x, y = 0.0, 0.0
        if kind & JUMPS:
            if not stands:
                by[synapse] += x
                got += weight * run.numbers[LEAK, j] * x
        elif not (rests and kind & HOLDS_I):
            by[synapse] += y
            got += weight * (run.numbers[DECAY, j] * y - (0.0 if stands else run.numbers[COUPLING, j] * x))
    run.by_delays[synapse] += got
    if emitter >= 0:
        run.received[emitter] += got
    else:
        run.by_arrivals[-1 - emitter] += got


@compiled
def replay_arrival(run, number, v, i):
    """The states of all neurons after an arrival that does not meet a refractory neuron which it has no effect on."""
    synapse = synapse_of(number)
    j, weight = np.int64(run.targets[synapse]), run.weights[0][synapse]
    if synapse >= run.first_change:
        run.drives[j] += weight
    elif run.kinds[j] & JUMPS:
        v[j] += weight
    else:
        i[j] += weight
