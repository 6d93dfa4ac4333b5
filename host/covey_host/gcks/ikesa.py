"""One IKE SA as the key server sees it: keys, flags, Message IDs, the peer's request and ours.

    HALF_OPEN --GSA_AUTH--> OPEN --another IKE SA took over--> REPLACED --Delete, a while--> gone
        |\\--> WAITING --keys--^|
        |                     +--idle, a newer one, removed--> CLOSING --answered, given up--> gone
        +--failed-------------+--Delete, malformed--> ENDED --a while--> gone

The window is one request in each direction (RFC 7296 section 2.3). An ENDED SA only answers a
repeat of its last request, from the cache. Who began is the original initiator, for the flag I
and the direction of the keys: a member, or we where we asked for new keys (section 2.8).
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Any, NamedTuple

from covey import ike, ikefrag
from covey.gcm import IV_LEN, GCMContext
from covey.octets import wipe

from .epoch import Random
from .inband import Told
from .parts import Payloads
from .proposals import Chosen
from .timers import NEVER

HALF_OPEN = "half-open"
WAITING = "waiting"  # the peer has proven itself; its group has no keys for it yet
OPEN = "open"
REPLACED = "replaced"
CLOSING = "closing"
ENDED = "ended"


class Deferred(NamedTuple):
    """A request of the peer that is answered later."""

    opened: ike.Opened
    until_ms: int


class IkeSA:
    def __init__(
        self,
        spi_i: bytes,
        spi_r: bytes,
        chosen: Chosen,
        keys: ike.Keys,
        random: Random,
        is_initiator: bool = False,
    ):
        self.spi_i = spi_i
        self.spi_r = spi_r
        self.is_initiator = is_initiator  # whether we are the original initiator
        self.chosen = chosen
        self.keys = keys
        self.kwk = ike.default_kwk(keys.sk_d, chosen.kwa)  # GSK_w, RFC 9838 section 3.1.1
        ours, theirs = keys.sk_er, keys.sk_ei
        if is_initiator:
            ours, theirs = theirs, ours
        self._inbound = GCMContext(theirs)
        self._outbound = GCMContext(ours)
        self._iv = int.from_bytes(random(IV_LEN))
        self.has_fragments = False  # whether fragmentation was negotiated (RFC 7383)
        self.most_len = None  # octets of a message that we send in one piece; None: any

        self.state = HALF_OPEN
        self.wake_ms = NEVER  # when timers.py wakes it
        self.deadline_ms = NEVER  # when HALF_OPEN, REPLACED or ENDED is left by itself
        self.address: Any = None  # where the newest authentic message came from
        self.origin = None  # under which the IKE_SA_INIT request is known: (address, hash)
        self.has_cookie = False  # whether that address has shown that it hears us
        self.identity: str | None = None  # of the member, once proven, and
        self.proven_by = ""  # by what: authority.key_id(), or trust.id_of() of a certificate
        self.has_redirect = False  # whether the peer can be sent elsewhere (RFC 5685), and
        self.is_redirected = False  # whether it was
        self.has_ppk = False  # whether both ends use PPKs (RFC 8784), and
        self.is_mixed = False  # whether these keys have one in them
        self.has_signatures = False  # whether both ends know SHA2-256 in signatures (RFC 7427)

        self.request = b""  # IKE_SA_INIT as it came: part of what AUTH proves
        self.response = b""  # IKE_SA_INIT as it was answered
        self.nonce_i = b""
        self.nonce_r = b""
        self.proof: Payloads | None = None  # AUTH has been checked: what proves us in turn
        # trust.id_of() and until_of() of each certificate that has proven it, the CA's at the end
        self.chain: tuple[tuple[str, int], ...] = ()

        self.next_request = 1  # Message ID of the peer's next request
        self.last_answer: list[bytes] = []
        self._last_hash = b""  # of the peer's last request, or of its first fragment
        self.first_hash = b""  # of the first fragment of the request that is coming in
        self._requests = ikefrag.Reassembly()
        self._answers = ikefrag.Reassembly()

        self.deferred: Deferred | None = None
        self.is_late = False  # it was admitted to the group, and it was too late to say so
        self.registered: set[str] = set()  # groups, since the peer has proven itself

        self.next_own = 0  # Message ID of our next request
        self.pending = None  # our request that is not answered yet: requests.Pending
        self.told: dict[str, Told] = {}  # groups whose rekeys go over this SA
        self.tell_ms = 0  # not before: the peer was busy
        self.is_excluded = False  # CLOSING: its groups are taken back first
        self.rival = None  # made by the peer while we were asking for new keys: ikerekey.Rival

        self.begun_ms = 0  # when it became half-open
        self.heard_ms = 0  # when the newest authentic message came
        self.used_ms = 0  # and when it was more than a sign of life
        self.rekey_ms = NEVER  # when it is time for new keys

    @property
    def own_spi(self) -> bytes:
        return self.spi_i if self.is_initiator else self.spi_r

    @property
    def peer_spi(self) -> bytes:
        return self.spi_r if self.is_initiator else self.spi_i

    def mix(self, mixed: Callable[[bytes], bytes]) -> None:
        """Put a PPK into the keys that it goes into (RFC 8784 section 3)."""
        for key in (self.keys.sk_d, self.keys.sk_pi, self.keys.sk_pr):
            key[:] = mixed(bytes(key))
        wipe(self.kwk)
        self.kwk = ike.default_kwk(self.keys.sk_d, self.chosen.kwa)
        self.is_mixed = True

    # Messages of the peer

    def is_repeat(self, data: bytes) -> bool | None:
        """Whether this is the last request again, which is answered again; None: a part of it
        that is passed over (RFC 7383 section 2.6.1). FormatError where it is no message."""
        number = ikefrag.number_of(data)
        if number > 1:
            return None if self.has_fragments else False
        if sha256(data).digest() == self._last_hash:
            return True
        if number == 1 and self.has_fragments and self.state != ENDED:
            ikefrag.Reassembly().open(self._inbound, data)  # split anew: its ICV must verify
            return True
        return False

    def open_request(self, data: bytes) -> ike.Opened | None:
        """None: fragments are missing. FormatError where it is no authentic message."""
        if not self.has_fragments:
            opened, number = ike.open_octets(self._inbound, data), 0
        else:
            opened, number = self._requests.open(self._inbound, data), ikefrag.number_of(data)
        if number < 2:
            self.first_hash = sha256(data).digest()
        return opened

    def open_answer(self, data: bytes) -> ike.Opened | None:
        """The same for an answer to our request."""
        if not self.has_fragments:
            return ike.open_octets(self._inbound, data)
        return self._answers.open(self._inbound, data)

    # Messages to the peer

    def answer(self, exchange: int, payloads: list) -> list[bytes]:
        """The answer to the request that was opened last: its datagrams, kept for repeats."""
        self.last_answer = self._seal(exchange, ike.FLAG_R, self.next_request, payloads)
        self._last_hash = self.first_hash
        self._requests.clear()
        self.next_request += 1
        return self.last_answer

    def ask(self, exchange: int, payloads: list) -> list[bytes]:
        """A request of ours: its datagrams."""
        self._answers.clear()
        datagrams = self._seal(exchange, 0, self.next_own, payloads)
        self.next_own += 1
        return datagrams

    def _seal(self, exchange: int, flags: int, message_id: int, payloads: list) -> list[bytes]:
        flags |= ike.FLAG_I if self.is_initiator else 0
        head = self.spi_i, self.spi_r, exchange, flags, message_id
        most_len = self.most_len if self.has_fragments else None
        datagrams = ikefrag.seal(self._outbound, *head, payloads, self._next_iv, most_len)
        return [bytes(datagram) for datagram in datagrams]

    def _next_iv(self) -> bytes:
        self._iv = (self._iv + 1) % (1 << 8 * IV_LEN)
        return self._iv.to_bytes(IV_LEN)

    # Its end

    def end(self) -> None:
        """No message is sealed or opened any more; what was said last can be repeated."""
        self.state = ENDED
        self.wipe()

    def wipe(self) -> None:
        self.pending = self.deferred = None
        self.told = {}
        self._requests.clear()
        self._answers.clear()
        self.keys.wipe()
        self._inbound.wipe()
        self._outbound.wipe()
        wipe(self.kwk)
