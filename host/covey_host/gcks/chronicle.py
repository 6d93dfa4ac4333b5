"""What is told of a running key server: to its log, to the audit log, to who asks how it is."""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from covey.drops import Drops

from .. import permissions
from ..audit.journal import Journal
from ..audit.recorder import Recorder, person
from ..control import caller
from ..errors import Problem
from ..output import Log
from ..service import health
from ..site import Site
from ..store import Store, location
from .keyserver import KeyServer
from .ledger import Ledger
from .troubles import Troubles

_DROPS_S = 60  # new drops are told so often
_MARK_MS = 1_000  # so much the store is behind the audit log at most
_IDLE_MS = 60_000


class Chronicle:
    """facts(): of the process, for the log. Until open() only troubles are told."""

    def __init__(self, site: Site, log: Log, drops: Drops, facts: Callable[[], dict]):
        self._site = site
        self._log = log
        self._drops = drops
        self._drops_told: dict[str, int] = {}
        self._facts = facts
        self._keyserver: KeyServer | None = None
        self.troubles = Troubles(lambda sentence: log.event("trouble", reason=sentence))

    def open(self, store: Store, keyserver: KeyServer) -> None:
        """keyserver: started, and nothing of what it said is sent. Problem where there can be no
        audit log: a person is there to read it."""
        self._store = store
        who = location.replica_of(self._site)
        ledger = Ledger(store, None if who else keyserver.ledger.term)
        journal = Journal(self._site.root, ledger, time.time, who=who)
        policy = self._site.policy
        self._recorder = Recorder(journal, policy, self.troubles.trouble, has_events=True)
        self._keyserver = keyserver
        keyserver.on_full = self.tell
        # A kill may have kept the entry of a rekey from being written: the numbers tell.
        facts = {"groups": keyserver.epochs(), **self._recorder.policy()}
        self._recorder.enter("started", run_by=person(os.getuid(), os.getpid()), **facts)

    def serving(self) -> None:
        self._log.event("serving", site=str(self._site.root), **self._facts())
        asyncio.get_running_loop().call_later(_DROPS_S, self._tell_drops)

    def tell(self) -> None:
        """What has happened. To be called before anything leaves that others learn of it by."""
        if self._keyserver is None or not self._keyserver.events:
            return
        now_s = time.monotonic()
        events = list(self._keyserver.events)
        self._keyserver.events.clear()
        self._log.events(events)
        for name, facts in events:
            self._recorder.event(name, facts, now_s)
        self._recorder.settle()

    def step(self) -> None:
        """What time has brought. Problem where the store takes no mark."""
        self._recorder.step(time.monotonic())

    @property
    def wait_ms(self) -> int:
        """The longest until the next step()."""
        return _MARK_MS if self._recorder.is_behind else _IDLE_MS

    def command(self, request: dict, who: dict[str, Any] | None = None):
        """Around a command: by whoever is at the control socket, unless it says who."""
        self.tell()  # what is there is not of this command
        asks = caller()
        of_ours = self._keyserver.authority, self._keyserver.policy.groups, request
        takes = partial(permissions.only_takes, *of_ours)
        by = who or person(asks["user"], asks["process"])
        return self._recorder.command(request, by, takes)

    def health(self, status: dict[str, Any], others: list[str]) -> dict[str, Any]:
        """status: the key server's. others: faults that are known already."""
        faults = others + health.faults(self._store, self._recorder.look(), status)
        warnings = health.warnings(was_cut=self._recorder.was_cut)
        return health.answer(faults, self.troubles.recent(), warnings)

    def close(self) -> None:
        self.tell()
        self._log.event("stopped", **self._facts())
        if self._keyserver is not None:
            self._recorder.enter("stopped")
            with suppress(Problem):  # the mark is found again in the file
                self._recorder.close()

    def _tell_drops(self) -> None:
        asyncio.get_running_loop().call_later(_DROPS_S, self._tell_drops)
        counts = {**self._keyserver.counters, **self._drops.as_dict()}
        if counts != self._drops_told:
            self._drops_told = counts
            self._log.event("drops", **counts)
