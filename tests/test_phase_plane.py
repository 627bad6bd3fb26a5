"""The phase plane of a neuron shows the equations of its model, in what the model shows of its state."""

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot

from eventsnn import LIF, QIF, DeltaLIF, NeuronModel
from eventsnn.plot import new_axes, plot_phase_plane

matplotlib.use("Agg")

LIMITS = ((-1.0, 2.0), (-3.0, 2.0))


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


class Adaptive(NeuronModel):
    """V' = I - V - A, I' = -I, A' = (V - A) / 4, threshold 1; a spike takes V to 0 and adds 0.5 to A."""

    channels = ("V", "I", "A")
    scale: jnp.ndarray

    def __init__(self, n_neurons, *, dtype=jnp.float32, key=None):
        self.scale = jnp.ones(n_neurons, dtype)

    def init_state(self, n_neurons):
        return jnp.zeros((n_neurons, 3), self.scale.dtype)

    def dynamics(self, t, y, args):
        v, i, a = (y[:, k] for k in range(3))
        return self.scale[:, None] * jnp.stack([i - v - a, -i, (v - a) / 4], axis=1)

    def spike_condition(self, t, y, args):
        return y[:, 0] - 1

    def input_spikes(self, y, weights):
        return y.at[:, 1].add(weights)

    def reset_spiked(self, y, spiked):
        after = jnp.stack([jnp.zeros_like(y[:, 0]), y[:, 1], y[:, 2] + 0.5], axis=1)
        return jnp.where(spiked[:, None], after, y)


class Blind(LIF):
    """Shows nothing of its state that would tell it."""

    def observe(self, y):
        return jnp.zeros_like(y)


def line(ax, label):
    """The points of the line with this label."""
    (found,) = (one for one in ax.lines if one.get_label() == label)
    points = found.get_xydata()
    return points[np.isfinite(points).all(axis=1)]


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def assert_on(points, function, tolerance=0.02):
    """The points lie where the function of both coordinates is 0."""
    assert len(points)
    np.testing.assert_allclose(function(points[:, 0], points[:, 1]), 0.0, atol=tolerance)


def test_the_lines_of_a_lif_neuron_are_those_of_its_equations():
    model = LIF(2, thresh=[9.0, 1.2], vreset=[0.0, -0.3], init_bias=[0.0, 0.5])
    ax = plot_phase_plane(model, limits=LIMITS, neuron=1)
    assert_on(line(ax, "dV/dt = 0"), lambda v, i: i + 0.5 - v)
    assert_on(line(ax, "dI/dt = 0"), lambda v, i: i)
    assert_on(line(ax, "threshold"), lambda v, i: v - 1.2)
    assert_on(line(ax, "reset"), lambda v, i: v + 0.3)
    assert np.ptp(line(ax, "threshold")[:, 1]) == 5.0
    assert (ax.get_xlim(), ax.get_ylim()) == LIMITS
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("V", "I")


def test_arrows_point_along_the_flow():
    # All the free dynamics do is to pull V to the left, where it is positive.
    ax = plot_phase_plane(LIF(1, tsyn=1e6), limits=((0.2, 0.9), (-0.1, 0.1)))
    segments = ax.collections[0].get_segments()
    assert segments and all(segment[-1][0] <= segment[0][0] for segment in segments)


def test_qif_is_drawn_in_its_potential():
    ax = plot_phase_plane(QIF(1, init_bias=0.1), limits=((-4.0, 5.0), (-3.0, 2.0)))
    # tmem V' = V (V - 1) + I + ic; steep in V at the ends of the plane.
    assert_on(line(ax, "dV/dt = 0"), lambda v, i: v * (v - 1) + i + 0.1, 0.05)
    assert labels(ax) == ["dV/dt = 0", "dI/dt = 0"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("V", "I")


def test_qif_is_drawn_in_its_phase_if_that_is_asked_for():
    ax = plot_phase_plane(QIF(1), limits=((-0.1, 1.1), (-3.0, 2.0)), observed=False)
    assert_on(line(ax, "threshold"), lambda phi, i: phi - 1)
    assert_on(line(ax, "reset"), lambda phi, i: phi)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("channel 0", "channel 1")


def test_other_channels_are_held_where_they_are_asked_to():
    ax = plot_phase_plane(Adaptive(2), ("V", "A"), LIMITS, held=[0.0, 1.5, 0.0])
    assert_on(line(ax, "dV/dt = 0"), lambda v, a: 1.5 - v - a)
    assert_on(line(ax, "dA/dt = 0"), lambda v, a: v - a)
    assert ax.get_title() == "I = 1.5"
    # A reset moves along the second channel as well.
    np.testing.assert_allclose(line(ax, "reset")[:, 1], line(ax, "threshold")[:, 1] + 0.5, atol=1e-5)


def test_channels_may_be_swapped():
    ax = plot_phase_plane(LIF(1), ("I", "V"), (LIMITS[1], LIMITS[0]))
    assert_on(line(ax, "threshold"), lambda i, v: v - 1)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("I", "V")


def test_a_trajectory_is_broken_and_marked_at_its_spikes():
    times = np.array([3.0, 0.0, 1.0, 2.0, 4.0])
    states = np.array([[0.0, 1.0], [0.2, 2.0], [0.6, 1.8], [0.98, 1.6], [0.3, 0.8]])
    ax = plot_phase_plane(LIF(1), times=times, states=states, spikes=[2.9, np.inf])
    np.testing.assert_array_equal(line(ax, "trajectory"), states[[1, 2, 3, 0, 4]])
    (whole,) = (one for one in ax.lines if one.get_label() == "trajectory")
    np.testing.assert_array_equal(np.isnan(whole.get_xdata()), [False, False, False, True, False, False])
    np.testing.assert_array_equal(line(ax, "start"), states[[1]])
    np.testing.assert_array_equal(line(ax, "spike"), states[[3]])
    # By default the plane is as large as the trajectory.
    np.testing.assert_allclose(ax.get_ylim(), (0.8 - 0.06, 2.0 + 0.06))


def test_a_spike_outside_the_plane_is_marked_at_its_edge():
    states = np.array([[0.0, 1.0], [900.0, 0.9], [-900.0, 0.8]])
    limits = ((-5.0, 5.0), (-1.0, 2.0))
    ax = plot_phase_plane(QIF(1), limits=limits, times=[0.0, 1.0, 2.0], states=states, spikes=[1.5])
    np.testing.assert_array_equal(line(ax, "spike"), [[5.0, 0.9]])


@pytest.mark.parametrize("spikes", [None, [], [np.inf]])
def test_a_trajectory_without_spikes_or_times_is_drawn_without_them(spikes):
    (ax,) = new_axes()
    assert plot_phase_plane(LIF(1), times=[0.0], states=[[0.1, 0.2]], spikes=spikes, ax=ax) is ax
    assert "spike" not in labels(ax) and "start" in labels(ax)
    empty = plot_phase_plane(LIF(1), times=[], states=np.empty((0, 2)), spikes=spikes)
    assert "trajectory" not in labels(empty)


def test_a_plane_without_lines_is_drawn():
    # Nothing passes through it, and beyond the threshold there is no flow.
    ax = plot_phase_plane(LIF(1), limits=((2.0, 3.0), (5.0, 6.0)))
    assert ax.get_legend() is None and not ax.lines


def test_a_plane_that_cannot_be_is_an_error():
    for model, wrong, message in [
        (DeltaLIF(1), {}, "DeltaLIF has the only channel V, expected two or more"),
        (LIF(1), {"channels": ("V", "V")}, r"channels is \('V', 'V'\), expected two different ones of V, I"),
        (LIF(1), {"channels": ("V", "U")}, "channel is 'U'"),
        (LIF(2), {"neuron": 2}, "neuron is 2, expected one of the 2 neurons"),
        (LIF(1), {"held": [0.0]}, r"held has shape \(1,\), expected \(2,\)"),
        (LIF(1), {"limits": ((1.0, 0.0), (0.0, 1.0))}, "both rising"),
        (LIF(1), {"spikes": [1.0]}, "spikes were given without a trajectory"),
        (LIF(1), {"times": [1.0]}, "times were given alone"),
        (LIF(1), {"times": [1.0], "states": np.ones((1, 2, 2))}, "pass the trajectory of one neuron"),
        (Blind(1), {}, "no state of Blind was found that observe shows as"),
    ]:
        with pytest.raises(ValueError, match=message):
            plot_phase_plane(model, **wrong)
    with pytest.raises(TypeError, match="expected an instance of a NeuronModel"):
        plot_phase_plane(LIF)


class NeverReset(Adaptive):
    """The same neuron, whose spikes leave it where it is."""

    def reset_spiked(self, y, spiked):
        return y


def test_a_neuron_that_is_not_reset_moves_on_beyond_its_threshold():
    labels = []
    for model in Adaptive, NeverReset:
        ax = plot_phase_plane(model(1), limits=LIMITS)
        labels.append({one.get_label() for one in ax.lines})
        # Stream lines of the neuron that is reset end at the threshold, V = 1.
        (streams,) = (found for found in ax.collections if type(found).__name__ == "LineCollection")
        furthest = max(path.vertices[:, 0].max() for path in streams.get_paths())
        assert (furthest > 1.5) == (model is NeverReset)
    assert "reset" in labels[0] and "reset" not in labels[1] and "threshold" in labels[1]
