"""What a network carries from one iteration to the next when all its neurons share a clock."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..instants import PreciseTime, time_at
from ..lanes import BY_ARRIVAL, Arrivals
from ..rows import Channels

# Where the next step goes: as far as it likes, or to a place inside where no neuron spikes. From 0 on it is the number
# of the neuron that spikes there.
FREE, NO_SPIKE = -2, -1


class Wiring(eqx.Module):
    """How spikes travel in a network.

    - `weights`: a row for each neuron, then one for each input channel.
    - `delays`: from neuron to neuron, infinite where there is no connection; `None` if all arrive at once.
    - `inputs`: the input spikes as they arrive, with the rows of `weights` as sources.
    """

    weights: Float[Array, "batch rows neurons *ports"]
    delays: Float[Array, "batch neurons neurons"] | None
    inputs: Arrivals


class Queue(eqx.Module):
    """Spikes on their way to every neuron, in any order.

    - `times`: when they arrive, infinite where there is none.
    - `sources`, `slots`: which neuron emitted each, and where it stands in the list of spikes.
    - `sent`: where the last spike of each neuron stands in that list.
    """

    times: PreciseTime
    sources: Int[Array, "batch neurons pending"]
    slots: Int[Array, "batch neurons pending"]
    sent: Int[Array, "batch neurons"]


class Clock(eqx.Module):
    """The state of every sample's network, each sample at its own time.

    - `time`, `y`: clock, and state of the neurons.
    - `h`, `memory`: the size proposed for the next step, and what the step size controller remembers.
    - `arrival`: how many input spikes have arrived, for each list of them.
    - `waiting`: which neurons have spiked at this instant and have not been heard yet, or not sent their spike on
        its way.
    - `queue`: the spikes on their way, if there are delays.
    - `target`, `x`: where the next step goes, and its size if it is not free.
    - `tied`: which neurons cross together with the target.
    - `instant`: how long ago this instant began.
    - `jump`: what moved the state of each neuron at this instant, as in `lanes`.
    - `passing`: which neurons have spiked and have not been below their threshold since.
    - `g_at_spike`: the spike condition just before the last reset.
    - `spikes`: how many spikes each neuron emitted, and `at_once` how many the network did at this instant.
    - `segments`: how many segments there were so far.
    - `done`, `status`: whether the sample ended, and how each neuron did.
    """

    time: PreciseTime
    y: Channels
    h: Float[Array, " batch"]
    memory: PyTree
    arrival: Int[Array, "batch lists"]
    waiting: Bool[Array, "batch neurons"]
    queue: Queue | None
    target: Int[Array, " batch"]
    x: Float[Array, " batch"]
    tied: Bool[Array, "batch neurons"]
    instant: Float[Array, " batch"]
    jump: Int[Array, "batch neurons"]
    passing: Bool[Array, "batch neurons"]
    g_at_spike: Float[Array, "batch neurons"]
    spikes: Int[Array, "batch neurons"]
    at_once: Int[Array, " batch"]
    segments: Int[Array, "batch 1"]
    done: Bool[Array, " batch"]
    status: Int[Array, "batch neurons"]

    @property
    def t(self) -> Float[Array, " batch"]:
        """What the clocks show, rounded."""
        return self.time.t


def start_clock(y0: Channels, h: Float[Array, " batch"], memory: PyTree, lists: int, pending: int) -> Clock:
    """All samples at time 0, with room for `pending` spikes on their way to a neuron.

    The state just begun counts as a jump.
    """
    batch, neurons = y0[0].shape
    zero, nought = jnp.zeros((batch,), y0[0].dtype), jnp.zeros((batch,), jnp.int32)
    no = jnp.zeros((batch, neurons), bool)
    queue = None
    if pending:
        room = (batch, neurons, pending)
        nowhere = jnp.full((batch, neurons), -1, jnp.int32)
        times, nobody = time_at(jnp.full(room, jnp.inf, zero.dtype)), jnp.zeros(room, jnp.int32)
        queue = Queue(times, nobody, nobody - 1, nowhere)
    return Clock(
        time=time_at(zero),
        y=y0,
        h=h,
        memory=memory,
        arrival=jnp.zeros((batch, lists), jnp.int32),
        waiting=no,
        queue=queue,
        target=nought + FREE,
        x=zero,
        tied=no,
        instant=zero,
        jump=jnp.full((batch, neurons), BY_ARRIVAL, jnp.int32),
        passing=no,
        g_at_spike=jnp.zeros((batch, neurons), zero.dtype),
        spikes=jnp.zeros((batch, neurons), jnp.int32),
        at_once=nought,
        segments=nought[:, None],
        done=nought > 0,
        status=jnp.zeros((batch, neurons), jnp.int32),
    )
