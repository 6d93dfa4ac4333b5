"""Questions to Linux about its network cards, by rtnetlink(7)."""

import socket
import struct
from ipaddress import IPv4Address

MESSAGE = struct.Struct("@IHHII")  # length, type, flags, sequence number, port

_LINK = struct.Struct("@BxHiII")
_ROUTE = struct.Struct("@BBB9x")  # family, bits of destination and source
_ATTRIBUTE = struct.Struct("@HH")
_CARD = struct.Struct("@I")

_REQUEST = 1
_NEW_LINK, _GET_LINK = 16, 18
_NEW_ROUTE, _GET_ROUTE = 24, 26
_LINK_BY, _LINK_MASTER, _LINK_INFO, _INFO_KIND = 5, 10, 18, 1
_ROUTE_TO, _ROUTE_CARD = 1, 4
_TYPES = 0x3FFF  # of an attribute, without its marks
_UPON = {b"vlan", b"macvlan", b"ipvlan"}  # cards that send by another one

_ANSWERS_S = 5  # the kernel answers at once
_MOST_OCTETS = 1 << 16


def master_of(card: str) -> str | None:
    """The bridge, or bond, that a network card is a port of. OSError: there is no such card."""
    return _card(_link(card).get(_LINK_MASTER))


def below(card: str) -> list[str]:
    """The cards by which one sends that has no plug of its own (VLAN), the nearest first."""
    found: list[str] = []
    while len(found) < 8:  # the kernel stacks no more
        told = _link(found[-1] if found else card)
        kind = attributes(told.get(_LINK_INFO, b"")).get(_INFO_KIND, b"").rstrip(b"\0")
        lower = _card(told.get(_LINK_BY)) if kind in _UPON else None
        if lower is None:
            break
        found.append(lower)
    return found


def card_towards(address: IPv4Address) -> str | None:
    """The network card by which the system reaches an address; None: it has no route there."""
    asked = _ROUTE.pack(socket.AF_INET, 32, 0) + attribute(_ROUTE_TO, address.packed)
    return _card(_ask(_GET_ROUTE, _NEW_ROUTE, asked, _ROUTE.size).get(_ROUTE_CARD))


def attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length & 3)


def attributes(octets: bytes) -> dict[int, bytes]:
    found = {}
    off = 0
    while off + _ATTRIBUTE.size <= len(octets):
        size, name = _ATTRIBUTE.unpack_from(octets, off)
        found[name & _TYPES] = octets[off + _ATTRIBUTE.size : off + size]
        off += max(size + 3 & ~3, _ATTRIBUTE.size)
    return found


def _link(card: str) -> dict[int, bytes]:
    asked = _LINK.pack(socket.AF_UNSPEC, 0, socket.if_nametoindex(card), 0, 0)
    return _ask(_GET_LINK, _NEW_LINK, asked, _LINK.size)


def _ask(kind: int, wanted: int, asked: bytes, head_len: int) -> dict[int, bytes]:
    """The attributes of the answer; none where it is an error."""
    head = MESSAGE.pack(MESSAGE.size + len(asked), kind, _REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(_ANSWERS_S)
        sock.send(head + asked)
        answer = sock.recv(_MOST_OCTETS)
    length, told, *_ = MESSAGE.unpack_from(answer)
    return attributes(answer[MESSAGE.size + head_len : length]) if told == wanted else {}


def _card(index: bytes | None) -> str | None:
    """None also where it is a card of another namespace."""
    try:
        return None if index is None else socket.if_indextoname(*_CARD.unpack(index))
    except OSError:
        return None
