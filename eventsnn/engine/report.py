"""What went wrong in a run, in numbers; `sentence.py` has the words."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .lanes import ENDLESS, FINE, MANY_WINDOWS, NOT_FINITE, QUEUE_FULL, RESET_HIGH, STEP_SMALL, TOO_LONG
from .results import RESULTS

# Arrays with more numbers than this are looked at one by one.
_SMALL = 4096


class SimulationError(RuntimeError):
    """A run that could not be completed. The message says which neuron, when, and what to change."""


class LayerReport(eqx.Module):
    """How a layer ended.

    - `count`: how many spikes it emitted, of which `times` has room for so many.
    - `status`, `stopped`: how each neuron ended, and when.
    - `spikes`: how many spikes each neuron emitted; where `outputs` says so, of at most `per_neuron`.
    - `t_end`: until when it should have run.
    - `name`: what the layer is called.
    """

    count: Int[Array, ""]
    times: Float[Array, " capacity"]
    status: Int[Array, " neurons"]
    stopped: Float[Array, " neurons"]
    spikes: Int[Array, " neurons"]
    t_end: Float[Array, ""]
    name: str = eqx.field(static=True)
    per_neuron: int | None = eqx.field(static=True)
    outputs: tuple[bool, ...] | None = eqx.field(static=True, default=None)

    @property
    def capacity(self) -> int:
        """How many spikes the list has room for."""
        return self.times.shape[-1]

    @property
    def limited(self) -> Int[Array, " neurons"]:
        """The spikes of those neurons that may emit `per_neuron`, 0 for others."""
        return self.spikes if self.outputs is None else jnp.where(jnp.asarray(self.outputs), self.spikes, 0)


class Check(eqx.Module):
    """A condition on some numbers that a caller gave.

    - `values`, `bad`: the numbers, and which of them are not acceptable.
    - `name`, `expected`: what they are called, and what would be right.
    """

    values: Float[Array, "..."] | Int[Array, "..."]
    bad: Bool[Array, "..."]
    name: str = eqx.field(static=True)
    expected: str = eqx.field(static=True)


class Report(eqx.Module):
    """Everything that may have gone wrong in a query.

    - `asked`: conditions on what was passed to it.
    - `numbers`: conditions on the numbers of the network, which all samples of a batch share.
    - `layers`: how they ended.
    """

    asked: tuple[Check, ...]
    numbers: tuple[Check, ...]
    layers: tuple[LayerReport, ...]

    @property
    def checks(self) -> tuple[Check, ...]:
        """All conditions."""
        return (*self.asked, *self.numbers)

    def groups(self, depth: int = 0) -> list[tuple[Check, ...]]:
        """The conditions that are looked at together: compilers have few arrays to deal with, if these are small.

        The first `depth` axes of all arrays are those of batches.
        """

        def is_small(check: Check) -> bool:
            return math.prod(check.values.shape[depth:]) <= _SMALL

        small = tuple(check for check in self.numbers if is_small(check))
        alone = *self.asked, *(check for check in self.numbers if not is_small(check))
        return [(check,) for check in alone] + ([small] if small else [])

    def failed(self) -> Bool[Array, ""]:
        """Whether something went wrong, in any sample if the arrays have axes for batches."""
        failed = jnp.zeros((), bool)
        for group in self.groups():
            failed = failed | jnp.any(_joined([check.bad for check in group]))
        for layer in self.layers:
            failed = failed | jnp.any(layer.count > layer.capacity) | jnp.any(layer.status != FINE)
            if layer.per_neuron is not None:
                failed = failed | jnp.any(layer.limited > layer.per_neuron)
        return failed

    def result(self) -> RESULTS:
        """The first thing that went wrong, as a result code."""
        result: Any = RESULTS.successful
        for layer in reversed(self.layers):
            full = layer.count > layer.capacity
            result = RESULTS.where(full, RESULTS.too_many_spikes, result)
            for code, meaning in _RESULT_OF.items():
                result = RESULTS.where(jnp.any(layer.status == code), meaning, result)
        for check in self.checks:
            result = RESULTS.where(jnp.any(check.bad), RESULTS.invalid_input, result)
        return result


_RESULT_OF = {
    TOO_LONG: RESULTS.max_steps_reached,
    STEP_SMALL: RESULTS.step_too_small,
    RESET_HIGH: RESULTS.reset_above_threshold,
    NOT_FINITE: RESULTS.not_finite,
    ENDLESS: RESULTS.endless,
    QUEUE_FULL: RESULTS.queue_full,
    MANY_WINDOWS: RESULTS.too_many_windows,
}


class LayerSummary(NamedTuple):
    """What is told of a layer: in numbers, so that telling takes no memory.

    - `count`: how many spikes it emitted.
    - `failed`: how many neurons failed; `neuron` the first to do so, with its `status` and when it `stopped`.
    - `busiest`: the neuron that emitted most spikes, and `most` how many.
    - `full`: when the list of spikes was full, if it was, and `needed` how many spikes there would have been.
    """

    count: Int[Array, ""]
    failed: Int[Array, ""]
    neuron: Int[Array, ""]
    status: Int[Array, ""]
    stopped: Float[Array, ""]
    busiest: Int[Array, ""]
    most: Int[Array, ""]
    full: Float[Array, ""]
    needed: Float[Array, ""]


class Summary(NamedTuple):
    """What is told of a report.

    - `bad`: for every group of checks the first number that is not acceptable, counted through its arrays, and -1
        for none.
    - `values`: what that number is.
    """

    bad: tuple[Int[Array, ""], ...]
    values: tuple[Float[Array, ""], ...]
    layers: tuple[LayerSummary, ...]


def _joined(arrays: list[Array]) -> Array:
    return jnp.concatenate([array.reshape(-1) for array in arrays])


def summarise(report: Report, depth: int) -> Summary:
    """What is told of each sample. What all samples share keeps an axis of length 1."""
    numbers = [_per_sample(_summarise_checks, group, depth) for group in report.groups(depth)]
    return Summary(
        tuple(bad for bad, _ in numbers),
        tuple(value for _, value in numbers),
        tuple(_per_sample(_summarise_layer, layer, depth) for layer in report.layers),
    )


def _per_sample(summarise: Callable[[Any], Any], part: Any, depth: int) -> Any:
    """Something about every sample, of parts of a report whose first `depth` axes are batches."""
    if not depth:
        return summarise(part)
    batch = jnp.broadcast_shapes(*(leaf.shape[:depth] for leaf in jax.tree.leaves(part)))
    samples = math.prod(batch)
    in_line = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (*batch, *leaf.shape[depth:])).reshape(samples, *leaf.shape[depth:]), part
    )
    return jax.tree.map(lambda leaf: leaf.reshape(batch), jax.vmap(summarise)(in_line))


def _summarise_checks(group: tuple[Check, ...]) -> tuple[Array, Array]:
    dtype = max((check.values.dtype for check in group), key=lambda dtype: dtype.itemsize)
    bad = _joined([jnp.broadcast_to(check.bad, check.values.shape) for check in group])
    return _first_bad(bad, _joined([check.values.astype(dtype) for check in group]))


def _first_bad(bad: Bool[Array, " numbers"], values: Float[Array, " numbers"]) -> tuple[Array, Array]:
    if not bad.size:
        return jnp.int32(-1), jnp.zeros((), values.dtype)
    first = jnp.argmax(bad).astype(jnp.int32)
    return jnp.where(bad[first], first, -1), values[first]


def _summarise_layer(layer: LayerReport) -> LayerSummary:
    bad = layer.status != FINE
    # The neuron that failed first says most about the cause.
    neuron = jnp.argmin(jnp.where(bad, layer.stopped, jnp.inf)).astype(jnp.int32)
    busiest = jnp.argmax(layer.limited).astype(jnp.int32)
    full = jnp.max(jnp.where(jnp.isfinite(layer.times), layer.times, 0), initial=0)
    # A neuron that stopped early would have gone on spiking as before.
    rest = jnp.maximum(layer.t_end / jnp.maximum(layer.stopped, jnp.finfo(full.dtype).tiny), 1)
    needed = jnp.sum(jnp.where(layer.spikes > 0, layer.spikes.astype(full.dtype) * rest, 0))
    return LayerSummary(
        layer.count,
        jnp.sum(bad, dtype=jnp.int32),
        neuron,
        layer.status[neuron],
        layer.stopped[neuron],
        busiest,
        layer.limited[busiest],
        full,
        needed,
    )
