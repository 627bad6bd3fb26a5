"""Refractoriness, at most one spike, currents in time, several models in a layer: against the oracle, and composed."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import oracle_zoo
import pytest
import zoo

import eventsnn
from eventsnn import (
    EGRU,
    IF,
    LIF,
    MAT,
    QIF,
    AtMostOneSpike,
    ConstantCurrent,
    DeltaLIF,
    EvNN,
    FFEvNN,
    FunctionCurrent,
    HodgkinHuxley,
    Mixed,
    RampCurrent,
    Refractory,
    SineCurrent,
    StepCurrent,
    WithBiasCurrent,
    check_neuron_model,
)

KEY = jax.random.PRNGKey(0)
slow = pytest.mark.slow


def all_spikes(net, x):
    return net.spikes_until_t(x, net.max_solver_time, max_spikes=zoo.MAX_SPIKES)


def assert_like_oracle(case, net, atol=1e-6, at_least=1, **wrappers):
    x = jnp.asarray(case.times[..., None])
    trains = np.asarray(jax.jit(jax.vmap(lambda x: all_spikes(net, x)))(x))
    counts = []
    for sample, neuron in np.ndindex(trains.shape[:2]):
        expected = zoo.oracle_spikes(case, sample, neuron, **wrappers)
        found = trains[sample, neuron]
        assert np.isfinite(found).sum() == len(expected), (sample, neuron, found, expected)
        np.testing.assert_allclose(found[: len(expected)], expected, rtol=0, atol=atol)
        counts.append(len(expected))
    assert sum(counts) >= at_least
    return counts


@pytest.mark.parametrize(
    ("name", "options", "wrappers"),
    [
        ("LIF", {}, {}),
        pytest.param("LIF", {"block": True}, {"block": True}, marks=slow),
        pytest.param("LIF", {"block": True, "hold": ["V"]}, {"block": True, "held": ("V",)}, marks=slow),
        pytest.param("MAT", {"hold": ()}, {"held": ()}, marks=slow),
        pytest.param("QIF", {}, {}, marks=slow),
        pytest.param("HodgkinHuxley", {"hold": ()}, {"held": ()}, marks=slow),
    ],
)
def test_refractory_neurons_spike_as_those_of_the_oracle(name, options, wrappers):
    case = zoo.make_case(name)
    model = Refractory(getattr(eventsnn, name), **options)
    net = zoo.network(case, model=model, tref=6.0)
    assert_like_oracle(case, net, at_least=9, tref=6.0, **wrappers)
    places = list(np.ndindex(zoo.SAMPLES, zoo.NEURONS))
    free = [zoo.oracle_spikes(case, *place).tolist() for place in places]
    # A spike of Hodgkin and Huxley's neuron leaves it refractory for longer than that by itself.
    assert name == "HodgkinHuxley" or free != [zoo.oracle_spikes(case, *place, tref=6.0).tolist() for place in places]


def test_refractoriness_ends_exactly_and_first():
    # A jump makes it spike at 1. What arrives at 3 = 1 + tref finds it free, what arrives just before does not.
    def answer(late):
        net = FFEvNN(
            [1],
            2,
            Refractory(DeltaLIF),
            10.0,
            KEY,
            dtype=jnp.float64,
            init_weights=np.array([[1.5], [0.25]]),
            tmem=1e12,
        )
        return net.state_at_t(jnp.array([[1.0], [late]]), jnp.array([0.5, 1.0, 2.9, 3.0 + 1e-12, 4.0]))[0]

    for late, after in ((3.0, 0.25), (3.0 - 1e-12, 0.0), (2.0, 0.0), (3.5, 0.0)):
        found = np.asarray(answer(late))
        np.testing.assert_allclose(found[:4, 0], [0, 0, 0, after], atol=1e-12)
        np.testing.assert_allclose(found[:4, 1:], [[0, 0], [1, 2], [1, 0.1], [0, 0]], atol=1e-12)
        assert found[4, 0] == pytest.approx(0.25 if late >= 3.0 else 0.0, abs=1e-11)


def test_what_lifts_a_neuron_over_its_threshold_while_it_is_refractory_makes_it_spike_at_the_end():
    # Nothing is held: the jump at 2 counts, and the neuron spikes when it may, at 1 + 2.
    net = FFEvNN([1], 1, Refractory(DeltaLIF, hold=()), 10.0, KEY, dtype=jnp.float64, init_weights=1.5, tmem=1e12)
    found = all_spikes(net, jnp.array([[1.0, 2.0]]))
    np.testing.assert_allclose(found[0, :3], [1.0, 3.0, np.inf], rtol=1e-13)


def test_two_refractory_spikes_are_a_refractory_time_and_a_free_rise_apart():
    net = FFEvNN(
        [2], 1, Refractory(LIF), 100.0, KEY, dtype=jnp.float64, rtol=1e-9, init_bias=1.5, tref=np.array([2.0, 0.3])
    )
    found = all_spikes(net, jnp.full((1, 1), jnp.inf))
    for train, tref in zip(found, (2.0, 0.3), strict=True):
        np.testing.assert_allclose(np.diff(train[:4]), tref + 20 * np.log(3), rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["LIF", pytest.param("HodgkinHuxley", marks=slow)])
def test_at_most_one_spike_is_the_first_of_many(name):
    case = zoo.make_case(name)
    net = zoo.network(case, model=AtMostOneSpike(getattr(eventsnn, name)))
    counts = assert_like_oracle(case, net, once=True)
    assert max(counts) == 1


CURRENTS = {
    "constant": (lambda: ConstantCurrent(0.8), oracle_zoo.constant(0.8)),
    "step": (lambda: StepCurrent(1.4, start=5.0, stop=30.0), oracle_zoo.step(1.4, 5.0, 30.0)),
    "ramp": (
        lambda: RampCurrent(0.0, 2.0, start=4.0, stop=20.0),
        oracle_zoo.Current((-np.inf, 4.0, 20.0), (lambda t: 0.0, lambda t: 2 * (t - 4) / 16, lambda t: 2.0)),
    ),
    "sine": (lambda: SineCurrent(1.5, frequency=80.0, phase=0.4), oracle_zoo.sine(1.5, 12.5, 0.4)),
    "function": (
        lambda: FunctionCurrent(lambda t: jnp.where(t < 7.0, 1.0 + 0.1 * t, jnp.cos(t)), breakpoints=[7.0]),
        oracle_zoo.Current((-np.inf, 7.0), (lambda t: 1.0 + 0.1 * t, np.cos)),
    ),
    "sum": (
        lambda: StepCurrent(1.4, start=5.0, stop=30.0) + SineCurrent(0.5, frequency=80.0),
        oracle_zoo.Current(
            (-np.inf, 5.0, 30.0),
            tuple(lambda t, a=a: a + 0.5 * np.sin(2 * np.pi * t / 12.5) for a in (0.0, 1.4, 0.0)),
        ),
    ),
}


@pytest.mark.parametrize("kind", ["sum", *(pytest.param(kind, marks=slow) for kind in CURRENTS if kind != "sum")])
def test_currents_in_time_drive_neurons_as_those_of_the_oracle(kind):
    make, expected = CURRENTS[kind]
    case = zoo.make_case("LIF")
    net = zoo.network(case, model=WithBiasCurrent(LIF), current=make())
    assert_like_oracle(case, net, at_least=15, current=expected)


def test_a_pulse_far_shorter_than_a_step_is_not_missed():
    # A charge of 40 ms within 0.02 ms lifts V from 0 to 2: it spikes on the way, at 30 - tmem log(1 - 1/2000).
    current = StepCurrent(2000.0, start=30.0, stop=30.02)
    net = FFEvNN(
        [1], 1, WithBiasCurrent(LIF), 100.0, KEY, dtype=jnp.float64, rtol=1e-9, current=current, solver_stepsize=50.0
    )
    found = all_spikes(net, jnp.full((1, 1), jnp.inf))
    np.testing.assert_allclose(found[0, 0], 30 - 20 * np.log(1 - 1 / 2000), rtol=0, atol=1e-8)


def test_a_current_that_began_before_the_start_is_on_from_the_start():
    net = FFEvNN(
        [1], 1, WithBiasCurrent(LIF), 40.0, KEY, dtype=jnp.float64, rtol=1e-9, current=StepCurrent(2.0, start=-5.0)
    )
    found = all_spikes(net, jnp.full((1, 1), jnp.inf))
    np.testing.assert_allclose(found[0, :3], [20 * np.log(2), 40 * np.log(2), np.inf], rtol=0, atol=1e-7)


@pytest.mark.slow
def test_gradients_by_the_start_the_stop_and_the_height_of_a_step_are_those_on_paper():
    # From start on V = A (1 - exp(-(t - start)/tmem)): spikes at start + k tmem log(A/(A - 1)).
    current = StepCurrent(3.0, start=5.0, stop=18.0, trainable=("amplitude", "start", "stop"))
    net = FFEvNN([2], 1, WithBiasCurrent(LIF), 40.0, KEY, dtype=jnp.float64, rtol=1e-10, current=current)

    def loss(net):
        x = jnp.full((1, 1), jnp.inf)
        return all_spikes(net, x)[0, 0] + 3 * net.state_at_t(x, jnp.array([28.0]))[1, 0, 0]

    found = eqx.filter_grad(loss)(net).neurons[0].current
    # After the spike at 5 + 20 log(3/2) = 13.1 ms V rises until 18 and decays until 28.
    first, decay = 20 * np.log(3 / 2), np.exp(-10 / 20)
    by_first = 3 * decay * -3 * np.exp(-(13 - first) / 20) / 20
    by_height = 20 * (1 / 3 - 1 / 2)
    risen = 1 - np.exp(-(13 - first) / 20)
    # At fixed spikes: V(18) moves by f = (A - V)/tmem with the stop, and decays from there, which is V/tmem less.
    by_stop = 3 * decay * 3 / 20
    np.testing.assert_allclose(found.start.value, 1 + by_first, rtol=1e-6)
    np.testing.assert_allclose(found.amplitude.value, by_height + by_first * by_height + 3 * decay * risen, rtol=1e-6)
    np.testing.assert_allclose(found.stop.value, by_stop, rtol=1e-6)


def test_the_gradient_by_the_refractory_time_is_how_often_it_was_waited_for():
    net = FFEvNN([1], 1, Refractory(LIF), 100.0, KEY, dtype=jnp.float64, rtol=1e-10, init_bias=1.5, trainable="tref")
    gradient = eqx.filter_grad(lambda net: all_spikes(net, jnp.full((1, 1), jnp.inf))[0, 3])(net)
    np.testing.assert_allclose(gradient.neurons[0].tref.value, 3.0, rtol=1e-7)


# Neurons that never meet, as a layer and as a network with all neurons on one clock; every wrapper at once.
def composed(kind):
    if kind == "refractory":
        return AtMostOneSpike(WithBiasCurrent(Refractory(LIF))), {
            "current": StepCurrent(np.array([1.0, 2.0, 0.5]), start=3.0, stop=30.0)
        }
    mixture = WithBiasCurrent(Refractory(Mixed((LIF, 1, {"tmem": 10.0}), (HodgkinHuxley, 1, {"gna": 125.0}), (IF, 1))))
    return mixture, {"current": RampCurrent(1.0, np.array([2.0, 9.0, 1.0]), start=3.0, stop=30.0)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["refractory", pytest.param("mixed", marks=slow)])
def test_wrappers_compose_and_give_the_same_on_one_clock(kind):
    model, keywords = composed(kind)
    weights = np.random.default_rng(2).uniform(1, 6, (2, 3))
    options = {"dtype": jnp.float64, "rtol": 1e-10, "tref": np.array([1.0, 2.0, 3.0]), "trainable": ("tref", "tmem")}
    layer = FFEvNN([3], 2, model, 40.0, KEY, init_weights=weights, **options, **keywords)
    mask = np.zeros((5, 3), bool)
    mask[3:] = True
    whole = np.concatenate([np.zeros((3, 3)), weights])
    network = EvNN(model, 3, 2, 40.0, KEY, wmask=mask, init_weights=whole, **options, **keywords)
    x = jnp.array([[2.0, 9.0], [4.5, jnp.inf]])

    def loss(net):
        spikes = all_spikes(net, x)
        return jnp.sum(jnp.where(jnp.isfinite(spikes), jnp.sin(spikes), 0)), spikes

    run = eqx.filter_jit(eqx.filter_value_and_grad(loss, has_aux=True))
    (_, spikes), by_layer = run(layer)
    (_, others), by_network = run(network)
    assert np.isfinite(spikes[:, 0]).all()
    np.testing.assert_allclose(others, spikes, rtol=0, atol=1e-7)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(by_layer.neurons))
    assert largest > 0.1
    pairs = zip(jax.tree.leaves(by_layer.neurons[0]), jax.tree.leaves(by_network.neurons), strict=True)
    for a, b in [*pairs, (by_layer.connections[0].weights, by_network.connection.weights[3:])]:
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6 * largest)


@slow
@pytest.mark.parametrize("delays", [None, 1.5])
def test_a_chain_of_gated_units_is_the_same_as_layers_on_one_clock_and_in_windows(delays):
    # Three ports, and spikes that carry a value: what reaches the second layer is weights times thresh of the first.
    rng = np.random.default_rng(4)
    sizes, ports = (3, 2), 3
    first, second = rng.normal(0.4, 1.0, (2, 3, ports)), rng.normal(4.0, 2.0, (3, 2, ports))
    thresh = [rng.uniform(0.3, 0.5, size) for size in sizes]
    common = {"dtype": jnp.float64, "rtol": 1e-10, "trainable": ("thresh", "bias_z")}
    given = {} if delays is None else {"init_delays": delays}
    layers = FFEvNN(
        sizes, 2, EGRU, 40.0, KEY, init_weights=[first, second], thresh=thresh, bias_z=0.6, **common, **given
    )
    mask = np.zeros((7, 5), bool)
    mask[:3, 3:] = mask[5:, :3] = True
    whole = np.zeros((7, 5, ports))
    whole[:3, 3:], whole[5:, :3] = second, first
    network = EvNN(EGRU, 5, 2, 40.0, KEY, wmask=mask, init_weights=whole, thresh=np.concatenate(thresh), bias_z=0.6,
                   output_neurons=[False] * 3 + [True] * 2, **common, **given)  # fmt: skip
    assert network.windows == (delays is not None)
    x = jnp.array([[2.0, 9.0], [4.5, 13.0]])

    def loss(net):
        spikes = all_spikes(net, x)
        return jnp.sum(jnp.where(jnp.isfinite(spikes), jnp.sin(spikes), 0)), spikes

    run = eqx.filter_jit(eqx.filter_value_and_grad(loss, has_aux=True))
    (_, spikes), by_layers = run(layers)
    (_, others), by_network = run(network)
    assert np.isfinite(spikes).sum() >= 3
    np.testing.assert_allclose(others, spikes, rtol=0, atol=1e-8)
    found = by_network.connection.weights
    np.testing.assert_allclose(found[5:, :3], by_layers.connections[0].weights, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(found[:3, 3:], by_layers.connections[1].weights, rtol=1e-5, atol=1e-8)
    by_thresh = np.concatenate([layer.thresh.value for layer in by_layers.neurons])
    assert np.sum(np.abs(by_thresh[:3]) > 1e-4) >= 2
    np.testing.assert_allclose(by_network.neurons.thresh.value, by_thresh, rtol=1e-5, atol=1e-8)


@slow
def test_the_value_that_a_spike_carries_multiplies_the_weights_behind_it():
    def second_layer(thresh, gain):
        net = FFEvNN([1, 1], 1, [EGRU, LIF], 40.0, KEY, dtype=jnp.float64, rtol=1e-10, bias_z=1.0,
                     init_weights=[np.zeros((1, 1, 3)), np.array([[gain]])], **{"thresh": [thresh, 1.0]})  # fmt: skip
        return net.record(jnp.full((1, 1), jnp.inf))

    carried = second_layer(0.25, 40.0)
    first = carried.times[0][0]
    plain = FFEvNN([1], 1, LIF, 40.0, KEY, dtype=jnp.float64, init_weights=10.0)
    sources = carried.times[0][jnp.isfinite(carried.times[0])][None]
    assert len(sources[0]) >= 2 and first > 0
    expected = plain.record(sources).times[0]
    np.testing.assert_allclose(carried.times[1][:5], expected[:5], rtol=0, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [Refractory(LIF), Refractory(QIF, block=True), AtMostOneSpike(MAT), Mixed((LIF, 2), (QIF, 1)), Refractory(EGRU)],
)
def test_wrapped_models_keep_the_contract(model):
    check_neuron_model(model(3))


def test_wrapping_twice_gives_the_same_class_so_that_programs_are_shared():
    assert Refractory(LIF) is Refractory(LIF) and Refractory(LIF, hold=["V"]) is Refractory(LIF, hold=("V",))
    assert AtMostOneSpike(Refractory(LIF)) is AtMostOneSpike(Refractory(LIF))


@slow
def test_a_mixture_has_the_states_of_its_parts():
    mixture = Mixed((LIF, 2, {"tmem": np.array([10.0, 30.0])}), (QIF, 1), (MAT, 1))
    assert mixture.channels == ("V", "I", "H1", "H2")
    options = {"dtype": jnp.float64, "rtol": 1e-9, "init_weights": 3.0}
    x, times = jnp.array([[1.0, 4.0]]), jnp.array([0.5, 3.0, 9.0])
    found = FFEvNN([4], 1, mixture, 20.0, KEY, tsyn=4.0, **options).state_at_t(x, times)
    for model, size, rows, keywords in (
        (LIF, 2, slice(0, 2), {"tmem": np.array([10.0, 30.0])}), (QIF, 1, slice(2, 3), {}), (MAT, 1, slice(3, 4), {}),
    ):  # fmt: skip
        alone = FFEvNN([size], 1, model, 20.0, KEY, tsyn=4.0, **keywords, **options).state_at_t(x, times)
        np.testing.assert_allclose(found[rows, :, : alone.shape[2]], alone, rtol=1e-6, atol=1e-8)
        assert not np.any(found[rows, :, alone.shape[2] :])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Refractory(LIF(1)), TypeError, "expected a class that subclasses NeuronModel"),
        (lambda: Refractory(LIF, hold=["U"]), ValueError, "hold names 'U', expected some of the channels V, I"),
        (lambda: Refractory(Refractory(LIF)), TypeError, "two channels 'refractory'"),
        (lambda: Refractory(LIF)(2, tref=0.0), ValueError, "tref is 0.0, expected a value that is greater than 0"),
        (lambda: Refractory(LIF)(2, trainable="tau"), ValueError, "trainable names 'tau'"),
        (lambda: StepCurrent(1.0, start=5.0, stop=4.0), ValueError, "start before stop"),
        (lambda: StepCurrent(1.0, start=5.0, stop=np.inf), ValueError, "expected finite times in ms"),
        (lambda: StepCurrent(1.0, trainable="hight"), ValueError, "trainable names 'hight'"),
        (lambda: WithBiasCurrent(LIF)(2, current=StepCurrent(np.ones(3))), ValueError, r"current.amplitude has shape"),
        (lambda: WithBiasCurrent(EGRU)(2), TypeError, "EGRU has no bias current"),
        (lambda: WithBiasCurrent(LIF)(2, current="strong"), ValueError, "amplitude must be a number"),
        (lambda: Mixed(), TypeError, "there are no parts"),
        (lambda: Mixed((LIF,)), TypeError, r"part 0 is .*, expected \(model, number of neurons\)"),
        (lambda: Mixed((LIF, 1), (EGRU, 1)), ValueError, "the ports of the parts differ"),
        (lambda: Mixed((LIF, 1), (QIF, 2))(4), ValueError, r"4 neurons, expected 1 \+ 2 = 3"),
        (lambda: Mixed((WithBiasCurrent(LIF), 1))(1, current=StepCurrent(1.0)), ValueError, "wrap the mixture"),
        (
            lambda: FFEvNN([1], 1, Refractory(LIF), 9.0, KEY, trev=1.0),
            TypeError,
            "unknown keyword 'trev': did you mean tref?",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
