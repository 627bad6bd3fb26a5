"""What the methods give, alone and for each neuron."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .checked import Checked, close, describe, row_of


def shapes(checked: Checked) -> None:
    for name, call in checked.calls().items():
        shape = (checked.n,) if name == "spike_condition" else checked.y.shape
        rows = "one number per neuron" if name == "spike_condition" else "the shape of the state"
        expected = f"an array of shape {shape}"
        out = checked.attempt(
            name, call, checked.y, expected=expected, advice="see NeuronModel for what it is called with"
        )
        if name in checked.broken:
            continue
        if not isinstance(out, (jax.Array, np.ndarray)):
            checked.report(name, f"it gives {describe(out)}", expected, "return a jax.numpy array")
        elif name == "observe" and (out.ndim != 2 or out.shape[0] != checked.n):
            checked.report(name, f"the shape is {out.shape}", f"({checked.n}, channels)", "return one row per neuron")
        elif name != "observe" and out.shape != shape:
            checked.report(name, f"the shape is {out.shape}", f"{shape}", f"return {rows}")
        elif out.dtype != checked.dtype:
            advice = "a condition is a difference such as V - thresh, not a comparison"
            if out.dtype != bool:
                advice = "look for a number made without dtype, or with NumPy"
            checked.report(name, f"the dtype is {out.dtype}", f"{checked.dtype}, as the state", advice)
        elif name != "observe" and not np.all(np.isfinite(out)):
            got = f"there are NaN or infinite numbers for the state {row_of(checked.y, out)}"
            checked.report(name, got, "finite numbers", "check its formula, or pass a y at which it holds")


def time_per_neuron(checked: Checked) -> None:
    """`t` may be a scalar or one per neuron."""
    for name in ("dynamics", "spike_condition"):
        if name in checked.broken:
            continue
        method = getattr(checked.model, name)
        expected, advice = "the same with a scalar t as with one t per neuron", "let t broadcast against y[:, 0]"
        times = (jnp.asarray(0.7, checked.dtype), jnp.full((checked.n,), 0.7, checked.dtype))
        outs = [
            checked.attempt(name, method, t, checked.y, checked.args, expected=expected, advice=advice)
            for t in times
            if name not in checked.broken
        ]
        if name not in checked.broken and not (outs[0].shape == outs[1].shape and close(outs[0], outs[1])):
            checked.report(name, "it differs between t = 0.7 and t = 0.7 for each neuron", expected, advice)


def transformable(checked: Checked) -> None:
    advice = "use jax.numpy throughout, and jnp.where in the place of if"
    batch = jnp.stack(checked.states)
    for name, call in checked.calls().items():
        trace = partial(jax.eval_shape, jax.vmap(call))
        checked.attempt(name, trace, batch, expected="that it works under jax.jit", advice=advice)


def rows(checked: Checked) -> None:
    """What a method gives for one neuron must not change with the state of another."""
    if checked.n < 2:
        return
    first, second = checked.states[0], checked.states[-1]
    for (name, call), row in itertools.product(checked.calls().items(), range(checked.n)):
        others = jnp.arange(checked.n) != row
        before, after = call(first)[others], call(first.at[row].set(second[row]))[others]
        if name not in checked.broken and not close(before, after):
            where = np.flatnonzero(np.any(np.reshape(before != after, (checked.n - 1, -1)), axis=1))[0]
            got = f"row {np.flatnonzero(others)[where]} changes with the state of neuron {row}"
            checked.report(name, got, "rows that are independent", "neurons meet through spikes alone: no sum over y")


def other_methods(checked: Checked) -> None:
    """Those that most models leave alone give what the engine reads."""
    per_neuron = f"a scalar or shape ({checked.n},)"
    calls: dict[str, tuple[Callable[[], Any], Callable[[Any], bool], str]] = {
        "emits": (
            lambda: checked.model.emits(checked.y),
            lambda x: x.shape == (checked.n,) and x.dtype == bool,
            "booleans",
        ),
        "spike_values": (checked.model.spike_values, lambda x: x.shape in ((), (checked.n,)), per_neuron),
        "breakpoints": (checked.model.breakpoints, lambda x: x.ndim in (1, 2), "shape (times,) or (neurons, times)"),
        "pass_breakpoint": (
            lambda: checked.model.pass_breakpoint(checked.y),
            lambda x: x.shape == checked.y.shape,
            f"the shape of the state, {checked.y.shape}",
        ),
    }
    for name, (call, fits, expected) in calls.items():
        out = checked.attempt(name, call, expected=expected, advice="see NeuronModel for what it gives")
        if out is None:
            continue
        if not isinstance(out, (jax.Array, np.ndarray)):
            checked.report(name, f"it gives {describe(out)}", expected, "return a jax.numpy array")
        elif not fits(out):
            got = f"the shape is {out.shape} and the dtype {out.dtype}"
            checked.report(name, got, expected, "return one for each neuron")
