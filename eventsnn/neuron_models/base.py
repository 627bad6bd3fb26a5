"""The contract that every neuron model fulfils."""

import abc
from typing import Any, ClassVar, Self

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..flows.base import AbstractFlow
from ..flows.exponentials import AbstractExponentialFlow
from ..flows.linear import LinearFlow
from ..flows.rules import LinearRules
from ..flows.systems import SystemRules
from .declared import Declaration, declarations_of, make_constructor
from .parameter import assign


class NeuronModel(eqx.Module):
    r"""A layer of neurons given by an ODE, a threshold, a jump and a reset.

    Between events every neuron follows $\dot y = f(t, y)$ (`dynamics`). A spike arriving with
    weight $w$ moves the state by `input_spikes`. When `spike_condition` reaches 0 from below the
    neuron spikes, and `reset_spiked` says where it goes on from.

    All methods are vectorised over the neurons of one layer: the state has shape
    `(neurons, channels)`. Row *i* of what a method returns depends on row *i* of the state only;
    neurons meet through spikes alone. Write the methods with `jax.numpy`, so that JAX can
    differentiate them. `eventsnn.check_neuron_model` tells in plain words what a model gets wrong.

    To make a model of your own, subclass this class or a model that is close to it, and override
    what differs. Numbers are declared with `hyperparameter`, `initial_state` and `bias`; the
    constructor follows from them.
    """

    channels: ClassVar[tuple[str, ...]] = ()
    """The names of the channels, for plots and for reading."""

    ports: ClassVar[tuple[str, ...]] = ()
    """The names of the ways in which a spike can arrive, each with a weight of its own. Empty for one way."""

    _declared: ClassVar[dict[str, Declaration]] = {}
    _has_own_constructor: ClassVar[bool] = False

    def __init_subclass__(cls, **keywords: Any):
        """Make the constructor from what the class and its parents declare, unless it is written by hand."""
        super().__init_subclass__(**keywords)
        own = declarations_of(cls)
        cls._declared = {**cls._declared, **own}
        if "__init__" in vars(cls):
            cls._has_own_constructor = True
        elif cls._has_own_constructor and own:
            raise TypeError(
                f"{cls.__name__} declares {next(iter(own))}, but inherits a constructor that was written by hand and "
                "knows nothing of it: write __init__ as well"
            )
        elif cls._declared and not cls._has_own_constructor:
            cls.__init__ = make_constructor(cls._declared, cls.channels)

    def __setattr__(self, name: str, value: Any) -> None:
        assign(self, name, value)

    def init_state(self, n_neurons: int) -> Float[Array, "neurons channels"]:
        """The state at time 0; by default `y0`, if there is a declared `initial_state` of this name."""
        y0 = getattr(self, "y0", None)
        if y0 is None:
            raise TypeError(f"{type(self).__name__} has no initial state: declare y0 = initial_state(0.0)")
        return y0.value

    @abc.abstractmethod
    def dynamics(
        self, t: Float[Array, ""] | Float[Array, " neurons"], y: Float[Array, "neurons channels"], args: Any
    ) -> Float[Array, "neurons channels"]:
        """The free dynamics `dy/dt`, per ms. `args` is passed through and is `None` by default."""

    @abc.abstractmethod
    def spike_condition(
        self, t: Float[Array, ""] | Float[Array, " neurons"], y: Float[Array, "neurons channels"], args: Any
    ) -> Float[Array, " neurons"]:
        """A number per neuron that is negative at rest and reaches 0 from below at a spike."""

    @abc.abstractmethod
    def input_spikes(
        self, y: Float[Array, "neurons channels"], weights: Float[Array, " neurons"]
    ) -> Float[Array, "neurons channels"]:
        """The state just after spikes have arrived with `weights`, one per neuron.

        Of a model with `ports` the weights have the shape `(neurons, ports)`. It is called for all neurons of a layer:
        weight 0 has to change nothing, and the order of spikes at one instant must not matter.
        """

    def reset_spiked(
        self, y: Float[Array, "neurons channels"], spiked: Bool[Array, " neurons"]
    ) -> Float[Array, "neurons channels"]:
        """The state just after the neurons in the mask `spiked` have spiked; the others keep theirs.

        By default nothing is reset. Such a neuron, and any whose reset leaves the spike condition as it is, spikes once
        at each upward passage. One that is reset to where the condition is 0 or more and falls has to come from below
        before it spikes again. If the condition rises there, it would spike at once and forever, which is an error.
        """
        return y

    def observe(self, y: Float[Array, "neurons channels"]) -> Float[Array, "neurons channels"]:
        """What `state_at_t` shows of a state; the state itself by default."""
        return y

    def emits(self, y: Float[Array, "neurons channels"]) -> Bool[Array, " neurons"] | None:
        """Whether a neuron that reaches its threshold at `y` spikes; `None`, the default, for always.

        Where it does not, `reset_spiked` is applied at exactly that time and nobody hears of it. So a
        model can have events besides spikes, such as the end of refractoriness.
        """
        return None

    def spike_values(self) -> Float[Array, "*neurons"] | None:
        """What a spike carries, by which the weights behind it are multiplied; `None`, the default, for 1.

        A scalar or one number per neuron.
        """
        return None

    def breakpoints(self) -> Float[Array, "*neurons times"] | None:
        """When the dynamics change by themselves, in ms; `None`, the default, for never.

        The run stops at each of these times and goes on from `pass_breakpoint`. Of shape `(times,)` if they are the
        same for all neurons. Those that are infinite or behind the end never come; those before 0 come at 0.
        """
        return None

    def pass_breakpoint(self, y: Float[Array, "neurons channels"]) -> Float[Array, "neurons channels"]:
        """The state just after one of the `breakpoints`; the state itself by default."""
        return y

    def with_current(self, current: Float[Array, "*neurons"]) -> Self:
        """The same neurons with `current` added to their bias current `ic`."""
        ic = getattr(self, "ic", None)
        if ic is None:
            raise TypeError(f"{type(self).__name__} has no bias current ic to add a current to: override with_current")
        return eqx.tree_at(lambda model: model.ic, self, ic + jnp.asarray(current, ic.dtype))

    def closed_form(self) -> AbstractFlow | None:
        """The free dynamics and the threshold in closed form, or `None`, the default.

        A `LinearFlow` stands for the jump and the reset as well. It belongs to the model that defines it: in a
        subclass that overrides one of the methods it no longer counts, and the subclass is solved numerically.
        """
        return None


_DESCRIBED = ("dynamics", "spike_condition", "input_spikes", "reset_spiked", "emits", "breakpoints", "pass_breakpoint")


def valid_closed_form(model: NeuronModel) -> AbstractFlow | None:
    """The closed form of a model, unless a subclass has changed what it describes."""
    lineage = type(model).__mro__

    def owner(name: str) -> int:
        return next(number for number, cls in enumerate(lineage) if name in vars(cls))

    if any(owner(name) < owner("closed_form") for name in _DESCRIBED):
        return None
    return model.closed_form()


def is_plain(model: NeuronModel) -> bool:
    """Whether there is nothing about a model but arrivals of one kind and spikes."""
    kept = ("emits", "breakpoints")
    return not model.ports and all(getattr(type(model), name) is getattr(NeuronModel, name) for name in kept)


def native_rules(model: NeuronModel, n_neurons: int) -> LinearRules | None:
    """What a native kernel has to know of a model, or `None` if there is none for it."""
    flow = valid_closed_form(model)
    if flow is None or (isinstance(flow, LinearFlow) and not is_plain(model)):
        return None
    return flow.rules(n_neurons)


def native_system(model: NeuronModel, n_neurons: int) -> SystemRules | None:
    """What the native kernel for linear systems has to know of a model, or `None` if it is not for it."""
    flow = valid_closed_form(model)
    if flow is None or (isinstance(flow, AbstractExponentialFlow) and not (is_plain(model) and resets(model))):
        return None
    return flow.system(model, n_neurons)


def resets(model: NeuronModel) -> bool:
    """Whether a spike changes the state."""
    return type(model).reset_spiked is not NeuronModel.reset_spiked
