"""Spike times of LIF and QIF networks without JAX and without a line of the package: NumPy and SciPy only.

All neurons of a layer share the intervals between arrivals, and in each interval the solution is known:

LIF. With s the time since the interval began, k = 1/tmem - 1/tsyn and c the bias,
    V(s) = c + (V0 - c) exp(-s/tmem) + I0 (s/tmem) exp(-s/tmem) expm1(k s)/(k s),
which has the right limit at tsyn = tmem. exp(s/tmem) tmem V'(s) = m0 - I0 expm1(k s)/(k tsyn) with
m0 = c + I0 - V0 is monotonic in s, so there is at most one extremum, a maximum only if m0 > 0 and I0 > 0, at
    s* = log1p(m0 k tsyn/I0)/k.
V crosses the threshold if it is above it at the end or at that maximum, and brentq finds where.

QIF. V = -tmem u'/u turns tmem V' = V (V - 1) + J(t) into the linear equation
    tmem^2 u'' + tmem u' + J u = 0,      J = bias + I0 exp(-s/tsyn).
V is infinite where u is 0, and the jump from +inf to -inf at a spike is u going on through its zero. So the spikes
are the zeros of u, and between arrivals u is a power series, summed to rounding.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq


class Spike(NamedTuple):
    """`margin` says how safe the spike is.

    LIF: how far above threshold V would have risen. QIF: one over the factor by which an earlier error of the phase has
    grown when the spike comes.
    """

    time: float
    margin: float


class Graze(NamedTuple):
    """A maximum of V near threshold: `height` is V - thresh there (or would be, had the neuron not spiked)."""

    neuron: int
    time: float
    height: float


class Layer(NamedTuple):
    """What a layer did.

    The spikes of each neuron, the maxima near threshold, the states (V, I) asked for with shape (neurons, queries, 2),
    and how high V went between jumps (LIF).
    """

    spikes: list[list[Spike]]
    grazes: list[Graze]
    states: np.ndarray
    highest: np.ndarray

    def times(self, neuron: int) -> np.ndarray:
        return np.array([spike.time for spike in self.spikes[neuron]])

    def trains(self) -> tuple[np.ndarray, np.ndarray]:
        """All spikes of the layer: times in order, and the neuron of each."""
        every = sorted((spike.time, n) for n, train in enumerate(self.spikes) for spike in train)
        return np.array([t for t, _ in every]), np.array([n for _, n in every], int)


def simulate(kind, arrivals, sources, weights, parameters, t_end, queries=()):
    """One layer of `kind` "LIF" or "QIF" driven by spikes at `arrivals` through the rows `sources` of `weights`."""
    keep = np.isfinite(arrivals) & (arrivals <= t_end)
    arrivals, sources = np.asarray(arrivals)[keep], np.asarray(sources)[keep]
    size = weights.shape[1]
    jumps = np.concatenate([weights[sources].reshape(-1, size), np.zeros((len(queries), size))])
    times = np.concatenate([arrivals, queries])
    asked = np.concatenate([np.full(len(arrivals), -1), np.arange(len(queries))])
    order = np.argsort(times, kind="stable")
    stops = [(times[j], jumps[j], asked[j]) for j in order] + [(t_end, np.zeros(size), -1)]
    parameters = {name: np.broadcast_to(p, (size, 2) if name == "y0" else (size,)) for name, p in parameters.items()}
    return {"LIF": _lif, "QIF": _qif}[kind](stops, parameters, len(queries))


def simulate_delayed(kind, arrivals, sources, weights, delays, parameters, t_end, queries=()):
    """As `simulate`, but a spike of input i reaches neuron j `delays[i, j]` later: each neuron by itself."""
    layers = []
    for n in range(weights.shape[1]):
        p = {name: np.asarray(value)[n : n + 1] for name, value in parameters.items()}
        late = np.asarray(arrivals) + delays[sources, n]
        layers.append(simulate(kind, late, sources, weights[:, n : n + 1], p, t_end, queries))
    return Layer(
        [layer.spikes[0] for layer in layers],
        [graze._replace(neuron=n) for n, layer in enumerate(layers) for graze in layer.grazes],
        np.concatenate([layer.states for layer in layers]),
        np.concatenate([layer.highest for layer in layers]),
    )


def simulate_network(kind, in_spikes, weights, parameters, t_end, queries=(), delays=None):
    """All layers; `queries` are about the last. `parameters` holds one dict per layer, `delays` one array."""
    n_inputs, n_spikes = in_spikes.shape
    arrivals, sources = in_spikes.ravel(), np.repeat(np.arange(n_inputs), n_spikes)
    layers = []
    for number, (w, p) in enumerate(zip(weights, parameters, strict=True)):
        asked = queries if number == len(weights) - 1 else ()
        if delays is None:
            layers.append(simulate(kind, arrivals, sources, w, p, t_end, asked))
        else:
            layers.append(simulate_delayed(kind, arrivals, sources, w, delays[number], p, t_end, asked))
        arrivals, sources = layers[-1].trains()
    return layers


NEAR = 1e-2  # maxima this close to threshold are written down


def _lif(stops, p, n_queries):
    size = len(p["ic"])
    v, i = np.array(p["y0"][:, 0], float), np.array(p["y0"][:, 1], float)
    spikes, grazes, states = [[] for _ in range(size)], [], np.zeros((size, n_queries, 2))
    t, highest = 0.0, v
    for stop, jump, asked in stops:
        span = stop - t
        v_end, i_end, v_peak = _lif_interval(v, i, span, p)
        highest = np.maximum(highest, v_peak)
        for n in np.flatnonzero((v_peak > p["thresh"] - NEAR) & (span > 0)):
            v_end[n] = _lif_neuron(n, t, span, v[n], i[n], p, spikes[n], grazes, jump[n])
        v, i, t = v_end, i_end + jump, stop
        if asked >= 0:
            states[:, asked] = np.stack([v, i], axis=1)
    return Layer(spikes, grazes, states, highest)


def _lif_interval(v, i, span, p):
    peak, inside = _lif_peak(v, i, span, p["tmem"], p["tsyn"], p["ic"])
    v_end = _lif_v(span, v, i, p["tmem"], p["tsyn"], p["ic"])
    v_peak = np.where(inside, _lif_v(peak, v, i, p["tmem"], p["tsyn"], p["ic"]), v_end)
    return v_end, i * np.exp(-span / p["tsyn"]), v_peak


def _lif_neuron(n, t, span, v, i, p, spikes, grazes, jump):
    """One neuron through one interval in which it comes near its threshold; V at the end."""
    tmem, tsyn, c, thresh = p["tmem"][n], p["tsyn"][n], p["ic"][n], p["thresh"][n]
    while True:
        peak, inside = _lif_peak(v, i, span, tmem, tsyn, c)
        v_end = _lif_v(span, v, i, tmem, tsyn, c)
        i_end = i * math.exp(-span / tsyn)
        place, top = (float(peak), _lif_v(peak, v, i, tmem, tsyn, c)) if inside else (span, v_end)
        is_maximum = bool(inside) or i_end + jump + c - v_end <= 0
        if is_maximum and abs(top - thresh) < NEAR:
            grazes.append(Graze(int(n), t + place, float(top - thresh)))
        if top < thresh or span == 0:
            return v_end
        s = brentq(_lif_excess, 0.0, place, args=(v, i, tmem, tsyn, c, thresh), xtol=1e-14, rtol=1e-15)
        spikes.append(Spike(t + s, float(top - thresh) if is_maximum else math.inf))
        t, span, v, i = t + s, span - s, p["vreset"][n], i * math.exp(-s / tsyn)


def _lif_v(s, v, i, tmem, tsyn, c):
    ks = s * (1 / tmem - 1 / tsyn)
    return c + np.exp(-s / tmem) * (v - c + i * s / tmem * _ratio(np.expm1, ks))


def _lif_excess(s, v, i, tmem, tsyn, c, thresh):
    return _lif_v(s, v, i, tmem, tsyn, c) - thresh


def _lif_peak(v, i, span, tmem, tsyn, c):
    """Where V has its maximum inside (0, span), and whether it has one."""
    m0, k = c + i - v, 1 / tmem - 1 / tsyn
    turns = (m0 > 0) & (i > 0)
    z = np.where(turns, m0 * tsyn / np.where(turns, i, 1), 0.0)
    reached = turns & (k * z > -1)
    peak = z * _ratio(np.log1p, np.where(reached, k * z, 0.0))
    return peak, reached & (peak < span)


def _ratio(function, x):
    """function(x)/x, and 1 at 0."""
    return np.where(x == 0, 1.0, function(x) / np.where(x == 0, 1.0, x))


def _polynomial(x, coefficients):
    return np.polyval(coefficients, x)


ORDER = 24  # substeps are at most one unit of the fastest rate, and 1/24! is 1e-24


def _qif(stops, p, n_queries):
    size = len(p["ic"])
    phi, i = np.array(p["y0"][:, 0], float), np.array(p["y0"][:, 1], float)
    tmem, tsyn, c = p["tmem"], p["tsyn"], p["ic"]
    u, du = np.sin(np.pi * phi), np.pi * np.cos(np.pi * phi) / tmem
    spikes, states = [[] for _ in range(size)], np.zeros((size, n_queries, 2))
    log_scale = np.zeros(size)
    worst = np.full(size, -np.inf)  # the largest so far of the logarithm of size(t)^2 exp(t/tmem)
    t = 0.0
    for stop, jump, asked in stops:
        while t < stop:
            fastest = np.max(np.maximum((1 + np.sqrt(np.abs(i) + np.abs(c))) / tmem, 1 / tsyn))
            h = min(stop - t, 1 / fastest)
            series = _qif_series(u, du, i, h, p)
            u1 = series.sum(axis=0)
            du1 = (np.arange(ORDER + 1)[:, None] * series).sum(axis=0) / h
            worst = np.maximum(worst, _growth(u, du, tmem, log_scale) + t / tmem)
            start = np.where(u == 0, np.sign(du), np.sign(u))
            for n in np.flatnonzero(start * u1 <= 0):
                coefficients = series[::-1, n]
                x = brentq(_polynomial, 0.0, 1.0, args=(coefficients,), xtol=1e-15, rtol=1e-15)
                slope = np.polyval(np.polyder(coefficients), x) / h
                here = _growth(0.0, slope, tmem[n], log_scale[n]) + (t + x * h) / tmem[n]
                spikes[n].append(Spike(t + x * h, float(np.exp(here - max(worst[n], here)))))
            scale = np.hypot(u1, tmem * du1)
            # A zero exactly at the end of a substep has been counted: go on from its far side.
            u1 = np.where(start * u1 == 0, 0.0, u1)
            u, du, log_scale = u1 / scale, du1 / scale, log_scale + np.log(scale)
            i, t = i * np.exp(-h / tsyn), (stop if h == stop - t else t + h)
        i = i + jump
        if asked >= 0:
            states[:, asked] = np.stack([-tmem * du / u, i], axis=1)
    return Layer(spikes, [], states, np.full(size, np.inf))


def _growth(u, du, tmem, log_scale):
    return np.log(u**2 + (tmem * du / np.pi) ** 2) + 2 * log_scale


def _qif_series(u, du, i, h, p):
    """Coefficients of u in powers of s/h, shape (ORDER + 1, neurons)."""
    n = np.arange(ORDER + 1)[:, None]
    factorials = np.array([math.factorial(k) for k in range(ORDER + 1)], float)[:, None]
    drive = i * (-h / p["tsyn"]) ** n / factorials
    drive[0] += p["ic"]
    drive *= (h / p["tmem"]) ** 2
    series = np.zeros((ORDER + 1, len(u)))
    series[0], series[1] = u, du * h
    for m in range(ORDER - 1):
        product = (drive[: m + 1] * series[m::-1]).sum(axis=0)
        series[m + 2] = -((m + 1) * h / p["tmem"] * series[m + 1] + product) / ((m + 1) * (m + 2))
    return series
