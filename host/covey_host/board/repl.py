"""The raw REPL of a board on a serial port, by mpremote's own transport.

with Repl(port) as repl:          # stops main.py, starts afresh without it
    repl.run(source)              # stdout as text; a board's exception is a Problem
    repl.ask("1 + 1")             # the value, by way of JSON
                                  # leaving resets the board: it does again what it does
"""

import io
import json
import struct
from contextlib import redirect_stdout, suppress

from mpremote.transport import TransportError
from mpremote.transport_serial import SerialTransport

from ..errors import Problem

_BAUD = 115200
_READ_S = 2  # of single octets
_ANSWER_S = 10

# A watchdog that main.py has started goes on after it was stopped. On the ESP32 a longer time can
# be set, on the RP2 somebody has to feed it.
_CALM = """\
import sys
try:
    from machine import WDT
    if sys.platform == "esp32":
        WDT(timeout=1800000)
    elif sys.platform == "rp2":
        from machine import Timer
        _wdt = WDT(timeout=8000)
        _timer = Timer(-1, period=2000, callback=lambda _: _wdt.feed())
except ImportError:
    pass
"""
_RESET = "import machine\nmachine.reset()"


class BoardError(Problem):
    """What ran on the board has raised: the sentence names the exception."""


class Repl:
    """Problem where no board answers on the port."""

    def __init__(self, port: str):
        self._port = port
        self._transport: SerialTransport | None = None

    def __enter__(self) -> "Repl":
        try:
            self._transport = SerialTransport(self._port, _BAUD, timeout=_READ_S)
        except (TransportError, OSError, ValueError):
            raise Problem(
                f"{self._port} can't be opened: is the board plugged in, is it another port, does"
                " another program (a terminal?) have it, and may you use it (group dialout)?"
            ) from None
        try:
            self.restart()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_) -> None:
        with suppress(Problem, Exception):
            self._transport.exec_raw_no_follow(_RESET)
        self._close()

    def restart(self) -> None:
        """A soft reset: boot.py has run, main.py has not."""
        self._talk(self._transport.enter_raw_repl)
        self.run(_CALM)

    def run(self, source: str, timeout_s: float = _ANSWER_S) -> str:
        """timeout_s: the longest silence. BoardError where it raised."""
        out, error = self._talk(self._transport.exec_raw, source, timeout_s)
        if error:
            raise BoardError(f"The board on {self._port} says: {_last(error)}.")
        return out.decode("utf-8", "replace")

    def ask(self, expression: str, timeout_s: float = _ANSWER_S):
        """The value of an expression that JSON can carry."""
        said = self.run(f"import json\nprint(json.dumps({expression}))", timeout_s)
        try:
            return json.loads(said.strip().splitlines()[-1])
        except (ValueError, IndexError):
            raise Problem(f"The board on {self._port} gave no answer: try again.") from None

    def _talk(self, call, *arguments):
        """mpremote prints what it does not understand, and raises what comes."""
        try:
            with redirect_stdout(io.StringIO()):
                return call(*arguments)
        except (TransportError, OSError, struct.error):
            raise Problem(
                f"The board on {self._port} does not answer like MicroPython: press its reset"
                " button and try again; if that does not help, flash a MicroPython firmware."
            ) from None

    def _close(self) -> None:
        with suppress(OSError):
            self._transport.close()


def _last(error: bytes) -> str:
    lines = error.decode("utf-8", "replace").strip().splitlines()
    return (lines or ["something failed"])[-1].rstrip(".")
