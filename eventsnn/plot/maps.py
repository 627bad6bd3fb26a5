"""What neurons answer, over a plane of inputs: classes, first spikes, firing rates."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import ArrayLike, Float, Int

from ._axes import colour, own_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_plane(
    points: Float[ArrayLike, "samples 2"],
    labels: Int[ArrayLike, " samples"],
    *,
    predicted: Int[ArrayLike, " samples"],
    class_names: Sequence[str] = (),
    ax: "Axes | None" = None,
) -> "Axes":
    """Points in the plane in the colour of the class they were given, errors with a ring.

    `predicted` is -1 where no output spiked; such a point is white.
    """
    ax = own_axes(ax, (5.2, 5.0))
    points, labels, predicted = np.reshape(points, (-1, 2)), np.asarray(labels), np.asarray(predicted)
    for number in range(max(len(class_names), int(np.max(labels, initial=-1)) + 1)):
        mask = predicted == number
        name = class_names[number] if number < len(class_names) else f"class {number}"
        ax.scatter(*points[mask].T, s=12, color=colour(number), linewidths=0, label=name)
    silent = predicted < 0
    if silent.any():
        ax.scatter(*points[silent].T, s=12, color="white", edgecolors="0.5", linewidths=0.6, label="no spike")
    wrong = predicted != labels
    ring = {"facecolors": "none", "edgecolors": "black", "linewidths": 1.1}
    ax.scatter(*points[wrong].T, s=62, label=f"error ({int(wrong.sum())} of {len(labels)})", **ring)
    _frame(ax, points, ("x", "y"))
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=5, fontsize=8, frameon=False, handletextpad=0.1)
    return ax


def plot_latencies(
    points: Float[ArrayLike, "samples 2"],
    spike_times: Float[ArrayLike, " samples"],
    name: str = "",
    limits: tuple[float, float] | None = None,
    ax: "Axes | None" = None,
    *,
    axis_names: tuple[str, str] = ("x", "y"),
) -> "Axes":
    """When an output spikes first, over the plane of inputs. Grey rings, or a grey area, where it does not.

    Points that fill a grid are drawn as areas, others as dots.

    **Arguments:**

    - `points`: the two inputs of every sample.
    - `spike_times`: the first spike for every sample in ms, `inf` where there is none.
    - `name`: the title.
    - `limits`: the times in ms at the ends of the colour scale, by default the range that occurs.
    - `axis_names`: what the two inputs are, with their unit.
    """
    times = np.asarray(spike_times, float)
    return _draw_map(points, times, np.isfinite(times), "first spike (ms)", "viridis_r", name, limits, axis_names, ax)


def plot_rates(
    points: Float[ArrayLike, "samples 2"],
    rates: Float[ArrayLike, " samples"],
    name: str = "",
    limits: tuple[float, float] | None = None,
    ax: "Axes | None" = None,
    *,
    axis_names: tuple[str, str] = ("x", "y"),
) -> "Axes":
    """How fast a neuron fires, over the plane of inputs. Grey rings, or a grey area, where the rate is 0.

    `rates` are in Hz, as `eventsnn.firing_rates` gives them; all else is as in `plot_latencies`.
    """
    rates = np.asarray(rates, float)
    return _draw_map(points, rates, rates > 0, "firing rate (Hz)", "viridis", name, limits, axis_names, ax)


def _draw_map(points, values, shown, unit, colours, name, limits, axis_names, ax) -> "Axes":
    """A colour at every point where there is a value to show, and grey elsewhere."""
    points = np.reshape(points, (-1, 2))
    if values.shape != (len(points),):
        raise ValueError(f"there are {len(points)} points and values of shape {values.shape}: expected one for each")
    ax = own_axes(ax, (5.2, 4.4))
    low, high = limits if limits is not None else (0.0, 1.0)
    if limits is None and shown.any():
        low, high = float(values[shown].min()), float(values[shown].max())
    grid = _grid_of(points)
    if grid is None:
        ax.scatter(*points[~shown].T, s=14, facecolors="none", edgecolors="0.75", linewidths=0.6)
        style = {"s": 14, "cmap": colours, "vmin": low, "vmax": high, "linewidths": 0}
        shades = ax.scatter(*points[shown].T, c=values[shown], **style)
    else:
        x, y, order = grid
        table = np.ma.array(values, mask=~shown)[order].reshape(len(y), len(x))
        shades = ax.pcolormesh(x, y, table, cmap=colours, vmin=low, vmax=high, shading="nearest", rasterized=True)
        ax.set_facecolor("0.9")
    ax.figure.colorbar(shades, ax=ax, label=unit, shrink=0.85)
    _frame(ax, points, axis_names)
    ax.set_title(name)
    return ax


def _grid_of(points: Float[np.ndarray, "samples 2"]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The columns and rows of a grid that the points fill, and their order in it; `None` if they fill none."""
    x, y = np.unique(points[:, 0]), np.unique(points[:, 1])
    if min(len(x), len(y)) < 2 or len(x) * len(y) != len(points) or len(np.unique(points, axis=0)) != len(points):
        return None
    return x, y, np.lexsort((points[:, 0], points[:, 1]))


def _frame(ax: "Axes", points: Float[np.ndarray, "samples 2"], names: tuple[str, str]) -> None:
    """The unit square, or what the points fill if that is something else."""
    ax.set(xlabel=names[0], ylabel=names[1])
    if np.all((points >= 0) & (points <= 1)):
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        return
    low, high = points.min(axis=0), points.max(axis=0)
    room = 0.02 * np.where(high > low, high - low, 1.0)
    ax.set(xlim=(low[0] - room[0], high[0] + room[0]), ylim=(low[1] - room[1], high[1] + room[1]))
