"""Unicast delivery: ESP to and from the key server, on the very socket of the IKE SA (RFC 3948).

A carrier as carrier.py has them. Loaded where the policy says COVEY_DELIVERY: unicast.
"""

from covey import port
from covey.drops import ConfigError
from covey.home import Home


class Relay(Home):
    """sock: the IKE SA's. Everything here is framed: ESP, or IKE behind the marker."""

    is_framed = is_relayed = True
    _to = None

    def aim(self, home, server):
        """Packets go to that key server from now on; a floated config.Server."""
        try:
            self._to = home.of(server)
        except ConfigError:
            pass  # no name service just now: as before

    def send(self, view):
        return port.send(self.sock, view, self._to)
