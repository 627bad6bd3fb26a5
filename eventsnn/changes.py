"""A network with other values: what `with_` does, and whether one that was put together by hand fits together."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import diffrax
import jax.numpy as jnp
from jaxtyping import Array

from .arguments import (
    changed_tolerances,
    checked_controller,
    checked_count,
    checked_engine,
    checked_slope,
    checked_time,
    step_limit,
    without_arrays,
)
from .connections import CONNECTION_TRAINABLE, Dense, Sparse
from .neuron_models import NeuronModel
from .neuron_models.parameter import Parameter, checked_array, reject, replaced
from .neuron_models.values import check_array, check_parameter, check_values, names_of, with_values


class Part(NamedTuple):
    """Neurons, and the connections to them.

    - `size`, `n_inputs`: how many neurons and inputs there are.
    - `neurons_at`, `connection_at`: where they are in the network.
    - `layer`: the number to pass as `layer`, `None` if there is no choice.
    """

    neurons: NeuronModel
    connection: Dense | Sparse
    size: int
    n_inputs: int
    neurons_at: str
    connection_at: str
    layer: int | None


OF_CONNECTIONS = ("weights", "delays", "axonal_delays")
_OPTIONS = {
    "max_solver_time": lambda value: checked_time("max_solver_time", value),
    "solver_stepsize": lambda value: checked_time("solver_stepsize", value),
    "max_event_steps": lambda value: None if value is None else checked_count("max_event_steps", value),
    "max_steps": lambda value: checked_count("max_steps", value),
    "min_slope": checked_slope,
    "engine": checked_engine,
    "output_no_spike_value": float,
    "throw": bool,
    "solver": lambda value: without_arrays("solver", diffrax.Tsit5() if value is None else value),
}
_OF_CONTROLLER = ("rtol", "atol", "stepsize_controller")
OPTION_NAMES = (*_OPTIONS, *_OF_CONTROLLER)
# Keywords of the constructor that `with_` does not know.
_CALLED = {"init_weights": "weights", "init_delays": "delays", "init_axonal_delays": "axonal_delays"}
_DRAWN = {
    "wlim": "weights",
    "wmean": "weights",
    "fan_in_mode": "weights",
    "dlim": "delays",
    "blim": "ic",
    "bmean": "ic",
}
_DRAWN |= {"axonal_dlim": "axonal_delays"}
_BUILT = ("layers", "in_size", "neuron_model", "n_neurons", "key", "dtype", "trainable", "wmask", "synapses")
_BUILT += ("input_neurons",)


def check_parts(parts: Iterable[Part], dtype: Any) -> None:
    """Whether types and shapes are those that a constructor makes.

    **Raises:** `TypeError` or `ValueError` that says where something is that does not fit, and what to write.
    """
    for part in parts:
        where = "" if part.layer is None else f", layer={part.layer}"
        advice = f"write net.with_({{}}=...{where})"
        check_values(part.neurons, part.neurons_at, part.size, dtype, advice)
        shapes = _shapes(part)
        place = f"{part.connection_at}.weights"
        check_array(place, part.connection.weights, (shapes["weights"],), dtype, advice.format("weights"))
        for name in CONNECTION_TRAINABLE:
            delays = getattr(part.connection, name)
            if delays is not None:
                place = f"{part.connection_at}.{name}"
                check_parameter(place, delays, (shapes[name],), dtype, advice.format(name))


def known_names(parts: Iterable[Part]) -> set[str]:
    """What `with_` can change in some of these parts."""
    return {*OF_CONNECTIONS}.union(*(names_of(part.neurons) for part in parts))


def check_names(changes: Collection[str], known: Collection[str], options: Collection[str]) -> None:
    """A `TypeError` for a name that `with_` does not know."""
    for name in changes:
        if name in known or name in options:
            continue
        if name in _BUILT:
            hint = "it is part of how a network is built: build a new one"
        elif name in _DRAWN and name not in known:
            hint = f"it is for drawing random numbers: pass {_DRAWN[name]}"
        else:
            close = difflib.get_close_matches(name, [*known, *options], 1)
            close = [_CALLED[name]] if name in _CALLED else ["ic"] if name == "init_bias" and "ic" in known else close
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted({*known, *options}))}"
        raise TypeError(f"with_ does not take {name!r}: {hint}")


def changed_part(part: Part, changes: Mapping[str, Any], dtype: Any) -> tuple[NeuronModel, Dense | Sparse]:
    """Neurons and connections with other values. Names that they do not know are left to others."""
    of_neurons = {name: changes[name] for name in changes if name in names_of(part.neurons)}
    neurons = with_values(part.neurons, part.size, dtype, of_neurons) if of_neurons else part.neurons
    shapes, fields = _shapes(part), {}
    for name in OF_CONNECTIONS:
        if name in changes:
            fields[name] = _made(part, name, changes[name], shapes[name], dtype)
    return neurons, replaced(part.connection, **fields)


def _made(part: Part, name: str, value: Any, shape: tuple[int, ...], dtype: Any) -> Array | Parameter | None:
    ports = (len(part.neurons.ports),) if part.neurons.ports else ()
    if name == "weights":
        return jnp.broadcast_to(checked_array(name, value, tuple(dict.fromkeys([(), ports, shape])), dtype), shape)
    if value is None:
        return None
    delays = jnp.broadcast_to(checked_array(name, value, ((), shape), dtype), shape)
    reject(name, delays, delays < 0, "a delay in ms, 0 or more")
    present = getattr(part.connection, name)
    return Parameter(delays, present is not None and present.trainable)


def _shapes(part: Part) -> dict[str, tuple[int, ...]]:
    made = part.connection
    shape = (part.n_inputs, part.size) if isinstance(made, Dense) else made.rows.digits.shape[:-1]
    ports = (len(part.neurons.ports),) if part.neurons.ports else ()
    return {"weights": (*shape, *ports), "delays": shape, "axonal_delays": (part.n_inputs,)}


def changed_options(net: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a network that change. What followed from others follows from them again."""
    new = {name: check(changes[name]) for name, check in _OPTIONS.items() if name in changes}
    if "weights" in changes:
        new["weightless"] = False
    t_end = new.get("max_solver_time", net.max_solver_time)
    if "solver_stepsize" not in new and net.solver_stepsize == net.max_solver_time / 50:
        new["solver_stepsize"] = t_end / 50
    if any(name in changes for name in _OF_CONTROLLER):
        rtol, atol = changes.get("rtol"), changes.get("atol")
        if "stepsize_controller" in changes:
            controller = checked_controller(changes["stepsize_controller"], rtol, atol)
        else:
            controller = changed_tolerances(net.stepsize_controller, rtol, atol)
        new["stepsize_controller"] = without_arrays("stepsize_controller", controller)
    if "max_steps" not in new:
        by_itself = step_limit(None, net.stepsize_controller, net.max_solver_time, net.solver_stepsize)
        if net.max_steps == by_itself:
            controller = new.get("stepsize_controller", net.stepsize_controller)
            stepsize = new.get("solver_stepsize", net.solver_stepsize)
            new["max_steps"] = step_limit(None, controller, t_end, stepsize)
    return new
