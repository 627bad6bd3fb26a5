"""When two instants are the same, and clocks that do not drift. Numbers 31 and 41 to 43 of the hostile cases."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import IF, LIF, QIF, DeltaLIF, EvNN, FFEvNN, Refractory, StepCurrent, WithBiasCurrent
from eventsnn.engine.instants import instant_width, time_at

KEY, NONE = jax.random.PRNGKey(0), jnp.full((1, 1), jnp.inf, jnp.float32)
slow = pytest.mark.slow
DTYPES = [pytest.param(jnp.float32, id="float32"), pytest.param(jnp.float64, id="float64")]
both_dtypes = pytest.mark.parametrize("dtype", DTYPES)


def spikes_of(record):
    times = np.asarray(record.times[0], np.float64)
    return times[np.isfinite(times)]


def ulps(times, true):
    """How far float32 times are from the true ones, in units in the last place."""
    return np.abs(times - true) / np.spacing(np.float32(true))


# 41. Refractory times that are multiples of the grid of the inputs.

# Inputs at 0, 0.1, …, 100, each enough for a spike: one spike every `tref`.
GRID = [k / 10 for k in range(1001)]
COUNTS = {0.3: 334, 0.7: 143, 1.0: 101, 1.1: 91, 2.3: 44}


def on_a_grid(kind, tref, dtype):
    keywords = {"tref": tref, "dtype": dtype, "max_event_steps": 1000}
    model = Refractory(DeltaLIF)
    if kind in ("closed form", "solver"):
        engine = "auto" if kind == "closed form" else "numerical"
        return FFEvNN([1], 1, model, 101.0, KEY, init_weights=1.5, engine=engine, **keywords)
    weights, delays = np.array([[0.0], [1.5]]), np.array([[1.0], [0.0]])
    return EvNN(
        model, 1, 1, 101.0, KEY, init_weights=weights, init_delays=delays, windows=kind == "windows", **keywords
    )


@both_dtypes
@pytest.mark.parametrize(
    "kind",
    ["closed form", *(pytest.param(kind, marks=slow) for kind in ("solver", "clock", "windows"))],
)
def test_41_every_refractory_time_is_exactly_so_many_inputs_long(kind, dtype):
    x = jnp.asarray([GRID], dtype)
    for tref, count in COUNTS.items():
        times = spikes_of(on_a_grid(kind, tref, dtype).record(x))
        assert len(times) == count, tref
        np.testing.assert_allclose(np.diff(times), tref, rtol=0, atol=2 * float(instant_width(x.max())))


# 42. 0.1 + 0.2 against 0.3.

KINDS = ["closed form", "solver", "clock", "windows"]


def pairs(dtype):
    """Times a, b and c in tenths where a + b is rounded to a later time than c, as 0.1 + 0.2 is in float64."""
    number = np.dtype(dtype).type
    found = [
        (i, j) for i in range(1, 400, 7) for j in range(1, 60) if number(i / 10) + number(j / 10) > number((i + j) / 10)
    ]
    return np.array([(i / 10, j / 10, (i + j) / 10) for i, j in [(1, 2), *found][:40]])


def excited_and_inhibited(kind, dtype, late=0.0, **keywords):
    """A neuron for each pair, excited at c, and inhibited by what was sent at a and takes b + `late`."""
    a, b, c = pairs(dtype).T
    n = len(a)
    weights, delays = np.zeros((2 * n, n)), np.zeros((2 * n, n))
    weights[np.arange(n), np.arange(n)], weights[np.arange(n) + n, np.arange(n)] = 1.5, -1.0
    delays[np.arange(n) + n, np.arange(n)] = b + late
    x = jnp.asarray(np.concatenate([c, a])[:, None], dtype)
    keywords = {"dtype": dtype, **keywords}
    if kind in ("closed form", "solver"):
        engine = "auto" if kind == "closed form" else "numerical"
        net = FFEvNN(
            [n], 2 * n, DeltaLIF, 50.0, KEY, init_weights=weights, init_delays=delays, engine=engine, **keywords
        )
    else:
        weights, delays = (np.concatenate([np.zeros((n, n)), rows]) for rows in (weights, delays))
        delays[:n] = 1.0
        mask = weights != 0
        mask[:n] = np.eye(n)
        windows = kind == "windows"
        net = EvNN(
            DeltaLIF,
            n,
            2 * n,
            50.0,
            KEY,
            init_weights=weights,
            init_delays=delays,
            wmask=mask,
            windows=windows,
            **keywords,
        )
    return net, x


@both_dtypes
@pytest.mark.parametrize("kind", ["closed form", *(pytest.param(kind, marks=slow) for kind in KINDS[1:])])
def test_42_a_sum_of_times_and_the_time_itself_are_one_instant(kind, dtype):
    assert len(pairs(dtype)) == 40
    net, x = excited_and_inhibited(kind, dtype)
    assert np.all(np.isinf(net.ttfs(x)))
    # A hundred instants later is later.
    net, x = excited_and_inhibited(kind, dtype, late=100 * float(instant_width(jnp.asarray(50.0, dtype))))
    np.testing.assert_allclose(
        net.ttfs(x), pairs(dtype)[:, 2], rtol=0, atol=float(instant_width(jnp.asarray(50.0, dtype)))
    )


def test_42_a_query_at_a_time_sees_what_arrives_at_a_sum_that_is_the_same_instant():
    x = jnp.array([[0.1]])
    assert 0.1 + 0.2 > 0.3
    for engine in "auto", "numerical":
        net = FFEvNN([1], 1, DeltaLIF, 1.0, KEY, init_weights=0.5, init_delays=0.2, dtype=jnp.float64, engine=engine)
        np.testing.assert_array_equal(net.state_at_t(x, jnp.array([0.3, 0.2999]))[0, :, 0], [0.5, 0.0])


@pytest.mark.parametrize("engine", ["auto", "numerical"])
def test_42_what_arrives_at_the_instant_of_the_end_belongs_to_the_run(engine):
    net = FFEvNN([1], 1, DeltaLIF, 0.3, KEY, init_weights=1.5, init_delays=0.2, dtype=jnp.float64, engine=engine)
    np.testing.assert_array_equal(net.ttfs(jnp.array([[0.1]])), [0.3])


@both_dtypes
def test_42_a_breakpoint_at_the_instant_of_an_input_comes_with_it(dtype):
    # The current stops where the input comes, in both orders of rounding: nothing is added in between.
    a, b, c = pairs(dtype)[0]
    model = WithBiasCurrent(DeltaLIF)
    for stop, arrives in ((a + b, c), (c, a + b)):
        net = FFEvNN(
            [1], 1, model, 5.0, KEY, init_weights=0.5, current=StepCurrent(1.0, start=0.0, stop=stop), dtype=dtype
        )
        state = net.state_at_t(jnp.asarray([[arrives]], dtype), jnp.asarray([c], dtype))[0, 0, 0]
        np.testing.assert_allclose(state, 1 - np.exp(-c / 20) + 0.5, rtol=0, atol=10 * float(jnp.finfo(dtype).eps))


@both_dtypes
def test_42_a_dense_sequence_of_arrivals_is_not_one_instant(dtype):
    # A thousand inputs, each within the width of an instant of the next. Together they are 20 times the threshold, and
    # the neuron has to spike on the way and not only after the last.
    width = float(instant_width(jnp.asarray(512.0, dtype)))
    x = 512.0 + 0.9 * width * np.arange(1000)
    for engine in "auto", "numerical":
        net = FFEvNN([1], 1, DeltaLIF, 600.0, KEY, init_weights=0.02, dtype=dtype, engine=engine)
        times = spikes_of(net.record(jnp.asarray([x], dtype)))
        assert 10 <= len(times) <= 20, engine


# 43. Clocks.


def test_43_what_rounding_takes_from_a_clock_is_not_lost():
    clock = time_at(jnp.asarray(0.0, jnp.float32))
    step = jnp.asarray(0.1, jnp.float32)
    clock = jax.lax.fori_loop(0, 100_000, lambda _, clock: clock.after(step), clock)
    assert abs(float(clock.t) - 100_000 * float(step)) <= 0.5 * np.spacing(np.float32(10_000))


def qif_period(current, tmem):
    """τ V' = V (V - 1) + c from -∞ to ∞."""
    return 2 * np.pi * tmem / np.sqrt(4 * current - 1)


# A model, what the network is given, the period, and when the first spike comes before a whole period is over.
TRAINS = {
    "LIF": (LIF, {"init_bias": 2.0}, 20 * np.log(2), 0.0),
    "IF": (IF, {"init_bias": 2.0}, 10.0, 0.0),
    "QIF": (QIF, {"init_bias": 3.0, "y0": 0.0, "rtol": 1e-6, "max_steps": 10**7}, qif_period(3.0, 20.0), 0.0),
    "refractory LIF": (Refractory(LIF), {"init_bias": 2.0, "tref": 2.0}, 20 * np.log(2) + 2, 2.0),
    "LIF, by the solver": (
        *(LIF, {"init_bias": 2.0, "rtol": 1e-6, "max_steps": 10**7, "engine": "numerical"}),
        *(20 * np.log(2), 0.0),
    ),
}


@pytest.mark.parametrize("name", ["LIF", *(pytest.param(name, marks=slow) for name in TRAINS if name != "LIF")])
def test_43_the_last_of_ten_thousand_spikes_is_within_three_ulps_of_its_time(name):
    model, keywords, period, early = TRAINS[name]
    t_end = float(np.float32(10_000.5 * period))
    net = FFEvNN([1], 1, model, t_end, KEY, max_event_steps=12_000, **keywords)
    times = spikes_of(net.record(NONE))
    true = period * np.arange(1, 10_001) - early
    assert len(times) == 10_000
    assert np.max(ulps(times, true)) <= 3


def test_43_the_case_that_was_reported():
    net = FFEvNN([1], 1, LIF, 1e5, KEY, init_bias=2.0, max_event_steps=8000)
    times = spikes_of(net.record(NONE))
    assert len(times) == 7213
    assert ulps(times[-1], 99993.412268) <= 3


@pytest.mark.parametrize("windows", [pytest.param(True, marks=slow), pytest.param(False, marks=slow)])
def test_43_spikes_that_cause_each_other_do_not_drift(windows):
    # Three neurons in a ring, each fired at once by the one before, 1.1 ms later: spike k comes at 1.1 k.
    weights = 1.5 * np.eye(4, 3, -3) + 1.5 * np.roll(np.eye(4, 3), 1, axis=1) * (np.arange(4) < 3)[:, None]
    net = EvNN(
        *(DeltaLIF, 3, 1, 11_000.5, KEY),
        **{"init_weights": weights, "wmask": weights != 0, "init_delays": 1.1, "windows": windows},
        max_event_steps=12_000,
    )
    times = spikes_of(net.record(jnp.zeros((1, 1), jnp.float32)))
    assert len(times) == 10_000
    # A delay is a number in float32, which differs from 1.1 as well.
    assert np.max(ulps(times, float(np.float32(1.1)) * np.arange(1, 10_001))) <= 3


@slow
def test_43_neurons_that_run_through_windows_do_not_drift():
    weights = 0.25 * np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    trains = []
    for dtype in jnp.float32, jnp.float64:
        net = EvNN(
            *(LIF, 2, 1, 60_000.0, KEY),
            **{"init_weights": weights, "wmask": weights != 0, "init_delays": 4.0, "init_bias": 2.0, "windows": True},
            **{"max_event_steps": 12_000, "dtype": dtype},
        )
        trains.append(spikes_of(net.record(jnp.full((1, 1), jnp.inf, dtype))))
    assert len(trains[0]) == len(trains[1]) > 9_000
    assert np.max(ulps(*trains)) <= 3


def test_43_states_and_gradients_late_in_a_run_are_right():
    # V = 2 (1 - exp(-s/20)) with s since the last spike, and the time of spike N has the derivative -10 N by the bias.
    net = FFEvNN([1], 1, LIF, 20_000.0, KEY, init_bias=2.0, max_event_steps=2000)
    period = 20 * np.log(2)
    times = np.array([15_000.0, 19_999.0], np.float32)
    v = np.asarray(net.state_at_t(NONE, times))[0, :, 0]
    # dV/dt is 0.1 per ms at most, and a unit in the last place of these times 0.002 ms.
    np.testing.assert_allclose(v, 2 * (1 - np.exp(-np.mod(times.astype(float), period) / 20)), rtol=0, atol=3e-4)

    def last(net):
        record = net.record(NONE)
        return jnp.max(jnp.where(jnp.isfinite(record.times[0]), record.times[0], 0))

    gradient = eqx.filter_grad(last)(net).neurons[0].ic[0]
    np.testing.assert_allclose(gradient, -10 * np.floor(20_000 / period), rtol=1e-4)


@both_dtypes
def test_31_a_late_start_of_an_input_is_told_apart_by_a_few_ulps(dtype):
    # Two inputs ten instants apart are two, even late in a run.
    width = float(instant_width(jnp.asarray(1e5, dtype)))
    net = FFEvNN([2], 2, DeltaLIF, 1.1e5, KEY, init_weights=np.eye(2) * 1.5, dtype=dtype)
    x = jnp.asarray([[1e5], [1e5 + 10 * width]], dtype)
    np.testing.assert_array_equal(net.ttfs(x), x[:, 0])
