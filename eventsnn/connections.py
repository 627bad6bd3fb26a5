"""Connections between layers: the only owner of weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from .neuron_models.parameter import checked_array


class Dense(eqx.Module):
    """Every input reaches every neuron, without delay.

    - `weights`: shape `(inputs, neurons)`.
    """

    weights: Float[Array, "inputs neurons"]

    def __init__(
        self,
        n_inputs: int,
        n_neurons: int,
        *,
        init_weights: ArrayLike | None = None,
        wlim: float | None = None,
        wmean: float = 0.0,
        fan_in_mode: str | None = None,
        dtype=jnp.float32,
        key: PRNGKeyArray | None = None,
    ):
        """**Arguments:**

        - `n_inputs`, `n_neurons`: the shape.
        - `init_weights`: a scalar or an array `(n_inputs, n_neurons)`, used as it is.
        - `wlim`, `wmean`: without `init_weights`, weights are uniform in `wmean ± wlim/2`, drawn with
            `key`. `wlim=None` makes all of them `wmean`.
        - `fan_in_mode`: divides the drawn weights by the square root of `n_inputs` (`"sqrt"`), by
            `n_inputs` (`"linear"`), or by nothing (`None`).

        **Raises:** `ValueError` if a number is not finite or has the wrong shape, if `init_weights`
        is given together with `wlim`, `wmean` or `fan_in_mode`, or if a key is missing.
        """
        shape = (n_inputs, n_neurons)
        if fan_in_mode not in (None, "sqrt", "linear"):
            raise ValueError(f"fan_in_mode is {fan_in_mode!r}, expected None, 'sqrt' or 'linear'")
        if init_weights is not None:
            if wlim is not None or wmean != 0.0 or fan_in_mode is not None:
                raise ValueError("init_weights is used as it is: do not pass wlim, wmean or fan_in_mode with it")
            self.weights = jnp.broadcast_to(checked_array("init_weights", init_weights, ((), shape), dtype), shape)
            return
        mean = checked_array("wmean", wmean, ((),), dtype)
        width = checked_array("wlim", 0.0 if wlim is None else wlim, ((),), dtype)
        if wlim is not None and wlim < 0:
            raise ValueError(f"wlim is {wlim}, expected a width that is 0 or more")
        if wlim is not None and key is None:
            raise ValueError(
                "wlim draws random weights and needs a key: pass key=jax.random.PRNGKey(0), or init_weights"
            )
        drawn = jnp.broadcast_to(mean, shape)
        if key is not None and wlim is not None:
            drawn = mean + width * jax.random.uniform(key, shape, dtype, -0.5, 0.5)
        scale = {None: 1.0, "sqrt": max(n_inputs, 1) ** -0.5, "linear": 1 / max(n_inputs, 1)}[fan_in_mode]
        self.weights = drawn * jnp.asarray(scale, dtype)
