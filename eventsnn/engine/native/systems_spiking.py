"""The spikes of linear systems on one clock: which neurons reach the threshold in a stretch, when, and what follows.

The rules are those of `spiking.py`; neurons have more channels. The states in `x` stay those at the start of the
stretch while its spikes are looked for, and those in `new_x` are all at its end. A neuron that has spiked meanwhile is
apart, in `since_x`.
"""

import numpy as np

from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.crossings import advance, fill, first_crossing, height_at, slope_at
from eventsnn.engine.native.kinds import INSTANT, NEVER, ONCE, OUTPUT, RESET_HIGH, SPIKE
from eventsnn.engine.native.matrices import exchange, load, reset, take
from eventsnn.engine.native.order import sort_by_time
from eventsnn.engine.native.sweep import width_of
from eventsnn.engine.native.systems_queries import answer_until, answer_until_apart, note_apart
from eventsnn.engine.native.systems_sweep import find_reaching, keep, move_all, set_coefficients, set_heights
from eventsnn.engine.native.systems_words import HELD, SYSTEMS

# The states at the end of a stretch become the present ones.
go_on = exchange(SYSTEMS, "x", "new_x")


@compiled
def jumps(run, j):
    """Whether arrivals change the spike condition of a neuron at once."""
    total = 0.0
    for k in range(run.size):
        total += abs(run.numbers[run.at_h + k, j] * run.numbers[run.at_into + k, j])
    return total > 0


@compiled
def emit(run, j, t, slope, kind):
    """Neuron `j` spikes at `t`, in the state `run.y`, and is reset. False if the run is over because of it."""
    capacity, number, size, y = run.capacity, run.n_spikes, run.size, run.y
    if number >= capacity:
        # One more is counted than there is room for.
        run.n_spikes = capacity + 1
        return False
    run.times[number] = t
    for k in range(size):
        run.at_spikes[number, k] = y[k]
    run.neurons[number] = j
    run.slopes[number] = slope
    run.log[run.n_log] = number * 8 + kind
    run.n_spikes += 1
    run.n_log += 1
    run.counts[j] += 1
    done = run.stop_after > 0 and run.counts[j] == run.stop_after
    if done and run.kinds[j] & OUTPUT:
        run.n_waiting -= 1
    reset(run, j)
    keep(run, run.since_x, j)
    if run.passing[j]:
        run.passing[j] = False
        run.n_passing -= 1
    tref = run.numbers[run.at_tref, j]
    if tref > 0:
        run.refractory[run.n_refractory] = j
        run.free_at[j] = t + tref
        run.n_refractory += 1
    if run.kinds[j] & ONCE or tref > 0 or (done and not run.recurrent):
        run.offset[j] = -NEVER
        return True
    load(run, j, False)
    if height_at(run, y) >= 0:
        # It would spike at once and forever, unless it falls.
        if slope_at(run, y) >= 0:
            # In a layer this does not affect the others.
            run.offset[j] = -NEVER
            run.statuses[j] = RESET_HIGH
            run.stopped[j] = t
            if run.recurrent:
                run.status = RESET_HIGH
                return False
        else:
            run.passing[j] = True
            run.n_passing += 1
    return True


@compiled
def spikes_of(run, k, t, until, meeting, n_found):
    """Find the spikes of the k-th neuron that may spike in a stretch; gives how many have been found in all."""
    crossed, j, y, end_x, size = run.crossed, run.listed[k], run.y, run.end_x, run.size
    found_t, found_j, found_x, found_s = run.found_t, run.found_j, run.found_x, run.found_s
    crossed[k] = np.inf
    before, rests, passing = n_found, run.numbers[run.at_tref, j] > 0, run.passing[j] != 0
    take(run, j, run.group_of[j], until - t)
    fill(run, y, run.x, j)
    ready, at, rest, left = run.offset[j] > -NEVER, t, 0.0, until - t
    while ready:
        after = first_crossing(run, left, passing)
        if after < 0 and n_found == before and run.new_height[j] >= 0 and height_at(run, y) < 0:
            # It reaches the threshold by rounding, at the end.
            after = left
        if after < 0:
            left = 0.0
            break
        if run.any_jumps and left - after <= meeting and jumps(run, j):
            # A neuron on which spikes act at once meets an arrival that rounds to the same time: that comes first.
            left -= after
            break
        crossed[k] = after
        found_s[n_found] = slope_at(run, y)
        for channel in range(size):
            found_x[n_found, channel] = y[channel]
        if run.singly:
            for channel in range(size):
                end_x[k, channel] = y[channel]
            return n_found
        reset(run, j)
        # Knuth's TwoSum, as in `instants.PreciseTime`: the rounding of a time does not add up over the spikes.
        step = rest + after
        later = at + step
        other = later - at
        at, rest = later, (at - (later - other)) + (step - other)
        left = (until - at) - rest
        found_t[n_found], found_j[n_found], run.order[n_found] = at, j, n_found
        n_found += 1
        ready = run.n_spikes + n_found <= run.capacity and not rests and not run.kinds[j] & ONCE
        if run.stop_after > 0 and not run.recurrent:
            ready = ready and run.counts[j] + n_found - before < run.stop_after
        passing = height_at(run, y) >= 0
        ready = ready and not (passing and slope_at(run, y) >= 0)
    if crossed[k] < np.inf:
        if rests and run.kinds[j] >= HELD:
            load(run, j, True)
        advance(run, left)
        for channel in range(size):
            end_x[k, channel] = y[channel]
    return n_found


@compiled
def through_stretch(run, t, until, meets_arrival, final):
    """Take all neurons to `until`, or to the first spike where spikes arrive at once; gives how far they came.

    The spikes of the stretch are emitted in their order, and queries are answered between them. Nothing arrives in it.
    `final` says that the run is over at its end.
    """
    n, eps = run.n, run.eps
    while True:
        set_coefficients(run, until - t)
        if find_reaching(run, until - t) == 0:
            answer_until(run, t, until, final)
            go_on(run)
            break
        reached = spike_in_stretch(run, t, until, 0.5 * eps * until if meets_arrival else -1.0, final)
        if reached >= 0:
            until = reached
            break
        # More spikes than there is room for: those of a shorter stretch, so that the first of them are listed.
        until, meets_arrival, final = t + 0.5 * (until - t), False, False
    if run.n_passing > 0:
        passing, height = run.passing, run.height
        set_heights(run, height, run.x)
        for j in range(n):
            if passing[j] and height[j] < 0:
                passing[j] = False
                run.n_passing -= 1
    return until


@compiled
def spike_in_stretch(run, t, until, meeting, final):
    """The same where some are listed that may spike; -1, and nothing has changed, if they spike too often."""
    n, n_listed, size, y = run.n, run.n_listed, run.size, run.y
    listed, crossed, end_x = run.listed, run.crossed, run.end_x
    n_found, first = 0, np.inf
    for k in range(n_listed):
        n_found = spikes_of(run, k, t, until, meeting, n_found)
        first = min(first, crossed[k])
        if n_found + run.n_spikes > run.capacity:
            if n_listed > 1 and until - t > width_of(until, run.eps):
                return -1.0
            n_listed = k + 1
            break
    if run.singly:
        if first < np.inf:
            until, final = t + first, False
            set_coefficients(run, first)
            move_all(run, run.new_x, first)
        answer_until(run, t, until, final)
        note_waiting(run, meeting)
        go_on(run)
        for k in range(n_listed if first < np.inf else 0):
            if crossed[k] <= first + 0.5 * run.eps * until:
                j = listed[k]
                load(run, j, False)
                for channel in range(size):
                    y[channel] = end_x[k, channel]
                going_on = emit(run, j, until, slope_at(run, y), SPIKE)
                for channel in range(size):
                    run.x[channel, j] = run.since_x[channel, j]
                if not going_on:
                    break
        return until
    found_t, found_j, order = run.found_t, run.found_j, run.order
    found_s, found_x = run.found_s, run.found_x
    sort_by_time(found_t, order, run.spare, n_found)
    asks = run.n_answered < run.n_queries
    if asks:
        # Queries are answered from the states at the start of the stretch, or after the last spike of the neuron in it.
        apart_t = run.apart_t
        for j in range(n):
            apart_t[j] = -1
        run.n_apart = 0
    for k in range(n_found):
        one = order[k]
        if asks:
            answer_until_apart(run, t, found_t[one], False)
        for channel in range(size):
            y[channel] = found_x[one, channel]
        if not emit(run, found_j[one], found_t[one], found_s[one], SPIKE):
            break
        if asks:
            note_apart(run, found_j[one], found_t[one])
    if asks:
        answer_until_apart(run, t, until, final)
    for k in range(n_listed):
        if crossed[k] < np.inf:
            for channel in range(size):
                run.new_x[channel, listed[k]] = end_x[k, channel]
    note_waiting(run, meeting)
    go_on(run)
    return until


@compiled
def note_waiting(run, meeting):
    """Those who reach their threshold where an arrival that acts at once comes at the same time: that comes first."""
    if meeting < 0 or not run.any_jumps:
        return
    height = run.height
    set_heights(run, height, run.new_x)
    for k in range(run.n_listed):
        if height[run.listed[k]] >= 0:
            run.waited[run.listed[k]] = True


@compiled
def spike_at_once(run, t, begun):
    """The spikes of those that an instant has lifted to their threshold or above; gives how many there are."""
    height, passing, waited = run.height, run.passing, run.waited
    listed, freed_at, offset, y = run.listed, run.freed_at, run.offset, run.y
    set_heights(run, height, run.x)
    count = 0
    for j in range(run.n):
        if height[j] < 0:
            waited[j] = False
        elif offset[j] > -NEVER and not passing[j]:
            load(run, j, False)
            fill(run, y, run.x, j)
            slope = slope_at(run, y)
            if freed_at[j] >= begun and slope < 0 and height[j] <= -slope * width_of(t, run.eps):
                # A refractory time has ended where the neuron falls through its threshold at this very instant.
                passing[j] = True
                run.n_passing += 1
            else:
                listed[count] = j
                count += 1
    for k in range(count):
        j = listed[k]
        load(run, j, False)
        fill(run, y, run.x, j)
        # What has reached the threshold before anything arrived has crossed it, with a slope.
        crossed = waited[j] != 0
        waited[j] = False
        slope = slope_at(run, y) if crossed else np.inf
        going_on = emit(run, j, t, slope, SPIKE if crossed else INSTANT)
        for channel in range(run.size):
            run.x[channel, j] = run.since_x[channel, j]
        if not going_on:
            break
    return count
