"""Independent items of work, usually the samples of a batch, over the threads of XLA's own pool.

A block of memory is shared by the caller and its helpers. It holds the number of the next item; each thread takes items
until none is left. The caller takes part, so the work ends even if no helper ever starts. It waits only for items that
others have begun. A helper that starts after the call has returned finds no item left and does not touch the frame; the
last holder frees the block. No thread is created and nothing is held between calls, so simultaneous calls from several
Python threads, or a call from a thread of the pool, need no care.

Numba's own `prange` is no alternative: its fallback threading layer aborts on simultaneous calls, and its threads are
started by private code that a cached handler does not run.
"""

import ctypes
import sys

from llvmlite import binding

from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.frame import FRAME_API, FRAME_CONTEXT, forget
from eventsnn.engine.native.memory import (
    atomic_add,
    atomic_min,
    c_function,
    call_address,
    call_guarded_pair,
    load_atomic,
    load_word,
    store_word,
    task_address,
    words_on_stack,
)

# XLA_FFI_Api, and the sizes of the structures of arguments.
API_SCHEDULE = 136
API_NUM_THREADS = 144
SCHEDULE_SIZE = 40
NUM_THREADS_SIZE = 32

# The block: next item, items done, threads that hold the block, items in total, address of the frame, worst status.
NEXT, DONE, HOLDERS, TOTAL, FRAME, FIRST_FAILURE, BLOCK_SIZE = 0, 8, 16, 24, 32, 40, 48

# A failure is one number, item * STATUSES + status, so that the smallest item wins by one atomic minimum.
STATUSES = 1 << 16
NO_FAILURE = (1 << 63) - 1

# Status of an item whose work raised an exception, for example because memory ran out.
RAISED_STATUS = STATUSES - 1


def _yield_function():
    """The C function by which a thread lets others run."""
    if sys.platform == "win32":
        return ctypes.windll.kernel32.SwitchToThread
    return ctypes.CDLL(None).sched_yield


binding.add_symbol("eventsnn_let_others_run", ctypes.cast(_yield_function(), ctypes.c_void_p).value)
let_others_run = c_function("eventsnn_let_others_run", 0, returns=False)
allocate = c_function("malloc", 1)
free = c_function("free", 1, returns=False)


@compiled
def spread(frame, total, work):
    """Call `work(frame, item)` for all items 0 … total - 1 and return `item * STATUSES + status` of the first that failed.

    `work` is a compiled function that returns a status from 0 (success) to STATUSES - 2. All items are worked on even if
    one fails. "First" is the smallest number, whatever the order in time. Without a failure the result is -1.
    """
    block = allocate(BLOCK_SIZE)
    if block == 0:
        return RAISED_STATUS
    store_word(block + NEXT, 0)
    store_word(block + DONE, 0)
    store_word(block + HOLDERS, 1)
    store_word(block + TOTAL, total)
    store_word(block + FRAME, frame)
    store_word(block + FIRST_FAILURE, NO_FAILURE)
    if total > 1:
        _schedule(frame, min(_pool_size(frame), total) - 1, block, work)
    _take_items(block, work)
    while load_atomic(block + DONE) < total:
        let_others_run()
    failure = load_atomic(block + FIRST_FAILURE)
    _leave(block)
    return -1 if failure == NO_FAILURE else failure


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
    total = load_word(block + TOTAL)
    while True:
        item = atomic_add(block + NEXT, 1)
        if item >= total:
            break
        status = call_guarded_pair(work, load_word(block + FRAME), item)
        if status != 0:
            status = status if 0 < status < STATUSES else RAISED_STATUS
            atomic_min(block + FIRST_FAILURE, item * STATUSES + status)
        atomic_add(block + DONE, 1)


@compiled
def _leave(block):
    if atomic_add(block + HOLDERS, -1) == 1:
        free(block)
