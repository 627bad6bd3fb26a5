"""Hodgkin and Huxley's neuron."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..flows.growth import relative_growth
from .base import NeuronModel
from .declared import bias, hyperparameter, initial_state
from .parameter import Parameter


class HodgkinHuxley(NeuronModel):
    r"""The giant axon of the squid, with an exponentially decaying synaptic current.

    Potentials are in mV, currents in µA/cm², conductances in mS/cm², the capacitance in µF/cm².

    **Free dynamics**

    $$C \dot V = -g_\text{Na} m^3 h (V - E_\text{Na}) - g_\text{K} n^4 (V - E_\text{K}) - g_L (V - E_L) + I + i_c$$

    $$\dot x = \alpha_x(V)\,(1 - x) - \beta_x(V)\,x \quad\text{for } x = m, h, n, \qquad \tau_\text{syn} \dot I = -I$$

    with the rates of a membrane that rests at -65 mV, at 6.3 °C:

    $$\alpha_m = \frac{0.1\,(V + 40)}{1 - e^{-(V + 40)/10}}, \quad \beta_m = 4\,e^{-(V + 65)/18}, \quad
      \alpha_h = 0.07\,e^{-(V + 65)/20}, \quad \beta_h = \frac{1}{1 + e^{-(V + 35)/10}}$$

    $$\alpha_n = \frac{0.01\,(V + 55)}{1 - e^{-(V + 55)/10}}, \quad \beta_n = 0.125\,e^{-(V + 65)/80}$$

    **Threshold** a spike is the moment at which $V$ rises through $\vartheta$. Nothing is reset.

    **Jumps** an arriving spike of weight $w$ adds $w$ to $I$.

    The neuron starts at -65 mV with the gates at rest there.

    Source: Hodgkin and Huxley, *A quantitative description of membrane current and its application to
    conduction and excitation in nerve*, Journal of Physiology 117 (1952), table 3 and equations 12 to 26.
    """

    channels: ClassVar[tuple[str, ...]] = ("V", "m", "h", "n", "I")

    capacitance: Parameter = hyperparameter(1.0, "capacitance in µF/cm²", positive=True)
    gna: Parameter = hyperparameter(120.0, "conductance of sodium in mS/cm²", positive=True)
    gk: Parameter = hyperparameter(36.0, "conductance of potassium in mS/cm²", positive=True)
    gleak: Parameter = hyperparameter(0.3, "conductance of the leak in mS/cm²", positive=True)
    ena: Parameter = hyperparameter(50.0, "reversal potential of sodium in mV")
    ek: Parameter = hyperparameter(-77.0, "reversal potential of potassium in mV")
    eleak: Parameter = hyperparameter(-54.387, "reversal potential of the leak in mV")
    thresh: Parameter = hyperparameter(0.0, "what V rises through at a spike, in mV")
    tsyn: Parameter = hyperparameter(5.0, "time constant of I in ms", positive=True)
    y0: Parameter = initial_state(
        (-65.0, 0.052932485257, 0.596120753508, 0.317676914061, 0.0), "the initial state, at rest by default,"
    )
    ic: Float[Array, " neurons"] = bias()

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        v, m, h, n, i = (y[:, channel] for channel in range(5))
        sodium = self.gna.value * m**3 * h * (v - self.ena.value)
        potassium = self.gk.value * n**4 * (v - self.ek.value)
        leak = self.gleak.value * (v - self.eleak.value)
        dv = (i + self.ic - sodium - potassium - leak) / self.capacitance.value
        # x / (1 - exp(-x)) is 1 / relative_growth(-x), without a singularity.
        dm = (1 - m) / relative_growth(-(v + 40) / 10) - m * 4 * jnp.exp(-(v + 65) / 18)
        dh = (1 - h) * 0.07 * jnp.exp(-(v + 65) / 20) - h * jax.nn.sigmoid((v + 35) / 10)
        dn = (1 - n) * 0.1 / relative_growth(-(v + 55) / 10) - n * 0.125 * jnp.exp(-(v + 65) / 80)
        return jnp.stack([dv, dm, dh, dn, -i / self.tsyn.value], axis=1)

    def spike_condition(self, t, y, args: Any) -> Float[Array, " neurons"]:
        return y[:, 0] - self.thresh.value

    def input_spikes(self, y, weights: Float[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        return y.at[:, 4].add(weights)
