"""A run that failed becomes an error, in and out of compiled programs, with a batch and without."""

import functools
import logging
import types
from collections.abc import Iterator
from typing import Any, NoReturn

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray, Tracer
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, PyTree

from .native.call import call
from .native.problem import NUMBER_ROOM, PIECES, REALS
from .native.target import Kernel, NativeUnavailable
from .report import Report, summarise
from .sentence import Phrases, error_of, number_of_fields, numbers_of, phrases_of

# The axis over which a batch is split over devices.
DEVICES = "eventsnn_devices"


# Fails with a sentence, without Python.
_RAISE = Kernel("raise", "eventsnn.engine.native.raise_kernel:raise_sentence")


def settle(out: PyTree, report: Report) -> PyTree:
    """`out`, or an error if the run failed: a `ValueError` if an input was at fault, a `SimulationError` otherwise.

    Under `jax.vmap` and `jax.grad` these are raised as they are. A compiled program raises an error of XLA with the
    same sentence. On a CPU with Numba it does so without Python; elsewhere it calls Python, and JAX does not keep such
    a program in its compilation cache.
    """
    leaves, structure = jax.tree.flatten(jax.lax.stop_gradient(report))
    if is_split():
        code = _check(*leaves, structure=structure, depth=0, split=True)
    else:
        code = _raise_if_failed.bind(*leaves, structure=structure, depth=0)
    if not isinstance(code, Tracer):
        return out
    # The result depends on the code, so that the check cannot be optimised away.
    return jax.tree.map(lambda leaf: jnp.where(code == 0, leaf, jnp.zeros_like(leaf)), out)


def is_split() -> bool:
    """Whether this is traced for one of several devices that share a batch."""
    try:
        jax.lax.axis_size(DEVICES)
    except NameError:
        return False
    return True


# The check is a primitive, because `vmap` and `grad` without `jit` reach its implementation with numbers that are
# known, one batch as a whole. There an error can be raised that a caller can catch. What it is given has `depth` axes
# in front, one for every `vmap`, of length 1 where all samples share a number.


def _raise_now(*leaves: Array, structure: Any, depth: int) -> Array:
    if _failed(*leaves, structure=structure):
        report = jax.tree.unflatten(structure, leaves)
        summary = summarise(report, depth)
        raise error_of(phrases_of(_of_one_sample(report, depth), summary), *numbers_of(summary))
    return jnp.int32(0)


@functools.partial(jax.jit, static_argnames="structure")
def _failed(*leaves: Array, structure: Any) -> Array:
    return jax.tree.unflatten(structure, leaves).failed()


def _check(*leaves: Array, structure: Any, depth: int, split: bool = False) -> Array:
    """The same in a compiled program. On several devices batches are left to `vmap`, whatever the `depth`."""
    report = jax.tree.unflatten(structure, leaves)
    shapes = _of_one_sample(report, depth)

    def stop(report):
        summary = summarise(report, depth)
        if split:
            summary = jax.lax.all_gather(summary, DEVICES)
        parts, summary_structure = jax.tree.flatten(summary)
        own = (False,) * len(parts)
        return _raise_from_program.bind(*parts, report=shapes, structure=summary_structure, split=split, own=own)

    failed = eqxi.unvmap_any(report.failed())
    if split:
        # All devices stop together, with the same error: one that went on would wait for the others forever.
        failed = jax.lax.pmax(failed.astype(jnp.int32), DEVICES) > 0
    return jax.lax.cond(failed, stop, lambda report: jnp.int32(0), report)


def _vectorise(leaves, axes, *, structure: Any, depth: int):
    moved = [
        leaf[None] if axis is None else jnp.moveaxis(leaf, axis, 0) for leaf, axis in zip(leaves, axes, strict=True)
    ]
    return _raise_if_failed.bind(*moved, structure=structure, depth=depth + 1), None


def _differentiate(primals, tangents, *, structure: Any, depth: int):
    code = _raise_if_failed.bind(*primals, structure=structure, depth=depth)
    return code, ad.Zero(jax.typeof(code).to_tangent_aval())


_raise_if_failed: Any = Primitive("eventsnn_raise_if_failed")
_raise_if_failed.def_impl(_raise_now)
_raise_if_failed.def_abstract_eval(lambda *leaves, structure, depth: ShapedArray((), jnp.dtype("int32")))
ad.primitive_jvps[_raise_if_failed] = _differentiate
batching.primitive_batchers[_raise_if_failed] = _vectorise
mlir.register_lowering(_raise_if_failed, mlir.lower_fun(_check, multiple_results=False))


# What a program does that has failed is a primitive as well: it is another thing on each kind of device. It is given a
# summary, whose arrays have the axes of batches alone. If it was gathered from devices that share a batch, their axis
# is the last; `own` says then of which arrays the first axis is of the batch, so that each device has a part of it.


def _said_in_program(
    *parts: Array, report: Report, structure: Any, split: bool, own: tuple[bool, ...]
) -> tuple[Phrases, Array, Array]:
    if split:
        parts = tuple(_as_one_batch(part, whole) for part, whole in zip(parts, own, strict=True))
    summary = jax.tree.unflatten(structure, parts)
    return phrases_of(report, summary), *numbers_of(summary)


def _as_one_batch(part: Array, own: bool) -> Array:
    """One batch from an array with axes `(*batch, devices)`."""
    if part.ndim == 1:
        return part
    part = jnp.moveaxis(part, -1, 0)
    return part.reshape(-1, *part.shape[2:]) if own else part[0]


def _raise_natively(*parts: Array, **about: Any) -> Array:
    """On a CPU: a kernel that fails. Real numbers are in JAX's widest type, so a process needs one variant."""
    dtype: Any = jax.dtypes.canonicalize_dtype(float)
    try:
        _RAISE.target(dtype)
    except NativeUnavailable:
        return _call_back(*parts, **about)
    phrases, integers, reals = _said_in_program(*parts, **about)
    texts = [text.encode() for text in phrases.texts]
    starts = np.cumsum([0, *map(len, texts)], dtype=np.int32)
    longest = max(len(text.encode()) + NUMBER_ROOM * number_of_fields(text) for text in phrases.texts)
    results = tuple(
        jax.ShapeDtypeStruct((length,), dtype)
        for length, dtype in (
            (1, np.int32),
            (PIECES, np.int32),
            (phrases.integers, np.int32),
            (REALS, dtype),
            (PIECES * longest + 1, np.uint8),
        )
    )
    table = np.frombuffer(b"".join(texts), np.uint8)
    code, *_ = call(_RAISE, results, integers, reals, *phrases.tables, table, starts)
    return code[0]


def _call_back(*parts: Array, **about: Any) -> Array:
    """On other devices: a call of Python."""
    phrases, integers, reals = _said_in_program(*parts, **about)

    def tell(integers, reals):
        _raise_in_callback(error_of(phrases, integers, reals))

    return jax.pure_callback(tell, jax.ShapeDtypeStruct((), jnp.int32), integers, reals)


def _vectorise_summary(parts, axes, *, report: Report, structure: Any, split: bool, own: tuple[bool, ...]):
    assert split, "batches on one device are gone when a program is lowered"
    over = [axis is not None for axis in axes]
    moved = [jnp.moveaxis(part, axis, 0) if o else part[None] for part, axis, o in zip(parts, axes, over, strict=True)]
    code = _raise_from_program.bind(*moved, report=report, structure=structure, split=split, own=tuple(over))
    return code, None


def _raise_uncompiled(*parts: Array, **about: Any) -> Array:
    """Under `jax.disable_jit`, where conditionals run in Python."""
    raise error_of(*_said_in_program(*parts, **about))


_raise_from_program: Any = Primitive("eventsnn_raise_from_program")
_raise_from_program.def_impl(_raise_uncompiled)
_raise_from_program.def_abstract_eval(lambda *parts, **about: ShapedArray((), jnp.dtype("int32")))
batching.primitive_batchers[_raise_from_program] = _vectorise_summary
mlir.register_lowering(_raise_from_program, mlir.lower_fun(_raise_natively, multiple_results=False), platform="cpu")
mlir.register_lowering(_raise_from_program, mlir.lower_fun(_call_back, multiple_results=False))


def _of_one_sample(report: Report, depth: int) -> Report:
    """The same report with shapes in place of arrays, and without the axes of batches."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[depth:], leaf.dtype), report)


def _raise_in_callback(problem: Exception) -> NoReturn:
    """Raise an error in a callback, so that its sentence is what one sees first and last.

    JAX puts the whole stack in front of it, from where a traceback ends to the beginning, and logs it as well.
    """
    logging.getLogger("jax._src.callback").addFilter(_shorten)
    raise problem.with_traceback(_no_stack)


def _run_failed() -> Iterator[types.TracebackType | None]:
    try:
        raise RuntimeError
    except RuntimeError as error:
        yield error.__traceback__


# A generator that is suspended has no caller, so a stack that ends in it has one line. It has to stay suspended.
_suspended = _run_failed()
_no_stack = next(_suspended)


def _shorten(record: logging.LogRecord) -> bool:
    """Log what was raised from a program as its sentence alone."""
    error = record.exc_info[1] if record.exc_info else None
    end = error.__traceback__ if error else None
    while end is not None and end.tb_next is not None:
        end = end.tb_next
    if end is not None and end is _no_stack:
        record.msg, record.args, record.exc_info = f"{type(error).__name__}: {error}", (), None
    return True
