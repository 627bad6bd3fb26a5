"""Linear neurons with a delay for each synapse by a native kernel: what it is given, and what it gives.

There are two kernels for them: one takes windows of the shortest delay, and the other one all neurons on one clock.
Which of them runs may depend on delays that are not known before the program runs, because they are trained.
"""

import functools
from collections.abc import Callable
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
_FORWARD_ON_ONE_CLOCK = Kernel("synapses_forward", "eventsnn.engine.native.synapses_kernel:forward")
_BACKWARD_ON_ONE_CLOCK = Kernel("synapses_backward", "eventsnn.engine.native.synapses_kernel:backward")


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


# As many windows as the kernel takes: `MAX_WINDOWS` in `windows_queue`.
SHORTEST_WINDOW = 2.0**-20


class WindowsTrace(eqx.Module):
    """What the way back needs to know of a run.

    - `neurons`, `times`, `currents`: which neuron emitted each spike, when, and what I was. Times and states are
        float64, as pairs of whole numbers: see `run.Trace`.
    - `free_states`: V and I at the end of the refractory time after each spike.
    - `marks`: in which window each spike and this end were, and after how many arrivals.
    - `info`: how many spikes and windows there are, or on one clock spikes and entries of the log.
    - `states`: at the query times.
    - `log`: what happened on one clock: see `run.Trace`. Of a run on one clock `free_states` has the currents alone.
    """

    neurons: Int[Array, "batch capacity"]
    times: Int[Array, "batch halves"]
    currents: Int[Array, "batch halves"]
    free_states: Int[Array, "batch halves"]
    marks: Int[Array, "batch capacity 4"]
    info: Int[Array, "batch 2"]
    states: Float[Array, "batch neurons times columns"]
    log: Int[Array, "batch entries"]


def windows_are_there(dtype: Any, shortest_window: float = 0.0) -> None:
    """Compile the kernels for states of a dtype. **Raises:** `NativeUnavailable`."""
    if shortest_window < np.inf:
        _FORWARD.target(dtype)
    if shortest_window > 0:
        _FORWARD_ON_ONE_CLOCK.target(dtype)


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


def run_windows_natively(
    task: NativeTask, inputs: WindowsInputs, elsewhere: Elsewhere, shortest_window: float = 0.0
) -> LayerRun:
    """Run one sample; `jax.vmap` makes it a batch, which is shared out over threads.

    `inputs` is that of one sample, without the leading axis. Differentiable by all its numbers but `t_end`. It runs in
    windows if the shortest delay among neurons is at least the part `shortest_window` of the run, and otherwise on one
    clock: with 0 always in windows, and with infinity never. `elsewhere` is the same run by XLA, for programs that are
    lowered for other devices.
    """

    def forward(task, inputs, recorded):
        # Both kernels always write down what the way back needs to know.
        forwards = functools.partial(_forward, task), functools.partial(_forward_on_one_clock, task)
        return _by_one_of(shortest_window, task, inputs, *forwards, (inputs,))

    def backward(task, rates, like, inputs, *args):
        backwards = functools.partial(_backward, task, rates), functools.partial(_backward_on_one_clock, task)
        return _by_one_of(shortest_window, task, inputs, *backwards, (like, inputs, *args))

    return run_sample(forward, backward, task, inputs, elsewhere)


def _by_one_of(
    shortest_window: float,
    task: NativeTask,
    inputs: WindowsInputs,
    in_windows: Callable,
    on_one_clock: Callable,
    args: tuple[Any, ...],
) -> Any:
    """What one of two kernels gives. A batch runs in windows if all of its samples can."""
    if shortest_window == 0:
        return in_windows(*args)
    if shortest_window == np.inf:
        return on_one_clock(*args)
    of_neurons = jnp.arange(inputs.delays.shape[1], dtype=jnp.int32) < inputs.starts[:, len(task.kinds), None]
    shortest = jnp.min(jnp.where(of_neurons, inputs.delays, jnp.inf), axis=1, initial=jnp.inf)
    return jax.lax.cond(jnp.all(shortest >= shortest_window * inputs.t_end), in_windows, on_one_clock, *args)


def _arguments(task: NativeTask, inputs: WindowsInputs) -> tuple[Any, ...]:
    """What both kernels are given first."""
    places = inputs.starts, inputs.targets, inputs.weights, inputs.delays
    return inputs.spikes, inputs.sources, *places, *shared_arguments(task, inputs)


def _forward(task: NativeTask, inputs: WindowsInputs) -> tuple[LayerRun, WindowsTrace]:
    """The run, and what the way back needs to know."""
    results, capacity = shapes_of_results(task, inputs, slopes=True), task.capacity

    def words(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((*results[0].shape[:1], *shape), np.int32)

    trace = words(2 * capacity), words(2 * capacity), words(4 * capacity), words(capacity, 4), words(2)
    stop_after, changes = 0 if task.stop_after is None else task.stop_after, task.changes * len(task.kinds)
    out = call(
        _FORWARD, (*results, *trace), *_arguments(task, inputs),
        changes=changes, recurrent=task.recurrent, stop_after=stop_after,
    )  # fmt: skip
    run, (exact, currents, free_states, marks, info) = out[:9], out[9:]
    log = jnp.zeros((results[0].shape[0], _length_of_log(task, inputs)), jnp.int32)
    trace = WindowsTrace(run[1], exact, currents, free_states, marks, info, run[8], log)
    return run_of_results(task, inputs, run), trace


def _length_of_log(task: NativeTask, inputs: WindowsInputs) -> int:
    """How many entries there are at most on one clock: spikes, ends of refractory times, queries, arrivals between."""
    return 6 * task.capacity + 16 + (0 if inputs.times is None else 2 * inputs.times.shape[1])


def _forward_on_one_clock(task: NativeTask, inputs: WindowsInputs) -> tuple[LayerRun, WindowsTrace]:
    """The same on one clock."""
    results, capacity = shapes_of_results(task, inputs, slopes=True), task.capacity
    batch: int = results[0].shape[0]

    def words(count: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch, count), np.int32)

    length = _length_of_log(task, inputs)
    trace = words(2 * capacity), words(2 * capacity), words(4 * capacity), words(length), words(2)
    stop_after, changes = 0 if task.stop_after is None else task.stop_after, task.changes * len(task.kinds)
    arguments = _arguments(task, inputs)
    out = call(_FORWARD_ON_ONE_CLOCK, (*results, *trace), *arguments, changes=changes, stop_after=stop_after)
    run, (exact, currents, free_states, log, info) = out[:9], out[9:]
    marks = jnp.zeros((batch, capacity, 4), jnp.int32)
    trace = WindowsTrace(run[1], exact, currents, free_states, marks, info, run[8], log)
    return run_of_results(task, inputs, run), trace


def _backward_on_one_clock(
    task: NativeTask, like: WindowsInputs, inputs: WindowsInputs, trace: WindowsTrace, by_times: Array, by_states: Any
) -> WindowsInputs:
    """The same as `_backward` on one clock. What rates receive is always computed, for fewer kernels."""
    recorded = trace.neurons, trace.times, trace.currents, trace.free_states, trace.log, trace.info
    return _swept(task, _BACKWARD_ON_ONE_CLOCK, {}, recorded, like, inputs, trace, by_times, by_states)


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
    recorded = trace.neurons, trace.times, trace.currents, trace.free_states, trace.marks, trace.info, trace.states
    kernel = _BACKWARD_WITH_RATES if rates else _BACKWARD
    recurrent = {"recurrent": int(task.recurrent)}
    return _swept(task, kernel, recurrent, recorded, like, inputs, trace, by_times, by_states)


def _swept(
    task: NativeTask,
    kernel: Kernel,
    attributes: dict[str, int],
    recorded: tuple[Array, ...],
    like: WindowsInputs,
    inputs: WindowsInputs,
    trace: WindowsTrace,
    by_times: Array,
    by_states: Any,
) -> WindowsInputs:
    """The cotangents of the inputs by a kernel."""
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
    arguments = *_arguments(task, inputs), *recorded, by_times, by_columns
    changes = task.changes * neurons
    by_weights, by_delays, by_spikes, by_numbers = call(kernel, results, *arguments, changes=changes, **attributes)
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
