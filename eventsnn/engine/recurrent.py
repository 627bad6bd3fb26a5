"""A recurrent network: all its neurons on one clock."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..flows.rules import LinearRules
from ..neuron_models.base import NeuronModel, valid_closed_form
from ..neuron_models.parameter import frozen, per_neuron, trainable
from .arrivals import from_input, unordered
from .breakpoints import with_breakpoints
from .feed_forward import Solving, Synapses, Wanted, delay_checks, number_checks, time_check, times_carried
from .lanes import Arrivals
from .layer_run import LayerRun
from .native.boundary import NativeTask, kinds_of
from .native.choice import rules_if_native
from .native.elsewhere import Elsewhere, elsewhere
from .native.run import NativeInputs, run_native
from .native.windows_run import WindowsInputs, dense_places, run_windows_natively, sparse_places, windows_are_there
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
    delayed: bool = False,
) -> LayerRun:
    """Run the network until every output has spiked as often as wanted, or until the end.

    By a native kernel, if there is one for it; or in `windows` of its shortest delay, which must not be 0; or with all
    neurons on one clock. `by_source` says that each spike arrives everywhere after the same time, and `delayed` that a
    native kernel may take every delay among neurons to be greater than 0.
    """
    size = len(outputs)
    synapses = _carrying(synapses, frozen(model).spike_values(), size)

    def by_xla(given):
        return _run_by_xla(solving, outputs, pending, windows, *given)

    given = model, synapses, in_spikes, wanted
    if by_source and isinstance(synapses, Synapses):
        rules = rules_if_native(solving.engine, model, size, synapses.weights.dtype)
        if rules is not None:
            return _run_natively(solving, model, rules, synapses, outputs, in_spikes, wanted, elsewhere(by_xla, given))
    if delayed and not (by_source and isinstance(synapses, Synapses)):
        rules = rules_if_native(solving.engine, model, size, synapses.weights.dtype, windows_are_there)
        if rules is not None:
            by = elsewhere(by_xla, given)
            return _run_windows_natively(solving, model, rules, synapses, outputs, in_spikes, wanted, by)
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
    rules: LinearRules,
    synapses: Synapses,
    outputs: tuple[bool, ...],
    in_spikes: Float[Array, "inputs spikes"],
    wanted: Wanted,
    by_xla: Elsewhere,
) -> LayerRun:
    """Run the network by a native kernel."""
    size = len(outputs)
    task = NativeTask(
        recurrent=True,
        capacity=solving.room_for(size),
        stop_after=wanted.stop_after,
        min_slope=solving.min_slope,
        slopes=wanted.slopes,
        kinds=kinds_of(rules, outputs),
        columns=rules.columns,
    )
    arrivals = unordered(in_spikes)
    y0, t_end = per_neuron(model, size).init_state(size), jax.lax.stop_gradient(wanted.t_end)
    given = arrivals.times[0], arrivals.sources[0] + size, y0, t_end, wanted.times
    weights, delays = synapses.present, _delays_by_source(synapses)
    return run_native(task, NativeInputs(rules.rates, rules.levels, weights, delays, *given), by_xla)


def _run_windows_natively(
    solving: Solving,
    model: NeuronModel,
    rules: LinearRules,
    synapses: Synapses | SparseSynapses,
    outputs: tuple[bool, ...],
    in_spikes: Float[Array, "inputs spikes"],
    wanted: Wanted,
    by_xla: Elsewhere,
) -> LayerRun:
    """Run the network by a native kernel, in windows of its shortest delay."""
    size, n_rows = len(outputs), len(outputs) + in_spikes.shape[0]
    wiring = wiring_of(synapses)
    if isinstance(synapses, SparseSynapses):
        starts, targets = sparse_places(synapses.rows, synapses.targets, n_rows, size)
        # Without any synapse, the wiring has one that delivers nothing.
        targets = targets if targets.size else jnp.zeros(1, jnp.int32)
    else:
        starts, targets = dense_places(n_rows, size)
    task = NativeTask(
        recurrent=True,
        capacity=solving.room_for(size),
        stop_after=wanted.stop_after,
        min_slope=solving.min_slope,
        slopes=wanted.slopes,
        kinds=kinds_of(rules, outputs),
        columns=rules.columns,
    )
    arrivals = unordered(in_spikes)
    y0, t_end = per_neuron(model, size).init_state(size), jax.lax.stop_gradient(wanted.t_end)
    given = arrivals.times[0], arrivals.sources[0] + size, y0, t_end, wanted.times
    inputs = WindowsInputs(rules.rates, rules.levels, starts, targets, wiring.weights, wiring.delays, *given)
    return run_windows_natively(task, inputs, by_xla)


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
