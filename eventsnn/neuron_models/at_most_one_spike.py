"""Neurons that spike once."""

import dataclasses
import functools
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..flows.base import AbstractFlow
from ..flows.rules import LinearRules
from ..flows.systems import SystemRules
from .base import NeuronModel, native_rules, native_system, valid_closed_form
from .declared import MadeBy
from .wrapper import AbstractWrapper, WrappedFlow, checked_model, wrap


class AbstractAtMostOneSpike(AbstractWrapper):
    """Neurons that spike at most once; made by `AtMostOneSpike`."""

    own_channels: ClassVar[tuple[str, ...]] = ("spent",)

    def spike_condition(self, t, y, args: Any) -> Float[Array, " neurons"]:
        inside, own = self.split(y)
        return jnp.where(self.silent(inside, own), -1, self.neuron.spike_condition(t, inside, args))

    def reset_spiked(self, y, spiked: Bool[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        inside, own = self.split(y)
        spent = jnp.where(spiked & self.inside_emits(inside), 1, own[:, 0])
        return self.join(self.neuron.reset_spiked(inside, spiked), spent[:, None])

    def closed_form(self) -> AbstractFlow | None:
        inside = valid_closed_form(self.neuron)
        return None if inside is None else _Once(self, inside)

    def silent(self, inside: Float[Array, "neurons inside"], own: Float[Array, "neurons 1"]) -> Bool[Array, " neurons"]:
        """Who will not spike any more. Other events of the model inside go on."""
        return (own[:, 0] > 0.5) & self.inside_emits(inside)


class _Once(WrappedFlow):
    """The flow of neurons that spike once."""

    wrapper: AbstractAtMostOneSpike

    def first_crossing(self, y, dt, resolution) -> Float[Array, " neurons"]:
        crossing = super().first_crossing(y, dt, resolution)
        return jnp.where(self.wrapper.silent(*self.wrapper.split(y)), jnp.inf, crossing)

    def may_cross(self, y, y_end, dt) -> Bool[Array, " neurons"]:
        return super().may_cross(y, y_end, dt) & ~self.wrapper.silent(*self.wrapper.split(y))

    def rules(self, n_neurons: int) -> LinearRules | None:
        rules = native_rules(self.wrapper.neuron, n_neurons)
        if rules is None:
            return None
        return dataclasses.replace(rules, once=(True,) * n_neurons, columns=(*rules.columns, "spent"))

    def system(self, model: Any, n_neurons: int) -> SystemRules | None:
        system = native_system(self.wrapper.neuron, n_neurons)
        return None if system is None else dataclasses.replace(system, once=True, own=(*system.own, "spent"))


def AtMostOneSpike(model: type[NeuronModel]) -> type[NeuronModel]:
    """Neurons of `model` that never spike again after their first spike; their state moves on from its reset.

    Keywords are those of the model. **Raises** `TypeError` if `model` is not a class of neuron models.
    """
    return _at_most_one_spike(checked_model("AtMostOneSpike", model))


@functools.cache
def _at_most_one_spike(model: type[NeuronModel]) -> type[NeuronModel]:
    return wrap(AbstractAtMostOneSpike, model, MadeBy("AtMostOneSpike", (model,), {}))
