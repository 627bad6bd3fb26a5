"""The integrate-and-fire neuron without a leak."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..flows.linear import LinearFlow
from .lif import LIF


class IF(LIF):
    r"""Integrate-and-fire neuron: a LIF neuron whose membrane does not leak.

    **Free dynamics**

    $$\tau_\text{mem} \dot V = I + i_c, \qquad \tau_\text{syn} \dot I = -I$$

    **Threshold, jumps and arguments** as for `LIF`; `tmem` says how much a current moves V.
    """

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        i = y[:, 1]
        return jnp.stack([(i + self.ic) / self.tmem.value, -i / self.tsyn.value], axis=1)

    def closed_form(self) -> LinearFlow:
        return LinearFlow(
            leak=jnp.zeros_like(self.tmem.value),
            drive=self.ic / self.tmem.value,
            thresh=self.thresh.value,
            vreset=self.vreset.value,
            coupling=1 / self.tmem.value,
            decay=1 / self.tsyn.value,
        )
