"""The kernels of neurons on one clock, as XLA calls them: what stands where, and how a batch is shared out."""

import numpy as np

from eventsnn.engine.native import clock
from eventsnn.engine.native import clock_back as back
from eventsnn.engine.native.block import array_at
from eventsnn.engine.native.clock_rates import set_out_rates
from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.frame import (
    argument,
    attribute,
    expected,
    length,
    result,
)
from eventsnn.engine.native.pool import allocate, free
from eventsnn.engine.native.scratch import row_of
from eventsnn.engine.native.shared_out import NO_MEMORY, shared_out
from eventsnn.engine.native.words import CLOCK, clock_block
from eventsnn.engine.native.words_back import BACK, back_block


def forward(dtype):
    """Arguments: arrival times, rows, weights, delays, numbers, kinds, queries, t_end. Attributes: `changes`,
    which is how many of the last rows change drives, `recurrent`, `stop_after`. Results: as `LayerRun`, then the trace.
    """
    arguments = expected(
        (dtype, 2), (np.int32, 2), (dtype, 3), (dtype, 2), (dtype, 3), (np.int32, 2), (dtype, 2), (dtype, 2)
    )
    results = expected(
        (dtype, 2), (np.int32, 2), (dtype, 2), (np.int32, 2), (np.int32, 2), (np.int32, 2), (dtype, 2), (np.bool_, 2),
        (dtype, 4), (np.int32, 2), (np.int32, 2), (np.int32, 2), (np.int32, 2), (np.int32, 2),
    )  # fmt: skip
    size = np.dtype(dtype).itemsize
    argument_sizes = (size, 4, size, size, size, 4, size)
    result_sizes = (size, 4, size, 4, 4, 4, size, 1, size, 4, 4, 4, 4, 4)
    block_size, given, results_at = 8 * CLOCK.size, CLOCK.place("arrival_times"), CLOCK.place("times_out")

    @compiled
    def work(frame, item):
        words = allocate(block_size)
        if words == 0:
            return NO_MEMORY
        run = clock_block(words, dtype)
        run.n, run.capacity = length(argument(frame, 5), 1), length(result(frame, 0), 1)
        run.n_arrivals, run.n_queries = length(argument(frame, 0), 1), length(argument(frame, 6), 1)
        run.channels = length(result(frame, 8), 3)
        run.first_change = length(argument(frame, 2), 1) - attribute(frame, 0)
        run.recurrent, run.stop_after = attribute(frame, 1), attribute(frame, 2)
        for k in range(7):
            run.words[given + k] = row_of(argument(frame, k), item, argument_sizes[k])
        for k in range(14):
            run.words[results_at + k] = row_of(result(frame, k), item, result_sizes[k])
        # These have length 0 if they were not asked for.
        run.unwanted = 0
        for k, bit in ((2, 1), (9, 2), (11, 4), (12, 8)):
            if length(result(frame, k), 1) == 0:
                run.unwanted |= bit
        arrays = allocate(clock.set_out(run, 0) + 64)
        if arrays == 0:
            free(words)
            return NO_MEMORY
        clock.set_out(run, (arrays + 63) // 64 * 64)
        t_end = np.float64(array_at(row_of(argument(frame, 7), item, size), dtype)[0])
        status = clock.run_forward(run, t_end, None)
        free(arrays)
        free(words)
        return status

    return shared_out(arguments, results, work)


def _backward(dtype, rates):
    """Arguments: those of `forward`, the trace, and the cotangents of times and states. Attribute: `changes`. Results:
    the cotangents of weights, summed over some samples each, then those of arrival times, delays and numbers, for each
    sample.
    """
    arguments = expected(
        (dtype, 2), (np.int32, 2), (dtype, 3), (dtype, 2), (dtype, 3), (np.int32, 2), (dtype, 2), (dtype, 2),
        (np.int32, 2), (np.int32, 2), (np.int32, 2), (np.int32, 2), (np.int32, 2), (np.int32, 2), (dtype, 2),
        (dtype, 4),
    )  # fmt: skip
    results = expected((dtype, 3), (dtype, 2), (dtype, 2), (dtype, 3))
    size = np.dtype(dtype).itemsize
    argument_sizes = (size, 4, size, size, size, 4, size, size, 4, 4, 4, 4, 4, 4, size, size)
    block_size, given, by_weights_at = 8 * BACK.size, BACK.place("arrival_times"), BACK.place("by_weights")

    @compiled
    def work(frame, item):
        words = allocate(block_size)
        if words == 0:
            return NO_MEMORY
        run = back_block(words, dtype)
        samples, chunks = length(result(frame, 1), 0), length(result(frame, 0), 0)
        run.n, run.capacity = length(argument(frame, 5), 1), length(argument(frame, 8), 1)
        run.n_arrivals, run.n_queries = length(argument(frame, 0), 1), length(argument(frame, 6), 1)
        run.channels, run.rows = length(argument(frame, 15), 3), length(argument(frame, 2), 1)
        run.first_change = run.rows - attribute(frame, 0)
        run.words[by_weights_at] = row_of(result(frame, 0), item, size)
        by_weights = run.by_weights[0]
        for k in range(run.rows * run.n):
            by_weights[k] = 0
        end = back.set_out_back(run, 0)
        if rates is not None:
            end = set_out_rates(run, end, length(argument(frame, 12), 1))
        arrays = allocate(end + 64)
        if arrays == 0:
            free(words)
            return NO_MEMORY
        end = back.set_out_back(run, (arrays + 63) // 64 * 64)
        if rates is not None:
            set_out_rates(run, end, length(argument(frame, 12), 1))
        status = 0
        for sample in range(item * samples // chunks, (item + 1) * samples // chunks):
            for k in range(16):
                run.words[given + k] = row_of(argument(frame, k), sample, argument_sizes[k])
            for k in range(1, 4):
                run.words[by_weights_at + k] = row_of(result(frame, k), sample, size)
            status = back.run_backward(run, rates, None)
            if status != 0:
                break
        free(arrays)
        free(words)
        return status

    return shared_out(arguments, results, work)


def backward(dtype):
    """The way back for everything but leaks, couplings and decays, which receive 0."""
    return _backward(dtype, None)


def backward_with_rates(dtype):
    """The way back for everything."""
    return _backward(dtype, True)
