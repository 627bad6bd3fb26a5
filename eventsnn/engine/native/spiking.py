"""The spikes of neurons on one clock: who reaches the threshold in a stretch, when, and what becomes of it."""

import math

import numpy as np

from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.kinds import (
    COUPLING,
    DECAY,
    DRIVE,
    HOLDS_I,
    HOLDS_V,
    INSTANT,
    JUMPS,
    LEAK,
    NEVER,
    NUMBERS,
    ONCE,
    OUTPUT,
    RESET_HIGH,
    RESOLUTION,
    SPIKE,
    THRESH,
    TREF,
    VRESET,
)
from eventsnn.engine.native.linear import coefficients, crossing
from eventsnn.engine.native.order import sort_by_time
from eventsnn.engine.native.queries import answer_until, answer_until_apart, note_apart
from eventsnn.engine.native.scratch import matrix_at, vector_at
from eventsnn.engine.native.sweep import count_above, find_reaching, move_all, set_coefficients, width_of
from eventsnn.engine.native.words import (
    APART_T,
    BASE_I,
    BASE_V,
    CAPACITY,
    COEFS,
    COUNTS,
    CROSSED,
    CURRENTS,
    FOUND_I,
    FOUND_J,
    FOUND_S,
    FOUND_T,
    FREE_AT,
    FREED_AT,
    GROUP_OF,
    I_AT,
    KINDS,
    LISTED,
    LOG,
    N_ANSWERED,
    N_APART,
    N_LISTED,
    N_LOG,
    N_PASSING,
    N_QUERIES,
    N_REFRACTORY,
    N_SPIKES,
    N_WAITING,
    NEURONS,
    NEW_I,
    NEW_V,
    NUMBERS_AT,
    ORDER,
    PASSING,
    RECURRENT,
    REFRACTORY_AT,
    SINGLY,
    SLOPES,
    SPARE,
    STATUS,
    STATUSES,
    STOP_AFTER,
    STOPPED,
    THETA,
    TIMES,
    V_AT,
    WAITED,
    WORDS,
    N,
)


@compiled
def emit(dtype, m, j, t, current, slope, kind):
    """Neuron `j` spikes at `t` and is reset. False if the run is over because of it."""
    s = vector_at(m, WORDS, np.int64)
    n, capacity, number = s[N], s[CAPACITY], s[N_SPIKES]
    if number >= capacity:
        # One more is counted than there is room for.
        s[N_SPIKES] = capacity + 1
        return False
    numbers, kinds = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64), vector_at(s[KINDS], n, np.int32)
    theta, passing = vector_at(s[THETA], n, dtype), vector_at(s[PASSING], n, np.bool_)
    counts = vector_at(s[COUNTS], n, np.int32)
    vector_at(s[TIMES], capacity, np.float64)[number] = t
    vector_at(s[CURRENTS], capacity, np.float64)[number] = current
    vector_at(s[NEURONS], capacity, np.int32)[number] = j
    vector_at(s[SLOPES], capacity, dtype)[number] = slope
    vector_at(s[LOG], s[N_LOG] + 1, np.int32)[s[N_LOG]] = number * 8 + kind
    s[N_SPIKES] += 1
    s[N_LOG] += 1
    counts[j] += 1
    done = s[STOP_AFTER] > 0 and counts[j] == s[STOP_AFTER]
    if done and kinds[j] & OUTPUT:
        s[N_WAITING] -= 1
    reset = numbers[VRESET, j]
    vector_at(s[V_AT], n, dtype)[j] = reset
    if passing[j]:
        passing[j] = False
        s[N_PASSING] -= 1
    if kinds[j] & ONCE or (done and not s[RECURRENT]):
        theta[j] = NEVER
    elif numbers[TREF, j] > 0:
        theta[j] = NEVER
    elif reset >= numbers[THRESH, j]:
        # It would spike at once and forever, unless it falls.
        if numbers[COUPLING, j] * current + numbers[DRIVE, j] - numbers[LEAK, j] * reset >= 0:
            # In a layer the others do not hear of it.
            theta[j] = NEVER
            vector_at(s[STATUSES], n, np.int32)[j] = RESET_HIGH
            vector_at(s[STOPPED], n, dtype)[j] = t
            if s[RECURRENT]:
                s[STATUS] = RESET_HIGH
                return False
        else:
            passing[j] = True
            s[N_PASSING] += 1
    if numbers[TREF, j] > 0:
        vector_at(s[REFRACTORY_AT], n, np.int64)[s[N_REFRACTORY]] = j
        vector_at(s[FREE_AT], n, np.float64)[j] = t + numbers[TREF, j]
        s[N_REFRACTORY] += 1
    return True


@compiled
def spikes_of(dtype, m, k, t, until, meeting, n_found):
    """Find the spikes of the k-th neuron that may spike in a stretch; gives how many have been found in all."""
    s = vector_at(m, WORDS, np.int64)
    n, many = s[N], s[CAPACITY] + 1
    numbers, kinds = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64), vector_at(s[KINDS], n, np.int32)
    crossed, j = vector_at(s[CROSSED], n, np.float64), vector_at(s[LISTED], n, np.int64)[k]
    found_t, found_j = vector_at(s[FOUND_T], many, np.float64), vector_at(s[FOUND_J], many, np.int64)
    found_i, found_s = vector_at(s[FOUND_I], many, np.float64), vector_at(s[FOUND_S], many, np.float64)
    passing, order = vector_at(s[PASSING], n, np.bool_), vector_at(s[ORDER], many, np.int64)
    a, b, r, theta = numbers[LEAK, j], numbers[COUPLING, j], numbers[DECAY, j], numbers[THRESH, j]
    x, y = np.float64(vector_at(s[V_AT], n, dtype)[j]), np.float64(vector_at(s[I_AT], n, dtype)[j])
    left, drive, refractory = until - t, numbers[DRIVE, j], numbers[TREF, j] > 0
    crossed[k] = np.inf
    ready, before = vector_at(s[THETA], n, dtype)[j] < NEVER, n_found
    g, coefs = vector_at(s[GROUP_OF], n, np.int64)[j], matrix_at(s[COEFS], n, 4, np.float64)
    keep, feed, fade, gain = coefs[g, 0], coefs[g, 1], coefs[g, 2], coefs[g, 3]
    at, rest = t, 0.0
    while ready:
        after = crossing(x, y, drive, left, a, b, r, theta, passing[j], RESOLUTION, keep, feed, fade, gain)
        # A neuron on which spikes act at once meets an arrival that rounds to the same time: that comes first.
        if after < 0 or (kinds[j] & JUMPS and left - after <= meeting):
            break
        crossed[k] = after
        if s[SINGLY]:
            return n_found
        y *= math.exp(-r * after)
        x = numbers[VRESET, j]
        # Knuth's TwoSum, as in `instants.PreciseTime`: the rounding of a time does not add up over the spikes.
        step = rest + after
        later = at + step
        other = later - at
        at, rest = later, (at - (later - other)) + (step - other)
        left = (until - at) - rest
        keep, feed, fade, gain = coefficients(left, a, b, r)
        found_t[n_found], found_j[n_found], found_i[n_found] = at, j, y
        found_s[n_found] = b * y + drive - a * theta
        order[n_found] = n_found
        n_found += 1
        ready = s[N_SPIKES] + n_found <= s[CAPACITY] and not refractory and not kinds[j] & ONCE and x < theta
        if s[STOP_AFTER] > 0 and not s[RECURRENT]:
            ready = ready and vector_at(s[COUNTS], n, np.int32)[j] + n_found - before < s[STOP_AFTER]
    if crossed[k] < np.inf:
        if not (refractory and kinds[j] & HOLDS_V):
            x = keep * x + feed * y + gain * drive
        if not (refractory and kinds[j] & HOLDS_I):
            y = fade * y
        vector_at(s[NEW_V], n, np.float64)[k], vector_at(s[NEW_I], n, np.float64)[k] = x, y
    return n_found


@compiled
def through_stretch(dtype, m, t, until, meets_arrival, final):
    """Take all neurons to `until`, or to the first spike where spikes arrive at once; gives how far they came.

    The spikes of the stretch are emitted in their order, and queries are answered between them. Nothing arrives in it.
    `final` says that the run is over at its end.
    """
    s = vector_at(m, WORDS, np.int64)
    n, eps = s[N], np.float64(np.finfo(dtype).eps)
    while True:
        set_coefficients(m, until - t)
        if find_reaching(dtype, m, until - t) == 0:
            answer_until(dtype, m, t, until, final)
            move_all(dtype, m)
            break
        reached = spike_in_stretch(dtype, m, t, until, 0.5 * eps * until if meets_arrival else -1.0, final)
        if reached >= 0:
            until = reached
            break
        # More spikes than there is room for: those of a shorter stretch, so that the first of them are listed.
        until, meets_arrival, final = t + 0.5 * (until - t), False, False
    if s[N_PASSING] > 0:
        v, theta, passing = (
            vector_at(s[V_AT], n, dtype), vector_at(s[THETA], n, dtype), vector_at(s[PASSING], n, np.bool_),
        )  # fmt: skip
        for j in range(n):
            if passing[j] and v[j] < theta[j]:
                passing[j] = False
                s[N_PASSING] -= 1
    return until


@compiled
def spike_in_stretch(dtype, m, t, until, meeting, final):
    """The same where some are listed that may spike; -1, and nothing has changed, if they spike too often."""
    s = vector_at(m, WORDS, np.int64)
    n, many, n_listed, eps = s[N], s[CAPACITY] + 1, s[N_LISTED], np.float64(np.finfo(dtype).eps)
    listed, crossed = vector_at(s[LISTED], n, np.int64), vector_at(s[CROSSED], n, np.float64)
    v, i, theta = vector_at(s[V_AT], n, dtype), vector_at(s[I_AT], n, dtype), vector_at(s[THETA], n, dtype)
    passing, kinds = vector_at(s[PASSING], n, np.bool_), vector_at(s[KINDS], n, np.int32)
    n_found, first = 0, np.inf
    for k in range(n_listed):
        n_found = spikes_of(dtype, m, k, t, until, meeting, n_found)
        first = min(first, crossed[k])
        if n_found + s[N_SPIKES] > s[CAPACITY]:
            if n_listed > 1 and until - t > width_of(until, eps):
                return -1.0
            n_listed = k + 1
            break
    if s[SINGLY]:
        if first < np.inf:
            until, final = t + first, False
            set_coefficients(m, first)
        answer_until(dtype, m, t, until, final)
    elif s[N_ANSWERED] < s[N_QUERIES]:
        # Queries are answered from the states at the start of the stretch, or after the last spike of the neuron in it.
        base_v, base_i = vector_at(s[BASE_V], n, dtype), vector_at(s[BASE_I], n, dtype)
        apart_t = vector_at(s[APART_T], n, np.float64)
        for j in range(n):
            base_v[j], base_i[j], apart_t[j] = v[j], i[j], -1
        s[N_APART] = 0
    move_all(dtype, m)
    for k in range(n_listed):
        j = listed[k]
        # What float64 says has not crossed stays below, though it may round to the threshold.
        waits = kinds[j] & JUMPS and meeting >= 0
        if waits and v[j] >= theta[j]:
            vector_at(s[WAITED], n, np.bool_)[j] = True
        if crossed[k] == np.inf and v[j] >= theta[j] and theta[j] < NEVER and not passing[j] and not waits:
            v[j] = theta[j] - dtype(eps) * max(abs(theta[j]), dtype(1e-30))
    if s[SINGLY]:
        numbers = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64)
        for k in range(n_listed if first < np.inf else 0):
            j = listed[k]
            if crossed[k] <= first + 0.5 * eps * until:
                slope = numbers[COUPLING, j] * i[j] + numbers[DRIVE, j] - numbers[LEAK, j] * numbers[THRESH, j]
                if not emit(dtype, m, j, until, np.float64(i[j]), slope, SPIKE):
                    break
        return until
    found_t, found_j = vector_at(s[FOUND_T], many, np.float64), vector_at(s[FOUND_J], many, np.int64)
    found_i, found_s = vector_at(s[FOUND_I], many, np.float64), vector_at(s[FOUND_S], many, np.float64)
    order = vector_at(s[ORDER], many, np.int64)
    sort_by_time(found_t, order, vector_at(s[SPARE], many, np.int64), n_found)
    asks = s[N_ANSWERED] < s[N_QUERIES]
    for k in range(n_found):
        one = order[k]
        if asks:
            answer_until_apart(dtype, m, t, found_t[one], False)
        if not emit(dtype, m, found_j[one], found_t[one], found_i[one], found_s[one], SPIKE):
            break
        if asks:
            note_apart(dtype, m, found_j[one], found_t[one], found_i[one])
    if asks:
        answer_until_apart(dtype, m, t, until, final)
    new_v, new_i = vector_at(s[NEW_V], n, np.float64), vector_at(s[NEW_I], n, np.float64)
    for k in range(n_listed):
        if crossed[k] < np.inf:
            j = listed[k]
            v[j], i[j] = new_v[k], new_i[k]
            if kinds[j] & JUMPS and meeting >= 0 and v[j] >= theta[j]:
                vector_at(s[WAITED], n, np.bool_)[j] = True
    return until


@compiled
def spike_at_once(dtype, m, t, begun):
    """The spikes of those that an instant has lifted to their threshold or above; gives how many there are."""
    s = vector_at(m, WORDS, np.int64)
    n, eps = s[N], np.float64(np.finfo(dtype).eps)
    v, i, theta = vector_at(s[V_AT], n, dtype), vector_at(s[I_AT], n, dtype), vector_at(s[THETA], n, dtype)
    waited = vector_at(s[WAITED], n, np.bool_)
    if count_above(v, theta) == 0:
        return 0
    numbers, passing = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64), vector_at(s[PASSING], n, np.bool_)
    listed, freed_at = vector_at(s[LISTED], n, np.int64), vector_at(s[FREED_AT], n, np.float64)
    count = 0
    for j in range(n):
        if v[j] >= theta[j] and theta[j] < NEVER and not passing[j]:
            slope = numbers[COUPLING, j] * i[j] + numbers[DRIVE, j] - numbers[LEAK, j] * v[j]
            if freed_at[j] >= begun and slope < 0 and v[j] - theta[j] <= -slope * width_of(t, eps):
                # A refractory time has ended where the neuron falls through its threshold at this very instant.
                passing[j] = True
                s[N_PASSING] += 1
            else:
                listed[count] = j
                count += 1
        else:
            waited[j] = False
    for k in range(count):
        j = listed[k]
        slope, kind = np.inf, INSTANT
        if waited[j]:
            # It reached the threshold before anything arrived: this is a crossing, with a slope.
            waited[j] = False
            slope, kind = numbers[DRIVE, j] - numbers[LEAK, j] * numbers[THRESH, j], SPIKE
        if not emit(dtype, m, j, t, np.float64(i[j]), slope, kind):
            break
    return count
