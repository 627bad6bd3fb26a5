"""What the kernel of neurons on one clock keeps in the block of a run, on its way forth."""

import numpy as np

from eventsnn.engine.native.block import STATE, Layout, Rows

CLOCK = Layout(
    "Clock",
    # `unwanted`: the sum of the results that were not asked for: slopes 1, `times` and `currents` 2, `free_currents` 4,
    # the log 8.
    # From the row `first_change` on, weights change drives.
    whole="""
        n capacity n_arrivals n_queries channels recurrent stop_after unwanted first_change
        n_coming n_input room_heap no_memory
        n_groups any_jumps all_jump plain singly n_spikes n_log n_heap n_refractory n_waiting n_passing status culprit
        n_listed n_apart any_waited n_answered arrived
    """,
    real="t_stop",
    arrays=dict(
        # Given, for this sample.
        arrival_times=STATE, arrival_rows=np.int32, weights=Rows(STATE, "n"), delays=STATE, given=Rows(STATE, "n"),
        kinds=np.int32, queries=STATE, starts=np.int32, targets=np.int32,
        # Results.
        times_out=STATE, neurons=np.int32, slopes=STATE, count=np.int32, counts=np.int32, statuses=np.int32,
        stopped=STATE, passing=np.uint8, states=STATE, times=np.float64, currents=np.float64, free_currents=np.float64,
        log=np.int32, info=np.int32,
        # Of each neuron.
        numbers=Rows(np.float64, "n"), v=STATE, ahead=STATE, i=STATE, d=STATE, theta=STATE, refractory=np.int64,
        free_at=np.float64, freed_at=np.float64, since=np.int64, listed=np.int64, crossed=np.float64, new_v=np.float64,
        new_i=np.float64, held_v=STATE, held_i=STATE, waited=np.uint8, base_v=STATE, base_i=STATE, ask_v=STATE,
        ask_i=STATE, apart=np.int64, apart_t=np.float64, group_of=np.int64, groups=np.int64, coefs=Rows(np.float64, 4),
        # Of each arrival, query and spike.
        at=np.float64, coming=np.int64, buckets=np.int64, asked_at=np.float64, asked=np.int64, spare=np.int64,
        heap_times=np.float64, heap_numbers=np.int64, found_t=np.float64, found_j=np.int64, found_i=np.float64,
        found_s=np.float64, order=np.int64,
    ),
)  # fmt: skip
clock_block = CLOCK.at()
