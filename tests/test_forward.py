"""Spike times of random feed-forward networks against an oracle that shares no code with the package."""

import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from random_networks import SHAPES, T_END, build, compare, package_spikes, random_case
from scipy.integrate import solve_ivp

KINDS = ("LIF", "QIF")

# 4 shapes x 26 seeds x 2 models = 208 networks.
SEEDS = range(26)
FEW_SEEDS = range(3)
FEW_SHAPES = ((10, 4),)

# The bar is 1e-7 ms for rtol=1e-9. A peak within 1e-6 of threshold may be seen on either side of it.
EXACT = {"dtype": jnp.float64, "rtol": 1e-9}
EXACT_BAR, EXACT_PAIRED, EXACT_LINE = 1e-7, 1e-6, {"LIF": 1e-6, "QIF": 0.0}

# In float32 with default settings the line is 1000 times wider: a peak 1e-3 from threshold crosses it so slowly that
# an error of the potential of 1e-5 moves the spike by more than 2e-3 ms. QIF neurons do not graze, but those that pass
# close to their unstable equilibrium are as touchy: left out are spikes where errors of the phase grow over 100 times.
MEDIAN_BAR, WORST_BAR, DEFAULT_LINE = 1e-3, 2e-2, {"LIF": 1e-3, "QIF": 1e-2}


def comparisons(kind, shapes, seeds, line, far, **options):
    cases = [random_case(kind, shape, seed) for shape in shapes for seed in seeds]
    return [compare(case, package_spikes(case, build(case, **options)), line=line, far=far) for case in cases]


def assert_exact(results):
    errors = np.concatenate([result.errors for result in results])
    assert [spike for result in results for spike in result.unexplained] == []
    left_out = sum(result.grazing + result.after for result in results)
    assert len(errors) > 50 and left_out <= 0.05 * len(errors)
    assert errors.max() <= EXACT_BAR


def assert_accurate(results):
    errors = np.concatenate([result.errors for result in results])
    assert [spike for result in results for spike in result.unexplained] == []
    # A line that leaves out much would make the bar easy: at most 8 % graze or come after a graze
    # that went wrong. A third of the LIF thresholds were placed from 1e-7 to 0.1 beside a peak.
    left_out = sum(result.grazing + result.after for result in results)
    assert len(errors) > 50 and left_out <= 0.08 * len(errors)
    assert np.median(errors) <= MEDIAN_BAR and errors.max() <= WORST_BAR


@pytest.mark.parametrize("kind", KINDS)
def test_some_random_networks_spike_as_the_oracle_at_rtol_1e_9(kind):
    assert_exact(comparisons(kind, FEW_SHAPES, FEW_SEEDS, EXACT_LINE[kind], EXACT_PAIRED, **EXACT))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_104_random_networks_spike_as_the_oracle_at_rtol_1e_9(kind):
    assert_exact(comparisons(kind, SHAPES, SEEDS, EXACT_LINE[kind], EXACT_PAIRED, **EXACT))


@pytest.mark.parametrize("kind", KINDS)
def test_default_settings_in_float32_are_accurate_for_some_random_networks(kind):
    assert_accurate(comparisons(kind, FEW_SHAPES, FEW_SEEDS, DEFAULT_LINE[kind], WORST_BAR, dtype=jnp.float32))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_default_settings_in_float32_are_accurate_for_104_random_networks(kind):
    assert_accurate(comparisons(kind, SHAPES, SEEDS, DEFAULT_LINE[kind], WORST_BAR, dtype=jnp.float32))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_random_networks_range_from_silent_to_dense_and_some_graze(kind):
    layers = [layer for shape in SHAPES for seed in SEEDS for layer in random_case(kind, shape, seed).truth]
    per_neuron = [np.mean([len(train) for train in layer.spikes]) for layer in layers]
    assert min(per_neuron) < 0.5 and np.quantile(per_neuron, 0.9) > 2 and max(per_neuron) >= 5
    if kind == "LIF":
        heights = np.abs([graze.height for layer in layers for graze in layer.grazes])
        assert (heights < 1e-6).sum() >= 5 and (heights < 1e-3).sum() >= 50


def _scipy_trains(kind, arrivals, sources, weights, p, t_end):
    """Spike trains by a Runge-Kutta solver of order 8, restarted at each arrival and spike; QIF as a phase."""

    def field(t, y, n):
        if kind == "LIF":
            dv = (p["ic"][n] + y[1] - y[0]) / p["tmem"][n]
        else:
            s, c = np.sin(np.pi * y[0]), np.cos(np.pi * y[0])
            dv = (c**2 + s * c / np.pi + (s / np.pi) ** 2 * (p["ic"][n] + y[1])) / p["tmem"][n]
        return [dv, -y[1] / p["tsyn"][n]]

    thresh, reset = (p["thresh"], p["vreset"]) if kind == "LIF" else (np.ones(len(p["ic"])), np.zeros(len(p["ic"])))
    order = np.argsort(arrivals)
    for n in range(len(p["ic"])):

        def crossing(t, y, n):
            return y[0] - thresh[n]

        crossing.terminal, crossing.direction = True, 1
        t, y, train = 0.0, np.array(p["y0"][n]), []
        for stop, jump in [(arrivals[k], weights[sources[k], n]) for k in order] + [(t_end, 0.0)]:
            while t < stop:
                # Short steps, so that no peak hides between the ends of a step.
                run = solve_ivp(
                    field, (t, stop), y, "DOP853", rtol=1e-12, atol=1e-13, max_step=0.2, events=crossing, args=(n,)
                )
                t, y = run.t[-1], run.y[:, -1].copy()
                if run.status == 1:
                    train.append(t)
                    y[0] = reset[n]
            y[1] += jump
        yield np.array(train)


@pytest.mark.parametrize("kind", KINDS)
def test_the_oracle_agrees_with_a_scipy_ode_solver(kind):
    # solve_ivp places events to about 1e-12, and its own errors at these tolerances are below 1e-10.
    rng = np.random.default_rng(3)
    arrivals, sources = rng.uniform(0, 25, 9), np.arange(9) % 3
    weights = rng.normal(1.5, 1.0, (3, 3)) * (1 if kind == "LIF" else 2)
    tmem = np.array([12.0, 5.0, 9.0])
    p = {"tmem": tmem, "tsyn": tmem * [0.4, 1.0, 1.7], "ic": np.array([0.3, -0.1, 0.5]), "y0": np.full((3, 2), 0.4)}
    p |= {"thresh": np.array([1.0, 0.8, 1.3]), "vreset": np.array([0.0, -0.4, 0.2])}
    ours = oracle.simulate(kind, arrivals, sources, weights, p, T_END)
    theirs = list(_scipy_trains(kind, arrivals, sources, weights, p, T_END))
    assert [len(train) for train in ours.spikes] == [len(train) for train in theirs]
    assert sum(map(len, theirs)) >= 6
    assert max(np.abs(ours.times(n) - train).max(initial=0) for n, train in enumerate(theirs)) < 1e-9
