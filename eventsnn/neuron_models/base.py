"""The contract that every neuron model fulfils."""

import abc
from typing import Any, ClassVar

import equinox as eqx
from jaxtyping import Array, Bool, Float

from .linear_flow import LinearFlow


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
    what differs.
    """

    channels: ClassVar[tuple[str, ...]] = ()
    """The names of the channels, for plots and for reading."""

    @abc.abstractmethod
    def init_state(self, n_neurons: int) -> Float[Array, "neurons channels"]:
        """The state at time 0."""

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
        """The state just after spikes have arrived with `weights`, one per neuron."""

    @abc.abstractmethod
    def reset_spiked(
        self, y: Float[Array, "neurons channels"], spiked: Bool[Array, " neurons"]
    ) -> Float[Array, "neurons channels"]:
        """The state just after the neurons in the mask `spiked` have spiked; the others keep theirs."""

    def observe(self, y: Float[Array, "neurons channels"]) -> Float[Array, "neurons channels"]:
        """What `state_at_t` shows of a state; the state itself by default."""
        return y

    def closed_form(self) -> LinearFlow | None:
        """The free dynamics, the threshold, the jump and the reset in closed form, or `None`, the default.

        It belongs to the model that defines it. If a subclass overrides one of the methods that it
        stands for, it no longer counts, and the subclass is solved numerically.
        """
        return None


_DESCRIBED = ("dynamics", "spike_condition", "input_spikes", "reset_spiked")


def valid_closed_form(model: NeuronModel) -> LinearFlow | None:
    """The closed form of a model, unless a subclass has changed what it describes."""
    lineage = type(model).__mro__

    def owner(name: str) -> int:
        return next(number for number, cls in enumerate(lineage) if name in vars(cls))

    if any(owner(name) < owner("closed_form") for name in _DESCRIBED):
        return None
    return model.closed_form()
