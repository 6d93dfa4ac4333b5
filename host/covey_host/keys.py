"""`covey keys`: the keys of a site for Wireshark, as they are now or as they come."""

import signal
import sys
import threading
from collections.abc import Callable

from . import output, wireshark
from .errors import INTERRUPTED, MISUSE, Problem

_POLL_S = 0.5  # the server keeps what comes and goes between two questions far longer
_OPENS = (
    "Whoever has these keys can read, in any recording, all that was and will be sent under them:"
    " what the groups of this site send, and what its members and its key server tell each other"
)
_NO_SERVER = (
    "No key server is running: these are the groups' keys in the store; those of IKE SAs are in a"
    " server's memory only."
)
_IN_CLEAR = (
    "Data of {} can be read without a key (integrity_only), so none is written, and Wireshark does"
    " not check it: it has no name for AES-GMAC in ESP."
)
_AWAITED = "The key server is not running: its keys are added when it is."


def confirm(directory, is_sure: bool) -> None:
    """Ask whoever is there. Problem where nobody is, or the answer is no."""
    if is_sure:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Problem(f"{_OPENS}: say --yes where nobody can be asked.", MISUSE)
    question = f"{_OPENS}. Write them to {directory}? [y/N] "
    print(output.printable(question), end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Problem("No keys were exported.")


class Export:
    """Answers of a key server (Operations.keys) become rows, each written once."""

    def __init__(self, tables: wireshark.Tables, as_json: bool):
        self._tables = tables
        self._as_json = as_json
        self._written: set[tuple[str, str]] = set()
        self._waiting: dict[tuple[str, str], None] = {}  # rows to be written, in order
        self._trouble: str | None = None  # that was told last
        self._in_clear: list[str] = []  # groups of which was told that they have no rows

    def once(self, answer: dict) -> None:
        self._take(answer)
        self._write()
        if not answer["running"]:
            output.complain(_NO_SERVER)

    def follow(self, answer: dict, ask: Callable[[], dict | None]) -> int:
        """Add what comes until a signal: the exit status. ask: None where no server runs."""
        ended = _Signals()
        self.once(answer)
        while not ended.wait(_POLL_S):
            self._look(ask)
        self._look(ask)  # what came since
        if self._waiting:
            raise Problem(self._trouble or "Some keys could not be written.")
        return ended.status

    def _look(self, ask: Callable[[], dict | None]) -> None:
        """Once more. What goes wrong is told once, and tried again: a capture may be going on."""
        trouble = None
        try:
            answer = ask()
            if answer is None:
                trouble = _AWAITED
            else:
                self._take(answer)
        except Problem as problem:
            trouble = problem.sentence
        try:
            if self._waiting:
                self._write()
        except Problem as problem:
            trouble = problem.sentence
        if trouble and trouble != self._trouble:
            output.complain(trouble)
        self._trouble = trouble

    def _take(self, answer: dict) -> None:
        for record in answer["keys"]:
            row = wireshark.row(record)
            if row not in self._written:
                self._waiting[row] = None
        new = [name for name in answer["in_clear"] if name not in self._in_clear]
        if new:
            self._in_clear += new
            output.complain(_IN_CLEAR.format(", ".join(new)))

    def _write(self) -> None:
        new = self._tables.add(self._waiting)
        self._written.update(self._waiting)
        self._waiting.clear()
        esp = sum(table == wireshark.ESP for table, _ in self._written)
        counts = {"esp": esp, "ike": len(self._written) - esp, "new": new}
        if self._as_json:
            output.emit({"event": "exported", "directory": str(self._tables.directory), **counts})
        else:
            output.line(
                f"Keys in {self._tables.directory}: {counts['esp']} of data,"
                f" {counts['ike']} of IKE; {new} are new."
            )


class _Signals:
    """Ctrl-C and SIGTERM, once each in good order; the second one ends at once."""

    def __init__(self):
        self.status = 0
        self._came = threading.Event()
        signal.signal(signal.SIGINT, self._take)
        signal.signal(signal.SIGTERM, self._take)

    def wait(self, seconds: float) -> bool:
        return self._came.wait(seconds)

    def _take(self, number: int, frame) -> None:
        self.status = INTERRUPTED if number == signal.SIGINT else 0
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._came.set()
