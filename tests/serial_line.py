"""A board on a serial line: `serial_board.py` in MicroPython behind a pseudo-terminal.

The line is a cable that can be pulled: after so many octets towards the board nothing passes any
more, and the terminal's other end is gone. The board itself stays powered until power_off().
"""

import os
import pty
import re
import select
import signal
import subprocess
import threading
import tty
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BOARD = Path(__file__).with_name("serial_board.py")
_CTRL_C = b"\x03"


class Board:
    """`flash` is the file it keeps. `port` is to be opened; `passed` counts octets towards it.

    endless: what a main.py that never ends prints. It is interrupted by the first Ctrl-C after
    that, which comes as SIGINT; every other is a character that the prompt reads.
    """

    def __init__(
        self,
        flash: Path,
        blocks: int = 64,
        arch: str = "x86",
        cable: int | None = None,
        power: int = 0,
        endless: bytes | None = None,
    ):
        interpreter = ROOT / ".build" / "micropython" / arch / "micropython"
        self.passed = 0
        self._cable = cable  # octets until it is pulled; None: it holds
        self.output = bytearray()  # what the board said
        self._endless = endless
        self._process = subprocess.Popen(
            [interpreter, "-X", "heapsize=2m", BOARD, flash, str(blocks), str(power)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        self.port = os.ttyname(slave)
        self._slave = slave  # held, so that a line without a reader is no end of the line
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._pump, daemon=True)
        self._thread.start()

    def _pump(self) -> None:
        out = self._process.stdout.fileno()
        watched = [out, self._master, self._wake]
        while True:
            ready, _, _ = select.select(watched, [], [])
            if self._wake in ready:
                return
            if out in ready:
                said = os.read(out, 4096)
                if not said:
                    self._pull()
                    return
                self.output += said
                if self._master in watched:
                    os.write(self._master, said)
            if self._master in ready:
                self._forward(os.read(self._master, 4096))
                if self._cable is not None and self.passed >= self._cable:
                    watched.remove(self._master)
                    self._pull()

    def _forward(self, text: bytes) -> None:
        if self._cable is not None:
            text = text[: self._cable - self.passed]
        self.passed += len(text)
        for part in re.split(b"(\x03)", text):
            if part == _CTRL_C and self._endless and self._endless in self.output:
                self._endless = None
                self._process.send_signal(signal.SIGINT)
            elif part:
                try:
                    os.write(self._process.stdin.fileno(), part)
                except BrokenPipeError:
                    pass

    def _pull(self) -> None:
        """Both ends of the terminal go: whoever has the port open sees it vanish."""
        for end in (self._master, self._slave):
            try:
                os.close(end)
            except OSError:
                pass

    def is_on(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout: float = 20) -> int:
        return self._process.wait(timeout)

    def power_off(self) -> None:
        self._process.kill()
        self._end()

    def unplug(self) -> int:
        """The line ends, and with it the program; how many changes the flash has seen."""
        self._process.stdin.close()
        self._process.wait(20)
        said = self._process.stderr.read().decode()
        self._end()
        return int(said.rsplit("changes: ", 1)[1])

    def _end(self) -> None:
        self._process.wait(20)
        self._thread.join(2)  # it ends with the board's output
        os.write(self._waker, b"x")
        self._thread.join(10)
        self._pull()
        os.close(self._wake)
        os.close(self._waker)
        for end in (self._process.stdin, self._process.stdout, self._process.stderr):
            end.close()
