"""Linear neurons with a delay for each synapse by a native kernel: the boundary to jax.vmap and jax.grad."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..batching import as_shared, hand_batched, leading
from ..layer_run import LayerRun, as_one_batch, batch_of, run_one
from .call import call
from .run import NativeTask, _by_queries, _columns_of, _instantiated, _is_marked, _Wanted
from .target import Kernel

_FORWARD = Kernel("windows_forward", "eventsnn.engine.native.windows_kernel:forward")
_BACKWARD = Kernel("windows_backward", "eventsnn.engine.native.windows_kernel:backward")
_BACKWARD_WITH_RATES = Kernel(
    "windows_backward_with_rates", "eventsnn.engine.native.windows_kernel:backward_with_rates"
)

# As in `run.py`: the derivatives of what samples share are summed over some samples each, and then over these sums.
_SUMS_BYTES, _SUMS = 2**26, 32


class WindowsInputs(eqx.Module):
    """The numbers of a run, each with a leading axis that is the batch, or of length 1 where all share it.

    - `rates`, `levels`: the numbers of `LinearRules`.
    - `starts`: the first synapse of each row, and behind these the number of all. Rows of a recurrent network are its
        neurons, then its inputs; those of a layer are what it receives spikes from.
    - `targets`: the neuron that each synapse reaches.
    - `weights`, `delays`: of every synapse; a delay is infinite where nothing is reached.
    - `spikes`, `sources`: spikes from elsewhere in any order, and the row of each.
    - `y0`: the initial state, and `times` the query times, or `None`.
    """

    rates: Float[Array, "batch 3 neurons"]
    levels: Float[Array, "batch 4 neurons"]
    starts: Int[Array, "batch rows"]
    targets: Int[Array, "batch synapses"]
    weights: Float[Array, "batch synapses"]
    delays: Float[Array, "batch synapses"]
    spikes: Float[Array, "batch spikes"]
    sources: Int[Array, "batch spikes"]
    y0: Float[Array, "batch neurons channels"]
    t_end: Float[Array, " batch"]
    times: Float[Array, "batch times"] | None


class WindowsTrace(eqx.Module):
    """What the way back needs to know of a run.

    - `neurons`, `times`, `currents`: which neuron emitted each spike, when, and what I was. Times and states are
        float64, as pairs of whole numbers: see `run.Trace`.
    - `free_states`: V and I at the end of the refractory time after each spike.
    - `marks`: in which window each spike and this end were, and after how many arrivals.
    - `info`: how many spikes and windows there are.
    - `states`: at the query times.
    """

    neurons: Int[Array, "batch capacity"]
    times: Int[Array, "batch halves"]
    currents: Int[Array, "batch halves"]
    free_states: Int[Array, "batch halves"]
    marks: Int[Array, "batch capacity 4"]
    info: Int[Array, "batch 2"]
    states: Float[Array, "batch neurons times columns"]


def windows_are_there(dtype: Any) -> None:
    """Compile the kernels for states of a dtype. **Raises:** `NativeUnavailable`."""
    _FORWARD.target(dtype)


def dense_places(rows: int, neurons: int) -> tuple[Int[Array, " starts"], Int[Array, " synapses"]]:
    """`starts` and `targets` of a matrix of synapses."""
    starts = jnp.arange(rows + 1, dtype=jnp.int32) * neurons
    return starts, jnp.tile(jnp.arange(neurons, dtype=jnp.int32), rows)


def sparse_places(
    rows: Int[Array, " synapses"], targets: Int[Array, " synapses"], n_rows: int, neurons: int
) -> tuple[Int[Array, " starts"], Int[Array, " synapses"]]:
    """`starts` and `targets` of synapses in the order of their rows."""
    starts = jnp.searchsorted(rows, jnp.arange(n_rows + 1, dtype=jnp.int32)).astype(jnp.int32)
    # An optimiser may have changed them, which is an error that is raised elsewhere.
    return starts, jnp.clip(targets, 0, neurons - 1)


def run_windows_natively(task: NativeTask, inputs: WindowsInputs) -> LayerRun:
    """Run one sample; `jax.vmap` makes it a batch, which is shared out over threads.

    `inputs` is that of one sample, without the leading axis. Differentiable by all its numbers but `t_end`.
    """
    return run_one(_differentiable, task, inputs)


def _differentiable(task: NativeTask, inputs: WindowsInputs) -> LayerRun:
    def forward(inputs):
        return hand_batched(lambda inputs: _forward(task, inputs))(inputs)

    run = jax.custom_vjp(lambda inputs: forward(inputs)[0])

    def forth(marked):
        inputs = jax.tree.map(lambda leaf: leaf.value, marked, is_leaf=_is_marked)
        out, trace = forward(inputs)
        return out, (inputs, trace, _Wanted(marked.rates.perturbed))

    def back(residuals, ct: LayerRun):
        inputs, trace, wanted = residuals
        by_times, by_states = (_instantiated(leaf) for leaf in (ct.times, ct.states))

        def sweep(like, *args):
            return _backward(task, wanted.rates, like, *as_one_batch(*args))

        return (hand_batched(sweep, summed=True)(leading(inputs), inputs, trace, by_times, by_states),)

    run.defvjp(forth, back, symbolic_zeros=True)
    return run(inputs)


def _arguments(task: NativeTask, inputs: WindowsInputs) -> tuple[Any, ...]:
    """What both kernels are given first."""
    dtype, y0 = inputs.weights.dtype, inputs.y0
    own = max(inputs.rates.shape[0], inputs.levels.shape[0], y0.shape[0])
    start = [y0[..., task.columns.index(name)] if name in task.columns else 0 * y0[..., 0] for name in ("V", "I")]
    rows = [inputs.rates, inputs.levels, jnp.stack(start, axis=1)]
    numbers = jnp.concatenate([jnp.broadcast_to(part, (own, *part.shape[1:])) for part in rows], axis=1)
    queries = jnp.zeros((1, 0), dtype) if inputs.times is None else inputs.times
    ends = jnp.stack([inputs.t_end, jnp.full_like(inputs.t_end, task.min_slope)], axis=1)
    kinds = jnp.asarray(np.array([task.kinds], np.int32))
    places = inputs.starts, inputs.targets, inputs.weights, inputs.delays
    return inputs.spikes, inputs.sources, *places, numbers, kinds, queries, ends


def _forward(task: NativeTask, inputs: WindowsInputs) -> tuple[LayerRun, WindowsTrace]:
    arguments = _arguments(task, inputs)
    batch, dtype, neurons = batch_of(inputs), inputs.weights.dtype, len(task.kinds)
    queries, capacity = arguments[8].shape[1], task.capacity
    columns = 4 if len(task.columns) > 2 else len(task.columns)

    def array(dtype, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch, *shape), dtype)

    results = (
        array(dtype, capacity),
        array(np.int32, capacity),
        array(dtype, capacity),
        array(np.int32, 1),
        array(np.int32, neurons),
        array(np.int32, neurons),
        array(dtype, neurons),
        array(np.bool_, neurons),
        array(dtype, neurons, queries, columns),
        array(np.int32, 2 * capacity),
        array(np.int32, 2 * capacity),
        array(np.int32, 4 * capacity),
        array(np.int32, capacity, 4),
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
    marks: Any = listed, *trace, states
    return run, WindowsTrace(*marks)


def _backward(
    task: NativeTask,
    rates: bool,
    like: WindowsInputs,
    inputs: WindowsInputs,
    trace: WindowsTrace,
    by_times: Array,
    by_states: Any,
) -> WindowsInputs:
    """The cotangents of the inputs, with the leading axes of `like`."""
    arguments = _arguments(task, inputs)
    batch, dtype, neurons = by_times.shape[0], inputs.weights.dtype, len(task.kinds)
    synapses = inputs.weights.shape[1]
    by_columns = jnp.zeros((batch, *trace.states.shape[1:]), dtype)
    if by_states is not None:
        for name, place in {"V": 0, "I": 1, "remaining": 2}.items():
            if name in task.columns:
                by_columns = by_columns.at[..., place].set(by_states[..., task.columns.index(name)])
    own = like.weights.shape[0] > 1 or like.delays.shape[0] > 1
    sums = batch if own else max(1, min(batch, _SUMS, _SUMS_BYTES // max(8 * synapses, 1)))

    def array(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype)

    results = (
        array(sums, synapses),
        array(sums, synapses),
        array(batch, inputs.spikes.shape[1]),
        array(batch, 9, neurons),
    )
    recorded = trace.neurons, trace.times, trace.currents, trace.free_states, trace.marks, trace.info, trace.states
    kernel = _BACKWARD_WITH_RATES if rates else _BACKWARD
    by_weights, by_delays, by_spikes, by_numbers = call(
        kernel, results, *arguments, *recorded, by_times, by_columns, recurrent=task.recurrent
    )
    y0 = jnp.zeros((batch, neurons, len(task.columns)), dtype)
    for name, place in (("V", 7), ("I", 8)):
        if name in task.columns:
            y0 = y0.at[..., task.columns.index(name)].set(by_numbers[:, place])
    nothing: Any = None
    # What is read of these has the same names as on one clock.
    known: tuple[Any, Any] = inputs, trace
    return WindowsInputs(
        rates=as_shared(by_numbers[:, :3], like.rates),
        levels=as_shared(by_numbers[:, 3:7], like.levels),
        starts=nothing,
        targets=nothing,
        weights=as_shared(by_weights, like.weights),
        delays=as_shared(by_delays, like.delays),
        spikes=as_shared(by_spikes, like.spikes),
        sources=nothing,
        y0=as_shared(y0, like.y0),
        t_end=nothing,
        times=nothing if by_states is None else as_shared(_by_queries(task, *known, by_columns), like.times),
    )
