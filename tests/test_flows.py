"""Closed forms beyond one current: matrix exponentials, crossings that a fine grid finds, the numerical engine."""

import functools
import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
from asking import spikes_and_states

import eventsnn
from eventsnn import (
    ALIF,
    LIF,
    MAT,
    AlphaLIF,
    AtMostOneSpike,
    DualExpLIF,
    EvNN,
    FFEvNN,
    LeakyIntegrator,
    LinearFlow,
    Mixed,
    NeuronModel,
    Parameter,
    Refractory,
    SineCurrent,
    StepCurrent,
    TwoCompartment,
    TwoStageFlow,
    WithBiasCurrent,
    hyperparameter,
    initial_state,
)
from eventsnn.flows import AdaptiveThresholdFlow
from eventsnn.flows.differences import first_difference, second_difference
from eventsnn.neuron_models.base import valid_closed_form

KEY = jax.random.PRNGKey(0)


def slow(case):
    return pytest.param(case, marks=pytest.mark.slow)


def difference_in_40_digits(places):
    """A divided difference of exp, with places that are equal moved apart by next to nothing."""
    places = [mpmath.mpf(float(place)) + k * mpmath.mpf(10) ** -40 for k, place in enumerate(places)]
    values = [mpmath.exp(place) for place in places]
    for order in range(1, len(places)):
        values = [(b - a) / (places[k + order] - places[k]) for k, (a, b) in enumerate(itertools.pairwise(values))]
    return values[0]


PLACES = [
    (0.0, 0.0, 0.0), (-1.0, -1.0, -1.0), (-1.0, -1.0, -3.0), (-1e-9, 0.0, 1e-9), (-0.5, -0.5 - 1e-7, -0.4),
    (-1.0, 0.0, -0.999999), (-1.0, 0.0, -1.000001), (-300.0, 0.0, -300.0), (-50.0, -20.0, -1e-3), (-0.7, -0.2, 0.0),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("places", PLACES)
def test_divided_differences_lose_no_digits(places, dtype):
    places = np.asarray(places, dtype)
    eps = float(jnp.finfo(dtype).eps)
    with mpmath.workdps(140):
        for order in itertools.permutations(places):
            one = first_difference(*map(jnp.asarray, order[:2]))
            assert float(one) == pytest.approx(float(difference_in_40_digits(order[:2])), rel=8 * eps)
            two = second_difference(*map(jnp.asarray, order))
            assert float(two) == pytest.approx(float(difference_in_40_digits(order)), rel=32 * eps)


@pytest.mark.parametrize("places", PLACES)
def test_derivatives_of_divided_differences_have_a_place_twice(places):
    by = jax.grad(lambda places: second_difference(*places))(jnp.asarray(places, jnp.float64))
    with mpmath.workdps(140):
        for k, place in enumerate(places):
            assert float(by[k]) == pytest.approx(float(difference_in_40_digits((*places, place))), rel=1e-11)


def random_flow(kind, seed, n=200):
    """A flow of `n` neurons, the matrix of each with a column for 1, and states below the threshold."""
    rng = np.random.default_rng(seed)

    def rate():
        return 1 / np.exp(rng.uniform(np.log(0.5), np.log(100.0), n))

    a, s, r, d, b, thresh = rate(), rate(), rate(), rng.normal(0, 0.1, n), rate(), rng.uniform(0.5, 2, n)
    if kind.startswith("two"):
        c = {"two": None, "two with feedback": 0.9 * a * s / b, "two equal": None}[kind]
        if kind == "two equal":
            s = a * rng.choice([1.0, 1 + 1e-12, 1 - 1e-8], n)
            r = s * rng.choice([1.0, 1 + 1e-9], n)
        k = rate()
        flow = TwoStageFlow(*(x if x is None else jnp.asarray(x) for x in (a, b, d, c, s, k, r, thresh)))
        matrix = np.zeros((n, 4, 4))
        matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 0, 3] = -a, b, d
        matrix[:, 1, 0], matrix[:, 1, 1], matrix[:, 1, 2] = 0 if c is None else c, -s, k
        matrix[:, 2, 2] = -r
        condition = np.tile([1.0, 0, 0], (n, 1))
        y = np.stack([rng.uniform(-1, 0.999, n) * thresh, rng.normal(0, 3, n), rng.normal(0, 6, n)], axis=1)
    else:
        one = kind.startswith("one")
        decay = None if kind == "no current" else jnp.asarray(r)
        coupling = None if decay is None else jnp.asarray(b)
        inner = LinearFlow(jnp.asarray(a), jnp.asarray(d), jnp.asarray(thresh), jnp.zeros(n), coupling, decay)
        falling = () if one or decay is None else (rate(),) if kind == "adaptive" else (rate(), rate())
        flow: Any = AdaptiveThresholdFlow(inner, tuple(map(jnp.asarray, falling))) if falling else inner
        size = (1 if decay is None else 2) + len(falling)
        matrix = np.zeros((n, size + 1, size + 1))
        matrix[:, 0, 0], matrix[:, 0, -1] = -a, d
        columns = [rng.uniform(-1, 0.999, n) * thresh]
        if decay is not None:
            matrix[:, 0, 1], matrix[:, 1, 1] = b, -r
            columns.append(rng.normal(0, 3, n))
        for k, rate_k in enumerate(falling):
            matrix[:, 2 + k, 2 + k] = -rate_k
            columns.append(rng.exponential(0.5, n))
        condition = np.zeros((n, size))
        condition[:, 0], condition[:, 2:] = 1, -1
        y = np.stack(columns, axis=1)
    # Channels are often exactly 0, such as a threshold's before the first spike.
    y[:, 1:] *= rng.random(y[:, 1:].shape) < 0.8
    return flow, matrix, condition, thresh, y, rng.exponential(15.0, n)


KINDS = ("no current", "one current", "two", "two with feedback", "two equal", "adaptive", "adaptive twice")


def moved_in_40_digits(matrix, y, dt):
    """SciPy loses digits where rates are nearly equal."""
    with mpmath.workdps(40):
        moved = mpmath.expm(mpmath.matrix(matrix.tolist()) * mpmath.mpf(float(dt))) * mpmath.matrix([*y.tolist(), 1])
        return np.array([float(x) for x in moved])


@pytest.mark.parametrize("kind", KINDS)
def test_states_move_by_the_matrix_exponential(kind):
    flow, matrix, _, _, y, dt = random_flow(kind, 0)
    after = np.asarray(jax.jit(lambda y, dt: flow.after(y, dt))(jnp.asarray(y), jnp.asarray(dt)))
    for neuron in range(40):
        expected = moved_in_40_digits(matrix[neuron], y[neuron], dt[neuron])
        np.testing.assert_allclose(after[neuron], expected[:-1], rtol=1e-12, atol=1e-14 * np.abs(y[neuron]).max())


@pytest.mark.parametrize("held", [(0,), (1,), (0, 1), (2,)])
@pytest.mark.parametrize("kind", ["two", "two with feedback", "adaptive"])
def test_channels_that_are_held_stand_still_and_the_others_go_on(kind, held):
    flow, matrix, _, _, y, dt = random_flow(kind, 1, n=20)
    still: Any = flow.held(held)
    after = np.asarray(still.after(jnp.asarray(y), jnp.asarray(dt)))
    for neuron, m in enumerate(matrix):
        m = m.copy()
        m[list(held)] = 0
        expected = scipy.linalg.expm(m * dt[neuron]) @ [*y[neuron], 1]
        np.testing.assert_allclose(after[neuron], expected[:-1], rtol=1e-11, atol=1e-12 * np.abs(y[neuron]).max())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["two", *map(slow, ["two with feedback", "two equal", "adaptive"])])
def test_states_are_differentiable_by_every_rate_where_rates_are_equal_too(kind):
    flow, _, _, _, y, dt = random_flow(kind, 2, n=20)
    factors = jnp.asarray(np.random.default_rng(3).normal(size=y.shape))

    def loss(flow):
        return jnp.sum(factors * flow.after(jnp.asarray(y), jnp.asarray(dt)), axis=1)

    by_flow = jax.grad(lambda flow: jnp.sum(loss(flow)))(flow)
    leaves, structure = jax.tree.flatten(flow)
    for k, (leaf, by) in enumerate(zip(leaves, jax.tree.leaves(by_flow), strict=True)):
        found = []
        for h in (1e-4, 5e-5):
            up, down = ([*leaves[:k], leaf * (1 + sign * h), *leaves[k + 1 :]] for sign in (1, -1))
            pair = [loss(jax.tree.unflatten(structure, moved)) for moved in (up, down)]
            found.append((pair[0] - pair[1]) / (2 * h * leaf))
        expected = (4 * found[1] - found[0]) / 3
        np.testing.assert_allclose(by, jnp.where(leaf == 0, by, expected), rtol=1e-7, atol=1e-7)


def heights(matrix, condition, thresh, y, times):
    """The spike condition of one neuron at many times, from the eigenvalues of its matrix."""
    rates, vectors = np.linalg.eig(matrix)
    weights = np.linalg.solve(vectors, [*y, 1.0])
    parts = (np.append(condition, 0) @ vectors) * weights
    return np.real(np.exp(np.multiply.outer(times, rates)) @ parts) - thresh


def first_crossing_on_a_grid(matrix, condition, thresh, y, dt):
    """From 4,000 looks, the highest of which is looked at more closely. Also by how much the threshold is missed."""

    def above(t):
        return float(heights(matrix, condition, thresh, y, np.array([t]))[0])

    times = np.linspace(0, dt, 4001)
    seen = heights(matrix, condition, thresh, y, times)
    peak = int(np.argmax(seen))
    around = (times[max(peak - 1, 0)], times[min(peak + 1, 4000)])
    top = scipy.optimize.minimize_scalar(lambda t: -above(t), bounds=around, method="bounded", options={"xatol": 1e-12})
    highest = max(-top.fun, seen[peak])
    if highest < 0:
        return np.inf, highest
    found = np.flatnonzero(seen >= 0)
    end = times[found[0]] if found.size else top.x
    start = times[max(found[0] - 1, 0)] if found.size else around[0]
    return (scipy.optimize.brentq(above, start, end, xtol=1e-14) if above(start) < 0 else end), highest


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind if kind == "two" else slow(kind) for kind in KINDS if kind != "two equal"])
def test_no_crossing_is_missed_and_none_invented(kind):
    crossed = inside = 0
    for seed in range(3):
        flow, matrix, condition, thresh, y, dt = random_flow(kind, 10 + seed, n=400)
        below = np.sum(condition * y, axis=1) - thresh < 0
        ends = flow.after(jnp.asarray(y), jnp.asarray(dt))
        may = np.asarray(flow.may_cross(jnp.asarray(y), ends, jnp.asarray(dt)))
        s = np.asarray(flow.first_crossing(jnp.asarray(y), jnp.asarray(dt), jnp.full(len(dt), 1e-15)))
        for k in np.flatnonzero(below):
            expected, highest = first_crossing_on_a_grid(matrix[k], condition[k], thresh[k], y[k], dt[k])
            if abs(highest) < 1e-11:
                continue
            assert np.isfinite(s[k]) == np.isfinite(expected), (k, s[k], expected, highest)
            if np.isfinite(expected):
                assert may[k], k
                assert s[k] == pytest.approx(expected, rel=1e-9, abs=1e-9), (k, highest)
                crossed += 1
                inside += heights(matrix[k], condition[k], thresh[k], y[k], dt[k : k + 1])[0] < 0
    assert crossed > 70
    # Those that are below the threshold again at the end; without a current there are none.
    assert inside > 10 or kind == "no current"


def test_hardly_any_neuron_that_does_not_cross_is_looked_at_closely():
    flow, matrix, condition, thresh, y, _ = random_flow("two", 20, n=400)
    dt = np.full(400, 2.0)
    may = flow.may_cross(jnp.asarray(y), flow.after(jnp.asarray(y), jnp.asarray(dt)), jnp.asarray(dt))
    crosses = np.isfinite(flow.first_crossing(jnp.asarray(y), jnp.asarray(dt), jnp.full(400, 1e-15)))
    assert np.sum(np.asarray(may) & ~crosses) < 0.05 * 400


@pytest.mark.parametrize("dtype", [jnp.float32, slow(jnp.float64)])
@pytest.mark.parametrize("kind", ["two", *map(slow, ["two with feedback", "adaptive", "adaptive twice"])])
def test_a_threshold_just_under_a_maximum_is_met_and_one_just_over_it_is_not(kind, dtype):
    """Grazes: the threshold is put a little below and a little above the highest place of an arc."""
    flow, matrix, condition, _, y, dt = random_flow(kind, 30, n=300)
    margin = 2000 * float(jnp.finfo(dtype).eps)
    place = (lambda f: f.thresh) if kind.startswith("two") else (lambda f: f.neuron.thresh)
    tops, arcs = np.zeros(300), np.zeros(300, bool)
    for k in range(300):
        times = np.linspace(0, dt[k], 4001)
        seen = heights(matrix[k], condition[k], 0.0, y[k], times)
        peak = int(np.argmax(seen))
        if 0 < peak < 4000 and seen[peak] > max(seen[0], seen[-1]) + 0.1:
            over = seen[peak] + 1
            tops[k] = over + first_crossing_on_a_grid(matrix[k], condition[k], over, y[k], dt[k])[1]
            arcs[k] = True
    size = margin * (1 + np.abs(y).max(axis=1) * 10)
    assert arcs.sum() > 20
    for sign in (-1, 1):
        moved = eqx.tree_at(place, flow, jnp.asarray(tops + sign * size))
        moved = jax.tree.map(lambda leaf: leaf.astype(dtype), moved)
        s = moved.first_crossing(jnp.asarray(y, dtype), jnp.asarray(dt, dtype), jnp.full(len(dt), 1e-16, dtype))
        assert np.all(np.isfinite(s)[arcs] == (sign < 0)), (sign, np.flatnonzero(arcs & (np.isfinite(s) != (sign < 0))))


# A model, the keywords of its network, and the closed form's parts that gradients are taken by.
PULSE = StepCurrent(1.2, start=5.0, stop=14.0) + StepCurrent(-0.5, start=9.0)
SUMMED = Mixed((LIF, 2), (ALIF, 2), (AlphaLIF, 1), (LeakyIntegrator, 1))
CASES: dict[str, tuple[type[NeuronModel], dict[str, Any], tuple[str, ...]]] = {
    "AlphaLIF": (AlphaLIF, {}, ("tsyn", "tmem", "thresh", "vreset")),
    "TwoCompartment": (TwoCompartment, {"wmean": 6.0}, ("tsoma", "tdend", "gsoma", "gdend", "tsyn", "thresh")),
    "MAT": (MAT, {"wmean": 60.0}, ("t1", "t2", "alpha1", "alpha2", "omega")),
    "Refractory(LIF)": (Refractory(LIF), {"tref": 1.5}, ("tref", "tmem", "tsyn", "vreset")),
    # With rates that are equal.
    "AtMostOneSpike(Refractory(DualExpLIF))": (
        AtMostOneSpike(Refractory(DualExpLIF)), {"trise": 5.0}, ("tref", "tdecay"),
    ),
    "WithBiasCurrent(Mixed)": (WithBiasCurrent(SUMMED), {"current": PULSE}, ("tmem", "tsyn")),
}  # fmt: skip
QUICK = {"AlphaLIF", "Refractory(LIF)"}
each_case = pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
END = 30.0


@functools.cache
def pair(name):
    model, keywords, trainable = CASES[name]
    common = {"wmean": 4.0, "wlim": 2.0, "rtol": 1e-11, "atol": 1e-12, "dtype": jnp.float64, "trainable": trainable}
    return [FFEvNN([6], 4, model, END, KEY, engine=engine, **common | keywords) for engine in ("auto", "numerical")]


def arrivals(seed=0):
    x = np.random.default_rng(seed).uniform(0, 20, (4, 4))
    x[1, 2] = x[2, 3]  # two at one instant
    x[3, 3] = np.inf
    return jnp.asarray(x)


TIMES = jnp.asarray([3.3, 8.1, 17.2, 29.0])


@each_case
def test_closed_form_and_solver_give_the_same_spikes_and_states(name):
    nets = pair(name)
    assert valid_closed_form(nets[0].neurons[0]) is not None
    (spikes, states), (spikes2, states2) = (spikes_and_states(net, arrivals(), TIMES, 60) for net in nets)
    assert np.isfinite(spikes).sum() >= 6
    np.testing.assert_array_equal(np.isfinite(spikes), np.isfinite(spikes2))
    np.testing.assert_allclose(spikes, spikes2, rtol=0, atol=1e-8)
    np.testing.assert_allclose(states, states2, rtol=0, atol=1e-8 * float(np.abs(states2).max()))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["AtMostOneSpike(Refractory(DualExpLIF))"])
def test_closed_form_and_solver_give_the_same_gradients(name):
    """`test_zoo.py` and `test_wrappers.py` hold closed forms against an oracle; this holds the solver against them."""

    def loss(pair):
        net, x = pair
        spikes, states = spikes_and_states(net, x, TIMES, 60)
        factors = jnp.asarray(np.random.default_rng(1).normal(size=spikes.shape))
        return jnp.sum(jnp.where(jnp.isfinite(spikes), factors * spikes, 0)) + jnp.sum(states**2)

    gradient = eqx.filter_jit(eqx.filter_grad(loss))
    by, by2 = (jax.tree.leaves(gradient((net, arrivals()))) for net in pair(name))
    assert sum(bool(np.any(leaf)) for leaf in by2) >= 2 + len(CASES[name][2])
    for got, wanted in zip(by, by2, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-7 * max(float(np.abs(wanted).max()), 1e-3))


@pytest.mark.parametrize(
    "model",
    [
        Refractory(eventsnn.QIF),
        AtMostOneSpike(eventsnn.ConductanceLIF),
        Mixed((LIF, 1), (eventsnn.QIF, 1)),
    ],
)
def test_there_is_no_closed_form_around_a_model_that_has_none(model):
    assert valid_closed_form(model(2)) is None


def test_there_is_no_closed_form_with_a_current_that_moves_between_its_breakpoints():
    model = WithBiasCurrent(LIF)
    assert valid_closed_form(model(2, current=PULSE)) is not None
    assert valid_closed_form(model(2, current=PULSE + SineCurrent(1.0, frequency=50.0))) is None
    assert valid_closed_form(model(2, current=lambda t: 0 * t)) is None


@pytest.mark.parametrize("model", [AlphaLIF, DualExpLIF, TwoCompartment, ALIF, MAT, Refractory(LIF), SUMMED])
@pytest.mark.parametrize("method", ["dynamics", "spike_condition", "input_spikes", "reset_spiked"])
def test_a_subclass_that_overrides_a_method_is_solved_numerically(model, method):
    other = type("Other", (model,), {method: lambda self, *args: getattr(model, method)(self, *args)})
    assert valid_closed_form(model(6)) is not None
    assert valid_closed_form(other(6)) is None


@pytest.mark.slow
@pytest.mark.parametrize(("name", "delays"), [("Refractory(LIF)", (2.0, 6.0))])
def test_recurrent_networks_give_the_same_spikes_and_gradients_by_both_engines(name, delays):
    model, keywords, trainable = CASES[name]
    rng = np.random.default_rng(4)
    keywords = keywords | {
        "init_weights": rng.normal(1.0, 1.5, (8 + 4, 8)) / (2.5 if name == "AlphaLIF" else 1),
        "trainable": trainable,
    }
    if delays is not None:
        keywords |= {"init_delays": rng.uniform(*delays, (8 + 4, 8))}
    found = []
    for engine in ("auto", "numerical"):
        net = EvNN(model, 8, 4, END, KEY, engine=engine, rtol=1e-11, atol=1e-12, dtype=jnp.float64, **keywords)
        record = net.record(arrivals())
        assert np.isfinite(record.times[0]).sum() > 15

        def loss(pair):
            net, x = pair
            spikes = net.spikes_until_t(x, END, 60)
            return jnp.sum(jnp.where(jnp.isfinite(spikes), jnp.sin(spikes), 0))

        by = eqx.filter_jit(eqx.filter_grad(loss))((net, arrivals()))
        found.append((record, jax.tree.leaves(by)))
    (record, by), (record2, by2) = found
    np.testing.assert_array_equal(record.neurons[0], record2.neurons[0])
    np.testing.assert_allclose(record.times[0], record2.times[0], rtol=0, atol=1e-8)
    for got, wanted in zip(by, by2, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6 * max(float(np.abs(wanted).max()), 1e-3))


class TwoPorts(NeuronModel):
    """LIF neurons with an excitatory and an inhibitory way in."""

    channels = ("V", "I")
    ports = ("plus", "minus")
    tmem: Parameter = hyperparameter(20.0, "time constant of V in ms", positive=True)
    y0: Parameter = initial_state(0.0)

    def dynamics(self, t, y, args):
        return jnp.stack([(y[:, 1] - y[:, 0]) / self.tmem.value, -y[:, 1] / 5.0], axis=1)

    def spike_condition(self, t, y, args):
        return y[:, 0] - 1.0

    def input_spikes(self, y, weights):
        return y.at[:, 1].add(weights[:, 0] - weights[:, 1])

    def reset_spiked(self, y, spiked):
        return y.at[:, 0].multiply(jnp.where(spiked, 0.5, 1.0))

    def closed_form(self):
        return LinearFlow(
            leak=1 / self.tmem.value,
            drive=jnp.zeros_like(self.tmem.value),
            thresh=jnp.ones_like(self.tmem.value),
            vreset=jnp.zeros_like(self.tmem.value),
            coupling=1 / self.tmem.value,
            decay=0.2 * jnp.ones_like(self.tmem.value),
        )


def test_a_model_with_ports_keeps_its_jumps_and_resets_beside_its_closed_form():
    weights = np.random.default_rng(0).normal((9.0, 2.0), 2.0, (4, 5, 2))
    nets = [
        FFEvNN([5], 4, TwoPorts, END, KEY, init_weights=weights, engine=engine, rtol=1e-10, dtype=jnp.float64)
        for engine in ("auto", "numerical")
    ]
    exact, solved = (net.record(arrivals()) for net in nets)
    assert np.isfinite(exact.times[0]).sum() > 5
    np.testing.assert_array_equal(exact.neurons[0], solved.neurons[0])
    np.testing.assert_allclose(exact.times[0], solved.times[0], rtol=0, atol=1e-8)
