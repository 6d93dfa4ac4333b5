"""The scene that the project is about: a legitimate member that listens to temperatures poses as
their producer. Two groups side by side, the same but for `source_auth`.

In each a producer (CPython), a valve (MicroPython) and a spy (spy.py), all members of one group.
"""

import asyncio
import sys
import time
from dataclasses import dataclass

from . import attacks
from .cast import Child, Member
from .verdicts import Verdict

FORGED = 10  # commands
_ENOUGH = 10  # genuine ones, before and after
_PATIENCE_S = 30
_POLL_S = 0.05
_RARELY_MS = 400  # between two commands, where each is verified by itself, and takes time


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
    refused = told.drops.get("source", 0)
    if told.source_auth == "none":
        ok = told.obeyed == told.sent > 0
        detail = f"the valve obeyed {told.obeyed} of {told.sent} forged commands"
        detail += f"; {told.drops.get('replay', 0)} of the producer's own came too late for it"
    else:
        ok = told.obeyed == 0 and refused == told.sent > 0 and told.heard >= _ENOUGH
        detail = f"the valve obeyed {told.obeyed} of {told.sent} forged commands, counted: source"
        detail += f" {refused}; and went on to obey the producer"
    return Verdict(f"a member poses as the producer, source_auth {told.source_auth}", ok, detail)


class Imposture:
    """One group. arch: of the valve's MicroPython."""

    def __init__(self, stage, group: str, source_auth: str, arch: str):
        self._stage = stage
        self.group, self.source_auth = group, source_auth
        self.producer = Member(f"{group}-producer", None, connection="70726f64")
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
        pace = f" {_RARELY_MS}" if self.source_auth == "ecdsa" else ""
        self.producer.child.tell("go" + pace)
        await self._until(lambda: self._genuine() >= _ENOUGH)
        before = self._genuine()
        spy_child.tell(f"forge {FORGED}")
        sent = (await spy_child.hear(lambda e: e["event"] == "forged"))["sent"]
        await self._until(lambda: self._obeyed() + self._drops("source") >= sent)
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
