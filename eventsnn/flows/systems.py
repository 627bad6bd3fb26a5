"""What a native kernel has to know of neurons that are linear systems with several channels."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class SystemRules(eqx.Module):
    r"""Neurons whose free dynamics, spike condition, arrivals and resets are all linear.

    **Free dynamics** $\dot x = A x + c$ of a state $x$ with a few channels.

    **Threshold** $h \cdot x + h_0 = 0$. At a spike $x \to R x + \rho$.

    **Jumps** an arriving spike of weight $w$ adds $w\,b$ to $x$.

    - `matrix`, `drive`: $A$ and $c$, per ms; `condition`, `offset`: $h$ and $h_0$; `into`: $b$; `reset`, `landing`:
        $R$ and $\rho$.
    - `tref`: how long each neuron is refractory after a spike, 0 for not at all.
    - `once`: whether they spike once; `held`: which channels stand still while a neuron is refractory; `blocks`:
        whether arrivals are lost then.
    - `own`: what the columns of a state are that follow the channels: `"refractory"`, `"remaining"` or `"spent"`.
    """

    matrix: Float[Array, "neurons channels channels"]
    drive: Float[Array, "neurons channels"]
    condition: Float[Array, "neurons channels"]
    offset: Float[Array, " neurons"]
    into: Float[Array, "neurons channels"]
    reset: Float[Array, "neurons channels channels"]
    landing: Float[Array, "neurons channels"]
    tref: Float[Array, " neurons"]
    once: bool = eqx.field(static=True, default=False)
    held: tuple[int, ...] = eqx.field(static=True, default=())
    blocks: bool = eqx.field(static=True, default=False)
    own: tuple[str, ...] = eqx.field(static=True, default=())

    @property
    def channels(self) -> int:
        """How many channels there are."""
        return self.drive.shape[1]

    @property
    def rates(self) -> Float[Array, "numbers neurons"]:
        """What says how fast states move, a row for each number."""
        return _rows(self.matrix)

    @property
    def levels(self) -> Float[Array, "numbers neurons"]:
        """All other numbers."""
        numbers = (self.drive, self.condition, self.offset, self.into, self.reset, self.landing, self.tref)
        return jnp.concatenate([_rows(number) for number in numbers])


def _rows(number: Array) -> Array:
    return number.reshape(number.shape[0], -1).T


def system_of(model: Any, n_neurons: int) -> SystemRules:
    """The linear system that a model with linear methods is, which is found by differentiating them once."""
    start = model.init_state(n_neurons)
    zero, weights = jnp.zeros_like(start), jnp.ones_like(start[:, 0])
    spiked, t = jnp.ones(n_neurons, bool), jnp.zeros((), start.dtype)

    def everything(y: Array) -> tuple[Array, Array, Array]:
        return model.dynamics(t, y, None), model.spike_condition(t, y, None), model.reset_spiked(y, spiked)

    drive, offset, landing = everything(zero)
    # Row i depends on row i only, so that one direction serves all neurons.
    units = [zero.at[:, channel].set(1) for channel in range(zero.shape[1])]
    columns = [jax.jvp(everything, (zero,), (unit,))[1] for unit in units]
    matrix, condition, reset = (jnp.stack(parts, axis=-1) for parts in zip(*columns, strict=True))
    _, into = jax.jvp(lambda weights: model.input_spikes(zero, weights), (weights,), (weights,))
    return SystemRules(matrix, drive, condition, offset, into, reset, landing, jnp.zeros_like(offset))
