"""The console script, and `python -m covey_host`.

What can wait is imported behind at_once(): until then Ctrl-C is told as Python does it.
"""

import sys

from . import interrupts
from .errors import INTERRUPTED


def main() -> None:
    interrupts.at_once()
    _leave_no_core()
    from . import cli

    try:
        try:
            cli.main()
        finally:
            interrupts.at_once()
    except KeyboardInterrupt:  # as something else was being said
        sys.exit(INTERRUPTED)


def _leave_no_core() -> None:
    """Keys are in memory: no image of it is to go to a disk when the process, or a child, dies.
    Where a service may not set limits, its unit does (LimitCORE=0)."""
    import resource
    from contextlib import suppress

    with suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


if __name__ == "__main__":
    main()
