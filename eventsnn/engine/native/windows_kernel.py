"""The kernels of networks in windows, as XLA calls them: what stands where in a call, and how a batch is shared out."""

import numpy as np

from eventsnn.engine.native import windows, windows_back
from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.frame import argument, attribute, expected, length, result
from eventsnn.engine.native.pool import allocate, free
from eventsnn.engine.native.scratch import row_of
from eventsnn.engine.native.shared_out import NO_MEMORY, shared_out
from eventsnn.engine.native.windows_start import set_out
from eventsnn.engine.native.windows_words import WINDOWS, windows_block

_BLOCK_SIZE = 8 * WINDOWS.size
_INPUT_TIMES, _TIMES_OUT, _NEURONS, _TIMES, _STATES, _CT_TIMES, _CT_STATES = (
    WINDOWS.place(name) for name in ("input_times", "times_out", "neurons", "times", "states", "ct_times", "ct_states")
)
_BY_WEIGHTS, _BY_DELAYS, _BY_INPUTS, _BY_GIVEN = (
    WINDOWS.place(name) for name in ("by_weights", "by_delays", "by_inputs", "by_given")
)


@compiled
def _set_sizes(run, frame, capacity, channels):
    """The sizes that the arguments say, which both directions begin with."""
    run.n, run.capacity, run.channels = length(argument(frame, 7), 1), capacity, channels
    run.n_inputs, run.n_queries = length(argument(frame, 0), 1), length(argument(frame, 8), 1)
    run.n_rows, run.n_synapses = length(argument(frame, 2), 1) - 1, length(argument(frame, 3), 1)
    run.first_change, run.recurrent = run.n_synapses - attribute(frame, 0), attribute(frame, 1)


def _given(dtype):
    """The first arguments: as in `WindowsInputs`, with all numbers of the neurons in one array and their kinds."""
    return (
        (dtype, 2), (np.int32, 2), (np.int32, 2), (np.int32, 2), (dtype, 2), (dtype, 2), (dtype, 3), (np.int32, 2),
        (dtype, 2), (dtype, 2),
    )  # fmt: skip


def forward(dtype):
    """Attributes: `changes`, which is how many of the last synapses change drives, `recurrent`, `stop_after`. Results:
    as `LayerRun`, then the trace.
    """
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
        words = allocate(_BLOCK_SIZE)
        if words == 0:
            return NO_MEMORY
        run = windows_block(words, dtype)
        _set_sizes(run, frame, length(result(frame, 0), 1), length(result(frame, 8), 3))
        run.stop_after = attribute(frame, 2)
        for k in range(10):
            run.words[_INPUT_TIMES + k] = row_of(argument(frame, k), item, argument_sizes[k])
        for k in range(14):
            run.words[_TIMES_OUT + k] = row_of(result(frame, k), item, result_sizes[k])
        arrays = allocate(set_out(run, 0, None) + 64)
        if arrays == 0:
            free(words)
            return NO_MEMORY
        set_out(run, (arrays + 63) // 64 * 64, None)
        status = windows.run_forward(run)
        if run.no_memory:
            status = NO_MEMORY
        free(arrays)
        free(words)
        return status

    return shared_out(arguments, results, work)


def _backward(dtype, rates):
    """Arguments: those of `forward`, the trace, and the cotangents of times and states. Results: the cotangents of
    weights and of delays, summed over some samples each, then those of input times and numbers, for each sample.
    Attributes: `changes`, `recurrent`.
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
        words = allocate(_BLOCK_SIZE)
        if words == 0:
            return NO_MEMORY
        run = windows_block(words, dtype)
        samples, chunks = length(result(frame, 2), 0), length(result(frame, 0), 0)
        _set_sizes(run, frame, length(argument(frame, 10), 1), length(argument(frame, 18), 3))
        n_synapses = run.n_synapses
        run.words[_BY_WEIGHTS] = row_of(result(frame, 0), item, size)
        run.words[_BY_DELAYS] = row_of(result(frame, 1), item, size)
        by_weights = run.by_weights
        by_delays = run.by_delays
        for k in range(n_synapses):
            by_weights[k], by_delays[k] = 0, 0
        arrays = allocate(windows_back.set_out_back(run, set_out(run, 0, True)) + 64)
        if arrays == 0:
            free(words)
            return NO_MEMORY
        windows_back.set_out_back(run, set_out(run, (arrays + 63) // 64 * 64, True))
        status = 0
        for sample in range(item * samples // chunks, (item + 1) * samples // chunks):
            for k in range(10):
                run.words[_INPUT_TIMES + k] = row_of(argument(frame, k), sample, argument_sizes[k])
            run.words[_NEURONS] = row_of(argument(frame, 10), sample, 4)
            for k in range(11, 16):
                run.words[_TIMES + k - 11] = row_of(argument(frame, k), sample, 4)
            run.words[_STATES] = row_of(argument(frame, 16), sample, size)
            run.words[_CT_TIMES] = row_of(argument(frame, 17), sample, size)
            run.words[_CT_STATES] = row_of(argument(frame, 18), sample, size)
            run.words[_BY_INPUTS] = row_of(result(frame, 2), sample, size)
            run.words[_BY_GIVEN] = row_of(result(frame, 3), sample, size)
            status = windows_back.run_backward(run, rates)
            if run.no_memory:
                status = NO_MEMORY
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
