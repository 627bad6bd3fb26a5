"""What mistakes in a model look like, and what to write instead."""

import difflib
import dis
import inspect
import re
from types import TracebackType
from typing import Any

import jax

from ..base import NeuronModel
from ..parameter import Parameter


def describe(value: Any) -> str:
    return f"a {type(value).__name__}" if value is not None else "None"


def advice_about(error: Exception, method: str) -> str | None:
    """What to do about an error that a method of a model has raised, if it is one that is easily made."""
    text = str(error)
    if re.search(r"\bParameter\b", text):
        return _about_parameters(error)
    if isinstance(error, jax.errors.TracerBoolConversionError) or "truth value" in text:
        return "numbers are not known when a model is compiled: use jnp.where in the place of if, and & for and"
    if isinstance(error, jax.errors.TracerArrayConversionError):
        return "NumPy cannot be compiled: use jax.numpy throughout"
    if isinstance(error, jax.errors.ConcretizationTypeError | jax.errors.TracerIntegerConversionError):
        return "numbers are not known when a model is compiled: use jax.numpy in the place of float() and int()"
    if isinstance(error, AttributeError) and error.name is not None:
        return _about_attribute(error.name, error.obj)
    if isinstance(error, IndexError):
        return _TIMES if method == "breakpoints" else _INDICES
    if isinstance(error, jax.dtypes.TypePromotionError):
        return "look for a number made without dtype, or with NumPy, and give it the dtype of the state"
    if f"{method}() " in text and "argument" in text:
        return f"write def {method}{_signature(method)}"
    if re.search(r"broadcast|[Ii]ncompatible shapes|shapes must be equal", text):
        return (
            "y is (neurons, channels), weights and parameters are (neurons,): take y[:, 0], or write weights[:, None]"
        )
    return None


def advice_about_form(method: str, form: Any, shape: tuple[int, ...] | None, expected: str) -> str:
    """What to do about a result that is no array, or that does not have the `shape` or the dtype that is expected."""
    if form is None:
        return "return what it computes"
    if not isinstance(form, jax.ShapeDtypeStruct):
        return "write .value after the Parameter" if form == "a Parameter" else "return a jax.numpy array"
    if method == "spike_condition" and form.dtype == bool:
        return "a condition is a difference such as V - thresh, not a comparison"
    if method == "breakpoints":
        return _TIMES
    if method in ("init_state", "observe") and form.ndim != 2:
        return _COLUMNS
    if shape is None or form.shape == shape:
        if "bool" in expected:
            return "return booleans, as a comparison does"
        return "look for a number made without dtype, or with NumPy, and give it the dtype of the state"
    if len(shape) == 1:
        return "return one number per neuron: take a channel, as in y[:, 0], and no sum over neurons"
    if form.ndim != 2 or form.shape[0] != shape[0]:
        return _COLUMNS
    return "write self.tmem.value[:, None] where a parameter, one per neuron, meets the whole state"


_INDICES = "y is (neurons, channels), parameters are (neurons,), and t may be a scalar: count the indices"
_TIMES = "write self.start.value[..., None] for one time that may be a scalar or one per neuron"
_COLUMNS = "return one row per neuron and one column per channel, as jnp.stack([dv, di], axis=1) does"


def _about_parameters(error: Exception) -> str:
    names: list[str] = []
    at: TracebackType | None = error.__traceback__
    while at is not None:
        # The last function in the traceback that reads a parameter is the one that did not read its value.
        names = _without_value(at) or names
        at = at.tb_next
    if not names:
        return "read a Parameter with .value"
    what = f"{names[0]} is a Parameter" if len(names) == 1 else f"{' and '.join(names)} are Parameters"
    return f"{what}: write {' and '.join(f'self.{name}.value' for name in names)}"


def _without_value(at: TracebackType) -> list[str]:
    """Which parameters of a model a function reads without `.value`. Its code tells, where there is no source text."""
    frame = at.tb_frame
    models = [value for value in frame.f_locals.values() if isinstance(value, NeuronModel)]
    code = list(dis.get_instructions(frame.f_code))
    reads = [(one.argval, after.argval) for one, after in zip(code, code[1:], strict=False) if "ATTR" in one.opname]
    found = [name for name, after in reads if after != "value"]
    return [
        name
        for name in dict.fromkeys(found)
        if any(isinstance(getattr(model, name, None), Parameter) for model in models)
    ]


def _about_attribute(name: str, owner: Any) -> str:
    close = difflib.get_close_matches(name, [other for other in dir(owner) if not other.startswith("_")], 1)
    if close:
        return f"did you mean {close[0]}?"
    if isinstance(owner, NeuronModel):
        return f"declare it in the class, as in {name}: Parameter = hyperparameter(1.0)"
    return f"{describe(owner)} has nothing of this name"


def _signature(method: str) -> str:
    names = inspect.signature(getattr(NeuronModel, method)).parameters
    return f"({', '.join(names)})"
