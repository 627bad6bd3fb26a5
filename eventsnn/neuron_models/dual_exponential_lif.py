"""The leaky integrate-and-fire neuron with synaptic currents that rise and decay exponentially."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..flows.growth import relative_growth, relative_log
from ..flows.two_stage import TwoStageFlow
from .base import NeuronModel
from .declared import bias, hyperparameter, initial_state
from .parameter import Parameter, reject_reset


class DualExpLIF(NeuronModel):
    r"""Leaky integrate-and-fire neuron whose synaptic currents are differences of two exponentials.

    **Free dynamics**

    $$\tau_\text{mem} \dot V = -V + I + i_c, \qquad \dot I = -I/\tau_\text{decay} + J, \qquad
      \dot J = -J/\tau_\text{rise}$$

    **Threshold** $V = \vartheta$. At a spike $V \to V_\text{reset}$; $I$ and $J$ are kept.

    **Jumps** an arriving spike of weight $w$ adds $k\,w$ to $J$. With the constant $k$ its current, which is
    proportional to $e^{-t/\tau_\text{decay}} - e^{-t/\tau_\text{rise}}$, peaks at $w$. Equal time
    constants give an alpha function.

    Source: Roth and van Rossum, *Modeling synapses*, in: Computational Modeling Methods for
    Neuroscientists (2009), equations 6.4 and 6.5.
    """

    channels: ClassVar[tuple[str, ...]] = ("V", "I", "J")

    thresh: Parameter = hyperparameter(1.0, "threshold of V")
    trise: Parameter = hyperparameter(1.0, "time constant of J, with which currents rise, in ms", positive=True)
    tdecay: Parameter = hyperparameter(5.0, "time constant of I, with which currents decay, in ms", positive=True)
    tmem: Parameter = hyperparameter(20.0, "time constant of V in ms", positive=True)
    vreset: Parameter = hyperparameter(0.0, "what V becomes after a spike, below `thresh`")
    y0: Parameter = initial_state(0.0)
    ic: Float[Array, " neurons"] = bias()

    def __check_init__(self):
        reject_reset(self.vreset, self.thresh)

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        v, i, j = y[:, 0], y[:, 1], y[:, 2]
        dv = (i + self.ic - v) / self.tmem.value
        return jnp.stack([dv, j - i / self.tdecay.value, -j / self.trise.value], axis=1)

    def spike_condition(self, t, y, args: Any) -> Float[Array, " neurons"]:
        return y[:, 0] - self.thresh.value

    def input_spikes(self, y, weights: Float[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        # With z = tdecay / trise - 1 nothing is singular at equal time constants.
        decay = self.tdecay.value
        z = (decay - self.trise.value) / self.trise.value
        peak = relative_log(z)  # when the current peaks, in units of tdecay
        height = decay * peak * jnp.exp(-peak) * relative_growth(-z * peak)
        return jnp.stack([y[:, 0], y[:, 1], y[:, 2] + weights / height], axis=1)

    def reset_spiked(self, y, spiked: Bool[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        v = jnp.where(spiked, self.vreset.value, y[:, 0])
        return jnp.stack([v, y[:, 1], y[:, 2]], axis=1)

    def closed_form(self) -> TwoStageFlow:
        return TwoStageFlow(
            leak=1 / self.tmem.value,
            coupling=1 / self.tmem.value,
            drive=self.ic / self.tmem.value,
            back=None,
            stage_leak=1 / self.tdecay.value,
            stage_coupling=jnp.ones_like(self.tdecay.value),
            decay=1 / self.trise.value,
            thresh=self.thresh.value,
            linear_jumps=True,
        )
