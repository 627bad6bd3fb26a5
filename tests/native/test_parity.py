"""The native kernel against oracles that share no code with it, against the XLA engines, and against itself."""

import os
import subprocess
import sys

import asking
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import oracle_recurrent
import parity
import pytest
import random_networks
from parity import KEY, T_END, assert_same_spikes, record, spikes_of, states, train

from eventsnn import (
    IF,
    LIF,
    RESULTS,
    AtMostOneSpike,
    DeltaLIF,
    EvNN,
    ExpLIF,
    FFEvNN,
    LeakyIntegrator,
    Mixed,
    Refractory,
    SimulationError,
)
from eventsnn.engine.feed_forward import Wanted

slow = pytest.mark.slow
DTYPES = [pytest.param(jnp.float32, id="float32"), pytest.param(jnp.float64, id="float64")]
both_dtypes = pytest.mark.parametrize("dtype", DTYPES)
NATIVE = {"engine": "native", "dtype": jnp.float64}


# Layers.


@pytest.mark.parametrize(
    "layers, seeds",
    [
        ((50,), range(30)),
        ((20, 50, 5), range(12)),
        *(pytest.param(layers, range(150), marks=slow) for layers in random_networks.SHAPES),
    ],
)
def test_spikes_of_random_layers_are_those_of_the_oracle(layers, seeds):
    errors = []
    for seed in seeds:
        case = random_networks.random_case("LIF", layers, seed)
        net = random_networks.build(case, jnp.float64, engine="native")
        errors += errors_of_layers(case, net, line=1e-9, far=1e-8)
    assert len(errors) > 2 * len(seeds) and np.median(errors) < 1e-12


@slow
@pytest.mark.parametrize("layers", random_networks.SHAPES)
def test_spikes_of_random_layers_in_float32_are_those_of_the_oracle(layers):
    errors = []
    for seed in range(150):
        case = random_networks.random_case("LIF", layers, seed)
        net = random_networks.build(case, jnp.float32, engine="native")
        errors += errors_of_layers(case, net, line=1e-3, far=2e-2)
    assert len(errors) > 300 and np.median(errors) < 1e-5


def errors_of_layers(case, net, line, far):
    """The largest are those of spikes that nearly graze; none is above `far`."""
    result = random_networks.compare(case, spikes_found(case, net), line=line, far=far)
    assert not result.unexplained
    return result.errors.tolist()


def spikes_found(case, net):
    found = record(net, jnp.asarray(case.in_spikes, net.dtype))
    return [
        [times[who == n] for n in range(len(p["ic"]))]
        for p, (times, who) in ((p, spikes_of(found, number)) for number, p in enumerate(case.parameters))
    ]


# Networks.


def networks(sizes, seeds, kinds=parity.DELAYS, **options):
    """Every regime and every kind of delays, with a compilation for each size."""
    for size, n_inputs in sizes:
        net = parity.recurrent_net(size, n_inputs, throw=False, **options)
        for regime in parity.REGIMES:
            for delays in kinds:
                for seed in seeds:
                    case = parity.recurrent_case(size, n_inputs, regime, delays, seed)
                    yield parity.with_numbers(net, case), case, (size, regime, delays, seed)


@pytest.mark.parametrize(
    "sizes, seeds, kinds",
    [
        (((3, 2),), (0, 2), parity.DELAYS),
        (((70, 3),), (1,), ("mixed", "axonal")),
        pytest.param(((1, 1), (3, 2), (20, 4), (70, 3)), range(8), parity.DELAYS, marks=slow),
    ],
)
def test_spikes_and_states_of_random_networks_are_those_of_the_oracle(sizes, seeds, kinds):
    total = 0
    for net, case, name in networks(sizes, seeds, kinds):
        times = np.array([17.3, 30.0, 4.1, 0.0, 17.3])
        true = parity.truth_of(case, times)
        if true.closest < 1e-10:
            continue
        x = jnp.asarray(case.in_spikes)
        found = record(net, x)
        assert found.result == RESULTS.successful, name
        assert_same_spikes(spikes_of(found), true, 1e-9)
        if name[3] == seeds[0]:
            np.testing.assert_allclose(states(net, x, jnp.asarray(times)), true.states, rtol=1e-8, atol=1e-9)
        total += len(true.times)
    assert total > 100


@slow
def test_spikes_of_random_networks_in_float32_are_those_of_the_oracle():
    compared = 0
    for net, case, name in networks(((3, 2), (20, 4)), range(6), dtype=jnp.float32):
        true = parity.truth_of(case)
        # Where a maximum is near the threshold, or many spikes follow from each other, float32 may go another way.
        if true.closest < 1e-3 or len(true.times) > 100:
            continue
        times, neurons = spikes_of(record(net, jnp.asarray(case.in_spikes, jnp.float32)))
        assert len(times) == len(true.times), name
        np.testing.assert_allclose(times, true.times, rtol=0, atol=1e-2)
        compared += len(times)
    assert compared > 500


def fixed_point(models, weights, delays, in_spikes, t_end):
    """Spikes of a network whose delays are all above 0: every neuron by itself, until nothing changes any more."""
    size = len(models)
    trains = [np.zeros(0)] * size
    for _ in range(60):
        sources = [*trains, *(row[np.isfinite(row)] for row in in_spikes)]
        new = []
        for j, (model, changes, around) in enumerate(models):
            arrivals = sorted((t + delays[row], weights[row, j]) for row, times in enumerate(sources) for t in times)
            new.append(parity.oracle_zoo.simulate(model, changes, arrivals, t_end, **around))
        done = all(len(a) == len(b) and np.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(new, trains, strict=True))
        trains = new
        if done:
            return trains
    raise AssertionError("it goes on changing")


def test_a_network_of_several_models_is_the_fixed_point_of_its_neurons():
    kinds = Mixed((LIF, 1, {"tsyn": 20.0}), (DeltaLIF, 2), (IF, 1, {"tmem": 40.0}), (LeakyIntegrator, 1))
    rng = np.random.default_rng(5)
    weights = np.concatenate([rng.normal(0.0, 0.5, (5, 5)), rng.normal(1.5, 1.0, (3, 5))])
    delays = np.array([1.5, 2.0, 2.5, 3.0, 1.0, 0.0, 0.5, 0.0])
    in_spikes = np.sort(rng.uniform(0, 28, (3, 8)), axis=1)
    net = EvNN(kinds, 5, 3, T_END, KEY, init_weights=weights, init_axonal_delays=delays, **NATIVE)
    delta = ("DeltaLIF", {}, {})
    models = [("LIF", {"tsyn": 20.0}, {}), delta, delta, ("IF", {"tmem": 40.0}, {}), ("LeakyIntegrator", {}, {})]
    true = fixed_point(models, weights, delays, in_spikes, T_END)
    times, neurons = spikes_of(net.record(jnp.asarray(in_spikes)))
    assert len(times) > 20 and len(true[4]) == 0
    for j in range(5):
        np.testing.assert_allclose(times[neurons == j], true[j], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "wrapper", ["refractory", *(pytest.param(name, marks=slow) for name in ("all held", "none held", "block", "once"))]
)
@slow
def test_a_network_of_wrapped_neurons_is_the_fixed_point_of_its_neurons(wrapper):
    around = dict(parity.WRAPPERS[wrapper][1])
    trefs = {}
    if around.pop("tref", False):
        trefs = {"tref": np.array([1.0, 2.5, 4.0])}
    rng = np.random.default_rng(7)
    weights = np.concatenate([rng.normal(0.0, 2.0, (3, 3)), rng.normal(3.0, 2.0, (2, 3))])
    delays = np.array([1.5, 2.0, 2.5, 0.0, 0.5])
    in_spikes = np.sort(rng.uniform(0, 28, (2, 8)), axis=1)
    net = EvNN(parity.WRAPPERS[wrapper][0](LIF), 3, 2, T_END, KEY, init_weights=weights, init_axonal_delays=delays,
               tmem=10.0, **trefs, **NATIVE)  # fmt: skip
    models = [("LIF", {"tmem": 10.0}, {**around, **{name: float(t[j]) for name, t in trefs.items()}}) for j in range(3)]
    true = fixed_point(models, weights, delays, in_spikes, T_END)
    times, neurons = spikes_of(net.record(jnp.asarray(in_spikes)))
    assert len(times) >= (3 if wrapper == "once" else 10)
    for j in range(3):
        np.testing.assert_allclose(times[neurons == j], true[j], rtol=0, atol=1e-9)


# Models and wrappers.

QUICK = {("IF", "none held"), ("DeltaLIF", "block"), ("ExpLIF", "refractory, once"), ("LIF", "all held")}
GRID = [
    pytest.param(model, wrapper, marks=[] if (model, wrapper) in QUICK else slow)
    for model in parity.MODELS
    for wrapper in parity.WRAPPERS
    if parity.makes_sense(model, wrapper)
]


@pytest.mark.parametrize("model, wrapper", GRID)
def test_every_model_and_wrapper_spikes_as_the_integrator_says(model, wrapper):
    net, scale, spikes = parity.zoo_net(model, wrapper), 10 if model == "ExpLIF" else 1, 0
    for seed in range(5 if (model, wrapper) in QUICK else 25):
        case = parity.zoo_case(model, wrapper, seed)
        one = net.with_(**case.changes)
        found, states = asking.spikes_and_states(one, case.in_spikes, jnp.asarray(case.times), 400)
        found = np.asarray(found)[0]
        np.testing.assert_allclose(found[np.isfinite(found)], case.spikes, rtol=0, atol=1e-9)
        own = np.asarray(states)[0, :, : case.states.shape[1]]
        np.testing.assert_allclose(own, case.states, rtol=1e-8, atol=1e-8 * scale)
        spikes += len(case.spikes)
    assert spikes > 0 or model == "LeakyIntegrator"


# Gradients.

TRAINED = ("tmem", "tsyn", "thresh", "vreset", "y0")


def differences(loss, theta, step=3e-5, fixed=()):
    """Central differences of fourth order, entry by entry."""
    gradients = {}
    for name, value in theta.items():
        if name in fixed:
            continue
        gradients[name] = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            if not np.isfinite(value[index]):
                continue
            h, values = step * max(abs(value[index]), 0.3), []
            for k in (-2, -1, 1, 2):
                moved = value.copy()
                moved[index] += k * h
                values.append(loss({**theta, name: moved}))
            gradients[name][index] = np.dot([1, -8, 8, -1], values) / (12 * h)
    return gradients


def assert_same_gradients(found, expected, rtol=1e-6, without_effect=()):
    for name, true in expected.items():
        true = np.zeros_like(true) if name in without_effect else true
        got = np.asarray(found[name])
        np.testing.assert_allclose(got, true, rtol=rtol, atol=1e-7 * max(np.abs(true).max(), 1e-3), err_msg=name)
        assert name in without_effect or np.any(true), name


def network_theta(delays):
    rng = np.random.default_rng(11)
    tmem = rng.uniform(6, 20, 3)
    weights = np.concatenate([rng.normal(-0.1, 0.7, (3, 3)), rng.normal(1.6, 0.9, (2, 3))])
    in_spikes = np.full((2, 6), np.inf)
    in_spikes[:, :5] = rng.uniform(0.5, 22, (2, 5))
    theta = {
        "weights": weights,
        "axonal_delays": np.array(delays),
        "tmem": tmem,
        "tsyn": tmem * np.array([0.3, 1.0, 1.8]),
        "thresh": rng.uniform(0.9, 1.2, 3),
        "vreset": rng.uniform(-0.3, 0.3, 3),
        "ic": rng.uniform(0.3, 0.7, 3),
        "y0": rng.uniform(0.0, 0.3, (3, 2)),
        "in_spikes": in_spikes,
    }
    return theta, rng.normal(size=(3, 20)), rng.normal(size=(3, 4, 2))


DELAY_CHOICES = {"positive": [1.0, 1.7, 2.2, 0.6, 0.9], "mixed": [0.0, 1.7, 0.0, 0.0, 0.9]}


@pytest.mark.parametrize("delays", DELAY_CHOICES)
def test_gradients_of_a_network_by_everything_are_differences_of_the_oracle(delays):
    theta, by_spikes, by_states = network_theta(DELAY_CHOICES[delays])
    times = np.array([21.3, 9.7, 21.3, 28.9])
    net = EvNN(LIF, 3, 2, T_END, KEY, wmean=1.0, init_axonal_delays=theta["axonal_delays"],
               trainable=(*TRAINED, "axonal_delays"), **NATIVE)  # fmt: skip

    def true_loss(theta):
        d = np.repeat(theta["axonal_delays"][:, None], 3, axis=1)
        run = oracle_recurrent.simulate("LIF", theta["in_spikes"], theta["weights"], d, theta, T_END, times)
        assert run.closest > 1e-3
        trains = [run.times[run.neurons == n] for n in range(3)]
        return sum(row[: len(t)] @ t for row, t in zip(by_spikes, trains, strict=True)) + np.sum(by_states * run.states)

    @jax.jit
    @jax.value_and_grad
    def loss(theta):
        changed = net.with_(**{name: value for name, value in theta.items() if name != "in_spikes"})
        spikes = changed.spikes_until_t(theta["in_spikes"], T_END, 20)
        states = changed.state_at_t(theta["in_spikes"], jnp.asarray(times))
        return jnp.sum(jnp.where(jnp.isfinite(spikes), spikes, 0) * by_spikes) + jnp.sum(states * by_states)

    value, gradients = loss({name: jnp.asarray(number) for name, number in theta.items()})
    np.testing.assert_allclose(value, true_loss(theta), rtol=1e-9)
    # A delay of 0 cannot become smaller: those are left out, and weights behind them are not.
    expected = differences(true_loss, theta, fixed=() if delays == "positive" else ("axonal_delays",))
    assert_same_gradients(gradients, expected)


REFRACTORY = ["none held", *(pytest.param(name, marks=slow) for name in ("refractory", "all held", "block"))]


@pytest.mark.parametrize("wrapper", REFRACTORY)
@slow
def test_gradients_of_refractory_neurons_by_everything_are_differences_of_the_oracle(wrapper):
    around = {name: value for name, value in parity.WRAPPERS[wrapper][1].items() if name != "tref"}
    rng = np.random.default_rng(3)
    arrivals = np.sort(rng.uniform(0.5, 24, 9))
    theta = {
        "weights": rng.normal(2.2, 0.8, (9, 1)),
        "in_spikes": arrivals[:, None],
        **{name: np.array([value]) for name, value in (("tmem", 9.0), ("tsyn", 4.0), ("thresh", 1.0), ("tref", 2.3))},
        **{
            "vreset": np.array([-0.2]),
            "ic": np.array([0.3]),
            "y0": np.array([[0.2, 0.4]]),
            "times": np.array([6.1, 13.7, 26.2]),
        },
    }
    by_states = rng.normal(size=(3, 2))
    net = FFEvNN([1], 9, parity.WRAPPERS[wrapper][0](LIF), T_END, KEY, wmean=1.0, trainable=(*TRAINED, "tref"),
                 **NATIVE)  # fmt: skip

    def true_loss(theta):
        own = {name: float(theta[name][0]) for name in ("tmem", "tsyn", "thresh", "vreset", "ic")}
        own["y0"], tref = theta["y0"][0], float(theta["tref"][0])
        pairs = list(zip(theta["in_spikes"][:, 0], theta["weights"][:, 0], strict=True))
        spikes = parity.oracle_zoo.simulate("LIF", own, pairs, T_END, tref=tref, **around)
        state = parity.oracle_zoo.states("LIF", own, pairs, theta["times"], tref=tref, **around)
        return float(np.sum(spikes * np.arange(1, len(spikes) + 1)) + np.sum(by_states * state))

    @jax.jit
    @jax.value_and_grad
    def loss(theta):
        changed = net.with_(**{name: value for name, value in theta.items() if name not in ("in_spikes", "times")})
        spikes = changed.spikes_until_t(theta["in_spikes"], T_END, 12)[0]
        state = changed.state_at_t(theta["in_spikes"], theta["times"])[0, :, :2]
        weighed = jnp.where(jnp.isfinite(spikes), spikes, 0) * jnp.arange(1.0, 13.0)
        return jnp.sum(weighed) + jnp.sum(state * by_states)

    value, gradients = loss({name: jnp.asarray(number) for name, number in theta.items()})
    np.testing.assert_allclose(value, true_loss(theta), rtol=1e-9)
    if wrapper == "all held":
        # A current that stands still hears of nothing: some arrivals count for nothing.
        assert 0.0 in np.asarray(gradients["weights"])
    # The potential moves on during a refractory time, so its exact end has no effect unless an arrival is near.
    without_effect = ("tref",) if wrapper == "block" else ()
    expected = differences(true_loss, theta, step=1e-4)
    assert_same_gradients(gradients, expected, rtol=2e-6, without_effect=without_effect)


MANY = {
    "one clock": (LIF, 0.0),
    "refractory": (Refractory(LIF, hold=("V", "I")), 1.3),
    "not held": (Refractory(LIF, hold=()), 1.3),
    "delta": (Refractory(DeltaLIF, block=True), 1.3),
    "integrators": (IF, 1.3),
}


@pytest.mark.parametrize(
    "kind", ["refractory", *(pytest.param(kind, marks=slow) for kind in MANY if kind[:3] != "ref")]
)
@slow
def test_gradients_through_thousands_of_events_are_differences_along_any_direction(kind):
    # So many that the states which time constants need are kept only now and then, and computed again between.
    model, delay = MANY[kind]
    n, rng = 30, np.random.default_rng(9)
    by_current = 1.0 if "DeltaLIF" not in model.__name__ else 0.15
    weights = by_current * np.concatenate([rng.normal(-0.2, 0.4, (n, n)), rng.normal(0.5, 0.7, (20, n))])
    if delay == 0:
        weights[:n] = np.minimum(weights[:n], 0)
    trained = [name for name in ("tmem", "tsyn", "thresh", "vreset", "tref") if name in model._declared]
    start = {"tmem": rng.uniform(8, 25, n), "tsyn": rng.uniform(3, 9, n), "thresh": rng.uniform(0.9, 1.3, n),
             "vreset": rng.uniform(-0.2, 0.2, n), "tref": rng.uniform(0.5, 2.0, n)}  # fmt: skip
    net = EvNN(model, n, 20, 100.0, KEY, init_weights=weights, init_axonal_delays=delay, max_event_steps=4000,
               trainable=tuple(trained), engine="native", dtype=jnp.float64,
               **{name: start[name] for name in trained})  # fmt: skip
    x = jnp.asarray(rng.uniform(0, 95, (20, 25)))
    weighing = np.cos(np.arange(4000))
    theta = {"weights": net.connection.weights, "ic": jnp.asarray(rng.uniform(0, 0.3, n)), "x": x}
    theta |= {name: jnp.asarray(start[name]) for name in trained}

    @jax.jit
    def loss(theta):
        changed = net.with_(**{name: value for name, value in theta.items() if name != "x"})
        wanted = Wanted(jnp.asarray(100.0), jnp.asarray([33.0, 71.0, 99.0]))
        run = changed._run(theta["x"], wanted)[0][0]
        real = jnp.isfinite(run.times)
        return jnp.sum(jnp.where(real, run.times, 0) * weighing) + jnp.sum(run.states[..., 0]), jnp.sum(real)

    gradient, count = jax.jit(jax.grad(loss, has_aux=True))(theta)
    assert 300 < int(count) < 4000
    for name in theta:
        direction = rng.normal(size=theta[name].shape)
        slopes, counts = [], set()
        for h in (1e-8, 1e-7):
            ups, downs = (loss({**theta, name: theta[name] + sign * h * direction}) for sign in (1, -1))
            slopes.append(float((ups[0] - downs[0]) / (2 * h)))
            counts |= {int(ups[1]), int(downs[1])}
        assert counts == {int(count)}
        predicted = float(jnp.sum(gradient[name] * direction))
        # The better of the two steps: one suffers from rounding, the other may make a spike pass another.
        assert min(abs(slope - predicted) for slope in slopes) < 2e-4 * abs(predicted) + 1e-4, (name, slopes, predicted)


def trained_network(n_samples=4, **options):
    rng = np.random.default_rng(2)
    weights = np.concatenate([rng.normal(0, 0.8, (5, 5)), rng.normal(2.5, 1.5, (2, 5))])
    options = {"init_axonal_delays": 1.0, "trainable": ("tmem", "axonal_delays"), "max_event_steps": 300, **options}
    net = EvNN(LIF, 5, 2, T_END, KEY, init_weights=weights, engine="native", **options)
    x = jnp.asarray(rng.uniform(0, 25, (n_samples, 2, 6)), net.dtype)
    return net, x.at[0].set(jnp.inf)


def total(net, x):
    """Of all spikes and of states, from one run."""
    wanted = Wanted(jnp.asarray(T_END, net.dtype), jnp.asarray([11.0, 3.0, 29.0], net.dtype))
    run = net._run(x, wanted)[0][-1]
    share = jnp.cos(0.01 * run.times)
    return jnp.sum(jnp.where(jnp.isfinite(run.times), share, 0)) + jnp.sum(run.states)


@eqx.filter_jit
def gradients_of_each(net, xs):
    return jax.vmap(eqx.filter_grad(total), in_axes=(None, 0))(net, xs)


@eqx.filter_jit
def gradient_of_one(net, x):
    return eqx.filter_grad(total)(net, x)


@eqx.filter_jit
def gradient_of_all(net, xs):
    return eqx.filter_grad(lambda net: jnp.sum(jax.vmap(total, in_axes=(None, 0))(net, xs)))(net)


def numbers(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))]


@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.float64, marks=slow)])
def test_samples_alone_and_in_any_batch_have_the_same_bits_also_of_gradients(dtype):
    net, xs = trained_network(dtype=dtype)
    each = numbers(gradients_of_each(net, xs))
    for sample in (0, 3):
        for many, one in zip(each, numbers(gradient_of_one(net, xs[sample])), strict=True):
            np.testing.assert_array_equal(many[sample], one)
    turned = numbers(gradients_of_each(net, xs[::-1]))
    again = numbers(gradients_of_each(net, xs))
    for many, other, repeated in zip(each, turned, again, strict=True):
        np.testing.assert_array_equal(many[::-1], other)
        np.testing.assert_array_equal(many, repeated)
    # The gradient of a batch is the sum over its samples, in another order.
    summed, once_more = numbers(gradient_of_all(net, xs)), numbers(gradient_of_all(net, xs))
    for many, all_, repeated in zip(each, summed, once_more, strict=True):
        np.testing.assert_array_equal(all_, repeated)
        scale = np.abs(many).max() + 1e-30
        rtol = 1e-12 if dtype == jnp.float64 else 1e-5
        np.testing.assert_allclose(all_, many.sum(axis=0), rtol=rtol, atol=rtol * scale)


@slow
def test_an_ensemble_under_two_nested_vmaps_is_its_networks_one_by_one():
    net, xs = trained_network(3, dtype=jnp.float64)
    scales, taus = jnp.array([0.7, 1.0]), jnp.array([10.0, 20.0, 25.0])

    def loss(scale, tau, x):
        return total(net.with_(weights=net.connection.weights * scale, tmem=tau), x)

    both = jax.value_and_grad(loss, argnums=(0, 1))
    over_samples = jax.vmap(both, in_axes=(None, None, 0))
    grid = jax.jit(jax.vmap(jax.vmap(over_samples, in_axes=(None, 0, None)), in_axes=(0, None, None)))(scales, taus, xs)
    one = jax.jit(both)
    for i, j, k in np.ndindex(2, 3, 3):
        alone = one(scales[i], taus[j], xs[k])
        picked = jax.tree.map(lambda leaf: leaf[i, j, k], grid)  # noqa: B023
        for got, expected in zip(jax.tree.leaves(picked), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_a_run_without_any_spikes_has_gradients_of_exactly_0():
    net, xs = trained_network(1, dtype=jnp.float64)
    silent = net.with_(weights=1e-3)

    def times(net):
        return jnp.sum(jnp.minimum(silent.with_(weights=net).ttfs(xs[0]), 50.0))

    np.testing.assert_array_equal(jax.grad(times)(silent.connection.weights), np.zeros((7, 5)))


# Queries.


def test_queries_in_any_order_repeated_at_spikes_and_at_both_ends_are_states_after_all_that_happens_there():
    weights = np.array([[0.0, 3.0], [0.0, 0.0], [12.0, 2.0]])
    net = EvNN(LIF, 2, 1, T_END, KEY, init_weights=weights, init_axonal_delays=[1.5, 1.5, 0.0], vreset=-0.25, **NATIVE)
    x = jnp.array([[0.0, 9.0, 30.0]])
    times, neurons = spikes_of(record(net, x))
    assert len(times) > 3 and set(neurons) == {0, 1}
    asked = np.concatenate([[30.0, 0.0], times[::-1], times, [9.0, 0.0, 30.0]])
    answers = np.asarray(states(net, x, jnp.asarray(asked)))
    np.testing.assert_array_equal(answers[:, 2 : 2 + len(times)][:, ::-1], answers[:, 2 + len(times) : -3])
    np.testing.assert_array_equal(answers[:, [0, 1]], answers[:, [-1, -2]])
    # Right after its own spike a neuron is at its reset; the others are below their threshold.
    for number, neuron in enumerate(neurons):
        np.testing.assert_allclose(answers[neuron, 2 + len(times) + number, 0], -0.25, atol=1e-12)
    assert np.all(answers[..., 0] < 1)
    np.testing.assert_array_equal(answers[:, 1, 1], [12.0, 2.0])
    later = np.asarray(states(net, x, jnp.asarray(asked * 0 + 30.0)))[:, 0, 1]
    before = np.asarray(states(net, x.at[0, 2].set(jnp.inf), jnp.asarray(asked * 0 + 30.0)))[:, 0, 1]
    np.testing.assert_allclose(later - before, [12.0, 2.0], rtol=1e-12)


@both_dtypes
@pytest.mark.parametrize("delay", [0.0, 1.5])
def test_a_thousand_queries_leave_every_spike_the_same_to_the_bit(delay, dtype):
    weights = np.array([[0.0, 0.5], [-0.5, 0.0], [3.0, 3.0]])
    net = EvNN(LIF, 2, 1, T_END, KEY, init_weights=weights, init_axonal_delays=[delay, delay, 0.0], engine="native",
               init_bias=np.array([0.9, 1.2]), dtype=dtype)  # fmt: skip
    x = jnp.asarray([[1.0, 7.0, 9.0, 16.0, 21.0]], dtype)
    many = np.linspace(0, 30, 1000)
    few = spikes_with(net, x, many[:1])
    assert np.isfinite(few).sum() > 4
    np.testing.assert_array_equal(spikes_with(net, x, many), few)


def spikes_with(net, x, times):
    wanted = Wanted(jnp.asarray(T_END, net.dtype), jnp.asarray(times, net.dtype))
    return np.asarray(net._run(x, wanted)[0][0].times)


@pytest.mark.parametrize("delays", ["uniform", "mixed"])
def test_queries_that_stop_early_give_what_a_whole_run_gives(delays):
    case = parity.recurrent_case(20, 4, "dense", delays, 1)
    net = parity.with_numbers(parity.recurrent_net(20, 4, output_neurons=np.arange(20) % 3 == 0), case)
    x = jnp.asarray(case.in_spikes)
    times, neurons = spikes_of(record(net, x))
    first = np.asarray(net.ttfs(x))
    some = np.asarray(net.spikes_until_t(x, 20.0, 60))
    trains = [times[neurons == n] for n in range(0, 20, 3)]
    assert max(map(len, trains)) > 3
    for own, row, true in zip(first, some, trains, strict=True):
        assert own == (true[0] if len(true) else np.inf)
        early = true[true <= 20.0]
        np.testing.assert_allclose(row, np.concatenate([early, np.full(60 - len(early), np.inf)]), rtol=1e-13)


def test_slopes_are_those_of_the_potential_and_min_slope_bounds_gradients_by_them():
    weights = np.array([[7.0, 6.4, 3.0]])
    net = FFEvNN([3], 1, LIF, 30.0, KEY, init_weights=weights, **NATIVE)
    x = jnp.array([[1.0]])
    found = net.record(x)
    times, neurons = spikes_of(found)
    slopes = np.asarray(found.slopes[0])[: len(times)]
    v, i = np.ones(len(times)), weights[0, neurons] * np.exp(-(times - 1) / 5)
    np.testing.assert_allclose(slopes, (i - v) / 20, rtol=1e-9)
    assert set(neurons) == {0, 1}

    def gradient(min_slope):
        one = FFEvNN([3], 1, LIF, 30.0, KEY, init_weights=weights, min_slope=min_slope, **NATIVE)
        return np.asarray(
            jax.grad(lambda w: jnp.sum(jnp.minimum(one.with_(weights=w).ttfs(x), 99.0)))(jnp.asarray(weights))
        )[0]

    free, bounded = gradient(0.0), gradient(0.1)
    first = np.array([slopes[neurons == n][0] for n in (0, 1)])
    np.testing.assert_allclose(bounded[:2], free[:2] * first / np.maximum(first, 0.1), rtol=1e-9)
    assert free[2] == bounded[2] == 0


# Faults.


def test_a_full_list_of_a_network_is_an_error_and_never_silence():
    net = EvNN(LIF, 2, 1, T_END, KEY, init_weights=[[9.0, 9.0], [9.0, 9.0], [50.0, 50.0]], init_axonal_delays=1.0,
               max_event_steps=3, engine="native")  # fmt: skip
    x = jnp.array([[1.0]], jnp.float32)
    with pytest.raises(SimulationError, match="max_event_steps = 3"):
        net.record(x)
    quiet = net.with_(throw=False)
    silent = jnp.full_like(x, jnp.inf)
    out, others = jax.vmap(quiet.ttfs)(jnp.stack([x, silent]))
    # The first two spikes were there, but nobody can rely on them.
    assert np.all(np.isnan(out)) or np.all(np.isfinite(out))
    np.testing.assert_array_equal(others, [np.inf, np.inf])
    assert quiet.record(x).result == RESULTS.too_many_spikes
    exactly = net.with_(weights=np.array([[0.0, 0.0], [0.0, 0.0], [8.0, 8.0]], np.float32))
    assert len(spikes_of(exactly.record(x))[0]) == 2


@pytest.mark.parametrize("kind", ["layer", "network"])
def test_bad_input_times_are_errors_and_nothing_worse(kind):
    # Far below 0 the kernel once wrote in front of its arrays. A process of its own would take the blow.
    make = {"layer": "FFEvNN([2], 2, DeltaLIF, ", "network": "EvNN(DeltaLIF, 2, 2, "}[kind]
    code = f"""
import jax, jax.numpy as jnp
from eventsnn import *
delays = jnp.array([0.0, 1.0] if "{kind}" == "layer" else [1.0, 1.0, 0.0, 1.0])
options = dict(init_weights=1.5, init_axonal_delays=delays, engine="native")
net, quiet = ({make}40.0, jax.random.PRNGKey(0), throw=throw, **options) for throw in (True, False))
for bad in (-1.0, jnp.nan, -1e9, -jnp.inf):
    x = jnp.array([[bad, 3.0], [1.0, 2.0]], jnp.float32)
    try:
        net.ttfs(x)
    except ValueError as error:
        print(error)
    print(quiet.ttfs(x), flush=True)
"""
    done = in_another_process(code)
    assert done.returncode == 0, (done.stdout, done.stderr[-500:])
    assert done.stdout.count("in_spikes[0, 0] is ") == done.stdout.count("[nan nan]") == 4


def in_another_process(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env={**os.environ, **environment}
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("model", [LIF, DeltaLIF])
def test_bad_weights_are_errors_and_nan_without_throw(model, bad):
    weights = jnp.array([[1.0, 2.0], [0.5, bad], [1.5, 1.5]], jnp.float32)
    x = jnp.array([[1.0]], jnp.float32)
    options = {"init_weights": 1.0, "init_axonal_delays": 1.0, "engine": "native"}
    net, quiet = (
        eqx.tree_at(lambda net: net.connection.weights, EvNN(model, 2, 1, T_END, KEY, throw=throw, **options), weights)
        for throw in (True, False)
    )
    with pytest.raises(ValueError, match=r"weights\[1, 1\] is (nan|inf|-inf)"):
        net.ttfs(x)
    assert np.all(np.isnan(quiet.ttfs(x)))


def test_a_reset_above_threshold_names_neuron_and_time_and_does_not_hide_the_others():
    # V' = 1/10 and so on: 10, 7 and 9 ms to the threshold.
    def net(throw):
        tmem = np.array([10.0, 7.0, 9.0])
        made = FFEvNN([3], 1, IF, 40.0, KEY, init_weights=0.0, init_bias=1.0, tmem=tmem, throw=throw, **NATIVE)
        return eqx.tree_at(lambda net: net.neurons[0].vreset.value, made, jnp.array([0.0, 1.5, 0.0]))

    none = jnp.full((1, 1), jnp.inf)
    with pytest.raises(SimulationError, match=r"neuron 1, t = (7|6\.99\d*) ms: .*reset"):
        net(throw=True).record(none)
    found = net(throw=False).record(none)
    assert found.result == RESULTS.reset_above_threshold
    times, neurons = spikes_of(found)
    for neuron, true in ((0, [10, 20, 30, 40]), (1, [7]), (2, [9, 18, 27, 36])):
        np.testing.assert_allclose(times[neurons == neuron], true, rtol=1e-12)


def test_a_burst_without_delay_that_never_ends_is_an_error_that_names_its_time():
    # Two neurons that lift each other at once, each time.
    weights = np.array([[0.0, 2.0], [2.0, 0.0], [2.0, 0.0]])
    pair = EvNN(DeltaLIF, 2, 1, 40.0, KEY, init_weights=weights, max_event_steps=100_000, **NATIVE)
    with pytest.raises(SimulationError, match=r"neuron [01], t = 3 ms"):
        pair.record(jnp.array([[3.0]]))


# Numbers.


@both_dtypes
def test_thousands_of_spikes_do_not_drift(dtype):
    # V' = (2 - V)/20 from 0 to 1: 20 ln 2 ms each.
    net = FFEvNN(
        [3], 1, LIF, 1e5, KEY, init_weights=0.0, init_bias=2.0, dtype=dtype, engine="native", max_event_steps=30_000
    )
    times, neurons = spikes_of(net.record(jnp.full((1, 1), jnp.inf, dtype)))
    true = 20 * np.log(2) * np.arange(1, 7214)
    assert len(times) == 3 * 7213
    for n in range(3):
        ulps = np.abs(times[neurons == n] - true) / np.spacing(true.astype(dtype))
        assert ulps.max() < 4


WITHOUT_FLOAT64 = """
import jax, jax.numpy as jnp
from eventsnn import LIF, EvNN

def run():
    weights = jnp.array([[0.0, 3.0], [-1.0, 0.0], [12.0, 2.0]], jnp.float32)
    net = EvNN(LIF, 2, 1, 30.0, jax.random.PRNGKey(0), init_weights=weights, init_axonal_delays=1.5, engine="native",
               trainable=("tmem",), dtype=jnp.float32)
    x = jnp.array([[1.0, 9.0, 20.0]], jnp.float32)

    def late(weights, tmem):
        return net.with_(weights=weights, tmem=tmem).spikes_until_t(x, 30.0, 12)[0, :4].sum()

    value, gradients = jax.value_and_grad(late, (0, 1))(weights, jnp.asarray(20.0, jnp.float32))
    return [value.item(), *gradients[0].ravel().tolist(), gradients[1].item()]
"""


def test_where_jax_has_no_float64_spikes_and_gradients_are_the_same():
    here = {}
    exec(WITHOUT_FLOAT64, here)
    done = in_another_process(WITHOUT_FLOAT64 + "print(repr(run()))", JAX_ENABLE_X64="0")
    assert done.returncode == 0, done.stderr[-800:]
    expected = here["run"]()
    assert np.all(np.isfinite(expected)) and expected[-1] != 0
    # The compiler of XLA has other options there, and rounds sums of a few numbers in another order.
    np.testing.assert_allclose(eval(done.stdout), expected, rtol=1e-6)


# What once went wrong.


def test_a_spike_before_a_long_silence_is_not_lost_where_the_drive_at_threshold_is_0():
    # V = 1.5 (1 - exp(-s)) reaches 1 at ln 3. After 745 time constants the current is too small to write down.
    net = FFEvNN([1], 1, IF, 1000.0, KEY, init_weights=1.5, tmem=1.0, tsyn=1.0, **NATIVE)
    x = jnp.array([[1.0]])
    np.testing.assert_allclose(train(net, x), [1 + np.log(3)], rtol=1e-14)
    # tmem = 20, tsyn = 1, V0 = -1/2, threshold 0: V exp(s/20) = -1/2 + 50/19 (1 - exp(-0.95 s)).
    near_0 = {"thresh": 0.0, "vreset": -1.0, "y0": np.array([-0.5, 0.0]), "tsyn": 1.0}
    net = FFEvNN([1], 1, LIF, 1000.0, KEY, init_weights=50.0, **near_0, **NATIVE)
    np.testing.assert_allclose(train(net, jnp.array([[0.0]]))[0], -np.log(1 - 19 / 100) / 0.95, rtol=1e-12)


@pytest.mark.parametrize("tmem, tsyn", [(1.0, 20.0), (20.0, 1.0), (1.0, 1.0)])
def test_gradients_by_time_constants_over_a_long_silence_are_finite(tmem, tsyn):
    net = FFEvNN([1], 1, LIF, 1000.0, KEY, init_weights=60.0, trainable=("tmem", "tsyn"), **NATIVE)
    x = jnp.array([[1.0]])

    def first(tmem, tsyn):
        return net.with_(tmem=tmem, tsyn=tsyn).ttfs(x)[0]

    gradient = jax.grad(first, (0, 1))(tmem, tsyn)
    h = 1e-5
    for got, up, down in (
        (gradient[0], first(tmem + h, tsyn), first(tmem - h, tsyn)),
        (gradient[1], first(tmem, tsyn + h), first(tmem, tsyn - h)),
    ):
        np.testing.assert_allclose(got, (up - down) / (2 * h), rtol=1e-5)


def test_a_current_keeps_its_digits_while_it_decays():
    net = FFEvNN([1], 1, LIF, 100.0, KEY, init_weights=0.9, tsyn=1.0, **NATIVE)
    times = np.array([30.0, 45.0, 100.0])
    found = np.asarray(net.state_at_t(jnp.array([[0.0]]), jnp.asarray(times)))[0, :, 1]
    np.testing.assert_allclose(found, 0.9 * np.exp(-times), rtol=1e-12)


@both_dtypes
@pytest.mark.parametrize("kind", ["layer", "network"])
def test_every_refractory_time_is_exactly_so_many_inputs_long(kind, dtype):
    # Inputs at 0, 0.1, ..., 100, each enough for a spike. The end of a refractory time may be an ulp after its input.
    x = jnp.asarray([[k / 10 for k in range(1001)]], dtype)
    options = {"tref": 0.3, "dtype": dtype, "engine": "native"}
    if kind == "layer":
        net = FFEvNN([1], 1, Refractory(DeltaLIF), 101.0, KEY, init_weights=1.5, **options)
    else:
        weights, delays = np.array([[0.0], [1.5]]), np.array([1.0, 0.0])
        net = EvNN(Refractory(DeltaLIF), 1, 1, 101.0, KEY, init_weights=weights, init_axonal_delays=delays, **options)
    for tref, every in ((0.3, 3), (0.7, 7), (2.3, 23)):
        times = train(net.with_(tref=tref), x)
        np.testing.assert_array_equal(times, np.asarray(x[0], np.float64)[::every])


def test_a_potential_that_has_no_threshold_may_be_huge():
    net = FFEvNN([2], 1, LeakyIntegrator, 40.0, KEY, init_weights=1e31, engine="native")
    assert not np.any(np.isfinite(net.record(jnp.array([[3.0]], jnp.float32)).times[0]))


@both_dtypes
def test_a_crossing_at_the_time_of_an_arrival_that_does_not_concern_it_keeps_its_gradient(dtype):
    # t = 10 ln(ic/(ic - 1)): dt/dic = 10 (1/ic - 1/(ic - 1)) = -5 at 2.
    net = FFEvNN([1], 1, DeltaLIF, 40.0, KEY, init_weights=0.0, init_bias=2.0, tmem=10.0, engine="native", dtype=dtype)

    def first(ic, x):
        return net.with_(ic=ic).ttfs(x)[0]

    ic = jnp.full(1, 2.0, dtype)
    time = np.asarray(first(ic, jnp.full((1, 1), 30.0, dtype)))
    for x in (np.nextafter(time, dtype(0)), time, np.nextafter(time, dtype(99))):
        np.testing.assert_allclose(jax.grad(first)(ic, jnp.asarray(x, dtype).reshape(1, 1)), [-5.0], rtol=1e-5)


@pytest.mark.parametrize("weight, first", [(0.0, -5.0), (-0.5, None)])
def test_a_spike_that_an_arrival_causes_is_not_taken_for_a_crossing_before_it(weight, first):
    # The neuron crosses before an arrival that does nothing, or meets one that keeps it from spiking. At 9 another
    # lifts it over the threshold, whatever the bias is. A crossing has dt/dic = 10 (1/ic - 1/(ic - 1)) = -5 at 2.
    net = FFEvNN([1], 2, DeltaLIF, 9.5, KEY, init_weights=np.array([[weight], [1.5]]), init_bias=2.0, tmem=10.0,
                 **NATIVE)  # fmt: skip
    crossing = net.record(jnp.full((2, 1), jnp.inf)).times[0][0]
    x = jnp.stack([crossing if first is None else crossing + 0.5, jnp.array(9.0)])[:, None]
    gradient = jax.jacobian(lambda ic: net.with_(ic=ic).record(x).times[0][:2])(jnp.full(1, 2.0))[:, 0]
    expected = [first, 0.0] if first is not None else [0.0]
    np.testing.assert_allclose(gradient[: len(expected)], expected, rtol=1e-9)


# Against the XLA engines.


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(AtMostOneSpike(LIF), id="once"),
        *(
            pytest.param(model, id=name, marks=slow)
            for name, model in (
                ("LIF", LIF),
                ("DeltaLIF", DeltaLIF),
                ("ExpLIF", ExpLIF),
                ("refractory", Refractory(LIF, hold=("V", "I"))),
                ("mixed", Mixed((LIF, 6), (DeltaLIF, 2), (LeakyIntegrator, 2))),
            )
        ),
    ],
)
def test_a_layer_gives_what_xla_gives_with_all_its_gradients(model):
    rng = np.random.default_rng(1)
    scale = 10 if model is ExpLIF else 1
    weights, x = scale * rng.normal(1.0, 1.2, (3, 10)), jnp.asarray(rng.uniform(0, 25, (3, 8)))
    bias = {} if model is ExpLIF or "Mixed" in model.__name__ else {"init_bias": rng.uniform(0, 0.8, 10)}
    trained = ("tau", "tsyn", "V_th") if model is ExpLIF else ("tmem", "thresh")
    results = []
    for engine in ("native", "xla"):
        net = FFEvNN([10], 3, model, T_END, KEY, init_weights=weights, engine=engine, dtype=jnp.float64, **bias,
                     trainable=trained, init_axonal_delays=np.array([0.0, 1.0, 2.5]))  # fmt: skip
        value, gradient = eqx.filter_jit(eqx.filter_value_and_grad(total))(net, x)
        results.append([value, *numbers(gradient)])
    for native, xla in zip(*results, strict=True):
        np.testing.assert_allclose(native, xla, rtol=1e-8, atol=1e-9)


@slow
@pytest.mark.parametrize(
    "model, delays",
    [(LIF, "uniform"), (DeltaLIF, "mixed"), (Refractory(LIF), "mixed"), (AtMostOneSpike(LIF), "uniform")],
)
def test_a_network_gives_what_xla_gives_with_all_its_gradients(model, delays):
    rng = np.random.default_rng(4)
    weights = np.concatenate([np.minimum(rng.normal(-0.4, 0.6, (5, 5)), 0.3), rng.normal(1.5, 1.0, (2, 5))])
    x = jnp.asarray(rng.uniform(0, 25, (2, 6)))
    axonal = {"uniform": 1.5, "mixed": [0.0, 1.0, 0.0, 2.0, 0.0, 0.0, 0.7]}[delays]
    results = []
    for engine in ("native", "xla"):
        net = EvNN(model, 5, 2, T_END, KEY, init_weights=weights, engine=engine, dtype=jnp.float64, tmem=8.0,
                   init_axonal_delays=axonal, trainable=("tmem", "thresh", "axonal_delays"), windows=False)  # fmt: skip
        value, gradient = eqx.filter_jit(eqx.filter_value_and_grad(total))(net, x)
        results.append([value, *numbers(gradient)])
    for native, xla in zip(*results, strict=True):
        np.testing.assert_allclose(native, xla, rtol=1e-7, atol=1e-8)
