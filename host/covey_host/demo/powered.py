"""A board's power on a leash: runs a command until stdin ends, then it is cut, without a word.

    powered.py COMMAND ...

Lines by which the board says what happened ("covey: WHAT DETAIL") come out as JSON objects,
{"event": "said", "what", "detail", "at_s": since 1970}; all others as they are. Needs nothing of
Covey.
"""

import json
import subprocess
import sys
import threading
import time

_MARK = "covey: "


def _hold(board: subprocess.Popen) -> None:
    while sys.stdin.buffer.read1(4096):
        pass
    board.kill()


def main() -> None:
    board = subprocess.Popen(
        sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    threading.Thread(target=_hold, args=(board,), daemon=True).start()
    for line in board.stdout:
        if line.startswith(_MARK):
            what, _, detail = line.removeprefix(_MARK).strip().partition(" ")
            said = {"event": "said", "what": what, "detail": detail, "at_s": round(time.time(), 2)}
            line = json.dumps(said) + "\n"
        sys.stdout.write(line)
        sys.stdout.flush()
    board.wait()


if __name__ == "__main__":
    main()
