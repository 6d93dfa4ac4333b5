"""Questions to Linux about its network cards, by rtnetlink(7)."""

import errno
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

MESSAGE = struct.Struct("@IHHII")  # length, type, flags, sequence number, port

_LINK = struct.Struct("@BxHiII")
_ROUTE = struct.Struct("@BBB9x")  # family, bits of destination and source
_ATTRIBUTE = struct.Struct("@HH")
_CARD = struct.Struct("@I")
_SPACE = struct.Struct("@i")
_TAG = struct.Struct("@H")

_REQUEST, _DUMP, _WAS_CHANGED = 1, 0x300, 0x10
_ERROR, _DONE = 2, 3
_NEW_LINK, _GET_LINK = 16, 18
_NEW_ROUTE, _GET_ROUTE = 24, 26
_LINK_NAME, _LINK_BY, _LINK_MASTER, _LINK_INFO, _LINK_SPACE, _LINK_MASK = 3, 5, 10, 18, 37, 29
_INFO_KIND, _INFO_DATA, _VLAN_TAG = 1, 2, 1
_NO_STATISTICS = 8
_ROUTE_TO, _ROUTE_CARD = 1, 4
_TYPES = 0x3FFF  # of an attribute, without its marks
_UPON = {"vlan", "macvlan", "ipvlan"}  # cards that send by another one

_ANSWERS_S = 5  # the kernel answers at once
_MOST_OCTETS = 1 << 16


@dataclass(frozen=True)
class Card:
    name: str
    kind: str | None = None  # None: it has a plug
    link: tuple[int | None, int] | None = None  # the card below, or a veth's other end
    master: int | None = None  # the bridge, or bond, that it is a port of
    tag: int | None = None  # a VLAN's


def cards() -> dict[tuple[int | None, int], Card]:
    """All of this namespace, {(None, number): card}. A link has the id of its namespace, None for
    this one.
    """
    for _ in range(8):
        found = _dump()
        if found is not None:
            return found
    raise OSError(errno.EAGAIN, "the network cards change all the time")


def _dump() -> dict[tuple[int | None, int], Card] | None:
    """None: some were changed meanwhile."""
    asked = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    asked += attribute(_LINK_MASK, _CARD.pack(_NO_STATISTICS))
    head = MESSAGE.pack(MESSAGE.size + len(asked), _GET_LINK, _REQUEST | _DUMP, 1, 0)
    found = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(_ANSWERS_S)
        sock.send(head + asked)
        was_changed = False
        while True:
            answer = sock.recv(_MOST_OCTETS)
            while len(answer) >= MESSAGE.size:
                length, told, flags, *_ = MESSAGE.unpack_from(answer)
                was_changed = was_changed or bool(flags & _WAS_CHANGED)
                if told == _ERROR:
                    raise OSError(errno.EIO, "the network cards can't be read")
                if told == _DONE:
                    return None if was_changed else found
                _, _, number, *_ = _LINK.unpack_from(answer, MESSAGE.size)
                octets = attributes(answer[MESSAGE.size + _LINK.size : length])
                found[None, number] = _card_told(octets)
                answer = answer[length + 3 & ~3 :]


def _card_told(told: dict[int, bytes]) -> Card:
    link = _whole(told.get(_LINK_BY), _CARD)
    tag = None
    if _kind(told) == "vlan":
        data = attributes(attributes(told[_LINK_INFO]).get(_INFO_DATA, b""))
        tag = _whole(data.get(_VLAN_TAG), _TAG)
    return Card(
        told.get(_LINK_NAME, b"").rstrip(b"\0").decode("utf-8", "surrogateescape"),
        _kind(told),
        (_whole(told.get(_LINK_SPACE), _SPACE), link) if link else None,
        _whole(told.get(_LINK_MASTER), _CARD),
        tag,
    )


def _kind(told: dict[int, bytes]) -> str | None:
    kind = attributes(told.get(_LINK_INFO, b"")).get(_INFO_KIND)
    return None if kind is None else kind.rstrip(b"\0").decode("utf-8", "replace")


def _whole(octets: bytes | None, form: struct.Struct) -> int | None:
    return None if octets is None else form.unpack_from(octets)[0]


def master_of(card: str) -> str | None:
    """The bridge, or bond, that a network card is a port of. OSError: there is no such card."""
    return _card(_link(card).get(_LINK_MASTER))


def below(card: str) -> list[str]:
    """The cards by which one sends that has no plug of its own (VLAN), the nearest first."""
    found: list[str] = []
    while len(found) < 8:  # the kernel stacks no more
        told = _link(found[-1] if found else card)
        is_here = _kind(told) in _UPON and _LINK_SPACE not in told
        lower = _card(told.get(_LINK_BY)) if is_here else None
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
