"""Where a neuron stands with regard to its threshold: which of its jumps are spikes, and when it can spike again."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .lanes import BY_ARRIVAL, BY_EVENT, BY_SPIKE, NO_JUMP
from .rows import Channels, Rows

_Reals = Float[Array, "batch neurons"]
_Bools = Bool[Array, "batch neurons"]


class Standing(NamedTuple):
    """Where neurons stand at the start of a step.

    - `below`: can cross the threshold from below.
    - `passing`: has spiked and has to fall below the threshold before it can spike again.
    - `instant`: the jump that just happened is a spike, or another event.
    - `stuck`: its reset led to where it would spike again at once, and forever.
    """

    below: _Bools
    passing: _Bools
    instant: _Bools
    stuck: _Bools


class Situation(eqx.Module):
    """What has just happened to neurons.

    - `jump`: what moved the state at this instant, as in `lanes`.
    - `passing`: as in `Standing`, before this step.
    - `g_at_spike`: the spike condition just before the last reset.
    - `settled`: whether nothing more arrives at this instant.
    - `width`: how long an instant lasts.
    """

    jump: Int[Array, "batch neurons"]
    passing: _Bools
    g_at_spike: _Reals
    settled: _Bools
    width: _Reals

    def stand(self, g: _Reals, slope: _Reals) -> Standing:
        """Where neurons stand whose spike condition is `g`, with the `slope` dg/dt along the trajectory.

        After a jump, `g` of 0 or more is a spike at that instant, except in two cases. A reset that leaves `g` as it
        was lets the neuron spike once at each upward passage. And a neuron whose `g` falls after its own reset has to
        come from below again. A reset after which `g` is 0 or more and rises would be followed by the next spike at
        once.
        """
        spiked, falls = self.jump == BY_SPIKE, slope < 0
        # Below by less than what passes in an instant is still at the threshold: a crossing is only located so far.
        left = self.settled & (g < -jnp.abs(slope) * self.width)
        passing = (self.passing | (spiked & ((g == self.g_at_spike) | falls))) & ~left
        high = (self.jump != NO_JUMP) & self.settled & (g >= 0) & ~passing
        # An event that is not a spike may have changed the condition, as the end of refractoriness does: what is above
        # the threshold then spikes, unless it falls through the threshold at this very instant.
        from_above = high & falls & (self.jump == BY_EVENT) & (g <= -slope * self.width)
        stuck = high & spiked
        passing = passing | from_above
        return Standing(~passing & (g < 0), passing, high & ~from_above & ~stuck, stuck)


def next_jump(
    before: Int[Array, "batch neurons"], arrived: _Bools, crossed: _Bools, spiked: _Bools
) -> Int[Array, "batch neurons"]:
    """What moved the state last: the new event, or what it was `before`."""
    jump = jnp.where(arrived, BY_ARRIVAL, before)
    return jnp.where(crossed, jnp.where(spiked, BY_SPIKE, BY_EVENT), jump).astype(jnp.int32)


class AfterReset(NamedTuple):
    """What the next step has to know of a reset.

    - `passing`: the model does not reset this neuron.
    - `g_at_spike`: the spike condition just before, NaN where the state is the same before and after.
    """

    passing: _Bools
    g_at_spike: _Reals


def after_reset(rows: Rows, y: Channels, y_new: Channels, g: _Reals, spiked: _Bools) -> AfterReset:
    """From a state `y` with spike condition `g`, which the reset of neurons that `spiked` takes to `y_new`.

    Whether a model resets cannot be seen at a single state: one that is reset to 2 stays where it is at 2. So the reset
    is tried at another one as well.
    """
    same = _equal(y, y_new)
    beside = tuple(channel + 1 for channel in y)
    return AfterReset(spiked & same & _equal(beside, rows.reset(beside, spiked)), jnp.where(same, jnp.nan, g))


def _equal(y: Channels, other: Channels) -> _Bools:
    """Whose states are the same."""
    equal = y[0] == other[0]
    for a, b in zip(y[1:], other[1:], strict=True):
        equal = equal & (a == b)
    return equal
