"""Gradients three ways in float64: the package's, plain autodiff of a small simulator, differences of the oracle.

The bar of every comparison is the issue's: 1e-6 relative, entry by entry. Entries below 1e-3 of the largest of their
array are held to 1e-9 of that largest one, and entries below 1e-4 to 1e-10: differences resolve no less.
"""

import functools
from typing import NamedTuple

import autodiff
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

import eventsnn.neuron_models as models
from eventsnn.evnn import FFEvNN

T_END = 30.0
LAYERS = (5, 3)
IN_SIZE, IN_SPIKES = 3, 5  # the last column is padding
MAX_SPIKES = 8
QUERIES = ("ttfs", "spikes_until_t", "state_at_t")
KINDS = ("LIF", "QIF")
# Each pair costs a compilation; one stays in the quick run.
COMPILED = [
    pytest.param(kind, query, marks=[] if (kind, query) == ("LIF", "spikes_until_t") else pytest.mark.slow)
    for kind in KINDS
    for query in QUERIES
]
REGIMES = ("sparse", "dense")
TRAINABLE = {"LIF": ("thresh", "tsyn", "tmem", "vreset", "y0"), "QIF": ("tsyn", "tmem", "y0")}


class Case(NamedTuple):
    """Everything a gradient is taken by is in `theta`: weights0, tmem1, ..., and in_spikes."""

    kind: str
    theta: dict[str, np.ndarray]
    times: np.ndarray
    coefficients: dict[str, np.ndarray]


@functools.cache
def make_case(kind: str, regime: str) -> Case:
    """A network with time constants of a neuron far apart, near and equal, in a regime that the test below checks."""
    gain = {("LIF", "sparse"): 0.8, ("LIF", "dense"): 1.5, ("QIF", "sparse"): 2.0, ("QIF", "dense"): 9.0}[kind, regime]
    rng = np.random.default_rng(SEEDS[kind, regime])
    in_spikes = np.full((IN_SIZE, IN_SPIKES), np.inf)
    in_spikes[:, :-1] = rng.uniform(0.5, 22, (IN_SIZE, IN_SPIKES - 1))
    theta = {"in_spikes": in_spikes}
    for number, (size, n_inputs) in enumerate(zip(LAYERS, (IN_SIZE, *LAYERS), strict=False)):
        tmem = rng.uniform(6, 20, size)
        tsyn = tmem * rng.permutation(np.array([0.3, 1.0, 1.001, 0.6, 1.8])[:size])
        theta[f"weights{number}"] = gain * rng.normal(0.6, 0.4, (n_inputs, size)) / (1 + number * (regime == "dense"))
        theta[f"tmem{number}"], theta[f"tsyn{number}"] = tmem, tsyn
        theta[f"ic{number}"] = rng.uniform(0.1, 0.4, size)
        theta[f"y0{number}"] = rng.uniform(0.0, 0.3, (size, 2)) + np.array([0.3 * (kind == "QIF"), 0.0])
        if kind == "LIF":
            theta[f"thresh{number}"] = rng.uniform(0.9, 1.2, size)
            theta[f"vreset{number}"] = rng.uniform(-0.3, 0.3, size)
    layers = oracle.simulate_network(kind, *_for_oracle(kind, theta), T_END)
    events = np.concatenate([in_spikes.ravel(), *(layer.trains()[0] for layer in layers)])
    free = [t for t in rng.uniform(1, T_END, 200) if np.abs(events - t).min() > 0.1]
    late = [t for t in free if len(layers[-1].trains()[0]) and t > np.median(layers[-1].trains()[0])]
    free = [late[0], free[0], late[1], free[1]]
    coefficients = {
        "ttfs": rng.normal(size=LAYERS[-1]),
        "spikes_until_t": rng.normal(size=(LAYERS[-1], MAX_SPIKES)),
        "state_at_t": rng.normal(size=(LAYERS[-1], 5, 2)),
    }
    return Case(kind, theta, np.array([*free, free[0]]), coefficients)


# Chosen so that the regime is as its name says, and no maximum lies near the threshold.
SEEDS = {("LIF", "sparse"): 11, ("LIF", "dense"): 21, ("QIF", "sparse"): 0, ("QIF", "dense"): 29}


def _for_oracle(kind: str, theta: dict):
    names = ("ic", "tmem", "tsyn", "y0") + (("thresh", "vreset") if kind == "LIF" else ())
    parameters = [{name: theta[f"{name}{n}"] for name in names} for n in range(len(LAYERS))]
    return theta["in_spikes"], [theta[f"weights{n}"] for n in range(len(LAYERS))], parameters


def oracle_loss(case: Case, query: str, theta: dict) -> float:
    last = oracle.simulate_network(case.kind, *_for_oracle(case.kind, theta), T_END, case.times)[-1]
    coefficients = case.coefficients[query]
    if query == "state_at_t":
        return float(np.sum(coefficients * last.states))
    if query == "ttfs":
        coefficients = coefficients[:, None]
    trains = [last.times(n)[: coefficients.shape[1]] for n in range(LAYERS[-1])]
    return sum(float(row[: len(train)] @ train) for row, train in zip(coefficients, trains, strict=True))


def central_differences(case: Case, query: str, leave_out: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """By the formula of fourth order.

    The step is 3e-5 of a number (at least of 0.3), 3e-5 ms for input times: so small that no spike passes another on
    the way, where the loss has a kink. The formula's error is 1e-18 times the fifth derivative; the oracle's rounding
    errors of 1e-14 become 1e-9.
    """
    gradients = {}
    for name, value in case.theta.items():
        if name in leave_out:
            continue
        gradients[name] = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            if not np.isfinite(value[index]):
                continue
            h = 3e-5 * max(abs(value[index]), 0.3) if name != "in_spikes" else 3e-5
            values = [oracle_loss(case, query, _moved(case.theta, name, index, k * h)) for k in (-2, -1, 1, 2)]
            gradients[name][index] = np.dot([1, -8, 8, -1], values) / (12 * h)
    return gradients


def _moved(theta: dict, name: str, index: tuple[int, ...], by: float) -> dict:
    moved = theta[name].copy()
    moved[index] += by
    return theta | {name: moved}


@functools.cache
def network(kind: str) -> FFEvNN:
    # The gradient is exact for the steps taken. At 1e-11 these are as good as the differences they are compared with.
    return FFEvNN(
        LAYERS,
        IN_SIZE,
        getattr(models, kind),
        T_END,
        jax.random.PRNGKey(0),
        dtype=jnp.float64,
        rtol=1e-11,
        atol=1e-12,
        max_event_steps=64,
        init_weights=0.0,
        trainable=TRAINABLE[kind],
    )


def with_parameters(net: FFEvNN, theta: dict) -> FFEvNN:
    for number, size in enumerate(LAYERS):
        for name in ("ic", *TRAINABLE[type(net.neurons[0]).__name__]):
            value = jnp.asarray(theta[f"{name}{number}"])

            def place(net, name=name, number=number):
                held = getattr(net.neurons[number], name)
                return held if name == "ic" else held.value

            net = eqx.tree_at(place, net, value)
        net = eqx.tree_at(lambda net, n=number: net.connections[n].weights, net, jnp.asarray(theta[f"weights{number}"]))
        assert net.connections[number].weights.shape[1] == size
    return net


def _weigh(spikes_or_states, coefficients):
    finite = jnp.isfinite(spikes_or_states)
    return jnp.sum(jnp.where(finite, coefficients * jnp.where(finite, spikes_or_states, 0.0), 0.0))


def package_loss(theta: dict, net: FFEvNN, query: str, times, coefficients):
    net, x = with_parameters(net, theta), theta["in_spikes"]
    if query == "ttfs":
        return _weigh(net.ttfs(x), coefficients)
    if query == "spikes_until_t":
        return _weigh(net.spikes_until_t(x, T_END, MAX_SPIKES), coefficients)
    return _weigh(net.state_at_t(x, times), coefficients)


package_gradient = eqx.filter_jit(jax.value_and_grad(package_loss))


def _package(case: Case, query: str, times=None):
    times = jnp.asarray(case.times if times is None else times)
    theta = {name: jnp.asarray(value) for name, value in case.theta.items()}
    return package_gradient(theta, network(case.kind), query, times, jnp.asarray(case.coefficients[query]))


def autodiff_loss(theta: dict, kind: str, times, coefficients: dict):
    spikes, states = autodiff.simulate_network(kind, *_for_oracle(kind, theta), T_END, times, MAX_SPIKES)
    found = {"ttfs": spikes[:, 0], "spikes_until_t": spikes, "state_at_t": states}
    return sum(_weigh(found[query], coefficients[query]) for query in QUERIES)


# One program for all queries: those not asked for count nothing.
autodiff_gradient = jax.jit(jax.value_and_grad(autodiff_loss), static_argnames="kind")


def assert_close(gradients: dict, expected: dict, bar: float = 1e-6) -> None:
    assert gradients.keys() == expected.keys()
    for name, wanted in expected.items():
        got, wanted = np.asarray(gradients[name]), np.asarray(wanted)
        scale = np.abs(wanted).max()
        error = np.abs(got - wanted) / np.maximum(np.abs(wanted), 1e-3 * scale + 1e-4)
        assert error.max() <= bar, f"{name}{np.unravel_index(error.argmax(), error.shape)}: {error.max():.2e}"


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_cases_are_sparse_and_dense_and_do_not_graze(kind, regime):
    case = make_case(kind, regime)
    layers = oracle.simulate_network(kind, *_for_oracle(kind, case.theta), T_END)
    counts = [[len(train) for train in layer.spikes] for layer in layers]
    if regime == "dense":
        assert min(counts[0]) >= 2 and min(counts[1]) >= 2 and max(counts[1]) <= MAX_SPIKES
    else:
        assert max(counts[0] + counts[1]) <= 3 and 0 in counts[0] + counts[1] and sum(counts[1]) >= 2
    assert max(counts[0]) <= autodiff.HIDDEN_SPIKES
    assert not any(layer.grazes for layer in layers)


@pytest.mark.parametrize(("kind", "query"), COMPILED)
@pytest.mark.parametrize("regime", REGIMES)
def test_gradients_equal_central_differences_of_the_oracle(kind, regime, query):
    case = make_case(kind, regime)
    value, gradients = _package(case, query)
    assert abs(value - oracle_loss(case, query, case.theta)) < 1e-8
    assert_close(gradients, central_differences(case, query))


@pytest.mark.parametrize(("kind", "query"), COMPILED)
@pytest.mark.parametrize("regime", REGIMES)
def test_gradients_equal_plain_autodiff(kind, regime, query):
    case = make_case(kind, regime)
    theta = {name: jnp.asarray(value) for name, value in case.theta.items()}
    coefficients = {name: jnp.asarray(value) * float(name == query) for name, value in case.coefficients.items()}
    value, expected = autodiff_gradient(theta, kind, jnp.asarray(case.times), coefficients)
    got, gradients = _package(case, query)
    assert abs(got - value) < 1e-6
    assert_close(gradients, expected)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "query"), [("LIF", "spikes_until_t"), ("QIF", "state_at_t")])
def test_the_gradient_of_a_vmap_equals_the_vmap_of_gradients(change_engine, kind, query):
    # Runs of QIF at these tolerances are too long to be written down, and are replayed.
    change_engine("independent._BYTES", 0)
    case = make_case(kind, "dense")
    theta = {name: jnp.asarray(value) for name, value in case.theta.items()}
    # Three samples, each with its inputs a little later.
    batch = theta["in_spikes"] + jnp.array([0.0, 0.3, 0.7])[:, None, None]
    times, coefficients = jnp.asarray(case.times), jnp.asarray(case.coefficients[query])
    net = network(kind)  # made here: inside the traced function it would be remembered with tracers in it
    shared = {name: value for name, value in theta.items() if name != "in_spikes"}

    def loss(shared, in_spikes):
        return package_loss(shared | {"in_spikes": in_spikes}, net, query, times, coefficients)

    def batch_loss(shared, batch):
        return jnp.sum(jax.vmap(loss, in_axes=(None, 0))(shared, batch))

    of_vmap, of_vmap_inputs = jax.jit(jax.grad(batch_loss, argnums=(0, 1)))(shared, batch)
    each, each_inputs = jax.jit(jax.vmap(jax.grad(loss, argnums=(0, 1)), in_axes=(None, 0)))(shared, batch)
    # Not bit by bit, since the sums run in another order.
    summed = {name: value.sum(axis=0) for name, value in each.items()}
    assert_close(of_vmap | {"in_spikes": of_vmap_inputs}, summed | {"in_spikes": each_inputs}, 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_state_gradients_at_the_instant_of_an_arrival_are_those_just_after_it(kind):
    # At the instant itself the loss jumps with the input time, so it can only be moved to earlier times: a one-sided
    # difference of fourth order. All other numbers have two-sided ones.
    case = make_case(kind, "dense")
    arrival = case.theta["in_spikes"][1, 2]
    case = case._replace(times=np.array([*case.times[:4], arrival]))
    gradients = _package(case, "state_at_t")[1]
    expected = central_differences(case, "state_at_t", leave_out=("in_spikes",))
    assert_close({name: gradients[name] for name in expected}, expected)
    h = 1e-4
    values = [oracle_loss(case, "state_at_t", _moved(case.theta, "in_spikes", (1, 2), -k * h)) for k in range(5)]
    one_sided = np.dot([25, -48, 36, -16, 3], values) / (12 * h)
    assert abs(gradients["in_spikes"][1, 2] - one_sided) <= 1e-6 * abs(one_sided)


@pytest.mark.slow
def test_state_gradients_at_the_instant_of_a_spike_are_the_limit_from_later_times():
    case = make_case("LIF", "dense")
    net = with_parameters(network("LIF"), {name: jnp.asarray(value) for name, value in case.theta.items()})
    spike = net.spikes_until_t(jnp.asarray(case.theta["in_spikes"]), T_END, MAX_SPIKES)[0, 1]
    at, after = (np.array([*case.times[:4], spike + later]) for later in (0.0, 1e-9))
    # The gradient changes by about 1e-9 in 1e-9 ms; before the spike it is another one altogether.
    assert_close(_package(case, "state_at_t", at)[1], _package(case, "state_at_t", after)[1])
    before = _package(case, "state_at_t", at - np.array([0, 0, 0, 0, 1e-9]))[1]
    with pytest.raises(AssertionError):
        assert_close(before, _package(case, "state_at_t", after)[1], 1e-2)
