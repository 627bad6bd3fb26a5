"""A layer of neurons that do not see each other: from arrivals to spikes, forwards and backwards."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from .adjoint import Cotangents, QueryCotangents, add_queries, end_of_run, sweep_back
from .batching import as_shared, numbers_as_shared
from .control import AbstractControl
from .iteration import Physics
from .lanes import Arrivals, Segment
from .layer_run import LayerRun, batch_of, run_and_record, run_one
from .replay import AbstractMachine, Past, sweep_run
from .rows import Channels, Rows
from .run import Lookups, Run, advance, answer, empty_segments, finish, start_run
from .spike_list import Sortable, at, sort
from .step import AbstractStepper

# How many segments of each neuron are written down for the reverse sweep: up to four times as many if those of a sample
# take no more than some bytes each, which makes 4 MB for 256 of them. A longer run is replayed in pieces of this
# length, so that memory does not grow with its steps. The number must not depend on the batch: `vmap` may trace a run
# once for one sample and once for all, and both have to have room for the same.
_RECORDED, _BYTES = 64, 16_000


class LayerTask(eqx.Module):
    """What to do with a layer, apart from the numbers.

    - `rest`: the model without its numbers; `wanted` marks the numbers that take gradients.
    - `capacity`: how many spikes the layer may emit.
    - `stop_after`: a neuron is done after that many spikes; `None` for no such limit.
    - `max_iterations`: how many iterations the loop may take.
    - `min_slope`: gradients take no threshold to be crossed more slowly than this.
    - `slopes`: whether the slopes of the crossings are wanted.
    - `ordered`: whether the spikes have to be listed by time.
    """

    rest: Any
    wanted: PyTree[bool]
    stepper: AbstractStepper
    control: AbstractControl
    capacity: int
    stop_after: int | None
    max_iterations: int
    min_slope: float = 0.0
    slopes: bool = False
    ordered: bool = True

    def physics(self, inputs: "LayerInputs") -> Physics:
        batch = batch_of(inputs)
        arrivals, t_end, final = _to_batch((inputs.arrivals, inputs.t_end, inputs.final), batch)
        rows = Rows(inputs.numbers, self.rest, _to_batch(inputs.origin, batch))
        passing = _to_batch(inputs.passing, batch)
        return Physics(
            rows=rows,
            weights=inputs.weights,
            arrivals=arrivals,
            passing=passing,
            t_end=t_end,
            final=final,
            stepper=self.stepper,
            control=self.control,
            stop_after=self.stop_after,
            min_slope=self.min_slope,
        )


class LayerInputs(eqx.Module):
    """The numbers of a run, each with a leading axis that is the batch, or of length 1 where all share it.

    All times are counted from the `origin`.

    - `numbers`: the floating point leaves of the model.
    - `y0`: the initial state, and `passing` which neurons have spiked and have not been below their threshold since.
    - `origin`: when the run starts.
    - `t_end`: how long it is, and `final` whether it ends for good, and does not go on in another one.
    - `times`: query times, or `None`.
    """

    numbers: PyTree
    weights: Float[Array, "batch inputs neurons *ports"]
    arrivals: Arrivals
    y0: Float[Array, "batch neurons channels"]
    passing: Bool[Array, "batch neurons"]
    origin: Float[Array, " batch"]
    t_end: Float[Array, " batch"]
    final: Bool[Array, " batch"]
    times: Float[Array, "batch times"] | None


class Trace(eqx.Module):
    """What the reverse sweep needs to know about a run.

    - `iterations`: how many there were.
    - `arrival`, `count`: how many arrivals and segments each neuron had had at the end.
    - `segments`: the first of them, with the batch in front.
    - `place`: where each entry of the spike list, in the order of the loop, stands in the sorted one.
    """

    iterations: Int[Array, " batch"]
    arrival: Int[Array, "batch neurons"]
    count: Int[Array, "batch neurons"]
    segments: Segment
    place: Int[Array, "batch capacity"]
    lookups: Lookups | None


def run_layer(task: LayerTask, inputs: LayerInputs) -> LayerRun:
    """Run one sample through a layer; `jax.vmap` makes it a batch that shares one loop.

    `inputs` is that of one sample, without the leading axis. Differentiable by `numbers`, `weights`, the arrival
    times, `y0` and the query times.
    """
    return run_one(_differentiable, task, inputs)


def _differentiable(task: LayerTask, inputs: LayerInputs) -> LayerRun:
    return run_and_record(_forward, _backward, _RECORDED, task, inputs)


def _forward(task: LayerTask, inputs: LayerInputs, recorded: int) -> tuple[LayerRun, Trace | None]:
    physics = task.physics(inputs)
    y0 = _initial_state(physics, inputs)
    times = None if inputs.times is None else _to_batch(inputs.times, y0[0].shape[0])
    run = start_run(physics, y0, task.capacity, times, _room(y0, recorded), task.slopes)
    run = finish(physics, run, task.max_iterations)
    place = jax.lax.broadcasted_iota(jnp.int32, run.spikes.times.shape, 1)
    held = Sortable(run.spikes, slots=place)
    held = sort(held) if task.ordered else held
    spikes, place = held.spikes, held.slots
    states = None
    if run.lookups is not None:
        states = jnp.stack(answer(physics, run.lookups), axis=-1)
    out = LayerRun(
        times=spikes.times,
        neurons=spikes.neurons,
        slopes=spikes.slopes,
        count=spikes.count,
        spikes=run.lanes.spikes,
        status=run.lanes.ended(),
        stopped=run.lanes.t,
        passing=run.lanes.passing,
        states=states,
    )
    if run.segments is None:
        return out, None
    segments = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), run.segments)
    iterations = jnp.broadcast_to(run.iteration, spikes.count.shape)
    return out, Trace(iterations, run.lanes.arrival, run.lanes.segments, segments, place, run.lookups)


def _room(y0: Channels, recorded: int) -> int:
    """Room for how many segments of each neuron there is where there is some for `recorded`."""
    row = jax.tree.leaves(jax.eval_shape(lambda: empty_segments(y0, 0)))
    size = sum(math.prod(leaf.shape[2:]) * leaf.dtype.itemsize for leaf in row)
    return max(recorded, min(4 * recorded, _BYTES // max(size, 1)))


def _backward(
    task: LayerTask, like: LayerInputs, inputs: LayerInputs, trace: Trace, ct_times, ct_states
) -> LayerInputs:
    """The cotangents of the inputs, with the leading axes of `like`."""
    physics = task.physics(inputs)
    y0 = _initial_state(physics, inputs)
    segments = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), trace.segments)
    # The forward pass sorted the spikes; the sweep meets them in the order in which they were found.
    by_spike = at(ct_times, trace.place)
    told = like.weights.shape[0]
    ct, by_query = end_of_run(physics, task.wanted, told, len(y0), trace.arrival, trace.lookups, ct_states)
    past = Past(jnp.max(trace.iterations, initial=0), trace.count, segments)
    if by_query is not None:
        ct = add_queries(by_query, trace.count, ct)
    ct = sweep_run(_Layer(physics, task.wanted, by_spike, by_query), y0, past, task.max_iterations, ct)
    return _as_inputs(like, inputs, ct, by_query)


class _Layer(AbstractMachine):
    """A layer that is run again and swept back; `by_spike` in the order in which the loop found the spikes."""

    physics: Physics
    wanted: PyTree
    by_spike: Float[Array, "batch capacity"]
    by_query: QueryCotangents | None

    def start(self, y0: Channels) -> Run:
        return eqx.tree_at(lambda run: run.segments, start_run(self.physics, y0, 0, None, 1), None)

    def advance(self, run: Run) -> Run:
        return advance(self.physics, run)

    def sweep(self, segment: Segment, number: Int[Array, "batch neurons"], ct: Cotangents) -> Cotangents:
        ct = sweep_back(self.physics, self.wanted, self.by_spike, segment, ct)
        return ct if self.by_query is None else add_queries(self.by_query, number, ct)


def _as_inputs(like: LayerInputs, inputs: LayerInputs, ct: Cotangents, by_query) -> LayerInputs:
    """Cotangents in the shape of the inputs, but with the leading axes of `like`."""
    numbers = numbers_as_shared(ct.numbers, inputs.numbers, like.numbers)
    # Integers have no cotangent, and the origin and the end of the run pass none on.
    nothing: Any = None
    arrivals = Arrivals(as_shared(ct.arrivals, like.arrivals.times), nothing)
    y0 = as_shared(jnp.stack(ct.y, axis=-1), like.y0)
    times = nothing if by_query is None else as_shared(by_query.times, like.times)
    return LayerInputs(numbers, ct.weights, arrivals, y0, nothing, nothing, nothing, nothing, times)


def _initial_state(physics: Physics, inputs: LayerInputs):
    y0 = _to_batch(inputs.y0, physics.t_end.shape[0])
    return tuple(y0[..., channel] for channel in range(y0.shape[-1]))


def _to_batch(tree: PyTree, batch: int) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (batch, *leaf.shape[1:])), tree)
