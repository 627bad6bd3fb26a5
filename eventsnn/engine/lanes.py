"""What the engine carries from one iteration to the next."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from .crossing import Bracket
from .instants import PreciseTime, time_at
from .rows import Channels

# What a lane did in one iteration. Everything from ROOT on is a spike.
NOTHING, STEP, ARRIVAL, END, ROOT, INSTANT = range(6)

# Where an event that is not a spike stands in the list of spikes: behind the longest.
NO_SLOT = 2**30

# What a lane is looking for: nothing, the top of a peak that may touch the threshold, or a crossing.
STEPPING, PROBING, POLISHING = range(3)

# What moved the state of a lane at this instant: nothing; an arrival, or the start of the run; an event of its own that
# is not a spike; the reset of a spike.
NO_JUMP, BY_ARRIVAL, BY_EVENT, BY_SPIKE = range(4)

# How a lane ended.
FINE, NOT_FINITE, RESET_HIGH, STEP_SMALL, TOO_LONG, ENDLESS, QUEUE_FULL, MANY_WINDOWS = range(8)


class Arrivals(eqx.Module):
    """The spikes that reach a layer, in lists sorted by time, `inf` behind the last.

    There is one list for all neurons of the layer, or one for each where spikes reach them at different times.

    - `times`: when.
    - `sources`: the row of the weight matrix that each comes through.
    """

    times: Float[Array, "*batch lists arrivals"]
    sources: Int[Array, "*batch lists arrivals"]


class Lanes(eqx.Module):
    """The state of every neuron of every sample, each at its own time.

    - `time`, `y`: clock and state.
    - `h`, `memory`: the size proposed for the next step, and what the step size controller remembers.
    - `arrival`: index of the next arrival.
    - `search`: what the lane is looking for, and `bracket` where inside the step.
    - `jump`: what moved the state at this instant, so that the threshold is tested again.
    - `instant`: how long ago this instant began.
    - `passing`: whether the neuron has spiked and has not been below its threshold since. It spikes again only after it
        has been there.
    - `spikes`, `segments`: how many spikes and accepted steps there were so far.
    - `done`, `status`: whether and how it ended.
    """

    time: PreciseTime
    y: Channels
    h: Float[Array, "batch neurons"]
    memory: PyTree
    arrival: Int[Array, "batch neurons"]
    search: Int[Array, "batch neurons"]
    bracket: Bracket
    jump: Int[Array, "batch neurons"]
    instant: Float[Array, "batch neurons"]
    passing: Bool[Array, "batch neurons"]
    spikes: Int[Array, "batch neurons"]
    segments: Int[Array, "batch neurons"]
    done: Bool[Array, "batch neurons"]
    status: Int[Array, "batch neurons"]

    @property
    def t(self) -> Float[Array, "batch neurons"]:
        """What the clocks show, rounded."""
        return self.time.t

    def ended(self) -> Int[Array, "batch neurons"]:
        """How each lane ended, for those that did not end as well."""
        return jnp.where(self.done, self.status, TOO_LONG)


class Segment(eqx.Module):
    """A step from (`t`, `y`) of size `h`, and the event at its end.

    `slot` is where a spike stands in the list, `NO_SLOT` for any other event.
    """

    kind: Int[Array, "*steps batch neurons"]
    t: Float[Array, "*steps batch neurons"]
    h: Float[Array, "*steps batch neurons"]
    slot: Int[Array, "*steps batch neurons"]
    y: tuple[Float[Array, "*steps batch neurons"], ...]


def start_lanes(
    y0: Channels, passing: Bool[Array, "batch neurons"], h: Float[Array, "batch neurons"], memory: PyTree
) -> Lanes:
    """All lanes at the start of the run; the state just begun counts as a jump."""
    zero = jnp.zeros_like(y0[0])
    nought = jnp.zeros(zero.shape, jnp.int32)
    no = jnp.zeros(zero.shape, bool)
    return Lanes(
        time=time_at(zero),
        y=y0,
        h=h,
        memory=memory,
        arrival=nought,
        search=nought,
        bracket=Bracket(zero, zero, zero, zero, zero),
        jump=nought + BY_ARRIVAL,
        instant=zero,
        passing=passing,
        spikes=nought,
        segments=nought,
        done=no,
        status=nought,
    )
