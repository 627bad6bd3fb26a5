"""What all models have in common that wrap another one."""

import inspect
from collections.abc import Iterable
from typing import Any, ClassVar, Self

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..flows.base import AbstractFlow
from .base import NeuronModel, valid_closed_form
from .declared import Declaration, MadeBy, constructor_with, keywords_of, make_number


class AbstractWrapper(NeuronModel):
    """A model around another one: the same neurons, with channels and numbers of its own besides theirs.

    - `neuron`: the model inside. Its channels come first.
    """

    wrapped: ClassVar[type[NeuronModel]]
    own_channels: ClassVar[tuple[str, ...]] = ()
    made_by: ClassVar[MadeBy]
    own_numbers: ClassVar[dict[str, Declaration]] = {}
    own_keywords: ClassVar[dict[str, Declaration]] = {}

    neuron: NeuronModel

    def __init__(self, n_neurons: int, *, trainable: Iterable[str] = (), dtype=jnp.float32, key=None, **keywords: Any):
        """**Arguments:** those of the model inside and the wrapper's own."""
        names = (trainable,) if isinstance(trainable, str) else tuple(trainable)
        for name, declaration in self.own_numbers.items():
            value = keywords.pop(name, declaration.default)
            setattr(self, name, make_number(name, declaration, value, n_neurons, dtype, names))
        inside = tuple(name for name in names if name not in self.own_numbers)
        # Models that are written by hand need not know of trainable.
        keywords |= {"trainable": inside} if inside else {}
        build: Any = self.wrapped
        self.neuron = build(n_neurons, dtype=dtype, key=key, **keywords)

    def init_state(self, n_neurons: int) -> Float[Array, "neurons channels"]:
        inside = self.neuron.init_state(n_neurons)
        own = jnp.zeros((n_neurons, len(self.own_channels)), inside.dtype)
        return jnp.concatenate([inside, own], axis=1)

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        inside, own = self.split(y)
        return self.join(self.neuron.dynamics(t, inside, args), jnp.zeros_like(own))

    def spike_condition(self, t, y, args: Any) -> Float[Array, " neurons"]:
        return self.neuron.spike_condition(t, self.split(y)[0], args)

    def input_spikes(self, y, weights: Float[Array, "neurons *ports"]) -> Float[Array, "neurons channels"]:
        inside, own = self.split(y)
        return self.join(self.neuron.input_spikes(inside, weights), own)

    def reset_spiked(self, y, spiked: Bool[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        inside, own = self.split(y)
        return self.join(self.neuron.reset_spiked(inside, spiked), own)

    def observe(self, y) -> Float[Array, "neurons channels"]:
        inside, own = self.split(y)
        return self.join(self.neuron.observe(inside), own)

    def emits(self, y) -> Bool[Array, " neurons"] | None:
        return self.neuron.emits(self.split(y)[0])

    def spike_values(self) -> Float[Array, "*neurons"] | None:
        return self.neuron.spike_values()

    def breakpoints(self) -> Float[Array, "*neurons times"] | None:
        return self.neuron.breakpoints()

    def pass_breakpoint(self, y) -> Float[Array, "neurons channels"]:
        inside, own = self.split(y)
        return self.join(self.neuron.pass_breakpoint(inside), own)

    def with_current(self, current: Float[Array, "*neurons"]) -> Self:
        return eqx.tree_at(lambda model: model.neuron, self, self.neuron.with_current(current))

    def closed_form(self) -> AbstractFlow | None:
        """That of the model inside, if it has one."""
        inside = valid_closed_form(self.neuron)
        return None if inside is None else WrappedFlow(self, inside)

    def split(self, y: Float[Array, "neurons channels"]) -> tuple[Array, Array]:
        """The channels of the model inside, and the wrapper's own."""
        count = y.shape[1] - len(self.own_channels)
        return y[:, :count], y[:, count:]

    def join(self, inside: Float[Array, "neurons inside"], own: Float[Array, "neurons own"]) -> Array:
        """The state of the model inside and the wrapper's own channels as one."""
        return jnp.concatenate([inside, own], axis=1)

    def inside_emits(self, y: Float[Array, "neurons channels"]) -> Bool[Array, " neurons"]:
        """Whether the model inside, in the state `y` of its own, calls a crossing a spike."""
        emits = self.neuron.emits(y)
        return jnp.ones(y.shape[0], bool) if emits is None else emits


class WrappedFlow(AbstractFlow):
    """The flow of the model inside, with channels of the wrapper that stand still.

    - `wrapper`: the model that this is the flow of, and `inside` the flow of the one inside.
    """

    wrapper: AbstractWrapper
    inside: AbstractFlow

    def after(self, y: Float[Array, "neurons channels"], dt: Float[Array, " neurons"]) -> Array:
        inside, own = self.wrapper.split(y)
        return self.wrapper.join(self.inside.after(inside, dt), own)

    def first_crossing(self, y, dt, resolution) -> Float[Array, " neurons"]:
        return self.inside.first_crossing(self.wrapper.split(y)[0], dt, resolution)

    def may_cross(self, y, y_end, dt) -> Bool[Array, " neurons"]:
        return self.inside.may_cross(self.wrapper.split(y)[0], self.wrapper.split(y_end)[0], dt)

    def held(self, channels: tuple[int, ...]) -> "AbstractFlow | None":
        inside = self.inside.held(channels)
        return None if inside is None else type(self)(self.wrapper, inside)


def checked_model(name: str, model: type[NeuronModel]) -> type[NeuronModel]:
    """`model`, or a `TypeError` if it is not a class of neuron models."""
    if not (inspect.isclass(model) and issubclass(model, NeuronModel)):
        raise TypeError(f"{name} was given {model!r}, expected a class that subclasses NeuronModel, such as LIF")
    return model


def wrap(
    base: type[AbstractWrapper], model: type[NeuronModel], made_by: MadeBy, **attributes: Any
) -> type[NeuronModel]:
    """The class of `base` around `model`. **Raises** `TypeError` if both have a channel of the same name."""
    name = made_by.maker
    options = "".join(f", {key}={value!r}" for key, value in made_by.options.items())
    clash = [channel for channel in base.own_channels if channel in model.channels]
    if clash:
        raise TypeError(f"{name}({model.__name__}) would have two channels {clash[0]!r}: wrap the model once")
    inherited = {
        "wrapped": model,
        "made_by": made_by,
        "channels": (*model.channels, *base.own_channels),
        "ports": model.ports,
        "__init__": constructor_with(base.__init__, _keywords(base, model)),
        "__module__": base.__module__,
        "__qualname__": f"{name}({model.__name__}{options})",
        "__doc__": f"{(base.__doc__ or '').splitlines()[0]} The model inside is `{model.__name__}`.",
    }
    metaclass: Any = type(base)
    return metaclass(f"{name}({model.__name__}{options})", (base,), inherited | attributes)


def _keywords(base: type[AbstractWrapper], model: type[NeuronModel]) -> dict[str, Any]:
    """What the constructor takes, with defaults where there are any."""
    own = {name: declaration.default for name, declaration in (base.own_numbers | base.own_keywords).items()}
    inside = dict.fromkeys(sorted(keywords_of(model) - {"self", "n_neurons", *own}), inspect.Parameter.empty)
    defaults = {name: given.default for name, given in inspect.signature(model).parameters.items() if name in inside}
    return own | {"trainable": ()} | inside | defaults
