"""The `covey` command on a leash: `python -m covey_host.demo.leash serve ...`.

It ends when its stdin does, so that nothing goes on when the demo is killed.
"""

import os
import signal
import sys
import threading
import time

from .. import cli

_GRACE_S = 5


def _hold() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_hold, daemon=True).start()
    cli.main(sys.argv[1:])
