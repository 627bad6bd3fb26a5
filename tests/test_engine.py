"""What the numerical engine promises beyond the queries: replay, limits, bounds and other solvers."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn import LIF, QIF, RESULTS, FFEvNN, SimulationError
from eventsnn.engine import independent

IN_SPIKES = jnp.asarray([[0.5, 6.0, 11.0], [3.0, 9.0, jnp.inf]], jnp.float64)


def network(model=LIF, layers=(6, 2), **options):
    scale = {LIF: {"wlim": 6.0, "wmean": 4.0}, QIF: {"wlim": 50.0, "wmean": 30.0}}[model]
    settings = {"dtype": jnp.float64, "rtol": 1e-9, "blim": 0.5, "engine": "numerical", **scale, **options}
    return FFEvNN(list(layers), 2, model, 30.0, jax.random.PRNGKey(1), **settings)


def gradient(net):
    def total(net):
        times = net.record(IN_SPIKES).times[-1]
        states = net.state_at_t(IN_SPIKES, jnp.asarray([3.0, 17.0, 29.0]), layer=0)
        return jnp.sum(jnp.where(jnp.isfinite(times), times, 0)) + jnp.sum(states)

    return jax.flatten_util.ravel_pytree(eqx.filter_grad(total)(net))[0]


@pytest.fixture(scope="module")
def whole_gradient():
    """That of a run which is written down as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eventsnn.engine.independent._RECORDED", 4096)
        jax.clear_caches()
        found = np.asarray(gradient(network()))
    jax.clear_caches()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("length, memory, fewest", [(7, 10**9, 8), (5, 0, 2)])
def test_a_run_too_long_to_be_written_down_has_the_same_gradient(change_engine, whole_gradient, length, memory, fewest):
    # The second case keeps two starts only, so that blocks are reached through others.
    net, whole = network(), whole_gradient
    change_engine("independent._RECORDED", length)
    change_engine("independent._BYTES", 0)
    change_engine("replay._BYTES", memory)
    change_engine("replay._FEWEST", fewest)
    in_pieces = gradient(net)
    assert np.abs(whole).max() > 1
    np.testing.assert_array_equal(in_pieces, whole)


@pytest.mark.parametrize("size, held", [(1, 256), (3, 253), (4, 190), (120, 64)])
def test_more_is_written_down_where_it_takes_little_memory(size, held):
    channels = (jnp.zeros((1, size), jnp.float32),) * 2
    assert independent._room(channels, 64) == held and independent._room(channels, 0) == 0


def test_a_list_that_is_exactly_full_works_and_one_spike_more_is_an_error():
    # A constant drive of twice the threshold makes a neuron spike every 20 ln 2 = 13.86 ms: twice in 30 ms.
    def spikes(max_event_steps):
        net = network(layers=(3,), blim=None, init_bias=2.0, wlim=None, wmean=0.0, max_event_steps=max_event_steps)
        return net.record(IN_SPIKES)

    expected = np.repeat(20 * np.log(2) * np.array([1, 2]), 3)
    np.testing.assert_allclose(spikes(6).times[0], expected, atol=1e-7)
    np.testing.assert_array_equal(spikes(6).neurons[0], [0, 1, 2, 0, 1, 2])
    with pytest.raises(SimulationError, match="layer 0 emitted more than max_event_steps = 5 spikes"):
        spikes(5)


def test_without_throw_the_result_says_what_went_wrong():
    net = network(layers=(3,), blim=None, init_bias=2.0, wlim=None, wmean=0.0, max_event_steps=5, throw=False)
    assert net.record(IN_SPIKES).result == RESULTS.too_many_spikes
    with pytest.raises(SimulationError, match=r"layer 0, neuron 0 emitted more than max_spikes = 1"):
        eqx.tree_at(lambda net: net.neurons[0].ic, network(layers=(3,)), jnp.full(3, 2.0)).spikes_until_t(
            IN_SPIKES, 30.0, max_spikes=1
        )


def test_a_neuron_that_takes_too_many_steps_says_so():
    with pytest.raises(SimulationError, match="layer 0, neuron .*raise max_steps"):
        network(layers=(3,), max_steps=1, max_event_steps=1).record(IN_SPIKES)


@pytest.mark.slow
@pytest.mark.parametrize("solver", [diffrax.Dopri5(), diffrax.Dopri8(), diffrax.Bosh3(), diffrax.Kvaerno5()])
def test_any_solver_gives_the_same_spikes_and_gradients(solver):
    # Third-order Bosh3 needs many steps at this tolerance, and the bar is a hundred times the tolerance.
    def first_and_gradient(**options):
        net = network(QIF, layers=(4,), rtol=1e-7, **options)
        value, grad = eqx.filter_value_and_grad(lambda net: jnp.sum(net.ttfs(IN_SPIKES)))(net)
        return value, grad.connections[0].weights

    value, grad = first_and_gradient()
    other_value, other_grad = first_and_gradient(solver=solver)
    assert jnp.isfinite(value)
    np.testing.assert_allclose(other_value, value, rtol=1e-5)
    np.testing.assert_allclose(other_grad, grad, rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_min_slope_bounds_a_gradient_and_keeps_its_sign():
    # V rises to 1 - exp(-t/20) times 1.01 under a constant drive: at threshold its slope is 0.01/20.
    def slow(min_slope):
        net = FFEvNN(
            [1], 1, LIF, 200.0, jax.random.PRNGKey(0), dtype=jnp.float64, rtol=1e-9, init_bias=1.01, wmean=0.1,
            min_slope=min_slope,
        )  # fmt: skip
        silence = jnp.full((1, 1), jnp.inf, jnp.float64)
        slope = net.record(silence).slopes[0][0]
        return slope, eqx.filter_grad(lambda net: net.ttfs(silence)[0])(net).neurons[0].ic[0]

    slope, true = slow(0.0)
    np.testing.assert_allclose(slope, 0.01 / 20, rtol=1e-6)
    # t = -20 log(1 - 1/b), so dt/db = -20 / (b (b - 1)).
    np.testing.assert_allclose(true, -20 / (1.01 * 0.01), rtol=1e-6)
    _, bounded = slow(0.005)
    np.testing.assert_allclose(bounded, true / 10, rtol=1e-6)


def test_an_adaptive_controller_needs_a_solver_with_an_error_estimate():
    with pytest.raises(ValueError, match="Euler has no error estimate"):
        network(solver=diffrax.Euler())
    with pytest.raises(TypeError, match="expected diffrax.PIDController or diffrax.ConstantStepSize"):
        network(rtol=None, stepsize_controller=diffrax.StepTo(ts=jnp.asarray([0.0, 30.0])))
