"""What every kernel for a batch does around its work: the check of the call, the share of each thread, the errors."""

from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.frame import CANCELLED, INTERNAL, fail, length, result, unexpected
from eventsnn.engine.native.interrupt import INTERRUPTED
from eventsnn.engine.native.pool import spread

# Status of an item: there was no memory for it.
NO_MEMORY = 1


@compiled
def _outcome(frame, status):
    """What a handler returns for the status of its work: 0, or an error."""
    if status == 0:
        return 0
    if status == INTERRUPTED:
        return fail(frame, "the run was interrupted", CANCELLED)
    return fail(frame, "there was no memory for a run: give it fewer samples at once", INTERNAL)


def shared_out(arguments, results, work):
    """The body of a handler: `work(frame, item)` for each item of the first result, over XLA's threads.

    `arguments` and `results` are what is `expected`; `work` gives 0, `NO_MEMORY` or `INTERRUPTED`.
    """

    @compiled
    def body(frame):
        error = unexpected(frame, arguments, results)
        if error != 0:
            return error
        return _outcome(frame, spread(frame, length(result(frame, 0), 0), work, 0))

    return body
