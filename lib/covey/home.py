"""The way to key servers: one UDP socket, their addresses, and what NAT detection wants to know.

To be read it is a carrier, as carrier.py has them: of IKE messages, behind their marker or bare.
For a member with unicast delivery relay.py takes its place.
"""

from covey import port
from covey.drops import (
    DROP_CAPACITY,
    DROP_EMPTY,
    DROP_IKE_HEADER,
    DROP_SOCKET,
    IKE_MESSAGE,
    ConfigError,
)
from covey.nat import Path, has_marker
from covey.port import const

_MARKER_LEN = const(4)  # RFC 3948 section 2.2: an IKE message, not ESP
_NOTHING = const(-1)
_FRAME = const(1536)  # as long as a network lets any be, but for fragments of IP
_LONGEST = const(4100)  # greatest IKE message, behind its marker
_LONG = const(8)  # datagrams that may be so long, once one was too long; its sender repeats it

_longer = []  # what has just come and is longer than rx


class Home:
    """servers: [config.Server]; interface: our address as covey.json names it, or None. It is read
    in between two packets of the group: so the member's rx is free.
    """

    message = source = task = None
    is_relayed = False  # whether data come here, and no message without its marker
    _long = 0
    _most = _FRAME  # octets of a datagram

    def __init__(self, sock, servers=(), interface=None):
        self.sock = sock  # None: not open yet
        self._servers = servers
        self._interface = interface
        self._known = {}  # (host, port): resolved address, as port.send() takes it

    def open(self):
        """ConfigError where no server has an address: somebody should know at once."""
        failure = None
        for server in self._servers:
            try:
                self.of(server)
            except ConfigError as error:
                failure = error
        if not self._known:
            raise failure
        self.sock = port.udp_socket("0.0.0.0", 0)

    def of(self, server):
        """A config.Server, or the source of a datagram (host, port, ...) → address."""
        if isinstance(server, tuple):
            return port.resolve(server[0], server[1])
        key = server.host, server.port
        if key not in self._known:
            self._known[key] = port.resolve(server.host, server.port)
        return self._known[key]

    def forget(self):
        """They may have moved."""
        self._known = {}

    def path_to(self, server):
        """The nat.Path to a server; None without an address of it just now."""
        try:
            address = self.of(server)
            own = port.own_ipv4(address)
            if own is None and self._interface:
                own = port.ipv4_of(port.resolve(self._interface, 0))
        except ConfigError:
            return None
        own_port = port.source_address(self.sock)[1]
        return Path(own, own_port, port.ipv4_of(address), server.port, server.marker)

    def receive(self, member):
        """Few slots: a larger frame would be taken from the heap."""
        if _longer:  # its address found no memory: it is lost
            _longer.clear()
        n, source = port.recv_from(self.sock, member.rx, self._most, _longer)
        if n == _NOTHING:
            return None
        if n < 0:
            self._most = _FRAME  # there may be no memory for a longer one
            return member.drops.count(DROP_SOCKET)
        if n > self._most:
            self._long, self._most = _LONG, _LONGEST
            return member.drops.count(DROP_IKE_HEADER)
        if self.is_relayed and not _longer:
            answer = member.receive(n, port.ticks_ms())
            if answer != IKE_MESSAGE:
                return answer
        return self._take(member, _longer.pop() if _longer else member.rx, n, source)

    def _take(self, member, data, n, source):
        """A datagram that is, or is too long to be anything but, an IKE message."""
        if self._long:
            self._long -= 1
            if not self._long:
                self._most = _FRAME
        if n == 0:
            return member.drops.count(DROP_EMPTY)
        is_marked = has_marker(data, n)
        if self.is_relayed and not is_marked:
            return member.drops.count(DROP_IKE_HEADER)
        try:
            self.message = bytes(memoryview(data)[_MARKER_LEN if is_marked else 0 : n])
            self.source = source[0], source[1], is_marked
        except MemoryError:
            return member.drops.count(DROP_CAPACITY)
        return IKE_MESSAGE
