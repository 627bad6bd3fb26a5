"""Derivatives with respect to the parameters, and jumps that no derivative sees.

The gradient of a run is put together from derivatives of the methods and from its events. It is right if each of
these derivatives is what differences say, and if the methods are continuous between events. A method that jumps where
time, or the state, passes a parameter breaks the second: its derivative is 0 on both sides, and yet spikes move with
the parameter.

So every parameter is moved down and up, and the methods are compared along paths: through time in a few states, and
through states. Where both sides differ by more than the derivative says, halving the interval between them tells a
jump from a steep slope. Nothing is solved, so that no path has to be stable, and it goes as far as a parameter may be a
time.
"""

import numpy as np

from .checked import Checked
from .moving import BETWEEN_EVENTS, Moved, Moving

# What a method has to change by, in units of rounding, to count.
_NOISE = 1000.0

_BREAKPOINTS = (
    "let breakpoints() give that time and pass_breakpoint count it in a channel, and look at this channel in the place "
    "of t"
)
_EVENT = (
    "make it an event: let spike_condition reach 0 there, emits say that it is no spike, and a channel that "
    "reset_spiked sets tell both sides apart"
)
_SMOOTH = "use what JAX can differentiate: no stop_gradient, round or comparison"


def parameters(checked: Checked) -> None:
    """The derivatives with respect to every parameter, and jumps where a parameter says."""
    if "spike_condition" in checked.broken:
        return
    moving = Moving(checked)
    if not moving.parameters:
        return
    expected, advice = "that all methods can be differentiated with respect to them", "use jax.numpy throughout"
    judge = checked.attempt("parameters", _Judge, moving, expected=expected, advice=advice)
    if judge is None:
        return
    for name in moving.methods:
        problem = judge.jump(name) if name in BETWEEN_EVENTS else None
        problem = problem or judge.disagreement(name)
        if problem is not None:
            checked.report(name, *problem)


class _Judge:
    """Compares what the methods give while the parameters move."""

    def __init__(self, moving: Moving):
        self.moving = moving
        eps = float(np.finfo(moving.times.dtype).eps)
        self.rounding, self.little = _NOISE * eps, 50 * eps ** (1 / 3)
        # As many halvings lead from a step to neighbouring numbers.
        self.halvings = np.finfo(moving.times.dtype).nmant + 4
        self.low, self.middle, self.high = (moving.along_paths(by) for by in (-1, 0, 1))
        self.difference, self.closer = (self._differences(by) for by in (self.little, self.little / 4))

    def _differences(self, by: float) -> dict[str, np.ndarray]:
        """Of all methods, when the parameters move by so many steps, per step."""
        below, above = self.moving.along_paths(-by), self.moving.along_paths(by)
        with np.errstate(invalid="ignore", over="ignore"):
            return {name: (above[name].value - below[name].value) / (2 * by) for name in self.moving.methods}

    def _of(self, name: str) -> tuple[list[Moved], np.ndarray, np.ndarray]:
        """A method with the parameters low, in the middle and high, where these can be compared, and its size."""
        ends = [one[name] for one in (self.low, self.middle, self.high)]
        usable = np.all([np.isfinite(x).all(axis=-1, keepdims=True) for end in ends for x in end], axis=0)
        if name in BETWEEN_EVENTS:
            heights = (one["spike_condition"].value for one in (self.low, self.middle, self.high))
            usable &= np.all([height < 0 for height in heights], axis=0)
        size = np.max([np.where(usable, np.abs(end.value), 0) for end in ends], axis=(0, 3), keepdims=True)[0]
        return ends, usable, np.where(size > 0, size, 1)

    def jump(self, name: str) -> tuple[str, str, str] | None:
        """Where a method changes at once when a parameter moves."""
        (low, middle, high), usable, size = self._of(name)
        with np.errstate(invalid="ignore", over="ignore"):
            off = np.where(usable, np.abs(high.value - low.value - 2 * middle.slope) / size, 0).max(axis=-1)
        place = np.expand_dims(off.argmax(axis=2), 2)
        t = np.take_along_axis(self.moving.times, place, 2)[:, :, 0]
        y = np.take_along_axis(self.moving.states, place[..., None], 2)[:, :, 0]
        left = np.where(off.max(axis=2) > self.rounding, self._left(name, t, y, size[:, :, 0]), 0)
        # Where it changes as much all along a path through time, it is not the time that matters.
        share = np.mean(off > 0.5 * off.max(axis=2, keepdims=True), axis=2)
        n_still = self.moving.n_still
        in_time = np.argwhere((left[:, :n_still] > 0) & (share[:, :n_still] < 0.9))
        found = in_time if len(in_time) else np.argwhere(left > 0)
        if not len(found):
            return None
        number, path, neuron = found[0]
        parameter, place = self.moving.parameters[number], (number, path, neuron)
        where = f"a time that moves with {parameter}, near t = {t[place]:.3g} ms"
        if not len(in_time):
            where = f"a state that moves with {parameter}, near {y[place]}"
        got = f"it jumps at {where}, and no derivative with respect to {parameter} sees that"
        return got, "that it is smooth between events", _BREAKPOINTS if len(in_time) else _EVENT

    def _left(self, name: str, t: np.ndarray, y: np.ndarray, size: np.ndarray) -> np.ndarray:
        """What is left of a change when the half of an interval that changes more is taken again and again.

        0 where that is rounding, or a small part, as on a slope.
        """
        number = np.broadcast_to(np.arange(len(t))[:, None], t.shape[:2])

        def at(by: np.ndarray) -> np.ndarray:
            return self.moving.at(number, by, t, y)[name][..., 0, :] / size

        def change(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return np.abs(a - b).max(axis=-1)

        low, high = np.full_like(t, -1), np.full_like(t, 1)
        at_low, at_high = at(low), at(high)
        with np.errstate(invalid="ignore", over="ignore"):
            whole = change(at_low, at_high)
            for _ in range(self.halvings):
                middle = (low + high) / 2
                at_middle = at(middle)
                left = change(at_low, at_middle) > change(at_middle, at_high)
                low, high = np.where(left, low, middle), np.where(left, middle, high)
                at_low = np.where(left[..., None], at_low, at_middle)
                at_high = np.where(left[..., None], at_middle, at_high)
            remains = change(at_low, at_high)
            return np.where(remains > np.maximum(0.1 * whole, self.rounding), remains, 0)

    def disagreement(self, name: str) -> tuple[str, str, str] | None:
        """Where a derivative is not what a difference says, on most of every path where it counts."""
        (_, middle, _), usable, size = self._of(name)
        slope, difference, closer = middle.slope, self.difference[name], self.closer[name]
        with np.errstate(invalid="ignore", over="ignore"):
            both = np.abs(difference) + np.abs(slope)
            # A difference says something where a closer one says the same.
            counts = usable & (self.little * both > self.rounding * size)
            counts &= np.abs(difference - closer) <= 0.02 * both
            wrong = counts & (np.abs(difference - slope) > 0.1 * both)
        n_wrong, n_counting = (np.count_nonzero(x.any(axis=-1), axis=2) for x in (wrong, counts))
        # A kink may be all of a path through time.
        often = np.all((n_counting == 0) | (n_wrong > n_counting / 2), axis=1) & (np.count_nonzero(n_wrong, axis=1) > 1)
        if not often.any():
            return None
        number, neuron = np.argwhere(often)[0]
        place = tuple(np.argwhere(wrong[number, :, :, neuron])[0])
        step = self.moving.step(number, neuron)
        told, found = (x[number, :, :, neuron][place] / step + 0 for x in (slope, difference))
        parameter = self.moving.parameters[number]
        got = f"its derivative with respect to {parameter} is {told:.3g} where a difference gives {found:.3g}"
        return got, "a derivative that agrees with differences", _SMOOTH
