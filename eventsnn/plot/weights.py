"""Weight matrices of connections."""

from typing import TYPE_CHECKING, Any, overload

import numpy as np
from jaxtyping import Float

from ..connections import Dense, Sparse
from ..evnn import EvNN, FFEvNN
from ._axes import own_axes, several_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Beyond this no screen shows single weights, and the matrix of a sparse connection may not fit into memory.
_MOST_WEIGHTS = 25_000_000


@overload
def plot_weights(source: Dense | Sparse | EvNN, limit: float | None = None, ax: "Axes | None" = None) -> "Axes": ...
@overload
def plot_weights(source: FFEvNN, limit: float | None = None, ax: Any = None) -> np.ndarray: ...
def plot_weights(source: Any, limit: float | None = None, ax: Any = None) -> Any:
    """The weights from every input to every neuron: blue below 0, white at 0, red above, grey where none is.

    **Arguments:**

    - `source`: a connection, or a network. Of an `EvNN` the upper rows are its neurons and the lower
        ones its inputs. Several synapses from one input to one neuron are added up.
    - `limit`: the weight at the ends of the colour scale, by default the largest that occurs.
    - `ax`: axes to draw into; for an `FFEvNN` as many as it has layers.

    **Returns:** the axes; for an `FFEvNN` an array of them, one for each layer.

    **Raises:** `ValueError` if `limit` is not greater than 0, or for a matrix that no screen shows;
    `TypeError` if `source` is none of these.
    """
    if limit is not None and not limit > 0:
        raise ValueError(f"limit is {limit}, expected a weight greater than 0")
    if isinstance(source, FFEvNN):
        axes = several_axes(ax, len(source.layers), "layer", (4.6, 4.2), stacked=False)
        for number, (connection, one) in enumerate(zip(source.connections, axes, strict=True)):
            _draw(one, connection, limit, f"neuron of layer {number - 1}" if number else "input", f"layer {number}")
        return axes
    if isinstance(source, EvNN):
        ax = _draw(own_axes(ax, (5.2, 4.8)), source.connection, limit, "from", "")
        _part_rows(ax, source.n_neurons)
        return ax
    if isinstance(source, Dense | Sparse):
        return _draw(own_axes(ax, (5.0, 4.4)), source, limit, "input", "")
    raise TypeError(f"source is a {type(source).__name__}, expected a Dense or Sparse connection, an FFEvNN or an EvNN")


def weight_matrix(connection: Dense | Sparse) -> Float[np.ma.MaskedArray, "inputs neurons"]:
    """All weights of a connection, masked where there is none."""
    if isinstance(connection, Dense):
        mask = False if connection.mask is None else ~np.asarray(connection.mask)
        return np.ma.array(np.asarray(connection.weights), mask=mask)
    shape = (connection.n_inputs, connection.n_neurons)
    if shape[0] * shape[1] > _MOST_WEIGHTS:
        raise ValueError(
            f"a picture of {shape[0]} x {shape[1]} weights is too large, expected at most {_MOST_WEIGHTS:,} of them: "
            "draw a Sparse connection of some of the synapses"
        )
    values, mask = np.zeros(shape), np.ones(shape, bool)
    where = np.asarray(connection.rows), np.asarray(connection.targets)
    np.add.at(values, where, np.asarray(connection.weights))
    mask[where] = False
    return np.ma.array(values, mask=mask)


def _draw(ax: "Axes", connection: Dense | Sparse, limit: float | None, rows: str, title: str) -> "Axes":
    matrix = weight_matrix(connection)
    # An empty picture has no extent.
    n_rows, n_columns = (max(size, 1) for size in matrix.shape)
    # Of no weights at all, masked ones included, the largest is 0.
    largest = float(np.max(np.abs(matrix.compressed()), initial=0.0)) if limit is None else limit
    ax.set_facecolor("0.85")
    shades = ax.imshow(
        matrix if matrix.size else np.ma.masked_all((n_rows, n_columns)),
        cmap="RdBu_r",
        vmin=-largest or -1.0,
        vmax=largest or 1.0,
        aspect="equal" if max(n_rows, n_columns) < 4 * min(n_rows, n_columns) else "auto",
    )
    ax.figure.colorbar(shades, ax=ax, label="weight", shrink=0.85)
    ax.locator_params(integer=True)
    for axis, size in ((ax.yaxis, matrix.shape[0]), (ax.xaxis, matrix.shape[1])):
        if not size:
            axis.set_ticks([])
    ax.set(xlabel="neuron", ylabel=rows, title=title)
    return ax


def _part_rows(ax: "Axes", n_neurons: int) -> None:
    """Tell the rows of neurons from those of inputs."""
    ax.axhline(n_neurons - 0.5, color="black", lw=1.2)

    def name(row: float, position: float) -> str:
        if row < 0 or row != round(row):
            return ""
        return f"neuron {row:.0f}" if row < n_neurons else f"input {row - n_neurons:.0f}"

    ax.yaxis.set_major_formatter(name)
    ax.set(xlabel="to neuron", ylabel="")
