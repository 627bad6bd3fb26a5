"""The reverse sweep of a layer whose flow is linear: EventProp, from the spikes and the arrivals alone.

The adjoint flows backwards by the transpose of what the state flows by, and arrivals leave it as it is. So it is
known at every spike once it is known at the next spike of the same neuron, whatever arrived in between. A window
is swept in two passes: first from spike to spike, then from arrival to arrival, where the weights are told.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from ...flows.linear import LinearFlow, MaybeArray
from ..spike_list import at, at_some, put
from ..turns import Turn, serve_in_turns
from .forward import Layer, Marks, Seen
from .queries import FromQueries
from .rates import add_flows, any_rate, by_rates
from .schedule import Stretches
from .threshold import slope_at_threshold

_Reals = Float[Array, "batch neurons"]
_Integers = Int[Array, "batch neurons"]


class Spikes(eqx.Module):
    """The spikes of a run by time, and what they receive.

    - `times`, `by_time`: when, and the derivative of the loss by that.
    - `marks`, `last`: how they hang together.
    """

    times: Float[Array, "batch capacity"]
    by_time: Float[Array, "batch capacity"]
    marks: Marks
    last: _Integers


class Cotangents(eqx.Module):
    """What everything has received so far. `None` where nobody asks.

    - `v`, `i`: the adjoint where the sweep stands.
    - `flow`: of the numbers of the flow, per neuron and sample.
    - `weights`: with a row for no arrival at the end.
    - `arrivals`: of the arrival times.
    """

    v: _Reals
    i: MaybeArray
    flow: LinearFlow
    weights: MaybeArray
    arrivals: MaybeArray


class _Chain(eqx.Module):
    """Where every neuron is on the way back from spike to spike.

    - `slot`, `mark`: the spike to come to next, and its stretch as in `Marks`; 0 if there is none.
    - `t`, `v`, `i`: the time of the spike come from, and the adjoint just before it.
    - `behind`: the mark of the spike come from, 0 if there is none.
    """

    slot: _Integers
    mark: _Integers
    t: _Reals
    v: _Reals
    i: MaybeArray
    behind: _Integers


class _Answers(eqx.Module):
    """What the spikes of a window leave for the pass from arrival to arrival, at (stretch, sample, neuron).

    Apart from `spiked` there is anything where there is no spike.

    - `spiked`: whether there is a spike in the stretch.
    - `v`, `i`: the adjoint at the start of the stretch.
    - `t_last`, `current`: the last of the spikes, and I there.
    """

    spiked: Bool[Array, "stretches batch neurons"]
    v: Float[Array, "stretches batch neurons"]
    i: MaybeArray
    t_last: MaybeArray
    current: MaybeArray


class Sweep(eqx.Module):
    """A reverse sweep on its way: from the end of a run to the start of window `window`."""

    window: Int[Array, ""]
    chain: _Chain
    answers: _Answers
    ct: Cotangents


def start_sweep(layer: Layer, wanted: PyTree, spikes: Spikes, windows: Int[Array, ""], ct: Cotangents) -> Sweep:
    """At the end of a run of `windows` windows; `wanted` says which numbers of the flow take gradients."""
    zero, current = jnp.zeros_like(ct.v), spikes.marks.current is not None
    none = jnp.zeros(zero.shape, jnp.int32)
    mark = jnp.where(spikes.last >= 0, at(spikes.marks.stretch, spikes.last), 0) if spikes.times.size else none
    chain = _Chain(spikes.last, mark, zero, zero, zero if current else None, none)
    rows = jnp.zeros((layer.window, *zero.shape), zero.dtype)
    kept = rows if any_rate(wanted) else None
    answers = _Answers(jnp.zeros(rows.shape, bool), rows, rows if current else None, kept, kept if current else None)
    return Sweep(windows, chain, answers, ct)


def sweep_window(
    layer: Layer,
    wanted: PyTree,
    spikes: Spikes,
    seen: Seen,
    queries: FromQueries | None,
    min_slope: float,
    sweep: Sweep,
) -> Sweep:
    """To the start of the window before.

    - `seen`: the state at the start of every stretch of it, where the path of the state is needed.
    - `queries`: what the answers to queries pass to the states that they started from.
    """
    number = sweep.window - 1
    stretches = layer.schedule.window(number, layer.window)
    by_start = None if sweep.ct.arrivals is None else jnp.zeros(stretches.starts.shape, sweep.ct.v.dtype)
    carry = (sweep.chain, _no_spikes(sweep.answers), sweep.ct.flow, by_start)
    if layer.flow.thresh is not None:

        def serve(turn, carry):
            return _sweep_spikes(layer, wanted, spikes, stretches, number, seen, queries, min_slope, turn, *carry)

        waiting = jnp.abs(sweep.chain.mark) > number * layer.window
        carry = serve_in_turns(waiting, serve, carry, sweep.ct.v.dtype)
    chain, answers, flow, by_start = carry
    ct = eqx.tree_at(lambda ct: ct.flow, sweep.ct, flow)
    ct = _sweep_arrivals(layer, wanted, stretches, number, answers, seen, queries, ct, by_start)
    return Sweep(number, chain, answers, ct)


def end_sweep(layer: Layer, wanted: PyTree, sweep: Sweep) -> Cotangents:
    """At the start of the run."""
    ct, chain = sweep.ct, sweep.chain
    if not wanted.drive:
        return ct
    # Behind the last spike there is none, and the adjoint is 0.
    gain = layer.flow.coefficients(jnp.maximum(chain.t, 0)).gain
    return eqx.tree_at(lambda ct: ct.flow.drive, ct, ct.flow.drive + gain * chain.v)


def _no_spikes(answers: _Answers) -> _Answers:
    return eqx.tree_at(lambda answers: answers.spiked, answers, jnp.zeros_like(answers.spiked))


def _sweep_spikes(
    layer: Layer,
    wanted: PyTree,
    spikes: Spikes,
    stretches: Stretches,
    window: Int[Array, ""],
    seen: Seen,
    queries: FromQueries | None,
    min_slope: float,
    turn: Turn,
    chain: _Chain,
    answers: _Answers,
    by_flow: LinearFlow,
    by_start: MaybeArray,
):
    """Over one spike of some neurons each. Also who has another one in the window."""
    flow, marks, real = jax.tree.map(turn.look, layer.flow), spikes.marks, turn.real
    here: _Chain = jax.tree.map(turn.look, chain)
    lifted, row = real & (here.mark < 0), jnp.abs(here.mark) - 1 - window * layer.window
    t, by_time = at_some(spikes.times, turn, here.slot), at_some(spikes.by_time, turn, here.slot)
    i_at = None if marks.current is None else at_some(marks.current, turn, here.slot)
    # Behind the last spike there is none to come from, and the adjoint is 0.
    through = flow.coefficients(jnp.maximum(here.t - t, 0))
    v, i = through.transposed(here.v, here.i)
    if queries is not None:
        v, i = jax.tree.map(lambda y, by: y + at_some(by, turn, here.slot), (v, i), queries.by_spike)
    # Just before the spike: the state after it no longer depends on V, and its time is where V meets the threshold.
    slope = slope_at_threshold(flow, i_at)
    slope_on = slope + flow.leak * (flow.thresh - flow.vreset)
    moved = by_time - v * slope_on
    steep = jnp.maximum(slope, max(min_slope, jnp.finfo(t.dtype).tiny))
    v_before = jnp.where(lifted, 0, -moved / steep)
    begin = turn.look(stretches.starts, row)
    v_begin, i_begin = flow.coefficients(t - begin).transposed(v_before, i)

    more: Any = jax.tree.map(lambda _: None, by_flow)
    if wanted.drive:
        more = eqx.tree_at(lambda f: f.drive, more, through.gain * here.v, is_leaf=_is_none)
    if wanted.thresh:
        more = eqx.tree_at(lambda f: f.thresh, more, -v_before, is_leaf=_is_none)
    if wanted.vreset:
        more = eqx.tree_at(lambda f: f.vreset, more, v, is_leaf=_is_none)
    before = at_some(marks.before, turn, here.slot)
    mark = jnp.where(before >= 0, at_some(marks.stretch, turn, before), 0)
    same = jnp.abs(here.behind) == jnp.abs(here.mark)
    if any_rate(wanted) and seen is not None:
        # Up to the next spike if that is in the same stretch; otherwise the other pass goes on behind this one. And
        # from the start of the stretch, if no other spike lies between.
        after = (jnp.broadcast_to(flow.vreset, t.shape), i_at)
        by = jax.tree.map(lambda by: jnp.where(same, by, 0), (here.v, here.i))
        more = add_flows(more, by_rates(flow, wanted, jnp.where(same, here.t - t, 0), after, by))
        first = jnp.abs(mark) != jnp.abs(here.mark)
        at_begin = jax.tree.map(lambda rows: turn.look(rows, row), seen)
        by = jax.tree.map(lambda by: jnp.where(first, by, 0), (v_before, i))
        more = add_flows(more, by_rates(flow, wanted, t - begin, at_begin, by))
    by_flow = jax.tree.map(
        lambda more, total: None if more is None else turn.write(total, turn.look(total) + more),
        more,
        by_flow,
        is_leaf=_is_none,
    )
    if by_start is not None:
        by_start = turn.add(by_start, moved, row, lifted)
    answers = _Answers(
        spiked=turn.write(answers.spiked, real, row),
        v=turn.write(answers.v, v_begin, row),
        i=turn.write(answers.i, i_begin, row),
        t_last=turn.write(answers.t_last, t, row, ~same),
        current=turn.write(answers.current, i_at, row, ~same),
    )
    chain = jax.tree.map(turn.write, chain, _Chain(before, mark, t, v_before, i, here.mark))
    return real & (jnp.abs(mark) > window * layer.window), (chain, answers, by_flow, by_start)


def _sweep_arrivals(
    layer: Layer,
    wanted: PyTree,
    stretches: Stretches,
    window: Int[Array, ""],
    answers: _Answers,
    seen: Seen,
    queries: FromQueries | None,
    ct: Cotangents,
    by_start: MaybeArray,
) -> Cotangents:
    """All neurons, from the end of a window to its start."""
    flow = layer.flow
    through = flow.coefficients(stretches.ends - stretches.starts)
    length = jnp.minimum(layer.window, jnp.max(stretches.count))
    arriving: Any = layer.arriving(stretches) if by_start is not None else None
    told = jnp.zeros(answers.v.shape, answers.v.dtype) if ct.weights is not None else None
    by_query = None if queries is None else queries.of_window(window, layer.window, ct.v.shape)

    def back(turn, carry):
        ct, told, by_start = carry
        row = length - 1 - turn
        here: _Answers = jax.tree.map(lambda rows: _row(rows, row), answers)
        if any_rate(wanted) and seen is not None:
            # Behind the last spike of the stretch, or all of it.
            begin, end = _row(stretches.starts, row), _row(stretches.ends, row)
            after = (jnp.broadcast_to(flow.vreset, ct.v.shape), here.current)
            state = jax.tree.map(lambda y, rows: jnp.where(here.spiked, y, _row(rows, row)), after, seen)
            since = jnp.where(here.spiked, here.t_last, begin)
            more = by_rates(flow, wanted, end - since, state, (ct.v, ct.i))
            ct = eqx.tree_at(lambda ct: ct.flow, ct, add_flows(ct.flow, more))
        v, i = jax.tree.map(lambda rows: _row(rows, row), through).transposed(ct.v, ct.i)
        v, i = jax.tree.map(lambda first, y: jnp.where(here.spiked, first, y), (here.v, here.i), (v, i))
        if by_query is not None:
            v, i = jax.tree.map(lambda y, rows: y + _row(rows, row), (v, i), by_query)
        ct = eqx.tree_at(lambda ct: (ct.v, ct.i), ct, (v, i), is_leaf=_is_none)
        if told is not None:
            told = _with_row(told, row, v if i is None else i)
        if by_start is not None:
            # The state after an arrival does not care when it came, but what it added has since moved.
            moved = flow.leak * v if i is None else flow.decay * i - flow.coupling * v
            moved = _row(arriving, row) * moved
            moved = moved if by_start.shape[-1] > 1 else jnp.sum(moved, axis=1, keepdims=True)
            by_start = _with_row(by_start, row, _row(by_start, row) + moved)
        return ct, told, by_start

    ct, told, by_start = jax.lax.fori_loop(0, length, back, (ct, told, by_start))
    if told is not None:
        weights = _scatter_weights(ct.weights, stretches.sources, told)
        ct = eqx.tree_at(lambda ct: ct.weights, ct, weights)
    if by_start is not None:
        # Every stretch starts with an arrival, but for the first.
        row = jnp.arange(layer.window, dtype=jnp.int32) + window * layer.window - 1
        arrivals = ct.arrivals.reshape(-1, ct.arrivals.shape[-1])
        slot = jnp.where(row < 0, arrivals.shape[1], row)
        by_start = jnp.moveaxis(by_start, 0, -1).reshape(-1, layer.window)
        arrivals = put(arrivals, jnp.broadcast_to(slot, by_start.shape), by_start).reshape(ct.arrivals.shape)
        ct = eqx.tree_at(lambda ct: ct.arrivals, ct, arrivals)
    return ct


def _row(rows: Array, row: Int[Array, ""]) -> Array:
    return jax.lax.dynamic_index_in_dim(rows, row, keepdims=False, allow_negative_indices=False)


def _with_row(rows: Array, row: Int[Array, ""], new: Array) -> Array:
    return jax.lax.dynamic_update_index_in_dim(rows, new, row, 0, allow_negative_indices=False)


def _is_none(leaf) -> bool:
    return leaf is None


def _scatter_weights(total: Array, sources: Int[Array, "stretches batch lists"], told: Array) -> Array:
    sample: Any = jnp.arange(total.shape[0]) if total.shape[0] > 1 else 0
    if sources.shape[-1] == 1:
        return total.at[sample, sources[..., 0]].add(told)
    sample = sample if total.shape[0] == 1 else sample[:, None]
    return total.at[sample, sources, jnp.arange(total.shape[2])].add(told)
