"""The scene that the project is about: a legitimate member that listens to temperatures poses as
their producer. Groups side by side, the same but for `source_auth`.

In each a producer (CPython), a valve (MicroPython) and a spy (spy.py), all members of one group.
"""

import asyncio
import sys
import time
from collections import Counter
from dataclasses import dataclass

from . import attacks
from .cast import Child, Member
from .verdicts import Verdict

MODES = {"open": "none", "proven": "mac", "timed": "tesla", "signed": "ecdsa"}  # by group
FORGED = 10  # commands, by turns of two ways (forger.py)
_REFUSED = ("source", "unsafe", "unproven", "crowded")
# What must be among it: a proof that was taken over, or made without a key, is wrong; one under a
# key that is out comes too late.
_KINDS = {"mac": ("source",), "tesla": ("source", "unsafe"), "ecdsa": ("source",)}
_SELDOM_MS = 250  # between commands that are signed: a board takes some time to verify one
_ENOUGH = 10  # genuine ones, before and after
_PATIENCE_S = 30
_POLL_S = 0.05
_QUIET_S = 1.5  # without anything new: what was sent has been dealt with


@dataclass(frozen=True)
class Count:
    """While the producer pauses: commands that it has sent, those that the valve has heard of
    them, and what the valve has dropped."""

    sent: int
    heard: int
    drops: dict[str, int]


@dataclass(frozen=True)
class Told:
    """What a valve came to. sent: forged commands, of which it obeyed some; heard: genuine ones
    after these. before, after: around the forging."""

    source_auth: str
    sent: int
    obeyed: int
    heard: int
    before: Count
    after: Count

    @property
    def drops(self) -> Counter[str]:
        """Meanwhile."""
        return Counter(self.after.drops) - Counter(self.before.drops)

    @property
    def missed(self) -> int:
        """Genuine commands that the valve did not hear: each may be among the drops."""
        return self.after.sent - self.before.sent - (self.after.heard - self.before.heard)


def judged(told: Told) -> Verdict:
    """Without source authentication it obeys, and that is what is to be shown."""
    detail = f"the valve obeyed {told.obeyed} of {told.sent} forged commands"
    if told.source_auth == "none":
        ok = told.obeyed == told.sent > 0
        detail += f"; {told.drops['replay']} of the producer's own came too late for it"
    else:
        refused = {reason: told.drops[reason] for reason in _REFUSED if told.drops[reason]}
        ok = told.obeyed == 0 and told.heard >= _ENOUGH
        ok = ok and sum(refused.values()) - told.missed >= told.sent > 0
        ok = ok and all(_is_shown(kind, told) for kind in _KINDS[told.source_auth])
        detail += ", counted: " + ", ".join(f"{reason} {n}" for reason, n in refused.items())
        if told.missed:
            detail += f" ({told.missed} may be the producer's own)"
        detail += f"; and heard {told.heard} of the producer's afterwards"
    return Verdict(f"a member poses as the producer, source_auth {told.source_auth}", ok, detail)


def _is_shown(kind: str, told: Told) -> bool:
    """Whether a forged command was refused for this. No genuine proof is wrong; it may be late."""
    return told.drops[kind] > (0 if kind == "source" else told.missed)


class Imposture:
    """One group. arch: of the valve's MicroPython."""

    def __init__(self, stage, group: str, arch: str):
        self._stage = stage
        self.group = group
        self.source_auth = MODES[group]
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
        before = await self._paused()
        self.producer.child.tell("go")
        spy_child.tell(f"forge {FORGED}")
        sent = (await spy_child.hear(lambda e: e["event"] == "forged"))["sent"]
        heard = self._genuine()

        def came(*reasons: str) -> int:
            return sum(self._drops(reason) - before.drops.get(reason, 0) for reason in reasons)

        await self._until(lambda: self._obeyed() + came(*_REFUSED) >= sent)
        await self._until(
            lambda: self._genuine() - heard + came("replay") >= _ENOUGH
        )  # it goes on, heard or not
        after = await self._paused()
        heard = after.heard - heard
        told = Told(self.source_auth, sent, self._obeyed(), heard, before, after)
        for child in (spy_child, self.valve.child, self.producer.child):
            stage.let_go(child)
            await child.end()
        return told

    async def _paused(self) -> Count:
        """The producer stops, and all that it sent is heard or dropped."""
        self.producer.child.tell("stop")
        seen, since = None, time.monotonic()

        def is_quiet() -> bool:
            nonlocal seen, since
            now = self._genuine(), self._obeyed(), self.valve.facts["drops"]
            if now != seen:
                seen, since = now, time.monotonic()
            return time.monotonic() - since >= _QUIET_S

        await self._until(is_quiet)
        facts = await self.producer.report()
        sent = facts["frames"] - facts["unsent"]
        return Count(sent, self._genuine(), self.valve.facts["drops"])

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
