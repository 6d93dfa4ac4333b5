"""What the store knows of the audit log. Sealed, so that nobody makes it up without the site key.

    audit/key     32 octets, of the MACs
    audit/mark    "N:SHA256": the last entry, a second behind at most while a server runs; where
                  entries can't be written N counts them, too, at once
    audit/first   "N": what is before this entry was put into an archive; missing: all is here

The first two are in every store from its beginning, or from when it was sealed. Where one is
missing, somebody has taken it away. Each replica has a log of its own, and of the last two rows
those of its name: audit/mark/NAME. Until it has made its first entry these are missing.
"""

import os
from collections.abc import Callable

from ..gcks.ledger import Changes, Ledger
from . import chain
from .chain import BEGIN, Mark

KEY, MARK, FIRST = "audit/key", "audit/mark", "audit/first"


def begun(random: Callable[[int], bytes] = os.urandom) -> Changes:
    """Those of a log without entries."""
    return {KEY: random(chain.KEY_LEN), MARK: str(BEGIN).encode()}


def of(row: str, who: str) -> str:
    """MARK or FIRST of the replica of that name; "": of a key server that is the only one."""
    return f"{row}/{who}" if who else row


def missing(ledger: Ledger, who: str) -> list[str]:
    return [name for name in (KEY, of(MARK, who)) if ledger.read(name) is None]


def lost(missing: list[str], who: str, *, is_empty: bool) -> list[str]:
    """Those that somebody has taken away. is_empty: whether the files have no entry."""
    return [name for name in missing if name == KEY or not (who and is_empty)]


def read_mark(ledger: Ledger, who: str) -> Mark:
    value = ledger.read(of(MARK, who))
    return BEGIN if value is None else chain.parse_mark(value.decode())


def count_unwritten(ledger: Ledger, who: str) -> None:
    """One entry could not be made: its number will be missing."""
    mark = read_mark(ledger, who)
    ledger.write({of(MARK, who): str(Mark(mark.n + 1, mark.sha256)).encode()})


def read_first(ledger: Ledger, who: str) -> int:
    return int(ledger.read(of(FIRST, who)) or b"1")


def hand_over(ledger: Ledger, former: str, who: str, *, forget: bool = False) -> None:
    """The log of `former` goes on under another name. forget: nothing is left of that one."""
    found = {row: ledger.read(of(row, former)) for row in (MARK, FIRST)}
    changes: Changes = {}
    for row, value in found.items():
        if value is not None:
            ledger.read(of(row, who))  # which version it has
            changes |= {of(row, former): None} if forget else {}
            changes |= {of(row, who): value}
    ledger.write(changes)
