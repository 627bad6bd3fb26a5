"""What went wrong in a run, in words."""

from typing import Any

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, PyTree

from .lanes import FINE, NOT_FINITE, RESET_HIGH, STEP_SMALL, TOO_LONG
from .results import RESULTS


# The axis over which a batch is split over devices.
DEVICES = "eventsnn_devices"


class SimulationError(RuntimeError):
    """A run that could not be completed. The message says which neuron, when, and what to change."""


class LayerReport(eqx.Module):
    """How a layer ended.

    - `count`: how many spikes it emitted, of at most `capacity`.
    - `status`, `stopped`: how each neuron ended, and when.
    - `spikes`: how many spikes each neuron emitted, of at most `per_neuron`.
    """

    count: Int[Array, ""]
    status: Int[Array, " neurons"]
    stopped: Float[Array, " neurons"]
    spikes: Int[Array, " neurons"]
    capacity: int = eqx.field(static=True)
    per_neuron: int | None = eqx.field(static=True)


class Check(eqx.Module):
    """A condition on some numbers that a caller gave.

    - `values`, `bad`: the numbers, and which of them are not acceptable.
    - `name`, `expected`: what they are called, and what would be right.
    """

    values: Float[Array, "..."]
    bad: Bool[Array, "..."]
    name: str = eqx.field(static=True)
    expected: str = eqx.field(static=True)


class Report(eqx.Module):
    """Everything that may have gone wrong in a query."""

    checks: tuple[Check, ...]
    layers: tuple[LayerReport, ...]

    def failed(self) -> Bool[Array, ""]:
        """Whether something went wrong."""
        failed = jnp.zeros((), bool)
        for check in self.checks:
            failed = failed | jnp.any(check.bad)
        for layer in self.layers:
            failed = failed | (layer.count > layer.capacity) | jnp.any(layer.status != FINE)
            if layer.per_neuron is not None:
                failed = failed | jnp.any(layer.spikes > layer.per_neuron)
        return failed

    def result(self) -> RESULTS:
        """The first thing that went wrong, as a result code."""
        result: Any = RESULTS.successful
        for layer in reversed(self.layers):
            full = layer.count > layer.capacity
            result = RESULTS.where(full, RESULTS.too_many_spikes, result)
            for code, meaning in _RESULT_OF.items():
                result = RESULTS.where(jnp.any(layer.status == code), meaning, result)
        for check in self.checks:
            result = RESULTS.where(jnp.any(check.bad), RESULTS.invalid_input, result)
        return result


_RESULT_OF = {
    TOO_LONG: RESULTS.max_steps_reached,
    STEP_SMALL: RESULTS.step_too_small,
    RESET_HIGH: RESULTS.reset_above_threshold,
    NOT_FINITE: RESULTS.not_finite,
}


def settle(out: PyTree, report: Report) -> PyTree:
    """`out`, or an error if the run failed.

    Where the numbers are known the error is raised at once, and a `ValueError` if an input was at
    fault. Under a transformation it is raised when the program runs.
    """
    failed = report.failed()
    if not isinstance(failed, Tracer):
        if failed:
            _raise(jax.tree.map(np.asarray, report))
        return out
    report = jax.tree.map(jax.lax.stop_gradient, report)
    leaves, structure = jax.tree.flatten(report)
    split = _is_split()

    def tell(*leaves):
        leaves = [np.asarray(leaf) for leaf in leaves]
        for part in zip(*leaves, strict=True) if split else [leaves]:
            _raise(jax.tree.unflatten(structure, part))
        return np.zeros((), np.int32)

    def call(leaves):
        if split:
            leaves = jax.lax.all_gather(leaves, DEVICES)
        return jax.pure_callback(tell, jax.ShapeDtypeStruct((), jnp.int32), *leaves, vmap_method="sequential")

    failed = eqxi.unvmap_any(failed)
    if split:
        # All devices stop together, with the same error: one that went on would wait for the others forever.
        failed = jax.lax.pmax(failed.astype(jnp.int32), DEVICES) > 0
    code = jax.lax.cond(failed, call, lambda leaves: jnp.int32(0), leaves)
    # The result depends on the code, so that the check cannot be optimised away.
    return jax.tree.map(lambda leaf: jnp.where(code == 0, leaf, jnp.zeros_like(leaf)), out)


def _is_split() -> bool:
    try:
        jax.lax.axis_size(DEVICES)
    except NameError:
        return False
    return True


def _raise(report: Report) -> None:
    for check in report.checks:
        if check.bad.any():
            raise ValueError(_describe_check(check))
    for number, layer in enumerate(report.layers):
        problem = _describe_layer(number, layer)
        if problem:
            raise SimulationError(problem)


def _describe_check(check: Check) -> str:
    where = tuple(int(i) for i in np.argwhere(check.bad)[0])
    position = f"[{', '.join(map(str, where))}]" if where else ""
    return f"{check.name}{position} is {check.values[where]:.6g}: {check.expected}"


def _describe_layer(number: int, layer: LayerReport) -> str | None:
    bad = np.flatnonzero(layer.status != FINE)
    if bad.size:
        # The neuron that failed first says most about the cause.
        neuron = bad[np.argmin(layer.stopped[bad])]
        what = _DESCRIPTION[int(layer.status[neuron])]
        others = f" ({bad.size - 1} more neurons failed)" if bad.size > 1 else ""
        return f"layer {number}, neuron {neuron}, t = {layer.stopped[neuron]:.6g} ms: {what}{others}"
    if layer.count > layer.capacity:
        return (
            f"layer {number} emitted more than max_event_steps = {layer.capacity} spikes: "
            "raise max_event_steps, or look for runaway activity"
        )
    if layer.per_neuron is not None and (layer.spikes > layer.per_neuron).any():
        return (
            f"layer {number}, neuron {np.argmax(layer.spikes)} emitted more than max_spikes = {layer.per_neuron} "
            "spikes: raise max_spikes, or lower final_time"
        )
    return None


_DESCRIPTION = {
    NOT_FINITE: "the state became NaN or infinite; check the model's dynamics, or use an adaptive step size",
    RESET_HIGH: "still at or above threshold after its reset, so it would spike forever; reset below the threshold",
    STEP_SMALL: (
        "the solver's step became smaller than the resolution of time; loosen rtol and atol, use "
        "dtype=jnp.float64 or a stiff solver such as diffrax.Kvaerno5(), or check the dynamics for a singularity"
    ),
    TOO_LONG: "not done after max_steps steps; raise max_steps, loosen rtol and atol, or use a larger solver_stepsize",
}
