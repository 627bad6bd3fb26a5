"""Connections between layers: the only owner of weights and delays."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from .neuron_models.parameter import (
    Parameter,
    WholeNumbers,
    assign,
    checked_array,
    reject,
    reject_unfit_times,
    trainable_names,
)


class Dense(eqx.Module):
    """Every input reaches every neuron, at once or after a delay.

    A spike of input *i* arrives at neuron *j* after `axonal_delays[i] + delays[i, j]`, in ms.

    - `weights`: shape `(inputs, neurons)`, or `(inputs, neurons, ports)` for neurons with ports.
    - `mask`: which of the connections there are, in `mask.value`, or `None` for all of them. A weight that belongs to
        none counts as 0 and receives no gradient.
    - `delays`: synaptic delays, shape `(inputs, neurons)`, or `None` for none at all.
    - `axonal_delays`: those that all synapses of an input share, shape `(inputs,)`, or `None`.
    """

    weights: Float[Array, "inputs neurons *ports"]
    mask: WholeNumbers | None
    delays: Parameter | None
    axonal_delays: Parameter | None

    def __setattr__(self, name: str, value: Any) -> None:
        assign(self, name, value)

    def __init__(
        self,
        n_inputs: int,
        n_neurons: int,
        *,
        init_weights: ArrayLike | None = None,
        wlim: ArrayLike | None = None,
        wmean: ArrayLike | None = None,
        fan_in_mode: str | None = None,
        wmask: ArrayLike | None = None,
        ports: Sequence[str] = (),
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
            `key`. Without `wlim` all of them are `wmean`, and without `wmean` their mean is 0.
        - `ports`: the names of the neurons' ports. With any, weights have one more axis for them, and
            `init_weights`, `wlim` and `wmean` may be arrays with one number for each.
        - `fan_in_mode`: divides the drawn weights by the square root of `n_inputs` (`"sqrt"`), by
            `n_inputs` (`"linear"`), or by nothing (`None`).
        - `wmask`: which connections there are, a boolean array `(n_inputs, n_neurons)`.
        - `init_delays`: synaptic delays in ms, a scalar or an array `(n_inputs, n_neurons)`.
        - `dlim`: without `init_delays`, synaptic delays are uniform in 0 … `dlim`, drawn with `key`.
        - `init_axonal_delays`, `axonal_dlim`: the same for axonal delays; an array is `(n_inputs,)`.
        - `trainable`: which of `"delays"` and `"axonal_delays"` receive gradients. Weights always do.

        **Raises:** `ValueError` if there are no weights, if a number is not finite or has the wrong shape, if a
        delay is negative, if something is given both as it is and to be drawn, if a key is missing, or if
        delays are to be trained and there are none; `TypeError` for delays in half precision.
        """
        shape = (n_inputs, n_neurons)
        self.weights = _make_weights(shape, ports, init_weights, wlim, wmean, fan_in_mode, n_inputs, dtype, key)
        if wmask is not None and np.shape(wmask) != shape:
            raise ValueError(f"wmask has shape {np.shape(wmask)}, expected {shape}")
        self.mask = None if wmask is None else WholeNumbers(jnp.asarray(wmask, bool), dtype)
        self.delays, self.axonal_delays = _make_all_delays(
            shape, n_inputs, init_delays, dlim, init_axonal_delays, axonal_dlim, trainable, dtype, key
        )


class Sparse(eqx.Module):
    """Synapses one by one: memory and time follow how many there are, and not how many there could be.

    A spike of input `rows[s]` arrives at neuron `targets[s]` through synapse *s*, after `axonal_delays[rows[s]] +
    delays[s]`, in ms. Two synapses may join the same input to the same neuron.

    - `rows`, `targets`: where each synapse comes from and leads to, sorted by `rows`; `rows.value` has shape
        `(synapses,)`.
    - `weights`: shape `(synapses,)`, or `(synapses, ports)` for neurons with ports.
    - `delays`: synaptic delays, shape `(synapses,)`, or `None` for none at all.
    - `axonal_delays`: those that all synapses of an input share, shape `(inputs,)`, or `None`.
    - `n_inputs`, `n_neurons`: how many inputs and neurons there are.
    """

    rows: WholeNumbers
    targets: WholeNumbers
    weights: Float[Array, "synapses *ports"]
    delays: Parameter | None
    axonal_delays: Parameter | None
    n_inputs: int = eqx.field(static=True)
    n_neurons: int = eqx.field(static=True)

    def __setattr__(self, name: str, value: Any) -> None:
        assign(self, name, value)

    def __init__(
        self,
        n_inputs: int,
        n_neurons: int,
        synapses: ArrayLike,
        *,
        init_weights: ArrayLike | None = None,
        wlim: ArrayLike | None = None,
        wmean: ArrayLike | None = None,
        fan_in_mode: str | None = None,
        ports: Sequence[str] = (),
        init_delays: ArrayLike | None = None,
        dlim: float | None = None,
        init_axonal_delays: ArrayLike | None = None,
        axonal_dlim: float | None = None,
        trainable: Iterable[str] = (),
        dtype=jnp.float32,
        key: PRNGKeyArray | None = None,
    ):
        """**Arguments:**

        - `n_inputs`, `n_neurons`: how many inputs and neurons there are.
        - `synapses`: from which input to which neuron each leads, whole numbers of shape `(synapses, 2)`, in any
            order. What is given for each synapse is given in this order, and then sorted with it.
        - All else is as in `Dense`, with weights and delays of shape `(synapses,)`. The fan-in of
            `fan_in_mode` is how many synapses the neuron has.

        **Raises:** `ValueError` as `Dense` does, and if a synapse leads from or to what is not there.
        """
        pairs = np.asarray(synapses)
        if pairs.ndim != 2 or pairs.shape[1] != 2 or not (np.issubdtype(pairs.dtype, np.integer) or not pairs.size):
            raise ValueError(
                f"synapses has shape {pairs.shape} and dtype {pairs.dtype}, "
                "expected whole numbers of shape (synapses, 2)"
            )
        for column, (name, size) in enumerate([("an input", n_inputs), ("a neuron", n_neurons)]):
            bad = (pairs[:, column] < 0) | (pairs[:, column] >= size)
            if bad.any():
                number = int(np.argmax(bad))
                value = pairs[number, column]
                raise ValueError(f"synapses[{number}, {column}] is {value}, expected {name} from 0 to {size - 1}")
        order = np.argsort(pairs[:, 0], kind="stable")
        rows, targets = pairs[:, 0].astype(np.int32), pairs[:, 1].astype(np.int32)
        shape = (len(pairs),)
        fan_in = np.bincount(targets, minlength=n_neurons)[targets]
        weights = _make_weights(shape, ports, init_weights, wlim, wmean, fan_in_mode, fan_in, dtype, key)
        delays, self.axonal_delays = _make_all_delays(
            shape, n_inputs, init_delays, dlim, init_axonal_delays, axonal_dlim, trainable, dtype, key
        )
        self.rows = WholeNumbers(rows[order], dtype, n_inputs)
        self.targets = WholeNumbers(targets[order], dtype, n_neurons)
        self.weights = weights[order]
        self.delays = None if delays is None else Parameter(delays.value[order], delays.trainable)
        self.n_inputs, self.n_neurons = n_inputs, n_neurons


CONNECTION_TRAINABLE = ("delays", "axonal_delays")
WEIGHT_NAMES = ("init_weights", "wlim", "wmean")
WAYS_TO_WEIGHTS = (
    "pass init_weights=... (a number or an array, used as it is; 0.0 if there shall be none), wmean=... (one weight "
    "for all), or wmean=... and wlim=... (drawn uniformly from wmean ± wlim/2)"
)


def _make_weights(shape, ports, init_weights, wlim, wmean, fan_in_mode, fan_in, dtype, key) -> Array:
    if fan_in_mode not in (None, "sqrt", "linear"):
        raise ValueError(f"fan_in_mode is {fan_in_mode!r}, expected None, 'sqrt' or 'linear'")
    each = (len(ports),) if ports else ()
    whole = (*shape, *each)
    if init_weights is None and wlim is None and wmean is None and math.prod(whole):
        raise ValueError(f"there are no weights: {WAYS_TO_WEIGHTS}")
    wmean = 0.0 if wmean is None else wmean
    if init_weights is not None:
        if wlim is not None or np.any(np.asarray(wmean) != 0.0) or fan_in_mode is not None:
            raise ValueError("init_weights is used as it is: do not pass wlim, wmean or fan_in_mode with it")
        accepted = ((), each, whole) if ports else ((), shape)
        return jnp.broadcast_to(checked_array("init_weights", init_weights, accepted, dtype), whole)
    mean = checked_array("wmean", wmean, ((), each), dtype)
    width = _checked_width("wlim", 0.0 if wlim is None else wlim, dtype, ((), each))
    drawn = jnp.broadcast_to(mean, whole)
    if wlim is not None:
        if key is None:
            raise ValueError(_NO_KEY.format("wlim", "weights", "init_weights"))
        drawn = mean + width * jax.random.uniform(key, whole, dtype, -0.5, 0.5)
    fan_in = np.maximum(fan_in, 1.0)
    fan_in = np.reshape(fan_in, (*np.shape(fan_in), *[1] * len(each)))
    scale = {None: 1.0, "sqrt": fan_in**-0.5, "linear": 1 / fan_in}[fan_in_mode]
    return drawn * jnp.asarray(scale, dtype)


def _make_all_delays(
    shape, n_inputs, init_delays, dlim, init_axonal_delays, axonal_dlim, trainable, dtype, key
) -> tuple[Parameter | None, Parameter | None]:
    names = trainable_names(trainable, CONNECTION_TRAINABLE)
    # Keys of their own, so that the weights are the same with and without delays.
    keys = [None, None] if key is None else [jax.random.fold_in(key, number) for number in (1, 2)]
    delays = _make_delays("delays", shape, init_delays, "dlim", dlim, names, dtype, keys[0])
    axonal = _make_delays(
        "axonal_delays", (n_inputs,), init_axonal_delays, "axonal_dlim", axonal_dlim, names, dtype, keys[1]
    )
    return delays, axonal


def _make_delays(name, shape, given, limit_name, limit, names, dtype, key) -> Parameter | None:
    init = f"init_{name}"
    reject_unfit_times(init, given)
    reject_unfit_times(limit_name, limit)
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


def _checked_width(name: str, value: ArrayLike, dtype, shapes: tuple[tuple[int, ...], ...] = ((),)) -> Array:
    width = checked_array(name, value, shapes, dtype)
    reject(name, width, width < 0, "a width that is 0 or more")
    return width
