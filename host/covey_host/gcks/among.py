"""`covey serve` among others on one store in etcd: what the server does because it is a replica.

It hears of the others and says of itself where members find it, takes the policy that is in force
from the store, becomes the holder before it does what a person asks for, and sends members
elsewhere before it ends. Who leads, and when: replica.py; what it may do: sharedserver.py.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import Problem
from ..store import Fenced, Ousted, Store
from . import Out, policy, sitepolicy
from .company import Company, Said
from .ledger import Ledger
from .policy import SitePolicy
from .policyvalues import Listen
from .replica import LACKS_POLICY, Replica
from .sharedserver import DOUBT_MS, SharedKeyServer
from .sockets import own_address
from .spis import Spis

_HEAR_MS = 1_000  # from one time that it hears who the others are to the next
_IN_FORCE = "The policy is in force all the same: what is left to do is tried again and again."
_AGAIN = 3  # how often a command is begun anew where another became the holder meanwhile


class Among:
    """rules: of this machine's covey.toml. advertise: where members find it; "": as it listens.
    now(): as KeyServer has it."""

    def __init__(
        self,
        store: Store,
        name: str,
        rules: SitePolicy,
        file: Path,
        advertise: str,
        trouble: Callable[[str], None],
        spis: Spis | None = None,
        now: Callable[[], int] | None = None,
    ):
        self.name = name
        self._store = store
        self._file = file
        self._listen = rules.listen
        self._at = advertise or _own_host(rules.listen)
        self._trouble = trouble
        self._text = sitepolicy.read(Ledger(store))  # as the store has it; None: not yet
        rules = rules if self._text is None else sitepolicy.parse(self._text, rules.listen)
        self.keyserver = SharedKeyServer(store, rules, replica=name, spis=spis, now=now)
        self.keyserver.on_policy = self._adopted
        self.keyserver.elsewhere = lambda sa: self.keyserver.redirects.to_holder(sa)
        self._company = Company(name)
        self._replica = Replica(store, self.keyserver, self._facts, os.urandom)
        self._heard_ms = self._stepped_ms = 0
        self._is_draining = False

    @property
    def policy(self) -> SitePolicy:
        return self.keyserver.policy

    def start(self, now_ms: int) -> list[Out]:
        self._replica.start(now_ms)
        if self._text is not None:
            self._compare(self.policy)
        return []

    @property
    def is_ready(self) -> bool:
        """Whether it takes members, or has the term."""
        return self.keyserver.is_ready

    def step(self, now_ms: int) -> tuple[list[Out], int]:
        """As KeyServer.step(). Problem: from the store; it goes on."""
        self._stepped_ms = now_ms
        outs, wait_ms = self._replica.step(now_ms)
        if self._replica.trouble:
            self._trouble(self._replica.trouble)
        else:
            outs += self._look(now_ms)
        self._aim(now_ms)
        try:
            more, next_ms = self.keyserver.step(now_ms)
        except BaseException:
            self.keyserver.keep(outs)
            raise
        return outs + more, min(wait_ms, next_ms)

    def _look(self, now_ms: int) -> list[Out]:
        """What there is to do while the store answers."""
        try:
            if now_ms - self._heard_ms >= _HEAR_MS:
                self._heard_ms = now_ms
                self._company.hear(self._store.replicas(), now_ms)
            return self._enter_policy(now_ms) if self.keyserver.is_holder else []
        except Ousted:
            raise
        except Fenced:
            return self.keyserver.step_down(now_ms)
        except Problem as problem:
            self._trouble(problem.sentence)
            return []

    # What people ask for

    def lead_for(self, work: Callable[[], dict], send: Callable[[list[Out]], None], now: Callable):
        """Do what only the holder may, as the holder. Problem: this one could lead only by a new
        run, though others may live, or the store can't be written."""
        if not self.is_ready and not self.keyserver.lacks_policy:
            raise Problem("The key server has just started: try again in some seconds.")
        for left in reversed(range(_AGAIN)):
            try:
                send(self._replica.take(now()))
                return work()
            except Ousted:
                raise
            except Fenced:  # somebody asked another replica for something
                send(self.keyserver.step_down(now()))
                if not left:
                    raise
        return None

    def reload(self, rules: SitePolicy, text: str, now_ms: int) -> list[Out]:
        """That text is in force, everywhere. Only as the holder."""
        ledger = self.keyserver.ledger
        if self._text is not None and self.policy.groups.keys() - rules.groups.keys():
            sitepolicy.remember(ledger, self._text)
        sitepolicy.write(ledger, text)
        self._text = text
        try:
            return self.keyserver.reload(rules, now_ms)
        except Fenced:
            raise
        except Problem as problem:
            sentence = f"{problem.sentence} {_IN_FORCE}"
            raise Problem(sentence, problem.status) from problem

    def drain(self, now_ms: int) -> tuple[list[str], list[Out]]:
        """→ where members are sent, what is to be said. Problem where there is nobody else."""
        with suppress(Problem):
            self._company.hear(self._store.replicas(), now_ms)
        others = self._company.others(now_ms)
        if not others:
            raise Problem(
                "No other key server takes members: stop this one, and they go on with the keys"
                " that they have."
            )
        self._is_draining = True
        self._aim(now_ms)
        outs = self.keyserver.drain(now_ms)
        self._replica.resign(now_ms)
        return [said.at for said in others], outs

    def leave(self, now_ms: int) -> list[Out]:
        """At the end: another one leads at once. Problem: it finds out by silence."""
        self._is_draining = True
        return self._replica.resign(now_ms)

    @property
    def is_drained(self) -> bool:
        """Whether members have heard of drain()."""
        return self.keyserver.is_drained

    # What is told

    def status(self, now_ms: int) -> dict[str, Any]:
        """For `covey status`."""
        lead = self.keyserver.lead_seen
        holder = lead.owner if lead is not None else ""
        return {
            "name": self.name,
            "ready": self.is_ready,
            "lacks_policy": self.keyserver.lacks_policy,
            "away": self._is_away(now_ms),
            "leads": self.keyserver.is_holder,
            "draining": self._is_draining,
            "holder": holder or None,
            "term": lead.term if lead is not None else None,
            "revision": self.keyserver.since,
            "lag_ms": self._lag_ms(now_ms),
            "replicas": self._company.shown(now_ms),
        }

    def faults(self, now_ms: int) -> list[str]:
        """Why members had better go elsewhere: for `covey health`."""
        found = []
        if self.keyserver.lacks_policy:
            found.append(LACKS_POLICY)
        elif not self.is_ready:
            found.append("It does not know yet what the other key servers have done: wait.")
        elif self._is_away(now_ms):
            found.append(f"It has not reached its store for {self._lag_ms(now_ms) // 1000} s.")
        if self._is_draining:
            found.append("It is about to end.")
        return found

    def _lag_ms(self, now_ms: int) -> int | None:
        at = self.keyserver.caught_up_ms
        return None if at is None else max(0, now_ms - at)

    def _is_away(self, now_ms: int) -> bool:
        lag_ms = self._lag_ms(now_ms)
        return lag_ms is not None and lag_ms > DOUBT_MS

    def _facts(self) -> dict[str, Any]:
        takes = self.is_ready and not self._is_draining
        listen = tuple(f"{entry.host}:{entry.port}" for entry in self._listen)
        machine = os.uname().nodename, os.getpid()
        known = self.keyserver.since, self._lag_ms(self._stepped_ms)
        return asdict(Said(self._at, listen, *machine, *known, self.keyserver.is_holder, takes))

    def _aim(self, now_ms: int) -> None:
        """Where members are sent, if they are."""
        if not self.is_ready:
            return
        redirects, lead = self.keyserver.redirects, self.keyserver.lead_seen
        redirects.is_away = self._is_away(now_ms)
        if not redirects.is_away:  # else as it was when that was known last
            redirects.hosts = self._company.hosts(now_ms, self._at)
        redirects.holder = "" if lead is None else self._company.at(lead.owner, now_ms)

    # Policy

    def _adopted(self, value: bytes) -> SitePolicy | None:
        """What the store says is in force; None: it is already. Problem where this machine can't
        have it."""
        text = value.decode()
        if text == self._text:
            return None
        rules = sitepolicy.parse(text, self._listen)
        self._text = text
        self._compare(rules)
        return rules

    def _compare(self, rules: SitePolicy) -> None:
        with suppress(Problem):  # a file with a mistake is told by whoever takes it
            if sitepolicy.is_same(policy.load(self._file), rules):
                return
        self._trouble(sitepolicy.DIFFERS)

    def _enter_policy(self, now_ms: int) -> list[Out]:
        """The first holder puts its file in force; a reload that failed halfway goes on."""
        if self._text is None:
            text = policy.text_of(self._file)
            rules = sitepolicy.parse(text, self._listen)
            if not sitepolicy.is_same(rules, self.policy):
                return self.reload(rules, text, now_ms)  # it was edited since the start
            sitepolicy.write(self.keyserver.ledger, text)
            self._text = text
        unfinished = self.keyserver.unfinished
        return [] if unfinished is None else self.keyserver.reload(unfinished, now_ms)


def _own_host(listen: tuple[Listen, ...]) -> str:
    """Where members most likely find a server that listens there."""
    hosts = [entry.host for entry in listen if entry.host != "0.0.0.0"]
    return hosts[0] if hosts else own_address()
