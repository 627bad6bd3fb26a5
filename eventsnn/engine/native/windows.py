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
from eventsnn.engine.native.sweep import width_of
from eventsnn.engine.native.windows_queue import (
    release_ring,
    send,
    sort_bucket,
)
from eventsnn.engine.native.windows_start import (
    BEGUN,
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
from eventsnn.engine.native.windows_steps import prepare_steps

# How a run ended, besides `clock`, as in `lanes`.
MANY_WINDOWS = 7
# What comes next for a neuron.
NOTHING, ARRIVAL, FREE = range(3)


@compiled
def emit(run, j, t, slope, instant, place):
    """Neuron `j` spikes at `t` and is reset. False if the run is over because of it."""
    found, capacity = run.n_found, run.capacity
    if run.n_spikes + found >= capacity:
        # One more is counted than there is room for.
        run.over = 1
        return False
    cell, kind = run.cells[j], kind_of(run, j)
    run.found_t[found] = t
    spike = run.found[found]
    spike[FOUND_J], spike[FOUND_I], spike[FOUND_SLOPE], spike[FOUND_INSTANT] = j, cell[Y], slope, instant
    spike[FOUND_PLACE], spike[FOUND_FREE] = place, -1
    # The number of the spike is not known before the window is over.
    cell[SINCE] = -1 - found
    run.n_found += 1
    run.counts[j] += 1
    done = run.stop_after > 0 and run.counts[j] == run.stop_after
    if done and kind & OUTPUT:
        run.n_waiting -= 1
    cell[X], cell[T] = cell[VRESET], t
    run.passing[j] = False
    if kind & ONCE or (done and not run.recurrent) or cell[TREF] > 0:
        cell[THETA] = NEVER
    elif cell[VRESET] >= cell[THRESH]:
        # It would spike at once and forever, unless it falls.
        if cell[COUPLING] * cell[Y] + cell[DRIVE] - cell[LEAK] * cell[VRESET] >= 0:
            run.statuses[j] = RESET_HIGH
            cell[THETA] = NEVER
            # Neurons that nobody hears of do not stop the others.
            run.over = run.recurrent
            return not run.recurrent
        run.passing[j] = True
    if cell[TREF] > 0:
        cell[FREE_AT] = t + cell[TREF]
    return True


@compiled
def set_free(run, j, window, place):
    """The refractory time of a neuron ends."""
    cell = run.cells[j]
    number = np.int64(cell[SINCE])
    if number < 0:
        spike = run.found[-1 - number]
        spike[FOUND_FREE], spike[FOUND_X], spike[FOUND_Y] = place, cell[X], cell[Y]
    else:
        _write_free(run, number, window, place, cell[X], cell[Y])
    cell[FREED_AT], cell[FREE_AT] = cell[T], np.inf
    done = run.stop_after > 0 and not run.recurrent and run.counts[j] >= run.stop_after
    if not (done or kind_of(run, j) & ONCE):
        cell[THETA] = cell[THRESH]


@compiled
def _write_free(run, number, window, place, x, y):
    marks = run.marks[number]
    free_states = run.free_states[number]
    marks[MARK_FREE_WINDOW], marks[MARK_FREE_PLACE] = window, place
    free_states[0], free_states[1] = x, y


@compiled
def answer_until(run, j, q, until, x, y, t):
    """Answer the queries of a window from number `q` on whose instant ends before `until`; gives the next one.

    Until then nothing happens to the neuron, whose state at `t` is `x` and `y`. Queries move copies of it, so that they
    do not change the run. An answer is V, I, what is left of a refractory time, and whether the neuron has spiked.
    """
    channels, cell, kind = run.channels, run.cells[j], kind_of(run, j)
    states, resting = run.states, cell[FREE_AT] < np.inf
    queries, asked_at = run.queries, run.asked_at
    asked = run.asked
    while q < run.end_query and asked_at[q] < until:
        at, place = max(np.float64(queries[asked[q]]), t), (j * run.n_queries + asked[q]) * channels
        keep, feed, fade, gain = coefficients(at - t, cell[LEAK], cell[COUPLING], cell[DECAY])
        states[place] = x if resting and kind & HOLDS_V else keep * x + feed * y + gain * cell[DRIVE]
        if channels > 1:
            states[place + 1] = y if resting and kind & HOLDS_I else fade * y
        if channels > 2:
            states[place + 2] = cell[FREE_AT] - at if resting else 0.0
            states[place + 3] = min(run.counts[j], 1)
        q += 1
    return q


@compiled
def run_neuron(run, j, window, start, end, final):
    """Take a neuron through a window. False if the run is over."""
    eps, kind = run.eps, kind_of(run, j)
    cell = run.cells[j]
    times, synapses = run.sorted_times, run.sorted_synapses
    weights = run.weights
    asked_at, passing = run.asked_at, run.passing
    a, b, r, d = cell[LEAK], cell[COUPLING], cell[DECAY], cell[DRIVE]
    jumps = kind & JUMPS != 0
    first, p, p_end, q, q_end = run.starts[j], run.starts[j], run.starts[j + 1], run.first_query, run.end_query
    x, y, t, theta, begun, resting = cell[X], cell[Y], cell[T], cell[THETA], cell[BEGUN], cell[FREE_AT] < np.inf
    passes, plain, first_change = passing[j], not jumps, run.first_change
    slow, apart = min(a, r), abs(r - a)
    slow_step, apart_step = run.slow_steps, run.apart_steps
    prepare_steps(run, first, p_end, a, r)
    while True:
        if plain and first < p < p_end and t == times[p - 1] and begun < 0 and not passes and theta < NEVER:
            # Most arrivals: nothing else happens, and the neuron stays below its threshold.
            target = a * theta
            while p < p_end and synapses[p] < first_change:
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
                    q = answer_until(run, j, q, times[p], x, y, t)
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
                    if not emit(run, j, max(t, start), np.inf, 1, p - first):
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
                    q = answer_until(run, j, q, te, x, y, t)
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
                            q = answer_until(run, j, q, te - (dt - after), x, y, t)
                        y *= math.exp(-r * after)
                        cell[X], cell[Y] = theta, y
                        if not emit(run, j, max(te - (dt - after), start), b * y + d - target, 0, p - first):
                            return False
                        x, t, theta, resting, passes = cell[X], cell[T], cell[THETA], cell[FREE_AT] < np.inf, passing[j]
                        continue
                    if x_end >= theta and not passes and not meets:
                        # What has not crossed stays below, though it may round to the threshold.
                        x_end = theta - 2.3e-16 * max(abs(theta), 1e-30)
                if q < q_end:
                    q = answer_until(run, j, q, np.inf if event == NOTHING else te, x, y, t)
                x, y, t = x_end, y_end, te
                passes = passes and x >= theta
        if event == NOTHING:
            break
        if event == ARRIVAL:
            weight = np.float64(weights[synapses[p]])
            if synapses[p] >= first_change:
                d += weight
                cell[DRIVE] = d
            elif jumps:
                if not (resting and kind & (BLOCKS | HOLDS_V)):
                    x += weight
            elif not (resting and kind & (BLOCKS | HOLDS_I)):
                y += weight
            if jumps:
                begun = begun if begun >= 0 else t
            p += 1
        else:
            cell[X], cell[Y], cell[T] = x, y, t
            set_free(run, j, window, p - first)
            theta, resting = cell[THETA], False
            begun = begun if begun >= 0 else t
    if q < q_end:
        answer_until(run, j, q, np.inf, x, y, t)
    cell[X], cell[Y], cell[T], cell[BEGUN] = x, y, t, begun
    passing[j] = passes
    return True


@compiled
def pass_on(run, window):
    """Write the spikes of a window down in their order, and send them on."""
    count = run.n_found
    found_t, order = run.found_t, run.order
    found = run.found
    cells = run.cells
    indptr, targets = run.indptr, run.targets
    delays, marks = run.delays, run.marks
    times, currents = run.times, run.currents
    neurons, slopes = run.neurons, run.slopes
    for k in range(count):
        order[k] = k
    # Neurons took their turns one after the other, so that spikes of the same time stay in the order of these.
    sort_by_time(found_t, order, run.spare, count)
    for k in range(count):
        one, number = found[order[k]], run.n_spikes
        j, t = np.int64(one[FOUND_J]), found_t[order[k]]
        times[number], currents[number], neurons[number], slopes[number] = t, one[FOUND_I], j, one[FOUND_SLOPE]
        mark = marks[number]
        mark[MARK_WINDOW], mark[MARK_PLACE] = 2 * window + np.int64(one[FOUND_INSTANT]), np.int64(one[FOUND_PLACE])
        mark[MARK_FREE_WINDOW], mark[MARK_FREE_PLACE] = -1, 0
        if one[FOUND_FREE] >= 0:
            _write_free(run, number, window, np.int64(one[FOUND_FREE]), one[FOUND_X], one[FOUND_Y])
        cells[j, SINCE] = number
        run.n_spikes += 1
        if run.recurrent and window + 1 < run.n_windows:
            send(run, t, indptr, targets, delays, j, window + 1, run.n_windows, run.n_windows - 1, None, None)
    run.n_found = 0


@compiled
def begin_forward(run):
    """The neurons at the start of the run. False if it cannot begin."""
    n = run.n
    fine = begin(run)
    cells, counts = run.cells, run.counts
    passing, statuses = run.passing, run.statuses
    run.n_spikes, run.n_found, run.n_waiting = 0, 0, 0
    for j in range(n):
        kind, cell = kind_of(run, j), cells[j]
        counts[j], passing[j], statuses[j] = 0, False, FINE if fine else MANY_WINDOWS
        cell[T], cell[BEGUN], cell[FREE_AT], cell[FREED_AT], cell[SINCE] = 0, 0, np.inf, -1, 0
        cell[THETA] = cell[THRESH] if kind & SPIKES else NEVER
        if kind & OUTPUT:
            run.n_waiting += 1
    return fine


@compiled
def run_forward(run):
    """One run; gives 0, or `INTERRUPTED`."""
    n, signals, k = run.n, interrupts(), np.int64(0)
    if not begin_forward(run):
        run.n_windows = 0
    states = run.states
    for place in range(n * run.n_queries * run.channels):
        # A run that breaks off answers no more.
        states[place] = 0
    indptr, targets = run.indptr, run.targets
    delays, rows = run.delays, run.input_rows
    at, coming = run.input_at, run.coming
    asked_at = run.asked_at
    n_input, last = 0, run.n_windows - 1
    run.end_query = 0
    while k < run.n_windows:
        if interrupts() != signals:
            release_ring(run)
            return INTERRUPTED
        final, start = k == last, k * run.length
        end = run.t_stop if final else (k + 1) * run.length
        while n_input < run.n_coming:
            one = coming[n_input]
            if not final and np.int64(at[one] * run.per_length) > k:
                break
            send(run, at[one], indptr, targets, delays, rows[one], k, last, last, None, None)
            n_input += 1
        run.first_query = run.end_query
        while run.end_query < run.n_queries and (final or asked_at[run.end_query] < end):
            run.end_query += 1
        sort_bucket(run, k, None)
        j = 0
        while j < n and not run.no_memory and run_neuron(run, j, k, start, end, final):
            j += 1
        pass_on(run, k)
        k += 1
        if run.over or run.no_memory or (run.stop_after > 0 and run.n_waiting == 0):
            break
    finish(run, k)
    release_ring(run)
    return 0


@compiled
def finish(run, windows):
    """The results that are written at the end."""
    n, capacity, count = run.n, run.capacity, run.n_spikes
    times, out = run.times, run.times_out
    neurons, slopes = run.neurons, run.slopes
    statuses, stopped = run.statuses, run.stopped
    cells = run.cells
    reached = min(windows * run.length, run.t_end) if windows > 0 else 0.0
    fine = True
    for k in range(count):
        out[k] = min(times[k], run.t_end)
    for k in range(count, capacity):
        out[k], neurons[k], slopes[k] = np.inf, 0, np.inf
    for j in range(n):
        if statuses[j] == FINE and not (np.isfinite(cells[j, X]) and np.isfinite(cells[j, Y])):
            statuses[j] = NOT_FINITE
        fine = fine and statuses[j] == FINE
        stopped[j] = min(max(cells[j, T], reached) if statuses[j] == FINE else cells[j, T], run.t_end)
    run.count[0] = count + (1 if run.over and fine else 0)
    run.info[0], run.info[1] = count, windows
