"""A sender or a receiver of loopback.py, in a process of its own.

    python -m covey_host.bench.traffic send COVEY.JSON RATE COUNT
    python -m covey_host.bench.traffic receive COVEY.JSON COUNT

Each prints `ready`; the sender then waits for a line on stdin. The last line is an object: what
the sender took for it, or what the receiver got and why it dropped the rest.
"""

import asyncio
import json
import sys
import time

import covey.aio

PAYLOAD = bytes(64)
_SILENCE_S = 2  # after so long without a packet nothing more will come
_PATIENCE_S = 30  # for the first one
_BURST = 16  # packets that are sent before the sender's other tasks get their turn


async def send(path, rate, count):
    async with covey.aio.join(path) as member:
        while not member.can_send():
            await asyncio.sleep(0.05)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        unsent = 0
        began = time.perf_counter()
        for n in range(count):
            if n % _BURST == 0:
                await asyncio.sleep(0)
            while time.perf_counter() < began + n / rate:
                pass
            unsent += not await member.send(PAYLOAD)
        took = time.perf_counter() - began
    return {"seconds": took, "unsent": unsent}


async def receive(path, count):
    got = 0
    async with covey.aio.join(path) as member:
        packets = aiter(member)
        print("ready", flush=True)
        patience = _PATIENCE_S
        while got < count:
            try:
                async with asyncio.timeout(patience):
                    while got < count:
                        await anext(packets)
                        got += 1
                        if got % 1000 == 0:
                            break
            except TimeoutError:
                break
            patience = _SILENCE_S
        drops = member.status()["drops"]
    return {"got": got, "drops": drops}


if __name__ == "__main__":
    role, path, *numbers = sys.argv[1:]
    job = (send if role == "send" else receive)(path, *map(int, numbers))
    print(json.dumps(asyncio.run(job)), flush=True)
