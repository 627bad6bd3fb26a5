"""Linear neurons by a native kernel: the boundary to jax.vmap and jax.grad."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero
from jaxtyping import Array, Float, Int

from ...flows.rules import LinearRules
from ..batching import as_shared, hand_batched, leading
from ..layer_run import LayerRun, as_one_batch, batch_of, run_one
from .call import call
from .target import Kernel

_FORWARD = Kernel("clock_forward", "eventsnn.engine.native.clock_kernel:forward")
_BACKWARD = Kernel("clock_backward", "eventsnn.engine.native.clock_kernel:backward")
_BACKWARD_WITH_RATES = Kernel("clock_backward_with_rates", "eventsnn.engine.native.clock_kernel:backward_with_rates")

# The derivatives of weights that samples share are summed over some samples each, in an order that does not depend on
# the number of threads, and then over these sums. That takes so much memory at most, and so many sums are enough to
# keep as many threads busy.
_SUMS_BYTES, _SUMS = 2**25, 16
# Bits of the kinds of neurons, as in `kinds_of`.
_HOLDS_V, _HOLDS_I = 8, 16


class NativeTask(eqx.Module):
    """What to do, apart from the numbers.

    - `recurrent`: whether neurons hear of each other; the first rows of the weights are theirs then.
    - `capacity`: how many spikes there may be.
    - `stop_after`: a layer drops the spikes of a neuron after that many, and a network is done when all `outputs` have
        spiked that often; `None` for no such limit.
    - `min_slope`: gradients take no threshold to be crossed more slowly than this.
    - `slopes`: whether the slopes of the crossings are wanted.
    - `kinds`: what is true of each neuron, as the kernel has it.
    - `columns`: what each column of a state is, as in `LinearRules`.
    """

    recurrent: bool
    capacity: int
    stop_after: int | None
    min_slope: float
    slopes: bool
    kinds: tuple[int, ...]
    columns: tuple[str, ...]


class NativeInputs(eqx.Module):
    """The numbers of a run, each with a leading axis that is the batch, or of length 1 where all share it.

    - `rates`: leak, coupling and decay of `LinearRules`, and `levels` its other numbers. What rates receive takes twice
        the time, so that it is computed where somebody wants it.
    - `spikes`, `sources`: spikes from elsewhere in any order, and the row of the weights that each comes through.
    - `delays`: of every row, infinite where nothing is reached.
    - `y0`: the initial state, and `times` the query times, or `None`.
    """

    rates: Float[Array, "batch 3 neurons"]
    levels: Float[Array, "batch 4 neurons"]
    weights: Float[Array, "batch rows neurons"]
    delays: Float[Array, "batch rows"]
    spikes: Float[Array, "batch spikes"]
    sources: Int[Array, "batch spikes"]
    y0: Float[Array, "batch neurons channels"]
    t_end: Float[Array, " batch"]
    times: Float[Array, "batch times"] | None


class Trace(eqx.Module):
    """What the way back needs to know of a run.

    - `neurons`, `times`: which neuron emitted each spike, and when.
    - `currents`, `free_currents`: what I was at each spike, and at the end of the refractory time after it. These and
        the times are in float64 whatever the states are. Without `jax_enable_x64` JAX has no such array, so they are
        pairs of whole numbers that only the kernels read.
    - `log`, `info`: what happened in which order; how many spikes and how many entries there are.
    - `states`: at the query times.
    """

    neurons: Int[Array, "batch capacity"]
    times: Int[Array, "batch halves"]
    currents: Int[Array, "batch halves"]
    free_currents: Int[Array, "batch halves"]
    log: Int[Array, "batch entries"]
    info: Int[Array, "batch 2"]
    states: Float[Array, "batch neurons times columns"]


def kernels_are_there(dtype: Any) -> None:
    """Compile the kernels for states of a dtype. **Raises:** `NativeUnavailable`."""
    _FORWARD.target(dtype)


def kinds_of(rules: LinearRules, outputs: tuple[bool, ...]) -> tuple[int, ...]:
    """What is true of each neuron, as bits in the order in which the kernel has them."""
    flags = rules.jumps, rules.spikes, rules.once, rules.holds_v, rules.holds_i, rules.blocks, outputs
    return tuple(int(sum(flag << bit for bit, flag in enumerate(one))) for one in zip(*flags, strict=True))


def run_native(task: NativeTask, inputs: NativeInputs) -> LayerRun:
    """Run one sample; `jax.vmap` makes it a batch, which is shared out over threads.

    `inputs` is that of one sample, without the leading axis. Differentiable by all of its numbers but `t_end`.
    """
    return run_one(_differentiable, task, inputs)


def _differentiable(task: NativeTask, inputs: NativeInputs) -> LayerRun:
    def forward(inputs, recorded):
        return hand_batched(lambda inputs: _forward(task, inputs, recorded))(inputs)

    run = jax.custom_vjp(lambda inputs: forward(inputs, False)[0])

    def forth(marked):
        inputs = jax.tree.map(lambda leaf: leaf.value, marked, is_leaf=_is_marked)
        out, trace = forward(inputs, True)
        return out, (inputs, trace, _Wanted(marked.rates.perturbed))

    def back(residuals, ct: LayerRun):
        inputs, trace, wanted = residuals
        by_times, by_states = (_instantiated(leaf) for leaf in (ct.times, ct.states))

        def sweep(like, *args):
            return _backward(task, wanted.rates, like, *as_one_batch(*args))

        return (hand_batched(sweep, summed=True)(leading(inputs), inputs, trace, by_times, by_states),)

    run.defvjp(forth, back, symbolic_zeros=True)
    return run(inputs)


class _Wanted(eqx.Module):
    """Whether rates take gradients."""

    rates: bool = eqx.field(static=True)


def _is_marked(leaf: Any) -> bool:
    return isinstance(leaf, CustomVJPPrimal)


def _instantiated(ct: Any) -> Any:
    dtype: Any = ct.dtype if isinstance(ct, SymbolicZero) else None
    return ct if dtype is None else jnp.zeros(ct.shape, dtype)


def _arguments(task: NativeTask, inputs: NativeInputs) -> tuple[Any, ...]:
    """What both kernels are given first."""
    dtype: Any = inputs.weights.dtype
    y0 = inputs.y0
    own = max(inputs.rates.shape[0], inputs.levels.shape[0], y0.shape[0])
    start = [y0[..., task.columns.index(name)] if name in task.columns else 0 * y0[..., 0] for name in ("V", "I")]
    rows = [inputs.rates, inputs.levels, jnp.stack(start, axis=1)]
    numbers = jnp.concatenate([jnp.broadcast_to(part, (own, *part.shape[1:])) for part in rows], axis=1)
    queries = jnp.zeros((1, 0), dtype) if inputs.times is None else inputs.times
    # Shared by all samples of a call as far as it goes.
    ends = jnp.stack([inputs.t_end, jnp.full_like(inputs.t_end, task.min_slope)], axis=1)
    kinds = jnp.asarray(np.array([task.kinds], np.int32))
    return inputs.spikes, inputs.sources, inputs.weights, inputs.delays, numbers, kinds, queries, ends


def _forward(task: NativeTask, inputs: NativeInputs, recorded: bool) -> tuple[LayerRun, Trace]:
    """The run, and if it is `recorded` what the way back needs to know, which has no length otherwise."""
    arguments = _arguments(task, inputs)
    batch, neurons = batch_of(inputs), len(task.kinds)
    dtype: Any = inputs.weights.dtype
    queries, capacity = arguments[6].shape[1], task.capacity
    columns = 4 if len(task.columns) > 2 else len(task.columns)

    def array(dtype, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch, *shape), dtype)

    results = (
        array(dtype, capacity),
        array(np.int32, capacity),
        array(dtype, capacity if task.slopes else 0),
        array(np.int32, 1),
        array(np.int32, neurons),
        array(np.int32, neurons),
        array(dtype, neurons),
        array(np.bool_, neurons),
        array(dtype, neurons, queries, columns),
        array(np.int32, 2 * capacity * recorded),
        array(np.int32, 2 * capacity * recorded),
        array(np.int32, 2 * capacity * (recorded and "remaining" in task.columns)),
        array(np.int32, (inputs.spikes.shape[1] + 3 * capacity + queries + 8) * recorded),
        array(np.int32, 2),
    )
    stop_after = 0 if task.stop_after is None else task.stop_after
    out = call(_FORWARD, results, *arguments, recurrent=task.recurrent, stop_after=stop_after)
    times, listed, slopes, count, spikes, status, stopped, passing, states, *trace = out
    run = LayerRun(
        times=times,
        neurons=listed,
        slopes=slopes if task.slopes else None,
        count=count[:, 0],
        spikes=spikes,
        status=status,
        stopped=stopped,
        passing=passing,
        states=None if inputs.times is None else _columns_of(task, states),
    )
    exact, currents, free_currents, log, info = trace
    return run, Trace(listed, exact, currents, free_currents, log, info, states)


def _columns_of(task: NativeTask, states: Array) -> Array:
    """The states as the model has them."""
    known = {"V": 0, "I": 1, "remaining": 2, "spent": 3}

    def column(name: str) -> Array:
        if name == "refractory":
            return (states[..., 2] > 0).astype(states.dtype)
        return states[..., known[name]]

    return jnp.stack([column(name) for name in task.columns], axis=-1)


def _backward(
    task: NativeTask,
    rates: bool,
    like: NativeInputs,
    inputs: NativeInputs,
    trace: Trace,
    by_times: Array,
    by_states: Any,
) -> NativeInputs:
    """The cotangents of the inputs, with the leading axes of `like`."""
    arguments = _arguments(task, inputs)
    batch = by_times.shape[0]
    dtype: Any = by_times.dtype
    rows, neurons = inputs.weights.shape[1:]
    by_columns = jnp.zeros((batch, *trace.states.shape[1:]), dtype)
    if by_states is not None:
        for name, place in {"V": 0, "I": 1, "remaining": 2}.items():
            if name in task.columns:
                by_columns = by_columns.at[..., place].set(by_states[..., task.columns.index(name)])
    own = like.weights.shape[0] > 1
    sums = batch if own else max(1, min(batch, _SUMS, _SUMS_BYTES // max(4 * rows * neurons, 1)))

    def array(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype)

    results = (
        array(sums, rows, neurons),
        array(batch, inputs.spikes.shape[1]),
        array(batch, rows),
        array(batch, 9, neurons),
    )
    recorded = trace.neurons, trace.times, trace.currents, trace.free_currents, trace.log, trace.info
    kernel = _BACKWARD_WITH_RATES if rates else _BACKWARD
    by_weights, by_spikes, by_delays, by_numbers = call(
        kernel, results, *arguments, *recorded, by_times, by_columns, recurrent=task.recurrent
    )
    y0 = jnp.zeros((batch, neurons, len(task.columns)), dtype)
    for name, place in (("V", 7), ("I", 8)):
        if name in task.columns:
            y0 = y0.at[..., task.columns.index(name)].set(by_numbers[:, place])
    nothing: Any = None
    return NativeInputs(
        rates=as_shared(by_numbers[:, :3], like.rates),
        levels=as_shared(by_numbers[:, 3:7], like.levels),
        weights=by_weights if own else jnp.sum(by_weights, axis=0, keepdims=True),
        delays=as_shared(by_delays, like.delays),
        spikes=as_shared(by_spikes, like.spikes),
        sources=nothing,
        y0=as_shared(y0, like.y0),
        t_end=nothing,
        times=nothing if by_states is None else as_shared(_by_queries(task, inputs, trace, by_columns), like.times),
    )


def _by_queries(task: NativeTask, inputs: NativeInputs, trace: Trace, by_columns: Array) -> Array:
    """What query times receive: how fast the states move that depend on them."""
    leak, coupling, decay = (inputs.rates[:, row, :, None] for row in range(3))
    drive, states = inputs.levels[:, 0, :, None], trace.states
    v = states[..., 0]
    i = states[..., 1] if states.shape[-1] > 1 else jnp.zeros_like(v)
    moves = [drive - leak * v + coupling * i, -decay * i]
    if states.shape[-1] > 2:
        rests = states[..., 2] > 0
        stands = [jnp.asarray([bool(kind & bit) for kind in task.kinds])[:, None] for bit in (_HOLDS_V, _HOLDS_I)]
        moves = [jnp.where(rests & held, 0, move) for held, move in zip(stands, moves, strict=True)]
        moves += [jnp.where(rests, -1, jnp.zeros_like(v)), jnp.zeros_like(v)]
    total = sum(by_columns[..., column] * move for column, move in enumerate(moves[: states.shape[-1]]))
    return jnp.sum(total, axis=1)
