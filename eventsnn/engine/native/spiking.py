"""The spikes of neurons on one clock: which neurons reach the threshold in a stretch, when, and what follows."""

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
from eventsnn.engine.native.sweep import count_above, end_stretch, find_reaching, move_all, set_coefficients, width_of


@compiled
def emit(run, j, t, current, slope, kind):
    """Neuron `j` spikes at `t` and is reset. False if the run is over because of it."""
    capacity, number = run.capacity, run.n_spikes
    if number >= capacity:
        # One more is counted than there is room for.
        run.n_spikes = capacity + 1
        return False
    run.times[number] = t
    run.currents[number] = current
    run.neurons[number] = j
    run.slopes[number] = slope
    run.log[run.n_log] = number * 8 + kind
    run.n_spikes += 1
    run.n_log += 1
    run.counts[j] += 1
    done = run.stop_after > 0 and run.counts[j] == run.stop_after
    if done and run.kinds[j] & OUTPUT:
        run.n_waiting -= 1
    reset = run.numbers[VRESET, j]
    run.v[j] = reset
    if run.passing[j]:
        run.passing[j] = False
        run.n_passing -= 1
    if run.kinds[j] & ONCE or (done and not run.recurrent):
        run.theta[j] = NEVER
    elif run.numbers[TREF, j] > 0:
        run.theta[j] = NEVER
    elif reset >= run.numbers[THRESH, j]:
        # It would spike at once and forever, unless it falls.
        if run.numbers[COUPLING, j] * current + run.numbers[DRIVE, j] - run.numbers[LEAK, j] * reset >= 0:
            # In a layer this does not affect the others.
            run.theta[j] = NEVER
            run.statuses[j] = RESET_HIGH
            run.stopped[j] = t
            if run.recurrent:
                run.status = RESET_HIGH
                return False
        else:
            run.passing[j] = True
            run.n_passing += 1
    if run.numbers[TREF, j] > 0:
        run.refractory[run.n_refractory] = j
        run.free_at[j] = t + run.numbers[TREF, j]
        run.n_refractory += 1
    return True


@compiled
def spikes_of(run, k, t, until, meeting, n_found):
    """Find the spikes of the k-th neuron that may spike in a stretch; gives how many have been found in all."""
    numbers, kinds = run.numbers, run.kinds
    crossed, j = run.crossed, run.listed[k]
    found_t, found_j = run.found_t, run.found_j
    found_i, found_s = run.found_i, run.found_s
    passing, order = run.passing, run.order
    a, b, r, theta = numbers[LEAK, j], numbers[COUPLING, j], numbers[DECAY, j], numbers[THRESH, j]
    x, y = np.float64(run.v[j]), np.float64(run.i[j])
    left, drive, refractory = until - t, numbers[DRIVE, j], numbers[TREF, j] > 0
    crossed[k] = np.inf
    ready, before = run.theta[j] < NEVER, n_found
    g = run.group_of[j]
    keep, feed, fade, gain = run.coefs[g, 0], run.coefs[g, 1], run.coefs[g, 2], run.coefs[g, 3]
    at, rest = t, 0.0
    while ready:
        after = crossing(x, y, drive, left, a, b, r, theta, passing[j], RESOLUTION, keep, feed, fade, gain)
        # A neuron on which spikes act at once meets an arrival that rounds to the same time: that comes first.
        if after < 0 or (kinds[j] & JUMPS and left - after <= meeting):
            break
        crossed[k] = after
        if run.singly:
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
        ready = run.n_spikes + n_found <= run.capacity and not refractory and not kinds[j] & ONCE and x < theta
        if run.stop_after > 0 and not run.recurrent:
            ready = ready and run.counts[j] + n_found - before < run.stop_after
    if crossed[k] < np.inf:
        if not (refractory and kinds[j] & HOLDS_V):
            x = keep * x + feed * y + gain * drive
        if not (refractory and kinds[j] & HOLDS_I):
            y = fade * y
        run.new_v[k], run.new_i[k] = x, y
    return n_found


@compiled
def through_stretch(run, t, until, row, meets_arrival, final):
    """Take all neurons to `until`, or to the first spike where spikes arrive at once; gives how far they came.

    The spikes of the stretch are emitted in their order, and queries are answered between them. Nothing arrives in it,
    but with a `row` of 0 or more what arrives through that at its end is taken along, and `arrived` says whether it
    was. `final` says that the run is over at the end.
    """
    n, eps = run.n, run.eps
    run.arrived = 0
    while True:
        set_coefficients(run, until - t)
        if find_reaching(run, until - t) == 0:
            answer_until(run, t, until, final)
            end_stretch(run, row)
            break
        reached = spike_in_stretch(run, t, until, row, 0.5 * eps * until if meets_arrival else -1.0, final)
        if reached >= 0:
            until = reached
            break
        # More spikes than there is room for: those of a shorter stretch, so that the first of them are listed.
        until, row, meets_arrival, final = t + 0.5 * (until - t), -1, False, False
    if run.n_passing > 0:
        v, theta, passing = run.v, run.theta, run.passing
        for j in range(n):
            if passing[j] and v[j] < theta[j]:
                passing[j] = False
                run.n_passing -= 1
    return until


@compiled
def spike_in_stretch(run, t, until, row, meeting, final):
    """The same where some are listed that may spike; -1, and nothing has changed, if they spike too often."""
    n, n_listed, eps = run.n, run.n_listed, run.eps
    listed, crossed = run.listed, run.crossed
    v, i, theta = run.v, run.i, run.theta
    passing, kinds = run.passing, run.kinds
    n_found, first = 0, np.inf
    for k in range(n_listed):
        n_found = spikes_of(run, k, t, until, meeting, n_found)
        first = min(first, crossed[k])
        if n_found + run.n_spikes > run.capacity:
            if n_listed > 1 and until - t > width_of(until, eps):
                return -1.0
            n_listed = k + 1
            break
    if run.singly:
        if first < np.inf:
            until, final = t + first, False
            set_coefficients(run, first)
        answer_until(run, t, until, final)
    elif run.n_answered < run.n_queries:
        # Queries are answered from the states at the start of the stretch, or after the last spike of the neuron in it.
        base_v, base_i = run.base_v, run.base_i
        apart_t = run.apart_t
        for j in range(n):
            base_v[j], base_i[j], apart_t[j] = v[j], i[j], -1
        run.n_apart = 0
    if run.singly and first < np.inf:
        # The stretch has become shorter.
        move_all(run)
    else:
        end_stretch(run, row)
    v = run.v
    for k in range(n_listed):
        j = listed[k]
        # What float64 says has not crossed stays below, though it may round to the threshold.
        waits = kinds[j] & JUMPS and meeting >= 0
        if waits and v[j] >= theta[j] and crossed[k] == np.inf:
            run.waited[j], run.any_waited = True, 1
        if crossed[k] == np.inf and v[j] >= theta[j] and theta[j] < NEVER and not passing[j] and not waits:
            v[j] = theta[j] - run.dtype(eps) * max(abs(theta[j]), run.dtype(1e-30))
    if run.singly:
        numbers = run.numbers
        for k in range(n_listed if first < np.inf else 0):
            j = listed[k]
            if crossed[k] <= first + 0.5 * eps * until:
                slope = numbers[COUPLING, j] * i[j] + numbers[DRIVE, j] - numbers[LEAK, j] * numbers[THRESH, j]
                if not emit(run, j, until, np.float64(i[j]), slope, SPIKE):
                    break
        return until
    found_t, found_j = run.found_t, run.found_j
    found_i, found_s = run.found_i, run.found_s
    order = run.order
    sort_by_time(found_t, order, run.spare, n_found)
    asks = run.n_answered < run.n_queries
    for k in range(n_found):
        one = order[k]
        if asks:
            answer_until_apart(run, t, found_t[one], False)
        if not emit(run, found_j[one], found_t[one], found_i[one], found_s[one], SPIKE):
            break
        if asks:
            note_apart(run, found_j[one], found_t[one], found_i[one])
    if asks:
        answer_until_apart(run, t, until, final)
    new_v, new_i = run.new_v, run.new_i
    for k in range(n_listed):
        if crossed[k] < np.inf:
            j = listed[k]
            v[j], i[j] = new_v[k], new_i[k]
            if run.arrived:
                i[j] += run.weights[row, j]
            if kinds[j] & JUMPS and meeting >= 0 and v[j] >= theta[j]:
                run.waited[j], run.any_waited = True, 1
    return until


@compiled
def spike_at_once(run, t, begun):
    """The spikes of those that an instant has lifted to their threshold or above; gives how many there are."""
    n, eps = run.n, run.eps
    v, i, theta = run.v, run.i, run.theta
    waited = run.waited
    if count_above(v, theta, n) == 0:
        for j in range(n if run.any_waited else 0):
            # What arrived has taken it below its threshold.
            waited[j] = False
        run.any_waited = 0
        return 0
    numbers, passing = run.numbers, run.passing
    listed, freed_at = run.listed, run.freed_at
    count = 0
    for j in range(n):
        if v[j] >= theta[j] and theta[j] < NEVER and not passing[j]:
            slope = numbers[COUPLING, j] * i[j] + numbers[DRIVE, j] - numbers[LEAK, j] * v[j]
            if freed_at[j] >= begun and slope < 0 and v[j] - theta[j] <= -slope * width_of(t, eps):
                # A refractory time has ended where the neuron falls through its threshold at this very instant.
                passing[j] = True
                run.n_passing += 1
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
        if not emit(run, j, t, np.float64(i[j]), slope, kind):
            break
    return count
