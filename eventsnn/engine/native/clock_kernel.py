"""The kernels of neurons on one clock, as XLA calls them: what stands where, and how a batch is shared out."""

import numpy as np

from eventsnn.engine.native import clock
from eventsnn.engine.native import clock_back as back
from eventsnn.engine.native import words as names
from eventsnn.engine.native import words_back as words_of
from eventsnn.engine.native.clock_rates import set_out_rates
from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.frame import (
    CANCELLED,
    INTERNAL,
    argument,
    attribute,
    expected,
    fail,
    length,
    result,
    unexpected,
)
from eventsnn.engine.native.interrupt import INTERRUPTED
from eventsnn.engine.native.pool import allocate, free, spread
from eventsnn.engine.native.scratch import row_of, vector_at

# Status of an item: there was no memory for it.
NO_MEMORY = 1


@compiled
def outcome(frame, status):
    """What a handler returns for the status of its work: 0, or an error."""
    if status == 0:
        return 0
    if status == INTERRUPTED:
        return fail(frame, "the run was interrupted", CANCELLED)
    return fail(frame, "there was no memory for a run: give it fewer samples at once", INTERNAL)


def forward(dtype):
    """Arguments: arrival times, rows, weights, delays, numbers, kinds, queries, t_end. Attributes: `recurrent`,
    `stop_after`. Results: as `LayerRun`, then the trace.
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

    @compiled
    def work(frame, item):
        words = allocate(8 * names.WORDS)
        if words == 0:
            return NO_MEMORY
        s = vector_at(words, names.WORDS, np.int64)
        s[names.N], s[names.CAPACITY] = length(argument(frame, 5), 1), length(result(frame, 0), 1)
        s[names.N_ARRIVALS], s[names.N_QUERIES] = length(argument(frame, 0), 1), length(argument(frame, 6), 1)
        s[names.CHANNELS] = length(result(frame, 8), 3)
        s[names.RECURRENT], s[names.STOP_AFTER] = attribute(frame, 0), attribute(frame, 1)
        for k in range(7):
            s[names.ARRIVAL_TIMES + k] = row_of(argument(frame, k), item, argument_sizes[k])
        s[names.UNWANTED] = 0
        for k in range(14):
            s[names.TIMES_OUT + k] = row_of(result(frame, k), item, result_sizes[k])
            # Slopes, and the trace from the exact times to the log, have length 0 if they were not asked for.
            if (k == 2 or 9 <= k <= 12) and length(result(frame, k), 1) == 0:
                s[names.UNWANTED] |= 1 << k
        arrays = allocate(clock.set_out(words, 0) + 64)
        if arrays == 0:
            free(words)
            return NO_MEMORY
        clock.set_out(words, (arrays + 63) // 64 * 64)
        t_end = np.float64(vector_at(row_of(argument(frame, 7), item, size), 1, dtype)[0])
        status = clock.run_forward(dtype, words, t_end)
        free(arrays)
        free(words)
        return status

    @compiled
    def body(frame):
        error = unexpected(frame, arguments, results)
        if error != 0:
            return error
        return outcome(frame, spread(frame, length(result(frame, 0), 0), work, 0))

    return body


def _backward(dtype, rates):
    """Arguments: those of `forward`, the trace, and the cotangents of times and states. Results: those of the weights,
    summed over some of the samples, then those of arrival times, delays and numbers, for each sample.
    """
    arguments = expected(
        (dtype, 2), (np.int32, 2), (dtype, 3), (dtype, 2), (dtype, 3), (np.int32, 2), (dtype, 2), (dtype, 2),
        (np.int32, 2), (np.int32, 2), (np.int32, 2), (np.int32, 2), (np.int32, 2), (np.int32, 2), (dtype, 2),
        (dtype, 4),
    )  # fmt: skip
    results = expected((dtype, 3), (dtype, 2), (dtype, 2), (dtype, 3))
    size = np.dtype(dtype).itemsize
    argument_sizes = (size, 4, size, size, size, 4, size, size, 4, 4, 4, 4, 4, 4, size, size)

    @compiled
    def work(frame, item):
        words = allocate(8 * words_of.WORDS)
        if words == 0:
            return NO_MEMORY
        s = vector_at(words, words_of.WORDS, np.int64)
        samples, chunks = length(result(frame, 1), 0), length(result(frame, 0), 0)
        s[words_of.N], s[words_of.CAPACITY] = length(argument(frame, 5), 1), length(argument(frame, 8), 1)
        s[words_of.N_ARRIVALS], s[words_of.N_QUERIES] = length(argument(frame, 0), 1), length(argument(frame, 6), 1)
        s[words_of.CHANNELS], s[words_of.ROWS] = length(argument(frame, 15), 3), length(argument(frame, 2), 1)
        s[words_of.RECURRENT] = attribute(frame, 0)
        s[words_of.BY_WEIGHTS] = row_of(result(frame, 0), item, size)
        by_weights = vector_at(s[words_of.BY_WEIGHTS], s[words_of.ROWS] * s[words_of.N], dtype)
        for k in range(by_weights.shape[0]):
            by_weights[k] = 0
        end = back.set_out_back(words, 0)
        if rates is not None:
            end = set_out_rates(words, end, length(argument(frame, 12), 1))
        arrays = allocate(end + 64)
        if arrays == 0:
            free(words)
            return NO_MEMORY
        end = back.set_out_back(words, (arrays + 63) // 64 * 64)
        if rates is not None:
            set_out_rates(words, end, length(argument(frame, 12), 1))
        status = 0
        for sample in range(item * samples // chunks, (item + 1) * samples // chunks):
            for k in range(16):
                s[words_of.ARRIVAL_TIMES + k] = row_of(argument(frame, k), sample, argument_sizes[k])
            for k in range(1, 4):
                s[words_of.BY_WEIGHTS + k] = row_of(result(frame, k), sample, size)
            status = back.run_backward(dtype, words, rates)
            if status != 0:
                break
        free(arrays)
        free(words)
        return status

    @compiled
    def body(frame):
        error = unexpected(frame, arguments, results)
        if error != 0:
            return error
        return outcome(frame, spread(frame, length(result(frame, 0), 0), work, 0))

    return body


def backward(dtype):
    """The way back for everything but leaks, couplings and decays, which receive 0."""
    return _backward(dtype, None)


def backward_with_rates(dtype):
    """The way back for everything."""
    return _backward(dtype, True)
