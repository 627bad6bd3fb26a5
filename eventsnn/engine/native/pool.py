"""Independent items of work, usually the samples of a batch, over the threads of XLA's own pool.

A block of memory is shared by the caller and its helpers. It holds the number of the next item; each thread takes items
until none is left. The caller takes part, so the work ends even if no helper ever starts. It waits only for items that
others have begun. A helper that starts after the call has returned finds no item left and does not touch the frame; the
last holder frees the block. No thread is created and nothing is held between calls, so simultaneous calls from several
Python threads, or a call from a thread of the pool, need no care.

Numba's own `prange` is no alternative: its fallback threading layer aborts on simultaneous calls, and its threads are
started by private code that a cached handler does not run.
"""

from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.frame import BUFFER_DATA, FRAME_API, FRAME_CONTEXT, forget
from eventsnn.engine.native.interrupt import INTERRUPTED, interrupts, watch_interrupts
from eventsnn.engine.native.memory import (
    RAISED,
    atomic_add,
    atomic_min,
    c_function,
    call_address,
    call_guarded_pair,
    load_atomic,
    load_word,
    store_int,
    store_word,
    task_address,
    words_on_stack,
)

# XLA_FFI_Api, and the sizes of the structures of arguments.
API_SCHEDULE = 136
API_NUM_THREADS = 144
SCHEDULE_SIZE = 40
NUM_THREADS_SIZE = 32

# The words of the block.
NEXT = 0  # the number of the next item
DONE = 8  # how many items are finished
HOLDERS = 16  # how many threads may still read the block
FIRST_FAILURE = 24  # see below
TOTAL = 32
FRAME = 40
STATUSES = 48  # the address of an int32 for each item, or 0
SIGNALS = 56  # the count of interrupts at the start
BLOCK_SIZE = 64

# A failure is one number, the item in the upper half and its status in the lower: the atomic minimum is the first one.
HALF = 32
NO_FAILURE = (1 << 63) - 1

let_others_run = c_function("eventsnn_let_others_run", 0)
allocate = c_function("malloc", 1)
free = c_function("free", 1)


@compiled
def spread(frame, total, work, statuses):
    """Call `work(frame, item)` for all items 0 … total - 1; returns the status of the first that failed, or 0.

    `work` is a compiled function that returns a status of 32 bits, 0 for success. "First" is the smallest number,
    whatever the order in time; a failure does not stop the others. `statuses` is the buffer of an int32 result with one
    entry for each item, or 0 if they are of no interest. Items whose work raised get the status `RAISED`. Items that an
    interrupt kept from being begun get `INTERRUPTED`, and all that they should have written is not initialised: whoever
    reads such results in another kernel has to look at the status first.
    """
    block = allocate(BLOCK_SIZE)
    if block == 0:
        return RAISED
    store_word(block + NEXT, 0)
    store_word(block + DONE, 0)
    store_word(block + HOLDERS, 1)
    store_word(block + FIRST_FAILURE, NO_FAILURE)
    store_word(block + TOTAL, total)
    store_word(block + FRAME, frame)
    store_word(block + STATUSES, 0 if statuses == 0 else load_word(statuses + BUFFER_DATA))
    store_word(block + SIGNALS, watch_interrupts())
    if total > 1:
        _schedule(frame, min(_pool_size(frame), total) - 1, block, work)
    _take_items(block, work)
    while load_atomic(block + DONE) < total:
        let_others_run()
    failure = load_atomic(block + FIRST_FAILURE)
    _leave(block)
    return 0 if failure == NO_FAILURE else _lower_half(failure)


@compiled
def _lower_half(word):
    return (word << HALF) >> HALF


@compiled
def _pool_size(frame):
    """The number of threads in XLA's pool, 1 where there is none."""
    count = words_on_stack((1,))
    arguments = words_on_stack((NUM_THREADS_SIZE, 0, load_word(frame + FRAME_CONTEXT), count))
    error = call_address(load_word(load_word(frame + FRAME_API) + API_NUM_THREADS), arguments)
    forget(frame, error)
    return load_word(count) if error == 0 else 1


@compiled
def _schedule(frame, helpers, block, work):
    schedule = load_word(load_word(frame + FRAME_API) + API_SCHEDULE)
    task = task_address(_help, work)
    arguments = words_on_stack((SCHEDULE_SIZE, 0, load_word(frame + FRAME_CONTEXT), task, block))
    for _ in range(helpers):
        atomic_add(block + HOLDERS, 1)
        error = call_address(schedule, arguments)
        if error != 0:
            forget(frame, error)
            _leave(block)
            break


@compiled
def _help(block, work):
    _take_items(block, work)
    _leave(block)
    return 0


@compiled
def _take_items(block, work):
    total, statuses = load_word(block + TOTAL), load_word(block + STATUSES)
    while True:
        item = atomic_add(block + NEXT, 1)
        if item >= total:
            break
        if interrupts() != load_word(block + SIGNALS):
            status = INTERRUPTED
        else:
            status = call_guarded_pair(work, load_word(block + FRAME), item)
        if statuses != 0:
            store_int(statuses + 4 * item, status)
        if status != 0:
            atomic_min(block + FIRST_FAILURE, (item << HALF) | (status & 0xFFFFFFFF))
        atomic_add(block + DONE, 1)


@compiled
def _leave(block):
    if atomic_add(block + HOLDERS, -1) == 1:
        free(block)
