"""Addresses of key servers: names resolved, and what NAT detection wants to know of the way."""

from covey import port
from covey.drops import ConfigError
from covey.nat import Path


class Addresses:
    """servers: [config.Server]; interface: ours as covey.json names it, or None."""

    def __init__(self, servers, interface):
        self._servers = servers
        self._interface = interface
        self._known = {}  # (host, port): resolved address, as port.send() takes it
        self.own_port = 0  # of the socket that speaks to them

    def resolve_all(self):
        """ConfigError where no server has an address: somebody should know at once."""
        failure = None
        for server in self._servers:
            try:
                self.of(server)
            except ConfigError as error:
                failure = error
        if not self._known:
            raise failure

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
        return Path(own, self.own_port, port.ipv4_of(address), server.port, server.marker)
