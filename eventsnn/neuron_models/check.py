"""Does a neuron model keep the contract? For people who write their own."""

import inspect
import itertools
import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from .base import NeuronModel
from .mixed import AbstractMixed
from .parameter import per_neuron

# How many states the methods are tried at, besides the given one.
_SAMPLES = 4


def check_neuron_model(
    model: NeuronModel,
    n_neurons: int | None = None,
    *,
    y: Float[ArrayLike, "neurons channels"] | None = None,
    args: Any = None,
    key: PRNGKeyArray | None = None,
) -> None:
    """Tell in plain words which parts of the contract of `NeuronModel` a model breaks.

    The methods are called as the engine calls them, at the initial state and at random states
    near it. A pass is no proof: only a few states are looked at.

    **Arguments:**

    - `model`: an instance, such as `MyNeuron(3)`. Best with three neurons or so: with one neuron
        nothing can be said about rows that depend on each other.
    - `n_neurons`: how many neurons it was built for; by default what its arrays tell, or 3.
    - `y`: a state to look around, by default the initial one. Give one where the model is at
        home if the initial state is a special place.
    - `args`: passed to the methods.
    - `key`: for the random states, by default always the same.

    **Raises:** `ValueError` with all problems, each with what was found, what is expected, and what
    to do; `TypeError` if `model` is not an instance of a `NeuronModel`.
    """
    if inspect.isclass(model):
        raise TypeError(f"model is the class {model.__name__}, expected an instance: pass {model.__name__}(3)")
    if not isinstance(model, NeuronModel):
        raise TypeError(f"model is {model!r}, expected an instance of a subclass of NeuronModel")
    check = _Check(model, guess_neurons(model) if n_neurons is None else n_neurons, args)
    key = jax.random.PRNGKey(0) if key is None else key
    if check.initial_state() and check.given_state(y) and check.draw_states(key):
        check.shapes()
        check.time_per_neuron()
        check.transformable()
        check.rows()
        check.unspiked_rows()
        check.arrivals()
        check.other_methods()
        check.differentiable()
        check.condition_slope()
        check.reset_below_threshold()
    if check.problems:
        name = type(model).__name__
        places = "1 place" if len(check.problems) == 1 else f"{len(check.problems)} places"
        listed = "".join(f"\n- {problem}" for problem in check.problems)
        raise ValueError(f"{name} breaks the contract of a neuron model in {places}:{listed}")


class _Check:
    """The problems found so far. A method that was found broken is left out of the checks that follow."""

    def __init__(self, model: NeuronModel, n_neurons: int, args: Any):
        self.n, self.args = n_neurons, args
        self.problems: list[str] = []
        self.broken: set[str] = set()
        self.original = model
        # The engine, too, gives every neuron its own value.
        self.model = per_neuron(model, n_neurons)
        self.states: list[Array] = []

    def report(self, method: str, got: str, expected: str, advice: str) -> None:
        self.problems.append(f"{method}: {got}; expected {expected}: {advice}")
        self.broken.add(method)

    def attempt(self, method: str, function: Callable, *inputs: Any, expected: str, advice: str) -> Any:
        """What the function gives, or `None` and a problem."""
        try:
            return function(*inputs)
        except Exception as error:
            message = (str(error).strip() or "no message").splitlines()[0]
            self.report(method, f"{type(error).__name__}: {message}", expected, advice)
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
        shape = (self.n, len(self.model.ports)) if self.model.ports else (self.n,)
        return jnp.linspace(0.1, 0.2, math.prod(shape), dtype=self.dtype).reshape(shape)

    def initial_state(self) -> bool:
        dtypes = {leaf.dtype for leaf in jax.tree.leaves(self.original) if eqx.is_inexact_array(leaf)}
        if len(dtypes) > 1:
            got = f"parameters have dtypes {' and '.join(sorted(map(str, dtypes)))}"
            self.report("__init__", got, "one dtype", "make every array with jnp.asarray(value, dtype)")
        advice = "return one row per neuron and one column per channel"
        shape = f"an array of shape ({self.n}, channels)"
        y = self.attempt("init_state", self.original.init_state, self.n, expected=shape, advice=advice)
        if y is None and "init_state" in self.broken:
            return False
        if not isinstance(y, (jax.Array, np.ndarray)):
            self.report("init_state", f"it gives {_describe(y)}", shape, advice)
            return False
        if y.ndim != 2 or y.shape[0] != self.n or y.shape[1] == 0:
            self.report("init_state", f"the shape is {y.shape}", shape, advice)
            return False
        self.dtype = dtypes.pop() if len(dtypes) == 1 else y.dtype
        if y.dtype != self.dtype or not jnp.issubdtype(y.dtype, jnp.floating):
            wanted = f"{self.dtype}, as its parameters" if jnp.issubdtype(self.dtype, jnp.floating) else "floats"
            self.report("init_state", f"the dtype is {y.dtype}", wanted, "make it with jnp.asarray(…, dtype)")
            return False
        if not np.all(np.isfinite(y)):
            self.report("init_state", "there are NaN or infinite numbers in it", "finite numbers", "check its formula")
            return False
        self.y = jnp.asarray(y)
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

    def draw_states(self, key: PRNGKeyArray) -> bool:
        """The state to look around, and random ones near and farther from it."""
        self.states = [self.y]
        for number, one in enumerate(jax.random.split(key, _SAMPLES)):
            size = 0.05 * 2.0**number * (1 + jnp.abs(self.y))
            self.states.append(self.y + size * jax.random.uniform(one, self.y.shape, self.dtype, -1, 1))
        return True

    def shapes(self) -> None:
        for name, call in self.calls().items():
            shape = (self.n,) if name == "spike_condition" else self.y.shape
            rows = "one number per neuron" if name == "spike_condition" else "the shape of the state"
            expected = f"an array of shape {shape}"
            out = self.attempt(
                name, call, self.y, expected=expected, advice="see NeuronModel for what it is called with"
            )
            if name in self.broken:
                continue
            if not isinstance(out, (jax.Array, np.ndarray)):
                self.report(name, f"it gives {_describe(out)}", expected, "return a jax.numpy array")
            elif name == "observe" and (out.ndim != 2 or out.shape[0] != self.n):
                self.report(name, f"the shape is {out.shape}", f"({self.n}, channels)", "return one row per neuron")
            elif name != "observe" and out.shape != shape:
                self.report(name, f"the shape is {out.shape}", f"{shape}", f"return {rows}")
            elif out.dtype != self.dtype:
                advice = "a condition is a difference such as V - thresh, not a comparison"
                if out.dtype != bool:
                    advice = "look for a number made without dtype, or with NumPy"
                self.report(name, f"the dtype is {out.dtype}", f"{self.dtype}, as the state", advice)
            elif name != "observe" and not np.all(np.isfinite(out)):
                got = f"there are NaN or infinite numbers for the state {_row(self.y, out)}"
                self.report(name, got, "finite numbers", "check its formula, or pass a y at which it holds")

    def time_per_neuron(self) -> None:
        """`t` may be a scalar or one per neuron."""
        for name in ("dynamics", "spike_condition"):
            if name in self.broken:
                continue
            method = getattr(self.model, name)
            expected, advice = "the same with a scalar t as with one t per neuron", "let t broadcast against y[:, 0]"
            times = (jnp.asarray(0.7, self.dtype), jnp.full((self.n,), 0.7, self.dtype))
            outs = [
                self.attempt(name, method, t, self.y, self.args, expected=expected, advice=advice)
                for t in times
                if name not in self.broken
            ]
            if name not in self.broken and not (outs[0].shape == outs[1].shape and _close(outs[0], outs[1])):
                self.report(name, "it differs between t = 0.7 and t = 0.7 for each neuron", expected, advice)

    def transformable(self) -> None:
        advice = "use jax.numpy throughout, and jnp.where in the place of if"
        batch = jnp.stack(self.states)
        for name, call in self.calls().items():
            trace = partial(jax.eval_shape, jax.vmap(call))
            self.attempt(name, trace, batch, expected="that it works under jax.jit", advice=advice)

    def rows(self) -> None:
        """What a method gives for one neuron must not change with the state of another."""
        if self.n < 2:
            return
        first, second = self.states[0], self.states[-1]
        for (name, call), row in itertools.product(self.calls().items(), range(self.n)):
            others = jnp.arange(self.n) != row
            before, after = call(first)[others], call(first.at[row].set(second[row]))[others]
            if name not in self.broken and not _close(before, after):
                where = np.flatnonzero(np.any(np.reshape(before != after, (self.n - 1, -1)), axis=1))[0]
                got = f"row {np.flatnonzero(others)[where]} changes with the state of neuron {row}"
                self.report(name, got, "rows that are independent", "neurons meet through spikes alone: no sum over y")

    def unspiked_rows(self) -> None:
        """Whoever else spikes."""
        numbers = jnp.arange(self.n)
        for y, spiked in itertools.product(self.states, (numbers < 0, numbers % 2 == 0, numbers % 2 == 1)):
            if "reset_spiked" in self.broken:
                return
            after = self.model.reset_spiked(y, spiked)
            changed = np.any(after != y, axis=1) & ~np.asarray(spiked)
            if changed.any():
                got = f"a neuron that did not spike goes from {_row(y, changed)} to {_row(after, changed)}"
                advice = "use jnp.where(spiked, …, y[:, 0])"
                self.report("reset_spiked", got, "that it keeps its state", advice)

    def arrivals(self) -> None:
        """A spike of weight 0, which is what a masked connection gives, changes nothing; and no order matters."""
        if "input_spikes" in self.broken:
            return
        one = self.weights()
        two = one[::-1] * 1.5
        for y in self.states:
            nothing = self.model.input_spikes(y, jnp.zeros_like(one))
            if not _close(nothing, y):
                got = f"a spike of weight 0 takes the state {_row(y, np.any(nothing != y, axis=1))} to another"
                advice = "neurons without a connection are called with weight 0: let the jump be 0 as well"
                self.report("input_spikes", got, "that it stays", advice)
                return
            forth, back = (
                self.model.input_spikes(self.model.input_spikes(y, a), b) for a, b in ((one, two), (two, one))
            )
            if not np.allclose(forth, back, rtol=1e-4, atol=1e-6, equal_nan=True):
                got = f"two spikes at one instant give another state in another order at {_row(y, forth != back)}"
                advice = "let each spike add what does not depend on those before it"
                self.report("input_spikes", got, "the same in any order", advice)
                return

    def other_methods(self) -> None:
        """Those that most models leave alone give what the engine reads."""
        per_neuron = f"a scalar or shape ({self.n},)"
        calls: dict[str, tuple[Callable[[], Any], Callable[[Any], bool], str]] = {
            "emits": (lambda: self.model.emits(self.y), lambda x: x.shape == (self.n,) and x.dtype == bool, "booleans"),
            "spike_values": (self.model.spike_values, lambda x: x.shape in ((), (self.n,)), per_neuron),
            "breakpoints": (self.model.breakpoints, lambda x: x.ndim in (1, 2), "shape (times,) or (neurons, times)"),
            "pass_breakpoint": (
                lambda: self.model.pass_breakpoint(self.y),
                lambda x: x.shape == self.y.shape,
                f"the shape of the state, {self.y.shape}",
            ),
        }
        for name, (call, fits, expected) in calls.items():
            out = self.attempt(name, call, expected=expected, advice="see NeuronModel for what it gives")
            if out is None:
                continue
            if not isinstance(out, (jax.Array, np.ndarray)):
                self.report(name, f"it gives {_describe(out)}", expected, "return a jax.numpy array")
            elif not fits(out):
                got = f"the shape is {out.shape} and the dtype {out.dtype}"
                self.report(name, got, expected, "return one for each neuron")

    def differentiable(self) -> None:
        advice = "avoid what has no derivative there, such as sqrt at 0 or a division by 0"
        for name, call in self.calls().items():
            if name == "observe":
                continue
            expected = "a finite derivative"
            for y in self.states:
                # Backwards, as the gradients of a run are made.
                pair = self.attempt(name, jax.vjp, call, y, expected=expected, advice=advice)
                if pair is None:
                    break
                out, pull = pair
                (slope,) = pull(jnp.ones_like(out))
                if np.all(np.isfinite(out)) and not np.all(np.isfinite(slope)):
                    self.report(name, f"its derivative is not finite at {_row(y, slope)}", expected, advice)
                    break

    def condition_slope(self) -> None:
        """JAX's derivative of the condition is what differences say, and not 0 everywhere."""
        condition = self.calls().get("spike_condition")
        if condition is None:
            return
        slopes = [jax.grad(lambda y, call=condition: jnp.sum(call(y)))(y) for y in self.states]
        flat = np.all(np.array(slopes) == 0, axis=(0, 2))
        advice = "use a smooth difference such as V - thresh, without a comparison, sign, round or stop_gradient"
        if flat.any():
            got = f"its derivative is 0 for neuron {np.flatnonzero(flat)[0]} at every state that was tried"
            self.report("spike_condition", got, "that it rises towards 0 as the neuron nears its spike", advice)
            return
        step = float(jnp.finfo(self.dtype).eps) ** (1 / 3)
        for y, slope in zip(self.states[1:], slopes[1:], strict=True):
            h = step * (1 + jnp.abs(y))
            difference = (condition(y + h) - condition(y - h)) / 2
            predicted = jnp.sum(slope * h, axis=1)
            scale = jnp.sum(jnp.abs(slope) * h, axis=1) + jnp.abs(difference)
            wrong = np.asarray(jnp.abs(difference - predicted) > 0.05 * scale)
            if wrong.any():
                k = np.flatnonzero(wrong)[0]
                told = f"{difference[k]:.3g} where its derivative says {predicted[k]:.3g}"
                got = f"near {_row(y, wrong)} it changes by {told}"
                self.report("spike_condition", got, "a derivative that agrees with differences", advice)
                return

    def reset_below_threshold(self) -> None:
        """Walk to the threshold along the slope of the condition, spike, and look again."""
        condition = self.calls().get("spike_condition")
        if condition is None or "reset_spiked" in self.broken:
            return

        @jax.jit
        def to_threshold(y):
            def newton(_, y):
                g, pull = jax.vjp(condition, y)
                (slope,) = pull(jnp.ones_like(g))
                length = jnp.sum(slope**2, axis=1)
                return y - jnp.where(length > 0, g / jnp.where(length > 0, length, 1), 0)[:, None] * slope

            return jax.lax.fori_loop(0, 20, newton, y)

        for y in map(to_threshold, self.states):
            at_threshold = np.abs(condition(y)) < 1e-3
            after = condition(self.model.reset_spiked(y, jnp.ones((self.n,), bool)))
            high = at_threshold & ~np.asarray(after < 0)
            if high.any():
                neuron = np.flatnonzero(high)[0]
                where = f"from {_row(y, high)} at threshold neuron {neuron}"
                got = f"{where} goes on with spike_condition = {after[neuron]:.3g}"
                advice = "it would spike again at once and forever: reset below the threshold"
                self.report("reset_spiked", got, "a number below 0", advice)
                return


def guess_neurons(model: NeuronModel) -> int:
    parts = jax.tree.leaves(model, is_leaf=lambda leaf: isinstance(leaf, AbstractMixed))
    mixtures = [part for part in parts if isinstance(part, AbstractMixed)]
    if mixtures:
        return sum(mixtures[0].sizes)
    sizes = Counter(leaf.shape[0] for leaf in jax.tree.leaves(model) if eqx.is_array(leaf) and leaf.ndim)
    return sizes.most_common(1)[0][0] if sizes else 3


def _close(a: Array, b: Array) -> bool:
    rounding = 64 * float(jnp.finfo(a.dtype).eps)
    return np.allclose(a, b, rtol=rounding, atol=rounding, equal_nan=True)


def _row(y: Array, bad: Any) -> str:
    """The state of the first neuron for which `bad` is true or not finite."""
    bad = np.asarray(bad)
    if bad.dtype != bool:
        bad = ~np.isfinite(bad)
    return str(np.asarray(y)[np.flatnonzero(np.any(np.reshape(bad, (len(y), -1)), axis=1))[0]])


def _describe(value: Any) -> str:
    return f"a {type(value).__name__}" if value is not None else "None"
