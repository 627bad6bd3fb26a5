"""The kernels of linear systems on one clock, as XLA calls them: what stands where in a call."""

import numpy as np

from eventsnn.engine.native import systems
from eventsnn.engine.native import systems_back as back
from eventsnn.engine.native.block import array_at
from eventsnn.engine.native.clock_kernel import given, trace
from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.frame import argument, attribute, expected, length, result
from eventsnn.engine.native.matrices import set_rows
from eventsnn.engine.native.scratch import row_of
from eventsnn.engine.native.shared_out import in_a_block, note_unwanted, over_samples, results_of_run, shared_out
from eventsnn.engine.native.systems_rates import set_out_rates
from eventsnn.engine.native.systems_words import SYSTEMS, SYSTEMS_BACK, systems_back_block, systems_block


def forward(dtype):
    """Attributes: `recurrent`, `size`, `stop_after`. Arguments and results: as those of `clock_kernel.forward`."""
    (buffers, sizes), (results, result_sizes) = given(dtype), results_of_run(dtype)
    given_at, results_at = SYSTEMS.place("arrival_times"), SYSTEMS.place("times_out")

    @compiled
    def fill(run, frame, item):
        run.n, run.capacity = length(argument(frame, 5), 1), length(result(frame, 0), 1)
        run.n_arrivals, run.n_queries = length(argument(frame, 0), 1), length(argument(frame, 6), 1)
        run.columns = length(result(frame, 8), 3)
        run.recurrent, run.stop_after = attribute(frame, 0), attribute(frame, 2)
        set_rows(run, attribute(frame, 1))
        for k in range(7):
            run.words[given_at + k] = row_of(argument(frame, k), item, sizes[k])
        for k in range(14):
            run.words[results_at + k] = row_of(result(frame, k), item, result_sizes[k])
        note_unwanted(run, frame)

    @compiled
    def set_out(run, frame, place):
        return systems.set_out(run, place)

    @compiled
    def go(run, frame, item):
        t_end = np.float64(array_at(row_of(argument(frame, 7), item, sizes[7]), dtype)[0])
        return systems.run_forward(run, t_end)

    work = in_a_block(SYSTEMS, systems_block, dtype, fill, set_out, go)
    return shared_out(expected(*buffers), expected(*results), work)


def _backward(dtype, rates):
    """Arguments and results: as those of the way back of `clock_kernel`. Attributes: `recurrent`, `size`,
    `stop_after`.
    """
    (first, first_sizes), (second, second_sizes) = given(dtype), trace(dtype)
    sizes, size = (*first_sizes, *second_sizes), np.dtype(dtype).itemsize
    given_at, by_weights_at = SYSTEMS_BACK.place("arrival_times"), SYSTEMS_BACK.place("by_weights")

    @compiled
    def fill(run, frame, item):
        run.n, run.capacity = length(argument(frame, 5), 1), length(argument(frame, 8), 1)
        run.n_arrivals, run.n_queries = length(argument(frame, 0), 1), length(argument(frame, 6), 1)
        run.columns, run.rows = length(argument(frame, 15), 3), length(argument(frame, 2), 1)
        set_rows(run, attribute(frame, 1))
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
        return back.run_backward(run, rates)

    work = in_a_block(SYSTEMS_BACK, systems_back_block, dtype, fill, set_out, over_samples(1, put, sweep))
    results = expected((dtype, 3), (dtype, 2), (dtype, 2), (dtype, 3))
    return shared_out(expected(*first, *second), results, work)


def backward(dtype):
    """The way back for everything but the matrices of dynamics, which receive 0."""
    return _backward(dtype, None)


def backward_with_rates(dtype):
    """The way back for everything."""
    return _backward(dtype, True)
