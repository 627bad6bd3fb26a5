"""The leaky integrate-and-fire neuron with delta synapses."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..flows.linear import LinearFlow
from .base import NeuronModel
from .declared import bias, hyperparameter, initial_state
from .parameter import Parameter, reject_reset


class DeltaLIF(NeuronModel):
    r"""Leaky integrate-and-fire neuron whose inputs act on the potential at once.

    **Free dynamics**

    $$\tau_\text{mem} \dot V = -V + i_c$$

    **Threshold** $V = \vartheta$. At a spike $V \to V_\text{reset}$.

    **Jumps** an arriving spike of weight $w$ adds $w$ to $V$. One that lifts $V$ to the threshold or
    above makes the neuron spike at that instant.

    Source: Gerstner, Kistler, Naud and Paninski, *Neuronal Dynamics* (2014), section 1.3.
    """

    channels: ClassVar[tuple[str, ...]] = ("V",)

    thresh: Parameter = hyperparameter(1.0, "threshold of V")
    tmem: Parameter = hyperparameter(20.0, "time constant of V in ms", positive=True)
    vreset: Parameter = hyperparameter(0.0, "what V becomes after a spike, below `thresh`")
    y0: Parameter = initial_state(0.0)
    ic: Float[Array, " neurons"] = bias()

    def __check_init__(self):
        reject_reset(self.vreset, self.thresh)

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        return ((self.ic - y[:, 0]) / self.tmem.value)[:, None]

    def spike_condition(self, t, y, args: Any) -> Float[Array, " neurons"]:
        return y[:, 0] - self.thresh.value

    def input_spikes(self, y, weights: Float[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        return y + weights[:, None]

    def reset_spiked(self, y, spiked: Bool[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        return jnp.where(spiked, self.vreset.value, y[:, 0])[:, None]

    def closed_form(self) -> LinearFlow:
        return LinearFlow(
            leak=1 / self.tmem.value,
            drive=self.ic / self.tmem.value,
            thresh=self.thresh.value,
            vreset=self.vreset.value,
        )
