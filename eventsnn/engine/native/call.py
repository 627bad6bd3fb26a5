"""A call of a native kernel from JAX."""

import jax
import jax.numpy as jnp
import numpy as np

from eventsnn.engine.native.target import Kernel


def call(kernel: Kernel, results, *arrays, **attributes: int):
    """The results of a kernel for arrays, in eager code or under `jit`; CPU only.

    `results` is a `jax.ShapeDtypeStruct`, or a sequence of them. The first array with a floating-point dtype decides
    which variant of the kernel is called. Attributes are integers that are known when the call is traced; the kernel
    reads them by their place in the order of names. Raises `NativeUnavailable`.
    """
    arrays = [jnp.asarray(array) for array in arrays]
    dtype = next((array.dtype for array in arrays if jnp.issubdtype(array.dtype, jnp.floating)), None)
    if dtype is None:
        raise TypeError(f"kernel {kernel.name} got no array of floating-point numbers, which selects its variant")
    function = jax.ffi.ffi_call(kernel.target(dtype), results)
    return function(*arrays, **{name: np.int64(value) for name, value in attributes.items()})
