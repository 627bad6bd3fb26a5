"""The quadratic integrate-and-fire neuron in its phase form."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray

from .base import NeuronModel
from .bias import make_bias
from .parameter import Parameter, make_parameter, make_state, trainable_names
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

    tsyn: Parameter
    tmem: Parameter
    y0: Parameter
    ic: Float[Array, " neurons"]

    def __init__(
        self,
        n_neurons: int,
        *,
        tsyn: ArrayLike = 5.0,
        tmem: ArrayLike = 20.0,
        y0: ArrayLike | Sequence[float] = (0.5, 0.0),
        init_bias: ArrayLike | None = None,
        blim: float | None = None,
        bmean: float = 0.0,
        trainable: Iterable[str] = (),
        dtype=jnp.float32,
        key: PRNGKeyArray | None = None,
    ):
        """**Arguments:** each hyperparameter is a scalar or has shape `(n_neurons,)`.

        - `n_neurons`: how many neurons the layer has.
        - `tsyn`, `tmem`: time constants of I and V in ms, defaults 5 and 20.
        - `y0`: the initial state (φ, I), shape `(2,)` or `(n_neurons, 2)`, default (0.5, 0): V = 0.
        - `init_bias`: the bias current `ic`. Without it the bias is uniform in `bmean ± blim/2`,
            drawn with `key`, or `bmean` if `blim` is `None`.
        - `trainable`: names of the hyperparameters that receive gradients. `ic` always does.
        - `dtype`: of all numbers, default `float32`.

        **Raises:** `ValueError` for a value that is not finite or has the wrong shape or sign, and
        for a name in `trainable` that does not exist.
        """
        trainable = trainable_names(trainable, ("tsyn", "tmem", "y0"))
        self.tsyn = make_parameter("tsyn", tsyn, n_neurons, dtype, trainable=trainable, positive=True)
        self.tmem = make_parameter("tmem", tmem, n_neurons, dtype, trainable=trainable, positive=True)
        self.y0 = make_state("y0", y0, (n_neurons, 2), dtype, trainable=trainable)
        self.ic = make_bias(n_neurons, init_bias, blim, bmean, dtype, key)

    def init_state(self, n_neurons: int) -> Float[Array, "neurons channels"]:
        return self.y0.value

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
