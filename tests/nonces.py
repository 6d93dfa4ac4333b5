"""No (key, nonce) pair twice: a witness of what the processes of a test send, watching by itself.

Each Bench (site_bench, foreign_bench) has a Witness of its ports from its making to its end, and
fails where a nonce came again under one key with other octets. Which key it was the SPIs tell (see
host/covey_host/cluster/wire.py).

What the test's own process sends is none of ours: it forges, replays, and plays foreign peers. Its
sockets mark their packets in the IP header (mark_own(), called by conftest.py).

It takes a packet socket, thus root on Linux; elsewhere nothing is watched.
"""

import socket
import struct
from contextlib import suppress
from hashlib import sha256

from covey_host.cluster import wire

TOS = 0x68  # of what this process sends
_ESP = 50  # IP protocol
_ROOM = 32 << 20


def mark_own():
    """From now on the sockets of this process mark what they send."""
    init = socket.socket.__init__

    def marking(sock, *args, **kwargs):
        init(sock, *args, **kwargs)
        if sock.family == socket.AF_INET and sock.type in (socket.SOCK_DGRAM, socket.SOCK_RAW):
            with suppress(OSError):
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, TOS)

    socket.socket.__init__ = marking


class Book:
    """What has been used."""

    def __init__(self):
        self.repeated = []  # in words
        self.uses = 0
        self._digests = {}  # (key, IV) → of the octets

    def note(self, data):
        """A UDP payload, or ESP."""
        message = data[4:] if data[:4] == bytes(4) else data
        found = wire.use_of(data)
        if found is None:
            return
        digest = sha256(message).digest()
        known = self._digests.setdefault(found, digest)
        self.uses += known is digest
        if known != digest:
            kind, key, iv = found
            self.repeated.append(f"{kind}: nonce {iv.hex()} again under {key.hex()}")


class Witness:
    """group: dotted, whose raw ESP is heard; ports: any of these, at either end. host: of the key
    server; what is neither of it nor to the group is others' that have the same well-known port.
    """

    def __init__(self, group, *ports, host="127.0.0.1"):
        self.book = Book()
        self._ends = {socket.inet_aton(host), socket.inet_aton(group)}
        (number,) = struct.unpack(">I", socket.inet_aton(group))
        self._sock = _packet_socket(_filter(number, ports))

    def look(self):
        """Note what has come until now → the Book."""
        with suppress(BlockingIOError):
            while self._sock:
                data, address = self._sock.recvfrom(1 << 16)
                if address[2] != wire.OUTGOING and self._ends & {data[12:16], data[16:20]}:
                    start = (data[0] & 15) * 4
                    self.book.note(data[start + (8 if data[9] == wire.UDP else 0) :])
        return self.book

    def close(self):
        """AssertionError where a nonce came twice."""
        if not self._sock:
            return
        self.look()
        lost = wire.lost_by(self._sock)
        self._sock.close()
        self._sock = None
        assert not self.book.repeated, self.book.repeated
        assert not lost, f"{lost} packets went by unseen"


def _packet_socket(code):
    """None where it may not be."""
    try:
        return wire.packet_socket(_ROOM, code)
    except (OSError, AttributeError):
        return None


def _filter(group, ports):
    """Unmarked UDP of these ports, and unmarked ESP to the group."""
    n = len(ports)
    return [
        (0x30, 0, 0, 1),  # TOS
        (0x15, 2 * n + 9, 0, TOS),
        (0x30, 0, 0, 9),  # protocol
        (0x15, 2 * n + 5, 0, _ESP),
        (0x15, 0, 2 * n + 6, wire.UDP),
        (0xB1, 0, 0, 0),  # X: where the IP header ends
        (0x48, 0, 0, 0),  # source port
        *((0x15, 2 * n + 4 - place, 0, port) for place, port in enumerate(ports)),
        (0x48, 0, 0, 2),  # destination port
        *((0x15, n + 3 - place, 0, port) for place, port in enumerate(ports)),
        (0x05, 0, 0, 2),  # none of them
        (0x20, 0, 0, 16),  # ESP: destination
        (0x15, 1, 0, group),
        (0x06, 0, 0, 0),
        (0x06, 0, 0, 1 << 16),
    ]
