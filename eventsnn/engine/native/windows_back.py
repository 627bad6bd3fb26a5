"""Linear neurons with a delay for each synapse, backwards: EventProp through the windows of the forward run in reverse.

Spikes and inputs are put into the windows in which they arrived, and what arrives at each neuron is sorted as in the
forward run. The adjoint of V and I then goes through every neuron by itself, from its last event to its first. At an
arrival the weight, the delay and what emitted it receive their derivatives. A spike has received everything by the time
its own window comes, since it arrived in later ones.
"""

import numpy as np

from eventsnn.engine.native.block import array_at, set_places
from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.interrupt import INTERRUPTED, interrupts
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
    THRESH,
    TREF,
    V0,
    VRESET,
)
from eventsnn.engine.native.linear import coefficients
from eventsnn.engine.native.sweep import width_of
from eventsnn.engine.native.windows_queue import (
    release_ring,
    send,
    sort_bucket,
)
from eventsnn.engine.native.windows_rates import (
    KEPT_COLUMNS,
    STATE_I,
    STATE_T,
    STATE_V,
    begin_rates,
    end_rates,
    note_past,
    rates_of_stretch,
    state_at_mark,
    states_of_window,
)
from eventsnn.engine.native.windows_start import (
    MARK_FREE_PLACE,
    MARK_FREE_WINDOW,
    MARK_PLACE,
    MARK_WINDOW,
    begin,
    kind_of,
)
from eventsnn.engine.native.windows_steps import prepare_steps
from eventsnn.engine.native.windows_words import ADJOINT, WINDOWS

# What is known of the adjoint of a neuron, in a row of its own: of V and I, and up to when; whether the neuron is
# refractory there; what a spike at the instant of an arrival has received that this arrival is owed, and when it was;
# the number of the last spike before, or -1.
LV, LI, LT, RESTING, OWED, OWED_AT, LAST = range(7)
_ADJOINTS, _BY_NUMBERS = WINDOWS.span("adjoints"), WINDOWS.span("by_numbers")
_OF_SPIKES = WINDOWS.span("before", "received")
# What comes next for a neuron, in reverse.
NOTHING, ARRIVAL, SPIKE, FREE, QUERY = range(5)


@compiled
def set_out_back(run, place):
    """Give every array of the way back its place; gives where the memory ends."""
    n, capacity = run.n, run.capacity
    for span, count in ((_ADJOINTS, ADJOINT * n), (_BY_NUMBERS, NUMBERS * n), (_OF_SPIKES, capacity)):
        place = set_places(run, span, count, place)
    return place


@compiled
def back_through_spike(run, j, number):
    """The jump of the adjoint at a spike."""
    adjoint, cell = run.adjoints[j], run.cells[j]
    by, kind = run.by_numbers[j], kind_of(run, j)
    current = run.currents[number]
    received, resting = run.received[number], adjoint[RESTING] > 0
    drive = cell[COUPLING] * current + cell[DRIVE]
    if not (resting and kind & HOLDS_V):
        received -= adjoint[LV] * (drive - cell[LEAK] * cell[VRESET])
    if resting and kind & HOLDS_I:
        received -= adjoint[LI] * cell[DECAY] * current
    by[VRESET] += adjoint[LV]
    if np.int64(run.marks[number, MARK_WINDOW]) & 1:
        adjoint[OWED], adjoint[OWED_AT] = received, run.times[number]
        adjoint[LV] = 0
    else:
        slope = drive - cell[LEAK] * cell[THRESH]
        if abs(slope) < run.min_slope:
            slope = run.min_slope if slope >= 0 else -run.min_slope
        adjoint[LV] = -received / slope
        by[THRESH] += received / slope
    adjoint[RESTING] = 0
    adjoint[LAST] = run.before[number]


@compiled
def back_into_rest(run, j, number):
    """The end of the refractory time after a spike: before it the neuron rests."""
    adjoint, cell = run.adjoints[j], run.cells[j]
    by, kind = run.by_numbers[j], kind_of(run, j)
    current, got = run.free_states[number, 1], adjoint[OWED]
    adjoint[OWED] = 0
    if kind & HOLDS_V:
        got -= adjoint[LV] * (cell[COUPLING] * current + cell[DRIVE] - cell[LEAK] * cell[VRESET])
    if kind & HOLDS_I:
        got += adjoint[LI] * cell[DECAY] * current
    run.received[number] += got
    by[TREF] += got
    adjoint[RESTING] = 1


@compiled
def back_to(run, j, adjoint, te, v, i, rates):
    """The adjoint of a neuron back to `te`, where its state is `v` and `i`."""
    dt = adjoint[LT] - te
    if dt <= 0:
        return
    adjoint[LT] = te
    x, y = adjoint[LV], adjoint[LI]
    if x == 0 and y == 0:
        return
    cell = run.cells[j]
    if rates is not None:
        rates_of_stretch(run, j, dt, v, i, x, y, adjoint[RESTING] > 0)
    keep, feed, fade, gain = coefficients(dt, cell[LEAK], cell[COUPLING], cell[DECAY])
    if adjoint[RESTING] > 0:
        kind = kind_of(run, j)
        if kind & HOLDS_I:
            fade = 1.0
        if kind & HOLDS_V:
            keep, feed, gain = 1.0, 0.0, 0.0
    run.by_numbers[j, DRIVE] += gain * x
    adjoint[LI] = fade * y + feed * x
    adjoint[LV] = keep * x


@compiled
def next_mark(run, j, adjoint, window):
    """The spike, or the end of a refractory time, that is the next of a neuron in reverse, if it is in this window.

    Gives what it is, after how many arrivals of the window it comes, and the time.
    """
    number = np.int64(adjoint[LAST])
    if number < 0:
        return NOTHING, np.int64(-1), 0.0
    mark = run.marks[number]
    t, tref = run.times[number], run.cells[j, TREF]
    if tref > 0 and adjoint[RESTING] == 0:
        if np.int64(mark[MARK_FREE_WINDOW]) != window:
            return NOTHING, np.int64(-1), 0.0
        return FREE, np.int64(mark[MARK_FREE_PLACE]), t + tref
    if np.int64(mark[MARK_WINDOW]) >> 1 != window:
        return NOTHING, np.int64(-1), 0.0
    return SPIKE, np.int64(mark[MARK_PLACE]), t


@compiled
def back_through_arrivals(run, j, adjoint, p, stop, end, rates):
    """The arrivals of a neuron from `p` - 1 down to `stop`, between which nothing else happens; `end` ends them all."""
    eps, kind, cell = run.eps, kind_of(run, j), run.cells[j]
    times, synapses, emitters = run.sorted_times, run.sorted_synapses, run.sorted_emitters
    weights, by_weights = run.weights, run.by_weights
    by_delays, received = run.by_delays, run.received
    by_inputs = run.by_inputs
    a, b, r, resting = cell[LEAK], cell[COUPLING], cell[DECAY], adjoint[RESTING] > 0
    jumps, stands = kind & JUMPS != 0, resting and kind & HOLDS_V != 0
    lost = resting and (kind & BLOCKS or (stands if jumps else kind & HOLDS_I))
    x, y, t, owed, owed_at = adjoint[LV], adjoint[LI], adjoint[LT], adjoint[OWED], adjoint[OWED_AT]
    fed, slow, apart, slow_step, apart_step = 0.0, min(a, r), abs(r - a), run.slow_steps, run.apart_steps
    first_change = run.first_change
    # Steps between arrivals are known if nothing else has happened since the one behind.
    known = not resting and p < end and t == times[p]
    while p > stop:
        p -= 1
        te, synapse = times[p], np.int64(synapses[p])
        if x == 0 and y == 0 and owed == 0 and synapse < first_change:
            t = min(te, t)
            known = known or not resting
            continue
        if te < t:
            if rates is not None:
                rates_of_stretch(run, j, t - te, run.past_v[p], run.past_i[p], x, y, resting)
            if known:
                grown, other = slow_step[p + 1], apart_step[p + 1]
                slower = 1 - slow * grown
                faster, feed = slower * (1 - apart * other), b * slower * other
                if a <= r:
                    keep, fade, gain = slower, faster, grown
                else:
                    keep, fade, gain = faster, slower, (slow * grown + slower * apart * other) / a
            else:
                keep, feed, fade, gain = coefficients(t - te, a, b, r)
                if resting:
                    if kind & HOLDS_I:
                        fade = 1.0
                    if kind & HOLDS_V:
                        keep, feed, gain = 1.0, 0.0, 0.0
                known = not resting
            fed += gain * x
            y = fade * y + feed * x
            x = keep * x
            t = te
        weight, got = np.float64(weights[synapse]), 0.0
        if synapse >= first_change:
            # What the drive has received so far is what it receives from here on.
            by_weights[synapse] += run.by_numbers[j, DRIVE] + fed
            cell[DRIVE] -= weight
            got = 0.0 if stands else -weight * x
        elif owed != 0 and weight != 0 and owed_at - t <= 2 * width_of(owed_at, eps):
            # This arrival has lifted the neuron over its threshold.
            got = owed
            owed = 0.0
        if not lost and synapse < first_change:
            if jumps:
                by_weights[synapse] += x
                got += weight * a * x
            else:
                by_weights[synapse] += y
                got += weight * (r * y - (0.0 if stands else b * x))
        by_delays[synapse] += got
        emitter = np.int64(emitters[p])
        if emitter >= 0:
            received[emitter] += got
        else:
            by_inputs[-1 - emitter] += got
    adjoint[LV], adjoint[LI], adjoint[LT], adjoint[OWED] = x, y, t, owed
    run.by_numbers[j, DRIVE] += fed


@compiled
def take_answer(run, j, adjoint, q):
    """What the state of a neuron at the q-th query receives."""
    channels = run.channels
    place = (j * run.n_queries + q) * channels
    adjoint[LV] += run.ct_states[place]
    if channels > 1:
        adjoint[LI] += run.ct_states[place + 1]
    if channels > 2 and adjoint[RESTING] > 0:
        # What is left of a refractory time grows with the time of its spike.
        run.received[np.int64(adjoint[LAST])] += run.ct_states[place + 2]
        run.by_numbers[j, TREF] += run.ct_states[place + 2]


@compiled
def neuron_back(run, j, window, states, rates):
    """The adjoint of a neuron back through a window, at whose start the `states` are known if `rates` are wanted."""
    starts, adjoint = run.starts, run.adjoints[j]
    times, asked = run.sorted_times, run.asked
    asked_at, queries = run.asked_at, run.queries
    first, p, q = starts[j], starts[j + 1], run.end_query
    what, place, mark_t = next_mark(run, j, adjoint, window)
    cell = run.cells[j]
    prepare_steps(run, first, p, cell[LEAK], cell[DECAY])
    if rates is not None:
        _note_past(run, j, adjoint, what, place, p, states)
    while True:
        event, te = NOTHING, -1.0
        if what != NOTHING and place == p - first:
            event, te = what, mark_t
        elif p > first:
            event, te = ARRIVAL, times[p - 1]
        if q > run.first_query and (event == NOTHING or asked_at[q - 1] >= te):
            q -= 1
            number = asked[q]
            at_v, at_i = 0.0, 0.0
            if rates is not None:
                at_v, at_i = answered(run, j, number)
            back_to(run, j, adjoint, np.float64(queries[number]), at_v, at_i, rates)
            take_answer(run, j, adjoint, number)
        elif event == NOTHING:
            break
        elif event == ARRIVAL:
            stop = first + max(place, 0)
            if q > run.first_query:
                stop = p - 1
            back_through_arrivals(run, j, adjoint, p, stop, starts[j + 1], rates)
            p = stop
        else:
            number = np.int64(adjoint[LAST])
            at_v, at_i = 0.0, 0.0
            if rates is not None:
                at_v, at_i, _ = state_at_mark(run, j, 2 * number + (1 if event == FREE else 0))
            back_to(run, j, adjoint, te, at_v, at_i, rates)
            if event == FREE:
                back_into_rest(run, j, number)
            else:
                back_through_spike(run, j, number)
            what, place, mark_t = next_mark(run, j, adjoint, window)
            if rates is not None:
                _note_past(run, j, adjoint, what, place, p, states)


@compiled
def _note_past(run, j, adjoint, what, place, p, states):
    """The states after the arrivals up to `p`, from the last mark before them on, or from the start of the window."""
    first = run.starts[j]
    if what == NOTHING:
        state = array_at(states + 8 * KEPT_COLUMNS * j, np.float64)
        note_past(run, j, first, p, state[STATE_V], state[STATE_I], state[STATE_T], adjoint[RESTING] > 0)
    else:
        x, y, t = state_at_mark(run, j, 2 * np.int64(adjoint[LAST]) + (1 if what == FREE else 0))
        cell = run.cells[j]
        note_past(run, j, first + place, p, x, y, t, what == SPIKE and cell[TREF] > 0)


@compiled
def answered(run, j, number):
    """The state of a neuron at a query."""
    channels = run.channels
    place = (j * run.n_queries + number) * channels
    return np.float64(run.states[place]), np.float64(run.states[place + 1]) if channels > 1 else 0.0


@compiled
def begin_back(run, count):
    """Everything as it is at the end of the run, which emitted so many spikes."""
    n = run.n
    adjoints, by = run.adjoints, run.by_numbers
    cells, marks = run.cells, run.marks
    before, neurons = run.before, run.neurons
    by_inputs = run.by_inputs
    for j in range(n):
        for k in range(ADJOINT):
            adjoints[j, k] = 0
        for k in range(NUMBERS):
            by[j, k] = 0
        adjoints[j, LT], adjoints[j, LAST] = run.t_stop, -1
    received, by_times = run.received, run.ct_times
    for k in range(count):
        j = np.int64(neurons[k])
        received[k] = by_times[k]
        before[k] = np.int64(adjoints[j, LAST])
        adjoints[j, LAST] = k
    for j in range(n):
        last = np.int64(adjoints[j, LAST])
        if last >= 0 and cells[j, TREF] > 0 and marks[last, MARK_FREE_WINDOW] < 0:
            adjoints[j, RESTING] = 1
    for k in range(run.n_inputs):
        by_inputs[k] = 0
    _change_drives(run)


@compiled
def _change_drives(run):
    """The drives at the end of the run, from those at its start."""
    cells, weights, targets, indptr = run.cells, run.weights, run.targets, run.indptr
    at, rows, last = run.input_at, run.input_rows, run.n_windows - 1
    for coming in range(run.n_coming):
        k = run.coming[coming]
        first = np.int64(indptr[rows[k]])
        if first >= run.first_change and min(np.int64(at[k] * run.per_length), last) < run.info[1]:
            for synapse in range(first, indptr[rows[k] + 1]):
                cells[np.int64(targets[synapse]), DRIVE] += weights[synapse]


@compiled
def send_back(run, window, windows, number, coming):
    """Put what may arrive in a window into the buckets; gives how many spikes and inputs are left for earlier ones."""
    indptr, targets = run.indptr, run.targets
    delays, rows = run.delays, run.input_rows
    at, order = run.input_at, run.coming
    times, neurons = run.times, run.neurons
    marks, last = run.marks, run.n_windows - 1
    while number > 0 and run.recurrent:
        k = number - 1
        soonest = (np.int64(marks[k, MARK_WINDOW]) >> 1) + 1
        if min(max(np.int64((times[k] + run.longest) * run.per_length), soonest), last) < window:
            break
        if soonest <= last:
            send(run, times[k], indptr, targets, delays, np.int64(neurons[k]), soonest, windows - 1, last, k, None)
        number -= 1
    while coming > 0:
        k = order[coming - 1]
        if min(np.int64((at[k] + run.longest) * run.per_length), last) < window:
            break
        soonest = min(np.int64(at[k] * run.per_length), last)
        send(run, at[k], indptr, targets, delays, np.int64(rows[k]), soonest, windows - 1, last, -1 - k, None)
        coming -= 1
    return number, coming


@compiled
def run_backward(run, rates):
    """The way back of one run; gives 0, or `INTERRUPTED`."""
    n, signals = run.n, interrupts()
    count, windows = np.int64(run.info[0]), np.int64(run.info[1])
    if not begin(run):
        windows = 0
    begin_back(run, count)
    asked_at = run.asked_at
    number, coming = count, run.n_coming
    run.end_query, states = run.n_queries, np.int64(0)
    if rates is not None:
        run.after, run.kept, run.kept_finely, run.aside = 0, 0, 0, 0
        begin_rates(run, count, windows)
    if windows < run.n_windows:
        # Queries behind the end of a run that was over before have no answer.
        while run.end_query > 0 and asked_at[run.end_query - 1] >= windows * run.length:
            run.end_query -= 1
    for k in range(windows - 1, -1, -1):
        if interrupts() != signals:
            windows = -1
            break
        run.first_query = run.end_query
        # On the way forth a query belongs to the first window that ends behind it.
        while run.first_query > 0 and (k == 0 or asked_at[run.first_query - 1] >= k * run.length):
            run.first_query -= 1
        number, coming = send_back(run, k, windows, number, coming)
        if rates is not None:
            # Before the arrivals are sorted: both blocks of words share `STARTS`.
            states = states_of_window(run, k, windows, count)
        sort_bucket(run, k, True)
        if run.no_memory:
            break
        for j in range(n):
            neuron_back(run, j, k, states, rates)
        run.end_query = run.first_query
    adjoints, by = run.adjoints, run.by_numbers
    cells, out = run.cells, run.by_given
    for j in range(n):
        back_to(run, j, adjoints[j], 0.0, cells[j, V0], cells[j, I0], rates)
        by[j, V0], by[j, I0] = adjoints[j, LV], adjoints[j, LI]
        for row in range(NUMBERS):
            out[row, j] = by[j, row]
    release_ring(run)
    if rates is not None:
        end_rates(run)
    return INTERRUPTED if windows < 0 else 0
