"""Ctrl-C during a kernel.

Python handles a signal after the C function that it called has returned, so a kernel that runs for a minute would delay
`KeyboardInterrupt` by a minute. Kernels look at a counter of SIGINTs and stop when it has changed. Python's own handler
is called as before, so `KeyboardInterrupt` is raised as soon as the kernel has returned. Results of such a run are
meaningless; its status is `INTERRUPTED`, also if a handler of the user raises nothing. Only kernels that run at that
moment stop: a compiled program that calls kernels in a loop goes on with the next one.

The counting handler is put before the one that is there at the start of each kernel, not once per process: others set
handlers as well. `signal.signal` replaces what is there, and Jupyter calls it for every cell. A process in which SIGINT
is ignored, or ends the process, stays as it is. On Windows the counter stays 0.
"""

import os
import signal

from eventsnn.engine.native import symbols  # noqa: F401, declares what compiled kernels refer to
from eventsnn.engine.native.compiled import compiled
from eventsnn.engine.native.memory import (
    address_of_symbol,
    c_function,
    load_atomic,
    load_word,
    store_word,
    zeros_on_stack,
)

# Status of work that has stopped, or has not begun, because of Ctrl-C.
INTERRUPTED = -2

POSIX = os.name == "posix"
SIGINT = int(signal.SIGINT)

# A `struct sigaction` has 152 bytes on Linux and 16 on macOS. On both, the address of the handler is its first word.
# Everything else in it (flags, mask, restorer) is written back as it was read.
SIGACTION_WORDS = 32
DEFAULT, IGNORE = 0, 1

sigaction = c_function("sigaction", 3) if POSIX else None


@compiled
def interrupts():
    """The number of SIGINTs so far. A kernel reads it at its start, and stops with `INTERRUPTED` if it changes."""
    return load_atomic(address_of_symbol("eventsnn_interrupts"))


@compiled
def watch_interrupts():
    """Make sure that SIGINTs are counted; returns `interrupts()`. `pool.spread` does so; it takes a system call."""
    if POSIX:
        action = zeros_on_stack(SIGACTION_WORDS)
        count = address_of_symbol("eventsnn_count_interrupt")
        if sigaction(SIGINT, 0, action) & 0xFFFFFFFF == 0:
            before = load_word(action)
            if before != DEFAULT and before != IGNORE and before != count:
                store_word(address_of_symbol("eventsnn_interrupts") + 8, before)
                store_word(action, count)
                sigaction(SIGINT, action, 0)
    return interrupts()
