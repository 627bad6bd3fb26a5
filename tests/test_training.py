"""Yin-Yang data, the loss on first spikes, and training that can be interrupted."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import LIF, FFEvNN, SimulationError
from eventsnn.run_folder import CHECKPOINT, HISTORY, MODEL, Run, load_model, load_run, read_history, save_run
from eventsnn.training import fit
from eventsnn.training import respond as respond_module
from eventsnn.training.fit import EpochSummary, Recipe, Samples, start, train_epoch, weights_only
from eventsnn.training.losses import first_spike_correct, first_spike_loss, wake_loss
from eventsnn.training.respond import accuracy, predict, respond
from eventsnn.training.yin_yang import classify, encode, load_split, make_yin_yang
from eventsnn.training.yin_yang_network import make_network

INF = jnp.inf


def test_the_first_training_sample_is_the_published_one():
    data = load_split("train")
    np.testing.assert_allclose(data.points[0], (0.68030754, 0.45049925), atol=5e-9)
    assert data.labels[0] == 2


# Counted once with a separate plain loop over the rule of Kriener et al.; pins the data against changes.
@pytest.mark.parametrize(
    "name, counts",
    [("train", (1681, 1702, 1617)), ("validation", (316, 336, 348)), ("test", (350, 316, 334))],
)
def test_every_split_has_the_published_size_and_its_class_counts(name, counts):
    data = load_split(name)
    assert len(data) == sum(counts)
    np.testing.assert_array_equal(np.bincount(data.labels), counts)


def test_every_point_lies_in_the_circle_and_has_the_class_of_its_place():
    data = make_yin_yang(300, seed=7)
    assert (np.hypot(*(data.points - 0.5).T) <= 0.5).all()
    np.testing.assert_array_equal(classify(data.points), data.labels)


@pytest.mark.parametrize(
    "point, expected",
    [
        ((0.25, 0.5), 2),
        ((0.75, 0.59), 2),
        ((0.5, 0.9), 1),
        ((0.5, 0.1), 0),
        ((0.1, 0.45), 1),
        ((0.9, 0.55), 0),
        ((0.01, 0.01), -1),
    ],
)
def test_the_class_of_a_place(point, expected):
    assert classify(point) == expected


def test_points_become_five_spikes_within_30_ms():
    np.testing.assert_allclose(encode([[0.2, 0.9]])[0, :, 0], [6.0, 27.0, 24.0, 3.0, 0.0])


def test_an_unknown_split_and_a_wrong_shape_are_errors():
    with pytest.raises(ValueError, match="split is 'tset'"):
        load_split("tset")
    with pytest.raises(ValueError, match=r"points has shape \(3,\)"):
        encode([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="6000 samples were asked for"):
        load_split("train").first(6000)


def test_the_loss_is_the_formula_on_paper():
    times, label = np.array([3.0, 3.4, 4.0]), 1
    softmax = np.exp(-times / 0.5) / np.exp(-times / 0.5).sum()
    expected = -np.log(softmax[label]) + 3e-3 * (np.exp(3.4 / 6.4) - 1)
    loss = first_spike_loss(jnp.asarray(times)[None], jnp.array([label]), silent_time=30.0)
    np.testing.assert_allclose(loss[0], expected, rtol=1e-5)


@pytest.mark.parametrize("times", [[INF, 3.0, 4.0], [INF, INF, INF]])
def test_a_silent_label_neuron_gives_a_finite_loss_without_gradient(times):
    times = jnp.array([times])
    loss, gradient = jax.value_and_grad(lambda t: first_spike_loss(t, jnp.array([0]), silent_time=30.0)[0])(times)
    assert np.isfinite(loss)
    np.testing.assert_array_equal(gradient, 0.0)
    assert not first_spike_correct(times, jnp.array([0]))[0]


def test_another_silent_neuron_costs_nothing_and_has_gradient_0():
    times = jnp.array([[3.0, 3.2, INF]])

    def loss(t):
        return first_spike_loss(t, jnp.array([0]), silent_time=1e3)[0]

    np.testing.assert_allclose(loss(times), loss(times.at[0, 2].set(500.0)), rtol=1e-6)
    gradient = np.asarray(jax.grad(loss)(times))[0]
    assert gradient[0] > 0 > gradient[1] and gradient[2] == 0.0


def test_the_first_spike_decides_and_a_tie_is_wrong():
    times = jnp.array([[1.0, 2.0, INF], [2.0, 1.0, INF], [1.0, 1.0, 5.0]])
    np.testing.assert_array_equal(first_spike_correct(times, jnp.zeros(3, int)), [True, False, False])
    assert accuracy(times, jnp.zeros(3, int)) == pytest.approx(1 / 3)


def test_only_a_silent_correct_output_gets_more_weight():
    times = jnp.array([[INF, 1.0, INF], [1.0, 2.0, INF]])
    gradient = jax.grad(lambda w: wake_loss(times, jnp.array([0, 1]), w))(jnp.ones((4, 3)))
    np.testing.assert_allclose(gradient, np.broadcast_to([-0.5 / 4, 0.0, 0.0], (4, 3)))


def test_a_recipe_and_samples_that_make_no_sense_are_errors():
    with pytest.raises(ValueError, match="batch_size is 0"):
        Recipe(batch_size=0)
    with pytest.raises(ValueError, match="schedule is 'linear', expected 'exponential' or 'cosine'"):
        Recipe(schedule="linear")
    with pytest.raises(ValueError, match="second_moment is 1.0, expected a number from 0 to below 1"):
        Recipe(second_moment=1.0)
    with pytest.raises(ValueError, match=r"labels \(3,\)"):
        Samples(np.zeros((2, 5, 1)), np.zeros(3, int))
    with pytest.raises(ValueError, match="batch_size is 32, expected at most the number of samples, 10"):
        start(make_network(hidden=4), Recipe(), 10)


def test_a_network_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match="neuron is 'hh'"):
        make_network("hh")
    with pytest.raises(ValueError, match="hidden is 0"):
        make_network(hidden=0)


def test_only_weights_are_trained():
    network = make_network(hidden=4)
    trained, fixed = eqx.partition(network, weights_only(network))
    assert [leaf.shape for leaf in jax.tree.leaves(trained)] == [(5, 4), (4, 3)]
    assert fixed.neurons[0].ic is network.neurons[0].ic


SAMPLES = 32


@pytest.fixture(scope="module")
def trained():
    """Two epochs on a few samples, with the state after each."""
    data = load_split("train").first(SAMPLES)
    samples = Samples(encode(data.points), data.labels)
    recipe = Recipe(epochs=2, batch_size=16, seed=5)
    first, *_ = train_epoch(start(make_network(hidden=12, seed=2), recipe, SAMPLES), samples, recipe)
    second, loss, right = train_epoch(first, samples, recipe)
    return samples, recipe, first, second, loss, right


@pytest.mark.slow
def test_training_lowers_the_loss_and_gives_finite_weights(trained):
    samples, recipe, first, second, loss, right = trained
    state, before = first, loss
    for _ in range(8):
        state, after, _ = train_epoch(state, samples, recipe)
    assert after < before and 0 <= right <= 1
    assert all(np.isfinite(c.weights).all() for c in state.network.connections)


@pytest.mark.slow
def test_a_run_that_was_saved_and_loaded_goes_on_to_the_same_bits(trained, tmp_path):
    samples, recipe, first, second, *_ = trained
    save_run(tmp_path, Run(first, (), recipe, {"samples": SAMPLES}))
    resumed = load_run(tmp_path)
    assert resumed.recipe == recipe and resumed.state.epoch == 1
    state, *_ = train_epoch(resumed.state, samples, resumed.recipe)
    assert bool(eqx.tree_equal(state, second))


@pytest.mark.slow
def test_prediction_does_not_depend_on_the_batch_size(trained):
    samples, _, _, second, *_ = trained
    whole = predict(second.network, samples.in_spikes)
    # XLA may round differently for another batch size.
    np.testing.assert_allclose(whole, predict(second.network, samples.in_spikes, batch_size=10), rtol=1e-5)
    assert whole.shape == (SAMPLES, 3) and np.isfinite(whole).any()


@pytest.mark.slow
def test_spikes_per_neuron_are_those_of_the_record(trained):
    samples, _, _, second, *_ = trained
    counts = [np.isfinite(second.network.record(x).times[0]).sum() for x in samples.in_spikes[:3]]
    assert sum(counts) > 0
    assert respond(second.network, samples.in_spikes[:3]).spikes_per_neuron == pytest.approx(np.mean(counts) / 12)


def forty_with_one_that_is_wrong(place):
    points = make_yin_yang(40, seed=0)
    in_spikes = np.asarray(encode(points.points))
    in_spikes[place] = np.nan
    return Samples(in_spikes, points.labels)


@pytest.mark.parametrize("throw", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_run_that_fails_ends_training_with_its_error(throw):
    samples, recipe = forty_with_one_that_is_wrong(17), Recipe(epochs=1, batch_size=8)
    network = FFEvNN([4, 3], 5, LIF, 30.0, jax.random.PRNGKey(0), wmean=2.0, wlim=1.0, throw=throw)
    state = start(network, recipe, len(samples))
    if not throw:
        assert train_epoch(state, samples, recipe)[0].epoch == 1
        return
    batches = []
    with pytest.raises(ValueError, match=r"in_spikes\[0, 0\] is nan: expected"):
        train_epoch(state, samples, recipe, on_batch=lambda *done: batches.append(done))
    assert not batches


@pytest.mark.slow
def test_a_sample_that_fails_is_the_error_of_a_prediction():
    samples = forty_with_one_that_is_wrong(17)
    network = FFEvNN([4, 3], 5, LIF, 30.0, jax.random.PRNGKey(0), wmean=9.0, max_event_steps=3)
    with pytest.raises(SimulationError, match="layer 0 emitted more than max_event_steps = 3 spikes"):
        predict(network, samples.in_spikes[:8], batch_size=8)
    network = FFEvNN([4, 3], 5, LIF, 30.0, jax.random.PRNGKey(0), wmean=2.0)
    with pytest.raises(ValueError, match=r"in_spikes\[0, 0\] is nan: expected"):
        predict(network, samples.in_spikes, batch_size=8)


def test_no_program_of_training_calls_back_into_python():
    """JAX keeps no program in its compilation cache that does."""
    samples, recipe = forty_with_one_that_is_wrong(17), Recipe(epochs=1, batch_size=8)
    network = make_network(hidden=4)
    state = start(network, recipe, len(samples))
    trained, fixed = eqx.partition(network, weights_only(network))
    inputs = jnp.zeros((2, 8, 5, 1), network.dtype), jnp.zeros((2, 8), int)
    program = fit._stride.lower(trained, fixed, state.optimiser_state, *inputs, jnp.int32(2), recipe, 5).as_text()
    assert "eventsnn_clock_backward" in program and "callback" not in program
    program = respond_module._attempt.lower(network, inputs[0][0]).as_text()
    assert "eventsnn_clock_forward" in program and "callback" not in program
    program = jax.jit(jax.vmap(lambda x: network.record(x).times)).lower(inputs[0][0]).as_text()
    assert "eventsnn_raise" in program and "callback" not in program


def make_run(epochs=1):
    recipe = Recipe(batch_size=4)
    history = tuple(EpochSummary(n + 1, 0.1, 0.5, 0.6, 0.3, 0.0, 1.5) for n in range(epochs))
    state = dataclasses.replace(start(make_network(hidden=3), recipe, 8), epoch=epochs)
    return Run(state, history, recipe, {"samples": 8})


def test_a_run_folder_comes_back_whole(tmp_path):
    run = make_run(2)
    save_run(tmp_path, run)
    loaded = load_run(tmp_path)
    assert bool(eqx.tree_equal(loaded.state, run.state))
    assert (loaded.history, loaded.recipe, loaded.options) == (run.history, run.recipe, run.options)
    assert read_history(tmp_path / HISTORY) == run.history
    assert bool(eqx.tree_equal(load_model(tmp_path), run.state.network))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([MODEL, HISTORY, CHECKPOINT])


def test_an_interruption_while_saving_keeps_the_epoch_before(tmp_path, monkeypatch):
    save_run(tmp_path, make_run(1))

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_run(tmp_path, make_run(2))
    monkeypatch.undo()
    assert load_run(tmp_path).state.epoch == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([MODEL, HISTORY, CHECKPOINT])


def test_a_folder_of_something_else_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        load_run(tmp_path)
    save_run(tmp_path, make_run())
    (tmp_path / CHECKPOINT).write_bytes((tmp_path / MODEL).read_bytes())
    with pytest.raises(ValueError, match="not the checkpoint of a training run"):
        load_run(tmp_path)
    (tmp_path / HISTORY).write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="not the history of a training run"):
        read_history(tmp_path / HISTORY)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("exponential", {0: 0.01, 9: 0.01, 10: 0.005, 39: 0.00125}), ("cosine", {0: 0.01, 20: 0.005, 40: 0.0})],
)
def test_the_learning_rate_falls_as_the_schedule_says(schedule, expected):
    recipe = Recipe(epochs=4, batch_size=8, learning_rate=0.01, decay=0.5, schedule=schedule)
    network = make_network(hidden=3)
    trained = eqx.filter(network, weights_only(network))
    optimiser = fit._optimiser(recipe, 10, trained)
    state, found = optimiser.init(trained), []
    for _ in range(41):
        # For a gradient that never changes, Adam's steps are as long as the learning rate.
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimiser.update(jax.tree.map(jnp.ones_like, trained), state)
        found.append(-float(updates.connections[0].weights[0, 0]))
    np.testing.assert_allclose([found[step] for step in expected], list(expected.values()), atol=1e-6)


@pytest.mark.slow
def test_delays_are_trained_with_the_weights_and_never_become_negative(tmp_path):
    data = make_yin_yang(96, seed=3)
    samples = Samples(encode(data.points), data.labels)
    network = make_network(hidden=12, delays=3.0)
    recipe = Recipe(epochs=2, delay_learning_rate=2.0, schedule="cosine")
    state, *_ = train_epoch(start(network, recipe, len(data)), samples, recipe)
    delays = [np.asarray(connection.delays.value) for connection in state.network.connections]
    assert all((delay >= 0).all() for delay in delays) and any((delay == 0).any() for delay in delays)
    for before, after in zip(network.connections, state.network.connections, strict=True):
        assert np.mean(before.delays.value != after.delays.value) > 0.5
        assert np.mean(before.weights != after.weights) > 0.5
    np.testing.assert_array_equal(state.network.neurons[0].ic, network.neurons[0].ic)
    # Weights alone are still to be had, and a run goes on from its file as if it had not been interrupted.
    alone = weights_only(network)
    fixed, *_ = train_epoch(start(network, recipe, len(data), alone), samples, recipe, wanted=alone)
    np.testing.assert_array_equal(fixed.network.connections[0].delays.value, network.connections[0].delays.value)
    save_run(tmp_path, Run(state, (), recipe, {"samples": len(data)}))
    resumed, *_ = train_epoch(load_run(tmp_path).state, samples, recipe)
    expected, *_ = train_epoch(state, samples, recipe)
    for leaf, wanted in zip(jax.tree.leaves(resumed.network), jax.tree.leaves(expected.network), strict=True):
        np.testing.assert_array_equal(leaf, wanted)


@pytest.mark.parametrize("delays", [-1.0, float("nan"), float("inf")])
def test_a_network_with_impossible_delays_is_refused(delays):
    with pytest.raises(ValueError, match="delays is .*expected a time in ms"):
        make_network(hidden=3, delays=delays)
