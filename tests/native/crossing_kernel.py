"""A kernel that gives crossings of single linear systems, for their tests."""

from eventsnn.engine.native.block import array_at
from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.crossings import advance, first_crossing
from eventsnn.engine.native.frame import argument, attribute, expected, length, result, unexpected
from eventsnn.engine.native.matrices import load, places_of_small, set_chain, set_rows
from eventsnn.engine.native.pool import allocate, free, spread
from eventsnn.engine.native.scratch import row_of
from eventsnn.engine.native.systems_words import SYSTEMS, systems_block

set_out_small = places_of_small(SYSTEMS)


def crossings(dtype):
    """Arguments: the numbers of a system, its state, the times; results: the crossing up to each time, and the state
    there; the state at each time by `advance`.
    """
    arguments = expected((dtype, 2), (dtype, 2), (dtype, 2))
    results = expected((dtype, 2), (dtype, 3), (dtype, 3))
    block_size = 8 * SYSTEMS.size
    numbers_at, offset_at, kinds_at = (SYSTEMS.place(name) for name in ("numbers", "offset", "kinds"))

    @compiled
    def work(frame, item):
        words = allocate(block_size)
        run = systems_block(words, dtype)
        run.n = 1
        set_rows(run, attribute(frame, 1))
        small = allocate(set_out_small(run, 0) + 1024)
        set_out_small(run, (small + 63) // 64 * 64 + 512)
        run.words[kinds_at] = (small + 63) // 64 * 64
        run.words[offset_at] = (small + 63) // 64 * 64 + 64
        run.words[numbers_at] = row_of(argument(frame, 0), item, 8)
        run.kinds[0] = 0
        run.offset[0] = run.numbers[run.at_h0, 0]
        state = array_at(row_of(argument(frame, 1), item, 8), dtype)
        times = array_at(row_of(argument(frame, 2), item, 8), dtype)
        found = array_at(row_of(result(frame, 0), item, 8), dtype)
        there = array_at(row_of(result(frame, 1), item, 8), dtype)
        moved = array_at(row_of(result(frame, 2), item, 8), dtype)
        y = run.y
        for q in range(length(argument(frame, 2), 1)):
            set_chain(run, 0, 0, times[q])
            for k in range(4):
                y[k] = state[k] if k < run.size else 0.0
            found[q] = first_crossing(run, times[q], attribute(frame, 0))
            for k in range(run.size):
                there[q * run.size + k] = y[k]
            load(run, 0, False)
            for k in range(4):
                y[k] = state[k] if k < run.size else 0.0
            advance(run, times[q])
            for k in range(run.size):
                moved[q * run.size + k] = y[k]
        free(small)
        free(words)
        return 0

    @compiled
    def body(frame):
        error = unexpected(frame, arguments, results)
        if error != 0:
            return error
        return spread(frame, length(argument(frame, 0), 0), work, 0)

    return body
