"""A neuron model seen by the engine: a batch of independent rows, one array per channel."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from ..flows.base import AbstractFlow
from ..flows.linear import LinearFlow
from ..neuron_models.base import NeuronModel, valid_closed_form
from .turns import Turn, serve_in_turns

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
    - `origin`: when the run starts, from where the engine counts time; `None` for 0.
    """

    numbers: PyTree
    rest: Any = eqx.field(static=True)
    origin: Float[Array, " batch"] | None = None

    def dynamics(self, t: Float[Array, "batch neurons"], y: Channels) -> Channels:
        return _split(_over_batch(_dynamics, self, self.since_zero(t), y), y)

    def condition(self, t: Float[Array, "batch neurons"], y: Channels) -> Float[Array, "batch neurons"]:
        return _over_batch(_condition, self, self.since_zero(t), y)

    def since_zero(self, t: Float[Array, "batch *lanes"]) -> Float[Array, "batch *lanes"]:
        """The time of the model, if the engine's is `t`."""
        return t if self.origin is None else t + self.origin.reshape(-1, *[1] * (t.ndim - 1))

    def with_numbers(self, numbers: PyTree) -> "Rows":
        """The same model with other numbers."""
        return Rows(numbers, self.rest, self.origin)

    @property
    def has_one_current(self) -> bool:
        """Whether the closed form is that of a potential with one current at most."""
        return isinstance(flow_of(self._model), LinearFlow)

    def after(self, y: Channels, dt: Float[Array, "batch neurons"]) -> Channels:
        """The state `dt` later, by the model's closed form."""
        return _split(_over_batch(_after, self, dt, y), y)

    def first_crossing(
        self,
        y: Channels,
        y_end: Channels,
        dt: Float[Array, "batch neurons"],
        resolution: Float[Array, "batch neurons"],
        below: Bool[Array, "batch neurons"],
    ) -> tuple[Float[Array, "batch neurons"], Channels]:
        """After what time those who are `below` the threshold reach it, and the state there, by the closed form.

        Infinite if not within `dt`, when they are at `y_end`. Only those are looked at more closely who may.
        """
        may = below & _over_batch(_may_cross, self, (dt, jnp.stack(y_end, axis=-1)), y)

        def serve(turn: Turn, found):
            numbers = jax.tree.map(turn.look_at_all, self.numbers)
            flow = flow_of(eqx.combine(numbers, self.rest))
            state, within = jnp.stack([turn.look(channel) for channel in y], axis=-1), turn.look(dt)
            s = flow.first_crossing(state, within, turn.look(resolution))
            there = flow.after(state, jnp.minimum(s, within))
            new = (s, tuple(there[:, channel] for channel in range(len(y))))
            return jnp.zeros_like(turn.real), jax.tree.map(turn.write, found, new)

        return serve_in_turns(may, serve, (jnp.full_like(dt, jnp.inf), y_end), dt.dtype, few=True)

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


def _dynamics(model, t, y):
    return model.dynamics(t, y, None)


def _condition(model, t, y):
    return model.spike_condition(t, y, None)


def _after(model, dt, y):
    return flow_of(model).after(y, dt)


def _may_cross(model, x, y):
    dt, y_end = x
    return flow_of(model).may_cross(y, y_end, dt)


def flow_of(model: NeuronModel) -> AbstractFlow:
    """The closed form of a model that has one."""
    flow = valid_closed_form(model)
    if flow is None:
        raise ValueError("this model has no closed form")
    return flow


def _arrive(model, weights, y):
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


def _emits(model, _, y):
    return model.emits(y)


def _reset(model, spiked, y):
    return model.reset_spiked(y, spiked)


@eqx.filter_jit
def _over_batch(method, rows: Rows, x: PyTree, y: Channels) -> Array:
    """Apply a method to every sample. Compiled as a function of its own only so that it is traced once."""
    axes = jax.tree.map(lambda leaf: None if leaf.shape[0] == 1 else 0, rows.numbers)
    numbers = jax.tree.map(lambda leaf: leaf[0] if leaf.shape[0] == 1 else leaf, rows.numbers)

    def one(numbers, x, y):
        return method(eqx.combine(numbers, rows.rest), x, y)

    return jax.vmap(one, in_axes=(axes, 0, 0))(numbers, x, jnp.stack(y, axis=-1))


def _split(out: Float[Array, "batch neurons channels"], y: Channels) -> Channels:
    # Numbers without a dtype, which JAX takes for float64 where that is switched on, become those of the state.
    return tuple(out[..., channel].astype(old.dtype) for channel, old in enumerate(y))
