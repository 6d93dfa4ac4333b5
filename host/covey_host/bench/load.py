"""`python -m covey_host.bench.load`: initiators, so many at a time; an order on stdin, as JSON.

A process of its own, so that what is measured has a core for itself.

    {"to": [HOST, PORT], "names": [...], "rounds": n, "at_once": n, "sources": "127.A.B" or null,
     "group": NAME or null, "child": bool, "psk": hex or null, "keys": FILE}

keys: {NAME: [key, certificate]}, where there is no psk. sources: each initiator has a socket of
its own then, at an address of its own below 127.A. On stdout "ready"; then each line on stdin is
one round with the next names, and is answered with one JSON object: {"done", "refused", "repeats",
"why", "seconds", "ms": [of each that is done, sorted]}. An answer is waited for as covey's own
members do it: for 0.5 s, then for twice as long each time, for 30 s in all.
"""

import heapq
import json
import selectors
import socket
import sys
import time
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_der_private_key

from .initiator import Initiator, Refused, Us

_WAITS_S = (0.5, 1, 2, 4, 8, 14.5)
_MARKER = bytes(4)
_RCVBUF = 4 << 20


def crowd_of(order: dict, names: list[str]) -> list[Initiator]:
    psk = None if order["psk"] is None else bytes.fromhex(order["psk"])
    group = None if order["group"] is None else order["group"].encode()
    us = Us(group, psk, child=order["child"])
    if psk is not None:
        return [Initiator(us, name.encode()) for name in names]
    kept = json.loads(Path(order["keys"]).read_text())
    crowd = []
    for name in names:
        key, certificate = map(bytes.fromhex, kept[name])
        crowd.append(Initiator(us, name.encode(), load_der_private_key(key, None), certificate))
    return crowd


class Under:
    """One initiator that is under way."""

    def __init__(self, initiator: Initiator, sock: socket.socket, now: float):
        self.initiator, self.sock, self.began = initiator, sock, now
        self.request = initiator.begin()
        self.tries = 0


class Flow:
    """Initiators that come to one place."""

    def __init__(self, order: dict):
        self._to = tuple(order["to"])
        self._sources = order["sources"]
        self._selector = selectors.DefaultSelector()
        self._again: list[tuple[float, bytes, bytes]] = []  # when, SPI, what was sent
        self._under_way: dict[bytes, Under] = {}  # by SPI
        self._counts = {"done": 0, "refused": 0, "repeats": 0, "why": None}
        self._ms: list[float] = []
        if self._sources is None:
            self._sock = self._opened("127.0.0.1")

    def run(self, crowd: list[Initiator], at_once: int) -> dict:
        self._counts |= {"done": 0, "refused": 0, "repeats": 0}
        self._ms = []
        waiting = list(enumerate(crowd))[::-1]
        began = time.perf_counter()
        while waiting or self._under_way:
            for _ in range(64):  # then whoever was answered gets a turn
                if waiting and len(self._under_way) < at_once:
                    self._begin(*waiting.pop())
            self._hear()
            self._repeat()
        seconds = time.perf_counter() - began
        return {**self._counts, "seconds": seconds, "ms": sorted(self._ms)}

    def _opened(self, host: str) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if self._sources is None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RCVBUF)
        sock.bind((host, 0))
        sock.connect(self._to)
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ)
        return sock

    def _begin(self, number: int, initiator: Initiator) -> None:
        sock = self._sock if self._sources is None else self._opened(self._address(number))
        one = self._under_way[initiator.spi] = Under(initiator, sock, time.perf_counter())
        self._send(one)

    def _address(self, number: int) -> str:
        return f"{self._sources}.{number // 250}.{number % 250 + 1}"

    def _hear(self) -> None:
        until_s = self._again[0][0] - time.perf_counter() if self._again else 0
        for key, _ in self._selector.select(max(0.0, until_s)):
            for data in list(_received(key.fileobj)):
                one = self._under_way.get(data[:8])
                if one is not None:
                    self._take(one, data)

    def _take(self, one: Under, data: bytes) -> None:
        try:
            more = one.initiator.take(data)
        except Refused as refusal:
            self._end(one, str(refusal))
            return
        if more is None:
            self._ms.append((time.perf_counter() - one.began) * 1000)
            self._end(one)
        elif more:
            one.request, one.tries = more, 0
            self._send(one)

    def _repeat(self) -> None:
        now = time.perf_counter()
        while self._again and self._again[0][0] <= now:
            _, spi, sent = heapq.heappop(self._again)
            one = self._under_way.get(spi)
            if one is None or one.request is not sent:
                continue
            if one.tries == len(_WAITS_S):
                self._end(one, "no answer")
                continue
            self._counts["repeats"] += 1
            self._send(one)

    def _send(self, one: Under) -> None:
        due = time.perf_counter() + _WAITS_S[one.tries]
        heapq.heappush(self._again, (due, one.initiator.spi, one.request))
        one.tries += 1
        one.sock.send(_MARKER + one.request)

    def _end(self, one: Under, why: str | None = None) -> None:
        del self._under_way[one.initiator.spi]
        self._counts["done" if why is None else "refused"] += 1
        self._counts["why"] = why or self._counts["why"]
        if self._sources is not None:
            self._selector.unregister(one.sock)
            one.sock.close()


def _received(sock: socket.socket):
    try:
        while True:
            yield sock.recv(8192)[len(_MARKER) :]
    except BlockingIOError:
        return


def main() -> None:
    order = json.loads(sys.stdin.readline())
    flow = Flow(order)
    names, rounds = order["names"], order["rounds"]
    size = len(names) // rounds
    crowds = [crowd_of(order, names[at * size : at * size + size]) for at in range(rounds)]
    print("ready", flush=True)
    for crowd in crowds:
        sys.stdin.readline()
        print(json.dumps(flow.run(crowd, order["at_once"])), flush=True)


if __name__ == "__main__":
    main()
