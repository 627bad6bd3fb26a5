"""Linear neurons on one clock by a native kernel: what it is given, and what it gives."""

from typing import Any

import equinox as eqx
import jax
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

_FORWARD = Kernel("clock_forward", "eventsnn.engine.native.clock_kernel:forward")
_BACKWARD = Kernel("clock_backward", "eventsnn.engine.native.clock_kernel:backward")
_BACKWARD_WITH_RATES = Kernel("clock_backward_with_rates", "eventsnn.engine.native.clock_kernel:backward_with_rates")


class NativeInputs(eqx.Module):
    """The numbers of a run, each with a leading axis that is the batch, or of length 1 where all share it.

    - `rates`: leak, coupling and decay of `LinearRules`, and `levels` its other numbers. What rates receive takes twice
        the time, so that it is computed only if it is wanted.
    - `spikes`, `sources`: spikes from elsewhere in any order, and the row of the weights that each comes through.
    - `delays`: of every row, infinite where nothing is reached. What changes drives are rows as well: see `changes`.
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


def run_native(task: NativeTask, inputs: NativeInputs, elsewhere: Elsewhere) -> LayerRun:
    """Run one sample; `jax.vmap` makes it a batch, which is shared out over threads.

    `inputs` is that of one sample, without the leading axis. Differentiable by all of its numbers but `t_end`.
    `elsewhere` is the same run by XLA, for programs that are lowered for other devices.
    """
    return run_sample(_forward, _backward, task, inputs, elsewhere)


def _arguments(task: NativeTask, inputs: NativeInputs) -> tuple[Any, ...]:
    """What both kernels are given first."""
    return inputs.spikes, inputs.sources, inputs.weights, inputs.delays, *shared_arguments(task, inputs)


def _change_rows(task: NativeTask) -> int:
    """How many rows of the weights, which are the last, change drives."""
    return task.changes * (len(task.kinds) if task.own_changes else 1)


def _forward(task: NativeTask, inputs: NativeInputs, recorded: bool) -> tuple[LayerRun, Trace]:
    """The run, and if it is `recorded` what the way back needs to know, which has no length otherwise."""
    results, capacity = shapes_of_results(task, inputs, task.slopes), task.capacity
    batch, *_, queries, _ = results[-1].shape

    def words(count: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch, count * recorded), np.int32)

    trace = (
        words(2 * capacity),
        words(2 * capacity),
        words(2 * capacity * ("remaining" in task.columns)),
        words(inputs.spikes.shape[1] + 3 * capacity + queries + 8),
        jax.ShapeDtypeStruct((batch, 2), np.int32),
    )
    stop_after, changes = 0 if task.stop_after is None else task.stop_after, _change_rows(task)
    out = call(
        _FORWARD, (*results, *trace), *_arguments(task, inputs),
        changes=changes, recurrent=task.recurrent, stop_after=stop_after,
    )  # fmt: skip
    run, (exact, currents, free_currents, log, info) = out[:9], out[9:]
    return run_of_results(task, inputs, run), Trace(run[1], exact, currents, free_currents, log, info, run[8])


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
    batch, (rows, neurons) = by_times.shape[0], inputs.weights.shape[1:]
    dtype: Any = by_times.dtype
    by_columns = by_columns_of(task, by_states, trace.states)
    sums = number_of_sums(batch, rows * neurons * by_times.dtype.itemsize, shared=like.weights.shape[0] == 1)

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
    arguments = *_arguments(task, inputs), *recorded, by_times, by_columns
    by_weights, by_spikes, by_delays, by_numbers = call(kernel, results, *arguments, changes=_change_rows(task))
    nothing: Any = None
    return NativeInputs(
        weights=as_shared(by_weights, like.weights),
        delays=as_shared(by_delays, like.delays),
        spikes=as_shared(by_spikes, like.spikes),
        sources=nothing,
        t_end=nothing,
        **by_neurons(task, like, inputs, trace, by_numbers, by_columns),
    )
