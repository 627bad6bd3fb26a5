"""The leaky integrate-and-fire neuron with delta synapses."""

from collections.abc import Iterable
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray

from .base import NeuronModel
from .bias import make_bias
from .linear_flow import LinearFlow
from .parameter import Parameter, make_parameter, make_state, reject_reset, trainable_names


class DeltaLIF(NeuronModel):
    r"""Leaky integrate-and-fire neuron whose inputs act on the potential at once.

    **Free dynamics**

    $$\tau_\text{mem} \dot V = -V + i_c$$

    **Threshold** $V = \vartheta$. At a spike $V \to V_\text{reset}$.

    **Jumps** an arriving spike of weight $w$ adds $w$ to $V$. One that lifts $V$ to the threshold or
    above makes the neuron spike at that instant.

    Source: Gerstner, Kistler, Naud and Paninski, *Neuronal Dynamics* (2014), section 1.3.
    """

    channels: ClassVar[tuple[str, ...]] = ("V",)

    thresh: Parameter
    tmem: Parameter
    vreset: Parameter
    y0: Parameter
    ic: Float[Array, " neurons"]

    def __init__(
        self,
        n_neurons: int,
        *,
        thresh: ArrayLike = 1.0,
        tmem: ArrayLike = 20.0,
        vreset: ArrayLike = 0.0,
        y0: ArrayLike = 0.0,
        init_bias: ArrayLike | None = None,
        blim: float | None = None,
        bmean: float = 0.0,
        trainable: Iterable[str] = (),
        dtype=jnp.float32,
        key: PRNGKeyArray | None = None,
    ):
        """**Arguments:** as for `LIF`, without `tsyn`; `y0` is V: a number, `(1,)`, or `(n_neurons, 1)`.

        **Raises:** as `LIF`.
        """
        trainable = trainable_names(trainable, ("thresh", "tmem", "vreset", "y0"))
        self.thresh = make_parameter("thresh", thresh, n_neurons, dtype, trainable=trainable)
        self.tmem = make_parameter("tmem", tmem, n_neurons, dtype, trainable=trainable, positive=True)
        self.vreset = make_parameter("vreset", vreset, n_neurons, dtype, trainable=trainable)
        reject_reset(self.vreset, self.thresh)
        self.y0 = make_state("y0", y0, (n_neurons, 1), dtype, trainable=trainable)
        self.ic = make_bias(n_neurons, init_bias, blim, bmean, dtype, key)

    def init_state(self, n_neurons: int) -> Float[Array, "neurons channels"]:
        return self.y0.value

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        return ((self.ic - y[:, 0]) / self.tmem.value)[:, None]

    def spike_condition(self, t, y, args: Any) -> Float[Array, " neurons"]:
        return y[:, 0] - self.thresh.value

    def input_spikes(self, y, weights: Float[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        return y + weights[:, None]

    def reset_spiked(self, y, spiked: Bool[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        return jnp.where(spiked, self.vreset.value, y[:, 0])[:, None]

    def closed_form(self) -> LinearFlow:
        return LinearFlow(
            leak=1 / self.tmem.value,
            drive=self.ic / self.tmem.value,
            thresh=self.thresh.value,
            vreset=self.vreset.value,
        )
