"""Who may register: members, their pre-shared keys and roles; and the site's rekey signing key.

In the store, so that who is a member and which keys are out change in one write:

    authority/signing-key    PKCS #8, P-256: signs rekeys; private to state.db (0600), made once
    authority/member/NAME    {"psk": hex, "certificates": [[ID, until], ...], "groups": {GROUP: is
                              it a sender there}, "removed": bool, "relayed": bool}; certificates
                              only of who has these instead of a key; relayed missing: false
    authority/evict/GROUP    [NAME, ...] removed while no key server was running

A removed member's pre-shared key is kept: so it can be told AUTHORIZATION_FAILED, and nobody else.
Its certificates are revoked, so that they prove nothing where its name is given to another; until
then it can be told, too.
"""

import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import NamedTuple

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ..errors import FAILURE, MISUSE, Problem
from ..site import check_name
from ..store import Store
from . import trust
from .ledger import Changes, Ledger, decode, encode

PSK, CERT = "psk", "cert"  # ways to prove oneself
PSK_LEN = 32
_PSK_LEAST = 16
_NAME_MOST = 63
_MOST_CERTIFICATES = 32  # remembered of a member
_SIGNING_KEY = "authority/signing-key"
_MEMBER = "authority/member/"
_EVICT = "authority/evict/"
_GROUPS = b',"groups":'  # what stands behind it is all that most rows differ in, but for the key


@dataclass(frozen=True)
class Member:
    name: str
    psk: bytes = field(repr=False)
    groups: dict[str, bool] = field(default_factory=dict)  # group → whether it may send there
    removed: bool = False
    relayed: bool = False  # data reach it, and leave it, by way of the key server
    # Of who proves itself by certificates: (trust.id_of(), seconds since 1970 until which it
    # holds) of those that are known, the one used last at the end. None: by its pre-shared key.
    certificates: tuple[tuple[str, int], ...] | None = None

    @property
    def auth(self) -> str:
        return PSK if self.certificates is None else CERT

    def is_proven_by(self, id: str) -> bool:
        """Whether what has proven somebody of this name, see IkeSA.proven_by, is still its own:
        the name may have been given to another meanwhile."""
        if self.certificates is None:
            return id == key_id(self.psk)
        return any(id == known for known, _ in self.certificates)

    def may_join(self, group: str) -> bool:
        return not self.removed and group in self.groups

    def may_send(self, group: str) -> bool:
        return self.may_join(group) and self.groups[group]


def key_id(psk: bytes) -> str:
    """What tells a pre-shared key from others, and not what it is."""
    return f"{PSK}:{sha256(b'Covey key' + psk).hexdigest()}"


def make_signing_key(store: Store) -> None:
    """What `covey init` calls: a new P-256 key that signs rekeys. Problem if there is one."""
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    if not store.compare_and_swap([(_SIGNING_KEY, 0, key)], None):
        raise Problem("The site has a signing key already: it is never replaced.")


def load_signing_key(store: Store) -> ec.EllipticCurvePrivateKey:
    """Problem where the site has none."""
    data, _ = store.read(_SIGNING_KEY)
    if data is None:
        raise Problem("The site has no signing key: make a site with `covey init`.")
    return serialization.load_der_private_key(data, None)


class Count(NamedTuple):
    all: int = 0
    senders: int = 0


class Authority:
    """Members over a store. Nothing is cached but numbers, and what was made of a row: every
    answer is what the store says."""

    def __init__(self, ledger: Ledger, random: Callable[[int], bytes] = os.urandom):
        self._ledger = ledger
        self._random = random
        self._counts: dict[str, Count] | None = None  # by group, once somebody has asked
        self._is_unsure = False  # a write was begun, and may have happened
        self._found: tuple[bytes, Member] | None = None  # the last one, and the row that it was

    def find(self, name: str) -> Member | None:
        """The member of that name, removed ones too."""
        if len(name) > _NAME_MOST or not name.isascii() or not name.isprintable():
            return None  # from the network: nobody is called that
        value = self._ledger.read(_MEMBER + name)
        if value is None:
            return None
        if self._found is None or self._found[1].name != name or self._found[0] != value:
            self._found = value, _member(name, value)
        return self._found[1]

    def members(self) -> Iterator[Member]:
        """All that may register, by name; there may be a million."""
        for name, value in self._ledger.each(_MEMBER):
            member = _member(name, value)
            if not member.removed:
                yield member

    def count(self, group: str) -> Count:
        """How many may register there, and how many of them as senders: counted once."""
        if self._counts is None or self._is_unsure:
            self._is_unsure = False
            self._counts = defaultdict(Count)
            tails = Counter(v.partition(_GROUPS)[2] for _, v in self._ledger.each(_MEMBER))
            for tail, number in tails.items():  # few differ: no row is looked into by itself
                fields = decode(b"{" + _GROUPS[1:] + tail)
                self._add(fields["groups"], 0 if fields["removed"] else number)
        return self._counts[group]

    def _add(self, groups: dict[str, bool], number: int) -> None:
        """So many more like this one."""
        for group, may_send in groups.items() if self._counts is not None else ():
            count = self._counts[group]
            self._counts[group] = Count(count.all + number, count.senders + number * may_send)

    def of_group(self, group: str) -> dict[str, bool]:
        """Its members, and whether each may send there."""
        return {m.name: m.groups[group] for m in self.members() if group in m.groups}

    def add(
        self,
        name: str,
        groups: list[str],
        *,
        sender: bool = False,
        psk: bytes | None = None,
        relayed: bool = False,
        certificates: list[tuple[str, int]] | None = None,
    ) -> Member:
        """A new member; its key is 256 random bits unless given, and it has none where it has
        certificates. Problem if the name is taken."""
        check_name("member", name)
        known = self.find(name)
        if known is not None and not known.removed:
            raise Problem(f"{name} is a member already: choose another name.", MISUSE)
        if not groups:
            raise Problem(f"{name} needs a group: name one with --group.", MISUSE)
        if psk is not None and len(psk) < _PSK_LEAST:
            raise Problem(
                f"The pre-shared key of {name} has {len(psk)} octets: use at least {_PSK_LEAST}.",
                MISUSE,
            )
        if certificates is None:
            psk = psk or self._random(PSK_LEN)
        else:
            psk, certificates = b"", tuple(certificates)
        roles = dict.fromkeys(groups, bool(sender))
        member = Member(name, bytes(psk), roles, False, relayed, certificates)
        self._writing()
        self._ledger.write({_MEMBER + name: _encoded(member)})
        self._written()
        self._add(member.groups, 1)
        return member

    def removed(self, *members: Member) -> None:
        """What removal() gave is written."""
        self._written()
        for member in members:
            self._add(member.groups, -1)

    def removal(self, names: list[str]) -> tuple[list[Member], Changes]:
        """The members as they were, and the write that removes all of them. Problem where one is
        none."""
        members: list[Member] = []
        changes: Changes = {}
        for name in dict.fromkeys(names):
            member = self.find(name)
            if member is None:
                raise Problem(f"There is no member {name}: see `covey member list`.", MISUSE)
            if member.removed:
                raise Problem(f"{name} has been removed already.", FAILURE)
            members.append(member)
            changes[_MEMBER + name] = _encoded(replace(member, groups={}, removed=True))
        void = {id: until for member in members for id, until in member.certificates or ()}
        changes |= trust.revocation(self._ledger, void, time.time())
        self._writing()
        return members, changes

    def remove_without_server(self, *names: str) -> list[Member]:
        """Remove members while no key server runs: the next one starts their groups anew. → as
        they were."""
        members, changes = self.removal(list(names))
        for group in sorted({group for member in members for group in member.groups}):
            gone = {member.name for member in members if group in member.groups}
            changes[_EVICT + group] = json.dumps(sorted(self.evicted(group) | gone)).encode()
        self._ledger.write(changes)
        self.removed(*members)
        return members

    def used(self, member: Member, id: str, until: int) -> None:
        """This certificate has proven the member: a revocation looks at the one used last."""
        known = member.certificates
        if known and known[-1] == (id, until):
            return
        left = [one for one in known if one[0] != id][1 - _MOST_CERTIFICATES :]
        self._keep(replace(member, certificates=(*left, (id, until))))

    def issued(self, member: Member, id: str, until: int) -> None:
        """It has another certificate, which it has not used yet."""
        known = member.certificates[1 - _MOST_CERTIFICATES :]
        self._keep(replace(member, certificates=((id, until), *known)))

    def _keep(self, member: Member) -> None:
        self._ledger.write({_MEMBER + member.name: _encoded(member)}, later=True)

    def _writing(self) -> None:
        """Members are to be counted again, unless _written() follows."""
        if self._is_unsure:
            self._counts = None
        self._is_unsure = True

    def _written(self) -> None:
        self._is_unsure = False

    def evicted(self, group: str) -> set[str]:
        """Who was removed from a group while no key server was running."""
        value = self._ledger.read(_EVICT + group)
        return set() if value is None else set(json.loads(value))

    def evicted_done(self, group: str) -> Changes:
        """The write that goes with starting the group anew."""
        return {_EVICT + group: None} if self.evicted(group) else {}


def _member(name: str, value: bytes) -> Member:
    fields = decode(value)
    relayed = fields.get("relayed", False)
    found = fields.get("certificates")
    certificates = None if found is None else tuple((id, until) for id, until in found)
    psk, groups = bytes.fromhex(fields["psk"]), fields["groups"]
    return Member(name, psk, groups, fields["removed"], relayed, certificates)


def _encoded(member: Member) -> bytes:
    fields = {"psk": member.psk}
    if member.certificates is not None:
        fields["certificates"] = member.certificates
    fields |= {"groups": member.groups, "removed": member.removed}
    return encode(fields | ({"relayed": True} if member.relayed else {}))
