"""Kernels by name: imported, compiled and registered with XLA on first use, one kernel and one dtype at a time.

A kernel is a file of this folder, which is imported lazily and may import Numba at its top:

    import numpy as np

    from eventsnn.engine.native.compiled import compiled
    from eventsnn.engine.native.frame import argument, array2, attribute, expected, length, result, unexpected
    from eventsnn.engine.native.pool import spread

    def scale(dtype):
        arguments, results = expected((dtype, 2)), expected((dtype, 2), (np.int32, 1))

        @compiled
        def work(frame, item):  # one row; returns an int32 status, 0 for success
            x, y = array2(argument(frame, 0), dtype), array2(result(frame, 0), dtype)
            for j in range(x.shape[1]):
                y[item, j] = attribute(frame, 0) * x[item, j]
            return 0

        @compiled
        def body(frame):  # returns 0, or what `fail(frame, "sentence", code)` returns
            error = unexpected(frame, arguments, results)
            if error != 0:
                return error
            spread(frame, length(argument(frame, 0), 0), work, result(frame, 1))
            return 0

        return body

It is called through `call.py`, in eager code or under `jit`:

    SCALE = Kernel("scale", "eventsnn.engine.native.rows:scale")
    results = jax.ShapeDtypeStruct(x.shape, x.dtype), jax.ShapeDtypeStruct(x.shape[:1], jnp.int32)
    y, statuses = call(SCALE, results, x, factor=3)

A kernel takes nothing from outside this folder: the cache on disk notices changes of these files only. `Kernel.target`
raises `NativeUnavailable` where a kernel cannot be had.
"""

import contextlib
import gc
import importlib
import importlib.util
import re
import threading
import warnings
from collections.abc import Iterator

import jax
import numpy as np


class NativeUnavailable(Exception):
    """A native kernel cannot be used on this machine; the message says why."""


_lock = threading.RLock()
_noticed: set[str] = set()


class Kernel:
    """A native kernel, not compiled before its first use.

    `build` is "module:function". The function gets np.float32 or np.float64 and returns the compiled body of the
    handler: it takes the address of the call frame and returns 0 or an XLA_FFI_Error. XLA knows a kernel by its name,
    so there may be only one with that name.
    """

    def __init__(self, name: str, build: str):
        self.name, self.build = name, build
        self._targets: dict[type, str | NativeUnavailable] = {}

    def target(self, dtype) -> str:
        """The name under which XLA knows this kernel for a dtype. Raises `NativeUnavailable`."""
        dtype = np.dtype(dtype).type
        if dtype not in (np.float32, np.float64):
            raise TypeError(f"kernel {self.name} has no variant for {np.dtype(dtype)}: use float32 or float64")
        with _lock:
            if dtype not in self._targets:
                name = f"eventsnn_{self.name}_{dtype.__name__}"
                try:
                    address = self._address(name, dtype)
                except Exception as error:
                    # Kept as well: to fail takes as long as to compile.
                    unavailable = self._targets[dtype] = NativeUnavailable(_reason(self.name, error))
                    raise unavailable from error
                jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(address), platform="cpu", api_version=1)
                self._targets[dtype] = name
            target = self._targets[dtype]
        if isinstance(target, NativeUnavailable):
            raise NativeUnavailable(*target.args)
        return target

    def _address(self, name: str, dtype: type) -> int:
        """The address of the handler, from the cache or compiled."""
        cache = importlib.import_module("eventsnn.engine.native.cache")
        module, function = self.build.split(":")
        stored = cache.StoredKernel(name, module)
        address = stored.load()
        if address is not None:
            return address
        with stored.alone():
            # Another process may have compiled it meanwhile.
            address = stored.load()
            if address is None:
                build = getattr(importlib.import_module(module), function)
                outermost = importlib.import_module("eventsnn.engine.native.handler")
                with _without_collections():
                    handler = outermost.Handler(name, build(dtype))
                stored.save(handler.stored_form())
                address = handler.address
        return address


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Compilation makes millions of objects, nearly all without cycles; to look for these takes a sixth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _reason(kernel: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.split(".")[0] in ("numba", "llvmlite"):
        return f"{error.name} is not installed; `pip install numba` installs it"
    # Numba begins with a list of the stages of compilation that were under way, and colours it if colorama is there.
    stages = ("Failed in", "During:", " ")
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line for line in text.splitlines() if line and not line.startswith(stages)]
    return f"kernel {kernel} cannot be compiled: {type(error).__name__}: {' '.join(lines[:2])}"


def available() -> bool:
    """Whether Numba is installed. It is not imported, so a kernel may still turn out to be unavailable."""
    return importlib.util.find_spec("numba") is not None


def notice_once(reason: str) -> None:
    """Warn, once per reason and process, that the XLA engine runs, which is slower."""
    with _lock:
        if reason in _noticed:
            return
        _noticed.add(reason)
    warnings.warn(f"the XLA engine runs instead of the native one, which is faster: {reason}", stacklevel=2)
