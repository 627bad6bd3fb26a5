"""What all networks of event-driven spiking neurons have in common: their options, and what one can ask them."""

import abc
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .arguments import (
    checked_controller,
    checked_count,
    checked_dtype,
    checked_engine,
    checked_size,
    checked_slope,
    checked_time,
    step_limit,
    without_arrays,
)
from .changes import Part
from .engine.control import make_control
from .engine.failure import settle
from .engine.feed_forward import Solving, Wanted
from .engine.layer_run import LayerRun
from .engine.report import Check, Report
from .engine.results import RESULTS
from .engine.step import make_stepper
from .engine.trains import spike_trains
from .neuron_models import NeuronModel
from .neuron_models.parameter import assign
from .times import as_times, check_input_times


class Record(eqx.Module):
    """All spikes of a run.

    - `times`: one array per layer with the spike times in ms, sorted, `inf` behind the last.
    - `neurons`: one array per layer that says which neuron emitted each of them, -1 behind the last.
    - `slopes`: one array per layer with the slope dg/dt of the spike condition at each spike, `inf`
        where an arrival lifted the neuron over its threshold at once. A small slope is a graze:
        gradients of that spike time are as large as the slope is small.
    - `result`: how the run ended. If it failed and the network does not raise, spikes up to the failure are listed, and
        NaN stands behind the last of them instead of `inf`.

    An array is as long as `max_event_steps` says. A recurrent network is one layer.
    """

    times: tuple[Float[Array, " _"], ...]
    neurons: tuple[Int[Array, " _"], ...]
    slopes: tuple[Float[Array, " _"], ...]
    result: RESULTS


class AbstractNetwork(eqx.Module):
    """A network of spiking neurons, simulated by events."""

    neurons: eqx.AbstractVar[Any]
    solver: diffrax.AbstractSolver = eqx.field(static=True)
    stepsize_controller: diffrax.AbstractStepSizeController = eqx.field(static=True)
    in_size: int = eqx.field(static=True)
    max_solver_time: float = eqx.field(static=True)
    solver_stepsize: float = eqx.field(static=True)
    max_event_steps: int | None = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    min_slope: float = eqx.field(static=True)
    engine: str = eqx.field(static=True)
    output_no_spike_value: float = eqx.field(static=True)
    dtype: Any = eqx.field(static=True)
    throw: bool = eqx.field(static=True)
    # Whether the inputs were given no weights.
    weightless: bool = eqx.field(static=True)

    def _set_options(
        self,
        in_size: int,
        max_solver_time: float,
        solver_stepsize: float | None,
        max_event_steps: int | None,
        output_no_spike_value: float,
        dtype: Any,
        rtol: float | None,
        atol: float | None,
        solver: diffrax.AbstractSolver | None,
        stepsize_controller: diffrax.AbstractStepSizeController | None,
        max_steps: int | None,
        min_slope: float,
        engine: Literal["auto", "native", "xla", "numerical"],
        throw: bool,
    ) -> None:
        """Check and keep what every network is told, in the constructor."""
        self.in_size = checked_size("in_size", in_size)
        self.dtype = checked_dtype(dtype)
        self.max_solver_time = checked_time("max_solver_time", max_solver_time)
        stepsize = self.max_solver_time / 50 if solver_stepsize is None else solver_stepsize
        self.solver_stepsize = checked_time("solver_stepsize", stepsize)
        given = max_event_steps is not None
        self.max_event_steps = checked_count("max_event_steps", max_event_steps) if given else None
        self.output_no_spike_value = float(output_no_spike_value)
        self.throw = bool(throw)
        self.solver = without_arrays("solver", diffrax.Tsit5() if solver is None else solver)
        controller = checked_controller(stepsize_controller, rtol, atol)
        # Whether it is one that can be used at all comes before what it holds.
        make_control(controller, self.solver, self.solver_stepsize)
        self.stepsize_controller = without_arrays("stepsize_controller", controller)
        self.max_steps = step_limit(max_steps, self.stepsize_controller, self.max_solver_time, self.solver_stepsize)
        self.min_slope = checked_slope(min_slope)
        self.engine = checked_engine(engine)
        self._solving()

    @abc.abstractmethod
    def _run(
        self,
        in_spikes: Float[Array, "inputs spikes"],
        wanted: Wanted,
        checks: tuple[Check, ...] = (),
        max_spikes: int | None = None,
        n_layers: int | None = None,
    ) -> tuple[list[LayerRun], Report]:
        """The runs of the first `n_layers` layers, and what went wrong. `max_spikes` limits those of an output."""

    @property
    @abc.abstractmethod
    def _outputs(self) -> tuple[bool, ...]:
        """Which neurons of the last layer are outputs."""

    @abc.abstractmethod
    def _neurons_of(self, layer: int) -> NeuronModel:
        """The neurons of a layer."""

    @property
    @abc.abstractmethod
    def _parts(self) -> list[Part]:
        """The neurons, with the connections to them."""

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
        if isinstance(max_spikes, float):
            raise TypeError(f"max_spikes is {max_spikes}, expected a whole number: write it after final_time")
        final_time = self._time(final_time)
        max_spikes = checked_count("max_spikes", max_spikes)
        spikes, report = _first_spikes(self, self._input(in_spikes), final_time, max_spikes, True)
        return self._settle(spikes, report)

    def record(self, in_spikes: ArrayLike) -> Record:
        """All spikes of all layers, with the neuron that emitted each, and how the run ended."""
        record, report = _record(self, self._input(in_spikes))
        if self.throw:
            return settle(record, report)
        # Spikes up to the failure stay, since they tell of it. Nothing else is left that looks like silence.
        failed = jax.lax.stop_gradient(report.failed())
        columns = jax.tree.map(
            lambda column: jnp.where(failed & jnp.isinf(column), jnp.nan, column), (record.times, record.slopes)
        )
        return eqx.tree_at(lambda record: (record.times, record.slopes), record, columns)

    def __eq__(self, other: object) -> bool:
        """Whether all numbers and options are the same, to the bit."""
        if self is other or not isinstance(other, AbstractNetwork):
            return self is other
        mine, theirs = _value_of(self), _value_of(other)
        return mine is not None and theirs is not None and mine == theirs

    def __setattr__(self, name: str, value: Any) -> None:
        assign(self, name, value, what="weights" if name in ("neurons", "connections", "connection") else None)

    def __hash__(self) -> int:
        value = _value_of(self)
        return id(self) if value is None else hash(value)

    if not TYPE_CHECKING:

        def __getattribute__(self, name: str) -> Any:
            found = object.__getattribute__(self, name)
            is_own = isinstance(found, types.MethodType) and found.__self__ is self and not name.startswith("_")
            return _Query(found.__func__, self) if is_own else found

    def _states_of(self, layer: int, in_spikes: ArrayLike, times: ArrayLike) -> Array:
        times = as_times("times", times, self.dtype)
        if times.ndim != 1:
            raise ValueError(f"times has shape {times.shape}, expected (times,): pass a one-dimensional array")
        states, report = _states(self, self._input(in_spikes), times, layer)
        return self._settle(states, report)

    def _solving(self) -> Solving:
        stepper = make_stepper(self.solver, self.stepsize_controller)
        control = make_control(self.stepsize_controller, self.solver, self.solver_stepsize)
        return Solving(stepper, control, self.max_steps, self.max_event_steps, self.min_slope, self.engine)

    def _input(self, in_spikes: ArrayLike) -> Float[Array, "inputs spikes"]:
        in_spikes = as_times("in_spikes", in_spikes, self.dtype)
        if in_spikes.ndim == 3 and in_spikes.shape[1] == self.in_size:
            raise ValueError(
                f"in_spikes has shape {in_spikes.shape}, expected ({self.in_size}, spikes): "
                "for a batch use jax.vmap(net.ttfs)(in_spikes)"
            )
        if in_spikes.ndim != 2 or in_spikes.shape[0] != self.in_size:
            turned = in_spikes.ndim == 2 and in_spikes.shape[1] == self.in_size
            advice = "transpose it" if turned else "one row per input channel, padded with inf"
            raise ValueError(f"in_spikes has shape {in_spikes.shape}, expected ({self.in_size}, spikes): {advice}")
        check_input_times(self.neurons, in_spikes, self.max_solver_time)
        return in_spikes

    def _time(self, time: float | Array) -> Float[Array, ""]:
        time = as_times("final_time", time, self.dtype)
        if time.ndim != 0:
            raise ValueError(f"final_time has shape {time.shape}, expected a scalar")
        return time

    def _settle(self, out: Any, report: Report) -> Any:
        """The answer to a query; if the run failed, an error, or NaN everywhere with `throw=False`."""
        if self.throw:
            return settle(out, report)
        failed = jax.lax.stop_gradient(report.failed())
        return jax.tree.map(lambda leaf: jnp.where(failed, jnp.nan, leaf), out)


class _Query(eqx.Module):
    """A method of a network, for which `jax.jit(net.ttfs)` looks in its cache.

    Equinox's own bound methods are compared by computing with their numbers, which fails while JAX traces a function.
    """

    __func__: Callable[..., Any] = eqx.field(static=True)
    __self__: AbstractNetwork

    def __post_init__(self):
        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            setattr(self, name, getattr(self.__func__, name))

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self.__func__(self.__self__, *args, **keywords)

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return types.MethodType(self.__func__, self.__self__)

    def __hash__(self) -> int:
        return hash((self.__func__, self.__self__))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Query) and self.__func__ is other.__func__ and self.__self__ == other.__self__


def _value_of(net: AbstractNetwork) -> Any:
    """All that a network consists of, with arrays as bytes; `None` if some of it is being traced."""
    leaves, structure = jax.tree.flatten(net)
    if any(isinstance(leaf, Tracer) for leaf in leaves):
        return None
    return structure, tuple(_bytes_of(leaf) for leaf in leaves)


def _bytes_of(leaf: Any) -> Any:
    array = np.asarray(leaf) if eqx.is_array_like(leaf) else None
    return leaf if array is None else (str(array.dtype), array.shape, array.tobytes())


def attempt_ttfs(network: AbstractNetwork, in_spikes: ArrayLike) -> tuple[Float[Array, " out"], Bool[Array, ""]]:
    """What `ttfs` gives, and whether the run failed, where `ttfs` would raise an error.

    Where there are no native kernels, an error takes a call back into Python, and programs that call back are not kept
    by JAX's compilation cache.
    """
    spikes, report = _first_spikes(network, network._input(in_spikes), network._time(network.max_solver_time), 1, False)
    return spikes[:, 0], jax.lax.stop_gradient(report.failed())


def attempt_record(network: AbstractNetwork, in_spikes: ArrayLike) -> tuple[Record, Bool[Array, ""]]:
    """The same for `record`."""
    record, report = _record(network, network._input(in_spikes))
    return record, jax.lax.stop_gradient(report.failed())


@eqx.filter_jit
def _first_spikes(net: AbstractNetwork, in_spikes: Array, final_time: Array, max_spikes: int, complete: bool):
    """The first spikes of the output neurons; if `complete`, having more of them is a failure."""
    limit = max_spikes + 1 if complete else max_spikes
    wanted = Wanted(final_time, stop_after=limit, ordered=limit > 1)
    runs, report = net._run(
        in_spikes, wanted, (_within(net, "final_time", final_time),), max_spikes if complete else None
    )
    outputs = net._outputs
    trains = spike_trains(runs[-1].times, runs[-1].neurons, len(outputs), max_spikes)
    if not all(outputs):
        trains = trains[jnp.asarray([number for number, is_output in enumerate(outputs) if is_output], jnp.int32)]
    return jnp.where(jnp.isfinite(trains), trains, net.output_no_spike_value), report


@eqx.filter_jit
def _states(net: AbstractNetwork, in_spikes: Array, times: Array, layer: int):
    wanted = Wanted(jnp.asarray(net.max_solver_time, net.dtype), times, ordered=False)
    runs, report = net._run(in_spikes, wanted, (_within(net, "times", times),), n_layers=layer + 1)
    states = jnp.asarray(runs[-1].states)
    return jax.vmap(net._neurons_of(layer).observe, in_axes=1, out_axes=1)(states), report


@eqx.filter_jit
def _record(net: AbstractNetwork, in_spikes: Array):
    runs, report = net._run(in_spikes, Wanted(jnp.asarray(net.max_solver_time, net.dtype), slopes=True))
    record = Record(
        times=tuple(run.times for run in runs),
        neurons=tuple(jnp.where(jnp.isfinite(run.times), run.neurons, -1) for run in runs),
        slopes=tuple(jnp.asarray(run.slopes) for run in runs),
        result=report.result(),
    )
    return record, report


def _within(net: AbstractNetwork, name: str, times: Array) -> Check:
    bad = ~((times >= 0) & (times <= net.max_solver_time))
    return Check(times, bad, name, f"expected a time from 0 to max_solver_time = {net.max_solver_time:g} ms")
