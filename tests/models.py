"""Small neuron models of our own, each with a solution on paper, and the ways to run them."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import FFEvNN, NeuronModel, Parameter

DTYPES = [jnp.float32, jnp.float64]
TOLERANCE = {jnp.float32: 1e-6, jnp.float64: 1e-10}

# Every way has a layer size of its own: another size is another program anyway.
SIZES = {"eager": 8, "jit": 13, "vmap": 16}

# Nearly all the time of a test is compilation. One combination of precision and way of calling is enough for a quick
# look; among those of the whole run are both precisions, jitted and under vmap.
_slow = pytest.mark.slow
every_dtype = pytest.mark.parametrize("dtype", [pytest.param(jnp.float32, marks=_slow), jnp.float64])
every_way = pytest.mark.parametrize(
    "way", ["eager", pytest.param("jit", marks=_slow), pytest.param("vmap", marks=_slow)]
)
every_combination = pytest.mark.parametrize(
    ("dtype", "way"),
    [
        (jnp.float64, "eager"),
        pytest.param(jnp.float32, "jit", marks=_slow),
        pytest.param(jnp.float32, "vmap", marks=_slow),
        pytest.param(jnp.float64, "vmap", marks=_slow),
    ],
)
IN_SIZE, IN_SPIKES, END, MAX_SPIKES = 3, 4, 64.0, 8


class Leaky(NeuronModel):
    """V' = drive - leak V + area * (normal density of t), delta synapses.

    With `leak = 0` and `area = 0` V is a straight line; the density integrates to `area`.
    """

    channels = ("V",)

    thresh: Parameter
    vreset: Parameter
    leak: Parameter
    drive: Parameter
    y0: Parameter
    area: Parameter
    centre: Parameter
    width: Parameter

    def __init__(
        self,
        n_neurons,
        *,
        thresh=1.0,
        vreset=0.0,
        leak=0.0,
        drive=0.0,
        y0=0.0,
        area=0.0,
        centre=0.0,
        width=1.0,
        dtype=jnp.float32,
        key=None,
    ):
        self.thresh = Parameter(jnp.asarray(thresh, dtype))
        self.vreset = Parameter(jnp.asarray(vreset, dtype))
        self.leak = Parameter(jnp.asarray(leak, dtype))
        self.drive = Parameter(jnp.asarray(drive, dtype), trainable=True)
        self.y0 = Parameter(jnp.broadcast_to(jnp.asarray(y0, dtype), (n_neurons,)))
        self.area = Parameter(jnp.asarray(area, dtype))
        self.centre = Parameter(jnp.asarray(centre, dtype))
        self.width = Parameter(jnp.asarray(width, dtype), bounds=(0.0, math.inf))

    def init_state(self, n_neurons):
        return self.y0.value[:, None]

    def dynamics(self, t, y, args):
        z = (t - self.centre.value) / self.width.value
        density = jnp.exp(-0.5 * z * z) / (self.width.value * math.sqrt(2 * math.pi))
        return (self.drive.value - self.leak.value * y[:, 0] + self.area.value * density)[:, None]

    def spike_condition(self, t, y, args):
        return y[:, 0] - self.thresh.value

    def input_spikes(self, y, weights):
        return y + weights[:, None]

    def reset_spiked(self, y, spiked):
        return jnp.where(spiked, self.vreset.value, y[:, 0])[:, None]


class EIF(NeuronModel):
    """tmem V' = -V + exp(V - vt) + ic, delta synapses; the spike is where V reaches `peak`."""

    channels = ("V",)

    peak: Parameter
    vt: Parameter
    tmem: Parameter
    ic: Parameter

    def __init__(self, n_neurons, *, peak=20.0, vt=1.0, tmem=10.0, ic=1.0, dtype=jnp.float32, key=None):
        self.peak = Parameter(jnp.asarray(peak, dtype))
        self.vt = Parameter(jnp.asarray(vt, dtype))
        self.tmem = Parameter(jnp.asarray(tmem, dtype), bounds=(0.0, math.inf))
        self.ic = Parameter(jnp.broadcast_to(jnp.asarray(ic, dtype), (n_neurons,)), trainable=True)

    def init_state(self, n_neurons):
        return jnp.zeros((n_neurons, 1), self.ic.value.dtype)

    def dynamics(self, t, y, args):
        v = y[:, 0]
        return ((self.ic.value - v + jnp.exp(v - self.vt.value)) / self.tmem.value)[:, None]

    def spike_condition(self, t, y, args):
        return y[:, 0] - self.peak.value

    def input_spikes(self, y, weights):
        return y + weights[:, None]

    def reset_spiked(self, y, spiked):
        return jnp.where(spiked, 0, y[:, 0])[:, None]


def layer(model, dtype, n_neurons, *, weights=0.0, end=END, **keywords):
    """One layer. Arrays and lists are cycled over the neurons; `weights` has a row per input or is a number."""
    numbers = {name: cycle(value, n_neurons) if _per_neuron(value) else value for name, value in keywords.items()}
    matrix = np.zeros((IN_SIZE, n_neurons))
    rows = weights if np.ndim(weights) else [weights] * IN_SIZE
    for number, row in enumerate(rows):
        matrix[number] = cycle(row, n_neurons)
    # A step size is a matter of the numerical engine.
    numbers = {"engine": "numerical" if "stepsize_controller" in numbers else "auto", **numbers}
    if "stepsize_controller" not in numbers:
        numbers = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype], **numbers}
    numbers = {"max_event_steps": 256, **numbers}
    key = jax.random.PRNGKey(0)
    net = FFEvNN([n_neurons], IN_SIZE, model, end, key, dtype=dtype, init_weights=jnp.asarray(matrix), **numbers)
    # A number for all neurons and one for each are two programs: most tests share the second.
    return eqx.tree_at(lambda net: net.neurons, net, jax.tree.map(lambda leaf: _each(leaf, n_neurons), net.neurons))


def inputs(rows, dtype):
    """Spike times in a `(IN_SIZE, IN_SPIKES)` array, padded with `inf`."""
    x = np.full((IN_SIZE, IN_SPIKES), np.inf)
    for number, row in enumerate(rows):
        x[number, : len(row)] = row
    return jnp.asarray(x, dtype)


def cycle(values, n_neurons):
    """The first `n_neurons` of `values` repeated."""
    values = np.asarray(values)
    return values[np.arange(n_neurons) % len(values)] if values.ndim else np.full(n_neurons, values)


def spikes(net, x, way, max_spikes=MAX_SPIKES):
    """`(neurons, max_spikes)` for the sample `x`, called in one of three ways."""
    if way == "eager":
        return np.asarray(net.spikes_until_t(x, net.max_solver_time, max_spikes))
    if way == "jit":
        return np.asarray(_jitted(net, x, max_spikes))
    # The others of the batch have their own events, at other times.
    others = jnp.stack([jnp.full_like(x, jnp.inf), x, 0.75 * x])
    return np.asarray(_batched(net, others, max_spikes)[1])


@eqx.filter_jit
def _jitted(net, x, max_spikes):
    return net.spikes_until_t(x, net.max_solver_time, max_spikes)


@eqx.filter_jit
def _batched(net, x, max_spikes):
    return jax.vmap(lambda x: net.spikes_until_t(x, net.max_solver_time, max_spikes))(x)


def trains(rows, n_neurons, max_spikes=MAX_SPIKES):
    """Expected spike times, one list per neuron, cycled over the neurons and padded with `inf`."""
    out = np.full((n_neurons, max_spikes), np.inf)
    for neuron in range(n_neurons):
        row = rows[neuron % len(rows)]
        out[neuron, : len(row)] = row
    return out


def assert_times(got, expected, *, rtol, atol=0.0):
    """The same number of spikes everywhere, at the same times."""
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(expected))
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol)


def _each(leaf, n_neurons):
    return jnp.asarray(np.full(n_neurons, leaf)) if eqx.is_inexact_array(leaf) and leaf.ndim == 0 else leaf


def _per_neuron(value):
    return isinstance(value, (list, np.ndarray)) and np.ndim(value) == 1
