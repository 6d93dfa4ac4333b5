"""What `covey audit` reads: all files of a site's audit log, as one, while the server goes on."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..errors import Problem
from ..gcks.ledger import Ledger
from ..site import Site
from ..store import location
from ..vault.opening import open_store
from . import chain, rows
from .chain import Mark, Verifier
from .journal import FULL, NAME

_MOST_FOUND = 20  # sentences


class Verdict(NamedTuple):
    first: int | None  # number of the first entry that was looked at
    count: int
    mark: Mark  # of the last one
    found: list[str]  # what is wrong
    lost: int  # entries for which there was no room, as the log says itself


def verify(site: Site, since: Mark, who: str | None = None) -> Verdict:
    """since: what was looked at before. who: of which replica; None: of this one."""
    store = open_store(site)
    try:
        ledger = Ledger(store)
        who = location.replica_of(site) if who is None else who
        missing = rows.missing(ledger, who) if store.is_settled else []
        key = ledger.read(rows.KEY)
        until = rows.read_mark(ledger, who)  # before the files: these go on
        kept_from = rows.read_first(ledger, who)
    finally:
        store.close()
    verifier = Verifier(key, since, until, kept_from)
    found = []
    for line in lines(site.root):
        wrong = verifier.take(line[:-1]) if line.endswith(b"\n") else None  # half a line waits
        if wrong and len(found) < _MOST_FOUND:
            found.append(wrong)
    if wrong := verifier.end():
        found.append(wrong)
    lost = rows.lost(missing, who, is_empty=not verifier.count)
    found = [
        *(f"The store knows {name} no more: somebody has taken it away." for name in lost),
        *found,
    ]
    return Verdict(verifier.first, verifier.count, verifier.last, found, verifier.lost)


def lines(directory: Path) -> Iterator[bytes]:
    """All lines of the log, the oldest first, each with its end."""
    newest, inode = None, None
    try:
        if (directory / NAME).exists():
            newest = (directory / NAME).open("rb")  # before the others: it may become full
            inode = os.fstat(newest.fileno()).st_ino
        for path in sorted(p for p in directory.iterdir() if FULL.fullmatch(p.name)):
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_ino != inode:
                    yield from _lines_of(file)
        if newest:
            yield from _lines_of(newest)
    except OSError as error:
        what = error.filename or directory
        raise Problem(f"{what} can't be read: {os.strerror(error.errno or 0)}.") from error
    finally:
        if newest:
            newest.close()


def _lines_of(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(chain.MOST_OCTETS):
        yield line


def last_lines(directory: Path, most: int) -> list[bytes]:
    kept: list[bytes] = []
    for line in lines(directory):
        kept.append(line)
        if len(kept) >= 2 * most + 1000:
            del kept[:-most]
    return kept[-most:]
