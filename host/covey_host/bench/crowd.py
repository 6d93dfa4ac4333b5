"""A store with any number of members in it, as their registrations would have left it.

Registrations would take hours for a million. So rows and pages are written here, in the form that
roster.py and treelevel.py have; what is measured reads them as a key server does.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from ..gcks import authority, policy
from ..gcks.keyserver import KeyServer
from ..gcks.ledger import encode
from ..gcks.roster import Enrolled
from ..gcks.treelevel import PAGE, page_count
from ..store import sqlite

GROUP = "line1"
_POLICY = """identity = "gcks.example"
[group.line1]
address = "239.192.1.32"
port = 2222
members = 10000000
key_tree = {degree}
"""
_KEY_LEN = 16
_AT_ONCE = 100_000  # keys of the store in one write


def rules_of(degree: int) -> policy.SitePolicy:
    return policy.parse(_POLICY.format(degree=degree))


def name_of(leaf: int) -> str:
    return f"member-{leaf:07d}"


def tree_pages(count: int, degree: int) -> Iterator[tuple[str, bytes]]:
    """The tree of so many members, each leaf taken, each node with a key: (key, value)."""
    sizes = [count]
    while sizes[-1] > degree:
        sizes.append(-(-sizes[-1] // degree))
    facts = {"degree": degree, "kwk_len": _KEY_LEN, "next_id": sum(sizes) + 1, "sizes": sizes}
    yield "tree", encode(facts)
    first_id = 1
    for level, size in enumerate(sizes):
        for page in range(page_count(size)):
            nodes = min(PAGE, size - page * PAGE)
            ids = struct.pack(f">{nodes}I", *range(first_id, first_id + nodes))
            yield f"tree/{level}/{page}", ids + os.urandom(nodes * _KEY_LEN)
            first_id += nodes


def fill(path: Path, count: int, degree: int, leavers: list[int]) -> None:
    """A new store: one group with so many members. leavers: leaves of those that can be removed,
    since whom nobody asks about needs no entry of its own among those who may register."""
    store = sqlite.create(path)
    authority.make_signing_key(store)
    KeyServer(store, rules_of(degree)).start(0)
    prefix = f"group/{GROUP}/"
    versions = {key: version for key, _, version in store.scan(prefix)}
    pages = ((prefix + key, page) for key, page in tree_pages(count, degree))
    entries = [pages, _members(prefix, count), _entitled(leavers)]
    changes = ((k, versions.get(k, 0), value) for some in entries for k, value in some)
    while some := list(islice(changes, _AT_ONCE)):
        assert store.compare_and_swap(some, None)
    store.close()


def _members(prefix: str, count: int) -> Iterator[tuple[str, bytes]]:
    row = encode(asdict(Enrolled(0, False, False, True, 0)))
    begin, end = row.split(b'"leaf":0')
    for leaf in range(count):
        yield f"{prefix}member/{name_of(leaf)}", b'%b"leaf":%d%b' % (begin, leaf, end)


def _entitled(leavers: list[int]) -> Iterator[tuple[str, bytes]]:
    row = {"psk": os.urandom(32), "groups": {GROUP: "receiver"}, "removed": False}
    for leaf in leavers:
        yield f"authority/member/{name_of(leaf)}", encode(row)
