"""`python -m covey_host.bench.load`: so many initiators, some at a time; an order on stdin, as JSON.

A process of its own, so that what is measured has a core for itself.

    {"to": [HOST, PORT], "names": [...], "at_once": n, "group": NAME or null,
     "child": bool, "psk": hex or null, "keys": FILE}

Each line "go" on stdin is one round with the next names; "rounds" says how many there are. On
stdout "ready", then for each round one JSON object: {"done", "refused", "repeats", "seconds",
"ms": [latency of each, sorted]}. An answer is waited for 1, 2, 4, 8 s, or as "waits_s" has it.
"""

import heapq
import json
import select
import socket
import sys
import time
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_der_private_key

from .initiator import Initiator, Refused, Us

_WAITS_S = (1, 2, 4, 8)
_MARKER = bytes(4)


def crowd_of(order: dict, names: list[str]) -> list[Initiator]:
    psk = None if order["psk"] is None else bytes.fromhex(order["psk"])
    group = None if order["group"] is None else order["group"].encode()
    us = Us(group, psk, child=order["child"])
    if psk is not None:
        return [Initiator(us, name.encode()) for name in names]
    kept = json.loads(Path(order["keys"]).read_text())
    return [
        Initiator(
            us,
            name.encode(),
            load_der_private_key(bytes.fromhex(kept[name][0]), None),
            bytes.fromhex(kept[name][1]),
        )
        for name in names
    ]


class Flow:
    """One socket, on which so many initiators are under way."""

    def __init__(self, order: dict):
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._waits_s = order.get("waits_s", _WAITS_S)
        self._sock.connect(tuple(order["to"]))
        self._sock.setblocking(False)

    def run(self, crowd: list[Initiator], at_once: int) -> dict:
        waiting = list(reversed(crowd))
        under_way: dict[bytes, list] = {}  # SPI → [initiator, began, sent, tries]
        again: list[tuple[float, bytes, int]] = []  # when, SPI, tries
        ms, done, refused, repeats, why = [], 0, 0, 0, None
        began = time.perf_counter()
        while waiting or under_way:
            while waiting and len(under_way) < at_once:
                one, now = waiting.pop(), time.perf_counter()
                under_way[one.spi] = state = [one, now, one.begin(), 0]
                self._send(state, again, now)
            until_s = max(0.0, again[0][0] - time.perf_counter()) if again else 0.1
            if select.select([self._sock], [], [], min(until_s, 0.1))[0]:
                for data in self._received():
                    state = under_way.get(data[:8])
                    if state is None:
                        continue
                    try:
                        more, is_good = state[0].take(data), True
                    except Refused as refusal:
                        more, is_good, why = None, False, str(refusal)
                    now = time.perf_counter()
                    if more == b"":
                        continue
                    if more is not None:
                        state[2], state[3] = more, 0
                        self._send(state, again, now)
                        continue
                    del under_way[data[:8]]
                    done, refused = done + is_good, refused + (not is_good)
                    ms.append((now - state[1]) * 1000)
            now = time.perf_counter()
            while again and again[0][0] <= now:
                _, spi, sent = heapq.heappop(again)
                state = under_way.get(spi)
                if state is None or state[2] is not sent:
                    continue
                repeats += 1
                if state[3] >= len(self._waits_s):
                    del under_way[spi]  # it gives up
                    refused, why = refused + 1, "no answer"
                    continue
                self._send(state, again, now)
        seconds = time.perf_counter() - began
        counts = {"done": done, "refused": refused, "repeats": repeats, "why": why}
        return {**counts, "seconds": seconds, "ms": sorted(ms)}

    def _send(self, state: list, again: list, now: float) -> None:
        heapq.heappush(again, (now + self._waits_s[state[3]], state[0].spi, state[2]))
        state[3] += 1
        self._sock.send(_MARKER + state[2])

    def _received(self):
        try:
            while True:
                data = self._sock.recv(8192)
                yield data[len(_MARKER) :]
        except BlockingIOError:
            return


def main() -> None:
    order = json.loads(sys.stdin.readline())
    flow = Flow(order)
    rounds = order["rounds"]
    size = len(order["names"]) // rounds
    crowds = [
        crowd_of(order, order["names"][at * size : at * size + size]) for at in range(rounds)
    ]
    print("ready", flush=True)
    for crowd in crowds:
        sys.stdin.readline()
        print(json.dumps(flow.run(crowd, order["at_once"])), flush=True)


if __name__ == "__main__":
    main()
