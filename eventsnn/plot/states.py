"""States over time, with the spikes marked."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import ArrayLike, Float

from ..analysis import sample_traces
from ..evnn import EvNN, FFEvNN
from ._axes import LEGEND_BESIDE, colour, own_axes, several_axes
from ._observed import is_transformed, visible_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A legend of more neurons than this is longer than the picture is high.
_MOST_NAMES = 12


def plot_states(
    times: Float[ArrayLike, " times"],
    states: Float[ArrayLike, "times channels"] | Float[ArrayLike, "neurons times channels"],
    channels: Sequence[str] = (),
    channel: int | str | None = None,
    ax: "Axes | None" = None,
    *,
    spikes: Float[ArrayLike, " spikes"] | Float[ArrayLike, "neurons spikes"] | None = None,
    limits: tuple[float, float] | None = None,
) -> "Axes":
    """States over time, as `state_at_t` returns them, with a tick above for every spike.

    Of one neuron, shape `(times, channels)`, all channels are drawn; of several, shape
    `(neurons, times, channels)`, the first channel, a line for each neuron. Lines are broken where a spike
    resets the channel.

    **Arguments:**

    - `times`, `states`: in ms, in any order; infinite states are gaps.
    - `channels`: the names of the channels, `net.neurons[0].channels`.
    - `channel`: the number or the name of the only channel to draw.
    - `spikes`: spike times in ms, padded with `inf`, as `spikes_until_t` returns them; shape `(spikes,)`
        or `(neurons, spikes)`.
    - `limits`: the lowest and the highest value to show, by default all of them.

    **Raises:** `ValueError` for shapes that do not belong together, or a channel that does not exist.
    """
    values, times = np.asarray(states), np.asarray(times)
    if values.ndim not in (2, 3) or times.shape != values.shape[-2:-1]:
        raise ValueError(
            f"times has shape {times.shape} and states {values.shape}, expected (times,) and "
            "(times, channels) or (neurons, times, channels)"
        )
    trains = _trains(spikes, values)
    names = [channels[n] if n < len(channels) else f"channel {n}" for n in range(values.shape[-1])]
    chosen = None if channel is None and values.ndim == 2 else channel_number(channel or 0, names)
    ax = own_axes(ax, (7.0, 3.6))
    if chosen is None:
        lines = [(values[:, number], name, colour(number)) for number, name in enumerate(names)]
        _draw_lines(ax, times, lines, [trains[0]] * len(lines))
        ax.legend(**LEGEND_BESIDE)
    else:
        rows = values[None] if values.ndim == 2 else values
        lines = [(row[:, chosen], f"neuron {number}", colour(number)) for number, row in enumerate(rows)]
        _draw_lines(ax, times, lines, trains)
        ax.set_ylabel(names[chosen])
        _name_lines(ax)
    _frame(ax, limits)
    _mark_spikes(ax, trains, ["0.3"] if len(trains) == 1 else [colour(number) for number in range(len(trains))])
    ax.set_xlabel("time (ms)")
    return ax


def plot_traces(
    net: FFEvNN | EvNN,
    in_spikes: Float[ArrayLike, "inputs spikes"],
    *,
    layer: int = -1,
    neurons: Sequence[int] | None = None,
    channels: Sequence[int | str] | None = None,
    t_start: float = 0.0,
    t_end: float | None = None,
    n_times: int = 1000,
    ax: Any = None,
) -> np.ndarray:
    """Run a network and draw the states of its neurons over time, an axis for each channel.

    Spikes are ticks above the first axis, a row of them for each neuron, and dotted lines if there is one
    neuron only. States are sampled around spikes as well, so that they reach the threshold. What a model's
    `observe` computes may be infinite at a spike, as the potential of QIF: such a channel is cut off where
    it leaves the range that it is in most of the time.

    **Arguments:** those of `eventsnn.sample_traces`, and

    - `channels`: names or numbers of the channels to draw, by default all of them.
    - `ax`: as many axes as there are channels to draw.

    **Returns:** the array of axes, one for each channel.

    **Raises:** `ValueError` for a layer, neuron, channel or time that does not exist.
    """
    traces = sample_traces(net, in_spikes, layer=layer, neurons=neurons, t_start=t_start, t_end=t_end, n_times=n_times)
    n_channels = traces.states.shape[-1]
    names = [traces.channels[n] if n < len(traces.channels) else f"channel {n}" for n in range(n_channels)]
    numbers = range(n_channels) if channels is None else [channel_number(channel, names) for channel in channels]
    axes = several_axes(ax, len(numbers), "channel", (7.5, 2.4), stacked=True)
    model = net.neurons[layer] if isinstance(net, FFEvNN) else net.neurons
    for place, (one, number) in enumerate(zip(axes, numbers, strict=True)):
        values = traces.states[:, :, number]
        lines = [(row, f"neuron {k}", colour(n)) for n, (row, k) in enumerate(zip(values, traces.neurons, strict=True))]
        _draw_lines(one, traces.times, lines, traces.spikes)
        _frame(one, visible_range(values, True) if is_transformed(model) else None)
        if not place:
            _mark_spikes(one, traces.spikes, [tint for *_, tint in lines])
        if len(lines) == 1:
            for spike in traces.spikes[0][np.isfinite(traces.spikes[0])]:
                one.axvline(spike, color="0.6", lw=0.9, ls=(0, (1, 2)), zorder=0)
        one.set(ylabel=names[number], xlim=(t_start, net.max_solver_time if t_end is None else t_end))
    if len(axes):
        axes[-1].set_xlabel("time (ms)")
        _name_lines(axes[0])
    return axes


def channel_number(channel: int | str, names: Sequence[str]) -> int:
    """The number of a channel that is given by its number or name."""
    if isinstance(channel, str):
        if channel in names:
            return names.index(channel)
    elif -len(names) <= channel < len(names):
        return channel % len(names)
    raise ValueError(f"channel is {channel!r}, expected a number below {len(names)} or one of {', '.join(names)}")


def broken_at(
    times: Float[np.ndarray, " times"], values: Float[np.ndarray, "times *rest"], spikes: Float[np.ndarray, " spikes"]
) -> tuple[np.ndarray, np.ndarray]:
    """Times in order and the values there, with a gap where a spike resets them. Infinite values are gaps as well."""
    order = np.argsort(times, kind="stable")
    times, values = times[order], np.where(np.isfinite(values), values, np.nan)[order]
    spikes = spikes[np.isfinite(spikes)]
    # The state at a spike is the one after it.
    places = np.searchsorted(times, spikes, side="left")
    inside = (places > 0) & (places < len(times))
    places, spikes = places[inside], spikes[inside]
    if not len(places):
        return times, values
    # A channel that a spike leaves alone changes there as little as it does next to it, and stays in one piece.
    change = np.abs(np.diff(values, axis=0)).reshape(len(times) - 1, -1)
    beside = np.maximum(change[np.maximum(places - 2, 0)], change[np.minimum(places, len(change) - 1)])
    smooth = np.all(change[places - 1] <= 1.5 * beside, axis=1)
    places, spikes = places[~smooth], spikes[~smooth]
    return np.insert(times, places, spikes), np.insert(values, places, np.nan, axis=0)


def _trains(spikes: Any, values: np.ndarray) -> np.ndarray:
    """The spikes as `(neurons, spikes)`, for states of shape `(times, channels)` as `(1, spikes)`."""
    n_neurons = 1 if values.ndim == 2 else len(values)
    trains = np.full((n_neurons, 0), np.inf) if spikes is None else np.asarray(spikes, float)
    trains = trains[None] if trains.ndim == 1 and values.ndim == 2 else trains
    if trains.ndim != 2 or len(trains) != n_neurons:
        expected = f"({n_neurons}, spikes)" if values.ndim == 3 else "(spikes,)"
        raise ValueError(
            f"spikes has shape {np.asarray(spikes).shape}, expected {expected} for states of {values.shape}"
        )
    return trains


def _draw_lines(ax: "Axes", times: np.ndarray, lines: Sequence[tuple], trains: Iterable[np.ndarray]) -> None:
    for (values, name, tint), train in zip(lines, trains, strict=True):
        ax.plot(*broken_at(times, values, train), label=name, color=tint, lw=1.4)


def _name_lines(ax: "Axes") -> None:
    """A legend, if it fits beside the axes and there is more than one line to tell apart."""
    if 1 < len(ax.get_legend_handles_labels()[1]) <= _MOST_NAMES:
        ax.legend(**LEGEND_BESIDE)


def _frame(ax: "Axes", limits: tuple[float, float] | None) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    if limits is not None:
        ax.set_ylim(limits)


def _mark_spikes(ax: "Axes", trains: Iterable[np.ndarray], colours: Sequence[str]) -> None:
    """A row of ticks for each neuron, in room that is made above the lines."""
    rows = [train[np.isfinite(train)] for train in trains]
    if not sum(map(len, rows)):
        return
    row = min(0.06, 0.3 / len(rows))
    part = row * len(rows)
    low, high = ax.get_ylim()
    ticks = [tick for tick in ax.get_yticks() if low <= tick <= high]
    ax.set(ylim=(low, low + (high - low) / (1 - part)), yticks=ticks)
    ax.spines["left"].set_bounds(low, high)
    # A line that runs off to infinity ends below the ticks.
    cover = {"color": ax.get_facecolor(), "lw": 0, "zorder": 2.5}
    ax.fill_between([0, 1], 1 - part, 1, transform=ax.transAxes, **cover)
    for number, (train, tint) in enumerate(zip(rows, colours, strict=True)):
        # Ticks of many neurons overlap their neighbours: all are to be seen.
        middle, half = 1 - (number + 0.5) * row, max(0.4 * row, 0.01)
        ends = (middle - half, min(middle + half, 1.0))
        ax.vlines(train, *ends, color=tint, lw=1.6, zorder=3, transform=ax.get_xaxis_transform())
