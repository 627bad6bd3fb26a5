"""Linear systems on one clock, forwards: as `clock.py`, for neurons with several channels.

The order of events, stretches, and the rules at an instant are those of `clock.py`. What differs is how neurons move
(`systems_sweep.py`) and when they spike (`systems_spiking.py`). All states are in float64, whatever the dtype of the
network is: crossings need it, and few of the loops here have so many neurons that they would be faster otherwise.
"""

import numpy as np

from eventsnn.engine.native.block import set_places
from eventsnn.engine.native.clock import SHORTEST, next_free
from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.interrupt import INTERRUPTED, interrupts
from eventsnn.engine.native.kinds import ARRIVAL, ENDLESS, FINE, FREE, INPUT, NOT_FINITE, ONCE, OUTPUT
from eventsnn.engine.native.matrices import places_of_small
from eventsnn.engine.native.order import pop, push, sort_by_time, sort_evenly
from eventsnn.engine.native.sweep import fetch_row, width_of
from eventsnn.engine.native.systems_queries import answer_until
from eventsnn.engine.native.systems_spiking import go_on, jumps, spike_at_once, through_stretch
from eventsnn.engine.native.systems_sweep import arrive, find_groups, move_all, set_coefficients
from eventsnn.engine.native.systems_words import ENTRIES, SYSTEMS

# The memory of a run.
_NUMBERS, _STATES = SYSTEMS.span("numbers"), SYSTEMS.span("x", "ask_x")
_OF_NEURONS, _COEFS, _END_X = SYSTEMS.span("offset", "groups"), SYSTEMS.span("coefs"), SYSTEMS.span("end_x")
_OF_ARRIVALS, _OF_QUERIES = SYSTEMS.span("at_time", "buckets"), SYSTEMS.span("asked_at", "asked")
_SPARE, _OF_SPIKES, _FOUND_X = SYSTEMS.span("spare"), SYSTEMS.span("heap_times", "order"), SYSTEMS.span("found_x")
_SLOPES, _TIMES, _AT_SPIKES = SYSTEMS.span("slopes"), SYSTEMS.span("times"), SYSTEMS.span("at_spikes")
_AT_FREE, _LOG = SYSTEMS.span("at_free"), SYSTEMS.span("log")
_COUNTERS = SYSTEMS.span("n_groups", "reached")
_set_out_small = places_of_small(SYSTEMS)


@compiled
def set_out(run, place):
    """Give every array of the run its place behind the words; gives where the memory ends."""
    n, size, many = run.n, run.size, run.capacity + 1
    most = max(run.n_arrivals, many, run.n_queries)
    for span, count in (
        (_NUMBERS, run.numbers_rows * n), (_STATES, size * n), (_OF_NEURONS, n + 1), (_COEFS, ENTRIES * n),
        (_END_X, size * n), (_OF_ARRIVALS, run.n_arrivals + 2), (_OF_QUERIES, run.n_queries), (_SPARE, most),
        (_OF_SPIKES, many), (_FOUND_X, size * many),
    ):  # fmt: skip
        place = set_places(run, span, count, place)
    # Results that were not asked for are written to memory of the run, and dropped with it.
    if run.unwanted & 1:
        place = set_places(run, _SLOPES, many, place)
    if run.unwanted & 2:
        place = set_places(run, _TIMES, many, place)
        place = set_places(run, _AT_SPIKES, size * many, place)
    if run.unwanted & 4:
        place = set_places(run, _AT_FREE, size * many, place)
    if run.unwanted & 8:
        place = set_places(run, _LOG, run.n_arrivals + 3 * many + run.n_queries + 8, place)
    return _set_out_small(run, place)


@compiled
def begin(run, t_end):
    """Everything as it is at the start of the run; gives the longest stretch."""
    n, size = run.n, run.size
    given, numbers, x = run.given, run.numbers, run.x
    kinds, delays, offset = run.kinds, run.delays, run.offset
    for word in range(_COUNTERS[0], _COUNTERS[1]):
        run.words[word] = 0
    for row in range(run.numbers_rows):
        for j in range(n):
            numbers[row, j] = given[row, j]
    stretch = np.inf
    for j in range(n):
        offset[j] = numbers[run.at_h0, j]
        for k in range(size):
            x[k, j] = numbers[run.at_y0 + k, j]
            run.driven |= (1 << k) if numbers[run.at_c + k, j] != 0 else 0
            run.reached |= (1 << k) if numbers[run.at_into + k, j] != 0 else 0
        run.counts[j], run.passing[j], run.waited[j], run.statuses[j] = 0, False, False, FINE
        run.freed_at[j] = -1.0
        if jumps(run, j):
            run.any_jumps = 1
        if kinds[j] & OUTPUT:
            run.n_waiting += 1
        if run.recurrent:
            stretch = min(stretch, np.float64(delays[j]))
        if numbers[run.at_tref, j] > 0:
            stretch = min(stretch, numbers[run.at_tref, j])
    run.singly = not stretch >= SHORTEST * t_end
    find_groups(run)
    # At the start the threshold is tested before anything moves.
    set_coefficients(run, 0.0)

    times, rows, at = run.arrival_times, run.arrival_rows, run.at_time
    for k in range(run.n_arrivals):
        when = np.float64(times[k]) + np.float64(delays[rows[k]])
        # A time below 0 is an error, which is raised elsewhere. Until then nothing may go wrong here.
        at[k] = 0.0 if when < 0 else when
    queries, asked_at, asked = run.queries, run.asked_at, run.asked
    for k in range(run.n_queries):
        asked_at[k], asked[k] = queries[k], k
    sort_by_time(asked_at, asked, run.spare, run.n_queries)
    return stretch


@compiled
def send(run, sent, t_stop):
    """The spikes from number `sent` on set out; gives whether some of them have arrived at once."""
    times, neurons, delays, since = run.times, run.neurons, run.delays, run.since
    arrived = False
    for number in range(sent, min(run.n_spikes, run.capacity)):
        j = np.int64(neurons[number])
        since[j] = number
        if run.recurrent:
            if delays[j] <= 0:
                run.log[run.n_log] = number * 8 + ARRIVAL
                run.n_log += 1
                arrive(run, j)
                arrived = True
            elif times[number] + delays[j] <= t_stop:
                push(run.heap_times, run.heap_numbers, run.n_heap, times[number] + delays[j], number)
                run.n_heap += 1
    return arrived


@compiled
def set_free(run, place, t):
    """A refractory time ends; gives the number of the spike that began it."""
    j = run.refractory[place]
    number = run.since[j]
    run.n_refractory -= 1
    run.refractory[place] = run.refractory[run.n_refractory]
    note_free(run, j, number)
    run.freed_at[j] = t
    done = run.stop_after > 0 and not run.recurrent and run.counts[j] >= run.stop_after
    if not (done or run.kinds[j] & ONCE):
        run.offset[j] = run.numbers[run.at_h0, j]
    return number


@compiled
def note_free(run, j, number):
    """The state at the end of the refractory time after a spike."""
    for k in range(run.size):
        run.at_free[number, k] = run.x[k, j]


@compiled
def run_forward(run, t_end):
    """One run; gives 0, or `INTERRUPTED`."""
    n, capacity, eps = run.n, run.capacity, run.eps
    longest = begin(run, t_end)
    t_stop = t_end + width_of(t_end, eps)
    at, coming, rows, neurons = run.at_time, run.coming, run.arrival_rows, run.neurons
    n_coming = sort_evenly(at, run.n_arrivals, t_stop, coming, run.buckets, run.spare)
    t, begun, pending = 0.0, 0.0, True
    n_input, sent, still, signals = 0, 0, 0, interrupts()
    while True:
        if interrupts() != signals:
            return INTERRUPTED
        if sent < run.n_spikes:
            if send(run, sent, t_stop) and run.any_jumps:
                begun = begun if pending else t
                pending = True
            sent = run.n_spikes
        # A chain of spikes that takes no time ends, or goes on forever.
        if still > 10 * n + 100:
            run.status, run.culprit = ENDLESS, neurons[min(sent, capacity) - 1]
        if run.status != FINE or run.n_spikes > capacity or (run.stop_after > 0 and run.n_waiting == 0):
            break

        te, kind, which = np.inf, -1, 0
        if n_input < n_coming:
            te, kind = at[coming[n_input]], INPUT
        if run.n_heap > 0 and run.heap_times[0] < te:
            te, kind = run.heap_times[0], ARRIVAL
        if run.n_refractory > 0:
            # The end of a refractory time comes before what arrives at the same instant.
            free, which = next_free(run)
            if free <= t_stop and free <= te + width_of(te, eps):
                te, kind = free, FREE
        if te < t and (kind == INPUT or kind == ARRIVAL):
            # A refractory time has ended first that ends a little later, but at the same instant.
            t = te
        te = max(t_stop if kind < 0 else te, t)
        if pending and (kind < 0 or te > begun + width_of(begun, eps)):
            pending = False
            count = spike_at_once(run, t, begun)
            if count > 0:
                still += count
                continue
        if te > t:
            if pending:
                # Within an instant nothing is tested.
                set_coefficients(run, te - t)
                move_all(run, run.new_x, te - t)
                go_on(run)
                t = te
            else:
                before, ends = run.n_spikes, te if run.singly else min(te, t + longest)
                reached = through_stretch(run, t, ends, ends == te and kind >= 0, ends == te and kind < 0)
                still = still + run.n_spikes - before if reached <= t else 0
                t = reached
                if t < te or run.n_spikes > before:
                    continue
        if kind < 0:
            break
        if kind == FREE:
            number = set_free(run, which, t)
        elif kind == INPUT:
            number = coming[n_input]
            n_input += 1
            if n_input < n_coming:
                # The next input is known.
                fetch_row(run, run.weights, np.int64(rows[coming[n_input]]))
            arrive(run, np.int64(rows[number]))
        else:
            number = run.heap_numbers[0]
            pop(run.heap_times, run.heap_numbers, run.n_heap)
            run.n_heap -= 1
            arrive(run, np.int64(neurons[number]))
        run.log[run.n_log] = number * 8 + kind
        run.n_log += 1
        if kind == FREE or run.any_jumps:
            begun = begun if pending else t
            pending = True
    if run.n_spikes > capacity:
        t = max(t, run.times[capacity - 1])
    finish(run, t, t_end)
    return 0


@compiled
def finish(run, t, t_end):
    """The results that are written at the end."""
    answer_until(run, t, np.inf, True)
    n, capacity, count = run.n, run.capacity, min(run.n_spikes, run.capacity)
    for k in range(count):
        run.times_out[k] = min(run.times[k], t_end)
    for k in range(count, capacity):
        run.times_out[k], run.neurons[k], run.slopes[k] = np.inf, 0, np.inf
    for j in range(n):
        if run.statuses[j] == FINE:
            run.stopped[j] = min(t, t_end)
            for k in range(run.size):
                if not np.isfinite(run.x[k, j]):
                    run.statuses[j] = NOT_FINITE
    if run.status == ENDLESS:
        run.statuses[run.culprit] = ENDLESS
    # On the way back, those who are refractory at the end are so from the start.
    for k in range(run.n_refractory if run.n_spikes <= capacity else 0):
        j = run.refractory[k]
        note_free(run, j, run.since[j])
        run.log[run.n_log] = run.since[j] * 8 + FREE
        run.n_log += 1
    run.count[0] = run.n_spikes
    run.info[0], run.info[1] = count, run.n_log
