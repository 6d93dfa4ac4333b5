"""Words of nf_tables, the kernel's packet filter, by netlink: so that `nft` need not be installed.

linux/netfilter/nf_tables.h; a change of several tables, chains and rules is one batch, which the
kernel takes as a whole or not at all. Numbers are big-endian here, headers the machine's.
"""

import errno
import os
import socket
import struct

from .netlink import MESSAGE, attribute, attributes

NETDEV = 5  # the family of chains that belong to a network card
NEW_TABLE, DEL_TABLE, NEW_CHAIN, NEW_RULE = 0, 2, 3, 6

LINK, NETWORK = 0, 1  # where an offset into a packet counts from
ACCEPT, DROP = 1, 0

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 10
_BEGIN, _END, _ERROR = 16, 17, 2
_REQUEST, _ACK, _CREATE, _APPEND = 1, 4, 0x400, 0x800
_GENERIC = struct.Struct(">BBH")  # family, version 0, resource
_STATUS = struct.Struct("@i")
_NESTED = 0x8000
_REGISTER, _VERDICT = 1, 0
_EGRESS = 1
_PROTOCOL, _OWNER = 1, 10  # of meta: EtherType; whose socket sent it
_GROUP_NFTABLES = 7
_ADD_MEMBERSHIP = 1
_SNDBUFFORCE, _RCVBUFFORCE = 32, 33
_SOL_NETLINK = 270
_SNDBUF = 1 << 20  # octets: of a batch with all the pairs that a plan may have
_RCVBUF = 8 << 20  # ... and of what is told of it, with what that costs the kernel
_ANSWERS_S = 5  # the kernel answers at once
_MOST_OCTETS = 1 << 16


# Statements of a rule: each goes on with the next one only where it holds.


def is_protocol(kind: bytes) -> bytes:
    """The frame's EtherType."""
    return _meta(_PROTOCOL) + _equals(kind)


def has_socket() -> bytes:
    """A socket of this machine has sent it: it isn't forwarded."""
    return _meta(_OWNER)


def holds(base: int, offset: int, value: bytes, mask: bytes | None = None) -> bytes:
    """What the packet has there, and so many octets of it."""
    where = _number(1, _REGISTER) + _number(2, base) + _number(3, offset)
    read = _expression("payload", where + _number(4, len(value)))
    if mask is not None and mask.strip(b"\xff"):
        held = _number(1, _REGISTER) + _number(2, _REGISTER) + _number(3, len(mask))
        held += _value(4, mask) + _value(5, bytes(len(mask)))
        read += _expression("bitwise", held)
    return read + _equals(value)


def verdict(code: int) -> bytes:
    """Counted, and over."""
    told = attribute(_NESTED | 2, attribute(_NESTED | 2, _number(1, code)))
    count = attribute(_NESTED | 1, attribute(1, b"counter\0"))
    return count + _expression("immediate", _number(1, _VERDICT) + told)


# Messages of a batch: (kind, body).


def table(name: str) -> bytes:
    return _name(1, name)


def egress_chain(table_name: str, name: str, card: str) -> bytes:
    """Looks at all that leaves by a card: what is sent, routed or bridged there."""
    hook = _number(1, _EGRESS) + _number(2, 0) + _name(3, card)
    named = _name(1, table_name) + _name(3, name)
    return named + attribute(_NESTED | 4, hook) + _number(5, ACCEPT) + _name(7, "filter")


def rule(table_name: str, chain: str, *statements: bytes) -> bytes:
    named = _name(1, table_name) + _name(2, chain)
    return named + attribute(_NESTED | 4, b"".join(statements))


class Door:
    """A netlink socket to the packet filter. OSError: this system hasn't it, or we may not."""

    def __init__(self):
        self._sock = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
        )
        self._sock.bind((0, 0))
        self.number = self._sock.getsockname()[0]  # by which what we change is known
        self._sock.settimeout(_ANSWERS_S)

    def change(self, messages: list[tuple[int, int, bytes]], *, only_check: bool = False) -> None:
        """(kind, flags, body) of each, all at once. only_check: ... but for doing it."""
        self._sock.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, _SNDBUF)
        batch = _message(_BEGIN, 0, 0, _GENERIC.pack(0, 0, _SUBSYSTEM))
        for number, (kind, flags, body) in enumerate(messages, 1):
            last = _ACK if number == len(messages) else 0
            head = _GENERIC.pack(NETDEV, 0, 0)
            batch += _message(_SUBSYSTEM << 8 | kind, flags | last, number, head + body)
        if not only_check:  # without an end it is undone
            batch += _message(_END, 0, 0, _GENERIC.pack(0, 0, _SUBSYSTEM))
        self._sock.send(batch)
        self._settle(len(messages))

    def _settle(self, last: int) -> None:
        """Reads until the last message is answered; the first error is what came of all."""
        failed = 0
        while True:
            for kind, number, _, body in messages_of(self._sock.recv(_MOST_OCTETS)):
                if kind != _ERROR:
                    continue
                failed = failed or -_STATUS.unpack_from(body)[0]
                if number in (0, last) or failed:
                    if failed:
                        raise OSError(failed, os.strerror(failed))
                    return

    def close(self) -> None:
        self._sock.close()


def listener() -> socket.socket:
    """Hears of each change that somebody makes to the packet filter."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    sock = socket.socket(socket.AF_NETLINK, kind, _NETLINK_NETFILTER)
    try:
        sock.bind((0, 0))
        sock.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _RCVBUF)
        sock.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NFTABLES)
    except OSError:
        sock.close()
        raise
    return sock


def tables_changed(sock: socket.socket, but_by: int) -> set[str | None]:
    """The tables of network cards that others than but_by have changed. None among them: more has
    been told than there was room for.
    """
    found: set[str | None] = set()
    while True:
        try:
            data = sock.recv(_MOST_OCTETS)
        except BlockingIOError:
            return found
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            found.add(None)
            continue
        for kind, _, by, body in messages_of(data):
            if kind >> 8 == _SUBSYSTEM and by != but_by and body[:1] == bytes([NETDEV]):
                found.add(_table_of(body[_GENERIC.size :]))


def messages_of(data: bytes):
    """(kind, sequence number, by whom, body) of each."""
    while len(data) >= MESSAGE.size:
        length, kind, _, number, by = MESSAGE.unpack_from(data)
        if not MESSAGE.size <= length <= len(data):
            return
        yield kind, number, by, data[MESSAGE.size : length]
        data = data[length + 3 & ~3 :]


def _table_of(octets: bytes) -> str:
    """Of whatever it is: the table's name is its first attribute."""
    return attributes(octets).get(1, b"").rstrip(b"\0").decode("utf-8", "replace")


def _message(kind: int, flags: int, number: int, body: bytes) -> bytes:
    flags |= _REQUEST
    return MESSAGE.pack(MESSAGE.size + len(body), kind, flags, number, 0) + body


def create(kind: int, body: bytes) -> tuple[int, int, bytes]:
    return kind, _CREATE | (_APPEND if kind == NEW_RULE else 0), body


def delete(kind: int, body: bytes) -> tuple[int, int, bytes]:
    return kind, 0, body


def _meta(key: int) -> bytes:
    return _expression("meta", _number(1, _REGISTER) + _number(2, key))


def _equals(value: bytes) -> bytes:
    return _expression("cmp", _number(1, _REGISTER) + _number(2, 0) + _value(3, value))


def _expression(name: str, data: bytes) -> bytes:
    told = attribute(1, name.encode() + b"\0") + attribute(_NESTED | 2, data)
    return attribute(_NESTED | 1, told)


def _value(kind: int, octets: bytes) -> bytes:
    return attribute(_NESTED | kind, attribute(1, octets))


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value))


def _name(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")
