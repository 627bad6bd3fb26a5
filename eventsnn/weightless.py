"""Networks built without weights: fine for neurons that move on their own, an error where nothing could happen."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from .connections import WAYS_TO_WEIGHTS, WEIGHT_NAMES
from .engine.report import Check
from .neuron_models import NeuronModel
from .neuron_models.parameter import per_neuron

# Where to look for a time-dependent drive, in parts of the run: not at zeros of an oscillation.
_PLACES = (0.0, 0.1203, 0.2717, 0.4189, 0.5772, 0.7071, 0.9069)


def is_weightless(synapses: dict[str, Any]) -> bool:
    """Whether the arguments of a connection say nothing of its weights."""
    return all(synapses.get(name) is None for name in WEIGHT_NAMES)


def reject_silence(where: str, neurons: NeuronModel, n_neurons: int, t_end: float) -> None:
    """A `ValueError` for neurons without weights that are at rest, and so can never spike."""
    if _is_at_rest(neurons, n_neurons, t_end):
        raise ValueError(
            f"{where} has no weights, and its neurons are at rest, so that none of them can ever spike: "
            f"{WAYS_TO_WEIGHTS}"
        )


def input_without_effect(in_spikes: Float[Array, "inputs spikes"], weights: Float[Array, "..."]) -> Check:
    """No spike comes in where all weights are 0 because nobody gave any."""
    bad = jnp.isfinite(in_spikes) & ~jnp.any(weights != 0)
    return Check(in_spikes, bad, "in_spikes", f"it has no effect, since the network has no weights: {WAYS_TO_WEIGHTS}")


def _is_at_rest(neurons: NeuronModel, n_neurons: int, t_end: float) -> bool:
    """Whether nothing happens without input. Where numbers are unknown, it does not say so."""
    model = per_neuron(neurons, n_neurons)
    if model.breakpoints() is not None:
        return False
    y0 = model.init_state(n_neurons)
    for place in _PLACES:
        t = jnp.asarray(place * t_end, y0.dtype)
        moves, condition = model.dynamics(t, y0, None), model.spike_condition(t, y0, None)
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((moves, condition))):
            return False
        if np.any(np.asarray(moves)) or np.any(np.asarray(condition) >= 0):
            return False
    return True
