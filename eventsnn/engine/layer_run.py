"""The run of a layer, whichever engine it is by: what it gives, and how it is batched and differentiated."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .batching import batched_first, hand_batched, leading


class LayerRun(eqx.Module):
    """What a run gives.

    - `times`, `neurons`: the spikes, by time and then by neuron; `inf` behind the last.
    - `slopes`: how steeply each of them crossed the threshold.
    - `count`: how many spikes the layer emitted, which is more than `capacity` if the list is too short.
    - `spikes`: how many spikes each neuron emitted.
    - `status`, `stopped`: how each neuron ended, and where its clock stood.
    - `passing`: which neurons have spiked and have not been below their threshold since.
    - `states`: the state at every query time.
    """

    times: Float[Array, "*batch capacity"]
    neurons: Int[Array, "*batch capacity"]
    slopes: Float[Array, "*batch capacity"] | None
    count: Int[Array, "*batch"]
    spikes: Int[Array, "*batch neurons"]
    status: Int[Array, "*batch neurons"]
    stopped: Float[Array, "*batch neurons"]
    passing: Bool[Array, "*batch neurons"]
    states: Float[Array, "*batch neurons times channels"] | None


def run_one(differentiable: Callable[[Any, Any], LayerRun], task: Any, inputs: Any) -> LayerRun:
    """The run of one sample by `differentiable(task, inputs)`, which runs a batch; `jax.vmap` makes it that batch.

    - `task`: has the `capacity` of the list of spikes, and says whether there are `slopes`.
    - `inputs`: without a leading axis; has the initial state `y0` and the query `times`, or `None`.
    """
    inputs = jax.tree.map(lambda leaf: leaf[None], inputs)
    run = batched_first(lambda inputs: differentiable(task, inputs), lambda inputs: shapes_of_run(task, inputs))
    return jax.tree.map(lambda leaf: leaf[0], run(inputs))


def run_and_record(forward: Callable, backward: Callable, recorded: int, task: Any, inputs: Any) -> LayerRun:
    """A batch of runs that are differentiated by a reverse sweep over a record of them.

    - `forward(task, inputs, length)`: gives the runs, and what the sweep has to know if `length` is not 0.
    - `backward(task, like, inputs, trace, by_times, by_states)`: the cotangents of the inputs.
    - `recorded`: the length of the record.
    """
    run = jax.custom_vjp(hand_batched(lambda inputs: forward(task, inputs, 0)[0]))

    def forth(inputs):
        out, trace = hand_batched(lambda inputs: forward(task, inputs, recorded))(inputs)
        return out, (inputs, trace)

    def back(residuals, ct: LayerRun):
        inputs, trace = residuals
        sweep = hand_batched(lambda like, *args: backward(task, like, *as_one_batch(*args)), summed=True)
        return (sweep(leading(inputs), inputs, trace, ct.times, ct.states),)

    run.defvjp(forth, back)
    return run(inputs)


def shapes_of_run(task: Any, inputs: Any) -> LayerRun:
    """The shapes of what a batch of runs gives, known before anything is traced; arguments as in `run_one`."""
    batch, (_, neurons, channels), dtype = batch_of(inputs), inputs.y0.shape, inputs.y0.dtype

    def array(dtype, *shape) -> Any:
        return jax.ShapeDtypeStruct((batch, *shape), dtype)

    return LayerRun(
        times=array(dtype, task.capacity),
        neurons=array(jnp.int32, task.capacity),
        slopes=array(dtype, task.capacity) if task.slopes else None,
        count=array(jnp.int32),
        spikes=array(jnp.int32, neurons),
        status=array(jnp.int32, neurons),
        stopped=array(dtype, neurons),
        passing=array(bool, neurons),
        states=None if inputs.times is None else array(dtype, neurons, inputs.times.shape[-1], channels),
    )


def batch_of(inputs: Any) -> int:
    """How many samples there are, where a leading axis of length 1 is shared by all."""
    return max(leaf.shape[0] for leaf in jax.tree.leaves(inputs))


def as_one_batch(inputs: Any, trace: Any, by_times: Array, by_states: Array | None) -> tuple[Any, Any, Any, Any]:
    """The arguments of a reverse sweep with the same batch.

    Under `vmap` of `grad` a batch may be in some of them only: in the query times, or in what the results receive. What
    all samples share of the inputs stays shared.
    """
    batch = max(leaf.shape[0] for leaf in jax.tree.leaves((inputs, trace, by_times, by_states)))
    trace, by_times, by_states, t_end = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (batch, *leaf.shape[1:])), (trace, by_times, by_states, inputs.t_end)
    )
    return eqx.tree_at(lambda inputs: inputs.t_end, inputs, t_end), trace, by_times, by_states
