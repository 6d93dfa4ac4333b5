"""One of several key servers over one store: every one registers members, and one of them holds.

    follow() --> follower --lead()--> holder
                     ^------step_down()-----/     somebody else has a newer term

The holder alone changes keys, puts out members and changes policy: each such write is conditional
on its term. What any of them writes is conditional on all that it rests on (sharedgroup.py): who
comes too late catches up, and does the same work again, before anybody is answered.

A run begins where nobody who lives has followed a key server that lived: the store may be an older
copy of itself, and what was given out since nobody knows. So each group gets new keys first, as
when a single key server starts; its state says the run, and no registration is written in another
one's. A follower that takes over goes on with the run: it has seen all that was written.
"""

from collections.abc import Callable, Iterable
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from covey import ike

from ..errors import Problem
from ..store import Changed, Fenced, Lead, Ousted, Store, WentBack
from . import Out, asks, sitepolicy
from .asks import Ask
from .authority import MEMBER, Member
from .group import Group
from .halfopen import most_len
from .ikesa import IkeSA
from .keyserver import KeyServer
from .ledger import Changes, Ledger, Moved
from .overview import Overview
from .parts import Payloads, notify
from .policy import GroupPolicy, SitePolicy
from .sharedgroup import POLICY, RUN, Office, SharedGroup

_TRIES = 20  # of what members ask for, while others write
_TRIES_HELD = 60  # of what the holder does: others write shorter works, and more often
_CROWDED_MS = 1000  # after others were faster: it is looked first what they have written
_PATIENCE = 4  # works of the holder that were lost; then others leave its groups alone
_AT_ONCE = 500  # rows of members that are read together
# Without the store for so long:
DOUBT_MS = 1500  # it says so, and members that come are sent elsewhere
MUTE_MS = 2000  # it answers no member: what it knows of groups may be out of date
AWAY_MS = 3000  # members that hear of new keys from it alone are sent on: others have a holder
_ASK_AGAIN_MS = 5000  # while somebody waits: the holder forgets

_TRUST, _GROUP = "trust/", "group/"


class SharedKeyServer(KeyServer):
    """replica: its name. It follows, until it is told to lead; before both it answers nobody."""

    def __init__(self, store: Store, policy: SitePolicy, *, replica: str, **how: Any):
        super().__init__(store, policy, **how)
        self.replica = replica
        self.lead_seen = Lead()  # as the store was last looked at
        self.since = 0  # the revision that is known
        self._is_open = False
        self.lacks_policy = False  # the one in force is not for this machine
        # What is made of a row `site/policy` that came; None: the policy stays as it is. Problem:
        # this key server can't have it, and registers nobody until there is another one.
        self.on_policy: Callable[[bytes], SitePolicy | None] = lambda _: None
        # Told between one group and the next of a long work for how long it was not, in ms; True:
        # from now on.
        self.between: Callable[[int], bool] = lambda _: True
        # Groups that others are to leave alone: they were faster, again and again, than what the
        # holder does. Called when there are more of them.
        self.busy: frozenset[str] = frozenset()
        self.on_busy: Callable[[], None] = lambda: None
        # In force by the store, and not all of it done here: a follower does it as it catches up,
        # the holder (it failed halfway, or wrote it and had no answer) is to reload() it.
        self.unfinished: SitePolicy | None = None
        # What is said to a member that the holder alone can register.
        self.elsewhere: Callable[[IkeSA], Payloads] = lambda _: [notify(ike.REGISTRATION_FAILED)]
        self._office = Office(replica, self._time, self._by_now)
        self._unborn: dict[str, SharedGroup] = {}  # of policy, and not in the store yet
        self._unsent: list[Out] = []  # what came up besides: said with what is due
        self._between_ms = 0
        self._has_former = False  # perhaps, in the store: groups that end
        self._moved: set[str] = set()  # groups that others have written, during a work
        self._crowded_ms = 0  # until when others are likely to write at the same time
        self._asked: dict[str, tuple[Ask, int]] = {}  # by group: what we ask for, since when

    @property
    def is_holder(self) -> bool:
        return self._office.is_holder

    @property
    def is_ready(self) -> bool:
        """Whether members may come: somebody holds, who lives, and the policy is here."""
        return self._is_open and not self._office.is_shut

    def open(self) -> None:
        """Somebody holds, who lives."""
        self._is_open = True

    @property
    def caught_up_ms(self) -> int | None:
        """When all that had been written was known last."""
        return self._office.looked_ms

    @property
    def term(self) -> int | None:
        """Of the holder; None: this one follows."""
        return self._ledger.term

    def keep(self, outs: list[Out]) -> None:
        """What it has handed back, and is not sent: for the next time."""
        self._unsent[:0] = outs

    def leave_alone(self, busy: Iterable[str], now_ms: int) -> None:
        """What the holder says of `busy`: for a bounded time, should nobody take it back."""
        self._office.busy = {name: self._office.busy.get(name, now_ms) for name in busy}

    # From one to the other

    def follow(self, now_ms: int) -> None:
        """In place of start(): read all there is, and write nothing."""
        first = self._store.changed("site/", 0)
        self.since, self.lead_seen = first.revision, first.lead
        self._office.run = first.lead.run
        self._office.versions.clear()
        self._groups.clear()
        self._unborn.clear()
        self._begin(Ledger(self._store, is_shared=True))
        self._responder.make_room = self._ledger.make_room
        self._ledger.on_written = self._responder.written
        self._registrar.elsewhere = lambda sa: self.elsewhere(sa)
        self.refresh_trust()
        rows = {key: (value, version) for key, value, version in first.rows}
        self._take_site(rows, now_ms)
        for policy in self._policy.groups.values():
            if policy.name not in self._groups and policy.name not in self._unborn:
                self._follow_group(policy, now_ms)
        self._office.looked_ms = now_ms

    def lead(self, now_ms: int, term: int) -> list[Out]:
        """Be the holder: the term was acquired. Groups of another run than the lead has by now get
        new keys, those of that one go on as they are. Problem: it follows again; Fenced: another
        one was faster."""
        self._catch_up(now_ms)  # to what was written last before the term
        if self.lead_seen.term != term:
            raise Fenced("Another key server has the term by now.")
        for group in self._groups.values():
            group.refresh(now_ms)
        self._ledger.term, self._office.is_holder = term, True
        try:
            self._again(partial(self._begin_run, self.lead_seen.run), now_ms)
            evicted = self._authority.with_evicted()
            for policy in list(self._policy.groups.values()):
                is_evicted = policy.name in evicted
                work = partial(self._lead_group, policy, now_ms, is_evicted=is_evicted)
                self._again(work, now_ms)
                self._changed_one()
            self._again(partial(self._end_former, now_ms), now_ms)
            self._again(partial(self._check_identity, self._policy.identity), now_ms)
            self._again(self._renew, now_ms)
        except BaseException:  # half a holder is none: what is left undone the next one finds
            self._unsent += self.step_down(now_ms)
            raise
        self.open()
        self._tell("leads", term=term)
        return self._due(now_ms)

    def step_down(self, now_ms: int) -> list[Out]:
        """Another one holds: follow. Members that are told inband are sent there."""
        was_holder = self._office.is_holder
        self._ledger.term, self._office.is_holder = None, False
        self._ledger.is_fenced = False
        self._retired.clear()
        for group in self._groups.values():
            group.step_down(now_ms)
        if was_holder:
            self._tell("follows", term=self.lead_seen.term)
        outs = []
        for sa in list(self._responder.told()):
            outs += self._responder.dismiss(sa.identity, now_ms)
        return outs

    def send_on(self, now_ms: int) -> list[Out]:
        """Without the store for so long that another one may hold: members that are told of new
        keys from here alone are sent to the others. They keep the keys that they have until one
        of these lets them in: perhaps none has the store."""
        return self._responder.send_on(now_ms)

    def _changed_one(self) -> None:
        now_ms = self._by_now(0)
        if self.between(now_ms - self._between_ms):
            self._between_ms = now_ms

    def _begin_run(self, run: str) -> None:
        if self._ledger.read(RUN) != run.encode():
            self._ledger.write({RUN: run.encode()})
        self._office.run, self._office.versions[RUN] = run, self._ledger.version(RUN)

    def _lead_group(self, policy: GroupPolicy, now_ms: int, *, is_evicted: bool = True) -> None:
        """is_evicted: some may have lost rights there while no key server was running."""
        name = policy.name
        group = self._groups.get(name) or self._unborn.get(name)
        if group is None:
            group = self._made(policy)
            group.load(now_ms)
        evicted = frozenset(self._authority.evicted(name)) if is_evicted else frozenset()
        if evicted or not group.is_open:
            done = self._authority.evicted_done(name) if is_evicted else {}
            group.start(now_ms, evicted, done)
        else:
            group.take_over(now_ms)
        self._unborn.pop(name, None)
        self._groups[name] = group

    def _end_former(self, now_ms: int) -> None:
        """Groups that a reload has taken out, and that may not have been told so to the end."""
        self._has_former = True
        known = {group.policy.name for group in self._retired}
        for name, policy in sitepolicy.ending(self._ledger, self._policy).items():
            group = self._made(policy)
            group.load(now_ms)
            if name in known or group.epoch is None:
                continue
            if group.is_ending:  # and perhaps nobody has heard of it
                group.take_over(now_ms)
            else:
                group.exclude(now_ms)
            self._retired.append(group)
            self._changed_one()

    def _forget_former(self) -> None:
        """All that they were to be told was said."""
        if self.is_holder and self._has_former and not self._retired and not self.unfinished:
            self._has_former = False
            with suppress(Problem):  # the next holder says it again
                sitepolicy.forget_former(self._ledger)

    # What others have written

    def catch_up(self, now_ms: int) -> list[Out]:
        """See what others have written, by one cheap read where that is nothing. Problem: the
        store can't be read, or (WentBack) it is not what it was."""
        self._catch_up(now_ms)
        self._responder.redirects.is_parting = False
        self._ask(now_ms)
        return self._due(now_ms)

    def _catch_up(self, now_ms: int) -> None:
        """Problem: the next look begins where this one did. What was done by then is done, and
        known to be: what there is to say of it is said with what is due next."""
        self._has_lost_time()
        try:
            found = self._store.changed("", self.since)
        except WentBack:
            self._office.is_shut = True
            raise
        self._take(found, now_ms)
        self.since, self._office.looked_ms = found.revision, now_ms
        self._office.is_unsure = False

    def _has_lost_time(self) -> bool:
        has_lost = super()._has_lost_time()
        self._office.is_unsure |= has_lost
        return has_lost

    def _take(self, found: Changed, now_ms: int) -> None:
        if found.lead.term != self.lead_seen.term:
            self._asked.clear()  # whoever holds now has not heard it
        self.lead_seen = found.lead
        if self.is_holder and found.lead.term != self._ledger.term:
            self._unsent += self.step_down(now_ms)
        if not self.is_holder:
            self._office.run = found.lead.run
        rows = {key: (value, version) for key, value, version in found.rows}
        self._ledger.drop(rows)
        self._take_site(rows, now_ms)
        self._take_groups(rows, now_ms)
        names = [key.removeprefix(MEMBER) for key in rows if key.startswith(MEMBER)]
        if names:
            self._authority.recount()
            self._take_members(names, now_ms)
        if any(key.startswith(_TRUST) for key in rows):
            self.refresh_trust()
            for name, id in self._responder.certificates().items():
                if self.trust.is_void(id):  # the holder knows of the one that it used last
                    self._unsent += self._responder.dismiss(name, now_ms)
        if self.is_holder:
            for key in (key for key in rows if key.startswith(asks.PREFIX)):
                self._hear_ask(key, *rows[key], now_ms)

    def _take_site(self, rows: dict[str, tuple[bytes, int]], now_ms: int) -> None:
        if POLICY in rows and rows[POLICY][1] != self._ledger.version(POLICY):
            value, version = rows[POLICY]
            self.lacks_policy = self._office.is_shut = True
            try:
                policy = self.on_policy(value)
                self.lacks_policy = self._office.is_shut = False
            except Problem as problem:
                self._tell("trouble", reason=problem.sentence)
                policy = None
            self.unfinished = policy or self.unfinished
            self._ledger.take(POLICY, version)
        if self.unfinished is not None and not self.is_holder:
            self._follow_policy(self.unfinished, now_ms)
            self.unfinished = None
        self._office.versions |= {key: rows[key][1] for key in (RUN, POLICY) if key in rows}

    def _take_groups(self, rows: dict[str, tuple[bytes, int]], now_ms: int) -> None:
        by_group: dict[str, dict[str, tuple[bytes, int]]] = {}
        for key, row in rows.items():
            if key.startswith(_GROUP):
                name, _, tail = key.removeprefix(_GROUP).partition("/")
                by_group.setdefault(name, {})[tail] = row
        self._moved |= by_group.keys()
        is_new = False
        try:
            for name, some in by_group.items():
                if name in self._groups:
                    group = self._groups[name]
                    was = group.epoch
                    group.catch_up(some, now_ms)
                    is_new |= group.epoch is not was
                elif name in self._unborn:
                    self._unborn[name].load(now_ms)
                    if self._unborn[name].epoch is not None:
                        self._groups[name] = self._unborn.pop(name)
                self.relay.is_stale = True
        finally:  # where one can't be read, the next look finds nothing new of those before it
            if is_new:
                self._responder.hurry(now_ms)

    def _take_members(self, names: list[str], now_ms: int) -> None:
        """What they may do may have changed."""
        for name in names:
            sa = self._responder.open_sa(name)
            asking = [self._groups[n] for n in self._office.asking if n in self._groups]
            waits = [group for group in asking if group.waits_for(name)]
            if sa is None and not waits:
                continue
            member = self._authority.find(name)
            for group in waits:
                if member is None or not member.may_join(group.policy.name):
                    group.forget_waiting(name)
            if sa is None:
                continue
            gone = member is None or not member.is_proven_by(sa.proven_by)
            if gone or not any(member.may_join(group) for group in self._groups):
                self._unsent += self._responder.dismiss(name, now_ms, is_excluded=True)
                continue
            lost = [
                g for g in sa.registered if g in self._groups and not self._groups[g].has(name)
            ]
            self._responder.put_out(name, lost)

    # What only the holder may do

    def _ask(self, now_ms: int) -> None:
        """Of the holder, what is needed and was not asked for yet, or long ago."""
        changes: Changes = {}
        for name in sorted(self._office.asking):
            ask = self._groups[name].ask(now_ms) if name in self._groups else Ask()
            former, since_ms = self._asked.get(name, (Ask(), 0))
            if not ask:
                self._office.asking.discard(name)
            if ask == former and (not ask or now_ms < since_ms + _ASK_AGAIN_MS):
                continue
            key = asks.key_of(self.replica, name)
            self._ledger.read(key)
            changes[key] = asks.emitted(ask)
            self._asked[name] = ask, now_ms
        if changes:
            try:
                self._ledger.write(changes, later=True)
            except Problem:
                self._asked.clear()
                raise

    def _hear_ask(self, key: str, value: bytes, version: int, now_ms: int) -> None:
        replica, _, name = key.removeprefix(asks.PREFIX).partition("/")
        group = self._groups.get(name)
        if group is None or replica == self.replica:
            return

        ask = asks.parsed(value)
        new = [member for member in ask.waiting if not group.waits_for(member)]
        known: dict[str, Member | None] = dict.fromkeys(new)
        for at in range(0, len(new), _AT_ONCE):  # they may be many, and the store far away
            known |= self._authority.find_many(new[at : at + _AT_ONCE])
            with suppress(Fenced):  # as the next look finds
                self._changed_one()

        def may_join(member: str) -> bool:
            found = known[member] if member in known else self._authority.find(member)
            return found is not None and found.may_join(name)

        group.hear(ask, version, now_ms, may_join)

    # Policy

    def step(self, now_ms: int) -> tuple[list[Out], int]:
        found = super().step(now_ms)
        self._forget_former()
        return found

    def _follow_policy(self, policy: SitePolicy, now_ms: int) -> None:
        """The holder's is another one by now."""
        policy = replace(policy, listen=self._policy.listen)
        for held in (self._groups, self._unborn):
            for name in [name for name in held if name not in policy.groups]:
                del held[name]
        self._policy = policy
        for name, wanted in policy.groups.items():
            group = self._groups.get(name) or self._unborn.get(name)
            if group is None:
                self._follow_group(wanted, now_ms)
            else:
                group.policy = wanted
        self._responder.policy = policy
        self.relay.is_stale = True
        self._rekeyer.most_len = most_len(policy)

    def _follow_group(self, policy: GroupPolicy, now_ms: int) -> None:
        group = self._made(policy)
        group.load(now_ms)
        held = self._unborn if group.epoch is None else self._groups
        held[policy.name] = group

    def _made(self, policy: GroupPolicy) -> SharedGroup:
        what = self._ledger, self._rekeyer, self._random, self._clock
        return SharedGroup(policy, *what, self._office)

    def _start_group(self, policy: GroupPolicy, now_ms: int) -> None:
        self._lead_group(policy, now_ms)

    def _overview(self) -> Overview:
        """Of groups that there are already."""
        if self._responder is None:
            return super()._overview()
        born = {n: p for n, p in self._policy.groups.items() if n in self._groups}
        policy = replace(self._policy, groups=born)
        return Overview(policy, self._groups, self._authority, self._diary, self._responder)

    # As every key server, though others write

    def receive(self, data: bytes, address: Any, now_ms: int) -> list[Out]:
        if not self.is_ready:
            self.counters["not_ready"] += 1
            return []
        if self._is_away(now_ms) and not _is_harmless(data):
            self.counters["no_store"] += 1
            return []
        return super().receive(data, address, now_ms)

    def take_over(self, data: bytes, now_ms: int) -> list[Out]:
        if not self.is_ready:
            self.counters["not_ready"] += 1
            return []
        return super().take_over(data, now_ms)

    def _is_away(self, now_ms: int) -> bool:
        """Whether what it knows of groups may be out of date, so that members who hear from it
        would be kept from the others."""
        return now_ms - self._office.looked_ms > MUTE_MS

    def _answer(self, work: Callable[[int], list[Out]], now_ms: int) -> list[Out]:
        if self._held is not None:
            return work(now_ms)
        with self.together(now_ms) as late:
            outs = work(now_ms)
        return outs + late + self._due(now_ms)

    def _due(self, now_ms: int) -> list[Out]:
        outs = super()._due(now_ms)
        outs, self._unsent = self._unsent + outs, []
        return outs

    def rekey(self, group: str, now_ms: int) -> list[Out]:
        return self._as_holder(partial(super().rekey, group, now_ms), now_ms)

    def add_member(self, name: str, groups: list[str], **how: Any) -> Member:
        return self._as_holder(partial(super().add_member, name, groups, **how), None)

    def remove_members(self, names: list[str], now_ms: int) -> list[Out]:
        return self._as_holder(partial(super().remove_members, names, now_ms), now_ms)

    def change_member(self, was: Member, now: Member, now_ms: int) -> list[Out]:
        return self._as_holder(partial(super().change_member, was, now, now_ms), now_ms)

    def reload(self, policy: SitePolicy, now_ms: int) -> list[Out]:
        if self.is_holder:
            self.unfinished, self._has_former = policy, True
        outs = self._as_holder(partial(super().reload, policy, now_ms), now_ms)
        self.unfinished = None
        return outs

    def _as_holder(self, work: Callable[[], Any], now_ms: int | None) -> Any:
        """Fenced: another one is, and this one follows from now on."""
        try:
            if not self.is_holder:
                raise Fenced("Another key server holds the term: acquire it first.")
            return self._again(work, now_ms)
        except Fenced:
            self._unsent += self.step_down(self._by_now(now_ms or self.caught_up_ms))
            raise

    def _again(self, work: Callable[[], Any], now_ms: int | None) -> Any:
        """The work's result, though others write meanwhile. now_ms: None where it rests on no
        group. Fenced where it was begun as the holder, and somebody else has become that."""
        was_holder = self.is_holder
        self._moved.clear()
        try:
            for lost in range(1, _TRIES_HELD + 1):
                was_stale = self._stale()
                try:
                    return work()
                except Moved:
                    self._settle(was_stale)
                    if now_ms is not None:
                        self._catch_up(now_ms)
                    if was_holder and not self.is_holder:
                        raise Fenced("Another key server has the term by now.") from None
                    if lost >= _PATIENCE and not self.busy >= self._moved:
                        self.busy = frozenset(self._moved)
                        self.on_busy()
                finally:
                    self._ledger.rest_no_more()
            raise Problem("Other key servers write all the time: try again.")
        finally:
            self.busy = frozenset()

    def _step_group(self, group: Group, now_ms: int) -> None:
        if group.is_idle(now_ms):
            return
        try:
            self._again(partial(group.step, now_ms), now_ms)
        except Ousted:
            raise
        except Fenced:
            self._unsent += self.step_down(now_ms)

    @contextmanager
    def _written_together(self, now_ms: int):
        """The ledger's together(); where others have written, members are looked at again."""
        if now_ms < self._crowded_ms:
            self._catch_up(now_ms)
        was_stale = self._stale()
        try:
            with self._ledger.together():
                yield
            return
        except Moved:
            pass
        for _ in range(_TRIES):
            self._settle(was_stale)
            self._ledger.undo(True)
            self.counters["moved"] += 1
            self._crowded_ms = now_ms + _CROWDED_MS
            if self._ledger.is_fenced:
                self._unsent += self.step_down(now_ms)
            self._catch_up(now_ms)
            was_stale = self._stale()
            try:
                with self._ledger.together():
                    self._unsent += self._responder.again(now_ms)
                return
            except Moved:
                pass
        raise Problem("Other key servers write all the time: nobody was heard.")

    def _stale(self) -> set[Group]:
        return set(self._office.stale) if self._office.stale else set()

    def _settle(self, was_stale: set[Group]) -> None:
        """Nothing was written, for certain: what was known before is still known."""
        for group in self._stale() - was_stale:
            group.is_stale = False

    def _distrust(self) -> None:
        """Whether something was written is not known: only of what was to be."""
        self._ledger.undo(False)


def _is_harmless(data: bytes) -> bool:
    """Whether nothing of groups is told thereupon: a first message, or an answer."""
    return len(data) > 19 and (data[18] == ike.IKE_SA_INIT or bool(data[19] & ike.FLAG_R))
