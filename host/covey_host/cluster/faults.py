"""`make faults`: a cluster under random faults, and what must hold of its history at the end.

MINUTES=n (3) and SEED=n draw the schedule: the same for the same two, so that a run can be done
again; how processes meet is not the seed's. ONLY="fault,fault" draws these only. KEEP=1 keeps the
folder of a run that holds, too. Exit status: 0 all holds, 1 something doesn't, 2 misuse.

What is not exercised: clocks that run steadily, but wrong (a process that is stopped comes
nearest), and disks that lie. Wall clocks are set in the servers' processes alone, see leash.py.
etcd's disk is full by its quota. Members and data are not harmed, but for crashes of members.
"""

import asyncio
import os
import secrets
import signal
import sys
import time
import traceback

from covey.drops import ConfigError

from ..demo.cast import Lost, architectures
from ..demo.verdicts import Verdict
from ..errors import FAILURE, MISUSE, Problem
from ..output import complain
from . import checks, nodes, schedule
from .crowd import Crowd
from .harm import QUOTA, Harm
from .history import History, Recorder
from .plant import GROUP, Plant
from .schedule import Event

_DEFAULT_MIN, _MOST_MIN = 3.0, 600.0
_FIRST = 5  # members at the start
_BACK_S = 120  # a member that has asked in vain for long asks again only so often


class Run:
    def __init__(self, seed: int, seconds: float, kinds: list[str]):
        self._events = schedule.draw(seed, seconds, kinds)
        self._plant = Plant(options=(*nodes.TUNED, "--quota-backend-bytes", str(QUOTA)))
        self._history = History(GROUP)
        self._tasks: set[asyncio.Task] = set()
        self._helpers: list[asyncio.Task] = []
        self._troubles: list[str] = []  # of the run itself
        self._began = time.monotonic()

    @property
    def folder(self):
        return self._plant.folder

    async def run(self) -> list[Verdict]:
        plant = self._plant
        try:
            await plant.open()
            self._recorder = Recorder(plant, self._history, plant.folder / "history.jsonl")
            self._recorder.open()
            self._harm = Harm(plant, self._recorder)
            archs, _ = architectures()
            self._crowd = Crowd(plant, self._recorder, [None, *archs])
            await self._begin()
            self._helpers.append(asyncio.create_task(self._harm.restart()))
            await self._play()
            spi = await self._end()
            await self._recorder.close()
            return self._judge(spi)
        except Lost as lost:
            self._say(str(lost))
            return [Verdict("the run comes to its end", False, str(lost))]

    async def close(self, keep: bool) -> None:
        tasks = [*self._tasks, *self._helpers]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._plant.close(keep)

    def kill(self) -> None:
        self._plant.kill()

    async def _begin(self) -> None:
        for machine in self._plant.machines:
            await machine.start()
        for machine in self._plant.machines:
            await machine.serving()
        for n in range(_FIRST):
            await self._crowd.join(n)
        await self._plant.joined(*self._crowd.present.values())
        self._say(f"{len(self._plant.machines)} servers, {_FIRST} members; now it begins")

    async def _play(self) -> None:
        began = time.monotonic()
        for event in self._events:
            await asyncio.sleep(max(0, began + event.at_s - time.monotonic()))
            if event.is_fault:
                self._say(f"{event.what} ({event.which % 3}), {event.for_s} s, {event.amount}")
            task = asyncio.create_task(self._one(event))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    async def _one(self, event: Event) -> None:
        try:
            if event.is_fault:
                await self._harm.do(event)
            else:
                await self._crowd.act(event.what, event.which)
        except Lost as lost:
            self._recorder.note("lost", event=list(event), why=str(lost))
        except Exception as error:  # a fault of the run itself
            self._troubles.append(f"{event.what}: {type(error).__name__}: {error}")
            (self.folder / "run.log").write_text(traceback.format_exc())

    async def _end(self) -> str:
        """All is mended; everybody comes back → the SPI that they should have."""
        self._say("all faults are over")
        await self._harm.heal()
        await self._crowd.settle()
        spi = await self._crowd.back(_BACK_S)
        self._say("all are back")
        return spi

    def _judge(self, spi: str) -> list[Verdict]:
        history = self._history
        facts = [(name, member.facts) for name, member in self._crowd.present.items()]
        done = sum(self._harm.done.values())
        what = ", ".join(f"{what} {n}" for what, n in sorted(self._harm.done.items()))
        acts = ", ".join(f"{what} {n}" for what, n in sorted(self._crowd.done.items()))
        troubles = [*self._troubles, *self._harm.ended, self._recorder.watch.trouble]
        if self._recorder.ear.lost:
            troubles.append(f"{self._recorder.ear.lost} datagrams went by unheard")
        return [
            *checks.all_of(history),
            checks.back(spi, facts),
            Verdict("faults were done", done > 0, f"{what}; {acts}"),
            Verdict(
                "nothing ended by itself, nothing went unheard",
                not any(troubles),
                "; ".join(filter(None, troubles)) or f"{len(history.wire)} datagrams",
            ),
        ]

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", flush=True)


async def _perform(run: Run, keep: bool) -> int:
    stopping: list[int] = []
    task = asyncio.current_task()

    def stop(number: int) -> None:
        if stopping:
            run.kill()
        stopping.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    verdicts: list[Verdict] = []
    try:
        verdicts = await run.run()
    except asyncio.CancelledError:
        complain("Interrupted: nothing is left running.")
    finally:
        is_good = bool(verdicts) and all(verdict.ok for verdict in verdicts)
        await run.close(keep or not is_good and not stopping)
    for verdict in verdicts:
        print("ok  " if verdict.ok else "FAIL", f"{verdict.name}: {verdict.detail}", flush=True)
    if stopping:
        return 128 + stopping[0]
    return 0 if is_good else FAILURE


def _number(name: str, least: float, most: float, default: float) -> float:
    text = os.environ.get(name) or str(default)
    try:
        found = float(text)
    except ValueError:
        found = least - 1
    if not least <= found <= most:
        raise Problem(f"{name} must be a number from {least:g} to {most:g}.", MISUSE)
    return found


def _kinds() -> list[str]:
    found = [one.strip() for one in os.environ.get("ONLY", "").split(",") if one.strip()]
    for one in found:
        if one not in schedule.FAULTS:
            raise Problem(f"{one!r} is none of these: {', '.join(schedule.FAULTS)}.", MISUSE)
    return found


def main() -> int:
    try:
        minutes = _number("MINUTES", 0.1, _MOST_MIN, _DEFAULT_MIN)
        seed = int(_number("SEED", 0, 2**32 - 1, secrets.randbits(32)))
        run = Run(seed, minutes * 60, _kinds())
    except (Problem, Lost, ConfigError) as error:
        complain(str(error))
        return error.status if isinstance(error, Problem) else FAILURE
    print(f"again: make faults SEED={seed} MINUTES={minutes:g}; files in {run.folder}", flush=True)
    return asyncio.run(_perform(run, os.environ.get("KEEP", "0") not in ("", "0")))


if __name__ == "__main__":
    sys.exit(main())
