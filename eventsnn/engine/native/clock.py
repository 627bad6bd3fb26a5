"""Linear neurons on one clock, forwards: recurrent with a delay for each source, or a layer that is not recurrent.

A *stretch* is the time between two global events: an arrival, the end of a refractory time, a query, or the end of the
run. Where spikes are on their way for some time, a stretch is no longer than the shortest delay: what is emitted in it
arrives behind it, so each neuron spikes by itself. Where some arrive at once, a stretch ends with its first spike.

All neurons go through a stretch together, in three loops over arrays that vectorise: one counts who may reach the
threshold, one moves the states, and one adds the weights of an arrival. Only those who may reach it are looked at one
by one. Clocks and crossings are in float64; states are in the dtype of the network.

What happened is written down in a log, a whole number for each event, from which the way back finds its own way.
"""

import math

import numpy as np

from eventsnn.engine.native.compiled import compiled, fast
from eventsnn.engine.native.interrupt import INTERRUPTED, interrupts
from eventsnn.engine.native.linear import coefficients, crossing
from eventsnn.engine.native.order import pop, push, sort_by_time, sort_evenly
from eventsnn.engine.native.scratch import matrix_at, prefetch, room, vector_at

# What is in the log: the number of the event times 8, and its kind.
INPUT, ARRIVAL, SPIKE, QUERY, INSTANT, FREE = 0, 1, 2, 3, 4, 5
# Rows of the numbers of neurons.
LEAK, COUPLING, DECAY, DRIVE, THRESH, VRESET, TREF, V0, I0 = range(9)
NUMBERS = 9
# What is true of a neuron, as bits: spikes arrive at V itself; it has a threshold; it spikes once; while refractory V
# stands still, or I does, or spikes that arrive are lost; the run may end when all neurons of this kind have spiked.
JUMPS, SPIKES, ONCE, HOLDS_V, HOLDS_I, BLOCKS, OUTPUT = 1, 2, 4, 8, 16, 32, 64
# A threshold that is never reached. Infinity is not used: loops may assume that there is none.
NEVER = 1e30
# How a run ended, as in `lanes`.
FINE, NOT_FINITE, RESET_HIGH, ENDLESS = 0, 1, 2, 5
# A crossing is located to so large a part of the time since the start of its stretch.
RESOLUTION = 2e-16

# The words of the block of a run: sizes and counters first, then the addresses of arrays.
(
    N, CAPACITY, N_ARRIVALS, N_QUERIES, CHANNELS, RECURRENT, STOP_AFTER, N_GROUPS, ANY_JUMPS, ALL_JUMP, SINGLY,
    N_SPIKES, N_LOG, N_HEAP, N_REFRACTORY, N_WAITING, N_PASSING, STATUS, CULPRIT, N_LISTED,
    # Given, for this sample.
    ARRIVAL_TIMES, ARRIVAL_ROWS, WEIGHTS, DELAYS, GIVEN, KINDS, QUERIES,
    # Results.
    TIMES_OUT, NEURONS, SLOPES, COUNT, COUNTS, STATUSES, STOPPED, PASSING, STATES, TIMES, CURRENTS, FREE_CURRENTS, LOG,
    INFO,
    # Of each neuron.
    NUMBERS_AT, V, I, D, THETA, REFRACTORY_AT, FREE_AT, FREED_AT, SINCE, LISTED, CROSSED, NEW_V, NEW_I, HELD_V, HELD_I,
    GROUPS, COEFS,
    # Of each arrival, query and spike.
    AT, COMING, BUCKETS, ASKED_AT, ASKED, SPARE, HEAP_TIMES, HEAP_NUMBERS, FOUND_T, FOUND_J, FOUND_I, FOUND_S, ORDER,
) = range(71)  # fmt: skip
WORDS = 72


@fast
def count_reaching(v, i, d, theta, keep, feed, fade, gain, a, b, dt, one):
    """How many of the neurons may reach their threshold in a stretch: see `crossing` for why.

    The potential is compared in the end. Where it may have been higher before, its tangent at the start bounds it. This
    is a count, and nothing is stored, because LLVM vectorises neither a maximum nor a loop over many arrays it writes.
    It counts in the dtype of the states (`one`), so that a vector of states makes a vector of counts.
    """
    count = one - one
    for j in range(v.shape[0]):
        drive = b * i[j] + d[j]
        target = a * theta[j]
        top = keep * v[j] + feed * i[j] + gain * d[j]
        reach = v[j] + dt * (drive - a * v[j])
        reach = reach if drive > target else top
        reach = reach if b * fade * i[j] + d[j] <= target else top
        top = reach if reach > top else top
        count += one if top >= theta[j] else one - one
    return count


@fast
def list_reaching(v, i, d, theta, keep, feed, fade, gain, a, b, dt, first, listed, count):
    """The same neurons, one by one; `first` is the number of the first of these."""
    for j in range(v.shape[0]):
        drive = b * i[j] + d[j]
        target = a * theta[j]
        top = keep * v[j] + feed * i[j] + gain * d[j]
        reach = v[j] + dt * (drive - a * v[j])
        if drive > target and b * fade * i[j] + d[j] <= target and reach > top:
            top = reach
        if top >= theta[j]:
            listed[count] = first + j
            count += 1
    return count


@fast
def move(v, i, d, keep, feed, fade, gain):
    """The states at the end of a stretch."""
    for j in range(v.shape[0]):
        v[j] = keep * v[j] + feed * i[j] + gain * d[j]
        i[j] = fade * i[j]


@fast
def add_row(x, weights):
    """An arrival."""
    for j in range(x.shape[0]):
        x[j] += weights[j]


@fast
def count_above(v, theta):
    """How many neurons are at their threshold or above."""
    count = 0
    for j in range(v.shape[0]):
        count += 1 if v[j] >= theta[j] else 0
    return count


@compiled
def width_of(t, eps):
    """How far apart two times near `t` may lie and still be the same instant: `instants.instant_width`."""
    return 2 * eps * abs(t)


@compiled
def set_out(m, place, dtype):
    """Give every array of the run its place behind the words; gives where the memory ends."""
    s = vector_at(m, WORDS, np.int64)
    n, many, most = s[N], s[CAPACITY] + 1, max(s[N_ARRIVALS], s[CAPACITY] + 1, s[N_QUERIES])
    s[NUMBERS_AT] = place
    place += room(NUMBERS * n)
    for word in range(V, COEFS + 1):
        s[word] = place
        place += room(4 * n if word == COEFS else n + 1)
    for word in range(AT, ORDER + 1):
        s[word] = place
        count = s[N_ARRIVALS] + 2 if word <= BUCKETS else s[N_QUERIES] if word <= ASKED else many
        place += room(most if word == SPARE else count)
    return place


@compiled
def find_groups(m):
    """Neurons in a row with the same time constants share their coefficients: where such groups start."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    numbers, groups = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64), vector_at(s[GROUPS], n + 1, np.int64)
    count = 0
    for j in range(n):
        same = j > 0
        for row in range(DECAY + 1):
            same = same and numbers[row, j] == numbers[row, j - 1]
        if not same:
            groups[count] = j
            count += 1
    groups[count] = n
    s[N_GROUPS] = count


@compiled
def note_held(dtype, m):
    """Before a stretch or an arrival: the states of those who are refractory."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    refractory = vector_at(s[REFRACTORY_AT], n, np.int64)
    v, i = vector_at(s[V], n, dtype), vector_at(s[I], n, dtype)
    held_v, held_i = vector_at(s[HELD_V], n, dtype), vector_at(s[HELD_I], n, dtype)
    for k in range(s[N_REFRACTORY]):
        held_v[k], held_i[k] = v[refractory[k]], i[refractory[k]]


@compiled
def hold(dtype, m, count, which_v, which_i):
    """After it: of the first `count` of them, what stands still, if the neuron is of one of these kinds."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    refractory, kinds = vector_at(s[REFRACTORY_AT], n, np.int64), vector_at(s[KINDS], n, np.int32)
    v, i = vector_at(s[V], n, dtype), vector_at(s[I], n, dtype)
    held_v, held_i = vector_at(s[HELD_V], n, dtype), vector_at(s[HELD_I], n, dtype)
    for k in range(count):
        j = refractory[k]
        if kinds[j] & which_v:
            v[j] = held_v[k]
        if kinds[j] & which_i:
            i[j] = held_i[k]


@compiled
def arrive(dtype, m, row):
    """A spike arrives through a row of the weights."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    v, i = vector_at(s[V], n, dtype), vector_at(s[I], n, dtype)
    weights = matrix_at(s[WEIGHTS], row + 1, n, dtype)[row]
    if s[N_REFRACTORY] > 0:
        note_held(dtype, m)
    if not s[ANY_JUMPS]:
        add_row(i, weights)
    elif s[ALL_JUMP]:
        add_row(v, weights)
    else:
        kinds = vector_at(s[KINDS], n, np.int32)
        for j in range(n):
            if kinds[j] & JUMPS:
                v[j] += weights[j]
            else:
                i[j] += weights[j]
    if s[N_REFRACTORY] > 0:
        hold(dtype, m, s[N_REFRACTORY], BLOCKS | HOLDS_V, BLOCKS | HOLDS_I)


@compiled
def fetch_row(dtype, m, row):
    """Ask for a row of the weights before it is needed."""
    s = vector_at(m, WORDS, np.int64)
    start = s[WEIGHTS] + row * s[N] * vector_at(m, 1, dtype).itemsize
    for line in range(min(s[N] * vector_at(m, 1, dtype).itemsize, 1024) // 64):
        prefetch(start + 64 * line)


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
    vector_at(s[V], n, dtype)[j] = reset
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
            s[STATUS], s[CULPRIT] = RESET_HIGH, j
            return False
        passing[j] = True
        s[N_PASSING] += 1
    if numbers[TREF, j] > 0:
        vector_at(s[REFRACTORY_AT], n, np.int64)[s[N_REFRACTORY]] = j
        vector_at(s[FREE_AT], n, np.float64)[j] = t + numbers[TREF, j]
        s[N_REFRACTORY] += 1
    return True


@compiled
def set_coefficients(m, dt):
    """The coefficients of every group for a stretch of `dt`."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    numbers, groups = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64), vector_at(s[GROUPS], n + 1, np.int64)
    coefs = matrix_at(s[COEFS], n, 4, np.float64)
    for g in range(s[N_GROUPS]):
        j = groups[g]
        coefs[g, 0], coefs[g, 1], coefs[g, 2], coefs[g, 3] = coefficients(
            dt, numbers[LEAK, j], numbers[COUPLING, j], numbers[DECAY, j]
        )


@compiled
def move_all(dtype, m):
    """All neurons through a stretch, whatever they reach in it."""
    s = vector_at(m, WORDS, np.int64)
    n, held = s[N], s[N_REFRACTORY]
    groups, coefs = vector_at(s[GROUPS], n + 1, np.int64), matrix_at(s[COEFS], n, 4, np.float64)
    v, i, d = vector_at(s[V], n, dtype), vector_at(s[I], n, dtype), vector_at(s[D], n, dtype)
    if held > 0:
        note_held(dtype, m)
    for g in range(s[N_GROUPS]):
        low, high = groups[g], groups[g + 1]
        keep, feed, fade, gain = dtype(coefs[g, 0]), dtype(coefs[g, 1]), dtype(coefs[g, 2]), dtype(coefs[g, 3])
        move(v[low:high], i[low:high], d[low:high], keep, feed, fade, gain)
    if held > 0:
        hold(dtype, m, held, HOLDS_V, HOLDS_I)


# Where somebody may reach the threshold, blocks of so many neurons are counted before each is looked at.
_BLOCK = 32


@compiled
def find_reaching(dtype, m, dt):
    """Who may reach the threshold in a stretch of `dt`: a list, and how many there are."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    numbers, groups = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64), vector_at(s[GROUPS], n + 1, np.int64)
    coefs, listed = matrix_at(s[COEFS], n, 4, np.float64), vector_at(s[LISTED], n, np.int64)
    v, i = vector_at(s[V], n, dtype), vector_at(s[I], n, dtype)
    d, theta = vector_at(s[D], n, dtype), vector_at(s[THETA], n, dtype)
    count = 0
    for g in range(s[N_GROUPS]):
        low, end = groups[g], groups[g + 1]
        keep, feed, fade, gain = dtype(coefs[g, 0]), dtype(coefs[g, 1]), dtype(coefs[g, 2]), dtype(coefs[g, 3])
        a, b, step, one = dtype(numbers[LEAK, low]), dtype(numbers[COUPLING, low]), dtype(dt), dtype(1)
        high, whole = end, True
        while low < end:
            reaching = count_reaching(
                v[low:high], i[low:high], d[low:high], theta[low:high], keep, feed, fade, gain, a, b, step, one
            )
            if reaching > 0 and whole and end - low > _BLOCK:
                # All again, block by block.
                whole = False
                high = low + _BLOCK
                continue
            if reaching > 0:
                count = list_reaching(
                    v[low:high], i[low:high], d[low:high], theta[low:high], keep, feed, fade, gain, a, b, step, low,
                    listed, count,
                )  # fmt: skip
            low, high = high, min(high + _BLOCK, end)
    s[N_LISTED] = count
    return count


@compiled
def spikes_of(dtype, m, k, t, until, meeting, n_found):
    """Take the k-th of those who may spike through a stretch by itself; gives how many spikes are found by then."""
    s = vector_at(m, WORDS, np.int64)
    n, many = s[N], s[CAPACITY] + 1
    numbers, kinds = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64), vector_at(s[KINDS], n, np.int32)
    crossed, j = vector_at(s[CROSSED], n, np.float64), vector_at(s[LISTED], n, np.int64)[k]
    found_t, found_j = vector_at(s[FOUND_T], many, np.float64), vector_at(s[FOUND_J], many, np.int64)
    found_i, found_s = vector_at(s[FOUND_I], many, np.float64), vector_at(s[FOUND_S], many, np.float64)
    passing, order = vector_at(s[PASSING], n, np.bool_), vector_at(s[ORDER], many, np.int64)
    a, b, r, theta = numbers[LEAK, j], numbers[COUPLING, j], numbers[DECAY, j], numbers[THRESH, j]
    x, y = np.float64(vector_at(s[V], n, dtype)[j]), np.float64(vector_at(s[I], n, dtype)[j])
    left, drive, refractory = until - t, numbers[DRIVE, j], numbers[TREF, j] > 0
    crossed[k] = np.inf
    ready = True
    while ready:
        after = crossing(x, y, drive, left, a, b, r, theta, passing[j], RESOLUTION)
        # A neuron on which spikes act at once meets an arrival that rounds to the same time: that comes first.
        if after < 0 or (kinds[j] & JUMPS and left - after <= meeting):
            break
        crossed[k] = after
        if s[SINGLY]:
            return n_found
        y *= math.exp(-r * after)
        x = numbers[VRESET, j]
        left -= after
        found_t[n_found], found_j[n_found], found_i[n_found] = until - left, j, y
        found_s[n_found] = b * y + drive - a * theta
        order[n_found] = n_found
        n_found += 1
        ready = s[N_SPIKES] + n_found <= s[CAPACITY] and not refractory and not kinds[j] & ONCE and x < theta
        if s[STOP_AFTER] > 0 and not s[RECURRENT]:
            ready = ready and vector_at(s[COUNTS], n, np.int32)[j] + 1 < s[STOP_AFTER]
    if crossed[k] < np.inf:
        keep, feed, fade, gain = coefficients(left, a, b, r)
        if not (refractory and kinds[j] & HOLDS_V):
            x = keep * x + feed * y + gain * drive
        if not (refractory and kinds[j] & HOLDS_I):
            y = fade * y
        vector_at(s[NEW_V], n, np.float64)[k], vector_at(s[NEW_I], n, np.float64)[k] = x, y
    return n_found


@compiled
def through_stretch(dtype, m, t, until, meets_arrival):
    """Take all neurons to `until`, or to the first spike where spikes arrive at once; gives how far they came.

    The spikes of the stretch are emitted in their order. Nothing arrives in it.
    """
    s = vector_at(m, WORDS, np.int64)
    n, eps = s[N], np.float64(np.finfo(dtype).eps)
    set_coefficients(m, until - t)
    if find_reaching(dtype, m, until - t) == 0:
        move_all(dtype, m)
    else:
        until = spike_in_stretch(dtype, m, t, until, 0.5 * eps * until if meets_arrival else -1.0)
    if s[N_PASSING] > 0:
        v, theta, passing = (
            vector_at(s[V], n, dtype), vector_at(s[THETA], n, dtype), vector_at(s[PASSING], n, np.bool_),
        )  # fmt: skip
        for j in range(n):
            if passing[j] and v[j] < theta[j]:
                passing[j] = False
                s[N_PASSING] -= 1
    return until


@compiled
def spike_in_stretch(dtype, m, t, until, meeting):
    """The same where some are listed that may spike."""
    s = vector_at(m, WORDS, np.int64)
    n, many, n_listed, eps = s[N], s[CAPACITY] + 1, s[N_LISTED], np.float64(np.finfo(dtype).eps)
    listed, crossed = vector_at(s[LISTED], n, np.int64), vector_at(s[CROSSED], n, np.float64)
    v, i, theta = vector_at(s[V], n, dtype), vector_at(s[I], n, dtype), vector_at(s[THETA], n, dtype)
    passing, kinds = vector_at(s[PASSING], n, np.bool_), vector_at(s[KINDS], n, np.int32)
    n_found, first = 0, np.inf
    for k in range(n_listed):
        n_found = spikes_of(dtype, m, k, t, until, meeting, n_found)
        first = min(first, crossed[k])
        if n_found + s[N_SPIKES] > s[CAPACITY]:
            n_listed = k + 1
            break
    if s[SINGLY] and first < np.inf:
        until = t + first
        set_coefficients(m, first)
    move_all(dtype, m)
    for k in range(n_listed):
        j = listed[k]
        # What float64 says has not crossed stays below, though it may round to the threshold.
        waits = kinds[j] & JUMPS and meeting >= 0
        if crossed[k] == np.inf and v[j] >= theta[j] and not passing[j] and not waits:
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
    for k in range(n_found):
        one = order[k]
        if not emit(dtype, m, found_j[one], found_t[one], found_i[one], found_s[one], SPIKE):
            break
    new_v, new_i = vector_at(s[NEW_V], n, np.float64), vector_at(s[NEW_I], n, np.float64)
    for k in range(n_listed):
        if crossed[k] < np.inf:
            v[listed[k]], i[listed[k]] = new_v[k], new_i[k]
    return until


@compiled
def crosses_within(dtype, m, dt):
    """Whether any neuron reaches its threshold in the next `dt` ms."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    set_coefficients(m, dt)
    count = find_reaching(dtype, m, dt)
    listed, passing = vector_at(s[LISTED], n, np.int64), vector_at(s[PASSING], n, np.bool_)
    v, i = vector_at(s[V], n, dtype), vector_at(s[I], n, dtype)
    numbers = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64)
    for k in range(count):
        j = listed[k]
        a, b, r, theta = numbers[LEAK, j], numbers[COUPLING, j], numbers[DECAY, j], numbers[THRESH, j]
        x, y, drive = np.float64(v[j]), np.float64(i[j]), numbers[DRIVE, j]
        if crossing(x, y, drive, dt, a, b, r, theta, passing[j], RESOLUTION) >= 0:
            return True
    return False


@compiled
def spike_at_once(dtype, m, t, begun):
    """The spikes of those that an instant has lifted to their threshold or above; gives how many there are."""
    s = vector_at(m, WORDS, np.int64)
    n, eps = s[N], np.float64(np.finfo(dtype).eps)
    v, i, theta = vector_at(s[V], n, dtype), vector_at(s[I], n, dtype), vector_at(s[THETA], n, dtype)
    if count_above(v, theta) == 0:
        return 0
    numbers, passing = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64), vector_at(s[PASSING], n, np.bool_)
    listed, freed_at = vector_at(s[LISTED], n, np.int64), vector_at(s[FREED_AT], n, np.float64)
    count = 0
    for j in range(n):
        if v[j] >= theta[j] and not passing[j]:
            slope = numbers[COUPLING, j] * i[j] + numbers[DRIVE, j] - numbers[LEAK, j] * v[j]
            if freed_at[j] >= begun and slope < 0 and v[j] - theta[j] <= -slope * width_of(t, eps):
                # A refractory time has ended where the neuron falls through its threshold at this very instant.
                passing[j] = True
                s[N_PASSING] += 1
            else:
                listed[count] = j
                count += 1
    for k in range(count):
        j = listed[k]
        if not emit(dtype, m, j, t, np.float64(i[j]), np.inf, INSTANT):
            break
    return count


@compiled
def begin(dtype, m, t_end):
    """Everything as it is at the start of the run; gives the longest stretch."""
    s = vector_at(m, WORDS, np.int64)
    n, eps = s[N], np.float64(np.finfo(dtype).eps)
    given, numbers = matrix_at(s[GIVEN], NUMBERS, n, dtype), matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64)
    v, i = vector_at(s[V], n, dtype), vector_at(s[I], n, dtype)
    d, theta = vector_at(s[D], n, dtype), vector_at(s[THETA], n, dtype)
    kinds, counts = vector_at(s[KINDS], n, np.int32), vector_at(s[COUNTS], n, np.int32)
    passing, freed_at = vector_at(s[PASSING], n, np.bool_), vector_at(s[FREED_AT], n, np.float64)
    rows, delays = vector_at(s[ARRIVAL_ROWS], s[N_ARRIVALS], np.int32), vector_at(s[DELAYS], 2**40, dtype)
    for word in range(N_GROUPS, N_LISTED + 1):
        s[word] = 0
    s[ALL_JUMP] = 1
    stretch = np.inf
    for j in range(n):
        for row in range(NUMBERS):
            numbers[row, j] = given[row, j]
        v[j], i[j], d[j] = given[V0, j], given[I0, j], given[DRIVE, j]
        theta[j] = given[THRESH, j] if kinds[j] & SPIKES else dtype(NEVER)
        counts[j], passing[j], freed_at[j] = 0, False, -1.0
        if kinds[j] & JUMPS:
            s[ANY_JUMPS] = 1
        else:
            s[ALL_JUMP] = 0
        if kinds[j] & OUTPUT:
            s[N_WAITING] += 1
        if kinds[j] & SPIKES:
            if s[RECURRENT]:
                stretch = min(stretch, np.float64(delays[j]))
            if numbers[TREF, j] > 0:
                stretch = min(stretch, numbers[TREF, j])
    s[SINGLY] = not stretch >= SHORTEST * t_end
    find_groups(m)

    times, at = vector_at(s[ARRIVAL_TIMES], s[N_ARRIVALS], dtype), vector_at(s[AT], s[N_ARRIVALS], np.float64)
    for k in range(s[N_ARRIVALS]):
        at[k] = np.float64(times[k]) + np.float64(delays[rows[k]])
    queries, asked_at = vector_at(s[QUERIES], s[N_QUERIES], dtype), vector_at(s[ASKED_AT], s[N_QUERIES], np.float64)
    asked, spare = vector_at(s[ASKED], s[N_QUERIES], np.int64), vector_at(s[SPARE], 2**40, np.int64)
    for k in range(s[N_QUERIES]):
        asked_at[k], asked[k] = queries[k], k
    sort_by_time(asked_at, asked, spare, s[N_QUERIES])
    return stretch


# Where the longest stretch is a smaller part of the run than this, looking for the first spike of a stretch takes less
# time than so many stretches.
SHORTEST = 1e-4


@compiled
def send(dtype, m, sent, t_stop):
    """The spikes from number `sent` on set out; gives whether some of them have arrived at once."""
    s = vector_at(m, WORDS, np.int64)
    many = s[CAPACITY] + 1
    times, neurons = vector_at(s[TIMES], many, np.float64), vector_at(s[NEURONS], many, np.int32)
    delays, since = vector_at(s[DELAYS], s[N], dtype), vector_at(s[SINCE], s[N], np.int64)
    heap_times, heap_numbers = vector_at(s[HEAP_TIMES], many, np.float64), vector_at(s[HEAP_NUMBERS], many, np.int64)
    arrived = False
    for number in range(sent, min(s[N_SPIKES], s[CAPACITY])):
        j = np.int64(neurons[number])
        since[j] = number
        if s[RECURRENT]:
            if delays[j] <= 0:
                vector_at(s[LOG], s[N_LOG] + 1, np.int32)[s[N_LOG]] = number * 8 + ARRIVAL
                s[N_LOG] += 1
                arrive(dtype, m, j)
                arrived = True
            elif times[number] + delays[j] <= t_stop:
                push(heap_times, heap_numbers, s[N_HEAP], times[number] + delays[j], number)
                s[N_HEAP] += 1
    return arrived


@compiled
def next_free(m):
    """When the next refractory time ends, and where in the list that neuron stands."""
    s = vector_at(m, WORDS, np.int64)
    refractory, free_at = vector_at(s[REFRACTORY_AT], s[N], np.int64), vector_at(s[FREE_AT], s[N], np.float64)
    soonest, place = np.inf, -1
    for k in range(s[N_REFRACTORY]):
        if free_at[refractory[k]] < soonest:
            soonest, place = free_at[refractory[k]], k
    return soonest, place


@compiled
def set_free(dtype, m, place, t):
    """A refractory time ends; gives the number of the spike that began it."""
    s = vector_at(m, WORDS, np.int64)
    refractory, kinds = vector_at(s[REFRACTORY_AT], s[N], np.int64), vector_at(s[KINDS], s[N], np.int32)
    j = refractory[place]
    number = vector_at(s[SINCE], s[N], np.int64)[j]
    s[N_REFRACTORY] -= 1
    refractory[place] = refractory[s[N_REFRACTORY]]
    vector_at(s[FREE_CURRENTS], s[CAPACITY], np.float64)[number] = vector_at(s[I], s[N], dtype)[j]
    vector_at(s[FREED_AT], s[N], np.float64)[j] = t
    done = s[STOP_AFTER] > 0 and not s[RECURRENT] and vector_at(s[COUNTS], s[N], np.int32)[j] >= s[STOP_AFTER]
    if not (done or kinds[j] & ONCE):
        vector_at(s[THETA], s[N], dtype)[j] = matrix_at(s[NUMBERS_AT], NUMBERS, s[N], np.float64)[THRESH, j]
    return number


@compiled
def answer(dtype, m, q, t):
    """Write the state down for the q-th query: V, I, and what is left of a refractory time and whether it has spiked."""
    s = vector_at(m, WORDS, np.int64)
    n, channels = s[N], s[CHANNELS]
    v, i, counts = vector_at(s[V], n, dtype), vector_at(s[I], n, dtype), vector_at(s[COUNTS], n, np.int32)
    refractory, free_at = vector_at(s[REFRACTORY_AT], n, np.int64), vector_at(s[FREE_AT], n, np.float64)
    states = matrix_at(s[STATES], n, s[N_QUERIES] * channels, dtype)
    for j in range(n):
        states[j, q * channels] = v[j]
    for j in range(n if channels > 1 else 0):
        states[j, q * channels + 1] = i[j]
    if channels > 2:
        for j in range(n):
            states[j, q * channels + 2] = 0
            states[j, q * channels + 3] = min(counts[j], 1)
        for k in range(s[N_REFRACTORY]):
            j = refractory[k]
            states[j, q * channels + 2] = free_at[j] - t


@compiled
def run_forward(dtype, m, t_end):
    """One run; gives 0, or `INTERRUPTED`."""
    s = vector_at(m, WORDS, np.int64)
    n, capacity, eps = s[N], s[CAPACITY], np.float64(np.finfo(dtype).eps)
    longest = begin(dtype, m, t_end)
    t_stop = t_end + width_of(t_end, eps)
    at, coming = vector_at(s[AT], s[N_ARRIVALS], np.float64), vector_at(s[COMING], s[N_ARRIVALS], np.int64)
    spare = vector_at(s[SPARE], 2**40, np.int64)
    n_coming = sort_evenly(at, t_stop, coming, vector_at(s[BUCKETS], s[N_ARRIVALS] + 2, np.int64), spare)
    rows, neurons = vector_at(s[ARRIVAL_ROWS], 2**40, np.int32), vector_at(s[NEURONS], 2**40, np.int32)
    asked_at, asked = vector_at(s[ASKED_AT], s[N_QUERIES], np.float64), vector_at(s[ASKED], s[N_QUERIES], np.int64)
    heap_times, heap_numbers = (
        vector_at(s[HEAP_TIMES], capacity + 1, np.float64), vector_at(s[HEAP_NUMBERS], capacity + 1, np.int64),
    )  # fmt: skip
    log = vector_at(s[LOG], 2**40, np.int32)

    t, begun, pending = 0.0, 0.0, True
    n_input, n_query, sent, still, signals = 0, 0, 0, 0, interrupts()
    while True:
        if interrupts() != signals:
            return INTERRUPTED
        if sent < s[N_SPIKES]:
            if send(dtype, m, sent, t_stop) and s[ANY_JUMPS]:
                begun = begun if pending else t
                pending = True
            sent = s[N_SPIKES]
        # A chain of spikes that takes no time ends, or goes on forever.
        if still > 10 * n + 100:
            s[STATUS], s[CULPRIT] = ENDLESS, neurons[min(sent, capacity) - 1]
        if s[STATUS] != FINE or s[N_SPIKES] > capacity or (s[STOP_AFTER] > 0 and s[N_WAITING] == 0):
            break

        te, kind, which, ask = np.inf, -1, 0, 0.0
        if n_input < n_coming:
            te, kind = at[coming[n_input]], INPUT
        if s[N_HEAP] > 0 and heap_times[0] < te:
            te, kind = heap_times[0], ARRIVAL
        if s[N_REFRACTORY] > 0:
            # The end of a refractory time comes before what arrives at the same instant.
            free, which = next_free(m)
            if free <= t_stop and free <= te + width_of(te, eps):
                te, kind = free, FREE
        if n_query < s[N_QUERIES]:
            # What happens at the instant of a query comes before its answer.
            ask = asked_at[asked[n_query]]
            last = min(ask + width_of(ask, eps), t_stop)
            if last < te:
                te, kind = (ask if t < ask else last), QUERY
        te = max(t_stop if kind < 0 else te, t)
        if pending and (kind < 0 or kind == QUERY or te > begun + width_of(begun, eps)):
            pending = False
            count = spike_at_once(dtype, m, t, begun)
            if count > 0:
                still += count
                continue
        if te > t:
            if pending:
                # Within an instant nothing is tested.
                set_coefficients(m, te - t)
                move_all(dtype, m)
                t = te
            elif not (kind == QUERY and t >= ask and not crosses_within(dtype, m, te - t)):
                before, ends = s[N_SPIKES], te if s[SINGLY] else min(te, t + longest)
                reached = through_stretch(
                    dtype, m, t, ends, ends == te and (kind == INPUT or kind == ARRIVAL or kind == FREE)
                )
                still = still + s[N_SPIKES] - before if reached <= t else 0
                t = reached
                if t < te or s[N_SPIKES] > before:
                    continue
            if kind == QUERY and t < last and crosses_within(dtype, m, last - t):
                continue
        if kind < 0:
            break
        if kind == QUERY:
            number = asked[n_query]
            answer(dtype, m, number, t)
            n_query += 1
        elif kind == FREE:
            number = set_free(dtype, m, which, t)
        elif kind == INPUT:
            number = coming[n_input]
            n_input += 1
            if n_input < n_coming:
                # Rows of a large matrix are far away, and who comes next is known.
                fetch_row(dtype, m, np.int64(rows[coming[n_input]]))
            arrive(dtype, m, np.int64(rows[number]))
        else:
            number = heap_numbers[0]
            pop(heap_times, heap_numbers, s[N_HEAP])
            s[N_HEAP] -= 1
            arrive(dtype, m, np.int64(neurons[number]))
        log[s[N_LOG]] = number * 8 + kind
        s[N_LOG] += 1
        if kind == FREE or (s[ANY_JUMPS] and kind != QUERY):
            begun = begun if pending else t
            pending = True
    finish(dtype, m, t, t_end)
    return 0


@compiled
def finish(dtype, m, t, t_end):
    """The results that are written at the end."""
    s = vector_at(m, WORDS, np.int64)
    n, capacity, count = s[N], s[CAPACITY], min(s[N_SPIKES], s[CAPACITY])
    times, out = vector_at(s[TIMES], capacity, np.float64), vector_at(s[TIMES_OUT], capacity, dtype)
    neurons, slopes = vector_at(s[NEURONS], capacity, np.int32), vector_at(s[SLOPES], capacity, dtype)
    v, i = vector_at(s[V], n, dtype), vector_at(s[I], n, dtype)
    statuses, stopped = vector_at(s[STATUSES], n, np.int32), vector_at(s[STOPPED], n, dtype)
    for k in range(count):
        out[k] = min(times[k], t_end)
    for k in range(count, capacity):
        out[k], neurons[k], slopes[k] = np.inf, 0, np.inf
    for j in range(n):
        statuses[j] = FINE if np.isfinite(v[j]) and np.isfinite(i[j]) else NOT_FINITE
        stopped[j] = min(t, t_end)
    if s[STATUS] != FINE:
        statuses[s[CULPRIT]] = s[STATUS]
    # On the way back, those who are refractory at the end are so from the start.
    refractory, since = vector_at(s[REFRACTORY_AT], n, np.int64), vector_at(s[SINCE], n, np.int64)
    log, free_currents = vector_at(s[LOG], 2**40, np.int32), vector_at(s[FREE_CURRENTS], capacity, np.float64)
    for k in range(s[N_REFRACTORY] if s[N_SPIKES] <= capacity else 0):
        number = since[refractory[k]]
        free_currents[number] = i[refractory[k]]
        log[s[N_LOG]] = number * 8 + FREE
        s[N_LOG] += 1
    vector_at(s[COUNT], 1, np.int32)[0] = s[N_SPIKES]
    info = vector_at(s[INFO], 2, np.int32)
    info[0], info[1] = count, s[N_LOG]
