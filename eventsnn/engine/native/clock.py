"""Linear neurons on one clock, forwards: recurrent with a delay for each source, or a layer that is not recurrent.

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
from eventsnn.engine.native.scratch import matrix_at, room, vector_at
from eventsnn.engine.native.spiking import spike_at_once, through_stretch
from eventsnn.engine.native.sweep import arrive, fetch_row, find_groups, move_all, set_coefficients, width_of
from eventsnn.engine.native.words import (
    ALL_JUMP,
    ANY_JUMPS,
    ARRIVAL_ROWS,
    ARRIVAL_TIMES,
    ASKED,
    ASKED_AT,
    AT,
    BUCKETS,
    CAPACITY,
    COEFS,
    COMING,
    COUNT,
    COUNTS,
    CULPRIT,
    D_AT,
    DELAYS,
    FREE_AT,
    FREE_CURRENTS,
    FREED_AT,
    GIVEN,
    HEAP_NUMBERS,
    HEAP_TIMES,
    I_AT,
    INFO,
    KINDS,
    LOG,
    N_ANSWERED,
    N_ARRIVALS,
    N_GROUPS,
    N_HEAP,
    N_LISTED,
    N_LOG,
    N_QUERIES,
    N_REFRACTORY,
    N_SPIKES,
    N_WAITING,
    NEURONS,
    NUMBERS_AT,
    ORDER,
    PASSING,
    QUERIES,
    RECURRENT,
    REFRACTORY_AT,
    SINCE,
    SINGLY,
    SLOPES,
    SPARE,
    STATUS,
    STATUSES,
    STOP_AFTER,
    STOPPED,
    THETA,
    TIMES,
    TIMES_OUT,
    UNWANTED,
    V_AT,
    WAITED,
    WORDS,
    N,
)


@compiled
def set_out(m, place):
    """Give every array of the run its place behind the words; gives where the memory ends."""
    s = vector_at(m, WORDS, np.int64)
    n, many, most = s[N], s[CAPACITY] + 1, max(s[N_ARRIVALS], s[CAPACITY] + 1, s[N_QUERIES])
    s[NUMBERS_AT] = place
    place += room(NUMBERS * n)
    for word in range(V_AT, COEFS + 1):
        s[word] = place
        place += room(4 * n if word == COEFS else n + 1)
    for word in range(AT, ORDER + 1):
        s[word] = place
        count = s[N_ARRIVALS] + 2 if word <= BUCKETS else s[N_QUERIES] if word <= ASKED else many
        place += room(most if word == SPARE else count)
    # Results that were not asked for are written to memory of the run, and dropped with it.
    for word in range(SLOPES, LOG + 1):
        if s[UNWANTED] >> (word - TIMES_OUT) & 1:
            s[word] = place
            place += room(s[N_ARRIVALS] + 3 * many + s[N_QUERIES] + 8 if word == LOG else many)
    return place


# Where the longest stretch is a smaller part of the run than this, looking for the first spike of a stretch takes less
# time than so many stretches.
SHORTEST = 1e-4


@compiled
def begin(dtype, m, t_end):
    """Everything as it is at the start of the run; gives the longest stretch."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    given, numbers = matrix_at(s[GIVEN], NUMBERS, n, dtype), matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64)
    v, i = vector_at(s[V_AT], n, dtype), vector_at(s[I_AT], n, dtype)
    d, theta = vector_at(s[D_AT], n, dtype), vector_at(s[THETA], n, dtype)
    kinds, counts = vector_at(s[KINDS], n, np.int32), vector_at(s[COUNTS], n, np.int32)
    passing, freed_at = vector_at(s[PASSING], n, np.bool_), vector_at(s[FREED_AT], n, np.float64)
    waited, statuses = vector_at(s[WAITED], n, np.bool_), vector_at(s[STATUSES], n, np.int32)
    rows, delays = vector_at(s[ARRIVAL_ROWS], s[N_ARRIVALS], np.int32), vector_at(s[DELAYS], 2**40, dtype)
    for word in range(N_GROUPS, N_LISTED + 1):
        s[word] = 0
    s[N_ANSWERED] = 0
    s[ALL_JUMP] = 1
    stretch = np.inf
    for j in range(n):
        for row in range(NUMBERS):
            numbers[row, j] = given[row, j]
        v[j], i[j], d[j] = given[V0, j], given[I0, j], given[DRIVE, j]
        theta[j] = given[THRESH, j] if kinds[j] & SPIKES else dtype(NEVER)
        counts[j], passing[j], freed_at[j], waited[j], statuses[j] = 0, False, -1.0, False, FINE
        if kinds[j] & JUMPS:
            s[ANY_JUMPS] = 1
        else:
            s[ALL_JUMP] = 0
        if kinds[j] & OUTPUT:
            s[N_WAITING] += 1
        if kinds[j] & SPIKES:
            if s[RECURRENT]:
                stretch = min(stretch, np.float64(delays[j]))
            if numbers[TREF, j] > 0:
                stretch = min(stretch, numbers[TREF, j])
    s[SINGLY] = not stretch >= SHORTEST * t_end
    find_groups(m)

    times, at = vector_at(s[ARRIVAL_TIMES], s[N_ARRIVALS], dtype), vector_at(s[AT], s[N_ARRIVALS], np.float64)
    for k in range(s[N_ARRIVALS]):
        when = np.float64(times[k]) + np.float64(delays[rows[k]])
        # A time below 0 is an error, which is raised elsewhere. Until then nothing may go wrong here.
        at[k] = 0.0 if when < 0 else when
    queries, asked_at = vector_at(s[QUERIES], s[N_QUERIES], dtype), vector_at(s[ASKED_AT], s[N_QUERIES], np.float64)
    asked, spare = vector_at(s[ASKED], s[N_QUERIES], np.int64), vector_at(s[SPARE], 2**40, np.int64)
    for k in range(s[N_QUERIES]):
        asked_at[k], asked[k] = queries[k], k
    sort_by_time(asked_at, asked, spare, s[N_QUERIES])
    return stretch


@compiled
def send(dtype, m, sent, t_stop):
    """The spikes from number `sent` on set out; gives whether some of them have arrived at once."""
    s = vector_at(m, WORDS, np.int64)
    many = s[CAPACITY] + 1
    times, neurons = vector_at(s[TIMES], many, np.float64), vector_at(s[NEURONS], many, np.int32)
    delays, since = vector_at(s[DELAYS], s[N], dtype), vector_at(s[SINCE], s[N], np.int64)
    heap_times, heap_numbers = vector_at(s[HEAP_TIMES], many, np.float64), vector_at(s[HEAP_NUMBERS], many, np.int64)
    arrived = False
    for number in range(sent, min(s[N_SPIKES], s[CAPACITY])):
        j = np.int64(neurons[number])
        since[j] = number
        if s[RECURRENT]:
            if delays[j] <= 0:
                vector_at(s[LOG], s[N_LOG] + 1, np.int32)[s[N_LOG]] = number * 8 + ARRIVAL
                s[N_LOG] += 1
                arrive(dtype, m, j)
                arrived = True
            elif times[number] + delays[j] <= t_stop:
                push(heap_times, heap_numbers, s[N_HEAP], times[number] + delays[j], number)
                s[N_HEAP] += 1
    return arrived


@compiled
def next_free(m):
    """When the next refractory time ends, and where in the list that neuron stands."""
    s = vector_at(m, WORDS, np.int64)
    refractory, free_at = vector_at(s[REFRACTORY_AT], s[N], np.int64), vector_at(s[FREE_AT], s[N], np.float64)
    soonest, place = np.inf, -1
    for k in range(s[N_REFRACTORY]):
        if free_at[refractory[k]] < soonest:
            soonest, place = free_at[refractory[k]], k
    return soonest, place


@compiled
def set_free(dtype, m, place, t):
    """A refractory time ends; gives the number of the spike that began it."""
    s = vector_at(m, WORDS, np.int64)
    refractory, kinds = vector_at(s[REFRACTORY_AT], s[N], np.int64), vector_at(s[KINDS], s[N], np.int32)
    j = refractory[place]
    number = vector_at(s[SINCE], s[N], np.int64)[j]
    s[N_REFRACTORY] -= 1
    refractory[place] = refractory[s[N_REFRACTORY]]
    vector_at(s[FREE_CURRENTS], s[CAPACITY], np.float64)[number] = vector_at(s[I_AT], s[N], dtype)[j]
    vector_at(s[FREED_AT], s[N], np.float64)[j] = t
    done = s[STOP_AFTER] > 0 and not s[RECURRENT] and vector_at(s[COUNTS], s[N], np.int32)[j] >= s[STOP_AFTER]
    if not (done or kinds[j] & ONCE):
        vector_at(s[THETA], s[N], dtype)[j] = matrix_at(s[NUMBERS_AT], NUMBERS, s[N], np.float64)[THRESH, j]
    return number


@compiled
def run_forward(dtype, m, t_end):
    """One run; gives 0, or `INTERRUPTED`."""
    s = vector_at(m, WORDS, np.int64)
    n, capacity, eps = s[N], s[CAPACITY], np.float64(np.finfo(dtype).eps)
    longest = begin(dtype, m, t_end)
    t_stop = t_end + width_of(t_end, eps)
    at, coming = vector_at(s[AT], s[N_ARRIVALS], np.float64), vector_at(s[COMING], s[N_ARRIVALS], np.int64)
    spare = vector_at(s[SPARE], 2**40, np.int64)
    n_coming = sort_evenly(at, t_stop, coming, vector_at(s[BUCKETS], s[N_ARRIVALS] + 2, np.int64), spare)
    rows, neurons = vector_at(s[ARRIVAL_ROWS], 2**40, np.int32), vector_at(s[NEURONS], 2**40, np.int32)
    heap_times, heap_numbers = (
        vector_at(s[HEAP_TIMES], capacity + 1, np.float64), vector_at(s[HEAP_NUMBERS], capacity + 1, np.int64),
    )  # fmt: skip
    log = vector_at(s[LOG], 2**40, np.int32)

    t, begun, pending = 0.0, 0.0, True
    n_input, sent, still, signals = 0, 0, 0, interrupts()
    while True:
        if interrupts() != signals:
            return INTERRUPTED
        if sent < s[N_SPIKES]:
            if send(dtype, m, sent, t_stop) and s[ANY_JUMPS]:
                begun = begun if pending else t
                pending = True
            sent = s[N_SPIKES]
        # A chain of spikes that takes no time ends, or goes on forever.
        if still > 10 * n + 100:
            s[STATUS], s[CULPRIT] = ENDLESS, neurons[min(sent, capacity) - 1]
        if s[STATUS] != FINE or s[N_SPIKES] > capacity or (s[STOP_AFTER] > 0 and s[N_WAITING] == 0):
            break

        te, kind, which = np.inf, -1, 0
        if n_input < n_coming:
            te, kind = at[coming[n_input]], INPUT
        if s[N_HEAP] > 0 and heap_times[0] < te:
            te, kind = heap_times[0], ARRIVAL
        if s[N_REFRACTORY] > 0:
            # The end of a refractory time comes before what arrives at the same instant.
            free, which = next_free(m)
            if free <= t_stop and free <= te + width_of(te, eps):
                te, kind = free, FREE
        if te < t and (kind == INPUT or kind == ARRIVAL):
            # A refractory time has ended first that ends a little later, but at the same instant.
            t = te
        te = max(t_stop if kind < 0 else te, t)
        if pending and (kind < 0 or te > begun + width_of(begun, eps)):
            pending = False
            count = spike_at_once(dtype, m, t, begun)
            if count > 0:
                still += count
                continue
        if te > t:
            if pending:
                # Within an instant nothing is tested.
                set_coefficients(m, te - t)
                move_all(dtype, m)
                t = te
            else:
                before, ends = s[N_SPIKES], te if s[SINGLY] else min(te, t + longest)
                reached = through_stretch(dtype, m, t, ends, ends == te and kind >= 0, ends == te and kind < 0)
                still = still + s[N_SPIKES] - before if reached <= t else 0
                t = reached
                if t < te or s[N_SPIKES] > before:
                    continue
        if kind < 0:
            break
        if kind == FREE:
            number = set_free(dtype, m, which, t)
        elif kind == INPUT:
            number = coming[n_input]
            n_input += 1
            if n_input < n_coming:
                # A row of a large matrix is not in the cache. The next input is known, so its row is fetched early.
                fetch_row(dtype, m, np.int64(rows[coming[n_input]]))
            arrive(dtype, m, np.int64(rows[number]))
        else:
            number = heap_numbers[0]
            pop(heap_times, heap_numbers, s[N_HEAP])
            s[N_HEAP] -= 1
            arrive(dtype, m, np.int64(neurons[number]))
        log[s[N_LOG]] = number * 8 + kind
        s[N_LOG] += 1
        if kind == FREE or s[ANY_JUMPS]:
            begun = begun if pending else t
            pending = True
    if s[N_SPIKES] > capacity:
        t = max(t, vector_at(s[TIMES], capacity, np.float64)[capacity - 1])
    finish(dtype, m, t, t_end)
    return 0


@compiled
def finish(dtype, m, t, t_end):
    """The results that are written at the end."""
    answer_until(dtype, m, t, np.inf, True)
    s = vector_at(m, WORDS, np.int64)
    n, capacity, count = s[N], s[CAPACITY], min(s[N_SPIKES], s[CAPACITY])
    times, out = vector_at(s[TIMES], capacity, np.float64), vector_at(s[TIMES_OUT], capacity, dtype)
    neurons, slopes = vector_at(s[NEURONS], capacity, np.int32), vector_at(s[SLOPES], capacity, dtype)
    v, i = vector_at(s[V_AT], n, dtype), vector_at(s[I_AT], n, dtype)
    statuses, stopped = vector_at(s[STATUSES], n, np.int32), vector_at(s[STOPPED], n, dtype)
    for k in range(count):
        out[k] = min(times[k], t_end)
    for k in range(count, capacity):
        out[k], neurons[k], slopes[k] = np.inf, 0, np.inf
    for j in range(n):
        if statuses[j] == FINE:
            stopped[j] = min(t, t_end)
            if not (np.isfinite(v[j]) and np.isfinite(i[j])):
                statuses[j] = NOT_FINITE
    if s[STATUS] == ENDLESS:
        statuses[s[CULPRIT]] = ENDLESS
    # On the way back, those who are refractory at the end are so from the start.
    refractory, since = vector_at(s[REFRACTORY_AT], n, np.int64), vector_at(s[SINCE], n, np.int64)
    log, free_currents = vector_at(s[LOG], 2**40, np.int32), vector_at(s[FREE_CURRENTS], capacity, np.float64)
    for k in range(s[N_REFRACTORY] if s[N_SPIKES] <= capacity else 0):
        number = since[refractory[k]]
        free_currents[number] = i[refractory[k]]
        log[s[N_LOG]] = number * 8 + FREE
        s[N_LOG] += 1
    vector_at(s[COUNT], 1, np.int32)[0] = s[N_SPIKES]
    info = vector_at(s[INFO], 2, np.int32)
    info[0], info[1] = count, s[N_LOG]
