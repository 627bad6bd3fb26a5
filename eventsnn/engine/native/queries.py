"""The answers to queries in a run on one clock. They do not change it: states are copied, and the copies moved."""

import numpy as np

from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.kinds import COUPLING, DECAY, DRIVE, HOLDS_I, HOLDS_V, LEAK, NUMBERS, QUERY, VRESET
from eventsnn.engine.native.linear import coefficients
from eventsnn.engine.native.scratch import matrix_at, vector_at
from eventsnn.engine.native.sweep import move, width_of
from eventsnn.engine.native.words import (
    APART,
    APART_T,
    ASK_I,
    ASK_V,
    ASKED,
    ASKED_AT,
    BASE_I,
    BASE_V,
    CHANNELS,
    COUNTS,
    D_AT,
    FREE_AT,
    GROUPS,
    I_AT,
    KINDS,
    LOG,
    N_ANSWERED,
    N_APART,
    N_GROUPS,
    N_LOG,
    N_QUERIES,
    N_REFRACTORY,
    NUMBERS_AT,
    REFRACTORY_AT,
    STATES,
    V_AT,
    WORDS,
    N,
)


@compiled
def answer_until(dtype, m, t, until, final):
    """Answer the queries from the present time `t` up to `until`, where no neuron spikes; if `final`, all others too.

    What happens at the instant of a query comes before its answer.
    """
    s = vector_at(m, WORDS, np.int64)
    if s[N_ANSWERED] == s[N_QUERIES]:
        return
    n = s[N]
    v, i = vector_at(s[V_AT], n, dtype), vector_at(s[I_AT], n, dtype)
    base_v, base_i = vector_at(s[BASE_V], n, dtype), vector_at(s[BASE_I], n, dtype)
    if _next_query(dtype, m, until, final) >= 0:
        for j in range(n):
            base_v[j], base_i[j] = v[j], i[j]
        s[N_APART] = 0
        answer_until_apart(dtype, m, t, until, final)


@compiled
def _next_query(dtype, m, until, final):
    """The number of the next query, if it is to be answered by `until`, and -1 otherwise."""
    s = vector_at(m, WORDS, np.int64)
    if s[N_ANSWERED] == s[N_QUERIES]:
        return -1
    q = vector_at(s[ASKED], s[N_QUERIES], np.int64)[s[N_ANSWERED]]
    ask = vector_at(s[ASKED_AT], s[N_QUERIES], np.float64)[q]
    return q if final or ask + width_of(ask, np.float64(np.finfo(dtype).eps)) < until else -1


@compiled
def answer_until_apart(dtype, m, t, until, final):
    """The same from the states in `base` at `t`, but for those that are apart, since a time of their own."""
    s = vector_at(m, WORDS, np.int64)
    while True:
        q = _next_query(dtype, m, until, final)
        if q < 0:
            break
        ask = vector_at(s[ASKED_AT], s[N_QUERIES], np.float64)[q]
        _answer(dtype, m, q, t, max(ask, t), ask)
        vector_at(s[LOG], s[N_LOG] + 1, np.int32)[s[N_LOG]] = q * 8 + QUERY
        s[N_LOG] += 1
        s[N_ANSWERED] += 1


@compiled
def note_apart(dtype, m, j, t, current):
    """A neuron has spiked at `t`, and is apart from the others."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    apart_t = vector_at(s[APART_T], n, np.float64)
    if apart_t[j] < 0:
        vector_at(s[APART], n, np.int64)[s[N_APART]] = j
        s[N_APART] += 1
    apart_t[j] = t
    vector_at(s[BASE_V], n, dtype)[j] = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64)[VRESET, j]
    vector_at(s[BASE_I], n, dtype)[j] = current


@compiled
def _answer(dtype, m, q, t, when, ask):
    """Write down the state for a query: V, I, what is left of a refractory time, and whether the neuron has spiked."""
    s = vector_at(m, WORDS, np.int64)
    n, channels = s[N], s[CHANNELS]
    numbers, kinds = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64), vector_at(s[KINDS], n, np.int32)
    groups, d = vector_at(s[GROUPS], n + 1, np.int64), vector_at(s[D_AT], n, dtype)
    base_v, base_i = vector_at(s[BASE_V], n, dtype), vector_at(s[BASE_I], n, dtype)
    v, i = vector_at(s[ASK_V], n, dtype), vector_at(s[ASK_I], n, dtype)
    refractory, free_at = vector_at(s[REFRACTORY_AT], n, np.int64), vector_at(s[FREE_AT], n, np.float64)
    apart, apart_t = vector_at(s[APART], n, np.int64), vector_at(s[APART_T], n, np.float64)
    states = matrix_at(s[STATES], n, s[N_QUERIES] * channels, dtype)
    for j in range(n):
        v[j], i[j] = base_v[j], base_i[j]
    for g in range(s[N_GROUPS]):
        low, high = groups[g], groups[g + 1]
        keep, feed, fade, gain = coefficients(when - t, numbers[LEAK, low], numbers[COUPLING, low], numbers[DECAY, low])
        move(v[low:high], i[low:high], d[low:high], dtype(keep), dtype(feed), dtype(fade), dtype(gain))
    for k in range(s[N_APART]):
        j = apart[k]
        keep, feed, fade, gain = coefficients(
            max(when - apart_t[j], 0.0), numbers[LEAK, j], numbers[COUPLING, j], numbers[DECAY, j]
        )
        v[j], i[j] = keep * base_v[j] + feed * base_i[j] + gain * numbers[DRIVE, j], fade * base_i[j]
    for k in range(s[N_REFRACTORY]):
        j = refractory[k]
        if kinds[j] & HOLDS_V:
            v[j] = base_v[j]
        if kinds[j] & HOLDS_I:
            i[j] = base_i[j]
    for j in range(n):
        states[j, q * channels] = v[j]
    for j in range(n if channels > 1 else 0):
        states[j, q * channels + 1] = i[j]
    if channels > 2:
        counts = vector_at(s[COUNTS], n, np.int32)
        for j in range(n):
            states[j, q * channels + 2] = 0
            states[j, q * channels + 3] = min(counts[j], 1)
        for k in range(s[N_REFRACTORY]):
            states[refractory[k], q * channels + 2] = free_at[refractory[k]] - ask
