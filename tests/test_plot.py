"""Pictures are drawn into the axes given, with what they should show, and also where there is nothing to show."""

import builtins

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot

from eventsnn import LIF, QIF, DeltaLIF, Dense, EvNN, FFEvNN, Sparse
from eventsnn.engine.results import RESULTS
from eventsnn.evnn import Record
from eventsnn.plot import (
    new_axes,
    plot_fi_curve,
    plot_history,
    plot_latencies,
    plot_plane,
    plot_raster,
    plot_rates,
    plot_states,
    plot_traces,
    plot_weights,
)
from eventsnn.training.fit import EpochSummary

matplotlib.use("Agg")

KEY = jax.random.PRNGKey(0)
POINTS = np.array([[0.2, 0.3], [0.6, 0.7], [0.5, 0.5]])
SILENT = np.full(3, np.inf)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


def record(*times):
    times = tuple(np.array(layer, float) for layer in times)
    neurons = tuple(np.arange(len(layer)) for layer in times)
    return Record(times, neurons, tuple(jnp.ones_like(train) for train in times), RESULTS.successful)


def history(n):
    return [EpochSummary(e, 1.0 / e, 0.5, 0.6, 0.3, 0.0, 1.0) for e in range(1, n + 1)]


GRID = np.array([[x, y] for y in (0.0, 2.0) for x in (0.0, 5.0, 10.0)])

CALLS = {
    "plane": lambda ax: plot_plane(POINTS, [0, 1, 2], predicted=[0, 1, 1], class_names=("yin", "yang", "dot"), ax=ax),
    "plane without points": lambda ax: plot_plane(np.empty((0, 2)), [], predicted=[], ax=ax),
    "plane without spikes": lambda ax: plot_plane(POINTS, [0, 1, 2], predicted=[-1, -1, -1], ax=ax),
    "latencies": lambda ax: plot_latencies(POINTS, [1.0, np.inf, 3.0], "yin", ax=ax),
    "latencies without spikes": lambda ax: plot_latencies(POINTS, SILENT, ax=ax),
    "rates": lambda ax: plot_rates(POINTS, [1.0, 0.0, 3.0], "yin", ax=ax),
    "rates of silence on a grid": lambda ax: plot_rates(GRID, np.zeros(6), ax=ax),
    "rates without points": lambda ax: plot_rates(np.empty((0, 2)), [], ax=ax),
    "raster": lambda ax: plot_raster(record([1.0, 2.0], [3.0, np.inf]), (2, 2), np.ones((3, 1)), ax=ax),
    "raster without spikes": lambda ax: plot_raster(record(SILENT, SILENT), (3, 3), np.full((2, 1), np.inf), ax=ax),
    "raster without layers": lambda ax: plot_raster(record(), (), np.empty((0, 0)), ax=ax),
    "history": lambda ax: plot_history(history(3), ax=ax),
    "history without epochs": lambda ax: plot_history([], "loss", ax=ax),
    "states": lambda ax: plot_states([0.0, 1.0], np.ones((2, 2)), ("V", "I"), ax=ax),
    "states with spikes": lambda ax: plot_states([0.0, 1.0], np.ones((2, 2, 1)), spikes=[[0.5], [np.inf]], ax=ax),
    "states of no neurons": lambda ax: plot_states([0.0, 1.0], np.ones((0, 2, 1)), spikes=np.ones((0, 3)), ax=ax),
    "states without times": lambda ax: plot_states([], np.ones((0, 2)), ("V", "I"), ax=ax),
    "f-I curve of no currents": lambda ax: plot_fi_curve(LIF, [], "LIF", ax=ax),
    "weights": lambda ax: plot_weights(Dense(3, 2, wmean=1.0), ax=ax),
    "weights of no inputs": lambda ax: plot_weights(Dense(0, 2), ax=ax),
    "no synapses": lambda ax: plot_weights(Sparse(3, 2, np.empty((0, 2), int)), ax=ax),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_picture_goes_into_the_axes_given_and_can_be_written(name, tmp_path):
    (ax,) = new_axes()
    assert CALLS[name](ax) is ax
    ax.figure.savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


@pytest.mark.parametrize("name", CALLS)
def test_a_picture_makes_axes_of_its_own(name):
    ax = CALLS[name](None)
    assert ax.figure.number in pyplot.get_fignums()


def test_every_finite_spike_is_one_tick_in_its_row():
    ax = plot_raster(record([1.0, 2.0, np.inf]), (3,))
    segments = [segment for lines in ax.collections for segment in lines.get_segments()]
    assert [segment[0][0] for segment in segments] == [1.0, 2.0]
    assert [float(segment[:, 1].mean()) for segment in segments] == [0.5, 1.5]


def test_one_layer_is_named_neurons_and_no_inputs_are_no_block():
    ax = plot_raster(record([1.0, 2.0]), [5], np.empty((0, 0)))
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["neurons\n(5)"]


def test_layers_are_named_as_asked():
    ax = plot_raster(record([1.0], [2.0]), [1, 4], names=("a", "b"))
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a\n(1)", "b\n(4)"]


def test_errors_have_a_ring_and_silence_is_an_error():
    ax = plot_plane(POINTS, [0, 1, 2], predicted=[0, 2, -1], class_names=("yin", "yang", "dot"))
    rings = ax.collections[-1]
    np.testing.assert_array_equal(rings.get_offsets(), POINTS[1:])
    assert rings.get_label() == "error (2 of 3)"


def test_states_are_drawn_in_the_order_of_time():
    ax = plot_states([2.0, 0.0, 1.0], np.array([[2.0], [0.0], [np.inf]]), ("V",))
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [0.0, np.nan, 2.0])


def test_several_neurons_show_the_channel_asked_for():
    ax = plot_states([0.0, 1.0], np.arange(8.0).reshape(2, 2, 2), ("V", "I"), channel=1)
    assert ax.get_ylabel() == "I"
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [5.0, 7.0])


def test_a_channel_may_be_chosen_by_its_name():
    ax = plot_states([0.0, 1.0], np.array([[1.0, 2.0], [3.0, 4.0]]), ("V", "I"), "I")
    assert ax.get_ylabel() == "I"
    np.testing.assert_array_equal([line.get_ydata() for line in ax.lines], [[2.0, 4.0]])


def ticks_of(ax):
    """The times of the ticks of spikes, and their middles in parts of the height."""
    (lines,) = (artist for artist in ax.collections if hasattr(artist, "get_segments"))
    return [float(segment[0][0]) for segment in lines.get_segments()], lines


def test_spikes_are_ticks_above_the_lines_and_break_what_they_reset():
    times, potential = np.arange(5.0), np.array([0.0, 0.5, 1.0, 0.0, 0.5])
    ax = plot_states(times, np.stack([potential, times], axis=1), ("V", "I"), spikes=[2.5, np.inf])
    assert ticks_of(ax)[0] == [2.5]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [0.0, 0.5, 1.0, np.nan, 0.0, 0.5])
    # The current goes on as before.
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), times)
    bottom, top = ax.get_ylim()
    (segment,) = ticks_of(ax)[1].get_segments()
    assert bottom + (top - bottom) * segment[:, 1].min() > 4.0


def test_every_neuron_has_a_row_of_ticks_in_its_colour():
    states = np.zeros((2, 3, 1))
    ax = plot_states(np.arange(3.0), states, spikes=[[1.0, 2.0], [1.5, np.inf]])
    first, second = (artist for artist in ax.collections if hasattr(artist, "get_segments"))
    assert [segment[0][0] for segment in first.get_segments()] == [1.0, 2.0]
    assert [segment[0][0] for segment in second.get_segments()] == [1.5]
    assert first.get_segments()[0][:, 1].min() > second.get_segments()[0][:, 1].max()
    for line, ticks in zip(ax.lines, (first, second), strict=True):
        assert matplotlib.colors.to_hex(ticks.get_color()[0]) == line.get_color()


def test_limits_are_those_of_the_lines():
    ax = plot_states([0.0, 1.0], np.array([[0.0], [1e6]]), ("V",), limits=(-2.0, 3.0))
    assert ax.get_ylim() == (-2.0, 3.0)


@pytest.fixture(scope="module")
def firing():
    """A neuron that fires every 20 ln 2 = 13.86 ms, and a silent one."""
    return FFEvNN([2], 0, LIF, 30.0, KEY, init_bias=jnp.array([2.0, 0.0]), max_event_steps=16)


@pytest.mark.slow
def test_traces_have_an_axis_per_channel_and_the_spikes_above_the_first(firing):
    axes = plot_traces(firing, np.empty((0, 0)))
    assert [ax.get_ylabel() for ax in axes] == ["V", "I"]
    assert [ax.get_xlabel() for ax in axes] == ["", "time (ms)"]
    silent = [artist for artist in axes[0].collections if hasattr(artist, "get_segments")][1]
    assert not silent.get_segments()
    first = axes[0].collections[1].get_segments()
    np.testing.assert_allclose([segment[0][0] for segment in first], 20 * np.log(2) * np.array([1, 2]), rtol=1e-5)
    # The line reaches the threshold, and starts again from the reset.
    assert np.nanmax(axes[0].lines[0].get_ydata()) > 0.999
    assert np.isnan(axes[0].lines[0].get_ydata()).sum() == 2
    assert axes[0].get_xlim() == (0.0, 30.0)


def test_traces_show_the_channels_and_neurons_asked_for(firing):
    (ax,) = new_axes()
    axes = plot_traces(firing, np.empty((0, 0)), neurons=[1], channels=["I"], ax=ax)
    assert axes.tolist() == [ax] and len(ax.lines) == 1 and ax.get_ylabel() == "I"
    with pytest.raises(ValueError, match="ax holds 1 axes, expected 2: one for each channel"):
        plot_traces(firing, np.empty((0, 0)), ax=ax)
    with pytest.raises(ValueError, match="channel is 'U', expected a number below 2 or one of V, I"):
        plot_traces(firing, np.empty((0, 0)), channels=["U"])


def test_traces_of_no_neurons_and_of_no_channels_are_empty(firing):
    assert [len(ax.lines) for ax in plot_traces(firing, np.empty((0, 0)), neurons=[])] == [0, 0]
    assert plot_traces(firing, np.empty((0, 0)), channels=[]).shape == (0,)


@pytest.mark.slow
def test_traces_of_a_recurrent_network_that_goes_to_infinity_stay_readable():
    net = EvNN(QIF, 1, 0, 60.0, KEY, init_bias=5.0)
    potential, current = plot_traces(net, np.empty((0, 0)))
    assert np.nanmax(potential.lines[0].get_ydata()) > 1000
    assert 2 < potential.get_ylim()[1] < 100 and -100 < potential.get_ylim()[0] < -2


def test_an_f_i_curve_is_in_the_order_of_currents_and_each_has_its_colour():
    ax = plot_fi_curve(LIF, [3.0, 0.0, 2.0], "slow", duration=100.0, transient=0.0)
    assert plot_fi_curve(LIF, [0.0, 2.0, 3.0], "fast", ax, duration=100.0, transient=0.0, tmem=10.0) is ax
    slow, fast = ax.lines
    np.testing.assert_array_equal(slow.get_xdata(), [0.0, 2.0, 3.0])
    np.testing.assert_allclose(slow.get_ydata(), [0.0, 50 / np.log(2), 50 / np.log(1.5)], rtol=1e-4)
    np.testing.assert_allclose(fast.get_ydata(), 2 * slow.get_ydata(), rtol=1e-4)
    assert slow.get_color() != fast.get_color()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["slow", "fast"]
    assert ax.get_xlabel() == "bias current" and ax.get_ylabel() == "firing rate (Hz)"


def test_points_that_fill_a_grid_are_areas_of_their_colour():
    order = np.array([3, 0, 5, 1, 4, 2])
    ax = plot_rates(GRID[order], np.arange(6.0)[order], axis_names=("weight", "bias current"))
    (mesh,) = ax.collections
    np.testing.assert_array_equal(mesh.get_array(), [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(np.ma.getmaskarray(mesh.get_array()), [[True, False, False], [False] * 3])
    assert mesh.get_clim() == (1.0, 5.0)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("weight", "bias current")
    left, right = ax.get_xlim()
    assert left < 0 and right > 10


def test_points_without_a_rate_are_rings():
    ax = plot_rates(POINTS, [1.0, 0.0, 3.0])
    rings, dots = ax.collections
    np.testing.assert_array_equal(rings.get_offsets(), POINTS[[1]])
    np.testing.assert_array_equal(dots.get_array(), [1.0, 3.0])


def test_weights_are_coloured_around_0_and_masked_ones_are_not():
    connection = Dense(2, 2, init_weights=[[1.0, -3.0], [9.0, 0.0]], wmask=[[1, 1], [0, 1]])
    (image,) = plot_weights(connection).images
    assert image.get_clim() == (-3.0, 3.0)
    np.testing.assert_array_equal(np.ma.getmaskarray(image.get_array()), [[False, False], [True, False]])
    assert plot_weights(connection, 5.0).images[0].get_clim() == (-5.0, 5.0)


def test_sparse_weights_stand_at_their_place_and_repeated_ones_add_up():
    connection = Sparse(3, 2, [[2, 1], [0, 0], [2, 1]], init_weights=[1.0, -1.0, 2.0])
    (image,) = plot_weights(connection).images
    np.testing.assert_array_equal(image.get_array().filled(0), [[-1, 0], [0, 0], [0, 3]])
    assert image.get_array().count() == 2


def test_a_network_has_an_axis_per_layer():
    net = FFEvNN([4, 2], 3, LIF, 10.0, KEY, wmean=1.0)
    axes = plot_weights(net)
    assert [ax.images[0].get_array().shape for ax in axes] == [(3, 4), (4, 2)]
    assert [ax.get_ylabel() for ax in axes] == ["input", "neuron of layer 0"]
    assert plot_weights(net, ax=new_axes(2)).shape == (2,)


def test_the_rows_of_a_recurrent_network_are_neurons_and_then_inputs():
    net = EvNN(LIF, 2, 1, 10.0, KEY, init_weights=jnp.array([[0.0, 1.0], [2.0, 0.0], [3.0, 4.0]]), init_delays=1.0)
    ax = plot_weights(net)
    assert [ax.yaxis.get_major_formatter()(row, 0) for row in (0, 1, 2, 0.5)] == ["neuron 0", "neuron 1", "input 0", ""]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [1.5, 1.5])
    assert ax.images[0].get_array()[2, 0] == 3.0


def test_weights_of_something_else_are_an_error():
    with pytest.raises(TypeError, match="source is a DeltaLIF, expected a Dense or Sparse connection"):
        plot_weights(DeltaLIF(1))
    with pytest.raises(ValueError, match="limit is 0.0, expected a weight greater than 0"):
        plot_weights(Dense(1, 1, wmean=0.0), 0.0)
    with pytest.raises(ValueError, match="a picture of 10000 x 10000 weights is too large"):
        plot_weights(Sparse(10_000, 10_000, [[0, 0]], wmean=0.0))


def test_shapes_that_do_not_fit_are_an_error():
    with pytest.raises(ValueError, match=r"times has shape \(2,\) and states \(3, 2\)"):
        plot_states([0.0, 1.0], np.ones((3, 2)))
    with pytest.raises(ValueError, match="pass the record of one sample"):
        plot_raster(record([[1.0, 2.0]]), (2,))
    with pytest.raises(ValueError, match=r"spikes has shape \(3, 1\), expected \(2, spikes\)"):
        plot_states([0.0], np.ones((2, 1, 1)), spikes=np.ones((3, 1)))
    with pytest.raises(ValueError, match="layer 0 has a spike of neuron 1, expected less than its size 1"):
        plot_raster(record([1.0, 2.0]), (1,))
    with pytest.raises(ValueError, match="names has 1 entries, expected one for each of the 2 layers"):
        plot_raster(record([1.0], [2.0]), (1, 1), names=("a",))
    with pytest.raises(ValueError, match=r"there are 3 points and values of shape \(2,\)"):
        plot_rates(POINTS, [1.0, 2.0])
    with pytest.raises(ValueError, match="quantity is 'speed'"):
        plot_history([], "speed")


@pytest.mark.parametrize("make", [new_axes, lambda: CALLS["history"](None)])
def test_without_matplotlib_the_error_says_what_to_install(monkeypatch, make):
    real = builtins.__import__

    def refuse(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"pip install 'eventsnn\[plot\]'"):
        make()
