"""The stretches between the arrivals of a layer, in windows that are worked through one after the other."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..lanes import Arrivals


class Schedule(eqx.Module):
    """Every stretch starts with an arrival, but for the first, which starts the run.

    Times come first, so that a window is one piece of memory.

    - `starts`, `ends`: when; stretches behind the last are empty and stand at the end of the run.
    - `sources`: the row of the weights that arrives at the start, one past the last row for none.
    - `tested`: whether the threshold is tested: not before all arrivals of an instant are in.
    - `count`: how many stretches a sample has.
    """

    starts: Float[Array, "stretches batch"]
    ends: Float[Array, "stretches batch"]
    sources: Int[Array, "stretches batch"]
    tested: Bool[Array, "stretches batch"]
    count: Int[Array, " batch"]

    def window(self, number: Int[Array, ""], length: int) -> "Schedule":
        """Stretches `number * length` and the `length - 1` behind it."""
        begin = number * length

        def cut(rows):
            return jax.lax.dynamic_slice_in_dim(rows, begin, length)

        return Schedule(cut(self.starts), cut(self.ends), cut(self.sources), cut(self.tested), self.count - begin)


def make_schedule(arrivals: Arrivals, t_end: Float[Array, " batch"], inputs: int, length: int) -> Schedule:
    """The stretches of a run, filled up to whole windows of `length`."""
    times, sources = arrivals.times.T, arrivals.sources.T
    real = times <= t_end
    count = 1 + jnp.sum(real, axis=0, dtype=jnp.int32)
    n_stretches = 1 + times.shape[0]
    filling = -n_stretches % length

    def fill(first, rows, last):
        last = jnp.broadcast_to(last, (filling, *rows.shape[1:]))
        return jnp.concatenate([jnp.broadcast_to(first, (1, *rows.shape[1:])), rows, last.astype(rows.dtype)])

    zero = jnp.zeros((), times.dtype)
    starts = fill(zero, jnp.where(real, times, t_end), t_end)
    sources = fill(jnp.int32(inputs), jnp.where(real, sources, inputs), jnp.int32(inputs))
    ends = jnp.concatenate([starts[1:], t_end[None]])
    number = jnp.arange(starts.shape[0], dtype=jnp.int32)[:, None]
    tested = ((ends > starts) & (number < count)) | (number == count - 1)
    return Schedule(starts, ends, sources, tested, count)
