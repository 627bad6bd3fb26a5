"""Small kernels for the tests of the bridge."""

import numpy as np

from eventsnn.engine.native.compiled import compiled, fast
from eventsnn.engine.native.frame import (
    INTERNAL,
    argument,
    array1,
    array2,
    array3,
    array4,
    attribute,
    expected,
    fail,
    length,
    result,
    unexpected,
)
from eventsnn.engine.native.interrupt import INTERRUPTED, interrupts
from eventsnn.engine.native.pool import spread

NEGATIVE = 3


@fast
def scale_row(x, y, factor, shift):
    for j in range(x.shape[0]):
        y[j] = factor * x[j] + shift


def scale(dtype):
    """Rows of `above * x + below`. A row that begins with a negative number fails; one that begins with inf raises."""
    arguments, results = expected((dtype, 2)), expected((dtype, 2), (np.int32, 1))

    @compiled
    def work(frame, item):
        x, y = array2(argument(frame, 0), dtype), array2(result(frame, 0), dtype)
        if x[item, 0] < 0:
            return NEGATIVE
        if x[item, 0] == np.inf:
            return np.empty(1 << 60).shape[0]
        scale_row(x[item], y[item], dtype(attribute(frame, 0)), dtype(attribute(frame, 1)))
        return 0

    @compiled
    def body(frame):
        error = unexpected(frame, arguments, results)
        if error != 0:
            return error
        spread(frame, length(argument(frame, 0), 0), work, result(frame, 1))
        return 0

    return body


def strict(dtype):
    """The status of the first row that fails, as an error."""

    @compiled
    def work(frame, item):
        return np.int32(array1(argument(frame, 0), dtype)[item])

    @compiled
    def body(frame):
        status = spread(frame, length(argument(frame, 0), 0), work, 0)
        if status == 11:
            return fail(frame, "the first failure is eleven: ≠ 12", INTERNAL)
        array1(result(frame, 0), dtype)[0] = status
        return 0

    return body


def sums(dtype):
    """The sums of arrays with three and four axes, each in the order of rows."""

    @compiled
    def body(frame):
        x, y, z = array3(argument(frame, 0), dtype), array4(argument(frame, 1), dtype), array1(result(frame, 0), dtype)
        z[:] = 0
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                for k in range(x.shape[2]):
                    z[0] = 2 * z[0] + x[i, j, k]
                    for m in range(y.shape[3]):
                        z[1] = 2 * z[1] + y[i, j, k, m]
        return 0

    return body


def steps(dtype):
    """A long calculation for each item, of as many steps as its argument says; it stops on Ctrl-C."""

    @compiled
    def work(frame, item):
        start = interrupts()
        x = dtype(0.3)
        for step in range(np.int64(array1(argument(frame, 0), dtype)[item])):
            x = dtype(3.7) * x * (1 - x)
            if step % 65536 == 0 and interrupts() != start:
                return INTERRUPTED
        array1(result(frame, 0), dtype)[item] = x
        return 0

    @compiled
    def body(frame):
        spread(frame, length(argument(frame, 0), 0), work, result(frame, 1))
        return 0

    return body


def raises(dtype):
    """An exception outside of any item."""

    @compiled
    def body(frame):
        array1(result(frame, 0), dtype)[0] = np.empty(1 << 60)[0]
        return 0

    return body


def wrong(dtype):
    """Does not compile."""

    @compiled
    def body(frame):
        return missing  # noqa: F821

    return body
