"""Linear neurons on one clock, backwards: EventProp along the log of the forward run.

The adjoint of V and I, written `lv` and `li`, goes from event to event in reverse. Between events it moves by the
transposed coefficients. At an arrival the weights, the time of the arrival and its delay receive their derivatives. At
a spike it jumps. Arrivals and queries concern all neurons, which go there together, in loops that vectorise. What
concerns one neuron alone, a spike or the end of its refractory time, does not stop the others: such a neuron is
*special* until the next event of all. Its adjoint is kept at the side, with the time up to which it is known, and the
entries in the arrays of all are 0 meanwhile, so that those loops need not know of it. A neuron stays special while it
is refractory.

Nothing is stored on the way but the log: 4 bytes for each event and 28 for each spike.
"""

import numpy as np

from eventsnn.engine.native.block import set_places
from eventsnn.engine.native.clock_rates import keep_states, rates_of_one, rates_of_stretch, states_behind
from eventsnn.engine.native.compiled import compiled, fast
from eventsnn.engine.native.interrupt import INTERRUPTED, interrupts
from eventsnn.engine.native.kinds import (
    ARRIVAL,
    BLOCKS,
    COUPLING,
    DECAY,
    DRIVE,
    FREE,
    HOLDS_I,
    HOLDS_V,
    I0,
    INPUT,
    INSTANT,
    JUMPS,
    LEAK,
    NUMBERS,
    QUERY,
    SPIKE,
    SYNAPSE,
    THRESH,
    TREF,
    V0,
    VRESET,
)
from eventsnn.engine.native.linear import coefficients
from eventsnn.engine.native.sweep import fetch_row, width_of
from eventsnn.engine.native.synapses import back_through_synapse, drives_at_end, time_of
from eventsnn.engine.native.words_back import BACK


@fast
def add_drive(by_drive, lv, low, high, gain):
    """What drives receive from a stretch. This is a loop of its own, since LLVM vectorises none over five arrays."""
    for j in range(low, high):
        by_drive[j] += gain * lv[j]


@fast
def back_through_row(lv, li, weights, by_weights, low, high, keep, feed, fade, r, b):
    """The adjoint back over a stretch to an arrival that acts on I; gives what the time of the arrival receives."""
    total = keep - keep
    for j in range(low, high):
        y = fade * li[j] + feed * lv[j]
        x = keep * lv[j]
        lv[j] = x
        li[j] = y
        by_weights[j] += y
        total += weights[j] * (r * y - b * x)
    return total


@fast
def back(lv, li, by_drive, low, high, keep, feed, fade, gain):
    """The adjoint back over a stretch."""
    for j in range(low, high):
        by_drive[j] += gain * lv[j]
        li[j] = fade * li[j] + feed * lv[j]
        lv[j] = keep * lv[j]


# Instead of a row of the weights.
CHANGE = -2
_NUMBERS, _OF_NEURONS = BACK.span("numbers", "by_numbers"), BACK.span("lv", "groups")
_RECEIVED = BACK.span("received")


@compiled
def set_out_back(run, place):
    """Give every array of the run its place; gives where the memory ends."""
    n = run.n
    for span, count in ((_NUMBERS, NUMBERS * n), (_OF_NEURONS, n + 1), (_RECEIVED, run.capacity)):
        place = set_places(run, span, count, place)
    return place


@compiled
def move_side(run, j, until, v0, i0, rates):
    """The adjoint of a special neuron back to `until`, where its state is `v0` and `i0`."""
    dt = run.side_t[j] - until
    if dt <= 0:
        return
    run.side_t[j] = until
    keep, feed, fade, gain = coefficients(dt, run.numbers[LEAK, j], run.numbers[COUPLING, j], run.numbers[DECAY, j])
    v, i = run.side_v[j], run.side_i[j]
    rests = run.resting[j]
    if rates is not None:
        stands_v, stands_i = rests and (run.kinds[j] & HOLDS_V) != 0, rests and (run.kinds[j] & HOLDS_I) != 0
        rates_of_one(run, j, dt, v0, i0, v, i, stands_v, stands_i)
    if rests:
        # I stands still only where V does.
        if run.kinds[j] & HOLDS_I:
            fade = 1.0
        if run.kinds[j] & HOLDS_V:
            keep, feed, gain = 1.0, 0.0, 0.0
    run.by_numbers[DRIVE, j] += gain * v
    run.side_i[j] = fade * i + feed * v
    run.side_v[j] = keep * v


@compiled
def take_aside(run, j, t):
    """Make a neuron special, if it is not."""
    if run.place[j] < 0:
        run.side_v[j], run.side_i[j] = run.lv[j], run.li[j]
        run.side_t[j] = t
        run.resting[j] = False
        run.lv[j], run.li[j] = 0, 0
        run.place[j] = run.n_special
        run.special[run.n_special] = j
        run.n_special += 1


@compiled
def put_back(run, keep_owed):
    """Special neurons that are not refractory are so no more: all are at the same event now.

    With `keep_owed` those stay special whose spike waits for the arrival that has caused it.
    """
    special, place = run.special, run.place
    resting, owed = run.resting, run.owed
    kept = 0
    for k in range(run.n_special):
        j = special[k]
        if resting[j] or (keep_owed and owed[j] != 0):
            special[kept], place[j] = j, kept
            kept += 1
        else:
            place[j] = -1
            run.lv[j] = run.side_v[j]
            run.li[j] = run.side_i[j]
    run.n_special = kept


@compiled
def back_to_row(run, dt, until, row, place, rates):
    """All neurons back to an arrival through `row`; gives what the time receives.

    With `row` -1 back to any other time, and with `CHANGE` to a change of drives or to an arrival at one synapse.

    The states there are the `place`-th that are known, if `rates` are wanted.
    """
    numbers, groups = run.numbers, run.groups
    lv, li = run.lv, run.li
    by_drive, kinds = run.by_drive, run.kinds
    weights = run.weights[max(row, 0)]
    by_weights = run.by_weights[max(row, 0)]
    total = 0.0
    if rates is not None and dt > 0:
        rates_of_stretch(run, dt, place)
    for g in range(run.n_groups):
        low, high = groups[g], groups[g + 1]
        a, b, r = numbers[LEAK, low], numbers[COUPLING, low], numbers[DECAY, low]
        keep64, feed64, fade64, gain64 = coefficients(dt, a, b, r)
        keep, feed, fade, gain = run.dtype(keep64), run.dtype(feed64), run.dtype(fade64), run.dtype(gain64)
        if row >= 0 and not run.any_jumps:
            add_drive(by_drive, lv, low, high, gain)
            total += back_through_row(
                lv, li, weights, by_weights, low, high, keep, feed, fade, run.dtype(r), run.dtype(b)
            )
        elif dt > 0:
            back(lv, li, by_drive, low, high, keep, feed, fade, gain)
        if row >= 0 and run.any_jumps:
            for j in range(low, high):
                if kinds[j] & JUMPS:
                    by_weights[j] += lv[j]
                    total += weights[j] * a * lv[j]
                else:
                    by_weights[j] += li[j]
                    total += weights[j] * (r * li[j] - b * lv[j])
    if run.n_special > 0:
        total += special_to_row(run, until, row, place, rates)
    return total


@compiled
def special_to_row(run, until, row, place, rates):
    """The same for those that are special."""
    numbers, kinds = run.numbers, run.kinds
    special, resting = run.special, run.resting
    side_v, side_i = run.side_v, run.side_i
    owed, owed_at = run.owed, run.owed_at
    eps, total = run.eps, 0.0
    for k in range(run.n_special):
        j = special[k]
        v0, i0 = 0.0, 0.0
        if rates is not None:
            past = run.past
            v0, i0 = past[2 * place, j], past[2 * place + 1, j]
        move_side(run, j, until, v0, i0, rates)
        if row < 0:
            continue
        weight = np.float64(run.weights[row, j])
        a, b, r, x, y = numbers[LEAK, j], numbers[COUPLING, j], numbers[DECAY, j], side_v[j], side_i[j]
        if owed[j] != 0 and weight != 0 and owed_at[j] - until <= 2 * width_of(owed_at[j], eps):
            # This arrival has lifted the neuron over its threshold.
            total += owed[j]
            owed[j] = 0
        if resting[j] and kinds[j] & BLOCKS:
            continue
        stands = resting[j] and kinds[j] & HOLDS_V
        if kinds[j] & JUMPS:
            if not stands:
                run.by_weights[row, j] += x
                total += weight * a * x
        elif not (resting[j] and kinds[j] & HOLDS_I):
            run.by_weights[row, j] += y
            total += weight * (r * y - (0.0 if stands else b * x))
    # Such an event may lie between an arrival and the spike that this has caused at the same instant.
    put_back(run, row == CHANGE)
    return total


@compiled
def back_through_change(run, row):
    """A change of the drives of neurons, all of which are there; gives what its time receives."""
    changes, by_changes = run.weights[row], run.by_weights[row]
    numbers, by_numbers, by_drive = run.numbers, run.by_numbers, run.by_drive
    lv, side_v, place = run.lv, run.side_v, run.place
    resting, kinds = run.resting, run.kinds
    total = 0.0
    for j in range(run.n):
        # What drives have received so far is what they receive from here on.
        by_changes[j] += by_drive[j] + by_numbers[DRIVE, j]
        change = np.float64(changes[j])
        numbers[DRIVE, j] -= change
        if place[j] < 0:
            total -= change * lv[j]
        elif not (resting[j] and kinds[j] & HOLDS_V):
            total -= change * side_v[j]
    return total


@compiled
def back_through_spike(run, number, at_once, min_slope):
    """The jump of the adjoint at a spike, whose neuron is special by now."""
    j = np.int64(run.neurons[number])
    current = run.currents[number]
    drive = run.numbers[COUPLING, j] * current + run.numbers[DRIVE, j]
    received = run.received[number]
    if not (run.resting[j] and run.kinds[j] & HOLDS_V):
        received -= run.side_v[j] * (drive - run.numbers[LEAK, j] * run.numbers[VRESET, j])
    if run.resting[j] and run.kinds[j] & HOLDS_I:
        received -= run.side_i[j] * run.numbers[DECAY, j] * current
    run.by_numbers[VRESET, j] += run.side_v[j]
    if at_once:
        run.owed[j], run.owed_at[j] = received, run.times[number]
        run.side_v[j] = 0
    else:
        slope = drive - run.numbers[LEAK, j] * run.numbers[THRESH, j]
        if abs(slope) < min_slope:
            slope = min_slope if slope >= 0 else -min_slope
        run.side_v[j] = -received / slope
        run.by_numbers[THRESH, j] += received / slope
    run.resting[j] = False


@compiled
def back_into_rest(run, number, t):
    """The end of a refractory time, from behind: from here on the neuron rests."""
    j = np.int64(run.neurons[number])
    current = run.free_currents[number]
    x, y = run.side_v[j], run.side_i[j]
    got = run.owed[j]
    run.owed[j] = 0
    if run.kinds[j] & HOLDS_V:
        got -= x * (
            run.numbers[COUPLING, j] * current + run.numbers[DRIVE, j] - run.numbers[LEAK, j] * run.numbers[VRESET, j]
        )
    if run.kinds[j] & HOLDS_I:
        got += y * run.numbers[DECAY, j] * current
    run.received[number] += got
    run.by_numbers[TREF, j] += got
    run.resting[j] = True
    run.rests_since[j] = number


@compiled
def take_answers(run, q):
    """What the states at the q-th query receive."""
    n, channels = run.n, run.channels
    lv, li, place = run.lv, run.li, run.place
    side_v, side_i = run.side_v, run.side_i
    by_states = run.ct_states
    rests_since, received = run.rests_since, run.received
    by_numbers, resting = run.by_numbers, run.resting
    for j in range(n):
        # Neurons come first in `by_states`, then queries, then channels.
        answer = (j * run.n_queries + q) * channels
        if channels > 2 and place[j] >= 0 and resting[j]:
            # What is left of a refractory time grows with the time of its spike.
            received[rests_since[j]] += by_states[answer + 2]
            by_numbers[TREF, j] += by_states[answer + 2]
        by_v = by_states[answer]
        by_i = by_states[answer + 1] if channels > 1 else run.dtype(0)
        if place[j] < 0:
            lv[j] += by_v
            li[j] += by_i
        else:
            side_v[j] += by_v
            side_i[j] += by_i


@compiled
def fetch_rows_of(run, entry):
    """Ask for the rows of weights and of their derivatives that an entry of the log needs, if it is an arrival."""
    kind, number = entry & 7, entry >> 3
    if kind == INPUT or kind == ARRIVAL:
        row = np.int64(run.arrival_rows[number] if kind == INPUT else run.neurons[number])
        fetch_row(run, run.weights, row)
        fetch_row(run, run.by_weights, row)


@compiled
def begin_back(run):
    """Everything as it is at the end of the run."""
    n, count = run.n, np.int64(run.info[0])
    given, numbers = run.given, run.numbers
    by, groups = run.by_numbers, run.groups
    lv, li, by_drive = run.lv, run.li, run.by_drive
    place, owed = run.place, run.owed
    kinds, by_arrivals = run.kinds, run.by_arrivals
    by_delays = run.by_delays
    run.any_jumps, run.n_special, run.n_groups = 0, 0, 0
    for j in range(n):
        for row in range(NUMBERS):
            numbers[row, j], by[row, j] = given[row, j], 0
        lv[j], li[j], by_drive[j], place[j], owed[j] = 0, 0, 0, -1, 0
        if kinds[j] & JUMPS:
            run.any_jumps = 1
        same = j > 0
        for row in range(DECAY + 1):
            same = same and numbers[row, j] == numbers[row, j - 1]
        if not same:
            groups[run.n_groups] = j
            run.n_groups += 1
    groups[run.n_groups] = n
    for k in range(run.n_arrivals):
        by_arrivals[k] = 0
    for k in range(run.rows):
        by_delays[k] = 0
    received, by_times = run.received, run.ct_times
    for k in range(count):
        received[k] = by_times[k]
    log, rows, weights = run.log, run.arrival_rows, run.weights
    for entry in range(np.int64(run.info[1]) if run.first_change < run.rows else 0):
        if np.int64(log[entry]) & 7 == INPUT:
            row = np.int64(rows[np.int64(log[entry]) >> 3])
            for j in range(n if row >= run.first_change else 0):
                numbers[DRIVE, j] += weights[row, j]


@compiled
def run_backward(run, rates, by_synapse):
    """The way back of one run; gives 0, or `INTERRUPTED`. Without `rates`, which are `None` then, these receive 0."""
    n = run.n
    begin_back(run)
    if by_synapse is not None:
        drives_at_end(run)
    log = run.log
    arrival_times, rows = run.arrival_times, run.arrival_rows
    times, neurons = run.times, run.neurons
    delays, queries = run.delays, run.queries
    numbers, received = run.numbers, run.received
    by_arrivals, by_delays = run.by_arrivals, run.by_delays
    kinds, free_currents = run.kinds, run.free_currents
    currents = run.currents
    which, begins, place = np.int64(0), np.int64(0), np.int64(0)
    if rates is not None:
        keep_states(run, by_synapse)
        which = run.n_kept
        begins = np.int64(run.info[1])
    t, min_slope, signals = 2 * np.float64(run.ends[0]), np.float64(run.ends[1]), interrupts()
    for entry in range(np.int64(run.info[1]) - 1, -1, -1):
        if interrupts() != signals:
            return INTERRUPTED
        if rates is not None:
            while entry < begins:
                which -= 1
                begins = states_behind(run, which, begins, by_synapse)
                place = 0
                for other in range(begins, entry + 1):
                    what = np.int64(log[other]) & 7
                    place += 1 if what <= ARRIVAL or what == QUERY or what == SYNAPSE else 0
        kind, number = np.int64(log[entry]) & 7, np.int64(log[entry]) >> 3
        if kind == SPIKE or kind == INSTANT or kind == FREE:
            j = np.int64(neurons[number])
            te = times[number] + (numbers[TREF, j] if kind == FREE else 0.0)
            take_aside(run, j, t)
            if kind != FREE:
                move_side(run, j, te, numbers[VRESET, j], currents[number], rates)
            elif kinds[j] & HOLDS_V:
                move_side(run, j, te, numbers[VRESET, j], free_currents[number], rates)
            if kind == FREE:
                back_into_rest(run, number, te)
            else:
                back_through_spike(run, number, kind == INSTANT, min_slope)
            continue
        if kind == QUERY:
            te, row = np.float64(queries[number]), np.int64(-1)
        elif by_synapse is not None:
            te, row = time_of(run, run.through[number]), np.int64(CHANGE)
        elif kind == INPUT:
            row = np.int64(rows[number])
            te = np.float64(arrival_times[number]) + np.float64(delays[row])
        else:
            row = np.int64(neurons[number])
            te = times[number] + np.float64(delays[row])
        te = min(te, t)
        if by_synapse is None and entry > 0:
            fetch_rows_of(run, np.int64(log[entry - 1]))
        changes = row >= run.first_change
        got = back_to_row(run, t - te, te, CHANGE if changes else row, place, rates)
        if changes:
            got = back_through_change(run, row)
        t = te
        place -= 1
        if kind == QUERY:
            take_answers(run, number)
        elif by_synapse is not None:
            back_through_synapse(run, run.through[number], te)
        else:
            by_delays[row] += got
            if kind == INPUT:
                by_arrivals[number] = got
            else:
                received[number] += got
    back_to_row(run, t, 0.0, -1, 0, rates)
    by, out = run.by_numbers, run.by_given
    lv, li, by_drive = run.lv, run.li, run.by_drive
    for j in range(n):
        by[V0, j], by[I0, j] = lv[j], li[j]
        by[DRIVE, j] += by_drive[j]
        if rates is not None:
            for row in range(DECAY + 1):
                by[row, j] = run.by_rates[row, j]
        for row in range(NUMBERS):
            out[row, j] = by[row, j]
    return 0
