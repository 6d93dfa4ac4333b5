"""What the project is for, as boards do it: one speed for several motors at one instant, and a
photo eye with many recipients. Each is a group of boards that run a file of firmware/, with RPI
10 ms; while they do, keys change and one of them is removed.

A board is a directory and host/shim: the file runs as it would on a chip, but for its patience,
since several processors' work shares this machine's (see _PATIENT).
"""

import asyncio
import json
import os
import re
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from covey import port

from .cast import ROOT, Child, Lost, environment, interpreter
from .verdicts import Verdict

_FIRMWARE = ROOT / "firmware"
_SHIM = ROOT / "host" / "shim" / "run.py"
_POWERED = Path(__file__).with_name("powered.py")
_WIFI = {"ssid": "plant", "password": "of the plant"}
_BUTTON = 0
_BOARD = {"name": "desk", "led": 2, "button": _BUTTON, "relay": 5}
_PATIENT = {"MULTIPLIER": 256, "LEAD_MS": 3000}  # in place of what the file says
_PATIENCE_S = 60
_POLL_S = 0.05
_PULSE_S = 0.3  # for which the button is held, and let go
_NOTHING = "0"  # has passed an eye: no event
_FRAMES = re.compile(r"taken (\d+), missed (\d+), last (\d+)(?:, (.*))?")
_NONE_TAKEN = "taken 0,"  # a connection that nothing came to
_INSTANT = re.compile(r"(\d+) at (\d+)")
_TICKS = 0x3FFFFFFF  # port.ticks_ms() wraps there
_READ_APART_MS = 1  # by which clocks of two interpreters may differ, each in whole ms


@dataclass(frozen=True)
class Heard:
    """One consumer at the end: all that it said of settings and passages, why it stopped, its
    frames (taken, missed, the last one's number), what it refused by name, and the instant of each
    setting, its number before it, in ms on this machine's clock."""

    name: str
    followed: list[str]
    stops: list[str]
    frames: tuple[int, int, int] | None
    refused: str = ""
    instants: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Told:
    """told: what the producer announced, of which so many before the removal. instants: from when
    on it counts, as those of a Heard; none where an event counts as it comes."""

    case: str
    told: list[str]
    before: int
    stayed: list[Heard]
    removed: Heard
    instants: dict[str, int] = field(default_factory=dict)


def judged(told: Told) -> Verdict:
    """All that stayed did the same, without a frame lost, and nothing before its instant; who was
    removed did no more of it, and found out by itself."""
    troubles = []
    lasts = {heard.frames[2] for heard in told.stayed if heard.frames}
    for heard in told.stayed:
        if heard.followed != told.told:
            troubles.append(f"{heard.name} did {heard.followed} of {told.told}")
        if heard.frames is None or heard.frames[1] or heard.refused:
            troubles.append(f"{heard.name}: frames {heard.frames} {heard.refused}")
        if heard.stops not in ([], ["timed_out"]):  # at the end, when the producer is off
            troubles.append(f"{heard.name} stopped: {heard.stops}")
    if len(lasts) != 1:
        troubles.append(f"they have not heard the same: last {sorted(lasts)}")
    gone = told.removed
    if not told.before or len(told.told) <= told.before:
        troubles.append(f"{told.before} before the removal of {len(told.told)}")
    if gone.followed != told.told[: told.before]:
        troubles.append(f"{gone.name} did {gone.followed} of {told.told[: told.before]}")
    if gone.stops != ["timed_out"]:
        troubles.append(f"{gone.name} stopped: {gone.stops}")
    if gone.frames is None or gone.frames[1] or gone.refused:
        troubles.append(f"{gone.name}: frames {gone.frames} {gone.refused}")
    troubles += _early(told)
    frames = sum(heard.frames[0] for heard in told.stayed if heard.frames)
    detail = (
        f"{len(told.told)} told, {', '.join(h.name for h in told.stayed)} did all of them"
        f" ({frames} frames taken, none missed); {gone.name} did {told.before},"
        " was removed, timed out by itself and did nothing later"
    )
    return Verdict(told.case, not troubles, "; ".join(troubles) or detail + _spread(told))


def _early(told: Told) -> list[str]:
    """Whoever took up a setting before its instant, or said nothing of when. How long after is the
    machine's doing: that is told, not judged."""
    if not told.instants:
        return []
    troubles = []
    numbers = list(told.instants)
    if len(numbers) != len(told.told):
        troubles.append(f"instants of {numbers}, {len(told.told)} told")
    heard_of = [(heard, numbers) for heard in told.stayed]
    for heard, meant in (*heard_of, (told.removed, numbers[: told.before])):
        if list(heard.instants) != meant:
            troubles.append(f"{heard.name} said instants of {list(heard.instants)}")
        elif early := [n for n in meant if _after(told, heard, n) < -_READ_APART_MS]:
            troubles.append(f"{heard.name} did {early} before the instant")
    return troubles


def _after(told: Told, heard: Heard, number: str) -> int:
    """ms from the instant until this one took up the setting."""
    return port.ticks_diff(heard.instants[number], told.instants[number])


def _spread(told: Told) -> str:
    if not told.instants:
        return ""
    after = [[_after(told, heard, number) for heard in told.stayed] for number in told.instants]
    apart = max(max(each) - min(each) for each in after)
    latest = max(max(each) for each in after)
    return f"; each at its instant, {max(latest, 0)} ms late at most, {apart} ms apart"


class Board:
    """One board: its directory, its surroundings, its power."""

    def __init__(self, name: str, arch: str | None):
        """arch: of MicroPython; None is this Python."""
        self.name = name
        self.said: list[tuple[str, str]] = []
        self.child: Child | None = None
        self._arch = arch

    async def power(self, stage, main: str) -> None:
        """Made of its directory at the site and a file of firmware/, and switched on."""
        self._desk = stage.folder / "boards" / self.name
        files = self._desk / "flash"
        shutil.copytree(stage.site.members / self.name, files)
        shutil.copytree(
            _FIRMWARE / "onboard", files / "onboard", ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copy(_FIRMWARE / "boot.py", files)
        (files / "main.py").write_text(_patient((_FIRMWARE / main).read_text()))
        (files / "board.json").write_text(json.dumps(_BOARD))
        (files / "wifi.json").write_text(json.dumps(_WIFI))
        (files / "seed").write_bytes(os.urandom(32))
        (self._desk / "air").write_text("\n".join(_WIFI.values()) + "\n")
        self.child = Child(self.name, stage.folder, self._note)
        stage.keep(self.child)
        command = [*interpreter(self._arch), _SHIM, self._desk, files]
        await self.child.start([sys.executable, _POWERED, *command], environment(self._arch))

    def press(self, is_pressed: bool) -> None:
        part = self._desk / "inputs.new"
        part.write_text(json.dumps({str(_BUTTON): int(not is_pressed)}))
        part.replace(self._desk / "inputs")

    def all_of(self, what: str) -> list[str]:
        return [detail for one, detail in self.said if one == what]

    def heard(self, what: str) -> Heard:
        found = [_FRAMES.fullmatch(text) for text in self.taken()]
        frames, refused = None, ""
        if len(found) == 1 and found[0]:
            frames, refused = tuple(map(int, found[0].groups()[:3])), found[0][4] or ""
        followed = [text for text in self.all_of(what) if text != _NOTHING]
        stops = self.all_of("stopped")
        return Heard(self.name, followed, stops, frames, refused, self.instants())

    def taken(self) -> list[str]:
        """What it said of connections to which something came."""
        return [text for text in self.all_of("frames") if not text.startswith(_NONE_TAKEN)]

    def instants(self) -> dict[str, int]:
        """As it said them, by the clock that all of them have: MicroPython's stands still while
        the machine is suspended, which CPython's does not."""
        ahead_ms = 0 if self._arch else _suspended_ms()
        found = [_INSTANT.fullmatch(text) for text in self.all_of("instant")]
        return {each[1]: int(each[2]) - ahead_ms & _TICKS for each in found if each}

    def _note(self, event: dict) -> None:
        if event["event"] == "said":
            self.said.append((event["what"], event["detail"]))


@dataclass(frozen=True)
class Case:
    """group: its name. told, followed: what the producer and the others call an event."""

    name: str
    group: str
    main: str
    source_auth: str
    told: str
    followed: str


CASES = (
    Case(
        "one speed for motors at one instant", "speeds", "motors.py", "mac", "announced", "speed"
    ),
    Case("a photo eye with many recipients", "eye", "photoeye.py", "none", "passed", "passed"),
)


class UseCase:
    """One group. archs: two of MicroPython."""

    def __init__(self, stage, screen, case: Case, archs: list[str]):
        self._stage, self._screen, self.case = stage, screen, case
        where = [archs[0], archs[1], None]
        self.producer = Board(f"{case.group}-producer", archs[0])
        self.consumers = [Board(f"{case.group}-{n}", arch) for n, arch in enumerate(where, 1)]
        self._removed = self.consumers[1]
        self._stayed = [board for board in self.consumers if board is not self._removed]

    async def play(self) -> Told:
        stage, group = self._stage, self.case.group
        boards = [self.producer, *self.consumers]
        await asyncio.gather(*(self._plug(board) for board in boards))
        await self._until(
            lambda: all(board.all_of("connection") for board in self.consumers),
            "all hear the producer",
        )
        await self._tell(self.consumers)
        await asyncio.gather(self._rekey(boards), self._tell(self.consumers))
        before = len(self._told)
        boards.remove(self._removed)
        self._screen.phase(f"{group}: {self._removed.name} is removed")
        await stage.covey("member", "remove", self._removed.name)
        await self._gone_over(boards)
        await self._until(lambda: self._removed.all_of("stopped"), "the removed one stops")
        self._screen.phase(f"{group}: {self._removed.name} has stopped: it timed out")
        await asyncio.gather(self._rekey(boards), self._tell(self._stayed))
        await self._cut(self.producer)
        await self._until(
            lambda: all(board.taken() for board in self._stayed),
            "the others find out that the producer is off",
        )
        for board in self.consumers:
            await self._cut(board)
        what = self.case.followed
        stayed = [board.heard(what) for board in self._stayed]
        removed, instants = self._removed.heard(what), self.producer.instants()
        return Told(self.case.name, self._told, before, stayed, removed, instants)

    @property
    def _told(self) -> list[str]:
        return self.producer.all_of(self.case.told)

    async def _plug(self, board: Board) -> None:
        stage = self._stage
        await stage.add_board(board.name, self.case.group, board is self.producer)
        await board.power(stage, self.case.main)

    async def _cut(self, board: Board) -> None:
        self._stage.let_go(board.child)
        await board.child.end()

    async def _rekey(self, present: list[Board]) -> None:
        """While all goes on."""
        self._screen.phase(f"{self.case.group}: new keys")
        await self._stage.covey("rekey", self.case.group)
        await self._gone_over(present)

    async def _gone_over(self, present: list[Board]) -> None:
        """Until all of these have the newest keys."""
        epoch = str(self._stage.group_status(self.case.group)["epoch"])
        await self._until(
            lambda: all(board.all_of("rekeyed")[-1:] == [epoch] for board in present),
            f"all have the keys of epoch {epoch}",
        )

    async def _tell(self, present: list[Board]) -> None:
        """One more event at the producer, until all who are there did what it says."""
        before = len(self._told)
        end = time.monotonic() + _PATIENCE_S
        while len(self._told) == before and time.monotonic() < end:
            self.producer.press(True)
            await asyncio.sleep(_PULSE_S)
            self.producer.press(False)
            await asyncio.sleep(_PULSE_S)
        await self._until(
            lambda: all(
                board.all_of(self.case.followed)[-1:] == self._told[-1:] for board in present
            ),
            f"all follow {self._told[-1:]}",
        )
        names = ", ".join(board.name for board in present)
        self._screen.phase(f"{self.case.group}: {self.case.followed} {self._told[-1]} at {names}")

    async def _until(self, is_done, what: str) -> None:
        end = time.monotonic() + _PATIENCE_S
        while not is_done():
            if time.monotonic() > end:
                raise Lost(f"{self.case.group}: this did not come about: {what}.")
            await asyncio.sleep(_POLL_S)


def _suspended_ms() -> int:
    """How long this machine has been suspended since it started."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0
    since_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    return round((time.clock_gettime_ns(time.CLOCK_BOOTTIME) - since_ns) / 1e6)


def _patient(text: str) -> str:
    for name, value in _PATIENT.items():
        text = re.sub(rf"(?m)^{name} = \d+", f"{name} = {value}", text)
    return text
