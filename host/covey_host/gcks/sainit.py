"""IKE_SA_INIT (RFC 7296 section 1.2, with the key wrap algorithm of RFC 9838): no state kept here.

    HDR, [N(COOKIE),] SAi1, KEi, Ni, [N, N,] [N] -->   <-- HDR, SAr1, KEr, Nr, [N, N,] [N]
                          ..., N(SIGNATURE_HASH_ALGORITHMS) <--> ..., CERTREQ, N(the same)
                             <-- HDR, N(NO_PROPOSAL_CHOSEN | INVALID_KE_PAYLOAD | ...)

Nothing here is authentic. What is malformed is not answered: INVALID_SYNTAX may be said under
protection only (section 3.10.1).
"""

from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from covey import ike
from covey.drops import DROP_IKE_HEADER, FormatError
from covey.job import finish

from . import natd, ppk, proposals, redirects
from .epoch import Random
from .ikerekey import agree
from .ikesa import IkeSA
from .parts import Parts, notify
from .policyvalues import Listen
from .table import ZERO_SPI
from .trust import SHA2_256, Trust

_NONCE_LEN = 32
_MOST_OFFERS = 32  # kept with what was chosen of them; the one not seen for longest goes first


class Unacceptable(Exception):
    """To be answered by a notification, in clear. `reason` is counted."""

    def __init__(self, type: int, data: bytes, reason: str):
        super().__init__(reason)
        self.type, self.data, self.reason = type, data, reason

    def answer(self, header: ike.Header) -> bytes:
        """Section 2.6: no IKE SA came of it, so our SPI is zero."""
        head = header.spi_i, ZERO_SPI, ike.IKE_SA_INIT, ike.FLAG_R, 0
        return bytes(ike.emit_message(*head, [notify(self.type, self.data)]))


class Ephemeral:
    """Our X25519 key, made when one is asked for. Who asks in the meantime gets the same (RFC 7296
    section 2.12): it is forgotten as soon as the messages that arrived at once are answered."""

    def __init__(self, random: Random):
        self._random = random
        self._made: tuple[X25519PrivateKey, bytes] | None = None

    def pair(self) -> tuple[X25519PrivateKey, bytes]:
        """→ (private key, public value)"""
        if self._made is None:
            private = X25519PrivateKey.from_private_bytes(self._random(32))
            self._made = private, private.public_key().public_bytes_raw()
        return self._made

    def forget(self) -> None:
        self._made = None


def check_header(header: ike.Header) -> None:
    """FormatError where this can't be the first request of an initiator."""
    if not header.flags & ike.FLAG_I or header.flags & ike.FLAG_R or header.message_id:
        raise FormatError(DROP_IKE_HEADER)
    if header.spi_i == ZERO_SPI or header.spi_r != ZERO_SPI:
        raise FormatError(DROP_IKE_HEADER)


def respond(
    header: ike.Header,
    data: bytes,
    spi_r: bytes,
    random: Random,
    ephemeral: Ephemeral,
    address: Any,
    listen: tuple[Listen, ...],
    trust: Trust,
) -> IkeSA:
    """A half-open IKE SA, its response made. FormatError: silence; Unacceptable: notify."""
    _, payloads = ike.parse_message(data)
    critical = ike.unsupported_critical(payloads)
    if critical is not None:
        kind = bytes([critical])
        raise Unacceptable(ike.UNSUPPORTED_CRITICAL_PAYLOAD, kind, "unsupported_critical")
    parts = Parts(payloads)
    chosen, answered = _chosen(parts.needed(ike.SA))
    method, value = ike.parse_ke(parts.needed(ike.KE))
    nonce_i = ike.check_nonce(parts.needed(ike.NONCE))
    if chosen is None:
        raise Unacceptable(ike.NO_PROPOSAL_CHOSEN, b"", "no_proposal_chosen")
    if method != ike.CURVE25519:  # it was offered, or nothing would have been chosen
        wanted = ike.CURVE25519.to_bytes(2)
        raise Unacceptable(ike.INVALID_KE_PAYLOAD, wanted, "invalid_ke_payload")
    private, public = ephemeral.pair()
    shared = agree(private, value)
    nonce_r = random(_NONCE_LEN)
    spis = header.spi_i, spi_r
    keys = ike.Keys(*finish(ike.derive(nonce_i, nonce_r, shared, *spis, chosen.key_bits)))
    sa = IkeSA(header.spi_i, spi_r, chosen, keys, random)
    sa.has_fragments = any(n.type == ike.IKEV2_FRAGMENTATION_SUPPORTED for n in parts.notifies)
    sa.has_redirect = redirects.is_known(parts)
    answer = [
        (ike.SA, answered),
        (ike.KE, ike.emit_ke(ike.CURVE25519, public)),
        (ike.NONCE, nonce_r),
        *natd.answer(parts.notifies, header.spi_i, spi_r, address, listen),
    ]
    if sa.has_fragments:  # said only to who said it (RFC 7383 section 2.3)
        answer.append(notify(ike.IKEV2_FRAGMENTATION_SUPPORTED))
    sa.has_ppk = bool(ppk.answer(parts))
    answer += ppk.answer(parts)
    sa.has_signatures = trust.key is not None and _knows_sha256(parts)
    if sa.has_signatures:
        answer += trust.announcement()
    head = header.spi_i, spi_r, ike.IKE_SA_INIT, ike.FLAG_R, 0
    sa.request, sa.response = data, bytes(ike.emit_message(*head, answer))
    sa.nonce_i, sa.nonce_r = nonce_i, nonce_r
    return sa


@lru_cache(_MOST_OFFERS)
def _chosen(offer: bytes) -> tuple[proposals.Chosen | None, bytes]:
    """What is taken of the body of an SA payload, and the body that says so. Members of one kind
    all offer the same."""
    chosen = proposals.choose(ike.parse_sa(offer))
    return chosen, b"" if chosen is None else bytes(ike.emit_sa([chosen.answer]))


def _knows_sha256(parts: Parts) -> bool:
    """RFC 7427 section 4: numbers of two octets each."""
    for n in parts.notifies:
        if n.type == ike.SIGNATURE_HASH_ALGORITHMS:
            return SHA2_256 in [n.data[i : i + 2] for i in range(0, len(n.data), 2)]
    return False
