"""The quadratic integrate-and-fire neuron in its phase form."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .base import NeuronModel
from .declared import bias, hyperparameter, initial_state
from .parameter import Parameter
from .trigonometry import sincospi


class QIF(NeuronModel):
    r"""Quadratic integrate-and-fire neuron with an exponentially decaying synaptic current.

    The potential goes to infinity at a spike, so the neuron is simulated by a phase
    $\varphi \in [0, 1]$ with $V = -\pi \cot(\pi\varphi)$, which passes through the spike smoothly.

    **Free dynamics** $\tau_\text{mem} \dot V = V(V - 1) + I + i_c$, that is

    $$\tau_\text{mem} \dot\varphi = \cos^2(\pi\varphi) + \tfrac1\pi \cos(\pi\varphi)\sin(\pi\varphi)
      + \tfrac{1}{\pi^2}\sin^2(\pi\varphi)\,(I + i_c), \qquad \tau_\text{syn} \dot I = -I$$

    **Threshold** $\varphi = 1$, where $V = \infty$. At a spike $\varphi \to 0$, where
    $V = -\infty$; $I$ is kept.

    **Jumps** an arriving spike of weight $w$ adds $w$ to $I$.

    `observe` gives (V, I). V is infinite at the spike itself.

    Source: Klos and Memmesheimer, *Smooth exact gradient descent learning in spiking neural
    networks*, Physical Review Letters 134 (2025), with V(V - 1) for the quadratic.
    """

    channels: ClassVar[tuple[str, ...]] = ("V", "I")

    tsyn: Parameter = hyperparameter(5.0, "time constant of I in ms", positive=True)
    tmem: Parameter = hyperparameter(20.0, "time constant of V in ms", positive=True)
    y0: Parameter = initial_state((0.5, 0.0), "the initial phase φ and I, where φ = 0.5 is V = 0;")
    ic: Float[Array, " neurons"] = bias()

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        phi, i = y[:, 0], y[:, 1]
        s, c = sincospi(phi)
        dphi = (c * (c + s / jnp.pi) + (s / jnp.pi) ** 2 * (i + self.ic)) / self.tmem.value
        di = -i / self.tsyn.value
        return jnp.stack([dphi, di], axis=1)

    def spike_condition(self, t, y, args: Any) -> Float[Array, " neurons"]:
        return y[:, 0] - 1

    def input_spikes(self, y, weights: Float[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        return jnp.stack([y[:, 0], y[:, 1] + weights], axis=1)

    def reset_spiked(self, y, spiked: Bool[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        phi = jnp.where(spiked, jnp.zeros_like(y[:, 0]), y[:, 0])
        return jnp.stack([phi, y[:, 1]], axis=1)

    def observe(self, y) -> Float[Array, "neurons channels"]:
        phi, i = y[:, 0], y[:, 1]
        return jnp.stack([-jnp.pi / jnp.tan(jnp.pi * phi), i], axis=1)
