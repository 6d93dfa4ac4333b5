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

The datagram begins at 0 of its buffer. Everything is a multiple of four octets long. What puts
this around a payload and looks at it are the kernels frame() and trim() (path.py).
"""

from covey.port import const

SPI = const(0)
SEQ = const(4)
IV = const(8)
PAYLOAD = const(24)
AAD_LEN = const(8)
OVERHEAD = const(32)  # all but the text: SPI, number, IV, ICV
LEAST = const(36)  # with a text of nothing but its last four octets

_UDP_LEN = const(8)


def datagram_len(payload_len):
    """Octets of the datagram that carries so many of payload."""
    return OVERHEAD + (_UDP_LEN + payload_len + 5 & ~3)
