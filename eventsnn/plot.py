"""Pictures of spikes, states and training.

Every function draws into `ax`, or into new axes if it is `None`, and returns the axes. They need
matplotlib: `pip install 'eventsnn[plot]'`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import ArrayLike, Float, Int

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CLASS_COLOURS = ("#c44e52", "#4c72b0", "#4d4d4d", "#dd8452", "#55a868", "#8172b3")


def plot_plane(
    points: Float[ArrayLike, "samples 2"],
    labels: Int[ArrayLike, " samples"],
    predicted: Int[ArrayLike, " samples"],
    class_names: Sequence[str] = (),
    ax: "Axes | None" = None,
) -> "Axes":
    """Points in the plane in the colour of the class they were given, errors with a ring.

    `predicted` is -1 where no output spiked; such a point is white.
    """
    ax = _axes(ax, (5.2, 5.0))
    points, labels, predicted = np.reshape(points, (-1, 2)), np.asarray(labels), np.asarray(predicted)
    for number in range(max(len(class_names), int(np.max(labels, initial=-1)) + 1)):
        mask = predicted == number
        name = class_names[number] if number < len(class_names) else f"class {number}"
        ax.scatter(*points[mask].T, s=12, color=_colour(number), linewidths=0, label=name)
    silent = predicted < 0
    if silent.any():
        ax.scatter(*points[silent].T, s=12, color="white", edgecolors="0.5", linewidths=0.6, label="no spike")
    wrong = predicted != labels
    ring = {"facecolors": "none", "edgecolors": "black", "linewidths": 1.1}
    ax.scatter(*points[wrong].T, s=62, label=f"error ({int(wrong.sum())} of {len(labels)})", **ring)
    _square(ax)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=5, fontsize=8, frameon=False, handletextpad=0.1)
    return ax


def plot_latencies(
    points: Float[ArrayLike, "samples 2"],
    spike_times: Float[ArrayLike, " samples"],
    name: str = "",
    limits: tuple[float, float] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """When an output spikes first, over the plane of inputs. Grey rings stand where it does not.

    `limits` are the times in ms at the ends of the colour scale, by default the range that occurs.
    """
    ax = _axes(ax, (5.2, 4.4))
    points, times = np.reshape(points, (-1, 2)), np.asarray(spike_times, float)
    spiked = np.isfinite(times)
    ax.scatter(*points[~spiked].T, s=14, facecolors="none", edgecolors="0.75", linewidths=0.6)
    low, high = limits if limits is not None else (0.0, 1.0)
    if limits is None and spiked.any():
        low, high = float(times[spiked].min()), float(times[spiked].max())
    shades = ax.scatter(*points[spiked].T, s=14, c=times[spiked], cmap="viridis_r", vmin=low, vmax=high, linewidths=0)
    ax.figure.colorbar(shades, ax=ax, label="first spike (ms)", shrink=0.85)
    _square(ax)
    ax.set_title(name)
    return ax


def plot_raster(
    record: Any,
    layers: Sequence[int],
    in_spikes: Float[ArrayLike, "inputs spikes"] | None = None,
    t_end: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Every spike of one run as a tick: time against neuron, one block of rows per layer.

    **Arguments:**

    - `record`: what `net.record(in_spikes)` returned for one sample.
    - `layers`: the size of each layer, `net.layers`.
    - `in_spikes`: draws the inputs, too, as the lowest block.
    - `t_end`: the end of the time axis in ms, by default the last spike.
    """
    ax = _axes(ax, (7.0, 4.5))
    if len(record.times) != len(layers) or any(np.ndim(times) != 1 for times in record.times):
        raise ValueError(
            f"the record has {len(record.times)} layers with times of shape {np.shape(record.times[0])}, expected "
            f"{len(layers)} layers of shape (spikes,): pass the record of one sample"
        )
    blocks = [] if in_spikes is None else [("inputs", *_flat_inputs(in_spikes))]
    for number, size in enumerate(layers):
        name = "outputs" if number == len(layers) - 1 else f"layer {number}"
        blocks.append((name, np.asarray(record.times[number]), np.asarray(record.neurons[number]), size))
    widest = max(size for *_, size in blocks)
    bottom, ticks = 0.0, []
    for number, (name, times, neurons, size) in enumerate(blocks):
        # Small layers get higher rows, and ticks of large ones overlap their neighbours: all are to be seen.
        row = max(1.0, widest / 6 / max(size, 1))
        half = max(0.42 * row, widest / 120)
        spikes = np.isfinite(times)
        heights = bottom + (neurons[spikes] + 0.5) * row
        ax.vlines(times[spikes], heights - half, heights + half, color=_colour(number), lw=1.4)
        ticks.append((bottom + size * row / 2, f"{name}\n({size})"))
        bottom += size * row
        ax.axhline(bottom, color="0.85", lw=0.8)
    ax.set_yticks([position for position, _ in ticks], [name for _, name in ticks])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(0, bottom)
    ax.set_xlabel("time (ms)")
    last = max((float(t) for _, times, *_ in blocks for t in times[np.isfinite(times)]), default=1.0)
    end = t_end if t_end is not None else 1.05 * last or 1.0
    # A little room, so that a spike at 0 shows in full.
    ax.set_xlim(-0.01 * end, end)
    return ax


def plot_history(history: Sequence[Any], quantity: str = "accuracy", ax: "Axes | None" = None) -> "Axes":
    """A learning curve: `quantity` is `"loss"`, or `"accuracy"` in training and validation.

    `history` is a sequence of `EpochSummary`.
    """
    if quantity not in ("loss", "accuracy"):
        raise ValueError(f"quantity is {quantity!r}, expected 'loss' or 'accuracy'")
    ax = _axes(ax, (5.0, 3.6))
    epochs = [entry.epoch for entry in history]
    style = {"marker": "o", "markersize": 3, "lw": 1.5}
    if quantity == "loss":
        ax.plot(epochs, [entry.loss for entry in history], color=_colour(2), **style)
        ax.set_ylabel("training loss")
    else:
        ax.plot(epochs, [100 * e.train_accuracy for e in history], color=_colour(0), label="training", **style)
        ax.plot(epochs, [100 * e.validation_accuracy for e in history], color=_colour(1), label="validation", **style)
        ax.set_ylabel("accuracy (%)")
        ax.legend(frameon=False)
    ax.set_xlabel("epoch")
    ax.locator_params(axis="x", integer=True)
    ax.grid(color="0.9")
    return ax


def plot_states(
    times: Float[ArrayLike, " times"],
    states: Float[ArrayLike, "times channels"] | Float[ArrayLike, "neurons times channels"],
    channels: Sequence[str] = (),
    channel: int = 0,
    ax: "Axes | None" = None,
) -> "Axes":
    """States over time, as `state_at_t` returns them.

    Of one neuron, shape `(times, channels)`, all channels are drawn; of several, shape
    `(neurons, times, channels)`, the one with the number `channel`. `channels` are their names.
    """
    values, times = np.asarray(states), np.asarray(times)
    if values.ndim not in (2, 3) or times.shape != values.shape[-2:-1]:
        raise ValueError(
            f"times has shape {times.shape} and states {values.shape}, expected (times,) and "
            "(times, channels) or (neurons, times, channels)"
        )
    ax = _axes(ax, (7.0, 3.6))
    names = [channels[n] if n < len(channels) else f"channel {n}" for n in range(values.shape[-1])]
    order = np.argsort(times, kind="stable")
    # An infinite potential, as at the spike of a QIF neuron, is a gap.
    values = np.where(np.isfinite(values), values, np.nan)[..., order, :]
    if values.ndim == 2:
        for number, name in enumerate(names):
            ax.plot(times[order], values[:, number], label=name, color=_colour(number), lw=1.5)
        ax.legend(frameon=False)
    else:
        for neuron in range(len(values)):
            ax.plot(times[order], values[neuron, :, channel], lw=1.2)
        ax.set_ylabel(names[channel])
    ax.set_xlabel("time (ms)")
    return ax


def new_axes(n_columns: int = 1, size: tuple[float, float] = (5.0, 4.0)) -> list["Axes"]:
    """Axes beside each other in a figure that no window belongs to. `axes.figure.savefig` writes it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise _no_matplotlib() from error
    figure = Figure(figsize=(n_columns * size[0], size[1]), layout="constrained")
    return list(figure.subplots(1, n_columns, squeeze=False)[0])


def _axes(ax: "Axes | None", size: tuple[float, float]) -> "Axes":
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise _no_matplotlib() from error
    # Through pyplot, so that a notebook shows the figure.
    return pyplot.figure(figsize=size, layout="constrained").subplots()


def _no_matplotlib() -> ImportError:
    return ImportError("pictures need matplotlib: pip install 'eventsnn[plot]'")


def _colour(number: int) -> str:
    return _CLASS_COLOURS[number % len(_CLASS_COLOURS)]


def _square(ax: "Axes") -> None:
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xlabel="x", ylabel="y")


def _flat_inputs(in_spikes: Any) -> tuple[np.ndarray, np.ndarray, int]:
    in_spikes = np.asarray(in_spikes)
    channels = np.broadcast_to(np.arange(in_spikes.shape[0])[:, None], in_spikes.shape)
    return in_spikes.ravel(), channels.ravel(), in_spikes.shape[0]
