"""`make cluster`: three etcd nodes, three key servers and members on both interpreters, while one
after the other is killed, stopped and cut off; then what must hold is judged.

JSON=1 puts one object on stdout (and all else on stderr):

    {"ok": bool, "took_s", "folder": of a run that failed, or null,
     "acts": [{"what", "let_in": new members, "slowest_s": of these, ... of its own}],
     "phases": [{"at_s", "what"}], "expectations": [{"name", "ok", "detail"}]}

Exit status: 0 all holds, 1 something doesn't, 130 Ctrl-C, 143 SIGTERM. The wire is heard by who
may (root, Linux); else what is judged by it is left out, and a line says so.
"""

import asyncio
import os
import signal
import sys
from dataclasses import asdict

from ..demo import verdicts as traffic
from ..demo.cast import Member, architectures
from ..demo.performance import Performance, present
from ..demo.screen import Screen
from ..demo.verdicts import Witness
from ..errors import Problem
from . import acts, checks, judged, nodes
from .history import History, Recorder
from .plant import GROUP, Plant
from .probes import Probes

_PROBES, _PERIOD_MS = 100, 100  # new members that take turns
_GO_S = 1.0  # traffic before anything is done
_DRAIN_S = 0.5


class Show(Performance):
    def __init__(self, screen: Screen):
        archs, self._notes = architectures()
        self._members = [
            Member("press", archs[0], connection="01100001"),
            Member("drill", archs[1]),
            Member("desk", None, connection="02200002"),
        ]
        self._leaver = Member("panel", None)
        self._plant = Plant(options=nodes.TUNED, serve=lambda name: ("--replica", name))
        super().__init__(self._plant, screen, "show.log")
        self._probes = Probes(self._plant, _PROBES, _PERIOD_MS)
        self._history = History(GROUP)
        self._recorder: Recorder | None = None
        self._acts: acts.Acts | None = None

    def facts(self) -> dict:
        """See above."""
        return {"acts": [asdict(done) for done in (self._acts.done if self._acts else ())]}

    async def perform(self) -> None:
        plant, screen = self._plant, self._screen
        screen.line(f"files in {plant.folder}")
        for note in self._notes:
            screen.line(note)
        screen.phase("etcd starts, a site is made in it, three key servers start")
        await plant.open()
        self._probes.admit()
        self._listen()
        for machine in plant.machines:
            await machine.start()
        for machine in plant.machines:
            await machine.serving()
        everybody = [*self._members, self._leaver]
        screen.phase("members register")
        for at, member in enumerate(everybody):
            words = ["--sender"] if member.connection else []
            await plant.add_member(member.name, *words, at=at % len(plant.machines))
        for at, member in enumerate(everybody):
            await plant.start_member(member, at % len(plant.machines))
        await plant.joined(*everybody)
        screen.follow(everybody)
        await self._probes.start()
        await self._play()

    def _listen(self) -> None:
        recorder = Recorder(self._plant, self._history, self._plant.folder / "history.jsonl")
        try:
            recorder.open()
        except Problem as problem:
            self._screen.line(f"Left out is what the wire would tell: {problem.sentence}")
            return
        self._recorder = recorder

    async def _play(self) -> None:
        screen, plant = self._screen, self._plant
        screen.phase("go: press and desk send, new members come ten times a second")
        for member in self._members:
            if member.connection:
                member.child.tell("go")
        self._probes.go()
        await asyncio.sleep(_GO_S)
        self._acts = acts.Acts(
            plant, self._probes, self._recorder, self._members, self._leaver, screen.phase
        )
        await self._acts.play()
        self._probes.stop()
        for member in self._members:
            member.child.tell("stop")
        await asyncio.sleep(_DRAIN_S)
        for member in [*self._members, self._leaver]:
            await member.report()
        spi = plant.status(0)["groups"][GROUP]["spi"]
        if self._recorder:
            await self._recorder.close()
        self._judge(spi)
        await self._end()

    def _judge(self, spi: str) -> None:
        witnesses = [Witness(m.name, m.connection, m.facts) for m in self._members]
        done = {each.what: each for each in self._acts.done}
        self._verdicts += [
            traffic.nothing_lost(witnesses),
            traffic.nothing_twice(witnesses),
            traffic.content_right(witnesses),
            traffic.agreed(witnesses, spi),
            judged.let_in(self._acts.done, self._probes.refused),
            judged.kept_out(self._leaver.name, self._leaver.facts),
            judged.stood_still(done[acts.STOPPED]),
            judged.said_no(done[acts.QUORUM]),
            judged.drained(done[acts.DRAINED]),
        ]
        if self._recorder:
            self._verdicts.append(judged.removed_once(self._history, self._leaver.name))
            self._verdicts += checks.all_of(self._history)

    async def _end(self) -> None:
        """Members leave, then servers end."""
        everybody = [*self._members, self._leaver]
        statuses = {m.name: await m.leave() for m in everybody}
        statuses["probes"] = await self._probes.end()
        for machine in self._plant.machines:
            statuses[machine.name] = await machine.child.end(signal.SIGTERM)
        self._verdicts.append(traffic.ended(statuses, [], True))


def main() -> int:
    return present(Show, os.environ.get("JSON", "0") not in ("", "0"))


if __name__ == "__main__":
    sys.exit(main())
