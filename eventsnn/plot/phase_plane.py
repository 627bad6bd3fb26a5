"""The phase plane of a neuron."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from jaxtyping import ArrayLike, Float

from ..neuron_models import NeuronModel
from ._axes import LEGEND_BESIDE, colour, own_axes
from ._observed import OneNeuron, flow_at, is_transformed, one_neuron, visible_range
from .states import broken_at, channel_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Points along each axis at which the dynamics are evaluated.
_GRID = 96

Limits = tuple[tuple[float, float], tuple[float, float]]
Trajectory = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Times, states and spike times."""


def plot_phase_plane(
    model: NeuronModel,
    channels: Sequence[int | str] = (0, 1),
    limits: Limits | None = None,
    *,
    held: Float[ArrayLike, " channels"] | None = None,
    neuron: int = 0,
    t: float = 0.0,
    args: Any = None,
    observed: bool = True,
    times: Float[ArrayLike, " times"] | None = None,
    states: Float[ArrayLike, "times channels"] | None = None,
    spikes: Float[ArrayLike, " spikes"] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """The dynamics of a neuron in the plane of two of its channels.

    Grey lines follow the free dynamics, thicker where they are faster. Two lines show where either channel
    does not change. Where the threshold passes through the plane it is dashed, with a grey area beyond it,
    and the line that spikes at the threshold are reset to is dotted. Neurons that are not reset go on beyond their
    threshold, and so do the lines.

    The plane is that of what `observe` shows: for each of its points the state is computed that is shown
    there, and velocities are those of what is shown. So QIF is drawn in its potential, although its state is a
    phase. Its threshold is at infinity, and a spike that lies outside the plane is marked at its edge.

    **Arguments:**

    - `model`: the neurons, for example `net.neurons[0]` or `LIF(1)`.
    - `channels`: the numbers or names of the two channels.
    - `limits`: from where to where each axis goes; by default as far as the trajectory, or 1.5 to both
        sides of the initial state.
    - `held`: the values of all channels, of which those that are not drawn are held at theirs. By default
        the initial state. The title tells them.
    - `neuron`: which neuron of the model to draw.
    - `t`, `args`: the time in ms and the arguments that `dynamics` and `spike_condition` are called with.
    - `observed`: if `False`, the plane, `held` and the trajectory are those of the state itself.
    - `times`, `states`, `spikes`: a trajectory, as `state_at_t` and `spikes_until_t` return it for one neuron:
        times in ms, states of shape `(times, channels)`, and spike times in ms.

    **Raises:** `ValueError` for a model with fewer than two channels, a channel or neuron that does not exist,
    shapes that do not belong together, or a point that is not what `observe` shows of any state; `TypeError`
    for a model that is not an instance.
    """
    if not isinstance(model, NeuronModel):
        raise TypeError(f"model is {model!r}, expected an instance of a NeuronModel: pass net.neurons[0], or LIF(1)")
    one = one_neuron(model, neuron, t, args, observed)
    initial = np.asarray(one.shown(one.initial), float)
    names = _names(model, len(initial), observed)
    if len(initial) < 2:
        raise ValueError(f"{type(model).__name__} has the only channel {names[0]}, expected two or more for a plane")
    if len(channels) != 2 or channel_number(channels[0], names) == channel_number(channels[1], names):
        raise ValueError(f"channels is {channels!r}, expected two different ones of {', '.join(names)}")
    pair = [channel_number(channel, names) for channel in channels]
    base = initial if held is None else np.asarray(held, float)
    if base.shape != initial.shape:
        raise ValueError(f"held has shape {base.shape}, expected {initial.shape}: one value for each channel")
    path = _trajectory(times, states, spikes, len(initial))
    if limits is None:
        limits = _default_limits(path, initial, pair, is_transformed(model) and observed)
    if np.shape(limits) != (2, 2) or not np.all(np.isfinite(limits)) or not np.all(np.diff(limits) > 0):
        raise ValueError(f"limits is {limits}, expected ((left, right), (bottom, top)), both rising")
    ax = own_axes(ax, (6.4, 4.4))
    _draw_flow(ax, one, base, pair, limits, [names[number] for number in pair])
    if path is not None:
        _draw_trajectory(ax, path, pair, limits)
    others = [f"{name} = {base[k]:.3g}" for k, name in enumerate(names) if k not in pair]
    ax.set(xlim=limits[0], ylim=limits[1], xlabel=names[pair[0]], ylabel=names[pair[1]], title=", ".join(others))
    if ax.get_legend_handles_labels()[1]:
        ax.legend(**LEGEND_BESIDE)
    return ax


def _draw_flow(ax: "Axes", one: OneNeuron, base: np.ndarray, pair: Sequence[int], limits: Limits, names) -> None:
    """Stream lines, nullclines, threshold and reset."""
    x, y = (np.linspace(*ends, _GRID) for ends in limits)
    points = _points(base, pair, np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))
    flow = flow_at(one, points)
    velocity, condition = flow.velocity[:, pair].reshape(_GRID, _GRID, 2), flow.condition.reshape(_GRID, _GRID)
    # A neuron that is reset is never beyond its threshold; one that is not goes on there.
    is_reset = not np.allclose(flow.after_reset, points, rtol=1e-3, atol=1e-6)
    beyond = (condition > 0) & is_reset
    # Speeds are compared as they are seen: in parts of the picture per ms.
    speed = np.hypot(velocity[..., 0] / np.ptp(x), velocity[..., 1] / np.ptp(y))
    fastest = np.max(speed[~beyond], initial=0.0)
    if fastest > 0:
        u, v = (np.ma.array(velocity[..., k], mask=beyond) for k in (0, 1))
        width = 0.4 + 1.2 * np.sqrt(np.minimum(speed / fastest, 1))
        ax.streamplot(x, y, u, v, color="0.75", linewidth=width, density=1.1, arrowsize=0.8, zorder=1)
    for number, name in enumerate(names):
        change = f"d({name})/dt = 0" if " " in name else f"d{name}/dt = 0"
        _draw_level(ax, x, y, velocity[..., number], change, color=colour(number), lw=2.0, zorder=2)
    if beyond.any():
        ax.contourf(x, y, condition, levels=[0, np.inf], colors=["0.5"], alpha=0.15, zorder=0)
    threshold = _draw_level(ax, x, y, condition, "threshold", color="0.2", lw=1.5, ls="--", zorder=2)
    if threshold and is_reset:
        resets = [flow_at(one, _points(base, pair, line)).after_reset[:, pair] for line in threshold]
        _draw_lines(ax, resets, "reset", color="0.2", lw=1.5, ls=":", zorder=2)


def _draw_trajectory(ax: "Axes", path: Trajectory, pair: Sequence[int], limits: Limits) -> None:
    """A line that is broken at spikes, with marks there and a ring at its start."""
    times, states, spikes = path
    if not len(times):
        return
    ax.plot(*broken_at(times, states[:, pair], spikes)[1].T, color="black", lw=1.3, label="trajectory", zorder=3)
    order = np.argsort(times, kind="stable")
    ax.plot(*states[order[0], pair], "o", ms=7, mfc="white", mec="black", label="start", zorder=4)
    places = np.searchsorted(times[order], spikes, side="left")
    places = places[(places > 0) & (places < len(times))]
    if len(places):
        low, high = np.transpose(limits)
        marks = np.clip(states[order[places - 1]][:, pair], low, high)
        style = {"ms": 6, "color": colour(3), "mec": "black", "mew": 0.6, "zorder": 5}
        ax.plot(*marks.T, "D", label="spike", clip_on=False, **style)


def _draw_level(ax: "Axes", x: np.ndarray, y: np.ndarray, values: np.ndarray, label: str, **style) -> list[np.ndarray]:
    """The lines along which the values are 0, which are returned as well, each of shape `(points, 2)`."""
    from contourpy import contour_generator

    lines = cast(list[np.ndarray], contour_generator(x, y, values).lines(0.0))
    _draw_lines(ax, lines, label, **style)
    return lines


def _draw_lines(ax: "Axes", lines: Sequence[np.ndarray], label: str, **style) -> None:
    """All lines as one, with gaps between them."""
    if lines:
        gap = np.full((1, 2), np.nan)
        ax.plot(*np.concatenate([part for line in lines for part in (line, gap)]).T, label=label, **style)


def _points(base: np.ndarray, pair: Sequence[int], places: np.ndarray) -> np.ndarray:
    """The whole state at places of the plane."""
    points = np.repeat(base[None], len(places), axis=0)
    points[:, pair] = places
    return points


def _trajectory(times: Any, states: Any, spikes: Any, n_channels: int) -> Trajectory | None:
    if times is None and states is None:
        if spikes is not None:
            raise ValueError("spikes were given without a trajectory: pass times and states as well")
        return None
    if times is None or states is None:
        raise ValueError(f"{'states' if times is None else 'times'} were given alone: pass both times and states")
    times, states, spikes = np.asarray(times), np.asarray(states), np.asarray(() if spikes is None else spikes, float)
    if states.shape != (*times.shape, n_channels) or times.ndim != 1 or spikes.ndim != 1:
        raise ValueError(
            f"times has shape {times.shape}, states {states.shape} and spikes {spikes.shape}, expected (times,), "
            f"(times, {n_channels}) and (spikes,): pass the trajectory of one neuron"
        )
    return times, states, spikes[np.isfinite(spikes)]


def _default_limits(path: Trajectory | None, initial: np.ndarray, pair: Sequence[int], transformed: bool) -> Limits:
    values = initial[None] + np.array([[-1.5], [1.5]]) if path is None or not len(path[0]) else path[1]
    return cast(Limits, tuple(visible_range(values[:, number], transformed) for number in pair))


def _names(model: NeuronModel, n_channels: int, observed: bool) -> list[str]:
    """The names of the channels. Those of a transformed state do not belong to the state itself."""
    named = model.channels if observed or not is_transformed(model) else ()
    return [named[k] if k < len(named) else f"channel {k}" for k in range(n_channels)]
