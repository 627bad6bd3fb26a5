"""Linear neurons with a delay for each synapse, forwards: in windows of the shortest delay among neurons.

    for each window:
        what arrives in it is put in order, neuron by neuron
        each neuron goes through its own arrivals by itself, on its own clock
        their spikes are put in order, and into the windows in which they arrive

A spike arrives after its window, so neurons do not see each other within one. A layer that is not recurrent runs in
windows too, of any length: short lists are sorted faster.

A neuron moves only when something happens to it, in float64 whatever the dtype of the network is. Between two arrivals
it is looked at more closely only if it may reach its threshold.

Nothing is stored of an arrival. The way back finds arrivals again from the spikes, in the same windows and the same
order; for each spike is written down between which two arrivals of its neuron it was.
"""

import math

import numpy as np

from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.interrupt import INTERRUPTED, interrupts
from eventsnn.engine.native.kinds import (
    BLOCKS,
    COUPLING,
    DECAY,
    DRIVE,
    FINE,
    HOLDS_I,
    HOLDS_V,
    JUMPS,
    LEAK,
    NEVER,
    NOT_FINITE,
    ONCE,
    OUTPUT,
    RESET_HIGH,
    RESOLUTION,
    SPIKES,
    THRESH,
    TREF,
    VRESET,
)
from eventsnn.engine.native.linear import coefficients, crossing
from eventsnn.engine.native.order import sort_by_time
from eventsnn.engine.native.scratch import matrix_at, vector_at
from eventsnn.engine.native.sweep import width_of
from eventsnn.engine.native.windows_queue import (
    release_ring,
    send,
    sort_bucket,
    sorted_synapses,
    sorted_times,
)
from eventsnn.engine.native.windows_start import (
    BEGUN,
    CELL,
    FOUND_COLUMNS,
    FOUND_FREE,
    FOUND_I,
    FOUND_INSTANT,
    FOUND_J,
    FOUND_PLACE,
    FOUND_SLOPE,
    FOUND_X,
    FOUND_Y,
    FREE_AT,
    FREED_AT,
    MARK_FREE_PLACE,
    MARK_FREE_WINDOW,
    MARK_PLACE,
    MARK_WINDOW,
    SINCE,
    THETA,
    T,
    X,
    Y,
    begin,
    kind_of,
)
from eventsnn.engine.native.windows_steps import apart_steps, prepare_steps, slow_steps
from eventsnn.engine.native.windows_words import (
    ASKED,
    ASKED_AT,
    CAPACITY,
    CELLS,
    CHANNELS,
    COMING,
    COUNT,
    COUNTS,
    CURRENTS,
    DELAYS,
    END_QUERY,
    FIRST_QUERY,
    FOUND,
    FOUND_T,
    FREE_STATES,
    INDPTR,
    INFO,
    INPUT_AT,
    INPUT_ROWS,
    LENGTH,
    MARKS,
    N_COMING,
    N_FOUND,
    N_INPUTS,
    N_QUERIES,
    N_ROWS,
    N_SPIKES,
    N_SYNAPSES,
    N_WAITING,
    N_WINDOWS,
    NEURONS,
    NO_MEMORY,
    ORDER,
    OVER,
    PASSING,
    PER_LENGTH,
    QUERIES,
    RECURRENT,
    SLOPES,
    SPARE,
    STARTS,
    STATES,
    STATUSES,
    STOP_AFTER,
    STOPPED,
    T_END,
    T_STOP,
    TARGETS,
    TIMES,
    TIMES_OUT,
    WEIGHTS,
    N,
    reals_of,
    words_of,
)

# How a run ended, besides `clock`, as in `lanes`.
MANY_WINDOWS = 7
# What comes next for a neuron.
NOTHING, ARRIVAL, FREE = range(3)


@compiled
def emit(m, j, t, slope, instant, place):
    """Neuron `j` spikes at `t` and is reset. False if the run is over because of it."""
    s = words_of(m)
    n, found, capacity = s[N], s[N_FOUND], s[CAPACITY]
    if s[N_SPIKES] + found >= capacity:
        # One more is counted than there is room for.
        s[OVER] = 1
        return False
    cell, kind = matrix_at(s[CELLS], n, CELL, np.float64)[j], kind_of(m, j)
    counts, passing = vector_at(s[COUNTS], n, np.int32), vector_at(s[PASSING], n, np.bool_)
    vector_at(s[FOUND_T], capacity + 1, np.float64)[found] = t
    spike = matrix_at(s[FOUND], capacity + 1, FOUND_COLUMNS, np.float64)[found]
    spike[FOUND_J], spike[FOUND_I], spike[FOUND_SLOPE], spike[FOUND_INSTANT] = j, cell[Y], slope, instant
    spike[FOUND_PLACE], spike[FOUND_FREE] = place, -1
    # The number of the spike is not known before the window is over.
    cell[SINCE] = -1 - found
    s[N_FOUND] += 1
    counts[j] += 1
    done = s[STOP_AFTER] > 0 and counts[j] == s[STOP_AFTER]
    if done and kind & OUTPUT:
        s[N_WAITING] -= 1
    cell[X], cell[T] = cell[VRESET], t
    passing[j] = False
    if kind & ONCE or (done and not s[RECURRENT]) or cell[TREF] > 0:
        cell[THETA] = NEVER
    elif cell[VRESET] >= cell[THRESH]:
        # It would spike at once and forever, unless it falls.
        if cell[COUPLING] * cell[Y] + cell[DRIVE] - cell[LEAK] * cell[VRESET] >= 0:
            vector_at(s[STATUSES], n, np.int32)[j] = RESET_HIGH
            cell[THETA] = NEVER
            # Neurons that nobody hears of do not stop the others.
            s[OVER] = s[RECURRENT]
            return not s[RECURRENT]
        passing[j] = True
    if cell[TREF] > 0:
        cell[FREE_AT] = t + cell[TREF]
    return True


@compiled
def set_free(m, j, window, place):
    """The refractory time of a neuron ends."""
    s = words_of(m)
    cell, capacity = matrix_at(s[CELLS], s[N], CELL, np.float64)[j], s[CAPACITY]
    number = np.int64(cell[SINCE])
    if number < 0:
        spike = matrix_at(s[FOUND], capacity + 1, FOUND_COLUMNS, np.float64)[-1 - number]
        spike[FOUND_FREE], spike[FOUND_X], spike[FOUND_Y] = place, cell[X], cell[Y]
    else:
        _write_free(m, number, window, place, cell[X], cell[Y])
    cell[FREED_AT], cell[FREE_AT] = cell[T], np.inf
    done = s[STOP_AFTER] > 0 and not s[RECURRENT] and vector_at(s[COUNTS], s[N], np.int32)[j] >= s[STOP_AFTER]
    if not (done or kind_of(m, j) & ONCE):
        cell[THETA] = cell[THRESH]


@compiled
def _write_free(m, number, window, place, x, y):
    s = words_of(m)
    marks = matrix_at(s[MARKS], s[CAPACITY], 4, np.int32)[number]
    free_states = matrix_at(s[FREE_STATES], s[CAPACITY], 2, np.float64)[number]
    marks[MARK_FREE_WINDOW], marks[MARK_FREE_PLACE] = window, place
    free_states[0], free_states[1] = x, y


@compiled
def answer_until(dtype, m, j, q, until, x, y, t):
    """Answer the queries of a window from number `q` on whose instant ends before `until`; gives the next one.

    Until then nothing happens to the neuron, whose state at `t` is `x` and `y`. Queries move copies of it, so that they
    do not change the run. An answer is V, I, what is left of a refractory time, and whether the neuron has spiked.
    """
    s = words_of(m)
    channels, cell, kind = s[CHANNELS], matrix_at(s[CELLS], s[N], CELL, np.float64)[j], kind_of(m, j)
    states, resting = vector_at(s[STATES], s[N] * s[N_QUERIES] * channels, dtype), cell[FREE_AT] < np.inf
    queries, asked_at = vector_at(s[QUERIES], s[N_QUERIES], dtype), vector_at(s[ASKED_AT], s[N_QUERIES], np.float64)
    asked = vector_at(s[ASKED], s[N_QUERIES], np.int64)
    while q < s[END_QUERY] and asked_at[q] < until:
        at, place = max(np.float64(queries[asked[q]]), t), (j * s[N_QUERIES] + asked[q]) * channels
        keep, feed, fade, gain = coefficients(at - t, cell[LEAK], cell[COUPLING], cell[DECAY])
        states[place] = x if resting and kind & HOLDS_V else keep * x + feed * y + gain * cell[DRIVE]
        if channels > 1:
            states[place + 1] = y if resting and kind & HOLDS_I else fade * y
        if channels > 2:
            states[place + 2] = cell[FREE_AT] - at if resting else 0.0
            states[place + 3] = min(vector_at(s[COUNTS], s[N], np.int32)[j], 1)
        q += 1
    return q


@compiled
def run_neuron(dtype, m, j, window, start, end, final):
    """Take a neuron through a window. False if the run is over."""
    s = words_of(m)
    n, eps, kind = s[N], np.float64(np.finfo(dtype).eps), kind_of(m, j)
    cell, starts = matrix_at(s[CELLS], n, CELL, np.float64)[j], vector_at(s[STARTS], n + 2, np.int64)
    times, synapses = sorted_times(s), sorted_synapses(s)
    weights = vector_at(s[WEIGHTS], s[N_SYNAPSES], dtype)
    asked_at, passing = vector_at(s[ASKED_AT], s[N_QUERIES], np.float64), vector_at(s[PASSING], n, np.bool_)
    a, b, r, d = cell[LEAK], cell[COUPLING], cell[DECAY], cell[DRIVE]
    jumps = kind & JUMPS != 0
    first, p, p_end, q, q_end = starts[j], starts[j], starts[j + 1], s[FIRST_QUERY], s[END_QUERY]
    x, y, t, theta, begun, resting = cell[X], cell[Y], cell[T], cell[THETA], cell[BEGUN], cell[FREE_AT] < np.inf
    passes, plain = passing[j], not jumps
    slow, apart = min(a, r), abs(r - a)
    slow_step, apart_step = slow_steps(s), apart_steps(s)
    prepare_steps(s, first, p_end, a, r)
    while True:
        if plain and first < p < p_end and t == times[p - 1] and begun < 0 and not passes and theta < NEVER:
            # Most arrivals: nothing else happens, and the neuron stays below its threshold.
            target = a * theta
            while p < p_end:
                grown, drive = slow_step[p], b * y + d
                slower, other = 1 - slow * grown, apart_step[p]
                faster = slower * (1 - apart * other)
                if a <= r:
                    keep, fade, gain = slower, faster, grown
                else:
                    keep, fade, gain = faster, slower, (slow * grown + slower * apart * other) / a
                x_end, y_end = keep * x + b * slower * other * y + gain * d, fade * y
                bound = x + (times[p] - t) * (drive - a * x)
                if (x_end >= theta) | ((drive > target) & (b * y_end + d <= target) & (bound >= theta)):
                    break
                if q < q_end and asked_at[q] < times[p]:
                    q = answer_until(dtype, m, j, q, times[p], x, y, t)
                x, y, t = x_end, y_end + np.float64(weights[synapses[p]]), times[p]
                p += 1
        te, event = end, NOTHING
        if p < p_end:
            te, event = times[p], ARRIVAL
        if resting:
            # The end of a refractory time comes before what arrives at the same instant.
            free = cell[FREE_AT]
            if free <= te + (width_of(te, eps) if event == ARRIVAL else 0.0):
                te, event = free, FREE
        te = max(te, t)
        if begun >= 0 and ((event == NOTHING and final) or te > begun + width_of(begun, eps)):
            if x >= theta and not passes:
                slope = b * y + d - a * x
                if cell[FREED_AT] >= begun and slope < 0 and x - theta <= -slope * width_of(t, eps):
                    # A refractory time has ended where it falls through its threshold at this very instant.
                    passes = True
                else:
                    cell[X], cell[Y], begun = x, y, -1.0
                    if not emit(m, j, max(t, start), np.inf, 1, p - first):
                        return False
                    x, t, theta, resting, passes = cell[X], cell[T], cell[THETA], cell[FREE_AT] < np.inf, passing[j]
                    continue
            begun = -1.0
        if te > t:
            dt = te - t
            if begun >= 0 or theta >= NEVER:
                # Within an instant nothing is tested.
                if event == NOTHING:
                    break
                if q < q_end:
                    q = answer_until(dtype, m, j, q, te, x, y, t)
                keep, feed, fade, gain = coefficients(dt, a, b, r)
                if not (resting and kind & HOLDS_V):
                    x = keep * x + feed * y + gain * d
                if not (resting and kind & HOLDS_I):
                    y = fade * y
                t = te
            else:
                drive, target = b * y + d, a * theta
                if event == NOTHING and x < theta and max(drive, d) <= target:
                    # Nothing will lift it. It stays where its last event was.
                    break
                keep, feed, fade, gain = coefficients(dt, a, b, r)
                x_end, y_end = keep * x + feed * y + gain * d, fade * y
                if (
                    x_end >= theta
                    or x >= theta
                    or (drive > target and b * y_end + d <= target and x + dt * (drive - a * x) >= theta)
                ):
                    after = crossing(x, y, d, dt, a, b, r, theta, passes, RESOLUTION, keep, feed, fade, gain)
                    # A neuron on which spikes act at once meets an arrival that rounds to the same time: that is first.
                    meets = jumps and event == ARRIVAL
                    if after >= 0 and not (meets and dt - after <= 0.5 * eps * te):
                        if q < q_end:
                            q = answer_until(dtype, m, j, q, te - (dt - after), x, y, t)
                        y *= math.exp(-r * after)
                        cell[X], cell[Y] = theta, y
                        if not emit(m, j, max(te - (dt - after), start), b * y + d - target, 0, p - first):
                            return False
                        x, t, theta, resting, passes = cell[X], cell[T], cell[THETA], cell[FREE_AT] < np.inf, passing[j]
                        continue
                    if x_end >= theta and not passes and not meets:
                        # What has not crossed stays below, though it may round to the threshold.
                        x_end = theta - 2.3e-16 * max(abs(theta), 1e-30)
                if q < q_end:
                    q = answer_until(dtype, m, j, q, np.inf if event == NOTHING else te, x, y, t)
                x, y, t = x_end, y_end, te
                passes = passes and x >= theta
        if event == NOTHING:
            break
        if event == ARRIVAL:
            weight = np.float64(weights[synapses[p]])
            p += 1
            if jumps:
                if not (resting and kind & (BLOCKS | HOLDS_V)):
                    x += weight
                begun = begun if begun >= 0 else t
            elif not (resting and kind & (BLOCKS | HOLDS_I)):
                y += weight
        else:
            cell[X], cell[Y], cell[T] = x, y, t
            set_free(m, j, window, p - first)
            theta, resting = cell[THETA], False
            begun = begun if begun >= 0 else t
    if q < q_end:
        answer_until(dtype, m, j, q, np.inf, x, y, t)
    cell[X], cell[Y], cell[T], cell[BEGUN] = x, y, t, begun
    passing[j] = passes
    return True


@compiled
def pass_on(dtype, m, window):
    """Write the spikes of a window down in their order, and send them on."""
    s = words_of(m)
    n, capacity, count = s[N], s[CAPACITY], s[N_FOUND]
    found_t, order = vector_at(s[FOUND_T], capacity + 1, np.float64), vector_at(s[ORDER], capacity + 1, np.int64)
    found = matrix_at(s[FOUND], capacity + 1, FOUND_COLUMNS, np.float64)
    cells = matrix_at(s[CELLS], n, CELL, np.float64)
    indptr, targets = vector_at(s[INDPTR], s[N_ROWS] + 1, np.int32), vector_at(s[TARGETS], s[N_SYNAPSES], np.int32)
    delays, marks = vector_at(s[DELAYS], s[N_SYNAPSES], dtype), matrix_at(s[MARKS], capacity, 4, np.int32)
    times, currents = vector_at(s[TIMES], capacity, np.float64), vector_at(s[CURRENTS], capacity, np.float64)
    neurons, slopes = vector_at(s[NEURONS], capacity, np.int32), vector_at(s[SLOPES], capacity, dtype)
    for k in range(count):
        order[k] = k
    # Neurons took their turns one after the other, so that spikes of the same time stay in the order of these.
    sort_by_time(found_t, order, vector_at(s[SPARE], 2**40, np.int64), count)
    for k in range(count):
        one, number = found[order[k]], s[N_SPIKES]
        j, t = np.int64(one[FOUND_J]), found_t[order[k]]
        times[number], currents[number], neurons[number], slopes[number] = t, one[FOUND_I], j, one[FOUND_SLOPE]
        mark = marks[number]
        mark[MARK_WINDOW], mark[MARK_PLACE] = 2 * window + np.int64(one[FOUND_INSTANT]), np.int64(one[FOUND_PLACE])
        mark[MARK_FREE_WINDOW], mark[MARK_FREE_PLACE] = -1, 0
        if one[FOUND_FREE] >= 0:
            _write_free(m, number, window, np.int64(one[FOUND_FREE]), one[FOUND_X], one[FOUND_Y])
        cells[j, SINCE] = number
        s[N_SPIKES] += 1
        if s[RECURRENT] and window + 1 < s[N_WINDOWS]:
            send(dtype, m, t, indptr, targets, delays, j, window + 1, s[N_WINDOWS], s[N_WINDOWS] - 1, None, None)
    s[N_FOUND] = 0


@compiled
def begin_forward(dtype, m):
    """The neurons at the start of the run. False if it cannot begin."""
    s = words_of(m)
    n = s[N]
    fine = begin(dtype, m)
    cells, counts = matrix_at(s[CELLS], n, CELL, np.float64), vector_at(s[COUNTS], n, np.int32)
    passing, statuses = vector_at(s[PASSING], n, np.bool_), vector_at(s[STATUSES], n, np.int32)
    for word in (N_SPIKES, N_FOUND, N_WAITING):
        s[word] = 0
    for j in range(n):
        kind, cell = kind_of(m, j), cells[j]
        counts[j], passing[j], statuses[j] = 0, False, FINE if fine else MANY_WINDOWS
        cell[T], cell[BEGUN], cell[FREE_AT], cell[FREED_AT], cell[SINCE] = 0, 0, np.inf, -1, 0
        cell[THETA] = cell[THRESH] if kind & SPIKES else NEVER
        if kind & OUTPUT:
            s[N_WAITING] += 1
    return fine


@compiled
def run_forward(dtype, m):
    """One run; gives 0, or `INTERRUPTED`."""
    s, f = words_of(m), reals_of(m)
    n, signals, k = s[N], interrupts(), np.int64(0)
    if not begin_forward(dtype, m):
        s[N_WINDOWS] = 0
    states = vector_at(s[STATES], n * s[N_QUERIES] * s[CHANNELS], dtype)
    for place in range(states.shape[0]):
        # A run that breaks off answers no more.
        states[place] = 0
    indptr, targets = vector_at(s[INDPTR], s[N_ROWS] + 1, np.int32), vector_at(s[TARGETS], s[N_SYNAPSES], np.int32)
    delays, rows = vector_at(s[DELAYS], s[N_SYNAPSES], dtype), vector_at(s[INPUT_ROWS], s[N_INPUTS], np.int32)
    at, coming = vector_at(s[INPUT_AT], s[N_INPUTS], np.float64), vector_at(s[COMING], s[N_INPUTS], np.int64)
    asked_at = vector_at(s[ASKED_AT], s[N_QUERIES], np.float64)
    n_input, last = 0, s[N_WINDOWS] - 1
    s[END_QUERY] = 0
    while k < s[N_WINDOWS]:
        if interrupts() != signals:
            release_ring(m)
            return INTERRUPTED
        final, start = k == last, k * f[LENGTH]
        end = f[T_STOP] if final else (k + 1) * f[LENGTH]
        while n_input < s[N_COMING]:
            one = coming[n_input]
            if not final and np.int64(at[one] * f[PER_LENGTH]) > k:
                break
            send(dtype, m, at[one], indptr, targets, delays, rows[one], k, last, last, None, None)
            n_input += 1
        s[FIRST_QUERY] = s[END_QUERY]
        while s[END_QUERY] < s[N_QUERIES] and (final or asked_at[s[END_QUERY]] < end):
            s[END_QUERY] += 1
        sort_bucket(m, k, None)
        j = 0
        while j < n and not s[NO_MEMORY] and run_neuron(dtype, m, j, k, start, end, final):
            j += 1
        pass_on(dtype, m, k)
        k += 1
        if s[OVER] or s[NO_MEMORY] or (s[STOP_AFTER] > 0 and s[N_WAITING] == 0):
            break
    finish(dtype, m, k)
    release_ring(m)
    return 0


@compiled
def finish(dtype, m, windows):
    """The results that are written at the end."""
    s, f = words_of(m), reals_of(m)
    n, capacity, count = s[N], s[CAPACITY], s[N_SPIKES]
    times, out = vector_at(s[TIMES], capacity, np.float64), vector_at(s[TIMES_OUT], capacity, dtype)
    neurons, slopes = vector_at(s[NEURONS], capacity, np.int32), vector_at(s[SLOPES], capacity, dtype)
    statuses, stopped = vector_at(s[STATUSES], n, np.int32), vector_at(s[STOPPED], n, dtype)
    cells = matrix_at(s[CELLS], n, CELL, np.float64)
    reached = min(windows * f[LENGTH], f[T_END]) if windows > 0 else 0.0
    fine = True
    for k in range(count):
        out[k] = min(times[k], f[T_END])
    for k in range(count, capacity):
        out[k], neurons[k], slopes[k] = np.inf, 0, np.inf
    for j in range(n):
        if statuses[j] == FINE and not (np.isfinite(cells[j, X]) and np.isfinite(cells[j, Y])):
            statuses[j] = NOT_FINITE
        fine = fine and statuses[j] == FINE
        stopped[j] = min(max(cells[j, T], reached) if statuses[j] == FINE else cells[j, T], f[T_END])
    vector_at(s[COUNT], 1, np.int32)[0] = count + (1 if s[OVER] and fine else 0)
    info = vector_at(s[INFO], 2, np.int32)
    info[0], info[1] = count, windows
