"""Training parameters without leaving their bounds."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from ..neuron_models.parameter import Bounds, Parameter

# How far a step may go in the unbounded coordinate. So what is left to a bound shrinks by a factor of 150 at most, and
# the difference of two values is right in the precision of the value.
_LONGEST = 5.0


def within_bounds(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimizer that never takes a `Parameter` to its bounds or beyond.

    A parameter with bounds is moved in a coordinate that has none: the logarithm of its distance from a bound, or for
    two bounds the logarithm of the ratio of its distances. Gradients and the state of `optimizer` belong to that
    coordinate, so a learning rate of 0.01 changes a time constant by about 1 % at a step. Everything else is left to
    `optimizer` as it is.

    >>> import equinox as eqx, jax, optax
    >>> from eventsnn import FFEvNN, LIF, trainable
    >>> net = FFEvNN([2], 1, LIF, 20.0, jax.random.PRNGKey(0), wmean=8.0, trainable="tmem")
    >>> trained, fixed = eqx.partition(net, trainable(net))
    >>> state = within_bounds(optax.adam(1e-2)).init(trained)

    **Arguments:**

    - `optimizer`: an optax optimizer. Its `update` has to be given the parameters.

    **Returns:** an optax optimizer.
    """

    def init(params: PyTree) -> Any:
        return optimizer.init(_map(_to_free, params))

    def update(updates: PyTree, state: Any, params: PyTree | None = None) -> tuple[PyTree, Any]:
        if params is None:
            raise ValueError(
                "params is missing: call update(gradients, state, params), since bounds are those of params"
            )
        free = _map(_to_free, params)
        gradients = _map(_gradient, updates, params)
        steps, state = optimizer.update(gradients, state, free)
        return _map(_change, steps, params), state

    return optax.GradientTransformation(init, update)


def _map(function: Any, tree: PyTree, *others: PyTree) -> PyTree:
    """A function of the values of parameters with bounds; whatever has none stays as it is in the first tree."""

    def one(leaf: Any, *rest: Any) -> Any:
        if not isinstance(leaf, Parameter) or leaf.value is None or not _bounded(leaf.bounds):
            return leaf
        value = function(leaf.bounds, leaf.value, *(other.value for other in rest))
        return Parameter(value, leaf.trainable, leaf.bounds)

    return jax.tree.map(one, tree, *others, is_leaf=lambda leaf: isinstance(leaf, Parameter))


def _bounded(bounds: Bounds) -> bool:
    return any(math.isfinite(bound) for bound in bounds)


def _to_free(bounds: Bounds, value: Array) -> Array:
    lower, upper = bounds
    below = jnp.log(value - lower) if math.isfinite(lower) else jnp.zeros_like(value)
    above = jnp.log(upper - value) if math.isfinite(upper) else jnp.zeros_like(value)
    return below - above


def _slope(bounds: Bounds, value: Array) -> Array:
    """The derivative of the value by its coordinate."""
    lower, upper = bounds
    by_value = 1 / (value - lower) if math.isfinite(lower) else jnp.zeros_like(value)
    return 1 / (by_value + (1 / (upper - value) if math.isfinite(upper) else 0))


def _gradient(bounds: Bounds, gradient: Array, value: Array) -> Array:
    return gradient * _slope(bounds, value)


def _change(bounds: Bounds, step: Array, value: Array) -> Array:
    """By how much the value changes with a step of its coordinate."""
    lower, upper = bounds
    step = jnp.clip(step, -_LONGEST, _LONGEST)
    if math.isfinite(lower) and math.isfinite(upper):
        share = jax.nn.sigmoid(_to_free(bounds, value) + step)
        moved = lower + (upper - lower) * share
    elif math.isfinite(lower):
        moved = lower + (value - lower) * jnp.exp(step)
    else:
        moved = upper - (upper - value) * jnp.exp(-step)
    change = moved - value
    # Where nothing lies between the value and its bound any more, it stays.
    after = value + change
    return jnp.where((after > lower) & (after < upper), change, 0)
