"""What the kernels have in common on their way to jax.vmap and jax.grad: tasks, columns of states, and the rules.

Their inputs all have `rates` and `levels` of `LinearRules`, `weights`, `y0`, `t_end`, and the query `times` or `None`.
Their traces all have `states`.
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero
from jaxtyping import Array, Bool, Float

from ...flows.rules import LinearRules
from ..batching import as_shared, hand_batched, leading, zeros_of
from ..instants import instant_width
from ..layer_run import LayerRun, as_one_batch, batch_of, run_one
from .elsewhere import Elsewhere, on_cpu_or_elsewhere, run_by_xla, sweep_by_xla

# What the weights of all samples receive is summed over some samples each, and then over these sums: so the order does
# not depend on the number of threads. The sums take so much memory at most, and so many keep as many threads busy.
_SUMS_BYTES, _SUMS = 2**25, 16
# Bits of the kinds of neurons, as in `kinds_of`.
_HOLDS_V, _HOLDS_I = 8, 16
# Which columns of the states of a kernel are those of a model. Its states have the first one or two, or all four.
_PLACES = {"V": 0, "I": 1, "remaining": 2, "spent": 3}


class NativeTask(eqx.Module):
    """What to do, apart from the numbers.

    - `recurrent`: whether neurons are connected to each other; the first rows of the weights are theirs then.
    - `capacity`: how many spikes there may be.
    - `stop_after`: a layer drops the spikes of a neuron after that many, and a network is done when all `outputs` have
        spiked that often; `None` for no such limit.
    - `min_slope`: gradients take no threshold to be crossed more slowly than this.
    - `slopes`: whether the slopes of the crossings are wanted.
    - `kinds`: what is true of each neuron, as the kernel has it.
    - `columns`: what each column of a state is, as in `LinearRules`.
    - `changes`: how often the drive of a neuron changes, at times that neurons share or at their `own`: see `changes`.
    """

    recurrent: bool
    capacity: int
    stop_after: int | None
    min_slope: float
    slopes: bool
    kinds: tuple[int, ...]
    columns: tuple[str, ...]
    changes: int
    own_changes: bool


def kinds_of(rules: LinearRules, outputs: tuple[bool, ...]) -> tuple[int, ...]:
    """What is true of each neuron, as bits in the order in which the kernel has them."""
    flags = rules.jumps, rules.spikes, rules.once, rules.holds_v, rules.holds_i, rules.blocks, outputs
    return tuple(int(sum(flag << bit for bit, flag in enumerate(one))) for one in zip(*flags, strict=True))


class _Given(eqx.Module):
    """The inputs of a kernel, and what the same run by XLA is given; all leaves have a leading axis."""

    inputs: Any
    elsewhere: Elsewhere

    @property
    def y0(self) -> Array:
        return self.inputs.y0

    @property
    def times(self) -> Array | None:
        return self.inputs.times


def run_sample(forward: Callable, backward: Callable, task: Any, inputs: Any, elsewhere: Elsewhere) -> LayerRun:
    """Run one sample by a kernel, and on devices without kernels as `elsewhere` says; `jax.vmap` makes it a batch.

    - `forward(task, inputs, recorded)`: gives the runs of a batch and their trace, which has to be whole only if
        `recorded`.
    - `backward(task, rates, like, inputs, trace, by_times, by_states)`: gives the cotangents of the inputs, with the
        leading axes of `like`; those of `inputs.rates` only if `rates`.
    """
    forward, backward = functools.partial(forward, task), functools.partial(backward, task)
    given = _Given(inputs, elsewhere)
    return run_one(lambda _, given: _differentiable(forward, backward, given), task, given)


def _differentiable(forward: Callable, backward: Callable, given: _Given) -> LayerRun:
    def run_forward(given, recorded):
        return hand_batched(lambda given: _forward(forward, given, recorded))(given)

    run = jax.custom_vjp(lambda given: run_forward(given, False)[0])

    def forth(marked):
        given = jax.tree.map(lambda leaf: leaf.value, marked, is_leaf=_is_marked)
        out, trace = run_forward(given, True)
        moving = jax.tree.map(
            lambda leaf: leaf.perturbed and eqx.is_inexact_array(leaf.value),
            marked.elsewhere.numbers,
            is_leaf=_is_marked,
        )
        return out, (given, trace, _Wanted(marked.inputs.rates.perturbed, moving))

    def back(residuals, ct: LayerRun):
        given, trace, wanted = residuals
        by_times, by_states = (_instantiated(leaf) for leaf in (ct.times, ct.states))

        def sweep(like, *args):
            return _backward(backward, wanted, like, *args)

        by_inputs, by_numbers = hand_batched(sweep, summed=True)(leading(given), given, trace, by_times, by_states)
        return (_Given(by_inputs, Elsewhere(by_numbers, given.elsewhere.function)),)

    run.defvjp(forth, back, symbolic_zeros=True)
    return run(given)


def _forward(forward: Callable, given: _Given, recorded: bool) -> Any:
    """The runs and their trace, which is 0 where there are no kernels."""
    batch = batch_of(given)

    def on_cpu(given):
        return _broadcast(forward(given.inputs, recorded), batch)

    def by_xla(given):
        _, trace = jax.eval_shape(on_cpu, given)
        return run_by_xla(given.elsewhere, batch), _zeros(trace)

    return on_cpu_or_elsewhere(on_cpu, by_xla, given)


def _backward(
    backward: Callable, wanted: "_Wanted", like: Any, given: _Given, trace: Any, by_times: Array, by_states: Any
) -> Any:
    """The cotangents of the inputs of a kernel and of what XLA is given. Those of the other way to run are 0."""
    moving, likewise = wanted.moving, like.elsewhere.numbers

    def on_cpu(arguments):
        given, trace, by_times, by_states = arguments
        by_inputs = backward(wanted.rates, like.inputs, *as_one_batch(given.inputs, trace, by_times, by_states))
        numbers = eqx.filter(given.elsewhere.numbers, moving)
        return by_inputs, jax.tree.map(zeros_of, numbers, eqx.filter(likewise, moving))

    def by_xla(arguments):
        given, trace, by_times, by_states = arguments
        by_inputs, _ = jax.eval_shape(on_cpu, arguments)
        batch = batch_of((given, by_times, by_states))
        by_times, by_states = _broadcast((by_times, by_states), batch)
        return _zeros(by_inputs), sweep_by_xla(given.elsewhere, moving, likewise, batch, by_times, by_states)

    return on_cpu_or_elsewhere(on_cpu, by_xla, (given, trace, by_times, by_states))


def _broadcast(tree: Any, batch: int) -> Any:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (batch, *leaf.shape[1:])), tree)


def _zeros(shapes: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


class _Wanted(eqx.Module):
    """Whether rates take gradients, and which of the numbers that XLA is given."""

    rates: bool = eqx.field(static=True)
    moving: Any = eqx.field(static=True)


def _is_marked(leaf: Any) -> bool:
    return isinstance(leaf, CustomVJPPrimal)


def _instantiated(ct: Any) -> Any:
    dtype: Any = ct.dtype if isinstance(ct, SymbolicZero) else None
    return ct if dtype is None else jnp.zeros(ct.shape, dtype)


def shared_arguments(task: NativeTask, inputs: Any) -> tuple[Array, Array, Array, Array]:
    """What all kernels are given: the numbers of neurons, their kinds, the queries, and the end of the run."""
    y0 = inputs.y0
    own = max(inputs.rates.shape[0], inputs.levels.shape[0], y0.shape[0])
    start = [y0[..., task.columns.index(name)] if name in task.columns else 0 * y0[..., 0] for name in ("V", "I")]
    rows = [inputs.rates, inputs.levels, jnp.stack(start, axis=1)]
    numbers = jnp.concatenate([jnp.broadcast_to(part, (own, *part.shape[1:])) for part in rows], axis=1)
    queries = jnp.zeros((1, 0), y0.dtype) if inputs.times is None else inputs.times
    ends = jnp.stack([inputs.t_end, jnp.full_like(inputs.t_end, task.min_slope)], axis=1)
    return numbers, jnp.asarray(np.array([task.kinds], np.int32)), queries, ends


def shapes_of_results(task: NativeTask, inputs: Any, slopes: bool) -> tuple[jax.ShapeDtypeStruct, ...]:
    """The results of all kernels that run forwards, which come before their trace."""
    dtype: Any = inputs.weights.dtype
    capacity, neurons = task.capacity, len(task.kinds)
    queries = 0 if inputs.times is None else inputs.times.shape[1]
    # Breakpoints that have passed are counted here.
    columns = len(task.columns) - ("passed" in task.columns)
    columns = 4 if columns > 2 else columns
    shapes: list[tuple[Any, tuple[int, ...]]] = [
        (dtype, (capacity,)),
        (np.int32, (capacity,)),
        (dtype, (capacity if slopes else 0,)),
        (np.int32, (1,)),
        (np.int32, (neurons,)),
        (np.int32, (neurons,)),
        (dtype, (neurons,)),
        (np.bool_, (neurons,)),
        (dtype, (neurons, queries, columns)),
    ]
    return tuple(jax.ShapeDtypeStruct((batch_of(inputs), *shape), dtype) for dtype, shape in shapes)


def run_of_results(task: NativeTask, inputs: Any, results: Any) -> LayerRun:
    """The run that these results tell of."""
    times, neurons, slopes, count, spikes, status, stopped, passing, states = results
    return LayerRun(
        times=times,
        neurons=neurons,
        slopes=slopes if task.slopes else None,
        count=count[:, 0],
        spikes=spikes,
        status=status,
        stopped=stopped,
        passing=passing,
        states=None if inputs.times is None else _columns_of(task, inputs, states),
    )


def _columns_of(task: NativeTask, inputs: Any, states: Array) -> Array:
    """The states as the model has them."""

    def column(name: str) -> Array:
        if name == "passed":
            passed = jnp.sum(_changed(task, inputs), axis=1, dtype=states.dtype)
            return jnp.broadcast_to(passed, states.shape[:-1])
        if name == "refractory":
            return (states[..., 2] > 0).astype(states.dtype)
        return states[..., _PLACES[name]]

    return jnp.stack([column(name) for name in task.columns], axis=-1)


def _changed(task: NativeTask, inputs: Any) -> Bool[Array, "batch changes neurons times"]:
    """Which changes of drives come before each query, or at its instant. Neurons that share them have one row."""
    size = len(task.kinds) if task.own_changes else 1
    first = inputs.spikes.shape[1] - task.changes * size
    times = inputs.spikes[:, first:].reshape(-1, task.changes, size, 1)
    since = times - inputs.times[:, None, None]
    return since <= instant_width(inputs.times)[:, None, None]


def by_columns_of(task: NativeTask, by_states: Any, states: Array) -> Array:
    """What the states of a kernel receive, from what those of the model do."""
    by_columns = jnp.zeros(states.shape, states.dtype)
    for name in ("V", "I", "remaining"):
        if name in task.columns and by_states is not None:
            by_columns = by_columns.at[..., _PLACES[name]].set(by_states[..., task.columns.index(name)])
    return by_columns


def number_of_sums(batch: int, size: int, shared: bool) -> int:
    """Over how many sums the derivatives of `size` bytes are spread that samples share; one for each if they do not."""
    return max(1, min(batch, _SUMS, _SUMS_BYTES // max(size, 1))) if shared else batch


def by_neurons(
    task: NativeTask, like: Any, inputs: Any, trace: Any, by_numbers: Array, by_columns: Array
) -> dict[str, Any]:
    """The cotangents of `rates`, `levels`, `y0` and `times`, from those of the numbers and of a kernel's states."""
    y0 = jnp.zeros((*by_numbers.shape[:1], len(task.kinds), len(task.columns)), by_numbers.dtype)
    for name, row in (("V", 7), ("I", 8)):
        if name in task.columns:
            y0 = y0.at[..., task.columns.index(name)].set(by_numbers[:, row])
    return {
        "rates": as_shared(by_numbers[:, :3], like.rates),
        "levels": as_shared(by_numbers[:, 3:7], like.levels),
        "y0": as_shared(y0, like.y0),
        "times": None if inputs.times is None else as_shared(_by_queries(task, inputs, trace, by_columns), like.times),
    }


def _changes(task: NativeTask, inputs: Any) -> Float[Array, "batch changes neurons"]:
    """The changes of drives, which are the last of the weights."""
    count, size, weights = task.changes, len(task.kinds), inputs.weights
    if weights.ndim == 2:
        return weights[:, weights.shape[1] - count * size :].reshape(-1, count, size)
    if task.own_changes:
        # Each row has one entry.
        return jnp.sum(weights[:, weights.shape[1] - count * size :].reshape(-1, count, size, size), axis=-1)
    return weights[:, weights.shape[1] - count :]


def _by_queries(task: NativeTask, inputs: Any, trace: Any, by_columns: Array) -> Array:
    """What query times receive: how fast the states move that depend on them."""
    leak, coupling, decay = (inputs.rates[:, row, :, None] for row in range(3))
    drive, states = inputs.levels[:, 0, :, None], trace.states
    if task.changes:
        drive = drive + jnp.sum(jnp.where(_changed(task, inputs), _changes(task, inputs)[..., None], 0), axis=1)
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
