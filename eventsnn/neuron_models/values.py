"""The numbers of a model that has been built: their names, other values for them, and whether they fit."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .base import NeuronModel
from .currents import AbstractCurrent, as_current, for_neurons
from .declared import make_value
from .mixed import AbstractMixed
from .parameter import Parameter, checked_array, described, reject, replaced
from .wrapper import AbstractWrapper


def names_of(model: NeuronModel) -> set[str]:
    """What `with_values` can change: for a wrapper and a mixture also what the models inside know."""
    if isinstance(model, AbstractMixed):
        # A keyword that the mixture gives to a part alone stays as it is.
        of_parts = zip(model.parts, model.keywords, strict=True)
        return set().union(*(names_of(part) - set(own) for part, own in of_parts))
    if isinstance(model, AbstractWrapper):
        return {*model.own_numbers, *model.own_keywords} | names_of(model.neuron)
    fields = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    return {name for name, value in fields.items() if isinstance(value, Parameter) or eqx.is_inexact_array(value)}


def with_values(model: NeuronModel, n_neurons: int, dtype: Any, values: Mapping[str, Any]) -> Any:
    """The same neurons with other values, checked as the constructor does; what is trainable stays trainable."""
    if isinstance(model, AbstractMixed):
        parts = [
            with_values(part, size, dtype, {name: values[name] for name in values if name in names_of(part) - set(own)})
            for part, size, own in zip(model.parts, model.sizes, model.keywords, strict=True)
        ]
        return replaced(model, parts=tuple(parts))
    if isinstance(model, AbstractWrapper):
        own: dict[str, Any] = {
            name: _made(model, name, values[name], n_neurons, dtype) for name in values if name in model.own_numbers
        }
        if "current" in values and "current" in model.own_keywords:
            own["current"] = for_neurons(as_current(values["current"]), n_neurons, dtype)
        inside = {name: value for name, value in values.items() if name not in own}
        new = replaced(model, **own, neuron=with_values(model.neuron, n_neurons, dtype, inside))
    else:
        new = model
        # In the order of their declaration: an initial state may name what was declared before.
        for field in dataclasses.fields(model):
            if field.name in values:
                made = _made(new, field.name, values[field.name], n_neurons, dtype)
                new = replaced(new, **{field.name: made})
    for cls in type(new).__mro__:
        if "__check_init__" in vars(cls):
            vars(cls)["__check_init__"](new)
    return new


def _made(model: NeuronModel, name: str, value: Any, n_neurons: int, dtype: Any) -> Parameter | Array:
    """A number of a model, from what a caller gives for it."""
    present, declaration = getattr(model, name), _declarations(model).get(name)
    if declaration is not None:
        chosen = (name,) if isinstance(present, Parameter) and present.trainable else ()
        return make_value(model, name, declaration, value, n_neurons, dtype, chosen)
    # A constructor that was written by hand: the shape that is there, or one that all models take.
    old = present.value if isinstance(present, Parameter) else present
    array = checked_array(name, value, tuple(dict.fromkeys([(), (n_neurons,), old.shape])), dtype)
    if not isinstance(present, Parameter):
        return jnp.broadcast_to(array, old.shape)
    parameter = Parameter(array, present.trainable, present.bounds)
    reject(name, array, parameter.beyond, described(present.bounds).strip())
    return parameter


def _declarations(model: NeuronModel) -> dict[str, Any]:
    return {**model._declared, **getattr(model, "own_numbers", {})}


def check_values(model: NeuronModel, where: str, n_neurons: int, dtype: Any, advice: str) -> None:
    """Whether each number of a model is what its constructor makes of it; `eqx.tree_at` puts in what it is given.

    **Raises:** `TypeError` or `ValueError` that names the place and what to write instead, with `advice` for the call.
    """
    if isinstance(model, AbstractMixed):
        for number, (part, size) in enumerate(zip(model.parts, model.sizes, strict=True)):
            check_values(part, f"{where}.parts[{number}]", size, dtype, advice)
        return
    if isinstance(model, AbstractWrapper):
        check_values(model.neuron, f"{where}.neuron", n_neurons, dtype, advice)
    declared = _declarations(model)
    for field in dataclasses.fields(model):
        value, place = getattr(model, field.name), f"{where}.{field.name}"
        declaration = declared.get(field.name)
        shapes: tuple[tuple[int, ...], ...] | None = ((), (n_neurons,))
        if declaration is None:
            shapes = None
        elif declaration.kind == "state":
            shapes = ((n_neurons, len(model.channels)),)
        elif declaration.kind == "bias":
            check_array(place, value, ((n_neurons,),), dtype, advice.format(field.name))
            continue
        if declaration is not None or field.type in (Parameter, "Parameter"):
            check_parameter(place, value, shapes, dtype, advice.format(field.name))
        elif isinstance(value, AbstractCurrent):
            _check_current(value, place, n_neurons, dtype, advice.format(field.name))


def _check_current(current: AbstractCurrent, where: str, n_neurons: int, dtype: Any, advice: str) -> None:
    for field in dataclasses.fields(current):
        value, place = getattr(current, field.name), f"{where}.{field.name}"
        if isinstance(value, AbstractCurrent):
            _check_current(value, place, n_neurons, dtype, advice)
        elif field.type in (Parameter, "Parameter"):
            check_parameter(place, value, ((), (n_neurons,)), dtype, advice)


def check_parameter(
    place: str, value: Any, shapes: tuple[tuple[int, ...], ...] | None, dtype: Any, advice: str
) -> None:
    """A `TypeError` or `ValueError` for what is no parameter with one of `shapes`; any shape if that is `None`."""
    if not isinstance(value, Parameter):
        raise TypeError(f"{place} is {_named(value)}, expected a Parameter: {_with(advice, value)}")
    check_array(f"{place}.value", value.value, shapes, dtype, advice)


def check_array(place: str, value: Any, shapes: tuple[tuple[int, ...], ...] | None, dtype: Any, advice: str) -> None:
    """The same for an array."""
    if not isinstance(value, jax.Array | np.ndarray):
        raise TypeError(f"{place} is {_named(value)}, expected an array of {jnp.dtype(dtype)}: {_with(advice, value)}")
    if shapes is not None and value.shape not in shapes:
        wanted = " or ".join("a scalar" if shape == () else f"shape {shape}" for shape in shapes)
        raise ValueError(f"{place} has shape {value.shape}, expected {wanted}: {advice}")
    if value.dtype != dtype:
        raise TypeError(f"{place} has dtype {value.dtype}, expected {jnp.dtype(dtype)}: {advice}")


def _with(advice: str, value: Any) -> str:
    """The call to write instead, complete where one number was put in."""
    return advice.replace("=...", f"={value!r}", 1) if isinstance(value, int | float) else advice


def _named(value: Any) -> str:
    if isinstance(value, jax.Array | np.ndarray):
        return f"an array of shape {value.shape}"
    return f"a {type(value).__name__}" if isinstance(value, eqx.Module) else repr(value)
