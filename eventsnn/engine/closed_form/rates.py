"""What the numbers of a linear flow receive from the states that it moves."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ...flows.linear import LinearFlow


def any_rate(wanted: LinearFlow) -> bool:
    """Whether a number is wanted whose gradient depends on the path of the state."""
    return bool(wanted.leak or wanted.coupling or wanted.decay)


def only_rates(flow: LinearFlow, wanted: LinearFlow) -> Any:
    """Which of those numbers are wanted."""
    no: Any = False
    return LinearFlow(wanted.leak, no, None if flow.thresh is None else no, no, wanted.coupling, wanted.decay)


def by_rates(flow: LinearFlow, wanted: LinearFlow, dt, y, by) -> Any:
    """What those numbers receive over `dt` from the state `y`, if the state at its end passes on `by`."""
    numbers, fixed = eqx.partition(flow, only_rates(flow, wanted))

    def move(numbers):
        moved = eqx.combine(numbers, fixed)
        return moved.advance(moved.coefficients(dt), *y)

    shape = jnp.broadcast_shapes(dt.shape, by[0].shape)
    numbers = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, shape), numbers)
    _, pull = jax.vjp(move, numbers)
    return pull(by)[0]


def add_flows(total: PyTree, more: PyTree) -> PyTree:
    """The sum, where `None` is nothing."""

    def add(total, more):
        return more if total is None else total if more is None else total + more

    return jax.tree.map(add, total, more, is_leaf=lambda leaf: leaf is None)
