"""What `covey audit` reads: all files of a site's audit log, as one, while the server goes on."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..errors import Problem
from ..gcks.ledger import Ledger
from ..site import Site
from ..vault.opening import open_store
from . import chain
from .chain import Mark, Verifier
from .journal import FULL, KEY, NAME, read_mark

_MOST_FOUND = 20  # sentences


class Verdict(NamedTuple):
    first: int | None  # number of the first entry that was looked at
    count: int
    mark: Mark  # of the last one
    found: list[str]  # what is wrong


def verify(site: Site, since: Mark) -> Verdict:
    """since: what was looked at before."""
    store = open_store(site)
    try:
        ledger = Ledger(store)
        key, until = ledger.read(KEY), read_mark(ledger)  # before the files: these go on
    finally:
        store.close()
    verifier, found = Verifier(key, since, until), []
    for line in lines(site.root):
        wrong = verifier.take(line[:-1]) if line.endswith(b"\n") else None  # half a line waits
        if wrong and len(found) < _MOST_FOUND:
            found.append(wrong)
    if wrong := verifier.end():
        found.append(wrong)
    return Verdict(verifier.first, verifier.count, verifier.last, found)


def lines(directory: Path) -> Iterator[bytes]:
    """All lines of the log, the oldest first, each with its end."""
    files = _files(directory)
    try:
        for file in files:
            while line := file.readline(chain.MOST_OCTETS):
                yield line
    finally:
        for file in files:
            file.close()


def last_lines(directory: Path, most: int) -> list[bytes]:
    kept: list[bytes] = []
    for line in lines(directory):
        kept.append(line)
        if len(kept) >= 2 * most + 1000:
            del kept[:-most]
    return kept[-most:]


def _files(directory: Path) -> list[BinaryIO]:
    """Open, in their order. The newest is opened first: it may become full meanwhile."""
    found: list[BinaryIO] = []
    try:
        paths = [directory / NAME] if (directory / NAME).exists() else []
        found = [path.open("rb") for path in paths]
        seen = {os.fstat(file.fileno()).st_ino for file in found}
        for path in sorted(p for p in directory.iterdir() if FULL.fullmatch(p.name))[::-1]:
            file = path.open("rb")
            found.append(file)
            if os.fstat(file.fileno()).st_ino in seen:
                found.pop().close()
    except OSError as error:
        for file in found:
            file.close()
        what = error.filename or directory
        raise Problem(f"{what} can't be read: {os.strerror(error.errno or 0)}.") from error
    return found[::-1]
