"""The gateway's sockets on its two cards, and what must be true of the cards. Linux.

Nothing plain can leave by the protected card: the sockets that read and write plain datagrams are
bound to the plant's card (SO_BINDTODEVICE), so that the system itself keeps to it.
"""

import ctypes
import errno
import socket
import struct
import sys
from pathlib import Path

from ..errors import FAILURE, MISUSE, Problem
from ..gcks.sockets import interface_address
from . import apart, encap, netlink

MOST_OCTETS = 2048  # of a plain datagram that is read

_RCVBUF = 1 << 20  # octets asked of the system: some 50 ms at 20,000 frames a second
_SO_RCVBUFFORCE = 33
_IP_MULTICAST_ALL = 49
_SO_ATTACH_FILTER = 26
_ETH_P_IP = 0x0800
_OUTGOING = 4  # PACKET_OUTGOING: what leaves by this card came from the protected side, or from us
_MREQN = struct.Struct("@4s4si")  # group, local address, card
# tcp[0:2] is the port of explicit messages, in an unfragmented IPv4 packet: (code, jt, jf, k)
_FILTER = (
    (0x30, 0, 0, 9),
    (0x15, 0, 6, 6),
    (0x28, 0, 0, 6),
    (0x45, 4, 0, 0x3FFF),
    (0xB1, 0, 0, 0),
    (0x48, 0, 0, 0),
    (0x15, 0, 1, encap.PORT),
    (0x06, 0, 0, 0x40000),
    (0x06, 0, 0, 0),
)


def check(plant: str, protected: str) -> list[tuple[int, str]]:
    """Problem where something but us is to carry from card to card, where they are no two wires,
    or a card is gone. The number and the address of each: of one that was taken out and put in it
    is another number, and all that was opened on it, the fence too, is gone; the memberships are
    bound to the address.
    """
    if sys.platform != "linux":
        raise Problem("covey gateway needs Linux.", FAILURE)
    found = []
    for card in (plant, protected):
        try:
            found.append(socket.if_nametoindex(card))
            _check_free(card)
        except OSError:
            raise Problem(f"There is no network card {card}.", MISUSE) from None
    try:
        apart.check(plant, protected, netlink.cards())
    except KeyError as error:
        raise Problem(f"There is no network card {error.args[0]}.", MISUSE) from None
    except OSError as error:
        raise Problem(f"What cards there are can't be told: {error.strerror}.", FAILURE) from None
    addresses = [interface_address(card) for card in (plant, protected)]
    return list(zip(found, addresses, strict=True))


def claim(plant: str) -> socket.socket:
    """This network namespace's only gateway of a plant's card, until the socket is closed: two
    would put their fences in place of each other's, without an end.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        sock.bind(f"\0covey-gateway/{plant}")
    except OSError as error:
        sock.close()
        if error.errno != errno.EADDRINUSE:
            raise _problem(error, "the gateway's lock") from error
        raise Problem(
            f"Another gateway works on {plant}: one for each plant's card. Stop it first, or give"
            " it this file's flows too.",
            MISUSE,
        ) from None
    return sock


def _check_free(card: str) -> None:
    for each in (card, *netlink.below(card)):
        master = netlink.master_of(each)
        if master is not None:
            raise Problem(
                f"{each} is a port of {master}: the gateway needs a card of its own on each"
                " side, and routes between them. A bridge passes frames by.",
                MISUSE,
            )
    if _is_routing(card):
        raise Problem(
            f"A multicast router works on {card}, and is to carry plain multicast by itself:"
            " stop it first.",
            MISUSE,
        )


def _is_routing(card: str) -> bool:
    try:
        return Path(f"/proc/sys/net/ipv4/conf/{card}/mc_forwarding").read_text().strip() != "0"
    except FileNotFoundError:
        return False  # a system without multicast routing


def plain_in(plant: str, group: bytes, port: int) -> socket.socket:
    """Hears what the plant's devices multicast to this group and port."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind_to(sock, plant)
        sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        sock.bind((socket.inet_ntoa(group), port))
        joined = _MREQN.pack(group, bytes(4), socket.if_nametoindex(plant))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
        return _ready(sock)
    except OSError as error:
        sock.close()
        raise _problem(error, f"UDP port {port} of {socket.inet_ntoa(group)}") from error


def plain_out(plant: str) -> socket.socket:
    """Takes whole IPv4 datagrams for the plant."""
    sock = _open(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    try:
        _bind_to(sock, plant)
        card = _MREQN.pack(bytes(4), bytes(4), socket.if_nametoindex(plant))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, card)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        sock.setblocking(False)
        return sock
    except OSError as error:
        sock.close()
        raise _problem(error, "the plant's raw socket") from error


def watch(plant: str) -> socket.socket:
    """Hears the TCP segments of explicit messaging that the plant's targets send through us."""
    program = b"".join(struct.pack("@HBBI", *step) for step in _FILTER)
    held = ctypes.create_string_buffer(program, len(program))
    sock = _open(socket.AF_PACKET, socket.SOCK_DGRAM, 0)  # hears nothing until it is bound
    try:
        pointer = struct.pack("@HP", len(_FILTER), ctypes.addressof(held))
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)
        sock.bind((plant, _ETH_P_IP))
        return _ready(sock)
    except OSError as error:
        sock.close()
        raise _problem(error, "the plant's packet socket") from error


def watched(sock: socket.socket) -> bytes | None:
    """The next IPv4 packet that a watch() has heard, empty where it was one that leaves; None:
    there is none.
    """
    try:
        data, (_, _, kind, *_) = sock.recvfrom(0xFFFF)
    except OSError:  # also where the card has just gone down
        return None
    return b"" if kind == _OUTGOING else data


def _open(family: int, kind: int, protocol: int) -> socket.socket:
    try:
        return socket.socket(family, kind, protocol)
    except PermissionError:
        raise Problem(
            "covey gateway needs raw sockets: run it as root or with CAP_NET_RAW.", FAILURE
        ) from None


def _bind_to(sock: socket.socket, card: str) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, card.encode())


def _ready(sock: socket.socket) -> socket.socket:
    widen(sock)
    sock.setblocking(False)
    return sock


def widen(sock: socket.socket) -> None:
    """Room for what comes while others have the processor: beyond the system's limit if we may."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RCVBUF)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RCVBUF)


def _problem(error: OSError, what: str) -> Problem:
    why = error.strerror or errno.errorcode.get(error.errno or 0, "")
    return Problem(f"{what[0].upper()}{what[1:]} can't be opened: {why}.", FAILURE)
