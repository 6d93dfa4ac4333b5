"""One fault after the other, done to a Plant and undone: what a schedule names."""

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable

from ..demo.cast import Lost
from . import links, schedule
from .history import Recorder
from .machines import Machine
from .nodes import Node, text
from .plant import Plant
from .schedule import Event

QUOTA = 48 << 20  # octets that an etcd node takes; nothing else here writes nearly as many
_FILLING = 1 << 20
_FILLER = b"/filler/"
_UPTO = _FILLER[:-1] + b"0"
_PATIENCE_S = 30
_RESTART_S = 0.5

Fault = Callable[[Event], Awaitable[None]]


class Harm:
    """do() a fault, from its beginning to its end; after all of them heal()."""

    def __init__(self, plant: Plant, recorder: Recorder):
        self.done: Counter[str] = Counter()
        self.ended: list[str] = []  # what ended by itself, in words
        self._plant = plant
        self._recorder = recorder
        self._busy: set[str] = set()  # machines and nodes that something is done to
        self._is_full = False
        self._ways: dict[str, Fault] = {
            schedule.KILL_SERVER: lambda e: self._kill_machine(e, self._server(e)),
            schedule.KILL_HOLDER: self._kill_holder,
            schedule.STOP_SERVER: lambda e: self._stop(e, self._server(e)),
            schedule.STOP_HOLDER: self._stop_holder,
            schedule.KILL_NODE: lambda e: self._kill_node(e, self._node(e)),
            schedule.KILL_LEADER: self._kill_leader,
            schedule.STOP_NODE: lambda e: self._stop(e, self._node(e)),
            schedule.CUT_SERVER: lambda e: self._cut(e, self._server(e)),
            schedule.CUT_HOLDER: self._cut_holder,
            schedule.CUT_WAY: self._cut_way,
            schedule.CUT_NODE: lambda e: self._cut(e, self._node(e)),
            schedule.SLOW: self._slow,
            schedule.CLOCK: self._clock,
            schedule.FULL: self._fill,
        }

    async def do(self, event: Event) -> None:
        """Left out, and noted so, where the machine has trouble enough, or there is none."""
        await self._ways[event.what](event)

    async def heal(self) -> None:
        """Nothing is cut, stopped, slow or full any more, and everything runs."""
        plant = self._plant
        await plant.heal()
        for each in (*plant.machines, *plant.nodes):
            each.signal(signal.SIGCONT)
        for node in plant.nodes:
            if not node.is_running:
                await plant.start_node(node)
        await asyncio.gather(*(node.up() for node in plant.nodes))
        await self._empty()
        for machine in plant.machines:
            await self._restart(machine)

    async def restart(self) -> None:
        """What ended by itself starts again, as a service manager sees to it. Until cancelled."""
        while True:
            await asyncio.sleep(_RESTART_S)
            for machine in self._plant.machines:
                if machine.name not in self._busy:
                    await self._restart(machine)

    async def _restart(self, machine: Machine) -> None:
        if machine.is_running:
            return
        self._recorder.note("ended", server=machine.name, served=machine.has_served)
        if machine.has_served:  # else etcd wouldn't have it at that moment, as it says
            said = machine.events[-1] if machine.events else {}
            self.ended.append(f"{machine.name} has ended by itself ({said})")
        await machine.start()

    # Who

    def _server(self, event: Event) -> Machine:
        return self._plant.machines[event.which % len(self._plant.machines)]

    def _node(self, event: Event) -> Node:
        return self._plant.nodes[event.which % len(self._plant.nodes)]

    async def _during(self, event: Event, whom: str | None, begin: Fault, end: Fault) -> None:
        """whom: a machine's or node's name; None: there is none to do it to."""
        if whom is None or whom in self._busy:
            self._recorder.note("left out", fault=event.what, whom=whom)
            return
        self._busy.add(whom)
        try:
            self._recorder.note("fault", fault=event.what, whom=whom, event=list(event))
            await begin(event)
            self.done[event.what] += 1
            await asyncio.sleep(event.for_s)
            await end(event)
            self._recorder.note("over", fault=event.what, whom=whom)
        finally:
            self._busy.discard(whom)

    # What

    async def _kill_machine(self, event: Event, machine: Machine | None) -> None:
        async def end(_: Event) -> None:
            await machine.start()

        name = machine.name if machine and machine.is_running else None
        await self._during(event, name, lambda _: machine.kill(), end)

    async def _kill_holder(self, event: Event) -> None:
        await self._kill_machine(event, await self._plant.holder())

    async def _stop_holder(self, event: Event) -> None:
        await self._stop(event, await self._plant.holder())

    async def _cut_holder(self, event: Event) -> None:
        await self._cut(event, await self._plant.holder())

    async def _kill_leader(self, event: Event) -> None:
        await self._kill_node(event, await self._plant.leader())

    async def _kill_node(self, event: Event, node: Node | None) -> None:
        name = node.name if node and node.is_running and not self._is_full else None
        await self._during(
            event, name, lambda _: node.kill(), lambda _: self._plant.start_node(node)
        )

    async def _stop(self, event: Event, each: Machine | Node | None) -> None:
        async def signal_it(number: int) -> None:
            each.signal(number)

        name = each.name if each and each.is_running else None
        await self._during(
            event,
            name,
            lambda _: signal_it(signal.SIGSTOP),
            lambda _: signal_it(signal.SIGCONT),
        )

    async def _cut(self, event: Event, each: Machine | Node | None) -> None:
        mode = links.CUT if event.amount else links.HOLD
        name = each.name if each else None
        isolate = self._plant.isolate
        await self._during(
            event,
            name,
            lambda _: isolate(name, mode),
            lambda _: isolate(name, links.PASS),
        )

    async def _cut_way(self, event: Event) -> None:
        server, node = self._server(event), self._node(event._replace(which=event.which // 7))
        mode = links.CUT if event.amount else links.HOLD
        await self._during(
            event,
            server.name,
            lambda _: self._plant.part(server.name, node.name, mode),
            lambda _: self._plant.part(server.name, node.name, links.PASS),
        )

    async def _slow(self, event: Event) -> None:
        await self._during(
            event,
            "all links",
            lambda _: self._plant.slow(event.amount),
            lambda _: self._plant.slow(0),
        )

    async def _clock(self, event: Event) -> None:
        async def set_clock(_: Event) -> None:
            self._server(event).set_clock(event.amount)

        async def stay(_: Event) -> None:
            pass

        await self._during(event, self._server(event).name, set_clock, stay)

    # etcd's disk

    async def _fill(self, event: Event) -> None:
        """By the quota that its nodes have: then they take no writes, as on a full disk."""

        async def fill(_: Event) -> None:
            self._is_full = True
            value = {"value": text(bytes(_FILLING))}
            for i in range(2 * QUOTA // _FILLING):
                key = _FILLER + b"%06d" % i
                if await self._ask("kv/put", {"key": text(key), **value}) is None:
                    return

        async def empty(_: Event) -> None:
            await self._empty()

        is_whole = all(node.is_running for node in self._plant.nodes)
        await self._during(event, "etcd's disk" if is_whole else None, fill, empty)

    async def _empty(self) -> None:
        """As its people would: delete, compact, defragment, and take the alarm back. Lost where
        that doesn't help."""
        if not self._is_full:
            return
        for _ in range(_PATIENCE_S):
            await self._ask("kv/deleterange", {"key": text(_FILLER), "range_end": text(_UPTO)})
            heard = self._recorder.watch.revision  # nothing that the history lacks
            await self._ask("kv/compaction", {"revision": str(heard), "physical": True})
            for node in self._plant.nodes:
                await self._ask("maintenance/defragment", {}, [node])
            alarms = await self._ask("maintenance/alarm", {"action": "GET"}) or {}
            for alarm in alarms.get("alarms", ()):
                await self._ask("maintenance/alarm", {"action": "DEACTIVATE", **alarm})
            if await self._ask("kv/put", {"key": text(_FILLER), "value": ""}) is not None:
                self._is_full = False
                return
            await asyncio.sleep(1)
        raise Lost("etcd stays full.")

    async def _ask(self, path: str, body: dict, nodes: list[Node] | None = None) -> dict | None:
        """None where no node does it."""
        for node in nodes or self._plant.nodes:
            try:
                return await node.ask(path, body, 5)
            except OSError:
                pass
        return None
