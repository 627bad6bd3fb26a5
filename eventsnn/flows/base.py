"""What a closed form has to say."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .rules import LinearRules
from .systems import SystemRules


class AbstractFlow(eqx.Module):
    """The free dynamics and the threshold of a layer in closed form.

    A model that has one says so with `closed_form`; no solver is needed then. Jumps and resets are those of the
    model. As with a model, row *i* of what a method returns depends on row *i* of the state only.
    """

    @abc.abstractmethod
    def after(self, y: Float[Array, "neurons channels"], dt: Float[Array, " neurons"]) -> Array:
        """The state `dt` ms after `y`, if nothing happens in between. JAX differentiates it for gradients."""

    @abc.abstractmethod
    def first_crossing(
        self, y: Float[Array, "neurons channels"], dt: Float[Array, " neurons"], resolution: Float[Array, " neurons"]
    ) -> Float[Array, " neurons"]:
        """How many ms after `y` the spike condition first reaches 0 from below; `inf` if not within `dt`.

        It is below 0 at `y`; what is said of a neuron where it is not does not matter. The error is at most the
        fraction `resolution` of the result, or what rounding makes of the state. It need not be differentiable.
        """

    def may_cross(
        self, y: Float[Array, "neurons channels"], y_end: Float[Array, "neurons channels"], dt: Float[Array, " neurons"]
    ) -> Bool[Array, " neurons"]:
        """Whether the threshold may be reached on the way from `y` to `y_end`, `dt` ms later; by default, yes.

        It has to be cheap, and must not say no where it is reached: `first_crossing` is asked where it says yes.
        """
        return jnp.ones(dt.shape, bool)

    def held(self, channels: tuple[int, ...]) -> "AbstractFlow | None":
        """The same flow with some channels standing still, or `None`, the default, if that is not known."""
        return None

    def rules(self, n_neurons: int) -> LinearRules | None:
        """What a native kernel has to know of these neurons, or `None`, the default, if there is none for them."""
        return None

    def system(self, model: Any, n_neurons: int) -> SystemRules | None:
        """What a native kernel has to know of a `model` with this flow that is a linear system; `None` if it is not."""
        return None
