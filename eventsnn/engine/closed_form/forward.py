"""The forward run of a layer whose flow is linear.

All neurons of a sample go through its arrivals together, window by window: between arrivals that nobody answers
with a spike, the state is multiplied by numbers that depend on the arrivals alone. A neuron that may cross its
threshold stops there. When all have come to the end of the window or have stopped, those that stopped take turns:
their crossings are located, and they go on to the next stretch in which they may cross. So the costly part is done
as often as something spikes, and not as often as something arrives.
"""

from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...flows.linear import Coefficients, LinearFlow, MaybeArray
from ...materialise import materialised
from ..instants import PreciseTime, time_at
from ..lanes import FINE, NOT_FINITE, RESET_HIGH, STEP_SMALL
from ..spike_list import SpikeList, append_some, empty_list, put_some
from ..turns import Turn, serve_in_turns
from .schedule import Schedule, Stretches
from .threshold import locate, may_cross, slope_at_threshold

_Reals = Float[Array, "batch neurons"]
_Bools = Bool[Array, "batch neurons"]
_Integers = Int[Array, "batch neurons"]


class Layer(eqx.Module):
    """Everything about a layer that does not change during a run.

    - `flow`: every number has shape `(batch, neurons)`, with 1 where it is shared.
    - `weights`: with a row of zeros at the end, for no arrival.
    - `window`: how many stretches a window has.
    - `capacity`: a sample with more spikes than this is not worked through any further.
    - `stop_after`: a neuron is done after that many spikes; `None` for no such limit.
    """

    flow: LinearFlow
    weights: Float[Array, "batch inputs neurons"]
    schedule: Schedule
    window: int = eqx.field(static=True)
    capacity: int = eqx.field(static=True)
    stop_after: int | None = eqx.field(static=True)

    def arriving(self, stretches: Stretches) -> Float[Array, "stretches batch neurons"]:
        """The weights that arrive at the start of each stretch."""
        sample, neuron = jnp.arange(self.weights.shape[0]), jnp.arange(self.weights.shape[2])
        if stretches.sources.shape[-1] == 1:
            sources = stretches.sources[..., 0]
            return self.weights[0][sources] if len(sample) == 1 else self.weights[sample, sources]
        if len(sample) == 1:
            return self.weights[0, stretches.sources, neuron]
        return self.weights[sample[:, None], stretches.sources, neuron]


class Marks(eqx.Module):
    """What the reverse sweep needs to know about every spike, in the order of the spike list.

    - `current`: I at the spike.
    - `before`: where the last spike of the same neuron stands in the list, -1 if there is none.
    - `stretch`: in which stretch it is, counted from 1, and negative if the neuron was lifted over its threshold.
    """

    current: MaybeArray
    before: Int[Array, "batch capacity"]
    stretch: Int[Array, "batch capacity"]


class Neurons(eqx.Module):
    """The state of every neuron between windows.

    - `v`, `i`: the state just before the next window's first arrival.
    - `spikes`: how many spikes there were so far, and `last` where the last of them stands in the list.
    - `done`, `status`: whether and how it ended.
    - `time`: when its last spike was, or when it broke down.
    """

    v: _Reals
    i: MaybeArray
    spikes: _Integers
    last: _Integers
    done: _Bools
    status: _Integers
    time: PreciseTime

    @property
    def stopped(self) -> _Reals:
        """As `time`, rounded."""
        return self.time.t


class Run(eqx.Module):
    """A run in progress."""

    window: Int[Array, ""]
    neurons: Neurons
    spikes: SpikeList
    marks: Marks | None


class _Window(eqx.Module):
    """A window, and what all lanes need to know about it.

    - `through`: what becomes of a state that nobody disturbs, from the start of each stretch to its end.
    - `arriving`: the weights that arrive at the start of each.
    - `spans`: how long each is, and -1 where the threshold is not tested.
    """

    stretches: Stretches
    through: Coefficients
    arriving: Float[Array, "stretches batch neurons"]
    spans: Float[Array, "stretches batch lists"]


# V and I of every neuron at the start of every stretch of a window, just after the arrival.
Seen: TypeAlias = tuple[Array, MaybeArray] | None


def start_run(y0: tuple[_Reals, MaybeArray], capacity: int, slopes: bool, marked: bool) -> Run:
    """A run at its start with room for `capacity` spikes per sample; `marked` if it will be swept back."""
    v, i = y0
    batch = v.shape[0]
    nought = jnp.zeros(v.shape, jnp.int32)
    neurons = Neurons(v, i, nought, nought - 1, nought > 0, nought, time_at(jnp.zeros_like(v)))
    marks = None
    if marked:
        # Constants that differ are not one array, which would have to be copied for each column.
        room = (batch, capacity)
        current = None if i is None else jnp.full(room, -1, v.dtype)
        marks = Marks(current, jnp.full(room, -1, jnp.int32), jnp.full(room, -2, jnp.int32))
    return Run(jnp.zeros((), jnp.int32), neurons, empty_list(batch, capacity, v.dtype, slopes), marks)


def run_window(layer: Layer, run: Run, see: bool = False) -> tuple[Run, Seen]:
    """Work through the next window. Also, if wanted, the state just after every arrival."""
    window = _look_at_window(layer, run.window)
    neurons, stretch, seen = _go_together(layer, window, run.neurons, see)
    run = eqx.tree_at(lambda run: run.neurons, run, neurons)
    if layer.flow.thresh is not None:

        def serve(turn, carry):
            return _serve(layer, window, turn, *carry)

        run, _, seen = serve_in_turns(stretch < layer.window, serve, (run, stretch, seen), neurons.v.dtype)
    broken = ~jnp.isfinite(run.neurons.v)
    if run.neurons.i is not None:
        broken = broken | ~jnp.isfinite(run.neurons.i)
    broken = broken & ~run.neurons.done
    run = eqx.tree_at(
        lambda run: (run.window, run.neurons.status, run.neurons.done, run.neurons.time.t),
        run,
        (
            run.window + 1,
            jnp.where(broken, NOT_FINITE, run.neurons.status),
            run.neurons.done | broken,
            jnp.where(broken, window.stretches.starts[0], run.neurons.stopped),
        ),
    )
    return run, seen


def _look_at_window(layer: Layer, number: Int[Array, ""]) -> _Window:
    stretches = layer.schedule.window(number, layer.window)
    spans = stretches.ends - stretches.starts
    return _Window(
        stretches=stretches,
        through=layer.flow.coefficients(spans),
        arriving=layer.arriving(stretches),
        spans=jnp.where(stretches.tested, spans, -1),
    )


def _go_together(layer: Layer, window: _Window, neurons: Neurons, see: bool) -> tuple[Neurons, _Integers, Seen]:
    """All neurons, from the start of a window to the first stretch in which they may cross, or to the window's end.

    Also in which stretch each stands, `layer.window` at the end.
    """

    def step(carry, here):
        (v, i), found = carry
        number, through, w, span = here
        live = ~neurons.done & (found == layer.window)
        y = jump(v, i, jnp.where(live, w, 0))
        y_end, stops = _pass_stretch(layer.flow, through, span, live, number >= 0, *y)
        return (y_end, jnp.where(stops, number, found)), y if see else None

    found = jnp.full(neurons.v.shape, layer.window, jnp.int32)
    rows = (jnp.arange(layer.window, dtype=jnp.int32), window.through, window.arriving, window.spans)
    # The length is known, and so XLA makes the small kernels of the loop one program.
    (y, found), seen = jax.lax.scan(step, ((neurons.v, neurons.i), found), rows)
    return eqx.tree_at(lambda n: (n.v, n.i), neurons, y, is_leaf=lambda leaf: leaf is None), found, seen


def jump(v: _Reals, i: MaybeArray, w: _Reals) -> tuple[_Reals, MaybeArray]:
    """The state after an arrival."""
    return (v + w, None) if i is None else (v, i + w)


def _pass_stretch(flow: LinearFlow, through: Coefficients, span, live, running, v, i):
    """From the start of a stretch to its end, for those of `live` that cannot cross in it. Also who may.

    `running` is true, but XLA cannot know.
    """

    def reaches(v, i, v_end, i_end):
        return (v >= flow.thresh) | may_cross(flow, v, i, span, v_end, i_end)

    v_end, i_end = flow.advance(through, v, i)
    stops = jnp.zeros(v.shape, bool)
    if flow.thresh is not None:
        stops = live & (span >= 0) & materialised(running, reaches, v, i, v_end, i_end)
    goes = live & ~stops
    return jax.tree.map(lambda new, old: jnp.where(goes, new, old), (v_end, i_end), (v, i)), stops


def _serve(layer: Layer, window: _Window, turn: Turn, run: Run, stretch: _Integers, seen: Seen):
    """Locate the crossings of some neurons, let these spike, and go on to where they may cross next.

    Gives who of them waits for another turn, and the run, the stretches, and the states as in `run_window`.
    """
    real, neurons = turn.real, run.neurons
    flow = jax.tree.map(turn.look, layer.flow)
    v, i, last, spikes, status, latest = jax.tree.map(
        turn.look, (neurons.v, neurons.i, neurons.last, neurons.spikes, neurons.status, neurons.time)
    )
    here = turn.look(stretch)
    stretches = window.stretches
    start, end, margin = (turn.look(row, here) for row in (stretches.starts, stretches.ends, stretches.margin))
    # Since the arrival, or since a spike after it.
    since: PreciseTime = jax.tree.map(lambda a, b: jnp.where(latest.t > start, a, b), latest, time_at(start))

    def cross(v, i, since):
        left = jnp.maximum(since.until(end), 0)
        crosses, s = locate(flow, v, i, left, real & (v < flow.thresh), turn.any, start - latest.t)
        s = jnp.minimum(s, left)
        # A crossing at the time of an arrival is decided by the arrival.
        crosses = crosses & (left - s > margin)
        lifted = real & (v >= flow.thresh)
        s = jnp.where(crosses, s, 0)
        i_at = None if i is None else jnp.where(crosses, i * jnp.exp(-flow.decay * s), i)
        spiked = crosses | lifted
        v_on = jnp.where(spiked, flow.vreset, v)
        left = left - s
        v_end, i_end = flow.advance(flow.coefficients(left), v_on, i_at)
        again = spiked & (left > 0) & may_cross(flow, v_on, i_at, left, v_end, i_end)
        return crosses, lifted, since.after(s), v_on, i_at, v_end, i_end, again

    crosses, lifted, time, v_on, i_at, v_end, i_end, again = materialised(turn.any, cross, v, i, since)
    spiked = crosses | lifted
    slopes = jnp.where(lifted, jnp.inf, slope_at_threshold(flow, i_at)) if run.spikes.slopes is not None else time.t
    listed, slot = append_some(run.spikes, turn, spiked, time.t, slopes)
    status = jnp.where(spiked & (v_on >= flow.thresh), RESET_HIGH, status)
    # Spikes without any time between them would never end.
    still = (time.t == latest.t) & (time.rest == latest.rest)
    status = jnp.where(crosses & still & (spikes > 0), STEP_SMALL, status)
    spikes = spikes + spiked.astype(jnp.int32)
    done = (status != FINE) | (turn.look(listed.count[:, None]) > layer.capacity)
    if layer.stop_after is not None:
        done = done | (spikes >= layer.stop_after)
    again = again & ~done
    v, i = jax.tree.map(lambda here, there: jnp.where(again, here, there), (v_on, i_at), (v_end, i_end))
    leaving = real & ~again & ~done

    def step(carry):
        number, (v, i), found, seen = carry
        live = leaving & (here < number) & (found == layer.window)
        w, through, span = jax.tree.map(
            lambda rows: turn.look(rows, number), (window.arriving, window.through, window.spans)
        )
        y = jump(v, i, jnp.where(live, w, 0))
        if seen is not None:
            seen = jax.tree.map(lambda rows, y: turn.write(rows, y, number, live), seen, y)
        y, stops = _pass_stretch(flow, through, span, live, turn.any, *y)
        return number + 1, y, jnp.where(stops, number, found), seen

    def on_the_way(carry):
        number, _, found, _ = carry
        return (number < layer.window) & jnp.any(leaving & (found == layer.window))

    first = jnp.min(jnp.where(leaving, here, layer.window)) + 1
    start = (first, (v, i), jnp.where(again, here, layer.window), seen)
    _, (v, i), found, seen = jax.lax.while_loop(on_the_way, step, start)
    marks = run.marks
    if marks is not None:
        number = (here + run.window * layer.window + 1) * jnp.where(lifted, -1, 1)
        new = Marks(i_at, last, number)
        marks = jax.tree.map(lambda column, new: put_some(column, turn, slot, new), marks, new)
    neurons = Neurons(
        v=turn.write(neurons.v, v),
        i=turn.write(neurons.i, i),
        spikes=turn.write(neurons.spikes, spikes),
        last=turn.write(neurons.last, slot, where=spiked),
        done=turn.write(neurons.done, done),
        status=turn.write(neurons.status, status),
        time=jax.tree.map(lambda old, new: turn.write(old, new, where=spiked), neurons.time, time),
    )
    waits = found < layer.window
    run = Run(run.window, neurons, listed, marks)
    return waits, (run, turn.write(stretch, found), seen)
