"""A NAT in front of foreign ends and ours: datagrams go on from another address and port.

A thread on loopback. Also what NAT_DETECTION_* hold, after RFC 7296 section 2.23.
"""

import hashlib
import itertools
import os
import select
import socket
import struct
import threading

NAT_SOURCE, NAT_DESTINATION = 16388, 16389
LIKE_500, LIKE_848, MARKED = 50500, 50848, 4500
PORTS = {LIKE_500: False, LIKE_848: False, MARKED: True}

_numbers = itertools.count(1)


def own_host():
    """An address of loopback that no other process uses: its ports 500, 848 and 4500 are free."""
    pid = os.getpid()
    return f"127.{64 + pid % 64}.{pid // 64 % 250 + 1}.{next(_numbers) % 250 + 1}"


def detection(spi_i, spi_r, address):
    """SHA-1 over SPIs, address and port, as the sender of the message sees them."""
    host, port = address
    return hashlib.sha1(spi_i + spi_r + socket.inet_aton(host) + struct.pack(">H", port)).digest()


def bound(host, port=0):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, port))
    return sock


class Nat:
    """Whoever talks to `host`, on the ports of the server, comes to the server from `outside`."""

    def __init__(self, server, ports):
        self.server, self.host, self.outside = server, own_host(), own_host()
        self._inner = {bound(self.host, port): port for port in ports}
        self._outer = {}  # inner address and port of the server → socket towards the server
        self._was = []  # sockets of mappings that are over
        self.seen = []  # (port of the server, octets) that went to the server, in order
        self.answers = 0  # how many datagrams the server sent by the mappings of now
        self.deaf = False  # loses all
        self._lock = threading.Lock()
        self._wake, self._waker = socket.socketpair()
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self):
        self._closing = True
        self._waker.send(b"x")
        self._thread.join()
        for sock in (*self._inner, *self._outer.values(), *self._was, self._wake, self._waker):
            sock.close()

    def rebind(self):
        """All mappings are new from now on: other ports, another address."""
        with self._lock:
            self._was += self._outer.values()
            self._outer, self.answers = {}, 0
            self.outside = own_host()

    def mapped(self, port):
        """Where the server sees the last one who talks to its port come from."""
        with self._lock:
            found = [sock.getsockname() for (_, at), sock in self._outer.items() if at == port]
        return found[-1]

    def keepalives(self):
        """How many have come, by port of the server."""
        return [port for port, data in list(self.seen) if data == b"\xff"]

    def _run(self):
        while not self._closing:
            with self._lock:
                outer = {sock: key for key, sock in self._outer.items()}
            ready, _, _ = select.select([*self._inner, *outer, self._wake], [], [], 0.2)
            for sock in ready:
                if sock in self._inner:
                    self._out(sock)
                elif sock in outer:
                    self._back(sock, *outer[sock])

    def _out(self, sock):
        data, client = sock.recvfrom(4096)
        port = self._inner[sock]
        with self._lock:
            out = self._outer.get((client, port))
            if out is None:
                out = self._outer[client, port] = bound(self.outside)
        if not self.deaf:
            self.seen.append((port, data))
            out.sendto(data, (self.server, port))

    def _back(self, sock, client, port):
        data, _ = sock.recvfrom(4096)
        with self._lock:
            self.answers += sock in self._outer.values()
        for inner, at in self._inner.items():
            if at == port and not self.deaf:
                inner.sendto(data, client)
