"""Spikes of recurrent LIF and QIF networks without JAX: one event after the other, all neurons on one clock.

Between events the solutions of `oracle.py` hold. At one instant all arrivals come first, then spikes, then what they
send without delay.
"""

import heapq
import math
from typing import NamedTuple

import numpy as np
import oracle
from scipy.optimize import brentq


class Run(NamedTuple):
    """The spikes by time, the neuron of each, and the states (V, I) at the queries, shape `(neurons, queries, 2)`.

    `closest` is how near a maximum came to the threshold (LIF): a smaller error cannot change which spikes there are.
    """

    times: np.ndarray
    neurons: np.ndarray
    states: np.ndarray
    closest: float


def simulate(kind, in_spikes, weights, delays, p, t_end, queries=()):
    """`weights` and `delays` have shape `(neurons + inputs, neurons)`."""
    population = {"LIF": _LIF, "QIF": _QIF}[kind](p)
    size = weights.shape[1]
    coming = []  # (time, target, weight)
    for channel, train in enumerate(in_spikes):
        for t in train[np.isfinite(train)]:
            _send(coming, t, weights[size + channel], delays[size + channel])
    for number, t in enumerate(queries):
        coming.append((t, size + number, 0.0))
    heapq.heapify(coming)
    states = np.zeros((size, len(queries), 2))
    spikes = []
    t = 0.0
    while True:
        stop = min(coming[0][0], t_end) if coming else t_end
        s, neuron = population.first_spike(stop - t)
        if neuron is not None:
            t += s
            population.advance(s)
            population.reset(neuron)
            spikes.append((t, neuron))
            at_once = delays[neuron] == 0
            population.receive(np.where(at_once, weights[neuron], 0.0))
            _send(coming, t, weights[neuron], np.where(at_once, math.inf, delays[neuron]))
            continue
        population.advance(stop - t)
        t = stop
        if not coming or coming[0][0] > t_end:
            break
        asked = []
        while coming and coming[0][0] == t:
            _, target, weight = heapq.heappop(coming)
            if target >= size:
                asked.append(target - size)
            else:
                population.receive(weight * (np.arange(size) == target))
        for number in asked:
            states[:, number] = population.states()
    times = np.array([time for time, _ in spikes])
    return Run(times, np.array([neuron for _, neuron in spikes], int), states, population.closest)


def _send(coming, t, weights, delays):
    for target in np.flatnonzero(np.isfinite(delays) & (weights != 0)):
        heapq.heappush(coming, (t + delays[target], int(target), weights[target]))


class _LIF:
    def __init__(self, p):
        self.p = p
        self.v, self.i = np.array(p["y0"][:, 0], float), np.array(p["y0"][:, 1], float)
        self.closest = math.inf

    def first_spike(self, span):
        p = self.p
        _, _, top = oracle._lif_interval(self.v, self.i, span, p)
        peak, inside = oracle._lif_peak(self.v, self.i, span, p["tmem"], p["tsyn"], p["ic"])
        self.closest = min(self.closest, np.min(np.abs(top - p["thresh"])[inside], initial=math.inf))
        first, neuron = math.inf, None
        for n in np.flatnonzero(top >= p["thresh"]) if span > 0 else ():
            numbers = (self.v[n], self.i[n], p["tmem"][n], p["tsyn"][n], p["ic"][n], p["thresh"][n])
            place = float(peak[n]) if inside[n] else span
            s = brentq(oracle._lif_excess, 0.0, place, args=numbers, xtol=1e-15, rtol=1e-15)
            if s < first:
                first, neuron = s, n
        return first, neuron

    def advance(self, s):
        p = self.p
        self.v = oracle._lif_v(s, self.v, self.i, p["tmem"], p["tsyn"], p["ic"])
        self.i = self.i * np.exp(-s / p["tsyn"])

    def reset(self, neuron):
        self.v[neuron] = self.p["vreset"][neuron]

    def receive(self, weights):
        self.i = self.i + weights

    def states(self):
        return np.stack([self.v, self.i], axis=1)


class _QIF:
    closest = math.inf

    def __init__(self, p):
        self.p = p
        phi = np.array(p["y0"][:, 0], float)
        self.i = np.array(p["y0"][:, 1], float)
        self.u, self.du = np.sin(np.pi * phi), np.pi * np.cos(np.pi * phi) / p["tmem"]

    def _step(self, span):
        p = self.p
        fastest = np.max(np.maximum((1 + np.sqrt(np.abs(self.i) + np.abs(p["ic"]))) / p["tmem"], 1 / p["tsyn"]))
        h = min(span, 1 / fastest)
        return h, oracle._qif_series(self.u, self.du, self.i, h, p)

    def first_spike(self, span):
        done = 0.0
        held = self.u, self.du, self.i
        first, neuron = math.inf, None
        while done < span and neuron is None:
            h, series = self._step(span - done)
            start = np.where(self.u == 0, np.sign(self.du), np.sign(self.u))
            for n in np.flatnonzero(start * series.sum(axis=0) <= 0):
                x = brentq(oracle._polynomial, 0.0, 1.0, args=(series[::-1, n],), xtol=1e-16, rtol=1e-15)
                if x > 0 and done + x * h < first:
                    first, neuron = done + x * h, n
            self._move(h, h)
            done = span if h == span - done else done + h
        self.u, self.du, self.i = held
        return first, neuron

    def _move(self, s, h):
        _, series = self._step(h)
        x = s / h
        u = (series * x ** np.arange(oracle.ORDER + 1)[:, None]).sum(axis=0)
        self.du = (np.arange(1, oracle.ORDER + 1)[:, None] * series[1:] * x ** np.arange(oracle.ORDER)[:, None]).sum(
            axis=0
        ) / h
        self.u, self.i = u, self.i * np.exp(-s / self.p["tsyn"])

    def advance(self, s):
        done = 0.0
        while done < s:
            h, _ = self._step(s - done)
            self._move(h, h)
            done = s if h == s - done else done + h
        scale = np.hypot(self.u, self.p["tmem"] * self.du)
        self.u, self.du = self.u / scale, self.du / scale

    def reset(self, neuron):
        # V goes on from -inf: u goes on through its zero.
        self.u[neuron] = 0.0

    def receive(self, weights):
        self.i = self.i + weights

    def states(self):
        return np.stack([-self.p["tmem"] * self.du / self.u, self.i], axis=1)
