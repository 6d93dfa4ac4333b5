"""The IPv4 header in front of ESP, as a raw socket hands it over. RFC 791.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
  0 |   4   |  IHL  |Type of Service|         Total Length          |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
  4 |        Identification         |0|D|M|     Fragment Offset     |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
  8 | Time to Live  |      50       |        Header Checksum        |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 12 |                        Source Address                         |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 16 |            Destination Address: the group's                   |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 20 |                Options: 4 * (IHL - 5) octets                  |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

A system has put fragments together before a raw socket sees them, and has looked at the checksum
itself. Nothing here relies on it.
"""

from covey.drops import DROP_IP_DESTINATION, DROP_IP_FRAGMENT, DROP_IP_HEADER, DROP_LENGTH
from covey.port import const, micropython

HEADER = const(20)  # octets without options

_HEADER = const(20)
_ESP = const(50)


@micropython.native
def strip(head, buf, n, group):
    """Check a datagram of n octets, the first 20 in head, the others in buf.

    Returns how many octets follow the header, which begin at 0 of buf then, or a DROP_*.
    group: the destination, 4 octets. n may be more than there is room for.
    """
    if n > _HEADER + len(buf):
        return DROP_LENGTH
    if n < _HEADER or head[0] >> 4 != 4 or head[2] << 8 | head[3] != n or head[9] != _ESP:
        return DROP_IP_HEADER
    options_len = ((head[0] & 15) << 2) - _HEADER
    if not 0 <= options_len <= n - _HEADER:
        return DROP_IP_HEADER
    total = _sum(head, _HEADER) + _sum(buf, options_len)
    if (total & 0xFFFF) + (total >> 16) != 0xFFFF:
        return DROP_IP_HEADER
    if head[6] & 0x3F | head[7]:
        return DROP_IP_FRAGMENT
    for i in range(4):
        if head[16 + i] != group[i]:
            return DROP_IP_DESTINATION
    length = n - _HEADER - options_len
    if options_len:
        for i in range(length):
            buf[i] = buf[options_len + i]
    return length


@micropython.native
def _sum(buf, n):
    """Of the first n octets, an even number, as words; below 2^21 for n up to 60."""
    total = 0
    for i in range(0, n, 2):
        total += buf[i] << 8 | buf[i + 1]
    return total
