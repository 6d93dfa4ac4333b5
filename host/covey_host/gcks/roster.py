"""Who is in a group, and which sender indexes they have: memory, and the rows it is kept in.

    group/NAME/sender/INDEX    see senders.py
    group/NAME/member/MEMBER   {"era": in which it registered last, "sender": bool, "left": bool,
                                "fragments": bool, "leaf": its number in the key tree or null};
                                rows that don't say the last two mean false and null

Rows are written by the group; each method that gives Changes has a partner that follows in memory.
"""

from collections import Counter
from dataclasses import asdict, dataclass, replace

from .ledger import Changes, decode, encode
from .senders import Row, decode_row, encode_row


@dataclass(frozen=True)
class Enrolled:
    """A member as its group knows it."""

    era: int
    sender: bool
    left: bool
    fragments: bool = False  # whether it can put fragments of a rekey together
    leaf: int | None = None  # in the key tree of its era


class Roster:
    def __init__(self, prefix: str):
        self._prefix = prefix
        self.members: dict[str, Enrolled] = {}
        self.rows: dict[int, Row] = {}  # by sender index
        self._present: Counter = Counter()  # by era: how many have not left since

    def load(self, found: dict[str, bytes]) -> None:
        """What the store holds, keys without prefix; those of others are passed over."""
        self.members, self.rows, self._present = {}, {}, Counter()
        for key, value in found.items():
            kind, _, name = key.partition("/")
            if kind == "member":
                self._put(name, Enrolled(**decode(value)))
            elif kind == "sender":
                self.rows[int(name)] = decode_row(value)

    def active(self, era: int) -> dict[str, Enrolled]:
        """Who is registered, as far as a key server can know."""
        return {m: e for m, e in self.members.items() if e.era == era and not e.left}

    def is_active(self, member: str, era: int) -> bool:
        enrolled = self.members.get(member)
        return enrolled is not None and enrolled.era == era and not enrolled.left

    def count(self, era: int) -> int:
        """How many are registered, whatever their number is: members come one by one."""
        return self._present[era]

    def leaving(self, era: int, gone: frozenset[str]) -> dict[str, int]:
        """Who has a leaf of the key tree and is to lose it: those, and who left by itself."""
        return {
            m: e.leaf
            for m, e in self.members.items()
            if e.era == era and e.leaf is not None and (e.left or m in gone)
        }

    def vacating(self, members: frozenset[str]) -> Changes:
        """They have no leaf any more."""
        return {self._member_key(m): encode(asdict(self._without_leaf(m))) for m in members}

    def vacate(self, members: frozenset[str]) -> None:
        for member in members:
            self._put(member, self._without_leaf(member))

    def _without_leaf(self, member: str) -> Enrolled:
        return replace(self.members[member], leaf=None)

    def entering(self, member: str, enrolled: Enrolled, rows: dict[int, Row]) -> Changes:
        changes = {self._row_key(index): encode_row(row) for index, row in rows.items()}
        if self.members.get(member) != enrolled:
            changes[self._member_key(member)] = encode(asdict(enrolled))
        return changes

    def enter(self, member: str, enrolled: Enrolled, rows: dict[int, Row]) -> None:
        self._put(member, enrolled)
        self.rows |= rows

    def removing(self, gone: frozenset[str]) -> Changes:
        """Only with an exclusion: their indexes may go to others then."""
        keys = [self._member_key(member) for member in gone & set(self.members)]
        keys += [self._row_key(index) for index, row in self.rows.items() if row.owner in gone]
        return dict.fromkeys(keys)

    def remove(self, gone: frozenset[str]) -> None:
        for member in gone & set(self.members):
            self._put(member, None)
        self.rows = {i: row for i, row in self.rows.items() if row.owner not in gone}

    def forgetting(self, member: str) -> Changes:
        """Of a member without keys; its index, if it had one, stays used."""
        return {self._member_key(member): None} if member in self.members else {}

    def _put(self, member: str, enrolled: Enrolled | None) -> None:
        """None: it is known no more."""
        former = self.members.pop(member, None)
        if former is not None:
            self._present[former.era] -= not former.left
        if enrolled is not None:
            self.members[member] = enrolled
            self._present[enrolled.era] += not enrolled.left

    def _member_key(self, member: str) -> str:
        return f"{self._prefix}member/{member}"

    def _row_key(self, index: int) -> str:
        return f"{self._prefix}sender/{index}"
