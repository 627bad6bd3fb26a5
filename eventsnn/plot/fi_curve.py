"""Firing rate against current."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import ArrayLike, Float

from ..analysis import fi_curve
from ..neuron_models import NeuronModel
from ._axes import colour, own_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_fi_curve(
    neuron_model: type[NeuronModel],
    currents: Float[ArrayLike, " currents"],
    label: str | None = None,
    ax: "Axes | None" = None,
    **options: Any,
) -> "Axes":
    """The f-I curve of a neuron model: how fast it fires with a constant bias current.

    Curves that are drawn into the same axes get a colour each.

    **Arguments:**

    - `neuron_model`, `currents`, `options`: as in `eventsnn.fi_curve`, which computes the rates.
    - `label`: a name for the legend.
    """
    rates = fi_curve(neuron_model, currents, **options)
    ax = own_axes(ax, (5.2, 3.8))
    order = np.argsort(currents, kind="stable")
    style = {"color": colour(len(ax.lines)), "marker": "o", "markersize": 3, "lw": 1.5}
    ax.plot(np.asarray(currents)[order], rates[order], label=label, **style)
    ax.set(xlabel="bias current", ylabel="firing rate (Hz)")
    ax.set_ylim(bottom=0)
    ax.grid(color="0.9")
    if label is not None:
        ax.legend(frameon=False)
    return ax
