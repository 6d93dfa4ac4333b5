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
        self._later: set[str] | None = None  # inside together(): what was written for later

    def read(self, key: str) -> bytes | None:
        value, version = self._store.read(key)
        if value is None:
            self._versions.pop(key, None)  # names from the network leave nothing behind
        else:
            self._versions[key] = version
        return value

    def scan(self, prefix: str) -> dict[str, bytes]:
        """Key without the prefix → value."""
        rows = self._store.scan(prefix)
        self._versions.update((key, version) for key, _, version in rows)
        return {key[len(prefix) :]: value for key, value, _ in rows}

    def each(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Key without the prefix, and value, by key, however many there are: none of it is kept
        in memory, nor can it be written on the strength of this."""
        after = ""
        while rows := self._store.scan(prefix, after, _PAGE):
            for after, value, _ in rows:
                yield after[len(prefix) :], value

    def write(self, changes: Changes, *, later: bool = False) -> None:
        """All of it is durable when this returns; later: when together() ends, if this is inside.
        Problem: it may or may not have happened.

        A key that was never read is taken to be absent. Fenced: another key server took over.
        """
        if not changes:
            return
        expected = [(key, self._versions.get(key, 0), value) for key, value in changes.items()]
        for key in changes:
            self._versions.pop(key, None)
        later = later and self._later is not None
        how = {"later": True} if later else {}
        version = self._store.compare_and_swap(expected, self.term, **how)
        if not version:
            raise Problem("The store was changed by another program: try again.")
        self._versions |= {key: version for key, value in changes.items() if value is not None}
        if later:
            self._later.update(changes)

    @contextmanager
    def together(self):
        """What is written for later in here is durable when it has ended. Where it ends with a
        Problem, what was written so is to be read again, and nobody may hear of it."""
        self._later = set()
        try:
            with self._store.together():
                yield
        except BaseException:
            self.forget(self._later)
            raise
        finally:
            self._later = None

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
