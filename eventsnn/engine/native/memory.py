"""Raw memory in compiled code: loads, stores, atomics, calls through addresses. An address is an int64 throughout."""

from llvmlite import ir
from numba import types

from eventsnn.engine.native.compiled import intrinsic

WORD = ir.IntType(64)


def _pointer(builder, address, element):
    return builder.inttoptr(address, element.as_pointer())


@intrinsic
def load_word(typingctx, address):
    """The int64 at an address."""

    def codegen(context, builder, signature, args):
        return builder.load(_pointer(builder, args[0], WORD))

    return types.int64(types.int64), codegen


@intrinsic
def load_int(typingctx, address):
    """The C int at an address, as an int64."""

    def codegen(context, builder, signature, args):
        return builder.sext(builder.load(_pointer(builder, args[0], ir.IntType(32))), WORD)

    return types.int64(types.int64), codegen


@intrinsic
def store_word(typingctx, address, value):
    """Write an int64 to an address."""

    def codegen(context, builder, signature, args):
        builder.store(args[1], _pointer(builder, args[0], WORD))
        return context.get_dummy_value()

    return types.none(types.int64, types.int64), codegen


@intrinsic
def store_int(typingctx, address, value):
    """Write a C int to an address."""

    def codegen(context, builder, signature, args):
        value = builder.trunc(args[1], ir.IntType(32))
        builder.store(value, _pointer(builder, args[0], ir.IntType(32)))
        return context.get_dummy_value()

    return types.none(types.int64, types.int64), codegen


@intrinsic
def load_atomic(typingctx, address):
    """The int64 at an address, with everything that was written before it by other threads."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(_pointer(builder, args[0], WORD), ordering="seq_cst", align=8)

    return types.int64(types.int64), codegen


def _read_modify_write(operation):
    @intrinsic
    def apply(typingctx, address, value):
        def codegen(context, builder, signature, args):
            return builder.atomic_rmw(operation, _pointer(builder, args[0], WORD), args[1], "seq_cst")

        return types.int64(types.int64, types.int64), codegen

    return apply


# Each returns the value before.
atomic_add = _read_modify_write("add")
atomic_min = _read_modify_write("min")


def on_stack(builder, words):
    """In an intrinsic: the address of words on the stack of the calling function, which reuses them at the next use."""
    with builder.goto_entry_block():
        block = builder.alloca(ir.ArrayType(WORD, len(words)))
    for k, word in enumerate(words):
        builder.store(word, builder.gep(block, [WORD(0), WORD(k)]))
    return builder.ptrtoint(block, WORD)


@intrinsic
def words_on_stack(typingctx, words):
    """The address of a tuple of int64, copied to the stack of the calling function: valid until that returns."""

    def codegen(context, builder, signature, args):
        return on_stack(builder, [builder.extract_value(args[0], k) for k in range(len(words))])

    return types.int64(types.UniTuple(types.int64, len(words))), codegen


@intrinsic
def zeros_on_stack(typingctx, n):
    """The address of a literal number of words, 0, on the stack of the calling function."""

    def codegen(context, builder, signature, args):
        return on_stack(builder, [WORD(0)] * n.literal_value)

    return types.int64(n), codegen


@intrinsic
def call_address(typingctx, function, argument):
    """Call the C function at an address with one pointer; it returns a pointer."""

    def codegen(context, builder, signature, args):
        function = _pointer(builder, args[0], ir.FunctionType(WORD, [WORD]))
        return builder.call(function, [args[1]])

    return types.int64(types.int64, types.int64), codegen


def _declared(module, name, function_type):
    return module.globals.get(name) or ir.Function(module, function_type, name)


def c_function(name, n_arguments):
    """A C function that is found by name, of words. Unlike a number, a name is still right in a cached kernel.

    A function that returns less than a word, or nothing, leaves the upper bits of the result undefined.
    """

    def codegen(context, builder, signature, args):
        function = _declared(builder.module, name, ir.FunctionType(WORD, [WORD] * n_arguments))
        return builder.call(function, args)

    signature = types.int64(*[types.int64] * n_arguments)
    calls = {
        0: lambda typingctx: (signature, codegen),
        1: lambda typingctx, a: (signature, codegen),
        3: lambda typingctx, a, b, c: (signature, codegen),
    }
    return intrinsic(calls[n_arguments])


@intrinsic
def address_of_symbol(typingctx, name):
    """The address of a symbol of `symbols.py`, under a literal name."""

    def codegen(context, builder, signature, args):
        symbol = _declared(builder.module, name.literal_value, ir.FunctionType(ir.VoidType(), []))
        return builder.ptrtoint(symbol, WORD)

    return types.int64(name), codegen


# What a compiled function is taken to return where it raised instead, for example because memory ran out.
RAISED = -1


def _result_or_raised(context, builder, function, argument_types, arguments):
    """Call a compiled function outside of Numba's own convention for errors: its int64, or RAISED."""
    compiled = function.dispatcher.get_compile_result(types.int64(*argument_types))
    context.active_code_library.add_linking_library(compiled.library)
    status, value = context.call_internal_no_propagate(builder, compiled.fndesc, compiled.signature, arguments)
    value = context.cast(builder, value, compiled.signature.return_type, types.int64)
    return builder.select(status.is_error, WORD(RAISED), value)


@intrinsic
def call_guarded(typingctx, function, argument):
    """`function(argument)` for a compiled function int64 -> int64; RAISED where that raises."""

    def codegen(context, builder, signature, args):
        return _result_or_raised(context, builder, signature.args[0], (types.int64,), (args[1],))

    return types.int64(function, types.int64), codegen


@intrinsic
def call_guarded_pair(typingctx, function, first, second):
    """`function(first, second)` for a compiled function of two int64; RAISED where that raises."""

    def codegen(context, builder, signature, args):
        return _result_or_raised(context, builder, signature.args[0], (types.int64,) * 2, (args[1], args[2]))

    return types.int64(function, types.int64, types.int64), codegen


@intrinsic
def task_address(typingctx, function, data):
    """The address of a C function `void task(int64 address)` that calls `function(address, data)`.

    The C function is part of the code of the caller. So its address stays right when that code comes from a cache.
    """

    def codegen(context, builder, signature, args):
        function, data = signature.args
        task = ir.Function(
            builder.module, ir.FunctionType(ir.VoidType(), [WORD]), builder.module.get_unique_name("task")
        )
        task.linkage = "internal"
        inside = ir.IRBuilder(task.append_basic_block())
        arguments = (task.args[0], context.get_dummy_value())
        _result_or_raised(context, inside, function, (types.int64, data), arguments)
        inside.ret_void()
        return builder.ptrtoint(task, WORD)

    return types.int64(function, data), codegen
