"""Networks of event-driven spiking neurons: feed-forward and recurrent."""

import inspect
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from .arguments import (
    check_names,
    check_order,
    checked_count,
    checked_key,
    checked_mask,
    checked_sizes,
    one_model_per_layer,
    one_value_per_layer,
    split_arguments,
)
from .changes import OPTION_NAMES, Part, changed_options, changed_part, check_parts, known_names
from .changes import check_names as check_changes
from .connections import Dense, Sparse
from .engine.failure import is_split
from .engine.feed_forward import Synapses, Wanted, report_of, run_layers
from .engine.layer_run import LayerRun
from .engine.native.windows_run import SHORTEST_WINDOW
from .engine.recurrent import report_of_recurrent, run_recurrent
from .engine.report import Check, Report
from .engine.wiring import SparseSynapses, inputs_table, wiring_of
from .network import AbstractNetwork
from .network import Record as Record
from .neuron_models import NeuronModel
from .neuron_models.check.contract import reject_broken_model
from .neuron_models.parameter import WholeNumbers, replaced
from .times import check_time_constants
from .weightless import input_without_effect, is_weightless, reject_silence


class FFEvNN(AbstractNetwork):
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
    layers: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        layers: Sequence[int],
        in_size: int,
        neuron_model: type[NeuronModel] | Sequence[type[NeuronModel]],
        max_solver_time: float,
        key: PRNGKeyArray,
        *,
        solver_stepsize: float | None = None,
        max_event_steps: int | None = None,
        output_no_spike_value: float = math.inf,
        dtype=jnp.float32,
        rtol: float | None = None,
        atol: float | None = None,
        solver: diffrax.AbstractSolver | None = None,
        stepsize_controller: diffrax.AbstractStepSizeController | None = None,
        max_steps: int | None = None,
        min_slope: float = 0.0,
        engine: Literal["auto", "native", "xla", "numerical"] = "auto",
        throw: bool = True,
        **hyperparameters: Any,
    ):
        """**Arguments:**

        - `layers`: the number of neurons of each layer; the last is the output.
        - `in_size`: the number of input channels.
        - `neuron_model`: a `NeuronModel` class for all layers, or one per layer.
        - `max_solver_time`: how long to simulate, in ms.
        - `key`: a JAX random key for weights, delays and biases.
        - `solver_stepsize`: the first step in ms, or the step of a constant step size; by default
            a fiftieth of `max_solver_time`.
        - `max_event_steps`: how many spikes a layer may emit in one run, by default 20 for each of its neurons, and at
            least 1000.
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
        - `engine`: `"auto"` takes the fastest that there is for the neurons on this machine. `"native"` asks for the
            compiled event loop, which runs linear neurons on CPUs, and raises an error where there is none; `"xla"`
            asks for programs of XLA, which run on every device. Both solve a neuron in closed form where its model
            has one; `"numerical"` solves every neuron numerically, and only then do tolerances, solver and step
            sizes matter for those.
        - `throw`: whether a run that fails raises an error. Otherwise `record` tells by its result.
        - `hyperparameters`: go to the connections (`wlim`, `wmean`, `init_weights`, `fan_in_mode`,
            `dlim`, `init_delays`, `axonal_dlim`, `init_axonal_delays`, see `eventsnn.Dense`) and to the
            neurons (see the neuron model). A list or a tuple has one entry per layer; anything else
            holds for all layers. `trainable` names what receives gradients besides weights and
            biases: hyperparameters of the neurons, `"delays"`, `"axonal_delays"`.

        **Raises:** `TypeError` for an unknown keyword, `ValueError` for a value out of range, and where nothing
        could happen: no weights (`init_weights`, `wmean` or `wlim`), and neurons that do not move without input; also
        for a neuron model one of whose methods fails or gives an array of a wrong shape or dtype.
        """
        order = "FFEvNN(layers, in_size, neuron_model, max_solver_time, key)"
        check_order(order, layers=layers, in_size=in_size, max_solver_time=max_solver_time, key=key)
        self.layers = checked_sizes(layers)
        self._set_options(
            in_size,
            max_solver_time,
            solver_stepsize,
            max_event_steps,
            output_no_spike_value,
            dtype,
            rtol,
            atol,
            solver,
            stepsize_controller,
            max_steps,
            min_slope,
            engine,
            throw,
        )
        models = one_model_per_layer(neuron_model, len(self.layers))
        per_layer = one_value_per_layer(hyperparameters, len(self.layers))
        check_names(hyperparameters, models, inspect.signature(type(self)).parameters)
        weight_keys = jax.random.split(checked_key(key), 2 * len(self.layers))
        neurons, connections, weightless = [], [], []
        for number, (model, size) in enumerate(zip(models, self.layers, strict=True)):
            given = {name: values[number] for name, values in per_layer.items()}
            of_synapses, own = split_arguments(given, model, models)
            n_inputs = self.layers[number - 1] if number else self.in_size
            build: Any = model
            neurons.append(build(size, dtype=self.dtype, key=weight_keys[2 * number + 1], **own))
            reject_broken_model(neurons[-1], size, self.dtype)
            weightless.append(is_weightless(of_synapses))
            if weightless[-1]:
                of_synapses["wmean"] = 0.0
            common: Any = {"dtype": self.dtype, "key": weight_keys[2 * number], "ports": model.ports}
            connections.append(Dense(n_inputs, size, **common, **of_synapses))
        self.neurons, self.connections = tuple(neurons), tuple(connections)
        for number, (model, connection) in enumerate(zip(self.neurons, self.connections, strict=True)):
            if weightless[number] and connection.weights.size:
                reject_silence(f"layer {number}", model, self.layers[number], self.max_solver_time)
        self.weightless = weightless[0]
        check_time_constants(self.neurons, self.max_solver_time)

    def state_at_t(
        self, in_spikes: ArrayLike, times: ArrayLike, *, layer: int = -1
    ) -> Float[Array, "neurons times channels"]:
        """The state of every neuron of a layer at `times`, as the model's `observe` shows it.

        `times` has shape `(times,)`, in ms, in 0 … `max_solver_time`, in any order. The state at
        the time of an event is the one after it. Shape `(neurons, times, channels)`.
        """
        if not -len(self.layers) <= layer < len(self.layers):
            raise ValueError(f"layer is {layer}, expected one of the {len(self.layers)} layers, counted from 0")
        return self._states_of(layer % len(self.layers), in_spikes, times)

    def with_(self, *, layer: int | None = None, **changes: Any) -> Self:
        """The same network with other values: `net.with_(tmem=15.0, weights=..., max_solver_time=100.0)`.

        **Arguments:**

        - `layer`: which layer to change, by default all that know the name. Options are those of the whole network.
        - `changes`: numbers of the neurons under the names that the model has for them, such as `tmem`, `y0`, or `ic`
            for the bias current, each a scalar or one value per neuron; `weights`, `delays` and `axonal_delays`, a
            scalar or an array of the shape that they have; options of the constructor, such as `rtol` or `throw`.
            Without `layer`, a list or a tuple has one entry per layer. What is trainable stays trainable.

        **Returns:** a new network; this one stays as it is.

        **Raises:** `TypeError` for an unknown name, `ValueError` for a value out of range.
        """
        parts = self._parts
        if layer is not None and not -len(parts) <= layer < len(parts):
            raise ValueError(f"layer is {layer}, expected one of the {len(parts)} layers, counted from 0")
        chosen = range(len(parts)) if layer is None else [layer % len(parts)]
        check_changes(changes, known_names(parts[number] for number in chosen), OPTION_NAMES)
        own = {name: value for name, value in changes.items() if name not in OPTION_NAMES}
        each = (
            one_value_per_layer(own, len(parts)) if layer is None else {name: [own[name]] * len(parts) for name in own}
        )
        new = [(part.neurons, part.connection) for part in parts]
        for number in chosen:
            new[number] = changed_part(parts[number], {name: each[name][number] for name in own}, self.dtype)
        neurons, connections = zip(*new, strict=True)
        net = replaced(self, neurons=neurons, connections=connections, **changed_options(self, changes))
        net._solving()
        return net

    @property
    def _parts(self) -> list[Part]:
        several = len(self.layers) > 1
        return [
            Part(
                self.neurons[number],
                self.connections[number],
                size,
                self.layers[number - 1] if number else self.in_size,
                f"neurons[{number}]",
                f"connections[{number}]",
                number if several else None,
            )
            for number, size in enumerate(self.layers)
        ]

    @property
    def _outputs(self) -> tuple[bool, ...]:
        return (True,) * self.layers[-1]

    def _neurons_of(self, layer: int) -> NeuronModel:
        return self.neurons[layer]

    def _run(
        self,
        in_spikes: Array,
        wanted: Wanted,
        checks: tuple[Check, ...] = (),
        max_spikes: int | None = None,
        n_layers: int | None = None,
    ) -> tuple[list[LayerRun], Report]:
        check_parts(self._parts, self.dtype)
        neurons = self.neurons[:n_layers]
        synapses = tuple(_synapses(connection) for connection in self.connections[:n_layers])
        if self.weightless:
            checks = (*checks, input_without_effect(in_spikes, self.connections[0].weights))
        runs = run_layers(self._solving(), neurons, synapses, in_spikes, wanted)
        report = report_of(runs, neurons, synapses, in_spikes, wanted.t_end, checks, max_spikes)
        return runs, _with_checks(report, self.connections[:n_layers], None)


class EvNN(AbstractNetwork):
    """A recurrent network of spiking neurons, simulated by events.

    Any neuron and any input channel may reach any neuron, at once or after delays. Where all delays
    among neurons are greater than 0, neurons run through windows of the shortest of them, within which
    they do not see each other. Otherwise all share a clock: of all spikes that are to come, the earliest
    happens first. What happens at one instant happens in this order: spikes that arrive, then spikes
    that are emitted, then their arrival where there is no delay, and so on until nothing more happens.

    All queries work under `jax.jit`, `jax.vmap` and `jax.grad`; a batch is a `jax.vmap` over
    `in_spikes`. These have shape `(in_size, spikes)`: the spike times of each input channel in ms,
    in any order, padded with `inf`.

    Two neurons that excite each other, the first of them driven by an input at 1 ms:

    >>> from eventsnn import LIF
    >>> weights = jnp.array([[0.0, 9.0], [9.0, 0.0], [9.0, 0.0]])
    >>> net = EvNN(LIF, 2, 1, 20.0, jax.random.PRNGKey(0), init_weights=weights, init_delays=2.0)
    >>> print(*(f"{t:.2f} ms" for t in net.ttfs(jnp.array([[1.0]]))))
    6.34 ms 11.68 ms
    """

    neurons: NeuronModel
    connection: Dense | Sparse
    from_inputs: WholeNumbers | None
    n_neurons: int = eqx.field(static=True)
    output_neurons: tuple[bool, ...] = eqx.field(static=True)
    max_pending: int = eqx.field(static=True)
    windows: bool = eqx.field(static=True)
    by_source: bool = eqx.field(static=True)
    shortest_window: float = eqx.field(static=True)

    def __init__(
        self,
        neuron_model: type[NeuronModel],
        n_neurons: int,
        in_size: int,
        max_solver_time: float,
        key: PRNGKeyArray,
        *,
        input_neurons: ArrayLike | None = None,
        output_neurons: ArrayLike | None = None,
        wmask: ArrayLike | None = None,
        synapses: ArrayLike | None = None,
        max_pending: int = 64,
        windows: bool | None = None,
        solver_stepsize: float | None = None,
        max_event_steps: int | None = None,
        output_no_spike_value: float = math.inf,
        dtype=jnp.float32,
        rtol: float | None = None,
        atol: float | None = None,
        solver: diffrax.AbstractSolver | None = None,
        stepsize_controller: diffrax.AbstractStepSizeController | None = None,
        max_steps: int | None = None,
        min_slope: float = 0.0,
        engine: Literal["auto", "native", "xla", "numerical"] = "auto",
        throw: bool = True,
        **hyperparameters: Any,
    ):
        """**Arguments:**

        - `neuron_model`: a `NeuronModel` class.
        - `n_neurons`: how many neurons there are.
        - `in_size`: the number of input channels.
        - `max_solver_time`: how long to simulate, in ms.
        - `key`: a JAX random key for weights, delays and biases.
        - `input_neurons`: which neurons the input channels reach, a boolean mask of shape
            `(n_neurons,)`; by default all.
        - `output_neurons`: which neurons `ttfs` and `spikes_until_t` tell about, likewise.
        - `wmask`: which connections there are, a boolean mask of shape
            `(n_neurons + in_size, n_neurons)`: a row for each neuron, then one for each input.
        - `synapses`: instead of a mask, the connections one by one: from which row to which neuron each leads,
            whole numbers of shape `(synapses, 2)`. Memory and time then follow how many there are.
        - `max_pending`: how many spikes may be on their way to a neuron at the same time, with delays.
        - `windows`: whether neurons run on their own through windows of the shortest delay among them, which
            has to be greater than 0, or all on one clock. By default windows are taken where every delay among
            neurons is greater than 0 and none is trainable. The answers are the same; large networks are far
            faster in windows. Native kernels use windows for trainable delays as well, as long as these are
            long enough.
        - `solver_stepsize`: the first step in ms, or the step of a constant step size; by default
            a fiftieth of `max_solver_time`.
        - `max_event_steps`: how many spikes the network may emit in one run, by default 20 for each neuron, and at
            least 1000.
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
        - `engine`: `"auto"` takes the fastest that there is for the neurons on this machine. `"native"` asks for the
            compiled event loop, which runs linear neurons on CPUs, and raises an error where there is none; `"xla"`
            asks for programs of XLA, which run on every device. Both solve a neuron in closed form where its model
            has one; `"numerical"` solves every neuron numerically, and only then do tolerances, solver and step
            sizes matter for those.
        - `throw`: whether a run that fails raises an error. Otherwise `record` tells by its result.
        - `hyperparameters`: go to the connections and to the neurons as those of `FFEvNN`. Weights and
            delays have the shape of `wmask`, or one entry for each of `synapses`; axonal delays have the shape
            `(n_neurons + in_size,)`.

        **Raises:** `TypeError` for an unknown keyword, `ValueError` for a value out of range, and where nothing
        could happen: no weights (`init_weights`, `wmean` or `wlim`), and neurons that do not move without input; also
        for a neuron model one of whose methods fails or gives an array of a wrong shape or dtype.
        """
        order = "EvNN(neuron_model, n_neurons, in_size, max_solver_time, key)"
        check_order(order, n_neurons=n_neurons, in_size=in_size, max_solver_time=max_solver_time, key=key)
        self._set_options(
            in_size,
            max_solver_time,
            solver_stepsize,
            max_event_steps,
            output_no_spike_value,
            dtype,
            rtol,
            atol,
            solver,
            stepsize_controller,
            max_steps,
            min_slope,
            engine,
            throw,
        )
        self.n_neurons = checked_count("n_neurons", n_neurons)
        self.max_pending = checked_count("max_pending", max_pending)
        self.output_neurons = _checked_outputs(output_neurons, self.n_neurons)
        (model,) = one_model_per_layer(neuron_model, 1)
        check_names(hyperparameters, [model], inspect.signature(type(self)).parameters)
        rows = self.n_neurons + self.in_size
        of_synapses, own = split_arguments(hyperparameters, model)
        keys = jax.random.split(checked_key(key))
        build: Any = model
        self.neurons = build(self.n_neurons, dtype=self.dtype, key=keys[1], **own)
        reject_broken_model(self.neurons, self.n_neurons, self.dtype)
        weightless = is_weightless(of_synapses)
        if weightless:
            of_synapses["wmean"] = 0.0
        common: Any = {"dtype": self.dtype, "key": keys[0], "ports": model.ports, **of_synapses}
        if synapses is None:
            mask = checked_mask("wmask", wmask, (rows, self.n_neurons))
            mask[self.n_neurons :] &= checked_mask("input_neurons", input_neurons, (self.n_neurons,))
            some = None if mask.all() else mask
            self.connection, self.from_inputs = Dense(rows, self.n_neurons, wmask=some, **common), None
        else:
            if wmask is not None or input_neurons is not None:
                raise ValueError(
                    "synapses says which connections there are: do not pass wmask or input_neurons with it"
                )
            self.connection = Sparse(rows, self.n_neurons, synapses, **common)
            made = np.asarray(self.connection.rows), np.asarray(self.connection.targets)
            table = inputs_table(*made, self.n_neurons)
            self.from_inputs = WholeNumbers(table, self.dtype, len(made[0]) + 1)
        self.windows = _choose_windows(self.connection, self._shortest_delay(), self.max_solver_time, windows)
        self.by_source = _delays_by_source(self.connection)
        shortest = self._shortest_delay()
        self.shortest_window = _shortest_window(self.connection, shortest, self.max_solver_time, windows)
        if isinstance(self.connection, Sparse) and not self.windows:
            _reject_repeated(self.connection)
        self.weightless = weightless and self.connection.weights.size > 0
        if self.weightless:
            reject_silence("the network", self.neurons, self.n_neurons, self.max_solver_time)
        check_time_constants(self.neurons, self.max_solver_time)

    def state_at_t(self, in_spikes: ArrayLike, times: ArrayLike) -> Float[Array, "neurons times channels"]:
        """The state of every neuron at `times`, as the model's `observe` shows it.

        `times` has shape `(times,)`, in ms, in 0 … `max_solver_time`, in any order. The state at
        the time of an event is the one after it. Shape `(neurons, times, channels)`.
        """
        return self._states_of(0, in_spikes, times)

    def with_(self, **changes: Any) -> Self:
        """The same network with other values: `net.with_(tmem=15.0, weights=..., max_solver_time=100.0)`.

        **Arguments:**

        - `changes`: numbers of the neurons under the names that the model has for them, such as `tmem`, `y0`, or `ic`
            for the bias current, each a scalar or one value per neuron; `weights`, `delays` and `axonal_delays`, a
            scalar or an array of the shape that they have (for `synapses` in the order of `net.connection.rows`);
            options of the constructor, such as `rtol`, `output_neurons` or `throw`. What is trainable stays trainable.

        **Returns:** a new network; this one stays as it is.

        **Raises:** `TypeError` for an unknown name, `ValueError` for a value out of range.
        """
        (part,) = self._parts
        check_changes(changes, known_names([part]), (*OPTION_NAMES, "output_neurons", "max_pending", "windows"))
        neurons, connection = changed_part(part, changes, self.dtype)
        fields = changed_options(self, changes)
        if "output_neurons" in changes:
            fields["output_neurons"] = _checked_outputs(changes["output_neurons"], self.n_neurons)
        if "max_pending" in changes:
            fields["max_pending"] = checked_count("max_pending", changes["max_pending"])
        net = replaced(self, neurons=neurons, connection=connection, **fields)
        net._solving()
        if {"delays", "axonal_delays", "max_solver_time", "windows"} & set(changes):
            windows, by_source = self._windows_of(net, changes.get("windows")), self.by_source
            if "delays" in changes:
                by_source = _delays_by_source(connection)
            chosen, shortest = changes.get("windows"), net._shortest_delay()
            if chosen is None and self.windows != self._windows_by_default():
                chosen = self.windows
            shortest_window = _shortest_window(connection, shortest, net.max_solver_time, chosen)
            net = replaced(net, windows=windows, by_source=by_source, shortest_window=shortest_window)
            if isinstance(connection, Sparse) and not net.windows:
                _reject_repeated(connection)
        return net

    def _windows_of(self, net: Self, windows: bool | None) -> bool:
        """Whether `net`, made from this network, runs in windows: as it was decided here, or by itself."""
        shortest = net._shortest_delay()
        if windows is None and (isinstance(shortest, Tracer) or self.windows != self._windows_by_default()):
            windows = self.windows
        return _choose_windows(net.connection, shortest, net.max_solver_time, windows)

    def _windows_by_default(self) -> bool:
        return _choose_windows(self.connection, self._shortest_delay(), self.max_solver_time, None)

    def _shortest_delay(self) -> Float[Array, ""]:
        return wiring_of(self._synapses()).shortest(self.n_neurons)

    @property
    def _parts(self) -> list[Part]:
        inputs = self.n_neurons + self.in_size
        return [Part(self.neurons, self.connection, self.n_neurons, inputs, "neurons", "connection", None)]

    @property
    def _outputs(self) -> tuple[bool, ...]:
        return self.output_neurons

    def _neurons_of(self, layer: int) -> NeuronModel:
        return self.neurons

    def _run(
        self,
        in_spikes: Array,
        wanted: Wanted,
        checks: tuple[Check, ...] = (),
        max_spikes: int | None = None,
        n_layers: int | None = None,
    ) -> tuple[list[LayerRun], Report]:
        check_parts(self._parts, self.dtype)
        synapses = self._synapses()
        if self.weightless:
            checks = (*checks, input_without_effect(in_spikes, synapses.weights))
        # Equinox's checkpointed loop cannot be differentiated on several devices. On one clock answers are the same.
        windows = self.windows and not (is_split() and isinstance(self.connection, Dense))
        run = run_recurrent(
            self._solving(),
            self.neurons,
            synapses,
            self.output_neurons,
            self.max_pending,
            in_spikes,
            wanted,
            windows,
            self.by_source,
            self.shortest_window,
        )
        report = report_of_recurrent(
            run, self.neurons, synapses, self.output_neurons, in_spikes, wanted.t_end, checks, max_spikes
        )
        report = _with_checks(report, [self.connection], self.from_inputs)
        return [run], Report(report.asked, (*report.numbers, *self._check_delays()), report.layers)

    def _check_delays(self) -> list[Check]:
        """Whether all synapses of a source still have the same delay, if a run relies on it."""
        connection = self.connection
        if not self.by_source or self.engine not in ("auto", "native"):
            return []
        if not isinstance(connection, Dense) or connection.delays is None:
            return []
        delays = connection.delays.value
        exists = jnp.ones(delays.shape, bool) if connection.mask is None else connection.mask.value
        longest = jnp.max(jnp.where(exists, delays, 0), axis=1, keepdims=True)
        expected = "expected the same delay for all synapses of a source, as before: change delays by with_(delays=...)"
        return [Check(delays, exists & (delays < longest), "connection.delays", expected)]

    def _synapses(self) -> Synapses | SparseSynapses:
        made = self.connection
        if isinstance(made, Dense):
            return _synapses(made)
        from_inputs: Any = self.from_inputs
        places = made.rows.value, made.targets.value, from_inputs.value
        return SparseSynapses(*places, made.weights, made.delays, made.axonal_delays)


def _synapses(connection: Dense) -> Synapses:
    mask: Any = None if connection.mask is None else connection.mask.value
    return Synapses(connection.weights, mask, connection.delays, connection.axonal_delays)


def _with_checks(report: Report, connections: Iterable[Dense | Sparse], from_inputs: WholeNumbers | None) -> Report:
    """The report, and whether someone has changed what says which connections there are, such as an optimiser."""
    numbers = [whole for one in connections for whole in _whole_numbers_of(one)]
    numbers += [] if from_inputs is None else [("from_inputs", from_inputs)]
    expected = "expected a whole number: give an optimiser only what eventsnn.trainable(net) marks"
    checks = [Check(*whole.check(), name, expected) for name, whole in numbers if whole.digits.size]
    return Report(report.asked, (*report.numbers, *checks), report.layers)


def _whole_numbers_of(connection: Dense | Sparse) -> list[tuple[str, WholeNumbers]]:
    if isinstance(connection, Sparse):
        return [("rows", connection.rows), ("targets", connection.targets)]
    return [] if connection.mask is None else [("mask", connection.mask)]


def _checked_outputs(output_neurons: ArrayLike | None, n_neurons: int) -> tuple[bool, ...]:
    outputs = tuple(checked_mask("output_neurons", output_neurons, (n_neurons,)).tolist())
    if not any(outputs):
        raise ValueError("output_neurons has no True, expected at least one output")
    return outputs


# With windows shorter than this part of the run there are too many of them.
_SHORTEST_WINDOW = 1e-4


def _choose_windows(
    connection: Dense | Sparse, shortest: Float[Array, ""], max_solver_time: float, windows: bool | None
) -> bool:
    """Whether a network runs in windows of its shortest delay."""
    # Under a transformation nobody knows how short it is.
    known = not isinstance(shortest, Tracer)
    if windows is None:
        fixed = not _delays_are_trained(connection)
        return known and fixed and bool(shortest >= _SHORTEST_WINDOW * max_solver_time)
    if windows and known and not shortest > 0:
        raise ValueError(
            f"windows is True, but the shortest delay among neurons is {shortest:g} ms: expected more than 0"
        )
    return bool(windows)


def _shortest_window(
    connection: Dense | Sparse, shortest: Float[Array, ""], max_solver_time: float, windows: bool | None
) -> float:
    """From which part of the run on native kernels take windows of the shortest delay: see `run_windows_natively`.

    If delays are trained, or traced here, the delays of each run decide.
    """
    if windows is False:
        return math.inf
    least = SHORTEST_WINDOW if windows else _SHORTEST_WINDOW
    if isinstance(shortest, Tracer) or _delays_are_trained(connection):
        return least
    return 0.0 if bool(shortest >= least * max_solver_time) else math.inf


def _delays_are_trained(connection: Dense | Sparse) -> bool:
    delays = connection.delays, connection.axonal_delays
    return any(delay is not None and delay.trainable for delay in delays)


def _delays_by_source(connection: Dense | Sparse) -> bool:
    """Whether all synapses of a source have the same delay, and keep it."""
    if isinstance(connection, Sparse):
        return False
    if connection.delays is None:
        return True
    if connection.delays.trainable or isinstance(connection.delays.value, Tracer):
        return False
    delays = np.asarray(connection.delays.value)
    mask = np.ones(delays.shape, bool) if connection.mask is None else np.asarray(connection.mask)
    low, high = (np.where(mask, delays, beyond) for beyond in (np.inf, -np.inf))
    return bool(np.all(low.min(axis=1, initial=np.inf) >= high.max(axis=1, initial=-np.inf)))


def _reject_repeated(connection: Sparse) -> None:
    """On one clock there is one synapse from a neuron to another."""
    pairs = np.stack([np.asarray(connection.rows), np.asarray(connection.targets)], axis=1)
    unique, counts = np.unique(pairs, axis=0, return_counts=True)
    if (counts > 1).any():
        row, target = unique[np.argmax(counts)]
        raise ValueError(
            f"synapses holds [{row}, {target}] {counts.max()} times, which a network takes only if it runs in windows: "
            "merge them, or see to it that every delay among neurons is greater than 0, and pass windows=True"
        )
