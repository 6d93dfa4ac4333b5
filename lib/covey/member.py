"""A member's data path. START HERE, then path.py: which checks receive() and send() are made of.

A Member owns every buffer. The transport puts a datagram into `rx` and calls receive(); the
application puts a payload into `out`, calls send(), and the transport takes `tx`. No key
arrives here by itself: membership.py fills `keys`. Delivering, refusing and sending
allocate nothing. Not thread-safe, not re-entrant: one task receives and sends.
"""

from covey import esp
from covey.drops import (
    DROP_EMPTY,
    DROP_KEEPALIVE,
    DROP_LENGTH,
    DROP_NO_SA,
    DROP_NOT_RECEIVER,
    DROP_NOT_ROSTERED,
    DROP_NOT_SENDER,
    DROP_RETIRED_SPI,
    DROP_SENDER_TABLE_FULL,
    DROP_SILENT,
    DROP_TAG,
    DROP_UNKNOWN_SPI,
    IKE_MESSAGE,
    NOTHING,
    WAITS,
    ConfigError,
    Drops,
    sentence,
)
from covey.gcm import GCMContext
from covey.keystore import KeyStore, is_among
from covey.octets import u32
from covey.path import STEP_IS_DUE, DataPath, accept, admit, frame, heard, trim
from covey.port import buffer, const, micropython
from covey.replay import SenderTable
from covey.sentences import DATAGRAM_MAX, PAYLOAD_MAX

# As in esp's figure; a test holds them together.
_PAYLOAD = const(24)
_AAD_LEN = const(8)
_OVERHEAD = const(32)
_LEAST = const(36)
_SENT = const(22)  # of DataPath's words, and
_NEXT_SEQ = const(3)  # of an SA's
_COUNT_MASK = const(0x3FFFFFFF)

_MOST_DATAGRAM = const(1536)  # GCMContext's longest text is no shorter
_LAST_SEQ = const(0x3FFFFFFE)  # the next is still a small int on a 32-bit board


class Member(DataPath):
    """payload_max: the longest payload to send; datagram_max: the longest datagram to take, rekeys
    included; sa_slots: SAs at once; sender_slots: senders told apart under each, a power of two;
    sender: whether this member may send at all; receiver: False, it does nothing else. reserves:
    whether the memory of all keys, and of their senders' windows, is made now, while the heap is
    in order. waiting_slots: packets that can wait for a proof of who sent them, where proofs come
    later. A slot that is free serves messages under IKE and Rekey SAs; what is longer than
    payload_max is opened in pieces. shares: rx serves as tx, too, for who has taken what came
    before it sends; datagram_max is to be as much as that takes.
    """

    # The payload lies in rx from there on, until the next receive().
    payload_off = _PAYLOAD
    may_confirm = True  # False: the key server is silent, and what we know may be of the past
    # A note for the control half, which clears it.
    waiting = None  # WaitingRoom, where proofs of who sent a packet come after it
    missed_rekey = False  # somebody sends under an SPI announced for the next epoch

    def __init__(
        self,
        payload_max=1428,
        datagram_max=1536,
        sa_slots=8,
        sender_slots=16,
        sender=False,
        reserves=False,
        waiting_slots=16,
        receiver=True,
        shares=False,
    ):
        if not 0 <= payload_max <= _MOST_DATAGRAM - _OVERHEAD - 12:
            raise ConfigError(sentence(PAYLOAD_MAX))
        if not _LEAST <= datagram_max <= _MOST_DATAGRAM:
            raise ConfigError(sentence(DATAGRAM_MAX))
        self.payload_max = payload_max
        self.sender_slots = sender_slots
        self.waiting_slots = waiting_slots
        self.is_sender = sender
        self.is_receiver = receiver
        self.drops = Drops()
        # rx and tx stay what and as long as they are: the kernels know where they lie.
        self.rx = buffer(datagram_max)
        # Sending. out is where the payload goes; sealing overwrites it.
        self.tx = self.rx if shares else buffer(esp.datagram_len(payload_max))
        self.out = memoryview(self.tx)[_PAYLOAD : _PAYLOAD + payload_max]
        super().__init__(sa_slots, self.rx, self.tx, payload_max)
        self.keys = KeyStore(sa_slots, self.drops, self)
        self._place = self.place
        self._sas = self.keys.sas
        if reserves:
            GCMContext.reserve(sa_slots, len(self.tx) - _OVERHEAD)
            SenderTable.reserve(sa_slots, sender_slots)

    def shut(self, is_shut):
        """See DataPath: for who only sends it always is."""
        super().shut(is_shut or not self.is_receiver)

    @property
    def confirmed(self):
        """Whether it is proven who sent the packet in rx, which was delivered; False: proven to be
        in the group.
        """
        return self.source is not None

    @property
    def source(self):
        """The identity, in octets, of who is proven to have sent it; else None. To be asked before
        the next receive(), also before one that refuses.
        """
        if not self.may_confirm:
            return None
        sa = self.keys.find(self.rx, 0)
        if sa is None or sa.auth is None or self.sender is None:
            return None
        return sa.auth.name_of(self.sender)

    def kept(self):
        """(payload, Sender-ID, number) of the packet that receive() has just let wait: nothing of
        it is proven but that it is of the group. The payload is a view into rx.
        """
        view = memoryview(self.rx)[_PAYLOAD : _PAYLOAD + self.waiting.payload_len]
        return view, heard(self.words), self.number

    @property
    def number(self):
        """Of the packet in rx: with its sender, and under its SPI, no other one's."""
        return u32(self.rx, 4)

    @property
    def payload_most(self):
        """The longest payload that send() takes now: what proves the source needs room too."""
        sa = self.keys.sending
        return self.payload_max - (sa.auth.trailer if sa and sa.auth else 0)

    @property
    def payload(self):
        """The last payload delivered, a view into rx. Allocates the view; octets are copied
        without it from rx[payload_off : payload_off + payload_len].
        """
        return memoryview(self.rx)[_PAYLOAD : _PAYLOAD + self.payload_len]

    # A frame of more than eleven slots would lie on the heap: so few locals from here on.

    def receive(self, n, now_ms):
        """Take the datagram of n octets in rx: the payload's length, a DROP_*, or IKE_MESSAGE.

        WAITS: it is of the group, and next_proven() will tell whether of its sender; see kept().
        """
        slot = admit(self._place, n, now_ms)
        if slot < 0:
            if slot != STEP_IS_DUE:
                return self.refuse(slot, n)
            self.keys.step(now_ms)
            return self.receive(n, now_ms)
        sa = self._sas[slot]
        n -= _OVERHEAD
        if not sa.context.open(self.rx, 0, _AAD_LEN, n):
            return self.drops.count(DROP_TAG)
        n = trim(self._place, n)
        if n >= 0 and sa.auth is not None:
            n = sa.auth.confirm(self, n, now_ms)
            if n == WAITS:
                return n
        if n < 0:
            return self.drops.count(n)
        accept(self._place, n)
        return n

    def next_proven(self, now_ms):
        """A packet that receive() has let wait: its payload's length, once it is proven who sent
        it, which is as if receive() had taken it now; or the DROP_* of one that never will be.

        To be called after each receive(), and now and then, until it says NOTHING.
        """
        room = self.waiting
        return NOTHING if room is None else room.next(self, now_ms)

    def send(self, n, now_ms, destination=None):
        """Protect the n octets in out: the datagram's length in tx, or a DROP_*.

        destination: the group's address, 4 octets, where the policy has several. OSError where
        the board's AES fails: the number is used up, tx is not to be sent, and what lay in out
        is lost.
        """
        if destination is not None:
            self.keys.keep_up(now_ms)
            return self._send_under(self.keys.outbound(destination), n, now_ms)
        if self.sending is None or self.sending.auth is None:
            text_len = frame(self._place, n, now_ms)
        else:
            text_len = self._frame_proven(n, now_ms)
        if text_len < 0:
            return self._not_sent(text_len, n, now_ms)
        self.sending.context.seal(self.tx, 0, _AAD_LEN, text_len)
        self.words[_SENT] = self.words[_SENT] + 1 & _COUNT_MASK
        return text_len + _OVERHEAD

    def _frame_proven(self, n, now_ms):
        """frame(), with what proves the source in the payload's end; or why it can't be sent."""
        auth = self.sending.auth
        reason = auth.may_send(now_ms)
        if reason:
            return reason
        n += auth.trailer
        text_len = frame(self._place, n, now_ms)
        if text_len > 0:
            auth.sign(self.tx, n, now_ms)
        return text_len

    def can_send(self, now_ms):
        """Whether send() would find an SA with numbers left."""
        self.keys.keep_up(now_ms)
        sa = self.keys.sending
        return sa is not None and sa.words[_NEXT_SEQ] <= _LAST_SEQ

    def has_to_sign(self, now_ms):
        """Whether what send() would send has to be signed first: see signatures.py."""
        self.keys.keep_up(now_ms)
        sa = self.keys.sending
        return sa is not None and sa.auth is not None and sa.auth.signs_ahead

    # ---- cold, but without allocation too

    @micropython.native  # its frame would have more slots
    def _send_under(self, sa, n, now_ms):
        sa = self.keys.send_under(sa)  # from here on it is the usual one
        try:
            return self.send(n, now_ms)
        finally:
            self.keys.send_under(sa)

    def _not_sent(self, reason, n, now_ms):
        if reason == STEP_IS_DUE:
            self.keys.step(now_ms)
            return self.send(n, now_ms)
        if reason == DROP_NO_SA and not self.is_sender:
            reason = DROP_NOT_SENDER
        return self.drops.count(reason)

    def refuse(self, reason, n):
        """Count what admit() said of the n octets in rx, by the name that fits best."""
        keys, rx = self.keys, self.rx
        if reason == DROP_LENGTH:
            if n == 0:
                reason = DROP_EMPTY
            elif n == 1 and rx[0] == 0xFF:
                reason = DROP_KEEPALIVE
            elif 4 <= n <= len(rx) and not (rx[0] | rx[1] | rx[2] | rx[3]):
                return IKE_MESSAGE  # RFC 3948 section 2.2
        elif reason == DROP_SENDER_TABLE_FULL:
            if keys.find(rx, 0).auth is not None:
                reason = DROP_NOT_ROSTERED
        elif reason == DROP_UNKNOWN_SPI:
            if self.is_shut and keys.find(rx, 0) is not None:
                reason = DROP_SILENT if self.is_receiver else DROP_NOT_RECEIVER
            elif is_among(keys.retired, rx, 0):
                reason = DROP_RETIRED_SPI
            elif is_among(keys.announced, rx, 0):
                self.missed_rekey = True
        return self.drops.count(reason)
