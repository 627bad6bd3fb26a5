"""How training went."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ._axes import colour, own_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_history(history: Sequence[Any], quantity: str = "accuracy", ax: "Axes | None" = None) -> "Axes":
    """A learning curve: `quantity` is `"loss"`, or `"accuracy"` in training and validation.

    `history` is a sequence of `EpochSummary`.
    """
    if quantity not in ("loss", "accuracy"):
        raise ValueError(f"quantity is {quantity!r}, expected 'loss' or 'accuracy'")
    ax = own_axes(ax, (5.0, 3.6))
    epochs = [entry.epoch for entry in history]
    style = {"marker": "o", "markersize": 3, "lw": 1.5}
    if quantity == "loss":
        ax.plot(epochs, [entry.loss for entry in history], color=colour(0), **style)
        ax.set_ylabel("training loss")
    else:
        ax.plot(epochs, [100 * e.train_accuracy for e in history], color=colour(0), label="training", **style)
        ax.plot(epochs, [100 * e.validation_accuracy for e in history], color=colour(1), label="validation", **style)
        ax.set_ylabel("accuracy (%)")
        ax.legend(frameon=False)
    ax.set_xlabel("epoch")
    ax.locator_params(axis="x", integer=True)
    ax.grid(color="0.9")
    return ax
