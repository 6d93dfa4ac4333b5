"""Ctrl-C ends a command at any moment, quietly, with exit status 130; it is never lost.

    at_once   modules load, options are read, or all is done: the process ends, for nothing is
              half-done
    tidied    a command works: KeyboardInterrupt, at which it takes back what it has half done
    run       a loop works: asyncio's own handler cancels its main task

CPython drops what is raised where nobody can catch it: in a finalizer, or as a weak reference
dies, of which importlib has one for each module. A hook hears of that, and then the Ctrl-C comes
again, as often as it takes. Where whoever started us has SIGINT ignored, it stays ignored.
"""

import os
import signal
import sys
from functools import wraps

from .errors import INTERRUPTED

_AGAIN_S = 0.002  # a finalizer is short


def at_once() -> None:
    """For the whole process, from here on."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave)
    # A KeyboardInterrupt that has passed an exec(), as dataclasses have one, makes CPython kill
    # itself by SIGINT at its end, whatever became of it. The next exec() forgets that.
    exec("")


def tidied(command):
    """The command: from its first line on what is half-done is tidied up. Where at_once() does not
    hold, which only a process of its own has, signals stay as they are."""

    @wraps(command)
    def works(*values, **options):
        if signal.getsignal(signal.SIGINT) is _leave:
            sys.unraisablehook = _hear_again
            signal.signal(signal.SIGALRM, _raise)
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return command(*values, **options)

    return works


def run(work):
    """asyncio.run(work()). A Ctrl-C that comes while the loop is made, and would leave half of it,
    waits until there is a task to cancel."""
    import asyncio  # before at_once() nothing is loaded that can wait

    async def begun():
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        return await work()

    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return asyncio.run(begun())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _leave(*_) -> None:
    os._exit(INTERRUPTED)


def _hear_again(lost) -> None:
    if lost.exc_type is KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
    else:
        sys.__unraisablehook__(lost)


def _raise(*_) -> None:
    signal.raise_signal(signal.SIGINT)
