"""All members of a site come back at once, to several servers, on a virtual clock.

When and whom a member asks is the member's own code (covey.several, covey.hopping; where there is
one server covey.servers and covey.deadline), who is next at a server its own (gcks/inbox.py). A
registration is two requests there, each of a time that is given, also where it is asked for again;
its answer is on its way for no time at all, and nothing is lost but what finds an inbox full. Left
out: cookies, certificates in fragments, the kernel's queues, rekeys that newcomers ask for, and
the store, whose time is in that of a request where it was measured so.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

from covey import hopping, ike
from covey.deadline import Patience
from covey.servers import Servers
from covey.several import Several

from ..gcks.inbox import Inbox

_BURST = 32  # requests of one turn, as in gcks/server.py
_EXCHANGES = (ike.IKE_SA_INIT, ike.GSA_AUTH)
_LENGTHS = (330, 400)  # octets of such a request, about: an inbox has room for so many octets
_BEGIN_MS = 2_000  # within which all have begun
_OWN = {"retransmit_first_ms": 500, "retransmit_total_s": 30}  # covey.json's, if it has none
_INIT, _AUTH, _IN = 0, 1, 2  # how far a member is


@dataclass
class Outcome:
    last_s: float = 0.0  # when the last one was in
    half_s: float = 0.0  # ... and half of them
    repeats: int = 0  # requests that were sent again
    full: int = 0  # that found an inbox full
    moves: int = 0  # members that went on to another server


@dataclass
class _Member:
    servers: Servers
    patience: Patience | hopping.Patience | None = None
    at: int = _INIT
    turn: int = 0  # of its requests; one that an older timer means is over
    attempt: int = 0  # of its IKE SAs; what is about an older one is none of its own


class _Server:
    def __init__(self, dies_ms: float | None):
        self.inbox = Inbox(lambda data, address: False)
        self.dies_ms = dies_ms
        self.is_busy = False

    def lives(self, now_ms: float) -> bool:
        return self.dies_ms is None or now_ms < self.dies_ms


def come(
    members: int, servers: int, request_us: float, dies_ms: float | None, seed: int
) -> Outcome:
    """request_us: the time of one request. dies_ms: when the first server dies; None: all live."""
    return _Run(members, servers, request_us / 1e3, dies_ms, seed).outcome()


class _Run:
    def __init__(self, members, servers, request_ms, dies_ms, seed):
        rng = random.Random(seed)
        self._request_ms = request_ms
        self._servers = [_Server(None if at else dies_ms) for at in range(servers)]
        self._members = []
        self._events: list[tuple[float, int, Callable, tuple]] = []  # by time, then by number
        self._count = 0
        self._ended: list[float] = []
        self._told = Outcome()
        for number in range(members):
            settings = SimpleNamespace(servers=self._servers, **_OWN)
            asked = Several(settings, rng.randbytes, None) if servers > 1 else None
            self._members.append(_Member(asked or Servers(self._servers, rng.randbytes)))
            self._at(rng.uniform(0, _BEGIN_MS), self._ask, number)

    def outcome(self) -> Outcome:
        while self._events:
            now_ms, _, call, args = heapq.heappop(self._events)
            call(now_ms, *args)
        ended = self._ended
        assert len(ended) == len(self._members)
        told = self._told
        told.last_s, told.half_s = ended[-1] / 1e3, ended[len(ended) // 2] / 1e3
        return told

    def _at(self, at_ms: float, call: Callable, *args) -> None:
        self._count += 1
        heapq.heappush(self._events, (at_ms, self._count, call, args))

    def _ask(self, now_ms: float, number: int) -> None:
        """A request of its own, for the first time."""
        member = self._members[number]
        member.turn += 1
        if isinstance(member.servers, Several):
            member.patience = member.servers.patience(member.at == _AUTH)
        else:
            member.patience = Patience(SimpleNamespace(**_OWN))
        member.patience.start(int(now_ms))
        self._send(now_ms, number, member.at)
        self._sleep(now_ms, number)

    def _send(self, now_ms: float, number: int, exchange: int) -> None:
        member = self._members[number]
        server = member.servers.current
        data = bytearray(_LENGTHS[exchange])
        data[:8] = number.to_bytes(4) + member.attempt.to_bytes(4)
        data[18] = _EXCHANGES[exchange]
        if server.lives(now_ms):
            if not server.inbox.put(bytes(data), number):
                self._told.full += 1
            self._go_on(now_ms, server)

    def _sleep(self, now_ms: float, number: int) -> None:
        member = self._members[number]
        left_ms = max(1, member.patience.left_ms(int(now_ms)))
        self._at(now_ms + left_ms, self._wait, number, member.turn)

    def _wait(self, now_ms: float, number: int, turn: int) -> None:
        """No answer until now."""
        member = self._members[number]
        if member.turn != turn:
            return
        if member.patience.is_over(int(now_ms)):
            member.turn += 1
            member.attempt += 1
            member.at = _INIT
            self._told.moves += 1
            self._at(now_ms + member.servers.next(), self._ask, number)
            return
        if member.patience.is_due(int(now_ms)):
            self._told.repeats += 1
            self._send(now_ms, number, member.at)
            if member.at == _AUTH and isinstance(member.servers, Several):
                self._send(now_ms, number, _INIT)  # a living one answers that, if nothing else
        self._sleep(now_ms, number)

    def _go_on(self, now_ms: float, server: _Server) -> None:
        if not server.is_busy and len(server.inbox):
            server.is_busy = True
            some = server.inbox.draw(_BURST)
            # What members have given up meanwhile costs as much.
            took_ms = len(some) * self._request_ms
            self._at(now_ms + took_ms, self._answer, server, some)

    def _answer(self, now_ms: float, server: _Server, some: list) -> None:
        server.is_busy = False
        if not server.lives(now_ms):
            return
        for data, number in some:
            member = self._members[number]
            is_old = int.from_bytes(data[4:8]) != member.attempt
            if is_old or member.servers.current is not server or member.at == _IN:
                continue
            if data[18] == _EXCHANGES[member.at]:
                member.turn += 1
                member.at += 1
                if member.at == _IN:
                    member.servers.answered()
                    self._ended.append(now_ms)
                else:
                    self._ask(now_ms, number)
            elif member.at == _AUTH:
                member.patience.heard(int(now_ms))
        self._go_on(now_ms, server)
