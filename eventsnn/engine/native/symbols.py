"""What compiled kernels find by name: a counter of interrupts, the handler of signals that counts, and a C function.

Kernels from the cache were compiled by another process, in which everything had another address. So these are declared
to LLVM under names, before any kernel is loaded.
"""

import ctypes
import os
import sys

import llvmlite.binding as llvm
from llvmlite import ir

# The number of SIGINTs so far, and the address of the handler of signals that was there before.
_words = (ctypes.c_int64 * 2)()


def _let_others_run() -> int:
    """The address of the C function by which a thread lets others run."""
    function = ctypes.windll.kernel32.SwitchToThread if sys.platform == "win32" else ctypes.CDLL(None).sched_yield
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _signal_handler():
    """An engine of LLVM with `count(signal, information, context)`, which counts and calls the handler from before.

    It runs between any two instructions of any thread, so it consists of an atomic addition and a call.
    """
    word, pointer = ir.IntType(64), ir.IntType(8).as_pointer()
    signature = ir.FunctionType(ir.VoidType(), [ir.IntType(32), pointer, pointer])
    module = ir.Module()
    module.triple = llvm.get_process_triple()
    count = ir.Function(module, signature, "count")
    builder = ir.IRBuilder(count.append_basic_block())
    counter, before = (word(ctypes.addressof(_words) + 8 * k).inttoptr(word.as_pointer()) for k in (0, 1))
    builder.atomic_rmw("add", counter, word(1), "seq_cst")
    previous = builder.load_atomic(before, ordering="seq_cst", align=8)
    builder.call(builder.inttoptr(previous, signature.as_pointer()), count.args)
    builder.ret_void()
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()
    return engine


llvm.initialize_native_target()
llvm.initialize_native_asmprinter()
llvm.add_symbol("eventsnn_let_others_run", _let_others_run())
llvm.add_symbol("eventsnn_interrupts", ctypes.addressof(_words))
if os.name == "posix":
    _engine = _signal_handler()  # owns the machine code, and has to outlive every signal
    llvm.add_symbol("eventsnn_count_interrupt", _engine.get_function_address("count"))
