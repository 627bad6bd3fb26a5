"""Recurrent networks in windows of their shortest delay: the same answers as on one clock, and as the oracle."""

import functools
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
import test_recurrent as recurrent
from jaxtyping import Array, Float
from scipy.optimize import brentq

import eventsnn
from eventsnn import LIF, QIF, RESULTS, DeltaLIF, EvNN, SimulationError

KEY = jax.random.PRNGKey(0)
T_END = recurrent.T_GRADIENT
DELAYED = functools.partial(recurrent.make_theta, delays="long")


def both_ways(*args, **keywords):
    """The same network in windows and on one clock."""
    return [EvNN(*args, windows=windows, **keywords) for windows in (True, False)]


@functools.cache
def random_network(model=LIF, seed=0):
    """In both ways, and input for it; delays among neurons from 1 ms on, those of inputs from 0 on."""
    n, inputs, t_end = 8, 3, 60.0
    rng = np.random.default_rng(seed)
    strength = 12.0 if issubclass(model, QIF) else 1.0
    weights = strength * rng.normal(0.6, 1.2, (n + inputs, n))
    weights[n:] = strength * rng.uniform(2, 5, (inputs, n))
    delays = rng.uniform(1, 8, weights.shape)
    delays[n:] -= 1
    mask = rng.uniform(size=weights.shape) < 0.6
    keywords = {"dtype": jnp.float64, "rtol": 1e-10, "atol": 1e-11, "max_event_steps": 600, "init_bias": 0.3}
    keywords |= {"init_weights": weights, "init_delays": delays, "wmask": mask, "trainable": ("delays",)}
    return both_ways(model, n, inputs, t_end, KEY, **keywords), jnp.asarray(rng.uniform(0, 30, (inputs, 6)))


def by_all_numbers(net, x):
    """The gradient of a sum over the first forty spikes, and the record itself: one compilation for both."""

    def loss(net):
        record = net.record(x)
        return jnp.sum(jnp.cos(record.times[0][:40])), record

    return eqx.filter_grad(loss, has_aux=True)(net)


@functools.cache
def by_all_numbers_on_one_clock():
    (_, clock), x = random_network()
    return by_all_numbers(clock, x)


@pytest.mark.parametrize("kind", ["LIF", pytest.param("QIF", marks=pytest.mark.slow)])
def test_small_networks_spike_as_the_oracle(kind):
    bar = {"LIF": 1e-9, "QIF": 1e-7}[kind]
    net = recurrent.network(kind, 5, True, windows=True)
    counts = [recurrent.assert_spikes(kind, net, DELAYED(kind, 5, seed=seed), bar) for seed in range(8)]
    assert max(counts) >= 15


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["LIF", "QIF"])
def test_large_networks_spike_as_the_oracle(kind):
    net = recurrent.network(kind, 30, True, windows=True)
    bar = {"LIF": 1e-9, "QIF": 1e-7}[kind]
    counts = [recurrent.assert_spikes(kind, net, DELAYED(kind, 30, seed=seed), bar) for seed in range(2)]
    assert min(counts) >= 100


@pytest.mark.slow
def test_two_thousand_spikes_are_those_of_the_oracle():
    t_end = 320.0
    theta = DELAYED("LIF", 50, seed=0, t_end=t_end)
    theta["ic"] = theta["ic"] + 1.6
    assert recurrent.assert_spikes("LIF", recurrent.network("LIF", 50, True, t_end, windows=True), theta, 1e-9) >= 1900


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "states"), [("LIF", False), ("QIF", True)])
def test_gradients_equal_central_differences_of_the_oracle(kind, states):
    question = recurrent.Question(kind, "long", states)
    theta = DELAYED(kind, 4, seed=1, t_end=T_END)
    truth = recurrent.simulate(kind, theta, T_END)
    assert len(truth.times) >= 8 and len(set(truth.neurons)) >= 3 and truth.closest > 1e-3
    arrays = {name: jnp.asarray(value) for name, value in theta.items()}
    clock, windows = (
        recurrent.package_gradient(arrays, recurrent.network(kind, 4, True, T_END, rtol=1e-11, windows=way), states)[1]
        for way in (False, True)
    )
    loss = functools.partial(recurrent.oracle_loss, question)
    recurrent.assert_close(windows, recurrent.central_differences(loss, theta), 1e-6)
    recurrent.assert_close(windows, clock, {"LIF": 1e-11, "QIF": 1e-8}[kind])


@pytest.mark.slow
def test_the_gradient_of_a_vmap_equals_the_vmap_of_gradients_with_few_states_kept(change_engine):
    theta = {name: jnp.asarray(value) for name, value in DELAYED("LIF", 4, seed=1, t_end=T_END).items()}
    net = recurrent.network("LIF", 4, True, T_END, rtol=1e-11, windows=True)
    kept = recurrent.package_gradient(theta, net, False)[1]
    # With room for 3 states most windows are run again.
    change_engine("windows._CHECKPOINTS", 3)
    batch = theta.pop("in_spikes") + jnp.array([0.0, 0.3, 0.7])[:, None, None]

    def loss(theta, in_spikes):
        return recurrent.package_loss(theta | {"in_spikes": in_spikes}, net, False)

    def batch_loss(theta, batch):
        return jnp.sum(jax.vmap(loss, in_axes=(None, 0))(theta, batch))

    of_vmap = jax.jit(jax.grad(batch_loss))(theta, batch)
    each = jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, 0)))(theta, batch)
    recurrent.assert_close(of_vmap, {name: value.sum(axis=0) for name, value in each.items()}, 1e-9)
    recurrent.assert_close({name: value[0] for name, value in each.items()}, {k: kept[k] for k in each}, 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("model", [LIF, pytest.param(QIF, marks=pytest.mark.slow)])
def test_all_queries_answer_as_on_one_clock(model):
    (windows, clock), x = random_network(model)
    record, expected = windows.record(x), clock.record(x)
    count = int(np.isfinite(expected.times[0]).sum())
    assert count > 30
    np.testing.assert_array_equal(record.neurons[0], expected.neurons[0])
    np.testing.assert_allclose(record.times[0], expected.times[0], rtol=0, atol=1e-8)
    np.testing.assert_allclose(record.slopes[0][:count], expected.slopes[0][:count], rtol=1e-6)
    trains = np.full((windows.n_neurons, 64), np.inf)
    for neuron, train in enumerate(trains):
        times = np.asarray(expected.times[0])[np.asarray(expected.neurons[0]) == neuron]
        train[: len(times)] = times
    np.testing.assert_allclose(windows.ttfs(x), trains[:, 0], rtol=0, atol=1e-8)
    until = np.where(trains <= 25.0, trains, np.inf)
    assert 0 < np.isfinite(until).sum() < np.isfinite(trains).sum()
    np.testing.assert_allclose(windows.spikes_until_t(x, 25.0, 64), until, rtol=0, atol=1e-8)
    # In any order, at the ends, between windows, and after spikes.
    delays = windows.connection.delays.value[: windows.n_neurons]
    shortest = float(jnp.min(jnp.where(windows.connection.mask.value[: windows.n_neurons], delays, jnp.inf)))
    times = jnp.concatenate([jnp.array([60.0, 0.0, shortest, 3 * shortest, 31.7]), record.times[0][:20] + 0.03])
    # A QIF neuron that comes back from minus infinity makes much of a tiny difference in time.
    np.testing.assert_allclose(windows.state_at_t(x, times), clock.state_at_t(x, times), rtol=1e-6, atol=1e-6)


class Tidal(QIF):
    """A neuron whose drive depends on the time itself."""

    def dynamics(self, t, y, args) -> Float[Array, "neurons channels"]:
        tide = jnp.stack([0.02 * jnp.sin(0.4 * jnp.broadcast_to(t, y[:, 0].shape)), jnp.zeros_like(y[:, 1])], axis=1)
        return super().dynamics(t, y, args) + tide


@pytest.mark.slow
def test_a_drive_that_depends_on_time_goes_on_from_window_to_window():
    (windows, clock), x = random_network(Tidal, seed=1)
    (plain, _), _ = random_network(QIF, seed=1)
    found = windows.record(x).times[0]
    assert np.isfinite(found).sum() > 30
    np.testing.assert_allclose(found, clock.record(x).times[0], rtol=0, atol=1e-7)
    assert np.abs(found - plain.record(x).times[0])[:5].max() > 1e-3


@pytest.mark.slow
def test_samples_of_a_batch_go_through_windows_of_their_own(change_engine):
    # One of them spikes too much for the room of a window, which then becomes shorter; the other is done at once.
    (windows, clock), x = random_network()
    batch = jnp.stack([x, jnp.full_like(x, jnp.inf), x + 3.0])
    expected = [clock.record(sample) for sample in batch]
    change_engine("windows._ROOM", -10)
    got = jax.jit(jax.vmap(windows.record))(batch)
    assert [int(np.isfinite(one.times[0]).sum()) > 30 for one in expected] == [True, False, True]
    for sample, one in enumerate(expected):
        np.testing.assert_array_equal(got.neurons[0][sample], one.neurons[0])
        np.testing.assert_allclose(got.times[0][sample], one.times[0], rtol=0, atol=1e-9)


@pytest.mark.slow
def test_windows_that_become_shorter_leave_spikes_and_gradients_alone(change_engine):
    (windows, _), x = random_network()
    expected = by_all_numbers_on_one_clock()
    change_engine("windows._ROOM", -12)
    for leaf, wanted in zip(*map(jax.tree.leaves, (by_all_numbers(windows, x)[0], expected[0])), strict=True):
        if eqx.is_inexact_array(leaf):
            np.testing.assert_allclose(leaf, wanted, rtol=1e-8, atol=1e-10 * float(jnp.max(jnp.abs(wanted), initial=0)))


# Instants. A DeltaLIF neuron spikes at once if a spike lifts it over its threshold.


def delta(weights, **keywords):
    weights = np.asarray(weights, float)
    keywords = {"dtype": jnp.float64, "max_event_steps": 64, "windows": True} | keywords
    return EvNN(DeltaLIF, weights.shape[1], 1, 20.0, KEY, init_weights=weights, **keywords)


@pytest.mark.slow
@pytest.mark.parametrize("engine_name", ["auto", pytest.param("numerical", marks=pytest.mark.slow)])
def test_spikes_that_meet_the_ends_of_windows_are_where_they_should_be(engine_name):
    # A ring: every spike arrives exactly when a window begins, and the input where one ends.
    ring = [[0, 1.5, 0], [0, 0, 1.5], [1.5, 0, 0], [1.5, 0, 0]]
    record = delta(ring, init_delays=np.where(np.arange(4)[:, None] < 3, 1.0, 0.0) + np.zeros((4, 3)),
                   engine=engine_name).record(jnp.array([[3.0]]))  # fmt: skip
    np.testing.assert_array_equal(record.times[0][:18], np.arange(3.0, 21.0))
    np.testing.assert_array_equal(record.neurons[0][:18], np.arange(18) % 3)


def test_spikes_that_arrive_together_count_together():
    # 0.6 and 0.6 at one instant fire neuron 2; so do two spikes through windows of other lengths.
    weights = np.zeros((4, 3))
    weights[3, :2], weights[:2, 2] = 1.5, 0.6
    delays = np.full((4, 3), 2.0)
    delays[0, 2], delays[3, 0] = 2.5, 1.5
    record = delta(weights, init_delays=delays).record(jnp.array([[3.0]]))
    np.testing.assert_array_equal(record.times[0][:4], [4.5, 5.0, 7.0, np.inf])


def test_the_last_window_includes_its_end():
    # A spike that arrives at max_solver_time fires its neuron, whether it comes from a neuron or from an input.
    weights = np.zeros((4, 3))
    weights[3, 0], weights[0, 1] = 1.5, 1.5
    net = delta(weights, init_delays=np.where(np.arange(4)[:, None] < 3, 4.0, 0.0) + np.zeros((4, 3)))
    np.testing.assert_array_equal(net.record(jnp.array([[16.0]])).times[0][:3], [16.0, 20.0, np.inf])
    np.testing.assert_array_equal(net.record(jnp.array([[20.0]])).times[0][:2], [20.0, np.inf])


@pytest.mark.slow
@pytest.mark.parametrize("together", [3, 4])
def test_more_input_than_there_is_room_for_at_one_instant_is_an_error_and_else_is_not(together):
    parts = [np.full(together, 3.0), np.linspace(3.1, 3.9, 9), np.full(3, 20.0), np.full(4 - together, np.inf)]
    x = np.concatenate(parts)[None]
    net = delta([[0.0], [0.15]], init_delays=1.0, max_pending=3)
    if together > 3:
        with pytest.raises(SimulationError, match="more than max_pending spikes are on their way"):
            net.record(jnp.asarray(x))
        return
    clock = delta([[0.0], [0.15]], init_delays=1.0, max_pending=3, windows=False)
    np.testing.assert_array_equal(net.record(jnp.asarray(x)).times[0], clock.record(jnp.asarray(x)).times[0])
    np.testing.assert_allclose(
        net.state_at_t(x, [3.5, 20.0, 19.0]), clock.state_at_t(x, [3.5, 20.0, 19.0]), rtol=0, atol=1e-12
    )


@pytest.mark.slow
@pytest.mark.parametrize("windows", [True, False])
def test_equal_spikes_on_one_channel_are_one_of_as_much_weight(windows):
    # Five at once through 1.5, against one through 7.5, into LIF neurons that hear each other later.
    weights = np.array([[0.0, 8.0], [8.0, 0.0], [1.5, 1.5]])
    keywords = {"init_delays": 1.5, "init_bias": [0.9, 0.4], "dtype": jnp.float64, "windows": windows}
    five, single = jnp.full((1, 5), 3.0), jnp.full((1, 5), jnp.inf).at[0, 2].set(3.0)
    many = EvNN(LIF, 2, 1, 40.0, KEY, init_weights=weights, **keywords).record(five).times[0]
    weights[2] *= 5
    one = EvNN(LIF, 2, 1, 40.0, KEY, init_weights=weights, **keywords).record(single).times[0]
    assert np.isfinite(one).sum() >= 3
    np.testing.assert_allclose(many, one, rtol=1e-13)


def test_a_neuron_that_cannot_be_reset_is_told_and_the_others_are_not_hidden():
    class Stuck(DeltaLIF):
        def reset_spiked(self, y, spiked):
            return jnp.where(spiked[:, None], jnp.where(jnp.arange(len(y)) == 1, 2.0, 0.0)[:, None].astype(y.dtype), y)

    weights = [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.5, 1.5, 1.5]]
    # The potential rises from where neuron 1 is reset to; one that falls there would spike once.
    keywords = {"init_weights": np.asarray(weights), "init_delays": 1.0, "dtype": jnp.float64}
    keywords["init_bias"] = np.array([0.0, 3.0, 0.0])
    with pytest.raises(SimulationError, match="neuron 1, t = 4 ms: still at or above threshold after its reset"):
        EvNN(Stuck, 3, 1, 20.0, KEY, **keywords).record(jnp.array([[3.0]]))
    told = EvNN(Stuck, 3, 1, 20.0, KEY, throw=False, **keywords).record(jnp.array([[3.0]]))
    assert bool(told.result == RESULTS.reset_above_threshold)
    assert {0, 2} <= set(np.asarray(told.neurons[0]).tolist())


@pytest.mark.slow
@pytest.mark.parametrize("n", [255, 256, 65_535, 65_536])
def test_the_last_neuron_of_many_is_reached_and_reaches_the_first(n):
    pairs = np.array([[n, n - 1], [n - 1, 0], [0, n - 2], [n - 2, n - 1]])
    net = EvNN(DeltaLIF, n, 1, 6.0, KEY, synapses=pairs, init_weights=1.5, init_delays=1.0, max_pending=2)
    record = net.record(np.zeros((1, 1)))
    np.testing.assert_array_equal(record.times[0][:6], np.arange(1.0, 7.0))
    np.testing.assert_array_equal(record.neurons[0][:6], [n - 1, 0, n - 2] * 2)


# Synapses one by one.


def sparse_of(net, **keywords):
    """The network of `random_network` with its synapses one by one, in any order."""
    weights, delays = np.asarray(net.connection.weights), np.asarray(net.connection.delays.value)
    pairs = np.random.default_rng(1).permutation(np.argwhere(net.connection.mask))
    rows, targets = pairs.T
    keywords = {"dtype": jnp.float64, "max_event_steps": 600, "init_bias": 0.3} | keywords
    return EvNN(
        LIF, net.n_neurons, net.in_size, net.max_solver_time, KEY, synapses=pairs, init_weights=weights[rows, targets],
        init_delays=delays[rows, targets], **keywords,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("windows", [None, pytest.param(False, marks=pytest.mark.slow)])
def test_synapses_one_by_one_are_the_same_network(windows):
    (dense, _), x = random_network()
    sparse = sparse_of(dense, windows=windows)
    assert sparse.windows is (windows is None)
    expected, record = dense.record(x), sparse.record(x)
    assert np.isfinite(expected.times[0]).sum() > 30
    np.testing.assert_array_equal(record.neurons[0], expected.neurons[0])
    np.testing.assert_allclose(record.times[0], expected.times[0], rtol=0, atol=1e-10)


@pytest.mark.slow
def test_gradients_of_synapses_one_by_one_are_those_of_the_matrix():
    (_, clock), x = random_network()
    expected = by_all_numbers_on_one_clock()[0].connection
    for windows in (True, False):
        net = sparse_of(clock, windows=windows, trainable=("delays",))
        found, place = by_all_numbers(net, x)[0].connection, (net.connection.rows.value, net.connection.targets.value)
        assert np.abs(found.delays.value).max() > 0
        np.testing.assert_allclose(found.weights, expected.weights[place], rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(found.delays.value, expected.delays.value[place], rtol=1e-8, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(("sparse", "windows"), [(False, False), (True, True)])
def test_axonal_delays_are_those_of_all_synapses_of_a_row(sparse, windows):
    (_, clock), x = random_network()
    delays, mask = np.asarray(clock.connection.delays.value), np.asarray(clock.connection.mask)
    axonal = np.random.default_rng(3).uniform(0.0, 0.9, len(delays))
    keywords = {
        "init_weights": np.asarray(clock.connection.weights),
        "init_delays": delays - axonal[:, None] * (np.arange(len(delays)) < clock.n_neurons)[:, None],
        "init_axonal_delays": np.where(np.arange(len(delays)) < clock.n_neurons, axonal, 0.0),
    }
    if sparse:
        pairs = np.argwhere(mask)
        keywords |= {"synapses": pairs} | {name: keywords[name][mask] for name in ("init_weights", "init_delays")}
    else:
        keywords["wmask"] = mask
    net = EvNN(
        LIF, clock.n_neurons, clock.in_size, clock.max_solver_time, KEY, windows=windows, dtype=jnp.float64,
        max_event_steps=600, init_bias=0.3, trainable=("delays", "axonal_delays"), **keywords,
    )  # fmt: skip
    by_clock, expected = by_all_numbers_on_one_clock()
    gradient, record = by_all_numbers(net, x)
    np.testing.assert_array_equal(record.neurons[0], expected.neurons[0])
    np.testing.assert_allclose(record.times[0], expected.times[0], rtol=0, atol=1e-10)
    by_row = np.asarray(by_clock.connection.delays.value).sum(axis=1)
    assert (np.abs(by_row) > 1e-3).sum() >= 5
    by_axonal = gradient.connection.axonal_delays.value
    np.testing.assert_allclose(by_axonal, by_row, rtol=1e-8, atol=1e-9 * np.abs(by_row).max())


@pytest.mark.slow
def test_two_synapses_may_join_the_same_neurons_in_windows():
    pairs = np.array([[1, 0], [0, 0], [1, 0]])
    keywords = {"synapses": pairs, "init_weights": [0.6, 0.0, 0.6], "dtype": jnp.float64}
    net = EvNN(DeltaLIF, 1, 1, 20.0, KEY, init_delays=[2.0, 1.0, 2.0], **keywords)
    np.testing.assert_array_equal(net.ttfs(jnp.array([[3.0]])), [5.0])
    apart = EvNN(DeltaLIF, 1, 1, 20.0, KEY, init_delays=[2.0, 1.0, 2.5], **keywords)
    np.testing.assert_array_equal(jax.vmap(apart.ttfs)(jnp.array([[[3.0]], [[1.0]]])), [[5.5], [3.5]])
    with pytest.raises(ValueError, match=r"synapses holds \[1, 0\] 2 times"):
        EvNN(DeltaLIF, 1, 1, 20.0, KEY, **keywords)


@pytest.mark.slow
def test_a_saved_sparse_network_is_the_same(tmp_path):
    (dense, _), x = random_network()
    net = sparse_of(dense)
    eventsnn.save(tmp_path / "net.zip", net)
    np.testing.assert_array_equal(eventsnn.load(tmp_path / "net.zip").record(x).times[0], net.record(x).times[0])


@pytest.mark.slow
def test_ten_thousand_neurons_with_a_hundred_synapses_each():
    # Some neurons are fired by the input; what they reach fires one delay later, and what these reach after another.
    n, fan_out = 10_000, 100
    rng = np.random.default_rng(0)
    targets = rng.integers(0, n, (n, fan_out))
    pairs = np.concatenate(
        [np.stack([np.repeat(np.arange(n), fan_out), targets.ravel()], axis=1), [[n, k] for k in range(3)]]
    )
    net = EvNN(
        DeltaLIF, n, 1, 4.0, KEY, synapses=pairs, init_weights=1.5, init_delays=1.5, max_event_steps=40_000,
        max_pending=256, tmem=1e3,
    )  # fmt: skip
    record = net.record(np.zeros((1, 1)))
    times, neurons = np.asarray(record.times[0]), np.asarray(record.neurons[0])
    assert bool(record.result == RESULTS.successful)
    wave = np.arange(3)
    for time in (1.5, 3.0):
        np.testing.assert_array_equal(np.sort(neurons[times == time]), wave)
        wave = np.unique(targets[wave])
    assert len(wave) > 5000


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"synapses": np.array([[0, 3]])}, r"synapses\[0, 1\] is 3, expected a neuron from 0 to 2"),
        ({"synapses": np.array([[0, 0], [4, 1]])}, r"synapses\[1, 0\] is 4, expected an input from 0 to 3"),
        ({"synapses": np.array([0, 1])}, r"synapses has shape \(2,\)"),
        ({"synapses": np.array([[0.5, 1.0]])}, "whole numbers"),
        ({"synapses": np.array([[0, 1]]), "wmask": np.ones((4, 3), bool)}, "do not pass wmask"),
        (
            {"synapses": np.array([[0, 1]]), "init_weights": np.ones(2)},
            r"init_weights has shape \(2,\), expected .*\(1,\)",
        ),
        ({"windows": True}, "windows is True, but the shortest delay among neurons is 0 ms"),
    ],
)
def test_bad_arguments_are_told(keywords, message):
    with pytest.raises(ValueError, match=message):
        EvNN(LIF, 3, 1, 20.0, KEY, **keywords)


@pytest.mark.slow
def test_networks_without_synapses_inputs_or_spikes_run():
    keywords = {"init_delays": 1.0, "init_bias": 2.0}
    period = 20 * np.log(2)
    lonely = EvNN(LIF, 2, 1, 20.0, KEY, synapses=np.zeros((0, 2), int), **keywords)
    np.testing.assert_allclose(lonely.ttfs(np.zeros((1, 1))), period, rtol=1e-5)
    for synapses in (None, np.array([[0, 1]])):
        deaf = EvNN(LIF, 2, 0, 20.0, KEY, synapses=synapses, **keywords)
        np.testing.assert_allclose(deaf.ttfs(np.zeros((0, 3))), period, rtol=1e-5)
        heard = EvNN(LIF, 2, 1, 20.0, KEY, synapses=synapses, **keywords)
        np.testing.assert_allclose(heard.ttfs(np.zeros((1, 0))), period, rtol=1e-5)


@pytest.mark.slow
def test_a_network_may_be_made_inside_a_compiled_function():
    def ttfs(synapses, windows):
        @jax.jit
        def run(key):
            keywords = {"init_weights": 1.0, "init_delays": 1.0, "init_bias": 2.0, "windows": windows}
            return EvNN(LIF, 2, 1, 20.0, key, synapses=synapses, **keywords).ttfs(np.zeros((1, 1)))

        return run(KEY)

    for synapses in (None, np.array([[0, 1], [2, 0]])):
        np.testing.assert_allclose(ttfs(synapses, True), ttfs(synapses, None), rtol=1e-5)
    # Nobody knows the delays then, and on one clock no two synapses may join the same neurons.
    with pytest.raises(ValueError, match=r"synapses holds \[0, 1\] 2 times"):
        ttfs(np.array([[0, 1], [0, 1]]), None)


def test_the_way_is_chosen_by_the_delays():
    def chosen(**keywords):
        return EvNN(LIF, 3, 1, 20.0, KEY, wmean=1.0, **keywords).windows

    assert not chosen() and not chosen(init_delays=np.vstack([np.eye(3), np.ones((1, 3))]))
    assert chosen(init_delays=1.0) and chosen(init_axonal_delays=[1.0, 1.0, 1.0, 0.0])
    assert not chosen(init_delays=1.0, trainable=("delays",)) and not chosen(init_delays=1e-6)
    # Delays of connections that do not exist do not count.
    assert chosen(init_delays=np.vstack([np.eye(3), np.ones((1, 3))]), wmask=np.vstack([np.eye(3), np.ones((1, 3))]))


def test_a_delay_that_became_too_short_for_windows_is_told_at_once():
    net = delta(np.full((4, 3), 1.5), init_delays=1.0, engine="xla")
    short = eqx.tree_at(lambda net: net.connection.delays.value, net, jnp.full((4, 3), 1e-9))
    with pytest.raises(SimulationError, match="more than a million windows; raise it, or pass windows=False"):
        short.record(jnp.array([[3.0]]))


class Refractory(LIF):
    """LIF whose potential stays at its reset for a while after a spike: the third channel says how much longer."""

    channels = ("V", "I", "r")
    PAUSE = 1.0

    def init_state(self, n_neurons) -> Float[Array, "neurons channels"]:
        return jnp.zeros((n_neurons, 3), self.ic.dtype)

    def dynamics(self, t, y, args) -> Float[Array, "neurons channels"]:
        free = super().dynamics(t, y[:, :2], args)
        return jnp.stack([jnp.where(y[:, 2] > 0, 0, free[:, 0]), free[:, 1], jnp.full_like(y[:, 2], -1)], axis=1)

    def input_spikes(self, y, weights) -> Float[Array, "neurons channels"]:
        return y + jnp.stack([jnp.zeros_like(weights), weights, jnp.zeros_like(weights)], axis=1)

    def reset_spiked(self, y, spiked) -> Float[Array, "neurons channels"]:
        reset = jnp.stack([jnp.zeros_like(y[:, 0]), y[:, 1], jnp.full_like(y[:, 2], self.PAUSE)], axis=1)
        return jnp.where(spiked[:, None], reset, y)


@pytest.mark.slow
@pytest.mark.parametrize("windows", [True, False])
@pytest.mark.parametrize("since", [0.5, Refractory.PAUSE, 1.5])
def test_input_during_refractoriness_and_at_its_end_counts_from_the_end_on(since, windows):
    # V is held for exactly as long as it should be: what arrives meanwhile moves the current alone.
    tmem, tsyn, drive, weight = 20.0, 5.0, 2.0, 3.0
    first = tmem * np.log(2)
    start = first + Refractory.PAUSE
    arrival = first + since
    v = drive * (1 - np.exp(-max(arrival - start, 0) / tmem))
    i = weight * np.exp(-max(start - arrival, 0) / tsyn)
    begin = max(start, arrival)
    expected = begin + brentq(oracle._lif_excess, 0, 20, args=(v, i, tmem, tsyn, drive, 1.0), xtol=1e-14)
    weights = np.array([[0.0, 0.0], [0.0, 0.0], [weight, 0.0]])
    keywords = {"dtype": jnp.float64, "rtol": 1e-9, "max_steps": 100_000, "windows": windows}
    delays = np.where(np.arange(3)[:, None] < 2, 5.0, 0.0) + np.zeros((3, 2))
    net = EvNN(Refractory, 2, 1, 30.0, KEY, init_weights=weights, init_delays=delays, init_bias=drive, **keywords)
    spikes = net.spikes_until_t(jnp.array([[arrival]]), 30.0, 3)
    np.testing.assert_allclose(spikes[0, :2], [first, expected], rtol=0, atol=1e-7)
    np.testing.assert_allclose(spikes[1], [first, 2 * first + Refractory.PAUSE, np.inf], rtol=0, atol=1e-7)


@pytest.mark.slow
def test_a_hundred_neurons_spike_as_those_of_nest():
    with np.load(Path(__file__).parent / "data" / "nest_network.npz") as file:
        nest = dict(file)
    n = len(nest["drive"])
    assert nest["refractory"] == Refractory.PAUSE
    own = np.arange(n)
    net = EvNN(
        Refractory,
        n,
        n,
        60.0,
        KEY,
        synapses=np.concatenate([nest["synapses"], np.stack([n + own, own], axis=1)]),
        init_weights=np.concatenate([nest["weights"], nest["into"]]),
        init_delays=np.concatenate([nest["delays"], np.zeros(n)]),
        init_bias=nest["drive"],
        **{name: float(nest[name]) for name in ("tmem", "tsyn", "thresh", "vreset")},
        dtype=jnp.float64,
        rtol=1e-9,
        max_steps=100_000,
        max_pending=128,
    )
    record = net.record(jnp.asarray(nest["trains"]))
    times, neurons = record.times[0][: len(nest["times"])], record.neurons[0][: len(nest["times"])]
    assert len(nest["times"]) >= 200 and len(set(nest["neurons"][:200])) > 50
    np.testing.assert_array_equal(neurons, nest["neurons"])
    np.testing.assert_allclose(times, nest["times"], rtol=0, atol=1e-8)


@pytest.mark.parametrize("bad", [np.nan, -1.0, np.inf])
def test_impossible_delays_and_inputs_are_told_and_not_waited_for(bad):
    net = delta([[1.5], [1.5]], init_delays=1.0, max_pending=1)
    broken = eqx.tree_at(lambda net: net.connection.delays.value, net, jnp.full((2, 1), bad))
    with pytest.raises(ValueError, match=r"delays\[0, 0\] is .*expected a delay in ms, 0 or more"):
        broken.record(jnp.array([[3.0, jnp.inf, jnp.inf]]))
    if not np.isinf(bad):
        with pytest.raises(ValueError, match=r"in_spikes\[0, 2\] is .*expected a time of 0 ms or later"):
            net.record(jnp.array([[3.0, 4.0, bad]]))


@pytest.mark.slow
def test_a_spike_at_the_end_and_a_query_between_two_windows_have_whole_derivatives():
    # A clip would halve both. V is 1.5 exp(-(t - 3)/20) after the input, and the neuron sends on to nobody.
    weights, delays = np.array([[0.0], [1.5]]), np.array([[1.0], [2.0]])
    keywords = {"init_weights": weights, "init_delays": delays, "dtype": jnp.float64, "windows": True}
    x = jnp.array([[1.0]])
    at_end = EvNN(DeltaLIF, 1, 1, 3.0, KEY, **keywords)
    assert at_end.ttfs(x)[0] == 3.0
    np.testing.assert_allclose(jax.grad(lambda x: at_end.ttfs(x)[0])(x), [[1.0]])
    silent = EvNN(DeltaLIF, 1, 1, 6.0, KEY, thresh=2.0, **keywords)
    value, slope = jax.value_and_grad(lambda t: silent.state_at_t(x, t[None])[0, 0, 0])(jnp.asarray(5.0))
    np.testing.assert_allclose([value, slope], [1.5 * np.exp(-0.1), -1.5 * np.exp(-0.1) / 20], rtol=1e-12)


@pytest.mark.slow
def test_a_query_an_instant_before_a_window_ends_sees_what_arrives_there():
    # The neuron spikes at 0.1 and hears itself 0.2 later, which is rounded to after 0.3: a window starts there.
    weights, delays = np.array([[0.5], [1.5]]), np.array([[0.2], [0.0]])
    keywords = {"init_weights": weights, "init_delays": delays, "dtype": jnp.float64, "windows": True}
    net = EvNN(DeltaLIF, 1, 1, 1.0, KEY, **keywords)
    state = net.state_at_t(jnp.array([[0.1]]), jnp.array([0.3, 0.2999]))[0, :, 0]
    np.testing.assert_allclose(state, [0.5, 0.0], rtol=1e-12)
