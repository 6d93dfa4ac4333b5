"""A member under traffic, on either interpreter: `rollover_script.py COVEY.JSON NUMBER RATE SEED`.

It says "ready", and from a line "go" on stdin to a line "stop" sends RATE packets a second, each
with its NUMBER and a count. From "end" on it waits for what is on its way, says what it got, and
leaves. SEED 0: the network as it is. Else one that loses a fifth of the packets to it, lets them
overtake each other and come twice; and a clock that begins anywhere, runs wrong and jitters.
"""

import asyncio
import json
import sys
import time

from covey import port  # first: each nested import takes 4 KB of the unix port's C stack

# isort: split
import covey.aio
from covey.drops import DROP_OWN, name_of

MOST = 1 << 18  # packets of one sender
_HELD = 6  # packets that wait for being overtaken
_QUIET_MS = 800
_JITTER_MS = 16  # by which a clock says too much, now more and now less


class Clock:
    """Another one in the place of the port's."""

    def __init__(self, chance):
        self._ticks_ms = port.ticks_ms
        self._began = port.ticks_ms()
        self._offset = chance.number(1 << 29) + chance.number(1 << 29)
        self._chance = chance
        self._parts = 4990 + chance.number(21)  # of 5000: up to 2000 ppm wrong

    def __call__(self):
        gone = port.ticks_diff(self._ticks_ms(), self._began)
        gone = gone * self._parts // 5000 + self._chance.number(_JITTER_MS)
        return port.ticks_add(self._offset & 0x3FFFFFFF, gone)


class Chance:
    def __init__(self, seed):
        self._state = seed & 0x3FFFFFFF | 1

    def number(self, below):
        """Numerical Recipes' generator, in small ints."""
        self._state = (self._state * 1664525 + 1013904223) & 0x3FFFFFFF
        return (self._state >> 8) % below


class Wind:
    """Between a carrier and Member.receive."""

    def __init__(self, member, chance):
        self._member = member
        self._real = member.receive
        self._is_inside = False  # Member.receive calls itself when its key store has work
        self._chance = chance
        self._held = [bytearray(len(member.rx)) for _ in range(_HELD)]
        self._lengths = [0] * _HELD
        self._last = bytearray(len(member.rx))
        self._last_len = 0
        self._one = bytearray(len(member.rx))
        self.lost = self.twice = 0
        self.arrived = self.own = 0  # packets that got through, each counted once
        self.refused = {}  # DROP_* → how many of these

    def __call__(self, n, now_ms):
        rx, chance = self._member.rx, self._chance
        if self._is_inside or n < 36 or not (rx[0] | rx[1] | rx[2] | rx[3]):
            return self._real(n, now_ms)
        if chance.number(5) == 0:
            self.lost += 1
            return -1
        if self._last_len and chance.number(50) == 0:
            self._one[:n] = memoryview(rx)[:n]
            rx[: self._last_len] = memoryview(self._last)[: self._last_len]
            self.twice += 1
            assert self._receive(self._last_len, now_ms) < 0, "taken twice"
            rx[:n] = memoryview(self._one)[:n]
        place = chance.number(_HELD)
        held, length = self._held[place], self._lengths[place]
        self._one[:length] = memoryview(held)[:length]
        held[:n], self._lengths[place] = memoryview(rx)[:n], n
        if not length:
            return -1
        rx[:length] = memoryview(self._one)[:length]
        self._last[:length], self._last_len = memoryview(rx)[:length], length
        self.arrived += 1
        answer = self._receive(length, now_ms)
        if answer == DROP_OWN:
            self.own += 1
        elif answer < 0:
            name = name_of(answer)
            self.refused[name] = self.refused.get(name, 0) + 1
        return answer

    def _receive(self, n, now_ms):
        self._is_inside = True
        answer = self._real(n, now_ms)
        self._is_inside = False
        return answer


class Book:
    """Which packets of each sender came."""

    def __init__(self):
        self.senders = {}
        self.twice = 0
        self.count = 0

    def note(self, payload):
        number = payload[1] << 24 | payload[2] << 16 | payload[3] << 8 | payload[4]
        bits = self.senders.get(payload[0])
        if bits is None:
            bits = self.senders[payload[0]] = bytearray(MOST >> 3)
        if bits[number >> 3] >> (number & 7) & 1:
            self.twice += 1
        bits[number >> 3] |= 1 << (number & 7)
        self.count += 1

    def missing(self, sender, sent):
        """The first few numbers below `sent` that are not there, and how many there are."""
        bits, found, count = self.senders.get(sender, bytearray(MOST >> 3)), [], 0
        for number in range(sent):
            if not bits[number >> 3] >> (number & 7) & 1:
                count += 1
                if len(found) < 20:
                    found.append(number)
        return [count, found]


async def listen(member, book):
    async for packet in member:
        book.note(packet.payload)


async def talk(member, number, rate, said):
    """→ how often a packet could not leave at once."""
    payload = bytearray(64)
    payload[0] = number
    began, sent, unsent = time.time(), 0, 0
    while not said:
        due = int((time.time() - began) * rate)
        burst = 0
        while sent < due and burst < 8:
            for i in range(4):
                payload[1 + i] = sent >> 24 - 8 * i & 255
            if not await member.send(payload):
                unsent += 1
                break
            sent += 1
            burst += 1
        await asyncio.sleep(0.002 if sent >= due else 0)
    return sent, unsent, time.time() - began


async def open_stdin():
    if hasattr(asyncio, "core"):  # MicroPython
        return asyncio.StreamReader(sys.stdin.buffer)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def tell(event, **facts):
    facts["event"] = event
    print(json.dumps(facts))


async def main(path, number, rate, seed):
    number, rate, seed = int(number), int(rate), int(seed)
    lines = await open_stdin()
    book, wind = Book(), None
    if seed:
        chance = Chance(seed)
        port.ticks_ms = Clock(chance)
    events = lambda name, detail: tell("member", name=name)  # noqa: E731
    async with covey.aio.join(path, events, 30) as member:
        if seed:
            wind = member.member.receive = Wind(member.member, chance)
        while rate and not member.can_send():
            await asyncio.sleep(0.05)
        listening = asyncio.create_task(listen(member, book))
        tell("ready")
        assert (await lines.readline()).strip() == b"go"
        said = []
        talking = asyncio.create_task(talk(member, number, rate, said))
        assert (await lines.readline()).strip() == b"stop"
        said.append(True)
        sent, unsent, seconds = await talking
        tell("stopped", sent=sent, unsent=unsent, seconds=seconds)
        counts = json.loads(await lines.readline())  # what each sender has sent
        await asyncio.sleep(_QUIET_MS / 1000)
        listening.cancel()
        status = member.status()
        missing = {name: book.missing(int(name), counts[name]) for name in counts}
        tell(
            "report",
            got=book.count,
            twice=book.twice,
            missing=missing,
            status=status,
            lost=wind.lost if wind else 0,
            again=wind.twice if wind else 0,
            arrived=wind.arrived - wind.own if wind else 0,
            refused=wind.refused if wind else {},
        )


asyncio.run(main(*sys.argv[1:]))
