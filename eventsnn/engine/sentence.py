"""What may be said about a run that failed, in words.

XLA says what went wrong in numbers. The texts are known when a program is traced. From both, `native/problem.py` finds
the texts and the numbers that make a sentence. It runs in Python, or compiled in `native/raise_kernel.py`.
"""

import math
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .lanes import ENDLESS, MANY_WINDOWS, NOT_FINITE, QUEUE_FULL, RESET_HIGH, STEP_SMALL, TOO_LONG
from .native import problem
from .report import Check, LayerReport, Report, SimulationError, Summary


class Phrases(NamedTuple):
    """All that may be said about a report.

    - `texts`: the texts that sentences consist of, with fields for numbers.
    - `tables`: the arguments `checks`, `layers`, `batch` and `words` of `find_problem`.
    - `integers`: how many integers a sentence may refer to.
    """

    texts: tuple[str, ...]
    tables: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    integers: int


def _integer(place: int) -> str:
    """Where a text has one of the integers. No text has a byte 0 of its own, since it could not be part of an error."""
    return f"\0000{chr(ord('0') + place)}"


def _real(place: int, digits: int) -> str:
    """Where a text has one of the real numbers, as `%g` writes it with so many digits."""
    return f"\0{chr(ord('0') + digits)}{chr(ord('0') + place)}"


_FIELD = re.compile("\0(.)(.)")


def number_of_fields(text: str) -> int:
    """How many numbers there are in a text."""
    return len(_FIELD.findall(text))


def numbers_of(summary: Summary) -> tuple[Int[Array, " integers"], Float[Array, " reals"]]:
    """What a summary says, in the order of `native/problem.py`. Real numbers are in JAX's widest type."""
    integers, reals = list(summary.bad), list(summary.values)
    for layer in summary.layers:
        integers += [layer.count, layer.failed, layer.neuron, layer.status, layer.busiest, layer.most]
        reals += [layer.stopped, layer.full, layer.needed]
    batch = _batch_of(summary)

    def rows(leaves: list[Array], dtype: Any) -> Array:
        columns = [jnp.broadcast_to(leaf.astype(dtype), batch).reshape(-1) for leaf in leaves]
        return jnp.stack(columns, axis=1).reshape(-1)

    return rows(integers, jnp.int32), rows(reals, jax.dtypes.canonicalize_dtype(float))


def _batch_of(summary: Summary) -> tuple[int, ...]:
    return np.broadcast_shapes(*(leaf.shape for leaf in jax.tree.leaves(summary)))


def error_of(phrases: Phrases, integers: Any, reals: Any) -> ValueError | SimulationError:
    """The error of a run that failed, from the numbers of its summary."""
    integers, reals = np.asarray(integers), np.asarray(reals)
    pieces, whole = np.zeros(problem.PIECES, np.int32), np.zeros(phrases.integers, np.int32)
    real = np.zeros(problem.REALS, reals.dtype)
    by_input = problem.find_problem(integers, reals, *phrases.tables, pieces, whole, real)
    assert by_input >= 0

    def number(field: re.Match) -> str:
        digits, place = (ord(character) - ord("0") for character in field.groups())
        return f"{real[place]:.{digits}g}" if digits else f"{whole[place]}"

    sentence = _FIELD.sub(number, "".join(phrases.texts[piece] for piece in pieces))
    return ValueError(sentence) if by_input else SimulationError(sentence)


def phrases_of(report: Report, summary: Summary) -> Phrases:
    """What may be said about a report, of which only names and shapes are looked at, and of the summary only shapes.

    The summary may have axes of batches. Where all samples share something, these have length 1.
    """
    group_of = {id(check): group for group, checks in enumerate(report.groups()) for check in checks}
    rows, ends = [], [0] * len(report.groups())
    start_of = {}
    for check in (check for checks in report.groups() for check in checks):
        group = group_of[id(check)]
        start_of[id(check)] = ends[group]
        ends[group] += check.values.size
    axes = max([problem.INTEGERS_OF_LAYER, *(len(check.values.shape) for check in report.checks)])
    for check in report.checks:
        shape = check.values.shape
        # Missing axes come last, with length 1.
        strides = [math.prod(shape[axis + 1 :]) for axis in range(axes)]
        lengths = [*shape, *[1] * (axes - len(shape))]
        row = [group_of[id(check)], start_of[id(check)], check.values.size]
        rows.append(row + [number for pair in zip(strides, lengths, strict=True) for number in pair])
    layers = [[layer.capacity, _limit(layer)] for layer in report.layers]
    texts, words = _texts_of(report, summary, axes)
    batch = _batch_of(summary)
    tables = (
        np.array(rows, np.int32).reshape(-1),
        np.array(layers, np.int32).reshape(-1),
        np.array(batch, np.int32),
        np.array(words, np.int32),
    )
    return Phrases(tuple(texts), tables, axes + len(batch))


def _limit(layer: LayerReport) -> int:
    return np.iinfo(np.int32).max if layer.per_neuron is None else layer.per_neuron


def _texts_of(report: Report, summary: Summary, axes: int) -> tuple[list[str], list[int]]:
    """The texts, and where each kind of them begins. The first `axes` integers are not about samples."""
    layers = report.layers
    own = [part.shape for part in (*summary.bad, *(layer.count for layer in summary.layers))]
    advice = [
        f"If activity goes on like this, max_event_steps={_real(1, 10)} will do; or look for runaway activity",
        "Raise max_event_steps, or look for runaway activity",
    ]
    kinds = {
        problem.OF_SAMPLE: [_describe_sample(lengths, axes) for lengths in own],
        problem.OF_CHECK: [_describe_check(check) for check in report.checks],
        problem.OF_FAILURE: [f"{layer.name}, neuron {_integer(0)}, t = {_real(0, 6)} ms: " for layer in layers],
        problem.OF_STATUS: [_DESCRIPTION.get(status, "") for status in range(max(_DESCRIPTION) + 1)],
        problem.OF_OTHERS: [f" ({_integer(1)} more neurons failed)"],
        problem.OF_FULL: [_describe_full_list(layer) for layer in layers],
        problem.OF_ADVICE: advice,
        problem.OF_BUSY: [_describe_busy(layer) for layer in layers],
    }
    texts, words = [""], [0] * problem.N_WORDS
    for kind, own_texts in kinds.items():
        words[kind] = len(texts)
        texts += own_texts
    groups, n_layers = len(summary.bad), len(summary.layers)
    words[problem.GROUPS] = groups
    words[problem.N_INTEGERS] = groups + n_layers * problem.LAYER_INTEGERS
    words[problem.N_REALS] = groups + n_layers * problem.LAYER_REALS
    return texts, words


def _describe_sample(lengths: tuple[int, ...], first: int) -> str:
    """How a sentence about a sample begins; empty if there is no batch, or if all of it share what is wrong."""
    own = [_integer(first + axis) for axis, length in enumerate(lengths) if length > 1]
    return "" if not own else f"sample {own[0] if len(own) == 1 else '[' + ', '.join(own) + ']'}: "


def _describe_check(check: Check) -> str:
    where = [_integer(axis) for axis in range(len(check.values.shape))]
    position = f"[{', '.join(where)}]" if where else ""
    return f"{check.name}{position} is {_real(0, 6)}: {check.expected}"


def _describe_full_list(layer: LayerReport) -> str:
    each = layer.capacity / layer.spikes.shape[-1]
    return (
        f"{layer.name} emitted more than max_event_steps = {layer.capacity} spikes: the list was full by "
        f"t = {_real(0, 4)} ms, after {each:.3g} spikes per neuron. "
    )


def _describe_busy(layer: LayerReport) -> str:
    return (
        f"{layer.name}, neuron {_integer(0)} emitted more than max_spikes = {layer.per_neuron} "
        "spikes: raise max_spikes, or lower final_time"
    )


_DESCRIPTION = {
    NOT_FINITE: "the state became NaN or infinite; check the model's dynamics, or use an adaptive step size",
    RESET_HIGH: "still at or above threshold after its reset, so it would spike forever; reset below the threshold",
    STEP_SMALL: (
        "the solver's step became smaller than the resolution of time; loosen rtol and atol, use "
        "dtype=jnp.float64 or a stiff solver such as diffrax.Kvaerno5(), or check the dynamics for a singularity"
    ),
    ENDLESS: (
        "the network spikes on and on without time passing: neurons fire each other with no delay, or one too short "
        "to be told from none; lower their weights, or raise the delays"
    ),
    QUEUE_FULL: "more than max_pending spikes are on their way to this neuron at once; raise max_pending",
    MANY_WINDOWS: (
        "the shortest delay among neurons would divide the run into more than a million windows; raise it, or pass "
        "windows=False"
    ),
    TOO_LONG: "not done after max_steps steps; raise max_steps, loosen rtol and atol, or use a larger solver_stepsize",
}
