"""How datagrams travel between a group and its Member. One small class a carrier, one socket each.

    UDP    RFC 3948: ESP in UDP, rekeys behind the non-ESP marker. Or a port of rekeys, bare
    IP     ESP as IP protocol 50: in ipcarrier.py, loaded where the policy says so
    Home   the IKE SA's socket, to and from the key server: IKE messages alone. In home.py
    Relay  the same, for a member with unicast delivery: in relay.py, loaded likewise

    sock               to wait for
    receive(member)    one datagram, if there is one: None if not, else what Member.receive says;
                       DROP_SOCKET asks for a pause
    message            after IKE_MESSAGE: its octets, without the marker
    source             who sent it, as Membership.unicast wants it; None: it came to the group
    send(view)         to the whole group: None, or the errno that the system gave
    task               reads it

Opening one raises ConfigError for what a person can mend.
"""

from covey import port
from covey.drops import DROP_CAPACITY, DROP_LENGTH, DROP_SOCKET, IKE_MESSAGE
from covey.port import const

_MARKER_LEN = const(4)
_NOTHING = const(-1)
_REKEY = const(1536)  # longest datagram with a rekey; a shorter rx is for ESP alone

_longer = []  # what has just come and is longer than rx


def open_for(place, is_framed, settings):
    """place: (address, UDP port), None as the port for protocol 50. is_framed: see Group."""
    if place[1] is None:
        from covey.ipcarrier import IP

        return IP(place[0], settings.interface, settings.ttl)
    return UDP(place, is_framed, settings)


class UDP:
    """is_framed: ESP and the marker; else only IKE messages come, as they are."""

    message = source = task = None

    def __init__(self, place, is_framed, settings):
        self.is_framed = is_framed
        self._to = port.resolve(*place)
        self.sock = port.group_socket(*place, settings.interface, settings.ttl)

    def receive(self, member):
        n = port.recv(self.sock, member.rx, _REKEY, _longer)
        if n < 0:
            return None if n == _NOTHING else member.drops.count(DROP_SOCKET)
        if _longer:  # it can only be a rekey
            return self._take(member, _longer.pop(), n)
        if self.is_framed:
            answer = member.receive(n, port.ticks_ms())
            if answer != IKE_MESSAGE:
                return answer
        elif n > len(member.rx):
            return member.drops.count(DROP_LENGTH)
        return self._take(member, member.rx, n)

    def _take(self, member, data, n):
        off = _MARKER_LEN if self.is_framed else 0
        try:
            if any(data[:off]):
                return member.drops.count(DROP_LENGTH)
            self.message = bytes(memoryview(data)[off:n])
        except MemoryError:
            return member.drops.count(DROP_CAPACITY)
        return IKE_MESSAGE

    def send(self, view):
        return port.send(self.sock, view, self._to)
