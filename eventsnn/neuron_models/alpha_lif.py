"""The leaky integrate-and-fire neuron with alpha-shaped synaptic currents."""

import math
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..flows.two_stage import TwoStageFlow
from .base import NeuronModel
from .declared import bias, hyperparameter, initial_state
from .parameter import Parameter, reject_reset


class AlphaLIF(NeuronModel):
    r"""Leaky integrate-and-fire neuron whose synaptic currents rise and fall as alpha functions.

    **Free dynamics**

    $$\tau_\text{mem} \dot V = -V + I + i_c, \qquad \tau_\text{syn} \dot I = J - I, \qquad \tau_\text{syn} \dot J = -J$$

    **Threshold** $V = \vartheta$. At a spike $V \to V_\text{reset}$; $I$ and $J$ are kept.

    **Jumps** an arriving spike of weight $w$ adds $e\,w$ to $J$, so that its current is
    $w\,(t/\tau_\text{syn})\,e^{1 - t/\tau_\text{syn}}$: it peaks at $w$ after $\tau_\text{syn}$.

    Source: Rall, *Distinguishing theoretical synaptic potentials computed for different soma-dendritic
    distributions of synaptic input*, Journal of Neurophysiology 30 (1967); the form and the
    normalisation are those of NEST's `iaf_psc_alpha`.
    """

    channels: ClassVar[tuple[str, ...]] = ("V", "I", "J")

    thresh: Parameter = hyperparameter(1.0, "threshold of V")
    tsyn: Parameter = hyperparameter(5.0, "time constant of I and J in ms", positive=True)
    tmem: Parameter = hyperparameter(20.0, "time constant of V in ms", positive=True)
    vreset: Parameter = hyperparameter(0.0, "what V becomes after a spike, below `thresh`")
    y0: Parameter = initial_state(0.0)
    ic: Float[Array, " neurons"] = bias()

    def __check_init__(self):
        reject_reset(self.vreset, self.thresh)

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        v, i, j = y[:, 0], y[:, 1], y[:, 2]
        dv = (i + self.ic - v) / self.tmem.value
        return jnp.stack([dv, (j - i) / self.tsyn.value, -j / self.tsyn.value], axis=1)

    def spike_condition(self, t, y, args: Any) -> Float[Array, " neurons"]:
        return y[:, 0] - self.thresh.value

    def input_spikes(self, y, weights: Float[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        return jnp.stack([y[:, 0], y[:, 1], y[:, 2] + math.e * weights], axis=1)

    def reset_spiked(self, y, spiked: Bool[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        v = jnp.where(spiked, self.vreset.value, y[:, 0])
        return jnp.stack([v, y[:, 1], y[:, 2]], axis=1)

    def closed_form(self) -> TwoStageFlow:
        return TwoStageFlow(
            leak=1 / self.tmem.value,
            coupling=1 / self.tmem.value,
            drive=self.ic / self.tmem.value,
            back=None,
            stage_leak=1 / self.tsyn.value,
            stage_coupling=1 / self.tsyn.value,
            decay=1 / self.tsyn.value,
            thresh=self.thresh.value,
            linear_jumps=True,
        )
