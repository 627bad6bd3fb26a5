"""What every kernel for a batch does around its work: checks of the call, memory, shares of threads, and errors."""

import numpy as np

from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.frame import CANCELLED, INTERNAL, fail, length, result, unexpected
from eventsnn.engine.native.interrupt import INTERRUPTED
from eventsnn.engine.native.pool import allocate, free, spread

# Status of an item: there was no memory for it.
NO_MEMORY = 1


@compiled
def _outcome(frame, status):
    """What a handler returns for the status of its work: 0, or an error."""
    if status == 0:
        return 0
    if status == INTERRUPTED:
        return fail(frame, "the run was interrupted", CANCELLED)
    return fail(frame, "there was no memory for a run: give it fewer samples at once", INTERNAL)


def shared_out(arguments, results, work):
    """The body of a handler: `work(frame, item)` for each item of the first result, over XLA's threads.

    `arguments` and `results` are what is `expected`; `work` gives 0, `NO_MEMORY` or `INTERRUPTED`.
    """

    @compiled
    def body(frame):
        error = unexpected(frame, arguments, results)
        if error != 0:
            return error
        return _outcome(frame, spread(frame, length(result(frame, 0), 0), work, 0))

    return body


def in_a_block(layout, block_at, dtype, fill, set_out, go):
    """`work(frame, item)` with a block of its own.

    - `fill(run, frame, item)`: writes sizes and given arrays into the block.
    - `set_out(run, frame, place)`: gives the arrays of the run their places from `place` on; gives where they end.
    - `go(run, frame, item)`: does the work; gives the status.
    """
    size = 8 * layout.size

    @compiled
    def work(frame, item):
        words = allocate(size)
        if words == 0:
            return NO_MEMORY
        run = block_at(words, dtype)
        fill(run, frame, item)
        # Arrays begin at a cache line, which has 64 bytes.
        arrays = allocate(set_out(run, frame, 0) + 64)
        if arrays == 0:
            free(words)
            return NO_MEMORY
        set_out(run, frame, (arrays + 63) // 64 * 64)
        status = go(run, frame, item)
        free(arrays)
        free(words)
        return status

    return work


def over_samples(counted, put, sweep):
    """`go` for an item that is several samples, which share the sums of their derivatives.

    - `counted`: the result whose first axis has all samples.
    - `put(run, frame, sample)`: writes what is given for a sample into the block.
    - `sweep(run)`: does the work; gives the status.
    """

    @compiled
    def go(run, frame, item):
        samples, items = length(result(frame, counted), 0), length(result(frame, 0), 0)
        for sample in range(item * samples // items, (item + 1) * samples // items):
            put(run, frame, sample)
            status = sweep(run)
            if status != 0:
                return status
        return 0

    return go


def results_of_run(dtype, marks=2):
    """The results of all kernels that run forwards: as `LayerRun`, then the trace, with `marks` axes of one array.

    Gives what is `expected`, and the sizes of their numbers in bytes.
    """
    size = np.dtype(dtype).itemsize
    buffers = (
        (dtype, 2), (np.int32, 2), (dtype, 2), (np.int32, 2), (np.int32, 2), (np.int32, 2), (dtype, 2), (np.bool_, 2),
        (dtype, 4), (np.int32, 2), (np.int32, 2), (np.int32, 2), (np.int32, marks), (np.int32, 2),
    )  # fmt: skip
    return buffers, (size, 4, size, 4, 4, 4, size, 1, size, 4, 4, 4, 4, 4)


@compiled
def note_unwanted(run, frame):
    """Which results have length 0, because they were not asked for: see `words.py`."""
    run.unwanted = 0
    for k, bit in ((2, 1), (9, 2), (11, 4), (12, 8)):
        if length(result(frame, k), 1) == 0:
            run.unwanted |= bit
