"""The key server's hand on the store: reads and remembers versions, writes all or nothing.

State in memory follows the store and never leads it: a change is written first, then believed,
then told to anyone. After a failed write the outcome is unknown: the owner reads its keys again.

Where several key servers share the store, a write of a group's rows takes the group's turn, too
(turns.py), and compares what its writer rests on besides. Who was not the first to write has
written nothing, and hears so (Moved): it catches up, and does its work again.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import Problem
from ..store import KEEP, Change, Fenced, Ousted, Store
from . import turns
from .turns import Turn
from .versions import Versions

_PAGE = 1000  # keys that are read at once, where there may be very many
_GROUP = "group/"
_KEPT = "authority/member/"  # rows that every registration asks for
_MOST_KEPT = 20_000
_ROOM = 60  # rows that are written, and compared, at once: a store has a limit

Changes = dict[str, bytes | None]  # key → the new value; None deletes


class Moved(Problem):
    """Another key server has written meanwhile, and this one nothing: catch up, and try again."""


class Ledger:
    def __init__(self, store: Store, term: int | None = None, *, is_shared: bool = False):
        """term: of the running key server; None for a command that works without one, and where
        this is no holder. is_shared: others write, too."""
        self._store = store
        self.term = term
        self.is_shared = is_shared
        self.is_fenced = False  # a newer term was met inside together(): see there
        self._versions = Versions()
        # Inside together(): what is written when it ends, what was read, how that was lost.
        self._later: Changes | None = None
        self._seen: dict[str, bytes | None] = {}
        self._lost: Problem | None = None
        # Only where it is shared. The turns that are known, by group/NAME/; what the next write,
        # or all of together(), rests on; what takes back from memory what was not written yet.
        self._turns: dict[str, Turn] = {}
        self._rests: dict[str, int] = {}
        self._undos: list[Callable[[bool], None]] = []
        self._kept: dict[str, tuple[bytes, int]] = {}  # rows, until somebody writes them
        self.on_written: Callable[[], None] = lambda: None  # what together() holds back until now

    def read(self, key: str) -> bytes | None:
        if self._later is not None:
            if key in self._later:
                return self._later[key]
            if key in self._seen:
                return self._seen[key]
        value, version = self._kept.get(key) or self._store.read(key)
        self._note(key, value, version)
        if self._later is not None:
            self._seen[key] = value
        return value

    def read_many(self, keys: list[str]) -> dict[str, bytes | None]:
        """As read() of each; asked for at once, where the store is far away."""
        known = self._seen | self._later if self._later is not None else {}
        unknown = [key for key in keys if key not in known]
        rows = {key: self._kept[key] for key in unknown if key in self._kept}
        far = [key for key in unknown if key not in rows]
        if far:
            rows |= zip(far, self._store.read_many(far), strict=True)
        found = {key: known[key] for key in keys if key in known}
        for key, (value, version) in rows.items():
            self._note(key, value, version)
            found[key] = value
        if self._later is not None:
            self._seen |= {key: found[key] for key in unknown}
        return found

    def scan(self, prefix: str) -> dict[str, bytes]:
        """Key without the prefix → value."""
        rows = self._store.scan(prefix)
        if prefix in self._turns:
            self._versions.forget_group(prefix)
        for key, _, version in rows:
            self._versions.put(key, version)
        found = {key[len(prefix) :]: value for key, value, _ in rows}
        if self.is_shared and prefix.startswith(_GROUP):
            self._turns[prefix] = turns.parsed(found.get("turn"))
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
        one. Problem: it may or may not have happened; Moved: it has not.

        A key that was never read is taken to be absent. Fenced: another key server took over.
        Where others write, too, what is for later is what each of them may write, term or not.
        """
        if self._lost is not None:
            kind = Moved if isinstance(self._lost, Moved) else Problem
            raise kind("A write before this one was lost: try again.")
        if later and self._later is not None:
            self._later |= changes
        elif changes and not self._later:
            try:
                self._swap(changes, is_anybodys=later)
            except Moved as moved:
                self._lost = None if self._later is None else moved
                raise
        elif changes:
            self._write_all(self._later | changes)

    @contextmanager
    def together(self):
        """What is written for later in here is written at once when it ends, or with the next
        write that is not for later. Where it ends with a Problem, what was held back is to be
        read again, and nobody may have heard of it: undo(). What was read once is not asked for
        again: either no other program writes meanwhile, or what it rests on is compared.

        Fenced by a write in here is Moved, and is_fenced, where the store is shared: what was
        asked for is done again, as any other key server may.
        """
        self._later, self._seen = {}, {}
        self._rests.clear()
        try:
            yield
            if isinstance(self._lost, Moved):
                raise Moved(self._lost.sentence)
            if self._lost is not None:
                raise Problem("What members asked for was not written.")
            if self._later or self._rests:
                self._write_all(self._later, is_anybodys=True)
        finally:
            self._later, self._lost = None, None
            self._seen.clear()
            self._rests.clear()

    def _write_all(self, changes: Changes, *, is_anybodys: bool = False) -> None:
        """With all that was held back."""
        self._later = {}
        try:
            self._swap(changes, is_anybodys=is_anybodys)
        except Problem as problem:
            self._lost = problem
            raise
        except BaseException:
            self._lost = Problem("It was not written to its end.")
            raise

    def _swap(self, changes: Changes, *, is_anybodys: bool) -> None:
        taken = self._taken_turns(changes) if self.is_shared else {}
        changes = changes | {key: turns.emitted(turn) for key, turn in taken.items()}
        known = {key: self._versions.get(key) for key in changes} | self._rests
        expected: list[Change] = [(key, known[key], changes.get(key, KEEP)) for key in known]
        self._versions.forget(changes)
        for key in changes:
            self._seen.pop(key, None)
            self._kept.pop(key, None)
        term = None if self.is_shared and is_anybodys else self.term
        try:
            version = self._store.compare_and_swap(expected, term)
        except Fenced as fenced:
            if self._later is None or not self.is_shared or isinstance(fenced, Ousted):
                raise
            self.is_fenced, version = True, 0
            said = fenced.sentence
        else:
            said = "The store was changed by another program: try again."
        if not version:
            if not self.is_shared:
                raise Problem(said)
            for key in changes:
                if known[key]:
                    self._versions.put(key, known[key])
            raise Moved(said)
        for key, value in changes.items():
            if value is not None:
                self._versions.put(key, version)
        if self.is_shared:
            self._turns |= {key.removesuffix("turn"): turn for key, turn in taken.items()}
            self._undos.clear()
            if self._later is None:
                self._rests.clear()
            for key in self._rests.keys() & changes.keys():
                self._rests[key] = version
            if self._later is not None:
                self.on_written()

    def forget(self, keys: Iterable[str]) -> None:
        """The versions of what is not written often: read it again before it is written."""
        self._versions.forget(keys)

    # Where others write, too

    def rests_on(self, key: str, version: int | None = None) -> None:
        """What is written next, or by together(), is written only if this row has this version,
        else the one that it had when it was read last."""
        if self.is_shared and key not in self._rests:
            self._rests[key] = self.version(key) if version is None else version

    def rest_no_more(self) -> None:
        """What was to be written is not."""
        self._rests.clear()

    def make_room(self) -> None:
        """Write what together() holds back, if that is much; what comes next rests on none of it.
        Moved: it is lost."""
        if self._later and self._lost is None and len(self._later) + len(self._rests) > _ROOM:
            self._write_all(self._later, is_anybodys=True)
            self._rests.clear()

    def on_lost(self, undo: Callable[[bool], None]) -> None:
        """Of what was believed before it was written, by together(): called by undo()."""
        self._undos.append(undo)

    def undo(self, is_known: bool) -> None:
        """What together() held back was not written; is_known: for certain."""
        while self._undos:
            self._undos.pop()(is_known)

    def move(self, why: str) -> None:
        """Moved: what is held back by together() was decided by other rows."""
        self._lost = Moved(why)
        raise self._lost

    def has_later(self, prefix: str) -> bool:
        """Whether together() holds something back under this."""
        return any(key.startswith(prefix) for key in self._later or ())

    def turn(self, prefix: str) -> Turn:
        """Of group/NAME/, as it was known last."""
        return self._turns.get(prefix, Turn())

    def version(self, key: str) -> int:
        """As it was known last; 0: there was none."""
        return self._versions.get(key)

    def drop(self, keys: Iterable[str]) -> None:
        """Others have written these rows: what is kept of them is not what they are."""
        for key in keys:
            self._kept.pop(key, None)

    def take(self, key: str, version: int) -> None:
        """Another has written this row, and its reader knows now what stands there."""
        self._versions.put(key, version)

    def take_turn(self, prefix: str, turn: Turn, gone: Iterable[str]) -> None:
        """All that was written up to this turn is known now; gone: rows that it deleted."""
        self._turns[prefix] = turn
        self.forget(prefix + tail for tail in gone)

    def _taken_turns(self, changes: Changes) -> dict[str, Turn]:
        """Of each group that has rows among these: key → its next turn."""
        deleted: dict[str, list[str]] = {}
        for key, value in changes.items():
            if key.startswith(_GROUP):
                end = key.index("/", len(_GROUP)) + 1
                gone = deleted.setdefault(key[:end], [])
                if value is None:
                    gone.append(key[end:])
        return {at + "turn": self.turn(at).after(gone) for at, gone in deleted.items()}

    def _note(self, key: str, value: bytes | None, version: int) -> None:
        """It was read."""
        if value is None:
            self._versions.forget([key])  # names from the network leave nothing behind
            return
        self._versions.put(key, version)
        if self.is_shared and key.startswith(_KEPT):
            self._keep(key, value, version)

    def _keep(self, key: str, value: bytes, version: int) -> None:
        """It may be out of date: whoever gives out keys by it compares it."""
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        self._kept[key] = value, version


def encode(fields: dict[str, Any]) -> bytes:
    """Plain values as JSON, octets among them as hexadecimal text."""
    return _emit(fields).encode()


def decode(value: bytes) -> dict[str, Any]:
    return json.loads(value)


def _hex(value: Any) -> str:
    if not isinstance(value, bytes | bytearray):
        raise TypeError(type(value).__name__)
    return value.hex()


_emit = json.JSONEncoder(default=_hex, separators=(",", ":")).encode
