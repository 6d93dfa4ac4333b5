"""Two questions to Linux about its network cards, by rtnetlink(7): of the namespace we are in."""

import socket
import struct
from ipaddress import IPv4Address

_MESSAGE = struct.Struct("@IHHII")  # length, type, flags, sequence number, port
_LINK = struct.Struct("@BxHiII")
_ROUTE = struct.Struct("@BB10x")
_ATTRIBUTE = struct.Struct("@HH")
_CARD = struct.Struct("@I")

_REQUEST = 1
_NEW_LINK, _GET_LINK = 16, 18
_NEW_ROUTE, _GET_ROUTE = 24, 26
_LINK_MASTER = 10
_ROUTE_TO, _ROUTE_CARD = 1, 4

_ANSWERS_S = 5  # the kernel answers at once
_MOST_OCTETS = 1 << 16


def master_of(card: str) -> str | None:
    """The bridge, or bond, that a network card is a port of. OSError: there is no such card."""
    asked = _LINK.pack(socket.AF_UNSPEC, 0, socket.if_nametoindex(card), 0, 0)
    return _card(_ask(_GET_LINK, _NEW_LINK, asked, _LINK.size).get(_LINK_MASTER))


def card_towards(address: IPv4Address) -> str | None:
    """The network card by which the system reaches an address; None: it has no route there."""
    asked = _ROUTE.pack(socket.AF_INET, 32) + _ATTRIBUTE.pack(8, _ROUTE_TO) + address.packed
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
