"""Several models in one layer."""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..flows.base import AbstractFlow
from ..flows.exponentials import AbstractExponentialFlow
from ..flows.linear import LinearFlow
from ..flows.rules import LinearRules
from ..flows.systems import SystemRules, system_of
from .base import NeuronModel, is_plain, native_rules, resets, valid_closed_form
from .declared import MadeBy, constructor_with, keywords_of
from .parameter import Parameter, per_neuron


class AbstractMixed(NeuronModel):
    """A layer in which some neurons follow one model and some another; made by `Mixed`.

    - `parts`: the neurons of each model.
    - `which`: to which of the parts each neuron belongs; `None` unless every part has numbers for all neurons of the
        layer, as the engine wants them.
    """

    models: ClassVar[tuple[type[NeuronModel], ...]]
    sizes: ClassVar[tuple[int, ...]]
    keywords: ClassVar[tuple[dict[str, Any], ...]]
    made_by: ClassVar[MadeBy]

    parts: tuple[NeuronModel, ...]
    which: Parameter | None

    def __init__(self, n_neurons: int, *, dtype=jnp.float32, key=None, **keywords: Any):
        """**Arguments:** those of the models; each takes the ones that it knows."""
        if n_neurons != sum(self.sizes):
            sizes = " + ".join(map(str, self.sizes))
            raise ValueError(
                f"the layer has {n_neurons} neurons, expected {sizes} = {sum(self.sizes)} for this mixture"
            )
        names = keywords.pop("trainable", ())
        names = (names,) if isinstance(names, str) else tuple(names)
        keys = [None] * len(self.sizes) if key is None else list(jax.random.split(key, len(self.sizes)))
        parts = []
        for model, size, own, one in zip(self.models, self.sizes, self.keywords, keys, strict=True):
            known = keywords_of(model)
            given = {name: value for name, value in keywords.items() if name in known} | own
            chosen = tuple(name for name in names if name in known)
            given |= {"trainable": chosen} if chosen else {}
            build: Any = model
            parts.append(build(size, dtype=dtype, key=one, **given))
        self.parts, self.which = tuple(parts), None
        for part in parts:
            if part.breakpoints() is not None:
                raise ValueError("a part has breakpoints: wrap the mixture, as in WithBiasCurrent(Mixed(...))")

    def per_neuron(self, n_neurons: int) -> Self:
        """The same neurons, with numbers of every part for all of them: rows of others are never looked at."""
        if self.which is not None:
            return self
        spread, start = [], 0
        for part, size in zip(self.parts, self.sizes, strict=True):
            row = jnp.clip(jnp.arange(n_neurons, dtype=jnp.int32) - start, 0, size - 1)
            numbers, rest = eqx.partition(per_neuron(part, size), eqx.is_array)
            spread.append(eqx.combine(jax.tree.map(lambda leaf, row=row: leaf[row], numbers), rest))
            start += size
        which = jnp.asarray(
            np.repeat(np.arange(len(spread)), self.sizes), self.parts[0].init_state(self.sizes[0]).dtype
        )
        mixed: Any = eqx.tree_at(lambda model: model.parts, self, tuple(spread))
        return eqx.tree_at(lambda model: model.which, mixed, Parameter(which), is_leaf=lambda leaf: leaf is None)

    def init_state(self, n_neurons: int) -> Float[Array, "neurons channels"]:
        model = self.per_neuron(n_neurons)
        return model.joined([part.init_state(n_neurons) for part in model.parts])

    def dynamics(self, t, y, args: Any) -> Float[Array, "neurons channels"]:
        model = self.per_neuron(y.shape[0])
        return model.joined(model.each(y, lambda part, own: part.dynamics(t, own, args)))

    def spike_condition(self, t, y, args: Any) -> Float[Array, " neurons"]:
        model = self.per_neuron(y.shape[0])
        return model.chosen(model.each(y, lambda part, own: part.spike_condition(t, own, args)))

    def input_spikes(self, y, weights: Float[Array, "neurons *ports"]) -> Float[Array, "neurons channels"]:
        model = self.per_neuron(y.shape[0])
        return model.joined(model.each(y, lambda part, own: part.input_spikes(own, weights)))

    def reset_spiked(self, y, spiked: Bool[Array, " neurons"]) -> Float[Array, "neurons channels"]:
        model = self.per_neuron(y.shape[0])
        return model.joined(model.each(y, lambda part, own: part.reset_spiked(own, spiked)))

    def observe(self, y) -> Float[Array, "neurons channels"]:
        model = self.per_neuron(y.shape[0])
        return model.joined(model.each(y, lambda part, own: part.observe(own)))

    def emits(self, y) -> Bool[Array, " neurons"] | None:
        model = self.per_neuron(y.shape[0])
        emits = model.each(y, lambda part, own: part.emits(own))
        if all(one is None for one in emits):
            return None
        return model.chosen([jnp.ones(y.shape[0], bool) if one is None else one for one in emits])

    def spike_values(self) -> Float[Array, "*neurons"] | None:
        model = self.per_neuron(sum(self.sizes))
        values = [part.spike_values() for part in model.parts]
        known = [value for value in values if value is not None]
        if not known:
            return None
        one = jnp.ones(sum(self.sizes), known[0].dtype)
        return model.chosen([one if value is None else one * value for value in values])

    def with_current(self, current: Float[Array, "*neurons"]) -> Self:
        model = self.per_neuron(sum(self.sizes))
        parts = tuple(part.with_current(current) for part in model.parts)
        return eqx.tree_at(lambda model: model.parts, model, parts)

    def closed_form(self) -> AbstractFlow | None:
        if any(valid_closed_form(part) is None for part in self.parts):
            return None
        return _MixedFlow(self.per_neuron(sum(self.sizes)))

    def each(self, y: Float[Array, "neurons channels"], call: Callable[[NeuronModel, Array], Any]) -> list[Any]:
        """What every part says of its own channels. The rows of others hold its initial state, where it is at home."""
        states = [
            jnp.where(self._of_part(k)[:, None], y[:, self._columns(k)], part.init_state(y.shape[0]))
            for k, part in enumerate(self.parts)
        ]
        return [call(part, state) for part, state in zip(self.parts, states, strict=True)]

    def joined(self, outs: list[Array]) -> Float[Array, "neurons channels"]:
        """Each neuron's row from its own part, with 0 in the channels that it does not have."""
        full = [jnp.zeros((out.shape[0], len(self.channels)), out.dtype) for out in outs]
        return self.chosen([zero.at[:, self._columns(k)].set(outs[k]) for k, zero in enumerate(full)])

    def chosen(self, outs: list[Array]) -> Array:
        """Each neuron's row from what its own part gives."""
        chosen = outs[0]
        for k, out in enumerate(outs[1:], start=1):
            mask = self._of_part(k)
            chosen = jnp.where(mask.reshape(-1, *[1] * (out.ndim - 1)), out, chosen)
        return chosen

    def _of_part(self, k: int) -> Bool[Array, " neurons"]:
        assert self.which is not None
        return self.which.value == k

    def _columns(self, k: int) -> np.ndarray:
        return np.array([self.channels.index(name) for name in self.models[k].channels])


class _MixedFlow(AbstractFlow):
    """The flow of a layer all of whose parts have one."""

    model: AbstractMixed

    def after(self, y: Float[Array, "neurons channels"], dt: Float[Array, " neurons"]) -> Array:
        return self.model.joined(self.model.each(y, lambda part, own: _flow_of(part).after(own, dt)))

    def first_crossing(self, y, dt, resolution) -> Float[Array, " neurons"]:
        def crossing(part: NeuronModel, own: Array) -> Array:
            return _flow_of(part).first_crossing(own, dt, resolution)

        return self.model.chosen(self.model.each(y, crossing))

    def may_cross(self, y, y_end, dt) -> Bool[Array, " neurons"]:
        starts, ends = (self.model.each(state, lambda part, own: own) for state in (y, y_end))
        parts = zip(self.model.parts, starts, ends, strict=True)
        return self.model.chosen([_flow_of(part).may_cross(start, end, dt) for part, start, end in parts])

    def rules(self, n_neurons: int) -> LinearRules | None:
        parts, start = [], 0
        for part, size in zip(self.model.parts, self.model.sizes, strict=True):
            rules = native_rules(part, n_neurons)
            if rules is None or any(column not in ("V", "I") for column in rules.columns):
                return None
            own = slice(start, start + size)
            parts.append(jax.tree.map(lambda number, own=own: number[own], rules))
            start += size
        flags: dict[str, Any] = {
            name: tuple(
                flag for part, size in zip(parts, self.model.sizes, strict=True) for flag in getattr(part, name)[:size]
            )
            for name in ("jumps", "spikes", "once", "holds_v", "holds_i", "blocks")
        }
        numbers: dict[str, Any] = {
            name: jnp.concatenate([getattr(part, name) for part in parts])
            for name in ("leak", "coupling", "decay", "drive", "thresh", "vreset", "tref")
        }
        columns = max((part.columns for part in parts), key=len)
        return LinearRules(**numbers, **flags, columns=columns)

    def system(self, model: Any, n_neurons: int) -> SystemRules | None:
        if not all(_is_system(part) for part in self.model.parts):
            return None
        return system_of(self.model, n_neurons)


def _is_system(part: NeuronModel) -> bool:
    """Whether a part is linear, without any wrapper, and reset when it spikes, if it does."""
    flow = _flow_of(part)
    silent = isinstance(flow, LinearFlow) and flow.thresh is None
    linear = isinstance(flow, AbstractExponentialFlow) and flow.jumps_are_linear()
    return linear and is_plain(part) and (silent or resets(part))


def _flow_of(part: NeuronModel) -> AbstractFlow:
    flow = valid_closed_form(part)
    assert flow is not None
    return flow


def Mixed(*parts: tuple[Any, ...]) -> type[NeuronModel]:
    """Several models in one layer: `Mixed((LIF, 80), (QIF, 20))` for a layer of 100 neurons.

    Each part is a class of neuron models, the number of its neurons, and, if wanted, a dictionary with keywords for
    it alone: `(LIF, 80, {"tmem": 10.0})`. Keywords of the network go to all parts that know them. Channels of the same
    name share a column of `state_at_t`; a column that a neuron does not have is 0. All parts are computed for
    all neurons, so that a mixture of two takes about twice the time of one. Call it once and keep what it gives:
    networks of another call are compiled again.

    **Raises:** `TypeError` for a part that is none, `ValueError` for sizes that do not add up or ports that differ.
    """
    models: list[type[NeuronModel]] = []
    sizes: list[int] = []
    keywords: list[dict[str, Any]] = []
    for number, part in enumerate(parts):
        if not (isinstance(part, tuple) and len(part) in (2, 3) and inspect.isclass(part[0])):
            raise TypeError(f"part {number} is {part!r}, expected (model, number of neurons) or with keywords as well")
        model, size, own = part if len(part) == 3 else (*part, {})
        if not issubclass(model, NeuronModel) or isinstance(size, bool) or int(size) != size or size < 1:
            raise TypeError(f"part {number} is {part!r}, expected a class of neuron models and a number of neurons")
        models.append(model)
        sizes.append(int(size))
        keywords.append(dict(own))
    if not models:
        raise TypeError("there are no parts, expected at least one (model, number of neurons)")
    if len({model.ports for model in models}) > 1:
        names = " and ".join(f"{model.__name__} has {model.ports or 'none'}" for model in models)
        raise ValueError(f"the ports of the parts differ: {names}; expected the same, since weights have one shape")
    name = f"Mixed({', '.join(model.__name__ for model in models)})"
    known = set().union(*map(keywords_of, models)) - {"self", "n_neurons"}
    metaclass: Any = type(AbstractMixed)
    return metaclass(
        name,
        (AbstractMixed,),
        {
            "models": tuple(models),
            "sizes": tuple(sizes),
            "keywords": tuple(keywords),
            "made_by": MadeBy("Mixed", tuple(models), {"sizes": sizes}),
            "channels": tuple(dict.fromkeys(channel for model in models for channel in model.channels)),
            "ports": models[0].ports,
            "__init__": constructor_with(AbstractMixed.__init__, dict.fromkeys(sorted(known), inspect.Parameter.empty)),
            "__module__": __name__,
            "__qualname__": name,
            "__doc__": f"A layer with several models, {', '.join(model.__name__ for model in models)}.",
        },
    )
