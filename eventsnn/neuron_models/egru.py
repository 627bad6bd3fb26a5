"""The event-based gated recurrent unit."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .base import NeuronModel
from .declared import hyperparameter, initial_state
from .parameter import Parameter


class EGRU(NeuronModel):
    r"""Event-based gated recurrent unit, in continuous time.

    **Free dynamics**

    $$\tau_\text{mem} \dot c = u\,(z - c), \qquad \tau_\text{syn} \dot a_x = -a_x \quad\text{for } x = u, r, z$$

    $$u = \sigma(a_u + b_u), \qquad r = \sigma(a_r + b_r), \qquad z = \tanh(r\,a_z + b_z)$$

    **Threshold** $c = \vartheta$. At a spike $c \to 0$; the $a_x$ are kept. The spike carries the value
    $c = \vartheta$: the weights behind it are multiplied by it.

    **Jumps** a spike arrives through three ports with weights of their own, `u`, `r` and `z`, and adds
    $w_x$ to $a_x$.

    Source: Subramoney, Nazeer, Schöne, Mayr and Kappel, *Efficient recurrent architectures through activity
    sparsity and sparse back-propagation through time*, ICLR 2023, in continuous time. The reset gate acts on
    all that has arrived through `z`, and not on each spike as it arrives, so that the order of spikes at one
    instant does not matter.
    """

    channels: ClassVar[tuple[str, ...]] = ("c", "a_u", "a_r", "a_z")
    ports: ClassVar[tuple[str, ...]] = ("u", "r", "z")

    thresh: Parameter = hyperparameter(0.5, "threshold of c", positive=True)
    tmem: Parameter = hyperparameter(10.0, "time constant of c in ms", positive=True)
    tsyn: Parameter = hyperparameter(5.0, "time constant of the a_x in ms", positive=True)
    bias_u: Parameter = hyperparameter(0.0, "bias of the update gate")
    bias_r: Parameter = hyperparameter(0.0, "bias of the reset gate")
    bias_z: Parameter = hyperparameter(0.0, "bias of the proposed value")
    y0: Parameter = initial_state(0.0)

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        c, a_u, a_r, a_z = y[:, 0], y[:, 1], y[:, 2], y[:, 3]
        update, reset = jax.nn.sigmoid(a_u + self.bias_u.value), jax.nn.sigmoid(a_r + self.bias_r.value)
        dc = update * (jnp.tanh(reset * a_z + self.bias_z.value) - c) / self.tmem.value
        rate = -1 / self.tsyn.value
        return jnp.stack([dc, rate * a_u, rate * a_r, rate * a_z], axis=1)

    def spike_condition(self, t, y, args: Any) -> Float[Array, " neurons"]:
        return y[:, 0] - self.thresh.value

    def spike_values(self) -> Float[Array, "*neurons"]:
        return self.thresh.value

    def input_spikes(self, y, weights: Float[Array, "neurons ports"]) -> Float[Array, "neurons channels"]:
        return y.at[:, 1:].add(weights)

    def reset_spiked(self, y, spiked: Bool[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        return y.at[:, 0].set(jnp.where(spiked, 0, y[:, 0]))
