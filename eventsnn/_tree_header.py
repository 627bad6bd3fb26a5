"""A tree of modules as JSON and back, without executing anything from it."""

import dataclasses
import sys
import types
from collections.abc import Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix

from .neuron_models import AtMostOneSpike, Mixed, Refractory, WithBiasCurrent

# Classes are looked up among the modules of these packages that are already imported.
_PACKAGES = ("eventsnn", "diffrax", "equinox", "optimistix", "lineax")
# Functions and other unique objects that may stand in a field. No function here does more than arithmetic.
_NAMED = {
    "optimistix:rms_norm": optimistix.rms_norm,
    "optimistix:max_norm": optimistix.max_norm,
    "optimistix:two_norm": optimistix.two_norm,
    # What implicit solvers hold in place of tolerances: it is compared by identity.
    "diffrax:stepsize_tolerance": diffrax.with_stepsize_controller_tols(optimistix.Newton)().rtol,
}
# What makes classes of neuron models from others.
_MAKERS = {
    "Refractory": Refractory,
    "AtMostOneSpike": AtMostOneSpike,
    "WithBiasCurrent": WithBiasCurrent,
    "Mixed": lambda *models, sizes: Mixed(*zip(models, sizes, strict=True)),
}
_DTYPES = ("float32", "float64")


def describe(value: Any, arrays: list[np.ndarray], where: str) -> Any:
    """`value` as JSON. Arrays are appended to `arrays` and stand in the JSON by their number.

    **Raises:** `TypeError` that names the place, for a value that cannot be saved.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return {"int": str(value)}
    if isinstance(value, float):
        return {"float": repr(float(value))}
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return _describe_array(value, arrays, where)
    if isinstance(value, eqx.Module) and not isinstance(value, types.MethodType):
        fields = {
            field.name: describe(getattr(value, field.name), arrays, f"{where}.{field.name}")
            for field in dataclasses.fields(value)
        }
        return {"class": _describe_class(type(value)), "fields": fields}
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        items = [describe(item, arrays, f"{where}[{number}]") for number, item in enumerate(value)]
        return {type(value).__name__: items}
    if type(value) is dict and all(isinstance(key, str) for key in value):
        return {"dict": {key: describe(item, arrays, f"{where}[{key!r}]") for key, item in value.items()}}
    for name, named in _NAMED.items():
        if value is named:
            return {"named": name}
    if _dtype_name(value) is not None:
        return {"dtype": _dtype_name(value), "scalar_type": not isinstance(value, np.dtype)}
    raise TypeError(
        f"{where} is {value!r}, which cannot be saved: expected modules, arrays, numbers, strings, "
        "tuples, lists and dicts of them; keep functions out of fields, or write them as methods"
    )


def _describe_array(value: Any, arrays: list[np.ndarray], where: str) -> dict:
    if jnp.issubdtype(value.dtype, jax.dtypes.extended):
        raise TypeError(f"{where} is a typed random key, which cannot be saved: save jax.random.key_data of it")
    array = np.asarray(value)  # A traced value has no numbers, and raises a TypeError that says so.
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{where} is an array of {array.dtype}, expected numbers that NumPy itself knows")
    arrays.append(array)
    return {"array": len(arrays) - 1}


class HeaderReader:
    """Builds the tree that `describe` has described.

    - `name`: what to call the file in errors.
    - `arrays`: the arrays, in the order in which `describe` appended them.
    - `custom`: classes that may be built besides those of the known packages.
    """

    def __init__(self, name: str, arrays: Sequence[Any], custom: Sequence[type[eqx.Module]]):
        for given in custom:
            if not (isinstance(given, type) and issubclass(given, eqx.Module)):
                raise TypeError(f"custom holds {given!r}, expected classes that derive from equinox.Module")
        self._name = name
        self._arrays = arrays
        self._custom = tuple(custom)

    def build(self, node: Any) -> Any:
        """The value of `node`. **Raises** `ValueError` if it is malformed or needs an unknown class."""
        if node is None or isinstance(node, bool | str):
            return node
        if not isinstance(node, dict):
            raise self._malformed(node)
        try:
            return self._build(node)
        except (KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
            raise self._malformed(node) from error

    def _build(self, node: dict) -> Any:
        match node:
            case {"class": str() | dict() as named, "fields": dict(fields)}:
                return self._build_module(named, fields)
            case {"array": int(number)} if number >= 0:
                return self._arrays[number]
            case {"int": str(text)}:
                return int(text)
            case {"float": str(text)}:
                return float(text)
            case {"list": list(items)}:
                return [self.build(item) for item in items]
            case {"tuple": list(items)}:
                return tuple(self.build(item) for item in items)
            case {"dict": dict(items)}:
                return {key: self.build(item) for key, item in items.items()}
            case {"named": str(name)}:
                return _NAMED[name]
            case {"dtype": str(name), "scalar_type": bool(scalar)} if name in _DTYPES:
                return getattr(jnp, name) if scalar else np.dtype(name)
        raise self._malformed(node)

    def _build_module(self, named: str | dict, fields: dict) -> eqx.Module:
        cls = self._class(named)
        name = _full_name(cls)
        expected = {field.name for field in dataclasses.fields(cls)}
        if expected != set(fields):
            differing = ", ".join(sorted(expected ^ set(fields)))
            raise ValueError(
                f"{self._name} holds a {name} whose fields differ from those of the class in {differing}: "
                "the class has changed since; load with the version that saved it"
            )
        module = object.__new__(cls)
        for field, node in fields.items():
            object.__setattr__(module, field, self.build(node))
        return module

    def _class(self, name: str | dict) -> Any:
        if isinstance(name, dict):
            models = [self._class(model) for model in name["models"]]
            return _MAKERS[name["maker"]](*models, **name["options"])
        module, _, qualname = name.partition(":")
        for given in self._custom:
            if _full_name(given) == name:
                return given
        if module.split(".")[0] in _PACKAGES:
            found: Any = sys.modules.get(module)
            for part in qualname.split("."):
                found = getattr(found, part, None)
            if isinstance(found, type) and issubclass(found, eqx.Module) and _full_name(found) == name:
                return found
            raise ValueError(f"{self._name} needs the class {name}, which this version does not have")
        # A class that was written in a script or a notebook may be imported from elsewhere today.
        named_alike = [given for given in self._custom if given.__qualname__ == qualname]
        if len(named_alike) == 1:
            return named_alike[0]
        short = qualname.split(".")[-1]
        raise ValueError(
            f"{self._name} needs the class {name}, which is not part of eventsnn: pass it, as in "
            f"load(path, custom=[{short}])"
        )

    def _malformed(self, node: Any) -> ValueError:
        text = repr(node)
        text = text if len(text) <= 60 else f"{text[:60]}…"
        return ValueError(f"{self._name} holds {text}, which eventsnn does not know: it was altered; save it again")


def _describe_class(cls: type) -> str | dict:
    """Its name, or how it was made."""
    made_by = vars(cls).get("made_by")
    if made_by is None:
        return _full_name(cls)
    models = [_describe_class(model) for model in made_by.models]
    return {"maker": made_by.maker, "models": models, "options": made_by.options}


def _full_name(value: Any) -> str:
    return f"{value.__module__}:{value.__qualname__}"


def _dtype_name(value: Any) -> str | None:
    if not isinstance(value, np.dtype) and not any(value is getattr(jnp, name) for name in _DTYPES):
        return None
    name = np.dtype(value).name
    return name if name in _DTYPES else None
