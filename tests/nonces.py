"""No (key, nonce) pair twice: a witness of what the processes of a test send, watching by itself.

Each Bench (site_bench, foreign_bench) has a Witness of its ports from its making to its end, and
fails where a nonce came again under one key with other octets. Which key it was the SPIs tell:

    ESP              (SPI, IV)
    GSA_REKEY        (both SPIs, IV): under the Rekey SA; of its repeats each octet is the same
    other messages   (both SPIs, direction, IV): under the IKE SA, SK and SKF

What the test's own process sends is none of ours: it forges, replays, and plays foreign peers. Its
sockets mark their packets in the IP header (mark_own(), called by conftest.py).

It takes a packet socket, thus root on Linux; elsewhere nothing is watched.
"""

import ctypes
import socket
import struct
from contextlib import suppress
from hashlib import sha256

from covey import ike

TOS = 0x68  # of what this process sends
_SK, _SKF = 46, 53
_IKE_LEAST, _ESP_LEAST = 28, 36
_ETHERNET_IP, _UDP, _ESP = 0x0800, 17, 50
_OUTGOING = 4  # PACKET_OUTGOING: on its way out; it comes in, too
_SOL_PACKET, _STATISTICS = 263, 6
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
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
        found = (
            ike_use(data) or ike_use(data[4:] if data[:4] == bytes(4) else b"") or esp_use(data)
        )
        if found is None:
            return
        digest = sha256(data).digest()
        known = self._digests.setdefault(found, digest)
        self.uses += known is digest
        if known != digest:
            kind, key, iv = found
            self.repeated.append(f"{kind}: nonce {iv.hex()} again under {key.hex()}")


def ike_use(data):
    """(kind, key, IV) of an IKE message that is encrypted, else None."""
    if (
        len(data) < _IKE_LEAST
        or data[17] != 0x20
        or struct.unpack_from(">I", data, 24)[0] != len(data)
    ):
        return None
    kind, off = data[16], _IKE_LEAST
    while kind not in (_SK, _SKF):
        if not kind or off + 4 > len(data):
            return None
        kind, off = data[off], off + max(4, struct.unpack_from(">H", data, off + 2)[0])
    iv = off + (4 if kind == _SK else 8)
    if data[18] == ike.GSA_REKEY:
        return "GSA_REKEY", data[:16], data[iv : iv + 8]
    return "IKE SA", data[:16] + bytes([data[19] & ike.FLAG_I]), data[iv : iv + 8]


def esp_use(data):
    if len(data) < _ESP_LEAST or not any(data[:4]):
        return None
    return "ESP", data[:4], data[8:16]


class Witness:
    """group: dotted, whose raw ESP is heard; ports: any of these, at either end. host: of the key
    server; what is neither of it nor to the group is others' that have the same well-known port.
    """

    def __init__(self, group, *ports, host="127.0.0.1"):
        self.book = Book()
        self._ends = {socket.inet_aton(host), socket.inet_aton(group)}
        self._sock = _packet_socket()
        if self._sock:
            (number,) = struct.unpack(">I", socket.inet_aton(group))
            _attach(self._sock, _filter(number, ports))

    def look(self):
        """Note what has come until now → the Book."""
        with suppress(BlockingIOError):
            while self._sock:
                data, address = self._sock.recvfrom(1 << 16)
                if address[2] != _OUTGOING and self._ends & {data[12:16], data[16:20]}:
                    start = (data[0] & 15) * 4
                    self.book.note(data[start + (8 if data[9] == _UDP else 0) :])
        return self.book

    def close(self):
        """AssertionError where a nonce came twice."""
        if not self._sock:
            return
        self.look()
        lost = struct.unpack("II", self._sock.getsockopt(_SOL_PACKET, _STATISTICS, 8))[1]
        self._sock.close()
        self._sock = None
        assert not self.book.repeated, self.book.repeated
        assert not lost, f"{lost} packets went by unseen"


def _packet_socket():
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
    except (OSError, AttributeError):
        return None
    _attach(sock, [(0x06, 0, 0, 0)])  # nothing, until we know what
    sock.bind(("lo", _ETHERNET_IP))
    sock.setblocking(False)
    return sock


def _attach(sock, code):
    """code: (operation, jump if true, if false, operand) of classic BPF."""
    octets = b"".join(struct.pack("HBBI", *line) for line in code)
    program = ctypes.create_string_buffer(octets)
    words = struct.pack("HL", len(code), ctypes.addressof(program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, words)


def _filter(group, ports):
    """Unmarked UDP of these ports, and unmarked ESP to the group."""
    n = len(ports)
    return [
        (0x30, 0, 0, 1),  # TOS
        (0x15, 2 * n + 9, 0, TOS),
        (0x30, 0, 0, 9),  # protocol
        (0x15, 2 * n + 5, 0, _ESP),
        (0x15, 0, 2 * n + 6, _UDP),
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
