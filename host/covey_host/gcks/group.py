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

from dataclasses import dataclass, replace

from ..errors import Problem
from . import Out, senders
from .authority import Member
from .epoch import (
    Epoch,
    Outbox,
    Parcel,
    Random,
    RekeySA,
    between,
    decode_state,
    encode_state,
    first_epoch,
    kwk_len,
    next_epoch,
)
from .keytree import Draft, KeyTree, Node
from .ledger import Changes, Ledger
from .policy import INBAND, REKEY_AT, GroupPolicy
from .rekeyer import Rekeyer
from .repeats import Repeats
from .roster import Enrolled, Roster

_JITTER = 5  # % of a lifetime: groups that began together are not rekeyed together
_RETRY_MS = 5000  # after a write that failed
_MOST_PARCELS = 8  # unsent rekeys in a row; who missed more registers again
_MOST_WRAPS = 96  # wrapped keys in one message, about 3.5 KB of them
_MOST_ROUNDS = 16  # messages to put out as many as go at once; if it takes more, all go


class GroupFull(Exception):
    """No registration now, whoever asks (REGISTRATION_FAILED)."""


@dataclass(frozen=True)
class Plan:
    """A new epoch, decided and not yet written."""

    epoch: Epoch
    outbox: Outbox
    changes: Changes
    activate_ms: int
    gone: frozenset[str]  # members that this takes away
    tree: KeyTree | None = None  # from now on
    draft: Draft | None = None  # what is to be applied to it
    vacated: frozenset[str] = frozenset()  # members whose leaf is free


class Group:
    def __init__(self, policy: GroupPolicy, ledger: Ledger, rekeyer: Rekeyer, random: Random):
        self.policy = policy
        self._ledger = ledger
        self._rekeyer = rekeyer
        self._random = random
        self._prefix = f"group/{policy.name}/"
        self.is_stale = True  # memory may not be what the store holds
        self.epoch: Epoch | None = None
        self._roster = Roster(self._prefix)
        self._tree: KeyTree | None = None
        self._repeats = Repeats()
        self._born_ms = 0
        self._activate_ms = 0  # from when senders use the TEK
        self._rekey_ms = 0  # when the next rekey is due
        self._retry_ms = 0  # not before, after a write that failed

    # The life of a group

    def start(self, now_ms: int, evicted: frozenset[str], more: Changes) -> None:
        """When the key server starts: a new group, or new keys over the stored Rekey SA, before
        any Sender-ID is given. evicted: removed while no server ran; more: is written with it."""
        self._read(now_ms)
        if self.epoch is None:
            self.believe(self._founded(now_ms, more), now_ms)
            return
        shape = self.policy.shape
        excludes = not self._can_evict(evicted)
        excludes |= self.is_inband  # the IKE SAs of its members are lost, and with them all ways
        excludes |= senders.is_used_up(shape, self.epoch.life + 1)
        plan = self.plan(now_ms, excludes=excludes, started=True, gone=evicted)
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
    ) -> Plan:
        """Decide on the next epoch. To be written by the caller, then given to believe().

        gone: who is not to follow; with a key tree those that left by themselves don't either.
        """
        old, policy = self.epoch, self.policy
        leaving = self._roster.leaving(old.era, gone) if self._tree else {}
        draft = Draft(self._tree, self._random) if leaving else None
        rounds = draft.rounds(leaving.values(), _MOST_WRAPS) if draft else []
        excludes = excludes or old.shape != policy.shape or len(rounds) > _MOST_ROUNDS
        if excludes:
            draft, rounds, leaving = None, [], {}
        sas = between(old, self._random, count=len(rounds), started=started)
        over = sas[-1] if sas else None
        how = {"excludes": excludes, "started": started, "over": over}
        new = next_epoch(old, policy.shape, self._random, **how)
        outbox = self._repeats.outbox
        come_back = excludes or started and any(parcel.excludes for parcel in outbox)
        delays_s = policy.delays_s(bool(rounds))
        gaps_ms = len(rounds) * policy.evict_gap_ms
        earliest_ms = self._earliest_ms(now_ms + gaps_ms, come_back, delays_s)
        activate_ms = max(earliest_ms, self._activate_ms)
        if excludes:
            outbox = tuple(p if p.excludes else self._exclusion(p) for p in outbox)
        most = _MOST_PARCELS
        if not self.is_inband:
            fragments = self._can_all_fragment(old)
            parcels = self._rekeyer.rounds(
                old, rounds, sas, new.rekey.spi, policy, in_fragments=fragments
            )
            if excludes:
                over = old.rekey, old.destination, old.shape.has_marker
                parcels.append(self._rekeyer.exclude(*over))
            else:
                left_ms = activate_ms - now_ms - gaps_ms
                parcels.append(self._announcement(old, new, left_ms, delays_s, over, fragments))
            outbox += tuple(parcels)
            most = max(most, len(parcels))
        outbox = outbox[-most:]
        changes = {self._prefix + "state": encode_state(new, outbox)}
        changes |= self._roster.vacating(frozenset(leaving) - gone)
        changes |= self._roster.removing(gone)
        tree = self._tree
        if excludes:
            tree, dropped = self._new_tree()
            changes |= dropped
        elif draft:
            changes |= tree.pages(draft, self._prefix)
        return Plan(
            new, outbox, changes, activate_ms, gone, tree, draft, frozenset(leaving) - gone
        )

    def believe(self, plan: Plan, now_ms: int) -> None:
        """The plan is in the store: from now on it is true."""
        self.is_stale = False
        self.epoch = plan.epoch
        self._born_ms = now_ms
        self._activate_ms = plan.activate_ms
        lifetime_ms = self.policy.lifetime_s * 1000
        jitter = int.from_bytes(self._random(2)) * lifetime_ms * _JITTER // 100 >> 16
        self._rekey_ms = now_ms + lifetime_ms * REKEY_AT // 100 - jitter
        self._roster.remove(plan.gone)
        self._roster.vacate(plan.vacated)
        self._tree = plan.tree
        if plan.draft is not None:
            plan.tree.apply(plan.draft)
        self._repeats.schedule(plan.outbox, self.policy, now_ms, plan.activate_ms)

    # Members

    def admit(
        self, member: str, wanted: int | None, now_ms: int, fragments: bool = False
    ) -> list[int]:
        """Register a member: its fresh Sender-IDs, none where wanted is None (a receiver). It has
        a new personal key: see path().

        All of it is durable on return. GroupFull where it must not be; Problem from the store.
        """
        self.refresh(now_ms)
        if now_ms >= self._born_ms + self.policy.lifetime_s * 1000:
            self.rekey(now_ms)  # overdue, as after a disk that was full for long
        if not self.has(member) and self._roster.count(self.epoch.era) >= self.policy.members:
            raise GroupFull
        if wanted is not None and self.epoch.shape.single_sender:
            wanted = 1
            self._make_way(member, now_ms)
        picked = {} if wanted is None else self._pick(member, wanted, now_ms)
        leaf, draft = self._place(member)
        enrolled = Enrolled(self.epoch.era, wanted is not None, False, fragments, leaf)
        changes = self._roster.entering(member, enrolled, picked)
        self._write(changes | (self._tree.pages(draft, self._prefix) if draft else {}))
        self._roster.enter(member, enrolled, picked)
        if draft:
            self._tree.apply(draft)
        return [senders.sender_id(self.epoch.shape, i, row) for i, row in picked.items()]

    def path(self, member: str) -> list[Node]:
        """The keys of the key tree that a member is to have, the top first; none without tree."""
        enrolled = self._roster.members[member]
        return [] if self._tree is None else Draft(self._tree, self._random).path(enrolled.leaf)

    def leave(self, member: str, now_ms: int) -> None:
        """The member says that it is none any more; it may come back. With a key tree it does not
        follow the next rekey."""
        self.refresh(now_ms)
        if self.has(member):
            gone = replace(self._roster.members[member], left=True)
            self._write(self._roster.entering(member, gone, {}))
            self._roster.enter(member, gone, {})

    def active(self) -> dict[str, Enrolled]:
        """Who is registered, as far as the key server can know."""
        return self._roster.active(self.epoch.era)

    def has(self, member: str) -> bool:
        """Whether this one is among them."""
        return self._roster.is_active(member, self.epoch.era)

    def forgetting(self, member: str) -> Changes:
        """The write that takes away what is known of a member without keys."""
        return self._roster.forgetting(member)

    def may_hold_keys(self, member: Member) -> bool:
        """Whether the member may have keys that still protect something, left or not.

        Since a start in this era the store may be a restored backup, and then it does not know
        who registered after it was made: whoever might have, may have.
        """
        enrolled = self._roster.members.get(member.name)
        if enrolled is not None and enrolled.era == self.epoch.era:
            return True
        return self.epoch.life > 0 and member.may_join(self.policy.name)

    def can_evict(self, member: str) -> bool:
        """Whether others need not register again when this one, which has keys, is put out."""
        return self.is_inband or self._can_evict(frozenset({member}))

    def _can_evict(self, members: frozenset[str]) -> bool:
        with_leaf = self._roster.leaving(self.epoch.era, members) if self._tree else {}
        return members <= set(with_leaf)

    @property
    def is_inband(self) -> bool:
        """Whether members are told of the current epoch's end over their IKE SAs."""
        return self.epoch.shape.rekey == INBAND

    # Time

    def age_s(self, now_ms: int) -> int:
        return (now_ms - self._born_ms + 999) // 1000

    def delays_s(self, now_ms: int) -> tuple[int, int]:
        """ATD and DTD for a member that registers now: a sender is silent for what is left."""
        return self._delays_s(max(0, self._activate_ms - now_ms), self.policy.delays_s(False))

    def step(self, now_ms: int) -> None:
        """Rekey when it is time, forget messages that are out. Problem: it is tried again."""
        if now_ms < self._retry_ms:
            return
        self._retry_ms = now_ms + _RETRY_MS  # if one of these fails
        if now_ms >= self._rekey_ms:
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
        return [self.epoch.rekey, *(parcel.over for parcel in self._repeats.outbox)]

    @property
    def is_quiet(self) -> bool:
        """Whether everything has been said."""
        return not self._repeats.outbox

    def status(self, now_ms: int, is_running: bool) -> dict:
        """is_running: whether times mean anything."""
        self.refresh(now_ms)
        if self.epoch is None:
            facts = {"epoch": None, "rekey": self.policy.rekey}
            facts["integrity_only"] = self.policy.integrity_only
            return {**facts, "members": [], "senders": [], "absent": []}
        active = self.active()
        facts = {
            "epoch": self.epoch.number,
            "spi": self.epoch.tek_spi.hex(),
            "rekey": self.epoch.shape.rekey,
            "integrity_only": self.epoch.shape.integrity_only,
            "members": sorted(active),
            "senders": sorted(m for m, enrolled in active.items() if enrolled.sender),
            "absent": sorted(set(self._roster.members) - set(active)),
        }
        if is_running:
            facts["age_s"] = (now_ms - self._born_ms) // 1000
            facts["rekey_in_s"] = max(0, self._rekey_ms - now_ms) // 1000
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
                earliest_ms = self._earliest_ms(now_ms, come_back, delays_s)
                activate_ms = max(earliest_ms, self._activate_ms)
                plan = Plan(epoch, outbox, {}, activate_ms, frozenset(), self._tree)
                self.believe(plan, now_ms)
        self.is_stale = False

    def _founded(self, now_ms: int, more: Changes) -> Plan:
        epoch = first_epoch(self.policy.shape, self._random)
        tree, changes = self._new_tree()
        changes[self._prefix + "state"] = encode_state(epoch, ())
        self._write(changes | more)
        return Plan(epoch, (), changes, now_ms, frozenset(), tree)

    def _new_tree(self) -> tuple[KeyTree | None, Changes]:
        """In place of the one there is, for a new era; the write that makes it so."""
        shape, old = self.policy.shape, self._tree
        changes: Changes = {} if old is None else old.dropping(self._prefix)
        if not shape.key_tree:
            return None, changes
        tree = KeyTree(shape.key_tree, kwk_len(shape.key_bits), old.next_id if old else 1)
        return tree, changes | tree.pages(Draft(tree, self._random), self._prefix)

    def _place(self, member: str) -> tuple[int | None, Draft | None]:
        """The leaf of a member that registers, and what that does to the key tree."""
        if self._tree is None:
            return None, None
        draft = Draft(self._tree, self._random)
        enrolled = self._roster.members.get(member)
        if enrolled is None or enrolled.era != self.epoch.era or enrolled.leaf is None:
            return draft.join(), draft
        draft.renew(enrolled.leaf)
        return enrolled.leaf, draft

    def _carry_out(self, plan: Plan, now_ms: int, more: Changes | None = None) -> None:
        self._write(plan.changes | (more or {}))
        self.believe(plan, now_ms)

    def _write(self, changes: Changes) -> None:
        self.is_stale = True
        self._ledger.write(changes)
        self.is_stale = False

    def _pick(self, member: str, wanted: int, now_ms: int) -> dict[int, senders.Row]:
        """Rows for fresh Sender-IDs, after a rekey or an exclusion if it takes one.

        Not before the last change of keys is through, though: one member that comes again and
        again must not make all others change keys faster than they can.
        """
        wanted = min(max(1, wanted), self.policy.sender_ids)
        most = max(self.policy.sender_ids, (1 << self.epoch.shape.index_bits) // 4)
        may_move = now_ms >= self._born_ms + self.policy.dtd_s * 1000
        ask = self._roster.rows, member, wanted
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

    def _announcement(
        self,
        old: Epoch,
        new: Epoch,
        atd_ms: int,
        delays_s: tuple[int, int],
        over: RekeySA | None,
        in_fragments: bool,
    ) -> Parcel:
        """Over the old epoch's Rekey SA, or the one that all have who are to stay."""
        atd_s, dtd_s = self._delays_s(atd_ms, delays_s)
        return self._rekeyer.rekey(
            old,
            new,
            self.policy,
            atd_s=atd_s,
            dtd_s=dtd_s,
            in_fragments=in_fragments,
            over=over,
            gap_ms=self.policy.evict_gap_ms if over else 0,
        )

    def _can_all_fragment(self, epoch: Epoch) -> bool:
        active = self._roster.active(epoch.era).values()
        return bool(active) and all(enrolled.fragments for enrolled in active)

    def _make_way(self, member: str, now_ms: int) -> None:
        """For the one sender of a group: its numbers begin anew, and receivers have one window
        for all that comes under a TEK (RFC 9838 section 2.6). So a TEK under which anybody may
        have sent goes first."""
        epoch = self.epoch
        if any(e.sender and other != member for other, e in self.active().items()):
            raise GroupFull
        was_given = any(row.era == epoch.era for row in self._roster.rows.values())
        if was_given and now_ms >= self._activate_ms:
            if now_ms < self._born_ms + self.policy.dtd_s * 1000:
                raise GroupFull  # too soon, as in _pick
            self.rekey(now_ms)

    def _exclusion(self, parcel: Parcel) -> Parcel:
        """In place of a rekey that some may not have heard: it would hand them keys."""
        return self._rekeyer.exclude(parcel.over, parcel.destination, parcel.marker)

    def _earliest_ms(self, now_ms: int, come_back: bool, delays_s: tuple[int, int]) -> int:
        """From when an epoch that begins now is sent under: all must have it by then."""
        spread_s = self.policy.rejoin_spread_s if come_back else 0
        return now_ms + (delays_s[0] + spread_s) * 1000

    def _delays_s(self, left_ms: int, delays_s: tuple[int, int]) -> tuple[int, int]:
        """ATD and DTD from now on; where ATD is longer than policy's, DTD grows with it."""
        atd_s = -(-left_ms // 1000)
        return atd_s, delays_s[1] + max(0, atd_s - delays_s[0])

    def _tidy(self, now_ms: int) -> None:
        self.refresh(now_ms)
        kept = self._repeats.unfinished(now_ms)
        if len(kept) < len(self._repeats.outbox):
            self._write({self._prefix + "state": encode_state(self.epoch, kept)})
            self._repeats.schedule(kept, self.policy, now_ms, self._activate_ms)
