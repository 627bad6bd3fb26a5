"""Izhikevich's neuron."""

from types import MappingProxyType
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .base import NeuronModel
from .declared import bias, hyperparameter, initial_state
from .parameter import Parameter


class Izhikevich(NeuronModel):
    r"""Izhikevich's neuron, which fires in many patterns, with an exponentially decaying synaptic current.

    **Free dynamics**, in mV and ms

    $$\dot V = 0.04\,V^2 + 5\,V + 140 - U + I + i_c, \qquad \dot U = a\,(b V - U), \qquad \tau_\text{syn} \dot I = -I$$

    **Threshold** $V = \vartheta$, the peak of the spike. At a spike $V \to c$ and $U \to U + d$; $I$ is kept.

    **Jumps** an arriving spike of weight $w$ adds $w$ to $I$.

    `izhikevich_regime` gives the published constants by the name of the pattern.

    Source: Izhikevich, *Simple model of spiking neurons*, IEEE Transactions on Neural Networks 14 (2003).
    """

    channels: ClassVar[tuple[str, ...]] = ("V", "U", "I")

    a: Parameter = hyperparameter(0.02, "rate of U per ms", positive=True)
    b: Parameter = hyperparameter(0.2, "how much U follows V")
    c: Parameter = hyperparameter(-65.0, "what V becomes after a spike in mV, below `thresh`")
    d: Parameter = hyperparameter(8.0, "what a spike adds to U")
    thresh: Parameter = hyperparameter(30.0, "peak of a spike in mV")
    tsyn: Parameter = hyperparameter(5.0, "time constant of I in ms", positive=True)
    y0: Parameter = initial_state((-65.0, -13.0, 0.0))
    ic: Float[Array, " neurons"] = bias()

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        v, u, i = y[:, 0], y[:, 1], y[:, 2]
        dv = (0.04 * v + 5) * v + 140 - u + i + self.ic
        du = self.a.value * (self.b.value * v - u)
        return jnp.stack([dv, du, -i / self.tsyn.value], axis=1)

    def spike_condition(self, t, y, args: Any) -> Float[Array, " neurons"]:
        return y[:, 0] - self.thresh.value

    def input_spikes(self, y, weights: Float[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        return jnp.stack([y[:, 0], y[:, 1], y[:, 2] + weights], axis=1)

    def reset_spiked(self, y, spiked: Bool[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        v = jnp.where(spiked, self.c.value, y[:, 0])
        u = y[:, 1] + jnp.where(spiked, self.d.value, 0)
        return jnp.stack([v, u, y[:, 2]], axis=1)


IZHIKEVICH_REGIMES = MappingProxyType(
    {
        "regular spiking": (0.02, 0.2, -65.0, 8.0),
        "intrinsically bursting": (0.02, 0.2, -55.0, 4.0),
        "chattering": (0.02, 0.2, -50.0, 2.0),
        "fast spiking": (0.1, 0.2, -65.0, 2.0),
        "low-threshold spiking": (0.02, 0.25, -65.0, 2.0),
        "resonator": (0.1, 0.26, -65.0, 2.0),
        "thalamo-cortical": (0.02, 0.25, -65.0, 0.05),
    }
)
"""The constants a, b, c and d of the published firing patterns."""


def izhikevich_regime(name: str) -> dict[str, float]:
    """The constants `a`, `b`, `c` and `d` of a firing pattern, to be passed on: `**izhikevich_regime("chattering")`.

    The names are those of `IZHIKEVICH_REGIMES`. Source: Izhikevich 2003, figure 2. **Raises** `ValueError`
    for another name.
    """
    if name not in IZHIKEVICH_REGIMES:
        raise ValueError(f"name is {name!r}, expected one of {', '.join(map(repr, IZHIKEVICH_REGIMES))}")
    return dict(zip("abcd", IZHIKEVICH_REGIMES[name], strict=True))
