"""Who waits is served in turns: counting in a long row, and lines that form again."""

import jax.numpy as jnp
import numpy as np
import pytest

from eventsnn.engine.counting import running_count
from eventsnn.engine.turns import serve_in_turns


@pytest.mark.parametrize("size", [1, 63, 64, 65, 3840, 4096, 4097, 300_000])
@pytest.mark.parametrize("part", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_running_count_is_exact_for_any_length(size, part, dtype):
    some = np.random.default_rng(size).uniform(size=size) < part
    count = running_count(jnp.asarray(some), dtype)
    assert count.dtype == jnp.int32
    np.testing.assert_array_equal(count, np.cumsum(some))


@pytest.mark.parametrize("batch, neurons", [(1, 1), (3, 700), (40, 300)])
def test_everybody_is_served_as_often_as_he_waits(batch, neurons):
    wanted = jnp.asarray(np.random.default_rng(0).integers(0, 5, (batch, neurons)), jnp.int32)

    def serve(turn, served):
        count = turn.look(served) + 1
        return turn.real & (count < turn.look(wanted)), turn.write(served, count)

    served = serve_in_turns(wanted > 0, serve, jnp.zeros_like(wanted), jnp.float32)
    np.testing.assert_array_equal(served, wanted)


def test_ranks_count_within_each_sample():
    some = jnp.asarray(np.random.default_rng(1).uniform(size=(3, 700)) < 0.5)

    def serve(turn, ranks):
        return jnp.zeros_like(turn.real), turn.write(ranks, turn.rank(turn.real & turn.look(some)))

    # All wait, and there are more than one turn holds: ranks start anew in each.
    ranks = serve_in_turns(jnp.ones_like(some), serve, jnp.zeros(some.shape, jnp.int32), jnp.float32)
    size = 512
    flat, first = np.asarray(some).reshape(-1), np.arange(some.size) // size * size
    expected = [flat[max(first[k], k // 700 * 700) : k].sum() for k in range(some.size)]
    np.testing.assert_array_equal(ranks.reshape(-1), expected)
