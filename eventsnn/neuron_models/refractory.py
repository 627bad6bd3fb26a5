"""Neurons that are refractory for some time after each spike."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..flows.base import AbstractFlow
from ..flows.rules import LinearRules
from ..flows.systems import SystemRules
from .base import NeuronModel, native_rules, native_system, valid_closed_form
from .declared import Declaration, MadeBy, declare
from .parameter import Parameter
from .wrapper import AbstractWrapper, WrappedFlow, checked_model, wrap


class AbstractRefractory(AbstractWrapper):
    """Neurons that cannot spike for `tref` ms after each spike; made by `Refractory`.

    The channel `refractory` is 1 while a neuron is refractory, and 0 while it is free. A model that is not reset may
    still be above its threshold when that is over; the channel is 2 until it has fallen below.
    """

    own_channels: ClassVar[tuple[str, ...]] = ("refractory", "remaining")
    own_numbers: ClassVar[dict[str, Declaration]] = {
        "tref": declare(2.0, "how long a neuron is refractory in ms", positive=True)
    }
    held: ClassVar[tuple[int, ...]] = ()
    blocks: ClassVar[bool] = False

    tref: Parameter

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        inside, own = self.split(y)
        refractory = _is(own, _REFRACTORY)
        dy = self.neuron.dynamics(t, inside, args)
        columns = [jnp.where(refractory & (k in self.held), 0, dy[:, k]) for k in range(dy.shape[1])]
        # How long it still lasts falls by 1 per ms, so that its end is a crossing that is found to rounding.
        zero = jnp.zeros_like(own[:, 0])
        return jnp.stack([*columns, zero, jnp.where(refractory, zero - 1, zero)], axis=1)

    def spike_condition(self, t, y, args: Any) -> Float[Array, " neurons"]:
        inside, own = self.split(y)
        condition = self.neuron.spike_condition(t, inside, args)
        condition = jnp.where(_is(own, _FALLING), -condition, condition)
        return jnp.where(_is(own, _REFRACTORY), -own[:, 1], condition)

    def emits(self, y) -> Bool[Array, " neurons"]:
        inside, own = self.split(y)
        return _is(own, _FREE) & self.inside_emits(inside)

    def input_spikes(self, y, weights: Float[Array, "neurons *ports"]) -> Float[Array, "neurons channels"]:
        inside, own = self.split(y)
        refractory = _is(own, _REFRACTORY)
        after = self.neuron.input_spikes(inside, weights)
        columns = [
            jnp.where(refractory & (self.blocks or k in self.held), inside[:, k], after[:, k])
            for k in range(after.shape[1])
        ]
        return self.join(jnp.stack(columns, axis=1), own)

    def reset_spiked(self, y, spiked: Bool[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        inside, own = self.split(y)
        free = _is(own, _FREE)
        ends, begins = spiked & ~free, spiked & free & self.inside_emits(inside)
        after = self.neuron.reset_spiked(inside, spiked & free)
        # After refractoriness a model that is not reset waits until it is below its threshold.
        waits = ends & _is(own, _REFRACTORY) & (not self._resets)
        mode = jnp.where(ends, jnp.where(waits, _FALLING, _FREE), own[:, 0])
        mode = jnp.where(begins, _REFRACTORY, mode).astype(y.dtype)
        remaining = jnp.where(begins, self.tref.value, jnp.where(ends, 0, own[:, 1]))
        return self.join(after, jnp.stack([mode, remaining], axis=1))

    @property
    def _resets(self) -> bool:
        """Whether the model inside resets anything."""
        return type(self.neuron).reset_spiked is not NeuronModel.reset_spiked

    def closed_form(self) -> AbstractFlow | None:
        # A closed form only says when the threshold is reached from below.
        inside = valid_closed_form(self.neuron) if self._resets else None
        held = inside if inside is None or not self.held else inside.held(self.held)
        return None if inside is None or held is None else _RefractoryFlow(self, inside, held)


# What the channel `refractory` says of a neuron.
_FREE, _REFRACTORY, _FALLING = 0, 1, 2


def _is(own: Float[Array, "neurons 2"], mode: int) -> Bool[Array, " neurons"]:
    return jnp.abs(own[:, 0] - mode) < 0.5


class _RefractoryFlow(WrappedFlow):
    """The flow of neurons some of which are refractory: `while_refractory` is that of the model inside then."""

    wrapper: AbstractRefractory
    while_refractory: AbstractFlow

    def after(self, y: Float[Array, "neurons channels"], dt: Float[Array, " neurons"]) -> Array:
        inside, own = self.wrapper.split(y)
        refractory = _is(own, _REFRACTORY)
        free, held = self.inside.after(inside, dt), self.while_refractory.after(inside, dt)
        # What is left of the refractory time falls by 1 per ms.
        left = jnp.stack([own[:, 0], own[:, 1] - jnp.where(refractory, dt, 0)], axis=1)
        return self.wrapper.join(jnp.where(refractory[:, None], held, free), left)

    def first_crossing(self, y, dt, resolution) -> Float[Array, " neurons"]:
        inside, own = self.wrapper.split(y)
        ends = jnp.where(own[:, 1] <= dt, own[:, 1], jnp.inf)
        return jnp.where(_is(own, _REFRACTORY), ends, self.inside.first_crossing(inside, dt, resolution))

    def may_cross(self, y, y_end, dt) -> Bool[Array, " neurons"]:
        own = self.wrapper.split(y)[1]
        return jnp.where(_is(own, _REFRACTORY), own[:, 1] <= dt, super().may_cross(y, y_end, dt))

    def held(self, channels: tuple[int, ...]) -> AbstractFlow | None:
        return None

    def rules(self, n_neurons: int) -> LinearRules | None:
        wrapper = self.wrapper
        rules = native_rules(wrapper.neuron, n_neurons)
        held = set(wrapper.held)
        # Whatever stands still, the potential is among it; and one refractory time goes around everything else.
        if rules is None or "refractory" in rules.columns or not (held <= {0, 1}) or (held and 0 not in held):
            return None

        def every(flag: bool) -> tuple[bool, ...]:
            return (flag,) * n_neurons

        return dataclasses.replace(
            rules,
            tref=jnp.broadcast_to(wrapper.tref.value, (n_neurons,)),
            holds_v=every(0 in held),
            holds_i=every(1 in held),
            blocks=every(wrapper.blocks),
            columns=(*rules.columns, *wrapper.own_channels),
        )

    def system(self, model: Any, n_neurons: int) -> SystemRules | None:
        wrapper = self.wrapper
        system = native_system(wrapper.neuron, n_neurons)
        # One refractory time goes around everything else.
        if system is None or "refractory" in system.own or not all(k < system.channels for k in wrapper.held):
            return None
        own, tref = (*system.own, *wrapper.own_channels), jnp.broadcast_to(wrapper.tref.value, (n_neurons,))
        return dataclasses.replace(system, tref=tref, held=wrapper.held, blocks=wrapper.blocks, own=own)


def Refractory(
    model: type[NeuronModel], *, hold: Sequence[str] | None = None, block: bool = False
) -> type[NeuronModel]:
    """Neurons of `model` that are refractory for `tref` ms after each spike, 2 ms by default.

    `tref` is a keyword of the network beside those of the model: `FFEvNN(..., Refractory(LIF), ..., tref=1.0)`.
    Refractoriness ends exactly `tref` after the spike; of what happens at that instant its end comes first.

    **Arguments:**

    - `model`: a class of neuron models.
    - `hold`: the channels that stay where the reset put them meanwhile, also when spikes arrive; the others move
        on. By default the first channel, the potential, or none if `block`.
    - `block`: whether spikes that arrive meanwhile are lost.

    **Raises:** `TypeError` if `model` is not such a class, `ValueError` if it has no channel to `hold`.
    """
    return _refractory(checked_model("Refractory", model), None if hold is None else tuple(hold), bool(block))


@functools.cache
def _refractory(model: type[NeuronModel], hold: tuple[str, ...] | None, block: bool) -> type[NeuronModel]:
    channels = model.channels
    names = hold if hold is not None else () if block else channels[:1]
    for name in names:
        if name not in channels:
            raise ValueError(f"hold names {name!r}, expected some of the channels {', '.join(channels)}")
    options = {} if hold is None else {"hold": list(hold)}
    made_by = MadeBy("Refractory", (model,), options | ({"block": True} if block else {}))
    return wrap(AbstractRefractory, model, made_by, held=tuple(map(channels.index, names)), blocks=block)
