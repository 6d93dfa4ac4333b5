"""Members are sent to other replicas of this key server (RFC 5685): by one that is about to end,
or that doesn't reach its store.

    HDR, SAi1, KEi, Ni, N(REDIRECT_SUPPORTED) -->    <-- HDR(A,0), N(REDIRECT, who, Ni)
    HDR, SK{IDi, AUTH, IDg, ...} -->                 <-- HDR, SK{IDr, AUTH, N(REDIRECT, who)}
                       <-- HDR, SK{N(REDIRECT, who)}     HDR, SK{} -->    over an open IKE SA

The second is for a group that only one of the replicas lets members into. Who doesn't say that it
knows REDIRECT is answered as ever. No answer in clear is longer than what it answers, and nothing
is remembered for it.
"""

from typing import Any

from covey import ike
from covey.redirect import emit_redirect

from .epoch import Random
from .ikesa import HALF_OPEN, IkeSA
from .parts import Parts, Payloads, notify
from .table import ZERO_SPI

_KNOWS = {ike.REDIRECT_SUPPORTED, ike.REDIRECTED_FROM}


def is_known(parts: Parts) -> bool:
    """Whether who begins an IKE SA so can be sent elsewhere."""
    return any(n.type in _KNOWS for n in parts.notifies)


class Redirects:
    def __init__(self, random: Random):
        self.hosts: tuple[str, ...] = ()  # of replicas that take members, as members find them
        self.holder = ""  # likewise, of the one that alone takes those of some groups
        self.is_draining = False
        self.is_away = False  # the store can't be reached: nobody can be let in here
        self.is_parting = False  # for so long that those go who are told of new keys from here
        self._random = random

    @property
    def facts(self) -> dict[str, Any]:
        """For other processes at the same ports."""
        return {"hosts": self.hosts, "is_draining": self.is_draining, "is_away": self.is_away}

    def adopt(self, facts: dict[str, Any]) -> None:
        self.hosts = tuple(facts["hosts"])
        self.is_draining, self.is_away = facts["is_draining"], facts["is_away"]

    def in_clear(self, header: ike.Header, data: bytes) -> bytes | None:
        """The answer to an IKE_SA_INIT, if it is to go elsewhere: none at all where it can't be
        served. None: it is to be served. FormatError: malformed."""
        if not (self.is_draining or self.is_away):
            return None
        rest = b"" if self.is_away else None
        parts = Parts(ike.parse_message(data)[1])
        if not self.hosts or not is_known(parts):
            return rest
        nonce = ike.check_nonce(parts.needed(ike.NONCE))
        told = notify(ike.REDIRECT, emit_redirect(self._host(), nonce))
        head = header.spi_i, ZERO_SPI, ike.IKE_SA_INIT, ike.FLAG_R, 0
        answer = bytes(ike.emit_message(*head, [told]))
        return answer if len(answer) <= len(data) else rest

    def told(self) -> Payloads:
        """What somebody with an open IKE SA is told; nothing where nobody else takes members."""
        return [notify(ike.REDIRECT, emit_redirect(self._host()))] if self.hosts else []

    def to_holder(self, sa: IkeSA) -> Payloads:
        """What somebody is answered who has proven itself, and is to be let in elsewhere."""
        if self.holder and sa.has_redirect and sa.state == HALF_OPEN:
            return [notify(ike.REDIRECT, emit_redirect(self.holder))]
        return [notify(ike.REGISTRATION_FAILED)]  # it asks the next one of its list

    def _host(self) -> str:
        return self.hosts[int.from_bytes(self._random(4)) % len(self.hosts)]
