"""The key server's hand on the store: reads and remembers versions, writes all or nothing.

State in memory follows the store and never leads it: a change is written first, then believed,
then told to anyone. After a failed write the outcome is unknown: the owner reads its keys again.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import Problem
from ..store import Store

_PAGE = 1000  # keys that are read at once, where there may be very many

Changes = dict[str, bytes | None]  # key → the new value; None deletes


class Ledger:
    def __init__(self, store: Store, term: int | None = None):
        """term: of the running key server; None for a command that works without one."""
        self._store = store
        self.term = term
        self._versions: dict[str, int] = {}
        # Inside together(): what is written when it ends, what was read, whether that was lost.
        self._later: Changes | None = None
        self._seen: dict[str, bytes | None] = {}
        self._is_lost = False

    def read(self, key: str) -> bytes | None:
        if self._later is not None:
            if key in self._later:
                return self._later[key]
            if key in self._seen:
                return self._seen[key]
        value, version = self._store.read(key)
        if value is None:
            self._versions.pop(key, None)  # names from the network leave nothing behind
        else:
            self._versions[key] = version
        if self._later is not None:
            self._seen[key] = value
        return value

    def scan(self, prefix: str) -> dict[str, bytes]:
        """Key without the prefix → value."""
        rows = self._store.scan(prefix)
        self._versions.update((key, version) for key, _, version in rows)
        found = {key[len(prefix) :]: value for key, value, _ in rows}
        for key, value in (self._later or {}).items():
            if key.startswith(prefix):
                found[key[len(prefix) :]] = value
        return {key: value for key, value in found.items() if value is not None}

    def each(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Key without the prefix, and value, by key, however many there are: none of it is kept
        in memory, nor can it be written on the strength of this. What together() holds back is
        not in it."""
        after = ""
        while rows := self._store.scan(prefix, after, _PAGE):
            for after, value, _ in rows:
                yield after[len(prefix) :], value

    def write(self, changes: Changes, *, later: bool = False) -> None:
        """All of it is durable when this returns; later: when together() ends, where this is in
        one. Problem: it may or may not have happened.

        A key that was never read is taken to be absent. Fenced: another key server took over.
        """
        if self._is_lost:
            raise Problem("A write before this one was lost: try again.")
        if later and self._later is not None:
            self._later |= changes
        elif changes and not self._later:
            self._swap(changes)
        elif changes:
            self._write_all(self._later | changes)

    @contextmanager
    def together(self):
        """What is written for later in here is written at once when it ends, or with the next
        write that is not for later. Where it ends with a Problem, what was held back is to be
        read again, and nobody may have heard of it. No other program writes meanwhile: what was
        read once is not asked for again."""
        self._later, self._seen = {}, {}
        try:
            yield
            if self._is_lost:
                raise Problem("What members asked for was not written.")
            if self._later:
                self._write_all(self._later)
        finally:
            self._later, self._is_lost = None, False
            self._seen.clear()

    def _write_all(self, changes: Changes) -> None:
        """With all that was held back."""
        self._is_lost, self._later = True, {}
        self._swap(changes)
        self._is_lost = False

    def _swap(self, changes: Changes) -> None:
        expected = [(key, self._versions.get(key, 0), value) for key, value in changes.items()]
        for key in changes:
            self._versions.pop(key, None)
            self._seen.pop(key, None)
        version = self._store.compare_and_swap(expected, self.term)
        if not version:
            raise Problem("The store was changed by another program: try again.")
        self._versions |= {key: version for key, value in changes.items() if value is not None}

    def forget(self, keys: Iterable[str]) -> None:
        """The versions of what is not written often: read it again before it is written."""
        for key in keys:
            self._versions.pop(key, None)


def encode(fields: dict[str, Any]) -> bytes:
    """Plain values as JSON, octets among them as hexadecimal text."""
    return json.dumps(fields, default=_hex, separators=(",", ":")).encode()


def decode(value: bytes) -> dict[str, Any]:
    return json.loads(value)


def _hex(value: Any) -> str:
    if not isinstance(value, bytes | bytearray):
        raise TypeError(type(value).__name__)
    return value.hex()
