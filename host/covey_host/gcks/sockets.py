"""The key server's UDP sockets: one an entry of `listen`, with or without the non-ESP marker.

RFC 3948 section 2.2: on port 4500 an IKE message follows four zero octets; anything else there is
ESP. RFC 7296 section 2.23: on 500 (and 848) it comes as it is. An answer leaves from the socket
and the local address that its request came to, so that a server with several addresses works.
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address
from typing import NamedTuple

from covey import drops

from ..errors import MISUSE, Problem
from .thinning import Thinning

_MARKER = bytes(4)
_MOST_OCTETS = 16384  # of one datagram; an IKE message of ours stays far below
_RCVBUF = 4 << 20  # octets asked of the system: a plant that powers up registers all at once

# Linux and macOS; Python knows the names from 3.12 on, Linux only.
_IP_PKTINFO = {"linux": 8, "darwin": 26}.get(sys.platform)
_IP_MULTICAST_ALL = 49 if sys.platform == "linux" else None
_PKTINFO = struct.Struct("@i4s4s")  # interface index, local address, destination address
_ADDRESS = struct.Struct(">B4sH4sH??")
PACKED_LEN = _ADDRESS.size


class Address(NamedTuple):
    """A peer as seen by one of our sockets: opaque to the key server, which only hands it back."""

    endpoint: int  # which entry of `listen`
    host: str
    port: int
    local: bytes  # our address that the peer wrote to; empty where the system doesn't say
    local_port: int = 0
    marker: bool = True  # whether IKE messages have it there, so that ESP can come too

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def packed(self) -> bytes:
        """As it goes to another of our processes: PACKED_LEN octets."""
        host, local = socket.inet_aton(self.host), self.local or bytes(4)
        ours = self.local_port, bool(self.local), self.marker
        return _ADDRESS.pack(self.endpoint, host, self.port, local, *ours)

    @classmethod
    def unpacked(cls, data: bytes) -> "Address":
        endpoint, host, port, local, local_port, has_local, marker = _ADDRESS.unpack(data)
        local = local if has_local else b""
        return cls(endpoint, socket.inet_ntoa(host), port, local, local_port, marker)


class Esp(NamedTuple):
    """A datagram that is no IKE message."""

    data: bytes
    address: Address


class Endpoint:
    """One bound socket. Sends and receives IKE messages; the marker stays in here."""

    def __init__(
        self,
        number: int,
        host: str,
        port: int,
        marker: bool,
        sock: socket.socket | None = None,
    ):
        """sock: bound already. Problem where the port can't be opened."""
        self.number, self.host, self.port, self.marker = number, host, port, marker
        self.sock = sock or _bound(host, port)
        self.sock.setblocking(False)
        with suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RCVBUF)
        if _IP_PKTINFO is not None:
            self.sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        self.thinning = Thinning(self.sock, marker)
        if _IP_MULTICAST_ALL is not None:  # no datagrams of groups that others here have joined
            self.sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def twin(self) -> "Endpoint":
        """Another socket of the same port: the system shares out among them what comes, by
        whom it comes from. Linux alone does so. Problem where it can't be opened."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:  # only from here on can others of this user bind the port: the first was alone
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                sock.setsockopt(socket.SOL_SOCKET, option, 1)
            sock.bind((self.host, self.port))
        except OSError as error:
            sock.close()
            raise _not_bound(error, self.host, self.port) from None
        return Endpoint(self.number, self.host, self.port, self.marker, sock)

    def receive(self, most: int) -> Iterator[tuple[bytes, Address] | Esp | int]:
        """Up to `most` waiting datagrams: an IKE message and where it came from, ESP, a DROP_*."""
        for _ in range(most):
            try:
                data, ancillary, flags, (host, port) = self.sock.recvmsg(
                    _MOST_OCTETS, socket.CMSG_SPACE(_PKTINFO.size)
                )
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of an earlier answer, now read away
            if flags & socket.MSG_TRUNC:
                yield drops.DROP_LENGTH
                continue
            message = self._unframed(data)
            if isinstance(message, int) and message != drops.DROP_UNKNOWN_SPI:
                yield message
                continue
            ours = _local(ancillary), self.port, self.marker
            address = Address(self.number, host, port, *ours)
            yield Esp(data, address) if isinstance(message, int) else (message, address)

    def send(self, data: bytes, address: Address) -> int:
        """Answer where a request came from: 0, or the errno that the system gave."""
        return self.send_esp(_MARKER + data if self.marker else data, address)

    def send_esp(self, data: bytes, address: Address) -> int:
        """The same, octets as they are."""
        ancillary = []
        if address.local and _IP_PKTINFO is not None:
            info = _PKTINFO.pack(0, address.local, bytes(4))
            ancillary = [(socket.IPPROTO_IP, _IP_PKTINFO, info)]
        return self._send(data, ancillary, (address.host, address.port))

    def send_multicast(
        self, data: bytes, marker: bool, group: str, port: int, interface: str | None, ttl: int
    ) -> int:
        """Send to a group, looped back to members on this machine: 0, or the errno."""
        try:
            out = socket.inet_aton(interface or "0.0.0.0")
            self.sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, out)
            self.sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
            self.sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        except OSError as error:
            return error.errno or errno.EIO
        return self._send(_MARKER + data if marker else data, [], (group, port))

    def close(self) -> None:
        self.sock.close()

    def _unframed(self, data: bytes) -> bytes | int:
        if not data:
            return drops.DROP_EMPTY
        if not self.marker:
            return data
        if data == b"\xff":
            return drops.DROP_KEEPALIVE
        if len(data) < len(_MARKER):
            return drops.DROP_LENGTH
        if data[:4] != _MARKER:
            return drops.DROP_UNKNOWN_SPI  # ESP: a key server has no data SA of its own
        return data[4:]

    def _send(self, data: bytes, ancillary: list, address: tuple[str, int]) -> int:
        try:
            self.sock.sendmsg([data], ancillary, 0, address)
        except OSError as error:
            return error.errno or errno.EIO
        return 0


def is_multicast(text) -> bool:
    try:
        return IPv4Address(text).is_multicast
    except ValueError:
        return False


def check_interface(address: str) -> None:
    """Problem where no network card of this machine has this address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            out = socket.inet_aton(address)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, out)
        except OSError:
            raise Problem(
                f"{address} is no address of this machine: give --interface one that is.", MISUSE
            ) from None


def check_route(group: str, interface: str | None) -> None:
    """Problem where nothing can be sent to this group from here."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        if interface:
            check_interface(interface)
            out = socket.inet_aton(interface)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, out)
        try:
            sock.connect((group, 9))  # only looks up the route
        except OSError as error:
            raise Problem(
                f"There is no multicast route to {group} ({os.strerror(error.errno or 0)}): name"
                " the network card with --interface, or add a route."
            ) from None


def interface_address(text: str) -> str:
    """The IPv4 address of a network interface that is named by its name or by its address."""
    with suppress(OSError, ValueError):
        return socket.inet_ntop(socket.AF_INET, socket.inet_pton(socket.AF_INET, text))
    name = text.encode("utf-8", "replace")
    if len(name) < 16 and b"\0" not in name:
        request = {"linux": 0x8915, "darwin": 0xC0206921}.get(sys.platform)  # SIOCGIFADDR
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, suppress(OSError):
            return socket.inet_ntoa(_ioctl(sock, request, struct.pack("16s16x", name))[20:24])
    raise Problem(
        f"{text!r} is no interface with an IPv4 address: give its name or address.", MISUSE
    )


def own_address() -> str:
    """The address by which others most likely reach this machine: that of its default route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # documentation address; nothing is sent
            return sock.getsockname()[0]
        except OSError:
            return "127.0.0.1"


def _ioctl(sock: socket.socket, request: int | None, argument: bytes) -> bytes:
    import fcntl

    if request is None:
        raise OSError(errno.ENOSYS, "no such request on this system")
    return fcntl.ioctl(sock, request, argument)


def _local(ancillary: list) -> bytes:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO) and len(data) >= _PKTINFO.size:
            return _PKTINFO.unpack_from(data)[1]
    return b""


def _bound(host: str, port: int) -> socket.socket:
    """A socket that shares its port with group sockets on this machine, never with a server."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        try:
            sock.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or host != "0.0.0.0":
                raise
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind(("127.0.0.1", port))  # fails where it is more than a group socket
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
        # From here on group sockets may bind the port too; a plain bind of another server fails.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except OSError as error:
        sock.close()
        raise _not_bound(error, host, port) from None
    except OverflowError:
        sock.close()
        raise Problem(f"{port} is no UDP port: choose one from 1 to 65535.", MISUSE) from None
    return sock


def _not_bound(error: OSError, host: str, port: int) -> Problem:
    if error.errno == errno.EADDRINUSE:
        return Problem(
            f"UDP port {port} on {host} is in use: stop the other program (another key server, an"
            " IPsec daemon?) or choose another port in covey.toml."
        )
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return Problem(f"{host} is no address of this machine: correct `listen` in covey.toml.")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Problem(f"UDP port {port} needs root: choose one from 1024 on in covey.toml.")
    return Problem(
        f"UDP port {port} on {host} can't be opened ({error.strerror}): check `listen` in"
        " covey.toml."
    )
