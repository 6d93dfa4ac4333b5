"""The MicroPython prompt of a board on a serial port, by mpremote: code goes, text comes."""

import contextlib
import io
import struct

import serial
from mpremote.transport import TransportError
from mpremote.transport_serial import SerialTransport

from ..errors import Problem
from . import ports

_BAUD = 115200
_READ_S = 10  # a board that says nothing for so long has gone
_BROKEN = (TransportError, OSError, struct.error, TypeError, UnicodeDecodeError)
_ENDS = {"ENOSPC": "its file system is full", "MemoryError": "it has too little free memory"}


class BoardError(Exception):
    """Code has failed on the board. `name` is that of the exception there, nothing else of it."""

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name

    @property
    def reason(self) -> str:
        return _ENDS.get(self.name, f"its MicroPython failed ({self.name})")


class LineBroken(Exception):
    """The cable is out, or the board is silent."""


class Line:
    """Open from `with` on: the program of the board is interrupted, and its boot.py has run anew.

    What is printed there meanwhile is thrown away. Problem where there is no port or no prompt.
    """

    def __init__(self, port: str):
        ports.check(port)
        self.port = port
        try:
            self._transport = SerialTransport(port, _BAUD, timeout=_READ_S)
        except TransportError:
            raise ports.refusal(port, _why(port)) from None
        self._transport.serial.write_timeout = _READ_S

    def __enter__(self):
        noise = io.StringIO()  # mpremote prints what it did not understand
        try:
            with contextlib.redirect_stdout(noise):
                self._transport.enter_raw_repl(timeout_overall=_READ_S)
        except _BROKEN:
            self._hang_up()
            raise Problem(
                f"No MicroPython answers at {self.port}: press the board's reset button and try"
                " again, or bring MicroPython onto it with `covey flash --firmware`."
            ) from None
        return self

    def __exit__(self, *_):
        self._hang_up()

    def run(self, code: str, silence_s: float = _READ_S) -> str:
        """What the code printed. BoardError: it failed there. LineBroken: it got lost.

        silence_s: for so long the board may print nothing.
        """
        noise = io.StringIO()
        try:
            with contextlib.redirect_stdout(noise):
                said, failed = self._transport.exec_raw(code, silence_s)
                text = said.decode()
        except _BROKEN:
            raise LineBroken from None
        if failed:
            raise BoardError(_name(failed.decode("utf-8", "replace")))
        return text

    def begin_anew(self) -> None:
        """A soft reset: boot.py runs, main.py does not. LineBroken where it got lost, twice."""
        for is_last in (False, True):
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    return self._transport.enter_raw_repl()
            except _BROKEN:
                if is_last:
                    raise LineBroken from None

    def restart(self) -> bool:
        """As by its reset button. Whether the board has heard it."""
        try:
            self._transport.exec_raw_no_follow("import machine\nmachine.reset()")
            return True
        except _BROKEN:
            return False

    def _hang_up(self) -> None:
        with contextlib.suppress(*_BROKEN):
            self._transport.close()


def _name(traceback: str) -> str:
    """Of the exception, or of the error where MicroPython names that: never its text."""
    last = (traceback.strip().splitlines() or [""])[-1]
    name, _, rest = last.partition(":")
    if name == "OSError":
        found = rest.rpartition("]")[2].strip() or rest.strip()
        numbers = {"28": "ENOSPC", "2": "ENOENT", "5": "EIO", "30": "EROFS"}
        found = numbers.get(found, found)
        return found if found.isalnum() else name
    return name if name.isidentifier() else "an unknown error"


def _why(port: str) -> str:
    """What the system says to whoever opens the port; mpremote keeps it to itself."""
    try:
        serial.serial_for_url(port, exclusive=True).close()
    except (OSError, ValueError) as error:
        return str(error)
    return "resource busy"
