"""What the methods of a model give when its parameters move, along paths through time and through states."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..base import NeuronModel
from ..currents import AbstractCurrent
from ..mixed import AbstractMixed
from ..parameter import Parameter, frozen, per_neuron, trainable
from .checked import Checked, some_weights

# How many points a path has, and how far beyond twice the parameter a path through time goes, in ms.
_POINTS, _BEYOND = 256, 10.0

# At how many points the methods are evaluated at once. One size means one program.
_CHUNK = 1024

METHODS: dict[str, Callable[[NeuronModel, Any, Array, Array], Array]] = {
    "dynamics": lambda model, args, t, y: model.dynamics(t, y, args),
    "spike_condition": lambda model, args, t, y: model.spike_condition(t, y, args),
    "input_spikes": lambda model, args, t, y: model.input_spikes(y, some_weights(model, y.shape[0], y.dtype)),
    "reset_spiked": lambda model, args, t, y: model.reset_spiked(y, jnp.ones(y.shape[0], bool)),
    "pass_breakpoint": lambda model, args, t, y: model.pass_breakpoint(y),
    "breakpoints": lambda model, args, t, y: _each(model.breakpoints(), y.shape[0]),
    "init_state": lambda model, args, t, y: model.init_state(y.shape[0]),
}

# Between events these have no jump, and what they say above the threshold is never read. The others are events.
BETWEEN_EVENTS = ("dynamics", "spike_condition")


def _each(times: Array | None, n_neurons: int) -> Array:
    """The same for every neuron where there is one for all."""
    assert times is not None
    return jnp.broadcast_to(times, (n_neurons, times.shape[-1]))


class Moved(NamedTuple):
    """What a method gives along all paths for one position of the parameters.

    Axes are for the parameter that has moved, the path, the point on it, the neuron, and the component of the result.

    - `value`: of the method, and `slope` its derivative by the step of the parameter.
    """

    value: np.ndarray
    slope: np.ndarray


class Moving:
    """A model whose parameters move, one at a time, by multiples of a step that is small for each of them.

    - `parameters`: their names.
    - `methods`: the names of the methods that are looked at.
    - `times`, `states`: the paths, with the axes of `Moved`. The first `n_still` go through time and stay in one state.
    """

    def __init__(self, checked: Checked):
        model = per_neuron(_all_trainable(checked.original), checked.n)
        self._args, self._dtype = checked.args, checked.dtype
        self._arrays, self._rest = eqx.partition(model, eqx.is_inexact_array)
        names = [name for name in METHODS if name not in checked.broken]
        stops = model.breakpoints() is not None
        self.methods = tuple(name for name in names if stops or "breakpoint" not in name)
        ends = self._choose(model)
        still, lines = _states(checked)
        self.n_still = len(still)
        paths = np.concatenate([np.broadcast_to(still[:, None], (len(still), *lines.shape[1:])), lines])
        self.states = np.broadcast_to(paths, (len(ends), *paths.shape))
        times = np.multiply.outer(ends, np.linspace(0, 1, _POINTS)).astype(self._dtype)
        through_time = np.arange(len(paths))[:, None] < self.n_still
        times = np.where(through_time, times[:, None], 0).astype(self._dtype)
        self.times = np.broadcast_to(times[..., None], self.states.shape[:-1])

    def _choose(self, model: NeuronModel) -> np.ndarray:
        """Choose the parameters and their steps, and how far the paths through time go for each."""
        leaves, structure = jax.tree_util.tree_flatten_with_path(self._arrays)
        marks = zip(jax.tree.leaves(model), jax.tree.leaves(_marks(model)), strict=True)
        chosen = [
            place for place, mark in enumerate(mark for leaf, mark in marks if eqx.is_inexact_array(leaf)) if mark
        ]
        steps = [np.zeros((len(chosen), *leaf.shape), self._dtype) for _, leaf in leaves]
        ends = np.zeros(len(chosen))
        for number, place in enumerate(chosen):
            value = np.abs(np.asarray(leaves[place][1]))
            ends[number] = 2 * np.max(value, initial=0) + _BEYOND
            # Several points of the path. A parameter that is not 0 keeps its sign: most have no other.
            steps[place][number] = np.minimum(4 * ends[number] / _POINTS, np.where(value == 0, np.inf, 0.5 * value))
        names = (jax.tree_util.keystr(leaves[place][0]).removesuffix(".value").split(".")[-1] for place in chosen)
        self.parameters, self._steps = tuple(names), jax.tree.unflatten(structure, steps)
        self._sizes = [step.reshape(*step.shape[:2], -1).max(axis=2) for step in steps]
        return ends

    def step(self, number: int, neuron: int) -> float:
        """The step of a parameter."""
        return max(float(size[number, neuron]) for size in self._sizes)

    def along_paths(self, by: float) -> dict[str, Moved]:
        """All methods along all paths when each parameter in turn has moved `by` steps."""
        shape = self.times.shape
        number = np.broadcast_to(np.arange(shape[0])[:, None, None], shape[:3])
        found = self.at(number, np.full(shape, by, self._dtype), self.times, self.states)
        return {name: Moved(out[..., 0, :], out[..., 1, :]) for name, out in found.items()}

    def at(self, number: np.ndarray, by: np.ndarray, t: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        """All methods at some points, each with the number of its parameter and by how many steps that has moved.

        Results have one more axis for the value and the derivative, before the one for the components.
        """
        front = number.shape
        given = (x.reshape(-1, *x.shape[len(front) :]) for x in (number, by, t, y))
        parts = [self._chunk(*part) for part in zip(*map(_chunks, given), strict=True)]
        joined = {name: np.concatenate([part[name] for part in parts])[: number.size] for name in self.methods}
        return {name: out.reshape(*front, *out.shape[1:]) for name, out in joined.items()}

    def _chunk(self, number: np.ndarray, by: np.ndarray, t: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        def move(leaf: Array, step: np.ndarray) -> np.ndarray:
            return np.asarray(leaf) + by.reshape(*by.shape, *[1] * (leaf.ndim - 1)) * step

        steps = jax.tree.map(lambda step: step[number], self._steps)
        moved = jax.tree.map(move, self._arrays, steps)
        return jax.tree.map(
            np.asarray, _evaluate(self.methods, self._rest, self._args, moved, steps, *map(jnp.asarray, (t, y)))
        )


def _chunks(x: np.ndarray) -> list[np.ndarray]:
    padded = np.concatenate([x, np.repeat(x[-1:], -len(x) % _CHUNK, axis=0)])
    return np.split(padded, len(padded) // _CHUNK)


@eqx.filter_jit
def _evaluate(
    names: tuple[str, ...], rest: PyTree, args: Any, arrays: PyTree, steps: PyTree, t: Array, y: Array
) -> dict[str, Float[Array, "points neurons two out"]]:
    def at(arrays: PyTree, steps: PyTree, t: Array, y: Array) -> dict[str, Array]:
        def methods(arrays: PyTree) -> dict[str, Array]:
            # What is fixed need not have a derivative.
            model = frozen(eqx.combine(arrays, rest))
            return {name: METHODS[name](model, args, t, y).reshape(y.shape[0], -1) for name in names}

        values, slopes = jax.jvp(methods, (arrays,), (steps,))
        return {name: jnp.stack([values[name], slopes[name]], axis=1) for name in names}

    return jax.vmap(at)(arrays, steps, t, y)


def _all_trainable(model: NeuronModel) -> NeuronModel:
    """The model with a gradient to all parameters, also those that are fixed so far."""

    def freed(leaf: Any) -> Any:
        return Parameter(leaf.value, True, leaf.bounds) if isinstance(leaf, Parameter) else leaf

    return jax.tree.map(freed, model, is_leaf=lambda leaf: isinstance(leaf, Parameter | AbstractCurrent))


def _marks(model: PyTree) -> PyTree:
    """Which arrays are moved: not the fixed ones of currents, and not what tells the parts of a mixture apart."""

    def mark(node: Any) -> Any:
        if isinstance(node, AbstractMixed):
            none = jax.tree.map(lambda _: False, node)
            return eqx.tree_at(lambda mixed: mixed.parts, none, tuple(map(_marks, node.parts)))
        return trainable(node) if isinstance(node, AbstractCurrent) else eqx.is_inexact_array(node)

    return jax.tree.map(mark, model, is_leaf=lambda node: isinstance(node, AbstractMixed | AbstractCurrent))


def _states(checked: Checked) -> tuple[np.ndarray, np.ndarray]:
    """States for paths through time, and paths through states, to the threshold and elsewhere."""
    model, (y, near, *_, far) = checked.model, checked.states
    still = [y, near]
    if model.breakpoints() is not None and not {"breakpoints", "pass_breakpoint"} & checked.broken:
        still += [model.pass_breakpoint(y), model.pass_breakpoint(near)]
    part = np.linspace(0, 1, _POINTS, dtype=checked.dtype)[:, None, None]
    ends = (np.asarray(y), np.asarray(checked.at_threshold[1])), (np.asarray(near), np.asarray(far))
    return np.stack(still), np.stack([a + part * (b - a) for a, b in ends])
