"""Explicit messages of EtherNet/IP, as far as they tell which class 1 connections are open.

ODVA's EtherNet/IP specification (CIP volume 2) chapter 2, and the Connection Manager object of CIP
volume 1. Little-endian, but for the sockaddr items. Only replies are read: that of Forward_Open
names the connection, its numbers and the multicast address; that of Forward_Close its owner.

     0          2        4                8        12            20        24
    +----------+--------+----------------+--------+-------------+---------+
  0 | command  | length | session handle | status | context     | options |   header
    +----------+--------+----------------+--------+-------------+---------+
     0                  4         6
    +------------------+---------+---------+------ - - -
 24 | interface handle | timeout | items n | n items: type, length, data      SendRRData
    +------------------+---------+---------+------ - - -

Items: null address (0x0000), unconnected data (0x00B2), sockaddr O→T (0x8000), T→O (0x8001).
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

HEADER = 24
PORT = 44818

_SEND_RR_DATA = 0x006F
# NOP, List*, RegisterSession, UnRegisterSession, SendRRData, SendUnitData, IndicateStatus,
# Cancel, StartDTLS
_COMMANDS = {0x00, 0x04, 0x63, 0x64, 0x65, 0x66, 0x6F, 0x70, 0x72, 0x73, 0xC8}
_NULL_ADDRESS = 0x0000
_UNCONNECTED = 0x00B2
_SOCKADDR_TO = 0x8001  # of what the target produces
_MOST_ITEMS = 8
_FORWARD_OPENED = (0xD4, 0xDB)  # replies: Forward_Open, Large_Forward_Open
_FORWARD_CLOSED = 0xCE
_AF_INET = 2

_HEAD = struct.Struct("<HHIIQI")
_ITEM = struct.Struct("<HH")
_OPENED = struct.Struct(
    "<4s4s8sIIBx"
)  # O→T ID, T→O ID, whose, O→T API, T→O API, words that follow
_CLOSED = struct.Struct("<8sBx")
_SOCKADDR = struct.Struct(">hH4s8x")


class Malformed(Exception):
    """What the message has instead of what its layout asks for: a name for a counter."""


@dataclass(frozen=True)
class Opened:
    """A connection whose target multicasts, from the reply to its Forward_Open."""

    connection: bytes  # T→O network connection ID, as on the wire
    owner: bytes  # connection serial number, originator's vendor ID and serial number
    address: IPv4Address
    port: int
    interval_us: int  # actual packet interval T→O


@dataclass(frozen=True)
class Closed:
    owner: bytes


def length_of(head: bytes) -> int | None:
    """Octets of the message that these 24 or more begin; None: no message begins so."""
    command, length, _, _, _, options = _HEAD.unpack_from(head)
    return None if command not in _COMMANDS or options else HEADER + length


def is_reply(text: bytes) -> bool:
    """Whether octets begin with the head of what parse() reads: so much is no coincidence."""
    if len(text) < HEADER + 4 or length_of(text) is None:
        return False
    command, _, session, status, _, _ = _HEAD.unpack_from(text)
    return command == _SEND_RR_DATA and session != 0 and not status and not any(text[24:28])


def parse(message: bytes) -> Opened | Closed | None:
    """A whole message of a target, header and all. None: it is about something else, or refuses.

    Malformed where it claims to be such a reply and isn't laid out so.
    """
    command, _, _, status, _, _ = _HEAD.unpack_from(message)
    if command != _SEND_RR_DATA or status:
        return None
    items = _items(message)
    if len(items) < 2 or items[0] != (_NULL_ADDRESS, b"") or items[1][0] != _UNCONNECTED:
        return None
    reply = items[1][1]
    if len(reply) < 4 or reply[2]:  # its general status: refused
        return None
    body = reply[4 + 2 * reply[3] :]
    if reply[0] == _FORWARD_CLOSED:
        return Closed(_unpack(_CLOSED, body)[0])
    if reply[0] not in _FORWARD_OPENED:
        return None
    _, connection, owner, _, interval_us, words = _unpack(_OPENED, body)
    if len(body) != _OPENED.size + 2 * words:
        raise Malformed("reply_length")
    return _multicast(items[2:], connection, owner, interval_us)


def _multicast(items, connection, owner, interval_us) -> Opened | None:
    told = [data for kind, data in items if kind == _SOCKADDR_TO]
    if not told:
        return None  # the target sends to the originator alone
    if len(told) > 1 or len(told[0]) != _SOCKADDR.size:
        raise Malformed("sockaddr_item")
    family, port, octets = _SOCKADDR.unpack(told[0])
    address = IPv4Address(octets)
    if family != _AF_INET:
        raise Malformed("sockaddr_item")
    return Opened(connection, owner, address, port, interval_us) if address.is_multicast else None


def _items(message: bytes) -> list[tuple[int, bytes]]:
    """(type, data) of each item of the common packet format."""
    if len(message) < HEADER + 8:
        raise Malformed("short")
    (count,) = struct.unpack_from("<H", message, HEADER + 6)
    if count > _MOST_ITEMS:
        raise Malformed("item_count")
    found, off = [], HEADER + 8
    for _ in range(count):
        if len(message) < off + _ITEM.size:
            raise Malformed("item_cut")
        kind, length = _ITEM.unpack_from(message, off)
        off += _ITEM.size
        if len(message) < off + length:
            raise Malformed("item_cut")
        found.append((kind, message[off : off + length]))
        off += length
    return found


def _unpack(layout: struct.Struct, body: bytes) -> tuple:
    if len(body) < layout.size:
        raise Malformed("reply_short")
    return layout.unpack_from(body)
