"""A member asks for a group (RFC 9838 sections 2.3.2 to 2.3.4): it is admitted or refused.

HDR, SK{..., IDg, [SAg,] [N(GROUP_SENDER)] [N(COVEY_AWAKE)]} -->
                                                 <-- HDR, SK{..., GSA, KD, N(USE_TRANSPORT_MODE)}
                                                 <-- HDR, SK{..., N(why not)}
HDR, SK{IDg, N(NO_PROPOSAL_CHOSEN or REGISTRATION_FAILED)} -->  it leaves: <-- HDR, SK{}
"""

import socket
from collections import Counter
from collections.abc import Callable

from covey import ike
from covey.drops import DROP_IKE_FORMAT, FormatError

from ..errors import Problem
from ..store import Fenced
from . import download, inband, proposals, sources, timekeeping
from .authority import Authority
from .group import Group, GroupFull
from .ikesa import OPEN, IkeSA
from .ledger import Moved
from .natd import host_of
from .newcomers import NotYet
from .parts import Parts, Payloads, notify
from .roles import Role
from .timers import NEVER

NAMED = {ike.ID_KEY_ID, ike.ID_FQDN, ike.ID_RFC822_ADDR}  # ID types that hold a name of ours
_LEAVES = {ike.NO_PROPOSAL_CHOSEN, ike.REGISTRATION_FAILED}
REASONS = {
    ike.NO_PROPOSAL_CHOSEN: "no_proposal_chosen",
    ike.INVALID_GROUP_ID: "invalid_group_id",
    ike.AUTHORIZATION_FAILED: "authorization_failed",
    ike.REGISTRATION_FAILED: "registration_failed",
}


RELAY_NEEDS = (
    "{member} can't have unicast delivery in group {group}: that takes carrier udp, or delivery ="
    ' "unicast" for the whole group; private_attributes; and no source_auth.'
)


_SOON_MS = 250  # until a group that is not open is looked at again
_AWAY_MS = 500  # until one whose rows could not be read or written is


class _Refused(Exception):
    """By the notification of that type."""

    def __init__(self, type: int):
        super().__init__(REASONS[type])
        self.type = type


class Registrar:
    def __init__(
        self,
        groups: dict[str, Group],
        authority: Authority,
        public_key: bytes,
        counters: Counter,
        tell: Callable[..., None],
        hear: Callable[..., bool] = lambda *_: True,
    ):
        self._groups = groups
        self._authority = authority
        self._public_key = public_key
        self._counters = counters
        self._tell = tell
        self._hear = hear
        self._gsa = download.SameGSA()
        self._then: list[Callable[[], None]] = []
        self._until_ms = NEVER
        # What is said to a member that another key server alone can register.
        self.elsewhere: Callable[[IkeSA], Payloads] = lambda _: [notify(ike.REGISTRATION_FAILED)]

    def answer(self, sa: IkeSA, parts: Parts, now_ms: int) -> Payloads:
        """What a request with IDg is answered with. FormatError: malformed, nothing changed;
        NotYet: nobody is to hear of it before that time, when it is to be asked again; Moved: as
        soon as what others wrote was read. What is true only once it is in the store: take_then().
        """
        self._then, self._until_ms = [], NEVER
        id_type, identity = ike.parse_id(parts.needed(ike.IDg))
        wanted = _sender_ids_wanted(parts)
        sag = parts.one(ike.SA)
        offered = None if sag is None else ike.parse_sa(sag)
        leaves = any(n.type in _LEAVES for n in parts.notifies)
        try:
            group = self._find(id_type, identity)
            self._check_proof(sa)
            if leaves:
                return self._leave(sa, group, now_ms)
            role = self._role(sa, group, wanted is not None)
            if not group.is_open:
                raise NotYet(now_ms + _SOON_MS)
            self._check(sa, group, offered)
            is_awake = any(n.type == ike.COVEY_AWAKE for n in parts.notifies)
            relayed = self._is_relayed(sa, group)
            if group.is_elsewhere(relayed):
                return self.elsewhere(sa)
            return self._admit(sa, group, role, wanted, is_awake, relayed, now_ms)
        except _Refused as refused:
            reason = REASONS[refused.type]
            facts = {"asked": "receive" if wanted is None else "send"}
            facts = facts if refused.type == ike.AUTHORIZATION_FAILED else {}
            facts |= {"member": sa.identity, "group": shown(identity), "reason": reason}

            def told() -> None:
                self._counters[reason] += 1
                self._tell("refused", **facts)

            self._then.append(told)
            return [notify(refused.type)]

    def take_then(self) -> tuple[list[Callable[[], None]], int]:
        """What is to be done once the last answer() holds; from when on that must not leave."""
        then, self._then = self._then, []
        return then, self._until_ms

    def tell(self, sa: IkeSA, parts: Parts, now_ms: int) -> Payloads:
        """What an INFORMATIONAL is answered with."""
        told = timekeeping.answer(sa, parts, self._groups, self._counters, now_ms)
        return [*self._current(sa), *told]

    def _current(self, sa: IkeSA) -> Payloads:
        """What a sign of life says of groups with a max_silence: which TEKs are the current ones.
        So a member notices that somebody keeps the rekeys from it."""
        if sa.state != OPEN:
            return []
        groups = [self._groups[name] for name in sorted(sa.registered) if name in self._groups]
        spis = b"".join(group.epoch.tek_spi for group in groups if group.policy.max_silence_s)
        return [notify(ike.COVEY_CURRENT, spis)] if spis else []

    def hear(self, sa: IkeSA, parts: Parts, now_ms: int) -> None:
        """What a member reports of itself, if this is a report. Whoever is put out, or has
        another IKE SA by now, is not asked any more."""
        if sa.state != OPEN:
            return
        for n in parts.notifies:
            if n.type == ike.COVEY_REPORT:
                groups = [self._groups[name] for name in sa.registered & self._groups.keys()]
                if self._hear(sa.identity, n.data, groups, now_ms):
                    self._counters["reports"] += 1
                else:
                    self._counters["report_malformed"] += 1

    def _find(self, id_type: int, identity: bytes) -> Group:
        if id_type in NAMED:
            group = self._groups.get(identity.decode("latin-1"))
            if group is not None:
                return group
        for group in self._groups.values() if id_type == ike.ID_IPV4_ADDR else ():
            if identity == socket.inet_aton(group.policy.address):
                return group
        raise _Refused(ike.INVALID_GROUP_ID)

    def _check_proof(self, sa: IkeSA) -> None:
        """What was proven may be of a former member: its IKE SA can be older than the name's new
        owner."""
        member = self._authority.find(sa.identity)
        if member is not None and not member.removed and not member.is_proven_by(sa.proven_by):
            raise _Refused(ike.AUTHORIZATION_FAILED)

    def _role(self, sa: IkeSA, group: Group, is_sender: bool) -> Role:
        """As what it is admitted, of what it may be: who asks for no Sender-ID will receive, and
        who does will receive, too, if it may."""
        member = self._authority.find(sa.identity)
        role = Role.NONE if member is None else member.role(group.policy.name)
        if not role & (Role.SENDER if is_sender else Role.RECEIVER):
            raise _Refused(ike.AUTHORIZATION_FAILED)
        return role if is_sender else Role.RECEIVER

    def _check(self, sa: IkeSA, group: Group, offered: list[ike.Proposal] | None) -> None:
        if group.policy.ppk and not sa.is_mixed:
            raise _Refused(ike.AUTHORIZATION_FAILED)  # its keys are for who can keep them for long
        if group.epoch.shape.source_auth != sources.NONE and not sa.has_fragments:
            raise _Refused(ike.NO_PROPOSAL_CHOSEN)  # its rekeys may be longer than a frame
        if offered is not None and not proposals.covers(offered, group.epoch.shape):
            raise _Refused(ike.NO_PROPOSAL_CHOSEN)
        if sa.chosen.kwk_bits < group.epoch.shape.key_bits:
            raise _Refused(ike.NO_PROPOSAL_CHOSEN)  # RFC 9838 section 3.1: no weaker wrapping

    def _is_relayed(self, sa: IkeSA, group: Group) -> bool:
        """Whether unicast delivery is decided on for this member: then it must be possible."""
        if not (group.policy.relays_all or self._authority.find(sa.identity).relayed):
            return False
        if not group.policy.may_relay:
            reason = RELAY_NEEDS.format(member=sa.identity, group=group.policy.name)
        elif not getattr(sa.address, "marker", True):
            reason = f"{sa.identity} has unicast delivery and asked at a port without marker."
        else:
            return True
        self._tell("trouble", reason=reason)
        raise _Refused(ike.REGISTRATION_FAILED)

    def _admit(
        self,
        sa: IkeSA,
        group: Group,
        role: Role,
        wanted: int | None,
        is_awake: bool,
        relayed: bool,
        now_ms: int,
    ) -> Payloads:
        try:
            if sa.is_late:  # it has no keys, and is to be let in as anybody who never was
                group.leave(sa.identity, now_ms)
            is_awake |= group.policy.name in sa.registered  # over this IKE SA, which it still has
            boots = not is_awake or not group.has(sa.identity)
            how = {"boots": boots, "relayed": relayed, "receives": role.receives}
            sender_ids = group.admit(sa.identity, wanted, now_ms, sa.has_fragments, **how)
            self._until_ms = group.until_ms
        except GroupFull:
            raise _Refused(ike.REGISTRATION_FAILED) from None
        except (Fenced, Moved):
            raise
        except Problem as problem:  # the store: a matter of ours, not of this member
            if group.is_shared:  # which is away for a moment, or other key servers will do
                raise NotYet(now_ms + _AWAY_MS) from None
            self._tell("trouble", reason=problem.sentence)
            raise _Refused(ike.REGISTRATION_FAILED) from None
        except NotYet as not_yet:
            until_s = -(-(not_yet.until_ms - now_ms) // 1000)
            self._tell("waits", member=sa.identity, group=group.policy.name, until_s=until_s)
            raise
        return self._given(sa, group, sender_ids, wanted is not None, boots, relayed, now_ms)

    def _given(
        self,
        sa: IkeSA,
        group: Group,
        sender_ids: list[int],
        is_sender: bool,
        boots: bool,
        relayed: bool,
        now_ms: int,
    ) -> Payloads:
        """The group's keys, to who was admitted."""
        epoch = group.epoch
        atd_s, dtd_s = group.delays_s(now_ms)
        how = {"age_s": group.age_s(now_ms), "atd_s": atd_s, "dtd_s": dtd_s}
        how |= {"is_sender": is_sender, "relayed": relayed}
        attributes = sources.of_group(epoch, group.rows, group.chains)
        gsa = self._gsa.of(epoch, group.policy, attributes, how)
        own = sources.of_member(epoch, sa.identity, sa.kwk)
        keys = self._public_key, sender_ids, group.path(sa.identity), own
        kd = download.registration_kd(epoch, sa.kwk, *keys, relayed=relayed)
        told, name = inband.given(group, relayed), group.policy.name

        def registered() -> None:
            inband.registered(sa, name, told)
            sa.registered.add(name)
            self._counters["registered"] += 1
            self._tell(
                "registered",
                member=sa.identity,
                group=name,
                epoch=epoch.number,
                sender_ids=sender_ids,
                boots=boots,
                address=str(host_of(sa.address)),
            )

        self._then.append(registered)
        return [(ike.GSA, gsa), (ike.KD, kd), notify(ike.USE_TRANSPORT_MODE)]

    def _leave(self, sa: IkeSA, group: Group, now_ms: int) -> Payloads:
        """Whoever asks is out, whether it was in or not. No keys change: it left by itself.
        Nothing more is sent to it."""
        try:
            group.leave(sa.identity, now_ms)
        except (Fenced, Moved):
            raise
        except Problem as problem:
            self._tell("trouble", reason=problem.sentence)

        def left() -> None:
            sa.told.pop(group.policy.name, None)
            self._counters["left"] += 1
            self._tell("left", member=sa.identity, group=group.policy.name)

        self._then.append(left)
        return []


def _sender_ids_wanted(parts: Parts) -> int | None:
    """How many Sender-IDs N(GROUP_SENDER) asks for; None: the member will not send."""
    found = [n for n in parts.notifies if n.type == ike.GROUP_SENDER]
    if not found:
        return None
    if len(found) > 1 or len(found[0].data) != 4:
        raise FormatError(DROP_IKE_FORMAT)
    return int.from_bytes(found[0].data)


def shown(identity: bytes) -> str:
    return identity[:63].decode("ascii", "replace")
