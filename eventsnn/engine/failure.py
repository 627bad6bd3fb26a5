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

from .report import Report, problem_of, summarise

# The axis over which a batch is split over devices.
DEVICES = "eventsnn_devices"


def settle(out: PyTree, report: Report) -> PyTree:
    """`out`, or an error if the run failed: a `ValueError` if an input was at fault, a `SimulationError` otherwise.

    Under `jax.vmap` and `jax.grad` these are raised as they are. Under `jax.jit` Python can be called only from the
    compiled program, and JAX makes a `JaxRuntimeError` of what is raised there.
    """
    leaves, structure = jax.tree.flatten(jax.lax.stop_gradient(report))
    if is_split():
        code = _call_back(*leaves, structure=structure, depth=0, split=True)
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
        problem = problem_of(_of_one_sample(report, depth), jax.tree.map(np.asarray, summarise(report, depth)))
        assert problem is not None
        raise problem
    return jnp.int32(0)


@functools.partial(jax.jit, static_argnames="structure")
def _failed(*leaves: Array, structure: Any) -> Array:
    return jax.tree.unflatten(structure, leaves).failed()


def _call_back(*leaves: Array, structure: Any, depth: int, split: bool = False) -> Array:
    """The same in a compiled program. On several devices batches are left to `vmap`, whatever the `depth`."""
    report = jax.tree.unflatten(structure, leaves)
    shapes = _of_one_sample(report, depth)

    def tell(summary):
        # Large arrays would make the callback wait for the thread that it runs in.
        summary = jax.tree.map(np.asarray, summary)
        problem = problem_of(shapes, jax.tree.map(_devices_first, summary) if split else summary)
        assert problem is not None
        _raise_from_program(problem)

    def call(report):
        summary = summarise(report, depth)
        if split:
            summary = jax.lax.all_gather(summary, DEVICES)
        return jax.pure_callback(tell, jax.ShapeDtypeStruct((), jnp.int32), summary, vmap_method="expand_dims")

    failed = eqxi.unvmap_any(report.failed())
    if split:
        # All devices stop together, with the same error: one that went on would wait for the others forever.
        failed = jax.lax.pmax(failed.astype(jnp.int32), DEVICES) > 0
    return jax.lax.cond(failed, call, lambda report: jnp.int32(0), report)


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
mlir.register_lowering(_raise_if_failed, mlir.lower_fun(_call_back, multiple_results=False))


def _devices_first(leaf: np.ndarray) -> np.ndarray:
    """One batch from an array with axes `(*batch, devices)`: each device has a part of the first axis of the batch."""
    if leaf.ndim == 1:
        return leaf
    parts = np.moveaxis(leaf, -1, 0)
    is_shared = parts.shape[1] == 1 and all(np.array_equal(part, parts[0], equal_nan=True) for part in parts)
    return parts[0] if is_shared else parts.reshape(-1, *parts.shape[2:])


def _of_one_sample(report: Report, depth: int) -> Report:
    """The same report with shapes in place of arrays, and without the axes of batches."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[depth:], leaf.dtype), report)


def _raise_from_program(problem: Exception) -> NoReturn:
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
