"""Changes of the drive of neurons, as arrivals.

A current that is switched on or off changes the drive of neurons at a time that is known. For a kernel this is an
arrival: through a row of the weights on one clock, and through a synapse for each neuron in windows. These rows and
synapses come last, which is how a kernel knows that they act on the drive. So changes and their times receive
derivatives as weights and input times do.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ...flows.rules import LinearRules

# Neurons with times of their own have rows with one entry each. Up to so many entries, they are rows of a matrix.
_MOST_ENTRIES = 2**22


def count_of(rules: LinearRules) -> tuple[int, bool]:
    """How often the drive of a neuron changes, and whether each neuron has times of its own."""
    if rules.changes is None or rules.change_times is None:
        return 0, False
    return rules.changes.shape[0], rules.change_times.ndim == 2


def fit_in_rows(rules: LinearRules) -> bool:
    """Whether the changes are so few that each can be a row of the weights."""
    count, own = count_of(rules)
    size = len(rules.jumps)
    return not own or count * size * size <= _MOST_ENTRIES


def with_change_rows(
    rules: LinearRules,
    weights: Float[Array, "rows neurons"],
    delays: Float[Array, " rows"],
    spikes: Float[Array, " spikes"],
    sources: Int[Array, " spikes"],
) -> tuple[Array, Array, Array, Array]:
    """Weights, delays and arrivals with the changes behind them, as rows."""
    if rules.changes is None:
        return weights, delays, spikes, sources
    times, changes = _times_of(rules, spikes.dtype), rules.changes
    if count_of(rules)[1]:
        size = weights.shape[1]
        changes = (changes[:, :, None] * jnp.eye(size, dtype=changes.dtype)).reshape(-1, size)
    joined = jnp.concatenate([weights, changes]), jnp.concatenate([delays, jnp.zeros(times.shape, delays.dtype)])
    return *joined, *_with_arrivals(spikes, sources, times, weights.shape[0])


def with_change_synapses(
    rules: LinearRules,
    starts: Int[Array, " rows"],
    targets: Int[Array, " synapses"],
    weights: Float[Array, " synapses"],
    delays: Float[Array, " synapses"],
    spikes: Float[Array, " spikes"],
    sources: Int[Array, " spikes"],
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Synapses and arrivals with the changes behind them, as synapses of further rows."""
    if rules.changes is None:
        return starts, targets, weights, delays, spikes, sources
    times, (count, size) = _times_of(rules, spikes.dtype), rules.changes.shape
    rows, synapses = jnp.arange(1, times.shape[0] + 1, dtype=jnp.int32), count * size
    # Where there are no synapses, there is one that is never used.
    ends = weights.shape[0] + rows * (synapses // times.shape[0])
    places = jnp.concatenate([starts, ends]), jnp.concatenate([targets, _each_neuron(count, size)])
    at_once = jnp.zeros(synapses, delays.dtype)
    numbers = jnp.concatenate([weights, rules.changes.reshape(-1)]), jnp.concatenate([delays, at_once])
    return *places, *numbers, *_with_arrivals(spikes, sources, times, starts.shape[0] - 1)


def _each_neuron(count: int, size: int) -> Int[Array, " synapses"]:
    return jnp.tile(jnp.arange(size, dtype=jnp.int32), count)


def _times_of(rules: LinearRules, dtype: Any) -> Float[Array, " arrivals"]:
    """When changes arrive; where neurons have times of their own, first that of each neuron, then the next of each."""
    times: Any = rules.change_times
    return times.T.reshape(-1).astype(dtype)


def _with_arrivals(spikes: Array, sources: Array, times: Array, rows: int) -> tuple[Array, Array]:
    rows_of_changes = rows + jnp.arange(times.shape[0], dtype=sources.dtype)
    return jnp.concatenate([spikes, times]), jnp.concatenate([sources, rows_of_changes])
