"""The kernels of networks in windows, as XLA calls them: what stands where in a call, and how a batch is shared out."""

import numpy as np

from eventsnn.engine.native import windows, windows_back
from eventsnn.engine.native import windows_words as words_of
from eventsnn.engine.native.clock_kernel import NO_MEMORY, outcome
from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.frame import argument, attribute, expected, length, result, unexpected
from eventsnn.engine.native.pool import allocate, free, spread
from eventsnn.engine.native.scratch import row_of, vector_at
from eventsnn.engine.native.windows_start import set_out


@compiled
def _set_sizes(s, frame, capacity, channels):
    """The sizes that the arguments say, which both directions begin with."""
    s[words_of.N], s[words_of.CAPACITY], s[words_of.CHANNELS] = length(argument(frame, 7), 1), capacity, channels
    s[words_of.N_INPUTS], s[words_of.N_QUERIES] = length(argument(frame, 0), 1), length(argument(frame, 8), 1)
    s[words_of.N_ROWS], s[words_of.N_SYNAPSES] = length(argument(frame, 2), 1) - 1, length(argument(frame, 3), 1)
    s[words_of.RECURRENT] = attribute(frame, 0)


def _given(dtype):
    """The first arguments: as in `WindowsInputs`, with all numbers of the neurons in one array and their kinds."""
    return (
        (dtype, 2), (np.int32, 2), (np.int32, 2), (np.int32, 2), (dtype, 2), (dtype, 2), (dtype, 3), (np.int32, 2),
        (dtype, 2), (dtype, 2),
    )  # fmt: skip


def forward(dtype):
    """Attributes: `recurrent`, `stop_after`. Results: as `LayerRun`, then the trace."""
    arguments = expected(*_given(dtype))
    results = expected(
        (dtype, 2), (np.int32, 2), (dtype, 2), (np.int32, 2), (np.int32, 2), (np.int32, 2), (dtype, 2), (np.bool_, 2),
        (dtype, 4), (np.int32, 2), (np.int32, 2), (np.int32, 2), (np.int32, 3), (np.int32, 2),
    )  # fmt: skip
    size = np.dtype(dtype).itemsize
    argument_sizes = (size, 4, 4, 4, size, size, size, 4, size, size)
    result_sizes = (size, 4, size, 4, 4, 4, size, 1, size, 4, 4, 4, 4, 4)

    @compiled
    def work(frame, item):
        words = allocate(8 * words_of.WORDS)
        if words == 0:
            return NO_MEMORY
        s = vector_at(words, words_of.WORDS, np.int64)
        _set_sizes(s, frame, length(result(frame, 0), 1), length(result(frame, 8), 3))
        s[words_of.STOP_AFTER] = attribute(frame, 1)
        for k in range(10):
            s[words_of.INPUT_TIMES + k] = row_of(argument(frame, k), item, argument_sizes[k])
        for k in range(14):
            s[words_of.TIMES_OUT + k] = row_of(result(frame, k), item, result_sizes[k])
        arrays = allocate(set_out(words, 0, None) + 64)
        if arrays == 0:
            free(words)
            return NO_MEMORY
        set_out(words, (arrays + 63) // 64 * 64, None)
        status = windows.run_forward(dtype, words)
        if s[words_of.NO_MEMORY]:
            status = NO_MEMORY
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
    """Arguments: those of `forward`, the trace, and the cotangents of times and states. Results: the cotangents of
    weights and of delays, summed over some samples each, then those of input times and numbers, for each sample.
    """
    arguments = expected(
        *_given(dtype), (np.int32, 2), (np.int32, 2), (np.int32, 2), (np.int32, 2), (np.int32, 3), (np.int32, 2),
        (dtype, 4), (dtype, 2), (dtype, 4),
    )  # fmt: skip
    results = expected((dtype, 2), (dtype, 2), (dtype, 2), (dtype, 3))
    size = np.dtype(dtype).itemsize
    argument_sizes = (size, 4, 4, 4, size, size, size, 4, size, size)

    @compiled
    def work(frame, item):
        words = allocate(8 * words_of.WORDS)
        if words == 0:
            return NO_MEMORY
        s = vector_at(words, words_of.WORDS, np.int64)
        samples, chunks = length(result(frame, 2), 0), length(result(frame, 0), 0)
        _set_sizes(s, frame, length(argument(frame, 10), 1), length(argument(frame, 18), 3))
        n_synapses = s[words_of.N_SYNAPSES]
        s[words_of.BY_WEIGHTS] = row_of(result(frame, 0), item, size)
        s[words_of.BY_DELAYS] = row_of(result(frame, 1), item, size)
        by_weights = vector_at(s[words_of.BY_WEIGHTS], n_synapses, dtype)
        by_delays = vector_at(s[words_of.BY_DELAYS], n_synapses, dtype)
        for k in range(n_synapses):
            by_weights[k], by_delays[k] = 0, 0
        arrays = allocate(windows_back.set_out_back(words, set_out(words, 0, True)) + 64)
        if arrays == 0:
            free(words)
            return NO_MEMORY
        windows_back.set_out_back(words, set_out(words, (arrays + 63) // 64 * 64, True))
        status = 0
        for sample in range(item * samples // chunks, (item + 1) * samples // chunks):
            for k in range(10):
                s[words_of.INPUT_TIMES + k] = row_of(argument(frame, k), sample, argument_sizes[k])
            s[words_of.NEURONS] = row_of(argument(frame, 10), sample, 4)
            for k in range(11, 16):
                s[words_of.TIMES + k - 11] = row_of(argument(frame, k), sample, 4)
            s[words_of.STATES] = row_of(argument(frame, 16), sample, size)
            s[words_of.CT_TIMES] = row_of(argument(frame, 17), sample, size)
            s[words_of.CT_STATES] = row_of(argument(frame, 18), sample, size)
            s[words_of.BY_INPUTS] = row_of(result(frame, 2), sample, size)
            s[words_of.BY_GIVEN] = row_of(result(frame, 3), sample, size)
            status = windows_back.run_backward(dtype, words, rates)
            if s[words_of.NO_MEMORY]:
                status = NO_MEMORY
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
