"""What the constructor and the queries of a network accept."""

import difflib
import inspect
import math
from collections.abc import Iterable, Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import ArrayLike, PRNGKeyArray

from .connections import CONNECTION_TRAINABLE
from .neuron_models import NeuronModel
from .neuron_models.declared import keywords_of
from .neuron_models.parameter import reject_unfit_times

# The errors of steps add up over a run, and grow while a neuron approaches its threshold slowly. Each
# step is therefore held to this fraction of the tolerance that was asked for.
_PER_STEP = 0.03

CONNECTION_NAMES = (
    "init_weights",
    "wlim",
    "wmean",
    "fan_in_mode",
    "init_delays",
    "dlim",
    "init_axonal_delays",
    "axonal_dlim",
)


def check_order(order: str, **others: Any) -> None:
    """A `TypeError` for a neuron model in the place of another argument."""
    for name, value in others.items():
        first: Any = value[0] if isinstance(value, list | tuple) and value else value
        if _is_model(first):
            raise TypeError(f"{name} is {first.__name__}, a neuron model: write the arguments in the order {order}")


def checked_key(key: Any) -> PRNGKeyArray:
    if not hasattr(key, "dtype") or jnp.issubdtype(key.dtype, jnp.floating) or not np.size(key):
        raise TypeError(f"key is {key!r}, expected a JAX random key: pass jax.random.PRNGKey(0)")
    return key


def checked_sizes(layers: Sequence[int]) -> tuple[int, ...]:
    if isinstance(layers, int):
        raise ValueError(f"layers is {layers}, expected a list with the size of each layer: pass [{layers}]")
    sizes = tuple(checked_count(f"layers[{number}]", size) for number, size in enumerate(layers))
    if not sizes:
        raise ValueError("layers is empty, expected the size of at least one layer")
    return sizes


def checked_size(name: str, value: int) -> int:
    return _whole_number(name, value, 0)


def checked_mask(name: str, value: ArrayLike | None, shape: tuple[int, ...]) -> np.ndarray:
    """A boolean mask, all `True` by default."""
    if value is None:
        return np.ones(shape, bool)
    mask = np.array(value)
    if mask.shape != shape:
        raise ValueError(f"{name} has shape {mask.shape}, expected {shape}")
    if mask.dtype != bool and not np.isin(mask, (0, 1)).all():
        raise ValueError(f"{name} has dtype {mask.dtype}, expected a mask of True and False")
    return mask.astype(bool)


def checked_dtype(dtype) -> Any:
    dtype = jnp.dtype(dtype)
    if dtype not in (jnp.dtype("float32"), jnp.dtype("float64")):
        raise ValueError(f"dtype is {dtype}, expected float32 or float64")
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError('dtype float64 is switched off in JAX: first call jax.config.update("jax_enable_x64", True)')
    return dtype


def checked_time(name: str, value: float) -> float:
    reject_unfit_times(name, value)
    try:
        value = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is {value!r}, expected a finite time in ms greater than 0") from error
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value}, expected a finite time in ms greater than 0")
    return value


def checked_slope(value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"min_slope is {value}, expected a finite slope per ms, 0 or more")
    return float(value)


def checked_engine(value: str) -> str:
    if value not in ("auto", "native", "xla", "numerical"):
        raise ValueError(f'engine is {value!r}, expected "auto", "native", "xla" or "numerical"')
    return value


def checked_count(name: str, value: int) -> int:
    return _whole_number(name, value, 1)


def _whole_number(name: str, value: Any, least: int) -> int:
    try:
        fine = not isinstance(value, bool) and int(value) == value and value >= least
    except (TypeError, ValueError, OverflowError):
        fine = False
    if not fine:
        raise ValueError(f"{name} is {value!r}, expected a whole number, {least} or more")
    return int(value)


def checked_controller(controller, rtol: float | None, atol: float | None):
    if controller is None:
        rtol = 1e-4 if rtol is None else _tolerance("rtol", rtol)
        atol = rtol / 100 if atol is None else _tolerance("atol", atol)
        return diffrax.PIDController(rtol=rtol * _PER_STEP, atol=atol * _PER_STEP)
    if rtol is not None or atol is not None:
        raise ValueError("rtol and atol go to the stepsize_controller that was passed: set them there")
    return controller


def changed_tolerances(controller, rtol: float | None, atol: float | None):
    """A controller as `checked_controller` makes it, with another `rtol` or `atol` in place of its own."""
    is_plain = isinstance(controller, diffrax.PIDController) and controller == diffrax.PIDController(
        rtol=controller.rtol, atol=controller.atol
    )
    if not is_plain:
        return checked_controller(controller, rtol, atol)
    follows = math.isclose(controller.atol, controller.rtol / 100)
    new_rtol = controller.rtol if rtol is None else _tolerance("rtol", rtol) * _PER_STEP
    if atol is not None:
        new_atol = _tolerance("atol", atol) * _PER_STEP
    elif follows and rtol is not None:
        new_atol = rtol / 100 * _PER_STEP
    else:
        new_atol = controller.atol
    return diffrax.PIDController(rtol=new_rtol, atol=new_atol)


def without_arrays(name: str, option: Any) -> Any:
    """A solver or controller with Python's numbers in place of arrays, so that it can be compared and hashed.

    **Raises:** `TypeError` if it holds arrays that are more than one number, or numbers that are not known.
    """

    def as_number(leaf: Any) -> Any:
        if not eqx.is_array_like(leaf) or isinstance(leaf, bool | int | float | complex):
            return leaf
        if isinstance(leaf, Tracer) or np.ndim(leaf):
            raise TypeError(f"{name} holds {leaf}, expected Python numbers: JAX traces and differentiates no options")
        return np.asarray(leaf).item()

    option = jax.tree.map(as_number, option)
    try:
        hash(option)
    except TypeError as error:
        raise TypeError(f"{name} is {option}, expected something that can be hashed ({error})") from error
    return option


def _tolerance(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value}, expected a finite number greater than 0")
    return float(value)


def step_limit(max_steps: int | None, controller, max_solver_time: float, stepsize: float) -> int:
    if max_steps is not None:
        return checked_count("max_steps", max_steps)
    if isinstance(controller, diffrax.ConstantStepSize):
        return math.ceil(max_solver_time / stepsize) + 4096
    return 4096


def one_model_per_layer(neuron_model, n_layers: int) -> list[type[NeuronModel]]:
    models = list(neuron_model) if isinstance(neuron_model, list | tuple) else [neuron_model] * n_layers
    if len(models) != n_layers:
        raise ValueError(f"neuron_model has {len(models)} entries, expected one for each of the {n_layers} layers")
    for model in models:
        if not _is_model(model):
            raise TypeError(f"neuron_model is {model!r}, expected a class that subclasses NeuronModel")
    return models


def _is_model(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, NeuronModel)


def one_value_per_layer(hyperparameters: dict[str, Any], n_layers: int) -> dict[str, list[Any]]:
    """One value per layer. A list or tuple already is one; `trainable` holds names and `y0` a state."""
    split = {}
    for name, value in hyperparameters.items():
        if _has_entries(name, value):
            if len(value) != n_layers:
                raise ValueError(
                    f"{name} is a {type(value).__name__} of {len(value)}, expected one entry for each of the "
                    f"{n_layers} layers: for one value per neuron pass an array"
                )
            split[name] = list(value)
        else:
            split[name] = [value] * n_layers
    return split


def _has_entries(name: str, value: Any) -> bool:
    """Whether a value has one entry per layer: lists and tuples do, but for names and for the channels of a state."""
    if not isinstance(value, list | tuple) or name == "trainable":
        return False
    return name != "y0" or any(np.ndim(entry) > 0 for entry in value)


def split_arguments(
    given: dict[str, Any], model: type[NeuronModel], others: Sequence[type[NeuronModel]] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What goes to the connections, and what to the neurons. `trainable` holds names for both.

    A name that only the models of `others`, the other layers, know is left to them.
    """
    names = given.get("trainable", ())
    names = (names,) if isinstance(names, str) else tuple(names)
    of_synapses = {name: given[name] for name in CONNECTION_NAMES if name in given}
    of_synapses["trainable"] = tuple(name for name in names if name in CONNECTION_TRAINABLE)
    known = keywords_of(model)
    elsewhere = set().union(*map(keywords_of, others)) - known
    of_neurons = tuple(name for name in names if name not in {*CONNECTION_TRAINABLE, *elsewhere})
    own = {name: value for name, value in given.items() if name in known and name != "trainable"}
    if of_neurons and "trainable" not in known:
        raise TypeError(f"trainable names {of_neurons[0]!r}, but {model.__name__} takes no trainable")
    return of_synapses, own | ({"trainable": of_neurons} if of_neurons else {})


def check_names(hyperparameters: dict[str, Any], models: list[type[NeuronModel]], network: Iterable[str]) -> None:
    """A `TypeError` for a keyword that neither the connections nor any of the models know."""
    known = {*CONNECTION_NAMES, "trainable"}
    for model in models:
        known |= keywords_of(model) - {"n_neurons", "dtype", "key"}
    for name in hyperparameters:
        if name not in known:
            close = difflib.get_close_matches(name, [*known, *network], 1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}"
            raise TypeError(f"unknown keyword {name!r}: {hint}")
