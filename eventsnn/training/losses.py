"""Losses on spike times."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from ..engine.failure import settle
from ..engine.report import Check, Report


def first_spike_loss(
    spike_times: Float[Array, "batch classes"],
    labels: Int[Array, " batch"],
    *,
    silent_time: float,
    tau0: float = 0.5,
    tau1: float = 6.4,
    alpha: float = 3e-3,
    check_labels: bool = True,
) -> Float[Array, " batch"]:
    r"""The cross entropy of first spikes, plus a small penalty on a late correct one.

    $$-\log \operatorname{softmax}(-t/\tau_0)_\text{label}
      + \alpha \left(e^{t_\text{label}/\tau_1} - 1\right)$$

    A neuron that stays silent counts as if it had spiked at `silent_time`, so the loss is finite;
    it receives no gradient, as no spike time exists that could move. A sample whose label neuron
    is silent gives no gradient to the others either: they are not to be pushed into silence.

    **Arguments:**

    - `spike_times`: shape `(batch, classes)`, in ms, `inf` for a silent neuron.
    - `labels`: shape `(batch,)`, the correct classes.
    - `silent_time`: in ms; the end of the simulation is a good choice.
    - `tau0`, `tau1`: time constants of the two parts, in ms.
    - `alpha`: the weight of the penalty.
    - `check_labels`: whether to look for labels that are no class. Under `jax.jit` that takes a call back into
        Python, and JAX's compilation cache keeps no program that has one.

    **Returns:** one number per sample, shape `(batch,)`.

    **Raises:** `ValueError` for a label that is none of the classes, and for shapes that do not match; `TypeError` for
    labels that are not whole numbers.

    Source: Göltz et al., *Fast and energy-efficient neuromorphic deep learning with first-spike
    times* (2021); constants of Wunderlich and Pehle, *Event-based backpropagation can compute exact
    gradients for spiking neural networks* (2021).
    """
    labels = checked_labels(labels, spike_times.shape, check_labels)
    spiked = jnp.isfinite(spike_times)
    times = jnp.where(spiked, spike_times, jnp.asarray(silent_time, spike_times.dtype))
    label_spiked = jnp.take_along_axis(spiked, labels[:, None], axis=1)
    times = jnp.where(label_spiked, times, jax.lax.stop_gradient(times))
    label_times = jnp.take_along_axis(times, labels[:, None], axis=1)[:, 0]
    log_likelihood = -label_times / tau0 - jax.nn.logsumexp(-times / tau0, axis=1)
    return -log_likelihood + alpha * jnp.expm1(label_times / tau1)


def first_spike_correct(
    spike_times: Float[Array, "batch classes"], labels: Int[Array, " batch"], *, check_labels: bool = True
) -> Bool[Array, " batch"]:
    """Whether the correct neuron spikes before all others. If it is silent, or ties, it does not.

    `check_labels` and errors are as in `first_spike_loss`.
    """
    labels = checked_labels(labels, spike_times.shape, check_labels)
    label_times = jnp.take_along_axis(spike_times, labels[:, None], axis=1)
    others = jnp.where(jnp.arange(spike_times.shape[1]) == labels[:, None], jnp.inf, spike_times)
    return (label_times < others).all(axis=1)


def wake_loss(
    spike_times: Float[Array, "batch classes"],
    labels: Int[Array, " batch"],
    weights: Float[Array, "inputs classes"],
    *,
    check_labels: bool = True,
) -> Float[Array, ""]:
    """A term that raises the weights into an output neuron that is silent where it is the correct one.

    A silent neuron has no gradient, so nothing else would ever make it spike. The value is minus
    the mean weight into each output, times how often in the batch that output should have spiked
    and did not; exactly 0 if every correct output spiked. Other outputs may stay silent.
    `check_labels` and errors are as in `first_spike_loss`.
    """
    labels = checked_labels(labels, spike_times.shape, check_labels)
    correct = jnp.arange(spike_times.shape[1]) == labels[:, None]
    missing = jnp.mean(correct & ~jnp.isfinite(spike_times), axis=0, dtype=weights.dtype)
    return -jnp.sum(missing * jnp.mean(weights, axis=0))


def checked_labels(labels: ArrayLike, shape: tuple[int, ...], check: bool = True) -> Int[Array, " batch"]:
    """The labels of spike times of `shape` `(batch, classes)`, or an error.

    Only with `check` the numbers themselves are looked at, under a transformation when the program runs.
    """
    labels = jnp.asarray(labels)
    if len(shape) != 2:
        raise ValueError(f"spike_times has shape {shape}, expected (batch, classes): for one sample write t[None]")
    if labels.shape != shape[:1]:
        one_hot = "pass labels.argmax(axis=1)" if labels.shape == shape else "one whole number per sample"
        raise ValueError(f"labels has shape {labels.shape}, expected {shape[:1]}: {one_hot}")
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels has dtype {labels.dtype}, expected whole numbers: use labels.astype(int)")
    if not check:
        return labels
    bad = (labels < 0) | (labels >= shape[1])
    found = Check(labels, bad, "labels", f"expected a class from 0 to {shape[1] - 1}")
    return settle(labels, Report((found,), (), ()))
