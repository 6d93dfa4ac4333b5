"""The `covey` command with a Ctrl-C in the midst of it, at moments that are the same in each run.

python ctrl_c_script.py each COMMAND...   at many of them, each in a copy of the process as it
                                          is then; a line of JSON: [[where, status, said], ...]
python ctrl_c_script.py 40 COMMAND...     at the 40th call of a function since a loop is made,
                                          where a copy would not be what the process is
"""

import json
import os
import signal
import sys
import tempfile
import time

from covey_host import __main__, interrupts
from processes import PATIENCE_S

_APART = 10_000  # calls between two moments,
_APART_TIDIED = 100  # and where KeyboardInterrupt is raised; besides all where that is dropped:
_DEAF = ("cb", "__del__")  # as importlib's weak references die, and in finalizers


class Each:
    def __init__(self):
        self.found = []
        self._counts = {}

    def look(self, frame, event, _):
        if event != "call":
            return
        if frame.f_code is interrupts.run.__code__:
            sys.setprofile(None)
        handler = signal.getsignal(signal.SIGINT)
        is_tidied = handler is signal.default_int_handler
        if is_tidied and not self._counts:  # before main() has done anything
            return
        count = self._counts[handler] = self._counts.get(handler, -1) + 1
        apart = _APART_TIDIED if is_tidied else _APART
        if count % apart == 0 or (is_tidied and frame.f_code.co_name in _DEAF):
            self._fork(frame.f_code.co_qualname)

    def _fork(self, where):
        with tempfile.TemporaryFile() as said:
            child = os.fork()
            if not child:
                sys.setprofile(None)
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                os.kill(os.getpid(), signal.SIGINT)
                return
            status = _status(child)
            said.seek(0)
            self.found.append((where, status, said.read().decode()))


def _status(child):
    """-9: of one that has lost it."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Loop:
    def __init__(self, left):
        self._left = left
        self._has_begun = False

    def look(self, frame, event, _):
        self._has_begun |= frame.f_code is interrupts.run.__code__
        if event == "call" and self._has_begun:
            self._left -= 1
            if not self._left:
                sys.setprofile(None)
                os.kill(os.getpid(), signal.SIGINT)


def main():
    which, parent = sys.argv.pop(1), os.getpid()
    moments = Each() if which == "each" else Loop(int(which))
    sys.setprofile(moments.look)
    try:
        __main__.main()
    finally:
        sys.setprofile(None)
        if which == "each" and os.getpid() == parent:
            print(json.dumps(moments.found))


if __name__ == "__main__":
    main()
