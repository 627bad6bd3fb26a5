"""How the functions of a kernel are compiled: the only place that names Numba's options.

`@compiled` is for ordinary functions, `@fast` for loops over neurons that LLVM is to vectorise. Both compile on first use,
for the types they are called with. Neither may raise: see `memory.call_guarded` for what becomes of an exception.
"""

import inspect

import numba
from numba.extending import intrinsic as numba_intrinsic

OPTIONS = dict(
    # Division by zero gives inf or nan, as in NumPy. Numba's default raises, which costs a branch per division and
    # keeps LLVM from vectorising.
    error_model="numpy",
    boundscheck=False,
    nogil=True,
    # These functions are called from compiled code only. Each wrapper for callers from Python is LLVM code of its own.
    no_cpython_wrapper=True,
    no_cfunc_wrapper=True,
)

# Sums may be reordered and x / y may become x * (1 / y). Infinities keep their meaning, since a spike that does not occur
# has time inf; therefore "ninf" and the umbrella "fast" are left out.
REORDERED = {"nnan", "nsz", "contract", "reassoc", "arcp"}


def compiled(function):
    """An ordinary compiled function."""
    return numba.njit(**OPTIONS)(inspect.unwrap(function))


def fast(function):
    """A compiled loop whose floating-point operations may be reordered, so that it can be vectorised."""
    return numba.njit(fastmath=REORDERED, **OPTIONS)(inspect.unwrap(function))


def intrinsic(function):
    """Numba's `intrinsic`; the types of literal arguments say their values."""
    return numba_intrinsic(prefer_literal=True)(inspect.unwrap(function))
