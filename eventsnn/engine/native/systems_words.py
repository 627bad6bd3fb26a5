"""What the kernels of linear systems on one clock keep in the block of a run, on its way forth and back."""

import numpy as np

from eventsnn.engine.native.block import STATE, Layout, Rows

# A neuron has so many channels at most. Small matrices have room for all of them, filled up with zeros: loops of a
# known length are unrolled, and a product of two matrices is 16 vector instructions.
MOST = 4
MATRIX = MOST * MOST
# What is known of all neurons of a group for a stretch, or for a part of it, as one row of numbers: the exponential of
# the matrix and its integral; how far the condition can rise and fall, and be over and under its chord, for each unit
# of velocity; what rounding makes of the condition for each unit of state and of drive; the matrix and the condition.
EXP, PHI, UP, DOWN, OVER, UNDER, NOISE, NOISE_C, MATRIX_AT, CONDITION = 0, 16, 32, 36, 40, 44, 48, 52, 56, 72
ENTRIES = 76
# A series has so many terms at most: with the norm of the matrix times the time up to 1, those behind are below 1e-17.
TERMS = 20
# A time is halved at most so often until that norm is small.
LEVELS = 60
# Bits of the kind of a neuron, besides those of `kinds.py`: the channels that stand still while it is refractory.
HELD = 256

_SIZES = """
    size at_c at_h at_h0 at_into at_r at_rho at_tref at_y0 numbers_rows
    levels triangular signed chain_of
"""
# The matrix of one neuron, by rows and by columns, with its drive and its condition; series; and matrices of all sorts.
_SMALL = dict(
    chain=Rows(np.float64, ENTRIES), hat_chain=Rows(np.float64, ENTRIES),
    a=np.float64, at=np.float64, a_c=np.float64, h=np.float64, ha=np.float64, y=np.float64, y_end=np.float64,
    spare_1=np.float64, spare_2=np.float64, hat=np.float64, terms=np.float64, poly=np.float64, bern=np.float64,
)  # fmt: skip

SYSTEMS = Layout(
    "Systems",
    whole="""
        n capacity n_arrivals n_queries columns recurrent stop_after unwanted
    """
    + _SIZES
    + """
        n_groups any_jumps singly n_spikes n_log n_heap n_refractory n_waiting n_passing status culprit n_listed n_apart
        n_answered driven reached
    """,
    real="norm base h0",
    arrays=dict(
        # Given, for this sample.
        arrival_times=STATE, arrival_rows=np.int32, weights=Rows(STATE, "n"), delays=STATE, given=Rows(STATE, "n"),
        kinds=np.int32, queries=STATE,
        # Results.
        times_out=STATE, neurons=np.int32, slopes=STATE, count=np.int32, counts=np.int32, statuses=np.int32,
        stopped=STATE, passing=np.uint8, states=STATE, times=np.float64, at_spikes=Rows(np.float64, "size"),
        at_free=Rows(np.float64, "size"), log=np.int32, info=np.int32,
        # Of all neurons: a row for each channel, and one more.
        numbers=Rows(np.float64, "n"), x=Rows(np.float64, "n"), new_x=Rows(np.float64, "n"),
        velocity=Rows(np.float64, "n"), since_x=Rows(np.float64, "n"), ask_x=Rows(np.float64, "n"),
        # Of each neuron.
        offset=np.float64, height=np.float64, new_height=np.float64, over=np.float64, above=np.float64,
        refractory=np.int64, free_at=np.float64, freed_at=np.float64, since=np.int64, listed=np.int64,
        crossed=np.float64, waited=np.uint8, apart=np.int64, apart_t=np.float64, group_of=np.int64, groups=np.int64,
        coefs=Rows(np.float64, ENTRIES), end_x=Rows(np.float64, "size"),
        # Of each arrival, query and spike.
        at_time=np.float64, coming=np.int64, buckets=np.int64, asked_at=np.float64, asked=np.int64, spare=np.int64,
        heap_times=np.float64, heap_numbers=np.int64, found_t=np.float64, found_j=np.int64, found_s=np.float64,
        order=np.int64, found_x=Rows(np.float64, "size"),
        **_SMALL,
    ),
)  # fmt: skip
systems_block = SYSTEMS.at()


SYSTEMS_BACK = Layout(
    "SystemsBack",
    whole="n capacity n_arrivals n_queries columns rows"
    + _SIZES
    + "n_groups any_jumps driven reached n_special steps n_kept n_out",
    real="norm base h0",
    arrays=dict(
        # Given, for this sample.
        arrival_times=STATE, arrival_rows=np.int32, weights=Rows(STATE, "n"), delays=STATE, given=Rows(STATE, "n"),
        kinds=np.int32, queries=STATE, ends=STATE, neurons=np.int32, times=np.float64,
        at_spikes=Rows(np.float64, "size"), at_free=Rows(np.float64, "size"), log=np.int32, info=np.int32,
        ct_times=STATE, ct_states=STATE,
        # Results.
        by_weights=Rows(STATE, "n"), by_arrivals=STATE, by_delays=STATE, by_given=Rows(STATE, "n"),
        # Of all neurons: a row for each number or channel. `turned` is the velocity that an arrival of weight 1 adds.
        numbers=Rows(np.float64, "n"), by_numbers=Rows(np.float64, "n"), adjoint=Rows(np.float64, "n"),
        new_adjoint=Rows(np.float64, "n"), turned=Rows(np.float64, "n"),
        # Of each neuron.
        offset=np.float64, special=np.int64, place=np.int64, side_t=np.float64, resting=np.uint8, rests_since=np.int64,
        owed=np.float64, owed_at=np.float64, groups=np.int64, group_of=np.int64, side=Rows(np.float64, "size"),
        # Of each spike.
        received=np.float64,
        # For `systems_rates`: states after the last events in turn, and those of neurons that are apart; states that
        # are kept, with the neurons that rest, when and where in the log; neurons that are apart, since when; series,
        # and sensitivities.
        x=Rows(np.float64, "n"), new_x=Rows(np.float64, "n"), apart_x=Rows(np.float64, "n"), past=Rows(np.float64, "n"),
        kept=Rows(np.float64, "n"), kept_rest=Rows(np.uint8, "n"), kept_t=np.float64, kept_entries=np.int64,
        out=np.int64, out_at=np.int64, out_t=np.float64, out_rest=np.uint8, psi=np.float64, by_state=np.float64,
        by_drive=np.float64, new_by_state=np.float64, new_by_drive=np.float64,
        **_SMALL,
    ),
)  # fmt: skip
systems_back_block = SYSTEMS_BACK.at()
