"""`jax.vmap` over code that is batched by hand.

Under `vmap` a `while_loop` would run every iteration with a select on all it carries, and a `cond`
would run both of its branches. The loops here carry a batch axis of their own instead, and `vmap`
only makes that axis longer.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, PyTree


def hand_batched(function: Callable, summed: bool = False) -> Callable:
    """Make `vmap` lengthen the leading axis of every argument and result of `function`.

    Each argument leaf has a leading axis that is the batch, or of length 1 where the whole batch
    shares it. Each result leaf has the batch as its leading axis.

    If the results are `summed`, the first argument is the `leading` axes of what they are cotangents of: those of a
    leaf that the batch shares are summed over the batch and have a leading axis of length 1. What else is shared
    stays so under `vmap`, so that a run that is repeated on the way back is the same to the bit.
    """

    @jax.custom_batching.custom_vmap
    def batched(*args):
        return function(*args)

    @batched.def_vmap
    def rule(axis_size, in_batched, *args):
        leaves, structure = jax.tree.flatten(args)
        mapped = jax.tree.leaves(in_batched)
        sizes = [leaf.shape[1 if over else 0] for leaf, over in zip(leaves, mapped, strict=True)]
        inner = max(sizes)
        expanded = len(jax.tree.leaves(args[0])) if summed else 0
        merged = [
            _merge(leaf, over, axis_size, inner, place < expanded)
            for place, (leaf, over) in enumerate(zip(leaves, mapped, strict=True))
        ]
        out = batched(*jax.tree.unflatten(structure, merged))
        split = jax.tree.map(lambda leaf: leaf.reshape(axis_size, inner, *leaf.shape[1:]), out)
        if summed:
            split = _sum_shared(args[0], in_batched[0], split)
        return split, jax.tree.map(lambda _: True, out)

    return batched


def leading(tree: PyTree) -> PyTree:
    """Arrays without entries that have the leading axes of the leaves of a tree."""
    return jax.tree.map(lambda leaf: jnp.zeros((leaf.shape[0], 0), leaf.dtype), tree)


def as_shared(by: Any, like: Any) -> Any:
    """Cotangents per sample, summed if the leading axis of what they belong to is shared: see `leading`."""
    return _sum_of_few(by)[None] if like.shape[0] == 1 else by


# Up to so many arrays are added one by one. XLA's reduction over a leading axis jumps through memory on CPUs: for 16
# arrays of 784 x 350 numbers it takes 40 ms on two cores, and their additions, which become one loop, take 0.7 ms.
_FEW = 32


def _sum_of_few(by: Array) -> Array:
    """The sum over the leading axis, in the order of its entries if these are few."""
    if not 0 < by.shape[0] <= _FEW:
        return jnp.sum(by, axis=0)
    return functools.reduce(operator.add, (by[k] for k in range(by.shape[0])))


def zeros_of(leaf: Any, like: Any) -> Any:
    """The cotangent of an array that has received nothing, with the leading axis of `like`."""
    return jnp.zeros((like.shape[0], *leaf.shape[1:]), leaf.dtype)


def numbers_as_shared(by: PyTree, numbers: PyTree, like: PyTree) -> PyTree:
    """As `as_shared`, for every number of a model; `by` has `None` for those that take no gradient."""

    def one(number, like, by):
        if number is None:
            return None
        return zeros_of(number, like) if by is None else as_shared(by, like)

    return jax.tree.map(one, numbers, like, by, is_leaf=_is_none)


def _sum_shared(inputs: PyTree, in_batched: PyTree, cotangents: PyTree) -> PyTree:
    """Sum the cotangents of the leaves that one batch shares over that batch, which is their second axis."""
    leaves, structure = jax.tree.flatten(cotangents, is_leaf=_is_none)
    shared = jax.tree.map(lambda leaf, over: leaf.shape[1 if over else 0] == 1, inputs, in_batched)
    shared = jax.tree.leaves(shared, is_leaf=_is_none)
    summed = [
        jax.vmap(_sum_of_few)(ct)[:, None] if once and ct is not None else ct
        for ct, once in zip(leaves, shared, strict=True)
    ]
    return jax.tree.unflatten(structure, summed)


def _is_none(leaf) -> bool:
    return leaf is None


def _merge(leaf, over: bool, outer: int, inner: int, expand: bool):
    """Fold the axis of `vmap` into the leading axis of one leaf; `expand` even one that all share."""
    if not over:
        if leaf.shape[0] == 1:
            return jnp.broadcast_to(leaf, (outer * inner, *leaf.shape[1:])) if expand else leaf
        return jnp.tile(leaf, (outer,) + (1,) * (leaf.ndim - 1))
    if leaf.shape[1] != inner:
        leaf = jnp.broadcast_to(leaf, (outer, inner, *leaf.shape[2:]))
    return leaf.reshape(outer * inner, *leaf.shape[2:])


def batched_first(function: Callable, shapes: Callable) -> Callable:
    """Make `vmap` lengthen the leading axis of every leaf before `function` is differentiated.

    `grad` of `vmap` of a function with rules of its own gets a cotangent per sample for what all
    samples share, and sums them only then. For a matrix of weights that is most of the memory and
    much of the time. Here `function` sees the whole batch, and sums while it goes.

    - `function`: takes and gives a pytree of arrays, each with a leading axis that is the batch, or
        of length 1 for an argument that all share. It may be differentiable by any means.
    - `shapes`: gives the shapes of the result without tracing `function`.
    """

    def call(inputs: PyTree) -> PyTree:
        leaves, structure = jax.tree.flatten(inputs)

        def flat(*leaves):
            return jax.tree.leaves(function(jax.tree.unflatten(structure, leaves)))

        def flat_shapes(*leaves):
            return jax.tree.leaves(shapes(jax.tree.unflatten(structure, leaves)))

        out = jax.tree.structure(shapes(inputs))
        return jax.tree.unflatten(out, _batched_first.bind(*leaves, function=flat, shapes=flat_shapes))

    return call


def _differentiate(primals, tangents, *, function, shapes):
    moving = [type(tangent) is not ad.Zero for tangent in tangents]

    def of_moving(moved):
        moved = iter(moved)
        return function(*(next(moved) if moves else fixed for moves, fixed in zip(moving, primals, strict=True)))

    def only_moving(values):
        return [value for value, moves in zip(values, moving, strict=True) if moves]

    out, out_tangents = jax.jvp(of_moving, (only_moving(primals),), (only_moving(tangents),))
    zeros = [ad.Zero(jax.typeof(value).to_tangent_aval()) for value in out]
    smooth = [jnp.issubdtype(value.dtype, jnp.inexact) for value in out]
    return out, [t if s else zero for t, s, zero in zip(out_tangents, smooth, zeros, strict=True)]


def _vectorise(args, axes, *, function, shapes):
    over = [axis is not None for axis in axes]
    outer = next(arg.shape[axis] for arg, axis in zip(args, axes, strict=True) if axis is not None)
    args = [jnp.moveaxis(arg, axis, 0) if o else arg for arg, axis, o in zip(args, axes, over, strict=True)]
    inner = max(arg.shape[1 if o else 0] for arg, o in zip(args, over, strict=True))
    merged = [_merge(arg, o, outer, inner, False) for arg, o in zip(args, over, strict=True)]
    out = _batched_first.bind(*merged, function=function, shapes=shapes)
    return [leaf.reshape(outer, inner, *leaf.shape[1:]) for leaf in out], [0] * len(out)


def _call(*args, function, shapes):
    return function(*args)


_batched_first: Any = Primitive("eventsnn_batched_first")
_batched_first.multiple_results = True
_batched_first.def_impl(_call)
_batched_first.def_abstract_eval(lambda *args, function, shapes: [ShapedArray(s.shape, s.dtype) for s in shapes(*args)])
ad.primitive_jvps[_batched_first] = _differentiate
batching.primitive_batchers[_batched_first] = _vectorise
mlir.register_lowering(_batched_first, mlir.lower_fun(_call, multiple_results=True))
