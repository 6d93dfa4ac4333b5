"""MicroPython on Linux and macOS: options of sockets that lwIP doesn't have, and a clock whose
ticks of 64 bits wrap elsewhere. No board gets this file.

The socket module lacks most names, so options stand here by number.
"""

import socket
import sys
import time

from micropython import const

from covey.port.mpy_address import resolve

_RCVBUF_LEN = const(1048576)  # octets asked of the system for datagrams not yet read
_IPPROTO_IP = const(0)

_MASK = const(0x3FFFFFFF)  # ticks wrap at 2^30
_HALF = const(0x20000000)

(
    _SO_RCVBUF,
    _SO_REUSEPORT,
    _IP_MULTICAST_IF,
    _IP_MULTICAST_TTL,
    _IP_MULTICAST_LOOP,
    IP_ADD_MEMBERSHIP,
    NO_ADDRESS,
) = {
    "linux": (8, None, 32, 33, 34, 35, (19, 99)),
    "darwin": (0x1002, 0x0200, 9, 10, 11, 12, (19, 49)),
}[sys.platform]

# macOS sends from the address that is bound, and a group's can't be one: another socket sends.
_SENDS_APART = sys.platform == "darwin"


def share(system, host, port):
    """Group sockets on this port must not hinder us, a second server must."""
    if host != "0.0.0.0":
        return
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        other.bind(resolve("127.0.0.1", port))
    finally:
        other.close()
    system.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def bind_group(sock, group, port, interface, ttl, loop):
    """interface: four octets, or None."""
    system = sender = sock.now
    if _SO_REUSEPORT is not None:
        system.setsockopt(socket.SOL_SOCKET, _SO_REUSEPORT, 1)
    system.bind(resolve(group, port))
    if _SENDS_APART:
        sender = sock.sender = sock.helper = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.setblocking(False)
    set_sending(sender, interface, ttl, loop)


def set_sending(system, interface, ttl, loop):
    if interface:
        system.setsockopt(_IPPROTO_IP, _IP_MULTICAST_IF, interface)
    system.setsockopt(_IPPROTO_IP, _IP_MULTICAST_TTL, ttl)
    system.setsockopt(_IPPROTO_IP, _IP_MULTICAST_LOOP, int(loop))


def make_room(system):
    """For datagrams that nobody has read yet."""
    try:
        system.setsockopt(socket.SOL_SOCKET, _SO_RCVBUF, _RCVBUF_LEN)
    except OSError:
        pass  # the system's own size will do


def ticks_ms():
    return time.ticks_ms() & _MASK


def ticks_add(t, ms):
    if not -_HALF < ms < _HALF:
        raise OverflowError("ticks interval overflow")
    return t + ms & _MASK


def ticks_diff(a, b):
    return (a - b + _HALF & _MASK) - _HALF
