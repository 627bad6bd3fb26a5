"""A neuron model seen by the engine: a batch of independent rows, one array per channel."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

Channels = tuple[Float[Array, "batch neurons"], ...]


def select(mask: Bool[Array, "..."], yes: Channels, no: Channels) -> Channels:
    """`yes` where the mask says so, in every channel."""
    return tuple(jnp.where(mask, a, b) for a, b in zip(yes, no, strict=True))


def all_finite(y: Channels) -> Bool[Array, "batch neurons"]:
    """Whose channels are all finite."""
    finite = jnp.isfinite(y[0])
    for channel in y[1:]:
        finite = finite & jnp.isfinite(channel)
    return finite


class Rows(eqx.Module):
    """Evaluates a model for `(batch, neurons)` rows.

    The state is a tuple with one array per channel. XLA then sees whole contiguous channels, and
    cancels the `stack` and the slices that models are written with; a trailing axis of two
    channels would be read with a stride by every operation.

    - `numbers`: the floating point leaves of the model, each with a leading axis that is the
        batch, or of length 1 where all of the batch share it.
    - `rest`: everything else of the model.
    """

    numbers: PyTree
    rest: Any = eqx.field(static=True)
    args: Any = eqx.field(static=True, default=None)

    def dynamics(self, t: Float[Array, "batch neurons"], y: Channels) -> Channels:
        return _split(_over_batch(_dynamics, self, t, y), y)

    def condition(self, t: Float[Array, "batch neurons"], y: Channels) -> Float[Array, "batch neurons"]:
        return _over_batch(_condition, self, t, y)

    def arrive(self, y: Channels, weights: Float[Array, "batch neurons *ports"]) -> Channels:
        return _split(_over_batch(_arrive, self, weights, y), y)

    def reset(self, y: Channels, spiked: Bool[Array, "batch neurons"]) -> Channels:
        return _split(_over_batch(_reset, self, spiked, y), y)

    def emits(self, y: Channels) -> Bool[Array, "batch neurons"]:
        """Whose crossing from `y` is a spike."""
        if self._model.emits(jnp.zeros((y[0].shape[1], len(y)), y[0].dtype)) is None:
            return jnp.ones(y[0].shape, bool)
        return _over_batch(_emits, self, y[0], y)

    @property
    def _model(self) -> Any:
        """The model of the first sample, to be asked what does not depend on numbers."""
        return eqx.combine(jax.tree.map(lambda leaf: leaf[0], self.numbers), self.rest)


def _dynamics(model, args, t, y):
    return model.dynamics(t, y, args)


def _condition(model, args, t, y):
    return model.spike_condition(t, y, args)


def _arrive(model, args, weights, y):
    if model.breakpoints() is None:
        return model.input_spikes(y, weights)
    weights, passes = _without_breakpoints(weights, bool(model.ports))
    return jnp.where(passes[:, None], model.pass_breakpoint(y), model.input_spikes(y, weights))


def _without_breakpoints(
    weights: Float[Array, "neurons ports"], has_ports: bool
) -> tuple[Array, Bool[Array, " neurons"]]:
    """The weights as the model knows them, and for whom it is a breakpoint that arrives."""
    own = weights[:, :-1]
    return own if has_ports else own[:, 0], weights[:, -1] > 0.5


def _emits(model, args, _, y):
    return model.emits(y)


def _reset(model, args, spiked, y):
    return model.reset_spiked(y, spiked)


@eqx.filter_jit
def _over_batch(method, rows: Rows, x: Array, y: Channels) -> Array:
    """Apply a method to every sample. Compiled as a function of its own only so that it is traced once."""
    axes = jax.tree.map(lambda leaf: None if leaf.shape[0] == 1 else 0, rows.numbers)
    numbers = jax.tree.map(lambda leaf: leaf[0] if leaf.shape[0] == 1 else leaf, rows.numbers)

    def one(numbers, x, y):
        return method(eqx.combine(numbers, rows.rest), rows.args, x, y)

    return jax.vmap(one, in_axes=(axes, 0, 0))(numbers, x, jnp.stack(y, axis=-1))


def _split(out: Float[Array, "batch neurons channels"], y: Channels) -> Channels:
    return tuple(out[..., channel] for channel in range(len(y)))
