"""The key server as one object: octets, commands and the time go in, messages to send come out.

Whatever it hands back has been written to the store before. Fenced means that another key server
has taken over: this one must stop. Any other Problem leaves it able to go on.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from ..errors import MISUSE, Problem
from ..store import Fenced, Store
from . import Out, disclosure, handover, putout, seats, sources, trust
from .authority import Authority, Member, load_signing_key, lost_by
from .clock import Boot, Clock, Standstill
from .diary import Diary
from .epoch import Epoch
from .group import Group
from .halfopen import most_len
from .ledger import Ledger
from .overview import Overview
from .policy import GroupPolicy, SitePolicy
from .redirects import Redirects
from .registrar import Registrar
from .rekeyer import Rekeyer
from .relay import Relay
from .responder import Responder
from .roles import Role, is_pattern, stored
from .spis import Spis
from .timers import NEVER

_LAST_WRITES = 1000  # at the end
_IDENTITY = "site/identity"  # by which members know this key server: as it was last
_MOST_EVENTS = 1000  # kept for whoever reads them; the oldest go first


OTHER_IDENTITY = (
    "identity in covey.toml is {now!r} and was {was!r}: members whose idr is {was!r} refuse this"
    " key server. Put it back, or bring each member a covey.json with the new idr."
)


class KeyServer:
    """Until start() only status() can be asked: it shows what the store holds."""

    def __init__(
        self,
        store: Store,
        policy: SitePolicy,
        *,
        random: Callable[[int], bytes] = os.urandom,
        time: Callable[[], float] = time.time,
        boot: Boot | None = None,
        spis: Spis | None = None,
        now: Callable[[], int] | None = None,
    ):
        """time(): seconds since 1970, for people, and to judge certificates by; nothing else is
        decided by it. boot: of what machine the clock is by which senders are proven, and now_ms.
        spis: where there are workers. now(): what now_ms is by now; None: as it was handed in."""
        self.counters: Counter[str] = Counter()
        self.events: list[tuple[str, dict]] = []  # what happened; the reader empties it,
        self.on_full: Callable[[], None] = lambda: None  # in here, before any is let go
        self._store = store
        self._policy = policy
        self._random = random
        self._boot = boot or Boot()
        self._standstill = Standstill(self._boot)
        self._now = now
        self._spis = spis
        self._ledger = Ledger(store)
        self._clock = Clock(self._ledger, random, self._boot)
        self._authority = Authority(self._ledger, random)
        self._time = time
        self._diary = Diary(store, None, self._authority, time)
        self._groups: dict[str, Group] = {}
        self._retired: list[Group] = []  # gone from policy, still saying so
        self._left_groups: putout.Plans = []  # by whom was removed last
        self._epochs: dict[str, Epoch] = {}  # as they were last told of
        self._responder: Responder | None = None
        self._held: list[tuple[str, dict]] | None = None  # events of together(), until it is done
        self._disclosure = disclosure.Disclosure()
        self.trust = trust.load(self._ledger)

    @property
    def authority(self) -> Authority:
        return self._authority

    def start(self, now_ms: int) -> list[Out]:
        """Take over the store, and rekey each group over its stored Rekey SA: whatever was given
        out under the stored keys, none of it is given out again."""
        self._begin(Ledger(self._store, self._store.acquire_term(f"key server {os.getpid()}")))
        for policy in self._policy.groups.values():
            self._start_group(policy, now_ms)
        self._check_identity(self._policy.identity)
        self._renew()
        return self._due(now_ms)

    def _begin(self, ledger: Ledger) -> None:
        """All but the groups."""
        self._rekeyer = Rekeyer(load_signing_key(self._store), self._random)
        self._rekeyer.most_len = most_len(self._policy)
        self._ledger = ledger
        self._clock = Clock(self._ledger, self._random, self._boot)
        self._authority = Authority(self._ledger, self._random)
        self._check_receivers(self._policy)
        self._diary = Diary(
            self._store, ledger.term, self._authority, self._time, is_shared=ledger.is_shared
        )
        self._diary.contacts.load()
        self._registrar = Registrar(
            self._groups,
            self._authority,
            self._rekeyer.public_key,
            self.counters,
            self._tell,
            self._diary.hear,
        )
        self._responder = Responder(
            self._policy,
            self._groups,
            self._authority,
            self._registrar,
            self.counters,
            self._tell,
            self._random,
            self._time,
            self._spis,
        )
        self.relay = Relay(self._groups, self._responder.told, self.counters)

    def _check_identity(self, now: str) -> None:
        """Whether members know this key server by the name that it has now."""
        was = self._ledger.read(_IDENTITY)
        if was is not None and was.decode() != now:
            self._tell("trouble", reason=OTHER_IDENTITY.format(was=was.decode(), now=now))
        if was is None or was.decode() != now:
            self._ledger.write({_IDENTITY: now.encode()})

    def _renew(self) -> None:
        """The key server's certificate, if it is time."""
        of_ours = self._ledger, trust.load(self._ledger)
        trust.renew_server(*of_ours, self._policy.identity, self._time())
        self.refresh_trust()

    def receive(self, data: bytes, address: Any, now_ms: int) -> list[Out]:
        """One IKE message without marker; address is any hashable that Out.address gives back."""
        return self._answer(partial(self._responder.receive, data, address), now_ms)

    def has_cookie(self, data: bytes, address: Any, now_ms: int) -> bool:
        """Of a message that receive() is to be given later: see Inbox."""
        return self._responder.has_cookie(data, address, now_ms)

    @property
    def redirects(self) -> Redirects:
        """Where members are sent by drain()."""
        return self._responder.redirects

    def drain(self, now_ms: int) -> list[Out]:
        """Send members elsewhere, from now on."""
        return self._answer(self._responder.drain, now_ms)

    @property
    def is_drained(self) -> bool:
        """Whether members have heard of drain()."""
        return self._responder.is_drained

    def take_over(self, data: bytes, now_ms: int) -> list[Out]:
        """What a worker hands over (see handover.py): a member that has proven itself to it."""
        sa, opened = handover.parse(data, self._random)
        return self._answer(partial(self._responder.take_over, sa, opened), now_ms)

    def hear_workers(
        self,
        half_open: int,
        counters: dict[str, int],
        events: Iterable,
        left_out: dict[str, int],
    ) -> None:
        """half_open: IKE SAs of all of them; counters, events: since the last call; left_out: how
        many more events there were, by their names."""
        self._responder.crowd(half_open)
        self.counters.update(counters)
        for name, facts in events:
            self._tell(name, **facts)
        for name, count in left_out.items():
            self._tell("left_out", of=name, count=count)

    @contextmanager
    def together(self, now_ms: int):
        """Messages that arrived at once: what receive() in here says of members is written by one
        sync. Nothing that it hands back may be sent before this has ended; then what it yields, a
        list, holds the rest, and step() is to follow. A Problem as it ends: nobody who was to be
        answered was heard.
        """
        self._held, late = [], []
        try:
            with self._written_together(now_ms):
                yield late
        except BaseException:
            self._held = None
            self.counters["unheard"] += self._responder.unhear()
            self._distrust()
            raise
        held, self._held = self._held, None
        for name, facts in held:
            self._tell(name, **facts)
        late += self._heard(now_ms)

    def step(self, now_ms: int) -> tuple[list[Out], int]:
        """Whatever time has brought → (messages, milliseconds until the next call)."""
        failed = None
        with self.together(now_ms) as late:
            try:
                outs = self._responder.step(now_ms)
            except Fenced:
                raise
            except Exception as error:  # one IKE SA's: what was written for others stays
                failed = error
        if failed is not None:
            raise failed
        outs += late
        for group in self._all():
            try:
                self._step_group(group, now_ms)
            except Fenced:
                raise
            except Problem as problem:  # it tries again; other groups go on
                self.counters["store_failed"] += 1
                self._tell("trouble", group=group.policy.name, reason=problem.sentence)
        failed = self._diary.step(now_ms)
        if failed:
            self._tell("trouble", reason=failed)
        outs += self._due(now_ms)
        self._retired = [group for group in self._retired if not group.is_quiet]
        next_ms = min(self._responder.next_ms(), self._diary.next_ms())
        next_ms = min([next_ms, *(group.next_ms() for group in self._all())])
        next_ms = min([next_ms, *(group.prepare(now_ms) for group in self._groups.values())])
        return outs, max(0, next_ms - now_ms)

    def rekey(self, group: str, now_ms: int) -> list[Out]:
        """New keys for a group, at once."""
        if group not in self._groups:
            raise Problem(f"There is no group {group!r}: see `covey group list`.", MISUSE)
        self._groups[group].rekey(now_ms)
        return self._due(now_ms)

    def add_member(
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
        for group in groups:
            if not is_pattern(group) and group not in self._policy.groups:
                raise Problem(f"There is no group {group!r}: see `covey group list`.", MISUSE)
        how = {"psk": psk, "relayed": relayed, "certificates": certificates}
        how |= {"ppk": ppk, "is_ppk_optional": is_ppk_optional, "key": key}
        member = self._authority.add(name, groups, sender=sender, role=role, **how)
        role = member.groups[groups[0]]
        self._tell("added", member=name, groups=list(groups), sender=role.sends, role=role.word)
        return member

    @property
    def ledger(self) -> Ledger:
        """For what commands do to `trust`; refresh_trust() is to follow."""
        return self._ledger

    def refresh_trust(self) -> None:
        self.trust = trust.load(self._ledger)
        if self._responder:
            rows = {key: self._ledger.version(key) for key in trust.ROWS}
            self._responder.believe(self.trust, rows)

    def void(self) -> list[str]:
        """Members that have proven themselves by a certificate that is revoked by now."""
        found = {m for m, id in self._responder.certificates().items() if self.trust.is_void(id)}
        return sorted(found | set(trust.void_members(self.trust, self._authority.members())))

    def remove_member(self, name: str, now_ms: int) -> list[Out]:
        return self.remove_members([name], now_ms)

    def remove_members(self, names: list[str], now_ms: int) -> list[Out]:
        """Evict members at once, all or none: the others of their groups get new keys, by two
        messages where there is a key tree, or more where one may have a leaf that the store knows
        nothing of (it may be a restored backup); each by itself in an inband group or with unicast
        delivery. Without a tree, or where there are too many for that, everybody is sent away,
        and those that remain come back. Where none of them has keys, others hear nothing."""
        members, changes = self._authority.removal(names)
        plans, more = putout.planned(self._groups.values(), members, now_ms, self._changed_one)
        rights = {m.name: [name for name in m.groups if m.may_join(name)] for m in members}
        more |= self._authority.evicting({m: self._absent(rights[m]) for m in rights})
        for group in self._groups.values():
            group.is_stale = True  # what is in memory is read again should this fail
        self._ledger.write(changes | more)
        self._authority.removed(*members)
        if any(member.certificates for member in members):
            self.refresh_trust()
        self._put_out(plans, now_ms)
        told = []
        for member in members:
            self.counters["removed"] += 1
            groups = [g.policy.name for g, plan in plans if member.name in plan.gone]
            self._tell("removed", member=member.name, groups=groups)
            told += self._responder.dismiss(member.name, now_ms, is_excluded=True)  # it hears of
        return self._due(now_ms) + told  # no more keys

    def change_member(self, was: Member, now: Member, now_ms: int) -> list[Out]:
        """What it may do becomes another thing, see Authority.with_rule(). It is put out of groups
        where it loses a right, and may come back as what it may be there."""
        names = lost_by(was, now, self._groups)
        lost = [self._groups[name] for name in names if name in self._groups]
        changes = self._authority.change(now)
        plans, more = putout.planned(lost, [was], now_ms, self._changed_one)
        more |= self._authority.evicting({was.name: self._absent(names)})
        for group in lost:
            group.is_stale = True
        self._ledger.write(changes | more)
        self._authority.changed(was, now)
        self._put_out(plans, now_ms)
        self.counters["roles_changed"] += 1
        out = [group.policy.name for group, _ in plans]
        self._tell("allowed", member=now.name, rules=stored(now.groups), groups=out)
        self._responder.put_out(now.name, [group.policy.name for group in lost])
        told = []
        if not any(now.may_join(name) for name in self._groups):
            told = self._responder.dismiss(now.name, now_ms, is_excluded=True)
        return self._due(now_ms) + told

    def _absent(self, names: list[str]) -> list[str]:
        """Those of the groups that covey.toml has no more. They may come back, with the keys that
        they had: then whoever has lost a right there meanwhile is put out."""
        return [name for name in names if name not in self._groups and not is_pattern(name)]

    def _put_out(self, plans: putout.Plans, now_ms: int) -> None:
        """The plans are in the store."""
        putout.believe(plans, now_ms)
        self._left_groups = plans
        self.relay.is_stale = True

    @property
    def policy(self) -> SitePolicy:
        """In force, whatever covey.toml says by now."""
        return self._policy

    def farewells(self, now_ms: int) -> list[dict]:
        """Of the latest removal: how long until it is through, in whole seconds, and whether
        others have to register again."""
        found = []
        for group, plan in self._left_groups:
            reads_s, heard_s = group.farewell_s(now_ms)
            facts = {"group": group.policy.name, "reads_s": reads_s, "heard_s": heard_s}
            found.append({**facts, "dismisses": plan.dismisses})
        return found

    def reload(self, policy: SitePolicy, now_ms: int) -> list[Out]:
        """Another policy comes into force: groups that differ get new keys, new groups begin,
        groups that are gone are told to end. The sockets stay as they were opened."""
        self._check_receivers(policy)
        policy = replace(policy, listen=self._policy.listen)
        before, after = self._policy.groups, policy.groups
        changed = [n for n in {**before, **after} if before.get(n) != after.get(n)]
        for name in [name for name in self._groups if name not in policy.groups]:
            group = self._groups[name]
            group.exclude(now_ms)
            self._retired.append(self._groups.pop(name))
            self._changed_one()
        for name, wanted in policy.groups.items():
            group = self._groups.get(name)
            if group is None:
                self._retired = [g for g in self._retired if g.policy.name != name]
                self._start_group(wanted, now_ms)
                self._changed_one()
            elif group.policy != wanted:
                group.adopt(wanted, now_ms)
                self._changed_one()
        if policy.identity != self._policy.identity:
            self._check_identity(policy.identity)
        self._policy = self._responder.policy = policy
        self.relay.is_stale = True
        self._rekeyer.most_len = most_len(policy)
        self._tell("reloaded", groups=list(policy.groups), changed=changed)
        return self._due(now_ms)

    def status(self, now_ms: int, member: str | None = None) -> dict:
        """Plain values, no secrets. Without start(): what the store says, without times."""
        found = self._overview().status(now_ms, member)
        found["counters"] = dict(self.counters)
        return {**found, **(self._responder.status() if self._responder else {})}

    def epochs(self) -> dict[str, int]:
        """The number of each group's keys."""
        return {name: group.epoch.number for name, group in self._groups.items()}

    @property
    def is_settled(self) -> bool:
        """Whether all messages that tell of what was done have been sent once: a removal takes
        two. What is left of repeats, the next start says again."""
        return not any(group.has_unsent for group in self._all())

    def flush(self) -> None:
        """At the end: what is remembered of members, for `covey why`. Problem: it is lost."""
        self._diary.flush(_LAST_WRITES)

    def why(self, member: str, now_ms: int) -> dict:
        """All that is known of one member; see status(). Problem where there is none."""
        return self._overview().why(member, now_ms)

    def _overview(self) -> Overview:
        groups = self._groups
        if self._responder is None:
            self._diary.contacts.load()
            rules = self._policy.groups
            what = self._ledger, None, self._random, self._clock
            groups = {n: Group(p, *what) for n, p in rules.items()}
        return Overview(self._policy, groups, self._authority, self._diary, self._responder)

    def keys(self, now_ms: int, *, follow: bool = False, **who: Any) -> dict:
        """Keys in clear (see disclosure.py), and in the log who has asked for them.

        follow: it will ask again soon, and is then told of those too that are gone by then.
        Without start(): of groups only, as the store holds them.
        """
        if self._responder is None:
            return {"keys": list(self._stored_keys()), **self._beside_keys()}
        keys = self._disclosure.with_kept(self._keys_now(), now_ms)
        if not follow or self._disclosure.follow(tuple(who.values()), now_ms):
            ike_sas = sum(1 for _ in self._responder.ike_keys())
            facts = {"groups": list(self._groups), "ike_sas": ike_sas, "follow": follow}
            self._tell("keys_exported", **who, **facts)
        return {"keys": keys, **self._beside_keys()}

    def _beside_keys(self) -> dict:
        groups = self._policy.groups.values()
        return {"ports": self._ports(), "in_clear": [g.name for g in groups if g.integrity_only]}

    def _keys_now(self, *, only_new: bool = False) -> Iterator[disclosure.Record]:
        """only_new: of IKE SAs those made since the last such call."""
        for group in self._all():
            yield from _keys_of(group)
        for sa in self._responder.ike_keys(only_new=only_new):
            yield disclosure.of_ike_sa(*sa)

    def _stored_keys(self) -> Iterator[disclosure.Record]:
        for policy in self._policy.groups.values():
            group = Group(policy, self._ledger, None, self._random, self._clock)
            group.refresh(0)
            if group.epoch is not None:
                yield from disclosure.of_group(
                    group.epoch, group.rekey_sas(), bool(group.relayed())
                )

    def _ports(self) -> dict[int, bool]:
        """UDP ports in use, and whether IKE messages have the marker there."""
        ports = {entry.port: entry.marker for entry in self._policy.listen}
        if 4500 in ports:
            ports = {848: False, 500: False} | ports  # the server opens them, too
        groups = self._policy.groups.values()
        return ports | {group.carrier_port: group.shape.has_marker for group in groups}

    def _check_receivers(self, policy: SitePolicy) -> None:
        for group in policy.groups.values():
            if group.source_auth != sources.NONE:
                members = self._authority.of_group(group.name)
                seats.check_room(group.name, group.source_auth, members)

    def _written_together(self, now_ms: int):
        """The ledger's together()."""
        return self._ledger.together()

    def _changed_one(self) -> None:
        """Of perhaps many groups: it may take long until all are."""

    def _distrust(self) -> None:
        """What is in memory is to be read again."""
        for group in self._groups.values():
            group.is_stale = True

    def _step_group(self, group: Group, now_ms: int) -> None:
        group.step(now_ms)

    def _start_group(self, policy: GroupPolicy, now_ms: int) -> None:
        name = policy.name
        group = Group(policy, self._ledger, self._rekeyer, self._random, self._clock)
        evicted = frozenset(self._authority.evicted(name))
        group.start(now_ms, evicted, self._authority.evicted_done(name))
        self._groups[name] = group

    def _all(self) -> list[Group]:
        return [*self._groups.values(), *self._retired]

    def _answer(self, work: Callable[[int], list[Out]], now_ms: int) -> list[Out]:
        """What is to be sent, and what else is by now, unless together() is to end first."""
        if self._held is not None:
            return work(now_ms)
        try:
            outs = work(now_ms)
        except BaseException:
            self._responder.unhear()
            raise
        return outs + self._heard(now_ms) + self._due(now_ms)

    def _heard(self, now_ms: int) -> list[Out]:
        """What members have asked for is written: who must not have keys that are in use is told
        none that may be by now, however long that took."""
        by_ms = NEVER - 1 if self._has_lost_time() else self._by_now(now_ms)
        return self._responder.heard(now_ms, by_ms)

    def _by_now(self, now_ms: int) -> int:
        """What that has become while something was done."""
        return now_ms if self._now is None else max(now_ms, self._now())

    def _has_lost_time(self) -> bool:
        """Whether the clock has stood still since this was asked last."""
        if not self._standstill.is_new():
            return False
        for group in self._all():
            group.lose_time()
        return True

    def _due(self, now_ms: int) -> list[Out]:
        self._disclosure.note(self._keys_now(only_new=True), now_ms)
        for group in self._all():
            self._tell_of(group)
        outs = [out for group in self._all() for out in group.due(now_ms)]
        if self._responder:
            outs += self._responder.tell(now_ms)
            self.relay.is_stale |= self._responder.take_changed()
        return outs

    def _tell_of(self, group: Group) -> None:
        """Of a new epoch, whatever brought it."""
        epoch, known = group.epoch, self._epochs.get(group.policy.name)
        self._epochs[group.policy.name] = epoch
        if known is None or known.number == epoch.number:
            return
        self.relay.is_stale = True
        name = "rekeyed" if known.era == epoch.era else "excluded_all"
        self.counters[name] += 1
        self._tell(name, group=group.policy.name, epoch=epoch.number, spi=epoch.tek_spi.hex())

    def _tell(self, name: str, **facts: Any) -> None:
        if self._held is not None:
            self._held.append((name, facts))
            return
        self.events.append((name, facts))
        self._diary.tell(name, facts)
        if len(self.events) >= _MOST_EVENTS:
            self.on_full()
        del self.events[:-_MOST_EVENTS]


def _keys_of(group: Group) -> Iterator[disclosure.Record]:
    return disclosure.of_group(group.epoch, group.rekey_sas(), bool(group.relayed()))
