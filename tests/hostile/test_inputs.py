"""Inputs and parameters at the edge of what is allowed, and beyond. Numbered as in the list of hostile cases."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import SIZES, Leaky, assert_times, every_combination, every_dtype, every_way, inputs, layer, spikes, trains

from eventsnn import LIF, QIF, FFEvNN, SimulationError


def raw(rows, dtype):
    """All `(3, 4)` numbers as they stand."""
    return jnp.asarray(np.array(rows, dtype=float), dtype)


INF, NAN = np.inf, np.nan


@every_combination
def test_20_unsorted_times_and_inf_anywhere_in_a_row_give_the_sorted_result(dtype, way):
    weight = np.array([0.5, 1.0, -0.75])
    net = layer(Leaky, dtype, SIZES[way], weights=[weight, 0.5 * weight, -weight])
    shuffled = raw([[40.0, INF, 5.0, 20.0], [INF, 30.0, 10.0, INF], [INF, INF, INF, INF]], dtype)
    # V by arrivals at 5, 10, 20, 30, 40 of w, w/2, w, w/2, w:
    # w = 0.5: 0.5, 0.75, 1.25 spike, 0.25, 0.75. w = 1: spike at 5, 0.5, 1.5 spike, 0.5, 1.5 spike. w < 0: never.
    expected = trains([[20.0], [5.0, 20.0, 40.0], []], SIZES[way])
    np.testing.assert_array_equal(spikes(net, shuffled, way), expected)


@every_combination
def test_20_rows_of_only_inf_are_silence(dtype, way):
    # V' = 1/10.
    net = layer(Leaky, dtype, SIZES[way], weights=5.0, drive=0.1)
    expected = trains([[10.0 * k for k in range(1, 7)]], SIZES[way])
    assert_times(spikes(net, inputs([], dtype), way), expected, rtol=1e-6)


@pytest.mark.parametrize("in_size", [0, 3])
@every_dtype
def test_20_no_inputs_at_all_is_silence(dtype, in_size):
    net = FFEvNN([5, 2], in_size, Leaky, 30.0, jax.random.PRNGKey(0), dtype=dtype, drive=[0.125, 0.0],
                 init_weights=0.25)  # fmt: skip
    # V' = 1/8: the first layer spikes at 8, 16, 24, and five spikes of 1/4 lift the second over threshold at once.
    got = np.asarray(net.spikes_until_t(jnp.zeros((in_size, 0), dtype), 30.0, 5))
    assert_times(got, trains([[8.0, 16.0, 24.0]], 2, 5), rtol=1e-5)
    batch = jax.vmap(net.ttfs)(jnp.zeros((3, in_size, 0), dtype))
    np.testing.assert_allclose(batch, np.full((3, 2), 8.0), rtol=1e-5)


@pytest.mark.parametrize("bad, shown", [(NAN, "nan"), (-INF, "-inf"), (-1.5, "-1.5")])
@every_combination
def test_21_a_time_that_is_no_time_is_an_error_with_row_and_column(dtype, way, bad, shown):
    net = layer(Leaky, dtype, SIZES[way], weights=0.25, drive=0.1)
    x = raw([[1, 2, 3, 4], [1, INF, bad, 4], [INF] * 4], dtype)
    with pytest.raises(Exception, match=rf"in_spikes\[1, 2\] is {shown}: .*inf where there is no spike") as error:
        spikes(net, x, way)
    if way == "eager":
        assert isinstance(error.value, ValueError)


def test_22_a_transposed_array_says_got_expected_and_fix():
    net = layer(LIF, jnp.float64, 4)
    with pytest.raises(ValueError, match=r"shape \(5, 3\), expected \(3, spikes\): transpose"):
        net.ttfs(jnp.ones((5, 3)))


@pytest.mark.parametrize("shape", [(), (3,), (4,), (4, 4), (2, 2, 4)])
def test_22_another_shape_says_got_and_expected(shape):
    net = layer(LIF, jnp.float64, 4)
    text = r"\(" + ", ".join(map(str, shape)) + r",?\)"
    with pytest.raises(ValueError, match=rf"shape {text}, expected \(3, spikes\)"):
        net.ttfs(jnp.ones(shape))
    with pytest.raises(ValueError, match=rf"shape {text}, expected \(3, spikes\)"):
        jax.jit(net.ttfs)(jnp.ones(shape))


def test_22_a_batch_without_vmap_says_to_use_vmap():
    net = layer(LIF, jnp.float64, 4)
    with pytest.raises(ValueError, match=r"shape \(10, 3, 4\), expected \(3, spikes\): .*jax\.vmap\(net\.ttfs\)"):
        net.ttfs(jnp.ones((10, 3, 4)))


@pytest.mark.parametrize("integers", [np.full((3, 4), 5), jnp.full((3, 4), 5, jnp.int32), [[5] * 4] * 3])
def test_22_integers_are_times_of_the_same_value(integers):
    net = layer(LIF, jnp.float64, 4, weights=3.0)
    found = np.asarray(net.ttfs(integers))
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, net.ttfs(jnp.full((3, 4), 5.0)))


def test_22_another_precision_is_an_error_and_not_rounded_in_silence():
    with pytest.raises(TypeError, match="float64, expected float32"):
        layer(LIF, jnp.float32, 4).ttfs(jnp.ones((3, 4), jnp.float64))
    with pytest.raises(TypeError, match="float32, expected float64"):
        layer(LIF, jnp.float64, 4).ttfs(jnp.ones((3, 4), jnp.float32))


def build(model=LIF, dtype=jnp.float32, **keywords):
    return FFEvNN([4, 2], 3, model, 30.0, jax.random.PRNGKey(0), dtype=dtype, **keywords)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("name", ["init_weights", "init_bias", "wlim", "wmean", "blim", "bmean", "tmem", "thresh"])
def test_23_a_number_that_is_not_finite_is_refused_by_name(name, bad):
    with pytest.raises(ValueError, match=name):
        build(**{name: bad})


@pytest.mark.parametrize("bad", [0.0, -2.5])
@pytest.mark.parametrize("name", ["tmem", "tsyn"])
@pytest.mark.parametrize("model", [LIF, QIF])
def test_23_a_time_constant_that_is_not_positive_is_refused(model, name, bad):
    with pytest.raises(ValueError, match=rf"{name} is {bad}, expected .*greater than 0"):
        build(model, **{name: bad})


def test_23_the_message_names_the_neuron():
    with pytest.raises(ValueError, match=r"tsyn\[2\] is nan"):
        build(tsyn=[np.array([1.0, 1.0, NAN, 1.0]), 5.0])


@pytest.mark.parametrize("place", ["weights", "ic", "tsyn", "negative tsyn"])
@every_way
def test_23_a_number_that_training_broke_is_an_error_of_the_run(way, place):
    net = layer(LIF, jnp.float32, SIZES[way], weights=1.5)
    where, value = {
        "weights": (lambda net: net.connections[0].weights, NAN),
        "ic": (lambda net: net.neurons[0].ic, INF),
        "tsyn": (lambda net: net.neurons[0].tsyn.value, NAN),
        "negative tsyn": (lambda net: net.neurons[0].tsyn.value, -5.0),
    }[place]
    net = eqx.tree_at(where, net, replace_fn=lambda leaf: jnp.full_like(leaf, value))
    shown = {"weights": "nan", "ic": "inf", "tsyn": "nan", "negative tsyn": "-5"}[place]
    with pytest.raises(Exception, match=rf"{place.split()[-1]}.* is {shown}"):
        spikes(net, inputs([[5.0]], jnp.float32), way)


@pytest.mark.parametrize(
    "wrong, right", [("treshold", "thresh"), ("tau_mem", "tmem"), ("init_weight", "init_weights"), ("rtoll", "rtol")]
)
def test_24_a_misspelt_keyword_is_named_with_the_near_miss(wrong, right):
    with pytest.raises(TypeError, match=rf"'{wrong}'.*{right}"):
        build(**{wrong: 1.0})


def test_24_a_keyword_of_another_model_is_unknown():
    with pytest.raises(TypeError, match="'thresh'"):
        build(QIF, thresh=1.0)


@pytest.mark.parametrize("name", ["thresh", "tmem", "tsyn", "vreset", "init_bias"])
def test_24_a_parameter_of_wrong_length_says_got_and_expected(name):
    with pytest.raises(ValueError, match=rf"{name} has shape \(3,\), expected .*\(4,\)"):
        build(**{name: np.full(3, 0.5)})


def test_24_weights_of_wrong_shape_say_got_and_expected():
    with pytest.raises(ValueError, match=r"init_weights has shape \(4, 3\), expected .*\(3, 4\)"):
        build(init_weights=np.ones((4, 3)))


def test_24_a_list_that_does_not_fit_the_layers_says_so():
    with pytest.raises(ValueError, match="tmem is a list of 3, expected one entry for each of the 2 layers"):
        build(tmem=[1.0, 2.0, 3.0])


@pytest.mark.parametrize("model", [LIF, QIF])
def test_24_a_missing_key_is_asked_for_where_one_is_needed(model):
    assert model(3).ic.shape == (3,)
    with pytest.raises(ValueError, match="needs a key"):
        model(3, blim=1.0)


@pytest.mark.slow
@every_dtype
def test_25_a_million_spikes_on_a_channel_all_count(dtype):
    # V counts them in units of 2⁻¹⁸: it reaches 1 with every 2¹⁸th, three times in a million. Delta synapse, no leak.
    million, unit = 1_000_000, 2**18
    times = np.arange(million) * 2.0**-14
    net = FFEvNN([1], 1, Leaky, 64.0, jax.random.PRNGKey(0), dtype=dtype, init_weights=1 / unit)
    got = np.asarray(net.spikes_until_t(jnp.asarray(times[::-1].copy()[None], dtype), 64.0, 4))
    expected = [times[k * unit - 1] for k in (1, 2, 3)]
    np.testing.assert_array_equal(got[0], [*expected, np.inf])


@every_dtype
def test_25_ten_thousand_spikes_on_a_channel_all_count(dtype):
    many, unit = 10_000, 2**12
    times = np.arange(many) * 2.0**-8
    net = FFEvNN([2], 1, Leaky, 64.0, jax.random.PRNGKey(0), dtype=dtype, init_weights=1 / unit)
    got = np.asarray(net.spikes_until_t(jnp.asarray(times[::-1].copy()[None], dtype), 64.0, 4))
    expected = [times[unit - 1], times[2 * unit - 1], np.inf, np.inf]
    np.testing.assert_array_equal(got, [expected] * 2)


@every_combination
def test_25_an_infinite_rate_ends_in_an_error_that_says_what_to_look_at(dtype, way):
    # V' = 1e30: a spike every 1e-30 ms.
    net = layer(Leaky, dtype, SIZES[way], drive=[0.1, 1e30])
    with pytest.raises(Exception, match="layer 0, neuron 1 emitted more than max_spikes = 8 spikes: raise") as error:
        spikes(net, inputs([], dtype), way)
    if way == "eager":
        assert isinstance(error.value, SimulationError)


def test_25_an_infinite_drive_is_an_error():
    net = layer(Leaky, jnp.float64, SIZES["eager"], drive=INF)
    with pytest.raises(ValueError, match="drive.* is inf"):
        spikes(net, inputs([], jnp.float64), "eager")
