"""A board that is asked things at its prompt, for as long as it takes.

with Repl(port) as repl:          # stops main.py, starts afresh without it
    repl.run(source)              # what it printed
    repl.ask("1 + 1")             # a value, by way of JSON
                                  # leaving resets the board: it does again what it does
"""

import json

from ..errors import Problem
from .line import BoardError, Line, LineBroken

_SILENCE_S = 10

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


class Failed(Problem):
    """What ran on the board has raised."""


class Repl:
    """Problem where no board answers on the port, or it falls silent."""

    def __init__(self, port: str):
        self._line = Line(port)

    def __enter__(self) -> "Repl":
        self._line.__enter__()
        try:
            self.run(_CALM)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        self._line.restart()
        self._line.__exit__()

    def begin_anew(self) -> None:
        """Nothing of what ran before is left in memory."""
        self._heed(self._line.begin_anew)
        self.run(_CALM)

    def run(self, source: str, silence_s: float = _SILENCE_S) -> str:
        """What it printed. Failed where it raised. silence_s: for so long it may print nothing."""
        return self._heed(self._line.run, source, silence_s)

    def ask(self, expression: str, silence_s: float = _SILENCE_S):
        """The value of an expression that JSON can carry."""
        said = self.run(f"import json\nprint(json.dumps({expression}))", silence_s)
        try:
            return json.loads(said.strip().splitlines()[-1])
        except (ValueError, IndexError):
            raise Problem(f"The board at {self._line.port} gave no answer: try again.") from None

    def _heed(self, call, *arguments):
        try:
            return call(*arguments)
        except BoardError as error:
            raise Failed(f"The board at {self._line.port} gave up: {error.reason}.") from None
        except LineBroken:
            raise Problem(
                f"The line to the board at {self._line.port} broke, or the board fell silent:"
                " press its reset button and try again."
            ) from None
