"""What was measured: rows, each perhaps against another of the same run; shown, written."""

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table as Drawn

from ..output import printable


class Missing(Exception):
    """Something can't be measured on this machine: one sentence that says why."""


class Table:
    """The rows of a run, in order. Rows that others are held against come before them."""

    def __init__(self):
        self.rows: list[dict] = []
        self.pictures: dict[str, bytes] = {}  # by the name of their file
        self.notes: list[str] = []  # what is left out, or measured otherwise, and why

    def add(self, name: str, value: float, unit: str, against: str | None = None) -> None:
        """One row. against: the name of an earlier row in the same unit."""
        assert all(row["name"] != name for row in self.rows), name
        ratio = None
        if against is not None:
            [other] = [row for row in self.rows if row["name"] == against]
            assert other["unit"] == unit, (name, against)
            ratio = round(value / other["value"], 3) if other["value"] else None
        value = round(value, 3)
        self.rows.append(
            {"name": name, "value": value, "unit": unit, "against": against, "ratio": ratio}
        )

    def note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    def write(self, path: Path) -> None:
        """The rows as a JSON list, and pictures beside it; each whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        files = {path.with_name(name): octets for name, octets in self.pictures.items()}
        files[path] = (json.dumps(self.rows, indent=1) + "\n").encode()
        for file, octets in files.items():
            part = file.with_suffix(".part")
            part.write_bytes(octets)
            part.replace(file)

    def show(self, console: Console) -> None:
        drawn = Drawn(box=None, header_style="bold", pad_edge=False)
        drawn.add_column("what")
        drawn.add_column("value", justify="right")
        drawn.add_column("unit")
        drawn.add_column("ratio", justify="right")
        drawn.add_column("against")
        for row in self.rows:
            ratio = "" if row["ratio"] is None else f"{row['ratio']:.3f}"
            value = row["value"]
            shown = f"{value:,.0f}" if value == int(value) or value >= 100 else f"{value:.3f}"
            cells = (row["name"], shown, row["unit"], ratio)
            drawn.add_row(*map(printable, (*cells, row["against"] or "")))
        console.print(drawn)
        for sentence in self.notes:
            console.print(printable(sentence))
