"""A member on a board. READ THIS FIRST; what it leaves to `onboard` can wait.

A board that may send says how its button is; the LED and the relay of the others follow. State,
not events: what is lost is said again a moment later.
"""

import asyncio

import covey.aio
from onboard.board import Board, Pauses
from onboard.seed import renew
from onboard.together import together
from onboard.wifi import Wifi

board = Board("board.json")  # LED, relay, button; its watchdog runs from here on
wifi = Wifi("wifi.json", board.show)


async def say(group):
    while True:
        await group.send(b"on" if board.is_pressed() else b"off")  # False: not now
        await asyncio.sleep(0.2)


async def hear(group):
    async for packet in group:  # with source_auth of policy, ask for packet.confirmed, too
        board.drive(packet.payload == b"on")


async def take_part(pauses):
    async with covey.aio.join("covey.json", board.show) as group:  # registers, follows rekeys
        pauses.end()
        wifi.on_return = group.refresh  # what the group was told meanwhile is asked for
        try:
            works = [hear(group), say(group)] if group.config.sender else [hear(group)]
            await together(*works)
        finally:
            wifi.on_return = None


async def member():
    await wifi.up()  # the ESP32's generator of chance is a true one only with the radio on
    renew("seed")
    pauses = Pauses(5, 300)
    while True:
        try:
            await take_part(pauses)
        except (covey.aio.JoinError, covey.aio.ConfigError) as error:
            board.show("failed", error)
        await pauses.rest()  # seconds, more each time, so that a plant does not come back at once
        await wifi.up()


async def main():
    await together(board.live(), wifi.keep(), member())  # for ever


board.run(main)  # what should never happen starts the board again
