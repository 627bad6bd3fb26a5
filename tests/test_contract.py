"""What holds for every neuron model, ours and yours: it builds, runs, compiles once, maps, and can be overridden."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import MAX_SPIKES, SIZES, Leaky, assert_times, every_dtype, inputs, layer, spikes, trains

from eventsnn import LIF, QIF, FFEvNN


class FunkyNeuron(LIF):
    """The neuron of the tutorial."""

    def dynamics(self, t, y, args):
        a = y[:, 0]
        b = y[:, 1]
        da_dt = -(jnp.sin(a) + jnp.cos(b + self.ic)) * self.tmem.value
        db_dt = -b / self.tsyn.value
        return jnp.stack([da_dt, db_dt], axis=1)


MODELS = [LIF, QIF, FunkyNeuron, Leaky]
# A weight with which one input makes each of them spike soon, and one with which it does not.
WEIGHTS = {LIF: (9.0, 1.0), QIF: (40.0, 0.1), FunkyNeuron: (5.0, 0.0), Leaky: (1.5, 0.5)}

every_model = pytest.mark.parametrize("model", MODELS)


@every_model
@every_dtype
def test_the_state_has_named_channels_and_the_dtype(model, dtype):
    neurons = model(4, dtype=dtype)
    y = neurons.init_state(4)
    assert y.shape == (4, len(model.channels)) and y.dtype == dtype
    assert len(set(model.channels)) == len(model.channels) > 0
    assert all(isinstance(name, str) for name in model.channels)


@every_model
@every_dtype
def test_every_number_of_the_model_has_the_dtype(model, dtype):
    leaves = [leaf for leaf in jax.tree.leaves(model(4, dtype=dtype)) if eqx.is_array(leaf)]
    assert leaves and all(leaf.dtype == dtype for leaf in leaves)


@pytest.mark.parametrize("way", ["eager", pytest.param("jit", marks=pytest.mark.slow), "vmap"])
@pytest.mark.parametrize("model", [LIF, Leaky, *(pytest.param(m, marks=pytest.mark.slow) for m in (QIF, FunkyNeuron))])
@every_dtype
def test_it_runs_jits_and_maps(model, dtype, way):
    strong, weak = WEIGHTS[model]
    tau = {"tmem": 0.1} if model is FunkyNeuron else {}
    bias = {"init_bias": 3.5} if model is FunkyNeuron else {}
    net = layer(model, dtype, SIZES[way], weights=[[strong, weak]], **tau, **bias)
    got = spikes(net, inputs([[5.0]], dtype), way)
    assert got.shape == (SIZES[way], MAX_SPIKES) and got.dtype == dtype
    assert not np.isnan(got).any()
    if model is not FunkyNeuron:
        # FunkyNeuron is started by its own dynamics.
        assert np.all(np.isfinite(got[::2, 0])) and np.all(got[::2, 0] >= 5)
        assert np.all(got[1::2] == np.inf)


@pytest.mark.parametrize("dtype", [jnp.float64])
def test_the_neuron_of_the_tutorial_agrees_with_its_closed_form(dtype):
    # Without input B = 0: A' = -(sin A + cos ic) tmem. With cos ic = -k, |k| < 1, A goes to asin k from below: no
    # spike for k < sin 1. With ic = π: A' = (1 - sin A) tmem, and the substitution u = π/2 - A gives
    # ∫ dA/(1 - sin A) = tan(A/2 + π/4): from 0 to 1 in (tan(1/2 + π/4) - 1)/tmem.
    net = layer(FunkyNeuron, dtype, 8, init_bias=np.array([np.pi, np.arccos(-0.8)]), tmem=0.1)
    period = (np.tan(0.5 + np.pi / 4) - 1) / 0.1
    expected = [[period * k for k in range(1, 10) if period * k < 64], []]
    assert_times(spikes(net, inputs([], dtype), "eager"), trains(expected, 8), rtol=1e-8)


def counted(model):
    """A subclass that counts how often its dynamics are traced."""

    class Counted(model):
        traces = 0

        def dynamics(self, t, y, args):
            Counted.traces += 1
            return super().dynamics(t, y, args)

    return Counted


@pytest.mark.parametrize("model", [LIF, QIF])
@every_dtype
def test_it_compiles_once_for_all_networks_of_a_shape(model, dtype):
    counting = counted(model)

    def build(seed, **keywords):
        return FFEvNN([3], 1, counting, 20.0, jax.random.PRNGKey(seed), dtype=dtype, wlim=0.5, **keywords)

    x = jnp.asarray([[3.0, jnp.inf]], dtype)
    one, same, other = build(0), build(0), build(1, tmem=11.0, tsyn=2.0, init_bias=0.3, y0=(0.25, 0.5))
    # The constructor traces the methods as well, to look for mistakes.
    built = counting.traces
    one.ttfs(x)
    compiled = counting.traces
    assert compiled > built
    same.ttfs(x + 1)
    other.ttfs(x)
    assert counting.traces == compiled


# Overriding one method of LIF, with a constant drive ic = 2 or one input at 5.


class NoLeak(LIF):
    def dynamics(self, t, y, args):
        return jnp.stack([self.ic, jnp.zeros_like(self.ic)], axis=1)


class HalfThreshold(LIF):
    def spike_condition(self, t, y, args):
        return y[:, 0] - 0.5 * self.thresh.value


class DeltaSynapse(LIF):
    def input_spikes(self, y, weights):
        return jnp.stack([y[:, 0] + weights, y[:, 1]], axis=1)


class DeepReset(LIF):
    def reset_spiked(self, y, spiked):
        return jnp.stack([jnp.where(spiked, -1, y[:, 0]), y[:, 1]], axis=1)


class HighStart(LIF):
    def init_state(self, n_neurons):
        return self.y0.value.at[:, 0].set(0.5)


LOG = {x: 20 * float(np.log(x)) for x in (2, 3, 1.5, 4 / 3)}


@pytest.mark.parametrize(
    "model, bias, expected",
    [
        # V' = ic: one spike every 1/0.1.
        (NoLeak, 0.1, [10.0 * k for k in range(1, 7)]),
        # V = 2 (1 - exp(-t/20)) is 1/2 at 20 ln(4/3), again and again.
        (HalfThreshold, 2.0, [LOG[4 / 3] * k for k in range(1, 12)]),
        # V = 0 until the input lifts it to 1.5.
        (DeltaSynapse, 0.0, [5.0]),
        # From 0 to 1 in 20 ln 2, from -1 in 20 ln 3.
        (DeepReset, 2.0, [LOG[2] + LOG[3] * k for k in range(3)]),
        # From 1/2 to 1 in 20 ln 1.5, from 0 in 20 ln 2.
        (HighStart, 2.0, [LOG[1.5] + LOG[2] * k for k in range(5)]),
    ],
)
@pytest.mark.parametrize("dtype", [pytest.param(jnp.float32, marks=pytest.mark.slow), jnp.float64])
def test_a_method_that_a_subclass_overrides_is_honoured(model, bias, expected, dtype):
    weight = 1.5 if model is DeltaSynapse else 0.0
    net = layer(model, dtype, 8, init_bias=bias, weights=weight)
    got = spikes(net, inputs([[5.0]], dtype), "eager", 16)
    expected = [time for time in expected if time <= 64]
    assert_times(got, trains([expected], 8, 16), rtol={jnp.float32: 2e-5, jnp.float64: 1e-8}[dtype])


class Doubled(LIF):
    def observe(self, y):
        return jnp.stack([2 * y[:, 0], y[:, 1], y[:, 0] + y[:, 1]], axis=1)


@pytest.mark.parametrize("dtype", [jnp.float64])
def test_what_is_observed_may_be_overridden_and_have_other_channels(dtype):
    net = layer(Doubled, dtype, 8, init_bias=0.5)
    got = net.state_at_t(inputs([], dtype), jnp.asarray([0.0, 20.0], dtype))
    v = 0.5 * (1 - np.exp(-1))
    np.testing.assert_allclose(got, np.tile([[[0, 0, 0], [2 * v, 0, v]]], (8, 1, 1)), atol=1e-8)
