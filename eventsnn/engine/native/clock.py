"""Linear neurons on one clock, forwards: recurrent with a delay for each source, or a layer that is not recurrent.

What is compiled with `by_synapse`, and not `None`, is for a delay of each synapse instead: see `synapses`.

A *stretch* is the time between two global events: an arrival, the end of a refractory time, or the end of the run. If
all delays are greater than 0, a stretch is no longer than the shortest of them. A spike in it then arrives after its
end, so neurons do not affect each other within a stretch. If some delays are 0, a stretch ends with its first spike.
Queries are answered within stretches, and change nothing.

All neurons go through a stretch together, in three loops over arrays that vectorise: one counts who may reach the
threshold, one moves the states, and one adds the weights of an arrival. Only those who may reach it are looked at one
by one. Clocks and crossings are in float64; states are in the dtype of the network.

What happened is written down in a log, a whole number for each event, from which the way back finds its own way.
"""

import numpy as np

from eventsnn.engine.native.block import set_places
from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.interrupt import INTERRUPTED, interrupts
from eventsnn.engine.native.kinds import (
    ARRIVAL,
    DRIVE,
    ENDLESS,
    FINE,
    FREE,
    I0,
    INPUT,
    JUMPS,
    NEVER,
    NOT_FINITE,
    NUMBERS,
    ONCE,
    OUTPUT,
    SPIKES,
    THRESH,
    TREF,
    V0,
)
from eventsnn.engine.native.order import pop, push, sort_by_time, sort_evenly
from eventsnn.engine.native.queries import answer_until
from eventsnn.engine.native.spiking import spike_at_once, through_stretch
from eventsnn.engine.native.sweep import arrive, fetch_row, find_groups, move_all, set_coefficients, width_of
from eventsnn.engine.native.synapses import (
    log_arrivals,
    make_heap,
    next_arrival,
    release_heap,
    send_through,
    take_arrival,
)
from eventsnn.engine.native.words import CLOCK

# The memory of a run.
_NUMBERS, _OF_NEURONS, _COEFS = CLOCK.span("numbers"), CLOCK.span("v", "groups"), CLOCK.span("coefs")
_OF_ARRIVALS, _OF_QUERIES = CLOCK.span("at", "buckets"), CLOCK.span("asked_at", "asked")
_SPARE, _OF_SPIKES = CLOCK.span("spare"), CLOCK.span("heap_times", "order")
_SLOPES, _TRACE, _FREE_CURRENTS = CLOCK.span("slopes"), CLOCK.span("times", "currents"), CLOCK.span("free_currents")
_LOG = CLOCK.span("log")
_COUNTERS = CLOCK.span("n_groups", "arrived")


@compiled
def set_out(run, place):
    """Give every array of the run its place behind the words; gives where the memory ends."""
    n, many, most = run.n, run.capacity + 1, max(run.n_arrivals, run.capacity + 1, run.n_queries)
    for span, count in (
        (_NUMBERS, NUMBERS * n), (_OF_NEURONS, n + 1), (_COEFS, 4 * n), (_OF_ARRIVALS, run.n_arrivals + 2),
        (_OF_QUERIES, run.n_queries), (_SPARE, most), (_OF_SPIKES, many),
    ):  # fmt: skip
        place = set_places(run, span, count, place)
    # Results that were not asked for are written to memory of the run, and dropped with it.
    if run.unwanted & 1:
        place = set_places(run, _SLOPES, many, place)
    if run.unwanted & 2:
        place = set_places(run, _TRACE, many, place)
    if run.unwanted & 4:
        place = set_places(run, _FREE_CURRENTS, many, place)
    if run.unwanted & 8:
        place = set_places(run, _LOG, run.n_arrivals + 6 * many + 2 * run.n_queries + 16, place)
    return place


# Where the longest stretch is a smaller part of the run than this, looking for the first spike of a stretch takes less
# time than so many stretches.
SHORTEST = 1e-4


@compiled
def begin(run, t_end, by_synapse):
    """Everything as it is at the start of the run; gives the longest stretch."""
    n = run.n
    given, numbers = run.given, run.numbers
    v, i = run.v, run.i
    d, theta = run.d, run.theta
    kinds, counts = run.kinds, run.counts
    passing, freed_at = run.passing, run.freed_at
    waited, statuses = run.waited, run.statuses
    rows, delays = run.arrival_rows, run.delays
    for word in range(_COUNTERS[0], _COUNTERS[1]):
        run.words[word] = 0
    run.all_jump, run.plain = 1, 1
    stretch = np.inf
    for j in range(n):
        for row in range(NUMBERS):
            numbers[row, j] = given[row, j]
        v[j], i[j], d[j] = given[V0, j], given[I0, j], given[DRIVE, j]
        theta[j] = given[THRESH, j] if kinds[j] & SPIKES else run.dtype(NEVER)
        counts[j], passing[j], freed_at[j], waited[j], statuses[j] = 0, False, -1.0, False, FINE
        if kinds[j] & JUMPS:
            run.any_jumps = 1
        else:
            run.all_jump = 0
        if kinds[j] & OUTPUT:
            run.n_waiting += 1
        if kinds[j] & SPIKES:
            if by_synapse is None:
                if run.recurrent:
                    stretch = min(stretch, np.float64(delays[j]))
            if numbers[TREF, j] > 0:
                run.plain = 0
                stretch = min(stretch, numbers[TREF, j])
    run.plain = run.plain and not run.any_jumps
    run.singly = not stretch >= SHORTEST * t_end
    if by_synapse is not None:
        run.singly, run.plain = 1, 0
    find_groups(run)

    times, at = run.arrival_times, run.at
    for k in range(run.n_arrivals):
        when = np.float64(times[k])
        if by_synapse is None:
            when += np.float64(delays[rows[k]])
        # A time below 0 is an error, which is raised elsewhere. Until then nothing may go wrong here.
        at[k] = 0.0 if when < 0 else when
    queries, asked_at = run.queries, run.asked_at
    asked = run.asked
    for k in range(run.n_queries):
        asked_at[k], asked[k] = queries[k], k
    sort_by_time(asked_at, asked, run.spare, run.n_queries)
    return stretch


@compiled
def send(run, sent, t_stop, by_synapse):
    """The spikes from number `sent` on set out; gives whether some of them have arrived at once."""
    times, neurons = run.times, run.neurons
    delays, since = run.delays, run.since
    heap_times, heap_numbers = run.heap_times, run.heap_numbers
    arrived = False
    for number in range(sent, min(run.n_spikes, run.capacity)):
        j = np.int64(neurons[number])
        since[j] = number
        if by_synapse is not None:
            count = send_through(run, j, times[number], number, None)
            log_arrivals(run, count)
            arrived = arrived or count > 0
        elif run.recurrent:
            if delays[j] <= 0:
                run.log[run.n_log] = number * 8 + ARRIVAL
                run.n_log += 1
                arrive(run, j)
                arrived = True
            elif times[number] + delays[j] <= t_stop:
                push(heap_times, heap_numbers, run.n_heap, times[number] + delays[j], number)
                run.n_heap += 1
    return arrived


@compiled
def change_drives(run, row):
    """A change of the drives of neurons, which is a row of the weights. It takes place whether they are refractory."""
    numbers, d, changes = run.numbers, run.d, run.weights[row]
    for j in range(run.n):
        numbers[DRIVE, j] += changes[j]
        d[j] = numbers[DRIVE, j]


@compiled
def next_free(run):
    """When the next refractory time ends, and where in the list that neuron stands."""
    refractory, free_at = run.refractory, run.free_at
    soonest, place = np.inf, -1
    for k in range(run.n_refractory):
        if free_at[refractory[k]] < soonest:
            soonest, place = free_at[refractory[k]], k
    return soonest, place


@compiled
def set_free(run, place, t):
    """A refractory time ends; gives the number of the spike that began it."""
    j = run.refractory[place]
    number = run.since[j]
    run.n_refractory -= 1
    run.refractory[place] = run.refractory[run.n_refractory]
    run.free_currents[number] = run.i[j]
    run.freed_at[j] = t
    done = run.stop_after > 0 and not run.recurrent and run.counts[j] >= run.stop_after
    if not (done or run.kinds[j] & ONCE):
        run.theta[j] = run.numbers[THRESH, j]
    return number


@compiled
def run_forward(run, t_end, by_synapse):
    """One run; gives 0, or `INTERRUPTED`."""
    n, capacity, eps = run.n, run.capacity, run.eps
    longest = begin(run, t_end, by_synapse)
    t_stop = t_end + width_of(t_end, eps)
    at, coming = run.at, run.coming
    n_coming = sort_evenly(at, run.n_arrivals, t_stop, coming, run.buckets, run.spare)
    if by_synapse is not None:
        run.n_coming, run.t_stop = n_coming, t_stop
        make_heap(run, None)
    rows, neurons = run.arrival_rows, run.neurons
    heap_times, heap_numbers = run.heap_times, run.heap_numbers
    log = run.log

    t, begun, pending = 0.0, 0.0, True
    n_input, sent, still, signals = 0, 0, 0, interrupts()
    while True:
        if interrupts() != signals:
            if by_synapse is not None:
                release_heap(run, None)
            return INTERRUPTED
        if sent < run.n_spikes:
            if send(run, sent, t_stop, by_synapse) and run.any_jumps:
                begun = begun if pending else t
                pending = True
            sent = run.n_spikes
        # A chain of spikes that takes no time ends, or goes on forever.
        if still > 10 * n + 100:
            run.status, run.culprit = ENDLESS, neurons[min(sent, capacity) - 1]
        if run.status != FINE or run.n_spikes > capacity or (run.stop_after > 0 and run.n_waiting == 0):
            break

        te, kind, which = np.inf, -1, 0
        if by_synapse is not None:
            te = next_arrival(run)
            kind = ARRIVAL if te < np.inf else -1
            if run.no_memory:
                break
        else:
            if n_input < n_coming:
                te, kind = at[coming[n_input]], INPUT
            if run.n_heap > 0 and heap_times[0] < te:
                te, kind = heap_times[0], ARRIVAL
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
                move_all(run)
                t = te
            else:
                before, ends, row = run.n_spikes, te if run.singly else min(te, t + longest), np.int64(-1)
                if run.plain and ends == te:
                    if kind == INPUT:
                        row = np.int64(rows[coming[n_input]])
                        row = row if row < run.first_change else np.int64(-1)
                    elif kind == ARRIVAL:
                        row = np.int64(neurons[heap_numbers[0]])
                reached = through_stretch(run, t, ends, row, ends == te and kind >= 0, ends == te and kind < 0)
                still = still + run.n_spikes - before if reached <= t else 0
                t = reached
                if not run.arrived and (t < te or run.n_spikes > before):
                    continue
        if kind < 0:
            break
        number = np.int64(0)
        if kind == FREE:
            number = set_free(run, which, t)
        elif by_synapse is not None:
            take_arrival(run)
        elif kind == INPUT:
            number = coming[n_input]
            n_input += 1
            if n_input < n_coming:
                # The next input is known.
                fetch_row(run, run.weights, np.int64(rows[coming[n_input]]))
            row = np.int64(rows[number])
            if row >= run.first_change:
                change_drives(run, row)
            elif not run.arrived:
                arrive(run, row)
        else:
            number = heap_numbers[0]
            pop(heap_times, heap_numbers, run.n_heap)
            run.n_heap -= 1
            if not run.arrived:
                arrive(run, np.int64(neurons[number]))
        run.arrived = 0
        if by_synapse is None or kind == FREE:
            log[run.n_log] = number * 8 + kind
            run.n_log += 1
        if kind == FREE or run.any_jumps:
            begun = begun if pending else t
            pending = True
    if run.n_spikes > capacity:
        t = max(t, run.times[capacity - 1])
    finish(run, t, t_end)
    if by_synapse is not None:
        release_heap(run, None)
    return 0


@compiled
def finish(run, t, t_end):
    """The results that are written at the end."""
    answer_until(run, t, np.inf, True)
    n, capacity, count = run.n, run.capacity, min(run.n_spikes, run.capacity)
    times, out = run.times, run.times_out
    neurons, slopes = run.neurons, run.slopes
    v, i = run.v, run.i
    statuses, stopped = run.statuses, run.stopped
    for k in range(count):
        out[k] = min(times[k], t_end)
    for k in range(count, capacity):
        out[k], neurons[k], slopes[k] = np.inf, 0, np.inf
    for j in range(n):
        if statuses[j] == FINE:
            stopped[j] = min(t, t_end)
            if not (np.isfinite(v[j]) and np.isfinite(i[j])):
                statuses[j] = NOT_FINITE
    if run.status == ENDLESS:
        statuses[run.culprit] = ENDLESS
    # On the way back, those who are refractory at the end are so from the start.
    refractory, since = run.refractory, run.since
    log, free_currents = run.log, run.free_currents
    for k in range(run.n_refractory if run.n_spikes <= capacity else 0):
        number = since[refractory[k]]
        free_currents[number] = i[refractory[k]]
        log[run.n_log] = number * 8 + FREE
        run.n_log += 1
    run.count[0] = run.n_spikes
    run.info[0], run.info[1] = count, run.n_log
