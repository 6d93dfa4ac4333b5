"""Questions to Linux about its network cards, by rtnetlink(7) and proc(5)."""

import socket
import struct
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

_MESSAGE = struct.Struct("@IHHII")  # length, type, flags, sequence number, port
_LINK = struct.Struct("@BxHiII")
_ROUTE = struct.Struct("@BBB9x")  # family, bits of destination and source
_ATTRIBUTE = struct.Struct("@HH")
_CARD = struct.Struct("@I")

_REQUEST = 1
_NEW_LINK, _GET_LINK = 16, 18
_NEW_ROUTE, _GET_ROUTE = 24, 26
_LINK_MASTER = 10
_ROUTE_TO, _ROUTE_FROM, _ROUTE_BY, _ROUTE_CARD, _ROUTE_PROTOCOL = 1, 2, 3, 4, 27
_UDP = 17

_ANSWERS_S = 5  # the kernel answers at once
_MOST_OCTETS = 1 << 16


def master_of(card: str) -> str | None:
    """The bridge, or bond, that a network card is a port of. OSError: there is no such card."""
    asked = _LINK.pack(socket.AF_UNSPEC, 0, socket.if_nametoindex(card), 0, 0)
    return _card(_ask(_GET_LINK, _NEW_LINK, asked, _LINK.size).get(_LINK_MASTER))


def card_towards(address: IPv4Address) -> str | None:
    """The network card by which the system reaches an address; None: it has no route there."""
    return _route([(_ROUTE_TO, address.packed)])


def destinations(card: str) -> list[IPv4Address]:
    """Two addresses of each subnet that the system's main table has by a card, of which one at
    most is the card's own; and each single address that it has.
    """
    found = []
    for row in Path("/proc/net/route").read_text().splitlines()[1:]:
        name, to, _, _, _, _, _, mask, *_ = row.split()
        if name == card:
            network = IPv4Network((_address(to), str(_address(mask))))
            first = 1 if network.num_addresses > 2 else 0
            found += [network[n] for n in range(first, min(first + 2, network.num_addresses))]
    return found


def _address(octets: str) -> IPv4Address:
    """As the kernel prints it: a number of this machine."""
    return IPv4Address(struct.pack("@I", int(octets, 16)))


def routes_udp(card: str, source: IPv4Address, destination: IPv4Address) -> str | None:
    """The card by which UDP leaves that comes by `card`; None: the system lets it come to nothing.

    Of any port: rules for single ports don't see what is in fragments, so they don't count.
    """
    by = _CARD.pack(socket.if_nametoindex(card))
    ends = [(_ROUTE_TO, destination.packed), (_ROUTE_FROM, source.packed)]
    return _route([*ends, (_ROUTE_BY, by), (_ROUTE_PROTOCOL, bytes([_UDP]))])


def _route(attributes: list[tuple[int, bytes]]) -> str | None:
    asked = _ROUTE.pack(socket.AF_INET, 32, 32 if len(attributes) > 1 else 0)
    for name, value in attributes:
        asked += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), name) + value.ljust(4, b"\0")
    return _card(_ask(_GET_ROUTE, _NEW_ROUTE, asked, _ROUTE.size).get(_ROUTE_CARD))


def _ask(kind: int, wanted: int, asked: bytes, head_len: int) -> dict[int, bytes]:
    """The attributes of the answer; none where it is an error."""
    head = _MESSAGE.pack(_MESSAGE.size + len(asked), kind, _REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(_ANSWERS_S)
        sock.send(head + asked)
        answer = sock.recv(_MOST_OCTETS)
    length, told, *_ = _MESSAGE.unpack_from(answer)
    found = {}
    off = _MESSAGE.size + head_len
    while told == wanted and off + _ATTRIBUTE.size <= length:
        size, name = _ATTRIBUTE.unpack_from(answer, off)
        found[name] = answer[off + _ATTRIBUTE.size : off + size]
        off += max(size + 3 & ~3, _ATTRIBUTE.size)
    return found


def _card(index: bytes | None) -> str | None:
    return None if index is None else socket.if_indextoname(*_CARD.unpack(index))
