"""Axes to draw into, and colours that everybody can tell apart."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which are distinct for colour-blind readers as well, without their yellow.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d")

LEGEND_BESIDE = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "frameon": False, "borderaxespad": 0.2}


def new_axes(n_columns: int = 1, size: tuple[float, float] = (5.0, 4.0)) -> list["Axes"]:
    """Axes beside each other in a figure that no window belongs to. `axes.figure.savefig` writes it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise _no_matplotlib() from error
    figure = Figure(figsize=(n_columns * size[0], size[1]), layout="constrained")
    return list(figure.subplots(1, n_columns, squeeze=False)[0])


def own_axes(ax: "Axes | None", size: tuple[float, float]) -> "Axes":
    """The axes given, or new ones in a figure of `size` inches that a notebook shows."""
    return ax if ax is not None else _figure(size).subplots()


def several_axes(ax: Any, n_axes: int, each: str, size: tuple[float, float], *, stacked: bool) -> np.ndarray:
    """The `n_axes` axes given, or new ones of `size` inches each: `stacked` with a common time, or side by side.

    **Raises:** `ValueError` if there are not as many as there are things to draw, one `each`.
    """
    if ax is not None:
        axes = np.ravel(np.array(ax, object))
        if len(axes) != n_axes:
            raise ValueError(f"ax holds {len(axes)} axes, expected {n_axes}: one for each {each}")
        return axes
    rows, columns = (n_axes, 1) if stacked else (1, n_axes)
    figure = _figure((columns * size[0], rows * size[1]))
    return np.ravel(figure.subplots(rows, columns, squeeze=False, sharex=stacked)) if n_axes else np.array([], object)


def colour(number: int) -> str:
    """The colour of the thing with this number."""
    return _COLOURS[number % len(_COLOURS)]


def _figure(size: tuple[float, float]) -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise _no_matplotlib() from error
    # Through pyplot, so that a notebook shows the figure.
    return pyplot.figure(figsize=size, layout="constrained")


def _no_matplotlib() -> ImportError:
    return ImportError("pictures need matplotlib: pip install 'eventsnn[plot]'")
