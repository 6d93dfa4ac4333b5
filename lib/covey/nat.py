"""NAT detection and the float to port 4500 at a member: RFC 7296 section 2.23.

What is sent and what is judged are hashes of addresses, never believed before AUTH has proven the
answer that they came in: each answer to IKE_SA_INIT is followed by the way that it asks for.
"""

from covey import ike
from covey.octets import u32

# Where a datagram goes: else it is the source that its request came from, as it was handed in
HOME = 0  # to the server as covey.json names it
FLOATED = 1  # to the same host, port 4500, behind the marker

KEEPALIVE = b"\xff"  # RFC 3948 section 2.3: never behind a marker
_MARKER = b"\0\0\0\0"  # RFC 3948 section 2.2: an IKE message, not ESP
_UNKNOWN = b"\0\0\0\0"  # our address where nobody can tell it: reads as "behind a NAT"


class Path:
    """The addresses towards one server, four octets each, and ports.

    own: ours, or None. has_marker: whether that server is spoken to behind the marker anyway.
    """

    def __init__(self, own, own_port, theirs, their_port, has_marker):
        self.has_marker = has_marker
        self._own = own or _UNKNOWN, own_port
        self._theirs = theirs, their_port

    def is_of(self, host):
        """Whether this text is the server's address."""
        return host == "%d.%d.%d.%d" % tuple(self._theirs[0])

    def notify(self, spi_i):
        """The notifications of our IKE_SA_INIT; none where there is no SHA-1."""
        own, theirs = self._detected(spi_i, bytes(8))
        if own is None:
            return []
        return [
            ike.notify(ike.NAT_DETECTION_SOURCE_IP, own),
            ike.notify(ike.NAT_DETECTION_DESTINATION_IP, theirs),
        ]

    def judge(self, spi_i, spi_r, payloads, is_relayed):
        """The payloads of an answer → (HOME or FLOATED, whether that way is to be kept open).

        So it is behind a NAT of ours, and with is_relayed anyway, if there is a marker. A server
        that says nothing about it does not know how: then nothing changes.
        """
        sources = ike.said(payloads, ike.NAT_DETECTION_SOURCE_IP)
        destinations = ike.said(payloads, ike.NAT_DETECTION_DESTINATION_IP)
        own, theirs = self._detected(spi_i, spi_r)
        has_marker = self.has_marker
        if own is not None and sources and destinations:
            is_natted = own not in destinations
            is_relayed = is_relayed or is_natted
            has_marker = has_marker or is_natted or theirs not in sources
        return FLOATED if has_marker != self.has_marker else HOME, has_marker and is_relayed

    def _detected(self, spi_i, spi_r):
        own = ike.nat_detection(spi_i, spi_r, *self._own)
        return own, ike.nat_detection(spi_i, spi_r, *self._theirs)


def has_marker(buf, n):
    """Whether the marker leads the datagram of n octets in buf.

    A server that rekeys may choose an SPI that begins with as many zeros: then the length in the
    IKE header stands where there is no marker.
    """
    if n < len(_MARKER) or buf[: len(_MARKER)] != _MARKER:
        return False
    if n < 28 or u32(buf, 24) != n:
        return True
    return n >= 32 and u32(buf, 28) == n - len(_MARKER)


def addressed(data, to, server):
    """A datagram and where it goes → (as it is sent, a config.Server or the source).

    server: the one that is asked. A source is (host, port, whether it speaks behind the marker).
    """
    if to in (HOME, FLOATED):
        to = server.floated() if to == FLOATED else server
        has_marker = to.marker
    else:
        has_marker = to[2]
    if has_marker and data != KEEPALIVE:
        data = _MARKER + data
    return data, to
