"""What `make run CAPTURE=DIR` leaves of the wire: run.pcap, which tshark reads.

Where a packet socket may be opened (Linux, root) it holds the packets of the loopback interface as
they are; elsewhere what the demo's tap hears, the group's packets only, in headers made anew.
"""

import asyncio
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

LOOPBACK = "lo"
_ETHERNET_IP = 0x0800
_OUTGOING = 4  # PACKET_OUTGOING: the same packet comes once more, as received
_SOL_PACKET, _STATISTICS = 263, 6
_SO_RCVBUFFORCE = 33
_RCVBUF = 16 << 20
_LINKTYPE_RAW = 101  # a packet begins with its IP header
_UDP = 17
_MOST_OCTETS = 65536


class Recorder:
    """open(), then packets flow until close(). ports: of this run; group: its address."""

    def __init__(self, path: Path, group: str, ports: list[int]):
        self.path = path
        self.packets = 0
        self.lost = 0  # which the system had no room for
        self.trouble: str | None = None  # why nothing more is written
        self._group = socket.inet_aton(group)
        self._ports = set(ports)
        self._sock: socket.socket | None = None

    @property
    def by(self) -> str:
        """How packets were taken: all of them, or only those that the tap can hear."""
        return "socket" if self._sock else "tap"

    def open(self) -> None:
        """OSError where the file can't be made."""
        self.path.unlink(missing_ok=True)  # of an earlier run; it may be anything's name
        fd = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(fd, "wb")
        self._sock = _packet_socket()
        self._file.write(
            struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, _MOST_OCTETS, _LINKTYPE_RAW)
        )
        if self._sock:
            asyncio.get_running_loop().add_reader(self._sock, self._readable)

    def close(self) -> None:
        """All that has come is in the file."""
        if self._file.closed:
            return
        if self._sock:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._readable()
            counts = self._sock.getsockopt(_SOL_PACKET, _STATISTICS, 8)
            self.lost = struct.unpack("II", counts)[1]
            self._sock.close()
        self._guard(self._file.close)

    def note(self, data: bytes, source: tuple[str, int], to: tuple[str, int]) -> None:
        """A datagram that the tap has heard; written where there is no packet socket."""
        if not self._sock:
            self._write(_packet(data, source, to))

    def _readable(self) -> None:
        with suppress(BlockingIOError):
            while True:
                data, address = self._sock.recvfrom(_MOST_OCTETS)
                if address[2] != _OUTGOING and self._is_ours(data):
                    self._write(_checked(data))

    def _is_ours(self, packet: bytes) -> bool:
        """Other processes use the loopback interface, too."""
        start = (packet[0] & 15) * 4
        if packet[16] & 0xF0 == 0xE0:  # multicast, of this group or of another scene's
            return packet[16:20] == self._group
        if packet[9] != _UDP or len(packet) < start + 8:
            return False
        return not self._ports.isdisjoint(struct.unpack_from(">HH", packet, start))

    def _write(self, packet: bytes) -> None:
        now = time.time_ns()
        head = now // 10**9, now // 1000 % 10**6, len(packet), len(packet)
        self._guard(lambda: self._file.write(struct.pack("<IIII", *head) + packet))
        self.packets += not self.trouble

    def _guard(self, work: Callable) -> None:
        """A full disk ends the recording, not the run; a verdict says so."""
        if self.trouble is None:
            try:
                work()
            except OSError as error:
                self.trouble = f"{self.path}: {os.strerror(error.errno or 0)}"


def _packet_socket() -> socket.socket | None:
    if sys.platform != "linux":
        return None
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    except OSError:  # not root
        return None
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RCVBUF)
    try:
        sock.bind((LOOPBACK, _ETHERNET_IP))
    except OSError:
        sock.close()
        return None
    sock.setblocking(False)
    return sock


def _packet(data: bytes, source: tuple[str, int], to: tuple[str, int]) -> bytes:
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(to[0])
    udp = struct.pack(">HHHH", source[1], to[1], 8 + len(data), 0) + data
    head = struct.pack(">BBHIBBH", 0x45, 0, 20 + len(udp), 0, 1, _UDP, 0) + addresses
    return _checked(head[:10] + _sum(head).to_bytes(2) + head[12:] + udp)


def _checked(packet: bytes) -> bytes:
    """With UDP's checksum: the loopback interface leaves it to hardware that isn't there."""
    start = (packet[0] & 15) * 4
    is_part = int.from_bytes(packet[6:8]) & 0x3FFF
    if packet[9] != _UDP or is_part or len(packet) < start + 8:
        return packet
    udp = packet[start : start + 6] + bytes(2) + packet[start + 8 :]
    pseudo = packet[12:20] + struct.pack(">HH", _UDP, len(udp))
    return packet[:start] + udp[:6] + (_sum(pseudo + udp) or 0xFFFF).to_bytes(2) + udp[8:]


def _sum(octets: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    octets += bytes(len(octets) % 2)
    total = sum(struct.unpack(f">{len(octets) // 2}H", octets))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
