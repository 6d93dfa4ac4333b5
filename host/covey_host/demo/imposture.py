"""The scene that the project is about: a legitimate member that listens to temperatures poses as
their producer. Groups side by side, the same but for `source_auth`.

In each a producer (CPython), a valve (MicroPython) and a spy (spy.py), all members of one group.
"""

import asyncio
import sys
import time
from dataclasses import dataclass

from . import attacks
from .cast import Child, Member
from .verdicts import Verdict

MODES = {  # groups, what proves who sends there, and what their policy says besides
    "open": ("none", ""),
    "proven": ("mac", ""),
    "timed": ("tesla", 'tesla_interval = "50ms"\n'),
    "signed": ("ecdsa", ""),
}
FORGED = 10  # commands
_REFUSED = ("source", "unsafe", "unproven", "crowded")
_SELDOM_MS = 250  # between commands that are signed: a board takes some time to verify one
_ENOUGH = 10  # genuine ones, before and after
_PATIENCE_S = 30
_POLL_S = 0.05


@dataclass(frozen=True)
class Told:
    """What a valve came to. obeyed: of the forged commands; heard: of genuine ones, afterwards."""

    source_auth: str
    sent: int
    obeyed: int
    heard: int
    drops: dict[str, int]


def judged(told: Told) -> Verdict:
    """Without source authentication it obeys, and that is what is to be shown."""
    refused = {reason: told.drops[reason] for reason in _REFUSED if reason in told.drops}
    if told.source_auth == "none":
        ok = told.obeyed == told.sent > 0
        detail = f"the valve obeyed {told.obeyed} of {told.sent} forged commands"
        detail += f"; {told.drops.get('replay', 0)} of the producer's own came too late for it"
    else:
        ok = told.obeyed == 0 and told.heard >= _ENOUGH and sum(refused.values()) >= told.sent > 0
        detail = f"the valve obeyed {told.obeyed} of {told.sent} forged commands, counted: "
        detail += ", ".join(f"{reason} {n}" for reason, n in refused.items())
        detail += "; and went on to obey the producer"
    return Verdict(f"a member poses as the producer, source_auth {told.source_auth}", ok, detail)


class Imposture:
    """One group. arch: of the valve's MicroPython."""

    def __init__(self, stage, group: str, arch: str):
        self._stage = stage
        self.group = group
        self.source_auth, self.policy = MODES[group]
        period_ms = _SELDOM_MS if self.source_auth == "ecdsa" else None
        self.producer = Member(f"{group}-producer", None, "70726f64", period_ms)
        self.valve = Member(f"{group}-valve", arch)
        self.spy_name = f"{group}-spy"

    @property
    def names(self) -> dict[str, bool]:
        """Its members, and whether each sends."""
        return {self.producer.name: True, self.valve.name: False, self.spy_name: False}

    async def play(self) -> Told:
        stage = self._stage
        spy_child = Child(self.spy_name, stage.folder)
        stage.keep(spy_child)
        settings = stage.site.members / self.spy_name / "covey.json"
        listening = spy_child.hear(lambda e: e["event"] == "listening")
        await spy_child.start([sys.executable, "-m", "covey_host.demo.spy", settings])
        await asyncio.gather(*(stage.start(m) for m in (self.valve, self.producer)), listening)
        self.producer.child.tell("go")
        await self._until(lambda: self._genuine() >= _ENOUGH)
        before = self._genuine()
        spy_child.tell(f"forge {FORGED}")
        sent = (await spy_child.hear(lambda e: e["event"] == "forged"))["sent"]
        await self._until(lambda: self._obeyed() + sum(map(self._drops, _REFUSED)) >= sent)
        await self._until(
            lambda: self._genuine() - before + self._drops("replay") >= _ENOUGH
        )  # it goes on, heard or not
        facts = self.valve.facts
        told = Told(
            self.source_auth, sent, self._obeyed(), self._genuine() - before, facts["drops"]
        )
        self.producer.child.tell("stop")
        for child in (spy_child, self.valve.child, self.producer.child):
            stage.let_go(child)
            await child.end()
        return told

    def _obeyed(self) -> int:
        return self._count(attacks.CONNECTION.hex())

    def _genuine(self) -> int:
        return self._count(self.producer.connection)

    def _count(self, connection: str) -> int:
        return self.valve.facts["flows"].get(connection, {}).get("count", 0)

    def _drops(self, reason: str) -> int:
        return self.valve.facts["drops"].get(reason, 0)

    async def _until(self, is_done) -> None:
        """Or until it has had time enough: what did not come about is judged."""
        end = time.monotonic() + _PATIENCE_S
        while not is_done() and time.monotonic() < end:
            await self.valve.report()
            await asyncio.sleep(_POLL_S)
