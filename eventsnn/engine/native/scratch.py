"""The memory of a run: one block that holds its counters, the addresses of its arrays, and the arrays.

Functions of a kernel are given the address of that block and nothing else. Numba passes an array as seven numbers, and
counts its references with atomic operations if it owns them: with thirty arrays that takes longer than an event, and
it is most of the time of compilation.
"""

from llvmlite import ir
from numba import types
from numba.np.arrayobj import make_array, populate_array

from eventsnn.engine.native.compiled import compiled, intrinsic
from eventsnn.engine.native.frame import BUFFER_DATA, BUFFER_DIMS, BUFFER_RANK
from eventsnn.engine.native.memory import load_word

_WORD = ir.IntType(64)


def _array_at(rank):
    def codegen(context, builder, signature, args):
        itemsize = context.get_abi_sizeof(context.get_data_type(signature.return_type.dtype))
        shape = list(args[1 : rank + 1])
        strides = [_WORD(itemsize)]
        for n in shape[:0:-1]:
            strides.insert(0, builder.mul(strides[0], n))
        value = make_array(signature.return_type)(context, builder)
        populate_array(
            value,
            data=builder.inttoptr(args[0], context.get_data_type(signature.return_type.dtype).as_pointer()),
            shape=shape,
            strides=strides,
            itemsize=itemsize,
            meminfo=None,
        )
        return value._getvalue()

    if rank == 1:

        @intrinsic
        def array(typingctx, address, count, dtype):
            return types.Array(dtype.dtype, 1, "C")(types.int64, types.int64, dtype), codegen

    else:

        @intrinsic
        def array(typingctx, address, rows, columns, dtype):
            return types.Array(dtype.dtype, 2, "C")(types.int64, types.int64, types.int64, dtype), codegen

    return array


# vector_at(address, count, dtype), matrix_at(address, rows, columns, dtype): an array that starts at an address.
vector_at, matrix_at = _array_at(1), _array_at(2)


@intrinsic
def prefetch(typingctx, address):
    """Bring the cache line at an address near."""

    def codegen(context, builder, signature, args):
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        signature = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], signature)
        # Read, with high locality, from the data cache.
        builder.call(function, [builder.inttoptr(args[0], pointer), number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.none(types.int64), codegen


@compiled
def room(count):
    """The bytes that `count` numbers of up to 8 bytes take, such that the next array starts at a cache line."""
    return (8 * count + 63) // 64 * 64


@compiled
def row_of(buffer, item, itemsize):
    """The address of the row of a buffer that belongs to a sample: its own, or the only one."""
    dims = load_word(buffer + BUFFER_DIMS)
    size = itemsize
    for axis in range(1, load_word(buffer + BUFFER_RANK)):
        size *= load_word(dims + 8 * axis)
    return load_word(buffer + BUFFER_DATA) + (item * size if load_word(dims) > 1 else 0)
