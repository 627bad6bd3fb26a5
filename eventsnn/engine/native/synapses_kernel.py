"""The kernels of networks on one clock with a delay for each synapse, as XLA calls them."""

import numpy as np

from eventsnn.engine.native import clock
from eventsnn.engine.native import clock_back as back
from eventsnn.engine.native.block import array_at, set_places
from eventsnn.engine.native.clock_kernel import trace
from eventsnn.engine.native.clock_rates import set_out_rates
from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.frame import argument, attribute, expected, length, result
from eventsnn.engine.native.pool import allocate, free
from eventsnn.engine.native.scratch import row_of
from eventsnn.engine.native.shared_out import (
    NO_MEMORY,
    in_a_block,
    note_unwanted,
    over_samples,
    results_of_run,
    shared_out,
)
from eventsnn.engine.native.sweep import width_of
from eventsnn.engine.native.synapses import release_log, unfold
from eventsnn.engine.native.windows_kernel import given
from eventsnn.engine.native.words import CLOCK, clock_block
from eventsnn.engine.native.words_back import BACK, back_block

# The first arguments, as those of `windows_kernel`, in their order.
_GIVEN = ("arrival_times", "arrival_rows", "starts", "targets", "weights", "delays", "given", "kinds", "queries")
_ENDS = len(_GIVEN)
_TRACE = ("neurons", "times", "currents", "free_currents", "log", "info")


def _places(layout, names):
    return tuple(layout.place(name) for name in names)


def forward(dtype):
    """Attributes: `changes`, which is how many of the last synapses change drives, and `stop_after`. Results: as those
    of `clock_kernel.forward`.
    """
    (buffers, sizes), (results, result_sizes) = given(dtype), results_of_run(dtype)
    results_at, places = CLOCK.place("times_out"), _places(CLOCK, _GIVEN)

    @compiled
    def fill(run, frame, item):
        run.n, run.capacity = length(argument(frame, 7), 1), length(result(frame, 0), 1)
        run.n_arrivals, run.n_queries = length(argument(frame, 0), 1), length(argument(frame, 8), 1)
        run.channels, run.recurrent, run.stop_after = length(result(frame, 8), 3), 1, attribute(frame, 1)
        run.first_change = length(argument(frame, 4), 1) - attribute(frame, 0)
        for k in range(_ENDS):
            run.words[places[k]] = row_of(argument(frame, k), item, sizes[k])
        for k in range(14):
            run.words[results_at + k] = row_of(result(frame, k), item, result_sizes[k])
        note_unwanted(run, frame)

    @compiled
    def set_out(run, frame, place):
        return clock.set_out(run, place)

    @compiled
    def go(run, frame, item):
        t_end = np.float64(array_at(row_of(argument(frame, _ENDS), item, sizes[_ENDS]), dtype)[0])
        status = clock.run_forward(run, t_end, True)
        return NO_MEMORY if run.no_memory else status

    work = in_a_block(CLOCK, clock_block, dtype, fill, set_out, go)
    return shared_out(expected(*buffers), expected(*results), work)


_OF_ARRIVALS, _INFO = BACK.span("at", "spare"), BACK.place("info")


@compiled
def _sweep(run):
    """The way back of one run, once its block is filled."""
    count, t_end = run.info[0], np.float64(run.ends[0])
    arrays = allocate(set_places(run, _OF_ARRIVALS, run.n_arrivals + 2, back.set_out_back(run, 0)) + 128)
    if arrays == 0:
        return NO_MEMORY
    end = back.set_out_back(run, (arrays + 63) // 64 * 64)
    end = set_places(run, _OF_ARRIVALS, run.n_arrivals + 2, end)
    run.t_stop = t_end + width_of(t_end, run.eps)
    for k in range(run.n_arrivals):
        when = np.float64(run.arrival_times[k])
        run.at[k] = 0.0 if when < 0 else when
    status = NO_MEMORY
    if unfold(run):
        # The log is longer than the one that was written down.
        run.words[_INFO] = end
        run.info[0], run.info[1] = count, run.n_log
        rates = allocate(set_out_rates(run, 0, run.n_log) + 64)
        if rates != 0:
            set_out_rates(run, (rates + 63) // 64 * 64, run.n_log)
            status = back.run_backward(run, True, True)
            free(rates)
    release_log(run)
    free(arrays)
    return status


def backward(dtype):
    """Arguments: those of `forward`, the trace, and the cotangents of times and states. Attributes: as those of
    `forward`. Results: the cotangents of weights and of delays, summed over some samples each, then those of input
    times and numbers, for each sample.
    """
    (first, first_sizes), (second, second_sizes) = given(dtype), trace(dtype)
    sizes, size = (*first_sizes, *second_sizes), np.dtype(dtype).itemsize
    places = _places(BACK, (*_GIVEN, "ends", *_TRACE, "ct_times", "ct_states"))
    by_weights, by_delays, by_arrivals, by_given = _places(BACK, ("by_weights", "by_delays", "by_arrivals", "by_given"))

    @compiled
    def fill(run, frame, item):
        synapses = length(argument(frame, 4), 1)
        run.n, run.capacity = length(argument(frame, 7), 1), length(argument(frame, 10), 1)
        run.n_arrivals, run.n_queries = length(argument(frame, 0), 1), length(argument(frame, 8), 1)
        # There are no rows of weights, whose delays would be set to 0 for each sample.
        run.channels, run.rows, run.first_change = length(argument(frame, 17), 3), 0, synapses - attribute(frame, 0)
        run.words[by_weights] = row_of(result(frame, 0), item, size)
        run.words[by_delays] = row_of(result(frame, 1), item, size)
        for k in range(synapses):
            run.by_weights[0][k], run.by_delays[k] = 0, 0

    @compiled
    def set_out(run, frame, place):
        # How much memory a run takes is known once its log is unfolded: see `_sweep`.
        return place

    @compiled
    def put(run, frame, sample):
        for k in range(18):
            run.words[places[k]] = row_of(argument(frame, k), sample, sizes[k])
        run.words[by_arrivals] = row_of(result(frame, 2), sample, size)
        run.words[by_given] = row_of(result(frame, 3), sample, size)

    work = in_a_block(BACK, back_block, dtype, fill, set_out, over_samples(2, put, _sweep))
    results = expected((dtype, 2), (dtype, 2), (dtype, 2), (dtype, 3))
    return shared_out(expected(*first, *second), results, work)
