"""The leaky integrator: a neuron that only listens."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray

from .base import NeuronModel
from .bias import make_bias
from .linear_flow import LinearFlow
from .parameter import Parameter, make_parameter, make_state, trainable_names


class LeakyIntegrator(NeuronModel):
    r"""Leaky integrator: a LIF neuron without a threshold, which never spikes. Read it with `state_at_t`.

    **Free dynamics**

    $$\tau_\text{mem} \dot V = -V + I + i_c, \qquad \tau_\text{syn} \dot I = -I$$

    **Jumps** an arriving spike of weight $w$ adds $w$ to $I$.
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
        y0: ArrayLike | Sequence[float] = 0.0,
        init_bias: ArrayLike | None = None,
        blim: float | None = None,
        bmean: float = 0.0,
        trainable: Iterable[str] = (),
        dtype=jnp.float32,
        key: PRNGKeyArray | None = None,
    ):
        """**Arguments:** as for `LIF`, without `thresh` and `vreset`.

        **Raises:** as `LIF`.
        """
        trainable = trainable_names(trainable, ("tsyn", "tmem", "y0"))
        self.tsyn = make_parameter("tsyn", tsyn, n_neurons, dtype, trainable=trainable, positive=True)
        self.tmem = make_parameter("tmem", tmem, n_neurons, dtype, trainable=trainable, positive=True)
        self.y0 = make_state("y0", y0, (n_neurons, 2), dtype, trainable=trainable)
        self.ic = make_bias(n_neurons, init_bias, blim, bmean, dtype, key)

    def init_state(self, n_neurons: int) -> Float[Array, "neurons channels"]:
        return self.y0.value

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        v, i = y[:, 0], y[:, 1]
        return jnp.stack([(i + self.ic - v) / self.tmem.value, -i / self.tsyn.value], axis=1)

    def spike_condition(self, t, y, args: Any) -> Float[Array, " neurons"]:
        # Below threshold, whatever the state.
        return jnp.full_like(y[:, 0], -1)

    def input_spikes(self, y, weights: Float[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        return jnp.stack([y[:, 0], y[:, 1] + weights], axis=1)

    def reset_spiked(self, y, spiked: Bool[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        return y

    def closed_form(self) -> LinearFlow:
        return LinearFlow(
            leak=1 / self.tmem.value,
            drive=self.ic / self.tmem.value,
            thresh=None,
            vreset=jnp.zeros_like(self.tmem.value),
            coupling=1 / self.tmem.value,
            decay=1 / self.tsyn.value,
        )
