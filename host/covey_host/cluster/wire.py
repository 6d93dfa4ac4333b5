"""What passes over the loopback interface by UDP, and what each datagram has used up.

    use         of
    ESP         (SPI, IV)
    GSA_REKEY   (both SPIs, IV): under the Rekey SA; of its repeats each octet is the same
    IKE SA      (both SPIs, direction, IV): under the IKE SA, SK and SKF

It takes a packet socket: Linux, and root.
"""

import asyncio
import ctypes
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from covey import ike

from ..errors import Problem

GSA_REKEY, ESP, IKE_SA = "GSA_REKEY", "ESP", "IKE SA"
SK, SKF = 46, 53  # payloads that are encrypted
UDP = 17
OUTGOING = 4  # PACKET_OUTGOING: on its way out; it comes in, too
_ETHERNET_IP = 0x0800
_IKE_LEAST, _ESP_LEAST = 28, 36
_SOL_PACKET, _STATISTICS = 263, 6
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_RCVBUF = 64 << 20
_MOST = 1 << 16
Code = list[tuple[int, int, int, int]]  # classic BPF: operation, jump if true, if false, operand
_FILTER: Code = [(0x30, 0, 0, 9), (0x15, 0, 1, UDP), (0x06, 0, 0, _MOST), (0x06, 0, 0, 0)]


class Datagram(NamedTuple):
    at_s: float  # of time.monotonic()
    source: tuple[str, int]
    to: tuple[str, int]
    data: bytes

    @property
    def message(self) -> bytes:
        """Without the non-ESP marker."""
        return self.data[4:] if self.data[:4] == bytes(4) else self.data


class Ear:
    """Hears what goes from or to these ports. open(), then close(); Problem where it may not."""

    def __init__(self, ports: set[int], hear: Callable[[Datagram], None]):
        self.lost = 0  # which the system had no room for
        self._ports = ports
        self._hear = hear
        self._sock: socket.socket | None = None

    def open(self) -> None:
        try:
            self._sock = packet_socket(_RCVBUF, _FILTER)
        except (OSError, AttributeError):
            raise Problem("The wire is heard by a packet socket: be root, on Linux.") from None
        asyncio.get_running_loop().add_reader(self._sock, self._readable)

    def close(self) -> None:
        """All that has come was heard."""
        if self._sock is None:
            return
        asyncio.get_running_loop().remove_reader(self._sock)
        self._readable()
        self.lost += lost_by(self._sock)
        self._sock.close()
        self._sock = None

    def _readable(self) -> None:
        with suppress(BlockingIOError):
            while True:
                packet, address = self._sock.recvfrom(_MOST)
                start = (packet[0] & 15) * 4
                if address[2] == OUTGOING or packet[9] != UDP or len(packet) < start + 8:
                    continue
                source, to = struct.unpack_from(">HH", packet, start)
                if source in self._ports or to in self._ports:
                    ends = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
                    self._hear(
                        Datagram(
                            time.monotonic(),
                            (ends[0], source),
                            (ends[1], to),
                            packet[start + 8 :],
                        )
                    )


def packet_socket(room: int, code: Code) -> socket.socket:
    """One that hears IP on the loopback interface, as code lets it by. room: octets, for what is
    not read yet. OSError, or AttributeError, where it may not."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, room)
    octets = b"".join(struct.pack("HBBI", *line) for line in code)
    program = ctypes.create_string_buffer(octets)
    words = struct.pack("HL", len(code), ctypes.addressof(program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, words)
    sock.bind(("lo", _ETHERNET_IP))
    sock.setblocking(False)
    return sock


def lost_by(sock: socket.socket) -> int:
    """Packets that there was no room for since it was asked last."""
    return struct.unpack("II", sock.getsockopt(_SOL_PACKET, _STATISTICS, 8))[1]


def use_of(data: bytes) -> tuple[str, bytes, bytes] | None:
    """What a datagram has used: the kind, what tells the key, the IV. None where nothing in it
    is encrypted."""
    message = data[4:] if data[:4] == bytes(4) else data
    if is_ike(message):
        return _ike_use(message)
    if len(data) < _ESP_LEAST or not any(data[:4]):
        return None
    return ESP, data[:4], data[8:16]


def is_ike(message: bytes) -> bool:
    return (
        len(message) >= _IKE_LEAST
        and message[17] == 0x20
        and struct.unpack_from(">I", message, 24)[0] == len(message)
    )


def is_rekey(message: bytes) -> bool:
    return is_ike(message) and message[18] == ike.GSA_REKEY


def _ike_use(message: bytes) -> tuple[str, bytes, bytes] | None:
    kind, off = message[16], _IKE_LEAST
    while kind not in (SK, SKF):
        if not kind or off + 4 > len(message):
            return None
        kind, off = message[off], off + max(4, struct.unpack_from(">H", message, off + 2)[0])
    iv = off + (4 if kind == SK else 8)
    if message[18] == ike.GSA_REKEY:
        return GSA_REKEY, message[:16], message[iv : iv + 8]
    return IKE_SA, message[:16] + bytes([message[19] & ike.FLAG_I]), message[iv : iv + 8]
