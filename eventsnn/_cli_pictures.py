"""The pictures that a Yin-Yang run leaves in its folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from .evnn import FFEvNN
from .plot import new_axes, plot_history, plot_latencies, plot_plane, plot_raster
from .training.fit import EpochSummary
from .training.respond import record_one
from .training.yin_yang import CLASS_NAMES, YinYang, encode


def predicted_classes(spike_times: Float[np.ndarray, "samples classes"]) -> np.ndarray:
    """The output that spikes first, or -1 where none does, shape `(samples,)`."""
    return np.where(np.isfinite(spike_times).any(axis=1), np.argmin(spike_times, axis=1), -1)


def draw_pictures(
    folder: Path,
    network: FFEvNN,
    data: YinYang,
    spike_times: Float[np.ndarray, "samples classes"],
    history: Sequence[EpochSummary],
    sample: int = 0,
) -> list[Path]:
    """Write `plane.png`, `latencies.png`, `raster.png` and, with a history, `curves.png`.

    `spike_times` are the first spikes of the outputs for `data`, and `sample` is the one in the
    raster. **Raises:** `ImportError` without matplotlib.
    """
    return [
        _plane(folder, data, spike_times),
        _latencies(folder, data, spike_times),
        _raster(folder, network, data, sample),
        *([_curves(folder, history)] if history else []),
    ]


def _plane(folder: Path, data: YinYang, spike_times: np.ndarray) -> Path:
    (ax,) = new_axes(1, (5.6, 5.4))
    plot_plane(data.points, data.labels, predicted=predicted_classes(spike_times), class_names=CLASS_NAMES, ax=ax)
    return _write(folder / "plane.png", ax)


def _latencies(folder: Path, data: YinYang, spike_times: np.ndarray) -> Path:
    axes = new_axes(len(CLASS_NAMES), (4.8, 4.4))
    spiked = spike_times[np.isfinite(spike_times)]
    limits = (float(spiked.min()), float(spiked.max())) if spiked.size else None
    for number, (name, ax) in enumerate(zip(CLASS_NAMES, axes, strict=True)):
        plot_latencies(data.points, spike_times[:, number], f"output {number}: {name}", limits, ax=ax)
    return _write(folder / "latencies.png", axes[0])


def _raster(folder: Path, network: FFEvNN, data: YinYang, sample: int) -> Path:
    (ax,) = new_axes(1, (7.5, 5.0))
    in_spikes = encode(data.points[sample])
    plot_raster(record_one(network, in_spikes), network.layers, in_spikes, network.max_solver_time, ax=ax)
    x, y = data.points[sample]
    ax.set_title(f"sample {sample}: x = {x:.2f}, y = {y:.2f}, class {CLASS_NAMES[data.labels[sample]]}")
    return _write(folder / "raster.png", ax)


def _curves(folder: Path, history: Sequence[EpochSummary]) -> Path:
    axes = new_axes(2, (5.0, 3.6))
    plot_history(history, "loss", ax=axes[0])
    plot_history(history, "accuracy", ax=axes[1])
    return _write(folder / "curves.png", axes[0])


def _write(path: Path, ax) -> Path:
    ax.figure.savefig(path, dpi=150)
    return path
