"""What both directions of a run in windows do first: memory, orders by time, and how long windows are."""

import numpy as np

from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.kinds import I0, NUMBERS, V0
from eventsnn.engine.native.order import sort_by_time, sort_evenly
from eventsnn.engine.native.scratch import matrix_at, room, vector_at
from eventsnn.engine.native.sweep import width_of
from eventsnn.engine.native.windows_queue import choose_windows, make_ring
from eventsnn.engine.native.windows_words import (
    ASKED,
    ASKED_AT,
    BUCKETS,
    CAPACITY,
    CELLS,
    COMING,
    DELAYS,
    ENDS,
    FOUND,
    FOUND_T,
    FREE_CHUNK,
    GIVEN,
    INDPTR,
    INPUT_AT,
    INPUT_ROWS,
    INPUT_TIMES,
    KINDS,
    LONGEST,
    MIN_SLOPE,
    N_COMING,
    N_INPUTS,
    N_QUERIES,
    N_ROWS,
    N_SORTED,
    N_SYNAPSES,
    NO_MEMORY,
    ORDER,
    OVER,
    PLACES,
    QUERIES,
    RECURRENT,
    SORTED,
    SPARE,
    STARTS,
    T_END,
    T_STOP,
    N,
    reals_of,
    words_of,
)

# What is known of a neuron, in a row of its own: the numbers in the order of `clock`, among them the state; when that
# was; the threshold as it is now; when its refractory time ends, inf where there is none, and when the last one ended;
# when the instant began at which its threshold has not been tested yet, or -1; the number of its last spike.
T, THETA, FREE_AT, FREED_AT, BEGUN, SINCE = range(NUMBERS, NUMBERS + 6)
X, Y, CELL = V0, I0, 16
# What is known of a spike before its window is over.
FOUND_J, FOUND_I, FOUND_SLOPE, FOUND_INSTANT, FOUND_PLACE, FOUND_FREE, FOUND_X, FOUND_Y = range(8)
FOUND_COLUMNS = 8
# What is written down of a spike: twice the number of its window, plus 1 if it was at the instant of an arrival; how
# many arrivals of this window its neuron had before; and window and arrivals at the end of the refractory time, with
# window -1 if that does not come.
MARK_WINDOW, MARK_PLACE, MARK_FREE_WINDOW, MARK_FREE_PLACE = range(4)


@compiled
def set_out(m, place, both):
    """Give every array its place behind the words; gives where the memory ends."""
    s = words_of(m)
    n, capacity = s[N], s[CAPACITY] + 1
    s[CELLS] = place
    place += room(CELL * n)
    s[STARTS] = place
    place += room(n + 2)
    for word, count in (
        (INPUT_AT, s[N_INPUTS]), (COMING, s[N_INPUTS]), (PLACES, s[N_INPUTS] + 2), (ASKED_AT, s[N_QUERIES]),
        (ASKED, s[N_QUERIES]), (SPARE, max(s[N_INPUTS], s[N_QUERIES], capacity)),
    ):  # fmt: skip
        s[word] = place
        place += room(count)
    if both is None:
        for word, count in ((FOUND_T, capacity), (FOUND, FOUND_COLUMNS * capacity), (ORDER, capacity)):
            s[word] = place
            place += room(count)
    return place


@compiled
def begin(dtype, m):
    """Everything as it is at the start of the run. False if there would be too many windows, or there is no memory."""
    s, f = words_of(m), reals_of(m)
    n = s[N]
    ends = vector_at(s[ENDS], 2, dtype)
    for word in (BUCKETS, SORTED, N_SORTED, FREE_CHUNK, NO_MEMORY, OVER):
        s[word] = 0
    f[T_END], f[MIN_SLOPE] = ends[0], ends[1]
    f[T_STOP] = f[T_END] + width_of(f[T_END], np.float64(np.finfo(dtype).eps))
    given, cells = matrix_at(s[GIVEN], NUMBERS, n, dtype), matrix_at(s[CELLS], n, CELL, np.float64)
    for j in range(n):
        for number in range(NUMBERS):
            cells[j, number] = given[number, j]
    _sort_times(dtype, m)
    indptr, delays = vector_at(s[INDPTR], s[N_ROWS] + 1, np.int32), vector_at(s[DELAYS], s[N_SYNAPSES], dtype)
    rows, coming = vector_at(s[INPUT_ROWS], s[N_INPUTS], np.int32), vector_at(s[COMING], s[N_INPUTS], np.int64)
    dmin, longest, arrivals = np.inf, 0.0, np.int64(0)
    for synapse in range(indptr[n] if s[RECURRENT] else 0):
        delay = np.float64(delays[synapse])
        if delay < dmin:
            dmin = delay
    for synapse in range(s[N_SYNAPSES]):
        delay = np.float64(delays[synapse])
        if longest < delay <= f[T_STOP]:
            longest = delay
    for k in range(s[N_COMING]):
        row = rows[coming[k]]
        arrivals += np.int64(indptr[row + 1]) - np.int64(indptr[row])
    f[LONGEST] = longest
    return choose_windows(dtype, m, dmin, arrivals) and make_ring(m)


@compiled
def _sort_times(dtype, m):
    """Inputs by time, and queries by the end of their instant: everything in it comes before they are answered."""
    s, f = words_of(m), reals_of(m)
    eps = np.float64(np.finfo(dtype).eps)
    times, at = vector_at(s[INPUT_TIMES], s[N_INPUTS], dtype), vector_at(s[INPUT_AT], s[N_INPUTS], np.float64)
    for k in range(s[N_INPUTS]):
        # A negative time or NaN is an error that is raised elsewhere.
        at[k] = times[k] if times[k] >= 0 else np.inf
    spare = vector_at(s[SPARE], 2**40, np.int64)
    s[N_COMING] = sort_evenly(
        at, f[T_STOP], vector_at(s[COMING], s[N_INPUTS], np.int64), vector_at(s[PLACES], s[N_INPUTS] + 2, np.int64),
        spare,
    )  # fmt: skip
    queries, asked_at = vector_at(s[QUERIES], s[N_QUERIES], dtype), vector_at(s[ASKED_AT], s[N_QUERIES], np.float64)
    asked = vector_at(s[ASKED], s[N_QUERIES], np.int64)
    for k in range(s[N_QUERIES]):
        ask = np.float64(queries[k])
        asked_at[k], asked[k] = min(ask + width_of(ask, eps), f[T_STOP]), k
    sort_by_time(asked_at, asked, spare, s[N_QUERIES])
    for k in range(s[N_QUERIES]):
        ask = np.float64(queries[asked[k]])
        asked_at[k] = min(ask + width_of(ask, eps), f[T_STOP])


@compiled
def kind_of(m, j):
    """What is true of a neuron, as bits: see `clock`."""
    s = words_of(m)
    return np.int64(vector_at(s[KINDS], s[N], np.int32)[j])
