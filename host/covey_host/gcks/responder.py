"""IKE messages of members: the responder of RFC 7296, with the exchanges of RFC 9838.

    datagram --> Door (IKE_SA_INIT) --> Table
            +--> IKE SA --> request --> here: answered, and kept for repeats
                       +--> answer  --> Requests: what we had asked

A request in clear is answered only where the RFCs have it, an authentic one always; everything
else is dropped and counted. A message for an IKE SA that is not ours is not answered at all:
INVALID_IKE_SPI (section 2.21.4: MAY) could be believed by nobody, and it would make this server
answer whatever address a forger writes into a packet.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from covey import ike
from covey.drops import (
    DROP_IKE_EXCHANGE,
    DROP_IKE_MESSAGE_ID,
    DROP_IKE_SPI,
    FormatError,
    name_of,
)

from ..errors import Problem
from . import Out, ikerekey, ikesa, natd
from .authority import KEY, PSK, Authority
from .cookies import Cookies
from .epoch import Random
from .group import Group
from .halfopen import Door, most_len
from .ikesa import NEVER, Deferred, IkeSA
from .ledger import Moved
from .natd import host_of
from .newcomers import NotYet
from .parts import Parts, Payloads, notify
from .policy import SitePolicy
from .proof import Proof
from .redirects import Redirects
from .registrar import Registrar
from .requests import AT_ONCE, TAKE_BACK, TELL, Requests
from .spis import Spis
from .table import Table
from .trust import Trust

_HEADER_LEN = 28
_ENDS = {ike.UNSUPPORTED_CRITICAL_PAYLOAD, ike.INVALID_SYNTAX, ike.AUTHENTICATION_FAILED}


@dataclass
class _Taken:
    """A request about a group, whose answer is known, and is not sealed before it is in the store.
    payloads: None where it is to be asked again, by what others have written."""

    sa: IkeSA
    opened: ike.Opened
    payloads: Payloads | None = field(default=None, repr=False)
    ends: bool = False
    then: list[Callable[[], None]] = field(default_factory=list)
    until_ms: int = NEVER  # from then on it must not leave
    is_written: bool = False  # already, whatever becomes of those that came after it


class Responder:
    def __init__(
        self,
        policy: SitePolicy,
        groups: dict[str, Group],
        authority: Authority,
        registrar: Registrar,
        counters: Counter,
        tell: Callable[..., None],
        random: Random,
        time: Callable[[], float],
        spis: Spis | None = None,
        cookies: Cookies | None = None,
    ):
        self._policy = policy
        self._registrar = registrar
        self._counters = counters
        self._tell = tell
        self._random = random
        self._table = Table(random, spis)
        self._door = Door(policy, self._table, counters, random, cookies)
        self._proof = Proof(policy, authority, counters, tell, random, time)
        self._requests = Requests(policy, self._table, groups, counters, tell, random)
        self._requests.redirects = self._door.redirects
        self._taken: list[_Taken] = []  # since heard() or unhear()
        self.make_room: Callable[[], None] = lambda: None  # before one more is looked at

    @property
    def policy(self) -> SitePolicy:
        return self._policy

    @policy.setter
    def policy(self, policy: SitePolicy) -> None:
        self._policy = self._door.policy = policy
        self._proof.policy = self._requests.policy = policy
        for sa in self._sas.values():  # perhaps by a shorter time
            self._requests.wake(sa)

    def believe(self, trust: Trust, rows: dict[str, int] | None = None) -> None:
        """What proves a member from now on. rows: from which it was made, key → version; None:
        nothing is written here that rests on them."""
        self._door.trust = self._proof.trust = trust
        self._proof.trust_rows = rows or {}

    def receive(self, data: bytes, address: Any, now_ms: int) -> list[Out]:
        """One IKE message without marker → what it is answered with. Problem: from the store."""
        try:
            return _addressed(self._receive(bytes(data), address, now_ms), address)
        except FormatError as error:
            self._counters[name_of(error.reason)] += 1
            return []

    @property
    def redirects(self) -> Redirects:
        """Where members are sent from here: whoever has an open IKE SA hears of it by drain()."""
        return self._door.redirects

    def drain(self, now_ms: int) -> list[Out]:
        """Send members elsewhere, from now on."""
        self.redirects.is_draining = True
        return self._requests.redirect_all(now_ms)

    def send_on(self, now_ms: int) -> list[Out]:
        """Likewise, those that are told of new keys over their IKE SAs."""
        if self.redirects.is_parting or not self.redirects.hosts:
            return []
        self.redirects.is_parting = True
        return self._requests.redirect_all(now_ms)

    @property
    def is_drained(self) -> bool:
        """Whether all that can be told of that were, and have answered, or won't."""
        if not self.redirects.hosts:
            return True
        told = (sa for sa in self._proven.values() if sa.has_redirect)
        return all(sa.is_redirected and sa.pending is None for sa in told)

    def take_over(self, sa: IkeSA, opened: ike.Opened, now_ms: int) -> list[Out]:
        """A half-open IKE SA whose peer has proven itself to a worker → the answer to that
        request of it, and what else there is to send. Problem: from the store."""
        host = host_of(sa.origin[0])
        if sa.own_spi in self._sas or not self._table.make_room(host, now_ms):
            self._counters["handover_refused"] += 1
            return []
        sa.most_len = most_len(self._policy)
        self._table.add_half_open(sa, now_ms)
        return _addressed(self._reply(sa, opened, now_ms), sa.address)

    def has_cookie(self, data: bytes, address: Any, now_ms: int) -> bool:
        """See Door: for whoever has messages wait."""
        return self._door.has_cookie(data, address, now_ms)

    def crowd(self, elsewhere: int) -> None:
        """So many half-open IKE SAs are with workers."""
        self._door.elsewhere = elsewhere

    def heard(self, now_ms: int, by_ms: int = 0) -> list[Out]:
        """What members have asked for is in the store: now they are answered. by_ms: as late as
        it may be by now; for whom that is too late it is looked at once more."""
        self._door.answered()
        taken, self._taken = self._taken, []
        outs = []
        for one in taken:
            if self._table.sas.get(one.sa.own_spi) is not one.sa:
                continue  # it had to make room
            if by_ms >= one.until_ms:
                self._counters["too_late"] += 1
                one.sa.is_late = True
                self._defer(one.sa, one.opened, now_ms)
            else:
                outs += _addressed(self._finish(one, now_ms), one.sa.address)
        return outs

    def again(self, now_ms: int) -> list[Out]:
        """It is not, since others have written: what they asked for is looked at once more → the
        answers that need not wait for the store."""
        taken, self._taken = self._taken, []
        outs = []
        for one in taken:
            if one.is_written:
                self._taken.append(one)
            elif self._table.sas.get(one.sa.own_spi) is one.sa:
                outs += _addressed(self._reply(one.sa, one.opened, now_ms), one.sa.address)
        return outs

    def written(self) -> None:
        """What those have asked for who were looked at until now."""
        for one in self._taken:
            one.is_written = one.payloads is not None

    def unhear(self) -> int:
        """It is not, and no answer has left: those who asked never came, and their IKE SAs are
        gone → how many."""
        self._door.answered()
        taken, self._taken = self._taken, []
        for one in taken:
            if self._table.sas.get(one.sa.own_spi) is one.sa:
                self._table.forget(one.sa)
        return len(taken)

    def hurry(self, now_ms: int) -> None:
        """Those who wait for keys may find some now."""
        for sa in self._table.waiting():
            if sa.deferred is not None and sa.deferred.until_ms < NEVER:
                sa.deferred = sa.deferred._replace(until_ms=now_ms)
                self._requests.wake(sa)

    def step(self, now_ms: int) -> list[Out]:
        """Some of what time has brought: requests of ours, repeats of them, IKE SAs that end.
        Where there is more, next_ms() is not in the future."""
        outs = []
        due = self._table.timers.due(now_ms, AT_ONCE)
        try:
            while due:
                outs += self._step(due.pop(), now_ms)
        finally:
            for sa in due:  # after a fault: those that it kept waiting
                self._requests.wake(sa)
        return outs

    def next_ms(self) -> int:
        """When step() may have something to do."""
        return self._table.timers.next_ms()

    def tell(self, now_ms: int) -> list[Out]:
        """Members that are told inband hear of new epochs. To be called after anything."""
        return self._requests.tell_all(now_ms)

    def dismiss(self, member: str, now_ms: int, *, is_excluded: bool = False) -> list[Out]:
        """Delete the member's IKE SA; is_excluded: after its groups were taken back."""
        sa = self._proven.get(member)
        return [] if sa is None else self._requests.close(sa, now_ms, is_excluded=is_excluded)

    def put_out(self, member: str, groups: Iterable[str]) -> None:
        """What it asks for over its IKE SA, which it keeps, it asks for as anybody who comes."""
        sa = self._proven.get(member)
        if sa is not None:
            sa.registered.difference_update(groups)

    def status(self) -> dict:
        return {
            "ike_sas": len(self._sas),
            "unproven": len(self._table.unproven) + self._door.elsewhere,
        }

    def open_sa(self, member: str) -> IkeSA | None:
        """The member's open IKE SA."""
        return self._proven.get(member)

    def holders(self, group: Group) -> list[str]:
        """Members told inband that have a group's current keys: given, or acknowledged."""
        name, epoch = group.policy.name, group.epoch
        told = {m: sa.told.get(name) for m, sa in self._proven.items()}
        current = epoch.era, epoch.number
        return sorted(m for m, t in told.items() if t and (t.era, t.number) == current)

    def certificates(self) -> dict[str, str]:
        """{member: trust.id_of() of what it has proven itself by} of the open IKE SAs."""
        found = {member: sa.proven_by for member, sa in self._proven.items()}
        return {member: id for member, id in found.items() if not id.startswith((PSK, KEY))}

    def told(self) -> Iterator[IkeSA]:
        """The open IKE SAs over which members are told of new keys."""
        return (sa for sa in self._proven.values() if sa.told)

    def take_changed(self) -> bool:
        """Whether told() may differ, or what is in it, from what it was at the last call."""
        return self._table.take_changed()

    def ike_keys(self, *, only_new: bool = False) -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
        """SPIi, SPIr, SK_ei, SK_er of each IKE SA with keys; only_new: made since this was asked
        for last."""
        for sa in self._table.take_new() if only_new else self._sas.values():
            if sa.state != ikesa.ENDED:
                yield sa.spi_i, sa.spi_r, bytes(sa.keys.sk_ei), bytes(sa.keys.sk_er)

    @property
    def _sas(self) -> dict[bytes, IkeSA]:
        return self._table.sas

    @property
    def _proven(self) -> dict[str, IkeSA]:
        return self._table.proven

    # From datagram to IKE SA

    def _receive(self, data: bytes, address: Any, now_ms: int) -> list:
        if len(data) >= _HEADER_LEN and data[17] >> 4 > 2:
            return self._door.refuse_version(data, now_ms)
        header = ike.parse_header(data)
        if header.exchange == ike.IKE_SA_INIT:
            return self._door.receive(header, data, address, now_ms)
        by_initiator = bool(header.flags & ike.FLAG_I)
        sa = self._sas.get(header.spi_r if by_initiator else header.spi_i)
        if sa is None or sa.is_initiator == by_initiator:
            raise FormatError(DROP_IKE_SPI)
        if sa.peer_spi != (header.spi_i if by_initiator else header.spi_r):
            raise FormatError(DROP_IKE_SPI)
        if header.flags & ike.FLAG_R:
            return self._requests.take(sa, header, data, address, now_ms)
        return self._take_request(sa, header, data, address, now_ms)

    def _step(self, sa: IkeSA, now_ms: int) -> list[Out]:
        if self._sas.get(sa.own_spi) is not sa:
            return []  # it had to make room
        if now_ms >= sa.deadline_ms:
            self._counters["half_open_expired"] += sa.state == ikesa.HALF_OPEN
            self._table.forget(sa)
            return []
        outs = []
        try:
            if sa.deferred is not None and now_ms >= sa.deferred.until_ms:
                outs = _addressed(self._reply(sa, sa.deferred.opened, now_ms), sa.address)
            outs += self._requests.step(sa, now_ms)
        except Problem:  # the store's: it is tried again; a fault of ours is not
            self._requests.wake(sa)
            raise
        self._requests.wake(sa)
        return outs

    def _take_request(
        self, sa: IkeSA, header: ike.Header, data: bytes, address: Any, now_ms: int
    ) -> list:
        if sa.last_answer and header.message_id == sa.next_request - 1:
            is_repeat = sa.is_repeat(data)
            if is_repeat is None:
                return []
            if is_repeat:
                self._counters["request_repeat"] += 1
                return sa.last_answer if self._may_repeat(sa, data, address) else []
        if header.message_id != sa.next_request or sa.state == ikesa.ENDED:
            raise FormatError(DROP_IKE_MESSAGE_ID)
        is_unproven = sa.state in (ikesa.HALF_OPEN, ikesa.WAITING)
        if is_unproven and header.exchange not in (ike.GSA_AUTH, ike.IKE_AUTH):
            raise FormatError(DROP_IKE_EXCHANGE)  # nobody is there yet to be told why
        if sa.deferred is not None:  # this one again, whatever it is: it has been taken
            self._counters["request_waits"] += 1
            return []
        opened = sa.open_request(data)
        if opened is None:
            return []
        where = natd.move(sa.address, address)
        if sa.identity is not None and where["address"] != where["former"]:
            self._tell("moved", member=sa.identity, **where)
        self._table.hear(sa, address, now_ms)
        if header.exchange != ike.INFORMATIONAL or opened.inner:
            sa.used_ms = now_ms
        return self._reply(sa, opened, now_ms)

    def _reply(self, sa: IkeSA, opened: ike.Opened, now_ms: int) -> list:
        """To a request that was taken: now; or by heard(), where it is about a group; or later if
        that changes keys first. If that fails, it may come again as if it never came."""
        sa.deferred = None
        self._table.is_changed |= opened.header.exchange != ike.INFORMATIONAL
        taken = _Taken(sa, opened)
        self._registrar.take_then()
        try:
            self.make_room()
            taken.payloads, taken.ends = self._answer(sa, opened, now_ms)
            taken.then, taken.until_ms = self._registrar.take_then()
        except NotYet as not_yet:
            self._defer(sa, opened, not_yet.until_ms)
            return []
        except Moved:
            pass
        if taken.payloads is None or _is_registration(sa, opened):
            self._defer(sa, opened, NEVER)
            self._taken.append(taken)
            return []
        return self._finish(taken, now_ms)

    def _defer(self, sa: IkeSA, opened: ike.Opened, until_ms: int) -> None:
        self._table.wait(sa)
        sa.deferred = Deferred(opened, until_ms)
        self._requests.wake(sa)

    def _finish(self, taken: _Taken, now_ms: int) -> list:
        """Bare octets are an answer."""
        sa, opened = taken.sa, taken.opened
        sa.deferred, sa.is_late = None, False
        for work in taken.then:
            work()
        others = []
        is_unproven = sa.state in (ikesa.HALF_OPEN, ikesa.WAITING)
        if is_unproven and sa.proof is not None and not taken.ends:
            others += self._enter(sa, now_ms)
        answer = sa.answer(opened.header.exchange, taken.payloads)
        if taken.ends:
            self._table.end(sa, now_ms)
        else:
            others += self._requests.proceed(sa, now_ms)
        heir = self._proven.get(sa.identity, sa)
        if heir is not sa:  # it has just been given new keys
            others += self._requests.proceed(heir, now_ms)
        return [*answer, *others]

    def _may_repeat(self, sa: IkeSA, data: bytes, address: Any) -> bool:
        """Whoever has seen a request can repeat it, in the name of any address: under a flood
        one that is not the member's gets no more than it sent."""
        if host_of(address) == host_of(sa.address) or not self._door.is_loaded():
            return True
        return sum(map(len, sa.last_answer)) <= len(data)

    def _answer(self, sa: IkeSA, opened: ike.Opened, now_ms: int) -> tuple[Payloads, bool]:
        """What an authentic request is answered with, and whether that ends the IKE SA."""
        exchange = opened.header.exchange
        try:
            payloads = ike.parse_chain(opened.first, opened.inner)
            critical = ike.unsupported_critical(opened.clear + payloads)
            if critical is not None:  # section 2.5; section 2.21.2: before anything else
                self._counters["unsupported_critical"] += 1
                answer = notify(ike.UNSUPPORTED_CRITICAL_PAYLOAD, bytes([critical]))
                return [answer], sa.state == ikesa.HALF_OPEN
            parts = Parts(payloads)
            if sa.state in (ikesa.HALF_OPEN, ikesa.WAITING):
                return self._authenticate(sa, exchange, parts, now_ms)
            if exchange == ike.INFORMATIONAL:
                self._registrar.hear(sa, parts, now_ms)
                return self._registrar.tell(sa, parts, now_ms), _ends(parts)
            if sa.state in (ikesa.CLOSING, ikesa.REPLACED):
                return [notify(ike.TEMPORARY_FAILURE)], False
            if exchange == ike.GSA_REGISTRATION and self._proof.is_void(sa):
                return [notify(ike.AUTHORIZATION_FAILED)], False
            if exchange == ike.GSA_REGISTRATION:
                return self._registrar.answer(sa, parts, now_ms), False
            if exchange == ike.CREATE_CHILD_SA:
                return self._rekey(sa, parts, now_ms), False
            raise FormatError(DROP_IKE_EXCHANGE)
        except FormatError as error:  # section 2.21.3: fatal for both
            self._counters[name_of(error.reason)] += 1
            return [notify(ike.INVALID_SYNTAX)], True

    def _authenticate(
        self, sa: IkeSA, exchange: int, parts: Parts, now_ms: int
    ) -> tuple[Payloads, bool]:
        """GSA_AUTH, RFC 9838 section 2.3.1: the peer has proven itself, here or to a worker."""
        if sa.proof is None:
            sa.proof = self._proof.check(sa, exchange, parts)
        if sa.proof is None or not self._proof.holds(sa):  # alone, and the same whoever it was
            return [notify(ike.AUTHENTICATION_FAILED)], True
        return [*sa.proof, *self._registrar.answer(sa, parts, now_ms)], False

    def _enter(self, sa: IkeSA, now_ms: int) -> list[Out]:
        """The IKE SA is its member's from now on."""
        older = self._proven.get(sa.identity)
        if older is not None:  # it has started anew, or two devices have one identity
            where = natd.move(older.address, sa.address)
            heard_s = (now_ms - older.heard_ms) // 1000
            self._tell("replaced", member=sa.identity, **where, heard_s=heard_s)
        others = self.dismiss(sa.identity, now_ms)  # the newest wins, the older is told
        self._requests.opened(sa, now_ms)
        self._counters["authenticated"] += 1
        return others

    def _rekey(self, sa: IkeSA, parts: Parts, now_ms: int) -> Payloads:
        """CREATE_CHILD_SA: new keys for the IKE SA; nothing else is made here."""
        try:
            ikerekey.check_purpose(parts)
            if sa.pending is not None and sa.pending.what in (TELL, TAKE_BACK):
                # section 2.25.2, as for a Child SA that is being made
                raise ikerekey.Refused(notify(ike.TEMPORARY_FAILURE), "temporary_failure")
            new, lowest, answer = ikerekey.respond(sa, parts, self._table.new_spi(), self._random)
        except ikerekey.Refused as refused:
            self._counters[refused.reason] += 1
            return [refused.answer]
        self._requests.peer_rekeyed(sa, new, lowest, now_ms)
        return answer


def _is_registration(sa: IkeSA, opened: ike.Opened) -> bool:
    """Whether a request, of who has proven itself, may have changed what the store is to say."""
    is_one = opened.header.exchange in (ike.GSA_AUTH, ike.GSA_REGISTRATION)
    return is_one and sa.identity is not None


def _addressed(outs: list, address: Any) -> list[Out]:
    """Bare octets are an answer."""
    return [out if isinstance(out, Out) else Out(out, address) for out in outs]


def _ends(parts: Parts) -> bool:
    """Whether an INFORMATIONAL request ends its IKE SA: by Delete, or by an error found."""
    deletes = [ike.parse_delete(body) for body in parts.all(ike.DELETE)]
    return any(d.protocol == ike.IKE for d in deletes) or any(
        n.type in _ENDS for n in parts.notifies
    )
