"""Anti-replay: which sequence numbers of which sender have been accepted. After RFC 6479.

A window remembers the latest numbers in rows of eight: a ring of octets, a bit for each number.
Row and bit are read from the packet apart, so that the whole 32-bit space needs no integer that
a 32-bit board would put on the heap. All windows of an SA lie side by side in arrays made with
it. Only accept() writes to them, after the tag, so that forged packets leave no trace here;
and bar(), for our own.
"""

from array import array

from covey.drops import DROP_OWN, DROP_REPLAY, DROP_SENDER_TABLE_FULL, DROP_STALE_SENDER
from covey.port import const, micropython

_ROWS = const(16)  # in a ring; a power of two
_LAST_ROW = const(0x20000000)  # of number 2^32 - 1. Rows count from 1; 0 stands for a free slot


class SenderTable:
    """One window for each sender of an SA, in a fixed number of slots (a power of two).

    A Sender-ID is the top `bits` of the IV (RFC 6054). Where `index_bits` is given it reads
    as sender index | incarnation: the index owns the window, and a newer incarnation (serial
    arithmetic) takes it over. bits = 0: the SA has one sender, and one slot is a plain window.
    slots = 0: no replay protection is possible (RFC 9838 section 2.6: SN 2, and senders that
    can't be told apart).

    An index is looked for from the slot of its low bits on: servers count senders from zero,
    so that the first look mostly hits. A slot is never given up while the SA lives.
    In admit() and accept(), off is where the packet's four octets of sequence number begin.
    """

    def __init__(self, slots, bits=0, index_bits=None):
        assert slots & (slots - 1) == 0 and bits <= 32
        self.bits = bits
        self._slots = slots
        self._low_bits = 0 if index_bits is None else bits - index_bits
        self._low = (1 << self._low_bits) - 1  # mask of the incarnation
        self._index = array("I", [0] * slots)
        self._incarnation = array("I", [0] * slots)
        self._newest = array("I", [0] * slots)  # the highest row accepted from
        self._rings = bytearray(slots * _ROWS)  # rows up to the newest; beyond it left-overs

    @micropython.native
    def sender_of(self, buf, off):
        """The Sender-ID in the IV at off. Allocates only for values from 2^30 on."""
        bits = self.bits
        high = buf[off] << 8 | buf[off + 1]
        if bits <= 16:
            return high >> (16 - bits)
        return high << (bits - 16) | (buf[off + 2] << 8 | buf[off + 3]) >> (32 - bits)

    @micropython.native
    def admit(self, sender, buf, off):
        """The sender's slot, or a DROP_*. Changes nothing: ask before the tag check.

        The slot may be a free one, or an older incarnation's: accept() takes it.
        """
        if not self._slots:
            return 0
        slot = self._find(sender >> self._low_bits)
        if slot < 0:
            return DROP_SENDER_TABLE_FULL
        newest = self._newest[slot]
        if newest and self._low:
            newer = sender - self._incarnation[slot] & self._low
            if newer << 1 > self._low:  # serial arithmetic: half the circle lies behind
                return DROP_STALE_SENDER
            if newer:
                newest = 0
        low = buf[off + 3]
        row = (buf[off] << 21 | buf[off + 1] << 13 | buf[off + 2] << 5 | low >> 3) + 1
        if row > newest:
            return DROP_REPLAY if row == 1 and low == 0 else slot  # nobody sends number 0
        if newest - row >= _ROWS or low == 0 and row == 1:
            return DROP_REPLAY
        seen = self._rings[slot * _ROWS + (row & (_ROWS - 1))]
        return DROP_REPLAY if seen >> (low & 7) & 1 else slot

    @micropython.native
    def accept(self, slot, sender, buf, off):
        """Remember what admit() let pass. Call only after the tag (and the source) verified."""
        if not self._slots:
            return
        newest = self._newest[slot]
        if newest == 0 or self._low and sender - self._incarnation[slot] & self._low:
            self._take(slot, sender)
            newest = 0
        low = buf[off + 3]
        row = (buf[off] << 21 | buf[off + 1] << 13 | buf[off + 2] << 5 | low >> 3) + 1
        rings = self._rings
        base = slot * _ROWS
        if row > newest:
            self._newest[slot] = row
            ahead = row - newest if row - newest < _ROWS else _ROWS
            while ahead:  # clear the rows that the window slides onto
                ahead -= 1
                rings[base + (row - ahead & (_ROWS - 1))] = 0
        rings[base + (row & (_ROWS - 1))] |= 1 << (low & 7)

    def bar(self, sender):
        """Let nothing pass in this sender's name, nor of its older incarnations: for our own.

        False where the table has no slot left for it.
        """
        slot = self._find(sender >> self._low_bits) if self._slots else -1
        if slot < 0:
            return False
        self._take(slot, sender)
        self._newest[slot] = _LAST_ROW
        for i in range(slot * _ROWS, (slot + 1) * _ROWS):
            self._rings[i] = 255
        return True

    def _take(self, slot, sender):
        self._index[slot] = sender >> self._low_bits
        self._incarnation[slot] = sender & self._low

    @micropython.native
    def _find(self, index):
        """The slot of this index, else the one it would take, else -1."""
        newest = self._newest
        last = self._slots - 1
        slot = index & last
        for _ in range(self._slots):
            if newest[slot] == 0 or self._index[slot] == index:
                return slot
            slot = (slot + 1) & last
        return -1


class OutboundOnly:
    """In place of a SenderTable where we are the one sender: nothing under this SA is for us.

    RFC 9838 section 2.3.3. Whatever comes is our own, looped back, or pretends to be.
    """

    def __init__(self, bits):
        self.bits = bits

    def sender_of(self, buf, off):
        return 0

    def admit(self, sender, buf, off):
        return DROP_OWN

    def bar(self, sender):
        return True
