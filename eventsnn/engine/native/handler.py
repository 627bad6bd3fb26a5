"""The outermost function of a kernel, as XLA calls it."""

import inspect

from numba import types
from numba.core.ccallback import CFunc
from numba.core.codegen import JITCodeLibrary

from eventsnn.engine.native.compiled import HandlerCompiler
from eventsnn.engine.native.frame import INTERNAL, fail, is_query
from eventsnn.engine.native.memory import RAISED, call_guarded

_handlers: list["Handler"] = []  # own the machine code, which XLA may call until the end of the process


class Handler:
    """A C function from a compiled function `body(frame)`, which returns 0 or an XLA_FFI_Error."""

    def __init__(self, name: str, body):
        def handler(frame):
            if is_query(frame):
                return 0
            error = call_guarded(body, frame)
            if error == RAISED:
                return fail(frame, "a native kernel raised an exception: no memory, or an index out of range", INTERNAL)
            return error

        handler = inspect.unwrap(handler)
        handler.__name__ = handler.__qualname__ = name  # part of the symbol
        self._callback = CFunc(
            handler,
            ((types.int64,), types.int64),
            locals={},
            options={"error_model": "numpy"},
            pipeline_class=HandlerCompiler,
        )
        self._callback.compile()
        self.address = self._callback.address
        _handlers.append(self)

    def stored_form(self) -> tuple[str, list[str], bytes] | None:
        """The symbol of the handler, the symbols that it needs and the object file; None if it needs this process."""
        library: JITCodeLibrary = getattr(self._callback, "_library")  # noqa: B009, no public way
        if library.has_dynamic_globals:
            return None
        module = library._final_module
        declared = [f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")]
        declared += [variable.name for variable in module.global_variables if variable.is_declaration]
        return self._callback.native_name, declared, library.serialize_using_object_code()[2][0]
