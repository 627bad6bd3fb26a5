"""Spikes as ticks: time against neuron."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import ArrayLike, Float

from ._axes import colour, own_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Block = tuple[str, np.ndarray, np.ndarray, int]
"""A name, spike times, the neuron of each, and how many neurons there are."""


def plot_raster(
    record: Any,
    layers: Sequence[int],
    in_spikes: Float[ArrayLike, "inputs spikes"] | None = None,
    t_end: float | None = None,
    ax: "Axes | None" = None,
    *,
    names: Sequence[str] = (),
) -> "Axes":
    """Every spike of one run as a tick: time against neuron, one block of rows per layer.

    **Arguments:**

    - `record`: what `net.record(in_spikes)` returned for one sample.
    - `layers`: the size of each layer, `net.layers`; of an `EvNN`, `[net.n_neurons]`.
    - `in_spikes`: draws the inputs, too, as the lowest block.
    - `t_end`: the end of the time axis in ms, by default the last spike.
    - `names`: what the layers are called.

    **Raises:** `ValueError` for the record of a batch, or of a network with other layers.
    """
    ax = own_axes(ax, (7.0, 4.5))
    blocks = [*_input_block(in_spikes), *_layer_blocks(record, layers, names)]
    widest = max((size for *_, size in blocks), default=1)
    bottom, ticks = 0.0, []
    for number, (name, times, neurons, size) in enumerate(blocks):
        # Small layers get higher rows, and ticks of large ones overlap their neighbours: all are to be seen.
        row = max(1.0, widest / 6 / max(size, 1))
        half = max(0.42 * row, widest / 120)
        spikes = np.isfinite(times)
        heights = bottom + (neurons[spikes] + 0.5) * row
        ax.vlines(times[spikes], heights - half, heights + half, color=colour(number), lw=1.4)
        ticks.append((bottom + size * row / 2, f"{name}\n({size})"))
        bottom += size * row
        ax.axhline(bottom, color="0.85", lw=0.8)
    ax.set_yticks([position for position, _ in ticks], [name for _, name in ticks])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(0, bottom or 1.0)
    ax.set_xlabel("time (ms)")
    last = max((float(t) for _, times, *_ in blocks for t in times[np.isfinite(times)]), default=1.0)
    end = t_end if t_end is not None else 1.05 * last or 1.0
    # A little room, so that a spike at 0 shows in full.
    ax.set_xlim(-0.01 * end, end)
    return ax


def _layer_blocks(record: Any, layers: Sequence[int], names: Sequence[str]) -> list[Block]:
    shapes = [np.shape(times) for times in record.times]
    if len(shapes) != len(layers) or any(len(shape) != 1 for shape in shapes):
        raise ValueError(
            f"the record has {len(shapes)} layers with times of shapes {shapes}, expected "
            f"{len(layers)} layers of shape (spikes,): pass the record of one sample"
        )
    if len(names) not in (0, len(layers)):
        raise ValueError(f"names has {len(names)} entries, expected one for each of the {len(layers)} layers")
    blocks = []
    for number, size in enumerate(layers):
        neurons = np.asarray(record.neurons[number])
        highest = int(np.max(neurons, initial=-1))
        if highest >= size:
            raise ValueError(f"layer {number} has a spike of neuron {highest}, expected less than its size {size}")
        name = "neurons" if len(layers) == 1 else "outputs" if number == len(layers) - 1 else f"layer {number}"
        blocks.append((names[number] if names else name, np.asarray(record.times[number]), neurons, size))
    return blocks


def _input_block(in_spikes: Any) -> list[Block]:
    """The inputs, if there are any."""
    if in_spikes is None or not len(in_spikes):
        return []
    in_spikes = np.asarray(in_spikes)
    if in_spikes.ndim != 2:
        raise ValueError(f"in_spikes has shape {in_spikes.shape}, expected (inputs, spikes): pass one sample")
    channels = np.broadcast_to(np.arange(in_spikes.shape[0])[:, None], in_spikes.shape)
    return [("inputs", in_spikes.ravel(), channels.ravel(), in_spikes.shape[0])]
