"""The store in etcd: what several machines may share, and none of them alone can lose.

See etcdrows.py for what lies where, and etcdwriter.py for what every write compares.
"""

import json
import os
from base64 import b64decode
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import Problem
from . import KEEP, Change, Changed, Replica, Value, etcdrows, etcdwriter
from .etcdclient import (
    Client,
    Found,
    Unreachable,
    delete,
    get,
    has_mod,
    has_value,
    is_no_newer,
    keep,
    put,
    was_made,
)
from .etcdlock import Lock, replica_of
from .etcdreader import Reader, lead_of
from .etcdrows import MOST_OPS, MOST_PARTS, is_small, part, parts_of, plain, row_of, span
from .etcdwriter import Writer, Written, keys_in, named
from .place import Place

_STAGED_S = 120  # a journal that is not committed by then is gone
_MOST = 2**63 - 1  # as SQLite's, so that a site can move there


def open_existing(place: Place, id: str, lock_file: Path | None = None) -> "EtcdStore":
    """The store of the site of this ID; "": of whichever it is. Problem where there is none."""
    client = Client(place)
    try:
        prefix = place.prefix
        site, copying = client.transact([], [get(prefix + b"site"), get(prefix + b"copying")]).rows
        if not site and copying:
            raise Problem(f"{place.url} holds half of a site: copy it there again.")
        if not site:
            some = client.transact([], [get(*span(prefix), limit=1)]).rows[0]
            what = "is not a Covey store" if some else "holds no site"
            raise Problem(f"{place.url} {what}: `covey store copy` moves one to where nothing is.")
        found = _check(place.url, site[0].value, id)
    except BaseException:
        client.close()
        raise
    return EtcdStore(place, client, found, lock_file)


class EtcdStore:
    """Implements covey_host.store.Store. One thread; any number of processes and machines."""

    def __init__(self, place: Place, client: Client, id: str, lock_file: Path | None):
        self.place, self.id = place, id
        self._client = client
        self._prefix = place.prefix
        self._lock = Lock(place, lock_file)
        self._writer = Writer(client, place.url, place.prefix, self._lock)
        self._reader = Reader(client, place.prefix, self._carry_out)

    def read(self, key: str) -> tuple[bytes | None, int]:
        self._writer.settle()
        return self._reader.read(key)

    def read_many(self, keys: Sequence[str]) -> list[tuple[bytes | None, int]]:
        self._writer.settle()
        return self._reader.read_many(keys)

    def scan(self, prefix: str, after: str = "", most: int = -1) -> list[tuple[str, bytes, int]]:
        self._writer.settle()
        return self._reader.scan(prefix, after, most)

    def changed(self, prefix: str, since: int) -> Changed:
        self._writer.settle()
        return self._reader.changed(prefix, since)

    def compare_and_swap(self, changes: list[Change], term: int | None) -> int:
        self._writer.settle()
        changes = [(key, version, _octets(value)) for key, version, value in changes]
        swap = self._swap if is_small(changes) else self._swap_by_journal
        done = None
        try:
            while done is None:
                done = swap(changes, term)
        except Unreachable as problem:  # else etcd has refused it
            problem.is_in_doubt = True
            raise
        for key, _, value in changes:
            if done and value is not KEEP:
                self._reader.forget(key)
        return done

    def reserve(self, name: str, n: int) -> int:
        if n < 1:
            raise ValueError("reserve at least one number")
        self._writer.settle()
        key = self._at("n/" + name)
        seen = self._client.transact([], [get(key)]).rows[0]
        while True:
            first = int(seen[0].value) if seen else 0
            if first + n > _MOST:
                raise Problem(f"The numbers called {name} in {self.place.url} are used up.")
            compares = [has_mod(key, seen[0].mod if seen else 0), *self._writer.guard()]
            success = [put(key, b"%d" % (first + n))]
            failure = [get(key), get(self._writer.head), get(self._lock.key)]
            done = self._client.transact(compares, success, failure)
            if done.is_done:
                return first
            seen, head, lock = done.rows
            self._writer.look(head, lock)

    def acquire_term(
        self, owner: str, seen: int | None = None, run: str | None = None, facts: bytes = b""
    ) -> int:
        self._writer.settle()
        while True:
            found = self._client.transact([], self._reader.asked_of_lead()).rows
            lead = lead_of(found)
            if seen is not None and seen != lead.version:
                return 0
            success = [
                put(self._at("term"), b"%d" % (lead.term + 1)),
                put(self._at("owner"), owner.encode()),
                put(self._at("beat"), facts),
            ]
            if run is not None:
                success.append(put(self._at("run"), run.encode()))
            term_mod = found[0][0].mod if found[0] else 0
            still = [has_mod(self._at("term"), term_mod), has_mod(self._at("beat"), lead.version)]
            if self._write(still, success).revision:
                return lead.term + 1

    def beat(self, term: int, facts: bytes) -> None:
        self._writer.settle()
        failure = [get(self._at("term")), get(self._at("owner"))]
        failure += [get(self._writer.head), get(self._lock.key)]
        while True:
            holds = [has_value(self._at("term"), b"%d" % term), *self._writer.guard()]
            done = self._client.transact(holds, [put(self._at("beat"), facts)], failure)
            if done.is_done:
                return
            newest, owner, head, lock = done.rows
            self._writer.check_term(term, newest, owner)
            self._writer.look(head, lock)

    def lock(self, owner: str) -> None:
        self._writer.settle()
        if self._lock.take(self._client, owner):
            self._begin("")

    def join(self, name: str) -> None:
        self._writer.settle()
        if self._lock.take(self._client, f"replica {name}", name):
            self._begin(name)
            self._client.hurry()

    def present(self, facts: bytes) -> None:
        if not self._writer.name:
            raise ValueError("join first")
        self._writer.settle()
        while not self._write([], [self._lock.saying(facts)]).revision:
            pass

    def replicas(self) -> list[Replica]:
        found = self._client.transact([], [get(*span(self._at("r/")))]).rows[0]
        return [replica_of(each) for each in found]

    def close(self) -> None:
        self._lock.give_back(self._client)
        self._client.close()

    def checkpoint(self) -> None:
        """What was replaced is in etcd's history until etcd compacts that, as it is told to."""

    def numbers(self) -> tuple[dict[str, int], int, str]:
        """Of each name the next number, the newest term, and who acquired it."""
        start, end = span(self._at("n/"))
        asked = [get(start, end), get(self._at("term")), get(self._at("owner"))]
        counters, term, owner = self._client.transact([], asked).rows
        named = {each.key[len(start) :].decode(): int(each.value) for each in counters}
        newest = int(term[0].value) if term else 0
        return named, newest, owner[0].value.decode() if owner else ""

    def mark_moved(self, where: str) -> None:
        """Nobody opens this store again."""
        said = json.dumps({"covey": etcdrows.SCHEMA, "id": self.id, "moved": where}).encode()
        self._writer.settle()
        while not self._write([], [put(self._at("site"), said)]).revision:
            pass

    # One transaction

    def _swap(self, changes: list[Change], term: int | None) -> int | None:
        """None: look again."""
        rows = [self._reader.expected(key, version) for key, version, _ in changes]
        compares = [
            has_mod(self._at("e/" + key), row.mod)
            for (key, _, _), row in zip(changes, rows, strict=True)
        ]
        success = []
        for (key, _, value), row in zip(changes, rows, strict=True):
            if value is KEEP:
                continue
            where = self._at("e/" + key)
            success.append(delete(where) if value is None else put(where, plain(value)))
            if row.parts:
                success.append(delete(*parts_of(self._prefix, row.version, row.number)))
        if len(success) > MOST_OPS:
            return self._swap_by_journal(changes, term)
        failure = [get(self._at("e/" + key)) for key, _, _ in changes]
        done = self._write(compares, success, term, _written(changes), failure)
        if done.revision:
            return done.revision
        if done.journal:
            return None
        seen = [row_of(found[0] if found else Found()) for found in done.rows]
        for (key, _, _), row in zip(changes, seen, strict=True):
            self._reader.note(key, row)
        is_expected = all(row.version == each[1] for row, each in zip(seen, changes, strict=True))
        return None if is_expected else 0

    def _write(
        self,
        compares: list,
        success: list,
        term: int | None = None,
        changed: bytes | None = None,
        failure: Iterable = (),
    ) -> Written:
        """A journal that was in the way has been carried out when this returns."""
        done = self._writer.write(compares, success, term, changed, failure)
        if done.journal:
            self._carry_out(done.journal)
        return done

    # More than one transaction

    def _swap_by_journal(self, changes: list[Change], term: int | None) -> int | None:
        """None: look again."""
        found = self._reader.rows([key for key, _, _ in changes])
        if found is None:
            return None
        rows, revision = found
        if any(row.version != each[1] for row, each in zip(rows, changes, strict=True)):
            never = [was_made(self._at("site"), 0)]  # Fenced comes first
            return None if self._write(never, [], term).journal else 0
        octets = etcdrows.pack(changes, rows)
        if len(octets) <= etcdrows.MOST_INLINE:
            said = etcdrows.said(octets)
            version = self._commit(changes, revision, [put(self._at("journal"), said)], term)
        else:
            said, version = self._stage(changes, octets, revision, term)
        if version:
            self._carry_out(Found(said, version))
        return version or None

    def _stage(
        self, changes: list[Change], octets: bytes, revision: int, term: int | None
    ) -> tuple[bytes, int]:
        """What the journal is, and its version as _commit() says it."""
        cut = etcdrows.split(octets)
        if len(cut) > MOST_PARTS:
            raise Problem(f"{self.place.url} can't take so much at once: it was not written.")
        name = os.urandom(8).hex()
        start = self._at(f"j/{name}/")
        said = json.dumps({"id": name, "parts": len(cut)}).encode()
        lease = self._client.grant(_STAGED_S)
        try:
            for i in range(len(cut)):
                self._client.transact([], [put(part(start, i), cut[i], lease)])
            success = [put(self._at("journal"), said)]
            success += [keep(part(start, i)) for i in range(len(cut))]
            return said, self._commit(changes, revision, success, term)
        finally:
            self._client.revoke(lease)

    def _commit(
        self, changes: list[Change], revision: int, success: list, term: int | None
    ) -> int:
        """What was as expected at this revision is so still. 0: perhaps not."""
        keys = {key for key, _, _ in changes}
        while True:
            unchanged = is_no_newer(*span(self._at("head/")), revision)
            done = self._write([unchanged], success, term, _written(changes))
            if done.revision or done.journal:
                return done.revision
            asked = [etcdwriter.slots(self._prefix, revision), get(self._at("journal"))]
            answer = self._client.transact([], asked)
            slots, journal = answer.rows
            touched = keys_in(slots)
            if journal or touched is None or touched & keys:
                return 0
            revision = answer.revision

    def _carry_out(self, journal: Found) -> None:
        """Until it is done, by us or others."""
        said = json.loads(journal.value)
        is_there = [has_mod(self._at("journal"), journal.mod)]
        ends = [delete(self._at("journal")), delete(self._at("applied"))]
        if "octets" in said:
            octets = b64decode(said["octets"])
        else:
            start, end = span(self._at(f"j/{said['id']}/"))
            ends.append(delete(start, end))
            parts = []
            for i in range(said["parts"]):
                got = self._client.transact(is_there, [get(part(start, i))])
                if not got.is_done:
                    return
                parts.append(got.rows[0][0].value)
            octets = b"".join(parts)
        applied = self._at("applied")
        portions = list(etcdrows.portions(self._prefix, journal.mod, octets))
        for i, ops in enumerate(portions):
            turn = has_value(applied, b"%d" % i) if i else was_made(applied, 0)
            after = ends if i + 1 == len(portions) else [put(applied, b"%d" % (i + 1))]
            self._client.transact([*is_there, turn], [*ops, *after])

    # Locks and doubts

    def _begin(self, name: str) -> None:
        """As the lock is ours: what was under way before is too late, and the site is there."""
        try:
            self._writer.forget(name)
            self._writer.bump()
            key = self._at("site")
            while True:
                site = self._client.transact([], [get(key)]).rows[0]
                _check(self.place.url, site[0].value if site else b"", self.id)
                if site[0].value == (said := _site(self.id)):
                    break
                self._write([has_mod(key, site[0].mod)], [put(key, said)])
        except BaseException:
            self._lock.give_back(self._client)
            raise

    def _at(self, name: str) -> bytes:
        return self._prefix + name.encode()


def _octets(value: Value) -> Value:
    return value if value is None or value is KEEP else bytes(value)


def _written(changes: list[Change]) -> bytes:
    return named(key for key, _, value in changes if value is not KEEP)


def _site(id: str) -> bytes:
    return json.dumps({"covey": etcdrows.SCHEMA, "id": id}).encode()


def _check(url: str, site: bytes, id: str) -> str:
    """The ID of the site that is there. Problem where that is not to be worked on."""
    try:
        said = json.loads(site)
        schema, found, moved = int(said["covey"]), str(said["id"]), said.get("moved")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Problem(f"{url} is not a Covey store: name another place.") from None
    if schema > etcdrows.SCHEMA:
        raise Problem(f"{url} was written by a newer Covey (schema {schema}): use that version.")
    if schema < 1:
        raise Problem(f"{url} has schema {schema}, which no Covey wrote: name another place.")
    if moved:
        raise Problem(f"The site in {url} has moved to {moved}: work there.")
    if id and found != id:
        raise Problem(f"{url} holds another site: each has its own name behind the nodes.")
    return found
