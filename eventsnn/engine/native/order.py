"""Orders by time: of arrivals, of the spikes of a stretch, and of the spikes that are on their way."""

from .compiled import compiled

# Up to so many entries are sorted by insertion, which is faster than merging for a few.
_FEW = 24
# With more than this in one bucket, insertion takes longer than merging everything.
_FULL = 64


@compiled
def sort_by_time(times, order, spare, count):
    """Put the numbers in `order` so that their `times` rise; those of equal times stay in their order."""
    for start in range(0, count, _FEW):
        end = min(start + _FEW, count)
        for k in range(start + 1, end):
            one = order[k]
            t = times[one]
            place = k - 1
            while place >= start and times[order[place]] > t:
                order[place + 1] = order[place]
                place -= 1
            order[place + 1] = one
    width = _FEW
    while width < count:
        for start in range(0, count, 2 * width):
            middle, end = min(start + width, count), min(start + 2 * width, count)
            if middle == end or times[order[middle - 1]] <= times[order[middle]]:
                continue
            for k in range(start, middle):
                spare[k] = order[k]
            left, right, place = start, middle, start
            while left < middle:
                if right < end and times[order[right]] < times[spare[left]]:
                    order[place] = order[right]
                    right += 1
                else:
                    order[place] = spare[left]
                    left += 1
                place += 1
        width *= 2


@compiled
def sort_evenly(times, n_times, t_end, order, places, spare):
    """The numbers of those of the `times` that are up to `t_end`, so that these rise; gives how many there are.

    Times that are spread over the run, as those of inputs are, fall into as many buckets as there are times, with a few
    in each: 6 ns per time, where merging takes 35 for 8,000 of them. `places` has two entries more than
    there are times.
    """
    buckets = n_times + 1
    scale = buckets / t_end if t_end > 0 else 0.0
    for bucket in range(buckets + 1):
        places[bucket] = 0
    for k in range(n_times):
        if times[k] <= t_end:
            places[min(int(times[k] * scale), buckets - 1) + 1] += 1
    for bucket in range(buckets):
        places[bucket + 1] += places[bucket]
    count = places[buckets]
    # Filled from behind, so that equal times stay in their order and `places` ends as where the buckets begin.
    for k in range(n_times - 1, -1, -1):
        if times[k] <= t_end:
            bucket = min(int(times[k] * scale), buckets - 1) + 1
            places[bucket] -= 1
            order[places[bucket]] = k
    fullest = 0
    for bucket in range(1, buckets):
        fullest = max(fullest, places[bucket + 1] - places[bucket])
    if max(fullest, count - places[buckets]) > _FULL:
        sort_by_time(times, order, spare, count)
        return count
    for k in range(1, count):
        one = order[k]
        t = times[one]
        place = k - 1
        while place >= 0 and times[order[place]] > t:
            order[place + 1] = order[place]
            place -= 1
        order[place + 1] = one
    return count


@compiled
def push(heap_times, heap_numbers, size, t, number):
    """Add an entry to a binary heap of `size` entries. The first is the earliest, with the least number of these."""
    place = size
    while place > 0:
        up = (place - 1) >> 1
        if heap_times[up] < t or (heap_times[up] == t and heap_numbers[up] < number):
            break
        heap_times[place], heap_numbers[place] = heap_times[up], heap_numbers[up]
        place = up
    heap_times[place], heap_numbers[place] = t, number


@compiled
def pop(heap_times, heap_numbers, size):
    """Take the first entry off a binary heap of `size` entries."""
    t, number = heap_times[size - 1], heap_numbers[size - 1]
    size -= 1
    place = 0
    while True:
        down = 2 * place + 1
        if down >= size:
            break
        other = down + 1
        if other < size and (
            heap_times[other] < heap_times[down]
            or (heap_times[other] == heap_times[down] and heap_numbers[other] < heap_numbers[down])
        ):
            down = other
        if heap_times[down] > t or (heap_times[down] == t and heap_numbers[down] > number):
            break
        heap_times[place], heap_numbers[place] = heap_times[down], heap_numbers[down]
        place = down
    heap_times[place], heap_numbers[place] = t, number
