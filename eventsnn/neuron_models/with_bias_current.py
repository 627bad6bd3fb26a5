"""Neurons that receive a current that depends on time."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.extend.core
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..flows.base import AbstractFlow
from ..flows.rules import LinearRules
from .base import NeuronModel, native_rules, valid_closed_form
from .currents import AbstractCurrent, as_current, for_neurons
from .declared import Declaration, MadeBy, declare
from .wrapper import AbstractWrapper, checked_model, wrap


class AbstractWithBiasCurrent(AbstractWrapper):
    """Neurons that receive a current I(t) besides their bias current; made by `WithBiasCurrent`."""

    own_channels: ClassVar[tuple[str, ...]] = ("passed",)
    own_keywords: ClassVar[dict[str, Declaration]] = {"current": declare(0.0, "the current I(t)")}

    current: AbstractCurrent

    def __init__(
        self,
        n_neurons: int,
        *,
        current: Any = 0.0,
        trainable: Iterable[str] = (),
        dtype=jnp.float32,
        key=None,
        **keywords: Any,
    ):
        """**Arguments:** `current`, a current, a number or a function of time, and those of the model inside."""
        super().__init__(n_neurons, trainable=trainable, dtype=dtype, key=key, **keywords)
        self.current = for_neurons(as_current(current), n_neurons, dtype)
        if self.neuron.breakpoints() is not None:
            raise ValueError("the model inside has breakpoints already: add the currents, and wrap it once")
        self.neuron.with_current(jnp.zeros((), dtype))

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        inside, own = self.split(y)
        dy = self.with_present_current(t, own).dynamics(t, inside, args)
        return self.join(dy, jnp.zeros_like(own))

    def closed_form(self) -> AbstractFlow | None:
        inside = valid_closed_form(self.neuron)
        return None if inside is None or not self.current.is_piecewise_constant() else _DrivenFlow(self)

    def with_present_current(self, t: Any, own: Float[Array, "neurons 1"]) -> NeuronModel:
        """The model inside, with the current that it receives at time `t`."""
        times = self._times(own)
        # How many breakpoints are behind says which, since they come in order.
        order = jnp.sort(times, axis=1)
        count = jnp.round(own).astype(jnp.int32)
        latest = jnp.take_along_axis(order, jnp.maximum(count - 1, 0), axis=1) if times.shape[1] else times
        passed = (count > 0) & (times <= latest)
        current: Any = self.current
        return self.neuron.with_current(jnp.broadcast_to(current(t, passed), own.shape[:1]))

    def breakpoints(self) -> Float[Array, "*neurons times"] | None:
        times = self.current.breakpoints()
        return jnp.stack(jnp.broadcast_arrays(*times), axis=-1) if times else None

    def pass_breakpoint(self, y) -> Float[Array, "neurons channels"]:
        inside, own = self.split(y)
        return self.join(inside, own + 1)

    def _times(self, own: Float[Array, "neurons 1"]) -> Float[Array, "neurons times"]:
        """The breakpoints of every neuron as they come. They pass no gradient on here: arrivals do."""
        times = self.breakpoints()
        if times is None:
            return jnp.zeros((own.shape[0], 0), own.dtype)
        times = jnp.maximum(jax.lax.stop_gradient(times), 0)
        return jnp.broadcast_to(times, (own.shape[0], times.shape[-1]))


class _DrivenFlow(AbstractFlow):
    """The flow of neurons whose current is constant between its breakpoints.

    - `still`: which channels of the model inside stand still.
    """

    wrapper: AbstractWithBiasCurrent
    still: tuple[int, ...] = eqx.field(static=True, default=())

    def after(self, y: Float[Array, "neurons channels"], dt: Float[Array, " neurons"]) -> Array:
        inside, own = self.wrapper.split(y)
        return self.wrapper.join(self._flow(own).after(inside, dt), own)

    def first_crossing(self, y, dt, resolution) -> Float[Array, " neurons"]:
        inside, own = self.wrapper.split(y)
        return self._flow(own).first_crossing(inside, dt, resolution)

    def may_cross(self, y, y_end, dt) -> Bool[Array, " neurons"]:
        inside, own = self.wrapper.split(y)
        return self._flow(own).may_cross(inside, self.wrapper.split(y_end)[0], dt)

    def held(self, channels: tuple[int, ...]) -> "AbstractFlow | None":
        inside = valid_closed_form(self.wrapper.neuron)
        # Breakpoints are counted whatever stands still.
        of_inside = tuple(channel for channel in channels if channel < len(self.wrapper.neuron.channels))
        if inside is None or inside.held(of_inside) is None:
            return None
        return _DrivenFlow(self.wrapper, of_inside)

    def rules(self, n_neurons: int) -> LinearRules | None:
        wrapper, dtype = self.wrapper, self.wrapper.neuron.init_state(n_neurons).dtype

        def rules_after(count: Array) -> LinearRules | None:
            passed = jnp.full((n_neurons, 1), count)
            return native_rules(wrapper.with_present_current(jnp.zeros((), dtype), passed), n_neurons)

        def drive_after(count: Array) -> Array:
            rules = rules_after(count)
            assert rules is not None
            return rules.drive

        rules, times = rules_after(jnp.zeros((), dtype)), wrapper.breakpoints()
        if rules is None or not _moves_drive_alone(wrapper.neuron, n_neurons, dtype):
            return None
        rules = dataclasses.replace(rules, columns=(*rules.columns, *wrapper.own_channels))
        if times is None:
            return rules
        # As the engine lets breakpoints arrive: those before 0 at 0, and those of the same time in their order.
        times = jnp.maximum(times.astype(dtype), 0)
        order = jnp.argsort(jax.lax.stop_gradient(times), axis=-1, stable=True)
        drives = jax.vmap(drive_after)(jnp.arange(times.shape[-1] + 1, dtype=dtype))
        return dataclasses.replace(
            rules, changes=drives[1:] - drives[:-1], change_times=jnp.take_along_axis(times, order, axis=-1)
        )

    def _flow(self, own: Float[Array, "neurons 1"]) -> AbstractFlow:
        flow = valid_closed_form(self.wrapper.with_present_current(jnp.zeros((), own.dtype), own))
        flow = flow if flow is None or not self.still else flow.held(self.still)
        assert flow is not None
        return flow


def _moves_drive_alone(neuron: NeuronModel, n_neurons: int, dtype: Any) -> bool:
    """Whether a current moves the drive of neurons, and no other number of theirs.

    Kernels change drives alone, and the closed form of a user's model may use `ic` elsewhere. The traced
    program says what depends on the current.
    """

    def other_numbers(current: Array) -> list[Array]:
        rules = native_rules(neuron.with_current(current), n_neurons)
        assert rules is not None
        return [rules.leak, rules.coupling, rules.decay, rules.thresh, rules.vreset, rules.tref]

    program = jax.make_jaxpr(other_numbers)(jnp.zeros(n_neurons, dtype)).jaxpr
    depends = set(program.invars)

    def any_depends(variables: Iterable[Any]) -> bool:
        return any(not isinstance(one, jax.extend.core.Literal) and one in depends for one in variables)

    for step in program.eqns:
        if any_depends(step.invars):
            depends.update(step.outvars)
    return not any_depends(program.outvars)


def WithBiasCurrent(model: type[NeuronModel]) -> type[NeuronModel]:
    """Neurons of `model` that receive a current I(t) besides their bias current.

    The keyword `current` of the network is a number, a function of time such as `lambda t: jnp.sin(t)`, or a
    `ConstantCurrent`, `StepCurrent`, `RampCurrent`, `SineCurrent` or `FunctionCurrent`, or a sum of these:
    `FFEvNN(..., WithBiasCurrent(LIF), ..., current=StepCurrent(2.0, start=5.0, stop=20.0))`. A run stops exactly
    where such a current jumps or bends; what a plain function of time does there is up to the solver.

    **Raises:** `TypeError` if `model` is not a class of neuron models; the constructor does if the model has no
    bias current to add to (see `NeuronModel.with_current`).
    """
    return _with_bias_current(checked_model("WithBiasCurrent", model))


@functools.cache
def _with_bias_current(model: type[NeuronModel]) -> type[NeuronModel]:
    return wrap(AbstractWithBiasCurrent, model, MadeBy("WithBiasCurrent", (model,), {}))
