"""Draws the pictures of the neuron models: `python docs/make_neuron_pictures.py` writes docs/pictures/neurons/*.png.

With names, such as `qif mixed`, it draws these only.
"""

import io
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from make_pictures import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, STYLE
from PIL import Image

import eventsnn as es
from eventsnn import FFEvNN, Traces, sample_traces
from eventsnn.neuron_models import IZHIKEVICH_REGIMES
from eventsnn.plot import plot_fi_curve, plot_phase_plane
from eventsnn.plot.states import broken_at

PICTURES = Path(__file__).parent / "pictures" / "neurons"
SMALL = STYLE | {"font.size": 10.5, "axes.titlesize": 11.5, "axes.titlepad": 10, "lines.linewidth": 1.6}
SMALL |= {"savefig.dpi": 110, "legend.fontsize": 9.5, "legend.frameon": False}

EXCITING = [3.0, 8.0, 16.0, 22.0, 37.0, 40.0, 51.0]
INHIBITING = [26.0, 45.0]


def trains(*rows) -> jnp.ndarray:
    """Input times, a row for each channel, padded to the longest."""
    longest = max(map(len, rows))
    return jnp.array([[*row, *[jnp.inf] * (longest - len(row))] for row in rows], jnp.float32)


IN_SPIKES = trains(EXCITING, INHIBITING)


def layer(model, end, weights=None, size=1, **hyperparameters) -> FFEvNN:
    """A layer of neurons; `weights` has one entry for each input, or `(inputs, neurons)` and more."""
    weights = np.zeros((0, size)) if weights is None else np.asarray(weights, float)
    weights = weights[:, None] if weights.ndim == 1 else weights
    key = jax.random.PRNGKey(0)
    return FFEvNN(
        [size],
        len(weights),
        model,
        end,
        key,
        init_weights=weights,
        rtol=3e-5,
        atol=3e-7,
        max_event_steps=2000,
        max_steps=30_000,
        **hyperparameters,
    )


def look(net: FFEvNN, in_spikes=None, n_times=1500, **options) -> Traces:
    return sample_traces(net, np.zeros((0, 0)) if in_spikes is None else in_spikes, n_times=n_times, **options)


def line(ax, run: Traces, values, neuron=0, **style) -> None:
    """A channel, by its name, or other values at the same times; broken where spikes reset it."""
    if isinstance(values, str):
        values = run.states[neuron, :, run.channels.index(values)]
    ax.plot(*broken_at(run.times, np.asarray(values), run.spikes[neuron]), **style)


def up_to(run: Traces, peak: float) -> Traces:
    """The run with V at `peak` where it spikes: an upswing ends within less than lies between two samples."""
    states = run.states.copy()
    for state, spikes in zip(states, run.spikes, strict=True):
        places = np.searchsorted(run.times, spikes[np.isfinite(spikes)], side="left")
        state[places - 1, 0] = peak
    return eqx.tree_at(lambda run: run.states, run, states)


def ticks_above(ax, rows, colours, top=1.03, height=0.07) -> None:
    """Rows of ticks above the axes, in parts of its height."""
    for row, colour in zip(rows, colours, strict=True):
        row = np.asarray(row)[np.isfinite(row)]
        ends = {"ymin": top, "ymax": top + height}
        ax.vlines(row, **ends, color=colour, lw=1.8, transform=ax.get_xaxis_transform(), clip_on=False)
        top += height + 0.03


def inputs_above(ax, in_spikes, colours=(BLUE, ORANGE)) -> None:
    for row, colour in zip(in_spikes, colours, strict=False):
        ticks_above(ax, [row], [colour], 1.03, 0.09)


def dotted(axes, run: Traces, neuron=0) -> None:
    """The spike times through all of the axes."""
    for spike in run.spikes[neuron][np.isfinite(run.spikes[neuron])]:
        for ax in np.ravel(axes):
            ax.axvline(spike, color=GREY, lw=0.8, ls=(0, (1, 2)), zorder=0)


def level(ax, height, text=None) -> None:
    ax.axhline(height, color=GREY, lw=1.0, ls=(0, (4, 3)), zorder=0)
    if text:
        ends = ax.get_xlim()
        ax.text(ends[1], height, text + " ", ha="right", va="bottom", color=GREY, fontsize=9)


def save(figure, name: str) -> None:
    """With as few colours as the picture needs, which makes the file a third as large."""
    buffer = io.BytesIO()
    figure.savefig(buffer)
    plt.close(figure)
    Image.open(buffer).convert("RGB").quantize(160, Image.Quantize.MAXCOVERAGE).save(
        PICTURES / f"{name}.png", optimize=True
    )


def draw_column(column, title, run, in_spikes, names, colour=BLUE, limits=None) -> None:
    """One model in a column of axes: the first channel above, one axis for each other entry of `names`.

    `names` maps the channels of an axis, separated by spaces, to its label.
    """
    column = np.ravel(column)
    for ax, (channels, label) in zip(column, names.items(), strict=True):
        for channel, tint in zip(channels.split(), (colour, ORANGE, GREEN), strict=False):
            line(ax, run, channel, color=tint, label=channel)
        ax.set(ylabel=label, xlim=(0, run.times[-1]))
    if limits is not None:
        column[0].set_ylim(limits)
    dotted(column, run)
    ticks_above(column[0], [run.spikes[0]], [PURPLE], 1.02, 0.06)
    if len(column) > 1:
        inputs_above(column[1], in_spikes)
    column[0].set_title(title, pad=18)
    column[-1].set_xlabel("time (ms)")


def draw_lif() -> None:
    """The family of LIF with the same input."""
    models = [
        ("LIF", [4.6, -3.0], {}, {"V": "V", "I": "I"}, 1.0),
        ("IF", [2.0, -1.5], {}, {"V": "V", "I": "I"}, 1.0),
        ("DeltaLIF", [0.55, -0.4], {}, {"V": "V"}, 1.0),
        ("LeakyIntegrator", [4.6, -3.0], {}, {"V": "V", "I": "I"}, None),
        ("ExpLIF", [46.0, -30.0], {}, {"V": "V (mV)", "I": "I (mV)"}, -50.0),
    ]
    figure, axes = plt.subplots(
        2, 5, figsize=(14, 3.9), sharex=True, height_ratios=[1.7, 1], layout="constrained", squeeze=False
    )
    for column, (name, weights, given, names, thresh) in enumerate(models):
        run = look(layer(getattr(es, name), 60.0, weights, **given), IN_SPIKES, 600)
        own = axes[: len(names), column]
        draw_column(own, name, run, IN_SPIKES, names)
        if thresh is not None:
            level(own[0], thresh)
        if len(names) == 1:
            # There is no current to be seen: arrivals as they are.
            for times, weight, colour in zip((EXCITING, INHIBITING), weights, (BLUE, ORANGE), strict=True):
                axes[1, column].vlines(times, 0, weight, color=colour)
            axes[1, column].axhline(0, color=GREY, lw=0.8)
            axes[1, column].set(ylabel="arriving w", xlabel="time (ms)")
            own[0].set_xlabel("")
            inputs_above(axes[1, column], IN_SPIKES)
    save(figure, "lif")


def draw_synapses() -> None:
    models = [
        ("AlphaLIF", [2.4, -1.6], {"V": "V", "I": "I"}, 1.0),
        ("DualExpLIF", [3.6, -2.4], {"V": "V", "I": "I"}, 1.0),
        ("ConductanceLIF", [0.55, -0.6], {"V": "V (mV)", "g_exc g_inh": "conductance (leak)"}, -50.0),
    ]
    figure, axes = plt.subplots(2, 3, figsize=(11.5, 4.4), sharex=True, height_ratios=[1.5, 1], layout="constrained")
    for column, (name, weights, names, thresh) in enumerate(models):
        run = look(layer(getattr(es, name), 60.0, weights), IN_SPIKES, 800)
        draw_column(axes[:, column], name, run, IN_SPIKES, names)
        level(axes[0, column], thresh)
    axes[1, 2].set_ylim(-0.05, 1.25)
    axes[1, 2].legend(loc="upper right", ncols=2)
    save(figure, "synapses")


def beside_plane(width=11.5):
    """Two axes on the left, one above the other, and one on the right."""
    figure = plt.figure(figsize=(width, 4.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.25], wspace=0.03)
    return figure, left.subplots(2, 1, sharex=True, height_ratios=[1.6, 1]), right.subplots()


def draw_plane(ax, model, limits, run, neuron=0, labels=None) -> None:
    path = {"times": run.times, "states": run.states[neuron], "spikes": run.spikes[neuron]}
    plot_phase_plane(model, limits=limits, ax=ax, neuron=neuron, **path)
    ax.set_title(ax.get_title(), fontsize=10.5, fontweight="normal")
    if labels:
        ax.set(xlabel=labels[0], ylabel=labels[1])


def draw_qif() -> None:
    figure, left, right = beside_plane()
    net = layer(es.QIF, 60.0, [14.0])
    in_spikes = trains([2.0, 6.0, 10.0, 14.0])
    run = look(net, in_spikes, 3000)
    draw_column(left, "QIF", run, in_spikes, {"V": "V", "I": "I"}, limits=(-12, 12))
    draw_plane(right, net.neurons[0], ((-8, 8), (-8, 28)), run)
    save(figure, "qif")


def draw_eif() -> None:
    figure, left, right = beside_plane()
    net = layer(es.EIF, 60.0, [24.0, -15.0])
    run = up_to(look(net, IN_SPIKES, 3000), 0.0)
    draw_column(left, "EIF", run, IN_SPIKES, {"V": "V (mV)", "I": "I (mV)"})
    level(left[0], -59.9)
    left[0].text(31.5, -60.5, "soft threshold", ha="center", va="top", color=GREY, fontsize=9)
    draw_plane(right, net.neurons[0], ((-78, 5), (-22, 50)), run, labels=("V (mV)", "I (mV)"))
    save(figure, "eif")


# Naud, Marcille, Clopath and Gerstner 2008, table 1: pF, nS, mV, mV, mV, nS, ms, pA, mV, and the current in pA. For
# delayed regular bursting and transient spiking they are the constants with which the model does what figure 4 shows.
NAUD = {
    "tonic spiking": (200, 10, -70, -50, 2, 2, 30, 0, -58, 500),
    "adaptation": (200, 12, -70, -50, 2, 2, 300, 60, -58, 500),
    "initial burst": (130, 18, -58, -50, 2, 4, 150, 120, -50, 400),
    "regular bursting": (200, 10, -58, -50, 2, 2, 120, 100, -46, 210),
    "delayed accelerating": (200, 12, -70, -50, 2, -10, 300, 0, -58, 300),
    "delayed regular bursting": (100, 10, -65, -50, 2, -10, 90, 30, -47, 110),
    "transient spiking": (100, 10, -65, -50, 2, 10, 90, 100, -47, 180),
    "irregular spiking": (100, 12, -60, -50, 2, -11, 130, 30, -48, 160),
}
NAUD_NAMES = ("capacitance", "gleak", "vrest", "vt", "delta_t", "a", "tw", "b", "vreset", "init_bias")


def draw_adex() -> None:
    """Naud's eight patterns, each a neuron of one layer, and the plane of one of them."""
    numbers = dict(zip(NAUD_NAMES, np.array(list(NAUD.values()), float).T, strict=True))
    y0 = np.stack([numbers["vrest"], 0 * numbers["a"], 0 * numbers["a"]], axis=1)
    net = layer(es.AdEx, 400.0, size=8, y0=y0, **numbers)
    run = up_to(look(net, n_times=3000), 0.0)
    figure, axes = plt.subplots(4, 4, figsize=(14, 6.6), sharex=True, height_ratios=[1.5, 1] * 2, layout="constrained")
    for number, (name, constants) in enumerate(NAUD.items()):
        row, column = 2 * (number // 4), number % 4
        upper, lower = axes[row : row + 2, column]
        line(upper, run, "V", number, color=BLUE, lw=1.1)
        line(lower, run, "w", number, color=ORANGE)
        ticks_above(upper, [run.spikes[number]], [PURPLE], 1.02, 0.06)
        upper.set_title(f"{name}, {constants[-1]} pA", pad=16)
        upper.set(ylim=(-78, 2), yticks=[-70, -35, 0])
        if not column:
            upper.set_ylabel("V (mV)")
            lower.set_ylabel("w (pA)")
        if row:
            lower.set_xlabel("time (ms)")
    axes[0, 0].set_xlim(0, 400)
    save(figure, "adex")

    figure, axes = plt.subplots(1, 2, figsize=(12.5, 4.2), layout="constrained")
    for ax, name, limits in zip(
        axes, ("initial burst", "adaptation"), (((-65, -35), (-20, 480)), ((-75, -35), (-20, 420))), strict=True
    ):
        number = list(NAUD).index(name)
        draw_plane(ax, net.neurons[0], limits, run, number, ("V (mV)", "w (pA)"))
        ax.set_title(name, fontsize=11.5, fontweight="bold")
    axes[0].get_legend().remove()
    save(figure, "adex_phase_plane")


def resting(a, b, held):
    """Where Izhikevich's neuron rests under a constant current: 0.04 V² + 5 V + 140 + held = U = b V."""
    v = (-(5 - b) - np.sqrt((5 - b) ** 2 - 0.16 * (140 + held))) / 0.08
    return np.stack([v, b * v, 0 * v], axis=1)


def draw_izhikevich() -> None:
    """The seven regimes, each a neuron of one layer, and the plane of three of them."""
    stimuli = {name: (10.0, 20.0, 320.0) for name in IZHIKEVICH_REGIMES}
    stimuli["thalamo-cortical"] = (2.0, 20.0, 320.0)
    rows = [(name, name, *stimuli[name], 0.0) for name in IZHIKEVICH_REGIMES]
    rows.append(("thalamo-cortical, released", "thalamo-cortical", -20.0, 0.0, 50.0, -20.0))
    constants = [es.izhikevich_regime(row[1]) for row in rows]
    numbers = {name: np.array([one[name] for one in constants]) for name in "abcd"}
    amplitude, start, stop, held = (np.array([row[k] for row in rows]) for k in range(2, 6))
    net = layer(
        es.WithBiasCurrent(es.Izhikevich),
        360.0,
        size=8,
        y0=resting(numbers["a"], numbers["b"], held),
        current=es.StepCurrent(amplitude, start=start, stop=stop),
        **numbers,
    )
    run = up_to(look(net, n_times=3000), 30.0)
    figure, axes = plt.subplots(4, 4, figsize=(14, 6.4), sharex=True, height_ratios=[2.4, 1] * 2, layout="constrained")
    for number, row in enumerate(rows):
        above, column = 2 * (number // 4), number % 4
        upper, lower = axes[above : above + 2, column]
        line(upper, run, "V", number, color=BLUE, lw=1.1)
        _, _, size, begin, end, _ = row
        lower.step([0, begin, end, 360], [0, size, 0, 0], where="post", color=INK)
        ticks_above(upper, [run.spikes[number]], [PURPLE], 1.02, 0.05)
        upper.set_title(row[0], pad=16)
        upper.set(ylim=(-90, 32), yticks=[-80, -40, 0, 30])
        lower.set(ylim=(-22, 12), yticks=[-20, 0, 10])
        if not column:
            upper.set_ylabel("V (mV)")
            lower.set_ylabel("I(t)")
        if above:
            lower.set_xlabel("time (ms)")
    axes[0, 0].set_xlim(0, 360)
    save(figure, "izhikevich")

    figure, axes = plt.subplots(1, 3, figsize=(14, 4.0), layout="constrained", width_ratios=[1, 1, 1])
    seen = (run.times >= 20) & (run.times < 320)
    for ax, name in zip(axes, ("regular spiking", "chattering", "resonator"), strict=True):
        number = list(IZHIKEVICH_REGIMES).index(name)
        model = es.Izhikevich(1, init_bias=10.0, **es.izhikevich_regime(name))
        states = run.states[number, seen, :3]
        low, high = states[:, 1].min(), states[:, 1].max()
        path = {"times": run.times[seen], "states": states, "spikes": run.spikes[number]}
        path["spikes"] = path["spikes"][path["spikes"] < 320]
        plot_phase_plane(model, limits=((-90, 32), (low - 4, high + 4)), ax=ax, **path)
        ax.set(xlabel="V (mV)", ylabel="U")
        ax.set_title(f"{name}, I = 10", fontsize=11.5, fontweight="bold")
    for ax in axes[:2]:
        ax.get_legend().remove()
    save(figure, "izhikevich_phase_plane")


def draw_adaptive_threshold() -> None:
    figure, axes = plt.subplots(2, 2, figsize=(11.5, 4.4), sharex=True, height_ratios=[2.2, 1], layout="constrained")
    both = [
        ("ALIF", {"init_bias": 2.2}, lambda s: 1 + s[:, 2], {"A": ""}, ""),
        ("MAT", {"init_bias": 45.0}, lambda s: 19 + s[:, 2] + s[:, 3], {"H1": "", "H2": ""}, " (mV)"),
    ]
    for (upper, lower), (name, given, threshold, adapting, unit) in zip(axes.T, both, strict=True):
        run = look(layer(getattr(es, name), 200.0, **given))
        line(upper, run, "V", color=BLUE, label="V")
        line(upper, run, threshold(run.states[0]), color=ORANGE, label="threshold", lw=1.4)
        for channel, tint in zip(adapting, (ORANGE, GREEN), strict=False):
            line(lower, run, channel, color=tint, label=channel)
        upper.set(ylabel="V" + unit, xlim=(0, 200))
        lower.set(ylabel=", ".join(adapting) + unit, xlabel="time (ms)", ylim=(0, None))
        upper.legend(loc="upper right", ncols=2)
        low, high = upper.get_ylim()
        upper.set_ylim(min(low, 0), high + 0.18 * (high - low))
        ticks_above(upper, [run.spikes[0]], [PURPLE], 1.02, 0.05)
        upper.set_title(name, pad=16)
    axes[1, 1].set_ylim(0, 80)
    axes[1, 1].legend(loc="upper right", ncols=2)
    save(figure, "adaptive_threshold")


def draw_hodgkin_huxley() -> None:
    figure = plt.figure(figsize=(12.5, 5.0), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.7, 1], wspace=0.03)
    axes = left.subplots(3, 1, sharex=True, height_ratios=[1.8, 1.2, 0.8])
    net = layer(es.HodgkinHuxley, 70.0, [3.0, 14.0])
    in_spikes = trains([4.0], [20.0, 27.0, 45.0])
    run = look(net, in_spikes, 2000)
    line(axes[0], run, "V", color=BLUE)
    axes[0].set(ylabel="V (mV)", xlim=(0, 70))
    for name, tint in zip("mhn", (BLUE, ORANGE, GREEN), strict=True):
        line(axes[1], run, name, color=tint, label=name)
    axes[1].set(ylabel="gates", ylim=(0, 1), yticks=[0, 0.5, 1])
    axes[1].legend(loc="upper center", ncols=3)
    line(axes[2], run, "I", color=BLUE)
    axes[2].set(ylabel="I (µA/cm²)", xlabel="time (ms)", ylim=(0, None))
    level(axes[0], 0.0, "threshold")
    dotted(axes, run)
    ticks_above(axes[0], [run.spikes[0]], [PURPLE], 1.02, 0.06)
    inputs_above(axes[2], in_spikes, (BLUE, BLUE))
    axes[0].set_title("HodgkinHuxley", pad=18)
    ax = plot_fi_curve(
        es.HodgkinHuxley,
        np.linspace(0, 20, 31),
        ax=right.subplots(),
        duration=300.0,
        transient=100.0,
        max_steps=30_000,
        rtol=3e-5,
        atol=3e-7,
    )
    ax.set(xlabel="bias current (µA/cm²)", title="f-I curve")
    save(figure, "hodgkin_huxley")


def draw_egru() -> None:
    # One input raises the proposed value and opens both gates, the other closes the update gate.
    weights = np.array([[[1.0, 1.5, 2.5]], [[-5.0, 0.0, 0.0]]])
    in_spikes = trains([4.0, 8.0, 12.0, 30.0, 34.0, 50.0, 54.0], [36.0])
    net = layer(es.EGRU, 70.0, weights, bias_u=1.0)
    run = look(net, in_spikes, 1200)
    _, a_u, a_r, a_z = run.states[0].T
    gates = {"u": 1 / (1 + np.exp(-a_u - 1)), "r": 1 / (1 + np.exp(-a_r))}
    figure, axes = plt.subplots(3, 1, figsize=(8.5, 5.4), sharex=True, height_ratios=[1.5, 1, 1], layout="constrained")
    line(axes[0], run, np.tanh(gates["r"] * a_z), color=GREEN, lw=1.2, label="z")
    line(axes[0], run, "c", color=BLUE, label="c")
    axes[0].set(ylabel="c, z", xlim=(0, 70), ylim=(0, 1.05))
    level(axes[0], 0.5, "threshold")
    axes[0].legend(loc="upper right", ncols=2)
    for (name, values), tint in zip(gates.items(), (ORANGE, BLUE), strict=True):
        line(axes[1], run, values, color=tint, label=name)
    axes[1].set(ylabel="gates u, r", ylim=(0, 1.05), yticks=[0, 0.5, 1])
    axes[1].legend(loc="lower right", ncols=2)
    for name, tint in zip(("a_u", "a_r", "a_z"), (ORANGE, BLUE, GREEN), strict=True):
        line(axes[2], run, name, color=tint, label=name)
    axes[2].set(ylabel="$a_u$, $a_r$, $a_z$", xlabel="time (ms)")
    axes[2].legend(loc="lower right", ncols=3)
    dotted(axes, run)
    ticks_above(axes[0], [run.spikes[0]], [PURPLE], 1.02, 0.06)
    inputs_above(axes[2], in_spikes)
    axes[0].set_title("EGRU", pad=18)
    save(figure, "egru")


def draw_two_compartment() -> None:
    net = layer(es.TwoCompartment, 80.0, [7.0, -5.0])
    in_spikes = trains([3.0, 8.0, 16.0, 22.0, 37.0, 40.0, 51.0, 60.0], [26.0, 45.0])
    run = look(net, in_spikes)
    figure, axes = plt.subplots(2, 1, figsize=(8.5, 4.4), sharex=True, height_ratios=[1.8, 1], layout="constrained")
    draw_column(axes, "TwoCompartment", run, in_spikes, {"Vs Vd": "Vs, Vd", "I": "I"})
    level(axes[0], 1.0, "threshold")
    axes[0].legend(["soma Vs", "dendrite Vd"], loc="upper right", ncols=2)
    low, high = axes[0].get_ylim()
    axes[0].set_ylim(low, high + 0.15 * (high - low))
    save(figure, "two_compartment")


def draw_wrappers() -> None:
    """LIF and what wrappers make of it, with the same input and bias."""
    once = es.AtMostOneSpike(es.LIF)
    models = [
        ("LIF", es.LIF, {}),
        ("Refractory(LIF)", es.Refractory(es.LIF), {"tref": 8.0}),
        ("Refractory(LIF, hold=())", es.Refractory(es.LIF, hold=()), {"tref": 8.0}),
        ("Refractory(LIF, block=True)", es.Refractory(es.LIF, block=True), {"tref": 8.0}),
        ("AtMostOneSpike(LIF)", once, {}),
    ]
    figure, axes = plt.subplots(
        2, 5, figsize=(15, 3.9), sharex=True, sharey="row", height_ratios=[1.7, 1], layout="constrained"
    )
    for column, (name, model, given) in enumerate(models):
        run = look(layer(model, 60.0, [3.6, -3.0], init_bias=0.8, **given), IN_SPIKES, 600)
        upper, lower = axes[:, column]
        line(upper, run, "V", color=BLUE)
        line(lower, run, "I", color=BLUE)
        for spike in run.spikes[0][np.isfinite(run.spikes[0])]:
            for ax in (upper, lower) if "tref" in given else ():
                ax.axvspan(spike, spike + 8, color="#d5dbe1", alpha=0.6, lw=0, zorder=-1)
        dotted((upper, lower), run)
        ticks_above(upper, [run.spikes[0]], [PURPLE], 1.02, 0.06)
        inputs_above(lower, IN_SPIKES)
        level(upper, 1.0)
        upper.set_title(name, pad=16, fontsize=10)
        lower.set_xlabel("time (ms)")
    axes[0, 0].set(ylabel="V", xlim=(0, 60))
    axes[1, 0].set_ylabel("I")
    save(figure, "wrappers")


def draw_currents() -> None:
    currents = [
        ("StepCurrent", es.StepCurrent(2.0, start=10.0, stop=60.0), lambda t: 2.0 * ((t >= 10) & (t < 60))),
        ("RampCurrent", es.RampCurrent(0.0, 3.0, start=10.0, stop=80.0), lambda t: np.clip((t - 10) / 70 * 3, 0, 3)),
        ("SineCurrent", es.SineCurrent(3.0, frequency=25.0), lambda t: 3 * np.sin(2 * np.pi * 25 * t / 1000)),
        (
            "StepCurrent + SineCurrent",
            es.StepCurrent(2.0, start=10.0, stop=60.0) + es.SineCurrent(0.8, frequency=80.0),
            lambda t: 2.0 * ((t >= 10) & (t < 60)) + 0.8 * np.sin(2 * np.pi * 80 * t / 1000),
        ),
    ]
    figure, axes = plt.subplots(
        2, 4, figsize=(14, 4.0), sharex=True, sharey="row", height_ratios=[1.5, 1], layout="constrained"
    )
    for column, (name, current, by_hand) in enumerate(currents):
        run = look(layer(es.WithBiasCurrent(es.LIF), 100.0, current=current), n_times=800)
        upper, lower = axes[:, column]
        line(upper, run, "V", color=BLUE)
        times = np.linspace(0, 100, 2000)
        lower.plot(times, by_hand(times), color=INK)
        dotted((upper, lower), run)
        ticks_above(upper, [run.spikes[0]], [PURPLE], 1.02, 0.06)
        level(upper, 1.0)
        upper.set_title(name, pad=16)
        lower.set_xlabel("time (ms)")
    axes[0, 0].set(ylabel="V", xlim=(0, 100))
    axes[1, 0].set_ylabel("I(t)")
    save(figure, "currents")


def draw_mixed() -> None:
    model = es.Mixed((es.LIF, 1, {"init_bias": 0.5}), (es.ALIF, 1, {"init_bias": 0.5}), (es.QIF, 1, {"init_bias": 2.0}))
    in_spikes = trains(EXCITING, INHIBITING)
    weights = np.array([[4.6, 4.6, 14.0], [-3.0, -3.0, -9.0]])
    run = look(layer(model, 60.0, weights, size=3), in_spikes, 3000)
    figure, axes = plt.subplots(1, 3, figsize=(11.5, 2.9), sharex=True, layout="constrained")
    for number, (ax, name) in enumerate(zip(axes, ("LIF", "ALIF", "QIF"), strict=True)):
        line(ax, run, "V", number, color=BLUE, label="V")
        ax.set(xlim=(0, 60), xlabel="time (ms)", ylabel="V")
        dotted(ax, run, number)
        ax.set_title(f"neuron {number}: {name}", pad=16)
        ticks_above(ax, [run.spikes[number]], [PURPLE], 1.02, 0.05)
    level(axes[0], 1.0)
    line(axes[1], run, 1 + run.states[1, :, run.channels.index("A")], 1, color=ORANGE, label="threshold", lw=1.2)
    axes[1].legend(loc="upper right", ncols=2)
    axes[1].set_ylim(None, axes[1].get_ylim()[1] * 1.15)
    axes[2].set_ylim(-12, 12)
    save(figure, "mixed")


DRAWINGS = {name.removeprefix("draw_"): one for name, one in list(globals().items()) if name.startswith("draw_")}
DRAWINGS = {name: one for name, one in DRAWINGS.items() if name not in ("column", "plane")}

if __name__ == "__main__":
    PICTURES.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(SMALL):
        for name in sys.argv[1:] or DRAWINGS:
            DRAWINGS[name]()
