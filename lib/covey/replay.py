"""Anti-replay: which sequence numbers of which sender have been accepted. After RFC 6479.

A sequence number is read from the packet as a row (its upper 29 bits) and a bit (its lower
three): the whole 32-bit space without an integer that a 32-bit board would put on the heap.
All windows of an SA live in three arrays made with it. Nothing but accept() and bar() writes
to them, and accept() only after the tag, so forged packets leave no trace here.
"""

from array import array

from covey.drops import DROP_REPLAY, DROP_SENDER_TABLE_FULL, DROP_STALE_SENDER
from covey.port import const, micropython

_ROWS = const(16)  # rows of eight numbers a window remembers; a power of two
_LAST_ROW = const(0x1FFFFFFF)


class ReplayWindows:
    """`count` windows; each says which of the latest numbers have been accepted.

    `off` is where the packet's four octets of sequence number begin.
    """

    def __init__(self, count):
        self._newest = array("I", [0] * count)  # the highest row accepted from
        self._rings = bytearray(count * _ROWS)
        for slot in range(count):
            self.clear(slot)

    @micropython.native
    def is_fresh(self, slot, buf, off):
        """Whether the number may still be accepted. Changes nothing: ask before the tag check."""
        row = buf[off] << 21 | buf[off + 1] << 13 | buf[off + 2] << 5 | buf[off + 3] >> 3
        behind = self._newest[slot] - row
        if behind < 0:
            return True
        if behind >= _ROWS:
            return False
        return not self._rings[slot * _ROWS + (row & (_ROWS - 1))] >> (buf[off + 3] & 7) & 1

    @micropython.native
    def accept(self, slot, buf, off):
        """Remember the number. Call only after its tag has verified."""
        row = buf[off] << 21 | buf[off + 1] << 13 | buf[off + 2] << 5 | buf[off + 3] >> 3
        rings = self._rings
        base = slot * _ROWS
        ahead = row - self._newest[slot]
        if ahead > 0:
            self._newest[slot] = row
            if ahead > _ROWS:
                ahead = _ROWS
            while ahead:  # clear the rows that the window slides onto
                ahead -= 1
                rings[base + (row - ahead & (_ROWS - 1))] = 0
        rings[base + (row & (_ROWS - 1))] |= 1 << (buf[off + 3] & 7)

    def clear(self, slot):
        """Start anew: every number is fresh but 0, which no sender uses (RFC 4303 2.2)."""
        base = slot * _ROWS
        for i in range(base, base + _ROWS):
            self._rings[i] = 0
        self._rings[base] = 1
        self._newest[slot] = 0

    def close(self, slot):
        """Let no number pass any more."""
        base = slot * _ROWS
        for i in range(base, base + _ROWS):
            self._rings[i] = 255
        self._newest[slot] = _LAST_ROW


class SenderTable:
    """One window a sender of an SA, in a fixed number of slots (a power of two).

    A Sender-ID is the top `bits` of the IV (RFC 6054). Where `index_bits` is given it reads
    as sender index | incarnation: the index owns the window, and a newer incarnation (serial
    arithmetic) takes it over, only in accept(). bits = 0: the SA has one sender and one
    window. slots = 0: no replay protection is possible (RFC 9838 section 2.6: SN 2 and
    senders that can't be told apart).

    An index is looked for from the slot of its low bits on: servers count senders from
    zero, so that the first look mostly hits. A slot is never given up while the SA lives.
    """

    def __init__(self, slots, bits=0, index_bits=None):
        assert slots & (slots - 1) == 0 and bits <= 32
        self.bits = bits
        self._slots = slots
        self._low_bits = 0 if index_bits is None else bits - index_bits
        self._low = (1 << self._low_bits) - 1
        self._taken = bytearray(slots)
        self._index = array("I", [0] * slots)
        self._incarnation = array("I", [0] * slots)
        self._windows = ReplayWindows(slots)

    @micropython.native
    def sender_of(self, buf, off):
        """The Sender-ID in the IV at off. Allocates only for values from 2^30 on."""
        bits = self.bits
        if bits <= 16:
            return (buf[off] << 8 | buf[off + 1]) >> (16 - bits)
        high = buf[off] << 8 | buf[off + 1]
        return high << (bits - 16) | (buf[off + 2] << 8 | buf[off + 3]) >> (32 - bits)

    @micropython.native
    def admit(self, sender, buf, off):
        """The sender's slot, or a DROP_*. Changes nothing: ask before the tag check.

        off: the sequence number. The slot may be a free one, which accept() will take.
        """
        if not self._slots:
            return 0
        slot = self._find(sender >> self._low_bits)
        if slot < 0:
            return DROP_SENDER_TABLE_FULL
        if self._taken[slot]:
            newer = (sender - self._incarnation[slot]) & self._low
            if newer == 0:
                return slot if self._windows.is_fresh(slot, buf, off) else DROP_REPLAY
            if newer << 1 > self._low:  # serial arithmetic: half the circle lies behind
                return DROP_STALE_SENDER
        if buf[off] | buf[off + 1] | buf[off + 2] | buf[off + 3]:
            return slot
        return DROP_REPLAY  # number 0, from one who has no window yet

    @micropython.native
    def accept(self, slot, sender, buf, off):
        """Remember what admit() let pass. Call only after the tag (and the source) verified."""
        if not self._slots:
            return
        if not self._taken[slot] or (sender - self._incarnation[slot]) & self._low:
            self._take(slot, sender)
        self._windows.accept(slot, buf, off)

    def bar(self, sender):
        """Let nothing pass in this sender's name, nor of its older incarnations: for our own.

        False where the table has no slot left for it.
        """
        slot = self._find(sender >> self._low_bits) if self._slots else -1
        if slot < 0:
            return False
        self._take(slot, sender)
        self._windows.close(slot)
        return True

    def _take(self, slot, sender):
        self._index[slot] = sender >> self._low_bits
        self._incarnation[slot] = sender & self._low
        self._windows.clear(slot)
        self._taken[slot] = 1

    @micropython.native
    def _find(self, index):
        """The slot of this index, else the one it would take, else -1."""
        last = self._slots - 1
        slot = index & last
        for _ in range(self._slots):
            if not self._taken[slot] or self._index[slot] == index:
                return slot
            slot = (slot + 1) & last
        return -1
