"""One iteration of the event loop: one solver step for every neuron that is still running."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from ..materialise import materialised
from .control import AbstractControl
from .crossing import PEAK_MARGIN, Bracket, Cubic, condition_and_slope, shortest_step, time_resolution
from .lanes import (
    ARRIVAL,
    END,
    FINE,
    INSTANT,
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
from .step import AbstractSolver, AbstractStepper

_Reals = Float[Array, "batch neurons"]
_Bools = Bool[Array, "batch neurons"]


class Physics(eqx.Module):
    """Everything about a layer that does not change during a run."""

    rows: Rows
    weights: Float[Array, "batch inputs neurons *ports"]
    arrivals: Arrivals
    t_start: Float[Array, " batch"]
    t_end: Float[Array, " batch"]
    stepper: AbstractStepper
    control: AbstractControl
    stop_after: int | None = eqx.field(static=True)
    min_slope: float = eqx.field(static=True)


class Event(NamedTuple):
    """What became of an iteration: its kind, the size of the step, dg/dt at its end, and whether it emits a spike."""

    kind: Int[Array, "batch neurons"]
    h: _Reals
    slope: _Reals
    spiked: _Bools


class _Plan(NamedTuple):
    """Where each lane goes next: a step of size `h`, at most to `limit`."""

    h: _Reals
    limit: _Reals
    g0: _Reals
    to_limit: _Bools  # the step ends exactly at the limit
    arrives: _Bools  # the limit is an arrival
    instant: _Bools  # no step: the jump that just happened is a spike


class _Attempt(NamedTuple):
    """What the step gave."""

    y1: Channels
    g1: _Reals
    d1: _Reals
    peak: _Reals
    x_peak: _Reals
    x_root: _Reals
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
        verdict = _judge(lanes, plan, attempt)
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
    t_end = physics.t_end[:, None]
    arrives = due <= t_end
    limit = jnp.where(arrives, due, t_end)
    g0 = physics.rows.condition(lanes.t, lanes.y)
    instant = lanes.jumped & (due > lanes.t) & (g0 >= 0) & ~lanes.done
    stepping = lanes.search == STEPPING
    still = lanes.done | instant
    room = limit - lanes.t
    to_limit = stepping & ~still & (lanes.h >= room) | (lanes.t + lanes.h >= limit) & stepping & ~still
    h = jnp.where(still, 0, jnp.where(to_limit, room, jnp.where(stepping, lanes.h, lanes.bracket.x)))
    return _Plan(h, limit, g0, to_limit, arrives, instant)


def _attempt(physics: Physics, solver: AbstractSolver, lanes: Lanes, plan: _Plan) -> _Attempt:
    rows, h = physics.rows, plan.h

    def step(t, y, h):
        return solver.step(rows, t, y, h)

    def look(t, y, h, step, memory):
        g0, d0 = condition_and_slope(rows, t, y, step.slope0)
        g1, d1 = condition_and_slope(rows, t + h, step.y1, step.slope1)
        cubic = Cubic(g0, g1, h * d0, h * d1)
        x_peak, peak = cubic.peak()
        x_root = cubic.first_root(jnp.where(peak >= 0, x_peak, 1))
        keep, next_h, memory = physics.control.decide(y, step.y1, step.error, h, memory)
        return _Attempt(step.y1, g1, d1, peak, x_peak, x_root, keep, next_h, memory)

    running = ~jnp.all(lanes.done)
    result = materialised(running, step, lanes.t, lanes.y, h)
    return materialised(running, look, lanes.t, lanes.y, h, result, lanes.memory)


def _judge(lanes: Lanes, plan: _Plan, attempt: _Attempt) -> _Verdict:
    h, g1, d1 = plan.h, attempt.g1, attempt.d1
    t1 = lanes.t + h
    resolution = time_resolution(t1)
    moving = h > 0
    stepping = (lanes.search == STEPPING) & ~lanes.done & ~plan.instant
    kept = stepping & moving & attempt.keep & all_finite(attempt.y1)

    # A whole step either crosses the threshold, or may do so inside, or is just a step.
    at_end = (g1 >= 0) | ((d1 > 0) & (g1 + d1 * resolution >= 0))
    crosses = kept & (plan.g0 < 0) & at_end
    height = attempt.peak - jnp.maximum(plan.g0, g1)
    touches = (attempt.peak + PEAK_MARGIN * height >= 0) & (attempt.x_peak * h > resolution)
    probe = kept & (plan.g0 < 0) & ~at_end & touches
    whole = (kept & ~crosses & ~probe) | (stepping & ~moving & plan.to_limit)

    # A try inside the step: at the top of a suspected peak, or at the crossing.
    probing, polishing = lanes.search == PROBING, lanes.search == POLISHING
    below = g1 < 0
    refined, found = lanes.bracket.refine(g1, d1, resolution)
    found = polishing & found
    # A crossing that cannot be told from an arrival is decided by the arrival.
    meets_arrival = found & plan.arrives & (t1 >= plan.limit)
    enter = crosses | (probing & ~below)

    stops = (whole & plan.to_limit) | meets_arrival
    kind = _first_of(
        (plan.instant, INSTANT),
        (stops & plan.arrives, ARRIVAL),
        (stops, END),
        (found, ROOT),
        (whole | (probing & below), STEP),
        otherwise=jnp.full(h.shape, NOTHING, jnp.int32),
    )
    search = _first_of(
        (probe, PROBING), (enter | (polishing & ~found), POLISHING), otherwise=jnp.full(h.shape, STEPPING, jnp.int32)
    )
    # A step that ends a rounding error below threshold ends at the crossing.
    guess = jnp.where(below, h, attempt.x_root * h)
    bracket = jax.tree.map(
        lambda old, peak, new: jnp.where(polishing, old, jnp.where(probe, peak, new)),
        refined,
        Bracket(h, h, attempt.x_peak * h, h, h),
        Bracket(jnp.zeros_like(h), h, guess, guess, g1),
    )
    return _Verdict(kind, search, bracket, stepping & moving & ~crosses & ~probe)


def _go_exactly(physics: Physics, lanes: Lanes, plan: _Plan) -> tuple[_Plan, _Attempt, _Verdict]:
    """In closed form: at once to the crossing, or to the limit."""
    rows, t = physics.rows, lanes.t
    running = ~jnp.all(lanes.done)
    below = (plan.g0 < 0) & (plan.h > 0)
    resolution = time_resolution(t + plan.h)
    y_end = materialised(running, lambda y, h: rows.after(y, h), lanes.y, plan.h)
    s, y_there = rows.first_crossing(lanes.y, y_end, plan.h, resolution / 4, below)
    # A crossing that cannot be told from an arrival is decided by the arrival.
    crosses = below & (s <= plan.h) & ~(plan.arrives & (t + s >= plan.limit))
    h = jnp.where(crosses, s, plan.h)

    y1 = select(crosses, y_there, y_end)
    g1, d1 = condition_and_slope(rows, t + h, y1, rows.dynamics(t + h, y1))
    # A run that ends a rounding error below threshold ends at the crossing.
    touches = below & ~plan.arrives & (d1 > 0) & (g1 + d1 * resolution >= 0)
    root = crosses | touches
    kind = _first_of(
        (plan.instant, INSTANT), (root, ROOT), (plan.arrives, ARRIVAL), otherwise=jnp.full(h.shape, END, jnp.int32)
    )
    none, every = jnp.full_like(h, -jnp.inf), jnp.ones(h.shape, bool)
    attempt = _Attempt(y1, g1, d1, none, none, none, every, jnp.full_like(h, jnp.inf), lanes.memory)
    verdict = _Verdict(kind, lanes.search, lanes.bracket, every)
    # Spikes without any time between them would never end.
    return plan._replace(h=h, to_limit=~(root & lanes.reset)), attempt, verdict


def _carry_out(
    physics: Physics, lanes: Lanes, plan: _Plan, attempt: _Attempt, verdict: _Verdict
) -> tuple[Lanes, Event]:
    kind = jnp.where(lanes.done, NOTHING, verdict.kind)
    arrived, spiked = kind == ARRIVAL, kind >= ROOT
    sources = from_list(physics.arrivals.sources, lanes.arrival, 0)
    y_end = select(plan.h > 0, attempt.y1, lanes.y)
    y = after_event(physics.rows, y_end, arrived, next_weights(physics.weights, sources), spiked)
    y = select(kind == NOTHING, lanes.y, y)
    t = jnp.where(arrived | (kind == END), plan.limit, jnp.minimum(lanes.t + plan.h, plan.limit))
    t = jnp.where((kind == NOTHING) | (kind == INSTANT), lanes.t, t)

    shortest = shortest_step(lanes.t, physics.t_end[:, None])
    too_small = (lanes.search == STEPPING) & (plan.h > 0) & ~plan.to_limit & (plan.h < shortest)
    broken = (verdict.decided & attempt.keep & ~all_finite(attempt.y1)) | ~all_finite(y)
    status = _first_of(
        (broken, NOT_FINITE), (plan.instant & lanes.reset, RESET_HIGH), (too_small, STEP_SMALL), otherwise=lanes.status
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
    new = Lanes(
        t=t,
        y=y,
        h=jnp.where(verdict.decided, next_h, lanes.h),
        memory=jax.tree.map(lambda a, b: jnp.where(verdict.decided, a, b), attempt.memory, lanes.memory),
        arrival=lanes.arrival + arrived.astype(jnp.int32),
        search=verdict.search,
        bracket=verdict.bracket,
        jumped=jnp.where(moved_on, arrived | spiked, lanes.jumped),
        reset=jnp.where(moved_on, emitted, lanes.reset),
        spikes=spikes,
        segments=lanes.segments + (kind != NOTHING).astype(jnp.int32),
        done=done,
        status=status,
    )
    return new, Event(kind, plan.h, attempt.d1, emitted)


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
