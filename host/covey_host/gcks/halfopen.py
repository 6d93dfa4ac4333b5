"""The door: which IKE_SA_INIT requests become IKE SAs, and how a flood of them is survived.

From `cookies_from` half-open IKE SAs on, whoever asks for one more must first show a cookie. Until
then nothing is remembered of it, nothing costly is computed for it, and no answer to it is longer
than what it sent: this server helps nobody to flood a third. A peer that hears us may fill a
share of the table, and no more; where the table is full, who has the largest share makes room.
"""

from collections import Counter
from hashlib import sha256
from typing import Any

from covey import ike

from . import sainit
from .cookies import COOKIE_LEN, Cookies, bare_nonce, shown
from .epoch import Random
from .ikesa import IkeSA
from .natd import host_of
from .parts import Parts, notify
from .policy import SitePolicy
from .redirects import Redirects
from .table import Table
from .trust import Trust

MOST_PER_HOST = 256  # half-open IKE SAs
_CALMS_MS = 10_000  # how long cookies are asked for after that was last needed
_NOTICES_PER_S = 10  # answers to what no IKEv2 peer of ours sends (section 2.21.4: limit the rate)
_QUESTION = bytes(  # header and Notify payload, from SPIr to the cookie
    ike.emit_message(
        bytes(8), bytes(8), ike.IKE_SA_INIT, ike.FLAG_R, 0, [notify(ike.COOKIE, bytes(COOKIE_LEN))]
    )
)[8:-COOKIE_LEN]


class Door:
    def __init__(
        self,
        policy: SitePolicy,
        table: Table,
        counters: Counter,
        random: Random,
        cookies: Cookies | None = None,
    ):
        """cookies: where other processes at the same ports make and take the same ones."""
        self.policy = policy
        self.trust = Trust()
        self.redirects = Redirects(random)
        self.elsewhere = 0  # half-open IKE SAs of other processes at the same ports
        self._table = table
        self._counters = counters
        self._random = random
        self._ephemeral = sainit.Ephemeral(random)
        self._cookies = cookies or Cookies(random)
        self._notices: list[int] = []  # when the latest were sent
        self._calm_ms = 0  # from when on cookies need not be asked for
        self._is_calm = True  # as of the latest message

    def receive(self, header: ike.Header, data: bytes, address: Any, now_ms: int) -> list[bytes]:
        """An IKE_SA_INIT request → its answer, or silence. FormatError: dropped."""
        sainit.check_header(header)
        self._look(now_ms)
        origin = address, sha256(data).digest()
        known = self._table.begun_by(origin)
        if known is not None:
            return self._again(known, header, data, now_ms)
        redirect = self.redirects.in_clear(header, data)
        if redirect is not None:
            if not redirect:
                self._counters["no_store"] += 1
                return []
            self._counters["redirected"] += 1
            return [redirect]
        is_proven = False
        if self.is_loaded():
            is_proven, answer = self._ask_cookie(header, data, address, now_ms)
            if not is_proven:
                return answer
        if not self._has_room(address, now_ms):
            self._counters["half_open_full"] += 1
            return []
        try:
            spi, how = self._table.new_spi(), (address, self.policy.listen, self.trust)
            sa = sainit.respond(header, data, spi, self._random, self._ephemeral, *how)
        except sainit.Unacceptable as reason:
            self._counters[reason.reason] += 1
            if reason.type == ike.UNSUPPORTED_CRITICAL_PAYLOAD and not self._may_notice(now_ms):
                return []  # an answer that can be longer than its request
            return [reason.answer(header)]
        sa.address, sa.origin, sa.heard_ms, sa.used_ms = address, origin, now_ms, now_ms
        sa.has_cookie = is_proven
        sa.most_len = most_len(self.policy)
        self._table.add_half_open(sa, now_ms)
        self._counters["sa_init"] += 1
        return [sa.response]

    def has_cookie(self, data: bytes, address: Any, now_ms: int) -> bool:
        """Whether an IKE_SA_INIT whose first payload is a Notify begins with a cookie of ours, as
        quickly as a flood wants it."""
        cookie, nonce = shown(data) or (b"", b"")
        return self._cookies.is_ours(cookie, data[:8], nonce, str(host_of(address)), now_ms)

    def answered(self) -> None:
        """All that arrived at once."""
        self._ephemeral.forget()

    def is_loaded(self) -> bool:
        """Whether addresses that have shown nothing are to get no more than they sent."""
        return not self._is_calm or self._is_crowded()

    def refuse_version(self, data: bytes, now_ms: int) -> list[bytes]:
        """Section 2.5: dropped, and told which version we speak; sections 1.5, 2.21.4: how."""
        self._counters["version"] += 1
        if data[19] & ike.FLAG_R:
            return []
        head = data[:8], data[8:16], data[18], ike.FLAG_R, int.from_bytes(data[20:24])
        answer = bytes(ike.emit_message(*head, [notify(ike.INVALID_MAJOR_VERSION)]))
        if self.is_loaded() and len(answer) > len(data) or not self._may_notice(now_ms):
            return []
        return [answer]

    def _is_crowded(self) -> bool:
        return self._table.half_open + self.elsewhere >= self.policy.cookies_from

    def _look(self, now_ms: int) -> None:
        """Not now so, now so: a peer that was asked for a cookie, and was then answered to an
        earlier repeat without one, could not tell which of its requests was meant (section 2.6),
        and its AUTH would be wrong."""
        if self._is_crowded():
            self._calm_ms = now_ms + _CALMS_MS
        self._is_calm = now_ms >= self._calm_ms

    def _again(self, known: IkeSA, header: ike.Header, data: bytes, now_ms: int) -> list[bytes]:
        """Section 2.1: the same answer while half-open, or while the peer waits for new keys and
        may ask whether we live; ignored from then on. Under a flood one that is longer than the
        repeat is not given: with the cookie that is asked for instead, the peer begins another IKE
        SA."""
        self._counters["sa_init_repeat"] += 1
        if known.next_request > 1 and known.deferred is None:
            return []
        is_longer = len(known.response) > len(data) and not known.has_cookie
        if is_longer and self.is_loaded():
            is_proven, answer = self._ask_cookie(header, data, known.address, now_ms)
            return [known.response] if is_proven else answer
        return [known.response]

    def _has_room(self, address: Any, now_ms: int) -> bool:
        host = host_of(address)
        before = self._table.half_open
        if self._table.half_open_of(host) >= MOST_PER_HOST:
            has_room = self._table.displace(host, now_ms)
        else:
            has_room = self._table.make_room(host, now_ms)
        if self._table.half_open < before:
            self._counters["half_open_displaced"] += 1
        return has_room

    def _ask_cookie(
        self, header: ike.Header, data: bytes, address: Any, now_ms: int
    ) -> tuple[bool, list[bytes]]:
        """Whether the request shows a cookie of ours, and else how it is asked for one."""
        bare = bare_nonce(header.next_payload, data)
        if bare is not None:
            of = header.spi_i, bare, str(host_of(address)), now_ms
            return False, self._question(data, of)
        _, payloads = ike.parse_message(data)
        parts = Parts(payloads)
        nonce = ike.check_nonce(parts.needed(ike.NONCE))
        of = header.spi_i, nonce, str(host_of(address)), now_ms
        shown = [n.data for n in parts.notifies if n.type == ike.COOKIE]
        if shown and self._cookies.is_ours(shown[0], *of):
            return True, []
        if shown:
            self._counters["cookie_wrong"] += 1
        return False, self._question(data, of)

    def _question(self, data: bytes, of: tuple[bytes, bytes, str, int]) -> list[bytes]:
        """Nothing but a cookie, for SPIi, Ni, host, at the time now; not longer than what came."""
        self._counters["cookie_asked"] += 1
        answer = of[0] + _QUESTION + self._cookies.make(*of)
        return [answer] if len(answer) <= len(data) else []

    def _may_notice(self, now_ms: int) -> bool:
        self._notices = [t for t in self._notices if now_ms - t < 1000]
        if len(self._notices) >= _NOTICES_PER_S:
            return False
        self._notices.append(now_ms)
        return True


def most_len(policy: SitePolicy) -> int | None:
    """Octets of an IKE message in one datagram: less IP header, UDP header and marker. The marker
    is counted everywhere, so that nothing depends on the port."""
    return policy.fragment_size - 32 if policy.fragment_size else None
