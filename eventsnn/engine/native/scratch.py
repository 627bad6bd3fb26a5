"""Where the numbers of one sample are in a buffer of a batch, and how to ask for them before they are needed."""

from llvmlite import ir
from numba import types

from eventsnn.engine.native.compiled import compiled, intrinsic
from eventsnn.engine.native.frame import BUFFER_DATA, BUFFER_DIMS, BUFFER_RANK
from eventsnn.engine.native.memory import load_word


@intrinsic
def prefetch(typingctx, array, index):
    """Bring the cache line of an entry of an array near."""

    def codegen(context, builder, signature, args):
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], function_type)
        # Read, with high locality, from the data cache.
        place = builder.bitcast(builder.gep(args[0], [args[1]]), pointer)
        builder.call(function, [place, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.none(array, types.int64), codegen


@compiled
def row_of(buffer, item, itemsize):
    """The address of the row of a buffer that belongs to a sample: its own, or the only one."""
    dims = load_word(buffer + BUFFER_DIMS)
    size = itemsize
    for axis in range(1, load_word(buffer + BUFFER_RANK)):
        size *= load_word(dims + 8 * axis)
    return load_word(buffer + BUFFER_DATA) + (item * size if load_word(dims) > 1 else 0)
