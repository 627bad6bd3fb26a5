"""Random feed-forward networks, and the comparison of their spikes with the oracle's."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import oracle

import eventsnn.neuron_models as models
from eventsnn.evnn import FFEvNN

T_END = 30.0
N_INPUTS, N_SPIKES = 4, 20
# Few shapes, so that many networks share a compilation: 1 to 3 layers, 1 to 50 neurons.
SHAPES = ((1,), (50,), (10, 4), (20, 50, 5))
MAX_SPIKES = 1000  # per layer, the package's default


class Case(NamedTuple):
    kind: str
    in_spikes: np.ndarray
    weights: list[np.ndarray]
    parameters: list[dict[str, np.ndarray]]
    truth: list[oracle.Layer]


def random_case(kind: str, layers: tuple[int, ...], seed: int) -> Case:
    """A network with its true spikes; weights are scaled layer by layer, from silent to firing at nearly every input.

    The time constants of each neuron are apart, nearly equal or equal; each input has 1 to 20 spikes.
    """
    rng = np.random.default_rng((seed, len(layers), layers[0], kind == "QIF"))
    in_spikes = np.full((N_INPUTS, N_SPIKES), np.inf)
    for train in in_spikes:
        count = rng.integers(1, N_SPIKES + 1)
        train[:count] = rng.uniform(0, 0.9 * T_END, count)
    # The oracle and the package at any precision see the same numbers: all are exact in float32.
    in_spikes = _short(in_spikes)
    arrivals, sources, n_inputs = in_spikes.ravel(), np.repeat(np.arange(N_INPUTS), N_SPIKES), N_INPUTS
    weights, parameters, truth = [], [], []
    for size in layers:
        p = _random_parameters(kind, size, rng)
        n_arrivals = max(np.isfinite(arrivals).sum(), 1)
        # The mean potential that the arrivals would hold, in units of the threshold.
        gain = np.exp(rng.uniform(np.log(0.5), np.log(6.0)))
        mean = gain * T_END / (n_arrivals * np.median(p["tsyn"]))
        w = _short(mean * (1 + rng.uniform(0.2, 2.5) * rng.standard_normal((n_inputs, size))))
        if kind == "LIF":
            _let_some_graze(
                p, oracle.simulate(kind, arrivals, sources, w, p | {"thresh": np.full(size, np.inf)}, T_END), rng
            )
        while True:
            layer = oracle.simulate(kind, arrivals, sources, w, p, T_END)
            if sum(map(len, layer.spikes)) < MAX_SPIKES:
                break
            w = w / 2
        weights.append(w)
        parameters.append(p)
        truth.append(layer)
        arrivals, sources = layer.trains()
        n_inputs = size
    return Case(kind, in_spikes, weights, parameters, truth)


def _random_parameters(kind: str, size: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    tmem = _short(np.exp(rng.uniform(np.log(3), np.log(40), size)))
    apart = np.exp(rng.uniform(np.log(1), np.log(40), size))
    near = tmem * (1 + 10.0 ** rng.uniform(-6, -2, size) * rng.choice([-1, 1], size))
    tsyn = _short(np.choose(rng.integers(0, 4, size), [apart, apart, near, tmem]))
    shared = {"tmem": tmem, "tsyn": tsyn, "ic": _short(rng.uniform(-0.3, 0.9, size))}
    start = rng.uniform(-0.2, 0.5, (size, 2))
    if kind == "QIF":
        return shared | {"y0": _short(start + np.array([0.4, 0.0]))}
    return shared | {
        "y0": _short(start),
        "thresh": _short(rng.uniform(0.7, 1.5, size)),
        "vreset": _short(rng.uniform(-0.5, 0.3, size)),
    }


def _let_some_graze(p: dict[str, np.ndarray], free: oracle.Layer, rng: np.random.Generator) -> None:
    """A third of the neurons get a threshold 1e-7 to 0.1 below or above the highest point they reach without spikes."""
    size = len(p["ic"])
    off = 10.0 ** rng.uniform(-7, -1, size) * rng.choice([-1, 1], size)
    near = _short(free.highest + off)
    chosen = (rng.uniform(size=size) < 1 / 3) & (near > p["vreset"] + 0.1) & (near > p["y0"][:, 0] + 0.1)
    p["thresh"] = np.where(chosen, near, p["thresh"])


def _short(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, np.float32).astype(np.float64)


def build(case: Case, dtype, **options) -> FFEvNN:
    names = [name for name in case.parameters[0] if name not in ("ic", "y0")]
    net = FFEvNN(
        [len(p["ic"]) for p in case.parameters],
        N_INPUTS,
        getattr(models, case.kind),
        T_END,
        jax.random.PRNGKey(0),
        dtype=dtype,
        init_weights=list(case.weights),
        init_bias=[p["ic"] for p in case.parameters],
        max_event_steps=MAX_SPIKES,
        **{name: [p[name] for p in case.parameters] for name in names},
        **options,
    )
    starts = [jnp.asarray(p["y0"], dtype) for p in case.parameters]
    return eqx.tree_at(lambda net: [neurons.y0.value for neurons in net.neurons], net, starts)


def package_spikes(case: Case, net: FFEvNN) -> list[list[np.ndarray]]:
    """The spike times of every neuron of every layer, as float64."""
    record = net.record(jnp.asarray(case.in_spikes, net.dtype))
    out = []
    for p, times, neurons in zip(case.parameters, record.times, record.neurons, strict=True):
        times, neurons = np.asarray(times, np.float64), np.asarray(neurons)
        real = np.isfinite(times)
        out.append([times[real & (neurons == n)] for n in range(len(p["ic"]))])
    return out


class Comparison(NamedTuple):
    """Where the line was drawn and what is left.

    - `errors`: of all spikes compared, in ms.
    - `grazing`: how many spikes were left out because they graze.
    - `after`: how many were left out because a graze before them had come out differently.
    - `unexplained`: (layer, neuron, true time, time found) of spikes missing, extra, or far off without a graze.
    """

    errors: np.ndarray
    grazing: int
    after: int
    unexplained: list[tuple]


def compare(case: Case, found: list[list[np.ndarray]], *, line: float, far: float) -> Comparison:
    """Spikes of the package against the oracle's, neuron by neuron.

    A spike grazes if its maximum lies within `line` above threshold (LIF), or if earlier errors of the phase have grown
    by more than 1/`line` (QIF). It is left out. If it comes out differently (by more than `far`, missing, or extra),
    what its neuron does afterwards is left out as well, and what later layers do afterwards. Whether a spike comes
    before or after the end of the run is open within `far`.
    """
    errors, grazing, after, unexplained = [], 0, 0, []
    horizon = np.inf
    for number, (layer, trains) in enumerate(zip(case.truth, found, strict=True)):
        next_horizon = horizon
        for n, train in enumerate(trains):
            spikes, stop = layer.spikes[n], horizon
            for k in range(max(len(spikes), len(train))):
                true = spikes[k].time if k < len(spikes) else np.inf
                got = train[k] if k < len(train) else np.inf
                first = min(true, got)
                if first >= stop - far:
                    break
                grazes = (k < len(spikes) and spikes[k].margin < line) or _grazed(layer, n, first, line)
                if abs(true - got) <= far:
                    errors += [] if grazes else [abs(true - got)]
                    grazing += grazes
                elif first < T_END - far or max(true, got) <= T_END:
                    grazing += grazes
                    unexplained += [] if grazes else [(number, n, true, got)]
                    stop = first
                    break
            after += sum(spike.time >= stop - far for spike in spikes)
            next_horizon = min(next_horizon, stop)
        horizon = next_horizon
    return Comparison(np.array(errors), grazing, after, unexplained)


def _grazed(layer: oracle.Layer, neuron: int, time: float, line: float) -> bool:
    # A parabola that misses by `line` crosses within sqrt(2 line/|V''|) of its top: below 1 ms here.
    return any(g.neuron == neuron and abs(g.height) < line and abs(g.time - time) < 1.0 for g in layer.grazes)
