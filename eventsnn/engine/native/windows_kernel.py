"""The kernels of networks in windows, as XLA calls them: what stands where in a call."""

import numpy as np

from eventsnn.engine.native import windows, windows_back
from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.frame import argument, attribute, expected, length, result
from eventsnn.engine.native.scratch import row_of
from eventsnn.engine.native.shared_out import NO_MEMORY, in_a_block, over_samples, results_of_run, shared_out
from eventsnn.engine.native.windows_start import set_out
from eventsnn.engine.native.windows_words import WINDOWS, windows_block

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


def given(dtype):
    """The first arguments, and the sizes of their numbers in bytes: as in `WindowsInputs`, with all numbers of the
    neurons in one array and their kinds.
    """
    size = np.dtype(dtype).itemsize
    buffers = (
        (dtype, 2), (np.int32, 2), (np.int32, 2), (np.int32, 2), (dtype, 2), (dtype, 2), (dtype, 3), (np.int32, 2),
        (dtype, 2), (dtype, 2),
    )  # fmt: skip
    return buffers, (size, 4, 4, 4, size, size, size, 4, size, size)


def forward(dtype):
    """Attributes: `changes`, which is how many of the last synapses change drives, `recurrent`, `stop_after`. Results:
    as `LayerRun`, then the trace.
    """
    (buffers, sizes), (results, result_sizes) = given(dtype), results_of_run(dtype, marks=3)

    @compiled
    def fill(run, frame, item):
        _set_sizes(run, frame, length(result(frame, 0), 1), length(result(frame, 8), 3))
        run.stop_after = attribute(frame, 2)
        for k in range(10):
            run.words[_INPUT_TIMES + k] = row_of(argument(frame, k), item, sizes[k])
        for k in range(14):
            run.words[_TIMES_OUT + k] = row_of(result(frame, k), item, result_sizes[k])

    @compiled
    def set_out_forward(run, frame, place):
        return set_out(run, place, None)

    @compiled
    def go(run, frame, item):
        status = windows.run_forward(run)
        return NO_MEMORY if run.no_memory else status

    work = in_a_block(WINDOWS, windows_block, dtype, fill, set_out_forward, go)
    return shared_out(expected(*buffers), expected(*results), work)


def _backward(dtype, rates):
    """Arguments: those of `forward`, the trace, and the cotangents of times and states. Results: the cotangents of
    weights and of delays, summed over some samples each, then those of input times and numbers, for each sample.
    Attributes: `changes`, `recurrent`.
    """
    buffers, sizes = given(dtype)
    arguments = expected(
        *buffers, (np.int32, 2), (np.int32, 2), (np.int32, 2), (np.int32, 2), (np.int32, 3), (np.int32, 2), (dtype, 4),
        (dtype, 2), (dtype, 4),
    )  # fmt: skip
    size = np.dtype(dtype).itemsize

    @compiled
    def fill(run, frame, item):
        _set_sizes(run, frame, length(argument(frame, 10), 1), length(argument(frame, 18), 3))
        run.words[_BY_WEIGHTS] = row_of(result(frame, 0), item, size)
        run.words[_BY_DELAYS] = row_of(result(frame, 1), item, size)
        by_weights, by_delays = run.by_weights, run.by_delays
        for k in range(run.n_synapses):
            by_weights[k], by_delays[k] = 0, 0

    @compiled
    def set_out_backward(run, frame, place):
        return windows_back.set_out_back(run, set_out(run, place, True))

    @compiled
    def put(run, frame, sample):
        for k in range(10):
            run.words[_INPUT_TIMES + k] = row_of(argument(frame, k), sample, sizes[k])
        run.words[_NEURONS] = row_of(argument(frame, 10), sample, 4)
        for k in range(11, 16):
            run.words[_TIMES + k - 11] = row_of(argument(frame, k), sample, 4)
        run.words[_STATES] = row_of(argument(frame, 16), sample, size)
        run.words[_CT_TIMES] = row_of(argument(frame, 17), sample, size)
        run.words[_CT_STATES] = row_of(argument(frame, 18), sample, size)
        run.words[_BY_INPUTS] = row_of(result(frame, 2), sample, size)
        run.words[_BY_GIVEN] = row_of(result(frame, 3), sample, size)

    @compiled
    def sweep(run):
        status = windows_back.run_backward(run, rates)
        return NO_MEMORY if run.no_memory else status

    work = in_a_block(WINDOWS, windows_block, dtype, fill, set_out_backward, over_samples(2, put, sweep))
    return shared_out(arguments, expected((dtype, 2), (dtype, 2), (dtype, 2), (dtype, 3)), work)


def backward(dtype):
    """The way back for everything but leaks, couplings and decays, which receive 0."""
    return _backward(dtype, None)


def backward_with_rates(dtype):
    """The way back for everything."""
    return _backward(dtype, True)
