"""What a person or a program reads: lines on stdout, sentences on stderr, the server's log."""

import json
import os
import sys
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table


def line(text: str) -> None:
    print(text, flush=True)


def emit(event: dict) -> None:
    """One JSON object on one line of stdout."""
    print(json.dumps(event), flush=True)


def complain(sentence: str) -> None:
    """One sentence on stderr, whatever control characters a name in it may hold."""
    print(printable(sentence), file=sys.stderr, flush=True)


def table(title: str, columns: list[str], rows: list[list]) -> None:
    """A table as wide as the terminal allows; without a terminal one line a row, all of it."""
    console = Console(file=sys.stdout, highlight=False, markup=False)
    if not console.is_terminal:
        for row in rows:
            facts = (f"{c}={_cell(v)}" for c, v in zip(columns, row, strict=True) if v is not None)
            line(f"{title} " + " ".join(facts))
        return
    drawn = Table(
        title=f"{title}s".capitalize(), title_justify="left", box=None, header_style="bold"
    )
    for column in columns:
        drawn.add_column(column)
    for row in rows:
        drawn.add_row(*[_cell(value) for value in row])
    console.print(drawn)


def printable(text: str) -> str:
    """The text without what could move a terminal's cursor."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _cell(value) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(str(value))


_emit = json.JSONEncoder(default=str).encode  # made once: that takes as long as an event does
_PRIORITIES = {"warning": 4, "notice": 5, "info": 6}  # of syslog
_LEVELS = {
    "trouble": "warning",
    "in_clear": "warning",
    "skipped": "notice",
    "refused": "notice",
    "authentication_failed": "notice",
    "removed": "notice",
    "excluded_all": "notice",
    "keys_exported": "notice",
}


class Log:
    """The server's log on stderr: a line an event; one JSON object a line with `as_json`.

    Callers hand over names, numbers and reasons: no key, no datagram, no configuration. Where
    stderr is systemd's journal, a line begins with its priority, which is taken off there.
    """

    def __init__(self, as_json: bool):
        self._as_json = as_json
        self._has_priority = _is_journal()

    def event(self, name: str, **facts) -> None:
        """time is UTC, for people and log collectors; nothing is decided by it."""
        self.events([(name, facts)])

    def events(self, events: list[tuple[str, dict]]) -> None:
        """Several at once, which costs whoever reads them one look."""
        lines = [self._line(name, facts) for name, facts in events]
        try:
            print("\n".join(lines), file=sys.stderr, flush=True)
        except OSError:
            pass  # nobody reads the log any more: no reason to stop serving

    def _line(self, name: str, facts: dict) -> str:
        level = _LEVELS.get(name, "info")
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self._as_json:
            text = {"event": name, "time": time, "level": level, **facts}
            text = _emit(text)
        else:
            words = [time, name, *(f"{k}={_fact(v)}" for k, v in facts.items())]
            text = printable(" ".join(words))
        return f"<{_PRIORITIES[level]}>{text}" if self._has_priority else text


def _is_journal() -> bool:
    """Whether what is written to stderr goes to systemd's journal (systemd.exec(5))."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):  # closed, or nothing of the system's
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _fact(value) -> str:
    if isinstance(value, dict):
        value = [f"{name}:{each}" for name, each in value.items()]
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value)) or None
    text = _cell(value)
    return json.dumps(text) if " " in text or not text else text
