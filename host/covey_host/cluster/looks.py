"""Asking a cluster how it is, again and again until it is as it should be: else Lost."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from ..demo.cast import Lost, Member
from .machines import Machine
from .nodes import Node
from .plant import GROUP, Plant

_PATIENCE_S = 30
_POLL_S = 0.05


class Looks:
    def __init__(self, plant: Plant):
        self._plant = plant

    async def holder(self, but: Machine | None = None) -> Machine:
        """Of the newest term, as all servers but that one have it; not that one."""
        others = [machine for machine in self._plant.machines if machine is not but]

        async def ask() -> Machine | None:
            found = await asyncio.gather(*map(_cluster, others))
            known = [each for each in found if each]
            name = max(known, key=lambda one: one["term"] or 0)["holder"] if known else None
            return next((m for m in others if m.name == name and m.is_running), None)

        return await self._found(ask, "one server holds the term")

    async def follower(self) -> Machine:
        return self.other(await self.holder())

    def other(self, but: Machine) -> Machine:
        return next(m for m in self._plant.machines if m is not but and m.is_running)

    async def leader(self) -> Node:
        """Of etcd's nodes."""
        return await self._found(self._plant.leader, "etcd has a leader")

    async def group(self, machine: Machine) -> dict:
        """As this server has it."""

        async def ask() -> dict | None:
            found = await machine.status()
            return found and found["groups"].get(GROUP)

        return await self._found(ask, f"{machine.name} says how it is")

    async def followed(self, machine: Machine, members: list[Member]) -> None:
        """All these have the keys that this server has."""

        async def ask() -> bool | None:
            spi = (await self.group(machine))["spi"]
            has = [(m.facts["state"], m.facts["spi"]) == ("member", spi) for m in members]
            return all(has) or None

        await self._found(ask, "all members have the newest keys")

    async def follows(self, machine: Machine) -> None:
        """It doesn't say any more that it holds the term, and takes members."""

        async def ask() -> bool | None:
            found = await _cluster(machine)
            return (found is not None and found["ready"] and not found["leads"]) or None

        await self._found(ask, f"{machine.name} follows")

    async def all_take(self) -> None:
        """There is a holder, and all servers that run take members."""
        await self.holder()
        running = [machine for machine in self._plant.machines if machine.is_running]

        async def ask() -> bool | None:
            found = await asyncio.gather(*map(_cluster, running))
            return all(each is not None and each["ready"] for each in found) or None

        await self._found(ask, "all servers take members")

    async def _found(self, ask: Callable[[], Awaitable], what: str) -> Any:
        end = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end:
            found = await ask()
            if found is not None:
                return found
            await asyncio.sleep(_POLL_S)
        raise Lost(f"This did not come about in {_PATIENCE_S} s: {what}.")


async def _cluster(machine: Machine) -> dict | None:
    """What it says of itself and the others."""
    status = await machine.status() if machine.is_running else None
    return status and status.get("cluster")
