"""What compiled kernels find by name: a counter of interrupts, the handler of signals that counts, and C functions.

Kernels from the cache were compiled by another process, in which everything had another address. So these are declared
to LLVM under names, before any kernel is loaded.
"""

import ctypes
import os
import sys

import llvmlite.binding as llvm
from llvmlite import ir


def _let_others_run() -> int:
    """The address of the C function by which a thread lets others run."""
    function = ctypes.windll.kernel32.SwitchToThread if sys.platform == "win32" else ctypes.CDLL(None).sched_yield
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _signal_handler(counter: int, before: int):
    """An engine of LLVM with the function `count(signal, information, context)`.

    It adds 1 to the word at one address and calls the handler whose address is at the other. It runs between any two
    instructions of any thread, so it consists of an atomic addition and a call.
    """
    word, pointer = ir.IntType(64), ir.IntType(8).as_pointer()
    signature = ir.FunctionType(ir.VoidType(), [ir.IntType(32), pointer, pointer])
    module = ir.Module()
    module.triple = llvm.get_process_triple()
    count = ir.Function(module, signature, "count")
    builder = ir.IRBuilder(count.append_basic_block())
    builder.atomic_rmw("add", word(counter).inttoptr(word.as_pointer()), word(1), "seq_cst")
    previous = builder.load_atomic(word(before).inttoptr(word.as_pointer()), ordering="seq_cst", align=8)
    builder.call(builder.inttoptr(previous, signature.as_pointer()), count.args)
    builder.ret_void()
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()
    return engine


def _declare() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.add_symbol("eventsnn_let_others_run", _let_others_run())
    # `snprintf` of the C library. Unlike that name, this one is exported on all systems; it needs no interpreter lock.
    print_into = ctypes.cast(ctypes.pythonapi.PyOS_snprintf, ctypes.c_void_p).value or 0
    llvm.add_symbol("eventsnn_print_into", print_into)
    # The number of SIGINTs so far, and the address of the handler of signals that was there before.
    words = (ctypes.c_int64 * 2)()
    counter = ctypes.addressof(words)
    llvm.add_symbol("eventsnn_interrupts", counter)
    forever: list = [words]
    if os.name == "posix":
        engine = _signal_handler(counter, counter + 8)
        llvm.add_symbol("eventsnn_count_interrupt", engine.get_function_address("count"))
        forever.append(engine)
    # A signal may arrive after this module is gone.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(forever))


# Once per process, even if the module is imported anew: two handlers that call each other would never end.
if llvm.address_of_symbol("eventsnn_interrupts") is None:
    _declare()
