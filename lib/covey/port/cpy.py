"""CPython: `cryptography`, hashlib, the system's clock, files and sockets."""

import errno
import hashlib
import socket
import sys
import time

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from covey.drops import ConfigError
from covey.port.chance import random_bytes, stir
from covey.port.cpy_cmac import CMACContext as cmac_context
from covey.port.cpy_gcm import GCMContext, GMACContext, RareContext, buffer
from covey.port.cpy_path import (
    STEP_IS_DUE,
    accept,
    admit,
    find_spi,
    frame,
    heard,
    link,
    place,
    trim,
    unlink,
    word_of,
    words,
)

WAITING_SLOTS = 64

_MASK = 0x3FFFFFFF  # ticks wrap at 2^30
_HALF = 0x20000000
_ESP = 50
_RCVBUF = 1 << 20  # octets asked of the system for datagrams not yet read
# macOS sends from the address that is bound, and a group's can't be one: another socket sends.
_SENDS_APART = sys.platform == "darwin"


def const(value):
    return value


class micropython:
    """What MicroPython's compiler takes as a decorator."""

    @staticmethod
    def native(f):
        return f

    @staticmethod
    def viper(f):
        return f


if hasattr(time, "clock_gettime_ns"):
    # What is known of other clocks is wrong after a suspension that ours leaves out.
    _CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def ticks_ms():
        return time.clock_gettime_ns(_CLOCK) // 1_000_000 & _MASK

else:

    def ticks_ms():
        return time.monotonic_ns() // 1_000_000 & _MASK


def ticks_add(t, ms):
    if not -_HALF < ms < _HALF:
        raise OverflowError("ticks interval overflow")
    return t + ms & _MASK


def ticks_diff(a, b):
    return (a - b + _HALF & _MASK) - _HALF


def utc():
    return time.strftime("%Y%m%d%H%M%S", time.gmtime()).encode()


def collect():
    """Garbage goes by itself here."""


def unload(name):
    """Modules stay: memory is not scarce here."""


sha256 = hashlib.sha256
sha1 = hashlib.sha1


def later_kernels():
    from covey.port.cpy_later import (
        copy,
        holds,
        is_judged,
        is_same,
        keep,
        let_go,
        number_at,
        put_told,
        take,
    )

    return copy, is_same, number_at, (keep, take, let_go), (put_told, is_judged, holds)


class AESBlock:
    """Single AES blocks (ECB), which keep nothing of the block before."""

    def __init__(self, key):
        self._cipher = Cipher(algorithms.AES(bytes(key)), modes.ECB())
        self._ways = [None, None]  # made once each: that costs more than many blocks do

    def encrypt(self, block):
        if self._ways[0] is None:
            self._ways[0] = self._cipher.encryptor()
        return self._ways[0].update(block)

    def decrypt(self, block):
        if self._ways[1] is None:
            self._ways[1] = self._cipher.decryptor()
        return self._ways[1].update(block)


def tidy(filling):
    """See covey.port: this interpreter's allocator needs no help."""
    return
    yield


def mem_free():
    return 1 << 30


def read_file(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError as e:
        raise ConfigError(f"{path} can't be read: {e.strerror}") from None


def resolve(host, port):
    try:
        return socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_DGRAM)[0][4]
    except OSError:
        raise ConfigError(f"{host} is no known IPv4 host: check its name") from None


def udp_socket(host, port):
    address = resolve(host, port)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if port and address[0] == "0.0.0.0":
            # Group sockets on this port must not hinder us, a second server must.
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind(("127.0.0.1", port))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as e:
        sock.close()
        raise ConfigError(_why_not_bound(e, host, port)) from None
    return _made_ready(sock)


_senders = {}  # group socket → the one that sends for it


def group_socket(group, port, interface, ttl, loop=True):
    membership = _membership(group, interface)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    return _joined(sock, group, port, membership, interface, ttl, loop)


def esp_socket(group, interface, ttl, loop=True):
    membership = _membership(group, interface)
    if sys.platform != "linux":
        raise ConfigError(
            "the ip carrier is not supported on this system, whose raw sockets change the IP"
            " header: give the group the udp carrier"
        )
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, _ESP)
    except OSError as e:
        raise ConfigError(_why_not_raw(e)) from None
    return _joined(sock, group, 0, membership, interface, ttl, loop)


def _membership(group, interface):
    """What IP_ADD_MEMBERSHIP takes: the group's four octets, the interface's."""
    membership = _ipv4(group) + _ipv4(interface or "0.0.0.0")
    if not 224 <= membership[0] < 240:
        raise ConfigError(f"{group} is no multicast group: choose one in 224.0.0.0/4")
    return membership


def _joined(sock, group, port, membership, interface, ttl, loop):
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "darwin":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((group, port))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        sender = sock
        if _SENDS_APART:
            sender = _senders[sock] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sender.setblocking(False)
        if interface:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, membership[4:])
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, int(loop))
    except OSError as e:
        close(sock)
        raise ConfigError(_why_not_joined(e, group, port, interface)) from None
    return _made_ready(sock)


def _ipv4(text):
    """The four octets of a dotted address."""
    try:
        return socket.inet_pton(socket.AF_INET, text)
    except OSError:
        raise ConfigError(f"{text} is no IPv4 address: write it as 192.168.1.7") from None


def _made_ready(sock):
    sock.setblocking(False)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RCVBUF)
    except OSError:
        pass  # the system's own size will do
    return sock


def _why_not_bound(e, host, port):
    if e.errno == errno.EADDRINUSE:
        return f"UDP port {port} is in use: stop the other program or choose another port"
    if e.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine: give one that is, or 0.0.0.0"
    if e.errno in (errno.EACCES, errno.EPERM):
        return f"UDP port {port} may not be opened by this user: choose one from 1024 on"
    return f"UDP port {port} on {host} can't be opened: {e.strerror}"


def _why_not_raw(e):
    if e.errno in (errno.EPERM, errno.EACCES):
        return (
            "the ip carrier needs a raw socket, which this user may not open: run as root or with"
            " CAP_NET_RAW, or give the group the udp carrier"
        )
    return f"the ip carrier needs a raw socket, which can't be opened: {e.strerror}"


def _why_not_joined(e, group, port, interface):
    if e.errno in (errno.ENODEV, errno.EADDRNOTAVAIL):
        if interface:
            return f"{interface} is no address of an interface of this machine that does multicast"
        return f"there is no multicast route to {group}: name an interface by its address"
    return _why_not_bound(e, group, port)


def pollable(sock):
    return sock


def recv(sock, buf, most=0, longer=None):
    return recv_from(sock, buf, most, longer)[0]


def recv_from(sock, buf, most=0, longer=None):
    if most > len(buf):
        return _recv_longer(sock, buf, most, longer)
    try:
        n, _, flags, address = sock.recvmsg_into((buf,))
    except OSError as e:
        return _no_datagram(e), None
    if flags & socket.MSG_TRUNC:
        n = len(buf) + 1
    return n, address


def _recv_longer(sock, buf, most, longer):
    try:
        datagram, address = sock.recvfrom(most + 1)
    except OSError as e:
        return _no_datagram(e), None
    n = len(datagram)
    if n <= len(buf):
        buf[:n] = datagram
    elif n <= most:
        longer.append(datagram)
    return n, address


def recv_parts(sock, head, buf):
    try:
        n, _, flags, _ = sock.recvmsg_into((head, buf))
    except OSError as e:
        return _no_datagram(e)
    return len(head) + len(buf) + 1 if flags & socket.MSG_TRUNC else n


def _no_datagram(e):
    """What recv() says instead of a length."""
    if e.errno == errno.EBADF:
        raise e
    return -1 if e.errno == errno.EAGAIN else -2


def send(sock, view, address):
    try:
        _senders.get(sock, sock).sendto(view, address)
    except OSError as e:
        return e.errno


def source_address(sock):
    return sock.getsockname()


def ipv4_of(address):
    return socket.inet_aton(address[0])


def own_ipv4(address):
    """Asks the system by a socket that is connected and sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(address)
            return ipv4_of(probe.getsockname())
        except OSError:
            return None


def close(sock):
    sender = _senders.pop(sock, None)
    if sender:
        sender.close()
    sock.close()
