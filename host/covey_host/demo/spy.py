"""A member with every right to listen, that poses as the producer. Compromised, not broken in.

    spy.py COVEY.JSON

It joins as any member does, and knows what any knows: the group's key, who sends, and all packets.
`forge N` on stdin: N commands in the name of the sender heard last, perfect but for what only that
sender can make. The end of stdin is its end. stdout has one JSON object a line: {"event":
"listening" | "forged", "sent"}.
"""

import asyncio
import json
import sys

import covey.aio
from covey.job import finish
from covey.merkle import leaf, statement
from covey.p256_sign import sign_job
from covey.signatures import Signatures
from covey.signers import emit_trailer
from covey_host.demo import attacks, traffic
from covey_host.demo.intruder import multicast_sender

_POLL_S = 0.05
_FAR = 100_000  # numbers ahead: what it says is heard, and what the producer says next is old


async def spy(path: str) -> None:
    async with covey.aio.join(path) as member:
        heard: list[int] = []
        listening = asyncio.create_task(_listen(member, heard))
        _say("listening", 0)
        lines = await _open_stdin()
        while words := (await lines.readline()).decode().split():
            while not heard:  # under new keys it may hear later than others
                await asyncio.sleep(_POLL_S)
            _say("forged", _forge(member, heard[-1], int(words[1])))
        listening.cancel()


async def _listen(member, heard: list[int]) -> None:
    async for packet in member:
        heard[:] = [packet.sender]


def _forge(member, sender: int, count: int) -> int:
    sa = member.member.keys.live()[0]
    source = traffic.Source(attacks.CONNECTION)
    place = member.membership.routes()[sa.spi]
    mouth = multicast_sender(member.config.interface)
    for number in range(_FAR, _FAR + count):
        payload = bytes(source.make())
        payload += _proof(sa, sender, number, payload)
        key = sa.context, sa.spi, sa.port
        mouth.sendto(attacks.sealed_with(*key, sender, number, payload), place)
    mouth.close()
    return count


def _proof(sa, sender: int, number: int, payload: bytes) -> bytes:
    """As near as it comes to what only the sender can make: a signature, but with another key."""
    if not isinstance(sa.auth, Signatures):
        return bytes(sa.auth.trailer) if sa.auth else b""
    top = sender << 32 - sa.senders.bits
    head = sa.spi + number.to_bytes(4, "big") + top.to_bytes(4, "big")
    epoch = (sa.epoch & 0xFFFFFFFF).to_bytes(4, "big")
    root = leaf(head, sa.port, epoch, sa.auth.name_of(sender), payload)
    r, s = finish(sign_job(b"\x07" * 32, statement(0, root)))
    return emit_trailer(b"", 0, r, s)


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
