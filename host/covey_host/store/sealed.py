"""Values sealed under the site key: a layer over any store, so that who reads the store, or a copy
of it, learns no key and no fact but names, versions and lengths.

    value = magic (4) | key ID (8) | nonce (12) | AES-256-GCM-SIV, tag at the end
    associated data = b"covey store " | the value's own key
    "seal/state" = b"changing": some values may be under older keys, or plain; b"settled": none is

So no value can be put in another one's place. It can be put back in its own place: a version
would not hinder that, for who can write values can write versions. RFC 8452 in place of AES-GCM
since a machine that is rolled back may draw the same nonce again: then equal values look equal,
and that is all. Keys of the store, versions, counters, terms and runs are in clear. What replicas
say of themselves is sealed as if it were the value of "lead" or "replica/NAME"; what can't be
opened was not said.
"""

import os
from collections.abc import Callable, Mapping, Sequence

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from ..errors import Problem
from . import KEEP, Change, Changed, Lead, Replica, Store, Value

_MAGIC = b"\x93cvs"
_ID_LEN = 8
_NONCE_LEN = 12
_HEAD_LEN = len(_MAGIC) + _ID_LEN + _NONCE_LEN
_ASSOCIATED = b"covey store "
_STATE = "seal/state"
_LEAD, _REPLICA = "lead", "replica/"  # no keys of the store
_CHANGING, _SETTLED = b"changing", b"settled"
_PAGE = 100  # values that are sealed anew in one write
_KEPT = 64  # values that are kept open,
_KEPT_LEN = 4096  # if they are no longer than that


class Seal:
    """One key of 32 octets, and the ID of 8 octets by which values say that they are under it."""

    def __init__(self, key: bytes, id: bytes):
        try:
            self._cipher = AESGCMSIV(key)
        except UnsupportedAlgorithm:
            raise Problem(
                "This Python's cryptography has no AES-GCM-SIV: it needs OpenSSL 3.2 or newer."
            ) from None
        self._head = _MAGIC + id

    def has_made(self, value: bytes) -> bool:
        return value.startswith(self._head)

    def close(self, key: str, value: bytes) -> bytes:
        nonce = os.urandom(_NONCE_LEN)
        return self._head + nonce + self._cipher.encrypt(nonce, value, _bound(key))

    def open(self, key: str, sealed: bytes) -> bytes | None:
        """None where it was altered, or is of another key of the store."""
        nonce = sealed[len(_MAGIC) + _ID_LEN : _HEAD_LEN]
        try:
            return self._cipher.decrypt(nonce, sealed[_HEAD_LEN:], _bound(key))
        except (InvalidTag, ValueError):
            return None


def is_sealed(value: bytes) -> bool:
    """Under whichever key."""
    return value.startswith(_MAGIC)


class SealedStore:
    """Implements covey_host.store.Store over another one.

    older, takes_plain: what values may be under besides the newest seal, unless the store itself
    says, under a seal, that this is over. All of that is sealed anew by whoever takes the lock,
    then settled() is called; killed before, or where that raises Problem, it is begun again.
    first: key → value that a plain store gets with its seal, unless it has that.
    """

    def __init__(
        self,
        store: Store,
        newest: Seal,
        older: Sequence[Seal] = (),
        takes_plain: bool = False,
        settled: Callable[[], None] = lambda: None,
        first: Mapping[str, bytes] | None = None,
    ):
        self._store = store
        self._newest = newest
        self._older = tuple(older)
        self._takes_plain = takes_plain
        self._settled = settled
        self._first = dict(first or {})
        self._is_given_more = bool(older) or takes_plain
        self._name = ""  # as which replica
        # key → (sealed, plain) as last read or written: a registration asks for its member's row
        # again and again, and for what it has just written
        self._kept: dict[str, tuple[bytes, bytes]] = {}
        if self._is_given_more:
            self._heed_state()

    @property
    def is_settled(self) -> bool:
        """Whether no value is believed that is not under the newest seal."""
        return not self._older and not self._takes_plain

    def read(self, key: str) -> tuple[bytes | None, int]:
        return self._plain(key, *self._store.read(key))

    def read_many(self, keys: Sequence[str]) -> list[tuple[bytes | None, int]]:
        rows = self._store.read_many(keys)
        return [self._plain(key, *row) for key, row in zip(keys, rows, strict=True)]

    def scan(self, prefix: str, after: str = "", most: int = -1) -> list[tuple[str, bytes, int]]:
        rows = self._store.scan(prefix, after, most)
        return [(key, self._open(key, value), version) for key, value, version in rows]

    def compare_and_swap(self, changes: list[Change], term: int | None) -> int:
        sealed = [(key, expected, self._close(key, value)) for key, expected, value in changes]
        return self._store.compare_and_swap(sealed, term)

    def reserve(self, name: str, n: int) -> int:
        return self._store.reserve(name, n)

    def acquire_term(
        self, owner: str, seen: int | None = None, run: str | None = None, facts: bytes = b""
    ) -> int:
        return self._store.acquire_term(owner, seen, run, self._newest.close(_LEAD, facts))

    def changed(self, prefix: str, since: int) -> Changed:
        rows, revision, lead = self._store.changed(prefix, since)
        opened = [(key, self._open(key, value), version) for key, value, version in rows]
        return Changed(opened, revision, self._heard(lead))

    def beat(self, term: int, facts: bytes) -> None:
        self._store.beat(term, self._newest.close(_LEAD, facts))

    def present(self, facts: bytes) -> None:
        self._store.present(self._newest.close(_REPLICA + self._name, facts))

    def replicas(self) -> list[Replica]:
        return [
            each._replace(facts=self._said(_REPLICA + each.name, each.facts))
            for each in self._store.replicas()
        ]

    def join(self, name: str) -> None:
        self._store.join(name)
        self._name = name
        if self._is_given_more:
            self._heed_state()
            if not self.is_settled:
                raise Problem(
                    "The store is being sealed under another site key: finish that first, by"
                    " the command that began it."
                )
            self._settled()
            self._is_given_more = False

    def lock(self, owner: str) -> None:
        self._store.lock(owner)
        if self._is_given_more:
            self._heed_state()  # another one may have sealed all meanwhile
            if not self.is_settled:
                self._seal_anew()
            self._settled()
            self._is_given_more = False

    def seal_under(self, newest: Seal) -> None:
        """All values anew; only under the lock."""
        self._older, self._newest = (self._newest, *self._older), newest
        self._seal_anew()
        self._settled()

    def begin(self) -> None:
        """Of a new store: nothing in it was ever under anything else."""
        self._enter_state(_SETTLED)
        self._older, self._takes_plain = (), False

    def close(self) -> None:
        self._kept.clear()
        self._store.close()

    def _heard(self, lead: Lead) -> Lead:
        return lead._replace(facts=self._said(_LEAD, lead.facts))

    def _said(self, name: str, facts: bytes) -> bytes:
        return (self._newest.has_made(facts) and self._newest.open(name, facts)) or b""

    def _close(self, key: str, value: Value) -> Value:
        if value is KEEP:
            return KEEP
        if value is None:
            self._kept.pop(key, None)
            return None
        plain = bytes(value)
        sealed = self._newest.close(key, plain)
        self._keep(key, sealed, plain)
        return sealed

    def _keep(self, key: str, sealed: bytes, plain: bytes) -> None:
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        if len(plain) <= _KEPT_LEN:
            self._kept[key] = sealed, plain

    def _plain(self, key: str, value: bytes | None, version: int) -> tuple[bytes | None, int]:
        if value is None:
            return None, version
        sealed, plain = self._kept.get(key, (b"", b""))
        if sealed != value:
            plain = self._open(key, value)
            self._keep(key, value, plain)
        return plain, version

    def _open(self, key: str, value: bytes) -> bytes:
        for seal in (self._newest, *self._older):
            if seal.has_made(value):
                opened = seal.open(key, value)
                if opened is None:
                    raise Problem(f"{key} in the store was altered: restore a backup.")
                return opened
        if is_sealed(value):
            raise Problem(f"{key} in the store is sealed under another site key: bring that back.")
        if self._takes_plain:
            return value
        raise Problem(f"{key} in the store is not sealed: restore a backup.")

    def _heed_state(self) -> None:
        """Believe no more than the store's own state allows, whatever words were forgotten where
        the keys are given."""
        value, _ = self._store.read(_STATE)
        if value is None and self._has_new():
            value, _ = self._store.read(_STATE)  # somebody may just have begun
            if value is None:
                raise Problem(f"{_STATE} was taken out of the store: restore a backup.")
        if value is None:
            return
        takes_plain, self._takes_plain = self._takes_plain, False
        if self._open(_STATE, value) == _CHANGING:
            self._takes_plain = takes_plain
        elif self._newest.has_made(value):
            self._older = ()

    def _has_new(self) -> bool:
        after = ""
        while rows := self._store.scan("", after, _PAGE):
            if any(self._newest.has_made(value) for _, value, _ in rows):
                return True
            after = rows[-1][0]
        return False

    def _seal_anew(self) -> None:
        if self._store.read(_STATE)[0] is None:
            self._enter_state(_CHANGING)
        after = ""
        while rows := self._store.scan("", after, _PAGE):
            changes = [
                (key, version, self._newest.close(key, self._open(key, value)))
                for key, value, version in rows
                if key != _STATE and not self._newest.has_made(value)
            ]
            if not changes or self._store.compare_and_swap(changes, None):
                after = rows[-1][0]  # else somebody has written meanwhile: look again
        for key, value in self._first.items() if self._takes_plain else ():
            self._store.compare_and_swap([(key, 0, self._newest.close(key, value))], None)
        self._enter_state(_SETTLED)
        self._older, self._takes_plain = (), False

    def _enter_state(self, state: bytes) -> None:
        _, version = self._store.read(_STATE)
        self._store.compare_and_swap([(_STATE, version, self._close(_STATE, state))], None)


def _bound(key: str) -> bytes:
    return _ASSOCIATED + key.encode()
