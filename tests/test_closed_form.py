"""The closed form against the numerical engine, and against solutions in 40 digits that share no code with it."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from asking import spikes_and_states

from eventsnn import (
    ALIF,
    IF,
    LIF,
    MAT,
    QIF,
    AlphaLIF,
    DeltaLIF,
    DualExpLIF,
    FFEvNN,
    LeakyIntegrator,
    LinearFlow,
    trainable,
)
from eventsnn.flows.growth import relative_growth
from eventsnn.neuron_models.base import valid_closed_form

END, MAX_SPIKES = 40.0, 64
NAMES = {
    LIF: ("thresh", "tsyn", "tmem", "vreset", "y0"),
    IF: ("thresh", "tsyn", "tmem", "vreset", "y0"),
    DeltaLIF: ("thresh", "tmem", "vreset", "y0"),
    LeakyIntegrator: ("tsyn", "tmem", "y0"),
}
WEIGHTS = {LIF: (2.0, 4.0), IF: (1.5, 3.0), DeltaLIF: (0.4, 0.8), LeakyIntegrator: (2.0, 4.0)}
every_model = pytest.mark.parametrize(
    "model", [LIF, *(pytest.param(model, marks=pytest.mark.slow) for model in (IF, DeltaLIF, LeakyIntegrator))]
)


@functools.cache
def networks(model, seed=0):
    """The same network, solved in closed form and numerically; LIF neurons before those that never spike."""
    wmean, wlim = WEIGHTS[model]
    models = [LIF if model is LeakyIntegrator else model, model]
    keywords = {"trainable": NAMES[model]}
    rng = np.random.default_rng(seed)
    if model is not DeltaLIF:
        # Below, near and above the membrane's, equal to it, and next to equal.
        tmem = [rng.uniform(6, 25, size) for size in (8, 4)]
        keywords |= {"tmem": tmem, "tsyn": [m * rng.choice([0.3, 1.0, 1 + 1e-9, 2.0], m.shape) for m in tmem]}
    # Delta synapses make a neuron spike at arrivals; its own drive does so between them.
    keywords |= {"wmean": [wmean, wmean / 15], "wlim": [wlim, wlim / 15], "bmean": 0.9 if model is DeltaLIF else 0.2}
    # The solver's steps must see what a gradient is taken by: no current at the start, and they are too long for it.
    keywords["y0"] = 0.1 if model is DeltaLIF else (0.1, 0.5)
    common = {"blim": 0.6, "dtype": jnp.float64, **keywords}
    key = jax.random.PRNGKey(seed)
    return [
        FFEvNN([8, 4], 5, models, END, key, engine=engine, rtol=1e-11, atol=1e-12, **common)
        for engine in ("auto", "numerical")
    ]


def arrivals(seed=0):
    rng = np.random.default_rng(seed + 100)
    x = rng.uniform(0, 30, (5, 6))
    x[1, 2] = x[2, 3]  # two at one instant
    x[4, 4:] = np.inf
    return jnp.asarray(x)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@every_model
def test_both_engines_find_the_same_spikes(model, seed):
    closed, numerical = (net.record(arrivals(seed)) for net in networks(model, seed))
    for layer in range(2):
        assert np.isfinite(closed.times[layer]).sum() > 5 or model is LeakyIntegrator
        np.testing.assert_array_equal(closed.neurons[layer], numerical.neurons[layer])
        np.testing.assert_allclose(closed.times[layer], numerical.times[layer], rtol=0, atol=1e-9)
        np.testing.assert_allclose(closed.slopes[layer], numerical.slopes[layer], rtol=1e-6)


@every_model
def test_both_engines_give_the_same_states(model):
    closed, numerical = networks(model)
    x = arrivals()
    spikes = closed.record(x).times[-1]
    times = jnp.concatenate(
        [jnp.linspace(0, END, 41), x[0], jnp.where(jnp.isfinite(spikes[:3]), spikes[:3] + 1e-6, 1.0)]
    )
    times = times[::-1]
    np.testing.assert_allclose(closed.state_at_t(x, times), numerical.state_at_t(x, times), rtol=0, atol=1e-8)


@functools.cache
def loss_of_all(model):
    """Spikes and states of a network, each with a factor, summed; its gradient; and times to look at.

    Compiled once for all tests.
    """
    rng = np.random.default_rng(3)
    times, of_spikes = jnp.asarray(rng.uniform(0, END, 9)), jnp.asarray(rng.normal(size=(4, MAX_SPIKES)))
    of_states = jnp.asarray(rng.normal(size=(4, 9, len(model.channels))))

    def loss(numbers, rest, x, times):
        net = eqx.combine(numbers, rest)
        spikes, states = spikes_and_states(net, x, times, MAX_SPIKES)
        spiked = jnp.isfinite(spikes)
        return jnp.sum(of_states * states) + jnp.sum(of_spikes * jnp.where(spiked, spikes, 0))

    return eqx.filter_jit(loss), eqx.filter_jit(jax.grad(loss, argnums=(0, 2, 3))), times


@pytest.mark.slow
def test_both_engines_give_the_same_gradients():
    _, gradient, times = loss_of_all(LIF)
    gradients = []
    for net in networks(LIF):
        numbers, rest = eqx.partition(net, eqx.is_inexact_array)
        gradients.append(gradient(numbers, rest, arrivals(), times))
    closed, numerical = (jax.tree.leaves(gradient) for gradient in gradients)
    assert sum(bool(np.any(leaf)) for leaf in numerical) >= 6
    for got, wanted in zip(closed, numerical, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-7, atol=1e-9 * float(np.abs(wanted).max()))


def derivative(function):
    """At 0, by central differences with Richardson extrapolation; near a graze only a small step will do."""

    def extrapolated(longest):
        levels = [(function(h) - function(-h)) / (2 * h) for h in (longest, longest / 2, longest / 4)]
        once = [(4 * fine - coarse) / 3 for coarse, fine in zip(levels, levels[1:], strict=False)]
        return (16 * once[1] - once[0]) / 15

    # The two that agree best: a longer step does not extrapolate, and a shorter one leaves rounding errors.
    found = [extrapolated(longest) for longest in (4e-4, 1e-4, 2.5e-5, 6e-6, 1.5e-6)]
    return min(zip(found, found[1:], strict=False), key=lambda pair: abs(pair[0] - pair[1]))[0]


@pytest.mark.slow
@every_model
def test_gradients_equal_central_differences_with_richardson_extrapolation(model):
    loss, gradient_of, times = loss_of_all(model)
    net = networks(model)[0]
    numbers, rest = eqx.partition(net, eqx.is_inexact_array)
    free, fixed = eqx.partition(numbers, trainable(net))
    # Two arrivals that come at one instant may not be moved apart.
    arguments = (free, arrivals().at[1, 2].add(0.37), times)
    leaves, structure = jax.tree.flatten(arguments)
    by_numbers, *others = gradient_of(numbers, rest, *arguments[1:])
    gradient = jax.tree.leaves((eqx.filter(by_numbers, trainable(net)), *others))
    assert len(leaves) == len(gradient) > 2 * len(NAMES[model])
    rng = np.random.default_rng(8)
    for number, (leaf, by_leaf) in enumerate(zip(leaves, gradient, strict=True)):
        direction = jnp.where(jnp.isfinite(leaf), rng.choice([-1.0, 1.0], leaf.shape), 0)

        def along(step, number=number, leaf=leaf, direction=direction):
            moved = [*leaves[:number], leaf + step * direction, *leaves[number + 1 :]]
            free, x, times = jax.tree.unflatten(structure, moved)
            return float(loss(eqx.combine(free, fixed), rest, x, times))

        got = float(jnp.sum(by_leaf * direction))
        assert got == pytest.approx(derivative(along), rel=1e-8, abs=1e-8 * float(jnp.sum(jnp.abs(by_leaf))))


@pytest.mark.slow
def test_a_batch_of_networks_with_a_batch_of_samples_each_has_the_sum_of_the_gradients_of_the_samples():
    # That one network with a batch has it, `test_gradients.py` shows.
    net = networks(LIF)[0]
    batch = jnp.stack([arrivals(), arrivals() * 0.9, arrivals() + 1])
    numbers, rest = eqx.partition(net, eqx.is_inexact_array)

    def loss(numbers, x):
        spikes = eqx.combine(numbers, rest).spikes_until_t(x, END, MAX_SPIKES)
        return jnp.sum(jnp.where(jnp.isfinite(spikes), spikes, 0) ** 2)

    each = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(numbers, batch)
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), numbers)
    nested = jax.jit(jax.vmap(jax.grad(lambda n: jnp.sum(jax.vmap(loss, (None, 0))(n, batch)))))(both)
    for per_sample, twice in zip(*map(jax.tree.leaves, (each, nested)), strict=True):
        summed = per_sample.sum(axis=0)
        np.testing.assert_allclose(
            twice, jnp.stack([summed, summed]), rtol=1e-10, atol=1e-11 * float(np.abs(summed).max())
        )


def spikes_in_40_digits(weights, arrivals, tmem, tsyn, thresh, vreset, drive, end):
    """The spikes of one LIF neuron: in every stretch the extremum of V on paper, then bisection."""
    mp = mpmath.mp
    v, i, t, spikes = mp.mpf(0), mp.mpf(0), mp.mpf(0), []
    events = [*((mp.mpf(float(a)), mp.mpf(float(w))) for a, w in zip(arrivals, weights, strict=True)), (mp.mpf(end), 0)]
    for arrival, weight in events:
        while True:
            if tmem == tsyn:

                def potential(s, v=v, i=i):
                    return drive + (v - drive + i * s / tmem) * mp.exp(-s / tmem)

                root = tmem - tmem * (v - drive) / i if i else mp.inf
            else:
                b = i * tsyn / (tsyn - tmem)
                a = v - drive - b

                def potential(s, a=a, b=b):
                    return a * mp.exp(-s / tmem) + b * mp.exp(-s / tsyn) + drive

                ratio = -b * tmem / (a * tsyn) if a * b else mp.mpf(0)
                root = mp.log(ratio) / (1 / tsyn - 1 / tmem) if ratio > 0 else mp.inf
            length = arrival - t
            low = mp.mpf(0)
            if 0 < root < length and potential(root) >= thresh:
                high = root
            elif potential(length) >= thresh:
                high, low = length, root if 0 < root < length else low
            else:
                v, i, t = potential(length), i * mp.exp(-length / tsyn) + weight, arrival
                break
            for _ in range(64):  # down to 1e-17 ms
                middle = (low + high) / 2
                low, high = (low, middle) if potential(middle) >= thresh else (middle, high)
            spikes.append(t + high)
            v, i, t = vreset, i * mp.exp(-high / tsyn), t + high
    return spikes


@pytest.mark.slow
def test_spikes_of_a_thousand_random_neurons_in_40_digits():
    rng = np.random.default_rng(5)
    n, inputs = 1000, 6
    tmem = rng.uniform(3, 30, n)
    tsyn = tmem * rng.choice([0.01, 0.25, 0.999999, 1.0, 1.0000001, 1.5, 6.0], n)
    numbers = {
        "thresh": rng.uniform(0.5, 1.5, n),
        "vreset": rng.uniform(-0.5, 0.4, n),
        "init_bias": rng.normal(0.2, 0.4, n),
    }
    weights = rng.normal(1.5, 2.0, (inputs, n)) * np.maximum(1, 0.3 * tmem / tsyn)
    x = rng.uniform(0, 25, (inputs, 1))
    net = FFEvNN(
        [n], inputs, LIF, END, jax.random.PRNGKey(0), tmem=tmem, tsyn=tsyn, init_weights=weights,
        dtype=jnp.float64, max_event_steps=100_000, **numbers,
    )  # fmt: skip
    got = np.asarray(net.spikes_until_t(jnp.asarray(x), END, 200))
    order = np.argsort(x[:, 0])
    total = 0
    with mpmath.workdps(40):
        for neuron in range(n):
            exact = [mpmath.mpf(float(a[neuron])) for a in (tmem, tsyn, *numbers.values())]
            expected = spikes_in_40_digits(weights[order, neuron], x[order, 0], *exact, END)
            spikes = got[neuron][np.isfinite(got[neuron])]
            assert len(spikes) == len(expected), neuron
            for time, wanted in zip(spikes, expected, strict=True):
                assert abs(mpmath.mpf(float(time)) - wanted) < 1e-10, neuron
            total += len(expected)
    assert total > 2000


class LouderThreshold(LIF):
    def spike_condition(self, t, y, args):
        return y[:, 0] - 2 * self.thresh.value


class OtherDynamics(LIF):
    def dynamics(self, t, y, args):
        return 2 * super().dynamics(t, y, args)


class OtherJump(LIF):
    def input_spikes(self, y, weights):
        return super().input_spikes(y, 2 * weights)


class OtherReset(LIF):
    def reset_spiked(self, y, spiked):
        return jnp.where(spiked[:, None], 0, y)


class OnlyLooks(LIF):
    def observe(self, y):
        return y[:, :1]


@pytest.mark.parametrize("model", [LouderThreshold, OtherDynamics, OtherJump, OtherReset, QIF])
def test_a_subclass_that_changes_what_the_closed_form_describes_has_none(model):
    assert valid_closed_form(model(2)) is None

    class Grandchild(model):
        pass

    assert valid_closed_form(Grandchild(2)) is None


@pytest.mark.parametrize("model", [LIF, IF, DeltaLIF, LeakyIntegrator, OnlyLooks])
def test_a_model_that_changes_nothing_of_it_keeps_its_closed_form(model):
    assert valid_closed_form(model(2)) is not None


def test_a_subclass_that_gives_its_own_closed_form_has_that():
    class Faster(OtherDynamics):
        def closed_form(self):
            flow = LIF.closed_form(self)
            return LinearFlow(
                leak=2 * flow.leak,
                drive=2 * flow.drive,
                thresh=flow.thresh,
                vreset=flow.vreset,
                coupling=2 * flow.coupling,
                decay=2 * flow.decay,
            )

    x = jnp.asarray([[1.0, 3.0, 9.0]])
    got, wanted = (
        FFEvNN([3], 1, model, 30.0, jax.random.PRNGKey(0), init_weights=9.0, dtype=jnp.float64, rtol=1e-10).ttfs(x)
        for model in (Faster, OtherDynamics)
    )
    np.testing.assert_allclose(got, wanted, atol=1e-8)


def test_another_engine_is_an_error():
    with pytest.raises(ValueError, match='engine is \'exact\', expected "auto", "native", "xla" or "numerical"'):
        FFEvNN([1], 1, LIF, 10.0, jax.random.PRNGKey(0), engine="exact")


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_relative_growth_and_its_derivative_have_all_digits(dtype):
    z = np.concatenate([-np.logspace(-9, 2, 60), [0.0], np.logspace(-9, 0.5, 30)]).astype(dtype)
    with mpmath.workdps(40):
        exact = [mpmath.mpf(float(x)) for x in z]
        value = np.array([float(mpmath.expm1(x) / x) if x else 1.0 for x in exact])
        slope = np.array([float((mpmath.exp(x) - mpmath.expm1(x) / x) / x) if x else 0.5 for x in exact])
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(relative_growth(jnp.asarray(z)), value, rtol=4 * eps)
    np.testing.assert_allclose(jax.vmap(jax.grad(relative_growth))(jnp.asarray(z)), slope, rtol=60 * eps)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize(("model", "scale"), [(ALIF, 1.0), (MAT, 10.0), (AlphaLIF, 1.0), (DualExpLIF, 1.0)])
def test_a_spike_in_the_midst_of_a_stretch_is_looked_for(model, scale, dtype):
    # Channels that are 0, or as good as 0, once left rounding whose signs spoke against a crossing.
    neurons = 500
    layer = model(neurons, dtype=dtype)
    flow, one = valid_closed_form(layer), jnp.ones(neurons, dtype)
    start = layer.input_spikes(layer.init_state(neurons), scale * jnp.linspace(5.0, 14.0, neurons, dtype=dtype))
    later = layer.reset_spiked(flow.after(start, 6 * one), one > 0)

    @jax.jit
    def look(y, dt):
        return flow.first_crossing(y, dt, 1e-6 * jnp.ones_like(dt)), flow.may_cross(y, flow.after(y, dt), dt)

    crossed = 0
    for y in start, later:
        crossings, may = look(y, jnp.linspace(20.0, 100.0, neurons, dtype=dtype))
        crosses = np.isfinite(crossings) & np.asarray(layer.spike_condition(0.0, y, None) < 0)
        assert not np.any(crosses & ~np.asarray(may))
        crossed += np.sum(crosses)
    assert crossed > 300


def test_a_neuron_without_a_threshold_cannot_cross_it():
    layer = LeakyIntegrator(2)
    flow, y, dt = layer.closed_form(), jnp.full((2, 2), 5.0), jnp.ones(2)
    assert not np.any(flow.may_cross(y, y, dt)) and np.all(np.isinf(flow.first_crossing(y, dt, dt)))
