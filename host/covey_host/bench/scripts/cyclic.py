"""A producer or a consumer of cyclic I/O, on MicroPython or CPython: when frames come.

    cyclic.py produce|consume INTERVAL COVEY.JSON
    cyclic.py produce|consume INTERVAL - GROUP PORT INTERFACE

The second is the same loop without Covey, plain UDP. It says "ready" once it takes part, and a
consumer "hears" with the first frame. A line
on stdin is the name of the phase that begins; "end" ends, and then the last line of stdout is a
JSON object: by phase the intervals between frames in µs; of settings ("number": ns since 1970)
when they came into force, and when the first frame came by which they were; frames missed.
"""

import asyncio
import json
import sys
import time

from covey import port  # first: on a 32-bit interpreter nested imports use up the C stack

# isort: split
import covey.aio
from covey.loop import readable
from onboard.cyclic import Pace, Reader, Writer, steady
from onboard.instant import LEN, Announcer, Follower

_CONNECTION = b"\1\0\x10\1"
_MULTIPLIER = 256
_LEAD_MS = 300
_EACH_MS = 500  # a setting
_LONGEST = 2048

if hasattr(time, "ticks_us"):
    _clock, _since = time.ticks_us, time.ticks_diff
else:

    def _clock():
        return time.perf_counter_ns() // 1000

    def _since(now, before):
        return now - before


class Plain:
    """What a member does, without one."""

    def __init__(self, group, number, interface):
        self._sock = port.group_socket(group, int(number), interface, 1)
        self._to = port.resolve(group, int(number))
        self._buf = bytearray(_LONGEST)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        port.close(self._sock)

    def can_send(self):
        return True

    async def send(self, payload):
        port.send(self._sock, payload, self._to)

    def __aiter__(self):
        return self

    async def __anext__(self):
        while True:
            n = port.recv(self._sock, self._buf)
            if n > 0:
                return covey.aio.Packet(bytes(memoryview(self._buf)[:n]), None, False)
            await readable(self._sock)


class Bench:
    def __init__(self, interval_ms):
        self._interval_ms = interval_ms
        self._phases = {}
        self._now = None  # the list of this phase
        self._follower = Follower()
        self._latched = {}
        self._arrived = {}
        self._missed = 0
        self._proven = 0  # frames of which it is known who sent them

    async def produce(self, member):
        writer = Writer(_CONNECTION, LEN, has_header=True, has_clock=True)
        announcer = Announcer(_LEAD_MS)
        pace, since = Pace(self._interval_ms), 0
        while True:
            await pace.next()
            since += self._interval_ms
            if since >= _EACH_MS:
                since = 0
                announcer.set(announcer.number & 0x7FFF, port.ticks_ms())
            if member.can_send():
                announcer.emit(writer.frame, writer.off, port.ticks_ms())
                await member.send(writer.make())

    async def consume(self, member):
        reader = Reader(
            _CONNECTION, self._interval_ms, _MULTIPLIER, has_header=True, has_clock=True
        )
        follower, last = self._follower, None
        asyncio.create_task(self._turn())
        async for packet in member:
            if not reader.taken and reader.has_timed_out():  # the producer took its time
                reader.open()
            if reader.take(packet, LEN) < 0:
                continue
            if last is None:
                print("hears")
            now = _clock()
            if last is not None and self._now is not None:
                self._now.append(_since(now, last))
            last = now
            self._missed = reader.missed
            self._proven += packet.confirmed
            data = packet.payload[reader.off :]
            follower.hear(data, 0, port.ticks_add(port.ticks_ms(), -reader.lag_ms))
            number = data[0] | data[1] << 8
            if not data[4] | data[5] and number not in self._arrived:
                self._arrived[number] = time.time_ns()
            while not self._latch():  # as firmware/motors.py
                wait_ms = follower.wait_ms(self._interval_ms, port.ticks_ms())
                if wait_ms >= self._interval_ms:
                    break
                await asyncio.sleep(wait_ms / 1000)

    async def _turn(self):
        while True:
            self._latch()
            wait_ms = self._follower.wait_ms(self._interval_ms, port.ticks_ms())
            await asyncio.sleep(wait_ms / 1000)

    def _latch(self):
        if not self._follower.latch(port.ticks_ms()):
            return False
        self._latched[self._follower.number] = time.time_ns()
        return True

    async def obey(self, lines):
        while True:
            name = (await lines.readline()).decode().strip()
            if not name or name == "end":
                return
            self._now = self._phases.setdefault(name, [])

    def report(self):
        facts = {"phases": self._phases, "missed": self._missed, "proven": self._proven}
        facts["latched"], facts["arrived"] = self._latched, self._arrived
        print(json.dumps(facts))


async def stdin():
    """Something with an awaitable readline()."""
    if hasattr(asyncio, "core"):  # MicroPython
        return asyncio.StreamReader(sys.stdin.buffer)
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    return reader


async def last_word(work):
    """What fails ends all of it: else whoever waits for our next line would do so for ever."""
    try:
        await work
    except Exception as error:
        print(type(error).__name__, error)
        sys.exit(1)


async def main(role, interval_ms, path, *where):
    bench = Bench(int(interval_ms))
    async with Plain(*where) if path == "-" else covey.aio.join(path) as member:
        steady()
        work = asyncio.create_task(last_word(getattr(bench, role)(member)))
        print("ready")
        await bench.obey(await stdin())
        work.cancel()
    bench.report()


asyncio.run(main(*sys.argv[1:]))
