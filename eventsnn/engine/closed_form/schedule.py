"""The stretches between the arrivals of a layer, in windows that are worked through one after the other."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..instants import instant_width, rounding_width
from ..lanes import Arrivals


class Stretches(eqx.Module):
    """Some stretches in a row. Every stretch starts with an arrival, but for the first, which starts the run.

    Stretches come first, so that one of all samples is one piece of memory. `lists` is 1 where all neurons receive
    the same spikes.

    - `starts`, `ends`: when; stretches behind the last are empty and stand at the end of the run.
    - `sources`: the row of the weights that arrives at the start, one past the last row for none.
    - `tested`: whether the threshold is tested: not before all arrivals of an instant are in.
    - `margin`: a crossing that is nearer to the end of the stretch is decided by what arrives there; below 0 at the end
        of the run.
    - `count`: how many stretches each list has from here on.
    """

    starts: Float[Array, "stretches batch lists"]
    ends: Float[Array, "stretches batch lists"]
    sources: Int[Array, "stretches batch lists"]
    tested: Bool[Array, "stretches batch lists"]
    margin: Float[Array, "stretches batch lists"]
    count: Int[Array, "batch lists"]


class Schedule(eqx.Module):
    """All stretches of a run. They are made window by window, since a list of arrivals is mostly empty.

    All times are counted from the `origin`.

    - `arrivals`, `origin`: what arrives, and when the run starts.
    - `t_end`: when it ends, and `t_stop` the end of its last instant.
    - `final`: whether the run ends for good.
    - `count`: how many stretches each list has.
    - `inputs`: how many rows the weights have.
    """

    arrivals: Arrivals
    origin: Float[Array, " batch"]
    t_end: Float[Array, " batch"]
    t_stop: Float[Array, " batch"]
    final: Bool[Array, " batch"]
    count: Int[Array, "batch lists"]
    inputs: int = eqx.field(static=True)

    def window(self, number: Int[Array, ""], length: int) -> Stretches:
        """Stretches `number * length` and the `length - 1` after it."""
        stretch = number * length + jnp.arange(length + 1, dtype=jnp.int32)[:, None, None]
        t_stop, final = self.t_stop[None, :, None], self.final[None, :, None]
        starts, sources = jnp.broadcast_to(t_stop, (length + 1, *self.count.shape)), self.inputs
        room = self.arrivals.times.shape[-1]
        if room:
            column = jnp.clip(stretch[:, 0, 0] - 1, 0, room - 1)
            times, rows = (
                jnp.moveaxis(jnp.take(table, column, axis=2), 2, 0)
                for table in (self.arrivals.times, self.arrivals.sources)
            )
            real = (times <= t_stop) & (stretch >= 1) & (stretch <= room)
            starts = jnp.where(real, times, starts)
            sources = jnp.where(real, rows, sources)[:-1]
        starts = jnp.where(stretch == 0, 0, starts)
        settled = self._settled(starts, stretch) if room else jnp.ones(starts.shape, bool)[:-1]
        starts, ends, stretch = starts[:-1], starts[1:], stretch[:-1]
        # At the end of a run that goes on in another one, the threshold is tested at the start of that.
        is_last = stretch == self.count[None] - 1
        at_end = final | (ends - starts > self._width(t_stop))
        tested = jnp.where(is_last, at_end, settled & (stretch < self.count[None]))
        margin = jnp.where(is_last & final, -1, rounding_width(self._since_zero(ends)))
        sources = jnp.broadcast_to(jnp.asarray(sources, jnp.int32), starts.shape)
        return Stretches(starts, ends, sources, tested, margin, self.count - number * length)

    def _settled(self, starts: Array, stretch: Array) -> Bool[Array, "stretches batch lists"]:
        """Whether the next stretch starts at another instant.

        A sequence of arrivals, each within the width of an instant of the one before, is cut into pieces of that width.
        """
        gap, width = starts[1:] - starts[:-1], self._width(starts)
        follows = (gap <= width[1:]) & (stretch[1:] < self.count[None])

        def in_pieces() -> Array:
            row = jnp.arange(starts.shape[0], dtype=jnp.int32)[:, None, None]
            first = jax.lax.cummax(jnp.where(jnp.pad(follows, ((1, 0), (0, 0), (0, 0))), 0, row), axis=0)
            span = starts - jnp.take_along_axis(starts, first, axis=0)
            piece = jnp.maximum(jnp.ceil(span / jnp.where(width > 0, width, 1)), 1)
            return ~follows | (piece[1:] != piece[:-1])

        # There is hardly ever a sequence of different times, and looking for one takes many kernels in each window.
        return jax.lax.cond(jnp.any(follows & (gap > 0)), in_pieces, lambda: ~follows)

    def stretch_at(self, times: Float[Array, "batch times"]) -> Int[Array, "batch lists times"]:
        """The last stretch that starts at the instant of each time or before.

        For a time outside of the run, the first or the last one.
        """
        until = times + self._width(times)
        return jnp.minimum(_reached(self.arrivals, until), self.count[..., None] - 1)

    def start_of(self, stretch: Int[Array, "batch lists times"]) -> Float[Array, "batch lists times"]:
        """When stretches start."""
        if not self.arrivals.times.shape[-1]:
            return jnp.zeros(stretch.shape, self.t_end.dtype)
        starts = jnp.take_along_axis(self.arrivals.times, jnp.maximum(stretch - 1, 0), axis=2, mode="clip")
        return jnp.where(stretch == 0, 0, starts)

    def _width(self, times: Float[Array, "*any batch lists"]) -> Float[Array, "*any batch lists"]:
        """The width of an instant at times of each sample, which is the last axis but one."""
        return instant_width(self._since_zero(times))

    def _since_zero(self, times: Float[Array, "*any batch lists"]) -> Float[Array, "*any batch lists"]:
        """Times that are not counted from the origin."""
        return times + self.origin.reshape(*[1] * (times.ndim - 2), -1, 1)


def make_schedule(
    arrivals: Arrivals, origin: Float[Array, " batch"], t_end: Float[Array, " batch"], final, inputs: int
) -> Schedule:
    """The stretches of a run from 0 to `t_end`."""
    t_stop = jnp.where(final, t_end + instant_width(t_end + origin), t_end)
    count = 1 + _reached(arrivals, t_stop[:, None])[..., 0]
    return Schedule(arrivals, origin, t_end, t_stop, final, count, inputs)


def _reached(arrivals: Arrivals, times: Float[Array, "batch times"]) -> Int[Array, "batch lists times"]:
    """How many spikes of each list have arrived at some times."""
    one = jax.vmap(lambda arrivals, times: jnp.searchsorted(arrivals, times, side="right"), in_axes=(0, None))
    return jax.vmap(one)(arrivals.times, times).astype(jnp.int32)
