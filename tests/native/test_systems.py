"""The native kernel of linear systems against an oracle, against central differences, and against the XLA engines."""

import dataclasses

import asking
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import oracle_zoo
import pytest
import zoo
from parity import KEY, spikes_of, train

import eventsnn
from eventsnn import (
    ALIF,
    LIF,
    MAT,
    RESULTS,
    AlphaLIF,
    AtMostOneSpike,
    DualExpLIF,
    EvNN,
    FFEvNN,
    LeakyIntegrator,
    Mixed,
    Refractory,
    SimulationError,
    TwoCompartment,
)
from eventsnn.engine.feed_forward import Wanted

slow = pytest.mark.slow
MODELS = {"AlphaLIF": AlphaLIF, "DualExpLIF": DualExpLIF, "TwoCompartment": TwoCompartment, "ALIF": ALIF, "MAT": MAT}
WRAPPERS = {
    "plain": (lambda model: model, {}),
    "refractory": (Refractory, {"tref": 2.5}),
    "all held": (lambda model: Refractory(model, hold=model.channels), {"tref": 2.5, "held": "all"}),
    "others held": (lambda model: Refractory(model, hold=model.channels[1:]), {"tref": 2.5, "held": "others"}),
    "none held": (lambda model: Refractory(model, hold=()), {"tref": 2.5, "held": ()}),
    "block": (lambda model: Refractory(model, block=True), {"tref": 2.5, "block": True}),
    "once": (AtMostOneSpike, {"once": True}),
    "once, refractory": (lambda model: AtMostOneSpike(Refractory(model)), {"tref": 2.5, "once": True}),
    "refractory, once": (lambda model: Refractory(AtMostOneSpike(model)), {"tref": 2.5, "once": True}),
}
T_END = 40.0
TRAINED = {
    "AlphaLIF": ("thresh", "tsyn", "tmem", "vreset", "y0"),
    "DualExpLIF": ("thresh", "trise", "tdecay", "tmem", "vreset", "y0"),
    "TwoCompartment": ("thresh", "tsoma", "tdend", "gsoma", "gdend", "tsyn", "vreset", "y0"),
    "ALIF": ("thresh", "tsyn", "tmem", "vreset", "tadapt", "beta", "y0"),
    "MAT": ("omega", "alpha1", "alpha2", "t1", "t2", "tmem", "tsyn", "y0"),
}
NATIVE = {"engine": "native", "dtype": jnp.float64}


def around(name, wrapper):
    """The options of the oracle for a wrapper."""
    options = dict(WRAPPERS[wrapper][1])
    channels = MODELS[name].channels
    if options.get("held") in ("all", "others"):
        options["held"] = channels if options["held"] == "all" else channels[1:]
    return options


# Spikes and states.

QUICK = {"AlphaLIF": ("plain", "others held"), "TwoCompartment": ("refractory", "plain"), "MAT": ("none held", "once"),
         "ALIF": ("block",), "DualExpLIF": ("refractory, once",)}  # fmt: skip
# Each wrapper at least once, and each model plain.
MORE = {"AlphaLIF": ("refractory, once",), "TwoCompartment": ("once, refractory",), "MAT": ("plain",),
        "ALIF": ("plain", "once"), "DualExpLIF": ("plain", "all held")}  # fmt: skip
GRID = [
    *((name, wrapper) for name in MODELS for wrapper in QUICK[name]),
    *(pytest.param(name, wrapper, marks=slow) for name in MODELS for wrapper in MORE[name]),
]


@pytest.mark.parametrize("name, wrapper", GRID)
def test_spikes_and_states_of_single_neurons_are_those_of_an_integrator(name, wrapper):
    case, options = zoo.make_case(name), around(name, wrapper)
    trefs = {"tref": options["tref"]} if "tref" in options else {}
    net = zoo.network(case, model=WRAPPERS[wrapper][0](MODELS[name]), engine="native", **trefs)
    times = np.array([0.3, 1.0, 0.8, 0.55, 0.3]) * case.t_end
    total = 0
    for sample in range(zoo.SAMPLES):
        spikes, states = asking.spikes_and_states(net, case.times[sample][:, None], times, zoo.MAX_SPIKES)
        for neuron in range(zoo.NEURONS):
            found, true = np.asarray(spikes)[neuron], zoo.oracle_spikes(case, sample, neuron, **options)
            np.testing.assert_allclose(found[np.isfinite(found)], true, rtol=0, atol=1e-10)
            expected = zoo.oracle_states(case, sample, neuron, times, **options)
            own = np.asarray(states)[neuron, :, : expected.shape[1]]
            np.testing.assert_allclose(own, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
            total += len(true)
    assert total >= zoo.NEURONS


def network_numbers(name, seed):
    rng = np.random.default_rng((seed, list(MODELS).index(name)))
    scale = 20.0 if name == "MAT" else 1.5
    weights = scale * np.concatenate([rng.normal(-0.2, 0.5, (4, 4)), rng.normal(1.0, 1.2, (3, 4))])
    if name == "MAT":
        weights[:4] *= 2
    return weights, rng.uniform(0, 0.9 * T_END, (3, 10))


@slow
@pytest.mark.parametrize(
    "name, wrapper",
    [
        ("AlphaLIF", "plain"),
        ("DualExpLIF", "refractory"),
        ("MAT", "plain"),
    ],
)
def test_spikes_of_networks_with_delays_are_the_fixed_point_of_their_neurons(name, wrapper):
    delays, options, total = np.array([1.0, 1.7, 1.0, 3.1, 0.0, 0.6, 0.0]), around(name, wrapper), 0
    model = WRAPPERS[wrapper][0](MODELS[name])
    trefs = {"tref": options["tref"]} if "tref" in options else {}
    weights, _ = network_numbers(name, 0)
    net = EvNN(model, 4, 3, T_END, KEY, init_weights=weights, init_axonal_delays=delays, **trefs, **NATIVE)
    for seed in range(3):
        weights, inputs = network_numbers(name, seed)
        trains = [np.zeros(0)] * 4
        for _ in range(40):
            sources = [*trains, *inputs]
            new = []
            for j in range(4):
                arrivals = [(t + delays[row], weights[row, j]) for row, when in enumerate(sources) for t in when]
                new.append(oracle_zoo.simulate(name, {}, arrivals, T_END, **options))
            same = [
                len(a) == len(b) and np.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(new, trains, strict=True)
            ]
            trains = new
            if all(same):
                break
        times, neurons = spikes_of(net.with_(weights=weights).record(jnp.asarray(inputs)))
        for j in range(4):
            np.testing.assert_allclose(times[neurons == j], trains[j], rtol=0, atol=1e-10)
        total += len(times)
    assert total > 15


def test_several_models_in_one_layer_are_those_models_alone():
    kinds = Mixed((AlphaLIF, 2, {"tsyn": 4.0}), (LIF, 1), (DualExpLIF, 2), (LeakyIntegrator, 1))
    weights, x = np.random.default_rng(0).normal(1.5, 1.0, (4, 6)), np.random.default_rng(1).uniform(0, 35, (4, 6))
    mixed = FFEvNN([6], 4, kinds, T_END, KEY, init_weights=weights, **NATIVE)
    times, neurons = spikes_of(mixed.record(jnp.asarray(x)))
    assert len(times) > 10 and not np.any(neurons == 5)
    for model, own, keywords in ((AlphaLIF, [0, 1], {"tsyn": 4.0}), (LIF, [2], {}), (DualExpLIF, [3, 4], {})):
        alone = FFEvNN([len(own)], 4, model, T_END, KEY, init_weights=weights[:, own], **keywords, **NATIVE)
        for k, j in enumerate(own):
            np.testing.assert_allclose(times[neurons == j], train(alone, jnp.asarray(x), k), rtol=0, atol=1e-12)


# Gradients.


def total(net, x, times):
    """Of all spikes and of states, from one run."""
    run = net._run(x, Wanted(jnp.asarray(net.max_solver_time, net.dtype), times))[0][-1]
    return jnp.sum(jnp.where(jnp.isfinite(run.times), jnp.cos(0.05 * run.times), 0)) + jnp.sum(jnp.sin(run.states))


def network(name, wrapper="plain", recurrent=None, size=5, t_end=T_END, **options):
    rng, scale = np.random.default_rng(3), 20.0 if name == "MAT" else 1.0
    model = WRAPPERS[wrapper][0](MODELS[name])
    trained = (*TRAINED[name], *(("tref",) if "tref" in model._declared or hasattr(model, "held") else ()))
    options = {"max_event_steps": 600, **({} if name == "MAT" else {"init_bias": 0.2}), **NATIVE, **options}
    inputs = scale * rng.normal(2.0, 2.4, (4, size))
    if recurrent is None:
        return FFEvNN([size], 4, model, t_end, KEY, init_weights=inputs, trainable=trained, **options)
    weights = np.concatenate([scale * np.minimum(rng.normal(-0.3, 0.5, (size, size)), 0.3), inputs])
    trained = (*trained, "axonal_delays")
    return EvNN(model, size, 4, t_end, KEY, init_weights=weights, init_axonal_delays=recurrent, trainable=trained,
                **options)  # fmt: skip


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))]


@eqx.filter_jit
def value_and_gradients(net, x, times):
    return eqx.filter_value_and_grad(lambda parts: total(*parts))((net, x, times))


CHECKED = [
    ("AlphaLIF", "others held", None),
    ("TwoCompartment", "refractory", 1.0),
    *(
        pytest.param(name, wrapper, recurrent, marks=slow)
        for name, wrapper, recurrent in (
            ("AlphaLIF", "block", None),
            ("DualExpLIF", "all held", 1.0),
            ("TwoCompartment", "plain", 0.0),
            ("ALIF", "once", 1.0),
            ("ALIF", "plain", 0.0),
            ("MAT", "none held", None),
            ("MAT", "plain", 0.0),
        )
    ),
]


@pytest.mark.parametrize("name, wrapper, recurrent", CHECKED)
def test_gradients_by_everything_are_differences_along_any_direction(name, wrapper, recurrent):
    net, rng = network(name, wrapper, recurrent), np.random.default_rng(5)
    x, times = jnp.asarray(rng.uniform(0, 38, (4, 5))), jnp.asarray([11.0, 3.0, 33.3])
    (numbers, rest), tried = eqx.partition((net, x, times), eqx.is_inexact_array), 0
    flat, structure = jax.tree.flatten(numbers)
    gradients = jax.tree.leaves(value_and_gradients(net, x, times)[1])

    @jax.jit
    def value(flat):
        return total(*eqx.combine(jax.tree.unflatten(structure, flat), rest))

    for k, gradient in enumerate(gradients):
        # A delay of 0 cannot become smaller.
        if not np.any(np.asarray(gradient)) or (recurrent == 0 and flat[k].shape == (9,)):
            continue
        direction, scale = rng.normal(size=flat[k].shape), max(np.abs(flat[k]).max(), 0.3)
        slopes = []
        for h in (1e-5 * scale, 1e-6 * scale):
            moved = [[*flat[:k], flat[k] + step * h * direction, *flat[k + 1 :]] for step in (-2, -1, 1, 2)]
            slopes.append(np.dot([1, -8, 8, -1], [float(value(one)) for one in moved]) / (12 * h))
        predicted = np.sum(np.asarray(gradient) * direction)
        # One step suffers from rounding, and the other may make a spike pass another.
        assert min(abs(slope - predicted) for slope in slopes) < 1e-6 * abs(predicted) + 1e-8, (k, slopes, predicted)
        tried += 1
    assert tried >= 8


@slow
@pytest.mark.parametrize(
    "name, wrapper, recurrent",
    [
        ("AlphaLIF", "block", None),
        ("TwoCompartment", "refractory", 1.0),
    ],
)
def test_runs_and_all_gradients_are_those_of_the_xla_engines(name, wrapper, recurrent):
    results = []
    x, times = jnp.asarray(np.random.default_rng(0).uniform(0, 38, (4, 5))), jnp.asarray([11.0, 3.0, 33.3])
    for engine in ("native", "xla"):
        results.append(leaves(value_and_gradients(network(name, wrapper, recurrent, engine=engine), x, times)))
    for native, xla in zip(*results, strict=True):
        np.testing.assert_allclose(native, xla, rtol=1e-9, atol=1e-9 * np.abs(xla).max(initial=1e-6))


@slow
@pytest.mark.parametrize(
    "name, recurrent",
    [("AlphaLIF", "axonal"), ("DualExpLIF", None)],
)
def test_spikes_of_many_seeds_are_those_of_the_xla_engines(name, recurrent):
    delays = np.array([0.0, 2.0, 0.0, 0.7, 1.3, 0.0, 0.0, 0.5, 0.0]) if recurrent == "axonal" else recurrent
    record, count = eqx.filter_jit(lambda net, x: net.record(x)), 0
    nets = [network(name, recurrent=delays, engine=engine) for engine in ("native", "xla")]
    for seed in range(30):
        rng = np.random.default_rng(seed)
        x = jnp.asarray(rng.uniform(0, 38, (4, 6)))
        x = jnp.round(x) if seed % 3 == 0 else x
        gain = np.exp(rng.uniform(-1.5, 1))
        runs = [record(net.with_(weights=gain * net.connection.weights if recurrent is not None else
                                 gain * net.connections[0].weights), x) for net in nets]  # fmt: skip
        assert runs[0].result == runs[1].result
        (times, neurons), (true, true_neurons) = map(spikes_of, runs)
        np.testing.assert_allclose(times, true, rtol=0, atol=1e-10)
        np.testing.assert_array_equal(neurons, true_neurons)
        count += len(times)
    assert count > 300


@slow
@pytest.mark.parametrize("name, wrapper", [("AlphaLIF", "all held"), ("MAT", "none held")])
def test_gradients_through_hundreds_of_events_are_differences_along_any_direction(name, wrapper):
    # So many that the states which matrices need are kept only now and then, and computed again between.
    net, rng = network(name, wrapper, 1.0, size=20, t_end=100.0, max_event_steps=3000), np.random.default_rng(9)
    x, times = jnp.asarray(rng.uniform(0, 95, (4, 60))), jnp.asarray([33.0, 71.0, 99.0])
    numbers, rest = eqx.partition((net, x, times), eqx.is_inexact_array)
    flat, structure = jax.tree.flatten(numbers)
    gradients = jax.tree.leaves(value_and_gradients(net, x, times)[1])
    value = jax.jit(lambda flat: total(*eqx.combine(jax.tree.unflatten(structure, flat), rest)))
    assert len(spikes_of(net.record(x))[0]) > 200
    for k, gradient in enumerate(gradients):
        direction, slopes = rng.normal(size=flat[k].shape), []
        for h in (1e-8, 1e-7):
            ends = [value([*flat[:k], flat[k] + step * h * direction, *flat[k + 1 :]]) for step in (-1, 1)]
            slopes.append(float(ends[1] - ends[0]) / (2 * h))
        predicted = np.sum(np.asarray(gradient) * direction)
        assert min(abs(slope - predicted) for slope in slopes) < 2e-4 * abs(predicted) + 1e-4, (k, slopes, predicted)


# Batches, precision, queries and limits.


@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.float64, marks=slow)])
def test_samples_alone_and_in_any_batch_have_the_same_bits_also_of_gradients(dtype):
    net = network("AlphaLIF", "refractory", 1.0, dtype=dtype)
    xs = jnp.asarray(np.random.default_rng(1).uniform(0, 38, (4, 4, 5)), dtype).at[0].set(jnp.inf)
    times = jnp.asarray([11.0, 3.0], dtype)
    gradient = eqx.filter_grad(lambda net, x: total(net, x, times))

    @eqx.filter_jit
    def each(net, xs):
        return jax.vmap(gradient, in_axes=(None, 0))(net, xs)

    @eqx.filter_jit
    def one(net, x):
        return gradient(net, x)

    @eqx.filter_jit
    def all_(net, xs):
        return eqx.filter_grad(lambda net: jnp.sum(jax.vmap(lambda x: total(net, x, times))(xs)))(net)

    many, turned = leaves(each(net, xs)), leaves(each(net, xs[::-1]))
    for sample in (0, 3):
        for batch, other, alone in zip(many, turned, leaves(one(net, xs[sample])), strict=True):
            np.testing.assert_array_equal(batch[sample], alone)
            np.testing.assert_array_equal(other[3 - sample], alone)
    for batch, summed in zip(many, leaves(all_(net, xs)), strict=True):
        rtol = 1e-12 if dtype == jnp.float64 else 1e-5
        np.testing.assert_allclose(summed, batch.sum(axis=0), rtol=rtol, atol=rtol * (np.abs(batch).max() + 1e-30))


@pytest.mark.parametrize("recurrent", [None, 0.0, 1.0])
def test_float32_finds_the_spikes_of_float64_and_queries_change_nothing(recurrent):
    x, found = np.random.default_rng(2).uniform(0, 38, (4, 5)).astype(np.float32), {}
    for dtype in (jnp.float32, jnp.float64):
        net = network("DualExpLIF", recurrent=recurrent, dtype=dtype)
        for asked in ([1.0], np.linspace(0, T_END, 500)):
            wanted = Wanted(jnp.asarray(T_END, dtype), jnp.asarray(asked, dtype))
            run = eqx.filter_jit(lambda net, x, wanted: net._run(x, wanted)[0][-1])(net, jnp.asarray(x, dtype), wanted)
            found[dtype, len(asked)] = np.asarray(run.times)
        np.testing.assert_array_equal(found[dtype, 1], found[dtype, 500])
    single, double = (found[dtype, 1][np.isfinite(found[dtype, 1])] for dtype in (jnp.float32, jnp.float64))
    assert len(single) > 20
    np.testing.assert_allclose(single, double, rtol=0, atol=2e-4)


@pytest.mark.parametrize("recurrent", [None, 0.0])
def test_queries_that_stop_early_give_what_a_whole_run_gives(recurrent):
    net = network("ALIF", recurrent=recurrent)
    x = jnp.asarray(np.random.default_rng(2).uniform(0, 38, (4, 5)))
    times, neurons = spikes_of(net.record(x))
    first, some = np.asarray(net.ttfs(x)), np.asarray(net.spikes_until_t(x, 25.0, 30))
    for j in range(5):
        own = times[neurons == j]
        assert first[j] == (own[0] if len(own) else np.inf)
        np.testing.assert_allclose(some[j][np.isfinite(some[j])], own[own <= 25.0], rtol=0, atol=1e-12)


def test_slopes_are_those_of_the_condition_and_min_slope_bounds_gradients_by_them():
    weights, x = np.array([[7.0, 6.0]]), jnp.array([[1.0]])

    def net(min_slope):
        return FFEvNN([2], 1, AlphaLIF, 30.0, KEY, init_weights=weights, min_slope=min_slope, **NATIVE)

    found = net(0.0).record(x)
    times, neurons = spikes_of(found)
    first = np.array([np.flatnonzero(neurons == j)[0] for j in range(2)])
    slopes, s = np.asarray(found.slopes[0])[first], times[first] - 1
    np.testing.assert_allclose(slopes, (weights[0] * s / 5 * np.exp(1 - s / 5) - 1) / 20, rtol=1e-10)
    free, bounded = (
        np.asarray(jax.grad(lambda w, m=m: jnp.sum(net(m).with_(weights=w).ttfs(x)))(jnp.asarray(weights)))[0]
        for m in (0.0, 0.15)
    )
    np.testing.assert_allclose(bounded, free * slopes / np.maximum(slopes, 0.15), rtol=1e-10)


def test_a_neuron_that_starts_above_threshold_spikes_at_once():
    net = FFEvNN([1], 1, TwoCompartment, 20.0, KEY, init_weights=0.0, y0=[1.2, 0.5, 0.0], **NATIVE)
    np.testing.assert_array_equal(train(net, jnp.array([[jnp.inf]])), [0.0])


def test_a_reset_above_threshold_names_neuron_and_time_and_does_not_hide_the_others():
    # V' = (ic - V) / 10 from 0 to 1.
    def net(throw):
        beta = np.array([0.5, -3.0, 0.5])
        return FFEvNN(
            [3], 1, ALIF, 25.0, KEY, init_weights=0.0, init_bias=2.0, tmem=10.0, beta=beta, throw=throw, **NATIVE
        )

    none, first = jnp.full((1, 1), jnp.inf), 10 * np.log(2)
    with pytest.raises(SimulationError, match=rf"neuron 1, t = {first:.3f}\d* ms: .*reset"):
        net(throw=True).record(none)
    found = net(throw=False).record(none)
    assert found.result == RESULTS.reset_above_threshold
    times, neurons = spikes_of(found)
    np.testing.assert_allclose(times[neurons == 1], [first], rtol=1e-12)
    assert np.sum(neurons == 0) == np.sum(neurons == 2) > 1


def test_a_full_list_and_a_list_that_is_exactly_full():
    x = jnp.array([[1.0]])
    options = {"init_weights": np.array([[30.0, 30.0]]), **NATIVE}
    count = len(spikes_of(FFEvNN([2], 1, AlphaLIF, 30.0, KEY, **options).record(x))[0])
    assert count > 4
    exactly = FFEvNN([2], 1, AlphaLIF, 30.0, KEY, max_event_steps=count, **options)
    assert len(spikes_of(exactly.record(x))[0]) == count
    with pytest.raises(SimulationError, match=f"max_event_steps = {count - 1}"):
        FFEvNN([2], 1, AlphaLIF, 30.0, KEY, max_event_steps=count - 1, **options).record(x)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_weights_are_errors_and_nan_without_throw(bad):
    weights = np.array([[1.0, 2.0], [0.5, 0.3], [1.5, 1.5]])
    nets = [EvNN(AlphaLIF, 2, 1, T_END, KEY, throw=throw, init_weights=weights, **NATIVE) for throw in (True, False)]
    net, quiet = (
        eqx.tree_at(lambda net: net.connection.weights, net, net.connection.weights.at[1, 1].set(bad)) for net in nets
    )
    with pytest.raises(ValueError, match=r"weights\[1, 1\] is (nan|inf)"):
        net.ttfs(jnp.array([[1.0]]))
    assert np.all(np.isnan(quiet.ttfs(jnp.array([[1.0]]))))


def test_thousands_of_spikes_do_not_drift():
    # V' = (2 - V) / 20 from 0 to 1: 20 ln 2 ms each.
    for dtype in (jnp.float32, jnp.float64):
        net = FFEvNN([2], 1, DualExpLIF, 1e5, KEY, init_weights=0.0, init_bias=2.0, engine="native", dtype=dtype,
                     max_event_steps=20_000)  # fmt: skip
        times, neurons = spikes_of(net.record(jnp.full((1, 1), jnp.inf, dtype)))
        true = 20 * np.log(2) * np.arange(1, 7214)
        assert len(times) == 2 * 7213
        for j in range(2):
            assert (np.abs(times[neurons == j] - true) / np.spacing(true.astype(dtype))).max() < 4


class Saturating(AlphaLIF):
    """An arrival adds less where there is much."""

    def input_spikes(self, y, weights):
        return y.at[:, 2].add(weights * (4 - y[:, 2]))

    def closed_form(self):
        return dataclasses.replace(super().closed_form(), linear_jumps=False)


def test_arrivals_that_are_not_linear_do_not_run_by_this_kernel():
    with pytest.raises(ValueError, match="engine is 'native', but Saturating has no closed form"):
        FFEvNN([2], 1, Saturating, 30.0, KEY, init_weights=1.0, **NATIVE).ttfs(jnp.array([[1.0]]))


def test_neurons_with_too_many_channels_and_delays_of_single_synapses_run_by_xla():
    assert all(len(model.channels) <= 4 for model in MODELS.values())
    with pytest.raises(ValueError, match="engine is 'native', but AlphaLIF has no closed form"):
        FFEvNN([2], 1, AlphaLIF, 30.0, KEY, init_weights=1.0, init_delays=1.0, **NATIVE).ttfs(jnp.array([[1.0]]))
    net = FFEvNN([2], 1, eventsnn.AlphaLIF, 30.0, KEY, init_weights=9.0, init_delays=1.0, dtype=jnp.float64)
    assert np.all(np.isfinite(net.ttfs(jnp.array([[1.0]]))))
