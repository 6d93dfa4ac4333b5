"""`covey serve`: sockets, timers, signals and the control socket around the sans-IO KeyServer.

One event loop, one thread. Whatever KeyServer hands back has been written to the store already;
here it is only sent. One bad datagram, one fault or one full disk ends one piece of work, never
the server; only a newer term (Fenced) does.
"""

import asyncio
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial

from covey.drops import DROP_UNKNOWN_SPI, Drops

from ..control import ControlSocket
from ..errors import INTERRUPTED, Problem
from ..operations import LISTEN_WAITS, Operations
from ..output import Log
from ..site import Site
from ..store import Fenced, Locked, Store, sqlite
from . import Out, policy
from .authority import Authority
from .inbox import Inbox
from .keyserver import KeyServer
from .ledger import Ledger
from .policyvalues import Listen
from .relaying import Relaying
from .room import check_room
from .sockets import Endpoint, Esp, check_interface, check_route, is_multicast

_READS = 512  # datagrams read from one socket, and
_BURST = 32  # messages worked on, before timers and commands get their turn
_IDLE_MS = 60_000  # the longest sleep between two steps
_RETRY_MS = 1_000  # until the next step after one that failed
_REPEAT_S = 10  # a trouble that goes on is told again so often
_DROPS_S = 60  # new drops are told so often
_LOCK_WAIT_S = 5
_LOCK_POLL_S = 0.05
_OWNER = "covey serve"
_DEFAULT_TTL = 1
_PLAIN_PORTS = (848, 500)  # RFC 9838 section 2.1.1, RFC 7296 section 2: no marker there


def now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Server:
    """One run of the key server of a site."""

    def __init__(self, site: Site, log: Log, interface: str | None, ttl: int | None):
        self._site = site
        self._log = log
        self._interface = interface  # an address
        self._ttl = ttl or _DEFAULT_TTL
        self._endpoints: list[Endpoint] = []
        self._skipped: list[str] = []
        self._drops = Drops()
        self._drops_told: dict[str, int] = {}
        self._troubles: dict[str, float] = {}  # sentence → when it was told last
        self._unsent = 0
        self._timer: asyncio.TimerHandle | None = None
        self._inbox = Inbox()
        self._works = False  # _work() is to be called

    def run(self) -> int:
        """Serve until a signal: the exit status. Problem where it can't start or go on."""
        store = sqlite.open_existing(self._site.store)
        try:
            _lock(store)
            rules = policy.load(self._site.policy)
            check_room(rules, Authority(Ledger(store)), self._site.policy)
            if self._interface:
                check_interface(self._interface)
            self.check_routes(rules.multicast_addresses)
            self._listen = rules.listen
            self._open_endpoints(rules.listen)
            self._keyserver = KeyServer(store, rules)
            self._operations = Operations(self._site, store, self)
            return asyncio.run(self._serve())
        finally:
            for endpoint in self._endpoints:
                endpoint.close()
            store.close()

    # What Operations calls: the running server's side of a command

    @property
    def listen(self) -> tuple[Listen, ...]:
        """As it was at the start: sockets stay as they are."""
        return self._listen

    @property
    def keyserver(self) -> KeyServer:
        return self._keyserver

    def send(self, outs: list[Out]) -> None:
        """Put messages on the wire. What the system refuses is counted and told."""
        for out in outs:
            if out.address is not None:
                endpoint = self._endpoints[out.address.endpoint]
                error, to = endpoint.send(out.data, out.address), str(out.address)
            else:
                error, to = self._multicast(out), _shown(out.destination)
            if error:
                self._unsent += 1
                self._trouble(f"A message to {to} was not sent: {os.strerror(error)}.")

    def facts(self) -> dict:
        """What `covey status` says about the process itself."""
        return {
            "process": os.getpid(),
            "listen": [str(endpoint) for endpoint in self._endpoints],
            "skipped": self._skipped,
            "drops": self._drops.as_dict(),
            "unsent": self._unsent,
        }

    def check_routes(self, groups: list) -> None:
        """Problem where one of these addresses can't be reached; policy says which are none."""
        for group in groups:
            if is_multicast(group):
                check_route(group, self._interface)

    # Starting and stopping

    def _open_endpoints(self, listen: tuple[Listen, ...]) -> None:
        """Each entry of `listen` or a Problem; beside port 4500 the plain ports, if free."""
        for entry in listen:
            number = len(self._endpoints)
            self._endpoints.append(Endpoint(number, entry.host, entry.port, entry.marker))
        wanted = {(entry.host, entry.port) for entry in listen}
        for entry in listen:
            for port in _PLAIN_PORTS if entry.port == 4500 else ():
                if (entry.host, port) in wanted:
                    continue
                try:
                    number = len(self._endpoints)
                    self._endpoints.append(Endpoint(number, entry.host, port, False))
                except Problem as problem:
                    self._skipped.append(f"{entry.host}:{port}")
                    why = problem.sentence.partition(":")[0]  # covey.toml didn't ask for it
                    self._log.event("skipped", port=port, reason=f"{why.rstrip('.')}.")

    async def _serve(self) -> int:
        loop = asyncio.get_running_loop()
        self._stopped: asyncio.Future[int] = loop.create_future()
        for number, status in ((signal.SIGTERM, 0), (signal.SIGINT, INTERRUPTED)):
            loop.add_signal_handler(number, self._stop, status)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        control = ControlSocket(self._site.control, self._perform)
        self.send(self._keyserver.start(now_ms()))
        what = self._keyserver.relay, self._endpoints, self._keyserver.counters
        self._relaying = Relaying(*what, self._way, self._trouble, now_ms)
        await control.open()
        try:
            for endpoint in self._endpoints:
                loop.add_reader(endpoint.sock, self._readable, endpoint)
            self._step()
            loop.call_later(_DROPS_S, self._tell_drops)
            self._log.event("serving", site=str(self._site.root), **self.facts())
            return await self._stopped
        finally:
            for endpoint in self._endpoints:
                loop.remove_reader(endpoint.sock)
            self._relaying.close()
            if self._timer:
                self._timer.cancel()
            await control.close()
            self._tell_events()
            self._log.event("stopped", **self.facts())

    def _stop(self, status: int) -> None:
        if not self._stopped.done():
            self._stopped.set_result(status)

    # Events of the loop

    def _readable(self, endpoint: Endpoint) -> None:
        for arrived in endpoint.receive(_READS):
            if isinstance(arrived, Esp):
                if not self._relaying.take(*arrived):
                    self._drops.count(DROP_UNKNOWN_SPI)
            elif isinstance(arrived, int):
                self._drops.count(arrived)
            elif not self._inbox.put(*arrived):
                self._keyserver.counters["inbox_full"] += 1
        self._go_on()

    def _go_on(self) -> None:
        if self._inbox and not self._works and not self._stopped.done():
            self._works = True
            asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        """On some of what has arrived; before the rest, the sockets are emptied again."""
        self._works = False
        messages = self._inbox.draw(_BURST)
        if len(messages) == 1:  # the store's Problem then goes to who asked
            self.send(self._guard(partial(self._receive, *messages[0])) or [])
        elif messages:
            self.send(self._guard(partial(self._receive_all, messages)) or [])
        self._step()
        self._go_on()

    def _receive(self, data: bytes, address) -> list[Out]:
        return self._keyserver.receive(data, address, now_ms())

    def _receive_all(self, messages: list) -> list[Out]:
        """All that came at once, written by one sync: it answers nobody before that."""
        outs: list[Out] = []
        with self._keyserver.together(now_ms()):
            for message in messages:
                outs += self._guard(partial(self._receive, *message)) or []
        return outs

    def _step(self) -> None:
        """Move the key server's clock, and come back when it next has something to do."""
        if self._timer:
            self._timer.cancel()
        wait_ms = self._guard(self._advance)
        self._guard(self._relaying.follow)
        self._tell_events()
        wait_ms = _RETRY_MS if wait_ms is None else max(0, min(wait_ms, _IDLE_MS))
        self._timer = asyncio.get_running_loop().call_later(wait_ms / 1000, self._step)

    def _advance(self) -> int:
        outs, wait_ms = self._keyserver.step(now_ms())
        self.send(outs)
        return wait_ms

    def _perform(self, request: dict) -> dict:
        """One command from the control socket; a Problem goes to whoever asked."""
        try:
            return self._operations.perform(request, now_ms())
        except Fenced as fenced:
            self._fail(fenced)
            raise
        except Problem:
            raise
        except Exception as error:
            self._fault(error)
            raise
        finally:
            self._step()

    def _reload(self) -> None:
        answer = self._guard(partial(self._perform, {"do": "reload"}))
        if answer and answer["listen_waits"]:
            self._trouble(LISTEN_WAITS)

    def _guard(self, work: Callable):
        """The work's result; None where it failed, which is told and goes no further."""
        try:
            return work()
        except Fenced as fenced:
            self._fail(fenced)
        except Problem as problem:
            self._trouble(problem.sentence)
        except Exception as error:
            self._fault(error)
        return None

    def _fail(self, problem: Problem) -> None:
        if not self._stopped.done():
            self._stopped.set_exception(problem)

    # What the log is told

    def _tell_events(self) -> None:
        events = self._keyserver.events
        if events:
            told = list(events)
            events.clear()
            self._log.events(told)

    def _tell_drops(self) -> None:
        asyncio.get_running_loop().call_later(_DROPS_S, self._tell_drops)
        counts = {**self._keyserver.counters, **self._drops.as_dict()}
        if counts != self._drops_told:
            self._drops_told = counts
            self._log.event("drops", **counts)

    def _trouble(self, sentence: str) -> None:
        """Told at once, then every _REPEAT_S while it goes on: a log is not to be flooded."""
        now = time.monotonic()
        if now - self._troubles.get(sentence, -_REPEAT_S) >= _REPEAT_S:
            if len(self._troubles) > 1000:
                self._troubles.clear()
            self._troubles[sentence] = now
            self._log.event("trouble", reason=sentence)

    def _fault(self, error: Exception) -> None:
        """A fault of ours: where it happened, not what it says (that may hold anything)."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        file = os.path.basename(place.filename)
        self._trouble(f"A fault inside: {type(error).__name__} in {file}:{place.lineno}.")
        if os.environ.get("COVEY_DEBUG") == "1":
            traceback.print_exception(error, file=sys.stderr)

    def _multicast(self, out: Out) -> int:
        """From the socket on the rekeys' own port if there is one: some members may check it."""
        group, port = out.destination
        endpoint = self._on(port)
        return endpoint.send_multicast(out.data, out.marker, group, port, *self._way(port))

    def _on(self, port: int) -> Endpoint:
        return next((e for e in self._endpoints if e.port == port), self._endpoints[0])

    def _way(self, port: int) -> tuple[str | None, int]:
        """Interface and TTL of multicast that is sent from, or heard beside, this port."""
        host = self._on(port).host
        return self._interface or (None if host == "0.0.0.0" else host), self._ttl


def _lock(store: Store) -> None:
    """Be the one server of the site, as soon as a command that is at work has ended."""
    end = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            return store.lock(_OWNER)
        except Locked as locked:
            if locked.holder.startswith(_OWNER) or time.monotonic() > end:
                raise
        time.sleep(_LOCK_POLL_S)


def _shown(destination: tuple[str, int]) -> str:
    return f"{destination[0]}:{destination[1]}"
