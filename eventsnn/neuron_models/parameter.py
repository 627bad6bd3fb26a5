"""Hyperparameters of neurons: scalar or one per neuron, fixed or trainable."""

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

Bounds: TypeAlias = tuple[float, float]
"""Between which numbers a parameter lies, these themselves excluded."""

ANY: Bounds = (-math.inf, math.inf)
POSITIVE: Bounds = (0.0, math.inf)


def replaced(module: Any, **fields: Any) -> Any:
    """The same module with other values in some of its fields, static ones included."""
    new = object.__new__(type(module))
    for field in dataclasses.fields(module):
        value = fields[field.name] if field.name in fields else getattr(module, field.name)
        object.__setattr__(new, field.name, value)
    return new


def assign(module: Any, name: str, value: Any, what: str | None = None) -> None:
    """Set a field in the constructor; later raise an error that says what to write. `what` is its name for `with_`."""
    try:
        eqx.Module.__setattr__(module, name, value)
    except dataclasses.FrozenInstanceError:
        raise dataclasses.FrozenInstanceError(
            f"{type(module).__name__}.{name} cannot be assigned to, networks stay as they are: write "
            f"net = net.with_({what or name}=...), which gives a new one"
        ) from None


class Parameter(eqx.Module):
    """A number that describes a neuron, such as a time constant.

    Read it in a model with `.value`. It is an ordinary leaf, so that two networks that differ
    only in their numbers share one compilation; `trainable` says whether gradients reach it.

    - `value`: shape `()` or `(neurons,)`, or `(neurons, channels)` for a state.
    - `trainable`: whether it receives a gradient; a fixed one has gradient exactly 0.
    - `bounds`: between which numbers it lies, `(0, inf)` for a time constant. Values at or beyond
        them are an error; `eventsnn.within_bounds` trains without leaving them.
    """

    value: Array
    trainable: bool = eqx.field(static=True, default=False)
    bounds: Bounds = eqx.field(static=True, default=ANY)

    def __setattr__(self, name: str, value: Any) -> None:
        assign(self, name, value, what="tmem")

    def frozen(self) -> "Parameter":
        """The same parameter, without a gradient if it is fixed."""
        return self if self.trainable else Parameter(jax.lax.stop_gradient(self.value), False, self.bounds)

    def per_neuron(self, n_neurons: int) -> "Parameter":
        """The same parameter with one value per neuron and, if it is fixed, no gradient."""
        value = self.frozen().value
        if value.ndim == 0:
            value = jnp.broadcast_to(value, (n_neurons,))
        return Parameter(value, self.trainable, self.bounds)

    @property
    def beyond(self) -> Array:
        """Which of the values are not between the bounds, or not finite."""
        lower, upper = self.bounds
        return ~(jnp.isfinite(self.value) & (self.value > lower) & (self.value < upper))


class WholeNumbers(eqx.Module):
    """Whole numbers or a mask, written as floating point numbers.

    Every leaf of a network is made of these, so that `jax.grad` and optax take the network as it is.

    - `digits`: to the base 2¹⁶ where there are several, the last axis of them; exact in every precision.
    - `is_mask`: whether they stand for `True` and `False`.
    """

    digits: Float[Array, "*shape digits"]
    is_mask: bool = eqx.field(static=True)

    def __init__(self, numbers: ArrayLike, dtype, below: int = 2):
        """**Arguments:** the `numbers`, 0 … `below - 1`, or a mask; and the `dtype` to write them in."""
        self.is_mask = numbers.dtype == bool if isinstance(numbers, jax.Array) else np.asarray(numbers).dtype == bool
        # Known even while a function that makes networks is being compiled.
        with contextlib.nullcontext() if isinstance(numbers, Tracer) else jax.ensure_compile_time_eval():
            numbers = jnp.asarray(numbers, jnp.int32)
            several = below > 2 ** (jnp.finfo(dtype).nmant + 1)
            digits = [numbers // _BASE, numbers % _BASE] if several else [numbers]
            self.digits = jnp.stack(digits, axis=-1).astype(dtype)

    @property
    def value(self) -> Int[Array, "*shape"] | Bool[Array, "*shape"]:
        """What they stand for."""
        return self._read(jnp, jax.lax.stop_gradient(self.digits))

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """The same for NumPy, where they are known."""
        value = self._read(np, np.asarray(self.digits))
        return value if dtype is None else value.astype(dtype)

    def check(self) -> tuple[Array, Array]:
        """The first of the floating point numbers, and whether any is not what was written."""
        digits = jax.lax.stop_gradient(self.digits)
        bad = (digits != jnp.round(digits)) | (digits < 0) | (digits > 1 if self.is_mask else False)
        return digits.reshape(-1)[jnp.argmax(bad)], jnp.any(bad)

    def _read(self, numpy: Any, digits: Any) -> Any:
        numbers = numpy.round(digits).astype(numpy.int32)
        if self.is_mask:
            return numbers[..., 0] > 0
        return numbers[..., 0] if digits.shape[-1] == 1 else numbers[..., 0] * _BASE + numbers[..., 1]


_BASE = 2**16


def described(bounds: Bounds) -> str:
    """Bounds in words, as they end the sentence "expected a finite number …"."""
    lower, upper = bounds
    if math.isinf(lower) and math.isinf(upper):
        return ""
    if math.isinf(upper):
        return f" greater than {lower:g}"
    return f" below {upper:g}" if math.isinf(lower) else f" between {lower:g} and {upper:g}"


def frozen(tree: PyTree) -> PyTree:
    """A model in which no gradient reaches the parameters that are fixed."""
    return jax.tree.map(
        lambda leaf: leaf.frozen() if isinstance(leaf, Parameter) else leaf, tree, is_leaf=_is_parameter
    )


def per_neuron(tree: PyTree, n_neurons: int) -> PyTree:
    """A model with one value per neuron in every parameter, and no gradient to those that are fixed."""

    def knows_how(leaf) -> bool:
        return hasattr(leaf, "per_neuron")

    return jax.tree.map(lambda leaf: leaf.per_neuron(n_neurons) if knows_how(leaf) else leaf, tree, is_leaf=knows_how)


def trainable(network: PyTree) -> PyTree:
    """A filter for `equinox.partition` and optax: `True` for what receives gradients.

    That is every floating point array, except for hyperparameters that are fixed, and for masks and indices.
    """

    def marked(leaf):
        if isinstance(leaf, Parameter | WholeNumbers):
            receives = isinstance(leaf, Parameter) and leaf.trainable
            return jax.tree.map(lambda _: receives, leaf)
        return eqx.is_inexact_array(leaf)

    return jax.tree.map(marked, network, is_leaf=lambda leaf: isinstance(leaf, Parameter | WholeNumbers))


def _is_parameter(leaf) -> bool:
    return isinstance(leaf, Parameter)


def make_parameter(
    name: str,
    value: ArrayLike,
    n_neurons: int,
    dtype,
    *,
    trainable: Iterable[str] = (),
    bounds: Bounds = ANY,
) -> Parameter:
    """Check `value` and wrap it.

    **Raises:** `ValueError` if it is not a finite scalar or `(n_neurons,)` array, or not between its `bounds`.
    """
    array = checked_array(name, value, ((), (n_neurons,)), dtype)
    parameter = Parameter(array, name in trainable, bounds)
    reject(name, array, parameter.beyond, described(bounds).strip())
    return parameter


def make_state(
    name: str, value: ArrayLike | Sequence[float], shape: tuple[int, int], dtype, *, trainable: Iterable[str] = ()
) -> Parameter:
    """An initial state of `shape` from one number, one row of channels, or the whole state."""
    state = checked_array(name, value, ((), shape[1:], shape), dtype)
    return Parameter(jnp.broadcast_to(state, shape), name in trainable)


def trainable_names(trainable: Iterable[str], names: tuple[str, ...]) -> tuple[str, ...]:
    """`trainable` as a tuple; a `ValueError` if it holds something that is not one of `names`."""
    trainable = (trainable,) if isinstance(trainable, str) else tuple(trainable)
    unknown = [name for name in trainable if name not in names]
    if unknown:
        raise ValueError(f"trainable names {unknown[0]!r}, expected some of {', '.join(names)}")
    return trainable


def checked_array(name: str, value: ArrayLike | Sequence[float], shapes: tuple[tuple[int, ...], ...], dtype) -> Array:
    """`value` as an array of `dtype`; a `ValueError` if its shape is none of `shapes` or if it is not finite."""
    try:
        array = jnp.asarray(value, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a number or an array of numbers, got {value!r}") from error
    if array.shape not in shapes:
        wanted = " or ".join("a scalar" if shape == () else f"shape {shape}" for shape in shapes)
        raise ValueError(f"{name} has shape {array.shape}, expected {wanted}")
    reject(name, array, ~jnp.isfinite(array), "finite")
    return array


def reject_unfit_times(name: str, value: Any) -> None:
    """A `TypeError` for times that are truth values or in half precision, which rounds coarsely and overflows."""
    for leaf in jax.tree.leaves(value):
        dtype = getattr(leaf, "dtype", None)
        if isinstance(leaf, bool) or dtype is not None and jnp.issubdtype(dtype, jnp.bool_):
            raise TypeError(f"{name} has dtype bool, expected times in ms")
        if dtype is not None and jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32:
            digits = jnp.finfo(dtype).nmant
            raise TypeError(
                f"{name} has dtype {dtype}, whose {digits + 1} bits round a time near 1000 ms to a multiple of "
                f"{2.0 ** (9 - digits):g} ms, and in which a large time becomes inf, which means no spike: convert "
                f"what was stored before anything is computed with it, np.asarray({name}, np.float32), and "
                "np.asarray(seconds, np.float32) * 1e3 if it is in seconds"
            )


def reject(name: str, array: Array, bad: Array, wanted: str) -> None:
    """A `ValueError` that names the first `bad` element. Under a transformation, where numbers are unknown, nothing."""
    if isinstance(bad, Tracer):
        return
    if np.any(bad):
        where = tuple(int(i) for i in np.argwhere(np.asarray(bad))[0])
        position = f"[{', '.join(map(str, where))}]" if where else ""
        raise ValueError(f"{name}{position} is {array[where]}, expected a value that is {wanted}")


def reject_reset(vreset: Parameter, thresh: Parameter) -> None:
    """A `ValueError` for a neuron that is reset to its threshold or above."""
    reset, limit = jnp.broadcast_arrays(vreset.value, thresh.value)
    reject("vreset", reset, reset >= limit, "below thresh")
