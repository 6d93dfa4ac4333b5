"""Exchanges over one IKE SA, as the side that opened it: RFC 7296 sections 2.1 to 2.3, RFC 5282.

Message IDs, a window of one request each way, the octets to be sent again, the keys. No clock:
when to send again is the affair of whoever holds the SA.
"""

import struct

from covey import ike
from covey.drops import DROP_IKE_EXCHANGE, DROP_IKE_MESSAGE_ID, DROP_IKE_SPI, FormatError
from covey.gcm import GCMContext
from covey.octets import equal
from covey.payloads import every, notify
from covey.port import sha256


class IkeSA:
    """An IKE SA after IKE_SA_INIT."""

    def __init__(self, spi_i, spi_r, sk_ei, sk_er):
        self.spi_i = spi_i
        self.spi_r = spi_r
        self.request = None  # ours that waits for its answer: the same octets at every sending
        self.answer = None  # ours to the peer's last request, kept for its repetition
        self._awaited = 0  # exchange type of .request
        self._next_id = 1  # Message ID of our next request; IKE_SA_INIT had 0
        self._peer_id = 0  # Message ID that the peer's next request must have
        self._peer_digest = None  # SHA-256 of the peer's last request
        self._iv = 0  # counter: under SK_ei nobody else seals
        self._sealing = GCMContext(sk_ei)
        self._opening = GCMContext(sk_er)

    def ask(self, exchange, payloads):
        """Seal a request; it stays in .request until open_response takes the answer."""
        assert self.request is None
        self._awaited = exchange
        self.request = self._seal(exchange, ike.FLAG_I, self._next_id, payloads)
        self._next_id += 1

    def open_response(self, header, data):
        """The payloads of the answer to .request, or a FormatError.

        If .request is None after the error, the answer was genuine and no other will come.
        """
        if self.request is None or header.message_id != self._next_id - 1:
            raise FormatError(DROP_IKE_MESSAGE_ID)
        if header.exchange != self._awaited:
            raise FormatError(DROP_IKE_EXCHANGE)
        opened = ike.open_octets(self._opening, data)
        self.request = None
        return opened.clear + ike.parse_chain(opened.first, opened.inner)

    def respond(self, header, data):
        """A request of the peer; what to send lies in .answer → why it ends the SA, or None.

        The last request, bit by bit again (section 2.1), leaves .answer as it is. That needs no
        key: the answer to a Delete can be repeated after wipe().
        """
        digest = sha256(data).digest()
        if self._peer_digest and header.message_id == self._peer_id - 1:
            if equal(digest, self._peer_digest):
                return None
        if self._opening is None:
            raise FormatError(DROP_IKE_SPI)
        if header.message_id != self._peer_id:
            raise FormatError(DROP_IKE_MESSAGE_ID)
        opened = ike.open_octets(self._opening, data)
        payloads, end = _judge(header.exchange, opened)
        flags = ike.FLAG_I | ike.FLAG_R
        self.answer = self._seal(header.exchange, flags, header.message_id, payloads)
        self._peer_digest = digest
        self._peer_id += 1
        return end

    def wipe(self):
        """The keys are gone; .answer, which is sealed, stays."""
        self.request = None
        if self._opening:
            self._sealing.wipe()
            self._opening.wipe()
            self._sealing = self._opening = None

    def _seal(self, exchange, flags, message_id, payloads):
        self._iv += 1
        iv = struct.pack(">II", 0, self._iv)
        spis = self.spi_i, self.spi_r
        return ike.seal_message(self._sealing, *spis, exchange, flags, message_id, payloads, iv)


def _judge(exchange, opened):
    """A genuine request → (payloads of its answer, why it ends the SA or None).

    RFC 7296 sections 1.3 to 1.5, 2.5 and 2.21.3: what is malformed, or of an exchange that is not
    spoken here, is INVALID_SYNTAX, and that is the end of the SA on both sides.
    """
    try:
        payloads = opened.clear + ike.parse_chain(opened.first, opened.inner)
        kind = ike.unsupported_critical(payloads)
        if kind is not None:
            return [notify(ike.UNSUPPORTED_CRITICAL_PAYLOAD, bytes((kind,)))], None
        if exchange == ike.CREATE_CHILD_SA:
            return [notify(ike.NO_ADDITIONAL_SAS)], None
        if exchange != ike.INFORMATIONAL:
            return [notify(ike.INVALID_SYNTAX)], "exchange_%d" % exchange
        deletes = [ike.parse_delete(body) for body in every(payloads, ike.DELETE)]
    except FormatError:
        return [notify(ike.INVALID_SYNTAX)], "invalid_syntax"
    return [], "deleted" if ike.IKE in [d.protocol for d in deletes] else None
