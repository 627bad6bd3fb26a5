"""A neuron with a soma and a dendrite."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..flows.two_stage import TwoStageFlow
from .base import NeuronModel
from .declared import bias, hyperparameter, initial_state
from .parameter import Parameter, reject_reset


class TwoCompartment(NeuronModel):
    r"""Integrate-and-fire neuron with a soma that spikes and a dendrite that listens.

    **Free dynamics**

    $$\tau_\text{soma} \dot V_s = -V_s + g_s (V_d - V_s) + i_c, \qquad
      \tau_\text{dend} \dot V_d = -V_d + g_d (V_s - V_d) + I, \qquad \tau_\text{syn} \dot I = -I$$

    **Threshold** $V_s = \vartheta$. At a spike $V_s \to V_\text{reset}$; the dendrite is not reset, and drives
    the soma on.

    **Jumps** an arriving spike of weight $w$ adds $w$ to $I$.

    Source: Rospars and Lánský, *Stochastic model neuron without resetting of dendritic potential:
    application to the olfactory system*, Biological Cybernetics 69 (1993), with a synaptic current.
    """

    channels: ClassVar[tuple[str, ...]] = ("Vs", "Vd", "I")

    thresh: Parameter = hyperparameter(1.0, "threshold of the soma")
    tsoma: Parameter = hyperparameter(10.0, "time constant of the soma in ms", positive=True)
    tdend: Parameter = hyperparameter(20.0, "time constant of the dendrite in ms", positive=True)
    gsoma: Parameter = hyperparameter(1.0, "coupling of the soma to the dendrite, in units of its leak", positive=True)
    gdend: Parameter = hyperparameter(0.2, "coupling of the dendrite to the soma, in units of its leak", positive=True)
    tsyn: Parameter = hyperparameter(5.0, "time constant of I in ms", positive=True)
    vreset: Parameter = hyperparameter(0.0, "what the soma becomes after a spike, below `thresh`")
    y0: Parameter = initial_state(0.0)
    ic: Float[Array, " neurons"] = bias(0.0, "the bias current of the soma")

    def __check_init__(self):
        reject_reset(self.vreset, self.thresh)

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        soma, dendrite, i = y[:, 0], y[:, 1], y[:, 2]
        apart = dendrite - soma
        dsoma = (self.gsoma.value * apart - soma + self.ic) / self.tsoma.value
        ddendrite = (i - dendrite - self.gdend.value * apart) / self.tdend.value
        return jnp.stack([dsoma, ddendrite, -i / self.tsyn.value], axis=1)

    def spike_condition(self, t, y, args: Any) -> Float[Array, " neurons"]:
        return y[:, 0] - self.thresh.value

    def input_spikes(self, y, weights: Float[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        return jnp.stack([y[:, 0], y[:, 1], y[:, 2] + weights], axis=1)

    def reset_spiked(self, y, spiked: Bool[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        soma = jnp.where(spiked, self.vreset.value, y[:, 0])
        return jnp.stack([soma, y[:, 1], y[:, 2]], axis=1)

    def closed_form(self) -> TwoStageFlow:
        return TwoStageFlow(
            leak=(1 + self.gsoma.value) / self.tsoma.value,
            coupling=self.gsoma.value / self.tsoma.value,
            drive=self.ic / self.tsoma.value,
            back=self.gdend.value / self.tdend.value,
            stage_leak=(1 + self.gdend.value) / self.tdend.value,
            stage_coupling=1 / self.tdend.value,
            decay=1 / self.tsyn.value,
            thresh=self.thresh.value,
            linear_jumps=True,
        )
