"""One neuron of any model of the zoo, without JAX and without a line of the package: NumPy and SciPy only.

    simulate("AdEx", {"ic": 700.0}, [(10.0, 500.0)], 200.0)             spike times
    states("AdEx", {"ic": 700.0}, [(10.0, 500.0)], [50.0, 100.0])       channels at these times

The free dynamics is integrated by DOP853 at a tight tolerance from one instant to the next at which something happens:
an arrival, a breakpoint of the bias current, the end of refractoriness, a spike. A crossing is looked for inside each
step of the integrator by its interpolation, and placed by integrating to it again, since interpolation is less exact.

What happens at one instant happens in this order: refractoriness ends, all arrivals are added, the threshold is
tested, and tested again after each reset. A state asked for at an instant is the one after all of this.
"""

import math
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import oracle_models
import oracle_nonlinear_models
from numpy.polynomial import Chebyshev
from scipy.integrate import DOP853
from scipy.optimize import brentq

MODELS = {
    name: cls
    for module in (oracle_models, oracle_nonlinear_models)
    for name, cls in vars(module).items()
    if isinstance(cls, type) and issubclass(cls, oracle_models.Model) and cls.defaults
}


class Current(NamedTuple):
    """A bias current: from each start on, until the next, its function of time (smooth in between)."""

    starts: tuple[float, ...]
    functions: tuple[Callable[[float], float], ...]


def _nothing(time):
    return 0.0


def between(function, start=0.0, stop=math.inf):
    """`function` of time from `start` until `stop`, and 0 outside."""
    return Current((-math.inf, start, stop), (_nothing, function, _nothing))


def constant(amplitude):
    return between(lambda time: amplitude)


def step(amplitude, start, stop=math.inf):
    return between(lambda time: amplitude, start, stop)


def ramp(first, last, start, stop):
    """Linear from `first` at `start` to `last` at `stop`, and 0 outside."""
    return between(lambda time: first + (last - first) * (time - start) / (stop - start), start, stop)


def sine(amplitude, period, phase=0.0, start=0.0, stop=math.inf):
    """amplitude sin(2 pi time/period + phase), the time counted from 0."""
    return between(lambda time: amplitude * math.sin(2 * math.pi * time / period + phase), start, stop)


class Wrappers(NamedTuple):
    """What is put around a model.

    For `tref` after a spike the channels `held` stay as they are, arrivals included (None: those of the model, or none
    with `block`); with `block` arrivals do nothing in that time. There is no threshold in it; at its end a neuron above
    threshold spikes. `once`: the threshold is gone after the first spike.
    """

    current: Current = constant(0.0)
    tref: float = 0.0
    block: bool = False
    held: tuple[str, ...] | None = None
    once: bool = False


class Accuracy(NamedTuple):
    """Tolerances per step, and SciPy's class of integrator."""

    rtol: float = 1e-13
    atol: float = 1e-14
    method: type = DOP853


TIGHT = Accuracy()


def simulate(model_name, parameters, arrivals, t_end, accuracy=TIGHT, **wrappers):
    """Spike times until `t_end`; `arrivals` are pairs of time and weight (EGRU: three weights)."""
    neuron = _Neuron(model_name, parameters, Wrappers(**wrappers), accuracy)
    neuron.run(arrivals, (), t_end)
    return np.array(neuron.spikes)


def states(model_name, parameters, arrivals, times, accuracy=TIGHT, **wrappers):
    """The channels at `times`, shape (times, channels)."""
    neuron = _Neuron(model_name, parameters, Wrappers(**wrappers), accuracy)
    return np.array(neuron.run(arrivals, times, max(times)))


class _Neuron:
    """State `y` at time `t`, in the model's inner coordinates; not refractory from `free` on."""

    def __init__(self, model_name, parameters, wrappers, accuracy):
        self.model = MODELS[model_name](**parameters)
        self.wrappers, self.accuracy = wrappers, accuracy
        held = wrappers.held
        if held is None:
            held = () if wrappers.block else self.model.held
        self.held = [self.model.channels.index(channel) for channel in held]
        self.t, self.y = 0.0, self.model.inside(self.model.y0)
        self.free, self.spikes = -math.inf, []

    def run(self, arrivals, queries, t_end):
        """Go to `t_end`; returns the channels at `queries`."""
        weights = defaultdict(list)
        for time, weight in arrivals:
            if not time >= 0:
                raise ValueError(f"arrival at {time}: the simulation starts at 0")
            weights[float(time)].append(weight)
        breakpoints = {start for start in self.wrappers.current.starts if 0 < start < t_end}
        answers = {}
        for stop in sorted({time for time in weights if time <= t_end} | {*queries, 0.0, t_end} | breakpoints):
            self.advance(stop)
            if weights[stop]:
                self.arrive(weights[stop])
            self.test()
            answers[stop] = self.model.outside(self.y)
        return [answers[time] for time in queries]

    def advance(self, stop):
        while self.t < stop:
            refractory = self.t < self.free
            goal = min(stop, self.free) if refractory else stop
            self.t, self.y, crossed = _integrate(
                self.slope(refractory), self.excess, self.t, self.y, goal, self.accuracy
            )
            if crossed:
                self.fire()
                self.test()

    def slope(self, refractory):
        starts, functions = self.wrappers.current
        current = functions[np.searchsorted(starts, self.t, side="right") - 1]
        moves = np.ones(len(self.y))
        if refractory:
            moves[self.held] = 0.0
        return lambda t, y: self.model.slope(y, current(t)) * moves

    def excess(self, y):
        gone = self.t < self.free or (self.wrappers.once and self.spikes)
        return -1.0 if gone else self.model.excess(y)

    def arrive(self, weights):
        if self.t < self.free and self.wrappers.block:
            return
        before, self.y = self.y, self.model.arrive(self.y, weights)
        if self.t < self.free:
            self.y[self.held] = before[self.held]

    def fire(self):
        self.y, is_spike = self.model.fire(self.y)
        if is_spike:
            self.spikes.append(self.t)
            self.free = self.t + self.wrappers.tref

    def test(self):
        for _ in range(1000):
            if self.excess(self.y) < 0:
                return
            self.fire()
        raise RuntimeError(f"still above threshold after 1000 spikes at t = {self.t}: {self.y}")


def _integrate(slope, excess, t, y, stop, accuracy):
    """To `stop`, or to the first time at which `excess` rises to 0: time, state, whether it is a crossing."""
    solver = accuracy.method(slope, t, y, stop, rtol=accuracy.rtol, atol=accuracy.atol)
    while solver.status == "running":
        before = solver.y
        problem = solver.step()
        if solver.status == "failed":
            raise RuntimeError(f"{problem} at t = {solver.t}, y = {solver.y}")
        crossing = _first_crossing(excess, solver.dense_output(), solver.t_old, solver.t)
        if crossing is not None:
            return *_sharpen(slope, excess, solver.t_old, before, crossing, solver.t, accuracy), True
    return stop, solver.y, False


def _first_crossing(excess, path, start, stop):
    """Between `start` and `stop` the interpolation is a polynomial of degree 7, and so is `excess` along it."""
    curve = Chebyshev.interpolate(lambda times: [excess(path(time)) for time in times], 7, domain=(start, stop))
    size = np.abs(curve.coef)
    if curve.coef[0] + size[1:].sum() < 0:
        return None
    # Leading coefficients that are but rounding would send the roots to infinity.
    turns = curve.deriv().trim(1e-18 * size.max()).roots()
    turns = turns.real[np.abs(turns.imag) < 1e-6 * (stop - start)]
    places = [start, *sorted(turns[(turns > start) & (turns < stop)]), stop]
    if curve(start) >= 0:
        return start
    for before, after in pairwise(places):
        if curve(after) >= 0:
            return brentq(curve, before, after, xtol=1e-14)
    return None


def _sharpen(slope, excess, start, y, crossing, latest, accuracy):
    """Newton's method on the integrated solution; a crossing too flat for it stays where interpolation has it."""
    time, state = crossing, y
    for _ in range(4):
        state = _endpoint(slope, start, y, time, accuracy)
        rate = excess(state + slope(time, state)) - excess(state)
        better = time - excess(state) / rate if rate > 0 else time
        if not start < better <= latest or abs(better - time) <= 4 * math.ulp(time):
            break
        time = better
    return time, state


def _endpoint(slope, start, y, stop, accuracy):
    if stop <= start:
        return y
    solver = accuracy.method(slope, start, y, stop, rtol=accuracy.rtol, atol=accuracy.atol, first_step=stop - start)
    while solver.status == "running":
        solver.step()
    return solver.y
