"""Does the closed form say the same as the methods that it stands for?"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...flows.linear import LinearFlow
from .checked import Checked, row_of
from .paths import ENDS, Paths, follow, span_of

# How strongly neurons are driven, in units of the distance to the threshold.
_DRIVES = (-4.0, *(2.0**k for k in range(-2, 11)))


def closed_form(checked: Checked) -> None:
    flow = checked.flow
    if flow is None or {"dynamics", "spike_condition", "closed_form"} & checked.broken:
        return
    if isinstance(flow, LinearFlow):
        _jump(checked, flow)
        _reset(checked, flow)
        if not _threshold_fits(checked, flow):
            return
    starts, currents = _starts(checked)
    span = jnp.asarray(span_of(checked.model, checked.args, jnp.stack(checked.states)))
    expected, advice = "that it works under jax.jit and jax.vmap", "use jax.numpy throughout"
    arguments = checked.model, checked.args, starts, currents, span
    paths = checked.attempt("closed_form", follow, *arguments, expected=expected, advice=advice)
    if paths is None:
        return
    judge = _Judge(checked, paths, currents)
    if judge.states_fit():
        judge.crossings_fit(isinstance(flow, LinearFlow) and flow.thresh is None)


def _jump(checked: Checked, flow: LinearFlow) -> None:
    if "input_spikes" in checked.broken or checked.model.ports:
        return
    weights, channel = checked.weights(), "V" if flow.decay is None else "I"
    for y in checked.states:
        found, wanted = checked.model.input_spikes(y, weights), y.at[:, "VI".index(channel)].add(weights)
        bad = ~np.isclose(found, wanted, rtol=1e-5, atol=1e-5)
        if bad.any():
            got = f"input_spikes takes {row_of(y, bad)} to {row_of(found, bad)}"
            advice = f"this LinearFlow adds the weight to {channel}: say closed_form otherwise, or leave it out"
            checked.report("closed_form", got, row_of(wanted, bad), advice)
            return


def _reset(checked: Checked, flow: LinearFlow) -> None:
    if flow.thresh is None or "reset_spiked" in checked.broken or checked.model.emits(checked.y) is not None:
        return
    for number, y in enumerate(checked.states):
        # Only a spike that acts on the potential at once can lift it above the threshold.
        above = 0.0 if flow.decay is not None else 0.1 * number
        y = y.at[:, 0].set(flow.thresh + above)
        found, wanted = checked.model.reset_spiked(y, jnp.ones((checked.n,), bool)), y.at[:, 0].set(flow.vreset)
        bad = ~np.isclose(found, wanted, rtol=1e-5, atol=1e-5)
        if bad.any():
            got = f"reset_spiked takes {row_of(y, bad)} to {row_of(found, bad)}"
            advice = "a LinearFlow sets V to vreset and keeps I: say closed_form otherwise, or leave it out"
            checked.report("closed_form", got, row_of(wanted, bad), advice)
            return


def _threshold_fits(checked: Checked, flow: LinearFlow) -> bool:
    condition = checked.calls()["spike_condition"]
    for y in checked.states if flow.thresh is not None else []:
        y = y.at[:, 0].set(flow.thresh)
        height = np.asarray(condition(y))
        wrong = np.abs(height) > _tolerance(checked) * (1 + np.abs(y[:, 0]))
        if wrong.any():
            k = np.flatnonzero(wrong)[0]
            got = f"at V = thresh = {y[k, 0]:.6g} of the LinearFlow spike_condition is {height[k]:.3g} for neuron {k}"
            checked.report("closed_form", got, "0", "give it the threshold that spike_condition has")
            return False
    return True


def _tolerance(checked: Checked) -> float:
    return float(jnp.finfo(checked.dtype).eps) ** 0.4


def _starts(checked: Checked) -> tuple[Float[Array, "starts neurons channels"], Float[Array, "starts neurons"] | None]:
    """States from which the threshold is reached in different ways, and bias currents that bring neurons there."""
    model, y, none = checked.model, checked.y, jnp.zeros((checked.n,), checked.dtype)
    height, pull = jax.vjp(checked.calls()["spike_condition"], y)
    steepest = jnp.max(jnp.abs(pull(jnp.ones_like(height))[0]), axis=1)
    distance = jnp.abs(height) / jnp.where(steepest > 0, steepest, 1)
    starts = list(checked.states)
    if "reset_spiked" not in checked.broken:
        starts += [model.reset_spiked(y, jnp.ones((checked.n,), bool)) for y in (y, starts[-1])]
    if model.breakpoints() is not None and "pass_breakpoint" not in checked.broken:
        starts += [model.pass_breakpoint(y)]
    if "input_spikes" not in checked.broken:
        for port in np.eye(len(model.ports)) if model.ports else [np.ones(())]:
            weights = jnp.multiply.outer(distance, jnp.asarray(port, checked.dtype))
            starts += [model.input_spikes(y, drive * weights) for drive in _DRIVES]
    try:
        model.with_current(none)
    except TypeError:
        # Not every model has a bias current.
        return jnp.stack(starts), None
    currents = [none] * len(starts) + [drive * distance for drive in _DRIVES]
    return jnp.stack(starts + [checked.states[1]] * len(_DRIVES)), jnp.stack(currents)


class _Judge:
    """Compares the paths."""

    def __init__(self, checked: Checked, paths: Paths, currents: Array | None):
        self.checked, self.tolerance = checked, _tolerance(checked)
        self.paths: Paths = jax.tree.map(np.asarray, paths)
        self.currents = None if currents is None else np.asarray(currents)

    def states_fit(self) -> bool:
        paths, tolerance = self.paths, self.tolerance
        # What comes behind a crossing does not matter.
        free = np.logical_and.accumulate(paths.solved_height < 0, axis=1)
        free[:, 0] = True
        with np.errstate(invalid="ignore", over="ignore"):
            size = np.max(np.abs(np.where(free[..., None], paths.solved, 0)), axis=1, keepdims=True)
            sure = np.abs(paths.solved - paths.rough) <= 0.1 * tolerance * size
            off = np.abs(paths.flown - paths.solved) / np.where(size > 0, size, 1)
        wrong = sure & ~(off <= tolerance) & free[..., None]
        if not wrong.any():
            return True
        # The channel that errs first, from which others may follow, and where it shows most clearly.
        shown = np.where(wrong, off, -1)
        first = np.argmax(wrong.any(axis=(0, 2, 3)))
        channel = np.argmax(np.max(shown[:, first], axis=(0, 1)))
        shown = shown[..., channel]
        start, time, neuron = np.unravel_index(np.argmax(shown), shown.shape)
        named = "channels" not in self.checked.broken
        name = self.checked.original.channels[channel] if named else f"channel {channel}"
        dt, found, wanted = (x[start, time, neuron] for x in (paths.times, paths.flown, paths.solved))
        got = f"after takes {name} from {self._start(start, neuron)} to {found[channel]:.6g} in {dt:.4g} ms"
        advice = "compare its numbers with those in dynamics"
        self.checked.report("closed_form", got, f"{wanted[channel]:.6g}, where dynamics leads to", advice)
        return False

    def crossings_fit(self, never: bool) -> None:
        """`never` is whether the closed form says that there is no threshold."""
        below = np.asarray(self.paths.flown_height[:, 0] < -self.tolerance * self.paths.size)
        for number, end in enumerate(ENDS):
            found = (
                self._reached_unseen(number, end, np.ones_like(below) if never else below)
                or self._not_at_threshold(number, end, below)
                or self._refused(number, end, below)
            )
            if found:
                self.checked.report("closed_form", *found)
                return

    def _reached_unseen(self, number: int, end: int, below: np.ndarray) -> tuple[str, str, str] | None:
        """Where the condition is above 0 and no crossing was found so far."""
        crossing = self.paths.crossings[:, number]
        times, height = self.paths.times[:, : end + 1], self.paths.flown_height[:, : end + 1]
        high = (height > self.tolerance * self.paths.size[:, None]) & below[:, None]
        # The last steps before the crossing belong to it.
        unseen = high & (times < crossing[:, None] * (1 - self.tolerance))
        if not unseen.any():
            return None
        start, neuron = np.argwhere(unseen.any(axis=1))[0]
        time = np.argmax(np.where(unseen[start, :, neuron], height[start, :, neuron], -np.inf))
        told = f"{crossing[start, neuron]:.6g} for {self._start(start, neuron)} and dt = {times[start, -1, neuron]:.4g}"
        reached = f"spike_condition is {height[start, time, neuron]:.3g} after {times[start, time, neuron]:.4g} ms"
        advice = "compare the threshold with spike_condition, and mind maxima between start and end"
        return f"first_crossing gives {told}", f"an earlier crossing, since {reached}", advice

    def _not_at_threshold(self, number: int, end: int, below: np.ndarray) -> tuple[str, str, str] | None:
        paths, limit = self.paths, self.tolerance * self.paths.size
        crossing, dt = paths.crossings[:, number], paths.times[:, end]
        before, behind = paths.before[:, number], paths.behind[:, number]
        outside = np.isnan(crossing) | (crossing < 0) | (np.isfinite(crossing) & (crossing > dt))
        wrong = below & (outside | (np.isfinite(crossing) & ((before > limit) | (behind < -limit))))
        if not wrong.any():
            return None
        start, neuron = np.argwhere(wrong)[0]
        told = f"{crossing[start, neuron]:.6g} for {self._start(start, neuron)} and dt = {dt[start, neuron]:.4g}"
        if outside[start, neuron]:
            return f"first_crossing gives {told}", "a time from 0 to dt, or inf", "say inf where it is not within dt"
        height = f"spike_condition is {behind[start, neuron]:.3g} there"
        advice = "compare the threshold with spike_condition"
        return f"first_crossing gives {told}; {height}", "that it is 0", advice

    def _refused(self, number: int, end: int, below: np.ndarray) -> tuple[str, str, str] | None:
        """Where there is a crossing, and `may_cross` says no."""
        paths = self.paths
        top = np.max(paths.flown_height[:, : end + 1], axis=1)
        crosses = below & np.isfinite(paths.crossings[:, number]) & (top > self.tolerance * paths.size)
        wrong = crosses & ~paths.may_cross[:, number]
        if not wrong.any():
            return None
        start, neuron = np.argwhere(wrong)[0]
        got = f"may_cross says no for {self._start(start, neuron)} and dt = {paths.times[start, end, neuron]:.4g}"
        expected = f"yes, since first_crossing gives {paths.crossings[start, number, neuron]:.6g}"
        return got, expected, "say no only where the threshold is certainly not reached"

    def _start(self, start: Any, neuron: Any) -> str:
        """The state of a neuron at a start, and the current there."""
        told = f"the state {self.paths.solved[start, 0, neuron]}"
        if self.currents is None or self.currents[start, neuron] == 0:
            return told
        return f"{told} with a bias current of {self.currents[start, neuron]:.4g}"
