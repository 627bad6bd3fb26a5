"""The forward run of a layer whose flow is linear.

All neurons of a sample go through its arrivals together, window by window: between arrivals that nobody answers
with a spike, the state is multiplied by numbers that depend on the arrivals alone. A neuron that may cross its
threshold stops there. When all have come to the end of the window or have stopped, the crossings of those that
stopped are located at once, and they go on from there. So the costly part is done as often as the busiest neuron
spikes, and not as often as something arrives.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ...neuron_models.linear_flow import Coefficients, LinearFlow, MaybeArray
from ..lanes import FINE, NOT_FINITE, RESET_HIGH, STEP_SMALL
from ..materialise import materialised
from ..spike_list import SpikeList, append, empty_list, put
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
        if self.weights.shape[0] == 1:
            return self.weights[0][stretches.sources]
        return self.weights[jnp.arange(self.weights.shape[0]), stretches.sources]


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
    - `done`, `status`, `stopped`: whether, how and when it ended.
    """

    v: _Reals
    i: MaybeArray
    spikes: _Integers
    last: _Integers
    done: _Bools
    status: _Integers
    stopped: _Reals


class Run(eqx.Module):
    """A run in progress."""

    window: Int[Array, ""]
    neurons: Neurons
    spikes: SpikeList
    marks: Marks | None


class _Place(eqx.Module):
    """Where every neuron stands in a window.

    - `stretch`, `t`: in which stretch, and since when.
    - `asked`: whether it may cross in it.
    - `seen`: V and I of every neuron at the start of every stretch, just after the arrival, if wanted.
    """

    stretch: _Integers
    t: _Reals
    asked: _Bools
    seen: tuple[Array, MaybeArray] | None


def start_run(layer: Layer, y0: tuple[_Reals, MaybeArray], capacity: int, slopes: bool, marked: bool) -> Run:
    """A run at time 0 with room for `capacity` spikes per sample; `marked` if it will be swept back."""
    v, i = y0
    batch = v.shape[0]
    nought = jnp.zeros(v.shape, jnp.int32)
    neurons = Neurons(v, i, nought, nought - 1, nought > 0, nought, jnp.zeros_like(v))
    marks = None
    if marked:
        integers = jnp.zeros((batch, capacity), jnp.int32)
        marks = Marks(None if i is None else jnp.zeros((batch, capacity), v.dtype), integers, integers)
    return Run(jnp.zeros((), jnp.int32), neurons, empty_list(batch, capacity, v.dtype, slopes), marks)


def run_window(layer: Layer, run: Run, see: bool = False) -> tuple[Run, tuple[Array, MaybeArray] | None]:
    """Work through the next window. Also, if wanted, the state just after every arrival."""
    stretches = layer.schedule.window(run.window, layer.window)
    through = layer.flow.coefficients((stretches.ends - stretches.starts)[:, :, None])
    arriving = layer.arriving(stretches)
    length = jnp.minimum(layer.window, jnp.max(stretches.count))

    def scan(neurons: Neurons, place: _Place) -> tuple[Neurons, _Place]:
        return _scan(layer, stretches, through, arriving, length, neurons, place)

    nowhere = jnp.where(run.neurons.done, length, -1)
    seen = None
    if see:
        seen = jax.tree.map(lambda y: jnp.zeros((layer.window, *y.shape), y.dtype), (run.neurons.v, run.neurons.i))
    place = _Place(nowhere, jnp.zeros_like(run.neurons.v), jnp.zeros(nowhere.shape, bool), seen)
    neurons, place = scan(run.neurons, place)

    def answer(carry):
        run, place = carry
        run, place = _answer(layer, stretches, run, place)
        neurons, place = scan(run.neurons, place)
        return eqx.tree_at(lambda run: run.neurons, run, neurons), place

    run = eqx.tree_at(lambda run: run.neurons, run, neurons)
    if layer.flow.thresh is not None:
        run, place = jax.lax.while_loop(lambda carry: jnp.any(carry[1].asked), answer, (run, place))
    broken = ~jnp.isfinite(run.neurons.v) & (run.neurons.status == FINE)
    if run.neurons.i is not None:
        broken = broken | ~jnp.isfinite(run.neurons.i) & (run.neurons.status == FINE)
    run = eqx.tree_at(
        lambda run: (run.window, run.neurons.status, run.neurons.done, run.neurons.stopped),
        run,
        (
            run.window + 1,
            jnp.where(broken, NOT_FINITE, run.neurons.status),
            run.neurons.done | broken,
            jnp.where(broken, stretches.starts[0][:, None], run.neurons.stopped),
        ),
    )
    return run, place.seen


def _scan(layer, stretches, through: Coefficients, arriving, length, neurons: Neurons, place: _Place):
    """Let every neuron that is not asked go on to the next stretch in which it may cross, or to the window's end."""
    flow, since = layer.flow, place.stretch
    waiting = ~place.asked & (since < length)

    def step(number, carry):
        v, i, found, seen = carry
        live = waiting & (since < number) & (found == layer.window)
        w, pass_on = arriving[number], jax.tree.map(lambda rows: rows[number], through)
        dt = (stretches.ends[number] - stretches.starts[number])[:, None]
        v, i = jump(v, i, jnp.where(live, w, 0))
        seen = _see(seen, number, live, (v, i))
        v_end, i_end = flow.advance(pass_on, v, i)
        stops = live & stretches.tested[number][:, None] & _stops(flow, v, i, dt, v_end, i_end)
        goes = live & ~stops
        i = None if i is None else jnp.where(goes, i_end, i)
        return jnp.where(goes, v_end, v), i, jnp.where(stops, number, found), seen

    first = jnp.min(jnp.where(waiting, since, length)) + 1
    found = jnp.full(since.shape, layer.window, jnp.int32)
    v, i, found, seen = jax.lax.fori_loop(first, length, step, (neurons.v, neurons.i, found, place.seen))
    asked = found < layer.window
    starts = jnp.take_along_axis(stretches.starts.T, jnp.minimum(found, layer.window - 1), axis=1)
    neurons = eqx.tree_at(lambda n: (n.v, n.i), neurons, (v, i), is_leaf=lambda leaf: leaf is None)
    return neurons, _Place(
        jnp.where(asked, found, jnp.where(waiting, length, since)),
        jnp.where(asked, starts, place.t),
        asked | place.asked,
        seen,
    )


def _see(seen, number, live, y):
    if seen is None:
        return None
    return jax.tree.map(lambda rows, y: rows.at[number].set(jnp.where(live, y, rows[number])), seen, y)


def _stops(flow: LinearFlow, v, i, dt, v_end, i_end):
    if flow.thresh is None:
        return jnp.zeros(v.shape, bool)
    return (v >= flow.thresh) | may_cross(flow, v, i, dt, v_end, i_end)


def _answer(layer: Layer, stretches: Stretches, run: Run, place: _Place) -> tuple[Run, _Place]:
    """Locate the crossings of the neurons that are asked, and let these spike and go on."""
    flow, neurons = layer.flow, run.neurons
    asked = place.asked
    ends = jnp.take_along_axis(stretches.ends.T, jnp.minimum(place.stretch, layer.window - 1), axis=1)
    final = place.stretch == stretches.count[:, None] - 1

    def look(v, i, t):
        resolution = jnp.finfo(t.dtype).eps * ends
        crosses, s = locate(flow, v, i, ends - t, resolution, asked & (v < flow.thresh))
        at = jnp.minimum(t + s, ends)
        # A crossing that cannot be told from an arrival is decided by the arrival.
        crosses = crosses & (final | (at < ends))
        lifted = asked & (v >= flow.thresh)
        at = jnp.where(crosses, at, t)
        i_at = None
        if i is not None:
            i_at = jnp.where(crosses, i * jnp.exp(-flow.decay * s), i)
        spiked = crosses | lifted
        v_on = jnp.where(spiked, flow.vreset, v)
        v_end, i_end = flow.advance(flow.coefficients(ends - at), v_on, i_at)
        again = spiked & (ends > at) & may_cross(flow, v_on, i_at, ends - at, v_end, i_end)
        return crosses, lifted, at, v_on, i_at, v_end, i_end, again

    crosses, lifted, at, v_on, i_at, v_end, i_end, again = materialised(
        jnp.any(asked), look, neurons.v, neurons.i, place.t
    )
    spiked = crosses | lifted
    slopes = jnp.where(lifted, jnp.inf, slope_at_threshold(flow, i_at)) if run.spikes.slopes is not None else at
    spikes, slot = append(run.spikes, spiked, at, slopes)
    status = jnp.where(spiked & (v_on >= flow.thresh), RESET_HIGH, neurons.status)
    # Spikes without any time between them would never end.
    status = jnp.where(crosses & (at == neurons.stopped) & (neurons.spikes > 0), STEP_SMALL, status)
    counts = neurons.spikes + spiked.astype(jnp.int32)
    done = neurons.done | (status != FINE) | (spikes.count > layer.capacity)[:, None]
    if layer.stop_after is not None:
        done = done | (counts >= layer.stop_after)
    again = again & ~done
    moves = asked & ~again
    v = jnp.where(moves, v_end, jnp.where(asked, v_on, neurons.v))
    i = None
    if neurons.i is not None:
        i = jnp.where(moves, i_end, jnp.where(asked, i_at, neurons.i))
    marks = run.marks
    if marks is not None:
        stretch = (place.stretch + run.window * layer.window + 1) * jnp.where(lifted, -1, 1)
        marks = _note(marks, slot, i_at, neurons.last, stretch)
    neurons = Neurons(
        v=v,
        i=i,
        spikes=counts,
        last=jnp.where(spiked, slot, neurons.last),
        done=done,
        status=status,
        stopped=jnp.where(spiked, at, neurons.stopped),
    )
    place = _Place(jnp.where(asked & done, layer.window, place.stretch), at, again, place.seen)
    return Run(run.window, neurons, spikes, marks), place


def _note(marks: Marks, slot: _Integers, current: MaybeArray, before: _Integers, stretch: _Integers) -> Marks:
    return jax.tree.map(lambda column, new: put(column, slot, new), marks, Marks(current, before, stretch))


def jump(v: _Reals, i: MaybeArray, w: _Reals) -> tuple[_Reals, MaybeArray]:
    """The state after an arrival."""
    return (v + w, None) if i is None else (v, i + w)
