"""The keeper's side of `covey serve --workers N`: it starts workers, and takes what they bring.

    datagrams --> sockets, one set for each worker --> worker 1 ... N  --members--> keeper
                                                              +--all else of ours--^

The keeper opens all sockets and keeps them. So it answers from the members' side of them, a worker
that is started again finds what has come meanwhile, and no port is ever bound a second time. The
workers do what costs time or is done for strangers: IKE_SA_INIT, cookies, key agreement, AUTH. The
keeper has the store, groups, timers, and every IKE SA whose peer is known.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from ..errors import MISUSE, Problem
from ..site import Site
from ..vault.opening import store_key
from . import Out, frames
from .keyserver import KeyServer
from .policy import SitePolicy
from .sockets import Address, Endpoint
from .spis import KEEPER, SECRET_LEN, Spis
from .trust import Trust
from .vitals import MOST_PAUSE_S, SILENT_S, Vitals

_BURST = 32  # frames taken before others get their turn
_START_S = 15  # for which all of them are waited for at the start
_LOOK_S = 1  # from one look at which of them live to the next
_MOST_SAID = 4096  # octets of one sentence
Work = Callable[[int], list[Out]]  # given now_ms, what is to be sent then
_NOT_STARTED = (
    "Workers can't be started ({}): the server's user must be able to run its Python, with Covey."
)
_COMMAND = [sys.executable, "-P", "-m", f"{__package__}.worker"]


class Keeper(Protocol):
    """The server that these workers work for."""

    keyserver: KeyServer

    def take(self, works: list[Work]) -> None: ...
    def take_esp(self, data: bytes, address: Address) -> None: ...
    def event(self, name: str, **facts: Any) -> None: ...
    def trouble(self, sentence: str) -> None: ...


class _Worker:
    def __init__(self, number: int, endpoints: list[Endpoint]):
        self.number = number
        self.endpoints = endpoints
        self.inbox, self.way = frames.pair()  # to it, from other workers
        self.process: subprocess.Popen | None = None
        self.vitals = Vitals()
        self.said = b""  # what has no end yet
        self.half_open = 0


class Workers:
    def __init__(self, count: int, site: Site):
        if not sys.platform.startswith("linux"):
            raise Problem("--workers needs Linux: serve without it here.", MISUSE)
        self._count = count
        self._site = site
        self._secret = os.urandom(SECRET_LEN)
        self._cookies = os.urandom(SECRET_LEN)
        self._key, self._key_id = bytearray(), b""  # of the store
        self._last_words: str | None = None  # of a worker that couldn't begin
        self._looked_s = 0.0
        self.spis = Spis(self._secret, KEEPER, os.urandom)
        self._workers: list[_Worker] = []
        self._told: tuple[SitePolicy, Trust] | None = None
        self._redirects: dict[str, Any] = {}  # as they know them
        self._closing = False
        self._pairs = [frames.pair(), frames.pair()]
        (self._handed, self._hand), (self._carried, self._carry) = self._pairs

    def open(self, endpoints: list[Endpoint]) -> None:
        """The sockets of all workers, beside the keeper's own, which are the first one's."""
        for number in range(1, self._count + 1):
            own = endpoints if number == 1 else [endpoint.twin() for endpoint in endpoints]
            self._workers.append(_Worker(number, own))

    async def start(self, keeper: Keeper) -> None:
        """Ready when all of them are, or when that takes too long; Problem where there is none."""
        self._key, self._key_id = store_key(self._site)  # as it is now: its file may be moved
        self._keeper = keeper
        self._told = keeper.keyserver.policy, keeper.keyserver.trust
        self._redirects = keeper.keyserver.redirects.facts
        self._loop = asyncio.get_running_loop()
        for end in (self._handed, self._carried):
            self._loop.add_reader(end, self._read, end)
        self._all_ready = asyncio.Event()
        try:
            for worker in self._workers:
                self._launch(worker)
        except OSError as error:
            raise Problem(_NOT_STARTED.format(os.strerror(error.errno or 0))) from None
        try:
            async with asyncio.timeout(_START_S):
                await self._all_ready.wait()
        except TimeoutError:
            if not any(worker.vitals.is_ready for worker in self._workers):
                sentence = _NOT_STARTED.format("they end at once, or are too slow")
                raise Problem(self._last_words or sentence) from None
            keeper.trouble("Not all workers have started: some who register wait for them.")
        self._looked_s = time.monotonic()
        self._loop.call_later(_LOOK_S, self._look)

    def follow(self) -> None:
        """Workers are told what is in force, if it is not what they know."""
        known, believed = self._told
        policy, trust = self._keeper.keyserver.policy, self._keeper.keyserver.trust
        orders = {}
        if policy is not known:
            orders["policy"] = frames.policy_facts(policy, self._count)
        if trust is not believed:
            orders["trust"] = True
        if self._keeper.keyserver.redirects.facts != self._redirects:
            orders["redirects"] = self._redirects = self._keeper.keyserver.redirects.facts
        self._told = policy, trust
        for worker in self._workers if orders else ():
            self._order(worker, orders)

    def endpoints(self) -> list[Endpoint]:
        """Of all of them."""
        return [endpoint for worker in self._workers for endpoint in worker.endpoints]

    def processes(self) -> dict[str, int | None]:
        """By number; None: it has ended, and is about to be started again."""
        return {
            str(worker.number): worker.process.pid if worker.process else None
            for worker in self._workers
        }

    def faults(self) -> list[str]:
        """Sentences for `covey health`; none where members can register."""
        now_s = time.monotonic()
        found = [(worker.number, worker.vitals.fault(now_s)) for worker in self._workers]
        ended = [f"Worker {number} {fault}." for number, fault in found if fault]
        is_any = any(worker.vitals.is_ready for worker in self._workers)
        return ended if is_any else ["No worker is running: nobody can register.", *ended]

    def close(self) -> None:
        """They end: what they were at is begun anew by the members."""
        self._closing = True
        for worker in self._workers:
            if worker.process:
                self._loop.remove_reader(worker.process.stdout)
                _end(worker.process)
            for endpoint in worker.endpoints:
                endpoint.close()
        if self._told is not None:
            self._loop.remove_reader(self._handed)
            self._loop.remove_reader(self._carried)
        for end in [e for pair in self._pairs for e in pair]:
            end.close()
        self._key[:] = bytes(len(self._key))
        for worker in self._workers:
            worker.inbox.close()
            worker.way.close()

    # Processes

    def _launch(self, worker: _Worker) -> None:
        if self._closing:
            return
        ways = {KEEPER: self._carry} | {w.number: w.way for w in self._workers if w is not worker}
        inherited = [e.sock for e in worker.endpoints] + [worker.inbox, self._hand, *ways.values()]
        worker.vitals.begin(time.monotonic())
        worker.said = b""
        worker.process = subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[sock.fileno() for sock in inherited],
            start_new_session=True,  # Ctrl-C is the keeper's
        )
        os.set_blocking(worker.process.stdin.fileno(), False)
        policy, _ = self._told
        start = {
            "number": worker.number,
            "site": str(self._site.root),
            "spis": self._secret.hex(),
            "cookies": self._cookies.hex(),
            "key": self._key.hex(),
            "key_id": self._key_id.hex(),
            "policy": frames.policy_facts(policy, self._count),
            "redirects": self._redirects,
            "endpoints": [
                (e.number, e.host, e.port, e.marker, e.sock.fileno()) for e in worker.endpoints
            ],
            "hand": self._hand.fileno(),
            "inbox": worker.inbox.fileno(),
            "ways": {owner: sock.fileno() for owner, sock in ways.items()},
        }
        self._order(worker, start)
        self._loop.add_reader(worker.process.stdout, self._hear, worker)

    def _launch_again(self, worker: _Worker) -> None:
        try:
            self._launch(worker)
        except OSError as error:
            self._keeper.trouble(_NOT_STARTED.format(os.strerror(error.errno or 0)))
            self._loop.call_later(MOST_PAUSE_S, self._launch_again, worker)

    def _order(self, worker: _Worker, order: dict) -> None:
        if worker.process is None:
            return
        try:
            os.write(worker.process.stdin.fileno(), json.dumps(order).encode() + b"\n")
        except OSError:  # it has ended, or hears nothing any more: another one begins with all
            worker.process.kill()

    def _hear(self, worker: _Worker) -> None:
        """It says that it lives, by an empty line, or why it doesn't, by a sentence. When it says
        nothing more it has ended."""
        said = os.read(worker.process.stdout.fileno(), _MOST_SAID)
        if not said:
            self._bury(worker)
            return
        *lines, rest = (worker.said + said).split(b"\n")
        worker.said = rest[:_MOST_SAID]
        for line in lines:
            if line:
                self._last_words = line.decode(errors="replace")
                self._keeper.trouble(f"Worker {worker.number}: {self._last_words}")
            else:
                worker.vitals.hear(time.monotonic())
        if all(each.vitals.is_ready for each in self._workers):
            self._all_ready.set()

    def _look(self) -> None:
        """Which of them are stuck: these are ended, as if they had done so by themselves."""
        if self._closing:
            return
        now_s = time.monotonic()
        was_away = now_s - self._looked_s > 2 * _LOOK_S
        self._looked_s = now_s
        for worker in self._workers:
            if was_away:
                worker.vitals.excuse(now_s)
            elif worker.process and worker.vitals.is_silent(now_s):
                self._keeper.trouble(
                    f"Worker {worker.number} has said nothing for {SILENT_S} s or more: it is"
                    " ended, and started again."
                )
                worker.process.kill()
        self._loop.call_later(_LOOK_S, self._look)

    def _bury(self, worker: _Worker) -> None:
        self._loop.remove_reader(worker.process.stdout)
        _end(worker.process)
        status, worker.process = worker.process.returncode, None
        worker.half_open = 0
        pause_s = worker.vitals.end(time.monotonic())
        self._loop.call_later(pause_s, self._launch_again, worker)
        self._hear_of({}, (), {})
        self._keeper.event("worker_ended", worker=worker.number, status=status)

    # What they bring

    def _read(self, sock: socket.socket) -> None:
        works = []
        for _ in range(_BURST):
            try:
                frame = sock.recv(frames.MOST_LEN)
            except OSError:
                break
            if frame[:1] == frames.HANDED:
                works.append(partial(self._keeper.keyserver.take_over, frame[1:]))
            elif frame[:1] == frames.IKE:
                works.append(partial(self._keeper.keyserver.receive, *frames.parse_carried(frame)))
            elif frame[:1] == frames.ESP:
                self._keeper.take_esp(*frames.parse_carried(frame))
            else:
                self._take_report(json.loads(frame[1:]))
        self._keeper.take(works)

    def _take_report(self, report: dict) -> None:
        self._workers[report["number"] - 1].half_open = report["half_open"]
        self._hear_of(report["counters"], report["events"], report["left_out"])
        for sentence in report["troubles"]:
            self._keeper.trouble(sentence)

    def _hear_of(
        self, counters: dict[str, int], events: Iterable, left_out: dict[str, int]
    ) -> None:
        half_open = sum(worker.half_open for worker in self._workers)
        self._keeper.keyserver.hear_workers(half_open, counters, events, left_out)


def _end(process: subprocess.Popen) -> None:
    """It has nothing that is not lost with it."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):
            pipe.close()
