"""Times at which the dynamics of neurons change by themselves.

They reach the neurons like spikes: through one more row of the weights, and a port of their own.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..neuron_models.base import NeuronModel
from .arrivals import in_order
from .lanes import Arrivals


def with_breakpoints(
    model: NeuronModel, weights: Float[Array, "inputs neurons *ports"], arrivals: Arrivals
) -> tuple[Array, Arrivals]:
    """The weights and the arrivals of neurons, with the breakpoints of their model if it has any."""
    times = model.breakpoints()
    if times is None:
        return weights, arrivals
    neurons = weights.shape[1]
    if times.ndim == 2:
        shape = (neurons, arrivals.times.shape[1])
        arrivals = jax.tree.map(lambda column: jnp.broadcast_to(column, shape), arrivals)
    if weights.ndim == 2:
        weights = weights[..., None]
    inputs, _, ports = weights.shape
    weights = jnp.pad(weights, ((0, 1), (0, 0), (0, 1))).at[inputs, :, ports].set(1)
    lists = arrivals.times.shape[0]
    # What began before the start has been passed by then.
    times = jnp.broadcast_to(jnp.maximum(times.astype(weights.dtype), 0), (lists, times.shape[-1]))
    source = jnp.full(times.shape, inputs, arrivals.sources.dtype)
    joined = (jnp.concatenate(pair, axis=1) for pair in ((arrivals.times, times), (arrivals.sources, source)))
    return weights, in_order(*joined)
