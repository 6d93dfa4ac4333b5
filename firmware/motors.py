"""Several motor controllers, one speed, taken up at one instant: in place of main.py, on each.

The sender's button gives the next speed. It announces that for a while before it counts; all that
have heard so change at the same moment (onboard/instant.py says how well). Its group has
source_auth = "mac": no motor obeys another motor. A motor that hears nothing stops, and starts
again with the next speed alone. A frame that was held back on its way is nothing.
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
PRODUCER = None  # its name as a member, in octets; None: the first one heard, from then on

board = Board("board.json")
wifi = Wifi("wifi.json", board.show)


def turn(speed):
    """The drive. Here that is its relay, which is on while it turns: yours goes here."""
    board.drive(speed != 0)


async def lead(group):
    writer = Writer(CONNECTION, LEN, has_header=True, has_clock=True)
    announcer = Announcer(LEAD_MS)
    pace, was_pressed, at = Pace(INTERVAL_MS), False, 0
    while True:
        await pace.next()
        now_ms = port.ticks_ms()
        is_pressed = board.is_pressed()
        if is_pressed and not was_pressed:
            if announcer.set(SPEEDS[at % len(SPEEDS)], now_ms):
                at += 1
                board.show("announced", "%d: %d rpm" % (announcer.number, announcer.value))
                board.show("instant", "%d at %d" % (announcer.number, announcer.due_ms))
        was_pressed = is_pressed
        if group.can_send():
            announcer.emit(writer.frame, writer.off, now_ms)
            await group.send(writer.make())


class Motor:
    """It outlives a membership: what it knows of the producer is to."""

    def __init__(self):
        self._reader = Reader(
            CONNECTION,
            INTERVAL_MS,
            MULTIPLIER,
            has_header=True,
            has_clock=True,
            producer=PRODUCER,
            needs_proof=True,
        )
        self._follower = Follower()

    async def hear(self, group):
        reader, follower = self._reader, self._follower
        reader.open()
        async for packet in group:
            if reader.take(packet, LEN) < 0:
                continue
            if reader.taken == 1:
                board.show("connection", "open")
            came_ms = port.ticks_add(port.ticks_ms(), -reader.lag_ms)  # as if by the quickest way
            if not reader.is_running:
                self.stop("idle")
            elif not follower.hear(packet.payload, reader.off, came_ms):
                board.show("stopped", "out of step")
            turn(follower.value)
            # The instant may be nearer than turn() knew as it fell asleep.
            while not self._latch():
                wait_ms = follower.wait_ms(INTERVAL_MS, port.ticks_ms())
                if wait_ms >= INTERVAL_MS:
                    break
                await asyncio.sleep(wait_ms / 1000)

    async def turn(self):
        """Each speed at its instant; none once the connection is over."""
        reader = self._reader
        while True:
            if reader.has_timed_out():
                facts = reader.facts()
                if facts:
                    board.show("frames", facts)
                self.stop(cip.NAMES[cip.TIMED_OUT])
                reader.open()
            self._latch()
            wait_ms = self._follower.wait_ms(INTERVAL_MS, port.ticks_ms())
            await asyncio.sleep(wait_ms / 1000)

    def _latch(self):
        follower, now_ms = self._follower, port.ticks_ms()
        if follower.latch(now_ms):
            turn(follower.value)
            board.show("speed", "%d: %d rpm" % (follower.number, follower.value))
            board.show("instant", "%d at %d" % (follower.number, now_ms))
            return True
        return False

    def stop(self, why):
        if self._follower.number is not None:
            board.show("stopped", why)
        self._follower.stop()
        turn(0)


async def take_part(pauses, motor):
    async with covey.aio.join("covey.json", board.show) as group:
        pauses.end()
        steady()
        wifi.on_return = group.refresh
        works = [lead(group)] if group.config.sender else [motor.hear(group), motor.turn()]
        try:
            await together(*works)
        finally:
            wifi.on_return = None
            motor.stop("no member")


async def member():
    await wifi.up()
    renew("seed")
    pauses, motor = Pauses(5, 300), Motor()
    while True:
        try:
            await take_part(pauses, motor)
        except (covey.aio.JoinError, covey.aio.ConfigError) as error:
            board.show("failed", error)
        await pauses.rest()
        await wifi.up()


async def main():
    await together(board.live(), wifi.keep(), member())


board.run(main)
