"""How a model says which numbers it has: one line for each, from which its constructor is made."""

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from .bias import make_bias
from .parameter import (
    ANY,
    POSITIVE,
    Bounds,
    Parameter,
    checked_array,
    described,
    make_parameter,
    make_state,
    trainable_names,
)

_HYPERPARAMETER, _STATE, _BIAS = "hyperparameter", "state", "bias"


@dataclasses.dataclass(frozen=True)
class Declaration:
    """What a model says of one of its numbers."""

    kind: str
    default: Any
    text: str
    bounds: Bounds = ANY


def hyperparameter(
    default: Any, text: str = "", *, positive: bool = False, bounds: tuple[float, float] | None = None
) -> Any:
    """Declare a number of a neuron model.

    `tmem: Parameter = hyperparameter(20.0, "time constant in ms", positive=True)` becomes a keyword of
    the constructor that takes a scalar or one value per neuron, can be named in `trainable`, and is
    read with `self.tmem.value`.

    - `default`: its value, a number.
    - `text`: what it is, with its unit, for `help`. One that says "time constant" is compared with the times of a
        run, so that seconds in place of milliseconds are noticed.
    - `positive`: whether it has to be greater than 0.
    - `bounds`: between which numbers it has to lie, these themselves excluded.
    """
    return _field(declare(default, text, positive=positive, bounds=bounds))


def declare(
    default: Any, text: str, *, positive: bool = False, bounds: tuple[float, float] | None = None
) -> Declaration:
    """As `hyperparameter`, to be written down elsewhere."""
    if positive and bounds is not None:
        raise ValueError(f"positive and bounds = {bounds} were both given: pass one of them")
    return Declaration(_HYPERPARAMETER, default, text, bounds if bounds is not None else POSITIVE if positive else ANY)


def initial_state(default: Any = 0.0, text: str = "") -> Any:
    """Declare the initial state of a neuron model.

    The keyword, as in `y0: Parameter = initial_state(0.0)`, takes one number for all channels, one row
    of channels, or `(neurons, channels)`. In a row the name of a hyperparameter that was declared before
    stands for its value: `initial_state(("vrest", 0.0))`.
    """
    return _field(Declaration(_STATE, default, text))


def bias(default: float = 0.0, text: str = "") -> Any:
    """Declare the bias current of a neuron model.

    `ic: Array = bias()` becomes the keywords `init_bias`, `blim` and `bmean` of the constructor, and
    always takes gradients.
    """
    return _field(Declaration(_BIAS, default, text))


def _field(declaration: Declaration) -> Any:
    return eqx.field(metadata={"declaration": declaration})


def declarations_of(cls: type) -> dict[str, Declaration]:
    """What the class itself declares, before it is made a dataclass."""
    fields = {name: value for name, value in vars(cls).items() if isinstance(value, dataclasses.Field)}
    found = {name: field.metadata.get("declaration") for name, field in fields.items()}
    declared = {name: declaration for name, declaration in found.items() if declaration is not None}
    for name in declared:
        if name not in vars(cls).get("__annotations__", {}):
            raise TypeError(f"{cls.__name__} declares {name} without a type: write {name}: Parameter = …")
    return declared


def make_constructor(declared: Mapping[str, Declaration], channels: Sequence[str]) -> Callable[..., None]:
    """The constructor of a model: `__init__(self, n_neurons, *, …)` with a keyword for all that it declares."""
    signature = _signature(declared)
    known = [name for name in signature.parameters if name not in ("self", "n_neurons")]
    names = tuple(name for name, declaration in declared.items() if declaration.kind != _BIAS)

    def __init__(self, *args: Any, **keywords: Any) -> None:
        for name in keywords:
            if name not in signature.parameters:
                close = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
                raise TypeError(f"{type(self).__name__} has no {name!r}: {hint}")
        given = signature.bind(self, *args, **keywords)
        given.apply_defaults()
        values = given.arguments
        n_neurons, dtype, key = values["n_neurons"], values["dtype"], values["key"]
        chosen = trainable_names(values["trainable"], names)
        for name, declaration in declared.items():
            if declaration.kind == _BIAS:
                made = make_bias(n_neurons, values["init_bias"], values["blim"], values["bmean"], dtype, key)
            else:
                made = make_value(self, name, declaration, values[name], n_neurons, dtype, chosen)
            setattr(self, name, made)

    constructor: Any = __init__
    constructor.__signature__ = signature
    constructor.__doc__ = _text(declared, channels)
    constructor.made_from_declarations = True
    return constructor


def make_value(
    model: Any, name: str, declaration: Declaration, value: Any, n_neurons: int, dtype: Any, trainable: Iterable[str]
) -> Parameter | Array:
    """What becomes of a number of a `model` that is given a `value`."""
    if declaration.kind == _STATE:
        shape = (n_neurons, len(model.channels))
        return make_state(name, _with_values(model, value, n_neurons), shape, dtype, trainable=trainable)
    if declaration.kind == _BIAS:
        return jnp.broadcast_to(checked_array(name, value, ((), (n_neurons,)), dtype), (n_neurons,))
    return make_number(name, declaration, value, n_neurons, dtype, trainable)


def _with_values(model: Any, row: Any, n_neurons: int) -> Any:
    """A state in which hyperparameters may be named, with their values."""
    if not isinstance(row, tuple) or not any(isinstance(number, str) for number in row):
        return row
    values = [getattr(model, number).value if isinstance(number, str) else number for number in row]
    return jnp.stack([jnp.broadcast_to(jnp.asarray(value), (n_neurons,)) for value in values], axis=1)


def make_number(
    name: str, declaration: Declaration, value: ArrayLike, n_neurons: int, dtype: Any, trainable: Iterable[str]
) -> Parameter:
    """What becomes of a hyperparameter that is given a `value`."""
    return make_parameter(name, value, n_neurons, dtype, trainable=trainable, bounds=declaration.bounds)


def _signature(declared: Mapping[str, Declaration]) -> inspect.Signature:
    kind = inspect.Parameter
    found = [kind("self", kind.POSITIONAL_ONLY), kind("n_neurons", kind.POSITIONAL_OR_KEYWORD, annotation=int)]
    keywords: dict[str, Any] = {}
    for name, declaration in declared.items():
        if declaration.kind == _BIAS:
            keywords |= {"init_bias": None, "blim": None, "bmean": declaration.default}
        else:
            keywords[name] = declaration.default
    keywords |= {"trainable": (), "dtype": jnp.float32, "key": None}
    return inspect.Signature(found + [kind(name, kind.KEYWORD_ONLY, default=value) for name, value in keywords.items()])


def _text(declared: Mapping[str, Declaration], channels: Sequence[str]) -> str:
    """What `help` says of the constructor."""
    lines = ["**Arguments:** each hyperparameter is a scalar or has shape `(n_neurons,)`.", ""]
    lines.append("- `n_neurons`: how many neurons the layer has.")
    for name, declaration in declared.items():
        if declaration.kind == _BIAS:
            what = declaration.text or "the bias current"
            lines.append(
                f"- `init_bias`: {what}, `{name}`. Without it the bias is uniform in `bmean ± blim/2`, drawn with "
                f"`key`, or `bmean` if `blim` is `None`; default {declaration.default}."
            )
            continue
        what = declaration.text or name
        if declaration.kind == _STATE:
            row = f"({', '.join(channels)})"
            what = f"{declaration.text or 'the initial state'} {row}: one number, `({len(channels)},)`, or with a row "
            what += "for each neuron"
        limits = described(declaration.bounds)
        lines.append(f"- `{name}`: {what}{',' * bool(limits)}{limits}, default {declaration.default}.")
    lines += [
        "- `trainable`: names of the hyperparameters that receive gradients. A bias current always does.",
        "- `dtype`: of all numbers, default `float32`.",
        "",
        "**Raises:** `ValueError` for a value that is not finite or has the wrong shape or sign, and for a name in",
        "`trainable` that does not exist; `TypeError` for an unknown keyword.",
    ]
    return "\n".join(lines)


def keywords_of(model: type) -> set[str]:
    """What the constructor of a model takes; behind `**keywords`, what that of its parent takes as well."""
    names: set[str] = set()
    for parent in (cls for cls in model.__mro__ if "__init__" in vars(cls)):
        parameters = inspect.signature(parent).parameters.values()
        names |= {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
            break
    return names


class MadeBy(NamedTuple):
    """How a class of models was made from others, so that it can be made again.

    - `maker`: the name of the function, and `models` the classes that it was given.
    - `options`: what else, as numbers, strings, and lists of them.
    """

    maker: str
    models: tuple[type, ...]
    options: dict[str, Any]


def constructor_with(constructor: Callable[..., None], keywords: Mapping[str, Any]) -> Callable[..., None]:
    """A constructor that takes any keywords, with a signature that names those that it knows, and their defaults."""

    @functools.wraps(constructor)
    def __init__(self, *args: Any, **given: Any) -> None:
        constructor(self, *args, **given)

    kind = inspect.Parameter
    found = [kind("self", kind.POSITIONAL_ONLY), kind("n_neurons", kind.POSITIONAL_OR_KEYWORD)]
    found += [kind(name, kind.KEYWORD_ONLY, default=default) for name, default in keywords.items()]
    named: Any = __init__
    named.__signature__ = inspect.Signature(found)
    return named
