"""What the run of a layer gives."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class LayerRun(eqx.Module):
    """What a run gives.

    - `times`, `neurons`: the spikes, by time and then by neuron; `inf` behind the last.
    - `slopes`: how steeply each of them crossed the threshold.
    - `count`: how many spikes the layer emitted, which is more than `capacity` if the list is too short.
    - `spikes`: how many spikes each neuron emitted.
    - `status`, `stopped`: how each neuron ended, and where its clock stood.
    - `states`: the state at every query time.
    """

    times: Float[Array, "*batch capacity"]
    neurons: Int[Array, "*batch capacity"]
    slopes: Float[Array, "*batch capacity"] | None
    count: Int[Array, "*batch"]
    spikes: Int[Array, "*batch neurons"]
    status: Int[Array, "*batch neurons"]
    stopped: Float[Array, "*batch neurons"]
    states: Float[Array, "*batch neurons times channels"] | None


def shapes_of_run(
    y0: Float[Array, "batch neurons channels"], batch: int, capacity: int, slopes: bool, times: int | None
) -> LayerRun:
    """The shapes of what a batch of runs gives, known before anything is traced.

    - `y0`: the initial state; its batch may be 1 where all share it.
    - `slopes`, `times`: whether there are slopes, and for how many query times there are states.
    """
    _, neurons, channels = y0.shape

    def array(dtype, *shape) -> Any:
        return jax.ShapeDtypeStruct((batch, *shape), dtype)

    return LayerRun(
        times=array(y0.dtype, capacity),
        neurons=array(jnp.int32, capacity),
        slopes=array(y0.dtype, capacity) if slopes else None,
        count=array(jnp.int32),
        spikes=array(jnp.int32, neurons),
        status=array(jnp.int32, neurons),
        stopped=array(y0.dtype, neurons),
        states=None if times is None else array(y0.dtype, neurons, times, channels),
    )


def batch_of(inputs: Any) -> int:
    """How many samples there are, where a leading axis of length 1 is shared by all."""
    return max(leaf.shape[0] for leaf in jax.tree.leaves(inputs))
