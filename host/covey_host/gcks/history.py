"""What has happened to each member, for who asks why: a bounded list a member, in the store.

    history/MEMBER    [[first time, last time, how often, event, {facts}], ...] by last time

Times are of the system's clock, in seconds since 1970: they are for people, and nothing is decided
by them. Facts are names, numbers and addresses: no key, no octet of a message.

What repeats itself is one row with a number, also where a few things take turns, so that nobody
can push out the rest by doing the same again and again. Events are collected in memory and written
within a second, many members at once: what was written survives a kill -9, an event of the last
second may be lost.
"""

import json
from collections.abc import Callable

from .ledger import Changes, Ledger

MOST = 32  # rows of one member; the oldest go first
_TURNS = 4  # of the last rows: what is like one of these repeats it
FLUSH_MS = 1000  # after an event
_MOST_PENDING = 100_000  # members with events that are not written yet
_PREFIX = "history/"
_VARY = {
    "epoch",
    "sender_ids",
    "asked",
    "reasons",
    "address",
    "former",
    "heard_s",
    "until_s",
    "epochs",
}
_ONE_ROW = {"authentication_failed"}  # anybody can cause them: never more than one row
_BURSTS = {"replaced"}  # how often counts: from the first one after a time without any
_REST_S = 3600

Row = list  # as above


def note(
    rows: list[Row],
    time: int,
    event: str,
    facts: dict,
    *,
    first: int | None = None,
    times: int = 1,
) -> None:
    """One more event, in one of the last rows if that says the same: it is the last one then.
    first, times: as many more since then, the last of them at `time`."""
    first = time if first is None else first
    at = _same(rows, event, facts)
    if at is None:
        rows.append([first, time, times, event, facts])
    else:
        row = rows.pop(at)
        if event in _BURSTS and first - row[1] > _REST_S:
            row[0], row[2] = first, 0
        row[1], row[2] = time, row[2] + times
        row[4] = facts | {"reasons": _sum(row[4], facts)} if "reasons" in facts else facts
        rows.append(row)
    del rows[:-MOST]


class History:
    """time(): seconds since 1970."""

    def __init__(self, ledger: Ledger, time: Callable[[], float]):
        self._ledger = ledger
        self._time = time
        self._pending: dict[str, list[Row]] = {}

    def note(self, member: str, event: str, **facts) -> None:
        if member not in self._pending and len(self._pending) >= _MOST_PENDING:
            return
        note(self._pending.setdefault(member, []), int(self._time()), event, facts)

    @property
    def is_pending(self) -> bool:
        return bool(self._pending)

    def of(self, member: str) -> list[Row]:
        """What is known of it, written or not; by last time."""
        return self._joined(self._ledger.read(_PREFIX + member), self._pending.get(member, []))

    def draw(self, most: int) -> tuple[list[str], Changes]:
        """Members with events, and the write that keeps these; then: written()."""
        members = list(self._pending)[:most]
        keys = [_PREFIX + member for member in members]
        rows = self._ledger.read_many(keys)
        return members, {
            key: json.dumps(
                self._joined(rows[key], self._pending[member]), separators=(",", ":")
            ).encode()
            for key, member in zip(keys, members, strict=True)
        }

    def written(self, members: list[str]) -> None:
        for member in members:
            del self._pending[member]

    def _joined(self, value: bytes | None, more: list[Row]) -> list[Row]:
        rows = [] if value is None else json.loads(value)
        for first, last, times, event, facts in more:
            note(rows, last, event, facts, first=first, times=times)
        return rows


def _same(rows: list[Row], event: str, facts: dict) -> int | None:
    """The place of the row that this event belongs into."""
    if event in _ONE_ROW:
        return next((at for at, row in enumerate(rows) if row[3] == event), None)
    fixed = _fixed(facts)
    for at in reversed(range(max(0, len(rows) - _TURNS), len(rows))):
        if rows[at][3] == event and _fixed(rows[at][4]) == fixed:
            return at
    return None


def _fixed(facts: dict) -> dict:
    return {name: value for name, value in facts.items() if name not in _VARY}


def _sum(former: dict, facts: dict) -> dict[str, int]:
    reasons = dict(former.get("reasons", {}))
    for name, count in facts["reasons"].items():
        reasons[name] = reasons.get(name, 0) + count
    return reasons
