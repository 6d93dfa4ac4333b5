"""One IKE SA as its responder sees it: keys, message IDs, and what must be remembered.

    HALF_OPEN --GSA_AUTH--> OPEN --idle, replaced, removed--> CLOSING --answered, given up--> gone
        |                     |
        +--failed-------------+--Delete, malformed--> ENDED --a while--> gone

The window is one request in each direction (RFC 7296 section 2.3). An ENDED SA only answers a
repeat of its last request, from the cache.
"""

from covey import ike
from covey.gcm import IV_LEN, GCMContext
from covey.octets import wipe

from .epoch import Random
from .proposals import Chosen

HALF_OPEN = "half-open"
OPEN = "open"
CLOSING = "closing"
ENDED = "ended"

_RETRANSMIT_MS = (1000, 2000, 4000, 8000)  # how long each sending of a request is waited for


class IkeSA:
    def __init__(self, spi_i: bytes, spi_r: bytes, chosen: Chosen, keys: ike.Keys, random: Random):
        self.spi_i = spi_i
        self.spi_r = spi_r
        self.chosen = chosen
        self.keys = keys
        self.kwk = ike.default_kwk(keys.sk_d, chosen.kwa)  # GSK_w, RFC 9838 section 3.1.1
        self._inbound = GCMContext(keys.sk_ei)
        self._outbound = GCMContext(keys.sk_er)
        self._iv = int.from_bytes(random(IV_LEN))

        self.state = HALF_OPEN
        self.deadline_ms = 0  # when the state is left by itself
        self.address = None  # where the last authentic message came from
        self.origin = None  # under which the IKE_SA_INIT request is known: (address, hash)
        self.identity: str | None = None  # of the member, once proven

        self.request = b""  # IKE_SA_INIT as it came: part of what AUTH proves
        self.response = b""  # IKE_SA_INIT as it was answered
        self.nonce_i = b""
        self.nonce_r = b""

        self.next_request = 1  # Message ID of the peer's next request
        self.last_hash = b""  # of the peer's last request
        self.last_answer = b""

        self._next_own = 0  # Message ID of our next request
        self._own = b""  # our request that is not answered yet
        self._tries = 0

    def open(self, data: bytes) -> ike.Opened:
        """FormatError where it is no authentic message of the peer."""
        return ike.open_octets(self._inbound, data)

    def seal(self, exchange: int, flags: int, message_id: int, payloads: list) -> bytes:
        self._iv = (self._iv + 1) % (1 << 8 * IV_LEN)
        iv = self._iv.to_bytes(IV_LEN)
        head = self.spi_i, self.spi_r, exchange, flags, message_id
        return bytes(ike.seal_message(self._outbound, *head, payloads, iv))

    def close(self, now_ms: int) -> bytes:
        """Begin to delete the IKE SA: the request to send (RFC 7296 section 1.4.1)."""
        delete = ike.emit_delete(ike.Delete(ike.IKE, 0, []))
        self._own = self.seal(ike.INFORMATIONAL, 0, self._next_own, [(ike.DELETE, delete)])
        self.state = CLOSING
        return self.retransmit(now_ms)

    def retransmit(self, now_ms: int) -> bytes | None:
        """Our request once more, the same octets; None when it was sent often enough."""
        if self._tries == len(_RETRANSMIT_MS):
            return None
        self.deadline_ms = now_ms + _RETRANSMIT_MS[self._tries]
        self._tries += 1
        return self._own

    def awaits(self, message_id: int) -> bool:
        """Whether this is the Message ID of our request under way."""
        return self.state == CLOSING and message_id == self._next_own

    def end(self) -> None:
        """No message is sealed or opened any more; what was said last can be repeated."""
        self.state = ENDED
        self.wipe()

    def wipe(self) -> None:
        self.keys.wipe()
        self._inbound.wipe()
        self._outbound.wipe()
        wipe(self.kwk)
