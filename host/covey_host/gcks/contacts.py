"""What members report of themselves (COVEY_REPORT): the last report of each.

    contact/MEMBER    {"time": seconds since 1970, "behind": {GROUP: epochs}, "report":
                       its octets}

In memory, and written now and then: what a member said last survives a restart. How far behind it
is was judged when it came, when it was known which epoch it could have had: in the groups that the
report is about, of others it says nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from covey.report import Report, parse_report

from . import states
from .ledger import Changes, Ledger, decode, encode

FLUSH_MS = 10_000  # after a report
_PREFIX = "contact/"
_MOST = 100_000  # in memory; who reported longest ago is forgotten there first


@dataclass(frozen=True)
class Contact:
    time: int  # when the report came, seconds since 1970
    behind: dict[str, int]  # by group: epochs, by then
    data: bytes

    @property
    def most_behind(self) -> int:
        """Epochs, where it is the most."""
        return max(self.behind.values(), default=0)

    @property
    def report(self) -> Report:
        return parse_report(self.data)


class Contacts:
    """time(): seconds since 1970."""

    def __init__(self, ledger: Ledger, time: Callable[[], float]):
        self._ledger = ledger
        self._time = time
        self._known: dict[str, Contact] = {}  # who reported last is last
        self._dirty: dict[str, None] = {}

    def load(self) -> None:
        for name, value in self._ledger.each(_PREFIX):
            self._known[name] = _contact(value)
            if len(self._known) >= _MOST:
                break

    def take(self, member: str, data: bytes, behind: dict[str, int]) -> Contact | None:
        """A report that parses → the one before it."""
        former = self._known.pop(member, None)
        self._known[member] = Contact(int(self._time()), behind, bytes(data))
        self._dirty[member] = None
        self._trim()
        return former

    def renewed(self, member: str, group: str) -> None:
        """It was given the newest keys."""
        known = self._known.get(member)
        if known is not None and known.behind.get(group):
            self._known[member] = replace(known, behind=known.behind | {group: 0})
            self._dirty[member] = None

    def forget(self, member: str) -> None:
        """It was removed."""
        self._known.pop(member, None)
        self._dirty[member] = None  # there may be a row that is not in memory

    def of(self, member: str) -> Contact | None:
        known = self._known.get(member)
        if known is None and member not in self._dirty:
            value = self._ledger.read(_PREFIX + member)
            known = None if value is None else _contact(value)
        return known

    def age_s(self, contact: Contact) -> int:
        return max(0, int(self._time()) - contact.time)

    def lag_of(self, member: str, group: str, stale_s: int) -> str:
        """One of states.LAGS. stale_s: after so long without a report nothing is known."""
        contact = self._known.get(member)
        if contact is None or group not in contact.behind or self.age_s(contact) > stale_s:
            return states.UNKNOWN
        if contact.report.state == states.SILENT:
            return states.SILENT
        return states.BEHIND if contact.behind[group] else states.CURRENT

    def members(self) -> list[str]:
        """Who has reported."""
        return list(self._known)

    @property
    def is_pending(self) -> bool:
        return bool(self._dirty)

    def draw(self, most: int) -> tuple[list[str], Changes]:
        """As History.draw()."""
        members = list(self._dirty)[:most]
        self._ledger.read_many([_PREFIX + m for m in members])  # which versions are replaced
        return members, {_PREFIX + m: self._row(m) for m in members}

    def written(self, members: list[str]) -> None:
        for member in members:
            self._dirty.pop(member, None)
        self._trim()

    def _trim(self) -> None:
        """Who is to be written yet stays until it is, and so do those behind."""
        while len(self._known) > _MOST and (oldest := next(iter(self._known))) not in self._dirty:
            del self._known[oldest]

    def _row(self, member: str) -> bytes | None:
        known = self._known.get(member)
        if known is None:
            return None
        return encode({"time": known.time, "behind": known.behind, "report": known.data})


def _contact(value: bytes) -> Contact:
    fields = decode(value)
    behind = fields["behind"]
    if not isinstance(behind, dict):
        behind = {}  # a row of before: nobody knows of which group
    return Contact(fields["time"], behind, bytes.fromhex(fields["report"]))
