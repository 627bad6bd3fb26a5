"""The adaptive exponential integrate-and-fire neuron."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .base import NeuronModel
from .declared import bias, hyperparameter, initial_state
from .parameter import Parameter, reject_reset
from .upswing import coordinate, distance, passed, passed_slope


class AdEx(NeuronModel):
    r"""Adaptive exponential integrate-and-fire neuron with an exponentially decaying synaptic current.

    Potentials are in mV, currents in pA, conductances in nS, the capacitance in pF.

    **Free dynamics**

    $$C \dot V = -g_L (V - V_\text{rest}) + g_L \Delta_T\,e^{(V - V_T)/\Delta_T} - w + I + i_c$$

    $$\tau_w \dot w = a (V - V_\text{rest}) - w, \qquad \tau_\text{syn} \dot I = -I$$

    **Threshold** $V = \vartheta$, where the upswing is cut. At a spike $V \to V_\text{reset}$ and
    $w \to w + b$; $I$ is kept.

    **Jumps** an arriving spike of weight $w$, in pA, adds $w$ to $I$.

    As for `EIF`, the neuron is simulated by $z = -\log(1 + e^{-(V - V_T)/\Delta_T})$, and by $w$ less what the
    upswing adds to it; `y0` and `observe` are in mV and pA.

    Source: Brette and Gerstner, *Adaptive exponential integrate-and-fire model as an effective description
    of neuronal activity*, Journal of Neurophysiology 94 (2005), equations 1 and 2 and table 1.
    """

    channels: ClassVar[tuple[str, ...]] = ("V", "w", "I")

    capacitance: Parameter = hyperparameter(281.0, "capacitance of the membrane in pF", positive=True)
    gleak: Parameter = hyperparameter(30.0, "conductance of the leak in nS", positive=True)
    vrest: Parameter = hyperparameter(-70.6, "resting potential in mV")
    vt: Parameter = hyperparameter(-50.4, "soft threshold, at which the upswing sets in, in mV")
    delta_t: Parameter = hyperparameter(2.0, "sharpness of the upswing in mV", positive=True)
    tw: Parameter = hyperparameter(144.0, "time constant of w in ms", positive=True)
    a: Parameter = hyperparameter(4.0, "adaptation below threshold in nS")
    b: Parameter = hyperparameter(80.5, "adaptation with every spike in pA")
    vreset: Parameter = hyperparameter(-70.6, "what V becomes after a spike in mV, below `thresh`")
    thresh: Parameter = hyperparameter(0.0, "where the upswing is cut in mV")
    tsyn: Parameter = hyperparameter(5.0, "time constant of I in ms", positive=True)
    y0: Parameter = initial_state(("vrest", 0.0, 0.0))
    ic: Float[Array, " neurons"] = bias()

    def __check_init__(self):
        reject_reset(self.vreset, self.thresh)

    def init_state(self, n_neurons: int) -> Float[Array, "neurons channels"]:
        y0 = self.y0.value
        z = self._coordinate(y0[:, 0])
        return jnp.stack([z, y0[:, 1] - self._of_upswing(z), y0[:, 2]], axis=1)

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        z, w, i = y[:, 0], self._adaptation(y), y[:, 2]
        leak, delta = self.gleak.value, self.delta_t.value
        above_rest = self._potential(z) - self.vrest.value
        subthreshold = (i + self.ic - w - leak * above_rest) / delta
        dz = (leak * jnp.exp(z) - jnp.expm1(z) * subthreshold) / self.capacitance.value
        dw = (self.a.value * above_rest - w) / self.tw.value
        return jnp.stack([dz, dw - self._gain * passed_slope(z) * dz, -i / self.tsyn.value], axis=1)

    def spike_condition(self, t, y, args: Any) -> Float[Array, " neurons"]:
        return y[:, 0] - self._coordinate(self.thresh.value)

    def input_spikes(self, y, weights: Float[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        return jnp.stack([y[:, 0], y[:, 1], y[:, 2] + weights], axis=1)

    def reset_spiked(self, y, spiked: Bool[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        z = self._coordinate(self.vreset.value)
        w = self._adaptation(y) + self.b.value - self._of_upswing(z)
        return jnp.stack([jnp.where(spiked, z, y[:, 0]), jnp.where(spiked, w, y[:, 1]), y[:, 2]], axis=1)

    def observe(self, y) -> Float[Array, "neurons channels"]:
        return jnp.stack([self._potential(y[:, 0]), self._adaptation(y), y[:, 2]], axis=1)

    def _adaptation(self, y):
        return y[:, 1] + self._of_upswing(y[:, 0])

    def _of_upswing(self, z):
        return self._gain * passed(z)

    @property
    def _gain(self):
        """How much of w one unit of `passed` is."""
        return self.a.value * self.delta_t.value * self.capacitance.value / (self.tw.value * self.gleak.value)

    def _coordinate(self, v):
        return coordinate((v - self.vt.value) / self.delta_t.value)

    def _potential(self, z):
        return self.vt.value + self.delta_t.value * distance(z)
