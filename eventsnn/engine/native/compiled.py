"""How the functions of a kernel are compiled: the only place that names Numba's options.

`@compiled` is for ordinary functions, `@fast` for loops over neurons that LLVM is to vectorise. Both compile on first
use, for the types they are called with. Only the outermost function of a kernel becomes machine code (`handler.py`).

Most of the time of compilation is Numba's own, which is Python, and grows with the number of statements. What helped,
for the forward kernel on one clock (87 functions, 900 lines, float32, Numba 0.68 on one core, in seconds):

    as Numba compiles functions by default, with its arrays                        14.7
    without garbage collection meanwhile (`target.py`)                             11.3
    arrays as addresses in a block (`block.py`)                                     9.3
    functions linked once into the kernel, not into each caller; fewer stages       6.5
    from the cache                                                                  0.03

Run time is 5 to 10 % lower as well, because LLVM sees the whole kernel at once.

For authors of kernels: to assign an array to a part of another, `y[i] = x`, takes 2.7 s of compilation the first time
and 0.2 s for each other combination of types; write a loop over the elements. `np.argsort` takes 1.5 s. `np.empty`,
`min`, `max` and functions of `math` take less than 0.1 s each.
"""

import inspect
from typing import Any

import numba
from numba import types
from numba.core import typed_passes, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager
from numba.extending import intrinsic as numba_intrinsic

OPTIONS: dict[str, Any] = dict(
    # Division by zero gives inf or nan, as in NumPy. Numba's default raises, which costs a branch per division and
    # keeps LLVM from vectorising.
    error_model="numpy",
    # These functions are called from compiled code only. Each wrapper for callers from Python is LLVM code of its own.
    no_cpython_wrapper=True,
    no_cfunc_wrapper=True,
)

# Sums may be reordered and x / y may become x * (1 / y). Infinities keep their meaning, since a spike that does not
# occur has time inf; therefore "ninf" and the umbrella "fast" are left out.
REORDERED = {"nnan", "nsz", "contract", "reassoc", "arcp"}


class _NoEnvironment:
    """Takes the environment that Numba gives to each function. Only callers from Python would use it."""

    def set_env(self, name, environment):
        pass


class _InnerLibrary(JITCodeLibrary):
    """The LLVM code of a function that is only linked into its callers: neither optimised nor compiled on its own.

    Otherwise a function that is nested five deep is optimised five times, each time with all that it calls.
    """

    codegen = _NoEnvironment()  # type: ignore[assignment]

    def _optimize_functions(self, ll_module):
        pass

    def finalize(self):
        # The handler links everything, once. Numba links a function into each of its callers, with all that it calls.
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name):
        self._ensure_finalized()
        return 0


class HandlerLibrary(JITCodeLibrary):
    """The LLVM code of a whole kernel. Everything in it but the handler is private to it.

    So the machine code of two kernels cannot be mixed up when both come from a cache. Numba's names for functions count
    the functions of a process, and a linker takes equal names for equal functions.
    """

    def finalize(self):
        # The linker drops functions that no function before them calls. So callers come first, and Numba's own
        # functions last.
        linked: dict[Any, None] = {}
        waiting = list(self._linking_libraries)
        while waiting:
            library = waiting.pop()
            if library not in linked:
                linked[library] = None
                waiting += getattr(library, "_linking_libraries", [])
        self._linking_libraries = sorted(linked, key=lambda library: not isinstance(library, _InnerLibrary))
        super().finalize()

    def _optimize_final_module(self):
        for function in self._final_module.functions:
            if not function.is_declaration and not function.name.startswith("cfunc."):
                function.linkage = "internal"
        super()._optimize_final_module()


# The stages of compilation that the functions of a kernel need. Numba has as many again, for closures, generators,
# `with`, loops over tuples of several types, array expressions and parallel loops: a tenth of the time.
_STAGES = (
    untyped_passes.TranslateByteCode,
    untyped_passes.FixupArgs,
    untyped_passes.IRProcessing,
    untyped_passes.RewriteSemanticConstants,
    untyped_passes.DeadBranchPrune,
    untyped_passes.GenericRewrites,
    untyped_passes.ReconstructSSA,
    typed_passes.NopythonTypeInference,
    typed_passes.PreLowerStripPhis,
    typed_passes.IRLegalization,
    typed_passes.AnnotateTypes,
    typed_passes.NativeLowering,
    typed_passes.NoPythonBackend,
)


def _compiler_into(library_type) -> Any:
    """Numba's compiler with these stages, and with another type of library for the code it makes."""

    class IntoLibrary(CompilerBase):
        def define_pipelines(self):
            name = self.state.func_id.func_qualname
            self.state.library = library_type(self.state.targetctx.codegen(), name)
            self.state.library.enable_object_caching()
            stages = PassManager("kernel")
            for stage in _STAGES:
                stages.add_pass(stage, stage.__name__)
            stages.finalize()
            return [stages]

    return IntoLibrary


_InnerCompiler, HandlerCompiler = _compiler_into(_InnerLibrary), _compiler_into(HandlerLibrary)


def _without_integer_literals(dispatcher):
    """The same function, compiled once for `f(0)`, `f(1)` and `f(n)`: to Numba literals are types of their own.

    With them a tenth of the functions of a kernel were compiled two or three times. `True` stays a literal: where a
    function asks `flag is None`, Numba leaves out what is not for it only then.
    """
    find = dispatcher.get_call_template

    def type_of(arg):
        return types.unliteral(arg) if isinstance(arg, types.IntegerLiteral) else arg

    dispatcher.get_call_template = lambda args, kws: find(
        tuple(map(type_of, args)), {name: type_of(arg) for name, arg in kws.items()}
    )
    return dispatcher


def compiled(function):
    """An ordinary compiled function."""
    return _without_integer_literals(numba.njit(pipeline_class=_InnerCompiler, **OPTIONS)(inspect.unwrap(function)))


def fast(function):
    """A compiled loop whose floating-point operations may be reordered, so that it can be vectorised."""
    options: Any = dict(fastmath=REORDERED, **OPTIONS)
    return _without_integer_literals(numba.njit(pipeline_class=_InnerCompiler, **options)(inspect.unwrap(function)))


def intrinsic(function):
    """Numba's `intrinsic`; the types of literal arguments say their values."""
    return numba_intrinsic(prefer_literal=True)(inspect.unwrap(function))
