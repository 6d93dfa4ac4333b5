"""IKE messages of members: the responder of RFC 7296, with the exchanges of RFC 9838.

A request in clear is answered only where the RFCs have it, an authentic one always; everything
else is dropped and counted. A message for an IKE SA that is not ours is not answered at all:
INVALID_IKE_SPI (section 2.21.4: MAY) could be believed by nobody, and it would make this server
answer whatever address a forger writes into a packet.
"""

import hmac
from collections import Counter
from collections.abc import Callable, Container, Iterator
from hashlib import sha256
from typing import Any

from covey import ike
from covey.drops import (
    DROP_IKE_EXCHANGE,
    DROP_IKE_HEADER,
    DROP_IKE_MESSAGE_ID,
    DROP_IKE_SPI,
    NAMES,
    FormatError,
)

from . import Out, ikesa, sainit
from .authority import PSK_LEN, Authority
from .epoch import Random
from .ikesa import IkeSA
from .parts import Parts, Payloads, notify
from .policy import SitePolicy
from .registrar import NAMED, Registrar, shown

MOST_UNPROVEN = 1024  # IKE SAs whose peer has proven nothing, or that ended; no more are made
UNPROVEN_MS = 30_000  # how long each of them is kept
_NOTICES_PER_S = 10  # answers to what no IKEv2 peer of ours sends (section 2.21.4: limit the rate)

_HEADER_LEN = 28
_NEVER = 1 << 62
_ENDS = {ike.UNSUPPORTED_CRITICAL_PAYLOAD, ike.INVALID_SYNTAX, ike.AUTHENTICATION_FAILED}


class Responder:
    def __init__(
        self,
        policy: SitePolicy,
        authority: Authority,
        registrar: Registrar,
        counters: Counter,
        tell: Callable[..., None],
        random: Random,
    ):
        self.policy = policy
        self._authority = authority
        self._registrar = registrar
        self._counters = counters
        self._tell = tell
        self._random = random
        self._sas: dict[bytes, IkeSA] = {}  # by our SPI
        self._origins: dict[tuple, IkeSA] = {}  # by address and hash of the IKE_SA_INIT request
        self._unproven: set[bytes] = set()  # SPIs of those that are half-open or ended
        self._proven: dict[str, IkeSA] = {}  # by member: the one that is open
        self._due_ms = _NEVER  # no deadline of an IKE SA is earlier
        self._notices: list[int] = []  # when the latest were sent

    def receive(self, data: bytes, address: Any, now_ms: int) -> list[Out]:
        """One IKE message without marker → what it is answered with. Problem: from the store."""
        try:
            return [
                out if isinstance(out, Out) else Out(out, address)
                for out in self._receive(bytes(data), address, now_ms)
            ]
        except FormatError as error:
            self._counters[NAMES[error.reason]] += 1
            return []

    def step(self, now_ms: int) -> list[Out]:
        """Whatever time has brought: repeats of our requests, IKE SAs that end."""
        if now_ms < self._due_ms:
            return []
        outs = []
        for sa in [sa for sa in self._sas.values() if now_ms >= sa.deadline_ms]:
            if sa.state == ikesa.OPEN:
                self._counters["idle_closed"] += 1
                outs += self._close(sa, now_ms)
            elif sa.state == ikesa.CLOSING and (again := sa.retransmit(now_ms)):
                outs.append(Out(again, sa.address))
            else:
                self._counters["half_open_expired"] += sa.state == ikesa.HALF_OPEN
                self._forget(sa)
        self._due_ms = min((sa.deadline_ms for sa in self._sas.values()), default=_NEVER)
        return outs

    def next_ms(self) -> int:
        """When step() may have something to do."""
        return self._due_ms

    def dismiss(self, member: str, now_ms: int) -> list[Out]:
        """Delete the member's IKE SA."""
        return self._close(self._proven[member], now_ms) if member in self._proven else []

    def status(self) -> dict:
        return {"ike_sas": len(self._sas), "unproven": len(self._unproven)}

    def connected(self) -> set[str]:
        """Members with an open IKE SA."""
        return set(self._proven)

    def ike_keys(
        self, known: Container[bytes] = ()
    ) -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
        """SPIi, SPIr, SK_ei, SK_er of each IKE SA with keys. known: SPIi | SPIr to leave out."""
        for sa in self._sas.values():
            if sa.state != ikesa.ENDED and sa.spi_i + sa.spi_r not in known:
                yield sa.spi_i, sa.spi_r, bytes(sa.keys.sk_ei), bytes(sa.keys.sk_er)

    # From datagram to IKE SA

    def _receive(self, data: bytes, address: Any, now_ms: int) -> list:
        if len(data) >= _HEADER_LEN and data[17] >> 4 > 2:
            return self._refuse_version(data, now_ms)
        header = ike.parse_header(data)
        if not header.flags & ike.FLAG_I:
            raise FormatError(DROP_IKE_HEADER)  # members are the original initiators
        if header.exchange == ike.IKE_SA_INIT:
            return self._sa_init(header, data, address, now_ms)
        sa = self._sas.get(header.spi_r)
        if sa is None or header.spi_i != sa.spi_i:
            raise FormatError(DROP_IKE_SPI)
        if header.flags & ike.FLAG_R:
            return self._take_response(sa, header, data)
        return self._take_request(sa, header, data, address, now_ms)

    def _refuse_version(self, data: bytes, now_ms: int) -> list[bytes]:
        """Section 2.5: dropped, and told which version we speak; sections 1.5, 2.21.4: how."""
        self._counters["version"] += 1
        if data[19] & ike.FLAG_R or not self._may_notice(now_ms):
            return []
        head = data[:8], data[8:16], data[18], ike.FLAG_R, int.from_bytes(data[20:24])
        return [bytes(ike.emit_message(*head, [notify(ike.INVALID_MAJOR_VERSION)]))]

    def _may_notice(self, now_ms: int) -> bool:
        self._notices = [t for t in self._notices if now_ms - t < 1000]
        if len(self._notices) >= _NOTICES_PER_S:
            return False
        self._notices.append(now_ms)
        return True

    def _sa_init(self, header: ike.Header, data: bytes, address: Any, now_ms: int) -> list[bytes]:
        sainit.check_header(header)
        origin = address, sha256(data).digest()
        known = self._origins.get(origin)
        if known is not None:  # section 2.1: repeated while half-open, ignored from then on
            self._counters["sa_init_repeat"] += 1
            return [known.response] if known.next_request == 1 else []
        if not self._has_room():
            self._counters["half_open_full"] += 1
            return []
        spi_r = self._random(8)
        while spi_r == sainit.ZERO_SPI or spi_r in self._sas:
            spi_r = self._random(8)
        try:
            sa = sainit.respond(header, data, spi_r, self._random)
        except sainit.Unacceptable as reason:
            self._counters[reason.reason] += 1
            if reason.type == ike.UNSUPPORTED_CRITICAL_PAYLOAD and not self._may_notice(now_ms):
                return []  # the one answer that can be longer than its request
            return [reason.answer(header)]
        sa.address, sa.origin = address, origin
        self._sas[spi_r] = self._origins[origin] = sa
        self._unproven.add(spi_r)
        self._expire(sa, now_ms + UNPROVEN_MS)
        self._counters["sa_init"] += 1
        return [sa.response]

    def _has_room(self) -> bool:
        """For one more half-open IKE SA, at the cost of the oldest one that has ended."""
        if len(self._unproven) < MOST_UNPROVEN:
            return True
        ended = [self._sas[spi] for spi in self._unproven if self._sas[spi].state == ikesa.ENDED]
        if not ended:
            return False
        self._forget(min(ended, key=lambda sa: sa.deadline_ms))
        return True

    # Requests and responses inside an IKE SA

    def _take_response(self, sa: IkeSA, header: ike.Header, data: bytes) -> list[bytes]:
        """The only request of ours is the Delete of the IKE SA: whatever it says, that is done."""
        if not sa.awaits(header.message_id):
            raise FormatError(DROP_IKE_MESSAGE_ID)
        sa.open(data)
        self._forget(sa)
        return []

    def _take_request(
        self, sa: IkeSA, header: ike.Header, data: bytes, address: Any, now_ms: int
    ) -> list:
        request_hash = sha256(data).digest()
        if header.message_id == sa.next_request - 1 and request_hash == sa.last_hash:
            self._counters["request_repeat"] += 1
            return [sa.last_answer]
        if header.message_id != sa.next_request or sa.state == ikesa.ENDED:
            raise FormatError(DROP_IKE_MESSAGE_ID)
        if sa.state == ikesa.HALF_OPEN and header.exchange not in (ike.GSA_AUTH, ike.IKE_AUTH):
            raise FormatError(DROP_IKE_EXCHANGE)  # nobody is there yet to be told why
        opened = sa.open(data)
        others = []
        payloads, ends = self._answer(sa, opened, others, now_ms)
        sa.last_answer = sa.seal(header.exchange, ike.FLAG_R, header.message_id, payloads)
        sa.last_hash = request_hash
        sa.next_request += 1
        sa.address = address  # section 2.11: answers go where the request came from
        if ends:
            self._end(sa, now_ms)
        elif sa.state == ikesa.OPEN:
            self._expire(sa, now_ms + self.policy.ike_idle_s * 1000)
        return [sa.last_answer, *others]

    def _answer(
        self, sa: IkeSA, opened: ike.Opened, others: list[Out], now_ms: int
    ) -> tuple[Payloads, bool]:
        """What an authentic request is answered with, and whether that ends the IKE SA.

        others: receives what else there is to send.
        """
        exchange = opened.header.exchange
        try:
            payloads = ike.parse_chain(opened.first, opened.inner)
            critical = ike.unsupported_critical(opened.clear + payloads)
            if critical is not None:  # section 2.5; section 2.21.2: before anything else
                self._counters["unsupported_critical"] += 1
                answer = notify(ike.UNSUPPORTED_CRITICAL_PAYLOAD, bytes([critical]))
                return [answer], sa.state == ikesa.HALF_OPEN
            parts = Parts(payloads)
            if sa.state == ikesa.HALF_OPEN:
                return self._authenticate(sa, exchange, parts, others, now_ms)
            if exchange == ike.INFORMATIONAL:
                return [], _ends(parts)
            if sa.state == ikesa.CLOSING:
                return [notify(ike.TEMPORARY_FAILURE)], False
            if exchange == ike.GSA_REGISTRATION:
                return self._registrar.answer(sa, parts, now_ms), False
            if exchange == ike.CREATE_CHILD_SA:  # section 4: what a minimal responder says
                self._counters["no_additional_sas"] += 1
                return [notify(ike.NO_ADDITIONAL_SAS)], False
            raise FormatError(DROP_IKE_EXCHANGE)
        except FormatError as error:  # section 2.21.3: fatal for both
            self._counters[NAMES[error.reason]] += 1
            return [notify(ike.INVALID_SYNTAX)], True

    # GSA_AUTH, RFC 9838 section 2.3.1

    def _authenticate(
        self, sa: IkeSA, exchange: int, parts: Parts, others: list[Out], now_ms: int
    ) -> tuple[Payloads, bool]:
        if exchange == ike.IKE_AUTH:  # this server makes no Child SAs: not our kind of peer
            return self._fail(b"")
        idi = parts.needed(ike.IDi)
        parts.needed(ike.IDg)
        id_type, name = ike.parse_id(idi)
        auth = parts.one(ike.AUTH)
        method, proof = (0, b"") if auth is None else ike.parse_auth(auth)  # none: EAP is wanted
        member = self._authority.find(name.decode("latin-1")) if id_type in NAMED else None
        psk = self._random(PSK_LEN) if member is None else member.psk  # the same work for both
        wanted = ike.psk_auth(psk, sa.keys.sk_pi, sa.request, sa.nonce_r, idi)
        is_proven = hmac.compare_digest(proof, wanted)
        if member is None or method != ike.AUTH_SHARED_KEY or not is_proven:
            return self._fail(name)
        sa.identity = member.name
        answer = self._registrar.answer(sa, parts, now_ms)
        others += self.dismiss(member.name, now_ms)  # the newest wins, the older is told
        self._proven[member.name] = sa
        self._unproven.discard(sa.spi_r)
        sa.state = ikesa.OPEN
        self._counters["authenticated"] += 1
        return [*self._proof(sa, member.psk), *answer], False

    def _fail(self, name: bytes) -> tuple[Payloads, bool]:
        """Alone, and the same whether the identity is unknown or its key is wrong."""
        self._counters["authentication_failed"] += 1
        self._tell("authentication_failed", member=shown(name))
        return [notify(ike.AUTHENTICATION_FAILED)], True

    def _proof(self, sa: IkeSA, psk: bytes) -> Payloads:
        """IDr, always, whatever IDr was asked for (RFC 7296 section 3.5), and AUTH."""
        idr = ike.emit_id(ike.ID_FQDN, self.policy.identity.encode())
        auth = ike.psk_auth(psk, sa.keys.sk_pr, sa.response, sa.nonce_i, idr)
        return [(ike.IDr, idr), (ike.AUTH, ike.emit_auth(ike.AUTH_SHARED_KEY, auth))]

    # The end of an IKE SA

    def _close(self, sa: IkeSA, now_ms: int) -> list[Out]:
        self._proven.pop(sa.identity, None)
        request = sa.close(now_ms)
        self._expire(sa, sa.deadline_ms)
        return [Out(request, sa.address)]

    def _end(self, sa: IkeSA, now_ms: int) -> None:
        """By the peer or by an error: only the last answer is kept, for a while."""
        if self._proven.get(sa.identity) is sa:
            del self._proven[sa.identity]
        self._unproven.add(sa.spi_r)
        sa.end()
        self._expire(sa, now_ms + UNPROVEN_MS)

    def _forget(self, sa: IkeSA) -> None:
        if self._proven.get(sa.identity) is sa:
            del self._proven[sa.identity]
        self._unproven.discard(sa.spi_r)
        del self._origins[sa.origin], self._sas[sa.spi_r]
        sa.wipe()

    def _expire(self, sa: IkeSA, deadline_ms: int) -> None:
        sa.deadline_ms = deadline_ms
        self._due_ms = min(self._due_ms, deadline_ms)


def _ends(parts: Parts) -> bool:
    """Whether an INFORMATIONAL request ends its IKE SA: by Delete, or by an error found."""
    deletes = [ike.parse_delete(body) for body in parts.all(ike.DELETE)]
    return any(d.protocol == ike.IKE for d in deletes) or any(
        n.type in _ENDS for n in parts.notifies
    )
