"""The reverse sweep of a layer whose flow is linear: EventProp, from the spikes and the arrivals alone.

The adjoint flows backwards by the transpose of what the state flows by, and arrivals leave it as it is. So it is
known at every spike once it is known at the next spike of the same neuron, whatever arrived in between. A window
is swept in two passes: first from spike to spike, then from arrival to arrival, where the weights are told.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from ...neuron_models.linear_flow import Coefficients, LinearFlow, MaybeArray
from ..spike_list import at
from .forward import Layer, Marks, Run, run_window
from .schedule import Stretches
from .threshold import slope_at_threshold

_Reals = Float[Array, "batch neurons"]
_Integers = Int[Array, "batch neurons"]

_NONE = jnp.iinfo(jnp.int32).max


class Spikes(eqx.Module):
    """The spikes of a run in the order in which the loop found them, and what they pass on.

    - `times`: when.
    - `by_time`: the derivative of the loss by each of them, in the order of time, and `place` where each stands there.
    - `by_state`: what the queries that were answered from a spike pass to the state just after it.
    - `marks`, `last`: how they hang together.
    """

    times: Float[Array, "batch capacity"]
    by_time: Float[Array, "batch capacity"]
    place: Int[Array, "batch capacity"]
    by_state: tuple[Array, MaybeArray] | None
    marks: Marks
    last: _Integers


class Cotangents(eqx.Module):
    """What everything has received so far. `None` where nobody asks.

    - `v`, `i`: the adjoint where the sweep stands.
    - `flow`: of the numbers of the flow, per neuron and sample.
    - `weights`: with a row for no arrival at the end.
    - `starts`: of the start of every stretch, which is an arrival time.
    """

    v: _Reals
    i: MaybeArray
    flow: LinearFlow
    weights: MaybeArray
    starts: MaybeArray


class _Chain(eqx.Module):
    """On the way from spike to spike of every neuron.

    - `slot`: the spike to come to next.
    - `t`, `v`, `i`: the spike come from, and the adjoint just before it.
    - `stretch`: the stretch that it is in, counted in the window.
    """

    slot: _Integers
    t: _Reals
    v: _Reals
    i: MaybeArray
    stretch: _Integers


class _Answers(eqx.Module):
    """What the spikes of a window leave for the pass from arrival to arrival, at (stretch, sample, neuron).

    - `spiked`: whether there is a spike in the stretch.
    - `t_first`, `v`, `i`: the first of them, and the adjoint just before it.
    - `t_last`, `current`: the last of them, and I there.
    - `moved`: what the arrival at the start receives from a spike that it caused at once.
    """

    spiked: Array
    t_first: Array
    v: Array
    i: MaybeArray
    t_last: Array
    current: MaybeArray
    moved: Array


def start_chain(spikes: Spikes, zero: _Reals, current: bool) -> _Chain:
    """Behind the last spike of every neuron, where the adjoint is 0."""
    none = jnp.full(zero.shape, _NONE, jnp.int32)
    return _Chain(spikes.last, zero, zero, zero if current else None, none)


def sweep_window(
    layer: Layer,
    wanted: PyTree,
    spikes: Spikes,
    number: Int[Array, ""],
    start: Run | None,
    by_arrival,
    chain: _Chain,
    ct: Cotangents,
    min_slope: float,
) -> tuple[_Chain, Cotangents]:
    """From the end of a window to its start.

    - `wanted`: which numbers of the flow take gradients.
    - `start`: the run at the start of the window, where the path of the state is needed.
    - `by_arrival`: gives what queries pass to the state after the arrivals of a window.
    """
    stretches = layer.schedule.window(number, layer.window)
    chain, answers, ct = _sweep_spikes(layer, wanted, spikes, stretches, number, chain, ct, min_slope)
    seen = None if start is None else run_window(layer, start, see=True)[1]
    by_query = by_arrival(number)
    return chain, _sweep_arrivals(layer, wanted, stretches, number, answers, seen, by_query, ct)


def _sweep_spikes(layer, wanted, spikes: Spikes, stretches: Stretches, number, chain: _Chain, ct, min_slope):
    flow, marks = layer.flow, spikes.marks
    shape = (layer.window, *chain.t.shape)
    zeros = jnp.zeros(shape, chain.t.dtype)
    current: Any = None if chain.i is None else zeros
    answers = _Answers(jnp.zeros(shape, bool), zeros, zeros, current, zeros, current, zeros)
    sample, neuron = jnp.arange(shape[1])[:, None], jnp.arange(shape[2])
    before_window = number * layer.window

    def here(chain: _Chain):
        stretch = jnp.abs(at(marks.stretch, chain.slot)) - 1 - before_window
        return (chain.slot >= 0) & (stretch >= 0), stretch

    rates = any_rate(wanted)

    def back(carry):
        chain, answers, ct = carry
        spiked, stretch = here(chain)
        lifted = spiked & (at(marks.stretch, chain.slot) < 0)
        t = jnp.where(spiked, at(spikes.times, chain.slot), chain.t)
        by_time = jnp.where(spiked, at(spikes.by_time, at(spikes.place, chain.slot)), 0)
        i_at: Any = None if marks.current is None else at(marks.current, chain.slot)
        v, i = transposed(flow.coefficients(chain.t - t), chain.v, chain.i)
        if spikes.by_state is not None:
            answered = jax.tree.map(lambda by: jnp.where(spiked, at(by, chain.slot), 0), spikes.by_state)
            v, i = jax.tree.map(jnp.add, (v, i), answered)
        # Just before the spike: the state after it no longer depends on V, and its time is where V meets the threshold.
        slope = slope_at_threshold(flow, i_at)
        slope_on = slope + flow.leak * (flow.thresh - flow.vreset)
        moved = by_time - v * slope_on
        steep = jnp.where(spiked, jnp.maximum(slope, max(min_slope, jnp.finfo(slope.dtype).tiny)), 1)
        v_before = jnp.where(spiked & ~lifted, -moved / steep, 0)
        if wanted.thresh:
            ct = eqx.tree_at(lambda ct: ct.flow.thresh, ct, ct.flow.thresh - v_before)
        if wanted.vreset:
            ct = eqx.tree_at(lambda ct: ct.flow.vreset, ct, ct.flow.vreset + jnp.where(spiked, v, 0))
        row = jnp.where(spiked, stretch, layer.window)
        last = jnp.where(stretch == chain.stretch, layer.window, row)

        def put(rows: Any, row, value) -> Any:
            return None if rows is None else rows.at[row, sample, neuron].set(value, mode="drop")

        answers = _Answers(
            put(answers.spiked, row, True),
            put(answers.t_first, row, t),
            put(answers.v, row, v_before),
            put(answers.i, row, i),
            put(answers.t_last, last, t) if rates else answers.t_last,
            put(answers.current, last, i_at) if rates else answers.current,
            put(answers.moved, row, jnp.where(lifted, moved, 0)) if ct.starts is not None else answers.moved,
        )
        # Up to the next spike of the same stretch. Behind the last of them the other pass goes on.
        within = spiked & (stretch == chain.stretch)
        by = (jnp.where(within, chain.v, 0), None if chain.i is None else jnp.where(within, chain.i, 0))
        ct = _add_rates(flow, wanted, ct, jnp.where(within, chain.t - t, 0), _after_spike(flow, t, i_at), by)
        chain = _Chain(
            jnp.where(spiked, at(marks.before, chain.slot), chain.slot),
            t,
            jnp.where(spiked, v_before, chain.v),
            jax.tree.map(lambda new, old: jnp.where(spiked, new, old), i, chain.i),
            jnp.where(spiked, stretch, chain.stretch),
        )
        return chain, answers, ct

    chain = eqx.tree_at(lambda chain: chain.stretch, chain, jnp.full_like(chain.stretch, _NONE))
    if flow.thresh is None:
        return chain, answers, ct
    return jax.lax.while_loop(lambda carry: jnp.any(here(carry[0])[0]), back, (chain, answers, ct))


def _sweep_arrivals(layer, wanted, stretches: Stretches, number, answers: _Answers, seen, by_query, ct: Cotangents):
    flow = layer.flow
    dt = stretches.ends - stretches.starts
    through = flow.coefficients(dt[:, :, None])
    length = jnp.minimum(layer.window, jnp.max(stretches.count))
    arriving: Any = layer.arriving(stretches) if ct.starts is not None else None
    told = jnp.zeros(answers.v.shape, answers.v.dtype) if ct.weights is not None else None
    by_start = jnp.zeros(dt.shape, dt.dtype) if ct.starts is not None else None

    def back(turn, carry):
        ct, told, by_start = carry
        row = length - 1 - turn
        here = jax.tree.map(lambda rows: rows[row], answers)
        v, i = transposed(jax.tree.map(lambda rows: rows[row], through), ct.v, ct.i)
        if seen is not None:
            ct = _add_stretch(flow, wanted, ct, here, stretches.starts[row], stretches.ends[row], seen, row)
        elif wanted.drive:
            ct = _add_stretch(flow, wanted, ct, here, stretches.starts[row], stretches.ends[row], None, row)
        to_first = flow.coefficients(here.t_first - stretches.starts[row][:, None])
        first_v, first_i = transposed(to_first, here.v, here.i)
        v = jnp.where(here.spiked, first_v, v)
        i = None if i is None else jnp.where(here.spiked, first_i, i)
        if by_query is not None:
            v = v + by_query[0][row]
            i = None if i is None else i + by_query[1][row]
        ct = eqx.tree_at(lambda ct: (ct.v, ct.i), ct, (v, i), is_leaf=lambda leaf: leaf is None)
        received = v if i is None else i
        if told is not None:
            told = told.at[row].set(received)
        if by_start is not None:
            # The state after an arrival does not care when it came, but what it added has since moved.
            moved = flow.leak * v if i is None else flow.decay * i - flow.coupling * v
            by_start = by_start.at[row].set(jnp.sum(arriving[row] * moved + here.moved, axis=1))
        return ct, told, by_start

    ct, told, by_start = jax.lax.fori_loop(0, length, back, (ct, told, by_start))
    if told is not None:
        weights = _scatter_weights(ct.weights, stretches.sources, told)
        ct = eqx.tree_at(lambda ct: ct.weights, ct, weights)
    if by_start is not None:
        begin = number * layer.window
        old = jax.lax.dynamic_slice_in_dim(ct.starts, begin, layer.window, axis=1)
        starts = jax.lax.dynamic_update_slice_in_dim(ct.starts, old + by_start.T, begin, axis=1)
        ct = eqx.tree_at(lambda ct: ct.starts, ct, starts)
    return ct


def _add_stretch(flow, wanted, ct: Cotangents, here: _Answers, start, end, seen, row) -> Cotangents:
    """What the numbers of the flow receive in one stretch: before its first spike, and behind its last."""
    start, end = start[:, None], end[:, None]
    zero = jnp.zeros_like(here.v)
    at_start: Any = (zero, None if here.i is None else zero)
    if seen is not None:
        at_start = jax.tree.map(lambda rows: rows[row], seen)
    after_v, after_i = _after_spike(flow, here.t_last, here.current)
    v = jnp.where(here.spiked, after_v, at_start[0])
    i = None if after_i is None else jnp.where(here.spiked, after_i, at_start[1])
    since = jnp.where(here.spiked, here.t_last, start)
    ct = _add_rates(flow, wanted, ct, end - since, (v, i), (ct.v, ct.i))
    by = (jnp.where(here.spiked, here.v, 0), None if here.i is None else jnp.where(here.spiked, here.i, 0))
    return _add_rates(flow, wanted, ct, jnp.where(here.spiked, here.t_first - start, 0), at_start, by)


def any_rate(wanted: LinearFlow) -> bool:
    """Whether a number is wanted that takes part in the flow."""
    return bool(wanted.leak or wanted.drive or wanted.coupling or wanted.decay)


def needs_states(wanted: LinearFlow) -> bool:
    """Whether a number is wanted whose gradient depends on the path of the state."""
    return bool(wanted.leak or wanted.coupling or wanted.decay)


def only_rates(flow: LinearFlow, wanted: LinearFlow) -> Any:
    """Which of the numbers that take part in the flow are wanted."""
    no: Any = False
    return LinearFlow(wanted.leak, wanted.drive, None if flow.thresh is None else no, no, wanted.coupling, wanted.decay)


def _add_rates(flow: LinearFlow, wanted: LinearFlow, ct: Cotangents, dt, y, by) -> Cotangents:
    """What the numbers of the flow receive over `dt` from the state `y`, if its end passes on `by`."""
    if not any_rate(wanted):
        return ct
    numbers, fixed = eqx.partition(flow, only_rates(flow, wanted))

    def move(numbers):
        moved = eqx.combine(numbers, fixed)
        return moved.advance(moved.coefficients(dt), *y)

    shape = jnp.broadcast_shapes(dt.shape, by[0].shape)
    numbers = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, shape), numbers)
    _, pull = jax.vjp(move, numbers)
    (by_numbers,) = pull(by)
    total = jax.tree.map(
        lambda total, more: total if more is None else total + more, ct.flow, by_numbers, is_leaf=lambda x: x is None
    )
    return eqx.tree_at(lambda ct: ct.flow, ct, total)


def transposed(through: Coefficients, v: _Reals, i: MaybeArray) -> tuple[_Reals, MaybeArray]:
    """The adjoint at the start of a stretch, from that at its end."""
    if i is None or through.feed is None:
        return through.keep * v, None
    return through.keep * v, through.fade * i + through.feed * v


def _after_spike(flow: LinearFlow, like: _Reals, current: MaybeArray):
    return jnp.broadcast_to(flow.vreset, like.shape), current


def _scatter_weights(total: Array, sources: Int[Array, "stretches batch"], told: Array) -> Array:
    if total.shape[0] == 1:
        return total.at[0, sources].add(told)
    return total.at[jnp.arange(total.shape[0]), sources].add(told)
