"""A neuron whose threshold adapts."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .exponentials import AbstractExponentialFlow


class AdaptiveThresholdFlow(AbstractExponentialFlow):
    """A neuron in closed form whose threshold is raised by channels that decay by themselves.

    Its channels come first, then those of the threshold; their sum is added to its own threshold.

    - `neuron`: the neuron without them.
    - `adaptation`: with which rate each of them decays, per ms; each a scalar or one value per neuron.
    - `linear_jumps`: what `jumps_are_linear` says.
    """

    neuron: AbstractExponentialFlow
    adaptation: tuple[Float[Array, "*neurons"], ...]
    linear_jumps: bool = eqx.field(static=True, default=False)

    def after(self, y: Float[Array, "neurons channels"], dt: Float[Array, " neurons"]) -> Array:
        inside, raised = self._split(y)
        fade = [jnp.exp(-rate * dt) for rate in self.adaptation]
        return jnp.concatenate([self.neuron.after(inside, dt), raised * jnp.stack(fade, axis=1)], axis=1)

    def velocity(self, y: Float[Array, "neurons channels"]) -> Float[Array, "neurons channels"]:
        inside, raised = self._split(y)
        falls = [-rate * raised[:, k] for k, rate in enumerate(self.adaptation)]
        return jnp.concatenate([self.neuron.velocity(inside), jnp.stack(falls, axis=1)], axis=1)

    def height(self, y: Float[Array, "neurons channels"]) -> Float[Array, " neurons"]:
        inside, raised = self._split(y)
        return self.neuron.height(inside) - jnp.sum(raised, axis=1)

    def jumps_are_linear(self) -> bool:
        return self.linear_jumps

    def rates(self) -> tuple[Float[Array, "*neurons"], ...]:
        return (*self.neuron.rates(), *self.adaptation)

    def held(self, channels: tuple[int, ...]) -> "AdaptiveThresholdFlow | None":
        first, neuron = len(self.neuron.rates()), self.neuron.held(channels)
        if neuron is None:
            return None
        adaptation = tuple(
            jnp.zeros_like(rate) if first + k in channels else rate for k, rate in enumerate(self.adaptation)
        )
        return type(self)(neuron, adaptation)

    def _split(self, y: Float[Array, "neurons channels"]) -> tuple[Array, Array]:
        first = y.shape[1] - len(self.adaptation)
        return y[:, :first], y[:, first:]
