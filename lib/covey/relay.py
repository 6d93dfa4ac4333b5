"""Unicast delivery: ESP to and from the key server, on the very socket of the IKE SA (RFC 3948).

A carrier as carrier.py has them. Loaded where the policy says COVEY_DELIVERY: unicast.
"""

from covey import port
from covey.drops import (
    DROP_CAPACITY,
    DROP_IKE_HEADER,
    DROP_SOCKET,
    IKE_MESSAGE,
    ConfigError,
)
from covey.port import const

_MARKER_LEN = const(4)
_NOTHING = const(-1)
_FRAME = const(1536)  # as long as a network lets any be, but for fragments of IP
_LONGEST = const(4100)  # greatest IKE message, behind its marker
_LONG = const(8)  # datagrams that may be so long, once one was too long; its sender repeats it

_longer = []  # what has just come and is longer than rx


class Relay:
    """sock: the IKE SA's. Everything here is framed: ESP, or IKE behind the marker."""

    is_framed = True
    message = None
    source = None
    _to = None
    _long = 0
    _most = _FRAME  # octets of a datagram

    def __init__(self, sock):
        self.sock = sock

    def aim(self, addresses, server):
        """Packets go to that key server from now on; a floated config.Server."""
        try:
            self._to = addresses.of(server)
        except ConfigError:
            pass  # no name service just now: as before

    def receive(self, member):
        """Few slots: a larger frame would be taken from the heap."""
        if _longer:  # its address found no memory: it is lost
            _longer.clear()
        found = port.recv_from(self.sock, member.rx, self._most, _longer)
        if not 0 <= found[0] <= self._most or _longer:
            return self._not_in_rx(member, found)
        answer = member.receive(found[0], port.ticks_ms())
        if answer != IKE_MESSAGE:
            return answer
        return self._take(member, memoryview(member.rx)[: found[0]], found[1])

    def _not_in_rx(self, member, found):
        if found[0] < 0:
            return None if found[0] == _NOTHING else member.drops.count(DROP_SOCKET)
        if _longer:
            return self._take(member, _longer.pop(), found[1])
        self._long, self._most = _LONG, _LONGEST
        return member.drops.count(DROP_IKE_HEADER)

    def _take(self, member, data, source):
        """A datagram that is, or is too long to be anything but, an IKE message."""
        if self._long:
            self._long -= 1
            if not self._long:
                self._most = _FRAME
        if any(data[:_MARKER_LEN]):
            return member.drops.count(DROP_IKE_HEADER)
        try:
            self.message = bytes(data[_MARKER_LEN:])
            self.source = source[0], source[1], True
        except MemoryError:
            return member.drops.count(DROP_CAPACITY)
        return IKE_MESSAGE

    def send(self, view):
        return port.send(self.sock, view, self._to)

    def close(self):
        pass  # the socket is not ours
