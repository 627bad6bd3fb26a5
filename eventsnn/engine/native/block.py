"""The memory of a run: a block of words that are its counters, its times, and the addresses of its arrays.

A `Layout` names the words. Compiled code shows a block by these names, with `at(address, dtype)` of the layout:

    run = clock_block(address, np.float32)
    run.n_spikes += 1         # a whole or a real number
    run.v[j] = 0.0            # an array
    run.numbers[LEAK, j]      # an array of rows; run.weights[row] is one of the rows
    run.dtype(0.5), run.eps   # the dtype of states, and the distance from 1 to the next number of it

Functions of a kernel are given the block and nothing else. Numba's own arrays are seven numbers each, counted by
reference if a function owns them, and every access checks for negative indices. With them a kernel takes three times
as long to compile (30 functions with 10 arrays each: 7.5 s against 2.3 s), and runs slower.

An array does not know its length. An index that is out of range, or negative, is a wrong result or a crash.

A loop that LLVM is to vectorise takes its arrays as arguments or from local variables: in `run.v[j] = ...` the address
of `v` is read again each time, because LLVM cannot rule out that the assignment has changed it.
"""

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_getattr, infer_global, signature
from numba.extending import (
    lower_builtin,
    lower_getattr_generic,
    lower_setattr_generic,
    models,
    register_model,
)
from numba.np.numpy_support import from_dtype

from eventsnn.engine.native.compiled import compiled, intrinsic

_WORD = ir.IntType(64)
# Numba declares no type for it.
_infer_global: Any = infer_global
# In a layout: the dtype of the states of a run.
STATE = "state"


class Rows:
    """In a layout: an array of rows, with a number of columns or the name of the word that has it."""

    def __init__(self, dtype, columns: int | str):
        self.dtype, self.columns = dtype, columns


class Layout:
    """The names of the words of a block, in their order: `whole` and `real` numbers, then `arrays` by dtype."""

    def __init__(self, name: str, whole: str, real: str, arrays: dict):
        self.name = name
        self.words: dict = dict.fromkeys(whole.split(), np.int64) | dict.fromkeys(real.split(), np.float64)
        self.arrays = arrays
        self.places = {word: place for place, word in enumerate([*self.words, *arrays])}
        self.size = len(self.places)

    def place(self, word: str) -> int:
        """The place of a word: `run.words[place]`."""
        return self.places[word]

    def span(self, first: str, last: str | None = None) -> tuple[int, int]:
        """The places of the words from `first` to `last`, both included, as the ends of a range."""
        return self.places[first], self.places[last or first] + 1

    def at(self):
        """A function (address, dtype) -> block, for compiled code."""
        layout = self

        @intrinsic
        def block(typingctx, address, dtype):
            def codegen(context, builder, signature, args):
                return builder.inttoptr(args[0], _WORD.as_pointer())

            return BlockType(layout, dtype.dtype)(types.int64, dtype), codegen

        return block


class BlockType(types.Type):
    """Numba's type of a block."""

    def __init__(self, layout: Layout, dtype):
        self.layout, self.dtype = layout, dtype
        super().__init__(f"{layout.name}({dtype})")

    def type_of(self, dtype):
        return self.dtype if dtype is STATE else from_dtype(np.dtype(dtype))


class RowsType(types.Type):
    """Numba's type of an array of rows."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(f"Rows({dtype})")


@register_model(BlockType)
class _BlockModel(models.PrimitiveModel):
    def __init__(self, manager, block):
        super().__init__(manager, block, _WORD.as_pointer())


@register_model(RowsType)
class _RowsModel(models.StructModel):
    def __init__(self, manager, rows):
        super().__init__(manager, rows, [("data", types.CPointer(rows.dtype)), ("columns", types.int64)])


@infer_getattr
class _WordsOfBlock(AttributeTemplate):
    key = BlockType

    def generic_resolve(self, block, name):
        layout = block.layout
        if name in layout.words:
            return block.type_of(layout.words[name])
        if name in layout.arrays:
            array = layout.arrays[name]
            if isinstance(array, Rows):
                return RowsType(block.type_of(array.dtype))
            return types.CPointer(block.type_of(array))
        special = {
            "words": types.CPointer(types.int64),
            "dtype": types.NumberClass(block.dtype),
            "eps": types.float64,
            "itemsize": types.int64,
        }
        return special.get(name)


def _pointer_to(context, builder, block, place, dtype):
    """The place of a word, as a pointer to numbers of a dtype."""
    pointer = builder.gep(block, [_WORD(place)])
    return builder.bitcast(pointer, context.get_data_type(dtype).as_pointer())


@lower_getattr_generic(BlockType)
def _read_word(context, builder, block, value, name):
    layout = block.layout
    if name == "words":
        return value
    if name == "dtype":
        return context.get_dummy_value()
    if name == "eps":
        return context.get_constant(types.float64, float(np.finfo(str(block.dtype)).eps))
    if name == "itemsize":
        return context.get_constant(types.int64, np.dtype(str(block.dtype)).itemsize)
    place = layout.places[name]
    if name in layout.words:
        return builder.load(_pointer_to(context, builder, value, place, block.type_of(layout.words[name])))
    array = layout.arrays[name]
    dtype = block.type_of(array.dtype if isinstance(array, Rows) else array)
    address = builder.load(builder.gep(value, [_WORD(place)]))
    data = builder.inttoptr(address, context.get_data_type(dtype).as_pointer())
    if not isinstance(array, Rows):
        return data
    rows = cgutils.create_struct_proxy(RowsType(dtype))(context, builder)
    rows.data = data
    if isinstance(array.columns, int):
        rows.columns = _WORD(array.columns)
    else:
        rows.columns = builder.load(builder.gep(value, [_WORD(layout.places[array.columns])]))
    return rows._getvalue()


@lower_setattr_generic(BlockType)
def _write_word(context, builder, signature, args, name):
    block, dtype = signature.args
    if name not in block.layout.words:
        raise NotImplementedError(f"{name} of a block is no number that can be assigned")
    builder.store(args[1], _pointer_to(context, builder, args[0], block.layout.places[name], dtype))


# An index of an array of rows is a pair, or one number, which gives the row.
_PAIR = types.UniTuple(types.int64, 2)


def _is_pair(index) -> bool:
    return isinstance(index, types.BaseTuple) and len(index) == 2


@_infer_global(operator.getitem)
class _EntryOfRows(AbstractTemplate):
    def generic(self, args, kws):
        rows, index = args
        if isinstance(rows, RowsType):
            if _is_pair(index):
                return signature(rows.dtype, rows, _PAIR)
            if isinstance(index, types.Integer):
                return signature(types.CPointer(rows.dtype), rows, types.int64)
        return None


@_infer_global(operator.setitem)
class _AssignToRows(AbstractTemplate):
    def generic(self, args, kws):
        rows, index, value = args
        if isinstance(rows, RowsType) and _is_pair(index):
            return signature(types.none, rows, _PAIR, rows.dtype)
        return None


def _entry(context, builder, rows_type, rows, row, column=None):
    rows = cgutils.create_struct_proxy(rows_type)(context, builder, value=rows)
    place = builder.mul(row, rows.columns)
    return builder.gep(rows.data, [place if column is None else builder.add(place, column)])


@lower_builtin(operator.getitem, RowsType, types.int64)
def _row(context, builder, signature, args):
    return impl_ret_borrowed(
        context, builder, signature.return_type, _entry(context, builder, signature.args[0], *args)
    )


@lower_builtin(operator.getitem, RowsType, _PAIR)
def _read_entry(context, builder, signature, args):
    row, column = cgutils.unpack_tuple(builder, args[1], 2)
    return builder.load(_entry(context, builder, signature.args[0], args[0], row, column))


@lower_builtin(operator.setitem, RowsType, _PAIR, types.Any)
def _write_entry(context, builder, signature, args):
    row, column = cgutils.unpack_tuple(builder, args[1], 2)
    builder.store(args[2], _entry(context, builder, signature.args[0], args[0], row, column))


@intrinsic
def array_at(typingctx, address, dtype):
    """The array that starts at an address."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_data_type(dtype.dtype).as_pointer())

    return types.CPointer(dtype.dtype)(types.int64, dtype), codegen


@compiled
def room(count):
    """The bytes that `count` numbers of up to 8 bytes take, such that the next array starts at a cache line."""
    return (8 * count + 63) // 64 * 64


@compiled
def set_places(run, span, count, place):
    """Give the arrays of a span of words their places, each with room for `count` numbers; gives where they end."""
    for word in range(span[0], span[1]):
        run.words[word] = place
        place += room(count)
    return place
