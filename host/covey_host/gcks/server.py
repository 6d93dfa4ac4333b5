"""`covey serve`: sockets, timers, signals and the control socket around the sans-IO KeyServer.

One event loop, one thread. Whatever KeyServer hands back has been written to the store already;
here it is only sent. One bad datagram, one fault or one full disk ends one piece of work, never
the server; only a newer term (Fenced) does, where it is the only one on its store. Among
others (among.py) it ends where its name has become another's (Ousted).
"""

import asyncio
import gc
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from covey.drops import DROP_UNKNOWN_SPI, Drops

from .. import interrupts
from ..control import ControlSocket
from ..errors import INTERRUPTED, MISUSE, Problem
from ..operations import LISTEN_WAITS, Operations, changes_state
from ..output import Log
from ..service.account import Account
from ..service.notify import Notifier
from ..site import Site
from ..store import Fenced, Locked, Ousted, Store, WentBack, location
from ..vault.opening import open_store
from . import Out, policy
from .authority import Authority
from .chronicle import Chronicle
from .clock import now_ms
from .inbox import Inbox
from .keyserver import KeyServer
from .ledger import Ledger
from .policy import SitePolicy
from .policyvalues import Listen
from .relaying import Relaying
from .room import check_room
from .sockets import Address, Endpoint, Esp, check_interface, check_route, is_multicast
from .spis import Spis
from .thinning import THIN_MS
from .workers import Work, Workers

if TYPE_CHECKING:
    from .among import Among

_READS = 512  # datagrams read from one socket, and
_BURST = 32  # messages worked on, before timers and commands get their turn
_RETRY_MS = 1_000  # until the next step after one that failed
_FINISH_S = 10  # the most that is waited at the end, for a removal to be through
_FINISH_POLL_S = 0.05
_DRAIN_S = 1  # the least for which members that come are sent elsewhere
_LOCK_WAIT_S = 5
_LOCK_POLL_S = 0.05
_OWNER = "covey serve"
_DEFAULT_TTL = 1
_PLAIN_PORTS = (848, 500)  # RFC 9838 section 2.1.1, RFC 7296 section 2: no marker there


class Server:
    """One run of the key server of a site."""

    def __init__(
        self,
        site: Site,
        log: Log,
        interface: str | None,
        ttl: int | None,
        account: Account | None = None,
        workers: int = 0,
    ):
        """workers: so many processes beside this one do what strangers ask for; see workers.py."""
        self._workers = Workers(workers, site) if workers else None
        self._site = site
        self._log = log
        self._interface = interface  # an address
        self._ttl = ttl or _DEFAULT_TTL
        self._account = account
        self._notifier = Notifier()
        self._endpoints: list[Endpoint] = []
        self._skipped: list[str] = []
        self._drops = Drops()
        self._chronicle = Chronicle(site, log, self._drops, self.facts)
        self._trouble = self._chronicle.troubles.trouble
        self._fault = self._chronicle.troubles.fault
        self._unsent = 0
        self._timer: asyncio.TimerHandle | None = None
        self._inbox = Inbox(lambda *of: self._keyserver.has_cookie(*of, now_ms()))
        self._works = False  # _work() is to be called
        self._among: Among | None = None  # where there are others
        self._is_serving = False

    def run(self) -> int:
        """Serve until a signal: the exit status. Problem where it can't start or go on."""
        if self._account:
            self._account.assume()
        store = open_store(self._site)
        try:
            who = location.replica_of(self._site)
            _lock(store, who)
            rules = policy.load(self._site.policy)
            if who:
                self._among = self._among_others(store, who, rules)
                rules = self._among.policy
            check_room(rules, Authority(Ledger(store)), self._site.policy)
            if self._interface:
                check_interface(self._interface)
            self.check_routes(rules.multicast_addresses)
            self._listen = rules.listen
            if self._account:
                with self._account.as_root():
                    self._open_endpoints(rules.listen)
                self._account.drop()
            else:
                self._open_endpoints(rules.listen)
            self._store = store
            if self._among:
                self._keyserver = self._among.keyserver
            else:
                self._keyserver = KeyServer(store, rules, spis=self._spis(), now=now_ms)
            self._operations = Operations(self._site, store, self)
            return interrupts.run(self._serve)
        finally:
            if self._workers:
                self._workers.close()
            for endpoint in self._endpoints:
                endpoint.close()
            store.close()

    def _among_others(self, store: Store, who: str, rules: SitePolicy) -> "Among":
        from .among import Among  # nothing that a site with a state.db needs

        at = location.own_of(self._site).advertise
        return Among(store, who, rules, self._site.policy, at, self._trouble, self._spis(), now_ms)

    def _spis(self) -> Spis | None:
        return self._workers.spis if self._workers else None

    # What Operations calls: the running server's side of a command

    @property
    def listen(self) -> tuple[Listen, ...]:
        """As it was at the start: sockets stay as they are."""
        return self._listen

    @property
    def keyserver(self) -> KeyServer:
        return self._keyserver

    def send(self, outs: list[Out]) -> None:
        """Put messages on the wire. What the system refuses is counted and told. Nobody hears
        of anything that the audit log doesn't tell, unless its disk is full."""
        self._chronicle.tell()
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
        endpoints = self._workers.endpoints() if self._workers else self._endpoints
        return {
            "process": os.getpid(),
            "listen": [str(endpoint) for endpoint in self._endpoints],
            "skipped": self._skipped,
            "drops": self._drops.as_dict(),
            "unsent": self._unsent,
            "workers": self._workers.processes() if self._workers else {},
            "lost": sum(endpoint.thinning.lost for endpoint in endpoints),
            **({"replica": self._among.name} if self._among else {}),
        }

    def cluster(self) -> dict | None:
        """What it says of the others."""
        return self._among.status(now_ms()) if self._among else None

    def reload(self, rules: SitePolicy, text: str, now_ms: int) -> list[Out]:
        """text: what the policy was read from."""
        if self._among:
            return self._among.reload(rules, text, now_ms)
        return self._keyserver.reload(rules, now_ms)

    def drain(self) -> list[str]:
        """Members go to those hosts; when they know, this server ends."""
        if not self._among:
            raise Problem("This key server is the only one of its site: stop it.", MISUSE)
        hosts, outs = self._among.drain(now_ms())
        self.send(outs)
        if self._drains is None:
            self._drains = asyncio.get_running_loop().create_task(self._drain())
        return hosts

    def check_routes(self, groups: list) -> None:
        """Problem where one of these addresses can't be reached; policy says which are none."""
        for group in groups:
            if is_multicast(group):
                check_route(group, self._interface)

    # Starting and stopping

    def _open_endpoints(self, listen: tuple[Listen, ...]) -> None:
        """Each entry of `listen` or a Problem; beside port 4500 the plain ports, if free; workers
        have as many."""
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
        if self._workers:
            self._workers.open(self._endpoints)

    async def _serve(self) -> int:
        loop = asyncio.get_running_loop()
        self._stopped: asyncio.Future[int] = loop.create_future()
        for number, status in ((signal.SIGTERM, 0), (signal.SIGINT, INTERRUPTED)):
            loop.add_signal_handler(number, self._stop, status)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        control = ControlSocket(self._site.control, self._perform)
        self._drains: asyncio.Task | None = None
        outs = (self._among or self._keyserver).start(now_ms())
        self._chronicle.open(self._store, self._keyserver)
        self.send(outs)
        what = self._keyserver.relay, self._endpoints, self._keyserver.counters
        self._relaying = Relaying(*what, self._way, self._trouble, now_ms)
        await control.open()
        try:
            if self._workers:
                await self._workers.start(self)
            for endpoint in () if self._workers else self._endpoints:
                loop.add_reader(endpoint.sock, self._readable, endpoint)
            self._step()
            status = await self._stopped
            self._notifier.stopping()
            if status != INTERRUPTED:
                await self._finish()
            if self._among:
                self.send(self._guard(partial(self._among.leave, now_ms())) or [])
            return status
        finally:
            for endpoint in self._endpoints:
                loop.remove_reader(endpoint.sock)
            self._relaying.close()
            if self._timer:
                self._timer.cancel()
            await control.close()
            self._guard(self._keyserver.flush)
            self._chronicle.close()
            self._notifier.close()

    def _begin_to_serve(self) -> None:
        self._is_serving = True
        _settle_garbage()
        self._chronicle.serving()
        self._notifier.ready(self._status())
        self._keep_alive()

    async def _drain(self) -> None:
        """Until members have heard of it; not for ever. Then end."""
        least, end = time.monotonic() + _DRAIN_S, time.monotonic() + _FINISH_S
        while time.monotonic() < end:
            if self._among.is_drained and time.monotonic() >= least:
                break
            await asyncio.sleep(_FINISH_POLL_S)
        self._stop(0)

    async def _finish(self) -> None:
        """What is said by halves is said to its end: a removal. A second signal ends this."""
        self._has_time = True
        end = time.monotonic() + _FINISH_S
        while self._has_time and not self._keyserver.is_settled and time.monotonic() < end:
            await asyncio.sleep(_FINISH_POLL_S)

    def _stop(self, status: int) -> None:
        self._has_time = False
        if not self._stopped.done():
            self._stopped.set_result(status)

    def _keep_alive(self) -> None:
        """For systemd's watchdog: said by the loop itself, so that one that is stuck is silent."""
        if self._notifier.watchdog_s:
            self._notifier.alive()
            asyncio.get_running_loop().call_later(self._notifier.watchdog_s, self._keep_alive)

    def _status(self) -> str:
        return f"{len(self._keyserver.epochs())} groups on {', '.join(map(str, self._endpoints))}"

    # Events of the loop

    def _readable(self, endpoint: Endpoint) -> None:
        endpoint.thinning.follow(time.monotonic(), self._inbox.begins)
        for arrived in endpoint.receive(_READS):
            if isinstance(arrived, Esp):
                self.take_esp(*arrived)
            elif isinstance(arrived, int):
                self._drops.count(arrived)
            elif not self._inbox.put(*arrived):
                self._keyserver.counters["inbox_full"] += 1
        self._go_on()

    def take_esp(self, data: bytes, address: Address) -> None:
        if not self._relaying.take(data, address):
            self._drops.count(DROP_UNKNOWN_SPI)

    def _go_on(self) -> None:
        if self._inbox and not self._works and not self._stopped.done():
            self._works = True
            asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        """On some of what has arrived; before the rest, the sockets are emptied again."""
        self._works = False
        receive = self._keyserver.receive
        self.take([partial(receive, *message) for message in self._inbox.draw(_BURST)])
        self._go_on()

    def take(self, works: list[Work]) -> None:
        """What came at once."""
        if len(works) == 1:  # the store's Problem then goes to who asked
            self.send(self._guard(partial(works[0], now_ms())) or [])
        elif works:
            self.send(self._guard(partial(self._take_all, works)) or [])
        self._step()

    def _take_all(self, works: list[Work]) -> list[Out]:
        """Written by one sync: nobody is answered before that."""
        outs: list[Out] = []
        with self._keyserver.together(now_ms()) as late:
            for work in works:
                outs += self._guard(partial(work, now_ms())) or []
        return outs + late

    def _step(self) -> None:
        """Move the key server's clock, and come back when it next has something to do."""
        if self._timer:
            self._timer.cancel()
        wait_ms = self._guard(self._advance)
        self._guard(self._relaying.follow)
        if self._workers:
            self._workers.follow()
        self._chronicle.tell()
        self._guard(self._chronicle.step)
        wait_ms = _RETRY_MS if wait_ms is None else max(0, wait_ms)
        wait_ms = min(wait_ms, self._chronicle.wait_ms)
        if any(endpoint.thinning.is_on for endpoint in self._endpoints):
            wait_ms = min(wait_ms, self._thin())
        self._timer = asyncio.get_running_loop().call_later(wait_ms / 1000, self._step)
        if not self._is_serving and (not self._among or self._among.is_ready):
            self._begin_to_serve()

    def _thin(self) -> int:
        """Of a flood that is over nobody would wake us; ms until the next look."""
        for endpoint in self._endpoints:
            endpoint.thinning.follow(time.monotonic(), self._inbox.begins)
        return THIN_MS

    def _advance(self) -> int:
        outs, wait_ms = (self._among or self._keyserver).step(now_ms())
        self.send(outs)
        return wait_ms

    def _perform(self, request: dict) -> dict:
        """One command from the control socket; a Problem goes to whoever asked."""
        if request.get("do") == "health":
            others = self._workers.faults() if self._workers else []
            others += self._among.faults(now_ms()) if self._among else []
            return self._chronicle.health(self._keyserver.status(now_ms()), others)
        return self._perform_by(None, request)

    def _perform_by(self, who: dict[str, Any] | None, request: dict) -> dict:
        """who: None for whoever is at the control socket."""
        try:
            with self._chronicle.command(request, who) as told:
                try:
                    return self._do(request) | told
                finally:
                    self._step()
        except Fenced as fenced:
            if not self._among or isinstance(fenced, Ousted):
                self._fail(fenced)
            raise
        except Problem:
            raise
        except Exception as error:
            self._fault(error)
            raise

    def _do(self, request: dict) -> dict:
        def work() -> dict:
            return self._operations.perform(request, now_ms())

        if self._among and changes_state(request):
            return self._among.lead_for(work, self.send, now_ms)
        return work()

    def _reload(self) -> None:
        self._notifier.reloading()
        what = partial(self._perform_by, {"signal": "SIGHUP"}, {"do": "reload"})
        answer = self._guard(what)
        if answer and answer["listen_waits"]:
            self._trouble(LISTEN_WAITS)
        self._notifier.ready(self._status())

    def _guard(self, work: Callable):
        """The work's result; None where it failed, which is told and goes no further."""
        try:
            return work()
        except (WentBack, Ousted) as problem:
            self._fail(problem)
        except Fenced as fenced:
            if not self._among:
                self._fail(fenced)
            self._trouble(fenced.sentence)
        except Problem as problem:
            self._trouble(problem.sentence)
        except Exception as error:
            self._fault(error)
        return None

    def _fail(self, problem: Problem) -> None:
        if not self._stopped.done():
            self._stopped.set_exception(problem)

    # What workers say

    def event(self, name: str, **facts: Any) -> None:
        """Of what happens to workers."""
        self._log.event(name, **facts)

    def trouble(self, sentence: str) -> None:
        self._trouble(sentence)

    # Sending

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


def _settle_garbage() -> None:
    """What there is now stays: it is not looked through again. Of what comes, most dies by itself:
    no need to look for circles after every 700 objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _lock(store: Store, who: str) -> None:
    """Be the one server of the site, or its replica `who`, as soon as a command that is at work
    has ended."""
    end = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            return store.join(who) if who else store.lock(_OWNER)
        except Locked as locked:
            if locked.holder.startswith(_OWNER) or time.monotonic() > end:
                raise
        time.sleep(_LOCK_POLL_S)


def _shown(destination: tuple[str, int]) -> str:
    return f"{destination[0]}:{destination[1]}"
