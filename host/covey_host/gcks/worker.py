"""A worker of `covey serve --workers N`: a process at the key server's ports, beside others.

    python -m covey_host.gcks.worker        started by the keeper (workers.py), by nobody else

It has sockets and a clock around a Lobby, reads the store, and ends when the keeper does. What it
has to say goes to the keeper: it writes no log. Its standard output is for signs of life, and for
why it can't begin. What is lost with it, if it is killed, are IKE SAs
whose peers have proven nothing yet; these ask again.
"""

import asyncio
import json
import os
import socket
import sys
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from covey.drops import name_of

from ..errors import Problem
from ..site import Site
from ..vault.opening import open_under
from . import frames, trust
from .authority import Authority
from .clock import now_ms
from .cookies import Shared
from .inbox import Inbox
from .ledger import Ledger
from .lobby import Lobby
from .sockets import Address, Endpoint, Esp
from .spis import KEEPER, Spis
from .thinning import THIN_MS
from .vitals import ALIVE_S

_READS = 512  # datagrams read from one socket, and
_BURST = 32  # messages worked on, before others get their turn
_IDLE_MS = 60_000
_RETRY_MS = 1_000
_REPORT_S = 0.25  # what has happened is reported so often
_MOST_EVENTS = 50  # in one report; the rest is only counted, by what it is
_MOST_TROUBLES = 20  # likewise, and not counted
_MOST_WAITING = 64  # to be handed over: until some of these are gone nothing more is read


class Worker:
    """start: what the keeper said first, see Workers in workers.py."""

    def __init__(self, start: dict):
        self._counters: Counter[str] = Counter()
        self._events: list[tuple[str, dict]] = []
        self._left_out: Counter[str] = Counter()  # events by their names
        self._troubles: set[str] = set()
        self._waiting: deque[bytes] = deque()  # to be handed over
        self._is_reading = False
        self._messages = Inbox(lambda *of: self._lobby.has_cookie(*of, now_ms()))
        self._works = False  # _work() is to be called
        self._timer: asyncio.TimerHandle | None = None
        self._reporter: asyncio.TimerHandle | None = None
        self._said: dict = {}  # of the last report
        self._number = start["number"]
        key = bytes.fromhex(start["key"]), bytes.fromhex(start["key_id"])
        self._ledger = Ledger(open_under(Site(Path(start["site"])), *key))
        spis = Spis(bytes.fromhex(start["spis"]), start["number"], os.urandom)
        self._lobby = Lobby(
            frames.read_policy(start["policy"]),
            Authority(self._ledger),
            self._counters,
            self._tell,
            os.urandom,
            time.time,
            spis,
            Shared(bytes.fromhex(start["cookies"])),
        )
        self._lobby.believe(trust.load(self._ledger))
        self._lobby.redirects.adopt(start["redirects"])
        self._endpoints = [
            Endpoint(number, host, port, marker, _inherited(fd, socket.AF_INET))
            for number, host, port, marker, fd in start["endpoints"]
        ]
        self._hand = _inherited(start["hand"], socket.AF_UNIX)
        self._inbox = _inherited(start["inbox"], socket.AF_UNIX)
        self._ways = {
            int(owner): _inherited(fd, socket.AF_UNIX) for owner, fd in start["ways"].items()
        }

    async def run(self) -> None:
        """Until the keeper has no more to say."""
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._failed)
        orders = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(orders)
        await self._loop.connect_read_pipe(lambda: protocol, sys.stdin)
        self._loop.add_reader(self._inbox, self._take_carried)
        self._read(True)
        os.set_blocking(sys.stdout.fileno(), False)
        self._live()
        while line := await orders.readline():
            self._obey(json.loads(line))

    def _live(self) -> None:
        """The keeper hears that this loop goes round."""
        with suppress(OSError):
            os.write(sys.stdout.fileno(), b"\n")
        self._loop.call_later(ALIVE_S, self._live)

    def _obey(self, order: dict) -> None:
        if "policy" in order:
            self._lobby.policy = frames.read_policy(order["policy"])
        if "redirects" in order:
            self._lobby.redirects.adopt(order["redirects"])
        if "trust" in order:
            self._guard(lambda: self._lobby.believe(trust.load(self._ledger)))

    # Datagrams

    def _read(self, wanted: bool) -> None:
        """Hear the network, or let the system keep what comes."""
        if wanted != self._is_reading:
            self._is_reading = wanted
            for endpoint in self._endpoints:
                if wanted:
                    self._loop.add_reader(endpoint.sock, self._readable, endpoint)
                else:
                    self._loop.remove_reader(endpoint.sock)

    def _readable(self, endpoint: Endpoint) -> None:
        endpoint.thinning.follow(time.monotonic(), self._messages.begins)
        for arrived in endpoint.receive(_READS):
            if isinstance(arrived, Esp):
                self._carry(KEEPER, frames.ESP, *arrived)
            elif isinstance(arrived, int):
                self._counters[name_of(arrived)] += 1
            else:
                self._sort(*arrived)
        self._go_on()

    def _take_carried(self) -> None:
        """From other workers: what is of an IKE SA here."""
        for _ in range(_BURST):
            try:
                frame = self._inbox.recv(frames.MOST_LEN)
            except OSError:
                break
            self._sort(*frames.parse_carried(frame))
        self._go_on()

    def _sort(self, data: bytes, address: Address) -> None:
        """What is to be worked on here waits for that."""
        owner = self._lobby.owner_of(data)
        if owner is not None:
            self._carry(owner, frames.IKE, data, address)
        elif not self._messages.put(data, address):
            self._counters["inbox_full"] += 1

    def _go_on(self) -> None:
        if self._messages and not self._works:
            self._works = True
            self._loop.call_soon(self._work)
        if self._reporter is None:
            self._reporter = self._loop.call_later(_REPORT_S, self._report)

    def _work(self) -> None:
        """On some of what has arrived; before the rest, the sockets are emptied again."""
        self._works = False
        for data, address in self._messages.draw(_BURST):
            owner = self._lobby.owner_of(data)  # its IKE SA may have been handed over meanwhile
            if owner is not None:
                self._carry(owner, frames.IKE, data, address)
                continue
            outs = self._guard(partial(self._lobby.receive, data, address, now_ms()))
            self._send(outs or [])
        self._after()

    def _send(self, outs: list) -> None:
        for out in outs:
            error = self._endpoints[out.address.endpoint].send(out.data, out.address)
            if error:
                self._trouble(f"A message to {out.address} was not sent: {os.strerror(error)}.")

    def _carry(self, owner: int, kind: bytes, data: bytes, address: Address) -> None:
        """As on any network: where there is no room it is lost."""
        try:
            self._ways[owner].send(frames.emit_carried(kind, data, address))
        except (OSError, KeyError):
            self._counters["carried_lost"] += 1
        else:
            self._counters["carried"] += 1

    def _after(self) -> None:
        """What follows from any work."""
        self._send(self._lobby.heard(now_ms()))
        self._waiting += (frames.HANDED + octets for octets in self._lobby.take_handed())
        self._hand_over()
        if self._timer:
            self._timer.cancel()
        wait_ms = max(0, min(self._lobby.next_ms() - now_ms(), _IDLE_MS))
        if any(endpoint.thinning.is_on for endpoint in self._endpoints):
            wait_ms = min(wait_ms, THIN_MS)
        self._timer = self._loop.call_later(wait_ms / 1000, self._step)
        self._go_on()

    def _step(self) -> None:
        for endpoint in self._endpoints:
            endpoint.thinning.follow(time.monotonic(), self._messages.begins)
        outs = self._guard(lambda: self._lobby.step(now_ms()))
        if outs is None:
            self._timer = self._loop.call_later(_RETRY_MS / 1000, self._step)
            return
        self._send(outs)
        self._after()

    # To the keeper

    def _hand_over(self) -> None:
        """Nothing is lost here: a keeper that has more than it can do is waited for."""
        while self._waiting:
            try:
                self._hand.send(self._waiting[0])
            except BlockingIOError:
                self._loop.add_writer(self._hand, self._hand_over)
                break
            except OSError as error:  # not that it is too long: ever so much more has room
                self._trouble(f"A member was not handed over: {os.strerror(error.errno)}.")
            self._waiting.popleft()
        else:
            self._loop.remove_writer(self._hand)
        self._read(len(self._waiting) < _MOST_WAITING)

    def _report(self) -> None:
        self._reporter = None
        now = {"number": self._number, "half_open": self._lobby.half_open}
        found = {
            "counters": dict(self._counters),
            "events": self._events,
            "left_out": dict(self._left_out),
            "troubles": sorted(self._troubles),
        }
        if now == self._said and not any(found.values()):
            return
        report = frames.REPORT + json.dumps(now | found).encode()
        with suppress(OSError):  # else it is said the next time
            self._hand.send(report)
            self._said = now
            for one in (self._counters, self._events, self._left_out, self._troubles):
                one.clear()
            return
        self._reporter = self._loop.call_later(_REPORT_S, self._report)

    def _tell(self, name: str, **facts: Any) -> None:
        if len(self._events) < _MOST_EVENTS:
            self._events.append((name, facts))
        else:
            self._left_out[name] += 1

    def _guard(self, work: Callable):
        """The work's result; None where it failed, which ends nothing but this piece of work."""
        try:
            return work()
        except Problem as problem:
            self._trouble(problem.sentence)
        except Exception as error:
            self._trouble(fault(error))
        return None

    def _failed(self, _: asyncio.AbstractEventLoop, context: dict) -> None:
        """A fault of ours in what the loop has called."""
        if "exception" in context:
            self._trouble(fault(context["exception"]))

    def _trouble(self, sentence: str) -> None:
        if len(self._troubles) < _MOST_TROUBLES:
            self._troubles.add(sentence)


def fault(error: Exception) -> str:
    """Of ours: where it happened, not what it says (that may hold anything)."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    if os.environ.get("COVEY_DEBUG") == "1":
        traceback.print_exception(error, file=sys.stderr)
    file = os.path.basename(place.filename)
    return f"A fault inside: {type(error).__name__} in {file}:{place.lineno}."


def _inherited(fd: int, family: int) -> socket.socket:
    return socket.socket(family, socket.SOCK_DGRAM, fileno=fd)


def main() -> int:
    line = sys.stdin.buffer.raw.readline()
    if not line:
        return 0
    try:
        worker = Worker(json.loads(line))
    except Problem as problem:
        print(problem.sentence)
        return problem.status
    except Exception as error:
        print(fault(error))
        return 1
    asyncio.run(worker.run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
