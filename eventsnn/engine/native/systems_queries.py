"""The answers to queries in a run of linear systems. They do not change it: states are copied, and the copies moved."""

from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.crossings import advance, fill
from eventsnn.engine.native.kinds import QUERY
from eventsnn.engine.native.matrices import exponentials, load
from eventsnn.engine.native.queries import next_query
from eventsnn.engine.native.systems_sweep import keep, move, move_resting


@compiled
def answer_until(run, t, until, final):
    """Answer the queries from the present time `t` up to `until`, where no neuron spikes; if `final`, all others too.

    What happens at the instant of a query comes before its answer.
    """
    if run.n_answered < run.n_queries:
        run.n_apart = 0
        answer_until_apart(run, t, until, final)


@compiled
def answer_until_apart(run, t, until, final):
    """The same from the states in `x` at `t`, but for those that are apart, since a time of their own."""
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
def note_apart(run, j, t):
    """A neuron has spiked at `t`, and is apart from the others."""
    if run.apart_t[j] < 0:
        run.apart[run.n_apart] = j
        run.n_apart += 1
    run.apart_t[j] = t


@compiled
def _answer(run, q, t, when, ask):
    """Write down the state for a query: all channels, what is left of a refractory time, and whether it has spiked."""
    n, columns, size, states = run.n, run.columns, run.size, run.states
    x, apart, refractory = run.ask_x, run.apart, run.refractory
    for g in range(run.n_groups):
        load(run, run.groups[g], False)
        move(run, x, g, exponentials(run, run.a, run.chain, when - t))
    move_resting(run, x, when - t)
    for k in range(run.n_apart):
        j = apart[k]
        load(run, j, run.numbers[run.at_tref, j] > 0)
        fill(run, run.y, run.since_x, j)
        advance(run, when - run.apart_t[j])
        keep(run, x, j)
    # In `states` neurons come first, then queries, then channels.
    for j in range(n):
        for k in range(size):
            states[(j * run.n_queries + q) * columns + k] = x[k, j]
    if columns > size:
        counts = run.counts
        for j in range(n):
            place = (j * run.n_queries + q) * columns + size
            states[place] = 0
            states[place + 1] = min(counts[j], 1)
        for k in range(run.n_refractory):
            j = refractory[k]
            states[(j * run.n_queries + q) * columns + size] = run.free_at[j] - ask
