"""A layer of independent neurons whose flow is linear: the boundary to jax.vmap and jax.grad."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from ...flows.linear import LinearFlow, MaybeArray
from ..batching import as_shared, hand_batched, leading, zeros_of
from ..lanes import Arrivals
from ..layer_run import LayerRun, as_one_batch, batch_of, run_one, shapes_of_run
from ..spike_list import Sortable, sort
from .backward import Cotangents, Spikes, Sweep, end_sweep, start_sweep, sweep_window
from .forward import Layer, Marks, Neurons, run_window, start_run
from .queries import Lookups, answer, note_states, settle_lookups, start_lookups, sweep_queries
from .rates import add_flows, any_rate
from .schedule import make_schedule

# How many stretches are worked through together: few where many neurons make every one of them costly, since a neuron
# that spikes goes through the rest of the window once more. Many are 2**14 in a batch of 256. The number must not
# depend on the batch: `vmap` may trace a run once for one sample and once for all, and both keep as many windows.
_WINDOW, _WINDOW_OF_MANY, _MANY = 32, 8, 64


class LayerTask(eqx.Module):
    """What to do with a layer, apart from the numbers.

    - `capacity`: how many spikes the layer may emit.
    - `stop_after`: a neuron is done after that many spikes; `None` for no such limit.
    - `min_slope`: gradients take no threshold to be crossed more slowly than this.
    - `slopes`: whether the slopes of the crossings are wanted.
    - `ordered`: whether the spikes have to be listed by time.
    """

    capacity: int
    stop_after: int | None
    min_slope: float
    slopes: bool
    ordered: bool


class LayerInputs(eqx.Module):
    """The numbers of a run, each with a leading axis that is the batch, or of length 1 where all share it.

    All times are counted from the `origin`.

    - `origin`: when the run starts.
    - `t_end`: how long it is, and `final` whether it ends for good, and does not go on in another one.
    - `times`: query times, or `None`.
    """

    flow: LinearFlow
    weights: Float[Array, "batch inputs neurons"]
    arrivals: Arrivals
    y0: Float[Array, "batch neurons channels"]
    origin: Float[Array, " batch"]
    t_end: Float[Array, " batch"]
    final: Bool[Array, " batch"]
    times: MaybeArray


class Trace(eqx.Module):
    """What the reverse sweep needs to know about a run.

    - `times`, `marks`: the spikes by time, and `last` the last of each neuron.
    - `windows`: how many windows were worked through.
    - `lookups`: how queries were answered.
    - `starts`: the state of all neurons before each window, where gradients depend on its path.
    """

    times: Float[Array, "batch capacity"]
    marks: Marks
    last: Int[Array, "batch neurons"]
    windows: Int[Array, " batch"]
    lookups: Lookups | None
    starts: Neurons | None


def run_layer(task: LayerTask, inputs: LayerInputs) -> LayerRun:
    """Run one sample through a layer; `jax.vmap` makes it a batch that shares one loop.

    `inputs` is that of one sample, without the leading axis. Differentiable by the flow, the weights, the arrival
    times, the initial state and the query times.
    """
    return run_one(_differentiable, task, inputs)


def _differentiable(task: LayerTask, inputs: LayerInputs) -> LayerRun:
    forward = hand_batched(lambda inputs: _forward(task, inputs, None)[0])
    run = jax.custom_vjp(forward)

    def forth(inputs: LayerInputs):
        perturbed = jax.tree.map(lambda leaf: leaf.perturbed, inputs, is_leaf=_is_primal)
        values = jax.tree.map(lambda leaf: leaf.value, inputs, is_leaf=_is_primal)
        out, trace = hand_batched(lambda inputs: _forward(task, inputs, perturbed))(values)
        return out, _Residuals(values, trace, perturbed)

    def back(residuals: _Residuals, ct: LayerRun):
        shape = residuals.trace.times
        by_time = _instantiate(ct.times, shape.shape, shape.dtype)
        by_state = None
        if residuals.inputs.times is not None:
            states: Any = shapes_of_run(task, residuals.inputs).states
            by_state = _instantiate(ct.states, states.shape, states.dtype)
        perturbed = residuals.perturbed
        sweep = hand_batched(lambda like, *args: _backward(task, perturbed, like, *as_one_batch(*args)), summed=True)
        return (sweep(leading(residuals.inputs), residuals.inputs, residuals.trace, by_time, by_state),)

    run.defvjp(forth, back, symbolic_zeros=True)
    return run(inputs)


class _Residuals(eqx.Module):
    """What goes from the forward run to the reverse sweep; `perturbed` tells which inputs take gradients."""

    inputs: LayerInputs
    trace: Trace
    perturbed: Any = eqx.field(static=True)


def _is_primal(leaf) -> bool:
    return isinstance(leaf, jax.custom_derivatives.CustomVJPPrimal)


def _instantiate(ct, shape, dtype) -> Array:
    return jnp.zeros(shape, dtype) if isinstance(ct, jax.custom_derivatives.SymbolicZero) else ct


def _make_layer(task: LayerTask, inputs: LayerInputs) -> Layer:
    batch = batch_of(inputs)
    arrivals, origin, t_end, final = _to_batch((inputs.arrivals, inputs.origin, inputs.t_end, inputs.final), batch)
    window = _WINDOW_OF_MANY if inputs.weights.shape[-1] >= _MANY else _WINDOW
    window = min(window, 1 + arrivals.times.shape[-1])
    schedule = make_schedule(arrivals, origin, t_end, final, inputs.weights.shape[1])
    flow = jax.tree.map(lambda number: number if number.ndim == 2 else number[:, None], inputs.flow)
    weights = jnp.pad(inputs.weights, ((0, 0), (0, 1), (0, 0)))
    return Layer(flow, weights, schedule, window, task.capacity, task.stop_after)


def _forward(task: LayerTask, inputs: LayerInputs, perturbed: LayerInputs | None) -> tuple[LayerRun, Trace | None]:
    layer = _make_layer(task, inputs)
    y0 = _initial_state(layer, inputs)
    asked, kept = inputs.times is not None, perturbed is not None and any_rate(perturbed.flow)
    run = start_run(y0, task.capacity, task.slopes, asked or perturbed is not None)
    total = -(-jnp.max(layer.schedule.count) // layer.window)
    lookups = start_lookups(layer.schedule, _to_batch(inputs.times, y0[0].shape[0]), y0) if asked else None
    starts = None
    if kept:
        starts = jax.tree.map(lambda leaf: jnp.zeros((_n_windows(layer), *leaf.shape), leaf.dtype), run.neurons)

    def running(carry):
        run = carry[0]
        return (run.window < total) & ~jnp.all(run.neurons.done)

    def turn(carry):
        run, lookups, starts = carry
        if starts is not None:
            starts = jax.tree.map(lambda rows, row: rows.at[run.window].set(row), starts, run.neurons)
        window = run.window
        run, seen = run_window(layer, run, see=lookups is not None)
        if lookups is not None:
            lookups = note_states(layer, lookups, window, seen)
        return run, lookups, starts

    run, lookups, starts = jax.lax.while_loop(running, turn, (run, lookups, starts))
    states = None
    if lookups is not None:
        lookups = settle_lookups(layer, lookups, run)
        states = jnp.stack([y for y in answer(layer.flow, lookups) if y is not None], axis=-1)
    neurons, marks = run.neurons, run.marks
    held = Sortable(run.spikes)
    if perturbed is not None and marks is not None:
        asked_of = None if lookups is None else lookups.last
        held = Sortable(run.spikes, (marks.current, marks.stretch), (neurons.last, asked_of), marks.before)
    # The run includes all of its last instant, but what happens in that happens at its end.
    times = jnp.minimum(
        held.spikes.times, jnp.where(jnp.isinf(held.spikes.times), jnp.inf, layer.schedule.t_end[:, None])
    )
    held = eqx.tree_at(lambda held: held.spikes.times, held, times)
    held = sort(held) if task.ordered else held
    spikes = held.spikes
    out = LayerRun(
        times=spikes.times,
        neurons=spikes.neurons,
        slopes=spikes.slopes,
        count=spikes.count,
        spikes=neurons.spikes,
        status=neurons.status,
        stopped=neurons.stopped,
        # A linear flow is reset to below its threshold.
        passing=jnp.zeros_like(neurons.done),
        states=states,
    )
    if perturbed is None:
        return out, None
    (current, stretch), (last, asked_of) = held.columns, held.slots
    if lookups is not None:
        lookups = eqx.tree_at(lambda lookups: lookups.last, lookups, asked_of)
    windows = jnp.broadcast_to(run.window, spikes.count.shape)
    starts = jax.tree.map(lambda rows: jnp.moveaxis(rows, 0, 1), starts)
    return out, Trace(spikes.times, Marks(current, held.links, stretch), last, windows, lookups, starts)


def _n_windows(layer: Layer) -> int:
    """How many windows there may be."""
    return -(-(1 + layer.schedule.arrivals.times.shape[-1]) // layer.window)


def _backward(
    task: LayerTask,
    perturbed: LayerInputs,
    like: LayerInputs,
    inputs: LayerInputs,
    trace: Trace,
    by_time,
    by_state,
) -> LayerInputs:
    """The cotangents of the `perturbed` inputs, with the leading axes of `like`."""
    layer = _make_layer(task, inputs)
    y0 = _initial_state(layer, inputs)
    zero = jnp.zeros(y0[0].shape, by_time.dtype)
    wanted: Any = perturbed.flow
    ct = Cotangents(
        v=zero,
        i=None if y0[1] is None else zero,
        flow=jax.tree.map(lambda number, wanted: zero if wanted else None, layer.flow, wanted),
        weights=zeros_of(layer.weights, like.weights) if perturbed.weights else None,
        arrivals=jnp.zeros(layer.schedule.arrivals.times.shape, zero.dtype) if perturbed.arrivals.times else None,
    )
    queries, by_query = None, None
    if trace.lookups is not None:
        by_state = (by_state[..., 0], None if y0[1] is None else by_state[..., 1])
        queries, by_flow, by_query = sweep_queries(layer, wanted, trace.lookups, by_state, task.capacity)
        ct = eqx.tree_at(lambda ct: ct.flow, ct, add_flows(ct.flow, by_flow))
    spikes = Spikes(trace.times, by_time, trace.marks, trace.last)
    starts = jax.tree.map(lambda rows: jnp.moveaxis(rows, 1, 0), trace.starts)

    def turn(sweep: Sweep) -> Sweep:
        seen = None
        if starts is not None:
            window = sweep.window - 1
            run = start_run(y0, 0, False, False)
            before = (window, jax.tree.map(lambda rows: rows[window], starts))
            seen = run_window(layer, eqx.tree_at(lambda run: (run.window, run.neurons), run, before), see=True)[1]
        return sweep_window(layer, wanted, spikes, seen, queries, task.min_slope, sweep)

    sweep = start_sweep(layer, wanted, spikes, jnp.max(trace.windows, initial=0), ct)
    sweep = jax.lax.while_loop(lambda sweep: sweep.window > 0, turn, sweep)
    return _as_inputs(like, inputs, end_sweep(layer, wanted, sweep), by_query)


def _as_inputs(like: LayerInputs, inputs: LayerInputs, ct: Cotangents, by_query) -> LayerInputs:
    """Cotangents in the shape of the inputs, with the leading axes of `like`: summed over what is shared."""
    nothing: Any = None

    def number(value, like, by):
        if by is None:
            return zeros_of(value, like)
        by = as_shared(by, like)
        if value.ndim == 1 or value.shape[1] == 1:
            by = jnp.sum(by, axis=1, keepdims=True)
        return by.reshape(by.shape[0], *value.shape[1:])

    flow = jax.tree.map(number, inputs.flow, like.flow, ct.flow)
    weights = zeros_of(inputs.weights, like.weights) if ct.weights is None else ct.weights[:, :-1]
    times = inputs.arrivals.times
    arrivals = zeros_of(times, like.arrivals.times)
    if ct.arrivals is not None:
        arrivals = as_shared(ct.arrivals, like.arrivals.times)
    y0 = as_shared(jnp.stack([y for y in (ct.v, ct.i) if y is not None], axis=-1), like.y0)
    queries = nothing if by_query is None else as_shared(by_query, like.times)
    return LayerInputs(flow, weights, Arrivals(arrivals, nothing), y0, nothing, nothing, nothing, queries)


def _initial_state(layer: Layer, inputs: LayerInputs):
    y0 = _to_batch(inputs.y0, layer.schedule.count.shape[0])
    return y0[..., 0], (y0[..., 1] if layer.flow.coupling is not None else None)


def _to_batch(tree: PyTree, batch: int) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (batch, *leaf.shape[1:])), tree)
