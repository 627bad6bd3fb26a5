"""Connections between layers: the only owner of weights and delays."""

from collections.abc import Iterable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray

from .neuron_models.parameter import Parameter, checked_array, reject, trainable_names


class Dense(eqx.Module):
    """Every input reaches every neuron, at once or after a delay.

    A spike of input *i* arrives at neuron *j* after `axonal_delays[i] + delays[i, j]`, in ms.

    - `weights`: shape `(inputs, neurons)`.
    - `mask`: which of the connections there are, or `None` for all of them. A weight that belongs to
        none counts as 0 and receives no gradient.
    - `delays`: synaptic delays, shape `(inputs, neurons)`, or `None` for none at all.
    - `axonal_delays`: those that all synapses of an input share, shape `(inputs,)`, or `None`.
    """

    weights: Float[Array, "inputs neurons"]
    mask: Bool[Array, "inputs neurons"] | None
    delays: Parameter | None
    axonal_delays: Parameter | None

    def __init__(
        self,
        n_inputs: int,
        n_neurons: int,
        *,
        init_weights: ArrayLike | None = None,
        wlim: float | None = None,
        wmean: float = 0.0,
        fan_in_mode: str | None = None,
        wmask: ArrayLike | None = None,
        init_delays: ArrayLike | None = None,
        dlim: float | None = None,
        init_axonal_delays: ArrayLike | None = None,
        axonal_dlim: float | None = None,
        trainable: Iterable[str] = (),
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
        - `wmask`: which connections there are, a boolean array `(n_inputs, n_neurons)`.
        - `init_delays`: synaptic delays in ms, a scalar or an array `(n_inputs, n_neurons)`.
        - `dlim`: without `init_delays`, synaptic delays are uniform in 0 … `dlim`, drawn with `key`.
        - `init_axonal_delays`, `axonal_dlim`: the same for axonal delays; an array is `(n_inputs,)`.
        - `trainable`: which of `"delays"` and `"axonal_delays"` receive gradients. Weights always do.

        **Raises:** `ValueError` if a number is not finite or has the wrong shape, if a delay is
        negative, if something is given both as it is and to be drawn, if a key is missing, or if
        delays are to be trained and there are none.
        """
        shape = (n_inputs, n_neurons)
        self.weights = _make_weights(shape, init_weights, wlim, wmean, fan_in_mode, dtype, key)
        self.mask = None if wmask is None else jnp.asarray(wmask, bool)
        if self.mask is not None and self.mask.shape != shape:
            raise ValueError(f"wmask has shape {self.mask.shape}, expected {shape}")
        names = trainable_names(trainable, CONNECTION_TRAINABLE)
        # A key of their own, so that the weights are the same with and without delays.
        keys = [None, None] if key is None else [jax.random.fold_in(key, number) for number in (1, 2)]
        self.delays = _make_delays("delays", shape, init_delays, "dlim", dlim, names, dtype, keys[0])
        self.axonal_delays = _make_delays(
            "axonal_delays", (n_inputs,), init_axonal_delays, "axonal_dlim", axonal_dlim, names, dtype, keys[1]
        )


CONNECTION_TRAINABLE = ("delays", "axonal_delays")


def _make_weights(shape, init_weights, wlim, wmean, fan_in_mode, dtype, key) -> Float[Array, "inputs neurons"]:
    if fan_in_mode not in (None, "sqrt", "linear"):
        raise ValueError(f"fan_in_mode is {fan_in_mode!r}, expected None, 'sqrt' or 'linear'")
    if init_weights is not None:
        if wlim is not None or wmean != 0.0 or fan_in_mode is not None:
            raise ValueError("init_weights is used as it is: do not pass wlim, wmean or fan_in_mode with it")
        return jnp.broadcast_to(checked_array("init_weights", init_weights, ((), shape), dtype), shape)
    mean = checked_array("wmean", wmean, ((),), dtype)
    width = _checked_width("wlim", 0.0 if wlim is None else wlim, dtype)
    drawn = jnp.broadcast_to(mean, shape)
    if wlim is not None:
        if key is None:
            raise ValueError(_NO_KEY.format("wlim", "weights", "init_weights"))
        drawn = mean + width * jax.random.uniform(key, shape, dtype, -0.5, 0.5)
    n_inputs = max(shape[0], 1)
    scale = {None: 1.0, "sqrt": n_inputs**-0.5, "linear": 1 / n_inputs}[fan_in_mode]
    return drawn * jnp.asarray(scale, dtype)


def _make_delays(name, shape, given, limit_name, limit, names, dtype, key) -> Parameter | None:
    init = f"init_{name}"
    if given is not None and limit is not None:
        raise ValueError(f"{init} is used as it is: do not pass {limit_name} with it")
    if given is not None:
        delays = jnp.broadcast_to(checked_array(init, given, ((), shape), dtype), shape)
        reject(init, delays, delays < 0, "a delay in ms, 0 or more")
    elif limit is not None:
        width = _checked_width(limit_name, limit, dtype)
        if key is None:
            raise ValueError(_NO_KEY.format(limit_name, name.replace("_", " "), init))
        delays = width * jax.random.uniform(key, shape, dtype)
    elif name in names:
        raise ValueError(f"trainable names {name!r}, but there are none: pass {init} or {limit_name}")
    else:
        return None
    return Parameter(delays, name in names)


_NO_KEY = "{} draws random {} and needs a key: pass key=jax.random.PRNGKey(0), or {}"


def _checked_width(name: str, value: float, dtype) -> Float[Array, ""]:
    width = checked_array(name, value, ((),), dtype)
    reject(name, width, width < 0, "a width that is 0 or more")
    return width
