"""The members of a run, as they come, go, crash, and are removed; and who removes them."""

import asyncio
import signal
import time
from collections import Counter

from ..demo.cast import Lost, Member
from . import schedule
from .history import Recorder
from .machines import Machine
from .plant import GROUP, Plant

_MOST, _LEAST = 8, 3  # at once
_SENDERS = 3  # one of so many
_PERIOD_MS = 50
_COMMAND_S = 20  # then whoever typed it gives up
_AGAIN_S = 1
_POLL_S = 0.2


class Crowd:
    def __init__(self, plant: Plant, recorder: Recorder, archs: list[str | None]):
        """archs: members are on these in turn; None: this Python."""
        self.present: dict[str, Member] = {}  # whoever is to be a member
        self.done: Counter[str] = Counter()
        self._plant, self._recorder = plant, recorder
        self._archs = archs
        self._homes: dict[str, int] = {}  # member → machine that has its files
        self._busy: set[str] = set()
        self._count = 0

    async def act(self, what: str, which: int) -> None:
        """One of schedule's. Lost where a command fails."""
        acts = {
            schedule.JOIN: self.join,
            schedule.LEAVE: lambda which: self._restart(which, None),
            schedule.CRASH: lambda which: self._restart(which, signal.SIGKILL),
            schedule.REMOVE: self._remove,
            schedule.REKEY: self._rekey,
        }
        if await acts[what](which):
            self.done[what] += 1

    async def join(self, which: int) -> bool:
        """A new one, if there is room: its files are made at some server, and it is switched
        on."""
        if len(self.present) >= _MOST:
            return False
        n = self._count
        self._count += 1
        name, sends = f"m{n}", n % _SENDERS == 0
        connection = f"{0x01100000 + n:08x}" if sends else None
        at = which % len(self._plant.machines)
        async with asyncio.timeout(_COMMAND_S):
            await self._plant.add_member(name, *(["--sender"] if sends else []), at=at)
        member = Member(name, self._archs[n % len(self._archs)], connection, _PERIOD_MS)
        self._homes[name] = at
        self.present[name] = member
        await self._switch_on(member)
        return True

    async def settle(self) -> None:
        """Until a server leads again, and whoever fell down is on."""
        await self._status()
        for member in self.present.values():
            if member.child.status is not None:
                await self._switch_on(member)

    async def back(self, patience_s: float) -> str:
        """New keys, until all who are present have them, or the patience is over → their SPI."""
        await self._rekey(0)
        end = time.monotonic() + patience_s
        while True:
            spi = (await self._status())["groups"][GROUP]["spi"]
            facts = [member.facts for member in self.present.values()]
            if all((f["state"], f["spi"]) == ("member", spi) for f in facts):
                return spi
            if time.monotonic() > end:
                return spi
            await asyncio.sleep(_POLL_S)

    async def _status(self) -> dict:
        """Of the first server that has one. Lost where none has for long."""
        end = time.monotonic() + _COMMAND_S
        while time.monotonic() < end:
            for machine in self._plant.machines:
                found = await machine.status()
                if found and GROUP in found["groups"]:
                    return found
            await asyncio.sleep(_POLL_S)
        raise Lost("No server says how it is.")

    async def _restart(self, which: int, number: int | None) -> bool:
        """It comes back as another process, and registers anew. number: of a signal; None: it
        leaves in good order."""
        if (member := self._one(which)) is None:
            return False
        self._busy.add(member.name)
        try:
            await member.child.end(number)
            await self._switch_on(member)
        finally:
            self._busy.discard(member.name)
        return True

    async def _remove(self, which: int) -> bool:
        """At some server, and at the next one until it is acknowledged: before that nobody
        knows."""
        member = self._one(which) if len(self.present) > _LEAST else None
        if member is None:
            return False
        name = member.name
        del self.present[name]
        while True:
            try:
                await self._covey(which // 7, "member", "remove", name)
                break
            except Lost as lost:
                if f"{name} has been removed already" in str(lost):
                    break  # by an attempt before
                self._recorder.note("not removed", member=name, why=str(lost))
            which += 7
            await asyncio.sleep(_AGAIN_S)
        await self._recorder.removed(name)
        return True

    async def _rekey(self, which: int) -> bool:
        await self._covey(which, "rekey", GROUP)
        return True

    async def _covey(self, which: int, *words: str) -> None:
        machine: Machine = self._plant.machines[which % len(self._plant.machines)]
        try:
            async with asyncio.timeout(_COMMAND_S):
                await machine.covey(*words)
        except TimeoutError:
            raise Lost(f"covey {' '.join(words)}: no answer in {_COMMAND_S} s") from None

    async def _switch_on(self, member: Member) -> None:
        await self._plant.start_member(member, self._homes[member.name])
        if member.connection:
            member.child.tell("go")

    def _one(self, which: int) -> Member | None:
        found = [member for name, member in self.present.items() if name not in self._busy]
        return found[which % len(found)] if found else None
