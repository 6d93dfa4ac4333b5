"""A member's data path. START HERE: receive() and send() are the list of checks, in order.

A Member owns every buffer. The transport puts a datagram into `rx` and calls receive(); the
application puts a payload into `out`, calls send(), and the transport takes `tx`. No key
arrives here by itself: membership.py fills `keys`. Delivering, refusing and sending
allocate nothing. Not thread-safe, not re-entrant: one task receives and sends.
"""

from covey import esp
from covey.drops import (
    DROP_EMPTY,
    DROP_EXHAUSTED,
    DROP_KEEPALIVE,
    DROP_LENGTH,
    DROP_NO_SA,
    DROP_NOT_SENDER,
    DROP_OVERSIZE,
    DROP_OWN,
    DROP_RETIRED_SPI,
    DROP_SELECTOR,
    DROP_TAG,
    DROP_UNKNOWN_SPI,
    IKE_MESSAGE,
    ConfigError,
    Drops,
)
from covey.keystore import KeyStore
from covey.port import const, micropython, ticks_diff

# As in esp's figure; a test holds them together.
_SEQ = const(4)
_IV = const(8)
_UDP_HEADER = const(16)
_PAYLOAD = const(24)
_AAD_LEN = const(8)
_OVERHEAD = const(32)
_LEAST = const(36)

_MOST_DATAGRAM = const(1536)  # GCMContext's longest text is no shorter
_LAST_SEQ = const(0x3FFFFFFE)  # the next is still a small int on a 32-bit board
_REKEY_SEQ = const(0x30000000)  # from here on we ask for new keys: three days ahead at 1 kHz
_COUNT_MASK = const(0x3FFFFFFF)


class Member:
    """payload_max: the longest payload to send; datagram_max: the longest datagram to take, rekeys
    included; sa_slots: SAs at once; sender_slots: senders told apart under each, a power of two;
    sender: whether this member may send at all.
    """

    def __init__(
        self, payload_max=1428, datagram_max=1536, sa_slots=8, sender_slots=16, sender=False
    ):
        if not 0 <= payload_max <= _MOST_DATAGRAM - _OVERHEAD - 12:
            raise ConfigError("payload_max must lie between 0 and 1492 octets")
        if not _LEAST <= datagram_max <= _MOST_DATAGRAM:
            raise ConfigError("datagram_max must lie between 36 and 1536 octets")
        self.payload_max = payload_max
        self.sender_slots = sender_slots
        self.is_sender = sender
        self.drops = Drops()
        self.keys = KeyStore(sa_slots, self.drops)
        # Receiving. The payload lies in rx from payload_off on, until the next receive().
        self.rx = bytearray(datagram_max)
        self.payload_off = _PAYLOAD
        self.payload_len = 0
        self.sender = None  # Sender-ID of the last packet delivered; None: the SA names none
        self.confirmed = False  # whether its source is proven; False: proven to be in the group
        self.opened = 0  # packets delivered; both counts wrap at 2^30
        # Sending. out is where the payload goes; sealing overwrites it.
        self.tx = bytearray(esp.datagram_len(payload_max))
        self.out = memoryview(self.tx)[_PAYLOAD : _PAYLOAD + payload_max]
        self.sent = 0
        # Notes for the control half, which clears them.
        self.wants_rekey = False  # our numbers under the present SA run short
        self.missed_rekey = False  # somebody sends under an SPI announced for the next epoch

    @property
    def payload(self):
        """The last payload delivered, a view into rx. Allocates the view; octets are copied
        without it from rx[payload_off : payload_off + payload_len].
        """
        return memoryview(self.rx)[_PAYLOAD : _PAYLOAD + self.payload_len]

    @micropython.native
    def receive(self, n, now_ms):
        """Take the datagram of n octets in rx: the payload's length, a DROP_*, or IKE_MESSAGE."""
        rx = self.rx
        if n < _LEAST or n & 3 or n > len(rx) or not (rx[0] | rx[1] | rx[2] | rx[3]):
            return self._not_esp(n)
        keys = self.keys
        if ticks_diff(now_ms, keys.due_ms) >= 0:
            keys.step(now_ms)
        sa = keys.find(rx, 0)
        if sa is None:
            return self._no_sa()
        senders = sa.senders
        sender = senders.sender_of(rx, _IV)
        if sender == sa.sender_id:
            return self.drops.count(DROP_OWN)
        slot = senders.admit(sender, rx, _SEQ)
        if slot < 0:
            return self.drops.count(slot)
        text_len = n - _OVERHEAD
        if not sa.context.open(rx, 0, _AAD_LEN, text_len):
            return self.drops.count(DROP_TAG)
        payload_len = esp.trim(rx, text_len)
        if payload_len < 0:
            return self.drops.count(payload_len)
        if not sa.selects(rx, _UDP_HEADER):
            return self.drops.count(DROP_SELECTOR)
        # Source authentication has its place here: it may shorten the payload, and confirms it.
        senders.accept(slot, sender, rx, _SEQ)
        self.payload_len = payload_len
        self.sender = sender if senders.bits else None
        self.opened = self.opened + 1 & _COUNT_MASK
        return payload_len

    @micropython.native
    def send(self, n, now_ms, destination=None):
        """Protect the n octets in out: the datagram's length in tx, or a DROP_*.

        destination: the group's address, 4 octets, where the policy has several. OSError where
        the board's AES fails: the number is used up, and tx is not to be sent.
        """
        if n < 0 or n > self.payload_max:
            return self.drops.count(DROP_OVERSIZE)
        keys = self.keys
        if ticks_diff(now_ms, keys.due_ms) >= 0:
            keys.step(now_ms)
        sa = keys.outbound(destination)
        if sa is None:
            return self.drops.count(DROP_NO_SA if self.is_sender else DROP_NOT_SENDER)
        seq = sa.next_seq
        if seq >= _REKEY_SEQ:
            self.wants_rekey = True
            if seq > _LAST_SEQ:
                return self.drops.count(DROP_EXHAUSTED)
        sa.next_seq = seq + 1  # before anything can fail: a number is never used twice
        text_len = esp.emit(self.tx, n, sa.spi, seq, sa.iv_head, sa.source_port, sa.port)
        sa.context.seal(self.tx, 0, _AAD_LEN, text_len)
        self.sent = self.sent + 1 & _COUNT_MASK
        return text_len + _OVERHEAD

    def can_send(self, now_ms):
        """Whether send() would find an SA with numbers left."""
        if self.keys.is_due(now_ms):
            self.keys.step(now_ms)
        sa = self.keys.outbound()
        return sa is not None and sa.next_seq <= _LAST_SEQ

    # ---- what isn't a packet for us; cold, but without allocation too

    def _not_esp(self, n):
        rx = self.rx
        if n == 0:
            return self.drops.count(DROP_EMPTY)
        if n == 1 and rx[0] == 0xFF:
            return self.drops.count(DROP_KEEPALIVE)
        if 4 <= n <= len(rx) and not (rx[0] | rx[1] | rx[2] | rx[3]):
            return IKE_MESSAGE  # RFC 3948 section 2.2
        return self.drops.count(DROP_LENGTH)

    def _no_sa(self):
        if self.keys.was_retired(self.rx, 0):
            return self.drops.count(DROP_RETIRED_SPI)
        if self.keys.is_announced(self.rx, 0):
            self.missed_rekey = True
        return self.drops.count(DROP_UNKNOWN_SPI)
