"""What the kernel of neurons on one clock keeps in the block of a run, on its way back."""

import numpy as np

from eventsnn.engine.native.block import STATE, Layout, Rows

BACK = Layout(
    "Back",
    whole="""
        n capacity n_arrivals n_queries channels rows n_groups any_jumps n_special steps n_kept n_out first_change
        n_coming n_input n_heap room_heap no_memory n_log room_log n_through room_through
    """,
    real="t_stop",
    arrays=dict(
        # Given, for this sample.
        arrival_times=STATE, arrival_rows=np.int32, weights=Rows(STATE, "n"), delays=STATE, given=Rows(STATE, "n"),
        kinds=np.int32, queries=STATE, ends=STATE, neurons=np.int32, times=np.float64, currents=np.float64,
        free_currents=np.float64, log=np.int32, info=np.int32, ct_times=STATE, ct_states=STATE,
        # Results.
        by_weights=Rows(STATE, "n"), by_arrivals=STATE, by_delays=STATE, by_given=Rows(STATE, "n"),
        # Of each neuron.
        numbers=Rows(np.float64, "n"), by_numbers=Rows(np.float64, "n"), lv=STATE, li=STATE, by_drive=STATE,
        special=np.int64, place=np.int64, side_v=np.float64, side_i=np.float64, side_t=np.float64, resting=np.uint8,
        rests_since=np.int64, owed=np.float64, owed_at=np.float64, groups=np.int64,
        # Of each spike.
        received=np.float64,
        # For `clock_rates`: what rates receive; V and I after the last events in turn, of which the last two rows are
        # those of neurons that are apart; states that are kept, with who rests, drives, when and where in the log;
        # who is apart, since when; and the drives there.
        by_rates=Rows(np.float64, "n"), past=Rows(np.float64, "n"), kept=Rows(np.float64, "n"),
        kept_rest=Rows(np.uint8, "n"), kept_drives=Rows(np.float64, "n"), kept_t=np.float64, kept_entries=np.int64,
        out=np.int64, out_at=np.int64, out_t=np.float64, out_rest=np.uint8, drives=np.float64,
        # For `synapses`: where synapses are; inputs by time, as in `words`; spikes on their way, and how they arrived.
        starts=np.int32, targets=np.int32, at=np.float64, coming=np.int64, buckets=np.int64, spare=np.int64,
        heap_times=np.float64, heap_numbers=np.int64, through=np.int64,
    ),
)  # fmt: skip
back_block = BACK.at()
