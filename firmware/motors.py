"""Several motor controllers, one speed, taken up at one instant: in place of main.py, on each.

The sender's button gives the next speed. It announces that for a while before it counts; all that
have heard so change at the same moment (onboard/instant.py says how well). Its group has
source_auth = "mac": no motor obeys another motor. A motor that hears nothing stops, and starts
again with the next speed alone.
"""

import asyncio

import covey.aio
from covey import cip, port
from onboard.board import Board, Pauses
from onboard.cyclic import Pace, Reader, Writer, steady
from onboard.instant import LEN, Announcer, Follower
from onboard.seed import renew
from onboard.together import together
from onboard.wifi import Wifi

CONNECTION = b"\x01\x00\x10\x01"
INTERVAL_MS = 10  # the requested packet interval
MULTIPLIER = 32  # so many without a frame, and the connection is over
LEAD_MS = 500  # a speed is announced so long, which is longer than that
SPEEDS = (600, 1500, -600, 0)  # rpm
PRODUCER = None  # its name as a member, as octets, where the group has other senders, too

board = Board("board.json")
wifi = Wifi("wifi.json", board.show)


def turn(speed):
    """The drive. Here that is its relay, which is on while it turns: yours goes here."""
    board.drive(speed != 0)


async def lead(group):
    writer, announcer = Writer(CONNECTION, LEN, has_header=True), Announcer(LEAD_MS)
    pace, was_pressed, at = Pace(INTERVAL_MS), False, 0
    while True:
        await pace.next()
        now_ms = port.ticks_ms()
        is_pressed = board.is_pressed()
        if is_pressed and not was_pressed:
            if announcer.set(SPEEDS[at % len(SPEEDS)], now_ms):
                at += 1
                board.show("announced", "%d: %d rpm" % (announcer.number, announcer.value))
        was_pressed = is_pressed
        if group.can_send():
            announcer.emit(writer.frame, writer.off, now_ms)
            await group.send(writer.make())


class Motor:
    def __init__(self):
        self._reader = Reader(CONNECTION, INTERVAL_MS, MULTIPLIER, has_header=True)
        self._follower = Follower()

    async def hear(self, group):
        reader, follower = self._reader, self._follower
        async for packet in group:
            if not packet.confirmed or PRODUCER not in (None, packet.source):
                continue  # of another motor, perhaps
            if reader.take(packet.payload, LEN) < 0:
                continue
            if reader.taken == 1:
                board.show("connection", "open")
            if not reader.is_running:
                self._stop("idle")
            elif not follower.hear(packet.payload, reader.off, port.ticks_ms()):
                board.show("stopped", "out of step")
            turn(follower.value)

    async def turn(self):
        """Each speed at its instant; none once the connection is over."""
        reader, follower = self._reader, self._follower
        while True:
            if reader.has_timed_out():
                if reader.taken:
                    board.show("frames", reader.facts())
                self._stop(cip.NAMES[cip.TIMED_OUT])
                reader.open()
            if follower.latch(port.ticks_ms()):
                turn(follower.value)
                board.show("speed", "%d: %d rpm" % (follower.number, follower.value))
            wait_ms = follower.wait_ms(INTERVAL_MS, port.ticks_ms())
            await asyncio.sleep(wait_ms / 1000)

    def _stop(self, why):
        if self._follower.number is not None:
            board.show("stopped", why)
        self._follower.stop()
        turn(0)


async def take_part(pauses):
    async with covey.aio.join("covey.json", board.show) as group:
        pauses.end()
        steady()
        wifi.on_return = group.refresh
        motor = Motor()
        works = [lead(group)] if group.config.sender else [motor.hear(group), motor.turn()]
        try:
            await together(*works)
        finally:
            wifi.on_return = None
            turn(0)


async def member():
    await wifi.up()
    renew("seed")
    pauses = Pauses(5, 300)
    while True:
        try:
            await take_part(pauses)
        except (covey.aio.JoinError, covey.aio.ConfigError) as error:
            board.show("failed", error)
        await pauses.rest()
        await wifi.up()


async def main():
    await together(board.live(), wifi.keep(), member())


board.run(main)
