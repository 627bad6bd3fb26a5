"""Where a neuron goes from some states, by its dynamics and by its closed form."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ...flows.base import AbstractFlow
from ..base import NeuronModel, valid_closed_form

_STEPS = 400

# Crossings are looked for until these places of the grid.
ENDS = (_STEPS, _STEPS // 4, _STEPS // 16)


class Paths(eqx.Module):
    """What becomes of some starts.

    - `times`: in ms after the start.
    - `solved`: the state by the dynamics, and `rough` with steps twice as long.
    - `flown`: the state by the closed form.
    - `solved_height`, `flown_height`: the spike condition there.
    - `size`: of which size the terms of the spike condition are at the start.
    - `crossings`, `may_cross`: what the closed form says of the time until each of `ENDS`.
    - `before`, `behind`: the spike condition just before and just after `crossings`.
    """

    times: Float[Array, "starts times neurons"]
    solved: Float[Array, "starts times neurons channels"]
    rough: Float[Array, "starts times neurons channels"]
    flown: Float[Array, "starts times neurons channels"]
    solved_height: Float[Array, "starts times neurons"]
    flown_height: Float[Array, "starts times neurons"]
    size: Float[Array, "starts neurons"]
    crossings: Float[Array, "starts ends neurons"]
    may_cross: Bool[Array, "starts ends neurons"]
    before: Float[Array, "starts ends neurons"]
    behind: Float[Array, "starts ends neurons"]


@eqx.filter_jit
def follow(
    model: NeuronModel,
    args: Any,
    y: Float[Array, "starts neurons channels"],
    currents: Float[Array, "starts neurons"] | None,
    span: Float[Array, " neurons"],
) -> Paths:
    """The paths from the states `y` during `span`, with `currents` added to the bias currents."""

    def one(start: tuple[Float[Array, "neurons channels"], Float[Array, " neurons"] | None]) -> Paths:
        y, current = start
        driven = model if current is None else model.with_current(current)
        flow = valid_closed_form(driven)
        assert flow is not None
        return _path(driven, flow, args, y, span)

    # One after the other: what takes time is the compilation.
    return jax.lax.map(one, (y, currents))


def _path(
    model: NeuronModel,
    flow: AbstractFlow,
    args: Any,
    y: Float[Array, "neurons channels"],
    span: Float[Array, " neurons"],
) -> Paths:
    times = jnp.linspace(0, 1, _STEPS + 1, dtype=y.dtype)[:, None] * span
    ends = times[np.array(ENDS)]
    fraction = jnp.full_like(span, jnp.finfo(y.dtype).eps ** 0.7)
    resolution = fraction * ends
    crossings = jax.lax.map(lambda end: flow.first_crossing(y, end, fraction), ends)
    there = jnp.where(jnp.isfinite(crossings), crossings, ends)
    beside = [jnp.maximum(there - 2 * resolution, 0), there + 2 * resolution]
    flown = jax.lax.map(lambda s: flow.after(y, s), jnp.concatenate([times, *beside]))
    solved, rough = _solve(lambda t, y: model.dynamics(t, y, args), y, span)

    def height(t: Float[Array, " neurons"], y: Float[Array, "neurons channels"]) -> Float[Array, " neurons"]:
        return model.spike_condition(t, y, args)

    start, pull = jax.vjp(lambda y: height(times[0], y), y)
    (slope,) = pull(jnp.ones_like(start))
    heights = jax.vmap(height)(jnp.concatenate([times, times, *beside]), jnp.concatenate([solved, flown]))
    count = len(ENDS)
    solved_height, flown_height = heights[: _STEPS + 1], heights[_STEPS + 1 : -2 * count]
    return Paths(
        times=times,
        solved=solved,
        rough=rough,
        flown=flown[: _STEPS + 1],
        solved_height=solved_height,
        flown_height=flown_height,
        size=jnp.abs(start) + jnp.sum(jnp.abs(slope * y), axis=1),
        crossings=crossings,
        may_cross=jax.lax.map(lambda end: flow.may_cross(y, *end), (flown[np.array(ENDS)], ends)),
        before=heights[-2 * count : -count],
        behind=heights[-count:],
    )


def _solve(
    dynamics: Callable[[Array, Array], Array], y: Float[Array, "neurons channels"], span: Float[Array, " neurons"]
) -> Float[Array, "2 times neurons channels"]:
    """The state on the grid by the classical Runge-Kutta method, with steps of half the grid and of the grid."""
    small = span / (2 * _STEPS)

    def advance(t, h, y):
        along = h[:, None]
        k1 = dynamics(t, y)
        k2 = dynamics(t + h / 2, y + along / 2 * k1)
        k3 = dynamics(t + h / 2, y + along / 2 * k2)
        k4 = dynamics(t + h, y + along * k3)
        return y + along / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    def step(both, number):
        # The rough one goes on in every other step only, twice as far.
        steps = jnp.stack([small, jnp.where(number % 2 == 0, 2 * small, 0)])
        both = jax.vmap(advance, in_axes=(None, 0, 0))(number.astype(y.dtype) * small, steps, both)
        return both, both

    start = jnp.stack([y, y])
    _, after = jax.lax.scan(step, start, jnp.arange(2 * _STEPS, dtype=jnp.int32))
    return jnp.moveaxis(jnp.concatenate([start[None], after[1::2]]), 0, 1)


def span_of(model: NeuronModel, args: Any, states: Float[Array, "states neurons channels"]) -> np.ndarray:
    """How long to follow each neuron, so that what is slow in it shows and what is fast is solved."""
    jacobians = np.asarray(_jacobians(model, args, states))
    rates = np.abs(np.linalg.eigvals(jacobians)).transpose(1, 0, 2).reshape(states.shape[1], -1)
    fast = rates.max(axis=1)
    slow = np.where(rates > 1e-4 * fast[:, None], rates, np.inf).min(axis=1)
    with np.errstate(divide="ignore"):
        # Where nothing decays there is no scale.
        return np.where(fast > 0, np.minimum(4 / slow, 20 / fast), 10.0).astype(states.dtype)


@eqx.filter_jit
def _jacobians(model: NeuronModel, args: Any, states: Float[Array, "states neurons channels"]) -> Array:
    """Of the dynamics of every neuron: `(states, neurons, channels, channels)`."""

    def at(y: Float[Array, "neurons channels"]) -> Array:
        out, pull = jax.vjp(lambda y: model.dynamics(jnp.zeros(y.shape[0], y.dtype), y, args), y)
        unit = jnp.eye(y.shape[1], dtype=y.dtype)
        return jnp.moveaxis(jax.vmap(lambda one: pull(jnp.broadcast_to(one, out.shape))[0])(unit), 0, 1)

    return jax.vmap(at)(states)
