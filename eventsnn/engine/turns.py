"""Serving the few lanes that wait for something, so that the work follows how many wait."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree

from . import flat
from .counting import running_count


class Turn(eqx.Module):
    """Some of the lanes, one per neuron of every sample, in rising order.

    - `lanes`: their numbers; behind the last of them, numbers of lanes that do not exist.
    - `shape`: how many samples and neurons there are.
    - `dtype`: of the numbers of the network.
    """

    lanes: Int[Array, " turn"]
    shape: tuple[int, int] = eqx.field(static=True)
    dtype: Any = eqx.field(static=True)

    @property
    def real(self) -> Bool[Array, " turn"]:
        return self.lanes < self.shape[0] * self.shape[1]

    @property
    def any(self) -> Bool[Array, ""]:
        """Whether there is any: true, but XLA cannot know."""
        return self.lanes[0] < self.shape[0] * self.shape[1]

    @property
    def sample(self) -> Int[Array, " turn"]:
        return jax.lax.div(self.lanes, jnp.int32(self.shape[1]))

    def rank(self, some: Bool[Array, " turn"]) -> Int[Array, " turn"]:
        """How many of `some` come before each lane in its own sample."""
        before = running_count(some, self.dtype) - some.astype(jnp.int32)
        # The samples are in order.
        most = jnp.full((self.shape[0],), self.lanes.size, jnp.int32)
        first = most.at[self.sample].min(before, mode="drop", wrap_negative_indices=False)
        return before - flat.read(first, self.sample)

    def look(self, table: Any, row: Any = 0) -> Any:
        """The entries of these lanes in a table `(*rows, samples, neurons)`, with 1 where an axis is shared.

        With a leading axis, those of its row `row`. Anything for a lane that does not exist.
        """
        if table is None:
            return None
        samples, neurons = table.shape[-2:]
        shape = (samples, neurons)
        if shape == self.shape:
            place = self.lanes
        elif table.ndim == 2 and shape == (1, 1):
            return table.reshape(())
        elif neurons == 1:
            place = self.sample if samples > 1 else jnp.zeros_like(self.lanes)
        else:
            place = self.lanes - self.sample * neurons
        return flat.read(table, place + row * (samples * neurons))

    def look_at_all(self, table: Array) -> Array:
        """The entries of these lanes in a table `(samples, neurons, *rest)`, with 1 sample where all share it."""
        neuron = self.lanes - self.sample * self.shape[1]
        sample = self.sample if table.shape[0] > 1 else 0
        return table.at[sample, neuron].get(mode="clip", wrap_negative_indices=False)

    def write(self, table: Any, values: Any, row: Any = 0, where: Any = True) -> Any:
        """A table `(*rows, samples, neurons)` with new entries for those of these lanes that `where` allows."""
        if table is None:
            return None
        size = self.shape[0] * self.shape[1]
        place = jnp.where(self.real & where, self.lanes + row * size, table.size)
        return flat.write(table, place, values)

    def add(self, table: Any, values: Any, row: Any = 0, where: Any = True) -> Any:
        """As `write`, but added; `neurons` may be 1 where all neurons of a sample share an entry."""
        samples, neurons = table.shape[-2:]
        place = self.sample if neurons == 1 else self.lanes
        place = jnp.where(self.real & where, place + row * (samples * neurons), table.size)
        return flat.add(table, place, values)


def serve_in_turns(
    waiting: Bool[Array, "batch neurons"],
    serve: Callable[[Turn, PyTree], tuple[Bool[Array, " turn"], PyTree]],
    carry: PyTree,
    dtype: Any,
    few: bool = False,
) -> PyTree:
    """Call `serve` until nobody waits.

    - `waiting`: who waits at first.
    - `serve`: takes a turn and the carry; gives who of them waits again, and the carry.
    - `dtype`: of the numbers of the network.
    - `few`: whether mostly few wait, and serving them takes long.
    """
    batch, neurons = waiting.shape
    total = waiting.size
    size = _turn_size(total, few)
    through = running_count(waiting.reshape(-1), dtype)
    nobody = jnp.full((total + size,), total, jnp.int32)
    place = jnp.where(waiting.reshape(-1), through - 1, total + size)
    queue = flat.write(nobody, place, jnp.arange(total, dtype=jnp.int32))

    def turn(state):
        queue, read, count, written, carry = state
        lanes = jax.lax.dynamic_slice(queue, (read,), (size,))
        lanes = jnp.where(read + jnp.arange(size, dtype=jnp.int32) < count, lanes, total)
        again, carry = serve(Turn(lanes, (batch, neurons), dtype), carry)
        # Who waits again lines up at the front, in places that have been read.
        rank = running_count(again, dtype)
        place = jnp.where(again, written + rank - 1, total + size)
        queue = flat.write(queue, place, lanes)
        read, written = read + size, written + rank[-1]
        over = read >= count
        return (
            queue,
            jnp.where(over, 0, read),
            jnp.where(over, written, count),
            jnp.where(over, 0, written),
            carry,
        )

    nought = jnp.zeros((), jnp.int32)
    state = (queue, nought, through[-1], nought, carry)
    return jax.lax.while_loop(lambda state: state[2] > 0, turn, state)[-1]


def _turn_size(total: int, few: bool) -> int:
    """Few enough to leave out most of those who do not wait, and many enough to keep the machine busy."""
    share = max(512, -(-total // (64 if few else 8)))
    # What one turn of a CPU works on stays in its cache; other devices want few and large kernels.
    return min(total, share if jax.default_backend() != "cpu" else min(share, 4096))
