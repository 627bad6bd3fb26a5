"""Instants: when two times are the same, and clocks whose rounding does not add up.

A time is rounded once where a user writes it down and once more wherever a delay or a refractory time is added to it:
0.1 + 0.2 is not 0.3. So the engines never ask whether two times are equal. There is one rule, and all of them use it:

    Two times are the same instant if they differ by no more than `instant_width`, two to four units in the last place.

Before a threshold is tested, everything arrives that arrives at that instant, and refractory times that end at it are
over. An instant begins with its first event and does not move on with later ones, so that a dense sequence of arrivals
is not one long instant. No event is moved to another time: only what is tested in between depends on the rule.

A crossing of a threshold is located by the engine and has no such errors. It coincides with an arrival or with another
crossing only if both are rounded to the same time, which is `rounding_width`.

A clock that adds one period after the other would be rounded the same way each time: 7,000 periods of 13.863 ms lost
6 ms in float32. A `PreciseTime` therefore keeps what rounding takes away in a second number.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Each of two times may be wrong by half a unit in the last place, which is eps * t at most. The factor of 2 leaves room
# for one more rounding of a sum.
_WIDTH = 2


def rounding_width(t: Float[Array, "..."]) -> Float[Array, "..."]:
    """How far apart two times near `t` may lie and still be rounded to the same number, in ms."""
    return 0.5 * jnp.finfo(t.dtype).eps * jnp.abs(t)


def instant_width(t: Float[Array, "..."]) -> Float[Array, "..."]:
    """How far apart two times near `t` may lie and still be the same instant, in ms."""
    return _WIDTH * jnp.finfo(t.dtype).eps * jnp.abs(t)


class PreciseTime(eqx.Module):
    """A time as the sum of two numbers.

    - `t`: the time, rounded.
    - `rest`: what rounding took away, which is less than a unit in the last place of `t`.
    """

    t: Float[Array, "..."]
    rest: Float[Array, "..."]

    def after(self, dt: Float[Array, "..."]) -> "PreciseTime":
        """The time `dt` ms later."""
        step = self.rest + dt
        # Knuth's TwoSum: `t` and `rest` add up to the sum before it was rounded.
        t = self.t + step
        other = t - self.t
        return PreciseTime(t, (self.t - (t - other)) + (step - other))

    def until(self, time: "Float[Array, '...'] | PreciseTime") -> Float[Array, "..."]:
        """How long it is until `time`, in ms; negative if that is past."""
        if isinstance(time, PreciseTime):
            return (time.t - self.t) + (time.rest - self.rest)
        return (time - self.t) - self.rest


def time_at(t: Float[Array, "..."]) -> PreciseTime:
    """The time `t`, without a rest."""
    return PreciseTime(t, jnp.zeros_like(t))


def time_since(event: Float[Array, "..."], time: Float[Array, "..."]) -> Float[Array, "..."]:
    """How long before `time` an event was; 0 for one that comes later, but at the same instant."""
    since = time - event
    # With `maximum` the derivative would be a half at 0.
    return jnp.where(since < 0, 0, since)


def between(time: Float[Array, "..."], start: Float[Array, "..."], end: Float[Array, "..."]) -> Float[Array, "..."]:
    """The time, or the end of the interval that is nearer to it. Its derivative is 1 everywhere.

    With `clip` it would be a half at both ends, where a query or a spike may well be, and 0 within the last instant.
    """
    inside = jax.lax.stop_gradient(jnp.clip(time, start, end))
    finite = jnp.where(jnp.isfinite(time), time, 0)
    return inside + (finite - jax.lax.stop_gradient(finite))
