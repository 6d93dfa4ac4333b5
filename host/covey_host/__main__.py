"""The console script, and `python -m covey_host`. Ctrl-C while modules load ends it as quietly as
later: there is nothing yet to tidy up.
"""

import os
import signal

from .errors import INTERRUPTED


def main() -> None:
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # else whoever started us has it ignored
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    from . import cli

    signal.signal(signal.SIGINT, handler)
    cli.main()


if __name__ == "__main__":
    main()
