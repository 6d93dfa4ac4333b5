"""ESP as IP protocol 50, over a raw socket: see carrier.py."""

from covey import esp, ipv4, port
from covey.drops import DROP_LENGTH, DROP_SOCKET, DROP_UNKNOWN_SPI, IKE_MESSAGE
from covey.port import const

_NOTHING = const(-1)


class IP:
    """Here is neither marker nor keep-alive: everything is ESP, or nothing."""

    is_framed = False
    message = source = task = None

    def __init__(self, group, interface, ttl):
        self._group = bytes([int(octet) for octet in group.split(".")])
        self._head = bytearray(ipv4.HEADER)
        self._to = port.resolve(group, 0)
        self.sock = port.esp_socket(group, interface, ttl)

    def receive(self, member):
        n = port.recv_parts(self.sock, self._head, member.rx)
        if n < 0:
            return None if n == _NOTHING else member.drops.count(DROP_SOCKET)
        n = ipv4.strip(self._head, member.rx, n, self._group)
        if n < 0:
            return member.drops.count(n)
        if n < esp.LEAST:
            return member.drops.count(DROP_LENGTH)
        answer = member.receive(n, port.ticks_ms())
        if answer == IKE_MESSAGE:  # an SPI of zero is on no wire (RFC 4303 section 2.1)
            return member.drops.count(DROP_UNKNOWN_SPI)
        return answer

    def send(self, view):
        return port.send(self.sock, view, self._to)
