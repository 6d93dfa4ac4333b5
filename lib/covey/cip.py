"""EtherNet/IP class 0 and 1 I/O: what a connection's producer multicasts, its consumers read.

Common packet format, ODVA's EtherNet/IP specification (CIP volume 2) section 2-6; little-endian.

     0           2           4           6           8
    +-----------+-----------+-----------+-----------+
  0 | items: 2  | 0x8002    | length: 8 | connection|   sequenced address item
    +-----------+-----------+-----------+-----------+
  8 |        ID | encapsulation sequence| 0x00B1    |   connected data item
    +-----------+-----------+-----------+-----------+
 16 | length    | count     | data (length - 2) ... |
    +-----------+-----------+-----------------------+

The encapsulation sequence numbers datagrams, the class 1 count numbers data: a repeat of old
data has a new sequence and the old count. Class 0 has no count: its data begin at 18. Where a
connection has a run/idle header, that is the first four octets of its data. 32-bit fields are
octets or halves here, because a 32-bit board can't hold one in a small integer. Nothing here
allocates per frame.

Consumer.take() says FRESH or UNCHANGED, or why a frame is not to be used: LATE, FOREIGN,
TIMED_OUT, or what parse() says. Who sent it, and whether that is proven, its packet tells.
"""

from struct import pack_into

from covey.port import const, micropython, ticks_add, ticks_diff

DATA = const(20)  # where the data begin
DATA_0 = const(18)  # ... in class 0
HEADER_LEN = const(4)  # of a run/idle header

FRESH = const(1)  # new data
UNCHANGED = const(2)  # the data of before: the producer is alive

# Why a frame isn't one, or isn't taken. Each is negative; the first that holds is returned.
SHORT = const(-1)  # ends before its first octet of data could be
ITEM_COUNT = const(-2)  # not two items
ADDRESS_ITEM = const(-3)  # the first is no sequenced address
ADDRESS_LENGTH = const(-4)  # ... or not of eight octets
DATA_ITEM = const(-5)  # the second is no connected data
DATA_LENGTH = const(-6)  # ... or too short for its count
CUT = const(-7)  # the data end before their length says
TRAILING = const(-8)  # octets follow the data
NO_HEADER = const(-9)  # the data have no room for a run/idle header
FOREIGN = const(-10)  # of another connection
LATE = const(-11)  # not newer than what has come
TIMED_OUT = const(-12)  # nothing came for too long: the connection is over, whatever comes

NAMES = {
    SHORT: "short",
    ITEM_COUNT: "item_count",
    ADDRESS_ITEM: "address_item",
    ADDRESS_LENGTH: "address_length",
    DATA_ITEM: "data_item",
    DATA_LENGTH: "data_length",
    CUT: "cut",
    TRAILING: "trailing",
    NO_HEADER: "no_header",
    FOREIGN: "foreign",
    LATE: "late",
    TIMED_OUT: "timed_out",
}

_ITEM_2 = const(14)
_COUNT = const(18)
_COUNT_LEN = const(2)
_HEADER = const(4)
_ADDRESS = const(0x8002)
_CONNECTED = const(0x00B1)

_HALF = const(0x8000)  # of 16 bits
_FIRST_MS = const(10000)  # the shortest that a producer has for its first frame
_LONGEST_MS = const(0x0FFFFFFF)  # three days: what ticks can tell apart
_BLOCK = const(32)  # addresses of one device
_BLOCKS = const(0x3FF)


def multicast_address(address, prefix_len, index=0):
    """The group that a device at `address` produces to, 4 octets each, by the default algorithm
    of its TCP/IP Interface object. prefix_len: of its subnet, bits; index: which of its 32 groups.
    """
    host = 0
    for octet in address:
        host = host << 8 | octet
    host &= (1 << 32 - prefix_len) - 1
    low = 0x0100 + ((host - 1) & _BLOCKS) * _BLOCK + index
    return bytes([239, 192, low >> 8, low & 0xFF])


def parse(buf, off, n, count_len=_COUNT_LEN):
    """Octets of data in the frame of n octets at off, or why it is none.

    count_len: 2, or 0 in class 0. What class 1 counts as well is data of class 0.
    """
    least = _COUNT + count_len
    if n < least:
        return SHORT
    if buf[off] != 2 or buf[off + 1]:
        return ITEM_COUNT
    if buf[off + 2] | buf[off + 3] << 8 != _ADDRESS:
        return ADDRESS_ITEM
    if buf[off + 4] != 8 or buf[off + 5]:
        return ADDRESS_LENGTH
    if buf[off + 14] | buf[off + 15] << 8 != _CONNECTED:
        return DATA_ITEM
    data_len = (buf[off + 16] | buf[off + 17] << 8) - count_len
    if data_len < 0:
        return DATA_LENGTH
    if data_len > n - least:
        return CUT
    if data_len < n - least:
        return TRAILING
    return data_len


# Fields of a frame at off that parse() has taken.


def is_connection(buf, off, connection_id):
    """Whether it belongs to this connection: 4 octets, as on the wire."""
    for i in range(4):
        if buf[off + 6 + i] != connection_id[i]:
            return False
    return True


def sequence_low(buf, off):
    """The lower half of the encapsulation sequence."""
    return buf[off + 10] | buf[off + 11] << 8


def sequence_high(buf, off):
    return buf[off + 12] | buf[off + 13] << 8


def count(buf, off):
    """The class 1 sequence count."""
    return buf[off + 18] | buf[off + 19] << 8


# The run/idle header at off, the first of a connection's data where it has one.


def emit_header(buf, off, is_running):
    pack_into("<I", buf, off, 1 if is_running else 0)


def is_running(buf, off):
    return bool(buf[off] & 1)


class Producer:
    """One connection's sending side: its ID and how far its two numbers have come.

    connection_id: 4 octets, as on the wire (little-endian). counts: whether it is class 1.
    """

    def __init__(self, connection_id, counts=True):
        self.connection_id = bytes(connection_id)
        self.count_len = _COUNT_LEN if counts else 0
        self.data_off = _COUNT + self.count_len  # where the data go
        self.sequence_low = 0  # of the last frame
        self.sequence_high = 0
        self.count = 0

    @micropython.native  # as bytecode its frame would be too large for the stack
    def emit(self, buf, off, data_len, is_new=True):
        """Frame the data_len octets at off + data_off; the frame's length.

        is_new: whether the data differ from the last ones, and get a count of their own.
        """
        low = self.sequence_low = self.sequence_low + 1 & 0xFFFF
        if low == 0:
            self.sequence_high = self.sequence_high + 1 & 0xFFFF
        if is_new:
            self.count = self.count + 1 & 0xFFFF
        pack_into(
            "<HHH4sHH", buf, off, 2, _ADDRESS, 8, self.connection_id, low, self.sequence_high
        )
        pack_into("<HH", buf, off + _ITEM_2, _CONNECTED, self.count_len + data_len)
        if self.count_len:
            pack_into("<H", buf, off + _COUNT, self.count)
        return self.data_off + data_len


class Consumer:
    """One connection's receiving side.

    connection_id, counts: as its Producer has them. interval_us: its requested packet interval;
    multiplier: how many of them may pass without a frame, 4 to 512. has_header: whether its data
    begin with a run/idle header. It times out from now_ms on, and longer before the first frame.
    """

    def __init__(
        self, connection_id, interval_us, multiplier, now_ms, counts=True, has_header=False
    ):
        self.connection_id = bytes(connection_id)
        self.is_running = not has_header  # what the last frame said
        self.data_len = 0  # of the last frame taken, without the header
        self.data_off = _COUNT + (_COUNT_LEN if counts else 0) + (_HEADER if has_header else 0)
        self.timeout_ms = min(_LONGEST_MS, (interval_us * multiplier + 999) // 1000)
        self._counts = counts
        self._header_len = _HEADER if has_header else 0
        self._low = self._high = self._count = -1  # of the newest frame; -1: none came
        self._end_ms = ticks_add(now_ms, max(_FIRST_MS, self.timeout_ms))
        self._is_over = False

    @micropython.native
    def take(self, buf, off, n, now_ms):
        """A frame of n octets at off: FRESH, UNCHANGED, or why it is none for us.

        Its data_len octets of data begin at off + data_off.
        """
        if self.has_timed_out(now_ms):
            return TIMED_OUT
        data_len = parse(buf, off, n, _COUNT_LEN if self._counts else 0)
        if data_len < 0:
            return data_len
        if not is_connection(buf, off, self.connection_id):
            return FOREIGN
        if data_len < self._header_len:
            return NO_HEADER
        if not self._is_newer(buf, off):
            return LATE
        self._low, self._high = sequence_low(buf, off), sequence_high(buf, off)
        self._end_ms = ticks_add(now_ms, self.timeout_ms)
        self.data_len = data_len - self._header_len
        if self._header_len:
            self.is_running = is_running(buf, off + self.data_off - self._header_len)
        if not self._counts:
            return FRESH
        newest = self._count
        self._count = count(buf, off)
        return UNCHANGED if self._count == newest else FRESH

    def has_timed_out(self, now_ms):
        """Also to be asked where nothing comes. Once it has, it has for good."""
        if not self._is_over and ticks_diff(self._end_ms, now_ms) <= 0:
            self._is_over = True
            self.is_running = False
        return self._is_over

    def left_ms(self, now_ms):
        """Until it times out, if nothing comes; 0: it has."""
        return 0 if self.has_timed_out(now_ms) else ticks_diff(self._end_ms, now_ms)

    def _is_newer(self, buf, off):
        """Whether its sequence lies ahead by less than half of all numbers."""
        if self._high < 0:
            return True
        low = sequence_low(buf, off) - self._low
        high = sequence_high(buf, off) - self._high
        if low < 0:
            high -= 1
        high &= 0xFFFF
        return high < _HALF and (high > 0 or low != 0)
