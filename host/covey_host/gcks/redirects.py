"""Members are sent to other replicas of this key server (RFC 5685): by one that is about to end.

    HDR, SAi1, KEi, Ni, N(REDIRECT_SUPPORTED) -->    <-- HDR(A,0), N(REDIRECT, who, Ni)
                       <-- HDR, SK{N(REDIRECT, who)}     HDR, SK{} -->    over an open IKE SA

Who doesn't say that it knows REDIRECT is answered as ever. No answer in clear is longer than what
it answers, and nothing is remembered for it.
"""

from covey import ike
from covey.redirect import emit_redirect

from .epoch import Random
from .parts import Parts, Payloads, notify
from .table import ZERO_SPI

_KNOWS = {ike.REDIRECT_SUPPORTED, ike.REDIRECTED_FROM}


def is_known(parts: Parts) -> bool:
    """Whether who begins an IKE SA so can be sent elsewhere."""
    return any(n.type in _KNOWS for n in parts.notifies)


class Redirects:
    def __init__(self, random: Random):
        self.hosts: tuple[str, ...] = ()  # of replicas that take members, as members find them
        self.holder = ""  # likewise, who has the term
        self.is_draining = False
        self._random = random

    def in_clear(self, header: ike.Header, data: bytes) -> bytes | None:
        """The answer to an IKE_SA_INIT, if it is to go elsewhere. FormatError: malformed."""
        if not self.is_draining or not self.hosts:
            return None
        parts = Parts(ike.parse_message(data)[1])
        if not is_known(parts):
            return None
        nonce = ike.check_nonce(parts.needed(ike.NONCE))
        told = notify(ike.REDIRECT, emit_redirect(self._host(), nonce))
        head = header.spi_i, ZERO_SPI, ike.IKE_SA_INIT, ike.FLAG_R, 0
        answer = bytes(ike.emit_message(*head, [told]))
        return answer if len(answer) <= len(data) else None

    def told(self) -> Payloads:
        """What somebody with an open IKE SA is told; nothing where nobody else takes members."""
        return [notify(ike.REDIRECT, emit_redirect(self._host()))] if self.hosts else []

    def _host(self) -> str:
        return self.hosts[int.from_bytes(self._random(4)) % len(self.hosts)]
