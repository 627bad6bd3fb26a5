"""The exponential integrate-and-fire neuron."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .base import NeuronModel
from .declared import bias, hyperparameter, initial_state
from .parameter import Parameter, reject_reset
from .upswing import coordinate, distance


class EIF(NeuronModel):
    r"""Exponential integrate-and-fire neuron with an exponentially decaying synaptic current, in mV.

    **Free dynamics**

    $$\tau_\text{mem} \dot V = -(V - V_\text{rest}) + \Delta_T\,e^{(V - V_T)/\Delta_T} + I + i_c, \qquad
      \tau_\text{syn} \dot I = -I$$

    **Threshold** $V = \vartheta$, where the upswing is cut. At a spike $V \to V_\text{reset}$; $I$ is kept.

    **Jumps** an arriving spike of weight $w$, in mV, adds $w$ to $I$.

    The upswing takes no time that a step could resolve, so the neuron is simulated by
    $z = -\log(1 + e^{-(V - V_T)/\Delta_T})$, which passes smoothly through a spike. `y0` and
    `observe` are in mV.

    Source: Fourcaud-Trocmé, Hansel, van Vreeswijk and Brunel, *How spike generation mechanisms determine the
    neuronal response to fluctuating inputs*, Journal of Neuroscience 23 (2003), equation 4 and table 1.
    """

    channels: ClassVar[tuple[str, ...]] = ("V", "I")

    vrest: Parameter = hyperparameter(-65.0, "resting potential in mV")
    vt: Parameter = hyperparameter(-59.9, "soft threshold, at which the upswing sets in, in mV")
    delta_t: Parameter = hyperparameter(3.48, "sharpness of the upswing in mV", positive=True)
    thresh: Parameter = hyperparameter(0.0, "where the upswing is cut in mV")
    vreset: Parameter = hyperparameter(-68.0, "what V becomes after a spike in mV, below `thresh`")
    tmem: Parameter = hyperparameter(10.0, "time constant of V in ms", positive=True)
    tsyn: Parameter = hyperparameter(5.0, "time constant of I in ms", positive=True)
    y0: Parameter = initial_state(("vrest", 0.0))
    ic: Float[Array, " neurons"] = bias()

    def __check_init__(self):
        reject_reset(self.vreset, self.thresh)

    def init_state(self, n_neurons: int) -> Float[Array, "neurons channels"]:
        y0 = self.y0.value
        return jnp.stack([self._coordinate(y0[:, 0]), y0[:, 1]], axis=1)

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        z, i = y[:, 0], y[:, 1]
        delta = self.delta_t.value
        subthreshold = (self.vrest.value - self._potential(z) + i + self.ic) / delta
        dz = (jnp.exp(z) - jnp.expm1(z) * subthreshold) / self.tmem.value
        return jnp.stack([dz, -i / self.tsyn.value], axis=1)

    def spike_condition(self, t, y, args: Any) -> Float[Array, " neurons"]:
        return y[:, 0] - self._coordinate(self.thresh.value)

    def input_spikes(self, y, weights: Float[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        return jnp.stack([y[:, 0], y[:, 1] + weights], axis=1)

    def reset_spiked(self, y, spiked: Bool[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        return jnp.stack([jnp.where(spiked, self._coordinate(self.vreset.value), y[:, 0]), y[:, 1]], axis=1)

    def observe(self, y) -> Float[Array, "neurons channels"]:
        return jnp.stack([self._potential(y[:, 0]), y[:, 1]], axis=1)

    def _coordinate(self, v):
        return coordinate((v - self.vt.value) / self.delta_t.value)

    def _potential(self, z):
        return self.vt.value + self.delta_t.value * distance(z)
