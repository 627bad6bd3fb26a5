"""The stretches between the arrivals of a layer, in windows that are worked through one after the other."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..lanes import Arrivals


class Stretches(eqx.Module):
    """Some stretches in a row. Every stretch starts with an arrival, but for the first, which starts the run.

    Stretches come first, so that one of all samples is one piece of memory. `lists` is 1 where all neurons receive
    the same spikes.

    - `starts`, `ends`: when; stretches behind the last are empty and stand at the end of the run.
    - `sources`: the row of the weights that arrives at the start, one past the last row for none.
    - `tested`: whether the threshold is tested: not before all arrivals of an instant are in.
    - `count`: how many stretches each list has from here on.
    """

    starts: Float[Array, "stretches batch lists"]
    ends: Float[Array, "stretches batch lists"]
    sources: Int[Array, "stretches batch lists"]
    tested: Bool[Array, "stretches batch lists"]
    count: Int[Array, "batch lists"]


class Schedule(eqx.Module):
    """All stretches of a run. They are made window by window, since a list of arrivals is mostly empty.

    - `arrivals`, `t_start`, `t_end`: what arrives, and when the run starts and ends.
    - `count`: how many stretches each list has.
    - `inputs`: how many rows the weights have.
    """

    arrivals: Arrivals
    t_start: Float[Array, " batch"]
    t_end: Float[Array, " batch"]
    count: Int[Array, "batch lists"]
    inputs: int = eqx.field(static=True)

    def window(self, number: Int[Array, ""], length: int) -> Stretches:
        """Stretches `number * length` and the `length - 1` behind it."""
        stretch = number * length + jnp.arange(length + 1, dtype=jnp.int32)[:, None, None]
        t_end = self.t_end[:, None]
        starts, sources = jnp.broadcast_to(t_end, (length + 1, *self.count.shape)), self.inputs
        held = self.arrivals.times.shape[-1]
        if held:
            column = jnp.clip(stretch[:, 0, 0] - 1, 0, held - 1)
            times, rows = (
                jnp.moveaxis(jnp.take(table, column, axis=2), 2, 0)
                for table in (self.arrivals.times, self.arrivals.sources)
            )
            real = (times <= t_end) & (stretch >= 1) & (stretch <= held)
            starts = jnp.where(real, times, starts)
            sources = jnp.where(real, rows, sources)[:-1]
        starts = jnp.where(stretch == 0, self.t_start[:, None], starts)
        starts, ends, stretch = starts[:-1], starts[1:], stretch[:-1]
        tested = ((ends > starts) & (stretch < self.count)) | (stretch == self.count - 1)
        sources = jnp.broadcast_to(jnp.asarray(sources, jnp.int32), starts.shape)
        return Stretches(starts, ends, sources, tested, self.count - number * length)

    def stretch_at(self, times: Float[Array, "batch times"]) -> Int[Array, "batch lists times"]:
        """The last stretch that starts at or before each time, the first or the last one for a time outside the run."""
        return jnp.minimum(_reached(self.arrivals, times), self.count[..., None] - 1)

    def start_of(self, stretch: Int[Array, "batch lists times"]) -> Float[Array, "batch lists times"]:
        """When stretches start."""
        t_start = self.t_start[:, None, None]
        if not self.arrivals.times.shape[-1]:
            return jnp.broadcast_to(t_start, stretch.shape)
        starts = jnp.take_along_axis(self.arrivals.times, jnp.maximum(stretch - 1, 0), axis=2, mode="clip")
        return jnp.where(stretch == 0, t_start, starts)


def make_schedule(
    arrivals: Arrivals, t_start: Float[Array, " batch"], t_end: Float[Array, " batch"], inputs: int
) -> Schedule:
    """The stretches of a run from `t_start` to `t_end`."""
    return Schedule(arrivals, t_start, t_end, 1 + _reached(arrivals, t_end[:, None])[..., 0], inputs)


def _reached(arrivals: Arrivals, times: Float[Array, "batch times"]) -> Int[Array, "batch lists times"]:
    """How many spikes of each list have arrived at some times."""
    one = jax.vmap(lambda arrivals, times: jnp.searchsorted(arrivals, times, side="right"), in_axes=(0, None))
    return jax.vmap(one)(arrivals.times, times).astype(jnp.int32)
