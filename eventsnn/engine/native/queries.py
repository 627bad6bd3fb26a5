"""The answers to queries in a run on one clock. They do not change it: states are copied, and the copies moved."""

from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.kinds import COUPLING, DECAY, DRIVE, HOLDS_I, HOLDS_V, LEAK, QUERY, VRESET
from eventsnn.engine.native.linear import coefficients
from eventsnn.engine.native.sweep import move, width_of


@compiled
def answer_until(run, t, until, final):
    """Answer the queries from the present time `t` up to `until`, where no neuron spikes; if `final`, all others too.

    What happens at the instant of a query comes before its answer.
    """
    if run.n_answered == run.n_queries:
        return
    n = run.n
    v, i = run.v, run.i
    base_v, base_i = run.base_v, run.base_i
    if next_query(run, until, final) >= 0:
        for j in range(n):
            base_v[j], base_i[j] = v[j], i[j]
        run.n_apart = 0
        answer_until_apart(run, t, until, final)


@compiled
def next_query(run, until, final):
    """The number of the next query, if it is to be answered by `until`, and -1 otherwise."""
    if run.n_answered == run.n_queries:
        return -1
    q = run.asked[run.n_answered]
    ask = run.asked_at[q]
    return q if final or ask + width_of(ask, run.eps) < until else -1


@compiled
def answer_until_apart(run, t, until, final):
    """The same from the states in `base` at `t`, but for those that are apart, since a time of their own."""
    while True:
        q = next_query(run, until, final)
        if q < 0:
            break
        ask = run.asked_at[q]
        _answer(run, q, t, max(ask, t), ask)
        run.log[run.n_log] = q * 8 + QUERY
        run.n_log += 1
        run.n_answered += 1


@compiled
def note_apart(run, j, t, current):
    """A neuron has spiked at `t`, and is apart from the others."""
    if run.apart_t[j] < 0:
        run.apart[run.n_apart] = j
        run.n_apart += 1
    run.apart_t[j] = t
    run.base_v[j] = run.numbers[VRESET, j]
    run.base_i[j] = current


@compiled
def _answer(run, q, t, when, ask):
    """Write down the state for a query: V, I, what is left of a refractory time, and whether the neuron has spiked."""
    n, channels = run.n, run.channels
    numbers, kinds = run.numbers, run.kinds
    groups, d = run.groups, run.d
    base_v, base_i = run.base_v, run.base_i
    v, i = run.ask_v, run.ask_i
    refractory, free_at = run.refractory, run.free_at
    apart, apart_t = run.apart, run.apart_t
    states = run.states
    for j in range(n):
        v[j], i[j] = base_v[j], base_i[j]
    for g in range(run.n_groups):
        low, high = groups[g], groups[g + 1]
        keep, feed, fade, gain = coefficients(when - t, numbers[LEAK, low], numbers[COUPLING, low], numbers[DECAY, low])
        move(v, i, d, low, high, run.dtype(keep), run.dtype(feed), run.dtype(fade), run.dtype(gain))
    for k in range(run.n_apart):
        j = apart[k]
        keep, feed, fade, gain = coefficients(
            max(when - apart_t[j], 0.0), numbers[LEAK, j], numbers[COUPLING, j], numbers[DECAY, j]
        )
        v[j], i[j] = keep * base_v[j] + feed * base_i[j] + gain * numbers[DRIVE, j], fade * base_i[j]
    for k in range(run.n_refractory):
        j = refractory[k]
        if kinds[j] & HOLDS_V:
            v[j] = base_v[j]
        if kinds[j] & HOLDS_I:
            i[j] = base_i[j]
    # In `states` neurons come first, then queries, then channels.
    for j in range(n):
        states[(j * run.n_queries + q) * channels] = v[j]
    for j in range(n if channels > 1 else 0):
        states[(j * run.n_queries + q) * channels + 1] = i[j]
    if channels > 2:
        counts = run.counts
        for j in range(n):
            place = (j * run.n_queries + q) * channels
            states[place + 2] = 0
            states[place + 3] = min(counts[j], 1)
        for k in range(run.n_refractory):
            states[(refractory[k] * run.n_queries + q) * channels + 2] = free_at[refractory[k]] - ask
