"""One iteration of the event loop: one solver step for every neuron that is still running."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..materialise import materialised
from .control import AbstractControl
from .crossing import Bracket, Inside, condition_and_slope, crossing_resolution, look_inside, shortest_step
from .instants import instant_width, rounding_width, time_at
from .lanes import (
    ARRIVAL,
    BY_SPIKE,
    END,
    FINE,
    INSTANT,
    NO_JUMP,
    NOT_FINITE,
    NOTHING,
    POLISHING,
    PROBING,
    RESET_HIGH,
    ROOT,
    STEP,
    STEP_SMALL,
    STEPPING,
    Arrivals,
    Lanes,
)
from .rows import Channels, Rows, all_finite, select
from .standing import Situation, Standing, after_reset, next_jump
from .step import AbstractSolver, AbstractStepper

_Reals = Float[Array, "batch neurons"]
_Bools = Bool[Array, "batch neurons"]

# A closed form that starts above its threshold is followed in steps that double, the first of which is this fraction of
# the way to the next arrival.
FIRST_STEP_ABOVE = 1e-6


class Physics(eqx.Module):
    """Everything about a layer that does not change during a run.

    Times are counted from the `origin` of `rows`.

    - `passing`: which neurons have spiked before the run and have not been below their threshold since.
    - `t_end`: when the run ends.
    - `final`: whether the run ends for good, and does not go on in another one. It then includes all of the instant
        `t_end`.
    """

    rows: Rows
    weights: Float[Array, "batch inputs neurons *ports"]
    arrivals: Arrivals
    passing: _Bools
    t_end: Float[Array, " batch"]
    final: Bool[Array, " batch"]
    stepper: AbstractStepper
    control: AbstractControl
    stop_after: int | None = eqx.field(static=True)
    min_slope: float = eqx.field(static=True)

    @property
    def t_stop(self) -> Float[Array, " batch"]:
        """The end of the run, to the end of its last instant."""
        return jnp.where(self.final, self.t_end + self.instant_width(self.t_end), self.t_end)

    def instant_width(self, t: Float[Array, "batch *neurons"]) -> Float[Array, "batch *neurons"]:
        """How far apart two times near `t` may lie and still be the same instant."""
        return instant_width(self.rows.since_zero(t))

    def rounding_width(self, t: Float[Array, "batch *neurons"]) -> Float[Array, "batch *neurons"]:
        """How far apart two times near `t` may lie and still be rounded to the same number."""
        return rounding_width(self.rows.since_zero(t))


class Event(NamedTuple):
    """What became of an iteration: its kind, the size of the step, dg/dt at its end, and whether it emits a spike."""

    kind: Int[Array, "batch neurons"]
    h: _Reals
    slope: _Reals
    spiked: _Bools


class _Plan(NamedTuple):
    """Where each lane goes next: a step of size `h`, at most to `limit`, which is `room` away."""

    h: _Reals
    limit: _Reals
    room: _Reals
    to_limit: _Bools  # the step ends exactly at the limit
    arrives: _Bools  # the limit is an arrival
    settled: _Bools  # nothing more arrives at this instant


class _Attempt(NamedTuple):
    """What the step gave."""

    standing: Standing
    g0: _Reals
    y1: Channels
    g1: _Reals
    d1: _Reals
    inside: Inside
    keep: _Bools
    next_h: _Reals
    memory: PyTree


class _Verdict(NamedTuple):
    """What becomes of the step, as an event kind, and what the lane looks for next."""

    kind: Int[Array, "batch neurons"]
    search: Int[Array, "batch neurons"]
    bracket: Bracket
    decided: _Bools  # the step size controller's word counts


@eqx.filter_jit
def iterate(physics: Physics, lanes: Lanes) -> tuple[Lanes, Event]:
    """Advance every running lane by one step, or by one try at a step."""
    plan = _plan(physics, lanes)
    if isinstance(physics.stepper, AbstractSolver):
        attempt = _attempt(physics, physics.stepper, lanes, plan)
        verdict = _judge(physics, lanes, plan, attempt)
    else:
        plan, attempt, verdict = _go_exactly(physics, lanes, plan)
    return _carry_out(physics, lanes, plan, attempt, verdict)


def next_weights(
    weights: Float[Array, "batch inputs neurons *ports"], sources: Int[Array, "batch neurons"]
) -> Float[Array, "batch neurons *ports"]:
    """The weight with which a spike from each lane's source reaches that lane."""
    if weights.shape[1] == 0:
        return jnp.zeros((*sources.shape, *weights.shape[3:]), weights.dtype)
    neurons = jnp.arange(weights.shape[2])
    if weights.shape[0] == 1:
        return weights[0, sources, neurons]
    return weights[jnp.arange(weights.shape[0])[:, None], sources, neurons]


def after_event(
    rows: Rows, y: Channels, arrived: _Bools, weights: Float[Array, "batch neurons *ports"], spiked: _Bools
) -> Channels:
    """The state after the arrival or the spike that ends a step, if there is one."""
    y_arrived, y_reset = rows.arrive(y, weights), rows.reset(y, spiked)
    return select(arrived, y_arrived, select(spiked, y_reset, y))


def _plan(physics: Physics, lanes: Lanes) -> _Plan:
    due = from_list(physics.arrivals.times, lanes.arrival, jnp.inf)
    t_stop, width = physics.t_stop[:, None], physics.instant_width(lanes.t)
    arrives = due <= t_stop
    limit = jnp.where(arrives, due, t_stop)
    room = jnp.maximum(lanes.time.until(limit), 0)
    # At the end of a run that goes on in another one, the threshold is tested at the start of that.
    closes = arrives | ~physics.final[:, None]
    unsettled = closes & (lanes.jump != NO_JUMP) & (lanes.instant + room <= width)
    stepping = lanes.search == STEPPING
    # What is left after the step would be no step, but rounding.
    to_limit = stepping & ~lanes.done & (unsettled | (lanes.h >= room - physics.instant_width(limit)))
    h = jnp.where(lanes.done, 0, jnp.where(to_limit, room, jnp.where(stepping, lanes.h, lanes.bracket.x)))
    return _Plan(h, limit, room, to_limit, arrives, ~unsettled)


def _situation(physics: Physics, lanes: Lanes, plan: _Plan) -> Situation:
    width = physics.instant_width(lanes.t)
    return Situation(lanes.jump, lanes.passing, lanes.bracket.last_g, plan.settled, width)


def _attempt(physics: Physics, solver: AbstractSolver, lanes: Lanes, plan: _Plan) -> _Attempt:
    rows, h = physics.rows, plan.h

    def step(t, y, h):
        return solver.step(rows, t, y, h)

    def look(t, y, h, step, memory):
        g0, d0 = condition_and_slope(rows, t, y, step.slope0)
        g1, d1 = condition_and_slope(rows, t + h, step.y1, step.slope1)
        standing = _situation(physics, lanes, plan).stand(g0, d0)
        inside = look_inside(g0, d0, g1, d1, h, standing.passing)
        keep, next_h, memory = physics.control.decide(y, step.y1, step.error, h, memory)
        return _Attempt(standing, g0, step.y1, g1, d1, inside, keep, next_h, memory)

    running = ~jnp.all(lanes.done)
    result = materialised(running, step, lanes.t, lanes.y, h)
    return materialised(running, look, lanes.t, lanes.y, h, result, lanes.memory)


def _judge(physics: Physics, lanes: Lanes, plan: _Plan, attempt: _Attempt) -> _Verdict:
    h, g1, d1, inside = plan.h, attempt.g1, attempt.d1, attempt.inside
    (below, passing, instant, stuck), emits = attempt.standing, physics.rows.emits(attempt.y1)
    width = physics.instant_width(plan.limit)
    moving = h > 0
    stepping = (lanes.search == STEPPING) & ~lanes.done & ~instant & ~stuck
    kept = stepping & moving & attempt.keep & all_finite(attempt.y1)

    # A whole step either crosses the threshold, or may do so inside, or is just a step. From above, what may lie inside
    # is a dip below the threshold.
    internal_next = plan.to_limit & ~emits & (d1 > 0) & (g1 + d1 * width >= 0)
    crosses = kept & below & plan.settled & ((g1 >= 0) | internal_next)
    probe = kept & ~crosses & (below | passing) & plan.settled & inside.touches
    whole = (kept & ~crosses & ~probe) | (stepping & ~moving & plan.to_limit)

    # A try inside the step: at the top of a suspected peak, or at the crossing.
    probing, polishing = lanes.search == PROBING, lanes.search == POLISHING
    just_a_step = probing & ((g1 < 0) | passing)
    refined, found = lanes.bracket.refine(g1, d1, crossing_resolution(lanes.bracket.high))
    found = polishing & found
    # A spike at the time of an arrival is decided by the arrival; the end of refractoriness comes before it.
    meets_arrival = found & plan.arrives & emits & (plan.room - h <= physics.rounding_width(plan.limit))
    enter = crosses | (probing & ~just_a_step)

    stops = (whole & plan.to_limit) | meets_arrival
    kind = _first_of(
        (instant, INSTANT),
        (stops & plan.arrives, ARRIVAL),
        (stops, END),
        (found, ROOT),
        (whole | just_a_step, STEP),
        otherwise=jnp.full(h.shape, NOTHING, jnp.int32),
    )
    search = _first_of(
        (probe, PROBING), (enter | (polishing & ~found), POLISHING), otherwise=jnp.full(h.shape, STEPPING, jnp.int32)
    )
    # A step that ends just below the threshold has its event at the end.
    guess = jnp.where(g1 < 0, h, inside.x_root * h)
    bracket = jax.tree.map(
        lambda old, peak, new: jnp.where(polishing, old, jnp.where(probe, peak, new)),
        refined,
        Bracket(h, h, inside.x_peak * h, h, h),
        Bracket(jnp.zeros_like(h), h, guess, guess, g1),
    )
    return _Verdict(kind, search, bracket, stepping & moving & ~crosses & ~probe)


def _go_exactly(physics: Physics, lanes: Lanes, plan: _Plan) -> tuple[_Plan, _Attempt, _Verdict]:
    """In closed form: at once to the crossing, or to the limit."""
    rows, t = physics.rows, lanes.t
    running = ~jnp.all(lanes.done)
    g0, d0 = condition_and_slope(rows, t, lanes.y, rows.dynamics(t, lanes.y))
    standing = _situation(physics, lanes, plan).stand(g0, d0)
    # From above the threshold, in steps until it is below.
    begin = jnp.maximum(FIRST_STEP_ABOVE * plan.room, shortest_step(physics.t_end)[:, None])
    wish = jnp.where(jnp.isfinite(lanes.h), 2 * lanes.h, begin)
    wish = jnp.where(standing.passing, wish, jnp.inf)
    h = jnp.where(lanes.done, 0, jnp.minimum(plan.room, wish))
    below = standing.below & plan.settled & (h > 0)
    fraction = jnp.full_like(h, jnp.finfo(h.dtype).eps)
    y_end = materialised(running, lambda y, h: rows.after(y, h), lanes.y, h)
    s, y_there = rows.first_crossing(lanes.y, y_end, h, fraction, below)
    crosses, width = below & (s <= h), physics.instant_width(plan.limit)
    y1 = select(crosses, y_there, y_end)
    emits = rows.emits(y1)
    # As in `_judge`: a spike at the instant of an arrival is decided by it, but other events come before it.
    waits = crosses & plan.arrives & emits & (plan.room - s <= physics.rounding_width(plan.limit))
    crosses, y1 = crosses & ~waits, select(waits, y_end, y1)
    h = jnp.where(crosses, s, h)
    g1, d1 = condition_and_slope(rows, t + h, y1, rows.dynamics(t + h, y1))
    short = h < plan.room
    internal_next = below & ~short & ~emits & (d1 > 0) & (g1 + d1 * width >= 0)
    root = crosses | internal_next
    kind = _first_of(
        (standing.instant, INSTANT),
        (root, ROOT),
        (short, STEP),
        (plan.arrives, ARRIVAL),
        otherwise=jnp.full(h.shape, END, jnp.int32),
    )
    every, nowhere = jnp.ones(h.shape, bool), Inside(h, h, jnp.zeros(h.shape, bool))
    next_h = jnp.where(short & ~root, h, jnp.inf)
    attempt = _Attempt(standing, g0, y1, g1, d1, nowhere, every, next_h, lanes.memory)
    bracket = eqx.tree_at(lambda bracket: bracket.last_g, lanes.bracket, g1)
    verdict = _Verdict(kind, lanes.search, bracket, every)
    # Spikes without any time between them would never end.
    again = root & (lanes.jump == BY_SPIKE)
    return plan._replace(h=h, to_limit=~again & ~short), attempt, verdict


def _carry_out(
    physics: Physics, lanes: Lanes, plan: _Plan, attempt: _Attempt, verdict: _Verdict
) -> tuple[Lanes, Event]:
    kind = jnp.where(lanes.done, NOTHING, verdict.kind)
    arrived, crossed, instant = kind == ARRIVAL, kind >= ROOT, kind == INSTANT
    h = jnp.where(instant, 0, plan.h)
    sources = from_list(physics.arrivals.sources, lanes.arrival, 0)
    y_end = select(h > 0, attempt.y1, lanes.y)
    y = after_event(physics.rows, y_end, arrived, next_weights(physics.weights, sources), crossed)
    y = select(kind == NOTHING, lanes.y, y)
    at_limit = arrived | (kind == END) | (crossed & (h >= plan.room))
    still = (kind == NOTHING) | instant
    moved, limit = lanes.time.after(h), time_at(plan.limit)
    time = jax.tree.map(
        lambda old, there, new: jnp.where(still, old, jnp.where(at_limit, there, new)), lanes.time, limit, moved
    )

    too_small = (lanes.search == STEPPING) & (h > 0) & ~plan.to_limit & (h < shortest_step(physics.t_end)[:, None])
    broken = (verdict.decided & attempt.keep & ~all_finite(attempt.y1)) | ~all_finite(y)
    status = _first_of(
        (broken, NOT_FINITE), (attempt.standing.stuck, RESET_HIGH), (too_small, STEP_SMALL), otherwise=lanes.status
    )
    status = jnp.where(lanes.done, lanes.status, status)
    kind = jnp.where(status == FINE, kind, NOTHING)
    emitted = (kind >= ROOT) & physics.rows.emits(y_end)
    spikes = lanes.spikes + emitted.astype(jnp.int32)
    done = lanes.done | (kind == END) | (status != FINE)
    if physics.stop_after is not None:
        done = done | (spikes >= physics.stop_after)

    # A step cut short by an arrival says nothing against the longer one proposed before.
    next_h = jnp.where(attempt.keep & plan.to_limit, jnp.maximum(attempt.next_h, lanes.h), attempt.next_h)
    moved_on = kind != NOTHING
    crossed = kind >= ROOT
    before = jnp.where(moved_on, NO_JUMP, lanes.jump)
    g_end = jnp.where(instant, attempt.g0, verdict.bracket.last_g)
    reset = after_reset(physics.rows, y_end, y, g_end, emitted)
    last_g = jnp.where(crossed, reset.g_at_spike, verdict.bracket.last_g)
    new = Lanes(
        time=time,
        y=y,
        h=jnp.where(verdict.decided, next_h, lanes.h),
        memory=jax.tree.map(lambda a, b: jnp.where(verdict.decided, a, b), attempt.memory, lanes.memory),
        arrival=lanes.arrival + arrived.astype(jnp.int32),
        search=verdict.search,
        bracket=eqx.tree_at(lambda bracket: bracket.last_g, verdict.bracket, last_g),
        jump=next_jump(before, kind == ARRIVAL, crossed, emitted),
        instant=jnp.where(moved_on, jnp.where(plan.settled & (h > 0), 0, lanes.instant + h), lanes.instant),
        passing=reset.passing | (attempt.standing.passing & ~crossed),
        spikes=spikes,
        segments=lanes.segments + (kind != NOTHING).astype(jnp.int32),
        done=done,
        status=status,
    )
    return new, Event(kind, h, attempt.d1, emitted)


def from_list(table: Float[Array, "batch lists arrivals"], index: Int[Array, "batch neurons"], beyond):
    """The entry of each lane's list of arrivals at `index`, or `beyond` if the list is shorter."""
    _, lists, length = table.shape
    if length == 0:
        return jnp.full(index.shape, beyond, table.dtype)
    place = jnp.minimum(index, length - 1)
    if lists == 1:
        value = jnp.take_along_axis(table[:, 0], place, axis=1)
    else:
        value = jnp.take_along_axis(table, place[..., None], axis=2)[..., 0]
    return jnp.where(index < length, value, jnp.asarray(beyond, table.dtype))


def _first_of(*cases: tuple[_Bools, int], otherwise: Int[Array, "batch neurons"]) -> Int[Array, "batch neurons"]:
    """The code of the first case that holds. `jnp.select` would look for it with a slow reduction."""
    for holds, code in reversed(cases):
        otherwise = jnp.where(holds, jnp.int32(code), otherwise)
    return otherwise
