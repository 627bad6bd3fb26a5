"""A batch that is split over devices gives what it gives in one piece, errors included."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import LIF, QIF, EvNN, FFEvNN, over_devices

IN_SPIKES = jax.random.uniform(jax.random.PRNGKey(1), (8, 5, 2), jnp.float64) * 20
LABELS = jnp.arange(8) % 3


def network(model=LIF, layers=(12, 3)):
    weights = {LIF: {"wlim": 4.0, "wmean": 2.0}, QIF: {"wlim": 40.0, "wmean": 20.0}}[model]
    return FFEvNN(
        list(layers), 5, model, 30.0, jax.random.PRNGKey(0), dtype=jnp.float64, max_event_steps=200, **weights
    )


def loss(net, in_spikes, labels):
    times = jax.vmap(net.ttfs)(in_spikes)
    times = jnp.where(jnp.isfinite(times), times, 30.0)
    return jnp.mean(jax.nn.logsumexp(-times, axis=1) + times[jnp.arange(len(labels)), labels])


value_and_gradient = eqx.filter_jit(eqx.filter_value_and_grad(loss))
split_value_and_gradient = eqx.filter_jit(over_devices(eqx.filter_value_and_grad(loss)))


def first_spikes(net, in_spikes):
    return jax.vmap(net.ttfs)(in_spikes)


def test_there_is_more_than_one_device():
    assert len(jax.devices()) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("model", "layers"), [(LIF, (12, 3)), pytest.param(QIF, (3,), marks=pytest.mark.slow)])
def test_loss_and_gradient(model, layers):
    net = network(model, layers)
    expected = value_and_gradient(net, IN_SPIKES, LABELS)
    found = split_value_and_gradient(net, IN_SPIKES, LABELS)
    assert len(found[0].devices()) == 2
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for mine, one in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, one, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("windows", [True, False])
def test_loss_and_gradient_of_a_recurrent_network(windows):
    net = EvNN(
        LIF, 6, 5, 30.0, jax.random.PRNGKey(0), wlim=3.0, wmean=2.0, init_delays=2.0, output_neurons=np.arange(6) < 3,
        dtype=jnp.float64, max_event_steps=200, windows=windows, trainable=("delays",), max_pending=128,
    )  # fmt: skip
    expected = value_and_gradient(net, IN_SPIKES, LABELS)
    found = split_value_and_gradient(net, IN_SPIKES, LABELS)
    assert len(found[0].devices()) == 2 and np.abs(expected[1].connection.delays.value).max() > 0
    for mine, one in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, one, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_results_per_sample_keep_their_order():
    net = network()
    split = eqx.filter_jit(over_devices(first_spikes, mean=False))
    expected = eqx.filter_jit(first_spikes)(net, IN_SPIKES)
    assert np.isfinite(expected).any()
    np.testing.assert_allclose(split(net, IN_SPIKES), expected, rtol=1e-12)
    # Seven samples can only be split into seven parts, so one device takes them all.
    odd = split(net, np.asarray(IN_SPIKES[:7]))
    assert len(odd.devices()) == 1
    np.testing.assert_allclose(odd, expected[:7], rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("sample", [1, 6])
def test_an_error_stops_all_devices_and_says_what_it_says_on_one(sample):
    bad = IN_SPIKES.at[sample, 2, 0].set(-1.0)
    message = rf"sample {sample}: in_spikes\[2, 0\] is -1: expected a time of 0 ms or later"
    with pytest.raises(jax.errors.JaxRuntimeError, match=message):
        jax.block_until_ready(split_value_and_gradient(network(), bad, LABELS))


@pytest.mark.slow
def test_an_error_of_a_large_network_stops_as_well():
    # What is told of it may not be so large that the callbacks of all devices wait for a free thread.
    net = FFEvNN([300, 3], 300, LIF, 30.0, jax.random.PRNGKey(0), wmean=5.0, wlim=1.0, max_event_steps=10)
    in_spikes = jnp.ones((2, 300, 1), jnp.float32)
    split = eqx.filter_jit(over_devices(first_spikes, mean=False))
    with pytest.raises(jax.errors.JaxRuntimeError, match="layer 0 emitted more than max_event_steps = 10 spikes"):
        jax.block_until_ready(split(net, in_spikes))


def test_a_batch_without_a_common_axis_is_refused():
    split = over_devices(loss)
    with pytest.raises(ValueError, match=r"shapes \(8, 5, 2\), \(7,\), expected the same first axis"):
        split(network(), IN_SPIKES, LABELS[:7])
    with pytest.raises(ValueError, match="none, expected the same first axis"):
        over_devices(lambda net: 0.0)(network())
