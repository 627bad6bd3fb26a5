"""Currents that depend on time, for `WithBiasCurrent`."""

import abc
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from .parameter import Parameter, checked_array, reject_unfit_times, trainable_names


class AbstractCurrent(eqx.Module):
    """A current I(t) that is smooth between its breakpoints.

    Currents can be added. Their numbers are scalars or have one value per neuron; `trainable` names those that
    receive gradients.
    """

    @abc.abstractmethod
    def __call__(self, t: Float[Array, "*neurons"], passed: Bool[Array, "neurons times"]) -> Float[Array, "*neurons"]:
        """The current at time `t` in ms, when those of the breakpoints are behind that `passed` says.

        It is looked at on both sides of a breakpoint, so `passed` decides, and not `t`.
        """

    def breakpoints(self) -> tuple[Array, ...]:
        """When it jumps or has a kink, in ms; each is a scalar or has one value per neuron."""
        return ()

    def is_piecewise_constant(self) -> bool:
        """Whether it does not change between its breakpoints; then models with a closed form keep it."""
        return False

    def __add__(self, other: "AbstractCurrent") -> "AbstractCurrent":
        if not isinstance(other, AbstractCurrent):
            return NotImplemented
        return SumOfCurrents(self, other)


class ConstantCurrent(AbstractCurrent):
    """The same current all the time.

    - `amplitude`: in the unit of the model's currents.
    """

    amplitude: Parameter

    def __init__(self, amplitude: ArrayLike, *, trainable: Iterable[str] = ()):
        names = trainable_names(trainable, ("amplitude",))
        self.amplitude = _number("amplitude", amplitude, names)

    def __call__(self, t, passed) -> Float[Array, "*neurons"]:
        return self.amplitude.value

    def is_piecewise_constant(self) -> bool:
        return True


class StepCurrent(AbstractCurrent):
    """A current that is switched on and off.

    - `amplitude`: in the unit of the model's currents.
    - `start`, `stop`: when it begins and ends, in ms; without `stop` it does not end.
    """

    amplitude: Parameter
    start: Parameter
    stop: Parameter | None

    def __init__(
        self,
        amplitude: ArrayLike,
        *,
        start: ArrayLike = 0.0,
        stop: ArrayLike | None = None,
        trainable: Iterable[str] = (),
    ):
        names = trainable_names(trainable, ("amplitude", "start") if stop is None else ("amplitude", "start", "stop"))
        self.amplitude = _number("amplitude", amplitude, names)
        if stop is None:
            reject_unfit_times("start", start)
            self.start, self.stop = _number("start", start, names), None
        else:
            self.start, self.stop = _interval(start, stop, names)

    def __call__(self, t, passed) -> Float[Array, "*neurons"]:
        on = passed[:, 0] if self.stop is None else passed[:, 0] & ~passed[:, 1]
        return jnp.where(on, self.amplitude.value, 0)

    def breakpoints(self) -> tuple[Array, ...]:
        return (self.start.value,) if self.stop is None else (self.start.value, self.stop.value)

    def is_piecewise_constant(self) -> bool:
        return True


class RampCurrent(AbstractCurrent):
    """A current that goes along a straight line from one value to another, and stays there.

    - `first`, `last`: the current before `start` and after `stop`, in the unit of the model's currents.
    - `start`, `stop`: when it begins and ends to change, in ms.
    """

    first: Parameter
    last: Parameter
    start: Parameter
    stop: Parameter

    def __init__(
        self,
        first: ArrayLike,
        last: ArrayLike,
        *,
        start: ArrayLike,
        stop: ArrayLike,
        trainable: Iterable[str] = (),
    ):
        names = trainable_names(trainable, ("first", "last", "start", "stop"))
        self.first, self.last = _number("first", first, names), _number("last", last, names)
        self.start, self.stop = _interval(start, stop, names)

    def __call__(self, t, passed) -> Float[Array, "*neurons"]:
        first, last, start = self.first.value, self.last.value, self.start.value
        on_its_way = first + (last - first) * (t - start) / (self.stop.value - start)
        return jnp.where(passed[:, 1], last, jnp.where(passed[:, 0], on_its_way, first))

    def breakpoints(self) -> tuple[Array, ...]:
        return self.start.value, self.stop.value


class SineCurrent(AbstractCurrent):
    """A current amplitude · sin(2π frequency t + phase).

    - `amplitude`: in the unit of the model's currents.
    - `frequency`: in Hz, with time in ms.
    - `phase`: in radians, by default 0.
    """

    amplitude: Parameter
    frequency: Parameter
    phase: Parameter

    def __init__(
        self, amplitude: ArrayLike, *, frequency: ArrayLike, phase: ArrayLike = 0.0, trainable: Iterable[str] = ()
    ):
        names = trainable_names(trainable, ("amplitude", "frequency", "phase"))
        self.amplitude = _number("amplitude", amplitude, names)
        self.frequency = _number("frequency", frequency, names)
        self.phase = _number("phase", phase, names)

    def __call__(self, t, passed) -> Float[Array, "*neurons"]:
        angle = 2 * jnp.pi * self.frequency.value * t / 1000 + self.phase.value
        return self.amplitude.value * jnp.sin(angle)


class FunctionCurrent(AbstractCurrent):
    """Any function of time.

    - `function`: takes a time in ms, a scalar or one per neuron, and gives the current likewise. Written with
        `jax.numpy`.
    - `times`: when it jumps or has a kink, in ms. Between them it has to be smooth.
    """

    function: Callable[[Array], Array] = eqx.field(static=True)
    times: tuple[Parameter, ...]

    def __init__(self, function: Callable[[Array], Array], breakpoints: Sequence[float] = ()):
        if not callable(function):
            raise TypeError(f"function is {function!r}, expected a function of time")
        if jax.tree.leaves(eqx.filter(function, eqx.is_array)):
            raise TypeError("function holds arrays, expected none: subclass AbstractCurrent, with a Parameter for each")
        try:
            hash(function)
        except TypeError as error:
            raise TypeError(f"function is {function!r}, which has no hash: pass a function or a lambda") from error
        self.function = function
        reject_unfit_times("breakpoints", breakpoints)
        times = checked_array("breakpoints", breakpoints, ((len(breakpoints),),), float)
        self.times = tuple(map(Parameter, times))

    def __call__(self, t, passed) -> Float[Array, "*neurons"]:
        if not self.times:
            return self.function(t)
        times = jnp.stack([jnp.broadcast_to(time.value, passed.shape[:1]) for time in self.times], axis=1)
        # A little before the next breakpoint, and not at it, where the function may have jumped already.
        t = jnp.broadcast_to(t, passed.shape[:1])
        first = jnp.max(jnp.where(passed, times, -jnp.inf), axis=1)
        last = jnp.min(jnp.where(passed, jnp.inf, times), axis=1)
        return self.function(jnp.clip(t, first, jnp.nextafter(last, -jnp.inf)))

    def breakpoints(self) -> tuple[Array, ...]:
        return tuple(time.value for time in self.times)


class SumOfCurrents(AbstractCurrent):
    """Two currents together."""

    one: AbstractCurrent
    other: AbstractCurrent

    def __call__(self, t, passed) -> Float[Array, "*neurons"]:
        count = len(self.one.breakpoints())
        return self.one(t, passed[:, :count]) + self.other(t, passed[:, count:])

    def breakpoints(self) -> tuple[Array, ...]:
        return (*self.one.breakpoints(), *self.other.breakpoints())

    def is_piecewise_constant(self) -> bool:
        return self.one.is_piecewise_constant() and self.other.is_piecewise_constant()


def as_current(value: Any) -> AbstractCurrent:
    """A current from what a user may pass: a current, a number, or a function of time."""
    if isinstance(value, AbstractCurrent):
        return value
    if callable(value):
        function: Any = value
        return FunctionCurrent(function)
    return ConstantCurrent(value)


def for_neurons(current: AbstractCurrent, n_neurons: int, dtype) -> AbstractCurrent:
    """The current with numbers of `dtype`. **Raises** `ValueError` if one has the wrong shape."""

    def cast(path, leaf):
        if not eqx.is_inexact_array(leaf):
            return leaf
        if leaf.shape not in ((), (n_neurons,)):
            name = jax.tree_util.keystr(path).removesuffix(".value")
            raise ValueError(f"current{name} has shape {leaf.shape}, expected a scalar or shape ({n_neurons},)")
        return leaf.astype(dtype)

    return jax.tree_util.tree_map_with_path(cast, current)


def _number(name: str, value: ArrayLike, trainable: tuple[str, ...]) -> Parameter:
    array = checked_array(name, value, (np.shape(value),), float)
    return Parameter(array, name in trainable)


def _interval(start: ArrayLike, stop: ArrayLike, trainable: tuple[str, ...]) -> tuple[Parameter, Parameter]:
    reject_unfit_times("start", start)
    reject_unfit_times("stop", stop)
    first, last = np.asarray(start, float), np.asarray(stop, float)
    if not (np.all(np.isfinite(first)) and np.all(np.isfinite(last)) and np.all(first < last)):
        raise ValueError(f"start is {start} and stop is {stop}, expected finite times in ms with start before stop")
    return Parameter(jnp.asarray(first), "start" in trainable), Parameter(jnp.asarray(last), "stop" in trainable)
