"""Pictures are drawn into the axes given, with what they should show, and also where there is nothing to show."""

import builtins

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot

from eventsnn.engine.results import RESULTS
from eventsnn.evnn import Record
from eventsnn.plot import (
    new_axes,
    plot_history,
    plot_latencies,
    plot_plane,
    plot_raster,
    plot_states,
)
from eventsnn.training.fit import EpochSummary

matplotlib.use("Agg")

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


CALLS = {
    "plane": lambda ax: plot_plane(POINTS, [0, 1, 2], [0, 1, 1], ("yin", "yang", "dot"), ax=ax),
    "plane without points": lambda ax: plot_plane(np.empty((0, 2)), [], [], ax=ax),
    "plane without spikes": lambda ax: plot_plane(POINTS, [0, 1, 2], [-1, -1, -1], ax=ax),
    "latencies": lambda ax: plot_latencies(POINTS, [1.0, np.inf, 3.0], "yin", ax=ax),
    "latencies without spikes": lambda ax: plot_latencies(POINTS, SILENT, ax=ax),
    "raster": lambda ax: plot_raster(record([1.0, 2.0], [3.0, np.inf]), (2, 2), np.ones((3, 1)), ax=ax),
    "raster without spikes": lambda ax: plot_raster(record(SILENT, SILENT), (3, 3), np.full((2, 1), np.inf), ax=ax),
    "history": lambda ax: plot_history(history(3), ax=ax),
    "history without epochs": lambda ax: plot_history([], "loss", ax=ax),
    "states": lambda ax: plot_states([0.0, 1.0], np.ones((2, 2)), ("V", "I"), ax=ax),
    "states without times": lambda ax: plot_states([], np.ones((0, 2)), ("V", "I"), ax=ax),
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


def test_errors_have_a_ring_and_silence_is_an_error():
    ax = plot_plane(POINTS, [0, 1, 2], [0, 2, -1], ("yin", "yang", "dot"))
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


def test_shapes_that_do_not_fit_are_an_error():
    with pytest.raises(ValueError, match=r"times has shape \(2,\) and states \(3, 2\)"):
        plot_states([0.0, 1.0], np.ones((3, 2)))
    with pytest.raises(ValueError, match="pass the record of one sample"):
        plot_raster(record([[1.0, 2.0]]), (2,))
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
