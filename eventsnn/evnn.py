"""Feed-forward networks of event-driven spiking neurons, and what one can ask them."""

import inspect
import math
from collections.abc import Sequence
from typing import Any, Literal

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray

from .arguments import (
    CONNECTION_NAMES,
    as_floats,
    check_names,
    checked_controller,
    checked_count,
    checked_dtype,
    checked_engine,
    checked_sizes,
    checked_slope,
    checked_time,
    one_model_per_layer,
    one_value_per_layer,
    split_trainable,
    step_limit,
)
from .connections import Dense
from .engine.control import make_control
from .engine.feed_forward import Solving, Synapses, Wanted, report_of, run_layers
from .engine.layer_run import LayerRun
from .engine.report import Check, Report, settle
from .engine.results import RESULTS
from .engine.step import make_stepper
from .engine.trains import spike_trains
from .neuron_models import NeuronModel


class Record(eqx.Module):
    """All spikes of a run.

    - `times`: one array per layer with the spike times in ms, sorted, `inf` behind the last.
    - `neurons`: one array per layer that says which neuron emitted each of them, -1 behind the last.
    - `slopes`: one array per layer with the slope dg/dt of the spike condition at each spike, `inf`
        where an arrival lifted the neuron over its threshold at once. A small slope is a graze:
        gradients of that spike time are as large as the slope is small.
    - `result`: how the run ended.
    """

    times: tuple[Float[Array, " max_event_steps"], ...]
    neurons: tuple[Int[Array, " max_event_steps"], ...]
    slopes: tuple[Float[Array, " max_event_steps"], ...]
    result: RESULTS


class FFEvNN(eqx.Module):
    """A feed-forward network of spiking neurons, simulated by events.

    Every input channel reaches every neuron of the first layer, and every neuron of a layer every
    neuron of the next, at once or after delays. All queries work under `jax.jit`, `jax.vmap` and
    `jax.grad`; a batch is a `jax.vmap` over `in_spikes`, which shares one loop over all samples.

    `in_spikes` has shape `(in_size, spikes)`: the spike times of each input channel in ms, in any
    order, padded with `inf`. Spikes after `max_solver_time` are never reached.

    A bias of twice the threshold makes a neuron spike every `tmem` ln 2 = 13.86 ms:

    >>> from eventsnn import LIF
    >>> net = FFEvNN([1], 1, LIF, 30.0, jax.random.PRNGKey(0), init_bias=2.0)
    >>> print(net.spikes_until_t(jnp.full((1, 1), jnp.inf), 30.0, max_spikes=2).round(2))
    [[13.86 27.73]]
    """

    neurons: tuple[NeuronModel, ...]
    connections: tuple[Dense, ...]
    solver: diffrax.AbstractSolver
    stepsize_controller: diffrax.AbstractStepSizeController
    in_size: int = eqx.field(static=True)
    layers: tuple[int, ...] = eqx.field(static=True)
    max_solver_time: float = eqx.field(static=True)
    solver_stepsize: float = eqx.field(static=True)
    max_event_steps: int = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    min_slope: float = eqx.field(static=True)
    engine: str = eqx.field(static=True)
    output_no_spike_value: float = eqx.field(static=True)
    dtype: Any = eqx.field(static=True)
    throw: bool = eqx.field(static=True)

    def __init__(
        self,
        layers: Sequence[int],
        in_size: int,
        neuron_model: type[NeuronModel] | Sequence[type[NeuronModel]],
        max_solver_time: float,
        key: PRNGKeyArray,
        *,
        solver_stepsize: float | None = None,
        max_event_steps: int = 1000,
        output_no_spike_value: float = math.inf,
        dtype=jnp.float32,
        rtol: float | None = None,
        atol: float | None = None,
        solver: diffrax.AbstractSolver | None = None,
        stepsize_controller: diffrax.AbstractStepSizeController | None = None,
        max_steps: int | None = None,
        min_slope: float = 0.0,
        engine: Literal["auto", "numerical"] = "auto",
        throw: bool = True,
        **hyperparameters: Any,
    ):
        """**Arguments:**

        - `layers`: the number of neurons of each layer; the last is the output.
        - `in_size`: the number of input channels.
        - `neuron_model`: a `NeuronModel` class for all layers, or one per layer.
        - `max_solver_time`: how long to simulate, in ms.
        - `key`: a JAX random key for weights and biases.
        - `solver_stepsize`: the first step in ms, or the step of a constant step size; by default
            a fiftieth of `max_solver_time`.
        - `max_event_steps`: how many spikes a layer may emit in one run.
        - `output_no_spike_value`: what queries give where there is no spike.
        - `dtype`: `jnp.float32` or `jnp.float64` (which needs `jax.config.update("jax_enable_x64", True)`).
        - `rtol`, `atol`: tolerances of the state of every neuron, by default 1e-4 and `rtol / 100`.
            Each step is held to 3 % of them.
        - `solver`: a Diffrax solver, by default `diffrax.Tsit5()`.
        - `stepsize_controller`: `diffrax.PIDController` (which then holds the tolerances) or
            `diffrax.ConstantStepSize`. Its tolerances are those of a step.
        - `max_steps`: how many solver steps a neuron may take, by default 4096, or as many as a
            constant step size needs.
        - `min_slope`: bounds gradients near a graze, where the true ones are huge: a crossing slower
            than this, in units of the spike condition per ms, is differentiated as if it had this
            slope. The sign stays. 0, the default, bounds nothing; `record` gives the slopes.
        - `engine`: `"auto"` solves a neuron in closed form where its model has one, and numerically
            otherwise; `"numerical"` solves every neuron numerically. Tolerances, solver and step sizes
            matter for the second only.
        - `throw`: whether a run that fails raises an error. Otherwise `record` tells by its result.
        - `hyperparameters`: go to the connections (`wlim`, `wmean`, `init_weights`, `fan_in_mode`,
            `dlim`, `init_delays`, `axonal_dlim`, `init_axonal_delays`, see `eventsnn.Dense`) and to the
            neurons (see the neuron model). A list or a tuple has one entry per layer; anything else
            holds for all layers. `trainable` names what receives gradients besides weights and
            biases: hyperparameters of the neurons, `"delays"`, `"axonal_delays"`.

        **Raises:** `TypeError` for an unknown keyword, `ValueError` for a value out of range.
        """
        self.layers, self.in_size = checked_sizes(layers, in_size)
        self.dtype = checked_dtype(dtype)
        self.max_solver_time = checked_time("max_solver_time", max_solver_time)
        stepsize = self.max_solver_time / 50 if solver_stepsize is None else solver_stepsize
        self.solver_stepsize = checked_time("solver_stepsize", stepsize)
        self.max_event_steps = checked_count("max_event_steps", max_event_steps)
        self.output_no_spike_value = float(output_no_spike_value)
        self.throw = bool(throw)
        self.solver = diffrax.Tsit5() if solver is None else solver
        self.stepsize_controller = checked_controller(stepsize_controller, rtol, atol)
        self.max_steps = step_limit(max_steps, self.stepsize_controller, self.max_solver_time, self.solver_stepsize)
        self.min_slope = checked_slope(min_slope)
        self.engine = checked_engine(engine)
        make_stepper(self.solver, self.stepsize_controller)
        make_control(self.stepsize_controller, self.solver, self.solver_stepsize)

        models = one_model_per_layer(neuron_model, len(self.layers))
        per_layer = one_value_per_layer(hyperparameters, len(self.layers))
        check_names(hyperparameters, models, inspect.signature(type(self)).parameters)
        weight_keys = jax.random.split(key, 2 * len(self.layers))
        neurons, connections = [], []
        for number, (model, size) in enumerate(zip(models, self.layers, strict=True)):
            given = {name: values[number] for name, values in per_layer.items()}
            of_synapses = {name: given[name] for name in CONNECTION_NAMES if name in given}
            of_synapses["trainable"], given["trainable"] = split_trainable(given.get("trainable", ()))
            n_inputs = self.layers[number - 1] if number else self.in_size
            connections.append(Dense(n_inputs, size, dtype=self.dtype, key=weight_keys[2 * number], **of_synapses))
            names = inspect.signature(model).parameters
            own = {name: value for name, value in given.items() if name in names}
            if given["trainable"] and "trainable" not in own:
                raise TypeError(f"trainable names {given['trainable'][0]!r}, but {model.__name__} takes no trainable")
            build: Any = model
            neurons.append(build(size, dtype=self.dtype, key=weight_keys[2 * number + 1], **own))
        self.neurons, self.connections = tuple(neurons), tuple(connections)

    def ttfs(self, in_spikes: ArrayLike) -> Float[Array, " out"]:
        """The time to first spike of every output neuron, shape `(out,)`, in ms.

        `output_no_spike_value` stands for no spike, and has derivative 0. **Raises** `ValueError`
        for bad input and `SimulationError` for a run that cannot be completed, as do all queries.
        """
        spikes, report = _first_spikes(self, self._input(in_spikes), self._time(self.max_solver_time), 1, False)
        return self._settle(spikes[:, 0], report)

    def spikes_until_t(
        self, in_spikes: ArrayLike, final_time: float | Float[Array, ""], max_spikes: int
    ) -> Float[Array, "out max_spikes"]:
        """The spike times of every output neuron up to and including `final_time`, in ms.

        Shape `(out, max_spikes)`, sorted and padded with `output_no_spike_value`. A neuron that
        spikes more often than `max_spikes` is an error. `final_time` lies in 0 … `max_solver_time`.
        """
        final_time = self._time(final_time)
        max_spikes = checked_count("max_spikes", max_spikes)
        spikes, report = _first_spikes(self, self._input(in_spikes), final_time, max_spikes, True)
        return self._settle(spikes, report)

    def state_at_t(
        self, in_spikes: ArrayLike, times: ArrayLike, *, layer: int = -1
    ) -> Float[Array, "neurons times channels"]:
        """The state of every neuron of a layer at `times`, as the model's `observe` shows it.

        `times` has shape `(times,)`, in ms, in 0 … `max_solver_time`, in any order. The state at
        the time of an event is the one after it. Shape `(neurons, times, channels)`.
        """
        if not -len(self.layers) <= layer < len(self.layers):
            raise ValueError(f"layer is {layer}, expected one of the {len(self.layers)} layers, counted from 0")
        times = as_floats("times", times, self.dtype)
        if times.ndim != 1:
            raise ValueError(f"times has shape {times.shape}, expected (times,): pass a one-dimensional array")
        states, report = _states(self, self._input(in_spikes), times, layer % len(self.layers))
        return self._settle(states, report)

    def record(self, in_spikes: ArrayLike) -> Record:
        """All spikes of all layers, with the neuron that emitted each, and how the run ended."""
        record, report = _record(self, self._input(in_spikes))
        return self._settle(record, report)

    def __hash__(self) -> int:
        # By identity, so that `jax.jit(net.ttfs)` can look the bound method up.
        return id(self)

    def _input(self, in_spikes: ArrayLike) -> Float[Array, "inputs spikes"]:
        in_spikes = as_floats("in_spikes", in_spikes, self.dtype)
        if in_spikes.ndim == 3 and in_spikes.shape[1] == self.in_size:
            raise ValueError(
                f"in_spikes has shape {in_spikes.shape}, expected ({self.in_size}, spikes): "
                "for a batch use jax.vmap(net.ttfs)(in_spikes)"
            )
        if in_spikes.ndim != 2 or in_spikes.shape[0] != self.in_size:
            turned = in_spikes.ndim == 2 and in_spikes.shape[1] == self.in_size
            advice = "transpose it" if turned else "one row per input channel, padded with inf"
            raise ValueError(f"in_spikes has shape {in_spikes.shape}, expected ({self.in_size}, spikes): {advice}")
        return in_spikes

    def _time(self, time: float | Array) -> Float[Array, ""]:
        time = jnp.asarray(time, self.dtype)
        if time.ndim != 0:
            raise ValueError(f"final_time has shape {time.shape}, expected a scalar")
        return time

    def _settle(self, out: Any, report: Report) -> Any:
        return settle(out, report) if self.throw else out


@eqx.filter_jit
def _first_spikes(net: FFEvNN, in_spikes: Array, final_time: Array, max_spikes: int, complete: bool):
    """The first spikes of the output neurons; if `complete`, having more of them is a failure."""
    wanted = Wanted(final_time, stop_after=max_spikes + 1 if complete else max_spikes)
    runs, report = _run(net, in_spikes, wanted, (_within(net, "final_time", final_time),), max_spikes)
    trains = spike_trains(runs[-1].times, runs[-1].neurons, net.layers[-1], max_spikes)
    return jnp.where(jnp.isfinite(trains), trains, net.output_no_spike_value), report


@eqx.filter_jit
def _states(net: FFEvNN, in_spikes: Array, times: Array, layer: int):
    wanted = Wanted(jnp.asarray(net.max_solver_time, net.dtype), times)
    runs, report = _run(net, in_spikes, wanted, (_within(net, "times", times),), n_layers=layer + 1)
    states = jnp.asarray(runs[-1].states)
    return jax.vmap(net.neurons[layer].observe, in_axes=1, out_axes=1)(states), report


@eqx.filter_jit
def _record(net: FFEvNN, in_spikes: Array):
    runs, report = _run(net, in_spikes, Wanted(jnp.asarray(net.max_solver_time, net.dtype), slopes=True))
    record = Record(
        times=tuple(run.times for run in runs),
        neurons=tuple(jnp.where(jnp.isfinite(run.times), run.neurons, -1) for run in runs),
        slopes=tuple(jnp.asarray(run.slopes) for run in runs),
        result=report.result(),
    )
    return record, report


def _run(
    net: FFEvNN,
    in_spikes: Array,
    wanted: Wanted,
    checks: tuple[Check, ...] = (),
    max_spikes: int | None = None,
    n_layers: int | None = None,
) -> tuple[list[LayerRun], Report]:
    stepper = make_stepper(net.solver, net.stepsize_controller)
    control = make_control(net.stepsize_controller, net.solver, net.solver_stepsize)
    closed_form = net.engine == "auto"
    solving = Solving(stepper, control, net.max_steps, net.max_event_steps, net.min_slope, closed_form)
    neurons = net.neurons[:n_layers]
    synapses = tuple(Synapses(c.weights, c.delays, c.axonal_delays) for c in net.connections[:n_layers])
    runs = run_layers(solving, neurons, synapses, in_spikes, wanted)
    return runs, report_of(runs, neurons, synapses, in_spikes, checks, max_spikes if wanted.stop_after else None)


def _within(net: FFEvNN, name: str, times: Array) -> Check:
    bad = ~((times >= 0) & (times <= net.max_solver_time))
    return Check(times, bad, name, f"expected a time from 0 to max_solver_time = {net.max_solver_time:g} ms")
