"""Linear neurons with a delay for each synapse by a native kernel: what it is given, and what it gives."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..batching import as_shared
from ..layer_run import LayerRun
from .boundary import (
    NativeTask,
    by_columns_of,
    by_neurons,
    number_of_sums,
    run_of_results,
    run_sample,
    shapes_of_results,
    shared_arguments,
)
from .call import call
from .elsewhere import Elsewhere
from .target import Kernel

_FORWARD = Kernel("windows_forward", "eventsnn.engine.native.windows_kernel:forward")
_BACKWARD = Kernel("windows_backward", "eventsnn.engine.native.windows_kernel:backward")
_BACKWARD_WITH_RATES = Kernel(
    "windows_backward_with_rates", "eventsnn.engine.native.windows_kernel:backward_with_rates"
)


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


def run_windows_natively(task: NativeTask, inputs: WindowsInputs, elsewhere: Elsewhere) -> LayerRun:
    """Run one sample; `jax.vmap` makes it a batch, which is shared out over threads.

    `inputs` is that of one sample, without the leading axis. Differentiable by all of its numbers but `t_end`.
    `elsewhere` is the same run by XLA, for programs that are lowered for other devices.
    """
    return run_sample(_forward, _backward, task, inputs, elsewhere)


def _arguments(task: NativeTask, inputs: WindowsInputs) -> tuple[Any, ...]:
    """What both kernels are given first."""
    places = inputs.starts, inputs.targets, inputs.weights, inputs.delays
    return inputs.spikes, inputs.sources, *places, *shared_arguments(task, inputs)


def _forward(task: NativeTask, inputs: WindowsInputs, recorded: bool) -> tuple[LayerRun, WindowsTrace]:
    """The run, and what the way back needs to know, which this kernel always writes."""
    results, capacity = shapes_of_results(task, inputs, slopes=True), task.capacity

    def words(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((*results[0].shape[:1], *shape), np.int32)

    trace = words(2 * capacity), words(2 * capacity), words(4 * capacity), words(capacity, 4), words(2)
    stop_after = 0 if task.stop_after is None else task.stop_after
    out = call(_FORWARD, (*results, *trace), *_arguments(task, inputs), recurrent=task.recurrent, stop_after=stop_after)
    run, (exact, currents, free_states, marks, info) = out[:9], out[9:]
    return run_of_results(task, inputs, run), WindowsTrace(run[1], exact, currents, free_states, marks, info, run[8])


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
    batch, neurons, synapses = by_times.shape[0], len(task.kinds), inputs.weights.shape[1]
    dtype: Any = by_times.dtype
    by_columns = by_columns_of(task, by_states, trace.states)
    shared = like.weights.shape[0] == 1 and like.delays.shape[0] == 1
    sums = number_of_sums(batch, 2 * synapses * by_times.dtype.itemsize, shared)

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
    arguments = *_arguments(task, inputs), *recorded, by_times, by_columns
    by_weights, by_delays, by_spikes, by_numbers = call(kernel, results, *arguments, recurrent=task.recurrent)
    nothing: Any = None
    return WindowsInputs(
        starts=nothing,
        targets=nothing,
        weights=as_shared(by_weights, like.weights),
        delays=as_shared(by_delays, like.delays),
        spikes=as_shared(by_spikes, like.spikes),
        sources=nothing,
        t_end=nothing,
        **by_neurons(task, like, inputs, trace, by_numbers, by_columns),
    )
