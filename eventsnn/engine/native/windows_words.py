"""What the kernel of networks in windows keeps in the block of a run, in both directions."""

import numpy as np

from eventsnn.engine.native.block import STATE, Layout, Rows
from eventsnn.engine.native.kinds import NUMBERS

# How many numbers there are of each neuron, of each spike before its window is over, and of the adjoint of a neuron:
# see `windows_start` and `windows_back`.
CELL, FOUND_COLUMNS, ADJOINT = 16, 8, 8

WINDOWS = Layout(
    "Windows",
    # There are `ring` + 1 buckets, a power of 2, of which a window has 2**parts. `free_chunk`, `buckets` and `sorted`
    # are the addresses of memory that grows: free chunks, buckets, and the arrivals of a window. So are
    # those of `windows_rates`: states at the start of every `stride` windows, and of every one from a number on; the
    # spike after each; and another block. From the synapse `first_change` on, weights change drives.
    whole="""
        n capacity n_inputs n_queries channels recurrent stop_after n_rows n_synapses
        n_windows ring parts n_spikes n_found n_waiting n_coming over no_memory n_sorted first_query end_query
        free_chunk buckets sorted after kept kept_finely stride replayed aside first_change
    """,
    real="t_end t_stop length per_length longest min_slope",
    arrays=dict(
        # Given.
        input_times=STATE, input_rows=np.int32, indptr=np.int32, targets=np.int32, weights=STATE, delays=STATE,
        given=Rows(STATE, "n"), kinds=np.int32, queries=STATE, ends=STATE,
        # Results of the way forth.
        times_out=STATE, neurons=np.int32, slopes=STATE, count=np.int32, counts=np.int32, statuses=np.int32,
        stopped=STATE, passing=np.uint8, states=STATE, times=np.float64, currents=np.float64,
        free_states=Rows(np.float64, 2), marks=Rows(np.int32, 4), info=np.int32,
        # Given and results of the way back.
        ct_times=STATE, ct_states=STATE, by_weights=STATE, by_inputs=STATE, by_delays=STATE, by_given=Rows(STATE, "n"),
        # Arrays of both directions.
        cells=Rows(np.float64, CELL), starts=np.int64, input_at=np.float64, coming=np.int64, places=np.int64,
        asked_at=np.float64, asked=np.int64, spare=np.int64, found_t=np.float64,
        found=Rows(np.float64, FOUND_COLUMNS), order=np.int64,
        # Of the arrivals of a window, in order: when, and how far they are from the one before, as `windows_steps` has
        # it; for `windows_rates` the states after them; through which synapse, and on the way back from which spike.
        sorted_times=np.float64, slow_steps=np.float64, apart_steps=np.float64, past_v=np.float64, past_i=np.float64,
        sorted_synapses=np.int32, sorted_emitters=np.int32,
        # Arrays of the way back.
        adjoints=Rows(np.float64, ADJOINT), by_numbers=Rows(np.float64, NUMBERS), before=np.int64, received=np.float64,
    ),
)  # fmt: skip
windows_block = WINDOWS.at()
