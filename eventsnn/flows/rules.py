"""What a native kernel has to know of linear neurons: numbers, and what happens at arrivals and spikes."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


class LinearRules(eqx.Module):
    """Neurons with a `LinearFlow`, perhaps refractory after a spike, perhaps with one spike at most.

    - `leak`, `coupling`, `decay`, `drive`, `thresh`, `vreset`: as in `LinearFlow`, one per neuron. `coupling` and
        `decay` are 0 for a neuron without a current, `thresh` is anything for one that never spikes.
    - `tref`: how long each is refractory after a spike, 0 for not at all.
    - `jumps`: on which neurons arrivals act at once, because they have no current.
    - `spikes`, `once`: which have a threshold, and which spike once.
    - `holds_v`, `holds_i`, `blocks`: while refractory, whose potential and current stand still, and on whom arrivals
        are lost.
    - `columns`: what each column of a state is: `"V"`, `"I"`, `"refractory"`, `"remaining"`, `"spent"` or `"passed"`.
    - `changes`, `change_times`: what is added to the drive of each neuron, and when, by time; `None` where the drive is
        constant. Neurons share the times, or each has its own.
    """

    leak: Float[Array, " neurons"]
    coupling: Float[Array, " neurons"]
    decay: Float[Array, " neurons"]
    drive: Float[Array, " neurons"]
    thresh: Float[Array, " neurons"]
    vreset: Float[Array, " neurons"]
    tref: Float[Array, " neurons"]
    jumps: tuple[bool, ...] = eqx.field(static=True)
    spikes: tuple[bool, ...] = eqx.field(static=True)
    once: tuple[bool, ...] = eqx.field(static=True)
    holds_v: tuple[bool, ...] = eqx.field(static=True)
    holds_i: tuple[bool, ...] = eqx.field(static=True)
    blocks: tuple[bool, ...] = eqx.field(static=True)
    columns: tuple[str, ...] = eqx.field(static=True)
    changes: Float[Array, "changes neurons"] | None = None
    change_times: Float[Array, "*neurons changes"] | None = None

    @property
    def rates(self) -> Float[Array, "3 neurons"]:
        """What says how fast states move."""
        return jnp.stack([self.leak, self.coupling, self.decay])

    @property
    def levels(self) -> Float[Array, "4 neurons"]:
        """All other numbers."""
        return jnp.stack([self.drive, self.thresh, self.vreset, self.tref])
