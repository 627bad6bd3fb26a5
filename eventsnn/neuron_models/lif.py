"""The leaky integrate-and-fire neuron."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..flows.exponentials import AbstractExponentialFlow
from ..flows.linear import LinearFlow
from .base import NeuronModel
from .declared import bias, hyperparameter, initial_state
from .parameter import Parameter, reject_reset


class LIF(NeuronModel):
    r"""Leaky integrate-and-fire neuron with an exponentially decaying synaptic current.

    **Free dynamics**

    $$\tau_\text{mem} \dot V = -V + I + i_c, \qquad \tau_\text{syn} \dot I = -I$$

    **Threshold** $V = \vartheta$. At a spike $V \to V_\text{reset}$; $I$ is kept.

    **Jumps** an arriving spike of weight $w$ adds $w$ to $I$.

    Source: Gerstner, Kistler, Naud and Paninski, *Neuronal Dynamics* (2014), section 1.3, with the
    current in units of the potential it would hold.
    """

    channels: ClassVar[tuple[str, ...]] = ("V", "I")

    thresh: Parameter = hyperparameter(1.0, "threshold of V")
    tsyn: Parameter = hyperparameter(5.0, "time constant of I in ms", positive=True)
    tmem: Parameter = hyperparameter(20.0, "time constant of V in ms", positive=True)
    vreset: Parameter = hyperparameter(0.0, "what V becomes after a spike, below `thresh`")
    y0: Parameter = initial_state(0.0)
    ic: Float[Array, " neurons"] = bias()

    def __check_init__(self):
        reject_reset(self.vreset, self.thresh)

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        v, i = y[:, 0], y[:, 1]
        dv = (i + self.ic - v) / self.tmem.value
        di = -i / self.tsyn.value
        return jnp.stack([dv, di], axis=1)

    def spike_condition(self, t, y, args: Any) -> Float[Array, " neurons"]:
        return y[:, 0] - self.thresh.value

    def input_spikes(self, y, weights: Float[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        return jnp.stack([y[:, 0], y[:, 1] + weights], axis=1)

    def reset_spiked(self, y, spiked: Bool[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        v = jnp.where(spiked, self.vreset.value, y[:, 0])
        return jnp.stack([v, y[:, 1]], axis=1)

    def closed_form(self) -> AbstractExponentialFlow:
        return LinearFlow(
            leak=1 / self.tmem.value,
            drive=self.ic / self.tmem.value,
            thresh=self.thresh.value,
            vreset=self.vreset.value,
            coupling=1 / self.tmem.value,
            decay=1 / self.tsyn.value,
        )
