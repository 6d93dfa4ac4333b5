"""What a person sees: a live table on a terminal, elsewhere plain lines; then the verdicts."""

import json
import sys
import time
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from .cast import Member
from .verdicts import Verdict

_COLUMNS = ["member", "interpreter", "state", "epoch", "SPI", "ID", "sent", "opened", "dropped"]
_A_SECOND = 4  # times that the table is drawn


class Screen:
    """as_json: stdout is for the summary, people are told on stderr."""

    def __init__(self, as_json: bool):
        self._file: TextIO = sys.stderr if as_json else sys.stdout
        self._console = Console(file=self._file, highlight=False, markup=False)
        self._members: list[Member] = []
        self._live: Live | None = None
        self._began = time.monotonic()
        self.phases: list[dict] = []

    def follow(self, members: list[Member]) -> None:
        """Show these from now on."""
        self._members = list(members)
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self._table,
                console=self._console,
                refresh_per_second=_A_SECOND,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def add(self, member: Member) -> None:
        self._members.append(member)

    def stop(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def phase(self, text: str) -> None:
        at_s = time.monotonic() - self._began
        self.phases.append({"at_s": round(at_s, 1), "what": text})
        self.line(f"{at_s:6.1f} s  {text}")

    def line(self, text: str) -> None:
        if self._console.is_terminal:
            self._console.print(text)
        else:
            print(text, file=self._file, flush=True)

    def verdict(self, verdict: Verdict) -> None:
        if self._console.is_terminal:
            marks = "✗✓" if self._console.encoding.startswith("utf") else "x+"
            style = "green" if verdict.ok else "bold red"
            text = f"{verdict.name}: {verdict.detail}"
            self._console.print(marks[verdict.ok], text, style=style, soft_wrap=True)
        else:
            mark = "ok  " if verdict.ok else "FAIL"
            print(f"{mark} {verdict.name}: {verdict.detail}", file=self._file, flush=True)

    def table(self) -> None:
        """The table once more, where it isn't on the screen already."""
        for member in self._members if not self._console.is_terminal else ():
            cells = zip(_COLUMNS, _row(member), strict=True)
            self.line(
                "       " + " ".join(f"{c}={v!r}" if " " in v else f"{c}={v}" for c, v in cells)
            )

    def _table(self) -> Group:
        """Fits 80 columns; the reasons for drops stand below, where they may be many."""
        drawn = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
        for column in _COLUMNS[:-1]:
            is_number = column in ("epoch", "ID", "sent", "opened")
            drawn.add_column(column, justify="right" if is_number else "left", no_wrap=True)
        reasons = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
        reasons.add_column(_COLUMNS[0], no_wrap=True)
        reasons.add_column(_COLUMNS[-1])
        for member in self._members:
            *cells, dropped = _row(member)
            drawn.add_row(*cells)
            reasons.add_row(member.name, dropped)
        return Group(drawn, reasons)


def show_json(summary: dict) -> None:
    print(json.dumps(summary), flush=True)


def _row(member: Member) -> list[str]:
    facts = member.facts
    drops = sorted(facts["drops"].items(), key=lambda item: -item[1])
    dropped = ", ".join(f"{reason} {n}" for reason, n in drops)
    keys = ("interpreter", "state", "epoch", "spi", "sender_id", "sent", "opened")
    cells = [facts.get(key) for key in keys]
    return [member.name, *("-" if cell is None else str(cell) for cell in cells), dropped or "-"]
