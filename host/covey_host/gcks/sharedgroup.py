r"""A group whose rows several key servers write: one of them holds it, the others follow.

    holder      has the timers, changes keys, and says so: as in group.py
    follower    registers members by itself, in the epoch that it finds

Memory is what the store held at the group's turn that is known here (turns.py). Each write is
conditional on that turn, and a registration besides on the run and on the policy: whoever was not
the first has written nothing, takes back what it believed meanwhile, reads what the others wrote,
and does its work again. So all that is decided here was decided by the rows as they are.

A follower does not know when an epoch began, but when it looked last before, and first afterwards.
What must not be too late is reckoned by the former (nobody sends yet), what must not be too early
by the latter (all have the keys by then). Where its clock stood still in between, it knows nothing
of the former, and takes the keys for keys in use. What only the holder may do it is asked for:
asks.py.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from weakref import WeakSet

from ..store import Fenced
from . import Out, succession, turns
from .asks import EXCLUDE, REKEY, Ask
from .authority import MEMBER, Member
from .clock import Clock
from .epoch import Birth, Epoch, Outbox, Random, decode_state
from .group import RETRY_MS, Group
from .keytree import KeyTree
from .ledger import Changes, Ledger, Moved
from .newcomers import NotYet
from .policy import REKEY_AT, GroupPolicy
from .rekeyer import Rekeyer
from .repeats import Repeats
from .succession import Plan
from .timers import NEVER

RUN, POLICY = "site/run", "site/policy"  # rows that every registration rests on
_SOON_MS = 250  # until what has to wait for others is tried again, should nobody say so before
_LATER_MS = 1000
_BUSY_MS = 5000  # that a group is left alone


@dataclass
class Office:
    """What a key server is among those of its site. time(): seconds since 1970. by_now(now_ms):
    what that has become since a look began."""

    name: str
    time: Callable[[], float]
    by_now: Callable[[int], int] = lambda now_ms: now_ms
    run: str = ""  # of the key servers: see SharedKeyServer
    stale: WeakSet["SharedGroup"] = field(default_factory=WeakSet)  # see Group.is_stale
    is_holder: bool = False
    looked_ms: int | None = None  # when the last look at the store began of which all is known
    is_unsure: bool = False  # the clock stood still since then
    is_shut: bool = False  # nobody is to be registered, for want of policy, or of a store
    busy: dict[str, int] = field(default_factory=dict)  # groups to leave alone, since when
    asking: set[str] = field(default_factory=set)  # groups that may need something of the holder
    # Of RUN and POLICY, as they are known here, whatever became of a write of ours.
    versions: dict[str, int] = field(default_factory=dict)


class SharedGroup(Group):
    is_shared = True

    def __init__(
        self,
        policy: GroupPolicy,
        ledger: Ledger,
        rekeyer: Rekeyer | None,
        random: Random,
        clock: Clock,
        office: Office,
    ):
        self._office = office
        self._is_stale = False
        super().__init__(policy, ledger, rekeyer, random, clock)
        self._turn_key = self._prefix + "turn"
        self._wants = ""  # REKEY or EXCLUDE: what is asked of the holder, or was asked of us,
        self._wants_in = 0  # in the epoch of this number
        self._foreign: set[str] = set()  # who waits at other key servers

    @property
    def is_stale(self) -> bool:
        """All that are, are in one place, too: whoever asks which has few to look at."""
        return self._is_stale

    @is_stale.setter
    def is_stale(self, is_stale: bool) -> None:
        if is_stale and not self._is_stale:
            self._office.stale.add(self)
        elif self._is_stale and not is_stale:
            self._office.stale.discard(self)
        self._is_stale = is_stale

    @property
    def run(self) -> str:
        """In which its keys were made."""
        birth = None if self.epoch is None else self.epoch.birth
        return "" if birth is None else birth.run

    # What the store says

    def load(self, now_ms: int) -> None:
        """All there is."""
        self._read(now_ms)

    def catch_up(self, rows: dict[str, tuple[bytes, int]], now_ms: int) -> None:
        """Rows that were written since the last look: key without prefix → value, version. What is
        not called with any is as it was."""
        value, version = rows.get("turn", (None, 0))
        if value is None or version == self._ledger.version(self._turn_key):
            return
        turn = turns.parsed(value)
        gone = turn.gone_since(self._ledger.turn(self._prefix))
        found = dict.fromkeys(gone or ()) | {tail: value for tail, (value, _) in rows.items()}
        if gone is None or self.is_stale or not self._take(found, now_ms):
            self.is_stale = True  # until it was read, which may fail
            self._read(now_ms)
            return
        self._ledger.take_turn(self._prefix, turn, gone)  # the last: now memory is what it says
        for tail, (_, written) in rows.items():
            self._ledger.take(self._prefix + tail, written)

    def _read(self, now_ms: int) -> None:
        for member in list(self._foreign):  # they may be admitted: asked for again, if not
            self.forget_waiting(member)
        found = self._ledger.scan(self._prefix)
        self._roster.load(found)
        self._tree = KeyTree.loaded(found) if "tree" in found else None
        if "state" in found:
            self._see(*decode_state(found["state"]), now_ms)
            if self._office.is_holder:  # after a write of which nothing is known
                self._put_off(now_ms)
        if self.epoch is not None and self._has_senders():
            self._newcomers.touched()
        self.is_stale = False

    def _take(self, found: dict[str, bytes | None], now_ms: int) -> bool:
        """Rows as they are by now; None: gone. False: all is to be read."""
        tree = {}
        for tail, value in found.items():
            if tail.startswith(("member/", "sender/")):
                self._roster.take(tail, value)
                self._was_admitted(tail.removeprefix("member/"))
            elif tail.startswith("tree"):
                tree[tail] = value
        if tree and (self._tree is None or not self._tree.take(tree)):
            return False
        if found.get("state") is not None and not self._office.is_holder:
            self._see(*decode_state(found["state"]), now_ms)
        if self.epoch is not None and self._has_senders():
            self._newcomers.touched()
        return True

    def _was_admitted(self, member: str) -> None:
        """Perhaps: then it waits no more, here or elsewhere."""
        if self._newcomers.is_waiting(member):
            enrolled = self._roster.members.get(member)
            if enrolled is not None and not enrolled.left:
                self.forget_waiting(member)

    def _see(self, epoch: Epoch, outbox: Outbox, now_ms: int) -> None:
        """The state that another key server has written."""
        if epoch == self.epoch:
            self._repeats = _kept(outbox, self.policy, now_ms, self._activate_ms)
            return
        birth = epoch.birth or Birth("", 0)
        is_unsure = self.epoch is None or self._office.is_unsure
        since_ms = None if is_unsure else self._office.looked_ms
        how = {"tree": self._tree, "evicts": birth.evicts}
        times = now_ms + birth.activate_in_ms, now_ms + birth.end_in_ms
        self._repeats = Repeats()
        self.believe(Plan(epoch, outbox, {}, *times, **how), now_ms)  # as late as it is by now
        placed = self._placed(birth)
        self._earliest_ms = -NEVER if since_ms is None else since_ms + birth.activate_in_ms
        unused_ms = self._earliest_ms - self.policy.atd_s * 100  # as Newcomers.began() has it
        is_first = epoch.number == 1
        is_untouched = is_first and not self._has_senders()
        how = {"is_first": is_first, "is_untouched": is_untouched}
        self._newcomers.followed(unused_ms, placed, **how)
        if since_ms is None:
            self._reckon(birth, now_ms)
        else:
            self._born_ms = max(since_ms, now_ms - self._most_age_ms)
        self._wants = ""

    def _placed(self, birth: Birth) -> frozenset[str]:
        """For whom the epoch has a leaf that they have not come for yet."""
        some = {member: self._roster.members.get(member) for member in birth.placed}
        return frozenset(m for m, e in some.items() if e and e.left and e.leaf is not None)

    def _reckon(self, birth: Birth, now_ms: int) -> None:
        """By the time of day, for want of better: it may be wrong, and must do no harm then."""
        age_ms = int((self._office.time() - birth.time_s) * 1000)
        age_ms = min(max(0, age_ms), self._most_age_ms)
        self._born_ms = now_ms - age_ms
        self._rekey_ms -= age_ms

    @property
    def _most_age_ms(self) -> int:
        return self.policy.lifetime_s * 1000 * REKEY_AT // 100

    def _has_senders(self) -> bool:
        return any(row.era == self.epoch.era for row in self._roster.rows.values())

    @property
    def is_ending(self) -> bool:
        """Whether everybody is being put out of it, in this run, and nobody came since."""
        outbox = self._repeats.outbox
        is_told = bool(outbox) and outbox[-1].excludes
        return is_told and self.run == self._office.run and not self.active()

    # As the holder

    def _birth(self) -> Birth:
        policy = _digest(self.policy)
        return Birth(self._office.run, int(self._office.time()), policy=policy)

    def start(self, now_ms: int, evicted: frozenset[str], more: Changes) -> None:
        """As the first key server of a run: new keys over whatever Rekey SA is stored."""
        self._resend(now_ms)
        super().start(now_ms, evicted, more)

    def take_over(self, now_ms: int) -> None:
        """From a holder of the same run: its messages go out again, as they are."""
        self._started_ms = now_ms
        self.refresh(now_ms)
        self._resend(now_ms)
        self._put_off(now_ms)
        self._wants = ""
        if self.is_inband:  # the IKE SAs of its members are lost, and with them all ways
            self.exclude(now_ms)
        elif self.epoch.birth.policy != _digest(self.policy):  # a reload not done to its end
            self.rekey(now_ms)

    def step_down(self, now_ms: int) -> None:
        """Another one holds it."""
        self._wants = ""
        for member in list(self._foreign):
            self.forget_waiting(member)
        if self._newcomers.waiting(now_ms):
            self._office.asking.add(self.policy.name)

    def _put_off(self, now_ms: int) -> None:
        """Members may hear only now what is in the outbox."""
        outbox = self._repeats.outbox
        if not outbox:
            return
        delays_s = self.policy.delays_s(self._evicts)
        said_ms = max(now_ms, self._repeats.begin_ms)
        come_back = outbox[-1].excludes
        earliest_ms = succession.earliest_ms(self.policy, said_ms, come_back, delays_s)
        self._activate_ms = max(self._activate_ms, earliest_ms)
        _, dtd_s = succession.told_s(self._activate_ms - said_ms, delays_s)
        self._end_ms = max(self._end_ms, said_ms + dtd_s * 1000)
        self._through_ms = max(self._through_ms, self._end_ms)
        self._newcomers.put_off(self._through_ms)

    def _resend(self, now_ms: int) -> None:
        outbox, self._repeats = _hurried(self._repeats.outbox), Repeats()
        self._repeats.schedule(outbox, self.policy, now_ms, self._activate_ms)

    def believe(self, plan: Plan, now_ms: int) -> None:
        """It took until now to write it, or to read: others saw the former epoch until then."""
        late_ms = self._office.by_now(now_ms) - now_ms
        super().believe(replace(plan, late_ms=late_ms), now_ms)
        self._wants = ""
        self._foreign.intersection_update(self._newcomers.waiting(now_ms))

    def step(self, now_ms: int) -> None:
        if not self._office.is_holder or now_ms < self._retry_ms:
            return
        try:
            super().step(now_ms)
            self._retry_ms = now_ms + RETRY_MS
            self._serve(now_ms)
            self._retry_ms = now_ms
        except Moved:
            self._retry_ms = now_ms
            raise

    def _serve(self, now_ms: int) -> None:
        """What others ask for, who can't come by themselves."""
        due_ms = self._asked_ms(now_ms)
        if due_ms is None or now_ms < due_ms:
            return
        self.refresh(now_ms)
        asking = self._newcomers.asking(now_ms)
        lacks = any(self._lacks_index(m, role.sends) for m, role in asking.items())
        if lacks or self._wants == EXCLUDE:
            self.exclude(now_ms)
        else:
            self.rekey(now_ms)

    def _asked_ms(self, now_ms: int) -> int | None:
        """When that is due."""
        if self._wants and self._wants_in == self.epoch.number:
            return self._through_ms
        self._foreign.intersection_update(self._newcomers.waiting(now_ms))
        return self._newcomers.due_ms if self._foreign else None

    def hear(self, ask: Ask, version: int, now_ms: int, may_join: Callable[[str], bool]) -> None:
        """What another key server asks for. version: of the row that says so; who has registered
        since waits no more."""
        if self.epoch is None or ask.epoch != self.epoch.number:
            return
        for member, (fragments, role) in ask.waiting.items():
            if self._ledger.version(f"{self._prefix}member/{member}") > version:
                continue
            if member in self._foreign or may_join(member):
                self._newcomers.wait(member, fragments, role, self.policy, now_ms)
                self._foreign.add(member)
        if ask.wants and self._wants != EXCLUDE:
            self._wants, self._wants_in = ask.wants, ask.epoch

    # As a follower

    def ask(self, now_ms: int) -> Ask:
        """What it needs of the holder now, if it is one of those that are asking."""
        if self._office.is_holder or self.epoch is None:
            return Ask()
        wants = self._wants if self._wants_in == self.epoch.number else ""
        return Ask(self.epoch.number, wants, self._newcomers.waiters(now_ms))

    def rekey(self, now_ms: int) -> None:
        """NotYet where only the holder may."""
        if not self._office.is_holder:
            self._want(REKEY, now_ms)
        super().rekey(now_ms)

    def exclude(self, now_ms: int) -> None:
        """The same."""
        if not self._office.is_holder:
            self._want(EXCLUDE, now_ms)
        super().exclude(now_ms)

    def _want(self, what: str, now_ms: int) -> None:
        self._wants, self._wants_in = what, self.epoch.number
        raise NotYet(now_ms + _LATER_MS)

    # Members

    @property
    def is_open(self) -> bool:
        return self.run == self._office.run != "" and not self._office.is_shut

    def is_elsewhere(self, relayed: bool) -> bool:
        if self._office.is_holder:
            return False
        return relayed or self.is_inband or self.epoch.clock != b""

    def admit(
        self,
        member: str,
        wanted: int | None,
        now_ms: int,
        fragments: bool = False,
        boots: bool = False,
        relayed: bool = False,
        receives: bool = True,
    ) -> list[int]:
        """NotYet besides: only the holder can change keys, and it is asked to."""
        self._check_turn(now_ms)
        epoch, standing = self.epoch, self._newcomers.standing(member)
        how = {"boots": boots, "relayed": relayed, "receives": receives}
        try:
            sender_ids = super().admit(member, wanted, now_ms, fragments, **how)
        except NotYet:
            self._office.asking.add(self.policy.name)
            raise
        for key in (self._turn_key, MEMBER + member):
            self._ledger.rests_on(key)
        for key in (RUN, POLICY):
            self._ledger.rests_on(key, self._office.versions.get(key, 0))
        if self.epoch is epoch:
            self._ledger.on_lost(lambda _: self._newcomers.restore(member, standing))
        return sender_ids

    def leave(self, member: str, now_ms: int) -> None:
        self._check_turn(now_ms)
        super().leave(member, now_ms)

    def may_hold_keys(self, member: Member) -> bool:
        """What follows from the answer is written only if nobody has registered meanwhile."""
        if member.may_join(self.policy.name):
            self._ledger.rests_on(self._turn_key)
        return super().may_hold_keys(member)

    def waits_for(self, member: str) -> bool:
        """Whether keys are to be changed for this one."""
        return self._newcomers.is_waiting(member)

    def forget_waiting(self, member: str) -> None:
        super().forget_waiting(member)
        self._foreign.discard(member)

    def _check_turn(self, now_ms: int) -> None:
        """NotYet where nothing may be given out, or the holder is to be let through. Moved: what
        was decided before, in what is written together with this, was decided by other rows."""
        if not self.is_open or self._is_left_alone(now_ms):
            raise NotYet(now_ms + _SOON_MS)
        if self.is_stale and self._ledger.has_later(self._prefix):
            self._ledger.move("What is known of the group is to be read again.")
        self.refresh(now_ms)

    def _is_left_alone(self, now_ms: int) -> bool:
        since_ms = self._office.busy.get(self.policy.name)
        is_busy = since_ms is not None and now_ms < since_ms + _BUSY_MS
        return is_busy and not self._office.is_holder

    def _write(self, changes: Changes, *, later: bool = False) -> None:
        if not later and not self._office.is_holder:
            raise Fenced("Another key server has the term by now.")
        if later:
            before = {key: self._row(key.removeprefix(self._prefix)) for key in changes}
            self._ledger.on_lost(partial(self._take_back, before))
        super()._write(changes, later=later)

    def _row(self, tail: str) -> bytes | None:
        """As it is known: of those that are written for later."""
        if not tail.startswith("tree"):
            return self._roster.row(tail)
        return None if self._tree is None else self._tree.row(tail)

    def _take_back(self, before: Changes, is_known: bool) -> None:
        """What was believed and not written. is_known: it was not, for certain."""
        found = {key.removeprefix(self._prefix): row for key, row in before.items()}
        self.is_stale |= not is_known or not self._take(found, 0)

    # Time

    def due(self, now_ms: int) -> list[Out]:
        return super().due(now_ms) if self._office.is_holder else []

    def next_ms(self) -> int:
        if not self._office.is_holder:
            return NEVER
        due_ms = self._newcomers.due_ms if self._foreign else None
        if self._wants:
            due_ms = self._through_ms
        next_ms = super().next_ms()
        return next_ms if due_ms is None else max(min(next_ms, due_ms), self._retry_ms)

    def is_idle(self, now_ms: int) -> bool:
        """Whether step() would find nothing to do."""
        if not self._office.is_holder:
            return True
        return not self.is_stale and not self._has_other_clock and now_ms < self.next_ms()

    @property
    def is_quiet(self) -> bool:
        return not self._office.is_holder or super().is_quiet

    @property
    def has_unsent(self) -> bool:
        return self._office.is_holder and super().has_unsent


def _digest(policy: GroupPolicy) -> str:
    return hashlib.sha256(repr(policy).encode()).hexdigest()[:16]


def _hurried(outbox: Outbox) -> Outbox:
    """Without the pauses in changes before the last one: most members have followed these, and the
    last, perhaps an eviction, is not to wait for them anew with each that takes over."""
    last = max((at for at, parcel in enumerate(outbox) if not parcel.gap_ms), default=0)
    return tuple(replace(p, gap_ms=0) if at < last else p for at, p in enumerate(outbox))


def _kept(outbox: Outbox, policy: GroupPolicy, now_ms: int, come_back_ms: int) -> Repeats:
    repeats = Repeats()
    repeats.schedule(outbox, policy, now_ms, come_back_ms)
    return repeats
