"""Sending probes and counting those that come; asking whether a key server answers."""

import os
import select
import socket
import struct
import time
from contextlib import suppress

from covey import ike, port
from covey.drops import ConfigError

from ..errors import Problem
from . import probes

_MARKER = bytes(4)
_MOST_OCTETS = 2048
_ESP = 50
_NO_VERSION = 0x30
_QUESTION_LEN = 40
_IP_MULTICAST_ALL = 49  # Linux


class Sender:
    """Sends probes from one interface. raw: also as IP protocol 50, where the system lets us."""

    def __init__(self, interface: str, group: str = probes.GROUP):
        self._group = group
        self._udp = _sender(socket.SOCK_DGRAM, 0, interface)
        self._raw = None
        with suppress(OSError):
            self._raw = _sender(socket.SOCK_RAW, _ESP, interface)

    @property
    def has_raw(self) -> bool:
        return self._raw is not None

    def send_all(self, run: bytes, host: str | None, count: int = probes.COUNT) -> None:
        """A series: multicast, unicast (where there is a host) and raw ones by turns."""
        for number in range(count):
            self._send(self._udp, probes.MULTICAST, number, count, run, self._group)
            if host is not None:
                self._send(self._udp, probes.UNICAST, number, count, run, host)
            if self._raw is not None:
                self._send(self._raw, probes.RAW, number, count, run, self._group)
            time.sleep(probes.INTERVAL_S)

    def close(self) -> None:
        for sock in (self._udp, self._raw):
            if sock is not None:
                sock.close()

    def _send(self, sock, kind: int, number: int, count: int, run: bytes, host: str) -> None:
        try:
            sock.sendto(probes.emit(kind, number, count, run), (host, probes.PORT))
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise Problem(f"Nothing can be sent to {host} from here: {why}.") from error


class Listener:
    """Hears probes; says nothing. Problem where the port or the group can't be had."""

    def __init__(self, interface: str, group: str = probes.GROUP):
        self.tally = probes.Tally()
        self._sockets = []
        try:
            self._sockets.append(_plain(interface))
            self._sockets.append(port.group_socket(group, probes.PORT, interface, 1))
        except (ConfigError, OSError) as error:
            self.close()
            raise Problem(f"{str(error).rstrip('.')}.") from error
        self._raw = None
        with suppress(ConfigError):
            self._raw = port.esp_socket(group, interface, 1)

    @property
    def has_raw(self) -> bool:
        return self._raw is not None

    def listen(self, seconds: float, is_done=lambda tally: False) -> None:
        """Until the time is up, or it is done and nothing more has come for a while."""
        end = time.monotonic() + seconds
        sockets = self._sockets + ([self._raw] if self._raw else [])
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select(sockets, [], [], min(left, 1))
            for sock in ready:
                data, (source, _) = sock.recvfrom(_MOST_OCTETS)
                if sock is self._raw:
                    data = data[(data[0] & 15) * 4 :]
                self.tally.note(data, source)
            if not ready and is_done(self.tally):
                return

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()
        if getattr(self, "_raw", None):
            self._raw.close()


def answers(host: str, number: int, marker: bool, wait_s: float = 1.0) -> bool:
    """Whether a key server is there. Nothing is begun with it: see `question`."""
    asked, head = question(marker)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, suppress(OSError):
        sock.settimeout(wait_s / 2)
        sock.connect((host, number))
        for _ in range(2):
            sock.send(asked)
            with suppress(TimeoutError):
                if sock.recv(_MOST_OCTETS).startswith(head):
                    return True
    return False


def question(marker: bool) -> tuple[bytes, bytes]:
    """What a key server answers without keeping anything, and how the answer begins.

    An IKE message of a version that does not exist yet: RFC 7296 section 2.5 has it answered by
    INVALID_MAJOR_VERSION. It is longer than the answer: that comes under a flood, too.
    """
    spi = os.urandom(8)
    head = spi, bytes(8), 0, _NO_VERSION, ike.IKE_SA_INIT, ike.FLAG_I, 0, _QUESTION_LEN
    asked = struct.pack(">8s8sBBBBII", *head).ljust(_QUESTION_LEN, b"\0")
    lead = _MARKER if marker else b""
    return lead + asked, lead + spi


def _sender(kind: int, protocol: int, interface: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind, protocol)
    try:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
    except OSError:
        sock.close()
        raise
    return sock


def _plain(interface: str) -> socket.socket:
    """For what is sent to this machine alone."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((interface, probes.PORT))
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock
