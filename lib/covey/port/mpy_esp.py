"""Raw sockets of IP protocol 50 on MicroPython, for the ip carrier; loaded where it is used."""

import errno
import socket
import sys

from micropython import const

from covey.drops import ConfigError
from covey.port.mpy_address import resolve
from covey.port.mpy_socket import (
    IP_ADD_MEMBERSHIP,
    IS_LWIP,
    Socket,
    membership_of,
)

_IPPROTO_IP = const(0)
_SOCK_RAW = const(3)
_ESP = const(50)


def esp_socket(group, interface, ttl, loop=True):
    membership = membership_of(group, interface)
    if sys.platform == "darwin":
        raise ConfigError(
            "the ip carrier is not supported on this system, whose raw sockets change the IP"
            " header: give the group the udp carrier"
        )
    return Socket(_open_esp, group, 0, interface, membership, ttl, loop)


def _open_esp(sock, group, port, interface, membership, ttl, loop):
    try:
        system = joiner = sock.now = socket.socket(socket.AF_INET, _SOCK_RAW, _ESP)
    except OSError as e:
        raise ConfigError(_why_not_raw(e))
    if IS_LWIP:
        # lwIP lets UDP sockets join only; a raw one hears then what the interface takes.
        joiner = sock.helper = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    else:
        from covey.port.mpy_desktop import set_sending

        system.bind(resolve(group, port))
        set_sending(system, interface and membership[4:], ttl, loop)
    joiner.setsockopt(_IPPROTO_IP, IP_ADD_MEMBERSHIP, membership)


def _why_not_raw(e):
    if e.errno in (errno.EPERM, errno.EACCES):
        return (
            "the ip carrier needs a raw socket, which this user may not open: run as root or with"
            " CAP_NET_RAW, or give the group the udp carrier"
        )
    return "the ip carrier needs a raw socket, which can't be opened: error %d" % e.errno
