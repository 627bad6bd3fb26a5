"""How a model says which numbers it has: one line for each, from which its constructor is made."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from .bias import make_bias
from .parameter import ANY, POSITIVE, Bounds, described, make_parameter, make_state, trainable_names

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
    - `text`: what it is, with its unit, for `help`.
    - `positive`: whether it has to be greater than 0.
    - `bounds`: between which numbers it has to lie, these themselves excluded.
    """
    if positive and bounds is not None:
        raise ValueError(f"positive and bounds = {bounds} were both given: pass one of them")
    limits = bounds if bounds is not None else POSITIVE if positive else ANY
    return _field(Declaration(_HYPERPARAMETER, default, text, limits))


def initial_state(default: Any = 0.0, text: str = "") -> Any:
    """Declare the initial state of a neuron model.

    The keyword, as in `y0: Parameter = initial_state(0.0)`, takes one number for all channels, one row
    of channels, or `(neurons, channels)`.
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
    return {name: declaration for name, declaration in found.items() if declaration is not None}


def make_constructor(declared: Mapping[str, Declaration], channels: Sequence[str]) -> Callable[..., None]:
    """The constructor of a model: `__init__(self, n_neurons, *, …)` with a keyword for all that it declares."""
    signature = _signature(declared)
    names = tuple(name for name, declaration in declared.items() if declaration.kind != _BIAS)

    def __init__(self, *args: Any, **keywords: Any) -> None:  # noqa: N807
        given = signature.bind(self, *args, **keywords)
        given.apply_defaults()
        values = given.arguments
        n_neurons, dtype, key = values["n_neurons"], values["dtype"], values["key"]
        chosen = trainable_names(values["trainable"], names)
        for name, declaration in declared.items():
            if declaration.kind == _BIAS:
                made = make_bias(n_neurons, values["init_bias"], values["blim"], values["bmean"], dtype, key)
            elif declaration.kind == _STATE:
                shape = (n_neurons, len(channels))
                made = make_state(name, values[name], shape, dtype, trainable=chosen)
            else:
                bounds = declaration.bounds
                made = make_parameter(name, values[name], n_neurons, dtype, trainable=chosen, bounds=bounds)
            setattr(self, name, made)

    constructor: Any = __init__
    constructor.__signature__ = signature
    constructor.__doc__ = _text(declared, channels)
    constructor.made_from_declarations = True
    return constructor


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
