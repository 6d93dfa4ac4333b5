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
from covey.waiting import HOW, room_of

_WAITS = const(-102)  # as covey.drops has it
_PAYLOAD = const(24)
_INTERVAL = const(4)  # octets
_DISCLOSURE = const(0x80)  # of its first
_LATE = const(12)  # intervals behind its time, in which a key may still come

_EIO = const(5)
_SHORT = (MemoryError, OSError)  # a board's AES fails where it finds no memory

_, _, _number_at, _room, _ours = later_kernels()
_keep = _room[0]
_put_told, _is_judged, _holds = _ours

# Of an SA, in words, as the kernels have them
_LAG = const(0)
_SENDER = const(1)  # the Sender-ID that was heard last, as a word of the packet has it, and
_INDEX = const(2)  # index of that sender
_TRAILER = const(3)
_MOST_MS = const(4)
# Of what keep() is handed: a WaitingRoom's parts, the Chain's facts, the packet
_PARTS = const(0)
_CHAIN = const(2)
_RX = const(4)
_HOW_TOLD = const(20)  # as covey.ownchain has them
_DISCLOSES = const(2)


class TimedMACs:
    """Of one data SA. keeper: timekeeper.Timekeeper of the group; names, low_bits, epoch: as in
    mac.py.
    """

    signs_ahead = False  # sign() does all

    def __init__(self, keeper, names, low_bits, epoch):
        timing = keeper.timing
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
        self._chain = None  # Chain of the sender that was heard last
        facts = words(HOW)
        facts[_LAG], facts[_TRAILER], facts[_MOST_MS] = timing.lag, self.trailer, self._most_ms
        self._facts = facts
        self._no_chain = words(3)
        self._begun = words(2) if self._own is None else self._own.facts
        # What kernels are handed: to keep a packet, to sign one, to judge one
        self._hearing = [None, facts, self._no_chain, keeper.clock.facts, bytes(36)]
        self._sending = self._own, timing.tag_len, self.trailer - _INTERVAL, self._epoch
        self._judging = keeper, keeper.judged, -timing.tag_len, self.trailer, self._epoch
        keeper.users += 1  # nothing fails any more

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
        parts, facts, chain, now, rx = self._hearing
        if _keep(parts, facts, chain, now, rx, payload_len, self, now_ms, -1) >= 0:
            return _WAITS
        return self._confirm(member, payload_len, now_ms)

    @micropython.native
    def _confirm(self, member, payload_len, now_ms):
        """The same, where something is to be looked up, taken or refused."""
        rx = member.rx
        n = payload_len - self.trailer
        if n < 0:
            return DROP_SOURCE
        clock = self._clock
        latest = clock.is_latest
        if latest < 0 or ticks_diff(now_ms, clock.until) >= 0:
            latest = self._look(member, now_ms)
            if latest < 0:
                return DROP_NO_CLOCK
        index = heard(member.words) >> self._low_bits
        facts = self._facts
        said = rx[8] | rx[9] << 8
        at = _PAYLOAD + n
        interval = _number_at(rx, at)
        room = member.waiting
        chain = self._chain
        if (
            chain is None
            or said != facts[_SENDER]
            or index != facts[_INDEX]
            or not chain.first <= interval <= chain.last
        ):
            facts[_SENDER], facts[_INDEX] = said, index
            chain = self._chains.of(index, interval) if self._is_same(index) else None
            self._chain = chain
            self._hearing[_PARTS], self._hearing[_RX] = room.parts, rx
            self._hearing[_CHAIN] = self._no_chain if chain is None else chain.facts
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
            self._chains.is_behind = self._chains.is_behind or self._is_same(index)
            return DROP_NO_CHAIN
        if interval <= chain.at:
            return DROP_UNSAFE
        return room.keep(rx, n, self.trailer, self, index, interval, now_ms, self._most_ms)

    @micropython.native
    def prove(self, member, payload_len, packet, proof_at):
        """The length without the trailer, of a packet in rx whose key is known, or a DROP_*."""
        keeper, judged, less_tag, trailer, epoch = self._judging
        rx = member.rx
        n = payload_len - trailer
        if not _is_judged(judged, rx, packet, proof_at):
            interval = _number_at(rx, _PAYLOAD + n)
            index = heard(member.words) >> self._low_bits
            if interval != keeper.interval or index != keeper.index:
                name = self.names.get(index)
                if keeper.begin(index, interval, name, packet, proof_at) is None:
                    return DROP_NO_CHAIN
            keeper.note(rx, packet, proof_at)
        mac, parts = keeper.tools
        n += _INTERVAL
        found = mac(parts, rx, n, epoch, n + _PAYLOAD, less_tag)
        if found > 0:
            return n - _INTERVAL
        if found == 0:
            keeper.context.failed()
        return DROP_SOURCE

    def _look(self, member, now_ms):
        """At the clock, about once in an interval: which it is at the latest."""
        room = room_of(member)
        if room.engine is not self._chains:
            room.engine = self._chains
        return self._clock.look(now_ms)

    def _is_same(self, index):
        """Whether the chains of this index are of the sender that it had when this SA came."""
        return self._chains.names.get(index) == self.names.get(index)

    # Sending

    @micropython.native
    def may_send(self, now_ms):
        """0, or the DROP_* that keeps us from it. Allocates in a new interval."""
        if _holds(self._begun, now_ms):
            return 0
        return self._begin(now_ms)

    @micropython.native
    def sign(self, tx, n, now_ms):
        """Fill the trailer of a packet that frame() made; n: octets of payload with it."""
        own, tag_len, less, epoch = self._sending
        tells, mac, parts = own.tools
        n -= less
        at = n + _PAYLOAD
        how = _put_told(tells, tx, at, tag_len)
        if how & _DISCLOSES:
            tx[at - _INTERVAL] |= _DISCLOSURE
            for i in range(at, at + tag_len):
                tx[i] = 0
            return
        if not mac(parts, tx, n, epoch, at, tag_len):
            own.context.failed()
            raise OSError(_EIO)
        if not how:
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
        tells = self._own.tells
        tells[_HOW_TOLD] = _DISCLOSES
        try:
            return member.send(0, now_ms)
        finally:
            tells[_HOW_TOLD] = 0
