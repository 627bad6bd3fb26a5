"""A network whose neurons share a clock: the boundary to jax.vmap and jax.grad."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..adjoint import QueryCotangents, add_queries
from ..batching import as_shared, numbers_as_shared, zeros_of
from ..instants import time_since
from ..lanes import FINE, TOO_LONG, Arrivals
from ..layer_run import LayerRun, batch_of, run_and_record, run_one
from ..replay import AbstractMachine, Past, sweep_run
from ..rows import Channels, Rows
from ..run import Lookups
from .backward import Cotangents, sweep_back
from .clock import Wiring
from .forward import Physics
from .motion import AbstractMotion
from .run import Run, Segment, advance, finish, start_run

# How many segments of each sample are written down for the reverse sweep. A longer run is replayed in pieces of this
# length, so that memory does not grow with the number of events.
_RECORDED = 128


class NetworkTask(eqx.Module):
    """What to do with a network, apart from the numbers.

    - `rest`: the model without its numbers; `wanted` marks the numbers that take gradients.
    - `motion`: how its neurons move.
    - `pending`: how many spikes may be on their way to a neuron.
    - `capacity`: how many spikes the network may emit.
    - `stop_after`: a sample is done when all `outputs` have spiked that often; `None` for no such limit.
    - `max_iterations`: how many iterations the loop may take.
    - `min_slope`: gradients take no threshold to be crossed more slowly than this.
    - `slopes`: whether the slopes of the crossings are wanted.
    """

    rest: Any
    wanted: PyTree[bool]
    motion: AbstractMotion
    outputs: tuple[bool, ...]
    pending: int
    capacity: int
    stop_after: int | None
    max_iterations: int
    min_slope: float
    slopes: bool


class NetworkInputs(eqx.Module):
    """The numbers of a run, each with a leading axis that is the batch, or of length 1 where all share it.

    - `numbers`: the floating point leaves of the model.
    - `weights`: a row for each neuron, then one for each input channel.
    - `delays`: from neuron to neuron, infinite where there is no connection; `None` if all arrive at once.
    - `y0`: the initial state.
    - `times`: query times, or `None`.
    """

    numbers: PyTree
    weights: Float[Array, "batch rows neurons *ports"]
    delays: Float[Array, "batch neurons neurons"] | None
    arrivals: Arrivals
    y0: Float[Array, "batch neurons channels"]
    t_end: Float[Array, " batch"]
    times: Float[Array, "batch times"] | None


class Trace(eqx.Module):
    """What the reverse sweep needs to know about a run."""

    iterations: Int[Array, " batch"]
    arrival: Int[Array, "batch lists"]
    count: Int[Array, "batch 1"]
    segments: Segment
    lookups: Lookups | None


def run_network(task: NetworkTask, inputs: NetworkInputs) -> LayerRun:
    """Run one sample; `jax.vmap` makes it a batch that shares one loop.

    `inputs` is that of one sample, without the leading axis. Differentiable by `numbers`, `weights`, the arrival
    times, `y0` and the query times.
    """
    return run_one(_differentiable, task, inputs)


def _differentiable(task: NetworkTask, inputs: NetworkInputs) -> LayerRun:
    return run_and_record(_forward, _backward, _RECORDED, task, inputs)


def _physics(task: NetworkTask, inputs: NetworkInputs) -> Physics:
    batch = batch_of(inputs)
    arrivals, t_end = _to_batch((inputs.arrivals, inputs.t_end), batch)
    neurons = inputs.weights.shape[2]
    outputs: Bool[Array, " neurons"] = jnp.asarray(task.outputs)
    return Physics(
        rows=Rows(inputs.numbers, task.rest),
        wiring=Wiring(inputs.weights, inputs.delays, arrivals),
        motion=task.motion,
        t_end=t_end,
        outputs=outputs,
        stop_after=task.stop_after,
        capacity=task.capacity,
        at_most=10 * neurons + 100,
        pending=0 if inputs.delays is None else task.pending,
        min_slope=task.min_slope,
    )


def _forward(task: NetworkTask, inputs: NetworkInputs, recorded: int) -> tuple[LayerRun, Trace | None]:
    physics = _physics(task, inputs)
    y0 = _initial_state(physics, inputs)
    times = None if inputs.times is None else _to_batch(inputs.times, y0[0].shape[0])
    run = start_run(physics, y0, task.capacity, times, recorded, task.slopes)
    run = finish(physics, run, task.max_iterations)
    clock, states = run.clock, None
    if run.lookups is not None:
        states = jnp.stack(_answer(physics, run.lookups), axis=-1)
    ended = jnp.where((clock.status != FINE) | clock.done[:, None], clock.status, TOO_LONG)
    out = LayerRun(
        times=run.spikes.times,
        neurons=run.spikes.neurons,
        slopes=run.spikes.slopes,
        count=run.spikes.count,
        spikes=clock.spikes,
        status=ended,
        stopped=jnp.broadcast_to(clock.t[:, None], ended.shape),
        passing=clock.passing,
        states=states,
    )
    if run.segments is None:
        return out, None
    segments = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), run.segments)
    iterations = jnp.broadcast_to(run.iteration, clock.t.shape)
    return out, Trace(iterations, clock.arrival, clock.segments, segments, run.lookups)


def _answer(physics: Physics, lookups: Lookups) -> Channels:
    """The state at every query time: one step from where its segment starts."""

    def one(t, y, time):
        return physics.motion.advance(physics.rows, t, y, time_since(t, time[:, None]))

    return jax.vmap(one, in_axes=(2, 2, 1), out_axes=2)(lookups.t, lookups.y, lookups.times)


class _Network(AbstractMachine):
    """A network that is run again and swept back."""

    physics: Physics
    wanted: PyTree
    by_query: QueryCotangents | None

    def start(self, y0: Channels) -> Run:
        return eqx.tree_at(lambda run: run.segments, start_run(self.physics, y0, 0, None, 1), None)

    def advance(self, run: Run) -> Run:
        return advance(self.physics, run)

    def sweep(self, segment: Segment, number: Int[Array, "batch 1"], ct: Cotangents) -> Cotangents:
        return sweep_back(self.physics, self.wanted, self.by_query, segment, number, ct)


def _backward(
    task: NetworkTask, like: NetworkInputs, inputs: NetworkInputs, trace: Trace, ct_times, ct_states
) -> NetworkInputs:
    """The cotangents of the inputs, with the leading axes of `like`."""
    physics = _physics(task, inputs)
    y0 = _initial_state(physics, inputs)
    segments = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), trace.segments)
    zero = jnp.zeros(y0[0].shape, ct_times.dtype)
    numbers, fixed = eqx.partition(physics.rows.numbers, task.wanted)
    numbers = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(zero), *leaf.shape[1:])), numbers)
    ct: Any = Cotangents(
        y=(zero,) * len(y0),
        t=zero,
        numbers=jax.tree.map(jnp.zeros_like, numbers),
        weights=zeros_of(inputs.weights, like.weights),
        delays=None if inputs.delays is None else zeros_of(inputs.delays, like.delays),
        inputs=jnp.zeros(physics.wiring.inputs.times.shape, zero.dtype),
        spikes=ct_times,
        arrival=trace.arrival,
        next=jnp.full(zero.shape[:1], -1, jnp.int32),
    )
    by_query = None
    if trace.lookups is not None:

        def answers(numbers, floats, integers):
            rows = physics.rows.with_numbers(eqx.combine(numbers, fixed))
            return _answer(eqx.tree_at(lambda p: p.rows, physics, rows), eqx.combine(floats, integers))

        floats, integers = eqx.partition(trace.lookups, eqx.is_inexact_array)
        _, pull = jax.vjp(lambda numbers, floats: answers(numbers, floats, integers), numbers, floats)
        by_numbers, by = pull(tuple(ct_states[..., channel] for channel in range(len(y0))))
        by_query = QueryCotangents(trace.lookups.segment, by.y, by.t, by.times)
        ct = eqx.tree_at(lambda ct: ct.numbers, ct, by_numbers)
    past = Past(jnp.max(trace.iterations, initial=0), trace.count, segments)
    if by_query is not None:
        ct = add_queries(by_query, trace.count, ct)
    ct = sweep_run(_Network(physics, task.wanted, by_query), y0, past, task.max_iterations, ct)
    return _as_inputs(like, inputs, ct, by_query)


def _as_inputs(like: NetworkInputs, inputs: NetworkInputs, ct: Cotangents, by_query) -> NetworkInputs:
    """Cotangents in the shape of the inputs, but with the leading axes of `like`."""
    nothing: Any = None
    numbers = numbers_as_shared(ct.numbers, inputs.numbers, like.numbers)
    arrivals = Arrivals(as_shared(ct.inputs, like.arrivals.times), nothing)
    y0 = as_shared(jnp.stack(ct.y, axis=-1), like.y0)
    times = nothing if by_query is None else as_shared(by_query.times, like.times)
    return NetworkInputs(numbers, ct.weights, ct.delays, arrivals, y0, nothing, times)


def _initial_state(physics: Physics, inputs: NetworkInputs):
    y0 = _to_batch(inputs.y0, physics.t_end.shape[0])
    return tuple(y0[..., channel] for channel in range(y0.shape[-1]))


def _to_batch(tree: PyTree, batch: int) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (batch, *leaf.shape[1:])), tree)
