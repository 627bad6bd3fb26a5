"""A recurrent network: all its neurons on one clock."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..flows.rules import LinearRules
from ..flows.systems import SystemRules
from ..neuron_models.base import NeuronModel, valid_closed_form
from ..neuron_models.parameter import frozen, per_neuron, trainable
from .arrivals import from_input, unordered
from .breakpoints import with_breakpoints
from .feed_forward import Solving, Synapses, Wanted, delay_checks, number_checks, time_check, times_carried
from .lanes import Arrivals
from .layer_run import LayerRun
from .native.boundary import NativeTask, kinds_of
from .native.changes import count_of, fit_in_rows, with_change_rows, with_change_synapses
from .native.choice import rules_if_native
from .native.elsewhere import Elsewhere, elsewhere
from .native.run import NativeInputs, run_native
from .native.systems_run import SystemInputs, run_systems, task_of
from .native.windows_run import (
    WindowsInputs,
    dense_places,
    run_windows_natively,
    sparse_places,
    windows_are_there,
)
from .report import Check, LayerReport, Report
from .shared_clock.motion import ExactMotion, NumericalMotion
from .shared_clock.network import NetworkInputs, NetworkTask, run_network
from .windows import Limits, run_windows
from .wiring import SparseSynapses, split_rows, wiring_of


def run_recurrent(
    solving: Solving,
    model: NeuronModel,
    synapses: Synapses | SparseSynapses,
    outputs: tuple[bool, ...],
    pending: int,
    in_spikes: Float[Array, "inputs spikes"],
    wanted: Wanted,
    windows: bool,
    by_source: bool,
    shortest_window: float,
) -> LayerRun:
    """Run the network until every output has spiked as often as wanted, or until the end.

    By a native kernel, if there is one for it; or in `windows` of its shortest delay, which must not be 0; or with all
    neurons on one clock. `by_source` says that each spike arrives everywhere after the same time. Where it does not, a
    native kernel takes windows if the shortest delay is at least the part `shortest_window` of the run.
    """
    size = len(outputs)
    synapses = _carrying(synapses, frozen(model).spike_values(), size)

    def by_xla(given):
        return _run_by_xla(solving, outputs, pending, windows, *given)

    given = model, synapses, in_spikes, wanted
    if by_source and isinstance(synapses, Synapses):
        rules = rules_if_native(solving.engine, model, size, synapses.weights.dtype)
        if isinstance(rules, SystemRules) or (rules is not None and fit_in_rows(rules)):
            return _run_natively(solving, model, rules, synapses, outputs, in_spikes, wanted, elsewhere(by_xla, given))
    kernels = functools.partial(windows_are_there, shortest_window=shortest_window)
    rules = rules_if_native(solving.engine, model, size, synapses.weights.dtype, kernels)
    if isinstance(rules, LinearRules):
        by = elsewhere(by_xla, given)
        return _run_windows_natively(solving, model, rules, synapses, outputs, in_spikes, wanted, shortest_window, by)
    return by_xla(given)


def _run_by_xla(
    solving: Solving,
    outputs: tuple[bool, ...],
    pending: int,
    windows: bool,
    model: NeuronModel,
    synapses: Synapses | SparseSynapses,
    in_spikes: Float[Array, "inputs spikes"],
    wanted: Wanted,
) -> LayerRun:
    """Run the network by a program of XLA."""
    size, capacity = len(outputs), solving.room_for(len(outputs))
    # The windows know of no arrivals but spikes.
    if windows and model.breakpoints() is None:
        limits = Limits(outputs, wanted.stop_after, pending, capacity)
        return run_windows(solving, model, wiring_of(synapses), in_spikes, wanted, limits)
    if isinstance(synapses, SparseSynapses):
        synapses = synapses.dense(size + in_spikes.shape[0])
    with_fixed = frozen(model)
    exact = solving.closed_form and valid_closed_form(with_fixed) is not None
    model = per_neuron(model, size)
    numbers, rest = eqx.partition(model, eqx.is_inexact_array)
    to_neurons, from_inputs = split_rows(synapses, size)
    arrivals = from_inputs.deliver(from_input(in_spikes))
    delays = _delays(to_neurons)
    task = NetworkTask(
        rest=rest,
        wanted=trainable(model),
        motion=ExactMotion() if exact else NumericalMotion(solving.stepper, solving.control),
        outputs=outputs,
        pending=pending,
        capacity=capacity,
        stop_after=wanted.stop_after,
        # Besides its steps there are a few iterations for every spike, and for every spike that arrives.
        max_iterations=min(
            solving.max_steps + 4 * arrivals.times.size + capacity * (8 if delays is None else 8 + 4 * size), 2**31 - 1
        ),
        min_slope=solving.min_slope,
        slopes=wanted.slopes,
    )
    arrivals = Arrivals(arrivals.times, arrivals.sources + size)
    weights, arrivals = with_breakpoints(with_fixed, synapses.present, arrivals)
    t_end = jax.lax.stop_gradient(wanted.t_end)
    y0 = model.init_state(size)
    return run_network(task, NetworkInputs(numbers, weights, delays, arrivals, y0, t_end, wanted.times))


def _run_natively(
    solving: Solving,
    model: NeuronModel,
    rules: LinearRules | SystemRules,
    synapses: Synapses,
    outputs: tuple[bool, ...],
    in_spikes: Float[Array, "inputs spikes"],
    wanted: Wanted,
    by_xla: Elsewhere,
) -> LayerRun:
    """Run the network by a native kernel."""
    size = len(outputs)
    arrivals = unordered(in_spikes)
    spikes = arrivals.times[0], arrivals.sources[0] + size
    y0, t_end = per_neuron(model, size).init_state(size), jax.lax.stop_gradient(wanted.t_end)
    weights, delays = synapses.present, _delays_by_source(synapses)
    limits = _limits(solving, size, wanted)
    if isinstance(rules, SystemRules):
        system = SystemInputs(rules.rates, rules.levels, weights, delays, *spikes, y0, t_end, wanted.times)
        return run_systems(task_of(rules, outputs, **limits), system, by_xla)
    arriving = with_change_rows(rules, weights, delays, *spikes)
    inputs = NativeInputs(rules.rates, rules.levels, *arriving, y0, t_end, wanted.times)
    return run_native(_native_task(rules, outputs, limits), inputs, by_xla)


def _limits(solving: Solving, size: int, wanted: Wanted) -> dict[str, Any]:
    """The options that all kernels share."""
    return {
        "recurrent": True,
        "capacity": solving.room_for(size),
        "stop_after": wanted.stop_after,
        "min_slope": solving.min_slope,
        "slopes": wanted.slopes,
    }


def _native_task(rules: LinearRules, outputs: tuple[bool, ...], limits: dict[str, Any]) -> NativeTask:
    changes, own = count_of(rules)
    kinds = kinds_of(rules, outputs)
    return NativeTask(kinds=kinds, columns=rules.columns, changes=changes, own_changes=own, **limits)


def _run_windows_natively(
    solving: Solving,
    model: NeuronModel,
    rules: LinearRules,
    synapses: Synapses | SparseSynapses,
    outputs: tuple[bool, ...],
    in_spikes: Float[Array, "inputs spikes"],
    wanted: Wanted,
    shortest_window: float,
    by_xla: Elsewhere,
) -> LayerRun:
    """Run the network by a native kernel for delays of single synapses."""
    size, n_rows = len(outputs), len(outputs) + in_spikes.shape[0]
    wiring = wiring_of(synapses)
    if isinstance(synapses, SparseSynapses):
        starts, targets = sparse_places(synapses.rows, synapses.targets, n_rows, size)
        # Without any synapse, the wiring has one that delivers nothing.
        targets = targets if targets.size else jnp.zeros(1, jnp.int32)
    else:
        starts, targets = dense_places(n_rows, size)
    arrivals = unordered(in_spikes)
    given = with_change_synapses(
        rules, starts, targets, wiring.weights, wiring.delays, arrivals.times[0], arrivals.sources[0] + size
    )
    y0, t_end = per_neuron(model, size).init_state(size), jax.lax.stop_gradient(wanted.t_end)
    inputs = WindowsInputs(rules.rates, rules.levels, *given, y0, t_end, wanted.times)
    task = _native_task(rules, outputs, _limits(solving, size, wanted))
    return run_windows_natively(task, inputs, by_xla, shortest_window)


def _delays_by_source(synapses: Synapses) -> Float[Array, " rows"]:
    """How long the spikes of each neuron and of each input take, infinite where they reach nobody."""
    rows = synapses.weights.shape[0]
    delays = jnp.zeros(rows, synapses.weights.dtype)
    if synapses.delays is not None:
        each = jax.lax.stop_gradient(synapses.delays.value)
        delays = jnp.max(each if synapses.mask is None else jnp.where(synapses.mask, each, 0), axis=1)
    if synapses.axonal_delays is not None:
        delays = delays + synapses.axonal_delays.frozen().value
    return delays if synapses.mask is None else jnp.where(jnp.any(synapses.mask, axis=1), delays, jnp.inf)


def _carrying(synapses: Synapses | SparseSynapses, carried: Array | None, size: int) -> Synapses | SparseSynapses:
    """The synapses with weights times what the spikes of each of the `size` neurons carry, if it is not 1."""
    if carried is None:
        return synapses
    carried = jnp.broadcast_to(carried, (size,))
    if isinstance(synapses, SparseSynapses):
        of_row = carried.at[synapses.rows].get(mode="fill", fill_value=1)
    else:
        of_row = jnp.pad(carried, (0, synapses.weights.shape[0] - size), constant_values=1)
    return eqx.tree_at(lambda synapses: synapses.weights, synapses, times_carried(synapses.weights, of_row))


def _delays(synapses: Synapses) -> Array | None:
    """From neuron to neuron, infinite where there is no connection; `None` if there are none at all."""
    delays = synapses.total_delays
    if delays is None or synapses.mask is None:
        return delays
    return jnp.where(synapses.mask, delays, jnp.inf)


def report_of_recurrent(
    run: LayerRun,
    model: NeuronModel,
    synapses: Synapses | SparseSynapses,
    outputs: tuple[bool, ...],
    in_spikes: Float[Array, "inputs spikes"],
    t_end: Float[Array, ""],
    checks: tuple[Check, ...] = (),
    max_spikes: int | None = None,
) -> Report:
    """What went wrong in a run until `t_end`. `max_spikes` limits what an output may emit."""
    numbers = number_checks("neurons", model) + number_checks("weights", synapses.weights)
    # What other neurons emit is limited by the list alone.
    layer = LayerReport(
        run.count, run.times, run.status, run.stopped, run.spikes, t_end, "network", max_spikes, outputs
    )
    return Report((time_check(in_spikes), *checks), (*numbers, *delay_checks("", synapses)), (layer,))
