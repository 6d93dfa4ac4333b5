"""A member with every right to listen, that poses as the producer. Compromised, not broken in.

    spy.py COVEY.JSON

It joins as any member does, and knows what any knows: the group's key, who sends, and all packets.
`forge N` on stdin: as soon as somebody is heard, N commands in its name, perfect but for what only
that sender can make (forger.py). The end of stdin is its end. stdout has one JSON object a line:
{"event": "listening" | "forged", "sent"}.
"""

import asyncio
import json
import sys

import covey.aio
from covey_host.demo import attacks, forger, traffic
from covey_host.demo.intruder import multicast_sender

_SPI, _NUMBERED = 4, 8  # octets: an SPI, and a number behind it
_FAR = 100_000  # numbers ahead: what it says is heard, and what the producer says next is old


async def spy(path: str) -> None:
    async with covey.aio.join(path, unconfirmed=True) as member:
        heard: asyncio.Queue[bytes] = asyncio.Queue(1)
        listening = asyncio.create_task(_listen(member, heard))
        _say("listening", 0)
        lines = await _open_stdin()
        while words := (await lines.readline()).decode().split():
            while not heard.empty():
                heard.get_nowait()
            _say("forged", _forge(member, await heard.get(), int(words[1])))
        listening.cancel()


async def _listen(member, heard: asyncio.Queue[bytes]) -> None:
    """What is heard, in clear, as long as nobody has taken it; not again once it is proven."""
    newest = bytes(_NUMBERED)
    async for packet in member:
        last = forger.clear(member.member.rx)
        if not member.member.keys.find(last, 0) or packet.payload not in last:
            continue
        number = last[:_NUMBERED]
        if number[:_SPI] == newest[:_SPI] and number <= newest:
            continue
        newest = number
        if heard.empty():
            heard.put_nowait(last)


def _forge(member, heard: bytes, count: int) -> int:
    sa = member.member.keys.find(heard, 0)
    sender = int.from_bytes(heard[8:10], "big")
    source = traffic.Source(attacks.CONNECTION)
    place = member.membership.routes()[sa.spi]
    mouth = multicast_sender(member.config.interface)
    ways = forger.ways(sa, heard, member.membership.epoch)
    for number, way in zip(range(_FAR, _FAR + count), ways, strict=False):
        frame = bytes(source.make())
        behind = way(forger.head(sa, sender, number) + frame)
        key = sa.context, sa.spi, sa.port
        mouth.sendto(attacks.sealed_with(*key, sender, number, frame + behind), place)
    mouth.close()
    return count


async def _open_stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


def _say(event: str, sent: int) -> None:
    print(json.dumps({"event": event, "sent": sent}), flush=True)


if __name__ == "__main__":
    asyncio.run(spy(sys.argv[1]))
