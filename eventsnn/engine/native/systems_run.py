"""Linear systems on one clock by a native kernel: what it is given, and what it gives."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ...flows.systems import SystemRules
from ..batching import as_shared
from ..layer_run import LayerRun, batch_of
from .boundary import number_of_sums, run_sample
from .call import call
from .elsewhere import Elsewhere
from .target import Kernel

_FORWARD = Kernel("systems_forward", "eventsnn.engine.native.systems_kernel:forward")
_BACKWARD = Kernel("systems_backward", "eventsnn.engine.native.systems_kernel:backward")
_BACKWARD_WITH_RATES = Kernel(
    "systems_backward_with_rates", "eventsnn.engine.native.systems_kernel:backward_with_rates"
)

# A neuron has so many channels at most, as in `systems_words.MOST`.
MOST_CHANNELS = 4
# Bits of the kinds of neurons, as in `kinds.py` and `systems_words.py`.
_ONCE, _BLOCKS, _OUTPUT, _HELD = 4, 32, 64, 256


class SystemTask(eqx.Module):
    """What to do, apart from the numbers.

    - `recurrent`, `capacity`, `stop_after`, `min_slope`, `slopes`, `kinds`: as in `NativeTask`.
    - `channels`: how many channels a neuron has, `held` those that stand still while it is refractory, and `own` what
        the columns of a state are that follow them.
    """

    recurrent: bool
    capacity: int
    stop_after: int | None
    min_slope: float
    slopes: bool
    kinds: tuple[int, ...]
    channels: int
    held: tuple[int, ...]
    own: tuple[str, ...]


class SystemInputs(eqx.Module):
    """The numbers of a run, each with a leading axis that is the batch, or of length 1 where all share it.

    - `rates`, `levels`: those of `SystemRules`. What rates receive takes most of the time of the way back, so that it
        is computed only if it is wanted.
    - all others: as in `NativeInputs`.
    """

    rates: Float[Array, "batch squares neurons"]
    levels: Float[Array, "batch numbers neurons"]
    weights: Float[Array, "batch rows neurons"]
    delays: Float[Array, "batch rows"]
    spikes: Float[Array, "batch spikes"]
    sources: Int[Array, "batch spikes"]
    y0: Float[Array, "batch neurons columns"]
    t_end: Float[Array, " batch"]
    times: Float[Array, "batch times"] | None


class SystemTrace(eqx.Module):
    """What the way back needs to know of a run: as `Trace`, with the whole state at each spike and after it."""

    neurons: Int[Array, "batch capacity"]
    times: Int[Array, "batch halves"]
    at_spikes: Int[Array, "batch halves"]
    at_free: Int[Array, "batch halves"]
    log: Int[Array, "batch entries"]
    info: Int[Array, "batch 2"]
    states: Float[Array, "batch neurons times columns"]


def systems_are_there(dtype: Any) -> None:
    """Compile the kernels for states of a dtype. **Raises:** `NativeUnavailable`."""
    _FORWARD.target(dtype)


def task_of(
    system: SystemRules, outputs: tuple[bool, ...], recurrent: bool, capacity: int, stop_after: int | None, **options
) -> SystemTask:
    """The task of a layer or a network of these neurons; options are `min_slope` and `slopes`."""
    kind = _ONCE * system.once + _BLOCKS * system.blocks + sum(_HELD << k for k in system.held)
    kinds = tuple(kind + _OUTPUT * output for output in outputs)
    return SystemTask(
        recurrent=recurrent,
        capacity=capacity,
        stop_after=stop_after,
        kinds=kinds,
        channels=system.channels,
        held=system.held,
        own=system.own,
        **options,
    )


def run_systems(task: SystemTask, inputs: SystemInputs, elsewhere: Elsewhere) -> LayerRun:
    """Run one sample; `jax.vmap` makes it a batch, which is shared out over threads.

    `inputs` is that of one sample, without the leading axis. Differentiable by all of its numbers but `t_end`.
    `elsewhere` is the same run by XLA, for programs that are lowered for other devices.
    """
    return run_sample(_forward, _backward, task, inputs, elsewhere)


def _arguments(task: SystemTask, inputs: SystemInputs) -> tuple[Any, ...]:
    """What both kernels are given first."""
    start = jnp.swapaxes(inputs.y0[..., : task.channels], 1, 2)
    rows = inputs.rates, inputs.levels, start
    own = max(part.shape[0] for part in rows)
    numbers = jnp.concatenate([jnp.broadcast_to(part, (own, *part.shape[1:])) for part in rows], axis=1)
    queries = jnp.zeros((1, 0), start.dtype) if inputs.times is None else inputs.times
    ends = jnp.stack([inputs.t_end, jnp.full_like(inputs.t_end, task.min_slope)], axis=1)
    kinds = jnp.asarray(np.array([task.kinds], np.int32))
    return inputs.spikes, inputs.sources, inputs.weights, inputs.delays, numbers, kinds, queries, ends


def _attributes(task: SystemTask) -> dict[str, int]:
    stop_after = 0 if task.stop_after is None else task.stop_after
    return {"recurrent": task.recurrent, "size": task.channels, "stop_after": stop_after}


def _forward(task: SystemTask, inputs: SystemInputs, recorded: bool) -> tuple[LayerRun, SystemTrace]:
    """The run, and if it is `recorded` what the way back needs to know, which has no length otherwise."""
    dtype: Any = inputs.weights.dtype
    capacity, neurons, batch = task.capacity, len(task.kinds), batch_of(inputs)
    queries = 0 if inputs.times is None else inputs.times.shape[1]
    columns = task.channels + 2 * bool(task.own)
    entries = inputs.spikes.shape[1] + 3 * capacity + queries + 8
    halves = 2 * capacity * task.channels
    shapes: list[tuple[Any, tuple[int, ...]]] = [
        (dtype, (capacity,)),
        (np.int32, (capacity,)),
        (dtype, (capacity * task.slopes,)),
        (np.int32, (1,)),
        (np.int32, (neurons,)),
        (np.int32, (neurons,)),
        (dtype, (neurons,)),
        (np.bool_, (neurons,)),
        (dtype, (neurons, queries, columns)),
        (np.int32, (2 * capacity * recorded,)),
        (np.int32, (halves * recorded,)),
        (np.int32, (halves * recorded * ("remaining" in task.own),)),
        (np.int32, (entries * recorded,)),
        (np.int32, (2,)),
    ]
    results = tuple(jax.ShapeDtypeStruct((batch, *shape), dtype) for dtype, shape in shapes)
    out = call(_FORWARD, results, *_arguments(task, inputs), **_attributes(task))
    times, found, slopes, count, spikes, status, stopped, passing, states = out[:9]
    run = LayerRun(
        times=times,
        neurons=found,
        slopes=slopes if task.slopes else None,
        count=count[:, 0],
        spikes=spikes,
        status=status,
        stopped=stopped,
        passing=passing,
        states=None if inputs.times is None else _columns_of(task, states),
    )
    exact, at_spikes, at_free, log, info = out[9:]
    return run, SystemTrace(found, exact, at_spikes, at_free, log, info, states)


def _columns_of(task: SystemTask, states: Array) -> Array:
    """The states as the model has them."""

    def column(name: str) -> Array:
        if name == "refractory":
            return (states[..., task.channels] > 0).astype(states.dtype)
        return states[..., task.channels + (name == "spent")]

    own = [column(name)[..., None] for name in task.own]
    return jnp.concatenate([states[..., : task.channels], *own], axis=-1)


def _by_columns_of(task: SystemTask, by_states: Any, states: Array) -> Array:
    """What the states of the kernel receive, from what those of the model do."""
    by_columns = jnp.zeros(states.shape, states.dtype)
    if by_states is None:
        return by_columns
    by_columns = by_columns.at[..., : task.channels].set(by_states[..., : task.channels])
    if "remaining" in task.own:
        place = task.channels + task.own.index("remaining")
        by_columns = by_columns.at[..., task.channels].set(by_states[..., place])
    return by_columns


def _backward(
    task: SystemTask,
    rates: bool,
    like: SystemInputs,
    inputs: SystemInputs,
    trace: SystemTrace,
    by_times: Array,
    by_states: Any,
) -> SystemInputs:
    """The cotangents of the inputs, with the leading axes of `like`."""
    batch, (rows, neurons) = by_times.shape[0], inputs.weights.shape[1:]
    dtype: Any = by_times.dtype
    by_columns = _by_columns_of(task, by_states, trace.states)
    sums = number_of_sums(batch, rows * neurons * by_times.dtype.itemsize, shared=like.weights.shape[0] == 1)
    of_rates, of_levels = inputs.rates.shape[1], inputs.levels.shape[1]

    def array(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype)

    results = (
        array(sums, rows, neurons),
        array(batch, inputs.spikes.shape[1]),
        array(batch, rows),
        array(batch, of_rates + of_levels + task.channels, neurons),
    )
    recorded = trace.neurons, trace.times, trace.at_spikes, trace.at_free, trace.log, trace.info
    kernel = _BACKWARD_WITH_RATES if rates else _BACKWARD
    arguments = *_arguments(task, inputs), *recorded, by_times, by_columns
    by_weights, by_spikes, by_delays, by_numbers = call(kernel, results, *arguments, **_attributes(task))
    by_start = jnp.swapaxes(by_numbers[:, of_rates + of_levels :], 1, 2)
    # The columns of wrappers start at 0.
    by_start = jnp.pad(by_start, ((0, 0), (0, 0), (0, len(task.own))))
    nothing: Any = None
    return SystemInputs(
        rates=as_shared(by_numbers[:, :of_rates], like.rates),
        levels=as_shared(by_numbers[:, of_rates : of_rates + of_levels], like.levels),
        weights=as_shared(by_weights, like.weights),
        delays=as_shared(by_delays, like.delays),
        spikes=as_shared(by_spikes, like.spikes),
        sources=nothing,
        y0=as_shared(by_start, like.y0),
        t_end=nothing,
        times=nothing if inputs.times is None else as_shared(_by_queries(task, inputs, trace, by_columns), like.times),
    )


def _by_queries(task: SystemTask, inputs: SystemInputs, trace: SystemTrace, by_columns: Array) -> Array:
    """What query times receive: how fast the states move that depend on them."""
    size, states = task.channels, trace.states
    matrix = inputs.rates.reshape(-1, size, size, len(task.kinds))
    drive = inputs.levels[:, :size]
    moves = jnp.einsum("bkmn,bnqm->bnqk", matrix, states[..., :size]) + jnp.swapaxes(drive, 1, 2)[:, :, None]
    if task.own:
        rests = states[..., size, None] > 0
        held = jnp.asarray([k in task.held for k in range(size)])
        moves = jnp.where(rests & held, 0, moves)
        remaining = jnp.where(rests, -1, jnp.zeros_like(moves[..., :1]))
        moves = jnp.concatenate([moves, remaining, jnp.zeros_like(remaining)], axis=-1)
    return jnp.sum(by_columns * moves, axis=(1, 3))
