"""All that a store holds, for moving it to another one: entries as they are (sealed), the numbers
that were given out, and the newest term. Versions don't move: nobody may be at work."""

import json
import os
from typing import NamedTuple

from ..errors import Problem
from . import Store, etcdrows
from .etcdclient import Client, delete, get, has_mod, put, was_made
from .etcdrows import Row, span
from .place import Place

_RANGES = (b"e/", b"n/", b"p/", b"j/", b"c/", b"r/", b"head/")
_SINGLE = (b"term", b"owner", b"run", b"beat", b"lock", b"alone", b"used", b"journal", b"applied")
_PAGE = 100


class Content(NamedTuple):
    entries: dict[str, bytes]
    counters: dict[str, int]
    term: int
    owner: str


def content(store: Store) -> Content:
    """While nobody writes."""
    entries = {key: value for key, value, _ in store.scan("")}
    return Content(entries, *store.numbers())


def create(place: Place, id: str, all: Content) -> None:
    """A site where nothing is, but what a killed create() left. Until this has returned there is
    no site. Problem where something is there."""
    client = Client(place)
    prefix = place.prefix
    try:
        names = [get(prefix + name) for name in (b"site", b"copying")]
        site, copying, some = client.transact([], [*names, get(*span(prefix), limit=1)]).rows
        if site or (some and not copying):
            raise Problem(f"{place.url} holds something already: no store is overwritten.")
        marker, mark = prefix + b"copying", os.urandom(8)
        free = [was_made(prefix + b"site", 0)]
        free.append(has_mod(marker, copying[0].mod if copying else 0))
        done = client.transact(free, [put(marker, mark)], [get(marker)])
        found = done.rows[0] if not done.is_done else ()
        if not done.is_done and not (found and found[0].value == mark):
            raise Problem(f"Another program is filling {place.url}: wait for it.")
        version = done.revision if done.is_done else found[0].mod
        whole = [has_mod(marker, version)]

        def write(ops: list) -> None:
            if not client.transact(whole, ops).is_done:
                raise Problem(f"Another program is filling {place.url}: wait for it.")

        write([delete(*span(prefix + name)) for name in _RANGES])
        write([delete(prefix + name) for name in _SINGLE])
        changes = [(key, 0, value) for key, value in all.entries.items()]
        journal = etcdrows.pack(changes, [Row(None, 0, 0)] * len(changes))
        for ops in etcdrows.portions(prefix, version, journal):
            write(ops)
        counters = list(all.counters.items())
        for at in range(0, len(counters), _PAGE):
            some = counters[at : at + _PAGE]
            write([put(prefix + b"n/" + name.encode(), b"%d" % n) for name, n in some])
        said = json.dumps({"covey": etcdrows.SCHEMA, "id": id}).encode()
        ends = [put(prefix + b"site", said), delete(marker)]
        if all.term:
            ends.append(put(prefix + b"term", b"%d" % all.term))
            ends.append(put(prefix + b"owner", all.owner.encode()))
        done = client.transact(whole, ends, [get(prefix + b"site")])
        if not done.is_done and not (done.rows[0] and done.rows[0][0].value == said):
            raise Problem(f"Another program is filling {place.url}: wait for it.")
    finally:
        client.close()
