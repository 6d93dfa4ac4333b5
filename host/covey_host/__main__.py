"""The console script, and `python -m covey_host`. Ctrl-C while modules load ends it as quietly as
later: there is nothing yet to tidy up.
"""

import os
import resource
import signal
from contextlib import suppress

from .errors import INTERRUPTED


def main() -> None:
    _leave_no_core()
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # else whoever started us has it ignored
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    from . import cli

    signal.signal(signal.SIGINT, handler)
    cli.main()


def _leave_no_core() -> None:
    """Keys are in memory: no image of it is to go to a disk when the process, or a child, dies.
    Where a service may not set limits, its unit does (LimitCORE=0)."""
    with suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


if __name__ == "__main__":
    main()
