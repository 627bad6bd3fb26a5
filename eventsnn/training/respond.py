"""What a network does with many samples."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from ..engine.report import SimulationError
from ..evnn import FFEvNN, Record
from ..network import attempt_record
from .losses import first_spike_correct


@dataclasses.dataclass(frozen=True)
class Response:
    """What a network does with samples.

    - `spike_times`: the time to first spike of every output, shape `(samples, out)`, in ms.
    - `spikes_per_neuron`: how often a hidden neuron spikes for one sample, on average. 0 without hidden layers.
    """

    spike_times: Float[np.ndarray, "samples out"]
    spikes_per_neuron: float


def respond(network: FFEvNN, in_spikes: ArrayLike, *, batch_size: int = 250) -> Response:
    """Run a network on samples of shape `(samples, inputs, spikes)`. All calls with one batch size share a program."""
    times, counts = [], []
    for chunk, n in _chunks(network, in_spikes, batch_size):
        _, first, count = _recorded(network, chunk)
        times.append(np.asarray(first)[:n])
        counts.append(np.asarray(count)[:n])
    n_hidden = sum(network.layers[:-1])
    return Response(np.concatenate(times), float(np.mean(np.concatenate(counts))) / n_hidden if n_hidden else 0.0)


def record_one(network: FFEvNN, in_spikes: ArrayLike, *, batch_size: int = 250) -> Record:
    """The record of one sample of shape `(inputs, spikes)`, by the program of `respond`."""
    chunk = np.repeat(np.asarray(in_spikes)[None], batch_size, axis=0)
    record, _, _ = _recorded(network, jnp.asarray(chunk, network.dtype))
    return jax.tree.map(lambda leaf: leaf[0], record)


def predict(network: FFEvNN, in_spikes: ArrayLike, *, batch_size: int = 250) -> Float[np.ndarray, "samples out"]:
    """The time to first spike of every output for every sample, shape `(samples, out)`, in ms."""
    return respond(network, in_spikes, batch_size=batch_size).spike_times


def accuracy(spike_times: ArrayLike, labels: ArrayLike) -> float:
    """The fraction of samples, 0 … 1, whose correct output spikes first. A silent one is wrong."""
    return float(jnp.mean(first_spike_correct(jnp.asarray(spike_times), jnp.asarray(labels))))


def raise_what_failed(query: Callable[[Array], Any], in_spikes: Float[Array, "batch inputs spikes"]) -> NoReturn:
    """Raise the error of the first sample of a batch for which a query has one."""
    for sample in in_spikes:
        query(sample)
    raise SimulationError("a batch of samples failed, each of which can be completed alone")


def _recorded(
    network: FFEvNN, in_spikes: Float[Array, "batch inputs spikes"]
) -> tuple[Record, Float[Array, "batch out"], Int[Array, " batch"]]:
    """The records, the first spikes of the outputs, and how many spikes there were in hidden layers."""
    record, first, count, failed = _attempt(network, in_spikes)
    if network.throw and failed:
        raise_what_failed(network.record, in_spikes)
    return record, first, count


@eqx.filter_jit
def _attempt(network: FFEvNN, in_spikes: Array) -> tuple[Record, Array, Array, Bool[Array, ""]]:
    record, failed = jax.vmap(lambda in_spikes: attempt_record(network, in_spikes))(in_spikes)
    out = jnp.arange(network.layers[-1], dtype=jnp.int32)[:, None]
    mine = record.neurons[-1][:, None, :] == out
    first = jnp.min(jnp.where(mine, record.times[-1][:, None, :], jnp.inf), axis=-1, initial=jnp.inf)
    count = jnp.zeros(len(in_spikes), jnp.int32)
    for layer in record.times[:-1]:
        count = count + jnp.sum(jnp.isfinite(layer), axis=1, dtype=jnp.int32)
    return record, first, count, jnp.any(failed)


def _chunks(network: FFEvNN, in_spikes: ArrayLike, batch_size: int) -> Iterator[tuple[Array, int]]:
    """Batches of one size, so that one compilation serves all, and how many samples of each count."""
    in_spikes = np.asarray(in_spikes)
    batch_size = min(batch_size, len(in_spikes))
    for first in range(0, len(in_spikes), batch_size):
        chunk = in_spikes[first : first + batch_size]
        padding = [(0, batch_size - len(chunk)), (0, 0), (0, 0)]
        yield jnp.asarray(np.pad(chunk, padding, mode="edge"), network.dtype), len(chunk)
