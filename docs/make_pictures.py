"""Draws the pictures of the documentation: `python docs/make_pictures.py` writes docs/pictures/*.png."""

import csv
import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from eventsnn import LIF, QIF, FFEvNN, sample_traces
from eventsnn.plot import plot_fi_curve, plot_phase_plane, plot_traces, plot_weights

PICTURES = Path(__file__).parent / "pictures"

INK, GREY, FAINT = "#1d2733", "#7b8794", "#d5dbe1"
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#8a4fa3"

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 2.2,
    "savefig.dpi": 160,
    "figure.facecolor": "white",
}


def one_neuron(model, weights, in_size, end, **hyperparameters) -> FFEvNN:
    """A network of a single neuron with given weights."""
    return FFEvNN(
        layers=[1],
        in_size=in_size,
        neuron_model=model,
        max_solver_time=end,
        key=jax.random.PRNGKey(0),
        init_weights=jnp.asarray(weights, jnp.float32).reshape(in_size, 1),
        rtol=1e-6,
        atol=1e-7,
        **hyperparameters,
    )


def trace(net: FFEvNN, in_spikes, end: float, channel: int):
    """One channel of the only neuron, drawn up to each spike and from just after it."""
    spikes = np.asarray(net.spikes_until_t(in_spikes, end, max_spikes=20)[0], float)
    spikes = spikes[np.isfinite(spikes)]
    times = np.union1d(np.linspace(0, end, 1500), np.concatenate([spikes - 1e-3, spikes + 1e-3])).astype(np.float32)
    values = np.array(net.state_at_t(in_spikes, times)[0, :, channel])
    # A gap in the line where the state jumps.
    for spike in spikes:
        after = np.searchsorted(times, spike)
        times, values = np.insert(times, after, spike), np.insert(values, after, np.nan)
    return times, values, spikes


def mark_arrivals(axes, in_spikes, weights, y: float, length: float) -> None:
    """Ticks below the axis: up for excitation, down for inhibition."""
    for row, weight in zip(np.asarray(in_spikes), weights, strict=True):
        colour = BLUE if weight > 0 else ORANGE
        for time in row[np.isfinite(row)]:
            axes.plot([time, time], [y, y + length], color=colour, lw=2.4, solid_capstyle="butt", clip_on=False)


def draw_run(axes) -> None:
    """A LIF neuron: what arrives, the potential, the spikes."""
    weights = (4.6, -3.0)
    in_spikes = jnp.array([[3.0, 8.0, 16.0, 22.0, 37.0, 40.0, 51.0], [26.0, 45.0, *[jnp.inf] * 5]], jnp.float32)
    net = one_neuron(LIF, weights, 2, 60.0, thresh=1.0, tmem=20.0, tsyn=5.0)
    times, potential, spikes = trace(net, in_spikes, 60.0, 0)
    axes.axhline(1, color=GREY, lw=1.1, ls=(0, (4, 3)))
    axes.text(0.6, 1.03, "threshold", ha="left", va="bottom", color=GREY, fontsize=10.5)
    axes.plot(times, potential, color=INK)
    for spike in spikes:
        axes.plot([spike, spike], [0, 1], color=INK, lw=1, ls=(0, (1, 2)))
        axes.plot(spike, 1, "o", ms=8, color=PURPLE, zorder=3)
        axes.annotate(
            f"{spike:.2f}", (spike, 1), (0, 10), textcoords="offset points", ha="center", color=PURPLE, fontsize=10.5
        )
    mark_arrivals(axes, in_spikes, weights, -0.42, 0.16)
    axes.text(0.6, -0.2, "input", va="bottom", color=GREY, fontsize=10.5)
    axes.set(xlim=(0, 60), ylim=(-0.45, 1.3), yticks=[0, 0.5, 1], xlabel="time [ms]", ylabel="potential V")
    axes.set_title("Spikes are found where they happen")


def draw_gradient(axes) -> None:
    """Spike time against weight, with tangents from the gradient."""
    in_spikes = jnp.array([[0.0, 4.0]], jnp.float32)
    net = one_neuron(LIF, [4.0], 1, 40.0, thresh=1.0, tmem=20.0, tsyn=5.0)

    def spike_time(weight):
        one = eqx.tree_at(lambda net: net.connections[0].weights, net, weight.reshape(1, 1))
        return one.ttfs(in_spikes)[0]

    weights = jnp.linspace(2.5, 12.0, 500, dtype=jnp.float32)
    times = np.asarray(jax.vmap(spike_time)(weights))
    axes.plot(weights, times, color=INK)
    places = jnp.array([3.75, 5.0, 6.6, 9.5], jnp.float32)
    heights, slopes = jax.vmap(jax.value_and_grad(spike_time))(places)
    for place, height, slope, colour in zip(places, heights, slopes, [PURPLE, BLUE, GREEN, ORANGE], strict=True):
        # Tangents of about equal length on paper.
        reach = 1.25 / np.hypot(1, 0.55 * float(slope))
        x = np.array([place - reach, place + reach])
        axes.plot(x, height + slope * (x - place), color=colour, lw=3, alpha=0.85)
        axes.plot(place, height, "o", ms=8, color=colour, zorder=3)
        axes.annotate(
            f"{float(slope):.2f}".replace("-", "\u2212"),
            (place, height),
            (9, 7),
            textcoords="offset points",
            color=colour,
            fontsize=11,
        )
    silent = float(weights[np.isfinite(times)][0])
    axes.axvspan(2.5, silent, color=FAINT, alpha=0.45, lw=0)
    axes.text((2.5 + silent) / 2, 2.2, "silent", ha="center", va="bottom", rotation=90, color=GREY, fontsize=10.5)
    axes.axhline(4, color=GREY, lw=1.1, ls=(0, (4, 3)), zorder=0)
    axes.text(11.9, 4.1, "second input", ha="right", va="bottom", color=GREY, fontsize=10.5)
    axes.set(xlim=(2.5, 12), ylim=(1.8, 11.5), xlabel="weight w", ylabel="first spike t [ms]")
    axes.text(11.9, 10.9, "tangents: dt/dw from jax.grad", ha="right", va="top", color=GREY, fontsize=10.5)
    axes.set_title("Gradients go through spike times")


def draw_readme() -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(12.5, 4.4), width_ratios=[1.45, 1])
    draw_run(left)
    draw_gradient(right)
    figure.tight_layout(w_pad=3)
    figure.savefig(PICTURES / "events_and_gradients.png")
    plt.close(figure)


def draw_plotting() -> None:
    """What `eventsnn.plot` offers, as it comes."""
    in_spikes = jnp.array([[2.0, 6.0, 10.0, 30.0], [4.0, 8.0, 34.0, 46.0]], jnp.float32)
    net = FFEvNN([6, 3], 2, LIF, 60.0, jax.random.PRNGKey(3), wmean=2.0, wlim=5.0)
    figure = plt.figure(figsize=(13, 7.6), layout="constrained")
    upper, lower = figure.subfigures(2, 1, hspace=0.04)
    left, right = upper.subfigures(1, 2, width_ratios=[1.25, 1])
    plot_traces(net, in_spikes, layer=0, neurons=[0, 1, 5], ax=left.subplots(2, 1, sharex=True))
    one = one_neuron(QIF, [14.0], 1, 60.0)
    run = sample_traces(one, in_spikes[:1], n_times=4000)
    path = {"times": run.times, "states": run.states[0], "spikes": run.spikes[0]}
    plot_phase_plane(QIF(1), limits=((-8, 8), (-8, 28)), **path, ax=right.subplots())
    left, right = lower.subfigures(1, 2, width_ratios=[1, 1.25])
    curves = left.subplots()
    for model in (LIF, QIF):
        plot_fi_curve(model, np.linspace(0, 3, 31), model.__name__, ax=curves, duration=600.0, transient=100.0)
    plot_weights(net, ax=right.subplots(1, 2))
    figure.savefig(PICTURES / "plotting.png", dpi=110)
    plt.close(figure)


# Test accuracy after 1, 3, 10, 20, 50 and 100 epochs, as published for EventProp on Yin-Yang.
PUBLISHED = {1: 81.1, 3: 94.5, 10: 96.5, 20: 97.4, 50: 97.8, 100: 98.1}


def draw_learning_curves(rows: list[dict[str, str]]) -> None:
    """The validation accuracy of some runs next to the published curve. `rows` have a seed, an epoch and that."""
    figure, ax = plt.subplots(figsize=(7.5, 4.6))
    for seed in sorted({row["seed"] for row in rows}):
        run = [row for row in rows if row["seed"] == seed]
        errors = [100 - 100 * float(row["validation_accuracy"]) for row in run]
        ax.plot([int(row["epoch"]) for row in run], errors, color=BLUE, lw=1.1, alpha=0.75)
    ax.plot(list(PUBLISHED), [100 - value for value in PUBLISHED.values()], "o", color=ORANGE, ms=8, zorder=3)
    ax.annotate("published", (20, 14), color=ORANGE)
    ax.annotate("five seeds, validation", (20, 10.5), color=BLUE)
    ax.set(xscale="log", yscale="log", xlabel="epoch", ylabel="error [%]")
    ax.set_xticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
    ax.set_yticks([2, 3, 5, 10, 20], ["2", "3", "5", "10", "20"])
    ax.minorticks_off()
    ax.set_title("Yin-Yang, 5-200-3 LIF")
    figure.tight_layout()
    figure.savefig(PICTURES / "learning_curves.png")
    plt.close(figure)


def draw_performance(result: dict) -> None:
    """How much longer other programs take, and how time grows with the work. `result` is what bench.py writes."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12.5, 4.6), width_ratios=[1, 1.05])
    bars = []
    works = {"lif": "LIF", "qif": "QIF", "snntorch": "LIF", "jaxsnn": "LIF", "recurrent": "recurrent QIF"}
    for part, work in works.items():
        for row in result["rows"][part]:
            if not row["program"].startswith("eventsnn"):
                program = row["program"].removesuffix(", 100 hidden").removesuffix(", steps of 0.1 ms")
                bars.append((f"{program}, {work}", row["ratio"]))
    bars.sort(key=lambda bar: bar[1])
    names, ratios = zip(*bars, strict=True)
    left.barh(names, ratios, color=BLUE, height=0.6)
    for place, ratio in enumerate(ratios):
        left.text(ratio * 1.12, place, f"{ratio:.3g}", va="center", color=INK)
    left.axvline(1, color=ORANGE, lw=1.5)
    left.set(xscale="log", xlim=(0.8, 1500), xlabel="time of a training step, as a multiple of eventsnn's")
    left.tick_params(axis="y", length=0)
    left.set_title("Next to other programs")

    for (name, rows), colour in zip(result["scaling"].items(), (BLUE, ORANGE, GREEN, PURPLE), strict=True):
        sizes = np.array([row[name] for row in rows], float)
        steps = np.array([row["step"] for row in rows]) * 1e3
        right.plot(sizes / sizes[0], steps, "o-", color=colour, ms=5, label=f"{name}, from {sizes[0]:g}")
    right.set(xscale="log", yscale="log", xlabel="how many times as many", ylabel="training step [ms]")
    right.set_xticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
    right.set_yticks([2, 5, 10, 20, 50, 100], ["2", "5", "10", "20", "50", "100"])
    right.minorticks_off()
    right.legend(frameon=False)
    right.set_title("5-120-3 LIF, one number changed")
    figure.tight_layout(w_pad=3)
    figure.savefig(PICTURES / "performance.png")
    plt.close(figure)


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    with plt.rc_context(STYLE):
        here = Path(__file__).parent
        with (here / "learning_curves.csv").open() as file:
            draw_learning_curves(list(csv.DictReader(file)))
        draw_performance(json.loads((here / "performance.json").read_text()))
        draw_readme()
    # In Matplotlib's own style, as in a reader's notebook.
    draw_plotting()
