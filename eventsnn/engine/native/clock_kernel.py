"""The kernels of neurons on one clock, as XLA calls them: what stands where in a call."""

import numpy as np

from eventsnn.engine.native import clock
from eventsnn.engine.native import clock_back as back
from eventsnn.engine.native.block import array_at
from eventsnn.engine.native.clock_rates import set_out_rates
from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.frame import argument, attribute, expected, length, result
from eventsnn.engine.native.scratch import row_of
from eventsnn.engine.native.shared_out import in_a_block, note_unwanted, over_samples, results_of_run, shared_out
from eventsnn.engine.native.words import CLOCK, clock_block
from eventsnn.engine.native.words_back import BACK, back_block


def given(dtype):
    """The first arguments of these kernels, and the sizes of their numbers in bytes: as in `NativeInputs`, with all
    numbers of the neurons in one array and their kinds.
    """
    size = np.dtype(dtype).itemsize
    buffers = (
        (dtype, 2), (np.int32, 2), (dtype, 3), (dtype, 2), (dtype, 3), (np.int32, 2), (dtype, 2), (dtype, 2),
    )  # fmt: skip
    return buffers, (size, 4, size, size, size, 4, size, size)


def trace(dtype):
    """The arguments of the way back that follow, and the sizes: the trace, then the cotangents of times and states."""
    size = np.dtype(dtype).itemsize
    buffers = (
        (np.int32, 2), (np.int32, 2), (np.int32, 2), (np.int32, 2), (np.int32, 2), (np.int32, 2), (dtype, 2),
        (dtype, 4),
    )  # fmt: skip
    return buffers, (4, 4, 4, 4, 4, 4, size, size)


def forward(dtype):
    """Attributes: `changes`, which is how many of the last rows change drives, `recurrent`, `stop_after`. Results: as
    `LayerRun`, then the trace.
    """
    (buffers, sizes), (results, result_sizes) = given(dtype), results_of_run(dtype)
    given_at, results_at = CLOCK.place("arrival_times"), CLOCK.place("times_out")

    @compiled
    def fill(run, frame, item):
        run.n, run.capacity = length(argument(frame, 5), 1), length(result(frame, 0), 1)
        run.n_arrivals, run.n_queries = length(argument(frame, 0), 1), length(argument(frame, 6), 1)
        run.channels = length(result(frame, 8), 3)
        run.first_change = length(argument(frame, 2), 1) - attribute(frame, 0)
        run.recurrent, run.stop_after = attribute(frame, 1), attribute(frame, 2)
        for k in range(7):
            run.words[given_at + k] = row_of(argument(frame, k), item, sizes[k])
        for k in range(14):
            run.words[results_at + k] = row_of(result(frame, k), item, result_sizes[k])
        note_unwanted(run, frame)

    @compiled
    def set_out(run, frame, place):
        return clock.set_out(run, place)

    @compiled
    def go(run, frame, item):
        t_end = np.float64(array_at(row_of(argument(frame, 7), item, sizes[7]), dtype)[0])
        return clock.run_forward(run, t_end, None)

    work = in_a_block(CLOCK, clock_block, dtype, fill, set_out, go)
    return shared_out(expected(*buffers), expected(*results), work)


def _backward(dtype, rates):
    """Arguments: those of `forward`, the trace, and the cotangents of times and states. Attribute: `changes`. Results:
    the cotangents of weights, summed over some samples each, then those of arrival times, delays and numbers, for each
    sample.
    """
    (first, first_sizes), (second, second_sizes) = given(dtype), trace(dtype)
    sizes, size = (*first_sizes, *second_sizes), np.dtype(dtype).itemsize
    given_at, by_weights_at = BACK.place("arrival_times"), BACK.place("by_weights")

    @compiled
    def fill(run, frame, item):
        run.n, run.capacity = length(argument(frame, 5), 1), length(argument(frame, 8), 1)
        run.n_arrivals, run.n_queries = length(argument(frame, 0), 1), length(argument(frame, 6), 1)
        run.channels, run.rows = length(argument(frame, 15), 3), length(argument(frame, 2), 1)
        run.first_change = run.rows - attribute(frame, 0)
        run.words[by_weights_at] = row_of(result(frame, 0), item, size)
        by_weights = run.by_weights[0]
        for k in range(run.rows * run.n):
            by_weights[k] = 0

    @compiled
    def set_out(run, frame, place):
        place = back.set_out_back(run, place)
        return place if rates is None else set_out_rates(run, place, length(argument(frame, 12), 1))

    @compiled
    def put(run, frame, sample):
        for k in range(16):
            run.words[given_at + k] = row_of(argument(frame, k), sample, sizes[k])
        for k in range(1, 4):
            run.words[by_weights_at + k] = row_of(result(frame, k), sample, size)

    @compiled
    def sweep(run):
        return back.run_backward(run, rates, None)

    work = in_a_block(BACK, back_block, dtype, fill, set_out, over_samples(1, put, sweep))
    results = expected((dtype, 3), (dtype, 2), (dtype, 2), (dtype, 3))
    return shared_out(expected(*first, *second), results, work)


def backward(dtype):
    """The way back for everything but leaks, couplings and decays, which receive 0."""
    return _backward(dtype, None)


def backward_with_rates(dtype):
    """The way back for everything."""
    return _backward(dtype, True)
