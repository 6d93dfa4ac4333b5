"""Who may register: members, their pre-shared keys and roles; and the site's rekey signing key.

In the store, so that who is a member and which keys are out change in one write:

    authority/signing-key    PKCS #8, P-256: signs rekeys; private to state.db (0600), made once
    authority/member/NAME    {"psk": hex, "certificates": [[ID, until], ...], "ppk": hex,
                              "ppk_optional": bool, "groups": {GROUP or pattern: role, see
                              roles.py}, "removed": bool, "relayed": bool, "key": hex};
                              certificates or key only of who has these instead of a pre-shared
                              key, ppk of who has one; a bool missing: false
    authority/evict/GROUP    [NAME, ...] that lost a right there while no key server was running

A removed member's pre-shared key is kept: so it can be told AUTHORIZATION_FAILED, and nobody else.
Its certificates are revoked, so that they prove nothing where its name is given to another; until
then it can be told, too.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import NamedTuple

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ..errors import FAILURE, MISUSE, Problem
from ..site import check_name
from ..store import Store
from . import roles, trust
from .ledger import Changes, Ledger, decode, encode
from .roles import Role, role_in

PSK, CERT, KEY = "psk", "cert", "key"  # ways to prove oneself
PSK_LEN = PPK_LEN = 32
_PSK_LEAST = 16
_NAME_MOST = 63
_MOST_CERTIFICATES = 32  # remembered of a member
_SIGNING_KEY = "authority/signing-key"
MEMBER = "authority/member/"  # and the name: its row
_EVICT = "authority/evict/"
_GROUPS = b',"groups":'  # what stands behind it is all that most rows differ in, but for the key


@dataclass(frozen=True)
class Member:
    name: str
    psk: bytes = field(repr=False)
    groups: dict[str, Role] = field(default_factory=dict)  # rules: see roles.py
    removed: bool = False
    relayed: bool = False  # data reach it, and leave it, by way of the key server
    # Of who proves itself by certificates: (trust.id_of(), seconds since 1970 until which it
    # holds) of those that are known, the one used last at the end. None: by its pre-shared key.
    certificates: tuple[tuple[str, int], ...] | None = None
    ppk: bytes = field(
        default=b"", repr=False
    )  # post-quantum preshared key, see ppk.py; b"": none
    is_ppk_optional: bool = False  # it may do without
    key: bytes = b""  # SubjectPublicKeyInfo, of who proves itself by a raw public key (RFC 7670)

    @property
    def auth(self) -> str:
        if self.key:
            return KEY
        return PSK if self.certificates is None else CERT

    def is_proven_by(self, id: str) -> bool:
        """Whether what has proven somebody of this name, see IkeSA.proven_by, is still its own:
        the name may have been given to another meanwhile."""
        if self.auth == KEY:
            return id == raw_id(self.key)
        if self.certificates is None:
            return id == key_id(self.psk)
        return any(id == known for known, _ in self.certificates)

    def role(self, group: str) -> Role:
        return Role.NONE if self.removed else role_in(self.groups, group)

    def roles(self, groups: Iterable[str]) -> dict[str, Role]:
        """In all groups that its rules name, and those of these that they cover."""
        return {} if self.removed else roles.roles_in(self.groups, groups)

    def may_join(self, group: str) -> bool:
        return self.role(group) is not Role.NONE

    def may_send(self, group: str) -> bool:
        return self.role(group).sends


def lost_by(was: Member, now: Member, groups: Iterable[str]) -> list[str]:
    """Groups where it could do something that it can't any more."""
    return [group for group in was.roles(groups) if was.role(group) & ~now.role(group)]


def key_id(psk: bytes) -> str:
    """What tells a pre-shared key from others, and not what it is."""
    return f"{PSK}:{sha256(b'Covey key' + psk).hexdigest()}"


def raw_id(spki: bytes) -> str:
    """The same of a raw public key."""
    return f"{KEY}:{sha256(spki).hexdigest()}"


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

    def with_more(self, role: Role, number: int) -> "Count":
        joins = role is not Role.NONE
        return Count(self.all + number * joins, self.senders + number * role.sends)


class Authority:
    """Members over a store. Nothing is cached but numbers, and what was made of a row: every
    answer is what the store says."""

    def __init__(self, ledger: Ledger, random: Callable[[int], bytes] = os.urandom):
        self._ledger = ledger
        self._random = random
        # How many have which rules, once somebody has asked; and by group what that comes to.
        self._kinds: Counter[tuple[tuple[str, Role], ...]] | None = None
        self._counts: dict[str, Count] = {}
        self._is_unsure = False  # a write was begun, and may have happened
        self._found: tuple[bytes, Member] | None = None  # the last one, and the row that it was

    def find(self, name: str) -> Member | None:
        """The member of that name, removed ones too."""
        if not _is_name(name):
            return None  # from the network: nobody is called that
        value = self._ledger.read(MEMBER + name)
        if value is None:
            return None
        if self._found is None or self._found[1].name != name or self._found[0] != value:
            self._found = value, _member(name, value)
        return self._found[1]

    def find_many(self, names: Iterable[str]) -> dict[str, Member]:
        """As find() of each that there is, asked for at once."""
        keys = {MEMBER + name: name for name in names if _is_name(name)}
        rows = self._ledger.read_many(list(keys))
        return {keys[key]: _member(keys[key], v) for key, v in rows.items() if v is not None}

    def members(self) -> Iterator[Member]:
        """All that may register, by name; there may be a million."""
        for name, value in self._ledger.each(MEMBER):
            member = _member(name, value)
            if not member.removed:
                yield member

    def count(self, group: str) -> Count:
        """How many may register there, and how many of them as senders: counted once."""
        if self._kinds is None or self._is_unsure:
            self._is_unsure = False
            self._kinds, self._counts = Counter(), {}
            tails = Counter(v.partition(_GROUPS)[2] for _, v in self._ledger.each(MEMBER))
            for tail, number in tails.items():  # few differ: no row is looked into by itself
                fields = decode(b"{" + _GROUPS[1:] + tail)
                rules = roles.loaded(fields["groups"])
                self._add(rules, 0 if fields["removed"] else number)
        if group not in self._counts:
            found = Count()
            for kind, number in self._kinds.items():
                found = found.with_more(role_in(dict(kind), group), number)
            self._counts[group] = found
        return self._counts[group]

    def rests_on(self, rows: dict[str, int]) -> None:
        """What is written next is written only if these have these versions still."""
        for key, version in rows.items():
            self._ledger.rests_on(key, version)

    def recount(self) -> None:
        """Another key server has written."""
        self._kinds = None

    def _add(self, rules: dict[str, Role], number: int) -> None:
        """So many more like this one."""
        if self._kinds is None or not number:
            return
        self._kinds[tuple(rules.items())] += number
        for group, count in self._counts.items():
            self._counts[group] = count.with_more(role_in(rules, group), number)

    def of_group(self, group: str) -> dict[str, Role]:
        """Who may join it, and as what."""
        found = {member.name: member.role(group) for member in self.members()}
        return {name: role for name, role in found.items() if role is not Role.NONE}

    def add(
        self,
        name: str,
        groups: list[str],
        *,
        sender: bool = False,
        role: Role | None = None,
        psk: bytes | None = None,
        relayed: bool = False,
        certificates: list[tuple[str, int]] | None = None,
        ppk: bytes = b"",
        is_ppk_optional: bool = False,
        key: bytes = b"",
    ) -> Member:
        """A new member; its key is 256 random bits unless given, and it has none where it has
        certificates. role: without one it receives, and sends if it is a sender. Problem if the
        name is taken."""
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
        if key:
            psk = b""
        elif certificates is None:
            psk = psk or self._random(PSK_LEN)
        else:
            psk, certificates = b"", tuple(certificates)
        role = (Role.BOTH if sender else Role.RECEIVER) if role is None else role
        rules = dict.fromkeys(groups, role)
        mixed = ppk, is_ppk_optional, key
        member = Member(name, bytes(psk), rules, False, relayed, certificates, *mixed)
        self._writing()
        self._ledger.write({MEMBER + name: _encoded(member)})
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
            changes[MEMBER + name] = _encoded(replace(member, groups={}, removed=True))
        void = {id: until for member in members for id, until in member.certificates or ()}
        changes |= trust.revocation(self._ledger, void, time.time())
        self._writing()
        return members, changes

    def remove_without_server(self, *names: str, known: Iterable[str] = ()) -> list[Member]:
        """Remove members while no key server runs: the next one starts their groups anew. known:
        the groups that there are. → as they were."""
        members, changes = self.removal(list(names))
        lost = {m.name: [g for g in m.roles(known) if m.may_join(g)] for m in members}
        self._ledger.write(changes | self.evicting(lost))
        self.removed(*members)
        return members

    def with_rule(self, name: str, rule: str, role: Role | None) -> tuple[Member, Member]:
        """A member as it is, and as it would be with this rule, or without it (None). Problem
        where there is no such member, or rule."""
        was = self.find(name)
        if was is None or was.removed:
            raise Problem(f"There is no member {name}: see `covey member list`.", MISUSE)
        rules = dict(was.groups)
        if role is not None:
            rules[rule] = role
        elif rules.pop(rule, None) is None:
            raise Problem(f"{name} has no rule for {rule}: see `covey member list`.", MISUSE)
        if not rules:
            raise Problem(f"{rule} is the last rule of {name}: give it the role none.", MISUSE)
        return was, replace(was, groups=rules)

    def change(self, now: Member) -> Changes:
        """The write that makes a member what with_rule() gave; then: changed()."""
        self._writing()
        return {MEMBER + now.name: _encoded(now)}

    def changed(self, was: Member, now: Member) -> None:
        """What change() gave is written."""
        self._written()
        self._add(was.groups, -1)
        self._add(now.groups, 1)

    def change_without_server(self, was: Member, now: Member, known: Iterable[str]) -> list[str]:
        """Make a member what with_rule() gave while no key server runs: the next one puts it out
        of groups where it has lost a right. → these."""
        lost = lost_by(was, now, known)
        self._ledger.write(self.change(now) | self.evicting({was.name: lost}))
        self.changed(was, now)
        return lost

    def evicting(self, lost: dict[str, list[str]]) -> Changes:
        """Has members put out when the groups start next. lost: by member, its groups."""
        changes: Changes = {}
        for group in sorted({group for groups in lost.values() for group in groups}):
            gone = {member for member, groups in lost.items() if group in groups}
            changes[_EVICT + group] = json.dumps(sorted(self.evicted(group) | gone)).encode()
        return changes

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
        self._ledger.write({MEMBER + member.name: _encoded(member)}, later=True)

    def _writing(self) -> None:
        """Members are to be counted again, unless _written() follows."""
        if self._is_unsure:
            self._kinds = None
        self._is_unsure = True

    def _written(self) -> None:
        self._is_unsure = False

    def evicted(self, group: str) -> set[str]:
        """Who lost a right in a group while no key server was running."""
        value = self._ledger.read(_EVICT + group)
        return set() if value is None else set(json.loads(value))

    def with_evicted(self) -> set[str]:
        """The groups where there are some."""
        return {group for group, _ in self._ledger.each(_EVICT)}

    def evicted_done(self, group: str) -> Changes:
        """The write that goes with starting the group anew."""
        return {_EVICT + group: None} if self.evicted(group) else {}


def _is_name(name: str) -> bool:
    return len(name) <= _NAME_MOST and name.isascii() and name.isprintable()


def _member(name: str, value: bytes) -> Member:
    fields = decode(value)
    relayed = fields.get("relayed", False)
    found = fields.get("certificates")
    certificates = None if found is None else tuple((id, until) for id, until in found)
    psk, groups = bytes.fromhex(fields["psk"]), roles.loaded(fields["groups"])
    ppk = bytes.fromhex(fields.get("ppk", "")), fields.get("ppk_optional", False)
    ppk += (bytes.fromhex(fields.get("key", "")),)
    return Member(name, psk, groups, fields["removed"], relayed, certificates, *ppk)


def _encoded(member: Member) -> bytes:
    fields = {"psk": member.psk}
    if member.certificates is not None:
        fields["certificates"] = member.certificates
    if member.key:
        fields["key"] = member.key
    if member.ppk:
        fields |= {"ppk": member.ppk, "ppk_optional": member.is_ppk_optional}
    fields |= {"groups": roles.stored(member.groups), "removed": member.removed}
    return encode(fields | ({"relayed": True} if member.relayed else {}))
