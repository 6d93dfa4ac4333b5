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
from covey.port import const, later_kernels, micropython, ticks_add, ticks_diff, words
from covey.timing import KEY_LEN
from covey.waiting import room_of

_PAYLOAD = const(24)
_INTERVAL = const(4)  # octets
_DISCLOSURE = const(0x80)  # of its first
_WAS_SENT = const(20)  # of OwnChain.tells
_LATE = const(12)  # intervals behind its time, in which a key may still come

_SHORT = (MemoryError, OSError)  # a board's AES fails where it finds no memory

_, _, _number_at, _, _ours = later_kernels()
_is_timely, _put_told = _ours

# What _is_timely() reads of an SA, in words
_LAG = const(0)
_INDEX = const(1)  # of the sender that was heard last


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
        self._facts = words(2)
        self._facts[_LAG] = timing.lag
        self._chain = None  # of the sender that was heard last, whose index is in ._facts; and
        self._of_chain = words(3)  # its .facts
        self._latest = -1  # the interval that it may be at the latest, until
        self._until = 0  # these ticks
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
        if n < 0:
            return DROP_SOURCE
        sender = heard(member.place) >> self._low_bits
        latest = self._latest
        if latest >= 0 and ticks_diff(now_ms, self._until) < 0:
            at = n + _PAYLOAD
            i = _is_timely(self._facts, self._of_chain, rx, at, sender, latest)
            if i >= 0:
                keep = member.waiting.keep
                return keep(rx, n, self.trailer, self, sender, i, now_ms, self._most_ms)
        return self._confirm(member, n, sender, now_ms)

    def _confirm(self, member, n, index, now_ms):
        """The same, where something is to be looked up, taken or refused."""
        rx = member.rx
        latest = self._latest
        if latest < 0 or ticks_diff(now_ms, self._until) >= 0:
            latest = self._look(member, now_ms)
            if latest < 0:
                return DROP_NO_CLOCK
        at = _PAYLOAD + n
        interval = _number_at(rx, at)
        room = member.waiting
        chain = self._chain
        if (
            chain is None
            or index != self._facts[_INDEX]
            or not chain.first <= interval <= chain.last
        ):
            self._facts[_INDEX] = index
            chain = self._chain = self._chains.of(index, interval)
            self._of_chain = words(3) if chain is None else chain.facts
        told = interval - self._lag
        if interval <= latest:  # a key that is told before its time is none
            if chain is None or told > chain.at or told < chain.first:
                self._chains.disclose(index, told, rx, at + _INTERVAL + self._tag_len, room)
        if rx[at] & _DISCLOSURE:
            return DROP_DISCLOSURE
        if interval > latest:
            return DROP_EARLY
        if latest - interval >= self._lag:
            return DROP_UNSAFE
        if chain is None:
            self._chains.is_behind = True
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
        interval = _number_at(rx, at)
        index = heard(member.place) >> self._low_bits
        keeper = self.keeper
        context = keeper.context
        if interval != keeper.interval or index != keeper.index:
            context = keeper.begin(index, interval, self.names.get(index), packet, proof_at)
            if context is None:
                return DROP_NO_CHAIN
        n += _INTERVAL
        if context.verify(rx, n, self._epoch, at + _INTERVAL, self._tag_len):
            return n - _INTERVAL
        return DROP_SOURCE

    def _look(self, member, now_ms):
        """At the clock, about once in an interval: which it is at the latest."""
        self._latest = self._clock.latest(now_ms)
        self._until = ticks_add(now_ms, self._clock.holds_ms(now_ms))
        room = room_of(member)
        if room.engine is not self._chains:
            room.engine = self._chains
        return self._latest

    # Sending

    @micropython.native
    def may_send(self, now_ms):
        """0, or the DROP_* that keeps us from it. Allocates in a new interval."""
        own = self._own
        if own is not None and own.interval >= 0 and ticks_diff(now_ms, own.until) < 0:
            return 0
        return self._begin(now_ms)

    @micropython.native
    def sign(self, tx, n, now_ms):
        """Fill the trailer of a packet that frame() made; n: octets of payload with it."""
        own = self._own
        tag_len = self._tag_len
        n -= self.trailer - _INTERVAL
        at = _PAYLOAD + n
        was_told = _put_told(own.tells, tx, at - _INTERVAL, tag_len)
        if self._is_disclosing:
            own.tells[_WAS_SENT] = 0
            tx[at - _INTERVAL] |= _DISCLOSURE
            for i in range(at, at + tag_len):
                tx[i] = 0
            return
        own.context.sign(tx, n, self._epoch, at, tag_len)
        if not was_told:
            own.sent()

    def _begin(self, now_ms):
        interval = self._clock.earliest(now_ms)
        if interval < 0:
            return DROP_NO_CLOCK
        own = self._own
        try:
            if own is None or not own.begin(interval):
                return DROP_NO_CHAIN
        except _SHORT:
            return DROP_CAPACITY
        own.until = ticks_add(now_ms, self._clock.left_ms(now_ms, interval + 1))
        return 0

    def disclose(self, member, now_ms):
        """A packet that holds nothing but the key that may be told now: its length in the member's
        tx, or a DROP_*. What lies in `out` is lost.
        """
        self._is_disclosing = True
        try:
            return member.send(0, now_ms)
        finally:
            self._is_disclosing = False
