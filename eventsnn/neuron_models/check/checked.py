"""The model that is looked at, the states at which it is, and what was found."""

import functools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ...flows.base import AbstractFlow
from ..base import NeuronModel, valid_closed_form
from ..mixed import AbstractMixed
from ..parameter import per_neuron
from ..wrapper import AbstractWrapper
from .contract import Problem, failure, state_of

# How many states the methods are tried at, besides the given one.
_SAMPLES = 4


class Checked:
    """A model that is looked at, and the problems found so far.

    A method that was found broken is left out of the checks that follow.
    """

    def __init__(self, model: NeuronModel, n_neurons: int, args: Any):
        self.n, self.args = n_neurons, args
        self.problems: list[Problem] = []
        self.broken: set[str] = set()
        self.original = model
        # The engine, too, gives every neuron its own value.
        self.model = per_neuron(model, n_neurons)
        self.states: list[Array] = []
        self.flow: AbstractFlow | None = None

    def report(self, method: str, got: str, expected: str, advice: str) -> None:
        self.add(Problem(method, got, expected, advice))

    def add(self, problem: Problem) -> None:
        self.problems.append(problem)
        self.broken.add(problem.method)

    def attempt(self, method: str, function: Callable, *inputs: Any, expected: str, advice: str) -> Any:
        """What the function gives, or `None` and a problem."""
        try:
            return function(*inputs)
        except Exception as error:
            self.add(failure(method, error, expected, advice))
            return None

    def calls(self) -> dict[str, Callable[[Array], Array]]:
        """Every method that is not known to be broken, as a function of the state."""
        model, zero = self.model, jnp.zeros((self.n,), self.dtype)
        weights = self.weights()
        spiked = jnp.arange(self.n) % 2 == 0
        calls = {
            "dynamics": lambda y: model.dynamics(zero, y, self.args),
            "spike_condition": lambda y: model.spike_condition(zero, y, self.args),
            "input_spikes": lambda y: model.input_spikes(y, weights),
            "reset_spiked": lambda y: model.reset_spiked(y, spiked),
            "observe": model.observe,
        }
        return {name: call for name, call in calls.items() if name not in self.broken}

    def weights(self) -> Float[Array, "neurons *ports"]:
        """Weights as they arrive at the neurons."""
        return some_weights(self.model, self.n, self.dtype)

    @functools.cached_property
    def at_threshold(self) -> Float[Array, "states neurons channels"]:
        """The states at the threshold that are reached along the slope of the condition."""
        condition = self.calls()["spike_condition"]

        def newton(_: int, y: Array) -> Array:
            g, pull = jax.vjp(condition, y)
            (slope,) = pull(jnp.ones_like(g))
            length = jnp.sum(slope**2, axis=1)
            return y - jnp.where(length > 0, g / jnp.where(length > 0, length, 1), 0)[:, None] * slope

        return jax.jit(jax.vmap(lambda y: jax.lax.fori_loop(0, 20, newton, y)))(jnp.stack(self.states))

    def initial_state(self) -> bool:
        dtypes = {leaf.dtype for leaf in jax.tree.leaves(self.original) if eqx.is_inexact_array(leaf)}
        if len(dtypes) > 1:
            got = f"parameters have dtypes {' and '.join(sorted(map(str, dtypes)))}"
            self.report("__init__", got, "one dtype", "make every array with jnp.asarray(value, dtype)")
        found = state_of(self.original, self.n, dtypes.pop() if len(dtypes) == 1 else None)
        if isinstance(found, Problem):
            self.add(found)
            return False
        self.dtype = found.dtype
        y = self.attempt("init_state", self.model.init_state, self.n, expected="a state", advice="check its formula")
        if y is None:
            return False
        if not np.all(np.isfinite(y)):
            self.report("init_state", "there are NaN or infinite numbers in it", "finite numbers", "check its formula")
            return False
        self.y = jnp.asarray(y, self.dtype)
        self._channel_names()
        return True

    def _channel_names(self) -> None:
        channels, count = self.original.channels, self.y.shape[1]
        named = isinstance(channels, tuple) and all(isinstance(name, str) for name in channels)
        if not named or len(set(channels)) != count or len(channels) != count:
            wanted = f"a tuple of {count} different names"
            self.report("channels", f"it is {channels!r}", wanted, 'write channels = ("V", …) in the class')

    def given_state(self, y: ArrayLike | None) -> bool:
        if y is not None:
            y = jnp.asarray(y, self.dtype)
            if y.shape != self.y.shape:
                raise ValueError(f"y has shape {y.shape}, expected {self.y.shape}: one row per neuron")
            self.y = y
        return True

    def find_flow(self) -> None:
        """The closed form, if there is one."""
        self.flow = None if "closed_form" in self.broken else valid_closed_form(self.model)

    def draw_states(self, key: PRNGKeyArray) -> bool:
        """The state to look around, and random ones near and farther from it."""
        self.states = [self.y]
        for number, one in enumerate(jax.random.split(key, _SAMPLES)):
            size = 0.05 * 2.0**number * (1 + jnp.abs(self.y))
            drawn = self.y + size * jax.random.uniform(one, self.y.shape, self.dtype, -1, 1)
            self.states.append(_without_columns_of_others(self.model, drawn))
        return True


def some_weights(model: NeuronModel, n_neurons: int, dtype: Any) -> Float[Array, "neurons *ports"]:
    shape = (n_neurons, len(model.ports)) if model.ports else (n_neurons,)
    return jnp.linspace(0.1, 0.2, math.prod(shape), dtype=dtype).reshape(shape)


def guess_neurons(model: NeuronModel) -> int:
    parts = jax.tree.leaves(model, is_leaf=lambda leaf: isinstance(leaf, AbstractMixed))
    mixtures = [part for part in parts if isinstance(part, AbstractMixed)]
    if mixtures:
        return sum(mixtures[0].sizes)
    sizes = Counter(leaf.shape[0] for leaf in jax.tree.leaves(model) if eqx.is_array(leaf) and leaf.ndim)
    return sizes.most_common(1)[0][0] if sizes else 3


def _without_columns_of_others(model: NeuronModel, y: Array) -> Array:
    """The state with 0 where a mixture has a column that belongs to other neurons only, as it always is."""
    if isinstance(model, AbstractMixed):
        return model.joined(model.each(y, _without_columns_of_others))
    if isinstance(model, AbstractWrapper):
        inside, own = model.split(y)
        return model.join(_without_columns_of_others(model.neuron, inside), own)
    return y


def close(a: Array, b: Array) -> bool:
    rounding = 64 * float(jnp.finfo(a.dtype).eps)
    return np.allclose(a, b, rtol=rounding, atol=rounding, equal_nan=True)


def close_rows(a: Array, b: Array) -> np.ndarray:
    """Which entries are the same but for rounding."""
    rounding = 64 * float(jnp.finfo(a.dtype).eps)
    return np.isclose(a, b, rtol=rounding, atol=rounding)


def row_of(y: Array, bad: Any) -> str:
    """The state of the first neuron for which `bad` is true or not finite."""
    bad = np.asarray(bad)
    if bad.dtype != bool:
        bad = ~np.isfinite(bad)
    return str(np.asarray(y)[np.flatnonzero(np.any(np.reshape(bad, (len(y), -1)), axis=1))[0]])
