"""ESP with AES-GCM-16 in transport mode around one UDP datagram. RFC 4303, 4106, 6054, 768.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
  0 |             Security Parameters Index (SPI)                   | \\ additional
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ | authenticated
  4 |                      Sequence Number                          | / data
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
  8 |  IV: Sender-ID in the top bits, as many as policy says; the   |
    +                                                               +
 12 |  rest is the sender's own: ours puts the Sequence Number there|
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 16 |         Source Port           |       Destination Port        | \\
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ |
 20 |    Length (8 + payload)       |  Checksum: sent 0, not looked |  |
    |                               |  at, for the ICV covers all   | | text,
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ | encrypted
 24 |                      Payload (variable)                       | |
    ~               +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+ |
    |               | Padding 1 2 3 |  Pad Length   |  Next Header  | /
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    ~              Integrity Check Value (16 octets)                ~
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

The datagram begins at 0 of its buffer. Everything is a multiple of four octets long.
"""

from struct import pack_into

from covey.drops import DROP_DUMMY, DROP_INNER_LENGTH, DROP_NEXT_HEADER, DROP_PADDING
from covey.port import const, micropython

SPI = const(0)
SEQ = const(4)
IV = const(8)
PAYLOAD = const(24)
AAD_LEN = const(8)
OVERHEAD = const(32)  # all but the text: SPI, number, IV, ICV
LEAST = const(36)  # with a text of nothing but its last four octets

_TEXT = const(16)
_PAYLOAD = const(24)
_UDP_LEN = const(8)
_UDP = const(17)
_DUMMY = const(59)  # RFC 4303 section 2.6


def datagram_len(payload_len):
    """Octets of the datagram that carries so many of payload."""
    return OVERHEAD + (_UDP_LEN + payload_len + 5 & ~3)


@micropython.native
def emit(buf, payload_len, spi, seq, iv_head, source_port, port):
    """Put everything but the ICV around the payload at PAYLOAD; returns the text's length.

    spi, iv_head: 4 octets. seq: below 2^30.
    """
    udp_len = _UDP_LEN + payload_len
    pack_into(">4sI4sIHHHH", buf, 0, spi, seq, iv_head, seq, source_port, port, udp_len, 0)
    at = _TEXT + udp_len
    pad_len = 2 - payload_len & 3
    for octet in range(1, pad_len + 1):
        buf[at] = octet
        at += 1
    buf[at] = pad_len
    buf[at + 1] = _UDP
    return udp_len + pad_len + 2


@micropython.native
def trim(buf, text_len):
    """Length of the payload at PAYLOAD in an opened datagram, or a DROP_*.

    text_len: at least 4. A dummy's text need not make sense. What lies between the end of the
    UDP datagram and the padding is TFC padding, of any octets (RFC 4303 section 2.7).
    """
    end = _TEXT + text_len - 2
    next_header = buf[end + 1]
    if next_header == _DUMMY:
        return DROP_DUMMY
    pad_len = buf[end]
    if pad_len > text_len - 2:
        return DROP_PADDING
    end -= pad_len
    for octet in range(1, pad_len + 1):
        if buf[end + octet - 1] != octet:
            return DROP_PADDING
    if next_header != _UDP:
        return DROP_NEXT_HEADER
    room = end - _TEXT
    if room < _UDP_LEN:
        return DROP_INNER_LENGTH
    udp_len = buf[_TEXT + 4] << 8 | buf[_TEXT + 5]
    if not _UDP_LEN <= udp_len <= room:
        return DROP_INNER_LENGTH
    return udp_len - _UDP_LEN
