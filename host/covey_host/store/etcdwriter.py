"""How one process writes to etcd: all or nothing, once, and not after it was given up.

Every write compares this process's own head as it knows it, and puts a new one: a write that is
still under way somewhere when its outcome was given up can't be done any more once this process
has written anew, and it does so before anything else. Other processes have heads of their own:
between them versions decide, and the term.

A head is 8 random octets and the number (4) of writes of entries under it. Each of these also
puts c/NAME/(number % SLOTS): the keys that it wrote, so that who asks for what has changed need
not look at all keys. Where all slots of a name are newer than what it knows, some may have been
written over, and it must look at all.
"""

import os
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import Problem
from . import Fenced
from .etcdclient import Client, Found, get, has_mod, has_value, put, was_made
from .etcdlock import Lock
from .etcdrows import span

SLOTS = 32
EVERY_KEY = b"*"  # in a slot: they are too many to be named
_MOST_KEYS_LEN = 8 << 10
_ID_LEN = 8


class Written(NamedTuple):
    revision: int  # 0: not written
    rows: list[list[Found]] = []  # of what was asked for in that case
    journal: Found | None = None  # which has to be carried out first


class Writer:
    def __init__(self, client: Client, url: str, prefix: bytes, lock: Lock):
        self.name = ""  # of a replica; the others have one head for all
        self.lock = lock
        self._client = client
        self._url = url
        self._prefix = prefix
        self._mod = -1  # of our head; not known
        self._count = 0
        self._last_id = b""  # what we have last put there, or tried to
        self._in_doubt = False  # a write may be under way still

    def at(self, name: str) -> bytes:
        return self._prefix + name.encode()

    @property
    def head(self) -> bytes:
        return self.at("head/" + self.name)

    def settle(self) -> None:
        """Before anything else after a write whose outcome is not known: let it be too late."""
        if self._in_doubt:
            self.bump()

    def bump(self) -> Found:
        """A write of nothing → the head that was there before."""
        while True:
            names = [get(self.head), get(self.lock.key)]
            head, lock = self._client.transact([], names).rows
            self.check_lock(lock, head)
            self._believe(head)
            id, always = os.urandom(_ID_LEN), [has_mod(self.head, self._mod), *self.lock.held()]
            done = self._client.transact(always, self._puts(id, b""), names[:1])
            if done.is_done or (done.rows[0] and done.rows[0][0].value.startswith(id)):
                break
        self._in_doubt, self._last_id, self._count = False, id, self._count + 1
        self._mod = done.revision if done.is_done else done.rows[0][0].mod
        return head[0] if head else Found()

    def write(
        self,
        compares: list,
        success: list,
        term: int | None = None,
        changed: bytes | None = None,
        failure: Iterable = (),
    ) -> Written:
        """All of it, if all compares hold. changed: the keys that are written, as named() says it;
        None: no entries are. Fenced where the term is not the newest."""
        if self._mod < 0:
            self._believe(self._client.transact([], [get(self.head)]).rows[0])
        always = [has_mod(self.head, self._mod), was_made(self.at("journal"), 0)]
        if term is not None:
            always.append(has_value(self.at("term"), b"%d" % term))
        names = [self.head, self.lock.key, *map(self.at, ("journal", "term", "owner"))]
        id = os.urandom(_ID_LEN)
        self._in_doubt, self._last_id = True, id
        done = self._client.transact(
            [*always, *self.lock.held(), *compares],
            [*self._puts(id, changed), *success],
            [*map(get, names), *failure],
        )
        self._in_doubt = not done.is_done and self._client.tries > 1
        if done.is_done:
            self._mod, self._count = done.revision, self._count + (changed is not None)
            return Written(done.revision)
        head, lock, journal, newest, owner = done.rows[:5]
        if head and head[0].value.startswith(id):  # an attempt before had been done
            self._in_doubt = False
            self._believe(head)
            return Written(self._mod)
        known = self._mod
        self.check_lock(lock, head)
        self._believe(head)
        if self._in_doubt:  # an attempt before may be under way: it's done by now, or too late
            before = self.bump()
            if before.value.startswith(id):
                return Written(before.mod)
            if before.mod != known:
                raise Problem(f"{self._url} doesn't say whether it has written that: look again.")
        if term is not None:
            self.check_term(term, newest, owner)
        return Written(0, done.rows[5:], journal[0] if journal else None)

    def check_term(self, term: int, newest: list[Found], owner: list[Found]) -> None:
        if term != (int(newest[0].value) if newest else 0):
            name = owner[0].value.decode() if owner else "unknown"
            raise Fenced(f"Another key server ({name}) has taken over {self._url}: stopping.")

    def check_lock(self, lock: list[Found], head: list[Found]) -> None:
        """Take it anew where it was ours and went. Ousted where others may have it."""
        if not self.lock.made or (lock and lock[0].create == self.lock.made):
            return
        is_ours = head and (head[0].mod == self._mod or head[0].value.startswith(self._last_id))
        self.lock.take_again(self._client, lock, self.head, head[0].mod if is_ours else 0)

    def guard(self) -> list[dict]:
        """What holds unless others act in our place, or etcd is an older copy of itself."""
        return [*self.lock.held(), *([has_mod(self.head, self._mod)] if self._mod >= 0 else [])]

    def look(self, head: list[Found], lock: list[Found]) -> None:
        """As guard() has failed."""
        self.check_lock(lock, head)
        self._believe(head)

    def forget(self, name: str) -> None:
        """From now on we write under this name."""
        self.name, self._mod, self._in_doubt = name, -1, False

    def _believe(self, head: list[Found]) -> None:
        mod = head[0].mod if head else 0
        if self.name and mod < self._mod:  # nobody else writes there
            raise self._client.went_back()
        self._mod = mod
        self._count = int.from_bytes(head[0].value[_ID_LEN:], "big") if head else 0

    def _puts(self, id: bytes, changed: bytes | None) -> list:
        count = (self._count + (changed is not None)) & 0xFFFFFFFF
        puts = [put(self.head, id + count.to_bytes(4, "big"))]
        if changed is not None:
            slot = self.at(f"c/{self.name}/{count % SLOTS:02d}")
            puts.append(put(slot, changed))
        return puts


def named(keys: Iterable[str]) -> bytes:
    text = "\n".join(keys).encode()
    return text if len(text) <= _MOST_KEYS_LEN else EVERY_KEY


def keys_in(slots: list[Found]) -> set[str] | None:
    """Which keys those slots name, that are newer than what is known; None: any may be."""
    of_name: dict[bytes, int] = {}
    keys: set[str] = set()
    for slot in slots:
        name = slot.key.rpartition(b"/")[0]
        of_name[name] = of_name.get(name, 0) + 1
        if slot.value == EVERY_KEY or of_name[name] == SLOTS:
            return None
        keys.update(slot.value.decode().split("\n") if slot.value else ())
    return keys


def slots(prefix: bytes, since: int) -> dict:
    """All that are newer."""
    return get(*span(prefix + b"c/"), since=since)
