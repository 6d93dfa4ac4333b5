"""How soon registrations go on when a key server or an etcd node is killed; what is lost by it.

A cluster as that of `make cluster`, with etcd at its defaults and tuned. New members come all the
time, with the members' own code; what a kill costs is what the slowest takes of those that begin
from a moment before it until one and a half seconds behind it. Meanwhile a sender on MicroPython
and receivers on both interpreters go on; between the kinds of kills it is counted what these have
lost.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from ..cluster import nodes
from ..cluster.history import History, Recorder
from ..cluster.judged import removals
from ..cluster.looks import Looks
from ..cluster.machines import Machine
from ..cluster.nodes import Node
from ..cluster.plant import GROUP, Plant
from ..cluster.probes import Probes
from ..demo.cast import Lost, Member, architectures
from ..errors import Problem
from . import replicas
from .results import Missing, Table

TITLE = "a cluster in which servers and nodes are killed"

_KILLS = {True: 1, False: 20}  # of each kind; quick or not
_BEFORE_S, _AFTER_S = 0.1, 1.5
_PROBES, _PERIOD_MS = 200, 40
_REST_S = 0.3  # behind each kill, and for the last packets
SERVER, HOLDER, NODE, LEADER = (
    "a key server",
    "the term holder",
    "an etcd node",
    "the etcd leader",
)
_ETCD = {"tuned": nodes.TUNED, "defaults": nodes.DEFAULTS}


def run(table: Table, quick: bool) -> None:
    for how, options in _ETCD.items():
        if not (quick and how == "defaults"):
            try:
                asyncio.run(_Run(table, how, options, _KILLS[quick]).run())
            except (Lost, Problem) as error:
                raise Missing(str(error).rstrip(".")) from None
    replicas.run(table, quick)


class _Run:
    def __init__(self, table: Table, how: str, options: tuple[str, ...], kills: int):
        self._table, self._how, self._kills = table, how, kills
        plant = self._plant = Plant(options=options, serve=lambda name: ("--replica", name))
        self._looks = Looks(plant)
        self._probes = Probes(plant, _PROBES, _PERIOD_MS)
        self._leavers = Probes(plant, kills, _PERIOD_MS, "leaver")
        archs, _ = architectures()
        self._members = [
            Member("press", archs[0], connection="01100001"),
            Member("drill", archs[-1]),
            Member("desk", None),
        ]
        self._history = History(GROUP)
        self._recorder: Recorder | None = None
        self._lost = 0  # packets, until now

    async def run(self) -> None:
        try:
            await self._open()
            await self._idle()
            kinds: tuple[tuple[str, Callable[[int], Awaitable]], ...] = (
                (SERVER, self._kill_follower),
                (HOLDER, self._kill_holder),
                (NODE, self._kill_node),
                (LEADER, self._kill_leader),
            )
            for kind, kill in kinds:
                await self._kind(kind, kill)
            await self._removals()
        finally:
            await self._plant.close()

    async def _open(self) -> None:
        plant = self._plant
        await plant.open()
        self._probes.admit()
        self._leavers.admit()
        self._recorder = Recorder(plant, self._history, plant.folder / "history.jsonl")
        self._recorder.watch.start()
        for machine in plant.machines:
            await machine.start()
        for machine in plant.machines:
            await machine.serving()
        for member in self._members:
            await plant.add_member(member.name, *(["--sender"] if member.connection else []))
            await plant.start_member(member)
        await plant.joined(*self._members)
        await self._leavers.all_in()
        await self._probes.start()
        await self._looks.all_take()
        self._probes.go()
        self._members[0].child.tell("go")

    async def _idle(self) -> None:
        """What a registration takes where nothing is killed."""
        began_s = time.monotonic()
        await asyncio.sleep(_AFTER_S)
        took_ms = [1e3 * p.took_s for p in await self._probes.began_in(began_s, time.monotonic())]
        self._enter("nothing is killed: a registration", took_ms)

    async def _kind(self, kind: str, kill: Callable[[int], Awaitable]) -> None:
        found = []
        for number in range(self._kills):
            killed_s, back = await kill(number)
            window = killed_s - _BEFORE_S, killed_s + _AFTER_S
            probes = await self._probes.began_in(*window)
            found.append(1e3 * max(probe.took_s for probe in probes))
            await back()
            await self._looks.all_take()
            await asyncio.sleep(_REST_S)
        self._enter(f"{kind} is killed: registrations go on", found)
        await self._count_lost(kind)

    async def _kill_follower(self, number: int) -> tuple[float, Callable[[], Awaitable]]:
        return await self._kill_machine(await self._looks.follower())

    async def _kill_holder(self, number: int) -> tuple[float, Callable[[], Awaitable]]:
        return await self._kill_machine(await self._looks.holder())

    async def _removals(self) -> None:
        """Each as the holder is killed, at another server."""
        self._probes.stop()
        removed_ms = []
        for name in self._leavers.names:
            victim = await self._looks.holder()
            _, back = await self._kill_machine(victim)
            began_s = time.monotonic()
            await self._looks.other(victim).covey("member", "remove", name)
            removed_ms.append(1e3 * (time.monotonic() - began_s))
            await back()
            await self._looks.all_take()
        self._enter("a member is removed as the holder is killed: done", removed_ms)
        await self._recorder.close()
        counts = [removals(self._history, name) for name in self._leavers.names]
        wrong = sum(count != 1 for count in counts)
        name = f"{self._name}a member is removed as the holder is killed: not done exactly once"
        self._table.add(name, wrong, "members")
        await self._count_lost("a member is removed as the holder")

    async def _kill_machine(self, victim: Machine) -> tuple[float, Callable[[], Awaitable]]:
        async def back() -> None:
            await victim.start()
            await victim.serving()

        killed_s = time.monotonic()
        await victim.kill()
        return killed_s, back

    async def _kill_node(self, number: int) -> tuple[float, Callable[[], Awaitable]]:
        leader = await self._looks.leader()
        others = [node for node in self._plant.nodes if node is not leader]
        return await self._kill_one(others[number % len(others)])

    async def _kill_leader(self, number: int) -> tuple[float, Callable[[], Awaitable]]:
        return await self._kill_one(await self._looks.leader())

    async def _kill_one(self, node: Node) -> tuple[float, Callable[[], Awaitable]]:
        async def back() -> None:
            await self._plant.start_node(node)
            await node.up()

        killed_s = time.monotonic()
        await node.kill()
        return killed_s, back

    async def _count_lost(self, kind: str) -> None:
        """Packets that a receiver lacks of those that were sent, since the last such count."""
        sender, *receivers = self._members
        sender.child.tell("stop")
        await asyncio.sleep(_REST_S)
        sent = (await sender.report())["frames"]
        lost = 0
        for member in receivers:
            flow = (await member.report())["flows"][sender.connection]
            lost += sent - flow["first"] + 1 - flow["count"]
        self._table.add(
            f"{self._name}{kind} is killed: packets lost", lost - self._lost, "packets"
        )
        self._lost = lost
        sender.child.tell("go")

    @property
    def _name(self) -> str:
        return f"cluster, etcd {self._how}: "

    def _enter(self, what: str, ms: list[float]) -> None:
        ms = sorted(ms)
        self._table.add(f"{self._name}{what}, p50", ms[len(ms) // 2], "ms")
        self._table.add(f"{self._name}{what}, worst", ms[-1], "ms")
