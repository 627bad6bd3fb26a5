"""Linear systems on one clock, backwards: EventProp along the log, as `clock_back.py`, for several channels.

The adjoint l goes from event to event in reverse. Between events it moves by the transposed exponential of the matrix.
The time of a spike, with the velocities v before and w after it, receives R v - w times l, besides what it has received
from elsewhere. The adjoint before the spike is l through R transposed, less that sum over the slope of the condition,
times h. Neurons that spike, or rest, are *special* until the next event of all, as in `clock_back.py`. Adjoints are in
float64.
"""

import numpy as np

from eventsnn.engine.native.block import set_places
from eventsnn.engine.native.compiled import compiled, fast
from eventsnn.engine.native.crossings import exponentials_of, find_velocity
from eventsnn.engine.native.interrupt import INTERRUPTED, interrupts
from eventsnn.engine.native.kinds import BLOCKS, FREE, INPUT, INSTANT, QUERY, SPIKE
from eventsnn.engine.native.matrices import exchange, load, part, places_of_small, reset
from eventsnn.engine.native.sweep import width_of
from eventsnn.engine.native.systems_rates import (
    event_of,
    keep_states,
    rates_of_one,
    rates_of_stretch,
    states_before,
    states_behind,
)
from eventsnn.engine.native.systems_sweep import add, add_product, assign, combine, find_groups
from eventsnn.engine.native.systems_words import EXP, HELD, MATRIX, MOST, PHI, SYSTEMS_BACK

_NUMBERS, _CHANNELS = SYSTEMS_BACK.span("numbers", "by_numbers"), SYSTEMS_BACK.span("adjoint", "turned")
_OF_NEURONS, _SIDE = SYSTEMS_BACK.span("offset", "group_of"), SYSTEMS_BACK.span("side")
_RECEIVED = SYSTEMS_BACK.span("received")
_set_out_small = places_of_small(SYSTEMS_BACK)
_go_back = exchange(SYSTEMS_BACK, "adjoint", "new_adjoint")


@compiled
def set_out_back(run, place):
    """Give every array of the run its place; gives where the memory ends."""
    n = run.n
    for span, count in (
        (_NUMBERS, run.numbers_rows * n), (_CHANNELS, run.size * n), (_OF_NEURONS, n + 1), (_SIDE, run.size * n),
        (_RECEIVED, run.capacity),
    ):  # fmt: skip
        place = set_places(run, span, count, place)
    return _set_out_small(run, place)


@fast
def weighed(adjoint, turned, weights, n):
    """The sum of products of three."""
    total = 0.0
    for j in range(n):
        total += adjoint[j] * turned[j] * weights[j]
    return total


@compiled
def _transpose(out, entries):
    for k in range(MATRIX):
        out[k] = entries[MOST * (k % MOST) + k // MOST]


@compiled
def move_side(run, j, until, rates):
    """The adjoint of a special neuron back to `until`, where its state is `run.y`, if `rates`."""
    dt = run.side_t[j] - until
    if dt <= 0:
        return
    run.side_t[j] = until
    rests, size, side, by = run.resting[j] != 0, run.size, run.side, run.by_numbers
    most = 0.0
    for k in range(size):
        most = max(most, abs(side[j, k]))
    if most == 0:
        # After the last spike that matters nothing has been received yet.
        return
    load(run, j, rests)
    if rates is not None:
        rates_of_one(run, j, dt, rests)
    row, out = exponentials_of(run, dt), run.y_end
    held = run.kinds[j] // HELD if rests else 0
    for k in range(size):
        total, by_drive = 0.0, 0.0
        for m in range(size):
            total += row[EXP + MOST * m + k] * side[j, m]
            by_drive += row[PHI + MOST * m + k] * side[j, m]
        out[k] = total
        if not held >> k & 1:
            by[run.at_c + k, j] += by_drive
    for k in range(size):
        side[j, k] = out[k]


@compiled
def take_aside(run, j, t):
    """Make a neuron special, if it is not."""
    if run.place[j] < 0:
        for k in range(run.size):
            run.side[j, k] = run.adjoint[k, j]
            run.adjoint[k, j] = 0
        run.side_t[j] = t
        run.resting[j] = False
        run.place[j] = run.n_special
        run.special[run.n_special] = j
        run.n_special += 1


@compiled
def put_back(run):
    """Special neurons that are not refractory are so no more: all are at the same event now."""
    special, place, kept = run.special, run.place, 0
    for k in range(run.n_special):
        j = special[k]
        if run.resting[j]:
            special[kept], place[j] = j, kept
            kept += 1
        else:
            place[j] = -1
            for channel in range(run.size):
                run.adjoint[channel, j] = run.side[j, channel]
    run.n_special = kept


@compiled
def back_to_row(run, dt, until, row, place, rates):
    """All neurons back to an arrival through `row`, or with `row` -1 to any other time; gives what the time receives.

    The states there are the `place`-th that are known, if `rates` are wanted.
    """
    n, size, groups, by, total = run.n, run.size, run.groups, run.by_numbers, 0.0
    if dt > 0:
        if rates is not None:
            rates_of_stretch(run, dt, place)
        adjoint, moved, entries = run.adjoint, run.new_adjoint, run.spare_1
        for g in range(run.n_groups):
            low, high = groups[g], groups[g + 1]
            load(run, low, False)
            row_of_group = exponentials_of(run, dt)
            _transpose(entries, part(row_of_group, PHI))
            for k in range(size):
                combine(run, by[run.at_c + k], part(entries, MOST * k), adjoint, low, high, True)
            _transpose(entries, part(row_of_group, EXP))
            for k in range(size):
                if not combine(run, moved[k], part(entries, MOST * k), adjoint, low, high, False):
                    assign(moved[k], adjoint[k], 0.0, low, high)
        _go_back(run)
    if row >= 0:
        adjoint, weights = run.adjoint, run.weights[row]
        for k in range(size):
            if run.reached >> k & 1:
                add_product(run.by_weights[row], adjoint[k], run.numbers[run.at_into + k], n)
            add_product(by[run.at_into + k], adjoint[k], weights, n)
            total -= weighed(adjoint[k], run.turned[k], weights, n)
    if run.n_special > 0:
        total += special_to_row(run, until, row, place, rates)
    return total


@compiled
def special_to_row(run, until, row, place, rates):
    """The same for those that are special."""
    size, side, numbers, by, total = run.size, run.side, run.numbers, run.by_numbers, 0.0
    owed, owed_at, v = run.owed, run.owed_at, run.y_end
    for which in range(run.n_special):
        j = run.special[which]
        rests = run.resting[j] != 0
        if rates is not None:
            for k in range(size):
                run.y[k] = run.past[size * place + k, j]
        move_side(run, j, until, rates)
        if row < 0:
            continue
        weight = np.float64(run.weights[row, j])
        if owed[j] != 0 and weight != 0 and owed_at[j] - until <= 2 * width_of(owed_at[j], run.eps):
            # This arrival has lifted the neuron over its threshold.
            total += owed[j]
            owed[j] = 0
        if rests and run.kinds[j] & BLOCKS:
            continue
        held = run.kinds[j] // HELD if rests else 0
        by_weight = 0.0
        for k in range(MOST):
            v[k] = numbers[run.at_into + k, j] if k < size and not held >> k & 1 else 0.0
        for k in range(size):
            if not held >> k & 1:
                by_weight += side[j, k] * v[k]
                by[run.at_into + k, j] += side[j, k] * weight
                for m in range(size):
                    total -= weight * side[j, k] * numbers[k * size + m, j] * v[m]
        run.by_weights[row, j] += by_weight
    put_back(run)
    return total


@compiled
def back_through_spike(run, number, at_once, min_slope):
    """The jump of the adjoint at a spike, whose neuron is special by now."""
    j, size, numbers, by, side = np.int64(run.neurons[number]), run.size, run.numbers, run.by_numbers, run.side
    y, before, after = run.y, run.terms, part(run.terms, MOST)
    held = run.kinds[j] // HELD if run.resting[j] else 0
    load(run, j, False)
    for k in range(MOST):
        y[k] = run.at_spikes[number, k] if k < size else 0.0
    find_velocity(run, y, before)
    reset(run, j)
    find_velocity(run, y, after)
    received, slope = run.received[number], 0.0
    for k in range(size):
        slope += run.h[k] * before[k]
        if not held >> k & 1:
            received -= side[j, k] * after[k]
        by[run.at_rho + k, j] += side[j, k]
        for m in range(size):
            received += side[j, k] * numbers[run.at_r + k * size + m, j] * before[m]
            by[run.at_r + k * size + m, j] += side[j, k] * run.at_spikes[number, m]
    for m in range(size):
        total = 0.0
        for k in range(size):
            total += numbers[run.at_r + k * size + m, j] * side[j, k]
        after[m] = total
    share = 0.0
    if at_once:
        run.owed[j], run.owed_at[j] = received, run.times[number]
    else:
        if abs(slope) < min_slope:
            slope = min_slope if slope >= 0 else -min_slope
        share = received / slope
    by[run.at_h0, j] -= share
    for m in range(size):
        by[run.at_h + m, j] -= share * run.at_spikes[number, m]
        side[j, m] = after[m] - share * run.h[m]
    run.resting[j] = False


@compiled
def back_into_rest(run, number, t):
    """The end of a refractory time, from behind: from here on the neuron rests."""
    j, size, v = np.int64(run.neurons[number]), run.size, run.terms
    held, got = run.kinds[j] // HELD, run.owed[j]
    run.owed[j] = 0
    load(run, j, False)
    find_velocity(run, run.y, v)
    for k in range(size):
        if held >> k & 1:
            got -= run.side[j, k] * v[k]
    run.received[number] += got
    run.by_numbers[run.at_tref, j] += got
    run.resting[j] = True
    run.rests_since[j] = number


@compiled
def back_through_own(run, entry, t, min_slope, rates):
    """A spike or the end of a refractory time, which concern one neuron."""
    kind, number = np.int64(run.log[entry]) & 7, np.int64(run.log[entry]) >> 3
    j, y, tref = np.int64(run.neurons[number]), run.y, run.numbers[run.at_tref, np.int64(run.neurons[number])]
    te = run.times[number] + (tref if kind == FREE else 0.0)
    take_aside(run, j, t)
    for k in range(MOST):
        y[k] = 0.0
        if k < run.size:
            y[k] = run.at_free[number, k] if kind == FREE else run.at_spikes[number, k]
    if kind == FREE:
        if run.kinds[j] >= HELD:
            move_side(run, j, te, rates)
        back_into_rest(run, number, te)
    else:
        reset(run, j)
        move_side(run, j, te, rates)
        back_through_spike(run, number, kind == INSTANT, min_slope)


@compiled
def take_answers(run, q):
    """What the states at the q-th query receive."""
    n, size, columns, by_states = run.n, run.size, run.columns, run.ct_states
    for j in range(n):
        # Neurons come first in `by_states`, then queries, then channels.
        answer = (j * run.n_queries + q) * columns
        if columns > size and run.place[j] >= 0 and run.resting[j]:
            # What is left of a refractory time grows with the time of its spike.
            run.received[run.rests_since[j]] += by_states[answer + size]
            run.by_numbers[run.at_tref, j] += by_states[answer + size]
        for k in range(size):
            if run.place[j] < 0:
                run.adjoint[k, j] += by_states[answer + k]
            else:
                run.side[j, k] += by_states[answer + k]


@compiled
def begin_back(run):
    """Everything as it is at the end of the run."""
    n, size, numbers, by = run.n, run.size, run.numbers, run.by_numbers
    run.n_special, run.driven, run.reached = 0, 0, 0
    for row in range(run.numbers_rows):
        for j in range(n):
            numbers[row, j], by[row, j] = run.given[row, j], 0
    for j in range(n):
        run.place[j], run.owed[j], run.offset[j] = -1, 0, numbers[run.at_h0, j]
        for k in range(size):
            run.adjoint[k, j] = 0
            total = 0.0
            for m in range(size):
                total += numbers[k * size + m, j] * numbers[run.at_into + m, j]
            run.turned[k, j] = total
            run.driven |= (1 << k) if numbers[run.at_c + k, j] != 0 else 0
            run.reached |= (1 << k) if numbers[run.at_into + k, j] != 0 else 0
    find_groups(run)
    for k in range(run.n_arrivals):
        run.by_arrivals[k] = 0
    for k in range(run.rows):
        run.by_delays[k] = 0
    for k in range(np.int64(run.info[0])):
        run.received[k] = run.ct_times[k]


@compiled
def run_backward(run, rates):
    """The way back of one run; gives 0, or `INTERRUPTED`. Without `rates`, which are `None` then, these receive 0."""
    begin_back(run)
    log = run.log
    which, begins, place = np.int64(0), np.int64(0), np.int64(0)
    if rates is not None:
        keep_states(run)
        which = run.n_kept
        begins = np.int64(run.info[1])
    # The end of a refractory time may be after the end of the run.
    t, min_slope, signals = 2 * np.float64(run.ends[0]), np.float64(run.ends[1]), interrupts()
    live = False
    for entry in range(np.int64(run.info[1]) - 1, -1, -1):
        if interrupts() != signals:
            return INTERRUPTED
        if rates is not None:
            while entry < begins:
                which -= 1
                begins = states_behind(run, which, begins)
                place = states_before(run, begins, entry)
        kind, number = np.int64(log[entry]) & 7, np.int64(log[entry]) >> 3
        if kind == SPIKE or kind == INSTANT or kind == FREE:
            back_through_own(run, entry, t, min_slope, rates)
            continue
        te, row = event_of(run, entry)
        te = min(te, t)
        # After the last event of all there is nothing to move.
        got = back_to_row(run, t - te if live else 0.0, te, row, place, rates)
        t, live = te, True
        place -= 1
        if kind == QUERY:
            take_answers(run, number)
        else:
            run.by_delays[row] += got
            if kind == INPUT:
                run.by_arrivals[number] = got
            else:
                run.received[number] += got
    back_to_row(run, t if live else 0.0, 0.0, -1, 0, rates)
    by, out = run.by_numbers, run.by_given
    for k in range(run.size):
        add(by[run.at_y0 + k], run.adjoint[k], 1.0, 0, run.n)
    for row in range(run.numbers_rows):
        for j in range(run.n):
            out[row, j] = by[row, j]
    return 0
