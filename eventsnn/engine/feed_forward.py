"""A stack of layers: each runs on the spikes of the one before."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..flows.linear import LinearFlow
from ..flows.rules import LinearRules
from ..flows.systems import SystemRules
from ..neuron_models.base import NeuronModel, is_plain, valid_closed_form
from ..neuron_models.parameter import Parameter, described, frozen, per_neuron, trainable
from .arrivals import delayed, delayed_alike, from_input, unordered
from .breakpoints import with_breakpoints
from .closed_form import layer as closed_form
from .control import AbstractControl, NoControl
from .independent import LayerInputs, LayerTask, run_layer
from .lanes import Arrivals
from .layer_run import LayerRun
from .native.boundary import NativeTask, kinds_of
from .native.changes import count_of, fit_in_rows, with_change_rows, with_change_synapses
from .native.choice import rules_if_native
from .native.elsewhere import Elsewhere, elsewhere
from .native.run import NativeInputs, kernels_are_there, run_native
from .native.systems_run import SystemInputs, run_systems, task_of
from .native.windows_run import WindowsInputs, dense_places, run_windows_natively, windows_are_there
from .report import Check, LayerReport, Report
from .step import AbstractSolver, ExactStepper


class Solving(eqx.Module):
    """How a network is solved, and within which limits.

    - `max_steps`: how many solver steps a neuron may take.
    - `max_event_steps`: how many spikes a layer may emit; `None` for as many as `room_for` its neurons.
    - `min_slope`: gradients take no threshold to be crossed more slowly than this.
    - `engine`: `"auto"`, `"native"`, `"xla"` or `"numerical"`, as the networks take it.
    """

    stepper: AbstractSolver
    control: AbstractControl
    max_steps: int = eqx.field(static=True)
    max_event_steps: int | None = eqx.field(static=True)
    min_slope: float = eqx.field(static=True)
    engine: str = eqx.field(static=True)

    @property
    def closed_form(self) -> bool:
        """Whether models that have a closed form are solved by it."""
        return self.engine != "numerical"

    def room_for(self, n_neurons: int) -> int:
        """How many spikes a layer of so many neurons may emit."""
        if self.max_event_steps is not None:
            return self.max_event_steps
        # A list with room that is not used costs nothing until a batch outgrows the cache: with 120 neurons and 256
        # samples a step of LIF is as fast with 30 spikes for each as with 8, and takes 2.5 times as long with 50.
        return max(1000, 20 * n_neurons)


class Wanted(eqx.Module):
    """What is asked of the last layer.

    - `t_end`: until when all layers run, in ms.
    - `times`: when to look at the state.
    - `stop_after`: how many spikes of each neuron are enough.
    - `slopes`: whether to tell how steeply thresholds are crossed, in all layers.
    - `ordered`: whether the spikes have to be listed by time.
    """

    t_end: Float[Array, ""]
    times: Float[Array, " times"] | None = None
    stop_after: int | None = eqx.field(static=True, default=None)
    slopes: bool = eqx.field(static=True, default=False)
    ordered: bool = eqx.field(static=True, default=True)


class Synapses(eqx.Module):
    """How the spikes of one layer reach the next.

    - `weights`: of every connection.
    - `mask`: which connections there are, `None` for all.
    - `delays`, `axonal_delays`: how long a spike is on its way, in ms; `None` where it arrives at once.
    """

    weights: Float[Array, "inputs neurons *ports"]
    mask: Bool[Array, "inputs neurons"] | None
    delays: Parameter | None
    axonal_delays: Parameter | None

    @property
    def present(self) -> Float[Array, "inputs neurons *ports"]:
        """The weights, 0 where there is no connection."""
        if self.mask is None:
            return self.weights
        return jnp.where(self.mask.reshape(*self.mask.shape, *[1] * (self.weights.ndim - 2)), self.weights, 0)

    @property
    def total_delays(self) -> Float[Array, "inputs neurons"] | None:
        """How long a spike is on its way in all, or `None` if all arrive at once."""
        if self.delays is None and self.axonal_delays is None:
            return None
        delays = jnp.zeros(self.weights.shape[:2], self.weights.dtype)
        if self.delays is not None:
            delays = delays + self.delays.frozen().value
        if self.axonal_delays is not None:
            delays = delays + self.axonal_delays.frozen().value[:, None]
        return delays

    def deliver(self, spikes: Arrivals) -> Arrivals:
        """What arrives, and when, from the spikes of the layer before in one list."""
        delays = self.total_delays
        if self.delays is not None and delays is not None:
            return delayed(spikes, delays)
        if self.axonal_delays is not None:
            return delayed_alike(spikes, self.axonal_delays.frozen().value)
        return spikes


def run_layers(
    solving: Solving,
    neurons: tuple[NeuronModel, ...],
    synapses: tuple[Synapses, ...],
    in_spikes: Float[Array, "inputs spikes"],
    wanted: Wanted,
) -> list[LayerRun]:
    """Run the layers one after the other."""
    arrivals, carried = unordered(in_spikes), None
    runs: list[LayerRun] = []
    for model, synapse in zip(neurons, synapses, strict=True):
        last = len(runs) == len(neurons) - 1
        asked = wanted if last else Wanted(wanted.t_end, slopes=wanted.slopes)
        weights = times_carried(synapse.present, carried)
        # Kernels take spikes in any order. One of them is for one delay for each source.
        kernels = kernels_are_there if synapse.delays is None else windows_are_there
        rules = rules_if_native(solving.engine, model, weights.shape[1], weights.dtype, kernels)
        if rules is not None:
            given = model, synapse, carried, arrivals if runs else in_spikes, asked
            by_xla = elsewhere(functools.partial(_run_given, solving), given)
            run = run_layer_natively(solving, model, rules, weights, synapse, arrivals, asked, by_xla)
        else:
            arrivals = arrivals if runs else from_input(in_spikes)
            run = _run_one(solving, model, weights, synapse.deliver(arrivals), asked)
        runs.append(run)
        arrivals = Arrivals(run.times[None], run.neurons[None])
        carried = frozen(model).spike_values()
    return runs


def times_carried(
    weights: Float[Array, "inputs *shape"], carried: Float[Array, "*inputs"] | None
) -> Float[Array, "inputs *shape"]:
    """The weights times what the spikes of each input carry, if it is not 1."""
    if carried is None:
        return weights
    return weights * carried.reshape(*carried.shape, *[1] * (weights.ndim - carried.ndim))


def run_layer_natively(
    solving: Solving,
    model: NeuronModel,
    rules: LinearRules | SystemRules,
    weights: Array,
    synapse: Synapses,
    arrivals: Arrivals,
    wanted: Wanted,
    by_xla: Elsewhere,
) -> LayerRun:
    """Run a layer by a native kernel, on spikes in any order, and `by_xla` on devices without kernels."""
    inputs, size = weights.shape
    limits: dict[str, Any] = {
        "recurrent": False,
        "capacity": solving.room_for(size) if wanted.stop_after is None else size * wanted.stop_after,
        "stop_after": wanted.stop_after,
        "min_slope": solving.min_slope,
        "slopes": wanted.slopes,
    }
    outputs = (True,) * size
    y0, t_end = per_neuron(model, size).init_state(size), jax.lax.stop_gradient(wanted.t_end)
    spikes, given = (arrivals.times[0], arrivals.sources[0]), (y0, t_end, wanted.times)
    delays = jnp.zeros(inputs, weights.dtype)
    if synapse.axonal_delays is not None:
        delays = synapse.axonal_delays.frozen().value
    if isinstance(rules, SystemRules):
        system = SystemInputs(rules.rates, rules.levels, weights, delays, *spikes, *given)
        return run_systems(task_of(rules, outputs, **limits), system, by_xla)
    changes, own_changes = count_of(rules)
    task = NativeTask(
        kinds=kinds_of(rules, outputs), columns=rules.columns, changes=changes, own_changes=own_changes, **limits
    )
    if synapse.delays is not None or not fit_in_rows(rules):
        each: Any = synapse.total_delays
        each = jnp.zeros_like(weights) if each is None else each
        if synapse.mask is not None:
            each = jnp.where(synapse.mask, each, jnp.inf)
        places, numbers = dense_places(*weights.shape), (weights.reshape(-1), each.reshape(-1))
        arriving = with_change_synapses(rules, *places, *numbers, *spikes)
        return run_windows_natively(task, WindowsInputs(rules.rates, rules.levels, *arriving, *given), by_xla)
    arriving = with_change_rows(rules, weights, delays, *spikes)
    return run_native(task, NativeInputs(rules.rates, rules.levels, *arriving, *given), by_xla)


def _run_given(solving: Solving, given: tuple[Any, ...]) -> LayerRun:
    """Run a layer by XLA, from what it is given before its weights and arrivals are known."""
    model, synapse, carried, spikes, wanted = given
    arrivals = spikes if isinstance(spikes, Arrivals) else from_input(spikes)
    return _run_one(solving, model, times_carried(synapse.present, carried), synapse.deliver(arrivals), wanted)


def _run_one(solving: Solving, model: NeuronModel, weights: Array, arrivals: Arrivals, wanted: Wanted) -> LayerRun:
    size = weights.shape[1]
    capacity = solving.room_for(size) if wanted.stop_after is None else size * wanted.stop_after
    y0 = per_neuron(model, size).init_state(size)
    start, final = Start(y0, jnp.zeros(size, bool), jnp.zeros((), weights.dtype)), jnp.ones((), bool)
    return run_independent(solving, model, weights, arrivals, start, final, wanted, capacity)


class Start(eqx.Module):
    """Where a run starts.

    - `y0`: the state, and `passing` which neurons have spiked and have not been below their threshold since.
    - `origin`: when.
    """

    y0: Float[Array, "neurons channels"]
    passing: Bool[Array, " neurons"]
    origin: Float[Array, ""]


def run_independent(
    solving: Solving,
    model: NeuronModel,
    weights: Float[Array, "inputs neurons *ports"],
    arrivals: Arrivals,
    start: Start,
    final: Bool[Array, ""],
    wanted: Wanted,
    capacity: int,
) -> LayerRun:
    """Run neurons that do not see each other, with room for `capacity` spikes.

    All times, also those of the result, are counted from the start. A run that is not `final` goes on in another one,
    which starts when this one ends.
    """
    origin, t_end = jax.lax.stop_gradient((start.origin, wanted.t_end))
    flow = valid_closed_form(frozen(model)) if solving.closed_form else None
    if isinstance(flow, LinearFlow) and is_plain(model):
        exact = closed_form.LayerTask(capacity, wanted.stop_after, solving.min_slope, wanted.slopes, wanted.ordered)
        inputs = closed_form.LayerInputs(flow, weights, arrivals, start.y0, origin, t_end, final, wanted.times)
        return closed_form.run_layer(exact, inputs)
    weights, arrivals = with_breakpoints(frozen(model), weights, arrivals)
    model = per_neuron(model, weights.shape[1])
    numbers, rest = eqx.partition(model, eqx.is_inexact_array)
    task = LayerTask(
        rest=rest,
        wanted=trainable(model),
        stepper=solving.stepper if flow is None else ExactStepper(),
        control=solving.control if flow is None else NoControl(),
        capacity=capacity,
        stop_after=wanted.stop_after,
        # Besides its steps a neuron takes one iteration per arrival and a few per spike and what follows from it.
        max_iterations=solving.max_steps + arrivals.times.shape[-1] + 8 * capacity,
        min_slope=solving.min_slope,
        slopes=wanted.slopes,
        ordered=wanted.ordered,
    )
    state = start.y0, start.passing
    return run_layer(task, LayerInputs(numbers, weights, arrivals, *state, origin, t_end, final, wanted.times))


def report_of(
    runs: list[LayerRun],
    neurons: tuple[NeuronModel, ...],
    synapses: tuple[Synapses, ...],
    in_spikes: Float[Array, "inputs spikes"],
    t_end: Float[Array, ""],
    checks: tuple[Check, ...] = (),
    max_spikes: int | None = None,
) -> Report:
    """What went wrong in a run until `t_end`. `max_spikes` limits what a neuron of the last layer may emit."""
    limits = [None] * (len(runs) - 1) + [max_spikes]
    layers = tuple(
        LayerReport(run.count, run.times, run.status, run.stopped, run.spikes, t_end, f"layer {number}", limit)
        for number, (run, limit) in enumerate(zip(runs, limits, strict=True))
    )
    numbers = number_checks("neurons", neurons) + number_checks("weights", [synapse.weights for synapse in synapses])
    delays = [check for number, synapse in enumerate(synapses) for check in delay_checks(f"[{number}]", synapse)]
    return Report((time_check(in_spikes), *checks), (*numbers, *delays), layers)


def time_check(in_spikes: Float[Array, "inputs spikes"]) -> Check:
    """Every input time is a time from 0 on, or infinite."""
    expected = "expected a time of 0 ms or later, or inf where there is no spike"
    return Check(in_spikes, ~(in_spikes >= 0), "in_spikes", expected)


def number_checks(name: str, tree) -> list[Check]:
    """Every number is finite, and between its bounds."""
    checks = []
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda leaf: isinstance(leaf, Parameter))
    for path, leaf in leaves:
        leaf = leaf if isinstance(leaf, Parameter) else Parameter(leaf)
        if eqx.is_inexact_array(leaf.value):
            expected = "expected a finite number" + described(leaf.bounds)
            checks.append(Check(leaf.value, leaf.beyond, name + jax.tree_util.keystr(path), expected))
    return checks


def delay_checks(which: str, synapses: Any) -> list[Check]:
    """Every delay is finite and not negative."""
    checks = []
    for name in ("delays", "axonal_delays"):
        delays = getattr(synapses, name)
        if delays is not None:
            bad = ~(jnp.isfinite(delays.value) & (delays.value >= 0))
            checks.append(Check(delays.value, bad, name + which, "expected a delay in ms, 0 or more"))
    return checks
