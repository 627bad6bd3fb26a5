"""Linear neurons with a delay for each synapse, backwards: EventProp through the windows of the forward run in reverse.

Spikes and inputs are put into the windows in which they arrived, and what arrives at each neuron is sorted as in the
forward run. The adjoint of V and I then goes through every neuron by itself, from its last event to its first. At an
arrival the weight, the delay and what emitted it receive their derivatives. A spike has received everything by the time
its own window comes, since it arrived in later ones.
"""

import numpy as np

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
from eventsnn.engine.native.scratch import matrix_at, room, vector_at
from eventsnn.engine.native.sweep import width_of
from eventsnn.engine.native.windows_queue import (
    release_ring,
    send,
    sort_bucket,
    sorted_emitters,
    sorted_synapses,
    sorted_times,
)
from eventsnn.engine.native.windows_rates import (
    KEPT_COLUMNS,
    STATE_I,
    STATE_T,
    STATE_V,
    begin_rates,
    end_rates,
    note_past,
    past_i,
    past_v,
    rates_of_stretch,
    state_at_mark,
    states_of_window,
)
from eventsnn.engine.native.windows_start import (
    CELL,
    MARK_FREE_PLACE,
    MARK_FREE_WINDOW,
    MARK_PLACE,
    MARK_WINDOW,
    begin,
    kind_of,
)
from eventsnn.engine.native.windows_steps import apart_steps, prepare_steps, slow_steps
from eventsnn.engine.native.windows_words import (
    ADJOINTS,
    AFTER,
    ASIDE,
    ASKED,
    ASKED_AT,
    BEFORE,
    BY_DELAYS,
    BY_GIVEN,
    BY_INPUTS,
    BY_NUMBERS,
    BY_WEIGHTS,
    CAPACITY,
    CELLS,
    CHANNELS,
    COMING,
    CT_STATES,
    CT_TIMES,
    CURRENTS,
    DELAYS,
    END_QUERY,
    FIRST_QUERY,
    FREE_STATES,
    INDPTR,
    INFO,
    INPUT_AT,
    INPUT_ROWS,
    KEPT,
    KEPT_FINELY,
    LENGTH,
    LONGEST,
    MARKS,
    MIN_SLOPE,
    N_COMING,
    N_INPUTS,
    N_QUERIES,
    N_ROWS,
    N_SYNAPSES,
    N_WINDOWS,
    NEURONS,
    NO_MEMORY,
    PER_LENGTH,
    QUERIES,
    RECEIVED,
    RECURRENT,
    STARTS,
    STATES,
    T_STOP,
    TARGETS,
    TIMES,
    WEIGHTS,
    N,
    reals_of,
    words_of,
)

# What is known of the adjoint of a neuron, in a row of its own: of V and I, and up to when; whether the neuron is
# refractory there; what a spike at the instant of an arrival has received that this arrival is owed, and when it was;
# the number of the last spike before, or -1.
LV, LI, LT, RESTING, OWED, OWED_AT, LAST = range(7)
ADJOINT = 8
# What comes next for a neuron, in reverse.
NOTHING, ARRIVAL, SPIKE, FREE, QUERY = range(5)


@compiled
def set_out_back(m, place):
    """Give every array of the way back its place; gives where the memory ends."""
    s = words_of(m)
    n, capacity = s[N], s[CAPACITY]
    for word, count in (
        (ADJOINTS, ADJOINT * n), (BY_NUMBERS, NUMBERS * n), (BEFORE, capacity), (RECEIVED, capacity),
    ):  # fmt: skip
        s[word] = place
        place += room(count)
    return place


@compiled
def back_through_spike(m, j, number):
    """The jump of the adjoint at a spike."""
    s, f = words_of(m), reals_of(m)
    capacity = s[CAPACITY]
    adjoint, cell = matrix_at(s[ADJOINTS], s[N], ADJOINT, np.float64)[j], matrix_at(s[CELLS], s[N], CELL, np.float64)[j]
    by, kind = matrix_at(s[BY_NUMBERS], s[N], NUMBERS, np.float64)[j], kind_of(m, j)
    marks, current = matrix_at(s[MARKS], capacity, 4, np.int32), vector_at(s[CURRENTS], capacity, np.float64)[number]
    received, resting = vector_at(s[RECEIVED], capacity, np.float64)[number], adjoint[RESTING] > 0
    drive = cell[COUPLING] * current + cell[DRIVE]
    if not (resting and kind & HOLDS_V):
        received -= adjoint[LV] * (drive - cell[LEAK] * cell[VRESET])
    if resting and kind & HOLDS_I:
        received -= adjoint[LI] * cell[DECAY] * current
    by[VRESET] += adjoint[LV]
    if np.int64(marks[number, MARK_WINDOW]) & 1:
        adjoint[OWED], adjoint[OWED_AT] = received, vector_at(s[TIMES], capacity, np.float64)[number]
        adjoint[LV] = 0
    else:
        slope = drive - cell[LEAK] * cell[THRESH]
        if abs(slope) < f[MIN_SLOPE]:
            slope = f[MIN_SLOPE] if slope >= 0 else -f[MIN_SLOPE]
        adjoint[LV] = -received / slope
        by[THRESH] += received / slope
    adjoint[RESTING] = 0
    adjoint[LAST] = vector_at(s[BEFORE], capacity, np.int64)[number]


@compiled
def back_into_rest(m, j, number):
    """The end of the refractory time after a spike: before it the neuron rests."""
    s = words_of(m)
    capacity = s[CAPACITY]
    adjoint, cell = matrix_at(s[ADJOINTS], s[N], ADJOINT, np.float64)[j], matrix_at(s[CELLS], s[N], CELL, np.float64)[j]
    by, kind = matrix_at(s[BY_NUMBERS], s[N], NUMBERS, np.float64)[j], kind_of(m, j)
    current, got = matrix_at(s[FREE_STATES], capacity, 2, np.float64)[number, 1], adjoint[OWED]
    adjoint[OWED] = 0
    if kind & HOLDS_V:
        got -= adjoint[LV] * (cell[COUPLING] * current + cell[DRIVE] - cell[LEAK] * cell[VRESET])
    if kind & HOLDS_I:
        got += adjoint[LI] * cell[DECAY] * current
    vector_at(s[RECEIVED], capacity, np.float64)[number] += got
    by[TREF] += got
    adjoint[RESTING] = 1


@compiled
def back_to(m, j, adjoint, te, v, i, rates):
    """The adjoint of a neuron back to `te`, where its state is `v` and `i`."""
    s = words_of(m)
    dt = adjoint[LT] - te
    if dt <= 0:
        return
    adjoint[LT] = te
    x, y = adjoint[LV], adjoint[LI]
    if x == 0 and y == 0:
        return
    cell = matrix_at(s[CELLS], s[N], CELL, np.float64)[j]
    if rates is not None:
        rates_of_stretch(m, j, dt, v, i, x, y, adjoint[RESTING] > 0)
    keep, feed, fade, gain = coefficients(dt, cell[LEAK], cell[COUPLING], cell[DECAY])
    if adjoint[RESTING] > 0:
        kind = kind_of(m, j)
        if kind & HOLDS_I:
            fade = 1.0
        if kind & HOLDS_V:
            keep, feed, gain = 1.0, 0.0, 0.0
    matrix_at(s[BY_NUMBERS], s[N], NUMBERS, np.float64)[j, DRIVE] += gain * x
    adjoint[LI] = fade * y + feed * x
    adjoint[LV] = keep * x


@compiled
def next_mark(m, j, adjoint, window):
    """The spike, or the end of a refractory time, that is the next of a neuron in reverse, if it is in this window.

    Gives what it is, after how many arrivals of the window it comes, and the time.
    """
    s = words_of(m)
    number = np.int64(adjoint[LAST])
    if number < 0:
        return NOTHING, np.int64(-1), 0.0
    mark = matrix_at(s[MARKS], s[CAPACITY], 4, np.int32)[number]
    t, tref = vector_at(s[TIMES], s[CAPACITY], np.float64)[number], matrix_at(s[CELLS], s[N], CELL, np.float64)[j, TREF]
    if tref > 0 and adjoint[RESTING] == 0:
        if np.int64(mark[MARK_FREE_WINDOW]) != window:
            return NOTHING, np.int64(-1), 0.0
        return FREE, np.int64(mark[MARK_FREE_PLACE]), t + tref
    if np.int64(mark[MARK_WINDOW]) >> 1 != window:
        return NOTHING, np.int64(-1), 0.0
    return SPIKE, np.int64(mark[MARK_PLACE]), t


@compiled
def back_through_arrivals(dtype, m, j, adjoint, p, stop, end, rates):
    """The arrivals of a neuron from `p` - 1 down to `stop`, between which nothing else happens; `end` ends them all."""
    s = words_of(m)
    eps, kind, cell = np.float64(np.finfo(dtype).eps), kind_of(m, j), matrix_at(s[CELLS], s[N], CELL, np.float64)[j]
    times, synapses, emitters = sorted_times(s), sorted_synapses(s), sorted_emitters(s)
    weights, by_weights = vector_at(s[WEIGHTS], s[N_SYNAPSES], dtype), vector_at(s[BY_WEIGHTS], s[N_SYNAPSES], dtype)
    by_delays, received = vector_at(s[BY_DELAYS], s[N_SYNAPSES], dtype), vector_at(s[RECEIVED], s[CAPACITY], np.float64)
    by_inputs = vector_at(s[BY_INPUTS], s[N_INPUTS], dtype)
    a, b, r, resting = cell[LEAK], cell[COUPLING], cell[DECAY], adjoint[RESTING] > 0
    jumps, stands = kind & JUMPS != 0, resting and kind & HOLDS_V != 0
    lost = resting and (kind & BLOCKS or (stands if jumps else kind & HOLDS_I))
    x, y, t, owed, owed_at = adjoint[LV], adjoint[LI], adjoint[LT], adjoint[OWED], adjoint[OWED_AT]
    fed, slow, apart, slow_step, apart_step = 0.0, min(a, r), abs(r - a), slow_steps(s), apart_steps(s)
    # Steps between arrivals are known if nothing else has happened since the one behind.
    known = not resting and p < end and t == times[p]
    while p > stop:
        p -= 1
        te, synapse = times[p], np.int64(synapses[p])
        if x == 0 and y == 0 and owed == 0:
            t = min(te, t)
            known = known or not resting
            continue
        if te < t:
            if rates is not None:
                rates_of_stretch(m, j, t - te, past_v(s)[p], past_i(s)[p], x, y, resting)
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
        if owed != 0 and weight != 0 and owed_at - t <= 2 * width_of(owed_at, eps):
            # This arrival has lifted the neuron over its threshold.
            got = owed
            owed = 0.0
        if not lost:
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
    matrix_at(s[BY_NUMBERS], s[N], NUMBERS, np.float64)[j, DRIVE] += fed


@compiled
def take_answer(dtype, m, j, adjoint, q):
    """What the state of a neuron at the q-th query receives."""
    s = words_of(m)
    channels = s[CHANNELS]
    by_states = vector_at(s[CT_STATES], s[N] * s[N_QUERIES] * channels, dtype)
    place = (j * s[N_QUERIES] + q) * channels
    adjoint[LV] += by_states[place]
    if channels > 1:
        adjoint[LI] += by_states[place + 1]
    if channels > 2 and adjoint[RESTING] > 0:
        # What is left of a refractory time grows with the time of its spike.
        vector_at(s[RECEIVED], s[CAPACITY], np.float64)[np.int64(adjoint[LAST])] += by_states[place + 2]
        matrix_at(s[BY_NUMBERS], s[N], NUMBERS, np.float64)[j, TREF] += by_states[place + 2]


@compiled
def neuron_back(dtype, m, j, window, states, rates):
    """The adjoint of a neuron back through a window, at whose start the `states` are known if `rates` are wanted."""
    s = words_of(m)
    starts, adjoint = vector_at(s[STARTS], s[N] + 2, np.int64), matrix_at(s[ADJOINTS], s[N], ADJOINT, np.float64)[j]
    times, asked = sorted_times(s), vector_at(s[ASKED], s[N_QUERIES], np.int64)
    asked_at, queries = vector_at(s[ASKED_AT], s[N_QUERIES], np.float64), vector_at(s[QUERIES], s[N_QUERIES], dtype)
    first, p, q = starts[j], starts[j + 1], s[END_QUERY]
    what, place, mark_t = next_mark(m, j, adjoint, window)
    cell = matrix_at(s[CELLS], s[N], CELL, np.float64)[j]
    prepare_steps(s, first, p, cell[LEAK], cell[DECAY])
    if rates is not None:
        _note_past(dtype, m, j, adjoint, what, place, p, states)
    while True:
        event, te = NOTHING, -1.0
        if what != NOTHING and place == p - first:
            event, te = what, mark_t
        elif p > first:
            event, te = ARRIVAL, times[p - 1]
        if q > s[FIRST_QUERY] and (event == NOTHING or asked_at[q - 1] >= te):
            q -= 1
            number = asked[q]
            at_v, at_i = 0.0, 0.0
            if rates is not None:
                at_v, at_i = answered(dtype, m, j, number)
            back_to(m, j, adjoint, np.float64(queries[number]), at_v, at_i, rates)
            take_answer(dtype, m, j, adjoint, number)
        elif event == NOTHING:
            break
        elif event == ARRIVAL:
            stop = first + max(place, 0)
            if q > s[FIRST_QUERY]:
                stop = p - 1
            back_through_arrivals(dtype, m, j, adjoint, p, stop, starts[j + 1], rates)
            p = stop
        else:
            number = np.int64(adjoint[LAST])
            at_v, at_i = 0.0, 0.0
            if rates is not None:
                at_v, at_i, _ = state_at_mark(m, j, 2 * number + (1 if event == FREE else 0))
            back_to(m, j, adjoint, te, at_v, at_i, rates)
            if event == FREE:
                back_into_rest(m, j, number)
            else:
                back_through_spike(m, j, number)
            what, place, mark_t = next_mark(m, j, adjoint, window)
            if rates is not None:
                _note_past(dtype, m, j, adjoint, what, place, p, states)


@compiled
def _note_past(dtype, m, j, adjoint, what, place, p, states):
    """The states after the arrivals up to `p`, from the last mark before them on, or from the start of the window."""
    s = words_of(m)
    first = vector_at(s[STARTS], s[N] + 2, np.int64)[j]
    if what == NOTHING:
        state = matrix_at(states, s[N], KEPT_COLUMNS, np.float64)[j]
        note_past(dtype, m, j, first, p, state[STATE_V], state[STATE_I], state[STATE_T], adjoint[RESTING] > 0)
    else:
        x, y, t = state_at_mark(m, j, 2 * np.int64(adjoint[LAST]) + (1 if what == FREE else 0))
        cell = matrix_at(s[CELLS], s[N], CELL, np.float64)[j]
        note_past(dtype, m, j, first + place, p, x, y, t, what == SPIKE and cell[TREF] > 0)


@compiled
def answered(dtype, m, j, number):
    """The state of a neuron at a query."""
    s = words_of(m)
    channels = s[CHANNELS]
    states = vector_at(s[STATES], s[N] * s[N_QUERIES] * channels, dtype)
    place = (j * s[N_QUERIES] + number) * channels
    return np.float64(states[place]), np.float64(states[place + 1]) if channels > 1 else 0.0


@compiled
def begin_back(dtype, m, count):
    """Everything as it is at the end of the run, which emitted so many spikes."""
    s, f = words_of(m), reals_of(m)
    n, capacity = s[N], s[CAPACITY]
    adjoints, by = matrix_at(s[ADJOINTS], n, ADJOINT, np.float64), matrix_at(s[BY_NUMBERS], n, NUMBERS, np.float64)
    cells, marks = matrix_at(s[CELLS], n, CELL, np.float64), matrix_at(s[MARKS], capacity, 4, np.int32)
    before, neurons = vector_at(s[BEFORE], capacity, np.int64), vector_at(s[NEURONS], capacity, np.int32)
    by_inputs = vector_at(s[BY_INPUTS], s[N_INPUTS], dtype)
    for j in range(n):
        for k in range(ADJOINT):
            adjoints[j, k] = 0
        for k in range(NUMBERS):
            by[j, k] = 0
        adjoints[j, LT], adjoints[j, LAST] = f[T_STOP], -1
    received, by_times = vector_at(s[RECEIVED], capacity, np.float64), vector_at(s[CT_TIMES], capacity, dtype)
    for k in range(count):
        j = np.int64(neurons[k])
        received[k] = by_times[k]
        before[k] = np.int64(adjoints[j, LAST])
        adjoints[j, LAST] = k
    for j in range(n):
        last = np.int64(adjoints[j, LAST])
        if last >= 0 and cells[j, TREF] > 0 and marks[last, MARK_FREE_WINDOW] < 0:
            adjoints[j, RESTING] = 1
    for k in range(s[N_INPUTS]):
        by_inputs[k] = 0


@compiled
def send_back(dtype, m, window, windows, number, coming):
    """Put what may arrive in a window into the buckets; gives how many spikes and inputs are left for earlier ones."""
    s, f = words_of(m), reals_of(m)
    capacity = s[CAPACITY]
    indptr, targets = vector_at(s[INDPTR], s[N_ROWS] + 1, np.int32), vector_at(s[TARGETS], s[N_SYNAPSES], np.int32)
    delays, rows = vector_at(s[DELAYS], s[N_SYNAPSES], dtype), vector_at(s[INPUT_ROWS], s[N_INPUTS], np.int32)
    at, order = vector_at(s[INPUT_AT], s[N_INPUTS], np.float64), vector_at(s[COMING], s[N_INPUTS], np.int64)
    times, neurons = vector_at(s[TIMES], capacity, np.float64), vector_at(s[NEURONS], capacity, np.int32)
    marks, last = matrix_at(s[MARKS], capacity, 4, np.int32), s[N_WINDOWS] - 1
    while number > 0 and s[RECURRENT]:
        k = number - 1
        soonest = (np.int64(marks[k, MARK_WINDOW]) >> 1) + 1
        if min(max(np.int64((times[k] + f[LONGEST]) * f[PER_LENGTH]), soonest), last) < window:
            break
        if soonest <= last:
            send(dtype, m, times[k], indptr, targets, delays, np.int64(neurons[k]), soonest, windows - 1, last, k, None)
        number -= 1
    while coming > 0:
        k = order[coming - 1]
        if min(np.int64((at[k] + f[LONGEST]) * f[PER_LENGTH]), last) < window:
            break
        soonest = min(np.int64(at[k] * f[PER_LENGTH]), last)
        send(dtype, m, at[k], indptr, targets, delays, np.int64(rows[k]), soonest, windows - 1, last, -1 - k, None)
        coming -= 1
    return number, coming


@compiled
def run_backward(dtype, m, rates):
    """The way back of one run; gives 0, or `INTERRUPTED`."""
    s, f = words_of(m), reals_of(m)
    n, signals = s[N], interrupts()
    info = vector_at(s[INFO], 2, np.int32)
    count, windows = np.int64(info[0]), np.int64(info[1])
    if not begin(dtype, m):
        windows = 0
    begin_back(dtype, m, count)
    asked_at = vector_at(s[ASKED_AT], s[N_QUERIES], np.float64)
    number, coming = count, s[N_COMING]
    s[END_QUERY], states = s[N_QUERIES], np.int64(0)
    if rates is not None:
        s[AFTER], s[KEPT], s[KEPT_FINELY], s[ASIDE] = 0, 0, 0, 0
        begin_rates(dtype, m, count, windows)
    if windows < s[N_WINDOWS]:
        # Queries behind the end of a run that was over before have no answer.
        while s[END_QUERY] > 0 and asked_at[s[END_QUERY] - 1] >= windows * f[LENGTH]:
            s[END_QUERY] -= 1
    for k in range(windows - 1, -1, -1):
        if interrupts() != signals:
            windows = -1
            break
        s[FIRST_QUERY] = s[END_QUERY]
        # On the way forth a query belongs to the first window that ends behind it.
        while s[FIRST_QUERY] > 0 and (k == 0 or asked_at[s[FIRST_QUERY] - 1] >= k * f[LENGTH]):
            s[FIRST_QUERY] -= 1
        number, coming = send_back(dtype, m, k, windows, number, coming)
        if rates is not None:
            # Before the arrivals are sorted: both blocks of words share `STARTS`.
            states = states_of_window(dtype, m, k, windows, count)
        sort_bucket(m, k, True)
        if s[NO_MEMORY]:
            break
        for j in range(n):
            neuron_back(dtype, m, j, k, states, rates)
        s[END_QUERY] = s[FIRST_QUERY]
    adjoints, by = matrix_at(s[ADJOINTS], n, ADJOINT, np.float64), matrix_at(s[BY_NUMBERS], n, NUMBERS, np.float64)
    cells, out = matrix_at(s[CELLS], n, CELL, np.float64), matrix_at(s[BY_GIVEN], NUMBERS, n, dtype)
    for j in range(n):
        back_to(m, j, adjoints[j], 0.0, cells[j, V0], cells[j, I0], rates)
        by[j, V0], by[j, I0] = adjoints[j, LV], adjoints[j, LI]
        for row in range(NUMBERS):
            out[row, j] = by[j, row]
    release_ring(m)
    if rates is not None:
        end_rates(m)
    return INTERRUPTED if windows < 0 else 0
