"""What a first guess gets wrong is refused with what to write, warned of once, or does what was meant."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eventsnn
from eventsnn import (
    LIF,
    QIF,
    DeltaLIF,
    Dense,
    EvNN,
    FFEvNN,
    HodgkinHuxley,
    Mixed,
    Refractory,
    SimulationError,
    SineCurrent,
    Sparse,
    StepCurrent,
    UnitsWarning,
    WithBiasCurrent,
    times,
)
from eventsnn.training.losses import first_spike_correct, first_spike_loss, wake_loss

KEY = jax.random.PRNGKey(0)
NONE = jnp.full((1, 1), jnp.inf, jnp.float32)
INPUT = jnp.array([[2.0, 12.0]], jnp.float32)


def net(dtype=jnp.float32, **keywords):
    return FFEvNN([2], 1, LIF, 40.0, KEY, dtype=dtype, init_weights=9.0, **keywords)


# Times in half precision, and whole numbers.


@pytest.mark.parametrize("half", [np.float16, jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("name", ["in_spikes", "times", "final_time", "init_delays", "dlim", "start", "stop"])
def test_times_in_half_precision_are_refused_with_the_reason(half, name):
    given = jnp.ones((1, 2), half) if half is jnp.bfloat16 else np.ones((1, 2), half)
    queries = {
        "in_spikes": lambda: net().ttfs(given),
        "times": lambda: net().state_at_t(INPUT, given[0]),
        "final_time": lambda: net().spikes_until_t(INPUT, given[0, 0], 5),
        "init_delays": lambda: net(init_delays=given),
        "dlim": lambda: net(dlim=given[0, 0]),
        "start": lambda: StepCurrent(1.0, start=given[0, 0]),
        "stop": lambda: StepCurrent(1.0, stop=given[0, 0]),
    }
    bits = "8 bits .* 4 ms" if half is jnp.bfloat16 else "11 bits .* 0.5 ms"
    with pytest.raises(TypeError, match=rf"{name} has dtype .*{bits}, .*inf.* np.asarray\({name}, np.float32\)"):
        queries[name]()


def test_half_precision_that_has_overflowed_is_no_silence_under_vmap():
    with np.errstate(over="ignore"):
        stored = np.float16([[[0.3, 0.9]]]) * np.float16(1e6)
    assert np.isinf(stored).all()
    with pytest.raises(TypeError, match="float16"):
        jax.vmap(net().ttfs)(stored)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize(
    "whole", [[[2, 12]], np.array([[2, 12]]), np.array([[2, 12]], np.uint8), jnp.array([[2, 12]], jnp.int32)]
)
def test_whole_numbers_are_the_times_that_they_say(whole, dtype):
    converted = times.as_times("in_spikes", whole, dtype)
    assert converted.dtype == dtype
    np.testing.assert_array_equal(converted, [[2.0, 12.0]])


def test_whole_numbers_that_would_be_rounded_are_refused():
    exact, beyond = 2**24, 2**24 + 1
    assert times.as_times("in_spikes", np.array([[exact]]), jnp.float32)[0, 0] == exact
    with pytest.raises(ValueError, match=r"in_spikes\[0, 1\] is 16777217, .* np.asarray\(in_spikes, np.float32\)"):
        times.as_times("in_spikes", np.array([[exact, beyond]]), jnp.float32)
    assert times.as_times("in_spikes", np.array([[beyond]]), jnp.float64)[0, 0] == beyond
    with pytest.raises(ValueError, match=r"in_spikes\[0\] is -9223372036854775808"):
        times.as_times("in_spikes", np.array([-(2**63)]), jnp.float64)


def test_whole_numbers_under_a_transformation_are_converted_where_their_dtype_is_narrow_enough():
    def traced(values, dtype):
        return jax.eval_shape(lambda x: times.as_times("in_spikes", x, dtype), values)

    assert traced(np.ones((1, 2), np.int16), jnp.float32).dtype == jnp.float32
    assert traced(np.ones((1, 2), np.int32), jnp.float64).dtype == jnp.float64
    with pytest.raises(TypeError, match=r"in_spikes has dtype int32, .* pass in_spikes.astype\(net.dtype\)"):
        traced(np.ones((1, 2), np.int32), jnp.float32)


@pytest.mark.parametrize("raster", [np.ones((1, 2), bool), jnp.ones((1, 2), bool), [[True, False]]])
def test_truth_values_are_no_times(raster):
    with pytest.raises(TypeError, match="in_spikes has dtype bool, expected times in ms"):
        net().ttfs(raster)


def test_rows_of_different_lengths_say_to_pad():
    with pytest.raises(ValueError, match="in_spikes has rows of different lengths: pad the shorter ones with inf"):
        net().ttfs([[1.0, 2.0], [3.0]])


# No weights at all.

WAYS = r"init_weights=.*wmean=.*wlim="


@pytest.mark.parametrize("model", [LIF, QIF, Refractory(LIF), DeltaLIF, Mixed((LIF, 2), (QIF, 1))])
def test_a_network_without_weights_names_the_ways_to_them(model):
    with pytest.raises(ValueError, match=f"layer 0 has no weights, and its neurons are at rest, .*{WAYS}"):
        FFEvNN([3], 2, model, 40.0, KEY)
    with pytest.raises(ValueError, match=f"the network has no weights, .*{WAYS}"):
        EvNN(model, 3, 2, 40.0, KEY)


def test_a_later_layer_without_weights_is_named():
    with pytest.raises(ValueError, match="layer 1 has no weights"):
        FFEvNN([3, 2], 2, LIF, 40.0, KEY, init_weights=[9.0, None])


def test_a_connection_without_weights_names_the_ways_to_them():
    with pytest.raises(ValueError, match=f"there are no weights: .*{WAYS}"):
        Dense(3, 2)
    with pytest.raises(ValueError, match=f"there are no weights: .*{WAYS}"):
        Sparse(3, 2, np.array([[0, 1]]))
    assert Dense(0, 2).weights.shape == (0, 2) and Sparse(3, 2, np.zeros((0, 2), int)).weights.shape == (0,)


@pytest.mark.parametrize("given", [{"init_weights": 0.0}, {"wmean": 0.0}, {"wlim": 0.0}, {"wlim": 1.0}])
def test_weights_that_are_given_are_enough_even_if_they_are_0(given):
    assert FFEvNN([3], 2, LIF, 40.0, KEY, **given).connections[0].weights.shape == (2, 3)
    assert EvNN(LIF, 3, 2, 40.0, KEY, **given).connection.weights.shape == (5, 3)


@pytest.mark.parametrize(
    ("model", "keywords"),
    [
        (LIF, {"init_bias": 2.0}),
        (LIF, {"bmean": 2.0}),
        (LIF, {"y0": (0.5, 0.0)}),
        (WithBiasCurrent(LIF), {"current": StepCurrent(2.0, start=5.0)}),
        (WithBiasCurrent(LIF), {"current": SineCurrent(2.0, frequency=25.0)}),
        (HodgkinHuxley, {"init_bias": 10.0}),
    ],
)
def test_neurons_that_move_without_input_need_no_weights(model, keywords):
    assert not np.any(FFEvNN([1], 1, model, 40.0, KEY, **keywords).connections[0].weights)


def test_a_network_may_be_made_without_weights_where_numbers_are_unknown():
    shapes = eqx.filter_eval_shape(lambda bias: FFEvNN([1], 1, LIF, 40.0, KEY, init_bias=bias), jnp.float32(2.0))
    assert shapes.connections[0].weights.shape == (1, 1)


@pytest.mark.parametrize("way", ["eager", "jit"])
def test_input_that_no_weight_lets_in_is_an_error(way):
    driven = FFEvNN([2], 1, LIF, 40.0, KEY, init_bias=0.1)
    ttfs = driven.ttfs if way == "eager" else jax.jit(driven.ttfs)
    assert np.isinf(ttfs(jnp.full((1, 2), jnp.inf, jnp.float32))).all()
    with pytest.raises(Exception, match=rf"in_spikes\[0, 0\] is 2: .*the network has no weights: .*{WAYS}"):
        ttfs(INPUT)


def test_input_is_fine_once_there_are_weights():
    driven = EvNN(LIF, 2, 1, 40.0, KEY, init_bias=0.1)
    with pytest.raises(ValueError, match="the network has no weights"):
        driven.ttfs(INPUT)
    weights = jnp.zeros((3, 2), jnp.float32).at[2].set(9.0)
    driven = eqx.tree_at(lambda net: net.connection.weights, driven, weights)
    assert np.isfinite(driven.ttfs(INPUT)).all()


# Arguments in another order.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FFEvNN(LIF, [3], 2, 40.0, KEY), r"layers is LIF, .*FFEvNN\(layers, in_size, neuron_model, "),
        (lambda: FFEvNN([LIF, LIF], [3, 2], 2, 40.0, KEY), r"layers is LIF, .*FFEvNN\(layers, in_size, neuron_model"),
        (lambda: FFEvNN([3], LIF, 2, 40.0, KEY), r"in_size is LIF, .*FFEvNN\(layers, in_size, neuron_model, "),
        (lambda: FFEvNN([3], 2, 40.0, LIF, KEY), r"max_solver_time is LIF, .*max_solver_time, key\)"),
        (lambda: EvNN(3, LIF, 2, 40.0, KEY), r"n_neurons is LIF, .*EvNN\(neuron_model, n_neurons, in_size, "),
        (lambda: EvNN([3], 2, LIF, 40.0, KEY), r"in_size is LIF, .*EvNN\(neuron_model, n_neurons, in_size, "),
        (lambda: FFEvNN([3], 2, LIF, KEY, 40.0), "max_solver_time is .*expected a finite time in ms"),
        (lambda: FFEvNN([3], 2, LIF, 40.0, 0), r"key is 0, expected a JAX random key: pass jax.random.PRNGKey\(0\)"),
        (lambda: EvNN(LIF, 3, 2, 40.0, 0), r"key is 0, expected a JAX random key: pass jax.random.PRNGKey\(0\)"),
        (lambda: net().spikes_until_t(INPUT, 10, 40.0), "max_spikes is 40.0, expected a whole number"),
        (lambda: StepCurrent(5.0, 20.0, 2.0), "positional"),
        (lambda: eventsnn.save(net(), "net.zip"), r"path is a FFEvNN, .*save\(path, tree\)"),
    ],
)
def test_arguments_in_another_order_are_told(make, message):
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize("size", [[3], "3", 2.5, np.inf, None])
def test_a_size_that_is_no_whole_number_is_told(size):
    with pytest.raises(ValueError, match="n_neurons is .*expected a whole number, 1 or more"):
        EvNN(LIF, size, 1, 40.0, KEY)


# Labels.

TIMES = jnp.array([[3.0, 5.0, 9.0], [8.0, 6.0, 7.0]])
LOSSES = {
    "first_spike_loss": lambda labels, times=TIMES: first_spike_loss(times, labels, silent_time=30.0),
    "first_spike_correct": lambda labels, times=TIMES: first_spike_correct(times, labels),
    "wake_loss": lambda labels, times=TIMES: wake_loss(times, labels, jnp.ones((4, 3))),
}
every_loss = pytest.mark.parametrize("loss", LOSSES)


@every_loss
@pytest.mark.parametrize("way", ["eager", "jit"])
@pytest.mark.parametrize(("labels", "first"), [([0, 3], 3), ([1, -1], -1)])
def test_a_label_that_is_no_class_is_an_error_that_names_it(loss, way, labels, first):
    call = LOSSES[loss] if way == "eager" else jax.jit(LOSSES[loss])
    call(jnp.array([0, 2]), TIMES)
    with pytest.raises(Exception, match=rf"labels\[1\] is {first}: expected a class from 0 to 2"):
        jax.block_until_ready(call(jnp.array(labels), TIMES))


@every_loss
def test_labels_of_another_kind_say_what_to_pass(loss):
    with pytest.raises(ValueError, match=r"labels has shape \(2, 3\), expected \(2,\): pass labels.argmax\(axis=1\)"):
        LOSSES[loss](jnp.eye(3)[:2])
    with pytest.raises(TypeError, match="labels has dtype float64, expected whole numbers"):
        LOSSES[loss](jnp.array([0.0, 1.0]))


# Seconds for milliseconds.


@pytest.fixture
def not_warned(monkeypatch):
    monkeypatch.setattr(times, "_has_warned", False)


@pytest.mark.parametrize("model", [LIF, QIF, Refractory(LIF), Mixed((LIF, 1), (QIF, 1))])
def test_time_constants_in_seconds_are_warned_of_once(model, not_warned):
    with pytest.warns(UnitsWarning, match="time constant is 0.02 ms, .* max_solver_time = 40 ms .*seconds") as warned:
        FFEvNN([2], 1, model, 40.0, KEY, wmean=9.0, tmem=0.02, tsyn=0.005)
        EvNN(LIF, 2, 1, 40.0, KEY, wmean=9.0, tmem=0.02, tsyn=0.005)
    assert len(warned) == 1 and warned[0].filename == __file__


def test_a_run_in_seconds_is_warned_of(not_warned):
    with pytest.warns(UnitsWarning, match="max_solver_time is 0.04 ms, and the shortest time constant, 5 ms"):
        FFEvNN([2], 1, LIF, 0.04, KEY, wmean=9.0)


def test_input_in_seconds_is_warned_of_once(not_warned):
    made = net()
    with pytest.warns(UnitsWarning, match="the last input spike is at 0.012 ms, and a time constant, 20 ms") as warned:
        made.ttfs(INPUT / 1000)
        made.ttfs(INPUT / 1000)
    assert len(warned) == 1 and warned[0].filename == __file__


def test_what_is_in_proportion_is_not_warned_of(not_warned):
    made = [
        net(),
        # Seconds throughout.
        FFEvNN([2], 1, LIF, 0.04, KEY, wmean=9.0, tmem=0.02, tsyn=0.005),
        # A run of minutes, a membrane without a leak, and neurons that differ.
        FFEvNN([2], 1, LIF, 1e5, KEY, wmean=9.0),
        FFEvNN([2], 1, LIF, 40.0, KEY, wmean=9.0, tmem=1e9),
        FFEvNN([2], 1, DeltaLIF, 40.0, KEY, wmean=9.0, tmem=1e12),
        FFEvNN([2], 1, LIF, 40.0, KEY, wmean=9.0, tmem=np.array([0.02, 20.0])),
    ]
    for one in made:
        for x in (NONE, INPUT, 0 * INPUT):
            times.check_input_times(one.neurons, x, one.max_solver_time)


def test_unknown_numbers_are_not_looked_at(not_warned):
    made = net()
    jax.eval_shape(made.ttfs, INPUT / 1000)
    eqx.filter_eval_shape(lambda net, x: net.ttfs(x), made, INPUT / 1000)
    assert not times._has_warned


# A full list of spikes.


def full_list(run):
    """The message, and the number that it names."""
    with pytest.raises(SimulationError) as error:
        run()
    message = str(error.value)
    return message, int(message.split("max_event_steps=")[1].split()[0])


def test_a_full_list_says_when_and_what_would_do():
    # Neurons that fire every 20 ln 2 = 13.86 ms, 7 times in 100 ms: three have fired 21 times.
    def run(**keywords):
        return FFEvNN([3], 1, LIF, 100.0, KEY, init_bias=2.0, **keywords).record(NONE)

    message, enough = full_list(lambda: run(max_event_steps=7))
    assert message.startswith("layer 0 emitted more than max_event_steps = 7 spikes: the list was full by t = ")
    # The third spike of each is at 41.6 ms.
    when = float(message.split("t = ")[1].split()[0])
    np.testing.assert_allclose(when, 3 * 20 * np.log(2), rtol=1e-3)
    assert "after 2.33 spikes per neuron" in message and "look for runaway activity" in message
    assert 21 <= enough <= 30
    assert np.isfinite(run(max_event_steps=enough).times[0]).sum() == 21


@pytest.mark.slow
@pytest.mark.parametrize("delay", [None, 1.0])
def test_a_full_list_of_a_recurrent_network_says_when_and_what_would_do(delay):
    delays = {} if delay is None else {"init_delays": delay}

    def run(**keywords):
        keywords |= {"init_weights": 0.0, "init_bias": 2.0, "output_neurons": [True, False, False]} | delays
        net = EvNN(LIF, 3, 1, 100.0, KEY, **keywords)
        return net.record(NONE)

    message, enough = full_list(lambda: run(max_event_steps=7))
    assert message.startswith("network emitted more than max_event_steps = 7 spikes: the list was full by t = ")
    np.testing.assert_allclose(float(message.split("t = ")[1].split()[0]), 3 * 20 * np.log(2), rtol=1e-3)
    assert 21 <= enough <= 36
    assert np.isfinite(run(max_event_steps=enough).times[0]).sum() == 21


def test_the_first_full_list_of_a_batch_is_told_under_jit():
    net = FFEvNN([3], 1, LIF, 100.0, KEY, init_bias=2.0, init_weights=0.0, max_event_steps=7)
    with pytest.raises(Exception, match=r"layer 0 emitted more .* full by t = 41.59.* max_event_steps=\d+ will do"):
        jax.block_until_ready(jax.jit(jax.vmap(lambda x: net.record(x).times))(jnp.stack([NONE, NONE])))


@pytest.mark.parametrize(("size", "room"), [(3, 1000), (50, 1000), (51, 1020), (1000, 20_000)])
def test_the_default_room_for_spikes_grows_with_the_layer(size, room):
    def shape(net):
        return eqx.filter_eval_shape(net.record, NONE).times[0].shape

    assert shape(FFEvNN([size], 1, LIF, 100.0, KEY, init_weights=1.0)) == (room,)
    assert shape(EvNN(LIF, size, 1, 100.0, KEY, init_weights=0.0)) == (room,)
    assert shape(EvNN(LIF, size, 1, 100.0, KEY, init_weights=0.0, max_event_steps=5)) == (5,)


def test_a_layer_has_room_by_its_own_size():
    net = FFEvNN([100, 3], 1, LIF, 100.0, KEY, init_weights=1.0)
    shapes = [times.shape for times in eqx.filter_eval_shape(net.record, NONE).times]
    assert shapes == [(2000,), (1000,)]
