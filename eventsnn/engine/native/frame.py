"""XLA's call frame, read in compiled code: typed FFI, API version 1, as in `jaxlib/include/xla/ffi/api/c_api.h`.

XLA calls a handler with the address of an `XLA_FFI_CallFrame`. No Python runs during a call and no lock is held.
Offsets are in bytes, for 64-bit platforms. `tests/native/test_bridge.py` compares them with the header.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.np.arrayobj import make_array, populate_array

from eventsnn.engine.native.compiled import compiled, intrinsic
from eventsnn.engine.native.memory import WORD, call_address, load_int, load_word, on_stack, store_int, words_on_stack

# XLA_FFI_CallFrame, with XLA_FFI_Args, XLA_FFI_Rets and XLA_FFI_Attrs inside it.
FRAME_EXTENSION = 8
FRAME_API = 16
FRAME_CONTEXT = 24
FRAME_ARGUMENT_COUNT = 56
FRAME_ARGUMENTS = 72
FRAME_RESULT_COUNT = 96
FRAME_RESULTS = 112
FRAME_ATTRIBUTES = 160

# XLA_FFI_Buffer and XLA_FFI_Scalar.
BUFFER_DTYPE = 16
BUFFER_DATA = 24
BUFFER_RANK = 32
BUFFER_DIMS = 40
SCALAR_VALUE = 8

# XLA_FFI_InternalExtension (XLA_FFI_Extension_Base before JAX 0.11), XLA_FFI_Metadata_Extension and XLA_FFI_Metadata.
EXTENSION_TYPE = 8
EXTENSION_NEXT = 16
EXTENSION_METADATA = 24
METADATA_MAJOR = 24
METADATA_MINOR = 28
METADATA_TRAITS = 32
METADATA_EXTENSION_TYPE = 1

# XLA_FFI_Api.
API_ERROR_CREATE = 48
API_ERROR_DESTROY = 64

# The structures of arguments to functions of the API.
ERROR_CREATE_SIZE = 28
ERROR_DESTROY_SIZE = 24

# The lowest version with everything that is read here. Any jaxlib with major version 0 accepts it.
MAJOR_VERSION, MINOR_VERSION = 0, 1

# XLA_FFI_Error_Code.
CANCELLED, INVALID_ARGUMENT, ABORTED, INTERNAL = 1, 3, 10, 13

# XLA_FFI_DataType.
DTYPE_CODES = {
    np.bool_: 1,
    np.int32: 4,
    np.int64: 5,
    np.uint8: 6,
    np.uint32: 8,
    np.float32: 11,
    np.float64: 12,
}


@compiled
def is_query(frame):
    """Whether XLA asks for the version of the API, instead of calling; if so, the answer is written to the frame."""
    extension = load_word(frame + FRAME_EXTENSION)
    while extension != 0:
        if load_int(extension + EXTENSION_TYPE) == METADATA_EXTENSION_TYPE:
            metadata = load_word(extension + EXTENSION_METADATA)
            store_int(metadata + METADATA_MAJOR, MAJOR_VERSION)
            store_int(metadata + METADATA_MINOR, MINOR_VERSION)
            store_int(metadata + METADATA_TRAITS, 0)
            return True
        extension = load_word(extension + EXTENSION_NEXT)
    return False


def _load(builder, address, index=None):
    """The word at an address, or at the index-th word after it, in an intrinsic."""
    pointer = builder.inttoptr(address, WORD.as_pointer())
    return builder.load(pointer if index is None else builder.gep(pointer, [index]))


def _entry_of_list(offset, find=lambda builder, entry: entry):
    """A function (frame, k) -> k-th entry of the list of pointers at an offset of the frame.

    An intrinsic is a few instructions in its caller. A compiled function instead takes Numba's whole pipeline per use.
    """

    @intrinsic
    def entry(typingctx, frame, k):
        def codegen(context, builder, signature, args):
            address = _load(builder, builder.add(args[0], WORD(offset)))
            return find(builder, _load(builder, address, args[1]))

        return types.int64(types.int64, types.int64), codegen

    return entry


def _scalar_value(builder, scalar):
    return _load(builder, _load(builder, builder.add(scalar, WORD(SCALAR_VALUE))))


# argument(frame, k), result(frame, k): the address of the XLA_FFI_Buffer of the k-th argument or result.
argument = _entry_of_list(FRAME_ARGUMENTS)
result = _entry_of_list(FRAME_RESULTS)
# attribute(frame, k): the k-th attribute in the order of names, which must be an np.int64.
attribute = _entry_of_list(FRAME_ATTRIBUTES, _scalar_value)


@intrinsic
def length(typingctx, buffer, axis):
    """The length of a buffer along an axis."""

    def codegen(context, builder, signature, args):
        return _load(builder, _load(builder, builder.add(args[0], WORD(BUFFER_DIMS))), args[1])

    return types.int64(types.int64, types.int64), codegen


def _array_of_rank(rank):
    @intrinsic
    def array(typingctx, buffer, dtype):
        """The buffer as a C-ordered array of a dtype (np.float32, ...); see `unexpected` for a check."""
        array_type = types.Array(dtype.dtype, rank, "C")

        def codegen(context, builder, signature, args):
            lengths = _load(builder, builder.add(args[0], WORD(BUFFER_DIMS)))
            shape = [_load(builder, lengths, WORD(axis)) for axis in range(rank)]
            itemsize = context.get_abi_sizeof(context.get_data_type(array_type.dtype))
            strides = [WORD(itemsize)]
            for n in shape[:0:-1]:
                strides.insert(0, builder.mul(strides[0], n))
            data = _load(builder, builder.add(args[0], WORD(BUFFER_DATA)))
            value = make_array(array_type)(context, builder)
            populate_array(
                value,
                data=builder.inttoptr(data, context.get_data_type(array_type.dtype).as_pointer()),
                shape=shape,
                strides=strides,
                itemsize=itemsize,
                meminfo=None,
            )
            return value._getvalue()

        return array_type(types.int64, dtype), codegen

    return array


# array1(buffer, dtype), ...: the buffer of an argument or result as an array with one, two, three or four axes.
array1, array2, array3, array4 = (_array_of_rank(rank) for rank in (1, 2, 3, 4))


@intrinsic
def fail(typingctx, frame, sentence, code):
    """An XLA_FFI_Error for the handler to return, with a sentence (a literal string) and a code.

    JAX raises `JaxRuntimeError` with the sentence; for the second and later calls of a jitted function, JAX 0.10 raises
    `ValueError` with the same text.
    """

    def codegen(context, builder, signature, args):
        code = context.cast(builder, args[2], signature.args[2], types.int64)
        message = builder.ptrtoint(context.insert_const_string(builder.module, sentence.literal_value), WORD)
        return _create_error(builder, args[0], message, code)

    return types.int64(types.int64, sentence, code), codegen


@intrinsic
def fail_with(typingctx, frame, address, code):
    """The same with a sentence in memory, whose end is a byte 0. XLA copies it."""

    def codegen(context, builder, signature, args):
        return _create_error(builder, *args)

    return types.int64(types.int64, types.int64, types.int64), codegen


def _create_error(builder, frame, message, code):
    """The call of XLA_FFI_Error_Create, in an intrinsic."""
    block = on_stack(builder, [WORD(ERROR_CREATE_SIZE), WORD(0), message, code])
    api = _load(builder, builder.add(frame, WORD(FRAME_API)))
    create = _load(builder, builder.add(api, WORD(API_ERROR_CREATE)))
    return builder.call(builder.inttoptr(create, ir.FunctionType(WORD, [WORD]).as_pointer()), [block])


@compiled
def forget(frame, error):
    """Free an error that a function of the API has returned, if it is one."""
    if error != 0:
        destroy = load_word(load_word(frame + FRAME_API) + API_ERROR_DESTROY)
        call_address(destroy, words_on_stack((ERROR_DESTROY_SIZE, 0, error)))


def expected(*buffers):
    """What `unexpected` compares with, from pairs (dtype, rank), as a flat tuple, which Numba takes as a constant."""
    return tuple(number for dtype, rank in buffers for number in (DTYPE_CODES[np.dtype(dtype).type], rank))


@compiled
def unexpected(frame, arguments, results):
    """0, or an XLA_FFI_Error if the call has not exactly the `expected(...)` arguments and results."""
    if _differ(load_word(frame + FRAME_ARGUMENT_COUNT), load_word(frame + FRAME_ARGUMENTS), arguments):
        return fail(frame, "arguments of a native kernel have another number, dtype or rank than it expects", INTERNAL)
    if _differ(load_word(frame + FRAME_RESULT_COUNT), load_word(frame + FRAME_RESULTS), results):
        return fail(frame, "results of a native kernel have another number, dtype or rank than it expects", INTERNAL)
    return 0


@compiled
def _differ(count, buffers, expectation):
    if 2 * count != len(expectation):
        return True
    for k in range(count):
        buffer = load_word(buffers + 8 * k)
        if load_int(buffer + BUFFER_DTYPE) != expectation[2 * k]:
            return True
        if load_word(buffer + BUFFER_RANK) != expectation[2 * k + 1]:
            return True
    return False
