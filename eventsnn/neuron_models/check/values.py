"""What the methods give, alone and for each neuron."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from .checked import Checked, close, row_of
from .contract import form_problems


def forms(checked: Checked) -> None:
    """Every method gives arrays of the right shape and dtype, and can be compiled."""
    state = jax.ShapeDtypeStruct(checked.y.shape, checked.dtype)
    for problem in form_problems(checked.original, state, checked.args, thorough=True):
        checked.add(problem)


def finite(checked: Checked) -> None:
    expected, advice = "finite numbers", "check its formula, or pass a y at which it holds"
    for name, call in checked.calls().items():
        out = checked.attempt(name, call, checked.y, expected=expected, advice=advice)
        if out is not None and name != "observe" and not np.all(np.isfinite(out)):
            got = f"there are NaN or infinite numbers for the state {row_of(checked.y, out)}"
            checked.report(name, got, expected, advice)


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
    """They work on a batch, as the engine calls them."""
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
