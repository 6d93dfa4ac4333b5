"""A member that sleeps, in place of main.py: it wakes, asks for what it missed, says how its
button is, and sleeps again.

Keys, numbers and windows wait in RTC memory, so that a wake costs no registration. They are good
for one wake: onboard/asleep.py says why. A rekey in its sleep is found out when somebody sends
under the new keys, or when it asks, each so many wakes.
"""

import asyncio

import covey.aio
from onboard import asleep
from onboard.board import Board
from onboard.seed import renew
from onboard.wifi import Wifi

SLEEP_S = 60
AWAKE_S = 30  # at most
ASK_EACH = 15  # wakes
PASSING = (  # it sleeps over these, since a new start at once would empty the battery
    covey.aio.JoinError,
    covey.aio.ConfigError,
    asyncio.TimeoutError,
    OSError,
    MemoryError,
)

kept = asleep.take()  # before all else: whatever happens now, it is used once
board = Board("board.json")
wifi = Wifi("wifi.json", board.show)


async def say(group):
    if kept.wakes >= ASK_EACH:
        group.refresh()
    await asyncio.sleep(0.5)  # rekeys, and packets under keys that we have not
    kept.wakes = 0 if await group.asked(5) else kept.wakes + 1
    while not await group.send(b"on" if board.is_pressed() else b"off"):
        await asyncio.sleep(0.1)


async def take_part():
    await asyncio.wait_for(wifi.up(), AWAKE_S)
    renew("seed")  # only now: with its radio on, the ESP32's generator is a true one
    last = kept.octets, asleep.clock()  # which are zeros once they are used
    async with covey.aio.join("covey.json", board.show, kept=last) as group:
        try:
            await asyncio.wait_for(say(group), AWAKE_S)
        finally:
            kept.octets = group.suspend(asleep.clock()) or b""


async def main():
    tasks = [asyncio.create_task(work) for work in (board.live(), wifi.keep())]
    try:
        await take_part()
    except PASSING as error:
        board.show("failed", error)
    for task in tasks:
        task.cancel()
    asleep.sleep(kept, SLEEP_S)


board.run(main)
