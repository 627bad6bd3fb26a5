"""The leaky integrate-and-fire neuron with synapses that are conductances."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .base import NeuronModel
from .declared import bias, hyperparameter, initial_state
from .parameter import Parameter, reject_reset


class ConductanceLIF(NeuronModel):
    r"""Leaky integrate-and-fire neuron with excitatory and inhibitory synaptic conductances, in mV.

    **Free dynamics**

    $$\tau_\text{mem} \dot V = (V_\text{rest} - V) + g_\text{exc}\,(E_\text{exc} - V)
      + g_\text{inh}\,(E_\text{inh} - V) + i_c$$

    $$\tau_\text{exc} \dot g_\text{exc} = -g_\text{exc}, \qquad \tau_\text{inh} \dot g_\text{inh} = -g_\text{inh}$$

    Conductances are in units of the leak, currents in mV. The neuron starts at rest unless `y0` says otherwise.

    **Threshold** $V = \vartheta$. At a spike $V \to V_\text{reset}$; the conductances are kept.

    **Jumps** an arriving spike of weight $w > 0$ adds $w$ to $g_\text{exc}$, one of weight $w < 0$ adds
    $-w$ to $g_\text{inh}$.

    Source: Vogels and Abbott, *Signal propagation and logic gating in networks of integrate-and-fire
    neurons*, Journal of Neuroscience 25 (2005), equation 1 and the constants below it.
    """

    channels: ClassVar[tuple[str, ...]] = ("V", "g_exc", "g_inh")

    vrest: Parameter = hyperparameter(-60.0, "resting potential in mV")
    thresh: Parameter = hyperparameter(-50.0, "threshold of V in mV")
    vreset: Parameter = hyperparameter(-60.0, "what V becomes after a spike in mV, below `thresh`")
    eexc: Parameter = hyperparameter(0.0, "reversal potential of excitation in mV")
    einh: Parameter = hyperparameter(-80.0, "reversal potential of inhibition in mV")
    tmem: Parameter = hyperparameter(20.0, "time constant of V in ms", positive=True)
    texc: Parameter = hyperparameter(5.0, "time constant of g_exc in ms", positive=True)
    tinh: Parameter = hyperparameter(10.0, "time constant of g_inh in ms", positive=True)
    y0: Parameter = initial_state(("vrest", 0.0, 0.0))
    ic: Float[Array, " neurons"] = bias()

    def __check_init__(self):
        reject_reset(self.vreset, self.thresh)

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        v, exc, inh = y[:, 0], y[:, 1], y[:, 2]
        synaptic = exc * (self.eexc.value - v) + inh * (self.einh.value - v)
        dv = (self.vrest.value - v + synaptic + self.ic) / self.tmem.value
        return jnp.stack([dv, -exc / self.texc.value, -inh / self.tinh.value], axis=1)

    def spike_condition(self, t, y, args: Any) -> Float[Array, " neurons"]:
        return y[:, 0] - self.thresh.value

    def input_spikes(self, y, weights: Float[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        excites = weights > 0
        exc = y[:, 1] + jnp.where(excites, weights, 0)
        inh = y[:, 2] - jnp.where(excites, 0, weights)
        return jnp.stack([y[:, 0], exc, inh], axis=1)

    def reset_spiked(self, y, spiked: Bool[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        v = jnp.where(spiked, self.vreset.value, y[:, 0])
        return jnp.stack([v, y[:, 1], y[:, 2]], axis=1)
