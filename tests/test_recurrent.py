"""Recurrent networks: spikes and gradients against an oracle, what happens at one instant, limits and errors."""

import functools
from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import oracle_recurrent
import pytest

import eventsnn
from eventsnn import IF, LIF, QIF, RESULTS, DeltaLIF, EvNN, FFEvNN, SimulationError

T_END, IN_SIZE = 60.0, 3
KINDS = ("LIF", "QIF")
MODELS = {"LIF": LIF, "QIF": QIF}
NAMES = {"LIF": ("ic", "tmem", "tsyn", "thresh", "vreset", "y0"), "QIF": ("ic", "tmem", "tsyn", "y0")}
DELAYS = ("none", "some", "long")
KEY = jax.random.PRNGKey(0)

# Each engine is a compilation; one of them stays in the quick run.
ENGINES = pytest.mark.parametrize("engine", ["auto", pytest.param("numerical", marks=pytest.mark.slow)])
PRECISIONS = pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.float64, marks=pytest.mark.slow)])


def make_theta(kind, n, delays, seed, t_end=T_END):
    """A network of excitatory and inhibitory neurons; delays are none, 0 for a third and up to 20 ms, or 1 to 20 ms."""
    rng = np.random.default_rng((seed, n, kind == "QIF", DELAYS.index(delays)))
    strength = {"LIF": 4.0, "QIF": 25.0}[kind]
    signs = rng.choice([0.5, 0.5, -1.5], (n, 1))
    weights = strength * signs * rng.uniform(0.1, 0.6, (n, n)) / np.sqrt(n)
    inputs = strength * rng.uniform(0.1, 0.7, (IN_SIZE, n))
    theta = {
        "in_spikes": rng.uniform(0.0, 0.6 * t_end, (IN_SIZE, 6)),
        "weights": np.concatenate([weights, inputs]),
        "ic": rng.uniform(0.0, 0.5, n),
        "tmem": rng.uniform(6.0, 20.0, n),
        "y0": rng.uniform(0.0, 0.3, (n, 2)) + np.array([0.3 * (kind == "QIF"), 0.0]),
    }
    theta["tsyn"] = theta["tmem"] * rng.choice([0.2, 1.0, 1.4], n)
    if kind == "LIF":
        theta |= {"thresh": rng.uniform(0.8, 1.3, n), "vreset": rng.uniform(-0.3, 0.3, n)}
    if delays != "none":
        theta["delays"] = rng.uniform(1.0, 20.0, (n + IN_SIZE, n))
    if delays == "some":
        theta["delays"][rng.uniform(size=theta["delays"].shape) < 1 / 3] = 0.0
    return theta


def simulate(kind, theta, t_end, queries=()):
    p = {name: theta[name] for name in NAMES[kind]}
    delays = theta.get("delays", np.zeros_like(theta["weights"]))
    return oracle_recurrent.simulate(kind, theta["in_spikes"], theta["weights"], delays, p, t_end, queries)


@functools.cache
def network(kind, n, delayed, t_end=T_END, engine="auto", rtol=1e-9, windows=False):
    """Its numbers are all replaced by those of a theta."""
    fixed = ("y0",) if kind == "QIF" else ("y0", "thresh", "vreset")
    return EvNN(
        MODELS[kind],
        n,
        IN_SIZE,
        t_end,
        KEY,
        dtype=jnp.float64,
        rtol=rtol,
        atol=rtol / 10,
        max_steps=100_000,
        max_event_steps=2048,
        max_pending=256,
        engine=engine,
        windows=windows,
        init_weights=0.0,
        trainable=("tmem", "tsyn", *fixed, *(("delays",) if delayed else ())),
        **({"init_delays": 1.0} if delayed else {}),
    )


def with_numbers(net, theta):
    names = NAMES[type(net.neurons).__name__]

    def places(net):
        held = [getattr(net.neurons, name) for name in names]
        held = [x if name == "ic" else x.value for name, x in zip(names, held, strict=True)]
        delays = [] if net.connection.delays is None else [net.connection.delays.value]
        return [net.connection.weights, *held, *delays]

    delays = [theta["delays"]] if "delays" in theta else []
    values = [theta["weights"], *(theta[name] for name in names), *delays]
    return eqx.tree_at(places, net, [jnp.asarray(value) for value in values])


@eqx.filter_jit
def recorded(net, in_spikes):
    return net.record(in_spikes)


def assert_spikes(kind, net, theta, bar):
    """The same spikes in the same order, as long as no peak is so close to threshold that rounding decides."""
    truth = simulate(kind, theta, net.max_solver_time)
    assert truth.closest > 1e-6
    record = recorded(with_numbers(net, theta), jnp.asarray(theta["in_spikes"]))
    count = len(truth.times)
    assert np.isfinite(record.times[0]).sum() == count
    np.testing.assert_array_equal(record.neurons[0][:count], truth.neurons)
    np.testing.assert_allclose(record.times[0][:count], truth.times, rtol=0, atol=bar)
    return count


@pytest.mark.parametrize("delays", [DELAYS[0], DELAYS[1], pytest.param(DELAYS[2], marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_small_networks_spike_as_the_oracle(kind, delays):
    bar = {"LIF": 1e-9, "QIF": 1e-7}[kind]
    net = network(kind, 5, delays != "none")
    counts = [assert_spikes(kind, net, make_theta(kind, 5, delays, seed), bar) for seed in range(8)]
    assert max(counts) >= 15


@pytest.mark.slow
@pytest.mark.parametrize("delays", ["none", "some"])
@pytest.mark.parametrize("kind", KINDS)
def test_large_networks_spike_as_the_oracle(kind, delays):
    bar = {"LIF": 1e-9, "QIF": 1e-7}[kind]
    n = 100 if delays == "none" else 30
    net = network(kind, n, delays != "none")
    counts = [assert_spikes(kind, net, make_theta(kind, n, delays, seed), bar) for seed in range(2)]
    assert min(counts) >= 100


def test_the_numerical_engine_gives_the_spikes_of_the_closed_form():
    theta = make_theta("LIF", 5, "some", 3)
    assert assert_spikes("LIF", network("LIF", 5, True, engine="numerical"), theta, 1e-7) >= 10


class Question(NamedTuple):
    kind: str
    delays: str
    states: bool


T_GRADIENT, TIMES = 30.0, np.array([7.3, 28.9, 17.1])


class Factors(NamedTuple):
    """What spikes count: by their number in the list, times the time; by their neuron, times a cosine of the time.

    The second sum does not depend on the order of the spikes, and so is smooth where two of them change places.
    All are numbers, not parts of the program: one compilation has the gradients of both.
    """

    by_number: np.ndarray
    by_neuron: np.ndarray
    rates: np.ndarray


OF_STATES = np.random.default_rng(8).normal(size=(4, 3, 2))
IN_ORDER = Factors(np.random.default_rng(8).normal(size=2048), np.zeros(4), np.zeros(4))
_RNG = np.random.default_rng(8)
WAVES = Factors(np.zeros(2048), _RNG.normal(size=4), _RNG.uniform(0.1, 0.4, 4))


def oracle_loss(question, theta, factors=IN_ORDER):
    run = simulate(question.kind, theta, T_GRADIENT, TIMES if question.states else ())
    if question.states:
        return float(np.sum(OF_STATES * run.states))
    in_order = factors.by_number[: len(run.times)] @ run.times
    return float(in_order + np.sum(factors.by_neuron[run.neurons] * np.cos(factors.rates[run.neurons] * run.times)))


def package_loss(theta, net, states, factors=IN_ORDER):
    net = with_numbers(net, theta)
    if states:
        return jnp.sum(OF_STATES * net.state_at_t(theta["in_spikes"], jnp.asarray(TIMES)))
    by_number, by_neuron, rates = map(jnp.asarray, factors)
    record = net.record(theta["in_spikes"])
    finite = jnp.isfinite(record.times[0])
    times, neurons = jnp.where(finite, record.times[0], 0.0), record.neurons[0]
    return jnp.sum(jnp.where(finite, by_number * times + by_neuron[neurons] * jnp.cos(rates[neurons] * times), 0.0))


@eqx.filter_jit
def _value_and_gradient(theta, net, states, factors):
    return jax.value_and_grad(package_loss)(theta, net, states, factors)


def package_gradient(theta, net, states, factors=IN_ORDER):
    theta, factors = jax.tree.map(jnp.asarray, (dict(theta), factors))
    return _value_and_gradient(theta, net, states, factors)


# What the values so many steps away count, by the order of the formula.
STENCIL = {
    4: {1: 2 / 3, 2: -1 / 12},
    8: {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280},
}


def central_differences(loss, theta, h=1e-5, order=4):
    """NaN where a number cannot be moved both ways."""
    gradients = {}
    for name, value in theta.items():
        gradients[name] = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            if name == "delays" and value[index] < order / 2 * h:
                gradients[name][index] = np.nan
                continue
            for k, factor in STENCIL[order].items():
                for sign in (-1, 1):
                    moved = value.copy()
                    moved[index] += sign * k * h
                    gradients[name][index] += sign * factor * loss(theta | {name: moved}) / h
    return gradients


def assert_close(gradients, expected, bar, floor=1e-3):
    """Every number within `bar`, relative to itself, or to a part of the largest of its kind if it is smaller."""
    assert gradients.keys() == expected.keys()
    for name, wanted in expected.items():
        got, wanted = np.asarray(gradients[name]), np.asarray(wanted)
        least = floor * np.nanmax(np.abs(wanted)) + 1e-3
        error = np.abs(got - wanted) / np.maximum(np.abs(wanted), least)
        assert np.nanmax(error) <= bar, f"{name}{np.unravel_index(np.nanargmax(error), error.shape)}: {error}"


@pytest.mark.parametrize(
    "question",
    [
        pytest.param(Question("LIF", "some", False), marks=pytest.mark.slow),
        pytest.param(Question("LIF", "none", True), marks=pytest.mark.slow),
        pytest.param(Question("QIF", "some", True), marks=pytest.mark.slow),
    ],
)
def test_gradients_equal_central_differences_of_the_oracle(question):
    theta = make_theta(question.kind, 4, question.delays, 1, T_GRADIENT)
    truth = simulate(question.kind, theta, T_GRADIENT)
    assert len(truth.times) >= 8 and len(set(truth.neurons)) >= 3 and truth.closest > 1e-3
    net = network(question.kind, 4, question.delays != "none", T_GRADIENT, rtol=1e-11)
    value, gradients = package_gradient(theta, net, question.states)
    loss = functools.partial(oracle_loss, question)
    assert abs(value - loss(theta)) < 1e-6
    assert_close(gradients, central_differences(loss, theta), 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("delays", "seed", "h"), [("none", 2, 1e-4), ("some", 2, 1e-4), ("long", 1, 3e-4)])
def test_gradients_of_lif_are_exact_to_eight_digits(delays, seed, h):
    theta = make_theta("LIF", 4, delays, seed, T_GRADIENT)
    net = network("LIF", 4, delays != "none", T_GRADIENT, rtol=1e-11, windows=delays == "long")
    loss = functools.partial(oracle_loss, Question("LIF", delays, False), factors=WAVES)
    value, gradients = package_gradient(theta, net, False, WAVES)
    assert abs(value - loss(theta)) < 1e-11
    assert_close(gradients, central_differences(loss, theta, h, order=8), 1e-8, floor=1e-2)


@pytest.mark.slow
def test_the_gradient_of_a_vmap_equals_the_vmap_of_gradients_and_long_runs_are_replayed(change_engine):
    theta = {k: jnp.asarray(x) for k, x in make_theta("LIF", 4, "some", 1, T_GRADIENT).items()}
    net = network("LIF", 4, True, T_GRADIENT, rtol=1e-11)
    single = package_gradient(theta, net, False)[1]
    # With room for 8 segments everything is replayed in pieces.
    change_engine("shared_clock.network._RECORDED", 8)
    batch = theta.pop("in_spikes") + jnp.array([0.0, 0.3, 0.7])[:, None, None]

    def loss(theta, in_spikes):
        return package_loss(theta | {"in_spikes": in_spikes}, net, False)

    def batch_loss(theta, batch):
        return jnp.sum(jax.vmap(loss, in_axes=(None, 0))(theta, batch))

    of_vmap = jax.jit(jax.grad(batch_loss))(theta, batch)
    each = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0)))(theta, batch)
    assert_close(of_vmap, {name: value.sum(axis=0) for name, value in each.items()}, 1e-9)
    assert_close({name: value[0] for name, value in each.items()}, {k: x for k, x in single.items() if k in each}, 1e-9)


@pytest.mark.slow
def test_the_gradient_by_a_delay_of_exactly_0_is_that_of_making_it_longer():
    theta = make_theta("LIF", 4, "some", 1, T_GRADIENT)
    at_0 = np.argwhere(theta["delays"] == 0)
    gradient = package_gradient(theta, network("LIF", 4, True, T_GRADIENT, rtol=1e-11), False)[1]["delays"]
    loss, h, told = functools.partial(oracle_loss, Question("LIF", "some", False)), 1e-4, 0
    for place in map(tuple, at_0):
        values = []
        for k in range(4):
            moved = theta["delays"].copy()
            moved[place] = k * h
            values.append(loss(theta | {"delays": moved}))
        one_sided = np.dot([-11, 18, -9, 2], values) / (6 * h)
        assert abs(gradient[place] - one_sided) <= 1e-5 * max(abs(one_sided), 1e-2), place
        told += abs(one_sided) > 1e-3
    assert told >= 3


@pytest.mark.slow
def test_a_recurrent_network_without_feedback_is_the_feed_forward_one():
    rng = np.random.default_rng(4)
    first, second = rng.normal(4.0, 2.0, (2, 6)), rng.normal(2.0, 1.0, (6, 3))
    weights = np.zeros((9 + 2, 9))
    weights[:6, 6:], weights[9:, :6] = second, first
    delays = rng.uniform(0, 5, weights.shape)
    x = jnp.asarray(rng.uniform(0, 20, (2, 4)))
    keywords = {"dtype": jnp.float64, "init_bias": 0.2}
    forward = FFEvNN(
        [6, 3],
        2,
        LIF,
        T_END,
        KEY,
        init_weights=[first, second],
        init_delays=[delays[9:, :6], delays[:6, 6:]],
        **keywords,
    )
    recurrent = EvNN(
        LIF, 9, 2, T_END, KEY, init_weights=weights, wmask=weights != 0, init_delays=delays, **keywords,
        output_neurons=np.arange(9) >= 6, input_neurons=np.arange(9) < 6,
    )  # fmt: skip
    expected = forward.spikes_until_t(x, T_END, 30)
    assert np.isfinite(expected).sum() > 10
    np.testing.assert_allclose(recurrent.spikes_until_t(x, T_END, 30), expected, rtol=0, atol=1e-10)
    times = jnp.array([3.3, 40.0, 11.1])
    np.testing.assert_allclose(recurrent.state_at_t(x, times)[6:], forward.state_at_t(x, times), rtol=0, atol=1e-9)


# What happens at one instant. A DeltaLIF neuron spikes at once if a spike lifts it over its threshold.


def delta(weights, n_inputs=1, t_end=20.0, **keywords):
    weights = np.asarray(weights, float)
    keywords = {"dtype": jnp.float64, "max_event_steps": 32} | keywords
    return EvNN(DeltaLIF, weights.shape[1], n_inputs, t_end, KEY, init_weights=weights, **keywords)


@ENGINES
def test_a_chain_without_delays_spikes_at_one_instant_in_the_order_of_cause(engine):
    # The input fires neuron 2, that fires 0, that fires 1.
    net = delta([[0, 1.5, 0], [0, 0, 0], [1.5, 0, 0], [0, 0, 1.5]], engine=engine)
    record = net.record(jnp.array([[3.0]]))
    np.testing.assert_array_equal(record.times[0][:4], [3.0, 3.0, 3.0, np.inf])
    np.testing.assert_array_equal(record.neurons[0][:3], [2, 0, 1])
    assert np.isinf(record.slopes[0]).all()


@ENGINES
@pytest.mark.parametrize("jit", [False, True])
def test_neurons_that_fire_each_other_without_delay_are_an_error(engine, jit):
    net = delta([[0, 1.5], [1.5, 0], [1.5, 0]], engine=engine, max_event_steps=1000)
    run = eqx.filter_jit(lambda x: net.record(x).times) if jit else net.record
    message = r"network, neuron \d, t = 3 ms: the network spikes on and on without time passing"
    with pytest.raises(Exception, match=message) as caught:
        run(jnp.array([[3.0]]))
    assert jit or caught.type is SimulationError
    # First spikes are known before it comes to that.
    np.testing.assert_array_equal(net.ttfs(jnp.array([[3.0]])), [3.0, 3.0])


@pytest.mark.slow
def test_a_neuron_that_fires_itself_without_delay_is_an_error_and_with_delay_a_clock():
    with pytest.raises(SimulationError, match="without time passing"):
        delta([[1.5], [1.5]], max_event_steps=1000).record(jnp.array([[3.0]]))
    times = delta([[1.5], [1.5]], init_delays=np.array([[4.0], [0.0]])).record(jnp.array([[3.0]])).times[0]
    np.testing.assert_allclose(times[:5], [3.0, 7.0, 11.0, 15.0, 19.0], rtol=0, atol=1e-12)
    assert np.isinf(times[5])


def test_delays_too_short_to_be_told_from_none_are_an_error_as_well():
    with pytest.raises(SimulationError, match="without time passing"):
        delta([[0, 1.5], [1.5, 0], [1.5, 0]], init_delays=1e-18, max_event_steps=1000).record(jnp.array([[3.0]]))


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
@ENGINES
def test_of_two_neurons_that_cross_in_one_step_the_earlier_is_first_and_stops_the_later(engine, order):
    # Both are driven over their threshold; the first to spike inhibits the other for good.
    bias = np.array([2.0, 1.9])[order]
    weights = np.zeros((3, 2))
    weights[0, 1] = weights[1, 0] = -50.0
    net = EvNN(LIF, 2, 1, 20.0, KEY, init_weights=weights, init_bias=bias, dtype=jnp.float64, engine=engine, rtol=1e-9)
    record = net.record(jnp.full((1, 1), jnp.inf))
    assert list(record.neurons[0][:2]) == [order.index(0), -1]
    assert abs(record.slopes[0][0] - 1 / 20) < 1e-6
    assert abs(record.times[0][0] - 20 * np.log(2)) < 1e-7


@ENGINES
def test_equal_neurons_that_inhibit_each_other_spike_together(engine):
    # At one instant spikes come before what they send: neither can hold the other back.
    weights = np.array([[0.0, -9.0], [-9.0, 0.0], [0.0, 0.0]])
    net = EvNN(LIF, 2, 1, 20.0, KEY, init_weights=weights, init_bias=2.0, dtype=jnp.float64, engine=engine, rtol=1e-9)
    record = net.record(jnp.full((1, 1), jnp.inf))
    np.testing.assert_allclose(record.times[0][:2], 20 * np.log(2), rtol=0, atol=1e-7)
    assert sorted(record.neurons[0][:2].tolist()) == [0, 1]


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_excitation_and_inhibition_that_arrive_together_count_together(order):
    # Two neurons send at 3 ms; what they send arrives at 5 ms, by different routes.
    weights = np.zeros((3 + 1, 3))
    weights[3, :2] = 1.5
    weights[[0, 1], 2] = np.array([1.5, -1.0])[order]
    delays = np.zeros((4, 3))
    delays[:2, 2] = 2.0
    record = delta(weights, init_delays=delays).record(jnp.array([[3.0]]))
    np.testing.assert_array_equal(record.neurons[0][:3], [0, 1, -1])


def test_a_delay_of_nothing_and_next_to_nothing():
    theta = make_theta("LIF", 5, "none", 2)
    x = jnp.asarray(theta["in_spikes"])
    at_once = recorded(with_numbers(network("LIF", 5, False), theta), x).times[0]
    assert np.isfinite(at_once).sum() >= 10
    for delay, bar in ((0.0, 1e-12), (1e-12, 1e-10)):
        delays = np.full_like(theta["weights"], delay)
        found = recorded(with_numbers(network("LIF", 5, True), theta | {"delays": delays}), x).times[0]
        np.testing.assert_allclose(found, at_once, rtol=0, atol=bar)


def test_permuted_neurons_give_permuted_spikes():
    theta = make_theta("LIF", 5, "some", 3)
    order = np.array([3, 0, 4, 1, 2])
    rows = np.concatenate([order, 5 + np.arange(IN_SIZE)])
    moved = {name: value[order] for name, value in theta.items() if name in NAMES["LIF"]}
    moved |= {name: theta[name][rows][:, order] for name in ("weights", "delays")}
    x = jnp.asarray(theta["in_spikes"])
    a, b = (recorded(with_numbers(network("LIF", 5, True), t), x) for t in (theta, theta | moved))
    np.testing.assert_allclose(b.times[0], a.times[0], rtol=0, atol=1e-11)
    real = np.isfinite(a.times[0])
    np.testing.assert_array_equal(order[b.neurons[0][real]], a.neurons[0][real])


@pytest.mark.slow
@ENGINES
@PRECISIONS
def test_a_crossing_at_the_end_of_the_run_and_at_an_input_is_one_spike(engine, dtype):
    # V = t/16 reaches 1 at 16 ms exactly; what arrives then adds nothing to V yet.
    def net(t_end):
        weights = np.array([[0.0, 0.0], [0.0, 0.0], [0.5, 0.0]])
        keywords = {"tmem": 16.0, "init_bias": 1.0, "init_weights": weights, "dtype": dtype, "engine": engine}
        if engine == "numerical":
            # Steps of which the computer knows every digit.
            steps = {"stepsize_controller": diffrax.ConstantStepSize(), "solver_stepsize": 0.25}
            keywords |= {"solver": diffrax.Euler(), **steps}
        return EvNN(IF, 2, 1, t_end, KEY, **keywords)

    nothing, at_crossing = jnp.full((1, 1), jnp.inf, dtype), jnp.full((1, 1), 16.0, dtype)
    for t_end, x in ((16.0, nothing), (16.0, at_crossing), (20.0, at_crossing)):
        times = net(t_end).record(x).times[0][:3]
        np.testing.assert_allclose(times, [16.0, 16.0, np.inf], rtol=4 * jnp.finfo(dtype).eps)
    # Looking at that instant changes nothing, and shows what is behind it.
    v_i = net(20.0).state_at_t(at_crossing, jnp.array([16.0, 0.0, 8.0], dtype))
    np.testing.assert_allclose(v_i[:, :, 0], [[0.0, 0.0, 0.5]] * 2, atol=1e-5)
    np.testing.assert_allclose(v_i[:, :, 1], [[0.5, 0.0, 0.0], [0.0, 0.0, 0.0]], atol=1e-5)


def test_inputs_at_the_start_at_the_end_and_behind_it():
    net = delta([[0, 0, 0], [0, 0, 0], [0, 0, 0], [1.5, 0, 0], [0, 1.5, 0], [0, 0, 1.5]], n_inputs=3, t_end=20.0)
    record = net.record(jnp.array([[0.0], [20.0], [20.0 + 1e-9]]))
    np.testing.assert_array_equal(record.times[0][:3], [0.0, 20.0, np.inf])
    np.testing.assert_array_equal(record.neurons[0][:3], [0, 1, -1])
    assert EvNN(LIF, 2, 0, 10.0, KEY, init_bias=2.0).ttfs(np.zeros((0, 3))).shape == (2,)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_late_times_in_float32_are_right_to_a_few_units_in_the_last_place(kind):
    weights = np.array([[0.0, 9.0], [0.0, 0.0], [9.0, 0.0]]) * (1 if kind == "LIF" else 4)

    def first_spikes(late, t_end):
        net = EvNN(MODELS[kind], 2, 1, t_end, KEY, init_weights=weights, max_steps=100_000)
        return np.asarray(net.ttfs(np.array([[late]])), np.float64)

    early, late = first_spikes(1.0, 100.0), first_spikes(100_001.0, 100_100.0)
    assert np.isfinite(early).all()
    if kind == "LIF":
        np.testing.assert_allclose(late - early, 100_000.0, rtol=0, atol=4 * np.spacing(np.float32(1e5)))
    else:
        # Not at rest before the input, but on the way there.
        assert np.isfinite(late).all() and (late > 100_001).all()


@pytest.mark.slow
def test_gradients_through_spikes_at_one_instant_are_finite_and_right():
    # Two equal neurons spike together and drive a third. Moved together, they move it as they do.
    weights = np.array([[0, 0, 5.0], [0, 0, 5.0], [0, 0, 0], [9.0, 9.0, 0]])
    net = EvNN(LIF, 3, 1, 40.0, KEY, init_weights=weights, dtype=jnp.float64)

    def third(w, x):
        w = net.connection.weights.at[3, :2].set(w)
        return eqx.tree_at(lambda net: net.connection.weights, net, w).ttfs(x)[2]

    x, h = jnp.array([[1.0]]), 1e-5
    by_w, by_x = jax.grad(third, argnums=(0, 1))(9.0, x)
    assert abs(by_x[0, 0] - 1) < 1e-9
    assert abs(by_w - (third(9.0 + h, x) - third(9.0 - h, x)) / (2 * h)) < 1e-7


# Limits and errors.


def test_a_list_that_is_just_full_works_and_one_spike_more_is_an_error():
    chain = [[0, 1.5, 0], [0, 0, 0], [1.5, 0, 0], [0, 0, 1.5]]
    x = jnp.array([[3.0]])
    assert np.isfinite(delta(chain, max_event_steps=3).record(x).times[0]).all()
    with pytest.raises(SimulationError, match="network emitted more than max_event_steps = 2 spikes"):
        delta(chain, max_event_steps=2).record(x)
    told = delta(chain, max_event_steps=2, throw=False).record(x).result
    assert told == RESULTS.too_many_spikes


@pytest.mark.slow
def test_more_spikes_on_their_way_than_there_is_room_for_are_an_error():
    weights = np.zeros((6, 5))
    weights[5, :4], weights[:4, 4] = 1.5, 0.1
    x = jnp.array([[3.0]])
    keywords = {"init_delays": 2.0, "wmask": weights != 0}
    record = delta(weights, max_pending=4, **keywords).record(x)
    assert np.isfinite(record.times[0]).sum() == 4
    with pytest.raises(SimulationError, match="neuron 4, t = 5 ms: more than max_pending spikes"):
        delta(weights, max_pending=3, **keywords).record(x)


def test_runaway_activity_is_an_error_that_says_so():
    weights = np.full((4, 3), 30.0)
    net = EvNN(LIF, 3, 1, 50.0, KEY, init_weights=weights, max_event_steps=100)
    with pytest.raises(SimulationError, match="max_event_steps = 100 .*runaway"):
        net.record(np.array([[1.0]]))


def test_one_failing_sample_of_a_batch_leaves_the_others_alone():
    net = delta([[0, 1.5], [1.5, 0], [1.5, 0]], throw=False, max_event_steps=1000)
    record = jax.vmap(net.record)(jnp.array([[[3.0]], [[jnp.inf]]]))
    results = [jax.tree.map(lambda leaf, k=k: leaf[k], record.result) for k in range(2)]
    assert bool(results[0] == RESULTS.endless) and bool(results[1] == RESULTS.successful)
    assert np.isinf(record.times[0][1]).all()


def test_a_failed_run_is_told_while_a_gradient_is_taken_as_well():
    net = delta([[0, 1.5], [1.5, 0], [1.5, 0]], max_event_steps=1000)
    with pytest.raises(SimulationError, match="without time passing"):
        eqx.filter_grad(lambda net: jnp.sum(net.record(jnp.array([[3.0]])).times[0][:2]))(net)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"init_delays": -1.0}, r"init_delays\[0, 0\] is -1.0"),
        ({"init_delays": np.nan}, "init_delays .*finite"),
        ({"init_weights": np.ones((3, 3))}, r"init_weights has shape \(3, 3\), expected .*\(4, 3\)"),
        ({"wmask": np.ones((3, 3), bool)}, r"wmask has shape \(3, 3\), expected \(4, 3\)"),
        ({"output_neurons": [True, False]}, r"output_neurons has shape \(2,\), expected \(3,\)"),
        ({"output_neurons": np.zeros(3, bool)}, "has no True"),
        ({"input_neurons": [0.5, 1.0, 0.0]}, "expected a mask of True and False"),
        ({"max_pending": 0}, "max_pending is 0"),
        ({"max_event_steps": 0}, "max_event_steps is 0"),
    ],
)
def test_bad_arguments_are_told(keywords, message):
    with pytest.raises(ValueError, match=message):
        EvNN(LIF, 3, 1, 20.0, KEY, **keywords)


def test_a_misspelt_keyword_is_told():
    with pytest.raises(TypeError, match="input_neuron.*did you mean input_neurons"):
        EvNN(LIF, 3, 1, 20.0, KEY, input_neuron=np.ones(3, bool))


@pytest.mark.slow
def test_connections_that_are_masked_do_nothing_and_receive_nothing():
    mask = np.zeros((4, 3), bool)
    mask[3, 0] = mask[0, 1] = True
    net = EvNN(LIF, 3, 1, 40.0, KEY, init_weights=20.0, wmask=mask, init_delays=1.0, trainable=("delays",))
    record = net.record(np.array([[1.0]]))
    assert set(np.asarray(record.neurons[0]).tolist()) == {0, 1, -1}
    gradient = eqx.filter_grad(lambda net: net.ttfs(np.array([[1.0]]))[1])(net).connection
    np.testing.assert_array_equal(gradient.weights != 0, mask)
    np.testing.assert_array_equal(gradient.delays.value != 0, mask)


def test_a_neuron_that_never_spikes_has_gradient_0():
    net = EvNN(LIF, 3, 1, 40.0, KEY, init_weights=0.1, init_delays=1.0, trainable=("delays",))
    gradient = eqx.filter_grad(lambda net: jnp.sum(jnp.nan_to_num(net.ttfs(np.array([[1.0]])), posinf=0.0)))(net)
    for leaf in jax.tree.leaves(eqx.filter(gradient, eqx.is_inexact_array)):
        np.testing.assert_array_equal(leaf, 0)


@pytest.mark.slow
@PRECISIONS
def test_a_saved_network_gives_the_same_spikes_to_the_bit(dtype, tmp_path):
    net = EvNN(
        QIF,
        6,
        2,
        40.0,
        KEY,
        wlim=20.0,
        wmean=5.0,
        dlim=4.0,
        axonal_dlim=1.0,
        dtype=dtype,
        output_neurons=np.arange(6) > 3,
    )
    eventsnn.save(tmp_path / "net.zip", net)
    x = jnp.asarray([[1.0, 7.0], [2.0, 3.0]], dtype)
    record, loaded = net.record(x), eventsnn.load(tmp_path / "net.zip").record(x)
    assert record.times[0].dtype == dtype and np.isfinite(record.times[0]).sum() > 3
    np.testing.assert_array_equal(record.times[0], loaded.times[0])
    assert net.ttfs(x).shape == (2,)
