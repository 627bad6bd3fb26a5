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
    THRESH,
    TREF,
    V0,
    VRESET,
)
from eventsnn.engine.native.linear import coefficients
from eventsnn.engine.native.scratch import matrix_at, room, vector_at
from eventsnn.engine.native.sweep import width_of
from eventsnn.engine.native.words_back import (
    ANY_JUMPS,
    ARRIVAL_ROWS,
    ARRIVAL_TIMES,
    BY_ARRIVALS,
    BY_DELAYS,
    BY_DRIVE,
    BY_GIVEN,
    BY_NUMBERS,
    BY_RATES,
    BY_WEIGHTS,
    CAPACITY,
    CHANNELS,
    COEFS,
    CT_STATES,
    CT_TIMES,
    CURRENTS,
    DELAYS,
    ENDS,
    FREE_CURRENTS,
    GIVEN,
    GROUPS,
    INFO,
    KINDS,
    LI,
    LOG,
    LV,
    N_ARRIVALS,
    N_GROUPS,
    N_KEPT,
    N_QUERIES,
    N_SPECIAL,
    NEURONS,
    NUMBERS_AT,
    OWED,
    OWED_AT,
    PAST_V,
    PLACE,
    QUERIES,
    RECEIVED,
    RESTING,
    RESTS_SINCE,
    ROWS,
    SIDE_I,
    SIDE_T,
    SIDE_V,
    SPECIAL,
    TIMES,
    WEIGHTS,
    WORDS,
    N,
)


@fast
def add_drive(by_drive, lv, gain):
    """What drives receive from a stretch. This is a loop of its own, since LLVM vectorises none over five arrays."""
    for j in range(lv.shape[0]):
        by_drive[j] += gain * lv[j]


@fast
def back_through_row(lv, li, weights, by_weights, keep, feed, fade, r, b):
    """The adjoint back over a stretch to an arrival that acts on I; gives what the time of the arrival receives."""
    total = keep - keep
    for j in range(lv.shape[0]):
        y = fade * li[j] + feed * lv[j]
        x = keep * lv[j]
        lv[j] = x
        li[j] = y
        by_weights[j] += y
        total += weights[j] * (r * y - b * x)
    return total


@fast
def back(lv, li, by_drive, keep, feed, fade, gain):
    """The adjoint back over a stretch."""
    for j in range(lv.shape[0]):
        by_drive[j] += gain * lv[j]
        li[j] = fade * li[j] + feed * lv[j]
        lv[j] = keep * lv[j]


@compiled
def set_out_back(m, place):
    """Give every array of the run its place; gives where the memory ends."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    for word in range(NUMBERS_AT, RECEIVED + 1):
        s[word] = place
        if word <= BY_NUMBERS:
            place += room(NUMBERS * n)
        else:
            place += room(4 * n if word == COEFS else s[CAPACITY] if word == RECEIVED else n + 1)
    return place


@compiled
def move_side(m, j, until, v0, i0, rates):
    """The adjoint of a special neuron back to `until`, where its state is `v0` and `i0`."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    numbers, by = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64), matrix_at(s[BY_NUMBERS], NUMBERS, n, np.float64)
    side_v, side_i = vector_at(s[SIDE_V], n, np.float64), vector_at(s[SIDE_I], n, np.float64)
    side_t, kinds = vector_at(s[SIDE_T], n, np.float64), vector_at(s[KINDS], n, np.int32)
    dt = side_t[j] - until
    if dt <= 0:
        return
    side_t[j] = until
    keep, feed, fade, gain = coefficients(dt, numbers[LEAK, j], numbers[COUPLING, j], numbers[DECAY, j])
    v, i = side_v[j], side_i[j]
    rests = vector_at(s[RESTING], n, np.bool_)[j]
    if rates is not None:
        stands_v, stands_i = rests and (kinds[j] & HOLDS_V) != 0, rests and (kinds[j] & HOLDS_I) != 0
        rates_of_one(m, j, dt, v0, i0, v, i, stands_v, stands_i)
    if rests:
        # I stands still only where V does.
        if kinds[j] & HOLDS_I:
            fade = 1.0
        if kinds[j] & HOLDS_V:
            keep, feed, gain = 1.0, 0.0, 0.0
    by[DRIVE, j] += gain * v
    side_i[j] = fade * i + feed * v
    side_v[j] = keep * v


@compiled
def take_aside(dtype, m, j, t):
    """Make a neuron special, if it is not."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    place = vector_at(s[PLACE], n, np.int64)
    if place[j] < 0:
        lv, li = vector_at(s[LV], n, dtype), vector_at(s[LI], n, dtype)
        vector_at(s[SIDE_V], n, np.float64)[j], vector_at(s[SIDE_I], n, np.float64)[j] = lv[j], li[j]
        vector_at(s[SIDE_T], n, np.float64)[j] = t
        vector_at(s[RESTING], n, np.bool_)[j] = False
        lv[j], li[j] = 0, 0
        place[j] = s[N_SPECIAL]
        vector_at(s[SPECIAL], n, np.int64)[s[N_SPECIAL]] = j
        s[N_SPECIAL] += 1


@compiled
def put_back(dtype, m):
    """Special neurons that are not refractory are so no more: all are at the same event now."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    special, place = vector_at(s[SPECIAL], n, np.int64), vector_at(s[PLACE], n, np.int64)
    resting = vector_at(s[RESTING], n, np.bool_)
    kept = 0
    for k in range(s[N_SPECIAL]):
        j = special[k]
        if resting[j]:
            special[kept], place[j] = j, kept
            kept += 1
        else:
            place[j] = -1
            vector_at(s[LV], n, dtype)[j] = vector_at(s[SIDE_V], n, np.float64)[j]
            vector_at(s[LI], n, dtype)[j] = vector_at(s[SIDE_I], n, np.float64)[j]
    s[N_SPECIAL] = kept


@compiled
def back_to_row(dtype, m, dt, until, row, place, rates):
    """All neurons back to an arrival through `row`, or with `row` -1 to any other time; gives what the time receives.

    The states there are the `place`-th that are known, if `rates` are wanted.
    """
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    numbers, groups = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64), vector_at(s[GROUPS], n + 1, np.int64)
    lv, li = vector_at(s[LV], n, dtype), vector_at(s[LI], n, dtype)
    by_drive, kinds = vector_at(s[BY_DRIVE], n, dtype), vector_at(s[KINDS], n, np.int32)
    weights = matrix_at(s[WEIGHTS], s[ROWS], n, dtype)[max(row, 0)]
    by_weights = matrix_at(s[BY_WEIGHTS], s[ROWS], n, dtype)[max(row, 0)]
    total = 0.0
    if rates is not None and dt > 0:
        rates_of_stretch(dtype, m, dt, place)
    for g in range(s[N_GROUPS]):
        low, high = groups[g], groups[g + 1]
        a, b, r = numbers[LEAK, low], numbers[COUPLING, low], numbers[DECAY, low]
        keep64, feed64, fade64, gain64 = coefficients(dt, a, b, r)
        keep, feed, fade, gain = dtype(keep64), dtype(feed64), dtype(fade64), dtype(gain64)
        if row >= 0 and not s[ANY_JUMPS]:
            add_drive(by_drive[low:high], lv[low:high], gain)
            total += back_through_row(
                lv[low:high], li[low:high], weights[low:high], by_weights[low:high], keep, feed, fade, dtype(r),
                dtype(b),
            )  # fmt: skip
        elif dt > 0:
            back(lv[low:high], li[low:high], by_drive[low:high], keep, feed, fade, gain)
        if row >= 0 and s[ANY_JUMPS]:
            for j in range(low, high):
                if kinds[j] & JUMPS:
                    by_weights[j] += lv[j]
                    total += weights[j] * a * lv[j]
                else:
                    by_weights[j] += li[j]
                    total += weights[j] * (r * li[j] - b * lv[j])
    if s[N_SPECIAL] > 0:
        total += special_to_row(dtype, m, until, row, place, rates)
    return total


@compiled
def special_to_row(dtype, m, until, row, place, rates):
    """The same for those that are special."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    numbers, kinds = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64), vector_at(s[KINDS], n, np.int32)
    special, resting = vector_at(s[SPECIAL], n, np.int64), vector_at(s[RESTING], n, np.bool_)
    side_v, side_i = vector_at(s[SIDE_V], n, np.float64), vector_at(s[SIDE_I], n, np.float64)
    owed, owed_at = vector_at(s[OWED], n, np.float64), vector_at(s[OWED_AT], n, np.float64)
    eps, total = np.float64(np.finfo(dtype).eps), 0.0
    for k in range(s[N_SPECIAL]):
        j = special[k]
        v0, i0 = 0.0, 0.0
        if rates is not None:
            past = matrix_at(s[PAST_V], 2 * place + 2, n, np.float64)
            v0, i0 = past[2 * place, j], past[2 * place + 1, j]
        move_side(m, j, until, v0, i0, rates)
        if row < 0:
            continue
        weight = np.float64(matrix_at(s[WEIGHTS], s[ROWS], n, dtype)[row, j])
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
                matrix_at(s[BY_WEIGHTS], s[ROWS], n, dtype)[row, j] += x
                total += weight * a * x
        elif not (resting[j] and kinds[j] & HOLDS_I):
            matrix_at(s[BY_WEIGHTS], s[ROWS], n, dtype)[row, j] += y
            total += weight * (r * y - (0.0 if stands else b * x))
    put_back(dtype, m)
    return total


@compiled
def back_through_spike(dtype, m, number, at_once, min_slope):
    """The jump of the adjoint at a spike, whose neuron is special by now."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    numbers, by = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64), matrix_at(s[BY_NUMBERS], NUMBERS, n, np.float64)
    side_v, side_i = vector_at(s[SIDE_V], n, np.float64), vector_at(s[SIDE_I], n, np.float64)
    resting, kinds = vector_at(s[RESTING], n, np.bool_), vector_at(s[KINDS], n, np.int32)
    j = np.int64(vector_at(s[NEURONS], s[CAPACITY], np.int32)[number])
    current = vector_at(s[CURRENTS], s[CAPACITY], np.float64)[number]
    drive = numbers[COUPLING, j] * current + numbers[DRIVE, j]
    received = vector_at(s[RECEIVED], s[CAPACITY], np.float64)[number]
    if not (resting[j] and kinds[j] & HOLDS_V):
        received -= side_v[j] * (drive - numbers[LEAK, j] * numbers[VRESET, j])
    if resting[j] and kinds[j] & HOLDS_I:
        received -= side_i[j] * numbers[DECAY, j] * current
    by[VRESET, j] += side_v[j]
    if at_once:
        owed, owed_at = vector_at(s[OWED], n, np.float64), vector_at(s[OWED_AT], n, np.float64)
        owed[j], owed_at[j] = received, vector_at(s[TIMES], s[CAPACITY], np.float64)[number]
        side_v[j] = 0
    else:
        slope = drive - numbers[LEAK, j] * numbers[THRESH, j]
        if abs(slope) < min_slope:
            slope = min_slope if slope >= 0 else -min_slope
        side_v[j] = -received / slope
        by[THRESH, j] += received / slope
    resting[j] = False


@compiled
def back_into_rest(dtype, m, number, t):
    """The end of a refractory time, from behind: from here on the neuron rests."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    numbers, by = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64), matrix_at(s[BY_NUMBERS], NUMBERS, n, np.float64)
    kinds, owed = vector_at(s[KINDS], n, np.int32), vector_at(s[OWED], n, np.float64)
    j = np.int64(vector_at(s[NEURONS], s[CAPACITY], np.int32)[number])
    current = vector_at(s[FREE_CURRENTS], s[CAPACITY], np.float64)[number]
    x, y = vector_at(s[SIDE_V], n, np.float64)[j], vector_at(s[SIDE_I], n, np.float64)[j]
    got = owed[j]
    owed[j] = 0
    if kinds[j] & HOLDS_V:
        got -= x * (numbers[COUPLING, j] * current + numbers[DRIVE, j] - numbers[LEAK, j] * numbers[VRESET, j])
    if kinds[j] & HOLDS_I:
        got += y * numbers[DECAY, j] * current
    vector_at(s[RECEIVED], s[CAPACITY], np.float64)[number] += got
    by[TREF, j] += got
    vector_at(s[RESTING], n, np.bool_)[j] = True
    vector_at(s[RESTS_SINCE], n, np.int64)[j] = number


@compiled
def take_answers(dtype, m, q):
    """What the states at the q-th query receive."""
    s = vector_at(m, WORDS, np.int64)
    n, channels = s[N], s[CHANNELS]
    lv, li, place = vector_at(s[LV], n, dtype), vector_at(s[LI], n, dtype), vector_at(s[PLACE], n, np.int64)
    side_v, side_i = vector_at(s[SIDE_V], n, np.float64), vector_at(s[SIDE_I], n, np.float64)
    by_states = matrix_at(s[CT_STATES], n, s[N_QUERIES] * channels, dtype)
    rests_since, received = vector_at(s[RESTS_SINCE], n, np.int64), vector_at(s[RECEIVED], s[CAPACITY], np.float64)
    by_numbers, resting = matrix_at(s[BY_NUMBERS], NUMBERS, n, np.float64), vector_at(s[RESTING], n, np.bool_)
    for j in range(n):
        if channels > 2 and place[j] >= 0 and resting[j]:
            # What is left of a refractory time grows with the time of its spike.
            received[rests_since[j]] += by_states[j, q * channels + 2]
            by_numbers[TREF, j] += by_states[j, q * channels + 2]
        by_v = by_states[j, q * channels]
        by_i = by_states[j, q * channels + 1] if channels > 1 else dtype(0)
        if place[j] < 0:
            lv[j] += by_v
            li[j] += by_i
        else:
            side_v[j] += by_v
            side_i[j] += by_i


@compiled
def begin_back(dtype, m):
    """Everything as it is at the end of the run."""
    s = vector_at(m, WORDS, np.int64)
    n, count = s[N], np.int64(vector_at(s[INFO], 2, np.int32)[0])
    given, numbers = matrix_at(s[GIVEN], NUMBERS, n, dtype), matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64)
    by, groups = matrix_at(s[BY_NUMBERS], NUMBERS, n, np.float64), vector_at(s[GROUPS], n + 1, np.int64)
    lv, li, by_drive = vector_at(s[LV], n, dtype), vector_at(s[LI], n, dtype), vector_at(s[BY_DRIVE], n, dtype)
    place, owed = vector_at(s[PLACE], n, np.int64), vector_at(s[OWED], n, np.float64)
    kinds, by_arrivals = vector_at(s[KINDS], n, np.int32), vector_at(s[BY_ARRIVALS], s[N_ARRIVALS], dtype)
    by_delays = vector_at(s[BY_DELAYS], s[ROWS], dtype)
    s[ANY_JUMPS], s[N_SPECIAL], s[N_GROUPS] = 0, 0, 0
    for j in range(n):
        for row in range(NUMBERS):
            numbers[row, j], by[row, j] = given[row, j], 0
        lv[j], li[j], by_drive[j], place[j], owed[j] = 0, 0, 0, -1, 0
        if kinds[j] & JUMPS:
            s[ANY_JUMPS] = 1
        same = j > 0
        for row in range(DECAY + 1):
            same = same and numbers[row, j] == numbers[row, j - 1]
        if not same:
            groups[s[N_GROUPS]] = j
            s[N_GROUPS] += 1
    groups[s[N_GROUPS]] = n
    for k in range(s[N_ARRIVALS]):
        by_arrivals[k] = 0
    for k in range(s[ROWS]):
        by_delays[k] = 0
    received, by_times = vector_at(s[RECEIVED], count, np.float64), vector_at(s[CT_TIMES], count, dtype)
    for k in range(count):
        received[k] = by_times[k]


@compiled
def run_backward(dtype, m, rates):
    """The way back of one run; gives 0, or `INTERRUPTED`. Without `rates`, which are `None` then, these receive 0."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    begin_back(dtype, m)
    ends, log = vector_at(s[ENDS], 2, dtype), vector_at(s[LOG], 2**40, np.int32)
    arrival_times, rows = vector_at(s[ARRIVAL_TIMES], s[N_ARRIVALS], dtype), vector_at(s[ARRIVAL_ROWS], 2**40, np.int32)
    times, neurons = vector_at(s[TIMES], s[CAPACITY], np.float64), vector_at(s[NEURONS], s[CAPACITY], np.int32)
    delays, queries = vector_at(s[DELAYS], s[ROWS], dtype), vector_at(s[QUERIES], s[N_QUERIES], dtype)
    numbers, received = (
        matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64),
        vector_at(s[RECEIVED], s[CAPACITY], np.float64),
    )
    by_arrivals, by_delays = vector_at(s[BY_ARRIVALS], s[N_ARRIVALS], dtype), vector_at(s[BY_DELAYS], s[ROWS], dtype)
    kinds, free_currents = vector_at(s[KINDS], n, np.int32), vector_at(s[FREE_CURRENTS], s[CAPACITY], np.float64)
    currents = vector_at(s[CURRENTS], s[CAPACITY], np.float64)
    which, begins, place = np.int64(0), np.int64(0), np.int64(0)
    if rates is not None:
        keep_states(dtype, m)
        which = s[N_KEPT]
        begins = np.int64(vector_at(s[INFO], 2, np.int32)[1])
    t, min_slope, signals = 2 * np.float64(ends[0]), np.float64(ends[1]), interrupts()
    for entry in range(np.int64(vector_at(s[INFO], 2, np.int32)[1]) - 1, -1, -1):
        if interrupts() != signals:
            return INTERRUPTED
        if rates is not None:
            while entry < begins:
                which -= 1
                begins = states_behind(dtype, m, which, begins)
                place = 0
                for other in range(begins, entry + 1):
                    place += 1 if np.int64(log[other]) & 7 <= ARRIVAL or np.int64(log[other]) & 7 == QUERY else 0
        kind, number = np.int64(log[entry]) & 7, np.int64(log[entry]) >> 3
        if kind == SPIKE or kind == INSTANT or kind == FREE:
            j = np.int64(neurons[number])
            te = times[number] + (numbers[TREF, j] if kind == FREE else 0.0)
            take_aside(dtype, m, j, t)
            if kind != FREE:
                move_side(m, j, te, numbers[VRESET, j], currents[number], rates)
            elif kinds[j] & HOLDS_V:
                move_side(m, j, te, numbers[VRESET, j], free_currents[number], rates)
            if kind == FREE:
                back_into_rest(dtype, m, number, te)
            else:
                back_through_spike(dtype, m, number, kind == INSTANT, min_slope)
            continue
        if kind == QUERY:
            te, row = np.float64(queries[number]), np.int64(-1)
        elif kind == INPUT:
            row = np.int64(rows[number])
            te = np.float64(arrival_times[number]) + np.float64(delays[row])
        else:
            row = np.int64(neurons[number])
            te = times[number] + np.float64(delays[row])
        te = min(te, t)
        got = back_to_row(dtype, m, t - te, te, row, place, rates)
        t = te
        place -= 1
        if kind == QUERY:
            take_answers(dtype, m, number)
        else:
            by_delays[row] += got
            if kind == INPUT:
                by_arrivals[number] = got
            else:
                received[number] += got
    back_to_row(dtype, m, t, 0.0, -1, 0, rates)
    by, out = matrix_at(s[BY_NUMBERS], NUMBERS, n, np.float64), matrix_at(s[BY_GIVEN], NUMBERS, n, dtype)
    lv, li, by_drive = vector_at(s[LV], n, dtype), vector_at(s[LI], n, dtype), vector_at(s[BY_DRIVE], n, dtype)
    for j in range(n):
        by[V0, j], by[I0, j] = lv[j], li[j]
        by[DRIVE, j] += by_drive[j]
        if rates is not None:
            for row in range(DECAY + 1):
                by[row, j] = matrix_at(s[BY_RATES], 3, n, np.float64)[row, j]
        for row in range(NUMBERS):
            out[row, j] = by[row, j]
    return 0
