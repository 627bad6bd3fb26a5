"""Derivatives of the methods."""

import jax
import jax.numpy as jnp
import numpy as np

from ...flows.linear import LinearFlow
from .checked import Checked, row_of


def differentiable(checked: Checked) -> None:
    advice = "avoid what has no derivative there, such as sqrt at 0 or a division by 0"
    for name, call in checked.calls().items():
        if name == "observe":
            continue
        expected = "a finite derivative"
        for y in checked.states:
            # Backwards, as the gradients of a run are made.
            pair = checked.attempt(name, jax.vjp, call, y, expected=expected, advice=advice)
            if pair is None:
                break
            out, pull = pair
            (slope,) = pull(jnp.ones_like(out))
            if np.all(np.isfinite(out)) and not np.all(np.isfinite(slope)):
                checked.report(name, f"its derivative is not finite at {row_of(y, slope)}", expected, advice)
                break


def condition_slope(checked: Checked) -> None:
    """JAX's derivative of the condition is what differences say, and not 0 everywhere."""
    condition = checked.calls().get("spike_condition")
    if condition is None:
        return
    slopes = [jax.grad(lambda y, call=condition: jnp.sum(call(y)))(y) for y in checked.states]
    flat = np.all(np.array(slopes) == 0, axis=(0, 2))
    advice = "use a smooth difference such as V - thresh, without a comparison, sign, round or stop_gradient"
    if flat.all() and isinstance(checked.flow, LinearFlow) and checked.flow.thresh is None:
        # It never spikes.
        return
    if flat.any():
        got = f"its derivative is 0 for neuron {np.flatnonzero(flat)[0]} at every state that was tried"
        checked.report("spike_condition", got, "that it rises towards 0 as the neuron nears its spike", advice)
        return
    step = float(jnp.finfo(checked.dtype).eps) ** (1 / 3)
    for y, slope in zip(checked.states[1:], slopes[1:], strict=True):
        h = step * (1 + jnp.abs(y))
        difference = (condition(y + h) - condition(y - h)) / 2
        predicted = jnp.sum(slope * h, axis=1)
        scale = jnp.sum(jnp.abs(slope) * h, axis=1) + jnp.abs(difference)
        wrong = np.asarray(jnp.abs(difference - predicted) > 0.05 * scale)
        if wrong.any():
            k = np.flatnonzero(wrong)[0]
            told = f"{difference[k]:.3g} where its derivative says {predicted[k]:.3g}"
            got = f"near {row_of(y, wrong)} it changes by {told}"
            checked.report("spike_condition", got, "a derivative that agrees with differences", advice)
            return
