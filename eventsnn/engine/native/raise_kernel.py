"""A kernel that fails with a sentence: pieces of text and numbers, put together in compiled code.

A program that called Python to raise an error would not be kept by JAX's compilation cache.
"""

import numpy as np
from llvmlite import ir
from numba import types

from eventsnn.engine.native import problem
from eventsnn.engine.native.compiled import compiled, intrinsic
from eventsnn.engine.native.frame import (
    ABORTED,
    BUFFER_DATA,
    INVALID_ARGUMENT,
    argument,
    array1,
    expected,
    fail_with,
    result,
    unexpected,
)
from eventsnn.engine.native.memory import WORD, load_word

# A field of a text, as in `engine/sentence.py`: a byte 0, the digits of a number and its place, these two from "0" on.
FIELD, ZERO, FIELD_SIZE = 0, ord("0"), 3
COMMA, POINT = ord(","), ord(".")


def _print_into(c_format, c_type):
    """A function (address, digits, number) -> the number of characters that `snprintf` has written to the address."""

    @intrinsic
    def print_into(typingctx, address, digits, number):
        def codegen(context, builder, signature, args):
            # Functions with any number of arguments have a calling convention of their own, so it is declared as one.
            c_int, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
            function_type = ir.FunctionType(c_int, [pointer, WORD, pointer], var_arg=True)
            name = "eventsnn_print_into"
            function = builder.module.globals.get(name) or ir.Function(builder.module, function_type, name)
            text = context.insert_const_string(builder.module, c_format)
            into, digits = builder.inttoptr(args[0], pointer), builder.trunc(args[1], c_int)
            return builder.sext(builder.call(function, [into, WORD(problem.NUMBER_ROOM), text, digits, args[2]]), WORD)

        return types.int64(types.int64, types.int64, c_type), codegen

    return print_into


# An integer has as many digits as it needs, and at least 1; both take the digits from their arguments.
print_integer = _print_into("%.*lld", types.int64)
print_real = _print_into("%.*g", types.float64)


find_problem = compiled(problem.find_problem)


def raise_sentence(dtype):
    """Fails with the first problem of a run, as INVALID_ARGUMENT or ABORTED.

    Arguments: those of `find_problem` up to `words`; the bytes of all texts, and where each begins, with the end of
    the last. Results: an int32 that is 0 if there is no problem; then what is of use here only: the other arguments of
    `find_problem`, and room for the sentence.
    """
    table = np.int32, 1
    arguments = expected(table, (dtype, 1), table, table, table, table, (np.uint8, 1), table)
    results = expected((np.int32, 1), (np.int32, 1), (np.int32, 1), (dtype, 1), (np.uint8, 1))

    @compiled
    def body(frame):
        error = unexpected(frame, arguments, results)
        if error != 0:
            return error
        code, pieces = array1(result(frame, 0), np.int32), array1(result(frame, 1), np.int32)
        whole, real = array1(result(frame, 2), np.int32), array1(result(frame, 3), dtype)
        code[0] = 0
        for k in range(pieces.shape[0]):
            pieces[k] = 0
        by_input = find_problem(
            array1(argument(frame, 0), np.int32),
            array1(argument(frame, 1), dtype),
            array1(argument(frame, 2), np.int32),
            array1(argument(frame, 3), np.int32),
            array1(argument(frame, 4), np.int32),
            array1(argument(frame, 5), np.int32),
            pieces,
            whole,
            real,
        )
        if by_input < 0:
            return 0
        texts, starts = array1(argument(frame, 6), np.uint8), array1(argument(frame, 7), np.int32)
        sentence, address = array1(result(frame, 4), np.uint8), load_word(result(frame, 4) + BUFFER_DATA)
        end = 0
        for k in range(pieces.shape[0]):
            at, stop = starts[pieces[k]], starts[pieces[k] + 1]
            while at < stop:
                if texts[at] != FIELD:
                    sentence[end] = texts[at]
                    end += 1
                    at += 1
                    continue
                digits, place = np.int64(texts[at + 1]) - ZERO, np.int64(texts[at + 2]) - ZERO
                start = end
                if digits == 0:
                    end += print_integer(address + end, 1, whole[place])
                else:
                    number = np.float64(real[place])
                    # C shows the sign of a NaN, Python does not.
                    end += print_real(address + end, digits, abs(number) if number != number else number)
                # Where the program has set such a locale, C writes a comma.
                for j in range(start, end):
                    if sentence[j] == COMMA:
                        sentence[j] = POINT
                at += FIELD_SIZE
        sentence[end] = 0
        return fail_with(frame, address, INVALID_ARGUMENT if by_input == 1 else ABORTED)

    return body
