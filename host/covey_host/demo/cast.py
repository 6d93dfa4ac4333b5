"""The processes of the demo: each a child in a process group of its own, its stdin a life line.

A child ends when its stdin does, so that a stage that is killed leaves nothing running; and the
stage ends those that don't. What a child says is one JSON object a line.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_PLAYER = Path(__file__).with_name("player.py")
_ANSWER_S = 30  # a busy machine may take a while; a dead child is noticed at once
_END_S = 8  # leaving takes two seconds at most
_LIMIT = 1 << 20  # octets of a line


class Lost(Exception):
    """A process ended, or went silent, that should not have: one sentence."""


class Child:
    """One process. Lines that are JSON objects go to on_event, everything goes to its log."""

    def __init__(self, name: str, folder: Path, on_event: Callable[[dict], None] = lambda e: None):
        self.name = name
        self.status: int | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._folder = folder
        self._on_event = on_event
        self._waiting: list[tuple[Callable[[dict], bool], asyncio.Future]] = []

    async def start(self, command: list, environment: dict[str, str] | None = None) -> None:
        self._log = open(self._folder / f"{self.name}.log", "wb")
        self._process = await asyncio.create_subprocess_exec(
            *map(str, command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self._folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            start_new_session=True,
            limit=_LIMIT,
        )
        self._reading = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, line: str) -> None:
        with suppress(OSError):
            self._process.stdin.write(line.encode() + b"\n")

    async def hear(self, wanted: Callable[[dict], bool]) -> dict:
        """The next event that is wanted. Lost where it can't come any more."""
        if self.status is not None:
            raise Lost(f"{self.name} has ended: see {self.name}.log.")
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, future))
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await future
        except TimeoutError:
            raise Lost(f"{self.name} does not answer: see {self.name}.log.") from None

    async def end(self, number: int | None = None) -> int:
        """By the end of its stdin, or by a signal: its exit status, once it is gone."""
        if self._process is None:
            return 0
        if number is None:
            self._process.stdin.close()
        else:
            self.kill(number)
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            try:
                async with asyncio.timeout(_END_S):
                    await asyncio.shield(self._reading)
                    break
            except TimeoutError:
                self.kill(signal_number)
        await self._reading
        return self.status

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Signal the whole process group."""
        if self._process is not None and self.status is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    async def _read(self) -> None:
        with self._log:
            async for line in self._process.stdout:
                self._log.write(line)
                self._log.flush()
                self._take(line)
        self.status = await self._process.wait()
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(Lost(f"{self.name} has ended: see {self.name}.log."))

    def _take(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            return
        if not isinstance(event, dict):
            return
        self._on_event(event)
        self._waiting = [(wanted, f) for wanted, f in self._waiting if not f.done()]
        for wanted, future in self._waiting:
            if wanted(event):
                future.set_result(event)


class Member:
    """A player, and what it said last."""

    def __init__(
        self,
        name: str,
        arch: str | None,
        connection: str | None = None,
        period_ms: int | None = None,
    ):
        """arch: of MicroPython; None is this Python. connection: of a sender. period_ms: of what
        it sends, if it is not the usual one."""
        self.name = name
        self.connection = connection
        self.facts: dict = {"state": "starting", "spi": None, "drops": {}, "flows": {}}
        self.events: list[str] = []
        self.child: Child | None = None
        self.arch = arch
        self._period_ms = period_ms
        self._reports = 0
        self._is_leaving = False

    async def start(self, settings: Path) -> None:
        """In .child, whose events go to note()."""
        machine = self.arch or os.uname().machine
        words = [_PLAYER, self.name, machine, settings]
        if self.connection:
            words.append(self.connection)
        if self._period_ms:
            words.append(str(self._period_ms))
        await self.child.start([*interpreter(self.arch), *words], environment(self.arch))

    async def joined(self) -> None:
        """Until it listens to the group."""
        event = await self.child.hear(lambda e: e["event"] in ("listening", "failed"))
        if event["event"] == "failed":
            raise Lost(f"{self.name} could not join: {event['detail']}")
        await self.report()

    async def report(self) -> dict:
        """The facts of this moment."""
        self._reports += 1
        ident = str(self._reports)
        self.child.tell(f"report {ident}")
        return await self.child.hear(lambda e: e.get("report") == ident)

    async def leave(self) -> int:
        """Its exit status. What it says from now on is no fact of the run any more."""
        self._is_leaving = True
        return await self.child.end()

    def note(self, event: dict) -> None:
        if event["event"] == "status":
            self.facts = self.facts if self._is_leaving else event
        else:
            self.events.append(event["event"])


def interpreter(arch: str | None) -> list:
    if arch is None:
        return [sys.executable, "-u"]
    return [ROOT / ".build" / "micropython" / arch / "micropython", "-X", "heapsize=2m"]


def architectures() -> tuple[list[str], list[str]]:
    """The two builds of MicroPython for the demo's two members, and why one stands in for both.

    Lost where there is none.
    """
    found, notes = [], []
    for arch in ("x86", "x64"):
        base = ROOT / ".build" / "micropython"
        if (base / arch / "micropython").exists():
            found.append(arch)
        else:
            skipped = base / f"{arch}.skipped"
            reason = skipped.read_text().strip() if skipped.exists() else "it was not made"
            notes.append(f"MicroPython {arch} is not here ({reason})")
    if not found:
        raise Lost(f"{' and '.join(notes)}: run `make setup`.")
    return [found[0], found[-1]], [f"{note}: {found[0]} is used twice." for note in notes]


def environment(arch: str | None) -> dict[str, str]:
    if arch is None:
        return {}
    return {"MICROPYPATH": f".frozen:{ROOT / '.build' / f'lib-{arch}'}"}
