"""What the store knows of the audit log. Sealed, so that nobody makes it up without the site key.

    audit/key     32 octets, of the MACs
    audit/mark    "N:SHA256": the last entry, a second behind at most while a server runs
    audit/first   "N": what is before this entry was put into an archive; missing: all is here

The first two are in every store from its beginning, or from when it was sealed. Where one is
missing, somebody has taken it away.
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


def missing(ledger: Ledger) -> list[str]:
    return [name for name in (KEY, MARK) if ledger.read(name) is None]


def read_mark(ledger: Ledger) -> Mark:
    value = ledger.read(MARK)
    return BEGIN if value is None else chain.parse_mark(value.decode())


def read_first(ledger: Ledger) -> int:
    return int(ledger.read(FIRST) or b"1")
