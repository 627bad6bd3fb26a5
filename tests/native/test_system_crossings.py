"""Crossings of linear systems against their exact solutions in many digits."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.linalg

from eventsnn.engine.native.call import call
from eventsnn.engine.native.target import Kernel

CROSSINGS = Kernel("test_crossings", "crossing_kernel:crossings")


def crossings(a, c, h, h0, y, times, passing=False):
    """Of several systems: when each crosses, in which state, and its state at each time."""
    size = a.shape[-1]
    count, n_times = len(a), times.shape[1]
    parts = [a.reshape(count, -1), c, h, h0[:, None], np.zeros((count, 2 * size + size * size + 1 + size))]
    numbers = np.concatenate(parts, axis=1)
    shapes = [jax.ShapeDtypeStruct((count, n_times, *more), jnp.float64) for more in ((), (size,), (size,))]
    arguments = numbers, y, times
    return [np.asarray(x) for x in call(CROSSINGS, shapes, *arguments, passing=int(passing), size=size)]


def cascade(rates, coupling):
    """V' = -r0 V + b I, I' = -r1 I + b J and so on."""
    a = -np.diag(rates)
    return a + np.diag(np.full(len(rates) - 1, coupling), 1)


def systems(seed, count=200, size=3, kind="cascade"):
    rng = np.random.default_rng((seed, size))
    a, c, h = np.zeros((count, size, size)), np.zeros((count, size)), np.zeros((count, size))
    for k in range(count):
        rates = np.exp(rng.uniform(-4, 1, size))
        if k % 3 == 0:
            rates[1:] = rates[1]
        if k % 9 == 0:
            rates[:] = rates[0]
        if kind == "cascade":
            a[k] = cascade(rates, np.exp(rng.uniform(-3, 1)))
        elif kind == "rotating":
            a[k] = rng.normal(0, 0.5, (size, size)) - 0.3 * np.eye(size)
        elif kind == "coupled":
            a[k] = np.abs(rng.normal(0, 0.2, (size, size)))
            a[k] -= np.diag(np.diag(a[k]) + a[k].sum(axis=1) + 0.02)
        elif kind == "stiff":
            a[k] = cascade(rates * np.array([1.0, *[300.0] * (size - 1)]), rng.choice([1.0, 100.0]))
        c[k, 0] = rng.choice([0.0, rng.normal()])
        h[k, 0] = 1.0
        h[k, size - 1] -= rng.choice([0.0, 1.0])
    y = rng.normal(0, 2, (count, size)) * np.exp(rng.uniform(-1, 2, (count, 1)))
    h0 = -np.einsum("nk,nk->n", h, y) - np.exp(rng.uniform(-4, 1, count))
    times = np.exp(rng.uniform(-3, 4, (count, 2)))
    return a, c, h, h0, y, times


def exact(a, c, y, t):
    """The state after `t`, in 40 digits."""
    size = len(a)
    full = mpmath.zeros(size + 1)
    for k in range(size):
        for m in range(size):
            full[k, m] = mpmath.mpf(a[k, m]) * t
        full[k, size] = mpmath.mpf(c[k]) * t
    moved = mpmath.expm(full, method="taylor") * mpmath.matrix([*map(mpmath.mpf, y), 1])
    return moved[:size]


def scan(a, c, h, h0, y, until, steps):
    """The condition at evenly spaced times from 0 to `until`; `steps` is a power of 2."""
    size = len(a)
    full = np.zeros((size + 1, size + 1))
    full[:size, :size], full[:size, size] = a, c
    states = np.array([[*y, 1.0]])
    while len(states) < steps:
        # So many steps later.
        move = scipy.linalg.expm(full * (until / steps * len(states)))
        states = np.concatenate([states, states @ move.T])
    return states[:, :size] @ h + h0


KINDS = ["cascade", "rotating", "coupled", "stiff"]


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_crossings_are_where_the_condition_is_0_for_the_first_time(kind, size):
    a, c, h, h0, y, times = systems(1, count=60, size=size, kind=kind)
    found, there, moved = crossings(a, c, h, h0, y, times)
    crossed = 0
    for k, q in np.ndindex(found.shape):
        until = times[k, q]
        values = scan(a[k], c[k], h[k], h0[k], y[k], until, 2048)
        above = np.flatnonzero(values >= 0)
        scale = abs(h0[k]) + np.abs(h[k] * y[k]).sum() + np.abs(values).max()
        if found[k, q] < 0:
            assert values.max() < 1e-12 * scale, (k, q)
            continue
        crossed += 1
        first = above[0] / 2048 * until if above.size else until
        assert found[k, q] <= first * (1 + 1e-12) + 1e-300
        inside = values[: max(int(found[k, q] / until * 2048), 1)]
        assert np.all(inside < 1e-12 * scale)
    assert crossed > 15


@pytest.mark.parametrize("kind", KINDS)
def test_crossings_and_states_are_exact_to_rounding(kind):
    a, c, h, h0, y, times = systems(2, count=8, kind=kind)
    times = np.minimum(times, 10.0)
    found, there, moved = crossings(a, c, h, h0, y, times)
    mpmath.mp.dps = 40
    for k in range(len(a)):
        t = times[k, 0]
        true = np.array([float(x) for x in exact(a[k], c[k], y[k], mpmath.mpf(t))])
        np.testing.assert_allclose(moved[k, 0], true, rtol=1e-12, atol=1e-13 * np.abs(y[k]).max())
        if found[k, 0] > 0:
            at = [mpmath.mpf(found[k, 0]) * (1 + sign * mpmath.mpf("1e-12")) for sign in (-1, 1)]
            before, after = (
                sum(mpmath.mpf(hk) * xk for hk, xk in zip(h[k], exact(a[k], c[k], y[k], when), strict=True))
                + mpmath.mpf(h0[k])
                for when in at
            )
            state = [float(x) for x in exact(a[k], c[k], y[k], mpmath.mpf(found[k, 0]))]
            scale = abs(h0[k]) + np.abs(h[k] * state).sum()
            assert before < 1e-14 * scale and after > -1e-14 * scale
            np.testing.assert_allclose(there[k, 0], state, rtol=1e-12, atol=1e-13 * np.abs(y[k]).max())


@pytest.mark.parametrize("distance", [1e-3, 1e-6, 1e-9, 1e-12, 3e-15])
@pytest.mark.parametrize("tau, tsyn", [(20.0, 5.0), (5.0, 5.0), (20.0, 0.02), (5.0, 40.0)])
def test_peaks_that_graze_the_threshold_cross_it_if_they_are_higher(distance, tau, tsyn):
    # V' = (I - V) / tau, I' = (J - I) / tsyn, J' = -J / tsyn.
    a = np.array([[-1 / tau, 1 / tau, 0], [0, -1 / tsyn, 1 / tsyn], [0, 0, -1 / tsyn]])
    h, y, c = np.array([1.0, 0, 0]), np.array([0.1, 0.0, 7.3]), np.zeros(3)
    mpmath.mp.dps = 40

    def slope(t):
        x = exact(a, c, y, t)
        return x[1] - x[0]

    low, high = mpmath.mpf(tsyn) / 100, mpmath.mpf(10 * (tau + tsyn))
    for _ in range(110):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    peak = low
    top = float(exact(a, c, y, peak)[0])
    for until in (float(peak) * 1.3, 30.0 * float(peak), 1000.0):
        for sign in (-1, 1):
            h0 = -top * (1 - sign * distance)
            found = crossings(a[None], c[None], h[None], np.array([h0]), y[None], np.array([[until]]))[0][0, 0]
            assert (found >= 0) == (sign > 0), (until, sign, found)
            if sign > 0:
                assert 0 < found < float(peak)


def test_a_slow_crossing_after_a_long_silence_is_found_in_few_parts():
    # V = d / a (1 - exp(-a t)) crosses 1 at log(d / (d - a)) / a, when the current has long decayed.
    slow, d = 1e-5, 1.5e-5
    a = np.array([[-slow, 1e-3, 0], [0, -200.0, 200.0], [0, 0, -200.0]])
    c, h, y = np.array([d, 0, 0]), np.array([1.0, 0, 0]), np.array([0.0, 0.0, 1e-6])
    found = crossings(a[None], c[None], h[None], np.array([-1.0]), y[None], np.array([[1e4, 2e5, 3e6]]))[0][0]
    assert found[0] == -1
    np.testing.assert_allclose(found[1:], np.log(3) / slow, rtol=1e-10)


def test_a_state_that_is_passing_has_to_be_below_first():
    # V = 1.5 cos t - ...: falls from 1.5 through 1, and comes back.
    a, h = np.array([[0.0, -1.0], [1.0, 0.0]]), np.array([1.0, 0.0])
    args = a[None], np.zeros((1, 2)), h[None], np.array([-1.0])
    start = np.array([[1.5 * np.cos(-0.3), 1.5 * np.sin(-0.3)]])
    times = np.array([[0.1, 3.0, 20.0]])
    found = crossings(*args, start, times, passing=True)[0][0]
    np.testing.assert_allclose(found, [-1, -1, 2 * np.pi - np.arccos(1 / 1.5) + 0.3], rtol=1e-12)
    np.testing.assert_array_equal(crossings(*args, start, times)[0][0], 0.0)
