"""Addresses on MicroPython. Unix hands out raw sockaddrs (port in octets 2 to 3, IPv4 address in
4 to 7), lwIP (host, port).
"""

import socket

try:
    import network
except ImportError:  # a desktop
    network = None

from micropython import const

from covey.drops import ConfigError, sentence

_STATION = const(0)  # network.STA_IF
_NO_HOST = const(12)  # as sentences.py has them
_NO_ADDRESS = const(13)


def resolve(host, port):
    try:
        return socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_DGRAM)[0][-1]
    except OSError:
        raise ConfigError(sentence(_NO_HOST, host))


def octets_of(text):
    """The four octets of a dotted address."""
    try:
        octets = bytes([int(part) for part in text.split(".")])
    except ValueError:
        octets = b""
    if len(octets) != 4:
        raise ConfigError(sentence(_NO_ADDRESS, text))
    return octets


def place_of(address):
    """(host, port)"""
    if isinstance(address, tuple):
        return address
    host = "%d.%d.%d.%d" % (address[4], address[5], address[6], address[7])
    return host, address[2] << 8 | address[3]


def ipv4_of(address):
    if isinstance(address, tuple):
        return octets_of(address[0])
    return bytes(address[4:8])


def own_ipv4(address):
    """Sockets can't be asked; on a board the first interface that is up has the way: the wire
    before the air.
    """
    if ipv4_of(address)[0] == 127:
        return b"\x7f\0\0\1"
    for is_wired in (True, False):
        try:
            interface = network.LAN() if is_wired else network.WLAN(_STATION)
            if interface.isconnected():
                own = octets_of(interface.ifconfig()[0])
                if any(own):
                    return own
        except Exception:  # not there or not set up: each board says so by another error
            pass
    return None
