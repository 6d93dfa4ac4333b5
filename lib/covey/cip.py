"""EtherNet/IP class 1 I/O: what a connection's producer multicasts, its consumers read.

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
data has a new sequence and the old count. 32-bit fields are octets or halves here, because
a 32-bit board can't hold one in a small integer. Nothing here allocates per frame.
"""

from struct import pack_into

from covey.port import const, micropython

DATA = const(20)  # where the data begins

# Why a frame isn't one. Each is negative; parse() returns the first that holds.
SHORT = const(-1)  # ends before its first octet of data could be
ITEM_COUNT = const(-2)  # not two items
ADDRESS_ITEM = const(-3)  # the first is no sequenced address
ADDRESS_LENGTH = const(-4)  # ... or not of eight octets
DATA_ITEM = const(-5)  # the second is no connected data
DATA_LENGTH = const(-6)  # ... or too short for its count
CUT = const(-7)  # the data end before their length says
TRAILING = const(-8)  # octets follow the data

NAMES = {
    SHORT: "short",
    ITEM_COUNT: "item_count",
    ADDRESS_ITEM: "address_item",
    ADDRESS_LENGTH: "address_length",
    DATA_ITEM: "data_item",
    DATA_LENGTH: "data_length",
    CUT: "cut",
    TRAILING: "trailing",
}

_ITEM_2 = const(14)
_DATA = const(20)
_COUNT_LEN = const(2)
_ADDRESS = const(0x8002)
_CONNECTED = const(0x00B1)


def parse(buf, off, n):
    """Octets of data in the frame of n octets at off, or why it is none."""
    if n < _DATA:
        return SHORT
    if buf[off] != 2 or buf[off + 1]:
        return ITEM_COUNT
    if buf[off + 2] | buf[off + 3] << 8 != _ADDRESS:
        return ADDRESS_ITEM
    if buf[off + 4] != 8 or buf[off + 5]:
        return ADDRESS_LENGTH
    if buf[off + 14] | buf[off + 15] << 8 != _CONNECTED:
        return DATA_ITEM
    data_len = (buf[off + 16] | buf[off + 17] << 8) - _COUNT_LEN
    if data_len < 0:
        return DATA_LENGTH
    if data_len > n - _DATA:
        return CUT
    if data_len < n - _DATA:
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


class Producer:
    """One connection's sending side: its ID and how far its two numbers have come.

    connection_id: 4 octets, as on the wire (little-endian).
    """

    def __init__(self, connection_id):
        self.connection_id = bytes(connection_id)
        self.sequence_low = 0  # of the last frame
        self.sequence_high = 0
        self.count = 0

    @micropython.native  # as bytecode its frame would be too large for the stack
    def emit(self, buf, off, data_len, is_new=True):
        """Frame the data_len octets at off + DATA; the frame's length.

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
        pack_into("<HHH", buf, off + _ITEM_2, _CONNECTED, _COUNT_LEN + data_len, self.count)
        return _DATA + data_len
