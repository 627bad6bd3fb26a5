"""The words of the block of a run on its way back: sizes and counters first, then the addresses of arrays."""

(
    N, CAPACITY, N_ARRIVALS, N_QUERIES, CHANNELS, RECURRENT, ROWS, N_GROUPS, ANY_JUMPS, N_SPECIAL, STEPS, N_KEPT, N_OUT,
    # Given, for this sample.
    ARRIVAL_TIMES, ARRIVAL_ROWS, WEIGHTS, DELAYS, GIVEN, KINDS, QUERIES, ENDS, NEURONS, TIMES, CURRENTS, FREE_CURRENTS,
    LOG, INFO, CT_TIMES, CT_STATES,
    # Results.
    BY_WEIGHTS, BY_ARRIVALS, BY_DELAYS, BY_GIVEN,
    # Of each neuron.
    NUMBERS_AT, BY_NUMBERS, LV, LI, BY_DRIVE, SPECIAL, PLACE, SIDE_V, SIDE_I, SIDE_T, RESTING, RESTS_SINCE, OWED,
    OWED_AT, GROUPS, COEFS,
    # Of each spike.
    RECEIVED,
    # For `clock_rates`: what rates receive; states after the last events, of which the last row is that of neurons that
    # are apart; states that are kept, with who rests, when and where in the log; and who is apart, since when.
    BY_RATES, PAST_V, KEPT_V, KEPT_REST, KEPT_T, KEPT_ENTRIES, OUT, OUT_AT, OUT_T, OUT_REST,
) = range(60)  # fmt: skip
WORDS = 64
