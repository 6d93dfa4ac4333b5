"""One member of the demo, on MicroPython or CPython: needs lib/covey and traffic.py beside it.

    player.py NAME MACHINE COVEY.JSON [CONNECTION [PERIOD]]

MACHINE: shown behind the interpreter's name and version. CONNECTION (8 hexadecimal digits): send
I/O data under this ID, a frame every PERIOD ms. Commands are lines on stdin: `go`, `stop`
(sending), `report ID`, `leave`; the end of stdin is `leave` too. stdout has one JSON object a
line:

    {"event": "status", "member", "interpreter", facts of Joined.status(), "frames": made for
     sending, "unsent": of these what the system did not take, "flows": see traffic.py,
     "strange": payloads that are no frame, "report": ID or null}
    {"event": what became of the membership, "listening" or "failed", "member", "detail"}
"""

import asyncio
import json
import sys

from covey import port  # first: on a 32-bit interpreter nested imports use up the C stack

# isort: split
from traffic import PERIOD_MS, Flows, Source

import covey.aio

_STATUS_S = 0.4
_EVENTS = {"member": "registered"}  # a state's name → what happened


class Player:
    def __init__(self, name, machine, path, connection=None, period_ms=PERIOD_MS):
        self._name = name
        self._period_ms = int(period_ms)
        version = ".".join([str(n) for n in sys.implementation.version[:3]])
        self._interpreter = sys.implementation.name + " " + version + " " + machine
        self._source = Source(bytes_of(connection)) if connection else None
        self._flows = Flows()
        self._unsent = 0
        self._is_sending = False
        self._member = covey.aio.join(path, self._tell)

    async def run(self):
        """Until the commands end, or the membership does by an error."""
        asyncio.create_task(self._report_on())
        life = asyncio.create_task(self._live())
        await self._obey(await open_stdin())
        life.cancel()
        try:
            await life
        except asyncio.CancelledError:
            pass
        self._report()

    async def _live(self):
        try:
            async with self._member as member:
                jobs = [asyncio.create_task(self._listen(member))]
                if self._source:
                    jobs.append(asyncio.create_task(self._produce(member)))
                try:
                    for job in jobs:
                        await job
                finally:
                    for job in jobs:
                        job.cancel()
        except Exception as error:
            self._tell("failed", f"{type(error).__name__}: {error}")

    async def _listen(self, member):
        self._tell("listening", None)  # from here on without a gap: the next line begins at once
        async for packet in member:
            self._flows.take(packet.payload)

    async def _produce(self, member):
        """A frame every period while it may be sent. What is overdue is left out, not sent in a
        burst: no I/O device would."""
        due = port.ticks_ms()
        while True:
            due = port.ticks_add(due, self._period_ms)
            now = port.ticks_ms()
            if port.ticks_diff(due, now) < 0:
                due = now
            await asyncio.sleep(port.ticks_diff(due, now) / 1000)
            if self._is_sending and member.can_send():
                if not await member.send(self._source.make()):
                    self._unsent += 1

    async def _obey(self, lines):
        while True:
            words = (await lines.readline()).decode().split()
            if not words or words[0] == "leave":
                return
            if words[0] == "report":
                self._report(words[1])
            else:
                self._is_sending = words[0] == "go"

    async def _report_on(self):
        while True:
            await asyncio.sleep(_STATUS_S)
            self._report()

    def _report(self, ident=None):
        status = self._member.status()
        status["frames"] = self._source.sequence if self._source else 0
        status["unsent"] = self._unsent
        status["flows"] = self._flows.facts()
        status["strange"] = self._flows.strange
        status["report"] = ident
        self._emit("status", status)

    def _tell(self, name, detail):
        self._emit(_EVENTS.get(name, name), {"detail": detail})

    def _emit(self, event, facts):
        facts["event"] = event
        facts["member"] = self._name
        facts["interpreter"] = self._interpreter
        print(json.dumps(facts))


async def open_stdin():
    """Something with an awaitable readline()."""
    if hasattr(asyncio, "core"):  # MicroPython
        return asyncio.StreamReader(sys.stdin.buffer)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def bytes_of(digits):
    return bytes([int(digits[i : i + 2], 16) for i in range(0, len(digits), 2)])


def main():
    asyncio.run(Player(*sys.argv[1:]).run())


main()
