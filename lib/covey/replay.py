"""Anti-replay: which sequence numbers of which sender have been accepted. After RFC 6479.

A window remembers the latest numbers in rows of eight: a ring of octets, a bit for each number.
Row and bit are read from the packet apart, so that the whole 32-bit space needs no integer that
a 32-bit board would put on the heap. All windows of an SA lie side by side in words made with
it, where the data path's kernels admit() and accept() look and write (path.py); and bar(), for
our own numbers.
"""

from covey.port import const, words

_LAST_ROW = const(0x20000000)  # of number 2^32 - 1. Rows count from 1; 0 stands for a free slot

# As path.py has them.
_BITS = const(0)
_LOW_BITS = const(1)
_SLOTS = const(2)
_WINDOWS = const(3)
_WINDOW_LEN = const(7)
_INDEX = const(0)
_INCARNATION = const(1)
_NEWEST = const(2)
_RING = const(3)

# Words of tables that have gone, for those to come: where pieces this long are hard to find.
_SPARE = const(4)
_AT_ONCE = const(64)  # words that are cleared by one copy
_spare = [None] * _SPARE


class SenderTable:
    """One window for each sender of an SA, in a fixed number of slots (a power of two).

    A Sender-ID is the top `bits` of the IV (RFC 6054). Where `index_bits` is given it reads
    as sender index | incarnation: the index owns the window, and a newer incarnation (serial
    arithmetic) takes it over. bits = 0: the SA has one sender, and one slot is a plain window.
    slots = 0: no replay protection is possible (RFC 9838 section 2.6: SN 2, and senders that
    can't be told apart), or none is needed (section 2.3.3: we are the one sender; whatever comes
    is our own, looped back, or pretends to be).

    An index is looked for from the slot of its low bits on: servers count senders from zero,
    so that the first look mostly hits. A slot is never given up while the SA lives.
    """

    def __init__(self, slots, bits=0, index_bits=None):
        assert slots & (slots - 1) == 0 and bits <= 32
        self.bits = bits
        self.words = w = _new_words(_WINDOWS + _WINDOW_LEN * slots)
        w[_BITS] = bits
        w[_LOW_BITS] = 0 if index_bits is None else bits - index_bits
        w[_SLOTS] = slots

    @staticmethod
    def reserve(count, slots):
        """Memory for so many tables beside those that are there, made now."""
        missing = count - _spare.count(None)
        _spare.extend([None] * missing)
        tables = [SenderTable(slots) for _ in range(count)]
        for table in tables:
            table.release()

    def release(self):
        """The SA has gone, and nothing leads here any more. Takes no heap."""
        if self.words is not None and len(self.words) > _WINDOWS:
            if None in _spare:
                _spare[_spare.index(None)] = self.words
            self.words = None

    def bar(self, sender):
        """Let nothing pass in this sender's name, nor of its older incarnations: for our own.

        False where the table has no slot left for it.
        """
        w = self.words
        low_bits = w[_LOW_BITS]
        index = sender >> low_bits
        window = self.window_of(index)
        if window is None:
            return False
        w[window + _INDEX] = index
        w[window + _INCARNATION] = sender & (1 << low_bits) - 1
        w[window + _NEWEST] = _LAST_ROW
        for i in range(window + _RING, window + _WINDOW_LEN):
            w[i] = 0xFFFFFFFF
        return True

    def window_of(self, index):
        """Where the window of this index is, else the one it would take, else None."""
        w = self.words
        slots = w[_SLOTS]
        for look in range(slots):
            window = _WINDOWS + _WINDOW_LEN * (index + look & slots - 1)
            if w[window + _NEWEST] == 0 or w[window + _INDEX] == index:
                return window
        return None


def _new_words(count):
    for at in range(len(_spare)):
        found = _spare[at]
        if found is not None and len(found) == count:
            _spare[at] = None
            zeros = words(min(count, _AT_ONCE))
            for i in range(0, count, _AT_ONCE):
                found[i : i + _AT_ONCE] = zeros[: count - i]
            return found
    return words(count)
