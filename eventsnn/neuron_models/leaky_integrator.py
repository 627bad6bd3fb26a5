"""The leaky integrator: a neuron that only listens."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..flows.linear import LinearFlow
from .base import NeuronModel
from .declared import bias, hyperparameter, initial_state
from .parameter import Parameter


class LeakyIntegrator(NeuronModel):
    r"""Leaky integrator: a LIF neuron without a threshold, which never spikes. Read it with `state_at_t`.

    **Free dynamics**

    $$\tau_\text{mem} \dot V = -V + I + i_c, \qquad \tau_\text{syn} \dot I = -I$$

    **Jumps** an arriving spike of weight $w$ adds $w$ to $I$.
    """

    channels: ClassVar[tuple[str, ...]] = ("V", "I")

    tsyn: Parameter = hyperparameter(5.0, "time constant of I in ms", positive=True)
    tmem: Parameter = hyperparameter(20.0, "time constant of V in ms", positive=True)
    y0: Parameter = initial_state(0.0)
    ic: Float[Array, " neurons"] = bias()

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        v, i = y[:, 0], y[:, 1]
        return jnp.stack([(i + self.ic - v) / self.tmem.value, -i / self.tsyn.value], axis=1)

    def spike_condition(self, t, y, args: Any) -> Float[Array, " neurons"]:
        # Below threshold, whatever the state.
        return jnp.full_like(y[:, 0], -1)

    def input_spikes(self, y, weights: Float[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        return jnp.stack([y[:, 0], y[:, 1] + weights], axis=1)

    def closed_form(self) -> LinearFlow:
        return LinearFlow(
            leak=1 / self.tmem.value,
            drive=self.ic / self.tmem.value,
            thresh=None,
            vreset=jnp.zeros_like(self.tmem.value),
            coupling=1 / self.tmem.value,
            decay=1 / self.tsyn.value,
        )
