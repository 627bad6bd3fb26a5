"""The leaky integrate-and-fire neuron with an adaptive threshold."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..flows.adaptive import AdaptiveThresholdFlow
from ..flows.exponentials import AbstractExponentialFlow
from .declared import hyperparameter
from .lif import LIF
from .parameter import Parameter


class ALIF(LIF):
    r"""Leaky integrate-and-fire neuron whose threshold rises with every spike.

    **Free dynamics**

    $$\tau_\text{mem} \dot V = -V + I + i_c, \qquad \tau_\text{syn} \dot I = -I, \qquad \tau_\text{adapt} \dot A = -A$$

    **Threshold** $V = \vartheta + A$. At a spike $V \to V_\text{reset}$ and $A \to A + \beta$; $I$ is kept.

    **Jumps** an arriving spike of weight $w$ adds $w$ to $I$.

    Source: Bellec, Salaj, Subramoney, Legenstein and Maass, *Long short-term memory and learning-to-learn in
    networks of spiking neurons*, NeurIPS 2018, equations 1 to 3, with spikes that add β, not β(1 - ρ), to A.
    """

    channels: ClassVar[tuple[str, ...]] = ("V", "I", "A")

    tadapt: Parameter = hyperparameter(100.0, "time constant of A in ms", positive=True)
    beta: Parameter = hyperparameter(0.5, "what a spike adds to A")

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        v, i, a = y[:, 0], y[:, 1], y[:, 2]
        dv = (i + self.ic - v) / self.tmem.value
        return jnp.stack([dv, -i / self.tsyn.value, -a / self.tadapt.value], axis=1)

    def spike_condition(self, t, y, args: Any) -> Float[Array, " neurons"]:
        return y[:, 0] - self.thresh.value - y[:, 2]

    def input_spikes(self, y, weights: Float[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        return jnp.stack([y[:, 0], y[:, 1] + weights, y[:, 2]], axis=1)

    def reset_spiked(self, y, spiked: Bool[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        v = jnp.where(spiked, self.vreset.value, y[:, 0])
        a = y[:, 2] + jnp.where(spiked, self.beta.value, 0)
        return jnp.stack([v, y[:, 1], a], axis=1)

    def closed_form(self) -> AbstractExponentialFlow:
        return AdaptiveThresholdFlow(super().closed_form(), (1 / self.tadapt.value,), linear_jumps=True)
