"""Training a network to tell classes apart by which output spikes first."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from ..evnn import FFEvNN
from ..network import attempt_ttfs
from .losses import checked_labels, first_spike_correct, first_spike_loss, wake_loss
from .respond import raise_what_failed


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are the published recipe for Yin-Yang.

    - `epochs`: how often to go through the data.
    - `batch_size`: samples per step. What is left over at the end of an epoch waits for another.
    - `learning_rate`: of Adam, at first.
    - `schedule`: `"exponential"` multiplies it by `decay` from epoch to epoch, and `"cosine"` takes it down to 0 at the
        end of the last epoch along a cosine, without regard to `decay`.
    - `second_moment`: Adam's factor for its mean of squared gradients. Smaller ones forget rare huge gradients sooner.
    - `delay_learning_rate`: the learning rate of delays, in ms. A delay that would become negative becomes 0.
    - `tau0`, `tau1`, `alpha`: see `first_spike_loss`; times in ms.
    - `wake`: the weight of `wake_loss`, which is 0 unless a correct output is silent.
    - `seed`: determines the order of the samples.
    """

    epochs: int = 100
    batch_size: int = 32
    learning_rate: float = 5e-3
    schedule: Literal["exponential", "cosine"] = "exponential"
    decay: float = 0.95
    second_moment: float = 0.999
    delay_learning_rate: float = 0.1
    tau0: float = 0.5
    tau1: float = 6.4
    alpha: float = 3e-3
    wake: float = 30.0
    seed: int = 0

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            _reject_unless(getattr(self, name) >= 1, name, getattr(self, name), "a whole number from 1 on")
        for name in ("learning_rate", "decay", "delay_learning_rate", "tau0", "tau1"):
            _reject_unless(getattr(self, name) > 0, name, getattr(self, name), "a number above 0")
        for name in ("alpha", "wake", "seed"):
            _reject_unless(getattr(self, name) >= 0, name, getattr(self, name), "a number that is 0 or more")
        _reject_unless(0 <= self.second_moment < 1, "second_moment", self.second_moment, "a number from 0 to below 1")
        known = self.schedule in ("exponential", "cosine")
        _reject_unless(known, "schedule", repr(self.schedule), "'exponential' or 'cosine'")


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


def weights_and_delays(network: FFEvNN) -> PyTree:
    """The same for weights and for delays that are trainable."""
    wanted = weights_only(network)
    held = [delays for c in network.connections for delays in (c.delays, c.axonal_delays)]
    chosen = [number for number, delays in enumerate(held) if delays is not None and delays.trainable]

    def places(net):
        held = [delays for c in net.connections for delays in (c.delays, c.axonal_delays)]
        return [held[number].value for number in chosen]

    return eqx.tree_at(places, wanted, replace=[True] * len(chosen)) if chosen else wanted


def start(network: FFEvNN, recipe: Recipe, n_samples: int, wanted: PyTree | None = None) -> TrainingState:
    """The state before the first epoch. `wanted` says what to train, by default `weights_and_delays`."""
    wanted = weights_and_delays(network) if wanted is None else wanted
    trained = eqx.filter(network, wanted)
    optimiser = _optimiser(recipe, _n_batches(recipe, n_samples), trained)
    return TrainingState(network, optimiser.init(trained), 0)


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
    - `on_batch`: called now and then with the number of batches done and their total.

    **Returns:** the state afterwards, the mean loss, and the fraction of samples that were right.

    **Raises:** `ValueError` if there are fewer samples than a batch needs, and for a label that is none of the outputs;
    whatever `ttfs` raises.
    """
    wanted = weights_and_delays(state.network) if wanted is None else wanted
    total = _n_batches(recipe, len(samples))
    order = np.random.default_rng([recipe.seed, state.epoch]).permutation(len(samples))
    in_spikes, labels = np.asarray(samples.in_spikes), np.asarray(samples.labels)
    checked_labels(labels, (len(samples), state.network.layers[-1]))
    network, optimiser_state = state.network, state.optimiser_state
    trained, fixed = eqx.partition(network, wanted)
    loss_sum, right_sum = 0.0, 0.0
    for first in range(0, total, _STRIDE):
        steps = min(_STRIDE, total - first)
        # The last stride is as long as the others, and what is too much of it is never looked at.
        chosen = np.resize(order[first * recipe.batch_size :], (_STRIDE, recipe.batch_size))
        inputs, classes = jnp.asarray(in_spikes[chosen], network.dtype), jnp.asarray(labels[chosen])
        before = trained, optimiser_state
        trained, optimiser_state, sums, failed = _stride(
            trained, fixed, optimiser_state, inputs, classes, jnp.int32(steps), recipe, total
        )
        if failed >= 0:
            # Once more, up to the step that failed: its error is that of the network as it was then.
            trained, *_ = _stride(before[0], fixed, before[1], inputs, classes, failed, recipe, total)
            raise_what_failed(eqx.combine(trained, fixed).ttfs, inputs[failed])
        loss_sum, right_sum = loss_sum + float(sums[0]), right_sum + float(sums[1])
        on_batch(first + steps, total)
    network = eqx.combine(trained, fixed)
    return TrainingState(network, optimiser_state, state.epoch + 1), loss_sum / total, right_sum / total


def _reject_unless(fine: bool, name: str, value: Any, wanted: str) -> None:
    if not fine:
        raise ValueError(f"{name} is {value}, expected {wanted}")


def _n_batches(recipe: Recipe, n_samples: int) -> int:
    if n_samples < recipe.batch_size:
        raise ValueError(f"batch_size is {recipe.batch_size}, expected at most the number of samples, {n_samples}")
    return n_samples // recipe.batch_size


def _optimiser(recipe: Recipe, n_batches: int, trained: FFEvNN) -> optax.GradientTransformation:
    def adam(learning_rate: float) -> optax.GradientTransformation:
        if recipe.schedule == "cosine":
            schedule = optax.cosine_decay_schedule(learning_rate, n_batches * recipe.epochs)
        else:
            schedule = optax.exponential_decay(learning_rate, n_batches, recipe.decay, staircase=True)
        return optax.adam(schedule, b2=recipe.second_moment)

    kinds = jax.tree_util.tree_map_with_path(lambda path, _: "delays" if _is_delay(path) else "others", trained)
    if "delays" not in jax.tree.leaves(kinds):
        return adam(recipe.learning_rate)
    of_delays = optax.chain(adam(recipe.delay_learning_rate), optax.keep_params_nonnegative())
    return optax.partition({"others": adam(recipe.learning_rate), "delays": of_delays}, kinds)


def _is_delay(path: tuple[Any, ...]) -> bool:
    return any(getattr(key, "name", None) in ("delays", "axonal_delays") for key in path)


# How many steps are one call. Between calls Python has a word, and what a call costs is shared.
_STRIDE = 13


@eqx.filter_jit
def _stride(
    trained: FFEvNN,
    fixed: FFEvNN,
    optimiser_state: PyTree,
    in_spikes: Float[Array, "steps batch inputs spikes"],
    labels: Int[Array, "steps batch"],
    steps: Int[Array, ""],
    recipe: Recipe,
    n_batches: int,
) -> tuple[FFEvNN, PyTree, tuple[Float[Array, ""], Float[Array, ""]], Int[Array, ""]]:
    """The first `steps` of some steps.

    Also the sums of their losses and of the fractions that were right, and which step failed and ended it, -1 if none.
    """
    arrays, rest = eqx.partition((trained, optimiser_state), eqx.is_array)

    def running(carry):
        number, _, _, failed = carry
        return (number < steps) & (failed < 0)

    def step(carry):
        number, arrays, (loss_sum, right_sum), _ = carry
        trained, optimiser_state = eqx.combine(arrays, rest)
        trained, optimiser_state, (loss, right, failed) = _step(
            trained, fixed, optimiser_state, in_spikes[number], labels[number], recipe, n_batches
        )
        arrays = eqx.filter((trained, optimiser_state), eqx.is_array)
        return number + 1, arrays, (loss_sum + loss, right_sum + right), jnp.where(failed, number, -1)

    zero = jnp.zeros((), in_spikes.dtype)
    start = (jnp.int32(0), arrays, (zero, zero), jnp.int32(-1))
    _, arrays, sums, failed = jax.lax.while_loop(running, step, start)
    trained, optimiser_state = eqx.combine(arrays, rest)
    return trained, optimiser_state, sums, failed


def _step(
    trained: FFEvNN,
    fixed: FFEvNN,
    optimiser_state: PyTree,
    in_spikes: Float[Array, "batch inputs spikes"],
    labels: Int[Array, " batch"],
    recipe: Recipe,
    n_batches: int,
) -> tuple[FFEvNN, PyTree, tuple[Float[Array, ""], Float[Array, ""], Bool[Array, ""]]]:
    """The network and the optimiser after a step; the loss, the fraction that was right, and whether a run failed."""
    (_, (loss, right, failed)), gradient = eqx.filter_value_and_grad(_batch_loss, has_aux=True)(
        trained, fixed, in_spikes, labels, recipe
    )
    # Optax multiplies whole numbers by floating point ones, which strict promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        optimiser = _optimiser(recipe, n_batches, trained)
        updates, optimiser_state = optimiser.update(gradient, optimiser_state, trained)  # pyright: ignore
    told = loss, jnp.mean(right, dtype=loss.dtype), failed
    return eqx.apply_updates(trained, updates), optimiser_state, told


def _batch_loss(
    trained: FFEvNN, fixed: FFEvNN, in_spikes: Array, labels: Array, recipe: Recipe
) -> tuple[Float[Array, ""], tuple[Float[Array, ""], Bool[Array, " batch"], Bool[Array, ""]]]:
    network = eqx.combine(trained, fixed)
    spike_times, failed = jax.vmap(lambda in_spikes: attempt_ttfs(network, in_spikes))(in_spikes)
    # Whatever stands for no spike in this network, the losses expect inf.
    spike_times = jnp.where(spike_times == network.output_no_spike_value, jnp.inf, spike_times)
    losses = first_spike_loss(
        spike_times,
        labels,
        silent_time=network.max_solver_time,
        tau0=recipe.tau0,
        tau1=recipe.tau1,
        alpha=recipe.alpha,
        check_labels=False,
    )
    loss = jnp.mean(losses)
    missing = wake_loss(spike_times, labels, network.connections[-1].weights, check_labels=False)
    # The loss that is shown leaves out what only serves to wake neurons.
    right = first_spike_correct(spike_times, labels, check_labels=False)
    return loss + recipe.wake * missing, (loss, right, jnp.any(failed) & network.throw)
