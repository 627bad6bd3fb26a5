"""The words of the block of a run in windows: sizes, counters and times first, then the addresses of arrays.

Both directions use the same words. Times are float64: `reals_of` shows the same memory as such numbers.
"""

import numpy as np

from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.scratch import vector_at

(
    N, CAPACITY, N_INPUTS, N_QUERIES, CHANNELS, RECURRENT, STOP_AFTER, N_ROWS, N_SYNAPSES,
    # How many windows there are; the number of buckets, a power of 2, less 1; a window has 2**PARTS of them.
    N_WINDOWS, RING, PARTS,
    N_SPIKES, N_FOUND, N_WAITING, N_COMING, OVER, NO_MEMORY, N_SORTED, FIRST_QUERY, END_QUERY,
    # Times, and 1 over the length of a window.
    T_END, T_STOP, LENGTH, PER_LENGTH, LONGEST, MIN_SLOPE,
    # Chunks that nobody uses; the buckets; the arrivals of a window.
    FREE_CHUNK, BUCKETS, SORTED,
    # Given.
    INPUT_TIMES, INPUT_ROWS, INDPTR, TARGETS, WEIGHTS, DELAYS, GIVEN, KINDS, QUERIES, ENDS,
    # Results of the way forth.
    TIMES_OUT, NEURONS, SLOPES, COUNT, COUNTS, STATUSES, STOPPED, PASSING, STATES, TIMES, CURRENTS, FREE_STATES, MARKS,
    INFO,
    # Given and results of the way back.
    CT_TIMES, CT_STATES, BY_WEIGHTS, BY_INPUTS, BY_DELAYS, BY_GIVEN,
    # Arrays of every direction.
    CELLS, STARTS, INPUT_AT, COMING, PLACES, ASKED_AT, ASKED, SPARE, FOUND_T, FOUND, ORDER,
    # Arrays of the way back.
    ADJOINTS, BY_NUMBERS, BEFORE, RECEIVED,
    # For `windows_rates`: the spike after each; states at the start of every so many windows, and of every one from a
    # number on; another block of words.
    AFTER, KEPT, KEPT_FINELY, STRIDE, REPLAYED, ASIDE,
) = range(81)  # fmt: skip
WORDS = 88


@compiled
def words_of(m):
    """The block as whole numbers."""
    return vector_at(m, WORDS, np.int64)


@compiled
def reals_of(m):
    """The block as float64."""
    return vector_at(m, WORDS, np.float64)
