"""Times that a user passes: converted exactly or refused, and looked at for seconds in place of milliseconds."""

import dataclasses
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from .neuron_models import NeuronModel
from .neuron_models.parameter import Parameter, reject_unfit_times


def as_times(name: str, value: Any, dtype) -> Array:
    """`value` as an array of `dtype`. Whole numbers are converted if `dtype` holds each of them exactly.

    **Raises:** `TypeError` for something else than times: truth values, half precision, another dtype than that of
    the network; `ValueError` for whole numbers that would be rounded, and for rows of different lengths.
    """
    reject_unfit_times(name, value)
    try:
        array = value if isinstance(value, jax.Array) else np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} has rows of different lengths: pad the shorter ones with inf") from error
    if jnp.issubdtype(array.dtype, jnp.integer):
        return _whole_numbers(name, array, dtype)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} has dtype {array.dtype}, expected floating point numbers: pass times in ms as floats")
    # A scalar says when to stop, and its dtype follows from what it was computed with.
    if isinstance(array, jax.Array) and array.dtype != dtype and array.ndim:
        raise TypeError(f"{name} has dtype {array.dtype}, expected {jnp.dtype(dtype)}: use {name}.astype(net.dtype)")
    return jnp.asarray(array, dtype)


def _whole_numbers(name: str, array: Any, dtype) -> Array:
    dtype = jnp.dtype(dtype)
    # Up to here every whole number is a floating point number of this dtype.
    limit = 2 ** (jnp.finfo(dtype).nmant + 1)
    if isinstance(array, Tracer):
        if jnp.iinfo(array.dtype).max > limit:
            raise TypeError(
                f"{name} has dtype {array.dtype}, and under a transformation nobody knows whether {dtype} can hold its "
                f"numbers: pass {name}.astype(net.dtype)"
            )
        return array.astype(dtype)
    numbers = np.asarray(array)
    bad = (numbers > limit) | (numbers < -limit)
    if bad.any():
        where = tuple(map(int, np.argwhere(bad)[0]))
        raise ValueError(
            f"{name}{list(where) if where else ''} is {numbers[where]}, expected at most {limit} ms in whole numbers, "
            f"up to which {dtype} is exact: to have it rounded, pass np.asarray({name}, np.{dtype})"
        )
    return jnp.asarray(numbers.astype(dtype))


class UnitsWarning(UserWarning):
    """Times and time constants are so far apart that they seem to be in different units."""


# What lies within this part of something else is likely to be in seconds, and the other in milliseconds.
_FAR = 1e-3
# A run that is shorter than this part of every time constant shows nothing of the neurons, and one of which they are
# more than a million times as long is one of neurons without a leak.
_SHORT, _ENDLESS = 1e-2, 1e6
# No neuron is this fast, in ms. Without it a run of minutes would look as if time constants were in seconds.
_FAST = 0.1
# Few runs in ms are this short, and most in seconds are.
_BRIEF = 1.0
_EXPECTED = "eventsnn takes all times in one unit, ms by default: multiply seconds by 1e3"

_has_warned = False


def check_time_constants(neurons: Any, max_solver_time: float) -> None:
    """Warn if all time constants of a network are out of proportion to the length of its runs."""
    held = _time_constants(neurons)
    if not held.size:
        return
    shortest, longest = float(held.min()), float(held.max())
    if longest <= _FAR * max_solver_time and longest < _FAST:
        _warn(
            f"the longest time constant is {longest:g} ms, and max_solver_time = {max_solver_time:g} ms is more than "
            f"a thousand times as long. Are the time constants in seconds? {_EXPECTED}"
        )
    elif max_solver_time < _BRIEF and max_solver_time <= _SHORT * shortest and shortest < _ENDLESS * max_solver_time:
        _warn(
            f"max_solver_time is {max_solver_time:g} ms, and the shortest time constant, {shortest:g} ms, is more than "
            f"a hundred times as long. Is max_solver_time in seconds? {_EXPECTED}"
        )


def check_input_times(neurons: Any, in_spikes: Array, max_solver_time: float) -> None:
    """Warn if all input spikes come within next to no time. Where numbers are unknown nothing is looked at."""
    if _has_warned or isinstance(in_spikes, Tracer):
        return
    held = _time_constants(neurons)
    # One that is longer than the run may stand for a neuron without a leak.
    longest = float(np.max(held, where=held <= max_solver_time, initial=0.0))
    times = np.asarray(in_spikes)
    last = float(np.max(times, where=np.isfinite(times), initial=0.0))
    if 0 < last <= _FAR * longest:
        _warn(
            f"the last input spike is at {last:g} ms, and a time constant, {longest:g} ms, is more than a thousand "
            f"times as long. Are the input spikes in seconds? {_EXPECTED}"
        )


def _time_constants(neurons: Any) -> Float[np.ndarray, " numbers"]:
    """All time constants of a layer or of several, none where they are unknown."""
    values = list(_declared_time_constants(neurons))
    if not values or any(isinstance(value, Tracer) for value in values):
        return np.zeros(0)
    return np.concatenate([np.ravel(np.asarray(value, float)) for value in values])


def _declared_time_constants(tree: Any) -> Iterator[Array]:
    """The hyperparameters that are declared as a time constant, also in models within models."""
    if isinstance(tree, tuple | list):
        for part in tree:
            yield from _declared_time_constants(part)
    elif isinstance(tree, NeuronModel):
        for name, declaration in type(tree)._declared.items():
            parameter = getattr(tree, name, None)
            if "time constant" in declaration.text and isinstance(parameter, Parameter):
                yield parameter.value
        for field in dataclasses.fields(tree):
            yield from _declared_time_constants(getattr(tree, field.name, None))


def _warn(message: str) -> None:
    global _has_warned
    if not _has_warned:
        _has_warned = True
        warnings.warn(message, UnitsWarning, stacklevel=_depth_of_caller())


def _depth_of_caller() -> int:
    """How far up the code is that called into this package."""
    ours = ("eventsnn", "equinox", "jaxtyping", "beartype")
    frame, depth = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in ours:
        frame, depth = frame.f_back, depth + 1
    return depth
