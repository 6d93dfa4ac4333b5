"""What the key server remembers of its members, for status and `covey why`; nothing else reads it.

Events come from all parts of the key server (history.py), reports from members (contacts.py). They
are written beside the work: a write of these that fails costs nothing but them.
"""

from collections.abc import Callable, Iterable
from typing import Any

from covey.drops import name_of
from covey.report import Report, parse_report

from ..errors import Problem
from ..store import Fenced, Store
from . import contacts, history
from .authority import Authority
from .contacts import Contact, Contacts
from .group import Group
from .history import History
from .ledger import Ledger, Moved
from .timers import NEVER

_RETRY_MS = 5000  # after a write that failed
_AT_ONCE = 64  # rows in one write, and
_WRITES = 8  # writes in one step
# No sign of trouble
_QUIET = {
    "empty",
    "keepalive",
    "own",
    "dummy",
    "not_receiver",
    "rekey_repeat",
    "rekey_portion",
    "disclosure",
}
# Nor these from whoever has just registered: others send under the keys before until `atd` is
# over, and rekeys that it came after are repeated.
_OF_STARTS = {"unknown_spi", "rekey_spi", "rekey_message_id"}

# Events of the log that are about one member, and which of their facts are kept.
_EVENTS = {
    "added": ("groups", "sender", "role"),
    "allowed": ("rules", "groups"),
    "removed": ("groups",),
    "registered": ("group", "epoch", "boots", "address"),
    "left": ("group",),
    "waits": ("group", "until_s"),
    "refused": ("group", "reason", "asked"),
    "authentication_failed": ("address", "reason"),
    "unanswered": (),
    "replaced": ("address", "former", "heard_s"),
    "moved": ("address", "former"),
}
_COMMANDS = {"added", "allowed", "removed"}


class Diary:
    """time(): seconds since 1970. term: of the running key server, None for a command."""

    def __init__(
        self,
        store: Store,
        term: int | None,
        authority: Authority,
        time: Callable[[], float],
        *,
        is_shared: bool = False,
    ):
        self._ledger = Ledger(store, term, is_shared=is_shared)
        self._authority = authority
        self.time = time
        self.history = History(self._ledger, time)
        self.contacts = Contacts(self._ledger, time)
        self._due_ms = NEVER
        self._new_ms: int | None = None  # when events are to be written that _due_ms ignores

    def tell(self, event: str, facts: dict[str, Any]) -> None:
        """An event of the log; most are of no member."""
        kept, member = _EVENTS.get(event), facts.get("member")
        if kept is None or member is None:
            return
        if event == "authentication_failed" and self._authority.find(member) is None:
            return  # whatever name somebody claimed: nobody has it
        self._note(member, event, **{k: facts[k] for k in kept if k in facts})
        if event == "registered":
            self.contacts.renewed(member, facts["group"])
        elif event == "removed":
            self.contacts.forget(member)

    def hear(self, member: str, data: bytes, groups: Iterable[Group], now_ms: int) -> bool:
        """A report; False: it is none. groups: those that the member was given keys of."""
        report = parse_report(data)
        if report is None:
            return False
        some = _meant(report, list(groups), now_ms)
        lags = {group.policy.name: _behind(report, group, now_ms) for group in some}
        former = self.contacts.take(member, data, lags)
        behind, was_behind = max(lags.values(), default=0), former and former.most_behind
        if former is None:
            self._new_ms = history.FLUSH_MS
        if behind and not was_behind:
            self._note(member, "behind", epochs=behind)
        elif was_behind and not behind:
            self._note(member, "caught_up")
        reasons = drops_since(former and former.report, report)
        if reasons.keys() & _OF_STARTS and self._began(member, former, report, some):
            passing = {name: reasons.pop(name) for name in _OF_STARTS & reasons.keys()}
            self._note(member, "drops", reasons=passing, start=True)
        if reasons:
            self._note(member, "drops", reasons=reasons)
        return True

    def _began(
        self, member: str, former: Contact | None, report: Report, groups: list[Group]
    ) -> bool:
        """Whether a registration, or what each of them brings, lies between the two reports."""
        rows = self.history.of(member)
        came_s = max((row[1] for row in rows if row[3] == "registered"), default=None)
        if came_s is None:
            return False
        if former is None or former.time < came_s:
            return True
        is_same_life = former.report.seconds <= report.seconds
        settles_s = max((g.policy.atd_s + g.policy.dtd_s for g in groups), default=0)
        return is_same_life and former.time < came_s + settles_s

    def _note(self, member: str, event: str, **facts: Any) -> None:
        """What a command has done is written with the next step, which its answer waits for."""
        self.history.note(member, event, **facts)
        later_ms = 0 if event in _COMMANDS else history.FLUSH_MS
        self._new_ms = later_ms if self._new_ms is None else min(later_ms, self._new_ms)

    def step(self, now_ms: int) -> str | None:
        """Write what is due. A sentence where it failed; it is tried again."""
        if self._new_ms is not None:
            self._due_ms = min(self._due_ms, now_ms + self._new_ms)
            self._new_ms = None
        elif self.contacts.is_pending:
            self._due_ms = min(self._due_ms, now_ms + contacts.FLUSH_MS)
        if now_ms < self._due_ms:
            return None
        try:
            is_done = self.flush(_WRITES)
        except Fenced:
            raise
        except Problem as problem:
            self._due_ms = now_ms + _RETRY_MS
            return problem.sentence
        self._due_ms = NEVER if is_done else now_ms
        return None

    def next_ms(self) -> int:
        """When step() has something to do. After an event it is to be called at once."""
        return self._due_ms

    def flush(self, most: int) -> bool:
        """Write all there is, by so many writes at most; whether that was all."""
        for part in (self.history, self.contacts):
            while part.is_pending and most:
                most -= 1
                members, changes = part.draw(_AT_ONCE)
                try:
                    self._ledger.write(changes)
                except Moved:  # another key server knows more of one of them
                    continue
                finally:
                    self._ledger.forget(changes)
                part.written(members)
        return not (self.history.is_pending or self.contacts.is_pending)


def drops_since(former: Report | None, report: Report) -> dict[str, int]:
    """What a member has dropped since its former report, by name; the quiet reasons left out."""
    before = former.drops if former and former.seconds <= report.seconds else {}
    found = {}
    for reason, count in report.drops.items():
        more = count - before.get(reason, 0)
        try:
            name = name_of(reason)
        except KeyError:
            name = f"reason {-reason}"  # of a later version
        if more > 0 and name not in _QUIET:
            found[name] = more
    return found


def _meant(report: Report, groups: list[Group], now_ms: int) -> list[Group]:
    """The groups that a report is about: the one whose data SA it names, or all."""
    for group in groups:
        epochs = [] if group.epoch is None else group.data_epochs(now_ms)
        if any(epoch.tek_spi == report.spi for epoch, _ in epochs):
            return [group]
    return groups


def _behind(report: Report, group: Group, now_ms: int) -> int:
    """How many epochs a member lacks. It is given the time that a rekey may take."""
    if not report.epoch or group.epoch is None:
        return 0
    missing = group.epoch.number - report.epoch
    return max(0, missing - 1 if group.is_fresh(now_ms) else missing)
