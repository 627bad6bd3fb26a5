"""The multi-timescale adaptive threshold neuron."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..flows.adaptive import AdaptiveThresholdFlow
from ..flows.base import AbstractFlow
from ..flows.linear import LinearFlow
from .base import NeuronModel
from .declared import bias, hyperparameter, initial_state
from .parameter import Parameter, reject


class MAT(NeuronModel):
    r"""Multi-timescale adaptive threshold neuron: a potential that is never reset, and a threshold that rises.

    **Free dynamics**, with $V$ in mV above rest

    $$\tau_\text{mem} \dot V = -V + I + i_c, \qquad \tau_\text{syn} \dot I = -I, \qquad
      \tau_1 \dot H_1 = -H_1, \qquad \tau_2 \dot H_2 = -H_2$$

    **Threshold** $V = \omega + H_1 + H_2$. At a spike $H_1 \to H_1 + \alpha_1$ and $H_2 \to H_2 + \alpha_2$;
    $V$ and $I$ are kept.

    **Jumps** an arriving spike of weight $w$, in mV, adds $w$ to $I$.

    The defaults are those of a regular spiking neuron. The published neuron is silent for 2 ms after a
    spike: `Refractory(MAT, hold=())`.

    Source: Kobayashi, Tsubo and Shinomoto, *Made-to-order spiking neuron model equipped with a multi-timescale
    adaptive threshold*, Frontiers in Computational Neuroscience 3 (2009), equations 1 to 3.
    """

    channels: ClassVar[tuple[str, ...]] = ("V", "I", "H1", "H2")

    omega: Parameter = hyperparameter(19.0, "threshold at rest in mV")
    alpha1: Parameter = hyperparameter(37.0, "what a spike adds to H1 in mV")
    alpha2: Parameter = hyperparameter(2.0, "what a spike adds to H2 in mV")
    t1: Parameter = hyperparameter(10.0, "time constant of H1 in ms", positive=True)
    t2: Parameter = hyperparameter(200.0, "time constant of H2 in ms", positive=True)
    tmem: Parameter = hyperparameter(5.0, "time constant of V in ms", positive=True)
    tsyn: Parameter = hyperparameter(5.0, "time constant of I in ms", positive=True)
    y0: Parameter = initial_state(0.0)
    ic: Float[Array, " neurons"] = bias()

    def __check_init__(self):
        rise = jnp.asarray(self.alpha1.value + self.alpha2.value)
        reject("alpha1 + alpha2", rise, rise <= 0, "greater than 0: a spike has to raise the threshold")

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        v, i, h1, h2 = y[:, 0], y[:, 1], y[:, 2], y[:, 3]
        dv = (i + self.ic - v) / self.tmem.value
        return jnp.stack([dv, -i / self.tsyn.value, -h1 / self.t1.value, -h2 / self.t2.value], axis=1)

    def spike_condition(self, t, y, args: Any) -> Float[Array, " neurons"]:
        return y[:, 0] - self.omega.value - y[:, 2] - y[:, 3]

    def input_spikes(self, y, weights: Float[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        return jnp.stack([y[:, 0], y[:, 1] + weights, y[:, 2], y[:, 3]], axis=1)

    def reset_spiked(self, y, spiked: Bool[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        h1 = y[:, 2] + jnp.where(spiked, self.alpha1.value, 0)
        h2 = y[:, 3] + jnp.where(spiked, self.alpha2.value, 0)
        return jnp.stack([y[:, 0], y[:, 1], h1, h2], axis=1)

    def closed_form(self) -> AbstractFlow:
        neuron = LinearFlow(
            leak=1 / self.tmem.value,
            drive=self.ic / self.tmem.value,
            thresh=self.omega.value,
            vreset=jnp.zeros_like(self.omega.value),
            coupling=1 / self.tmem.value,
            decay=1 / self.tsyn.value,
        )
        return AdaptiveThresholdFlow(neuron, (1 / self.t1.value, 1 / self.t2.value), linear_jumps=True)
