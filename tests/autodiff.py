"""A small simulator whose gradient is ordinary JAX autodiff: the third way to a gradient.

One event after the other in a `lax.scan`. The time of a spike is looked for without gradients; then one Newton step
makes it a differentiable function of everything before. LIF flows by its closed form, QIF by 256 Runge-Kutta steps
(RK4) per event. With 64 its gradients were off by 5e-6 at most, so that 256, at order 4, are good to 2e-8.
"""

import functools

import jax
import jax.numpy as jnp

HIDDEN_SPIKES = 16  # how many spikes a neuron of a hidden layer may emit


def simulate_network(kind, in_spikes, weights, parameters, t_end, queries, max_spikes, delays=None):
    """Spike times `(neurons, max_spikes)`, padded with inf, and states (V, I) at `queries`, of the last layer.

    A spike of input i reaches neuron j of a layer `delays[layer][i, j]` later.
    """
    arrivals = in_spikes.reshape(-1)
    sources = jnp.repeat(jnp.arange(in_spikes.shape[0]), in_spikes.shape[1])
    spikes = states = None
    for number, (w, p) in enumerate(zip(weights, parameters, strict=True)):
        room = max_spikes if number == len(weights) - 1 else HIDDEN_SPIKES
        n_queries, size = len(queries), w.shape[1]
        late = jnp.zeros((len(arrivals), size)) if delays is None else delays[number][sources]
        times = jnp.concatenate([arrivals[:, None] + late, jnp.broadcast_to(queries[:, None], (n_queries, size))])
        jumps = jnp.concatenate([w[sources], jnp.zeros((n_queries, size))])
        order = jnp.argsort(times, axis=0, stable=True)
        times, jumps = (jnp.take_along_axis(x, order, axis=0) for x in (times, jumps))
        run = functools.partial(_neuron, kind, t_end, room)
        spikes, states = jax.vmap(run, in_axes=(1, 1, 0))(times, jumps, p)
        place = jnp.argsort(order, axis=0)[len(arrivals) :].T
        states = jnp.take_along_axis(states, place[..., None], axis=1)
        arrivals = spikes.reshape(-1)
        sources = jnp.repeat(jnp.arange(w.shape[1]), room)
    if kind == "QIF":
        states = jnp.stack([-jnp.pi / jnp.tan(jnp.pi * states[..., 0]), states[..., 1]], axis=-1)
    return spikes, states


def _neuron(kind, t_end, max_spikes, arrivals, jumps, p):
    flow, slope, highest = {"LIF": (_lif_flow, _lif_slope, _lif_peak), "QIF": (_qif_flow, _qif_slope, _no_peak)}[kind]
    thresh, reset = (p["thresh"], p["vreset"]) if kind == "LIF" else (1.0, 0.0)
    n_arrivals = len(arrivals)

    def event(carry, _):
        t, y, index, spikes, count, states = carry
        here = jnp.minimum(index, n_arrivals - 1)
        due = jnp.where(index < n_arrivals, arrivals[here], t_end)
        arrives = (index < n_arrivals) & (due < t_end)
        span = jnp.where(arrives, due, t_end) - t
        top = highest(*jax.lax.stop_gradient((y, span, p)))
        fires = (flow(y, top, p)[0] >= thresh) & (span > 0)

        def halve(_, bracket):
            middle = 0.5 * (bracket[0] + bracket[1])
            below = flow(y, middle, p)[0] < thresh
            return jnp.where(below, middle, bracket[0]), jnp.where(below, bracket[1], middle)

        s = jax.lax.stop_gradient(jax.lax.fori_loop(0, 45, halve, (jnp.zeros_like(top), top))[1])
        at_s = flow(y, s, p)
        s = s - (at_s[0] - thresh) / jax.lax.stop_gradient(jnp.where(fires, slope(at_s, p), 1.0))
        length = jnp.where(fires, s, span)
        v, i = flow(y, length, p)
        arrives = arrives & ~fires
        y = jnp.where(fires, reset, v), i + jnp.where(arrives, jumps[here], 0.0)
        spikes = jnp.where((jnp.arange(max_spikes) == count) & fires, t + s, spikes)
        states = jnp.where(((jnp.arange(n_arrivals) == here) & arrives)[:, None], jnp.stack(y), states)
        return (t + length, y, index + arrives.astype(int), spikes, count + fires.astype(int), states), None

    start = (
        jnp.zeros(()),
        (p["y0"][0], p["y0"][1]),
        jnp.zeros((), int),
        jnp.full(max_spikes, jnp.inf),
        jnp.zeros((), int),
        jnp.zeros((n_arrivals, 2)),
    )
    (_, _, _, spikes, _, states), _ = jax.lax.scan(event, start, length=n_arrivals + max_spikes + 1)
    return spikes, states


def _lif_flow(y, s, p):
    (v, i), tmem, tsyn, c = y, p["tmem"], p["tsyn"], p["ic"]
    x = s * (1 / tmem - 1 / tsyn)
    return c + jnp.exp(-s / tmem) * (v - c + i * s / tmem * _expm1_ratio(x)), i * jnp.exp(-s / tsyn)


def _expm1_ratio(x):
    """(exp(x) - 1)/x and its derivative, also at 0."""
    small = jnp.abs(x) < 1e-2
    safe = jnp.where(small, 1.0, x)
    near = jnp.where(small, x, 0.0)
    series = 1 + near / 2 * (1 + near / 3 * (1 + near / 4 * (1 + near / 5 * (1 + near / 6 * (1 + near / 7)))))
    return jnp.where(small, series, jnp.expm1(safe) / safe)


def _lif_slope(y, p):
    return (y[1] + p["ic"] - y[0]) / p["tmem"]


def _lif_peak(y, span, p):
    """V has at most one maximum, where its slope changes sign: found by halving. Without one, the end."""
    start, end = _lif_slope(y, p), _lif_slope(_lif_flow(y, span, p), p)

    def halve(_, bracket):
        middle = 0.5 * (bracket[0] + bracket[1])
        rises = _lif_slope(_lif_flow(y, middle, p), p) > 0
        return jnp.where(rises, middle, bracket[0]), jnp.where(rises, bracket[1], middle)

    peak = jax.lax.fori_loop(0, 45, halve, (jnp.zeros_like(span), span))[0]
    return jnp.where((start > 0) & (end < 0), peak, span)


def _qif_slope(y, p):
    s, c = jnp.sin(jnp.pi * y[0]), jnp.cos(jnp.pi * y[0])
    return (c**2 + s * c / jnp.pi + (s / jnp.pi) ** 2 * (y[1] + p["ic"])) / p["tmem"]


def _no_peak(y, span, p):
    # The phase only rises through a whole number, so it is above 1 at the end if it ever was.
    return span


def _qif_flow(y, s, p, steps=256):
    h = s / steps

    def field(phi, i):
        return _qif_slope((phi, i), p), -i / p["tsyn"]

    def step(y, _):
        phi, i = y
        k1 = field(phi, i)
        k2 = field(phi + h / 2 * k1[0], i + h / 2 * k1[1])
        k3 = field(phi + h / 2 * k2[0], i + h / 2 * k2[1])
        k4 = field(phi + h * k3[0], i + h * k3[1])
        phi, i = (a + h / 6 * (b + 2 * c + 2 * d + e) for a, b, c, d, e in zip(y, k1, k2, k3, k4, strict=True))
        return (phi, i), None

    return jax.lax.scan(step, y, length=steps)[0]
