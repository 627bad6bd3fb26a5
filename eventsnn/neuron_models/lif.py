"""The leaky integrate-and-fire neuron."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray

from .base import NeuronModel
from .bias import make_bias
from .linear_flow import LinearFlow
from .parameter import Parameter, make_parameter, make_state, reject_reset, trainable_names


class LIF(NeuronModel):
    r"""Leaky integrate-and-fire neuron with an exponentially decaying synaptic current.

    **Free dynamics**

    $$\tau_\text{mem} \dot V = -V + I + i_c, \qquad \tau_\text{syn} \dot I = -I$$

    **Threshold** $V = \vartheta$. At a spike $V \to V_\text{reset}$; $I$ is kept.

    **Jumps** an arriving spike of weight $w$ adds $w$ to $I$.

    Source: Gerstner, Kistler, Naud and Paninski, *Neuronal Dynamics* (2014), section 1.3, with the
    current in units of the potential it would hold.
    """

    channels: ClassVar[tuple[str, ...]] = ("V", "I")

    thresh: Parameter
    tsyn: Parameter
    tmem: Parameter
    vreset: Parameter
    y0: Parameter
    ic: Float[Array, " neurons"]

    def __init__(
        self,
        n_neurons: int,
        *,
        thresh: ArrayLike = 1.0,
        tsyn: ArrayLike = 5.0,
        tmem: ArrayLike = 20.0,
        vreset: ArrayLike = 0.0,
        y0: ArrayLike | Sequence[float] = 0.0,
        init_bias: ArrayLike | None = None,
        blim: float | None = None,
        bmean: float = 0.0,
        trainable: Iterable[str] = (),
        dtype=jnp.float32,
        key: PRNGKeyArray | None = None,
    ):
        """**Arguments:** each hyperparameter is a scalar or has shape `(n_neurons,)`.

        - `n_neurons`: how many neurons the layer has.
        - `thresh`: threshold of V, default 1.
        - `tsyn`, `tmem`: time constants of I and V in ms, defaults 5 and 20.
        - `vreset`: what V is reset to, below `thresh`, default 0.
        - `y0`: the initial state (V, I): one number for both, `(2,)`, or `(n_neurons, 2)`, default 0.
        - `init_bias`: the bias current `ic`. Without it the bias is uniform in `bmean ± blim/2`,
            drawn with `key`, or `bmean` if `blim` is `None`.
        - `trainable`: names of the hyperparameters that receive gradients. `ic` always does.
        - `dtype`: of all numbers, default `float32`.

        **Raises:** `ValueError` for a value that is not finite, has the wrong shape or sign, or a
        reset at or above the threshold; `ValueError` for a name in `trainable` that does not exist.
        """
        trainable = trainable_names(trainable, ("thresh", "tsyn", "tmem", "vreset", "y0"))
        self.thresh = make_parameter("thresh", thresh, n_neurons, dtype, trainable=trainable)
        self.tsyn = make_parameter("tsyn", tsyn, n_neurons, dtype, trainable=trainable, positive=True)
        self.tmem = make_parameter("tmem", tmem, n_neurons, dtype, trainable=trainable, positive=True)
        self.vreset = make_parameter("vreset", vreset, n_neurons, dtype, trainable=trainable)
        self.y0 = make_state("y0", y0, (n_neurons, 2), dtype, trainable=trainable)
        self.ic = make_bias(n_neurons, init_bias, blim, bmean, dtype, key)
        reject_reset(self.vreset, self.thresh)

    def init_state(self, n_neurons: int) -> Float[Array, "neurons channels"]:
        return self.y0.value

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        v, i = y[:, 0], y[:, 1]
        dv = (i + self.ic - v) / self.tmem.value
        di = -i / self.tsyn.value
        return jnp.stack([dv, di], axis=1)

    def spike_condition(self, t, y, args: Any) -> Float[Array, " neurons"]:
        return y[:, 0] - self.thresh.value

    def input_spikes(self, y, weights: Float[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        return jnp.stack([y[:, 0], y[:, 1] + weights], axis=1)

    def reset_spiked(self, y, spiked: Bool[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        v = jnp.where(spiked, self.vreset.value, y[:, 0])
        return jnp.stack([v, y[:, 1]], axis=1)

    def closed_form(self) -> LinearFlow:
        return LinearFlow(
            leak=1 / self.tmem.value,
            drive=self.ic / self.tmem.value,
            thresh=self.thresh.value,
            vreset=self.vreset.value,
            coupling=1 / self.tmem.value,
            decay=1 / self.tsyn.value,
        )
