"""IKE_SA_INIT (RFC 7296 section 1.2, with the key wrap algorithm of RFC 9838): no state kept here.

    HDR, SAi1, KEi, Ni -->   <-- HDR, SAr1, KEr, Nr
                             <-- HDR, N(NO_PROPOSAL_CHOSEN | INVALID_KE_PAYLOAD | ...)

Nothing here is authentic. What is malformed is not answered: INVALID_SYNTAX may be said under
protection only (section 3.10.1).
"""

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from covey import ike
from covey.drops import DROP_IKE_HEADER, DROP_IKE_KE, FormatError

from . import proposals
from .epoch import Random
from .ikesa import IkeSA
from .parts import Parts, notify

ZERO_SPI = bytes(8)
_NONCE_LEN = 32


class Unacceptable(Exception):
    """To be answered by a notification, in clear. `reason` is counted."""

    def __init__(self, type: int, data: bytes, reason: str):
        super().__init__(reason)
        self.type, self.data, self.reason = type, data, reason

    def answer(self, header: ike.Header) -> bytes:
        """Section 2.6: no IKE SA came of it, so our SPI is zero."""
        head = header.spi_i, ZERO_SPI, ike.IKE_SA_INIT, ike.FLAG_R, 0
        return bytes(ike.emit_message(*head, [notify(self.type, self.data)]))


def check_header(header: ike.Header) -> None:
    """FormatError where this can't be the first request of an initiator."""
    if header.flags & ike.FLAG_R or header.message_id:
        raise FormatError(DROP_IKE_HEADER)
    if header.spi_i == ZERO_SPI or header.spi_r != ZERO_SPI:
        raise FormatError(DROP_IKE_HEADER)


def respond(header: ike.Header, data: bytes, spi_r: bytes, random: Random) -> IkeSA:
    """A half-open IKE SA, its response made. FormatError: silence; Unacceptable: notify."""
    _, payloads = ike.parse_message(data)
    critical = ike.unsupported_critical(payloads)
    if critical is not None:
        kind = bytes([critical])
        raise Unacceptable(ike.UNSUPPORTED_CRITICAL_PAYLOAD, kind, "unsupported_critical")
    parts = Parts(payloads)
    chosen = proposals.choose(ike.parse_sa(parts.needed(ike.SA)))
    method, value = ike.parse_ke(parts.needed(ike.KE))
    nonce_i = ike.check_nonce(parts.needed(ike.NONCE))
    if chosen is None:
        raise Unacceptable(ike.NO_PROPOSAL_CHOSEN, b"", "no_proposal_chosen")
    if method != ike.CURVE25519:  # it was offered, or nothing would have been chosen
        wanted = ike.CURVE25519.to_bytes(2)
        raise Unacceptable(ike.INVALID_KE_PAYLOAD, wanted, "invalid_ke_payload")
    public, shared = _agree(value, random)
    nonce_r = random(_NONCE_LEN)
    keys = ike.derive(nonce_i, nonce_r, shared, header.spi_i, spi_r, chosen.key_bits)
    sa = IkeSA(header.spi_i, spi_r, chosen, keys, random)
    answer = [
        (ike.SA, ike.emit_sa([chosen.answer])),
        (ike.KE, ike.emit_ke(ike.CURVE25519, public)),
        (ike.NONCE, nonce_r),
    ]
    head = header.spi_i, spi_r, ike.IKE_SA_INIT, ike.FLAG_R, 0
    sa.request, sa.response = data, bytes(ike.emit_message(*head, answer))
    sa.nonce_i, sa.nonce_r = nonce_i, nonce_r
    return sa


def _agree(value: bytes, random: Random) -> tuple[bytes, bytes]:
    """Our public value and the shared secret; all-zero is refused (RFC 7748 section 6.1)."""
    secret = X25519PrivateKey.from_private_bytes(random(32))
    try:
        shared = secret.exchange(X25519PublicKey.from_public_bytes(value))
    except ValueError:
        raise FormatError(DROP_IKE_KE) from None
    return secret.public_key().public_bytes_raw(), shared
