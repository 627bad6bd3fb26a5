"""Parameters with bounds stay between them, and what is not trained stays as it is."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from eventsnn import LIF, FFEvNN, Parameter, hyperparameter, trainable, within_bounds

KEY = jax.random.PRNGKey(0)
BOUNDS = [(0.0, np.inf), (-np.inf, 2.0), (-1.0, 3.0)]

# Optax relies on promotion itself.
pytestmark = pytest.mark.usefixtures("promotion")


@pytest.fixture
def promotion():
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("slope", [-1.0, 1.0])
def test_no_step_however_large_and_no_number_of_steps_leads_out(bounds, slope, dtype):
    params = Parameter(jnp.asarray([0.5, 1.999, 1e-6], dtype), True, bounds)
    for optimizer in (optax.sgd(1e4), optax.adam(0.5)):
        optimizer = within_bounds(optimizer)
        here, state = params, optimizer.init(params)
        for _ in range(200):
            gradient = Parameter(jnp.full(3, slope, dtype), True, bounds)
            updates, state = optimizer.update(gradient, state, here)
            here = optax.apply_updates(here, updates)
            assert np.all(np.isfinite(here.value)) and np.all((here.value > bounds[0]) & (here.value < bounds[1]))
        assert np.all((here.value < params.value) == (slope > 0))


@pytest.mark.parametrize("bounds", BOUNDS)
def test_a_small_step_is_a_step_of_gradient_descent_in_the_coordinate(bounds):
    lower, upper = bounds

    def value_of(free):
        if np.isinf(upper):
            return lower + jnp.exp(free)
        return upper - jnp.exp(-free) if np.isinf(lower) else lower + (upper - lower) * jax.nn.sigmoid(free)

    def loss(value):
        return jnp.sin(2 * value)

    free = jnp.asarray(0.3, jnp.float64)
    params = Parameter(value_of(free), True, bounds)
    optimizer = within_bounds(optax.sgd(1e-3))
    gradient = Parameter(jax.grad(loss)(params.value), True, bounds)
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    expected = value_of(free - 1e-3 * jax.grad(lambda free: loss(value_of(free)))(free))
    np.testing.assert_allclose(params.value + updates.value, expected, rtol=1e-12)


class Bounded(LIF):
    thresh: Parameter = hyperparameter(1.0, "threshold of V", bounds=(0.8, 1.2))


def test_training_moves_what_is_trainable_keeps_bounds_and_leaves_all_else_alone_weight_decay_included():
    net = FFEvNN([3], 1, Bounded, 20.0, KEY, dtype=jnp.float64, init_weights=9.0, trainable=("tmem", "thresh"))
    trained, fixed = eqx.partition(net, trainable(net))
    optimizer = within_bounds(optax.adamw(0.3, weight_decay=0.1))
    state = optimizer.init(trained)

    @eqx.filter_jit
    def step(trained, state):
        def loss(trained):
            return jnp.sum(eqx.combine(trained, fixed).ttfs(jnp.array([[1.0]])))

        gradient = eqx.filter_grad(loss)(trained)
        updates, state = optimizer.update(gradient, state, trained)
        return eqx.apply_updates(trained, updates), state

    for _ in range(30):
        trained, state = step(trained, state)
    after, before = eqx.combine(trained, fixed).neurons[0], net.neurons[0]
    for name in ("tsyn", "vreset", "y0"):
        np.testing.assert_array_equal(getattr(after, name).value, getattr(before, name).value)
    # Spikes come earlier with a lower threshold and a faster membrane.
    assert 0.8 < after.thresh.value < 0.9 and 0 < after.tmem.value < 1
    assert np.all(after.ic > before.ic)


def test_update_without_parameters_says_what_is_missing():
    optimizer = within_bounds(optax.sgd(0.1))
    params = Parameter(jnp.ones(2), True, (0.0, 2.0))
    with pytest.raises(ValueError, match="params is missing"):
        optimizer.update(params, optimizer.init(params))


@pytest.mark.parametrize(("bounds", "value"), [((0.8, 1.2), 1.2), ((0.8, 1.2), 0.7), ((0.0, np.inf), 0.0)])
def test_a_value_at_or_beyond_its_bounds_is_refused(bounds, value):
    class Model(LIF):
        thresh: Parameter = hyperparameter(1.0, "threshold of V", bounds=bounds)

    with pytest.raises(ValueError, match="thresh is .*, expected a value that is (between|greater)"):
        Model(2, thresh=value)
