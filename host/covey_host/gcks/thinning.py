"""More comes than is worked on: first requests are thinned, by lot, where that costs nothing.

What comes while a socket's queue is full is lost, whatever it is. Under a flood of first requests
that would be the cookies and the proofs of those, too, who are on their way in. So while the queue
is half full, or as much waits behind it (inbox.py), some of the first requests are turned away
before it, by a filter in the kernel (Linux: SO_ATTACH_FILTER): the rest has less to wait for, and
members repeat them. Everything else passes; so does all where the queues are short.
"""

import ctypes
import socket
import struct
import sys
from contextlib import suppress

from covey import ike

_IS_LINUX = sys.platform.startswith("linux")
_ATTACH_FILTER, _DETACH_FILTER, _MEMINFO = 26, 27, 55  # asm-generic/socket.h
_FACTS = struct.Struct("9I")  # SK_MEMINFO_*, as far as these:
# Octets in the queue, and at most; datagrams that never came into it
_HELD, _MOST, _LOST = 0, 1, 8
_RANDOM = (1 << 32) - 4096 + 56  # SKF_AD_OFF + SKF_AD_RANDOM
_LOAD_OCTET, _LOAD_WORD, _IF_EQUAL, _IF_MORE, _RETURN = 0x30, 0x20, 0x15, 0x25, 6
_UDP_LEN, _MARKER_LEN = 8, 4

THIN_MS = 25  # from one look at a queue that was full to the next, where nothing arrives
_TICK_S = 0.02  # from one change to the next
_LESS, _MORE = 0.6, 1.15  # each changes what passes by so much
_BEHIND = 8192  # first requests that were read and still wait: as a full queue
_LEAST = 1 / 256  # of the first requests that pass


class Thinning:
    """Of one socket. marker: whether IKE messages have it there; else all are IKE messages."""

    def __init__(self, sock: socket.socket, marker: bool):
        self._sock, self._marker = sock, marker
        self._passes = 1.0
        self._next_s = 0.0
        if _IS_LINUX:
            with suppress(OSError):  # of a process that had this socket before
                sock.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)

    @property
    def is_on(self) -> bool:
        """Whether something is turned away: follow() is to be called soon."""
        return self._passes < 1

    @property
    def lost(self) -> int:
        """Datagrams that were turned away, or found the queue full, since the start."""
        facts = self._facts()
        return facts[_LOST] if facts else 0

    def follow(self, now_s: float, behind: int = 0) -> None:
        """Let more or less of them through, as the queue is, and as many wait behind it."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + _TICK_S
        facts = self._facts()
        if facts is None:
            return
        share = max(facts[_HELD] / max(1, facts[_MOST]), behind / _BEHIND)
        if share > 1 / 2:
            self._let_pass(max(_LEAST, self._passes * _LESS))
        elif share < 1 / 8 and self.is_on:
            self._let_pass(min(1.0, self._passes * _MORE))

    def _let_pass(self, share: float) -> None:
        if share == self._passes:
            return
        try:
            if share < 1:
                self._attach(_program(self._marker, int(share * 0xFFFFFFFF)))
            else:
                self._sock.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)
        except OSError:
            return  # not here: then what finds no room is lost
        self._passes = share

    def _attach(self, program: list[tuple[int, int, int, int]]) -> None:
        code = b"".join(struct.pack("=HBBI", *line) for line in program)
        held = ctypes.create_string_buffer(code, len(code))
        told = struct.pack("@HP", len(program), ctypes.addressof(held))
        self._sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, told)

    def _facts(self) -> tuple[int, ...] | None:
        if not _IS_LINUX:
            return None
        with suppress(OSError):
            found = self._sock.getsockopt(socket.SOL_SOCKET, _MEMINFO, _FACTS.size)
            if len(found) == _FACTS.size:
                return _FACTS.unpack(found)
        return None


def _program(marker: bool, most: int) -> list[tuple[int, int, int, int]]:
    """(code, lines to skip if true, if false, k) each. What is shorter than an IKE header goes."""
    head = _UDP_LEN
    lines = []
    if marker:  # anything else there is ESP
        lines = [(_LOAD_WORD, 0, 0, head), (_IF_EQUAL, 0, 6, 0)]
        head += _MARKER_LEN
    return lines + [
        (_LOAD_OCTET, 0, 0, head + 18),  # exchange
        (_IF_EQUAL, 0, 4, ike.IKE_SA_INIT),
        (_LOAD_OCTET, 0, 0, head + 16),  # first payload: a cookie's comes first (RFC 7296, 2.6)
        (_IF_EQUAL, 2, 0, ike.NOTIFY),
        (_LOAD_WORD, 0, 0, _RANDOM),
        (_IF_MORE, 1, 0, most),
        (_RETURN, 0, 0, 0xFFFFFFFF),
        (_RETURN, 0, 0, 0),
    ]
