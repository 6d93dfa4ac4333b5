"""A photo eye that reports to many: in place of main.py, on the eye (the sender) and on who hears.

Its data are a state, not events: how many have passed, and whether one is before it now. So a
frame that is lost costs nothing, and who comes late is told all. Nobody hearing the eye any more
is told from nothing passing by: the connection times out, and its light goes out. A frame that was
held back on its way is nothing.
"""

import asyncio
from struct import pack_into, unpack_from

import covey.aio
from covey import cip
from onboard.board import Board, Pauses
from onboard.cyclic import Pace, Reader, Writer, steady
from onboard.seed import renew
from onboard.together import together
from onboard.wifi import Wifi

CONNECTION = b"\x02\x00\x20\x02"
INTERVAL_MS = 10  # the requested packet interval, and how often the eye looks
MULTIPLIER = 32  # so many without a frame, and the connection is over
PRODUCER = None  # its name as a member, in octets; None: where it is proven, the first one heard
LEN = 4  # passed: 2 octets; blocked: 2, of which the first bit counts

board = Board("board.json")
wifi = Wifi("wifi.json", board.show)


async def look(group):
    """The eye. Its input is the button's."""
    writer, pace = Writer(CONNECTION, LEN, has_clock=True), Pace(INTERVAL_MS)
    passed, was_blocked = 0, False
    while True:
        await pace.next()
        is_blocked = board.is_pressed()
        if is_blocked and not was_blocked:
            passed = passed + 1 & 0xFFFF
            board.show("passed", passed)
        was_blocked = is_blocked
        if group.can_send():
            pack_into("<HH", writer.frame, writer.off, passed, int(is_blocked))
            await group.send(writer.make())


class Recipient:
    """It outlives a membership: what it knows of the eye is to."""

    def __init__(self):
        self._reader = Reader(
            CONNECTION, INTERVAL_MS, MULTIPLIER, has_clock=True, producer=PRODUCER
        )
        self._passed = None  # as it was last heard

    async def hear(self, group):
        reader = self._reader
        reader.open()
        self._passed = None
        async for packet in group:
            answer = reader.take(packet, LEN)
            if answer < 0:
                continue
            if reader.taken == 1:
                board.show("connection", "open")
            passed, is_blocked = unpack_from("<HH", packet.payload, reader.off)
            board.drive(bool(is_blocked & 1))
            if answer == cip.FRESH and passed != self._passed:
                self._passed = passed
                board.show("passed", passed)

    async def watch(self):
        """Whether there is an eye at all."""
        reader = self._reader
        while True:
            await asyncio.sleep(INTERVAL_MS / 1000)
            if reader.has_timed_out():
                facts = reader.facts()
                if facts:
                    board.show("frames", facts)
                if reader.taken:
                    board.show("stopped", cip.NAMES[cip.TIMED_OUT])
                self._passed = None
                board.drive(False)
                reader.open()


async def take_part(pauses, heard):
    async with covey.aio.join("covey.json", board.show) as group:
        pauses.end()
        steady()
        wifi.on_return = group.refresh
        works = [look(group)] if group.config.sender else [heard.hear(group), heard.watch()]
        try:
            await together(*works)
        finally:
            wifi.on_return = None
            board.drive(False)


async def member():
    await wifi.up()
    renew("seed")
    pauses, heard = Pauses(5, 300), Recipient()
    while True:
        try:
            await take_part(pauses, heard)
        except (covey.aio.JoinError, covey.aio.ConfigError) as error:
            board.show("failed", error)
        await pauses.rest()
        await wifi.up()


async def main():
    await together(board.live(), wifi.keep(), member())


board.run(main)
