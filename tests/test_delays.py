"""Synaptic and axonal delays of feed-forward networks: spikes, gradients, instants and errors."""

import functools

import autodiff
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from models import spikes

import eventsnn
from eventsnn import IF, LIF, QIF, FFEvNN

T_END, MAX_SPIKES, LONGEST = 30.0, 8, 8.0
IN_SIZE, LAYERS = 3, (5, 3)
KINDS = ("LIF", "QIF")
MODELS = {"LIF": LIF, "QIF": QIF}
NAMES = {"LIF": ("ic", "tmem", "tsyn", "thresh", "vreset", "y0"), "QIF": ("ic", "tmem", "tsyn", "y0")}
NO_KEY = jax.random.PRNGKey(0)


def make_theta(kind, seed, layers=LAYERS, axonal=True):
    """Everything a gradient is taken by: in_spikes, and weights0, delays0, axonal_delays0, tmem0 … of each layer."""
    rng = np.random.default_rng((seed, kind == "QIF"))
    theta = {"in_spikes": rng.uniform(0.0, 15.0, (IN_SIZE, 4))}
    theta["in_spikes"][:, -1] = np.inf
    for number, (size, n_inputs) in enumerate(zip(layers, (IN_SIZE, *layers), strict=False)):
        gain = {"LIF": 1.8, "QIF": 12.0}[kind] / (1 + number * (kind == "LIF"))
        theta[f"weights{number}"] = gain * rng.normal(0.7, 0.6, (n_inputs, size))
        theta[f"delays{number}"] = rng.uniform(0.0, LONGEST, (n_inputs, size))
        theta[f"axonal_delays{number}"] = rng.uniform(0.0, 2.0, n_inputs) * axonal
        theta[f"ic{number}"] = rng.uniform(0.0, 0.5, size)
        theta[f"tmem{number}"] = rng.uniform(6.0, 20.0, size)
        theta[f"tsyn{number}"] = theta[f"tmem{number}"] * rng.choice([0.3, 1.0, 1.7], size)
        theta[f"y0{number}"] = rng.uniform(0.0, 0.3, (size, 2)) + np.array([0.3 * (kind == "QIF"), 0.0])
        theta[f"thresh{number}"], theta[f"vreset{number}"] = rng.uniform(0.8, 1.3, size), rng.uniform(-0.3, 0.3, size)
    return {name: value for name, value in theta.items() if kind == "LIF" or name[:-1] not in ("thresh", "vreset")}


def for_oracle(kind, theta):
    numbers = range(len(LAYERS))
    parameters = [{name: theta[f"{name}{n}"] for name in NAMES[kind]} for n in numbers]
    delays = [theta[f"delays{n}"] + theta[f"axonal_delays{n}"][:, None] for n in numbers]
    return theta["in_spikes"], [theta[f"weights{n}"] for n in numbers], parameters, delays


def simulate(kind, theta, queries=()):
    in_spikes, weights, parameters, delays = for_oracle(kind, theta)
    return oracle.simulate_network(kind, in_spikes, weights, parameters, T_END, queries, delays)


@functools.cache
def network(kind, engine="auto", layers=LAYERS):
    """Its numbers are all replaced by those of a theta."""
    fixed = ("y0",) if kind == "QIF" else ("y0", "thresh", "vreset")
    return FFEvNN(
        layers,
        IN_SIZE,
        MODELS[kind],
        T_END,
        NO_KEY,
        dtype=jnp.float64,
        rtol=1e-11,
        atol=1e-12,
        max_event_steps=128,
        init_weights=0.0,
        init_delays=0.0,
        init_axonal_delays=0.0,
        engine=engine,
        trainable=("tmem", "tsyn", "delays", "axonal_delays", *fixed),
    )


def with_numbers(net, theta):
    def places(net):
        for number, (neurons, connection) in enumerate(zip(net.neurons, net.connections, strict=True)):
            yield f"weights{number}", connection.weights
            for name in ("delays", "axonal_delays"):
                yield f"{name}{number}", getattr(connection, name).value
            for name in NAMES[type(neurons).__name__]:
                held = getattr(neurons, name)
                yield f"{name}{number}", held if name == "ic" else held.value

    values = [jnp.asarray(theta[name]) for name, _ in places(net)]
    return eqx.tree_at(lambda net: [value for _, value in places(net)], net, values)


@eqx.filter_jit
def recorded(net, in_spikes):
    return net.record(in_spikes)


def assert_spikes(kind, net, theta, bar):
    """The spikes of all layers are those of the oracle, in networks that do not graze."""
    record = recorded(with_numbers(net, theta), jnp.asarray(theta["in_spikes"]))
    found = 0
    for layer, times, neurons in zip(simulate(kind, theta), record.times, record.neurons, strict=True):
        assert all(abs(graze.height) > 1e-5 for graze in layer.grazes)
        for n, train in enumerate(layer.spikes):
            got = np.asarray(times)[np.asarray(neurons) == n]
            assert len(got) == len(train)
            np.testing.assert_allclose(got, [spike.time for spike in train], rtol=0, atol=bar)
            found += len(train)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_networks_with_delays_spike_as_the_oracle(kind):
    bar = {"LIF": 1e-9, "QIF": 1e-7}[kind]
    found = [assert_spikes(kind, network(kind), make_theta(kind, seed), bar) for seed in range(12)]
    assert min(found) >= 3 and max(found) >= 15


@pytest.mark.slow
def test_the_numerical_engine_spikes_as_the_oracle_as_well():
    for seed in range(6):
        assert_spikes("LIF", network("LIF", "numerical"), make_theta("LIF", seed), 1e-7)


def test_axonal_delays_alone_need_no_list_per_neuron_and_give_the_same():
    theta = make_theta("LIF", 3)
    for number in range(len(LAYERS)):
        theta[f"delays{number}"] = np.zeros_like(theta[f"delays{number}"])
    both = with_numbers(network("LIF"), theta)
    alone = eqx.tree_at(lambda net: [c.delays for c in net.connections], both, [None] * len(LAYERS))
    found = [recorded(net, jnp.asarray(theta["in_spikes"])) for net in (both, alone)]
    for times, others in zip(found[0].times, found[1].times, strict=True):
        assert np.isfinite(times).sum() >= 3
        np.testing.assert_allclose(times, others, rtol=0, atol=1e-12)


def _coefficients(query):
    rng = np.random.default_rng(5)
    return rng.normal(size=(LAYERS[-1], MAX_SPIKES) if query == "spikes_until_t" else (LAYERS[-1], 3, 2))


def _times(kind, theta):
    """Query times that are no event."""
    events = np.concatenate([layer.trains()[0] for layer in simulate(kind, theta)])
    arrivals = np.concatenate(
        [(layer.trains()[0][:, None, None] + theta["delays1"]).ravel() for layer in simulate(kind, theta)[:1]]
    )
    events = np.concatenate([events, arrivals])
    free = [t for t in np.random.default_rng(1).uniform(12, T_END, 300) if np.abs(events - t).min() > 1e-2]
    return np.array(free[:3])


def _weigh(found, coefficients):
    finite = jnp.isfinite(found)
    return jnp.sum(jnp.where(finite, coefficients * jnp.where(finite, found, 0.0), 0.0))


def oracle_loss(kind, query, coefficients, times, theta):
    last = simulate(kind, theta, times)[-1]
    if query == "state_at_t":
        return float(np.sum(coefficients * last.states))
    trains = [last.times(n)[:MAX_SPIKES] for n in range(LAYERS[-1])]
    return sum(float(row[: len(train)] @ train) for row, train in zip(coefficients, trains, strict=True))


def package_loss(theta, net, query, coefficients, times):
    net = with_numbers(net, theta)
    if query == "state_at_t":
        found = net.state_at_t(theta["in_spikes"], times)
    else:
        found = net.spikes_until_t(theta["in_spikes"], T_END, MAX_SPIKES)
    return _weigh(found, coefficients)


def autodiff_loss(theta, kind, of_spikes, of_states, times):
    in_spikes, weights, parameters, delays = for_oracle(kind, theta)
    spikes, states = autodiff.simulate_network(kind, in_spikes, weights, parameters, T_END, times, MAX_SPIKES, delays)
    return _weigh(spikes, of_spikes) + _weigh(states, of_states)


package_gradient = eqx.filter_jit(jax.value_and_grad(package_loss))
# One program for both queries: what is not asked for counts nothing.
autodiff_gradient = jax.jit(jax.grad(autodiff_loss), static_argnames="kind")


def assert_close(gradients, expected, bar=1e-6):
    assert gradients.keys() == expected.keys()
    for name, wanted in expected.items():
        got, wanted = np.asarray(gradients[name]), np.asarray(wanted)
        error = np.abs(got - wanted) / np.maximum(np.abs(wanted), 1e-3 * np.abs(wanted).max() + 1e-4)
        assert error.max() <= bar, f"{name}{np.unravel_index(error.argmax(), error.shape)}: {error.max():.2e}"


def central_differences(loss, theta):
    """By the formula of fourth order."""
    gradients = {}
    for name, value in theta.items():
        gradients[name] = np.zeros_like(value)
        for index in zip(*np.nonzero(np.isfinite(value)), strict=True):
            h = 3e-5
            values = []
            for k in (-2, -1, 1, 2):
                moved = value.copy()
                moved[index] += k * h
                values.append(loss(theta | {name: moved}))
            gradients[name][index] = np.dot([1, -8, 8, -1], values) / (12 * h)
    return gradients


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "query"),
    [
        ("LIF", "spikes_until_t"),
        pytest.param("LIF", "state_at_t", marks=pytest.mark.slow),
        pytest.param("QIF", "state_at_t", marks=pytest.mark.slow),
    ],
)
def test_gradients_three_ways(kind, query):
    theta = make_theta(kind, GRADIENT_SEEDS[kind])
    coefficients, times = _coefficients(query), _times(kind, theta)
    value, gradients = package_gradient(
        {name: jnp.asarray(x) for name, x in theta.items()}, network(kind), query, coefficients, times
    )
    loss = functools.partial(oracle_loss, kind, query, coefficients, times)
    assert abs(value - loss(theta)) < 1e-7
    assert np.count_nonzero(gradients["delays0"]) > 5 and np.count_nonzero(gradients["delays1"]) > 5
    expected = central_differences(loss, theta)
    assert_close(gradients, expected)
    theta = {name: jnp.asarray(x) for name, x in theta.items()}
    factors = [jnp.asarray(_coefficients(name)) * float(name == query) for name in ("spikes_until_t", "state_at_t")]
    assert_close(autodiff_gradient(theta, kind, *factors, jnp.asarray(times)), expected)


# Networks in which all outputs spike several times, far from any graze.
GRADIENT_SEEDS = {"LIF": 6, "QIF": 2}


@pytest.mark.slow
def test_the_gradient_of_a_vmap_equals_the_vmap_of_gradients():
    theta = {name: jnp.asarray(x) for name, x in make_theta("LIF", 8, layers=(3,)).items()}
    batch = theta.pop("in_spikes") + jnp.array([0.0, 0.3, 0.7])[:, None, None]
    net, coefficients = network("LIF", layers=(3,)), _coefficients("spikes_until_t")

    def loss(theta, in_spikes):
        return package_loss(theta | {"in_spikes": in_spikes}, net, "spikes_until_t", coefficients, None)

    def batch_loss(theta, batch):
        return jnp.sum(jax.vmap(loss, in_axes=(None, 0))(theta, batch))

    of_vmap = jax.jit(jax.grad(batch_loss))(theta, batch)
    each = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0)))(theta, batch)
    assert np.count_nonzero(of_vmap["delays0"]) > 5
    assert_close(of_vmap, {name: value.sum(axis=0) for name, value in each.items()}, 1e-9)


def test_fixed_delays_receive_no_gradient_and_are_not_marked_as_trainable():
    net = FFEvNN([3], 2, LIF, 20.0, NO_KEY, init_weights=8.0, init_delays=1.0, init_axonal_delays=0.5)
    x = np.array([[1.0], [2.0]])
    gradient = eqx.filter_grad(lambda net: jnp.sum(net.ttfs(x)))(net)
    connection = gradient.connections[0]
    assert np.all(connection.delays.value == 0) and np.all(connection.axonal_delays.value == 0)
    assert np.any(connection.weights != 0)
    marked = eventsnn.trainable(net).connections[0]
    assert marked.weights and not marked.delays.value and not marked.axonal_delays.value
    free = FFEvNN([3], 2, LIF, 20.0, NO_KEY, init_weights=8.0, init_delays=1.0, trainable="delays")
    assert eventsnn.trainable(free).connections[0].delays.value and not eventsnn.trainable(free).neurons[0].tmem.value


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "dtype"), [("LIF", jnp.float32), ("QIF", jnp.float64)])
def test_a_delay_of_nothing_and_next_to_nothing(kind, dtype):
    weights = np.random.default_rng(2).normal(2.0, 1.0, (3, 20)) * (1 if kind == "LIF" else 4)
    x = jnp.asarray(np.random.default_rng(3).uniform(0, 15, (3, 4)), dtype)

    def spikes_with(**delays):
        net = FFEvNN([20], 3, MODELS[kind], T_END, NO_KEY, dtype=dtype, init_weights=weights, **delays)
        return np.asarray(net.spikes_until_t(x, T_END, 20))

    at_once = spikes_with()
    assert np.isfinite(at_once).sum() > 20
    # Two programs, so not to the last bit.
    bar = {"rtol": 8 * jnp.finfo(dtype).eps, "atol": 0.0}
    np.testing.assert_allclose(spikes_with(init_delays=0.0), at_once, **bar)
    np.testing.assert_allclose(spikes_with(init_axonal_delays=0.0), at_once, **bar)
    # Below the resolution of time at 1 ms, and above it in float64.
    np.testing.assert_allclose(spikes_with(init_delays=1e-12), at_once, rtol=8 * jnp.finfo(dtype).eps, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["eager", "jit", "vmap"])
@pytest.mark.parametrize("engine", ["auto", "numerical"])
def test_spikes_that_delays_bring_together_count_together(engine, way):
    # An inhibitory spike that leaves later and arrives at the same instant cancels an excitatory one, in whatever
    # order they are listed; alone, the excitatory one makes the neuron spike. 1.5 + 2.25 = 3.5 + 0.25 exactly.
    for order in ([0, 1], [1, 0]):
        weights, delays, left = np.array([12.0, -12.0]), np.array([2.25, 0.25]), np.array([1.5, 3.5])
        net = FFEvNN(
            [2],
            2,
            IF,
            20.0,
            NO_KEY,
            dtype=jnp.float64,
            init_weights=weights[order][:, None] * np.array([1.0, 1.0]),
            init_delays=np.stack([delays, np.array([2.25, 9.0])], axis=1)[order],
            engine=engine,
        )
        found = spikes(net, jnp.asarray(left[order])[:, None], way, 2)
        assert not np.isfinite(found[0]).any()
        # The second neuron is inhibited too late.
        assert 3.75 < found[1, 0] < 12.5


@pytest.mark.slow
def test_every_neuron_hears_a_spike_after_its_own_delay():
    delays = np.array([[0.0, 1.25, 7.5, 25.0]])
    net = FFEvNN([4], 1, LIF, T_END, NO_KEY, dtype=jnp.float64, init_weights=30.0, init_delays=delays)
    first = np.asarray(net.ttfs(jnp.array([[2.0]])))
    np.testing.assert_allclose(first - first[0], delays[0], rtol=0, atol=1e-12)


@pytest.mark.slow
def test_what_arrives_after_the_end_does_not_exist_and_at_the_end_does():
    net = FFEvNN([3], 1, LIF, 10.0, NO_KEY, init_weights=1.0, init_delays=np.array([[6.0, 8.0, 8.5]]))
    v_i = np.asarray(net.state_at_t(np.array([[2.0]]), np.array([10.0])))[:, 0]
    np.testing.assert_allclose(v_i[:, 1], [np.exp(-2 / 5), 1.0, 0.0], rtol=1e-6)


def test_drawn_delays_are_uniform_and_leave_the_weights_as_they_are():
    net = FFEvNN([200], 50, LIF, T_END, NO_KEY, wlim=1.0, dlim=4.0, axonal_dlim=2.0)
    plain = FFEvNN([200], 50, LIF, T_END, NO_KEY, wlim=1.0)
    np.testing.assert_array_equal(net.connections[0].weights, plain.connections[0].weights)
    delays, axonal = net.connections[0].delays.value, net.connections[0].axonal_delays.value
    assert delays.shape == (50, 200) and axonal.shape == (50,)
    assert 0 <= delays.min() < 0.01 and 3.99 < delays.max() < 4 and abs(delays.mean() - 2.0) < 0.05
    assert 0 <= axonal.min() and axonal.max() < 2 and len(np.unique(axonal)) == 50


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"init_delays": -1.0}, r"init_delays\[0, 0\] is -1.0, expected .*0 or more"),
        ({"init_delays": np.nan}, "init_delays .*finite"),
        ({"init_delays": np.ones((2, 2))}, r"init_delays has shape \(2, 2\), expected .*\(2, 3\)"),
        ({"init_axonal_delays": np.ones(3)}, r"init_axonal_delays has shape \(3,\), expected .*\(2,\)"),
        ({"init_axonal_delays": [np.array([1.0, -2.0])]}, r"init_axonal_delays\[1\] is -2.0"),
        ({"init_delays": 1.0, "dlim": 1.0}, "do not pass dlim"),
        ({"dlim": -1.0}, "dlim is -1.0"),
        ({"trainable": ("delays",)}, "there are none: pass init_delays or dlim"),
    ],
)
def test_bad_delays_are_told(keywords, message):
    with pytest.raises(ValueError, match=message):
        FFEvNN([3], 2, LIF, T_END, NO_KEY, **keywords)


def test_a_misspelt_delay_is_told():
    with pytest.raises(TypeError, match="init_delay.*did you mean init_delays"):
        FFEvNN([3], 2, LIF, T_END, NO_KEY, init_delay=1.0)


@pytest.mark.parametrize("jit", [False, True])
def test_a_delay_that_became_negative_is_told(jit):
    net = FFEvNN([3], 2, LIF, T_END, NO_KEY, wmean=1.0, init_delays=1.0)
    delays = net.connections[0].delays.value.at[1, 2].set(-0.5)
    net = eqx.tree_at(lambda net: net.connections[0].delays.value, net, delays)
    run = eqx.filter_jit(lambda net, x: net.ttfs(x)) if jit else (lambda net, x: net.ttfs(x))
    with pytest.raises(Exception, match=r"delays\[0\]\[1, 2\] is -0.5: expected a delay in ms, 0 or more"):
        run(net, jnp.ones((2, 1), jnp.float32))


@pytest.mark.slow
def test_saved_delays_are_loaded(tmp_path):
    net = FFEvNN([3], 2, LIF, T_END, NO_KEY, wmean=8.0, dlim=5.0, axonal_dlim=1.0, trainable=("delays",))
    eventsnn.save(tmp_path / "net.zip", net)
    loaded = eventsnn.load(tmp_path / "net.zip")
    x = np.array([[1.0], [2.0]])
    np.testing.assert_array_equal(loaded.ttfs(x), net.ttfs(x))
    assert loaded.connections[0].delays.trainable and not loaded.connections[0].axonal_delays.trainable
