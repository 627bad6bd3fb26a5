"""Training a network to tell classes apart by which output spikes first."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from ..evnn import FFEvNN
from .losses import first_spike_correct, first_spike_loss, wake_loss


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are the published recipe for Yin-Yang.

    - `epochs`: how often to go through the data.
    - `batch_size`: samples per step. What is left over at the end of an epoch waits for another.
    - `learning_rate`, `decay`: of Adam in the first epoch, and its factor from epoch to epoch.
    - `tau0`, `tau1`, `alpha`: see `first_spike_loss`; times in ms.
    - `wake`: the weight of `wake_loss`, which is 0 unless a correct output is silent.
    - `seed`: determines the order of the samples.
    """

    epochs: int = 100
    batch_size: int = 32
    learning_rate: float = 5e-3
    decay: float = 0.95
    tau0: float = 0.5
    tau1: float = 6.4
    alpha: float = 3e-3
    wake: float = 1.0
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            _reject_unless(getattr(self, name) >= 1, name, getattr(self, name), "a whole number from 1 on")
        for name in ("learning_rate", "decay", "tau0", "tau1"):
            _reject_unless(getattr(self, name) > 0, name, getattr(self, name), "a number above 0")
        for name in ("alpha", "wake", "seed"):
            _reject_unless(getattr(self, name) >= 0, name, getattr(self, name), "a number that is 0 or more")


@dataclasses.dataclass(frozen=True)
class Samples:
    """Inputs and the classes that they belong to.

    - `in_spikes`: shape `(samples, inputs, spikes)`, in ms, padded with `inf`.
    - `labels`: shape `(samples,)`, whole numbers from 0 on.
    """

    in_spikes: Float[ArrayLike, "samples inputs spikes"]
    labels: Int[ArrayLike, " samples"]

    def __post_init__(self):
        shapes = np.shape(self.in_spikes), np.shape(self.labels)
        if len(shapes[0]) != 3 or shapes[1] != shapes[0][:1] or shapes[0][0] == 0:
            raise ValueError(
                f"in_spikes has shape {shapes[0]} and labels {shapes[1]}, expected (samples, inputs, spikes) "
                "and (samples,), with at least one sample"
            )

    def __len__(self) -> int:
        return np.shape(self.labels)[0]


@dataclasses.dataclass(frozen=True)
class EpochSummary:
    """What an epoch of training came to.

    - `epoch`: its number, from 1 on.
    - `loss`, `train_accuracy`: means over the training samples, while they were used; 0 … 1.
    - `validation_accuracy`: afterwards, on samples that were not trained on; 0 … 1.
    - `spikes_per_neuron`: of the hidden neurons per validation sample.
    - `silent_outputs`: the fraction of output neurons that did not spike for a validation sample.
    - `seconds`: how long it took.
    """

    epoch: int
    loss: float
    train_accuracy: float
    validation_accuracy: float
    spikes_per_neuron: float
    silent_outputs: float
    seconds: float = 0.0


class TrainingState(eqx.Module):
    """Everything that training goes on from.

    - `network`: as trained so far.
    - `optimiser_state`: the state of optax.
    - `epoch`: how many epochs are done.
    """

    network: FFEvNN
    optimiser_state: PyTree
    epoch: int = eqx.field(static=True)


def weights_only(network: FFEvNN) -> PyTree:
    """A filter for `equinox.partition` that is `True` for weights, and `False` for biases and all else."""
    nothing = jax.tree.map(lambda _: False, network)
    return eqx.tree_at(lambda net: [c.weights for c in net.connections], nothing, replace=[True] * len(network.layers))


def start(network: FFEvNN, recipe: Recipe, n_samples: int, wanted: PyTree | None = None) -> TrainingState:
    """The state before the first epoch. `wanted` says what to train, by default `weights_only`."""
    wanted = weights_only(network) if wanted is None else wanted
    optimiser = _optimiser(recipe, _n_batches(recipe, n_samples))
    return TrainingState(network, optimiser.init(eqx.filter(network, wanted)), 0)


def train_epoch(
    state: TrainingState,
    samples: Samples,
    recipe: Recipe,
    *,
    wanted: PyTree | None = None,
    on_batch: Callable[[int, int], Any] = lambda done, total: None,
) -> tuple[TrainingState, float, float]:
    """One pass through the training data.

    The order of the samples depends on the seed and the number of the epoch alone, so training
    that was interrupted and resumed gives the same numbers as training that was not.

    **Arguments:**

    - `state`: from `start` or an earlier epoch.
    - `samples`: the training data.
    - `recipe`: how to train.
    - `wanted`: as given to `start`.
    - `on_batch`: called with the number of batches done and their total.

    **Returns:** the state afterwards, the mean loss, and the fraction of samples that were right.

    **Raises:** `ValueError` if there are fewer samples than a batch needs; whatever `ttfs` raises.
    """
    wanted = weights_only(state.network) if wanted is None else wanted
    total = _n_batches(recipe, len(samples))
    order = np.random.default_rng([recipe.seed, state.epoch]).permutation(len(samples))
    in_spikes, labels = np.asarray(samples.in_spikes), np.asarray(samples.labels)
    network, optimiser_state = state.network, state.optimiser_state
    losses, correct = [], []
    for number in range(total):
        batch = order[number * recipe.batch_size : (number + 1) * recipe.batch_size]
        inputs = jnp.asarray(in_spikes[batch], network.dtype), jnp.asarray(labels[batch])
        trained, fixed = eqx.partition(network, wanted)
        network, optimiser_state, loss, right = _step(trained, fixed, optimiser_state, *inputs, recipe, total)
        losses.append(float(loss))
        correct.append(float(right))
        on_batch(number + 1, total)
    return (
        TrainingState(network, optimiser_state, state.epoch + 1),
        float(np.mean(losses)),
        float(np.mean(correct)),
    )


def predict(network: FFEvNN, in_spikes: ArrayLike, *, batch_size: int = 250) -> Float[np.ndarray, "samples out"]:
    """The time to first spike of every output for every sample, shape `(samples, out)`, in ms."""
    chunks = [np.asarray(_ttfs(network, chunk))[:n] for chunk, n in _chunks(network, in_spikes, batch_size)]
    return np.concatenate(chunks)


def accuracy(spike_times: ArrayLike, labels: ArrayLike) -> float:
    """The fraction of samples, 0 … 1, whose correct output spikes first. A silent one is wrong."""
    return float(jnp.mean(first_spike_correct(jnp.asarray(spike_times), jnp.asarray(labels))))


def hidden_spikes_per_neuron(network: FFEvNN, in_spikes: ArrayLike, *, batch_size: int = 250) -> float:
    """How often a neuron that is not an output spikes for one sample, on average. 0 without hidden layers."""
    n_hidden = sum(network.layers[:-1])
    if n_hidden == 0:
        return 0.0
    counts = [np.asarray(_counts(network, chunk))[:n] for chunk, n in _chunks(network, in_spikes, batch_size)]
    return float(np.mean(np.concatenate(counts)) / n_hidden)


def _reject_unless(fine: bool, name: str, value: Any, wanted: str) -> None:
    if not fine:
        raise ValueError(f"{name} is {value}, expected {wanted}")


def _n_batches(recipe: Recipe, n_samples: int) -> int:
    if n_samples < recipe.batch_size:
        raise ValueError(f"batch_size is {recipe.batch_size}, expected at most the number of samples, {n_samples}")
    return n_samples // recipe.batch_size


def _optimiser(recipe: Recipe, n_batches: int) -> optax.GradientTransformation:
    return optax.adam(optax.exponential_decay(recipe.learning_rate, n_batches, recipe.decay, staircase=True))


@eqx.filter_jit
def _step(
    trained: FFEvNN,
    fixed: FFEvNN,
    optimiser_state: PyTree,
    in_spikes: Float[Array, "batch inputs spikes"],
    labels: Int[Array, " batch"],
    recipe: Recipe,
    n_batches: int,
) -> tuple[FFEvNN, PyTree, Float[Array, ""], Float[Array, ""]]:
    (_, (loss, right)), gradient = eqx.filter_value_and_grad(_batch_loss, has_aux=True)(
        trained, fixed, in_spikes, labels, recipe
    )
    # Optax multiplies whole numbers by floating point ones, which strict promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        updates, optimiser_state = _optimiser(recipe, n_batches).update(gradient, optimiser_state, trained)  # pyright: ignore
    trained = eqx.apply_updates(trained, updates)
    return eqx.combine(trained, fixed), optimiser_state, loss, jnp.mean(right)


def _batch_loss(
    trained: FFEvNN, fixed: FFEvNN, in_spikes: Array, labels: Array, recipe: Recipe
) -> tuple[Float[Array, ""], tuple[Float[Array, ""], Bool[Array, " batch"]]]:
    network = eqx.combine(trained, fixed)
    spike_times = _spike_times(network, in_spikes)
    losses = first_spike_loss(
        spike_times,
        labels,
        silent_time=network.max_solver_time,
        tau0=recipe.tau0,
        tau1=recipe.tau1,
        alpha=recipe.alpha,
    )
    loss = jnp.mean(losses)
    missing = wake_loss(spike_times, labels, network.connections[-1].weights)
    # The loss that is shown leaves out what only serves to wake neurons.
    return loss + recipe.wake * missing, (loss, first_spike_correct(spike_times, labels))


def _spike_times(network: FFEvNN, in_spikes: Array) -> Float[Array, "batch out"]:
    spike_times = jax.vmap(network.ttfs)(in_spikes)
    # Whatever stands for no spike in this network, the losses expect inf.
    return jnp.where(spike_times == network.output_no_spike_value, jnp.inf, spike_times)


@eqx.filter_jit
def _ttfs(network: FFEvNN, in_spikes: Array) -> Float[Array, "batch out"]:
    return _spike_times(network, in_spikes)


@eqx.filter_jit
def _counts(network: FFEvNN, in_spikes: Array) -> Int[Array, " batch"]:
    times = jax.vmap(network.record)(in_spikes).times[:-1]
    return sum((jnp.sum(jnp.isfinite(layer), axis=1) for layer in times), jnp.zeros(len(in_spikes), int))


def _chunks(network: FFEvNN, in_spikes: ArrayLike, batch_size: int) -> Iterator[tuple[Array, int]]:
    """Batches of one size, so that one compilation serves all, and how many samples of each count."""
    in_spikes = np.asarray(in_spikes)
    batch_size = min(batch_size, len(in_spikes))
    for first in range(0, len(in_spikes), batch_size):
        chunk = in_spikes[first : first + batch_size]
        padding = [(0, batch_size - len(chunk)), (0, 0), (0, 0)]
        yield jnp.asarray(np.pad(chunk, padding, mode="edge"), network.dtype), len(chunk)
