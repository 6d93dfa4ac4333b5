"""A member for tests, on MicroPython or CPython: `member_script.py COVEY.JSON SECONDS [LOSS]`.

Lines on stdin are sent, each when it may be; the end of stdin ends the membership. Events are
objects of JSON, one a line, as `covey join --json` has them. LOSS: percent of what the group sends
that does not arrive here.
"""

import asyncio
import json
import os
import sys

from covey import port  # noqa: F401  first: each nested import takes 4 KB of the unix port's C stack

# isort: split
import covey.aio


def tell(event, detail):
    print(json.dumps({"event": {"member": "registered"}.get(event, event), "detail": detail}))


async def listen(member):
    async for p in member:
        fact = {"event": "packet", "payload": "".join([f"{octet:02x}" for octet in p.payload])}
        fact["sender"] = p.sender
        print(json.dumps(fact))


async def obey(member, lines):
    while True:
        line = await lines.readline()
        if not line:
            return
        while not await member.send(line.rstrip()):
            await asyncio.sleep(0.01)


async def report(member):
    while True:
        tell("status", member.status())
        await asyncio.sleep(0.3)


async def open_stdin():
    if hasattr(asyncio, "core"):  # MicroPython
        return asyncio.StreamReader(sys.stdin.buffer)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def lose(member, percent):
    """From now on so much of it is taken for nothing."""
    receive = member.receive

    def some(n, now_ms):
        is_lost = os.urandom(1)[0] * 100 < percent * 256
        return receive(0 if is_lost else n, now_ms)

    member.receive = some


async def main(path, timeout_s, loss=0):
    lines = await open_stdin()
    async with covey.aio.join(path, tell, int(timeout_s)) as member:
        if int(loss):
            lose(member.member, int(loss))
        listening = asyncio.create_task(listen(member))
        reporting = asyncio.create_task(report(member))  # from here on every packet is told
        await obey(member, lines)
        tell("status", member.status())
        listening.cancel()
        reporting.cancel()


try:
    asyncio.run(main(*sys.argv[1:]))
except covey.aio.JoinError as error:
    tell("failed", str(error))
    sys.exit(1)
