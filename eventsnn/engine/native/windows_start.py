"""What both directions of a run in windows do first: memory, orders by time, and how long windows are."""

import numpy as np

from eventsnn.engine.native.block import set_places
from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.kinds import I0, NUMBERS, V0
from eventsnn.engine.native.order import sort_by_time, sort_evenly
from eventsnn.engine.native.sweep import width_of
from eventsnn.engine.native.windows_queue import choose_windows, make_ring
from eventsnn.engine.native.windows_words import CELL, FOUND_COLUMNS, WINDOWS

# What is known of a neuron, in a row of its own: the numbers in the order of `clock`, among them the state; when that
# was; the threshold as it is now; when its refractory time ends, inf where there is none, and when the last one ended;
# when the instant began at which its threshold has not been tested yet, or -1; the number of its last spike.
T, THETA, FREE_AT, FREED_AT, BEGUN, SINCE = range(NUMBERS, NUMBERS + 6)
X, Y = V0, I0
# What is known of a spike before its window is over.
FOUND_J, FOUND_I, FOUND_SLOPE, FOUND_INSTANT, FOUND_PLACE, FOUND_FREE, FOUND_X, FOUND_Y = range(8)
# What is written down of a spike: twice the number of its window, plus 1 if it was at the instant of an arrival; how
# many arrivals of this window its neuron had before; and window and arrivals at the end of the refractory time, with
# window -1 if that does not come.
MARK_WINDOW, MARK_PLACE, MARK_FREE_WINDOW, MARK_FREE_PLACE = range(4)


_CELLS, _STARTS, _OF_INPUTS = WINDOWS.span("cells"), WINDOWS.span("starts"), WINDOWS.span("input_at", "places")
_OF_QUERIES, _SPARE = WINDOWS.span("asked_at", "asked"), WINDOWS.span("spare")
_FOUND_T, _FOUND, _ORDER = WINDOWS.span("found_t"), WINDOWS.span("found"), WINDOWS.span("order")


@compiled
def set_out(run, place, both):
    """Give every array its place behind the words; gives where the memory ends."""
    n, capacity = run.n, run.capacity + 1
    for span, count in (
        (_CELLS, CELL * n), (_STARTS, n + 2), (_OF_INPUTS, run.n_inputs + 2), (_OF_QUERIES, run.n_queries),
        (_SPARE, max(run.n_inputs, run.n_queries, capacity)),
    ):  # fmt: skip
        place = set_places(run, span, count, place)
    if both is None:
        for span, count in ((_FOUND_T, capacity), (_FOUND, FOUND_COLUMNS * capacity), (_ORDER, capacity)):
            place = set_places(run, span, count, place)
    return place


@compiled
def begin(run):
    """Everything as it is at the start of the run. False if there would be too many windows, or there is no memory."""
    n = run.n
    run.buckets, run.sorted, run.n_sorted, run.free_chunk, run.no_memory, run.over = 0, 0, 0, 0, 0, 0
    run.t_end, run.min_slope = run.ends[0], run.ends[1]
    run.t_stop = run.t_end + width_of(run.t_end, run.eps)
    given, cells = run.given, run.cells
    for j in range(n):
        for number in range(NUMBERS):
            cells[j, number] = given[number, j]
    _sort_times(run)
    indptr, delays = run.indptr, run.delays
    rows, coming = run.input_rows, run.coming
    dmin, longest, arrivals = np.inf, 0.0, np.int64(0)
    for synapse in range(indptr[n] if run.recurrent else 0):
        delay = np.float64(delays[synapse])
        if delay < dmin:
            dmin = delay
    for synapse in range(run.n_synapses):
        delay = np.float64(delays[synapse])
        if longest < delay <= run.t_stop:
            longest = delay
    for k in range(run.n_coming):
        row = rows[coming[k]]
        arrivals += np.int64(indptr[row + 1]) - np.int64(indptr[row])
    run.longest = longest
    return choose_windows(run, dmin, arrivals) and make_ring(run)


@compiled
def _sort_times(run):
    """Inputs by time, and queries by the end of their instant: everything in it comes before they are answered."""
    eps = run.eps
    times, at = run.input_times, run.input_at
    for k in range(run.n_inputs):
        # A negative time or NaN is an error that is raised elsewhere.
        at[k] = times[k] if times[k] >= 0 else np.inf
    run.n_coming = sort_evenly(at, run.n_inputs, run.t_stop, run.coming, run.places, run.spare)
    queries, asked_at = run.queries, run.asked_at
    asked = run.asked
    for k in range(run.n_queries):
        ask = np.float64(queries[k])
        asked_at[k], asked[k] = min(ask + width_of(ask, eps), run.t_stop), k
    sort_by_time(asked_at, asked, run.spare, run.n_queries)
    for k in range(run.n_queries):
        ask = np.float64(queries[asked[k]])
        asked_at[k] = min(ask + width_of(ask, eps), run.t_stop)


@compiled
def kind_of(run, j):
    """What is true of a neuron, as bits: see `clock`."""
    return np.int64(run.kinds[j])
