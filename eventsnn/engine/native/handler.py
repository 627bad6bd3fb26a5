"""The outermost function of a kernel, as XLA calls it."""

from numba import types
from numba.core.ccallback import CFunc

from eventsnn.engine.native.frame import INTERNAL, fail, is_query
from eventsnn.engine.native.memory import RAISED, call_guarded


def compile_handler(body, name):
    """A C function from a compiled function `body(frame)`, which returns 0 or an XLA_FFI_Error."""

    def handler(frame):
        if is_query(frame):
            return 0
        error = call_guarded(body, frame)
        if error == RAISED:
            return fail(frame, "a native kernel raised an exception; most likely memory ran out", INTERNAL)
        return error

    signature = (types.int64,), types.int64
    callback = CFunc(handler, signature, locals={}, options={"error_model": "numpy"})
    callback.compile()
    return callback
