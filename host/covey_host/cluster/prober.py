"""Members that come one after another, as long as they are wanted: how soon each is let in.

`python -m covey_host.cluster.prober`: the first line of stdin is a JSON object

    {"group": NAME, "psk": hexadecimal, "names": [...], "servers": [[HOST, PORT], ...],
     "period_ms": between two of them}

then `go` and `stop`; the end of stdin ends it. Each runs a member's own code (membership.py), with
the servers in an order of its own, and is forgotten once it is in: it doesn't leave. stdout has a
JSON object for each that is in, began_s and ended_s on the system's steady clock:

    {"event": "in", "member", "began_s", "ended_s", "port": of the server that let it in}
    {"event": "begins", "member", "began_s"}, {"event": "ready"}
    {"event": "refused", "member", "began_s", "ended_s", "why"}
"""

import heapq
import json
import os
import selectors
import socket
import sys
import time

from covey import config, nat
from covey.member import Member
from covey.membership import MEMBER, Membership

_MARKER = bytes(4)
_MOST = 8192  # octets of a datagram
_MOST_S = 50  # then it is given up


class _Probe:
    """One member on its way in."""

    def __init__(self, settings: config.Config):
        self.member = Member(payload_max=64, datagram_max=1536, sa_slots=4, sender_slots=4)
        self.membership = Membership(settings, self.member)
        self.name = settings.idi.decode()
        self.began_s = time.monotonic()
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.port = 0  # of the server that it talks to

    def hear(self) -> None:
        while True:
            try:
                data, source = self.sock.recvfrom(_MOST)
            except OSError:
                return
            is_marked = nat.has_marker(data, len(data))
            self.port = source[1]
            data = data[len(_MARKER) if is_marked else 0 :]
            self.membership.unicast(data, _now_ms(), (*source, is_marked))

    def step(self) -> float:
        """What is due, and what it has to say → seconds until the next."""
        for _ in range(1000):
            wait_ms = self.membership.step(_now_ms())
            self.membership.events.clear()
            self._say()
            if wait_ms:
                return wait_ms / 1000
        return 0.001

    def _say(self) -> None:
        while True:
            data, server = self.membership.outgoing()
            if data is None:
                return
            host, port = (server.host, server.port) if hasattr(server, "host") else server[:2]
            try:
                self.sock.sendto(data, (host, port))
            except OSError:  # nobody listens there
                continue

    def close(self) -> None:
        self.membership.wipe()
        self.sock.close()


class Prober:
    def __init__(self, order: dict):
        self._order = order
        self._period_s = order["period_ms"] / 1000
        self._selector = selectors.DefaultSelector()
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        self._probes: dict[str, _Probe] = {}
        self._due: list[tuple[float, str]] = []  # when, whose
        self._next = 0
        self._is_on = False
        self._begins_s = 0.0

    def run(self) -> None:
        _tell(event="ready")
        while True:
            for key, _ in self._selector.select(max(0.0, self._until_s())):
                if key.data is None:
                    if not self._obey():
                        return
                else:
                    key.data.hear()
                    self._turn(key.data)
            now_s = time.monotonic()
            while self._due and self._due[0][0] <= now_s:
                probe = self._probes.get(heapq.heappop(self._due)[1])
                if probe is not None:
                    self._turn(probe)
            if self._is_on and now_s >= self._begins_s:
                self._begins_s = max(self._begins_s + self._period_s, now_s - self._period_s)
                self._begin()

    def _until_s(self) -> float:
        found = [self._due[0][0]] if self._due else []
        found += [self._begins_s] if self._is_on else []
        return min(found, default=time.monotonic() + 1) - time.monotonic()

    def _obey(self) -> bool:
        words = os.read(sys.stdin.fileno(), 100).decode().split()
        if words:
            self._is_on = words[-1] == "go"
            self._begins_s = time.monotonic()
        return bool(words)

    def _begin(self) -> None:
        names, servers = self._order["names"], self._order["servers"]
        name, turn = names[self._next % len(names)], self._next % len(servers)
        self._next += 1
        if name in self._probes:
            return
        told = [
            {"host": h, "port": p, "marker": False} for h, p in servers[turn:] + servers[:turn]
        ]
        fields = {"version": 1, "group": self._order["group"], "idi": name, "servers": told}
        settings = config.Config(fields, psk=bytes.fromhex(self._order["psk"]))
        probe = self._probes[name] = _Probe(settings)
        self._selector.register(probe.sock, selectors.EVENT_READ, probe)
        _tell(event="begins", member=name, began_s=probe.began_s)
        probe.membership.start(_now_ms())
        self._turn(probe)

    def _turn(self, probe: _Probe) -> None:
        wait_s = probe.step()
        state, now_s = probe.membership.state, time.monotonic()
        facts = {"member": probe.name, "began_s": probe.began_s, "ended_s": now_s}
        if state == MEMBER:
            self._end(probe)
            _tell(event="in", **facts, port=probe.port)
        elif now_s - probe.began_s > _MOST_S:  # who was refused asks again, as members do
            self._end(probe)
            _tell(event="refused", **facts, why=probe.membership.reason)
        else:
            heapq.heappush(self._due, (now_s + wait_s, probe.name))

    def _end(self, probe: _Probe) -> None:
        del self._probes[probe.name]
        self._selector.unregister(probe.sock)
        probe.close()


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _tell(**facts) -> None:
    print(json.dumps(facts), flush=True)


def main() -> None:
    Prober(json.loads(sys.stdin.readline())).run()


if __name__ == "__main__":
    main()
