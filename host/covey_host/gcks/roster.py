"""Who is in a group, and which sender indexes they have: memory, and the rows it is kept in.

    group/NAME/sender/INDEX    see senders.py
    group/NAME/member/MEMBER   {"era": in which it registered last, "sender": bool, "left": bool,
                                "fragments": bool, "relayed": true or missing, "placed": "never",
                                "excluded" or missing, "receives": false or missing, "leaf": its
                                number in the key tree or null}; rows that don't say "fragments"
                                or "leaf" mean false and null

A group may have a million members. Their rows stay octets until somebody asks for one, and what a
rekey has to know of all of them is counted as they come and go.

Rows are written by the group; each method that gives Changes has a partner that follows in memory.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from . import states
from .ledger import Changes, decode, encode
from .senders import NOBODY, Row, decode_row, encode_row

_SORTED = 10_000  # with more members the first ones by name are not looked for
_LEAF = b',"leaf":'  # what stands behind it is all that most rows differ in
_RELAYED = b',"relayed":true'
# What a row says before it
_KIND = ("era", "sender", "left", "fragments", "relayed", "placed", "receives")


@dataclass(frozen=True)
class Enrolled:
    """A member as its group knows it."""

    era: int
    sender: bool
    left: bool
    fragments: bool = False  # whether it can put fragments of a rekey together
    leaf: int | None = None  # in the key tree of its era
    relayed: bool = False  # it has been given data keys only, in its era, over its IKE SA
    placed: str = ""  # it has a leaf and never came for its keys: what it was before, or "left"
    receives: bool = True  # False: it only sends


class Members(Mapping[str, Enrolled]):
    """Member → Enrolled, which is made of its row each time."""

    def __init__(self, rows: dict[str, bytes]):
        self._rows = rows

    def __getitem__(self, member: str) -> Enrolled:
        return Enrolled(**decode(self._rows[member]))

    def __contains__(self, member: object) -> bool:
        return member in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


class Roster:
    def __init__(self, prefix: str):
        self._prefix = prefix
        self.load({})

    def load(self, found: dict[str, bytes]) -> None:
        """What the store holds, keys without prefix; those of others are passed over."""
        self._members = {key[7:]: row for key, row in found.items() if key.startswith("member/")}
        self.members = Members(self._members)
        rows = {key[7:]: row for key, row in found.items() if key.startswith("sender/")}
        self.rows: dict[int, Row] = {int(i): decode_row(row) for i, row in rows.items()}
        self._present: Counter = Counter()  # by era: how many have not left since
        self._unsplit: Counter = Counter()  # by era: how many of these can't do fragments
        self._kinds: Counter = Counter()  # by (era, whether it left, whether it is a sender)
        self._placed: Counter = Counter()  # by what they were: who never came for its keys
        self._leavers: set[str] = set()  # who left by itself and has a leaf
        relayed = [member for member, row in self._members.items() if _RELAYED in row]
        self._relayed = {member: self.members[member] for member in relayed}
        beginnings = [row.partition(_LEAF)[0] for row in self._members.values()]
        leaving = set()
        for beginning, count in Counter(beginnings).items():
            enrolled = _without_leaf(beginning)
            self._count(enrolled, count)
            if enrolled.left:
                leaving.add(beginning)
        if leaving:
            pairs = zip(self._members, beginnings, strict=True)
            some = [member for member, beginning in pairs if beginning in leaving]
            self._leavers = {member for member in some if self.members[member].leaf is not None}

    def row(self, tail: str) -> bytes | None:
        """As it is stored: "member/MEMBER" or "sender/INDEX"; None where there is none."""
        kind, _, name = tail.partition("/")
        if kind == "member":
            return self._members.get(name)
        row = self.rows.get(int(name))
        return None if row is None else encode_row(row)

    def take(self, tail: str, value: bytes | None) -> None:
        """Such a row that another key server has written."""
        kind, _, name = tail.partition("/")
        if kind == "member":
            self._put(name, None if value is None else Enrolled(**decode(value)))
        elif value is None:
            self.rows.pop(int(name), None)
        else:
            self.rows[int(name)] = decode_row(value)

    def active(self, era: int) -> dict[str, Enrolled]:
        """Who is registered, as far as a key server can know. It looks at all there are."""
        return {m: e for m, e in self.members.items() if e.era == era and not e.left}

    def names(self, era: int, most: int) -> dict[str, list[str]]:
        """Who is registered (members), which of them are senders, and who was once registered
        (absent): at most so many of each. The first by name, unless there are very many."""
        active, senders = self._present[era], self._kinds[era, False, True]
        absent = len(self.members) - active - self._placed[states.NEVER]
        left = {"members": active, "senders": senders, "absent": absent}
        is_sorted = len(self._members) <= _SORTED
        if not is_sorted:
            left = {what: min(number, most) for what, number in left.items()}
        found: dict[str, list[str]] = {what: [] for what in left}
        kinds: dict[bytes, Enrolled] = {}  # by all of a row but its leaf
        for member, row in self._members.items():
            if not any(left.values()):
                break
            beginning = row.partition(_LEAF)[0]
            kind = kinds.get(beginning)
            if kind is None:
                kind = kinds[beginning] = _without_leaf(beginning)
            for what in _lists_of(kind, era):
                if left[what]:
                    left[what] -= 1
                    found[what].append(member)
        return {what: sorted(names)[:most] for what, names in found.items()}

    def counts(self, era: int) -> dict[str, int]:
        """How many are what to the group; see states.py."""
        left = sum(n for (_, is_left, _), n in self._kinds.items() if is_left)
        active = self._present[era]
        return {
            states.MEMBER: active,
            states.EXCLUDED: len(self.members) - active - left + self._placed[states.EXCLUDED],
            states.LEFT: left - self._placed.total(),
        }

    def sender_count(self, era: int) -> int:
        return self._kinds[era, False, True]

    def is_active(self, member: str, era: int) -> bool:
        enrolled = self.members.get(member)
        return enrolled is not None and enrolled.era == era and not enrolled.left

    def relayed(self, era: int) -> list[str]:
        """Who is registered, and reached by way of the key server alone."""
        some = self._relayed.items()
        return sorted(member for member, e in some if e.era == era and not e.left)

    def is_relayed(self, member: str, era: int) -> bool:
        """Whether all that it was given in this era are data keys, whether it has left or not."""
        enrolled = self._relayed.get(member)
        return enrolled is not None and enrolled.era == era

    def relayed_one(self, member: str, era: int) -> Enrolled | None:
        """One of relayed()."""
        enrolled = self._relayed.get(member)
        is_one = enrolled is not None and enrolled.era == era and not enrolled.left
        return enrolled if is_one else None

    def count(self, era: int) -> int:
        """How many are registered, whatever their number is: members come one by one."""
        return self._present[era]

    def can_all_fragment(self, era: int) -> bool:
        return self._present[era] > 0 == self._unsplit[era]

    def has_sender(self, era: int, besides: str) -> bool:
        """Whether anybody but that one is registered as a sender: each has an index."""
        owners = {row.owner for row in self.rows.values() if row.era == era} - {besides}
        return any(self.is_active(m, era) and self.members[m].sender for m in owners)

    def leaving(self, era: int, gone: frozenset[str]) -> dict[str, int]:
        """Who has a leaf of the key tree and is to lose it: those, and who left by itself."""
        some = {m: self.members[m] for m in (self._leavers | gone) if m in self.members}
        return {m: e.leaf for m, e in some.items() if e.era == era and e.leaf is not None}

    def vacating(self, members: frozenset[str]) -> Changes:
        """They have no leaf any more."""
        return {self._member_key(m): _row(self._without_leaf(m)) for m in members}

    def vacate(self, members: frozenset[str]) -> None:
        for member in members:
            self._put(member, self._without_leaf(member))

    def _without_leaf(self, member: str) -> Enrolled:
        return replace(self.members[member], leaf=None)

    def entering(self, member: str, enrolled: Enrolled, rows: dict[int, Row]) -> Changes:
        changes = {self._row_key(index): encode_row(row) for index, row in rows.items()}
        if self.members.get(member) != enrolled:
            changes[self._member_key(member)] = _row(enrolled)
        return changes

    def enter(self, member: str, enrolled: Enrolled, rows: dict[int, Row]) -> None:
        self._put(member, enrolled)
        self.rows |= rows

    def reserving(self, rows: dict[int, Row]) -> Changes:
        """Indexes that are kept for senders."""
        return {self._row_key(index): encode_row(row) for index, row in rows.items()}

    def removing(self, gone: frozenset[str], *, keeps: bool = False) -> Changes:
        """Only with other keys for all others. keeps: their indexes go to nobody in this era."""
        changes: Changes = {self._member_key(m): None for m in gone if m in self.members}
        for index in self._indexes_of(gone):
            row = replace(self.rows[index], owner=NOBODY)
            changes[self._row_key(index)] = encode_row(row) if keeps else None
        return changes

    def remove(self, gone: frozenset[str], *, keeps: bool = False) -> None:
        for member in gone:
            self._put(member, None)
        for index in self._indexes_of(gone):
            if keeps:
                self.rows[index] = replace(self.rows[index], owner=NOBODY)
            else:
                del self.rows[index]

    def _indexes_of(self, owners: frozenset[str]) -> list[int]:
        return [index for index, row in self.rows.items() if row.owner in owners]

    def forgetting(self, member: str) -> Changes:
        """Of a member without keys; its index, if it had one, stays used."""
        return {self._member_key(member): None} if member in self.members else {}

    def _put(self, member: str, enrolled: Enrolled | None) -> None:
        """None: it is known no more."""
        former = self.members.get(member)
        if former is not None:
            self._count(former, -1)
            del self._members[member]
            self._leavers.discard(member)
            self._relayed.pop(member, None)
        if enrolled is not None:
            self._count(enrolled, 1)
            self._members[member] = _row(enrolled)
            if enrolled.relayed:
                self._relayed[member] = enrolled
            if enrolled.left and enrolled.leaf is not None:
                self._leavers.add(member)

    def _count(self, enrolled: Enrolled, n: int) -> None:
        """n more like this one."""
        self._kinds[enrolled.era, enrolled.left, enrolled.sender] += n
        if enrolled.placed:
            self._placed[enrolled.placed] += n
        if not enrolled.left:
            self._present[enrolled.era] += n
            self._unsplit[enrolled.era] += 0 if enrolled.fragments else n

    def _member_key(self, member: str) -> str:
        return f"{self._prefix}member/{member}"

    def _row_key(self, index: int) -> str:
        return f"{self._prefix}sender/{index}"


def _row(enrolled: Enrolled) -> bytes:
    fields = vars(enrolled)
    beginning = _beginning(*(fields[name] for name in _KIND))
    leaf = b"null" if enrolled.leaf is None else b"%d" % enrolled.leaf
    return beginning + _LEAF + leaf + b"}"


@lru_cache(64)
def _beginning(*values: Any) -> bytes:
    """All of a row but its leaf; of a million rows few differ."""
    fields = dict(zip(_KIND, values, strict=True))
    for name in ("relayed", "placed"):
        if not fields[name]:
            del fields[name]
    if fields["receives"]:
        del fields["receives"]
    return encode(fields).removesuffix(b"}")


def _lists_of(enrolled: Enrolled, era: int) -> tuple[str, ...]:
    """Of names()."""
    if enrolled.placed == states.NEVER:
        return ()
    if enrolled.era != era or enrolled.left:
        return ("absent",)
    return ("members", "senders") if enrolled.sender else ("members",)


def _without_leaf(beginning: bytes) -> Enrolled:
    """What a row says before it comes to the leaf."""
    return Enrolled(**decode(beginning.removesuffix(b"}") + b"}"))
