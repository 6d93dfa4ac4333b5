"""What it costs that each packet proves its sender, beside plain ESP of the same payload."""

from . import board
from .results import Table

TITLE = "Source authentication on the board's interpreter"
_LEN = 64
_SLOTS = (1, 4, 8, 16)


def run(table: Table, quick: bool) -> None:
    costs = board.run("sourceauth", table)
    unit = costs.unit
    opened = f"GCM open of a plain packet, {_LEN} octets"
    table.add(opened, costs["open"], unit)
    table.add(f"one's own tag verified, {_LEN} octets", costs["tag"], unit, opened)
    for way in ("send", "receive"):
        plain = f"Member.{way}, {_LEN} octets, plain ESP"
        table.add(plain, costs[f"{way} 0"], unit)
        for slots in _SLOTS:
            row = f"Member.{way}, {_LEN} octets, MACs for {slots}"
            table.add(row, costs[f"{way} {slots}"], unit, plain)
    plain = f"datagram, {_LEN} octets, plain ESP"
    table.add(plain, costs.facts["lengths"]["0"], "octets")
    for slots in _SLOTS:
        row = f"datagram, {_LEN} octets, MACs for {slots}"
        table.add(row, costs.facts["lengths"][str(slots)], "octets", plain)
        heap = sum(costs.facts["octets"][f"{way} {slots}"] for way in ("send", "receive"))
        table.add(f"heap for a packet, sent and received, MACs for {slots}", heap, "octets")
