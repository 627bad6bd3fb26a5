"""How the neurons of a network move together: by a solver, or in closed form.

Both say of a step of all neurons where each of them may cross its threshold, and where exactly one of them does.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from ...flows.linear import LinearFlow
from ...materialise import materialised
from ..closed_form.threshold import locate
from ..control import AbstractControl
from ..crossing import Bracket, condition_and_slope, crossing_resolution, look_inside
from ..iteration import FIRST_STEP_ABOVE
from ..rows import Channels, Rows, flow_of
from ..standing import Situation, Standing
from ..step import AbstractSolver, AbstractStepper, ExactStepper
from .clock import FREE, NO_SPIKE

# The search for a crossing ends much earlier: each round at least halves a bracket once its first guess has failed.
_MAX_ROUNDS = 100

_Reals = Float[Array, "batch neurons"]
_Bools = Bool[Array, "batch neurons"]
_Each = Float[Array, " batch"]


class Look(eqx.Module):
    """What a step of all neurons showed.

    - `standing`: where neurons stand at its start, and `g0` their spike condition there.
    - `place`: where inside the step each may cross its threshold, or fall below it; infinite where it cannot.
    - `crosses`: which neurons have crossed it at the end; the others may do so in between.
    - `g1`, `slope`: the spike condition at its end, and dg/dt there.
    - `keep`, `next_h`, `memory`: what the step size controller says.
    """

    standing: Standing
    g0: _Reals
    place: _Reals
    crosses: _Bools
    g1: _Reals
    slope: _Reals
    keep: Bool[Array, " batch"]
    next_h: _Each
    memory: PyTree


class Ahead(eqx.Module):
    """What a step of all neurons starts from, and where it leads.

    - `situation`: what has just happened to the neurons.
    - `arrives`: whether it ends at an arrival.
    - `width`: how long an instant lasts at its end.
    - `shortest`: the shortest step that a closed form takes.
    - `running`: whether any sample is not done.
    """

    situation: Situation
    arrives: Bool[Array, "batch 1"]
    width: Float[Array, "batch 1"]
    shortest: _Each
    running: Bool[Array, ""]

    def event_next(self, rows: Rows, y1: Channels, g1: _Reals, slope: _Reals) -> _Bools:
        """Which neurons have an event that is not a spike at the instant of the arrival: it comes before that."""
        return self.arrives & ~rows.emits(y1) & (slope > 0) & (g1 + slope * self.width >= 0)


class AbstractMotion(eqx.Module):
    """How a network moves between events. All neurons of a sample have the same time `t` and step size `h`."""

    stepper: eqx.AbstractVar[AbstractStepper]

    @abc.abstractmethod
    def start(self, y0: Channels, t_stop: _Each) -> tuple[_Each, PyTree]:
        """The size of the first step, and what the step size controller remembers."""

    @abc.abstractmethod
    def attempt(
        self, rows: Rows, t: _Reals, y: Channels, h: _Reals, memory: PyTree, ahead: Ahead
    ) -> tuple[Channels, Look]:
        """The state at the end of a step, and what it showed."""

    @abc.abstractmethod
    def locate(
        self,
        rows: Rows,
        t: _Each,
        y: Channels,
        h: _Each,
        lane: Int[Array, " batch"],
        look: Look,
        search: Bool[Array, " batch"],
    ) -> tuple[Int[Array, " batch"], _Each]:
        """For the samples in `search`: where neuron `lane` crosses, as the target and size of the next step."""

    def advance(self, rows: Rows, t: _Reals, y: Channels, h: _Reals) -> Channels:
        """The state at the end of a step."""
        return self.stepper.advance(rows, t, y, h)

    def linearise(self, rows: Rows, t: _Reals, y: Channels, h: _Reals) -> tuple[Channels, Channels, PyTree]:
        """The state at the end of a step, its derivative by `h`, and what `pull_back` wants to know."""
        return self.stepper.linearise(rows, t, y, h)

    def pull_back(
        self,
        rows: Callable[[PyTree], Rows],
        numbers: PyTree,
        t: _Reals,
        y: Channels,
        h: _Reals,
        known: PyTree,
        ct: Channels,
    ) -> tuple[PyTree, _Reals, Channels]:
        """From a cotangent of the end of a step to those of `numbers`, `t` and `y`, for fixed `h`."""
        return self.stepper.pull_back(rows, numbers, t, y, h, known, ct)


class NumericalMotion(AbstractMotion):
    """By the steps of a solver."""

    stepper: AbstractSolver
    control: AbstractControl

    def start(self, y0, t_stop):
        h, memory = self.control.init(y0)
        return jnp.min(h, axis=1), memory

    def attempt(self, rows, t, y, h, memory, ahead):
        step = materialised(ahead.running, lambda t, y, h: self.stepper.step(rows, t, y, h), t, y, h)

        def look(t, y, h, step, memory):
            g0, d0 = condition_and_slope(rows, t, y, step.slope0)
            g1, d1 = condition_and_slope(rows, t + h, step.y1, step.slope1)
            standing = ahead.situation.stand(g0, d0)
            inside = look_inside(g0, d0, g1, d1, h, standing.passing)
            crosses = standing.below & ((g1 >= 0) | ahead.event_next(rows, step.y1, g1, d1))
            touches = (standing.below | standing.passing) & ~crosses & inside.touches
            # A step that ends just below the threshold has its event at the end.
            root = jnp.where(g1 < 0, h, inside.x_root * h)
            place = jnp.where(crosses, root, jnp.where(touches, inside.x_peak * h, jnp.inf))
            keep, next_h, memory = self.control.decide(y, step.y1, step.error, h, memory)
            keep, next_h = jnp.all(keep, axis=1), jnp.min(next_h, axis=1)
            return Look(standing, g0, place, crosses, g1, d1, keep, next_h, memory)

        return step.y1, materialised(ahead.running, look, t, y, h, step, memory)

    def locate(self, rows, t, y, h, lane, look, search):
        lane, t, h = lane[:, None], t[:, None], h[:, None]
        sample = jnp.arange(lane.shape[0], dtype=jnp.int32)[:, None]
        numbers = jax.tree.map(lambda leaf: leaf[sample if leaf.shape[0] > 1 else 0, lane], rows.numbers)
        rows = rows.with_numbers(numbers)
        y, place, crosses, passing = jax.tree.map(
            lambda x: jnp.take_along_axis(x, lane, axis=1), (y, look.place, look.crosses, look.standing.passing)
        )

        def running(state: _Search):
            return jnp.any(state.active) & (state.rounds < _MAX_ROUNDS)

        def turn(state: _Search) -> _Search:
            x = state.bracket.x
            step = self.stepper.step(rows, t, y, x)
            g, slope = condition_and_slope(rows, t + x, step.y1, step.slope1)
            refined, found = state.bracket.refine(g, slope, crossing_resolution(state.bracket.high))
            # Above threshold at the peak: the crossing lies before it. Below, there is none. Nor is there one for a
            # neuron that comes from above, whatever its dip is like: the step ends at the dip.
            opened, _ = Bracket(jnp.zeros_like(x), x, x, x, g).refine(g, slope, jnp.zeros_like(x))
            below = state.probing & ((g < 0) | passing)
            ends = state.active & (below | (~state.probing & found))
            return _Search(
                bracket=jax.tree.map(lambda a, b: jnp.where(state.probing, a, b), opened, refined),
                probing=state.probing & ~state.active,
                active=state.active & ~ends,
                target=jnp.where(ends, jnp.where(below, NO_SPIKE, lane), state.target),
                x=jnp.where(ends, x, state.x),
                rounds=state.rounds + 1,
            )

        zero = jnp.zeros_like(h)
        bracket = Bracket(zero, h, place, place, zero)
        start = _Search(bracket, ~crosses, search[:, None], jnp.full(lane.shape, FREE, jnp.int32), h, jnp.int32(0))
        end = jax.lax.while_loop(running, turn, start)
        return end.target[:, 0], end.x[:, 0]


class _Search(eqx.Module):
    """The search for the crossing of one neuron of each sample: `probing` a peak, or closing in."""

    bracket: Bracket
    probing: Bool[Array, "batch 1"]
    active: Bool[Array, "batch 1"]
    target: Int[Array, "batch 1"]
    x: Float[Array, "batch 1"]
    rounds: Int[Array, ""]


class ExactMotion(AbstractMotion):
    """In closed form."""

    stepper: ExactStepper = ExactStepper()

    def start(self, y0, t_stop):
        return t_stop, ()

    def attempt(self, rows, t, y, h, memory, ahead):
        g0, d0 = condition_and_slope(rows, t, y, rows.dynamics(t, y))
        standing = ahead.situation.stand(g0, d0)
        below = standing.below & (h > 0)
        y1 = self.advance(rows, t, y, h)
        s = _first_crossing(rows, y, y1, h, below, ahead.running)
        g1, slope = condition_and_slope(rows, t + h, y1, rows.dynamics(t + h, y1))
        place = jnp.where(below & (s <= h), s, jnp.inf)
        next_to = below & ~jnp.isfinite(place) & ahead.event_next(rows, y1, g1, slope)
        place = jnp.where(next_to, h, place)
        # A step is as long as it may be, except while a neuron comes from above its threshold: until it is below, steps
        # double, since a closed form only says where the threshold is crossed from below.
        above, begins = standing.passing, standing.passing & ~ahead.situation.passing
        above, begins = jnp.any(above, axis=1), jnp.any(begins, axis=1)
        first = jnp.maximum(FIRST_STEP_ABOVE * h[:, 0], ahead.shortest)
        next_h = jnp.where(begins, first, jnp.where(above, 2 * h[:, 0], jnp.inf))
        return y1, Look(standing, g0, place, jnp.isfinite(place), g1, slope, ~begins, next_h, memory)

    def locate(self, rows, t, y, h, lane, look, search):
        x = jnp.take_along_axis(look.place, lane[:, None], axis=1)[:, 0]
        return jnp.where(search, lane, FREE), x


def _first_crossing(rows: Rows, y: Channels, y1: Channels, h: _Reals, below: _Bools, running) -> _Reals:
    if not rows.has_one_current:
        return rows.first_crossing(y, y1, h, jnp.full_like(h, jnp.finfo(h.dtype).eps), below)[0]
    flow = _linear_flow(rows)
    if flow.thresh is None:
        return jnp.full_like(h, jnp.inf)
    flow = jax.tree.map(lambda number: jnp.broadcast_to(number, h.shape), flow)
    crosses, s = locate(flow, y[0], y[1] if len(y) > 1 else None, h, below, running)
    return jnp.where(crosses, jnp.minimum(s, h), jnp.inf)


def _linear_flow(rows: Rows) -> LinearFlow:
    """The closed form of every sample's model: each number with the batch in front, or 1 where all share it."""

    def one(numbers) -> Any:
        return flow_of(eqx.combine(numbers, rows.rest))

    shared = all(leaf.shape[0] == 1 for leaf in jax.tree.leaves(rows.numbers))
    if shared:
        return jax.tree.map(lambda leaf: leaf[None], one(jax.tree.map(lambda leaf: leaf[0], rows.numbers)))
    axes = jax.tree.map(lambda leaf: None if leaf.shape[0] == 1 else 0, rows.numbers)
    numbers = jax.tree.map(lambda leaf: leaf[0] if leaf.shape[0] == 1 else leaf, rows.numbers)
    return jax.vmap(one, in_axes=(axes,))(numbers)
