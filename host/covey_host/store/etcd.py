"""The store in etcd: what several machines may share, and none of them alone can lose.

Every write of entries or of the term compares `head` as this process knows it, and puts a new
one: one that is still under way somewhere when its outcome was given up can't be done any more
once anybody has written after it, and this process writes before it does anything else.
See etcdrows.py for what lies where.
"""

import json
import os
from pathlib import Path

from ..errors import Problem
from . import Change, Fenced, etcdrows
from .etcdclient import (
    Answer,
    Client,
    Found,
    delete,
    get,
    has_mod,
    has_value,
    keep,
    put,
    was_made,
)
from .etcdlock import Lock
from .etcdrows import MOST_PARTS, Row, is_small, part, parts_of, plain, row_of, span
from .place import Place

_PAGE = 200  # rows that are read at once
_ROWS = 50  # keys that are asked for at once
_STAGED_S = 120  # a journal that is not committed by then is gone
_MOST = 2**63 - 1  # as SQLite's, so that a site can move there
_COMPACTED = "compacted"


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
        self._head_mod = -1  # not known
        self._last_id = b""  # what we have last put there, or tried to
        self._seen: list[Row] | None = None  # by the last write that failed
        self._term = 0  # the newest that we know of
        self._in_doubt = False  # a write may be under way still
        self._odd: dict[str, Row] = {}  # entries whose version is not their mod, as last seen
        self._lock = Lock(place, lock_file)

    def read(self, key: str) -> tuple[bytes | None, int]:
        self._settle()
        while True:
            rows, journal, revision = self._entries([key])
            if journal:
                self._carry_out(journal)
                continue
            row = rows[0]
            if not row.parts:
                return row.value, row.version
            value = self._joined(row, revision)
            if value is not None:
                return value, row.version

    def scan(self, prefix: str, after: str = "", most: int = -1) -> list[tuple[str, bytes, int]]:
        self._settle()
        while True:
            found = self._scan(prefix, after, most)
            if found is not None:
                return found

    def compare_and_swap(self, changes: list[Change], term: int | None) -> int:
        self._settle()
        changes = [(key, version, _octets(value)) for key, version, value in changes]
        swap = self._swap if is_small(changes) else self._swap_by_journal
        done = None
        while done is None:
            done = swap(changes, term)
        for key, _, _ in changes:
            if done:
                self._odd.pop(key, None)
        return done

    def reserve(self, name: str, n: int) -> int:
        if n < 1:
            raise ValueError("reserve at least one number")
        self._settle()
        key = self._at("n/" + name)
        seen = self._client.transact([], [get(key)]).rows[0]
        while True:
            first = int(seen[0].value) if seen else 0
            if first + n > _MOST:
                raise Problem(f"The numbers called {name} in {self.place.url} are used up.")
            compares = [has_mod(key, seen[0].mod if seen else 0), *self._held()]
            success = [put(key, b"%d" % (first + n))]
            failure = [get(key), get(self._at("lock")), get(self._at("head"))]
            done = self._client.transact(compares, success, failure)
            if done.is_done:
                return first
            seen, lock, head = done.rows
            self._check_lock(lock, head)

    def acquire_term(self, owner: str) -> int:
        self._settle()
        while True:
            self._look()
            id, term = os.urandom(8), self._term + 1
            success = [
                put(self._at("head"), id),
                put(self._at("term"), b"%d" % term),
                put(self._at("owner"), owner.encode()),
            ]
            if self._write(id, [], success):
                return term

    def lock(self, owner: str) -> None:
        self._settle()
        if self._lock.take(self._client, owner):
            try:
                self._bump()
                site = self._client.transact([], [get(self._at("site"))]).rows[0]
                _check(self.place.url, site[0].value if site else b"", self.id)
            except BaseException:
                self._lock.give_back(self._client)
                raise

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
        said = {"covey": etcdrows.SCHEMA, "id": self.id, "moved": where}
        self._client.transact([], [put(self._at("site"), json.dumps(said).encode())])

    # One transaction

    def _swap(self, changes: list[Change], term: int | None) -> int | None:
        """None: look again."""
        if self._head_mod < 0:
            self._look()
        rows = [self._expected(key, version) for key, version, _ in changes]
        compares = [
            has_mod(self._at("e/" + key), row.mod)
            for (key, _, _), row in zip(changes, rows, strict=True)
        ]
        id = os.urandom(8)
        success = [put(self._at("head"), id)]
        for (key, _, value), row in zip(changes, rows, strict=True):
            where = self._at("e/" + key)
            success.append(delete(where) if value is None else put(where, plain(value)))
            if row.parts:
                success.append(delete(*parts_of(self._prefix, row.version, row.number)))
        done = self._write(id, compares, success, term, [key for key, _, _ in changes])
        if done:
            return done
        return None if self._is_expected(changes) else 0

    def _write(
        self, id: bytes, compares: list, success: list, term: int | None = None, keys: list = ()
    ) -> int:
        """The revision of what was written; 0 where it wasn't: what is there has been seen."""
        always = [has_mod(self._at("head"), self._head_mod), was_made(self._at("journal"), 0)]
        if term is not None:
            always.append(has_value(self._at("term"), b"%d" % term))
        failure = [get(self._at(name)) for name in ("head", "journal", "lock", "term", "owner")]
        failure += [get(self._at("e/" + key)) for key in keys]
        self._in_doubt, self._last_id = True, id
        done = self._client.transact([*always, *self._held(), *compares], success, failure)
        self._in_doubt = False
        if done.is_done:
            self._head_mod = done.revision
            return done.revision
        head, journal, lock, newest, owner = done.rows[:5]
        if head and head[0].value == id:  # an attempt before had been done
            self._head_mod = head[0].mod
            return self._head_mod
        self._check_lock(lock, head)
        has_moved = self._head_mod != (head[0].mod if head else 0)
        self._believe(head, newest)
        if has_moved and self._client.tries > 1:
            raise Problem(f"{self.place.url} doesn't say whether it has written that: look again.")
        if term is not None and term != self._term:
            name = owner[0].value.decode() if owner else "unknown"
            raise Fenced(f"Another key server ({name}) has taken over {self.place.url}: stopping.")
        if journal:
            self._carry_out(journal[0])
            self._seen = None
        else:
            self._seen = [row_of(found[0] if found else Found()) for found in done.rows[5:]]
        for key, row in zip(keys, self._seen or (), strict=False):
            self._note(key, row)
        return 0

    def _expected(self, key: str, version: int) -> Row:
        row = self._odd.get(key)
        return row if row and row.version == version else Row(None, version, version)

    def _is_expected(self, changes: list[Change]) -> bool:
        """As it was seen by the last write that failed."""
        if self._seen is None:
            return True
        expected = [version for _, version, _ in changes]
        return [row.version for row in self._seen] == expected

    # More than one transaction

    def _swap_by_journal(self, changes: list[Change], term: int | None) -> int | None:
        self._look()
        rows: list[Row] = []
        revision = 0
        for at in range(0, len(changes), _ROWS):
            keys = [key for key, _, _ in changes[at : at + _ROWS]]
            found, journal, revision = self._entries(keys, revision)
            if journal:
                self._carry_out(journal)
                return None
            rows += found
        is_expected = all(
            row.version == version for row, (_, version, _) in zip(rows, changes, strict=True)
        )
        cut = etcdrows.split(etcdrows.pack(changes, rows))
        if len(cut) > MOST_PARTS:
            raise Problem(f"{self.place.url} can't take so much at once: it was not written.")
        name = os.urandom(8).hex()
        start = self._at(f"j/{name}/")
        lease = self._client.grant(_STAGED_S)
        try:
            for i in range(len(cut) if is_expected else 0):
                self._client.transact([], [put(part(start, i), cut[i], lease)])
            id = os.urandom(8)
            said = json.dumps({"id": name, "parts": len(cut)}).encode()
            success = [put(self._at("head"), id), put(self._at("journal"), said)]
            success += [keep(part(start, i)) for i in range(len(cut))]
            never = [] if is_expected else [was_made(self._at("site"), 0)]
            version = self._write(id, never, success, term)
        finally:
            self._client.revoke(lease)
        if not is_expected:
            return 0
        if not version:
            return None
        self._carry_out(Found(said, version))
        return version

    def _carry_out(self, journal: Found) -> None:
        """Until it is done, by us or others."""
        said = json.loads(journal.value)
        is_ours, self._head_mod = self._head_mod == journal.mod, -1
        start, end = span(self._at(f"j/{said['id']}/"))
        is_there = [has_mod(self._at("journal"), journal.mod)]
        parts = []
        for i in range(said["parts"]):
            got = self._client.transact(is_there, [get(part(start, i))])
            if not got.is_done:
                return
            parts.append(got.rows[0][0].value)
        applied = self._at("applied")
        for i, ops in enumerate(etcdrows.portions(self._prefix, journal.mod, b"".join(parts))):
            turn = has_value(applied, b"%d" % i) if i else was_made(applied, 0)
            self._client.transact([*is_there, turn], [*ops, put(applied, b"%d" % (i + 1))])
        whole = [*is_there, has_value(applied, b"%d" % (i + 1))]
        ends = [delete(self._at("journal")), delete(applied), delete(start, end)]
        done = self._client.transact(whole, [*ends, put(self._at("head"), os.urandom(8))])
        if done.is_done and is_ours:
            self._head_mod = done.revision

    # Reading

    def _look(self) -> None:
        while True:
            names = [get(self._at(name)) for name in ("head", "term", "journal", "lock")]
            head, term, journal, lock = self._client.transact([], names).rows
            self._check_lock(lock, head)
            self._believe(head, term)
            if not journal:
                return
            self._carry_out(journal[0])

    def _believe(self, head: list[Found], term: list[Found]) -> None:
        self._head_mod = head[0].mod if head else 0
        self._term = int(term[0].value) if term else 0

    def _entries(self, keys: list[str], revision: int = 0) -> tuple[list[Row], Found | None, int]:
        """Without their parts → also a journal that comes before, and the revision of all."""
        ops = [get(self._at("e/" + key), revision=revision) for key in keys]
        answer = self._client.transact([], [*ops, get(self._at("journal"))])
        rows = [row_of(found[0] if found else Found()) for found in answer.rows[:-1]]
        for key, row in zip(keys, rows, strict=True):
            self._note(key, row)
        journal = answer.rows[-1]
        return rows, journal[0] if journal else None, revision or answer.revision

    def _note(self, key: str, row: Row) -> None:
        if row.version != row.mod:
            self._odd[key] = row
        else:
            self._odd.pop(key, None)

    def _joined(self, row: Row, revision: int) -> bytes | None:
        """A value in parts; None where it was replaced, and etcd has forgotten it."""
        start, _ = parts_of(self._prefix, row.version, row.number)
        value = bytearray()
        for i in range(row.parts):
            answer = self._past([get(part(start, i), revision=revision)])
            if answer is None or not answer.rows[0]:
                return None
            value += answer.rows[0][0].value
        return bytes(value)

    def _scan(self, prefix: str, after: str, most: int) -> list[tuple[str, bytes, int]] | None:
        start = self._at("e/" + prefix)
        end = start + b"\x7f"  # keys are ASCII: nothing sorts above
        if after > prefix:
            start = self._at("e/" + after) + b"\0"
        rows: list[tuple[str, bytes, int]] = []
        revision, skip = 0, len(self._at("e/"))
        while (most < 0 or len(rows) < most) and start < end:
            limit = _PAGE if most < 0 else min(_PAGE, most - len(rows))
            asked = [get(start, end, limit, revision), get(self._at("journal"), revision=revision)]
            answer = self._past(asked)
            if answer is None:
                return None
            found, journal = answer.rows
            if journal:
                self._carry_out(journal[0])
                return None
            revision = revision or answer.revision
            for each in found:
                row, key = row_of(each), each.key[skip:].decode()
                self._note(key, row)
                value = self._joined(row, revision) if row.parts else row.value
                if value is None:
                    return None
                rows.append((key, value, row.version))
            if len(found) < limit:
                break
            start = found[-1].key + b"\0"
        return rows

    def _past(self, asked: list) -> Answer | None:
        """None where etcd has compacted that moment away."""
        try:
            return self._client.transact([], asked)
        except Problem as problem:
            if _COMPACTED not in problem.sentence:
                raise
            return None

    # Locks and doubts

    def _settle(self) -> None:
        """Before anything else after a write whose outcome is not known: let it be too late."""
        if self._in_doubt:
            self._bump()

    def _bump(self) -> None:
        names = [get(self._at(name)) for name in ("lock", "head")]
        while True:
            id = os.urandom(8)
            done = self._client.transact(self._held(), [put(self._at("head"), id)], names)
            if done.is_done:
                break
            self._check_lock(*done.rows)
        self._in_doubt, self._last_id, self._head_mod = False, id, done.revision

    def _held(self) -> list[dict]:
        return [was_made(self._at("lock"), self._lock.made)] if self._lock.made else []

    def _check_lock(self, lock: list[Found], head: list[Found]) -> None:
        """Fenced where it was ours, and somebody may have written since it went."""
        if not self._lock.made or (lock and lock[0].create == self._lock.made):
            return
        is_ours = head and (head[0].mod == self._head_mod or head[0].value == self._last_id)
        self._lock.take_again(self._client, lock, head[0].mod if is_ours else 0)

    def _at(self, name: str) -> bytes:
        return self._prefix + name.encode()


def _octets(value: bytes | None) -> bytes | None:
    return None if value is None else bytes(value)


def _check(url: str, site: bytes, id: str) -> str:
    """The ID of the site that is there. Problem where that is not to be worked on."""
    try:
        said = json.loads(site)
        schema, found, moved = int(said["covey"]), str(said["id"]), said.get("moved")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Problem(f"{url} is not a Covey store: name another place.") from None
    if schema > etcdrows.SCHEMA:
        raise Problem(f"{url} was written by a newer Covey (schema {schema}): use that version.")
    if schema < etcdrows.SCHEMA:
        raise Problem(f"{url} has schema {schema}, which no Covey wrote: name another place.")
    if moved:
        raise Problem(f"The site in {url} has moved to {moved}: work there.")
    if id and found != id:
        raise Problem(f"{url} holds another site: each has its own name behind the nodes.")
    return found
