"""AES-GCM against its floor: the AES of its blocks and their GHASH, measured in the same run.

GHASH of a block is what 16 octets more cost under AES-GMAC, which does nothing else with them.
"""

from . import board
from .results import Table

TITLE = "AES-GCM on the board's interpreter"
_ROWS = {"seal": "seal", "open": "open", "forged": "refuses a forgery"}


def run(table: Table, quick: bool, board=board) -> None:
    """board: what runs the scripts, a board on the desk (onboard.OnBoard) if not this machine."""
    costs = board.run("gcm", table)
    unit = costs.unit
    ghash = (costs["hashed 80"] - costs["hashed 16"]) / 4
    table.add("AES, 1 block", costs["aes 1"], unit)
    table.add("AES, 5 blocks in one call", costs["aes 5"], unit)
    table.add("GHASH, 1 block", ghash, unit)
    for n in (64, 256):
        blocks = n // 16
        hashed = ghash * (blocks + 2)  # one of additional data, one of lengths
        verified = costs["aes 1"] + hashed
        floors = {
            "seal": costs[f"aes {blocks + 1}"] + hashed,
            "open": verified + costs[f"aes {blocks}"],  # the tag first, so two calls
            "forged": verified,
        }
        for name, floor in floors.items():
            table.add(f"floor of {name}, {n} octets", floor, unit)
            row = f"GCM {_ROWS[name]}, {n} octets"
            table.add(row, costs[f"{name} {n}"], unit, f"floor of {name}, {n} octets")
    table.add("GCM key made, with its tables", costs["key"], unit, "GCM seal, 64 octets")
