"""How a site lies in etcd, below its prefix.

    site              JSON {"covey": schema, "id": of the site, and "moved": where to, if it was}
    copying           random, while a site is on its way to here: nothing else counts then
    head/NAME         of a replica, "" of the others: new with every write, see etcdwriter.py
    c/NAME/i          which entries its last writes were of
    term, owner, run  the newest term in decimal; who acquired it, and the run it was told
    beat              what its holder last said; its mod_revision is the lead's version
    lock              who works here alone, under a lease of its own
    alone             as lock, when that was taken last; of nobody if it never was
    used              put when lock or an r/NAME is taken
    r/NAME            a replica that works here: JSON {"name", "here", "facts"}, under its lease
    e/KEY             an entry
    n/NAME            the next number of that name, in decimal
    p/REVISION.n/i    part i of an entry that is longer than PART_LEN
    journal           the one that is being carried out, if any: JSON {"octets"} or {"id", "parts"}
    j/ID/i            part i of a longer one
    applied           how many portions of it have been

A version is the revision of etcd at which all of a swap was written. A swap that one request
of etcd can't hold is a journal first: its parts, then in one transaction all comparisons and
`journal`, by which it has happened. It is carried out in portions by whoever finds it, before
anything else is read or written; what it writes says the version itself, for etcd's revisions
of these keys are later ones.

    entry     0 | value                                  its version is its mod_revision
              1 | version (8) | value
              2 | version (8) | parts (4) | number (4)   in p/VERSION.NUMBER/
"""

import json
import struct
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, NamedTuple

from . import KEEP, Change
from .etcdclient import Found, delete, put

SCHEMA = 2  # 1 had one head for all: as if there was none
PART_LEN = 512 << 10
MOST_PARTS = 100  # of one journal: it is committed by one transaction
_PLAIN, _DATED, _PARTED = 0, 1, 2
_DATE = struct.Struct(">BQ")
_PARTS = struct.Struct(">BQII")
_ITEM = struct.Struct(">HqQI")  # lengths of key and value, -1: none; VERSION.NUMBER it had
MOST_INLINE = 128 << 10  # of a journal without parts of its own
MOST_OPS = 110  # in one swap, besides what every write needs
_LIMIT_OPS = 100  # of one transaction; etcd's own limit is 128
_LIMIT_LEN = 1 << 20  # of one transaction; etcd's own limit is 1.5 MiB


class Row(NamedTuple):
    """What is known of an entry without its parts."""

    value: bytes | None  # None where it is in parts, or there is none
    version: int
    mod: int
    parts: int = 0
    number: int = 0


def row_of(found: Found) -> Row:
    if not found.mod:
        return Row(None, 0, 0)
    kind = found.value[0]
    if kind == _PLAIN:
        return Row(found.value[1:], found.mod, found.mod)
    if kind == _DATED:
        return Row(found.value[_DATE.size :], _DATE.unpack_from(found.value)[1], found.mod)
    _, version, parts, number = _PARTS.unpack(found.value)
    return Row(None, version, found.mod, parts, number)


def plain(value: bytes) -> bytes:
    return bytes([_PLAIN]) + value


def is_small(changes: list[Change]) -> bool:
    """Whether one transaction holds it, if no more than a few have parts that are replaced."""
    length = sum(
        len(key) + (len(value) if isinstance(value, bytes) else 0) for key, _, value in changes
    )
    return len(changes) <= _LIMIT_OPS and length <= PART_LEN


def parts_of(prefix: bytes, version: int, number: int) -> tuple[bytes, bytes]:
    """Where the parts of an entry begin, and end."""
    return span(b"%sp/%d.%d/" % (prefix, version, number))


def span(start: bytes) -> tuple[bytes, bytes]:
    """All keys that begin so; start ends with an ASCII character."""
    return start, start[:-1] + bytes([start[-1] + 1])


def part(start: bytes, i: int) -> bytes:
    return b"%s%06d" % (start, i)


def split(octets: bytes) -> list[bytes]:
    return [octets[at : at + PART_LEN] for at in range(0, len(octets), PART_LEN)] or [b""]


def pack(changes: list[Change], rows: list[Row]) -> bytes:
    """What a journal says; rows: as they were before."""
    out = bytearray()
    for (key, _, value), row in zip(changes, rows, strict=True):
        if value is KEEP:
            continue
        length = -1 if value is None else len(value)
        had = (row.version, row.number) if row.parts else (0, 0)
        out += _ITEM.pack(len(key), length, *had) + key.encode() + (value or b"")
    return bytes(out)


def said(journal: bytes) -> bytes:
    """What `journal` is where it has no parts."""
    return json.dumps({"octets": b64encode(journal).decode()}).encode()


def portions(prefix: bytes, version: int, journal: bytes) -> Iterator[list[dict[str, Any]]]:
    """What carries a journal out, a transaction each; the same whoever asks."""
    ops: list[dict[str, Any]] = []
    length = 0
    for op, size in _steps(prefix, version, journal):
        if ops and (len(ops) >= _LIMIT_OPS or length + size > _LIMIT_LEN):
            yield ops
            ops, length = [], 0
        ops.append(op)
        length += size
    yield ops


def _steps(prefix: bytes, version: int, journal: bytes) -> Iterator[tuple[dict[str, Any], int]]:
    at = number = 0
    while at < len(journal):
        key_len, length, had, had_number = _ITEM.unpack_from(journal, at)
        at += _ITEM.size
        key = prefix + b"e/" + journal[at : at + key_len]
        at += key_len
        value = journal[at : at + max(0, length)]
        at += len(value)
        number += 1
        if had:
            yield delete(*parts_of(prefix, had, had_number)), 0
        if length < 0:
            yield delete(key), len(key)
        elif length <= PART_LEN:
            head = _DATE.pack(_DATED, version)
            yield put(key, head + value), len(key) + len(value)
        else:
            start, _ = parts_of(prefix, version, number)
            cut = split(value)
            for i in range(len(cut)):
                yield put(part(start, i), cut[i]), len(cut[i])
            yield put(key, _PARTS.pack(_PARTED, version, len(cut), number)), len(key)
