"""Small kernels for the tests of the bridge."""

from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.frame import (
    INTERNAL,
    argument,
    array2,
    attribute,
    expected,
    fail,
    length,
    result,
    unexpected,
)
from eventsnn.engine.native.pool import spread


def scale(dtype):
    arguments, results = expected((dtype, 2)), expected((dtype, 2))

    @compiled
    def work(frame, item):
        x, y = array2(argument(frame, 0), dtype), array2(result(frame, 0), dtype)
        for j in range(x.shape[1]):
            y[item, j] = attribute(frame, 0) * x[item, j]
        return 0

    @compiled
    def body(frame):
        error = unexpected(frame, arguments, results)
        if error != 0:
            return error
        if spread(frame, length(argument(frame, 0), 0), work, 0) != 0:
            return fail(frame, "a row failed", INTERNAL)
        return 0

    return body
