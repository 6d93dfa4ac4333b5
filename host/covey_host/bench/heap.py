"""Octets of heap that a packet takes on 32-bit MicroPython, by counting."""

from . import board
from .results import Table

TITLE = "heap taken by packets on the board's interpreter"


_ROWS = {
    "delivered": "a packet delivered",
    "sent": "a packet sent",
    "forged": "a forged packet refused",
    "replayed": "a replayed packet refused",
    "stray": "a packet of an unknown SPI refused",
    "cut": "a packet of a wrong length refused",
}


def run(table: Table, quick: bool, board=board) -> None:
    """board: what runs the scripts, a board on the desk (onboard.OnBoard) if not this machine."""
    times = 3 if quick else 100
    facts = board.run("heap", table, str(times), counted=False).facts
    assert facts["opened"] == times + 2 and facts["refused"] == 4 * times, facts
    taken = facts["taken"]
    for name, what in _ROWS.items():
        octets = taken[name] - taken["nothing"]  # what counting itself takes
        table.add(f"heap for {what}", octets / times, "octets")
