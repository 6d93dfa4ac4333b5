"""`python -m covey_host.bench.flooder`: what is sent to keep others from registering.

An order on stdin, as JSON, in a line; on stdout "ready". After a line "go" it floods until another
line comes, then tells {"sent", "seconds"}. All of it comes from 127.0.0.0/8, whose addresses are
everybody's: each datagram from another one, which a forger writes into it.

    {"to": [HOST, PORT], "kind": KIND, "rate": datagrams a second, "recorded": [hex, ...]}

KIND  requests  IKE_SA_INIT, each of another SPI
      cookies   likewise, each with a cookie that nobody has given
      repeats   a few IKE_SA_INIT, and what was recorded of a member and of the key server, again
                and again: retransmissions, replays, reflected answers
      shapes    oversized, nested, cut, fragments of what nobody has begun, noise
      hosts     IKE_SA_INIT from four addresses that hear the answers, and show their cookies
"""

import json
import os
import random
import select
import socket
import struct
import sys
import time

from .initiator import Initiator, Us

MARKER = bytes(4)
_TICK_S = 0.002
_IP_PKTINFO = 8  # Linux; Python knows the name from 3.12 on
_FEW = 64
_COOKIE_LEN = 17  # as the key server's are
_LONG = 9000
_HOSTS = [f"127.9.0.{number}" for number in range(1, 5)]
_KEPT = 4096  # requests to which a cookie may come


def made(kind: str, recorded: list[bytes], count: int = 256) -> list[bytes]:
    """Datagrams of a kind, to be sent in turns; of some the SPI is still to be drawn."""
    us = Us(b"line1", bytes(32))
    if kind == "repeats":
        return [Initiator(us, b"x").begin() for _ in range(_FEW)] + recorded
    if kind == "shapes":
        return [_shape(us, number) for number in range(count)]
    cookies = (os.urandom(_COOKIE_LEN) if kind == "cookies" else None for _ in range(count))
    return [Initiator(us, b"x").begin(cookie) for cookie in cookies]


def _shape(us: Us, number: int) -> bytes:
    good = bytearray(Initiator(us, b"x").begin())
    which = number % 6
    if which == 0:  # cut
        return bytes(good[: random.randrange(len(good))])
    if which == 1:  # a length that is none
        good[24:28] = struct.pack(">I", random.randrange(1 << 32))
    elif which == 2:  # as long as a network lets it be, of payloads that nobody knows
        good += b"\xc8\0\0\4" * (_LONG // 4)
        good[24:28] = struct.pack(">I", len(good))
    elif which == 3:  # an Encrypted payload within an Encrypted Fragment, of no IKE SA
        good[8:16], good[16], good[18] = os.urandom(8), 53, 39
        good[28:36] = struct.pack(">BBHHH", 46, 0, len(good) - 28, random.randrange(1, 33), 32)
    elif which == 4:
        return os.urandom(random.randrange(1, _LONG))
    else:  # a proposal within a proposal within a proposal
        good = good[:16] + b"\x21" + good[17:28] + _nested(40)
        good[24:28] = struct.pack(">I", len(good))
    return bytes(good)


def _nested(depth: int) -> bytes:
    body = b""
    for _ in range(depth):
        body = struct.pack(">BBHBBBB", 0, 0, 8 + len(body), 1, 1, 0, 1) + body
    return struct.pack(">BBH", 0, 0, 4 + len(body)) + body


class Forger:
    """From addresses that it doesn't have: whatever is answered, it doesn't hear."""

    def __init__(self, to: tuple[str, int], kind: str, recorded: list[bytes]):
        self._to, self._is_fresh = to, kind in ("requests", "cookies")
        self._made = made(kind, recorded)
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        self._sock.setblocking(False)

    def send(self) -> None:
        data = random.choice(self._made)
        if self._is_fresh:
            data = os.urandom(8) + data[8:]
        source = b"\x7f" + os.urandom(3)
        info = struct.pack("@i4s4s", 0, source, bytes(4))
        try:
            self._sock.sendmsg(
                [MARKER, data], [(socket.IPPROTO_IP, _IP_PKTINFO, info)], 0, self._to
            )
        except OSError:
            pass  # a full queue


class Hosts:
    """Addresses that are its own, a few: each shows the cookie that it is asked for."""

    def __init__(self, to: tuple[str, int]):
        self._us = Us(b"line1", bytes(32))
        self._asked: dict[bytes, Initiator] = {}
        self._socks = []
        for host in _HOSTS:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((host, 0))
            sock.connect(to)
            sock.setblocking(False)
            self._socks.append(sock)

    def send(self) -> None:
        sock = random.choice(self._socks)
        try:
            while True:
                data = sock.recv(4096)[len(MARKER) :]
                one = self._asked.pop(data[:8], None)
                if one is not None and not any(data[8:16]):
                    sock.send(MARKER + one.begin(data[36:]))
        except OSError:
            pass
        one = Initiator(self._us, b"x")
        self._asked[one.spi] = one
        if len(self._asked) > _KEPT:
            del self._asked[next(iter(self._asked))]
        try:
            sock.send(MARKER + one.begin())
        except OSError:
            pass


def flood(one: Forger | Hosts, rate: int) -> dict:
    """Until a line comes."""
    began, sent = time.perf_counter(), 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        due = int((time.perf_counter() - began) * rate)
        for _ in range(due - sent):
            one.send()
        sent = due
        time.sleep(_TICK_S)
    sys.stdin.readline()
    return {"sent": sent, "seconds": time.perf_counter() - began}


def main() -> None:
    order = json.loads(sys.stdin.readline())
    to, kind = (order["to"][0], order["to"][1]), order["kind"]
    recorded = [bytes.fromhex(text) for text in order["recorded"]]
    one = Hosts(to) if kind == "hosts" else Forger(to, kind, recorded)
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(flood(one, order["rate"])), flush=True)


if __name__ == "__main__":
    main()
