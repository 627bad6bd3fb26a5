"""The leaky integrate-and-fire neuron in mV, with the names of NeurAI."""

from typing import Any, ClassVar, Self

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..flows.linear import LinearFlow
from .base import NeuronModel
from .declared import hyperparameter, initial_state
from .parameter import Parameter, reject


class ExpLIF(NeuronModel):
    r"""Leaky integrate-and-fire neuron in mV with an exponentially decaying synaptic current.

    **Free dynamics**

    $$\tau \dot V = -(V - V_\text{rest}) + I + I_e, \qquad \tau_\text{syn} \dot I = -I$$

    **Threshold** $V = V_\text{th}$. At a spike $V \to V_\text{reset}$; $I$ is kept.

    **Jumps** an arriving spike of weight $w$, in mV, adds $w$ to $I$.

    It is `LIF` with a resting potential; its hyperparameters have the names that NeurAI's `ExpLIF` has.
    """

    channels: ClassVar[tuple[str, ...]] = ("V", "I")

    V_rest: Parameter = hyperparameter(-60.0, "resting potential in mV")
    V_th: Parameter = hyperparameter(-50.0, "threshold of V in mV")
    V_reset: Parameter = hyperparameter(-60.0, "what V becomes after a spike in mV, below `V_th`")
    tau: Parameter = hyperparameter(20.0, "time constant of V in ms", positive=True)
    tsyn: Parameter = hyperparameter(5.0, "time constant of I in ms", positive=True)
    I_e: Parameter = hyperparameter(0.0, "constant current in mV")
    y0: Parameter = initial_state(("V_rest", 0.0))

    def __check_init__(self):
        reset, limit = jnp.broadcast_arrays(self.V_reset.value, self.V_th.value)
        reject("V_reset", reset, reset >= limit, "below V_th")

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        v, i = y[:, 0], y[:, 1]
        dv = (self.V_rest.value - v + i + self.I_e.value) / self.tau.value
        return jnp.stack([dv, -i / self.tsyn.value], axis=1)

    def spike_condition(self, t, y, args: Any) -> Float[Array, " neurons"]:
        return y[:, 0] - self.V_th.value

    def input_spikes(self, y, weights: Float[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        return jnp.stack([y[:, 0], y[:, 1] + weights], axis=1)

    def reset_spiked(self, y, spiked: Bool[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        return jnp.stack([jnp.where(spiked, self.V_reset.value, y[:, 0]), y[:, 1]], axis=1)

    def with_current(self, current: Float[Array, "*neurons"]) -> Self:
        I_e = self.I_e.value + jnp.asarray(current, self.I_e.value.dtype)
        return eqx.tree_at(lambda model: model.I_e.value, self, I_e)

    def closed_form(self) -> LinearFlow:
        return LinearFlow(
            leak=1 / self.tau.value,
            drive=(self.V_rest.value + self.I_e.value) / self.tau.value,
            thresh=self.V_th.value,
            vreset=self.V_reset.value,
            coupling=1 / self.tau.value,
            decay=1 / self.tsyn.value,
        )
