"""One group over time: epochs, members, Sender-IDs, and the messages that must reach everybody.

    start ----> epoch n --rekey--> epoch n+1 --rekey--> ...        the same era: members follow,
                   |                                               but for those that are put out
                   \\--exclude--> epoch n+1, a new era             all must register again

Who is put out of a group with a key tree has its leaf taken: a message over the current Rekey SA
brings another one to all others, and the new epoch comes over that (RFC 9838 section 3.2.1).

The order is always: decide, write to the store, believe, send. What is written with a new epoch
includes the signed message that announces it (the outbox), so that a key server that is killed
between writing and sending says the same octets after its restart: no member is left behind under
a Rekey SA that the server has forgotten. See repeats.py for how a message leaves the outbox.

    group/NAME/state    epoch and outbox, see epoch.py; roster.py and keytree.py have the others
"""

from dataclasses import replace

from ..errors import Problem
from . import Out, seats, senders, sources, states, succession, timingrules
from .authority import Member
from .chains import Chains
from .clock import Clock
from .epoch import (
    Birth,
    Epoch,
    Outbox,
    Random,
    RekeySA,
    decode_state,
    encode_state,
    first_epoch,
)
from .keytree import Draft, KeyTree, Node
from .ledger import Changes, Ledger
from .moves import Standing
from .newcomers import Newcomers, NotYet
from .policy import INBAND, REKEY_AT, TESLA, UNICAST, GroupPolicy
from .rekeyer import Rekeyer
from .repeats import Repeats
from .roles import Role
from .roster import Enrolled, Roster
from .succession import Plan
from .timers import NEVER

_JITTER = 5  # % of a lifetime: groups that began together are not rekeyed together
RETRY_MS = 5000  # after a write that failed
_MISSED = 4  # times that a member should have asked for the time: then it knows it no more
_UNSURE_MS = 10_000  # who does not know the time asks again before, many times
_NEVER_TOLD = (-NEVER, 0)


class GroupFull(Exception):
    """No registration now, whoever asks (REGISTRATION_FAILED)."""


class Group:
    is_shared = False  # whether other key servers work on it, too

    def __init__(
        self,
        policy: GroupPolicy,
        ledger: Ledger,
        rekeyer: Rekeyer | None,
        random: Random,
        clock: Clock,
    ):
        """rekeyer: None where only the store is to be shown."""
        self.policy = policy
        self.chains = Chains(clock)
        self._ledger = ledger
        self._rekeyer = rekeyer
        self._random = random
        self._prefix = f"group/{policy.name}/"
        self.is_stale = True  # memory may not be what the store holds
        self.epoch: Epoch | None = None
        self._roster = Roster(self._prefix)
        self._tree: KeyTree | None = None
        self._repeats = Repeats()
        self._newcomers = Newcomers()
        self._born_ms = 0
        self._activate_ms = 0  # from when senders use the TEK
        self._earliest_ms = 0  # the same at the earliest: before that nobody has
        self._end_ms = 0  # until when receivers may take what comes under the TEK before
        self._through_ms = 0  # when the last change of keys is through
        self._rekey_ms = 0  # when the next rekey is due
        self._retry_ms = 0  # not before, after a write that failed
        self._evicts = False  # the last change of keys was to put somebody out
        self._former: list[tuple[Epoch, int]] = []  # until when each is received under
        self._said: dict[str, int] | None = None  # how large the last rekey was
        # When members were told the time, and how often in a row they did not know it before.
        self._timed: dict[str, tuple[int, int]] = {}
        self._started_ms = 0
        self.until_ms = NEVER  # when who was admitted last must have been told the keys

    # The life of a group

    def start(self, now_ms: int, evicted: frozenset[str], more: Changes) -> None:
        """When the key server starts: a new group, or new keys over the stored Rekey SA, before
        any Sender-ID is given. evicted: removed while no server ran; more: is written with it."""
        self._started_ms = now_ms
        self._read(now_ms)
        if self.epoch is None:
            self.believe(self._founded(now_ms, more), now_ms)
            self._newcomers.founded()
            return
        shape = self.policy.shape
        excludes = not self._can_evict(evicted)
        unknown = self._has_unknown(evicted)
        excludes |= self.is_inband  # the IKE SAs of its members are lost, and with them all ways
        excludes |= senders.is_used_up(shape, self.epoch.life + 1)
        how = {"excludes": excludes, "started": True, "unknown": unknown}
        plan = self.plan(now_ms, gone=evicted, **how)
        self._carry_out(plan, now_ms, more)

    def rekey(self, now_ms: int) -> None:
        """New TEK and new Rekey SA for all members, over the current Rekey SA."""
        self.refresh(now_ms)
        self._carry_out(self.plan(now_ms), now_ms)

    def exclude(self, now_ms: int) -> None:
        """Everybody out and a new era: those that may come back register again."""
        self.refresh(now_ms)
        self._carry_out(self.plan(now_ms, excludes=True), now_ms)

    def adopt(self, policy: GroupPolicy, now_ms: int) -> None:
        """Another policy: new keys under it, or everybody out where members have to be told what
        only a registration tells. Problem: the former policy holds."""
        former, self.policy = self.policy, policy
        try:
            self.rekey(now_ms)
        except Problem:
            self.policy = former
            raise

    def plan(
        self,
        now_ms: int,
        *,
        excludes: bool = False,
        started: bool = False,
        gone: frozenset[str] = frozenset(),
        unknown: bool = False,
    ) -> Plan:
        """Decide on the next epoch. To be written by the caller, then given to believe()."""
        was = Standing(
            self._prefix,
            self.policy,
            self.epoch,
            self._roster,
            self._tree,
            self._repeats.outbox,
            self._repeats.unsent,
            self._repeats.begin_ms,
            self._activate_ms,
        )
        joins = self._newcomers.for_leaves(now_ms) if self.policy.backward_secrecy else {}
        asking = self._newcomers.asking(now_ms)
        how = {"excludes": excludes, "started": started, "gone": gone, "joins": joins}
        how |= {"asking": asking, "chains": self.chains, "clock": self._clock_name()}
        how |= {"birth": self._birth(), "unknown": unknown}
        return succession.decide(was, self._rekeyer, self._random, now_ms, **how)

    def believe(self, plan: Plan, now_ms: int) -> None:
        """The plan is in the store: from now on it is true."""
        self.is_stale = False
        self._former = self._after(plan, now_ms)
        self._evicts = plan.evicts
        self.epoch = plan.epoch
        if not self.epoch.clock:
            self.chains.forget()
            self._timed.clear()
        self._born_ms = now_ms
        self._activate_ms = plan.activate_ms + plan.late_ms
        self._earliest_ms = plan.activate_ms
        self._end_ms = plan.end_ms + plan.late_ms
        lifetime_ms = self.policy.lifetime_s * 1000
        jitter = int.from_bytes(self._random(2)) * lifetime_ms * _JITTER // 100 >> 16
        self._rekey_ms = now_ms + lifetime_ms * REKEY_AT // 100 - jitter
        self._roster.remove(plan.gone, keeps=plan.keeps)
        for member in plan.gone:
            self._timed.pop(member, None)
        self._roster.vacate(plan.vacated)
        self._tree = plan.tree
        if plan.draft is not None:
            plan.tree.apply(plan.draft)
        for member, enrolled in plan.joined.items():
            self._roster.enter(member, enrolled, {})
        self._roster.rows |= plan.reserved
        if plan.outbox:
            self._said = _size_of(plan.outbox)
        self._through_ms = max(now_ms + self.policy.dtd_s * 1000, self._end_ms)
        began = plan.outbox, frozenset(plan.joined), self._through_ms, self._earliest_ms
        self._newcomers.began(self.policy, *began)
        self._repeats.schedule(plan.outbox, self.policy, now_ms, self._activate_ms)

    # Members

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
        """Register a member: its fresh Sender-IDs, none where wanted is None (a receiver). It has
        a new personal key: see path(). boots: it may remember nothing. relayed: it is to have
        data keys only, and no path. receives: False, it sends alone. From until_ms on it must not
        be told any of this: then it has to leave(), and to be admitted anew.

        All of it is durable on return, or when the ledger's together() ends. GroupFull where it
        must not be; NotYet: it waits for other keys; Problem from the store.
        """
        self.refresh(now_ms)
        if now_ms >= self._born_ms + self.policy.lifetime_s * 1000:
            self.rekey(now_ms)  # overdue, as after a disk that was full for long
        if not self.has(member) and self._roster.count(self.epoch.era) >= self.policy.members:
            raise GroupFull
        has = None if relayed else fragments
        role = Role.RECEIVER if receives else Role.NONE
        if wanted is not None:
            role |= Role.SENDER
        self._freshen(member, has, boots, role, now_ms)
        self.until_ms = self._newcomers.until_ms
        if wanted is not None and self.epoch.shape.single_sender:
            wanted = 1
            self._make_way(member, now_ms)
        picked = {} if wanted is None else self._pick(member, wanted, now_ms)
        leaf, draft = self._place(member, relayed)
        relayed &= leaf is None
        fragments |= relayed  # no rekey by multicast comes to it
        what = False, fragments, leaf, relayed
        enrolled = Enrolled(self.epoch.era, role.sends, *what, receives=receives)
        changes = self._roster.entering(member, enrolled, picked)
        changes |= self._tree.pages(draft, self._prefix) if draft else {}
        self._write(changes, later=True)
        self._roster.enter(member, enrolled, picked)
        self._newcomers.admitted(member, is_sender=role.sends)
        if self.epoch.clock:
            self._timed[member] = _NEVER_TOLD
        if draft:
            self._tree.apply(draft)
        return [senders.sender_id(self.epoch.shape, i, row) for i, row in picked.items()]

    def path(self, member: str) -> list[Node]:
        """The keys of the key tree that a member is to have, the top first; none without tree."""
        enrolled = self._roster.members[member]
        if enrolled.relayed:
            return []
        return [] if self._tree is None else Draft(self._tree, self._random).path(enrolled.leaf)

    def leave(self, member: str, now_ms: int) -> None:
        """The member says that it is none any more; it may come back. With a key tree it does not
        follow the next rekey."""
        self.refresh(now_ms)
        self._newcomers.forget(member)
        self._timed.pop(member, None)
        if self.has(member):
            gone = replace(self._roster.members[member], left=True)
            self._write(self._roster.entering(member, gone, {}), later=True)
            self._roster.enter(member, gone, {})

    def lose_time(self) -> None:
        """The clock stood still: the TEK may have been in use for long."""
        self._newcomers.lose_time()
        self._earliest_ms = -NEVER

    def active(self) -> dict[str, Enrolled]:
        """Who is registered, as far as the key server can know."""
        return self._roster.active(self.epoch.era)

    def has(self, member: str) -> bool:
        """Whether this one is among them."""
        return self._roster.is_active(member, self.epoch.era)

    def relayed(self) -> list[str]:
        """Whom data reach, and leave, by way of the key server alone."""
        return self._roster.relayed(self.epoch.era)

    def is_relayed(self, member: str) -> bool:
        return self._roster.is_relayed(member, self.epoch.era)

    def serves(self, member: str) -> bool:
        """Whether it is one of relayed()."""
        return self._roster.relayed_one(member, self.epoch.era) is not None

    def may_receive(self, member: str) -> bool:
        """Whether one of relayed() is to have what others send."""
        enrolled = self._roster.relayed_one(member, self.epoch.era)
        return enrolled is not None and enrolled.receives

    def may_send(self, member: str) -> bool:
        """Whether one of relayed() is registered as a sender."""
        enrolled = self._roster.relayed_one(member, self.epoch.era)
        return enrolled is not None and enrolled.sender

    def has_sender_id(self, member: str, sender_id: int) -> bool:
        """Whether the Sender-ID, of whatever incarnation, is that member's."""
        row = self._roster.rows.get(sender_id >> self.epoch.shape.incarnation_bits)
        return row is not None and row.era == self.epoch.era and row.owner == member

    def has_index(self, sender_id: int) -> bool:
        """Whether the Sender-ID, of whatever incarnation, is anybody's in this era."""
        row = self._roster.rows.get(sender_id >> self.epoch.shape.incarnation_bits)
        return row is not None and row.era == self.epoch.era

    def data_epochs(self, now_ms: int) -> list[tuple[Epoch, int]]:
        """Those under whose TEK data may come, and until when; the current one first."""
        former = [(epoch, end_ms) for epoch, end_ms in self._former if now_ms < end_ms]
        return [(self.epoch, NEVER), *former]

    def forgetting(self, member: str) -> Changes:
        """The write that takes away what is known of a member without keys. Its sender indexes go
        to others, unless these are what others check senders by."""
        enrolled = self._roster.members.get(member)
        is_here = enrolled is not None and enrolled.era == self.epoch.era
        if is_here and self.epoch.shape.source_auth == sources.NONE:
            return self._roster.removing(frozenset([member]))  # it was put out by other keys
        return self._roster.forgetting(member)

    def may_hold_keys(self, member: Member) -> bool:
        """Whether the member may have keys that still protect something, left or not.

        Who registered in this era has them, unless a rekey has taken its leaf since it left. And
        where the store may not know of all who registered: whoever might have, may have.
        """
        if self._has_known_keys(member.name):
            return True
        return not self.epoch.is_known and member.may_join(self.policy.name)

    def _has_known_keys(self, member: str) -> bool:
        enrolled = self._roster.members.get(member)
        if enrolled is None or enrolled.era != self.epoch.era:
            return False
        return self._tree is None or enrolled.leaf is not None or enrolled.relayed

    def evicting(self, holders: frozenset[str], others: frozenset[str], now_ms: int) -> Plan:
        """Decide on the next epoch, in which these are no more. holders: who may hold keys."""
        excludes = not self.is_inband and not self._can_evict(holders)
        how = {"excludes": excludes, "unknown": self._has_unknown(holders)}
        return self.plan(now_ms, gone=holders | others, **how)

    def _can_evict(self, members: frozenset[str]) -> bool:
        """Whether others need not register again when these are put out: as far as the messages
        that it takes can be sent at all. Who has data keys only is put out by replacing these."""
        if self._tree is not None or self.epoch.shape.delivery == UNICAST:
            return True
        return all(self._roster.is_relayed(member, self.epoch.era) for member in members)

    def _has_unknown(self, members: frozenset[str]) -> bool:
        """Whether one of them may have keys by a leaf that the tree doesn't know, so that all keys
        over known leaves have to go. With a leaf it is put out by taking that one."""
        if self._tree is None or self.epoch.shape.delivery == UNICAST:
            return False
        return not all(map(self._has_known_keys, members))

    def knows(self, member: str) -> bool:
        """Whether it has been here."""
        return member in self._roster.members

    def keeps_time_for(self, member: str) -> bool:
        """Whether senders are proven by time, and this member may ask for it."""
        return self.epoch.clock != b"" and not self._has_other_clock and self.has(member)

    def timed(self, member: str, knows: bool, now_ms: int) -> None:
        """It is told the time. knows: it says that it knew it before."""
        told_ms, unsure = self._timed.get(member, _NEVER_TOLD)
        unsure = unsure + 1 if now_ms < told_ms + _UNSURE_MS else 1
        self._timed[member] = now_ms, 0 if knows else unsure

    def is_untimed(self, member: str, now_ms: int) -> bool:
        """Whether a member should know the time and does not: it asks no more, or what it was told
        was of no use. Who has followed since before our start may have asked shortly before that.
        """
        if not self.epoch.clock or not self.has(member):
            return False
        if self.is_unsure(member, now_ms):
            return True
        told_ms, _ = self._timed.get(member, (self._started_ms, 0))
        return told_ms < now_ms - _MISSED * timingrules.asks_s(self.policy) * 1000

    def is_unsure(self, member: str, now_ms: int) -> bool:
        """Whether it asks again and again: what it was told, it was told too late."""
        told_ms, unsure = self._timed.get(member, _NEVER_TOLD)
        return unsure > 1 and now_ms < told_ms + _UNSURE_MS and self.has(member)

    def untimed(self, now_ms: int) -> list[str]:
        """All of these."""
        if self.epoch is None or not self.epoch.clock:
            return []
        return [member for member in self.active() if self.is_untimed(member, now_ms)]

    def prepare(self, now_ms: int) -> int:
        """Work ahead for those who will ask for it → when to go on."""
        if not self.epoch.clock or self._has_other_clock:
            return NEVER
        return now_ms + self.chains.prepare(self.epoch)

    @property
    def is_open(self) -> bool:
        """Whether anybody can register here now."""
        return True

    def is_elsewhere(self, relayed: bool) -> bool:
        """Whether another key server alone can register such a member. relayed: its delivery is
        unicast."""
        return False

    @property
    def is_inband(self) -> bool:
        """Whether members are told of the current epoch's end over their IKE SAs."""
        return self.epoch.shape.rekey == INBAND

    # Time

    def age_s(self, now_ms: int) -> int:
        return (now_ms - self._born_ms + 999) // 1000

    def delays_s(self, now_ms: int) -> tuple[int, int]:
        """ATD and DTD for a member that registers now: a sender is silent for what is left."""
        return succession.told_s(self._activate_ms - now_ms, self.policy.delays_s(self._evicts))

    def farewell_s(self, now_ms: int) -> tuple[int, int]:
        """Of who was put out just now: for how long it can still read what is sent, if nobody
        loses a message, and for how long some may take what it sends."""
        return tuple(-(-max(0, ms - now_ms) // 1000) for ms in (self._activate_ms, self._end_ms))

    def step(self, now_ms: int) -> None:
        """Rekey when it is time, forget messages that are out. Problem: it is tried again."""
        if now_ms < self._retry_ms:
            return
        self._retry_ms = now_ms + RETRY_MS  # if one of these fails
        if now_ms >= self._rekey_ms or self._has_other_clock:
            self.rekey(now_ms)
        self._tidy(now_ms)
        self._retry_ms = now_ms

    def due(self, now_ms: int) -> list[Out]:
        """Messages to be sent to the group now."""
        return self._repeats.due(self.policy, now_ms)

    def next_ms(self) -> int:
        """When step() or due() has something to do."""
        repeat_ms = self._repeats.next_ms()
        next_ms = self._rekey_ms if repeat_ms is None else min(repeat_ms, self._rekey_ms)
        return max(next_ms, self._retry_ms)

    def rekey_sas(self) -> list[RekeySA]:
        """The current one, and those under which messages are still on their way."""
        found = {parcel.over.spi: parcel.over for parcel in self._repeats.outbox}
        return [self.epoch.rekey, *found.values()]

    @property
    def is_quiet(self) -> bool:
        """Whether everything has been said."""
        return not self._repeats.outbox

    @property
    def has_unsent(self) -> bool:
        """Whether a message waits for its time that has not been sent at all."""
        return self._repeats.unsent > 0

    def is_fresh(self, now_ms: int) -> bool:
        """Whether members may still lack the current epoch: it has just been told."""
        return now_ms < self._born_ms + self.policy.dtd_s * 1000

    def state_of(self, member: str, now_ms: int) -> str:
        """What it is to the group, as far as the key server can know: see states.py."""
        if member in self._newcomers.waiting(now_ms):
            return states.WAITING
        return self.kept_state_of(member)

    def kept_state_of(self, member: str) -> str:
        """state_of(), had it not asked again."""
        enrolled = self._roster.members.get(member)
        if enrolled is None:
            return states.NEVER
        if enrolled.left:
            return enrolled.placed or states.LEFT
        return states.MEMBER if self.has(member) else states.EXCLUDED

    def counts(self) -> dict[str, int]:
        """Of members by state, but for those that wait or were never here."""
        return {} if self.epoch is None else self._roster.counts(self.epoch.era)

    def sender_count(self) -> int:
        """How many senders are registered."""
        return 0 if self.epoch is None else self._roster.sender_count(self.epoch.era)

    def waiting(self, now_ms: int) -> list[str]:
        """Who has asked, and is given keys as soon as there are some that nobody has used."""
        return self._newcomers.waiting(now_ms)

    def status(self, now_ms: int, is_running: bool, most: int) -> dict:
        """is_running: whether times mean anything; most: names in each list."""
        self.refresh(now_ms)
        if self.epoch is None:
            facts = {"epoch": None, "rekey": self.policy.rekey, "unicast": [], "unicast_count": 0}
            facts["integrity_only"] = self.policy.integrity_only
            facts["source_auth"] = self.policy.source_auth
            return {**facts, "members": [], "senders": [], "absent": [], "waiting": []}
        relayed = self.relayed()
        facts = {
            "epoch": self.epoch.number,
            "spi": self.epoch.tek_spi.hex(),
            "rekey": self.epoch.shape.rekey,
            "integrity_only": self.epoch.shape.integrity_only,
            "source_auth": self.epoch.shape.source_auth,
            **self._roster.names(self.epoch.era, most),
            "unicast": relayed[:most],
            "unicast_count": len(relayed),
            "waiting": self.waiting(now_ms)[:most],
        }
        if is_running:
            facts["age_s"] = (now_ms - self._born_ms) // 1000
            facts["rekey_in_s"] = max(0, self._rekey_ms - now_ms) // 1000
            facts["last_rekey"] = self._said
            untimed = self.untimed(now_ms)
            facts["untimed"] = untimed[:most]
            facts["untimed_count"] = len(untimed)
        return facts

    # Inside

    def refresh(self, now_ms: int) -> None:
        """After a write whose outcome is unknown: the store says what is true."""
        if self.is_stale:
            self._read(now_ms)

    def _read(self, now_ms: int) -> None:
        found = self._ledger.scan(self._prefix)
        self._roster.load(found)
        self._tree = KeyTree.loaded(found) if "tree" in found else None
        if "state" in found:
            epoch, outbox = decode_state(found["state"])
            if epoch != self.epoch:
                come_back = bool(outbox) and outbox[-1].excludes
                delays_s = self.policy.delays_s(False)
                earliest_ms = succession.earliest_ms(self.policy, now_ms, come_back, delays_s)
                activate_ms = max(earliest_ms, self._activate_ms)
                said_ms = max(now_ms, self._repeats.begin_ms)  # as decide() has it
                _, dtd_s = succession.told_s(activate_ms - said_ms, delays_s)
                end_ms = said_ms + dtd_s * 1000
                plan = Plan(epoch, outbox, {}, activate_ms, end_ms, tree=self._tree)
                self.believe(plan, now_ms)
                said_ms = self._repeats.begin_ms + delays_s[0] * 1000
                self._activate_ms = max(activate_ms, said_ms)
        self.is_stale = False

    def _clock_name(self) -> bytes:
        """Of the one by which senders are proven from the next epoch on."""
        if self.policy.source_auth != TESLA:
            return b""
        self.chains.clock.begin()
        return self.chains.clock.name

    @property
    def _has_other_clock(self) -> bool:
        clock, name = self.chains.clock, self.epoch.clock
        return name != b"" and (name != clock.name or clock.is_over)

    def _founded(self, now_ms: int, more: Changes) -> Plan:
        epoch = first_epoch(self.policy.shape, self._random)
        epoch = replace(epoch, clock=self._clock_name(), birth=self._birth())
        tree, changes = succession.new_tree(self._prefix, self.policy, None, self._random)
        changes[self._prefix + "state"] = encode_state(epoch, ())
        self._write(changes | more)
        return Plan(epoch, (), changes, now_ms, tree=tree)

    def _birth(self) -> Birth | None:
        """What others are told of the next epoch."""
        return None

    def _after(self, plan: Plan, now_ms: int) -> list[tuple[Epoch, int]]:
        """What is still received under once this plan is believed. Not across a start: which
        numbers were seen before is not known."""
        was = self.epoch
        if was is None or (was.era, was.life) != (plan.epoch.era, plan.epoch.life):
            return []
        former = [(epoch, end_ms) for epoch, end_ms in self._former if now_ms < end_ms]
        return [(was, plan.end_ms + plan.late_ms), *former]

    def _freshen(
        self, member: str, fragments: bool | None, boots: bool, role: Role, now_ms: int
    ) -> None:
        """Other keys for who must not have these, or NotYet. fragments: None, it gets no path."""
        has_tree = self._tree is not None and fragments is not None
        how = {"is_new": not self.has(member), "boots": boots, "tree": has_tree}
        ask = member, self.policy, now_ms
        if not self._newcomers.can_have(*ask, **how, seated=self._is_seated(member, role)):
            due_ms = self._newcomers.wait(member, fragments, role, self.policy, now_ms)
            if now_ms >= due_ms:
                if self._lacks_index(member, role.sends):
                    self.exclude(now_ms)  # which frees the indexes that are used up
                else:
                    self.rekey(now_ms)
                if self._newcomers.can_have(*ask, **how, seated=self._is_seated(member, role)):
                    return
                due_ms = self._newcomers.wait(member, fragments, role, self.policy, now_ms)
            raise NotYet(due_ms)

    def forget_waiting(self, member: str) -> None:
        """Who was removed is not to be given a seat, or a leaf."""
        self._newcomers.forget(member)

    def _is_seated(self, member: str, role: Role) -> bool:
        """GroupFull: no member more can be told apart."""
        source_auth = self.epoch.shape.source_auth
        if not seats.needs_seat(source_auth, role.sends):
            return True
        if seats.is_full(source_auth, self.epoch.seats, member, role):
            raise GroupFull
        if not seats.is_seated(self.epoch.seats, member, role):
            return False
        index = seats.seat_of(self.epoch.seats, member).index
        return not role.sends or senders.has_value(self.rows, member, index, self.epoch)

    def _lacks_index(self, member: str, sends: bool) -> bool:
        """Whether no index would be there for a seat of this sender."""
        if not sends or self.epoch.shape.source_auth == sources.NONE:
            return False
        seat = seats.seat_of(self.epoch.seats, member)
        taken = {other.index for other in self.epoch.seats}
        index = None if seat is None else seat.index
        ask = self.rows, member, index, self.epoch, taken
        return senders.index_from_now(*ask) is None

    @property
    def seated(self) -> frozenset[str]:
        """Who has a seat, whether it has keys or not: others were told of it."""
        return frozenset(seat.member for seat in self.epoch.seats)

    @property
    def rows(self) -> dict[int, senders.Row]:
        """What each sender index was used for."""
        return self._roster.rows

    def _place(self, member: str, relayed: bool) -> tuple[int | None, Draft | None]:
        """The leaf of a member that registers, and what that does to the key tree."""
        if self._tree is None:
            return None, None
        enrolled = self._roster.members.get(member)
        if relayed:  # a leaf of before is kept: removing it takes the keys that it led to
            is_placed = enrolled is not None and enrolled.era == self.epoch.era
            return enrolled.leaf if is_placed else None, None
        draft = Draft(self._tree, self._random)
        if enrolled is None or enrolled.era != self.epoch.era or enrolled.leaf is None:
            return draft.join(), draft
        draft.renew(enrolled.leaf)
        return enrolled.leaf, draft

    def _carry_out(self, plan: Plan, now_ms: int, more: Changes | None = None) -> None:
        self._write(plan.changes | (more or {}))
        self.believe(plan, now_ms)

    def _write(self, changes: Changes, *, later: bool = False) -> None:
        self.is_stale = True
        self._ledger.write(changes, later=later)
        self.is_stale = False

    def _pick(self, member: str, wanted: int, now_ms: int) -> dict[int, senders.Row]:
        """Rows for fresh Sender-IDs, after a rekey or an exclusion if it takes one.

        Not before the last change of keys is through, though: one member that comes again and
        again must not make all others change keys faster than they can.
        """
        wanted = min(max(1, wanted), self.policy.sender_ids)
        most = max(self.policy.sender_ids, (1 << self.epoch.shape.index_bits) // 4)
        ask = self._roster.rows, member, wanted
        if self.epoch.shape.source_auth != sources.NONE:  # which _freshen() has looked at
            index = seats.seat_of(self.epoch.seats, member).index
            return senders.pick(*ask, self.epoch, most=1, may_rekey=False, only=index)
        may_move = now_ms >= self._through_ms
        try:
            return senders.pick(*ask, self.epoch, most=most, may_rekey=may_move)
        except senders.NoIndex:
            raise GroupFull from None
        except senders.RekeyFirst:
            self.rekey(now_ms)
        except senders.ExcludeFirst:
            if not may_move:
                raise GroupFull from None
            self.exclude(now_ms)
        return senders.pick(*ask, self.epoch, most=most, may_rekey=False)

    def _make_way(self, member: str, now_ms: int) -> None:
        """For the one sender of a group: its numbers begin anew, and receivers have one window
        for all that comes under a TEK (RFC 9838 section 2.6). So a TEK under which anybody may
        have sent goes first."""
        epoch = self.epoch
        if self._roster.has_sender(epoch.era, besides=member):
            raise GroupFull
        was_given = any(row.era == epoch.era for row in self._roster.rows.values())
        if was_given and now_ms >= self._earliest_ms:
            if now_ms < self._through_ms:
                raise GroupFull  # too soon, as in _pick
            self.rekey(now_ms)
        elif was_given:
            self.until_ms = min(self.until_ms, self._earliest_ms)

    def _tidy(self, now_ms: int) -> None:
        self.refresh(now_ms)
        kept = self._repeats.unfinished(now_ms)
        if kept is not None:
            self._write({self._prefix + "state": encode_state(self.epoch, kept)})
            self._repeats.schedule(kept, self.policy, now_ms, self._activate_ms)


def _size_of(outbox: Outbox) -> dict[str, int]:
    """What is sent once, without repeats."""
    datagrams = [datagram for parcel in outbox for datagram in parcel.messages]
    octets = sum(map(len, datagrams))
    return {"messages": len(outbox), "datagrams": len(datagrams), "octets": octets}
