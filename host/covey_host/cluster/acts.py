"""What `make cluster` does to a cluster, one act after the other, and what came of each.

Acts follow each other when the last one has come about, not by the clock.
"""

import asyncio
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..demo.cast import Lost, Member
from . import links
from .history import Recorder
from .looks import Looks
from .machines import Machine
from .plant import GROUP, Plant
from .probes import Probes

# Acts of which more is judged
STOPPED = "the holder is stopped, and goes on later"
QUORUM = "two of etcd's nodes stand still: no quorum"
DRAINED = "the holder is drained and started anew, as for an upgrade"

_SEEN_S = 1.5  # for how long what an act does is looked at
_STOPPED_S = 3.0  # longer than a term is left to who doesn't renew it
_DARK_S = 3.0  # without a quorum


@dataclass
class Done:
    """An act. let_in: new members that began in it; slowest_s: of these; facts: of its own."""

    what: str
    let_in: int = 0
    slowest_s: float = 0.0
    facts: dict = field(default_factory=dict)


class Acts:
    """tell(text): a line of the timeline."""

    def __init__(
        self,
        plant: Plant,
        probes: Probes,
        recorder: Recorder | None,
        present: list[Member],
        leaver: Member,
        tell: Callable[[str], None],
    ):
        """present: members that are to follow all; leaver: the one that is removed."""
        self.done: list[Done] = []
        self._plant, self._probes, self._recorder = plant, probes, recorder
        self._looks = Looks(plant)
        self._present, self._leaver = present, leaver
        self._tell = tell

    async def play(self) -> None:
        """Lost where one doesn't come about."""
        for what, act in (
            ("new keys, asked for at a server that follows", self._rekey),
            ("a server that follows is killed", self._kill_follower),
            ("the holder is killed, and a member removed meanwhile", self._kill_holder),
            (STOPPED, self._stop_holder),
            ("the holder is cut off from etcd", self._cut_holder),
            ("etcd's leader is killed", self._kill_leader),
            (QUORUM, self._no_quorum),
            (DRAINED, self._drain),
            ("new keys, after all of that", self._rekey),
        ):
            self._tell(what)
            began_s = time.monotonic()
            done = Done(what)
            await act(done)
            await asyncio.sleep(_SEEN_S)
            let_in = await self._probes.began_in(began_s, time.monotonic())
            done.let_in = len(let_in)
            done.slowest_s = max((probe.took_s for probe in let_in), default=0.0)
            self._tell(f"    {done.let_in} new members let in, each within {done.slowest_s:.2f} s")
            self.done.append(done)

    # Acts

    async def _rekey(self, done: Done) -> None:
        await self._keys_change(await self._looks.follower())

    async def _kill_follower(self, done: Done) -> None:
        victim = await self._looks.follower()
        await victim.kill()
        self._tell(f"    kill -9: {victim.name}")
        await asyncio.sleep(_SEEN_S)
        await self._back(victim)

    async def _kill_holder(self, done: Done) -> None:
        victim, other = await self._looks.holder(), await self._looks.follower()
        before = (await self._looks.group(other))["epoch"]
        await victim.kill()
        self._tell(f"    kill -9: {victim.name}, the holder; at {other.name}: remove a member")
        began_s = time.monotonic()
        name = self._leaver.name
        await other.covey("member", "remove", name)
        done.facts = {"removed_s": time.monotonic() - began_s, "epoch": before, "member": name}
        if self._recorder:
            await self._recorder.removed(name)
        self._tell(f"    {name} is removed after {done.facts['removed_s']:.1f} s")
        await self._looks.followed(other, self._present)
        await self._back(victim)

    async def _stop_holder(self, done: Done) -> None:
        victim = await self._looks.holder()
        victim.signal(signal.SIGSTOP)
        self._tell(f"    SIGSTOP: {victim.name}, the holder")
        await asyncio.sleep(_STOPPED_S)
        other = self._looks.other(victim)
        holder = await self._looks.holder(but=victim)
        self._tell(f"    {holder.name} holds the term")
        await self._keys_change(other)
        before = await self._looks.group(other)
        victim.signal(signal.SIGCONT)
        self._tell(f"    SIGCONT: {victim.name} goes on where it was")
        await asyncio.sleep(_SEEN_S)
        await self._looks.follows(victim)
        then = await self._looks.group(other)
        done.facts = {"spi": before["spi"], "epoch": before["epoch"], "victim": victim.name}
        done.facts |= {"spi_then": then["spi"], "epoch_then": then["epoch"]}
        done.facts["leads_then"] = (await self._looks.holder()).name

    async def _cut_holder(self, done: Done) -> None:
        victim = await self._looks.holder()
        await self._plant.isolate(victim.name, links.HOLD)
        self._tell(f"    nothing passes between {victim.name}, the holder, and etcd")
        holder = await self._looks.holder(but=victim)
        self._tell(f"    {holder.name} holds the term")
        await self._keys_change(holder)
        await self._plant.isolate(victim.name, links.PASS)
        await self._looks.follows(victim)
        self._tell(f"    {victim.name} is back, and follows")

    async def _kill_leader(self, done: Done) -> None:
        node = await self._looks.leader()
        await node.kill()
        self._tell(f"    kill -9: etcd's {node.name}")
        await self._keys_change(await self._looks.follower())
        await self._plant.start_node(node)
        await node.up()

    async def _no_quorum(self, done: Done) -> None:
        leader = await self._looks.leader()
        others = [node for node in self._plant.nodes if node is not leader]
        machine = await self._looks.follower()
        for node in others:
            node.signal(signal.SIGSTOP)
        sentence = ""
        try:
            await asyncio.sleep(_DARK_S)
            try:
                await machine.covey("rekey", GROUP)
            except Lost as lost:
                sentence = str(lost).partition(": ")[2]
        finally:
            for node in others:
                node.signal(signal.SIGCONT)
        done.facts = {"sentence": sentence}
        self._tell(f"    a rekey is refused: {sentence}" if sentence else "    a rekey was done")
        for node in self._plant.nodes:
            await node.up()
        await self._looks.all_take()

    async def _drain(self, done: Done) -> None:
        victim = await self._looks.holder()
        await victim.covey("drain")
        await self._plant.until(lambda: not victim.is_running, f"{victim.name} ends")
        done.facts = {"status": victim.child.status, "victim": victim.name}
        self._tell(f"    {victim.name}, the holder, has ended")
        await self._back(victim)

    # Bringing about

    async def _keys_change(self, machine: Machine) -> None:
        await machine.covey("rekey", GROUP)
        self._tell(f"    {machine.name} changes keys")
        await self._looks.followed(machine, self._present)

    async def _back(self, machine: Machine) -> None:
        await machine.start()
        await machine.serving()
        await self._looks.all_take()
        self._tell(f"    {machine.name} is back")
