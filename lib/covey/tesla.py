"""Source authentication by time (RFC 4082): whose key is not out yet, can't have been forged.

    | SPI | number | IV | UDP header | payload | interval | MAC | key of `lag` intervals before |

The MAC is the head of an AES-CMAC (cmac.py) of SPI, number, Sender-ID, port, epoch, payload and
interval, under a key that only the sender knows, until it tells all, `lag` intervals later, in
this very place of a later packet. So a packet is taken only while that can't have happened, by the
key server's clock (clock.py), and waits (waiting.py) until a key comes that leads to its own
(chains.py). The highest bit of the interval: nothing but a key comes, from who sends no more.
"""

from covey.drops import (
    DROP_CAPACITY,
    DROP_DISCLOSURE,
    DROP_EARLY,
    DROP_NO_CHAIN,
    DROP_NO_CLOCK,
    DROP_SOURCE,
    DROP_UNSAFE,
)
from covey.path import heard
from covey.port import const, micropython
from covey.timing import KEY_LEN
from covey.waiting import room_of

_PAYLOAD = const(24)
_INTERVAL = const(4)  # octets
_DISCLOSURE = const(0x80)  # of its first
_LATE = const(12)  # intervals behind its time, in which a key may still come


class TimedMACs:
    """Of one data SA. keeper: timekeeper.Timekeeper of the group; names, low_bits, epoch: as in
    mac.py.
    """

    def __init__(self, keeper, names, low_bits, epoch):
        timing = keeper.timing
        keeper.users += 1
        self.trailer = _INTERVAL + timing.tag_len + KEY_LEN  # octets behind the payload
        self.names = names
        self.keeper = keeper
        self._clock = keeper.clock
        self._chains = keeper.chains
        self._own = keeper.own
        self._lag = timing.lag
        self._tag_len = timing.tag_len
        self._low_bits = low_bits
        self._epoch = bytearray((epoch & 0xFFFFFFFF).to_bytes(4, "big"))
        self._most_ms = min((timing.lag + _LATE) * timing.interval_ms, 0x10000000)
        self._interval = 0  # of the packet that may_send() has let pass
        self._is_disclosing = False

    def release(self):
        """Of no use afterwards. Takes no heap."""
        self.keeper.let_go()

    def name_of(self, sender):
        """The identity of who has this Sender-ID; None: nobody that we know."""
        return self.names.get(sender >> self._low_bits)

    # Receiving

    @micropython.native
    def confirm(self, member, payload_len, now_ms):
        """WAITS, or a DROP_*. The key that it brings is taken in any case."""
        rx = member.rx
        n = payload_len - self.trailer
        index = heard(member.place) >> self._low_bits
        if n < 0 or index not in self.names:
            return DROP_SOURCE
        latest = self._clock.latest(now_ms)
        if latest < 0:
            return DROP_NO_CLOCK
        at = _PAYLOAD + n
        first = rx[at]
        interval = (first & 0x7F) << 24 | rx[at + 1] << 16 | rx[at + 2] << 8 | rx[at + 3]
        room = member.waiting
        if room is None:
            room = room_of(member)
        chains = self._chains
        if room.engine is not chains:
            room.engine = chains
        lag = self._lag
        if interval <= latest:  # a key that is told before its time is none
            key_at = at + _INTERVAL + self._tag_len
            chains.disclose(index, interval - lag, rx, key_at, room)
        if first & _DISCLOSURE:
            return DROP_DISCLOSURE
        if interval > latest:
            return DROP_EARLY
        if latest >= interval + lag:
            return DROP_UNSAFE
        chain = chains.of(index, interval)
        if chain is None:
            chains.is_behind = True
            return DROP_NO_CHAIN
        if interval <= chain.at:
            return DROP_UNSAFE
        return room.keep(rx, n, self.trailer, self, index, interval, now_ms, self._most_ms)

    @micropython.native
    def prove(self, member, payload_len, packet, proof_at):
        """The length without the trailer, of a packet in rx whose key is known, or a DROP_*."""
        rx = member.rx
        n = payload_len - self.trailer
        at = _PAYLOAD + n
        interval = rx[at] << 24 | rx[at + 1] << 16 | rx[at + 2] << 8 | rx[at + 3]
        index = heard(member.place) >> self._low_bits
        context = self.keeper.context(index, interval, self.names.get(index), packet, proof_at)
        if context is None:
            return DROP_NO_CHAIN
        at += _INTERVAL
        if not context.verify(rx, n + _INTERVAL, self._epoch, at, self._tag_len):
            return DROP_SOURCE
        return n

    # Sending

    @micropython.native
    def may_send(self, now_ms):
        """0, or the DROP_* that keeps us from it. May allocate, in a new interval."""
        interval = self._clock.earliest(now_ms)
        if interval < 0:
            return DROP_NO_CLOCK
        own = self._own
        if own is None:
            return DROP_NO_CHAIN
        self._interval = interval
        try:
            return 0 if own.begin(interval) else DROP_NO_CHAIN
        except MemoryError:
            return DROP_CAPACITY

    @micropython.native
    def sign(self, tx, n, now_ms):
        """Fill the trailer of a packet that frame() made; n: octets of payload with it."""
        n -= self.trailer
        at = _PAYLOAD + n
        interval, own = self._interval, self._own
        tx[at] = interval >> 24
        tx[at + 1] = interval >> 16 & 255
        tx[at + 2] = interval >> 8 & 255
        tx[at + 3] = interval & 255
        at += _INTERVAL
        if self._is_disclosing:
            tx[at - _INTERVAL] |= _DISCLOSURE
            for i in range(at, at + self._tag_len):
                tx[i] = 0
        else:
            own.sign(tx, n + _INTERVAL, self._epoch, at, self._tag_len)
        own.disclose(tx, at + self._tag_len, interval)

    def disclose(self, member, now_ms):
        """A packet that holds nothing but the key that may be told now: its length in the member's
        tx, or a DROP_*. What lies in `out` is lost.
        """
        self._is_disclosing = True
        try:
            return member.send(0, now_ms)
        finally:
            self._is_disclosing = False
