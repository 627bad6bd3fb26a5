"""The state as `observe` shows it, and the way back."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..neuron_models import NeuronModel
from ..neuron_models.check import guess_neurons

# Evaluations of a model are done for this many points at once, so that memory is bounded for large layers.
_CHUNK = 512

# The way from the initial state to a point is taken in this many pieces, and then polished.
_PIECES, _POLISHING = 64, 8


class OneNeuron(eqx.Module):
    """One neuron of a model's layer; its state is a row of channels.

    - `model`, `t`, `args`: what is evaluated, and with which time in ms and arguments.
    - `initial`: its state at time 0.
    - `number`, `n_neurons`: which neuron of how many.
    - `observed`: whether points are what `observe` shows, and not the state itself.
    """

    model: NeuronModel
    t: Float[Array, ""]
    args: Any
    initial: Float[Array, " channels"]
    number: int = eqx.field(static=True)
    n_neurons: int = eqx.field(static=True)
    observed: bool = eqx.field(static=True)

    def condition(self, y: Float[Array, " channels"]) -> Float[Array, ""]:
        return self.model.spike_condition(self.t, self._layer(y), self.args)[self.number]

    def dynamics(self, y: Float[Array, " channels"]) -> Float[Array, " channels"]:
        return self.model.dynamics(self.t, self._layer(y), self.args)[self.number]

    def reset(self, y: Float[Array, " channels"]) -> Float[Array, " channels"]:
        return self.model.reset_spiked(self._layer(y), jnp.ones(self.n_neurons, bool))[self.number]

    def shown(self, y: Float[Array, " channels"]) -> Float[Array, " channels"]:
        return self.model.observe(self._layer(y))[self.number] if self.observed else y

    def state(self, point: Float[Array, " channels"]) -> Float[Array, " channels"]:
        """The state that is shown as `point`.

        Newton's method goes after a goal that moves from the initial state to the point, so that it stays
        on the branch of the initial state where several states are shown alike, as phases one turn apart.
        """
        if not self.observed:
            return point
        begin = self.shown(self.initial)

        def follow(piece, y):
            share = jnp.minimum(jnp.asarray(piece + 1, y.dtype) / _PIECES, 1)
            goal = begin + share * (point - begin)
            return y + jnp.linalg.solve(jax.jacfwd(self.shown)(y), goal - self.shown(y))

        return jax.lax.fori_loop(0, _PIECES + _POLISHING, follow, self.initial)

    def _layer(self, y: Float[Array, " channels"]) -> Float[Array, "neurons channels"]:
        return jnp.broadcast_to(y, (self.n_neurons, y.shape[0]))


class Flow(eqx.Module):
    """What a neuron does at some points: velocity per ms, spike condition, and where a reset leads to."""

    velocity: Float[np.ndarray, "points channels"]
    condition: Float[np.ndarray, " points"]
    after_reset: Float[np.ndarray, "points channels"]


def one_neuron(model: NeuronModel, number: int, t: float, args: Any, observed: bool) -> OneNeuron:
    """A neuron of a layer. **Raises:** `ValueError` if there is none of this number."""
    n_neurons = guess_neurons(model)
    if not 0 <= number < n_neurons:
        raise ValueError(f"neuron is {number}, expected one of the {n_neurons} neurons of the model, counted from 0")
    initial = model.init_state(n_neurons)[number]
    observed = observed and is_transformed(model)
    return OneNeuron(model, jnp.asarray(t, initial.dtype), args, initial, number, n_neurons, observed)


def is_transformed(model: NeuronModel) -> bool:
    """Whether `observe` shows something else than the state, such as the potential that belongs to a phase."""
    return type(model).observe is not NeuronModel.observe


def flow_at(neuron: OneNeuron, points: Float[np.ndarray, "points channels"]) -> Flow:
    """What the neuron does at the points. **Raises:** `ValueError` if no state is shown as one of them."""
    dtype = neuron.initial.dtype
    close = 1e-3 * (1 + np.ptp(points, axis=0))
    pieces = []
    for start in range(0, len(points), _CHUNK):
        piece = points[start : start + _CHUNK]
        padded = np.concatenate([piece, np.repeat(piece[-1:], _CHUNK - len(piece), axis=0)])
        out = _evaluate(neuron, jnp.asarray(padded, dtype))
        shown, *rest = (np.asarray(values)[: len(piece)] for values in out)
        missed = ~(np.abs(shown - piece) <= close).all(axis=1)
        if missed.any():
            raise ValueError(
                f"no state of {type(neuron.model).__name__} was found that observe shows as "
                f"{piece[np.argmax(missed)]}: pass other limits, or observed=False for the plane of the state itself"
            )
        pieces.append(rest)
    return Flow(*(np.concatenate(values) for values in zip(*pieces, strict=True)))


@eqx.filter_jit
def _evaluate(neuron: OneNeuron, points: Float[Array, "points channels"]):
    def one(point):
        y = neuron.state(point)
        shown, velocity = jax.jvp(neuron.shown, (y,), (neuron.dynamics(y),))
        return shown, velocity, neuron.condition(y), neuron.shown(neuron.reset(y))

    return jax.vmap(one)(points)


def visible_range(values: Float[np.ndarray, " values"], transformed: bool) -> tuple[float, float]:
    """From where to where an axis shows values: all of them, with a margin.

    What `observe` transforms may be infinite at a spike. Of such a channel it shows the values from the 10th
    to the 90th percentile, and as much again on both sides.
    """
    values = np.asarray(values, float)[np.isfinite(values)]
    if not values.size:
        return -1.0, 1.0
    if transformed:
        low, high = np.percentile(values, (10, 90))
        values = values[(values >= 2 * low - high) & (values <= 2 * high - low)]
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin
