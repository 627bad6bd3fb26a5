"""`jax.vmap` over code that is batched by hand.

Under `vmap` a `while_loop` would run every iteration with a select on all it carries, and a `cond`
would run both of its branches. The loops here carry a batch axis of their own instead, and `vmap`
only makes that axis longer.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def hand_batched(function: Callable) -> Callable:
    """Make `vmap` lengthen the leading axis of every argument and result of `function`.

    Each argument leaf has a leading axis that is the batch, or of length 1 where the whole batch
    shares it. Each result leaf has the batch as its leading axis.
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
        merged = [_merge(leaf, over, axis_size, inner) for leaf, over in zip(leaves, mapped, strict=True)]
        out = batched(*jax.tree.unflatten(structure, merged))
        split = jax.tree.map(lambda leaf: leaf.reshape(axis_size, inner, *leaf.shape[1:]), out)
        return split, jax.tree.map(lambda _: True, out)

    return batched


def _merge(leaf, over: bool, outer: int, inner: int):
    """Fold the axis of `vmap` into the leading axis of one leaf."""
    if not over:
        if leaf.shape[0] == 1:
            return leaf
        return jnp.tile(leaf, (outer,) + (1,) * (leaf.ndim - 1))
    if leaf.shape[1] != inner:
        leaf = jnp.broadcast_to(leaf, (outer, inner, *leaf.shape[2:]))
    return leaf.reshape(outer * inner, *leaf.shape[2:])
