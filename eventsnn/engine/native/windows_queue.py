"""Spikes on their way to neurons: a ring of buckets, and their order within a window.

There are several buckets for each window, one for each part of it, so that what is in a window is roughly in order.
A bucket is a chain of chunks of 256 entries, so that it takes the memory of what is in it. An entry is its time, its
target and its synapse, and on the way back what emitted it. Buckets are filled in any order of time. A window sorts its
bucket by target with a counting sort, and the few arrivals of each neuron by insertion.
"""

import math

import numpy as np

from eventsnn.engine.native.block import array_at, set_places
from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.pool import allocate, free
from eventsnn.engine.native.windows_words import WINDOWS

_ENTRIES = 256
# A window has 2**3 parts, and 1 where there are very many windows. For 14 arrivals of each neuron, insertion takes
# 20 ns per arrival with one part, and 3 ns with eight.
_PARTS, _MANY = 3, 2**14
# A chunk: the address of the next one, then entries of three words.
_HEADER = 8
_CHUNK = _HEADER + 24 * _ENTRIES
# A bucket: the addresses of its first and last chunk, and how many entries the last one has.
_FIRST, _LAST, _FILLED, _BUCKET = 0, 1, 2, 4


@compiled
def make_ring(run):
    """Buckets for as many windows as the longest delay reaches over. False if there is no memory."""
    ahead = min(np.int64(run.longest * run.per_length) + 3, run.n_windows + 1)
    run.parts = _PARTS if ahead <= _MANY else 0
    ahead <<= run.parts
    size = 2
    while size < ahead:
        size *= 2
    run.buckets = allocate(8 * _BUCKET * size)
    if run.buckets == 0:
        run.no_memory = 1
        return False
    run.ring = size - 1
    buckets = array_at(run.buckets, np.int64)
    for k in range(_BUCKET * size):
        buckets[k] = 0
    for k in range(size):
        # The first entry asks for a chunk.
        buckets[_BUCKET * k + _FILLED] = _ENTRIES
    return True


@compiled
def release_ring(run):
    """Give back the memory of everything that has grown."""
    if run.buckets != 0:
        buckets = array_at(run.buckets, np.int64)
        for k in range(run.ring + 1):
            empty(run, buckets, _BUCKET * k)
        free(run.buckets)
    while run.free_chunk != 0:
        chunk = run.free_chunk
        run.free_chunk = array_at(chunk, np.int64)[0]
        free(chunk)
    if run.sorted != 0:
        free(run.sorted)


@compiled
def empty(run, buckets, bucket):
    """Nobody uses the chunks of a bucket any more."""
    chunk = buckets[bucket + _FIRST]
    if chunk != 0:
        array_at(buckets[bucket + _LAST], np.int64)[0] = run.free_chunk
        run.free_chunk = chunk
    buckets[bucket + _FIRST], buckets[bucket + _LAST], buckets[bucket + _FILLED] = 0, 0, _ENTRIES


@compiled
def _add_chunk(run, buckets, bucket):
    chunk = run.free_chunk
    if chunk != 0:
        run.free_chunk = array_at(chunk, np.int64)[0]
    else:
        chunk = allocate(_CHUNK)
        if chunk == 0:
            # The run is over; entries are written over others until then.
            run.no_memory = 1
            chunk = buckets[bucket + _LAST]
            if chunk == 0:
                return
            buckets[bucket + _FILLED] = 0
            return
    array_at(chunk, np.int64)[0] = 0
    if buckets[bucket + _LAST] != 0:
        array_at(buckets[bucket + _LAST], np.int64)[0] = chunk
    else:
        buckets[bucket + _FIRST] = chunk
    buckets[bucket + _LAST], buckets[bucket + _FILLED] = chunk, 0


@compiled
def send(run, t, indptr, targets, delays, row, soonest, latest, last, number, earliest):
    """Put a spike at `t` into the bucket of every window from `soonest` to `latest` in which it reaches a neuron.

    It arrives no sooner than `soonest`, whatever rounding says, and no later than `last`, the last window. In the
    backward run `number` says what emitted it; otherwise it is `None`. Arrivals before the window `earliest` are left
    out, if that is not `None`.
    """
    buckets, t_stop, ring = array_at(run.buckets, np.int64), run.t_stop, run.ring
    parts = np.int64(1) << run.parts
    per_part, soonest, latest, last = run.per_length * parts, soonest * parts, latest * parts, last * parts
    latest, last = latest + parts - 1, last + parts - 1
    for synapse in range(indptr[row], indptr[row + 1]):
        ta = t + np.float64(delays[synapse])
        if not ta <= t_stop:
            continue
        part = min(max(np.int64(ta * per_part), soonest), last)
        if part > latest:
            continue
        if earliest is not None:
            if part < earliest * parts:
                continue
        bucket = _BUCKET * (part & ring)
        if buckets[bucket + _FILLED] == _ENTRIES:
            _add_chunk(run, buckets, bucket)
            if run.no_memory:
                return
        place = buckets[bucket + _FILLED]
        address = buckets[bucket + _LAST] + _HEADER
        array_at(address, np.float64)[3 * place] = ta
        halves = array_at(address, np.int32)
        halves[6 * place + 2], halves[6 * place + 3] = targets[synapse], synapse
        if number is not None:
            halves[6 * place + 4] = number
        buckets[bucket + _FILLED] = place + 1


@compiled
def sort_bucket(run, window, emitters):
    """The arrivals of a window by target, and empty its bucket; gives how many there are.

    `starts[j]` is the first of neuron j then. In the backward run, where `emitters` is not `None`, also what emitted
    them.
    """
    n, buckets = run.n, array_at(run.buckets, np.int64)
    parts = np.int64(1) << run.parts
    starts = run.starts
    for j in range(n + 2):
        starts[j] = 0
    count = 0
    for part in range(window * parts, (window + 1) * parts):
        bucket = _BUCKET * (part & run.ring)
        chunk = buckets[bucket + _FIRST]
        while chunk != 0:
            after = array_at(chunk, np.int64)[0]
            filled = _ENTRIES if after != 0 else buckets[bucket + _FILLED]
            halves = array_at(chunk + _HEADER, np.int32)
            for k in range(filled):
                starts[np.int64(halves[6 * k + 2]) + 2] += 1
            count += filled
            chunk = after
    for j in range(n):
        starts[j + 2] += starts[j + 1]
    if count > run.n_sorted and not _more_room(run, count):
        return 0
    times, synapses = run.sorted_times, run.sorted_synapses
    numbers = run.sorted_emitters
    for part in range(window * parts, (window + 1) * parts):
        bucket = _BUCKET * (part & run.ring)
        chunk = buckets[bucket + _FIRST]
        while chunk != 0:
            after = array_at(chunk, np.int64)[0]
            filled = _ENTRIES if after != 0 else buckets[bucket + _FILLED]
            entries = array_at(chunk + _HEADER, np.float64)
            halves = array_at(chunk + _HEADER, np.int32)
            for k in range(filled):
                j = np.int64(halves[6 * k + 2]) + 1
                place = starts[j]
                starts[j] = place + 1
                times[place], synapses[place] = entries[3 * k], halves[6 * k + 3]
                if emitters is not None:
                    numbers[place] = halves[6 * k + 4]
            chunk = after
        empty(run, buckets, bucket)
    for j in range(n):
        sort_few(times, synapses, numbers, starts[j], starts[j + 1], emitters)
    return count


_SORTED = WINDOWS.span("sorted_times", "sorted_emitters")


@compiled
def _more_room(run, count):
    if run.sorted != 0:
        free(run.sorted)
    run.n_sorted = 2 * count
    end = set_places(run, _SORTED, run.n_sorted, 0)
    run.sorted = allocate(end)
    if run.sorted == 0:
        run.no_memory, run.n_sorted = 1, 0
        starts = run.starts
        for j in range(run.n + 2):
            starts[j] = 0
        return False
    set_places(run, _SORTED, run.n_sorted, run.sorted)
    return True


# Up to so many arrivals of a neuron insertion is fastest.
_FEW = 24


@compiled
def sort_few(times, synapses, numbers, low, high, emitters):
    """The arrivals `low` to `high` by time, then by synapse: by insertion, or by Shell's sort if there are many."""
    gap = 1
    if high - low > _FEW:
        # Gaps of Knuth, about 3 apart: 1, 4, 13, 40, ...
        while 3 * gap + 1 < (high - low) // 2:
            gap = 3 * gap + 1
    while gap > 0:
        for k in range(low + gap, high):
            t, synapse = times[k], synapses[k]
            place = k - gap
            if times[place] < t or (times[place] == t and synapses[place] < synapse):
                continue
            number = numbers[k] if emitters is not None else np.int32(0)
            while place >= low and (times[place] > t or (times[place] == t and synapses[place] > synapse)):
                times[place + gap], synapses[place + gap] = times[place], synapses[place]
                if emitters is not None:
                    numbers[place + gap] = numbers[place]
                place -= gap
            times[place + gap], synapses[place + gap] = t, synapse
            if emitters is not None:
                numbers[place + gap] = number
        gap //= 3


@compiled
def choose_windows(run, dmin, arrivals):
    """How long windows are: as the shortest delay among neurons, or less where so much arrives that sorting is slow.

    False if there would be more of them than there may be.
    """
    t_stop = run.t_stop
    if not dmin * MAX_WINDOWS >= run.t_end:
        return False
    # A little less than the delay. Otherwise inputs on a grid that the delays share would all come at the ends of
    # windows, on one side or the other, as they are rounded.
    length = dmin * (1 - 8 * run.eps)
    if arrivals > 0 and t_stop > 0:
        length = min(length, max(t_stop * _TOGETHER * run.n / arrivals, t_stop / (MAX_WINDOWS / 2)))
    if not length < np.inf:
        length = 2 * t_stop + 1
    run.length, run.per_length = length, 1 / length
    run.n_windows = np.int64(math.floor(t_stop / length)) + 1
    return True


# How many windows there may be; `report.py` names the number.
MAX_WINDOWS = 2**20
# How many arrivals from inputs a neuron may have in a window, on average.
_TOGETHER = 16
