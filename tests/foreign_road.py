"""The way of a foreign member to a key server that is at several ports, and changes on it."""

import select
import time

from foreign_nat import bound
from processes import PATIENCE_S

MARKER = bytes(4)


class Road:
    """A UDP socket towards a key server, on any of its ports. ports: {port: marker}."""

    def __init__(self, host, ports, at, source="127.0.0.1"):
        self.ports, self.to = ports, (host, at)
        self.sock, self._more = bound(source), []

    @property
    def address(self):
        return self.sock.getsockname()

    @property
    def marker(self):
        return self.ports[self.to[1]]

    def float(self, port):
        """The same host, at the port with the marker; our own port stays, as behind a NAT."""
        self.to = self.to[0], port

    def elsewhere(self, source="127.0.0.1"):
        """Another address and port of our own from now on; → the socket of the one before."""
        self._more.append(self.sock)
        self.sock = bound(source)
        return self._more[-1]

    def back(self, sock):
        self._more.append(self.sock)
        self.sock = sock

    def keep_alive(self):
        """RFC 3948 section 2.3."""
        self.sock.sendto(b"\xff", self.to)

    def send(self, message):
        self.sock.sendto(MARKER + message if self.marker else message, self.to)

    def receive(self, timeout_s=PATIENCE_S):
        """The next message, or None."""
        end = time.monotonic() + timeout_s
        while select.select([self.sock], [], [], max(0, end - time.monotonic()))[0]:
            data, address = self.sock.recvfrom(4096)
            assert address[0] == self.to[0], "from the address that was asked"
            assert self.ports[address[1]] == data.startswith(MARKER), "the marker"
            return data[4:] if self.ports[address[1]] else data
        return None

    def ask(self, message):
        self.send(message)
        answer = self.receive()
        assert answer is not None, "no answer"
        return answer

    def close(self):
        for sock in (self.sock, *self._more):
            sock.close()
