"""What signed packets cost, on the board's interpreter and beside Group OSCORE's on CPython."""

from . import board
from .peers import PEERS
from .results import Table
from .timing import shortest

TITLE = "Signed packets"
_LEN = 64
_BATCH = 64
_OSCORE = "aiocoap: Group OSCORE protect + unprotect"  # signs each message, by Ed25519 in C


def run(table: Table, quick: bool) -> None:
    costs = board.run("signed", table, heap="512k", counted=not quick)
    for label, what in (
        ("sign 1", "one packet signed"),
        ("first", "one packet verified, the first of its sender"),
        ("later", "one packet verified"),
    ):
        table.add(what, costs[label], costs.unit)
        table.add(f"longest step of {what}", costs.longest(label), costs.unit, what)
    each = f"one of {_BATCH} packets signed together"
    table.add(each, costs["sign 64"] / _BATCH, costs.unit, "one packet signed")
    known = f"one of {_BATCH} packets received, when one is verified"
    table.add(known, costs["receive"], costs.unit, "one packet verified")
    lengths = costs.facts["lengths"]
    alone = f"datagram, {_LEN} octets, signed alone"
    table.add(alone, lengths["1"], "octets")
    table.add(f"datagram, {_LEN} octets, {_BATCH} signed together", lengths["64"], "octets", alone)
    _beside(table, quick)


def _beside(table: Table, quick: bool) -> None:
    """Both on this machine: ours in Python."""
    rounds = (2, 1) if quick else (5, 20)
    package, make, _ = PEERS[_OSCORE]
    try:
        peer = make()
    except ImportError as error:
        table.note(f"Left out: {_OSCORE}; {package} is not installed ({error}).")
        return
    signature = f"{_OSCORE}, {_LEN} octets, a signature each"
    table.add(signature, shortest({"peer": peer}, *rounds)["peer"], board.TIME)
    found = [board.run_here("signed") for _ in range(rounds[0])]
    sign, verify, sign_all, known = (
        min(costs[label] for costs in found) for label in ("sign 1", "later", "sign 64", "receive")
    )
    what = "CPython: one packet signed and verified"
    table.add(what, sign + verify, board.TIME, signature)
    each = (sign_all + verify) / _BATCH + known
    what = f"CPython: one of {_BATCH} packets signed together and verified"
    table.add(what, each, board.TIME, signature)
