"""A packet's whole way through Member, against the bare AES-GCM of that packet."""

from . import board
from .results import Table

TITLE = "Member.receive and Member.send on the board's interpreter"


def run(table: Table, quick: bool, board=board) -> None:
    """board: what runs the scripts, a board on the desk (onboard.OnBoard) if not this machine."""
    costs = board.run("path", table)
    unit = costs.unit
    for n in (64, 256):
        text_len = costs.facts["text_len"][str(n)]
        for member, bare in (("receive", "open"), ("send", "seal")):
            against = f"bare {bare} of that packet, {text_len} octets of text"
            table.add(against, costs[f"{bare} {n}"], unit)
            table.add(f"Member.{member}, {n} octets", costs[f"{member} {n}"], unit, against)
    for label, what in (
        ("forged", "a forged packet"),
        ("replay", "a replayed packet"),
        ("stray", "an unknown SPI"),
        ("cut", "a wrong length"),
    ):
        row = f"Member.receive refuses {what}, 64 octets"
        table.add(row, costs[label], unit, "Member.receive, 64 octets")
