"""One program for all devices: kernels where it is lowered for CPUs, the same run by XLA where for others."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import LIF, EvNN, FFEvNN, Refractory
from eventsnn.engine.native import boundary
from eventsnn.engine.native.target import available

pytestmark = pytest.mark.skipif(not available(), reason="Numba is not installed")

slow = pytest.mark.slow
KEY, T_END = jax.random.PRNGKey(0), 30.0
OPTIONS = {"dtype": jnp.float64, "engine": "native", "throw": False}
RNG = np.random.default_rng(3)
IN_SPIKES = jnp.asarray(RNG.uniform(0, 20, (3, 2, 4)))
QUERIES = jnp.array([3.0, 17.5, 29.0])
AMONG = np.concatenate([RNG.normal(-0.2, 0.3, (4, 4)), RNG.normal(1.5, 0.6, (2, 4))])
SYNAPSES = np.argwhere(RNG.uniform(size=(6, 4)) < 0.7)


def layers(**options):
    weights = [RNG.normal(1.2, 0.8, (2, 5)), RNG.normal(1.0, 0.5, (5, 3))]
    return FFEvNN([5, 3], 2, options.pop("model", LIF), T_END, KEY, init_weights=weights, **options, **OPTIONS)


def recurrent(**options):
    return EvNN(LIF, 4, 2, T_END, KEY, init_weights=AMONG, max_event_steps=500, **options, **OPTIONS)


NETS = {
    "layers": lambda: layers(trainable=("tmem", "thresh")),
    "refractory layers": lambda: layers(model=Refractory(LIF), tref=2.0),
    "axonal delays": lambda: layers(
        init_axonal_delays=[np.array([0.5, 2.0]), np.arange(5) / 4], trainable=("axonal_delays",)
    ),
    "delays of synapses": lambda: layers(
        init_delays=[RNG.uniform(0.5, 3, (2, 5)), RNG.uniform(0, 2, (5, 3))], trainable=("delays",)
    ),
    "network": lambda: recurrent(init_axonal_delays=1.5, trainable=("tmem",)),
    "network without delays": lambda: recurrent(),
    "network with delays of synapses": lambda: recurrent(
        init_delays=RNG.uniform(1, 4, (6, 4)), trainable=("delays",), max_pending=200
    ),
    "sparse network": lambda: EvNN(
        LIF,
        4,
        2,
        T_END,
        KEY,
        synapses=SYNAPSES,
        init_weights=AMONG[SYNAPSES[:, 0], SYNAPSES[:, 1]],
        init_delays=1.5,
        max_event_steps=500,
        max_pending=200,
        **OPTIONS,
    ),
}


def loss(net, in_spikes, queries):
    """Of a batch that shares the network and the query times."""

    def one(in_spikes):
        times = net.record(in_spikes).times
        spikes = sum(jnp.sum(jnp.where(jnp.isfinite(t), jnp.sin(t), 0)) for t in times)
        return spikes + jnp.sum(net.state_at_t(in_spikes, queries) ** 2)

    return jnp.mean(jax.vmap(one)(in_spikes))


@eqx.filter_jit
def value_and_gradients(net, in_spikes, queries):
    return eqx.filter_value_and_grad(lambda given: loss(*given))((net, in_spikes, queries))


@pytest.fixture
def only_by_xla(monkeypatch):
    """Makes a program for a CPU what it would be for another device; a list that grows with each run and sweep."""
    runs = []

    def start():
        monkeypatch.setattr(boundary, "on_cpu_or_elsewhere", choose)
        jax.clear_caches()
        return runs

    def choose(on_cpu, by_xla, arguments):
        runs.append(by_xla)
        return by_xla(arguments)

    yield start
    monkeypatch.undo()
    jax.clear_caches()


@slow
@pytest.mark.parametrize("name", ["axonal delays"])
def test_the_run_by_xla_gives_what_the_kernel_gives(name, only_by_xla):
    net = NETS[name]()
    native = value_and_gradients(net, IN_SPIKES, QUERIES)
    runs = only_by_xla()
    found = value_and_gradients(net, IN_SPIKES, QUERIES)
    # Of `record` and of `state_at_t`, forwards and backwards.
    assert len(runs) >= 4
    assert np.isfinite(native[0]) and jax.tree.structure(native) == jax.tree.structure(found)
    for mine, other in zip(jax.tree.leaves(native), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(other, mine, rtol=1e-10, atol=1e-10 * max(1, np.abs(mine).max(initial=0)))


@slow
def test_gradients_of_each_sample_are_those_of_the_kernel(only_by_xla):
    net = NETS["layers"]()

    def gradients(weights, x):
        def one(weights, x):
            return jnp.sum(eqx.tree_at(lambda net: net.connections[0].weights, net, weights).state_at_t(x, QUERIES))

        return jax.jit(jax.vmap(jax.grad(one), (None, 0)))(weights, x)

    native = gradients(net.connections[0].weights, IN_SPIKES)
    only_by_xla()
    found = gradients(net.connections[0].weights, IN_SPIKES)
    assert found.shape == (3, 2, 5) and not np.allclose(found[0], found[1])
    np.testing.assert_allclose(found, native, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["layers", pytest.param("sparse network", marks=slow)])
def test_a_program_for_another_device_holds_no_kernel_and_one_for_cpus_no_engine_of_xla(name):
    net = NETS[name]()
    traced = jax.jit(lambda x: jax.grad(loss, 1)(net, x, QUERIES)).trace(IN_SPIKES)
    for_cpus = traced.lower().as_text()
    assert for_cpus.count("_forward_float64") >= 2 and "_backward_float64" in for_cpus
    # Where the synapses of each neuron begin in a list of them is found by a search.
    assert for_cpus.count("stablehlo.while") == (1 if name == "sparse network" else 0)
    elsewhere = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "ffi" not in elsewhere and "eventsnn_" not in elsewhere and "stablehlo.while" in elsewhere


@slow
def test_a_program_for_several_devices_holds_both():
    net = NETS["layers"]()
    traced = jax.jit(net.ttfs).trace(IN_SPIKES[0])
    program = traced.lower(lowering_platforms=("cpu", "cuda")).as_text()
    assert "eventsnn_clock_forward" in program and "stablehlo.while" in program
