"""Every model of the zoo: spikes, states and gradients against an oracle that shares no code with the package."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import oracle_zoo
import pytest
import zoo
from asking import spikes_and_states
from zoo import MAX_SPIKES, NEURONS, SAMPLES

import eventsnn
from eventsnn import FFEvNN, check_neuron_model
from eventsnn.neuron_models.base import valid_closed_form

EVERY = list(zoo.DRIVES)
SPIKING = [name for name in EVERY if name != "LeakyIntegrator"]
# In the quick run: a model with ports and events that are not spikes, and one in a coordinate of its own.
QUICK = {"EGRU", "EIF"}


def each(names, quick=QUICK):
    return pytest.mark.parametrize(
        "name", [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]
    )


def all_spikes(net, x):
    return net.spikes_until_t(x, net.max_solver_time, max_spikes=MAX_SPIKES)


@each(SPIKING, quick={"LIF", "QIF", "TwoCompartment"})
def test_every_model_that_spikes_keeps_the_contract(name):
    check_neuron_model(getattr(eventsnn, name)(3))


@each(EVERY)
def test_spikes_and_states_are_those_of_the_oracle(name):
    case = zoo.make_case(name)
    net, x = zoo.network(case), jnp.asarray(case.times[..., None])
    looks = np.array([0.3, 0.55, 0.8, 1.0]) * case.t_end
    trains = np.asarray(jax.jit(jax.vmap(lambda x: all_spikes(net, x)))(x))
    shown = np.asarray(jax.jit(jax.vmap(lambda x: net.state_at_t(x, jnp.asarray(looks))))(x))
    # Right to rounding where there is a closed form; the oracle is good for as much.
    accuracy = 1e-6 if valid_closed_form(net.neurons[0]) is None else 1e-10
    total = 0
    for sample in range(SAMPLES):
        for neuron in range(NEURONS):
            expected = zoo.oracle_spikes(case, sample, neuron)
            found = trains[sample, neuron]
            assert np.isfinite(found).sum() == len(expected), (sample, neuron, found, expected)
            np.testing.assert_allclose(found[: len(expected)], expected, rtol=0, atol=accuracy)
            total += len(expected)
            states = zoo.oracle_states(case, sample, neuron, looks)
            found = shown[sample, neuron][:, : states.shape[1]]
            # A potential that runs away at 1e6 per ms is another one 1e-9 ms later.
            np.testing.assert_allclose(found, states, rtol=2e-6, atol=1e-6 * np.abs(states).max())
    assert (total == 0) if name == "LeakyIntegrator" else total >= SAMPLES * NEURONS, total


def names_of(name):
    model = getattr(eventsnn, name)
    return tuple(field for field, declaration in model._declared.items() if declaration.kind != "bias")


COEFFICIENTS = np.random.default_rng(7).normal(size=(NEURONS, MAX_SPIKES))


def oracle_loss(case, neuron, looks, shown):
    """A sum over spikes and states of one neuron in the first sample, and how many spikes there are."""
    spikes = zoo.oracle_spikes(case, 0, neuron)
    states = zoo.oracle_states(case, 0, neuron, looks)
    return COEFFICIENTS[neuron, : len(spikes)] @ spikes + np.sum(shown[neuron] * states**2), len(spikes)


def moved(case, kind, index, by):
    if kind in ("weights", "times"):
        array = np.array(getattr(case, kind))
        array[index] += by
        return case._replace(**{kind: array})
    array = np.array(case.numbers[kind])
    array[index] += by
    return case._replace(numbers=case.numbers | {kind: array})


def central_differences(case, looks, shown, kind, index):
    """Of fourth order, with a step so small that no spike passes another event or the end on the way."""
    value = getattr(case, kind)[index] if kind in ("weights", "times") else case.numbers[kind][index]
    h = 2e-4 if kind == "times" else 2e-4 * max(abs(value), 0.1)
    # A time reaches every neuron, anything else one.
    concerned = {"times": range(NEURONS), "weights": index[1:2]}.get(kind, index[:1])
    total = 0.0
    for neuron in concerned:
        found = [oracle_loss(moved(case, kind, index, step * h), neuron, looks, shown) for step in (-2, -1, 1, 2)]
        assert len({count for _, count in found}) == 1, f"a spike comes or goes with {kind}{index}"
        total += np.dot([1, -8, 8, -1], [loss for loss, _ in found]) / (12 * h)
    return total


def looks_between(case):
    """Query times away from all events of the first sample, where the state is no smooth function of anything."""
    events = np.concatenate([case.times[0], *(zoo.oracle_spikes(case, 0, neuron) for neuron in range(NEURONS))])
    free = [t for t in np.linspace(0.2, 0.95, 200) * case.t_end if np.abs(events - t).min() > 0.4]
    return np.array([free[0], free[-1]])


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_gradients_by_every_number_are_central_differences_of_the_oracle(name):
    case = zoo.make_case(name)
    looks = looks_between(case)
    sizes = np.abs([zoo.oracle_states(case, 0, neuron, looks) for neuron in range(NEURONS)])
    shown = 0.3 / np.maximum(sizes.max(axis=(0, 1)), 1e-3) ** 2
    shown = np.broadcast_to(shown, sizes.shape)
    # A potential like the logarithm of the time that is left leaves a method of fifth order at 2e-6.
    solver = diffrax.Dopri8() if name in ("EIF", "AdEx") else None
    net = zoo.network(case, rtol=1e-10, atol=1e-11, max_steps=20000, solver=solver, trainable=names_of(name))

    def loss(pair):
        net, x = pair
        spikes, states = spikes_and_states(net, x, looks, MAX_SPIKES)
        states = states[..., : shown.shape[-1]]
        return jnp.sum(jnp.where(jnp.isfinite(spikes), COEFFICIENTS * spikes, 0)) + jnp.sum(shown * states**2)

    by_net, by_x = eqx.filter_jit(eqx.filter_grad(loss))((net, jnp.asarray(case.times[0][:, None])))
    neurons = by_net.neurons[0]
    for kind in (*case.numbers, "weights", "times"):
        if kind == "times":
            found = np.asarray(by_x)[None, :, 0]
        elif kind == "weights":
            found = np.asarray(by_net.connections[0].weights)
        else:
            held = getattr(neurons, kind)
            found = np.asarray(getattr(held, "value", held))
        # All of each kind would take minutes: one neuron of the numbers, some of the weights and times.
        indices = [(1,)] if kind in case.numbers else [(0, 0), (0, 3)] if kind == "times" else [(1, 1), (4, 2)]
        if kind == "y0":
            indices = [(1, 0), (1, found.shape[1] - 2)]
        if found.ndim == 3:
            indices = [(*index, port) for index in indices for port in range(found.shape[2])]
        for index in indices:
            expected = central_differences(case, looks, shown, kind, index)
            np.testing.assert_allclose(found[index], expected, rtol=1e-6, atol=1e-8, err_msg=f"{kind}{index}")


# A bias with which each fires a few times, and one that drives it far beyond what a neuron bears.
STRONG = {"EIF": (12.0, 1000.0), "AdEx": (1000.0, 50000.0), "Izhikevich": (10.0, 1000.0), "HodgkinHuxley": (10.0, 50.0)}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", STRONG)
def test_upswings_are_passed_at_default_tolerances(name, dtype):
    # A first step that leaves the range of numbers once made the next one NaN, and the neuron stood still.
    bias = np.array(STRONG[name])
    net = FFEvNN([2], 1, getattr(eventsnn, name), 30.0, zoo.KEY, dtype=dtype, init_bias=bias, max_event_steps=2000)
    record = net.record(jnp.full((1, 1), jnp.inf, dtype))
    for neuron, ic in enumerate(bias):
        expected = oracle_zoo.simulate(name, {"ic": ic}, [], 30.0)
        found = np.asarray(record.times[0])[np.asarray(record.neurons[0]) == neuron]
        assert abs(len(found) - len(expected)) <= (len(expected) > 50)
        np.testing.assert_allclose(found[:10], expected[:10], rtol=2e-3)
