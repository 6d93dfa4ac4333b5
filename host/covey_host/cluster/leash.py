"""The `covey` command on a leash, as the demo's, with a wall clock that can be set.

`python -m covey_host.cluster.leash serve ...`: a line on stdin says by how many seconds its wall
clock is wrong from now on ("3600", "-3600"). That is what Python's time.time() and time_ns() say,
which all of Covey asks; no clock that runs steadily, and none of the log, is moved by it. It ends
when stdin does.
"""

import os
import signal
import sys
import threading
import time

_GRACE_S = 5
_off_ns = 0
_true_ns = time.time_ns


def _time_ns() -> int:
    return _true_ns() + _off_ns


def _time() -> float:
    return _time_ns() / 1e9


def _hold() -> None:
    global _off_ns
    for line in sys.stdin:
        _off_ns = int(float(line) * 1e9)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os._exit(1)


if __name__ == "__main__":
    time.time, time.time_ns = _time, _time_ns  # before anybody keeps them
    from .. import cli

    threading.Thread(target=_hold, daemon=True).start()
    cli.main(sys.argv[1:])
