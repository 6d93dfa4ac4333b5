"""On MicroPython: heap that a registered member keeps, its code apart. Arguments: covey.json, SAs.

Its group has one SA; as many as are asked for are installed besides, with keys of their own.
"""

import asyncio
import gc
import json
import sys

from covey import port  # first: nested imports use up the C stack

# isort: split
from packets import data_sa

import covey.aio
import covey.keypath  # where there is a key tree, a registration loads it: code
from covey.gcm import GCMContext

GCMContext.reserve(0)  # AES-GCM's kernel, and what asyncio loads late: code
asyncio.Event()
asyncio.wait_for  # noqa: B018


def heap():
    gc.collect()
    gc.collect()  # what only a finaliser of the first has let go
    return gc.mem_alloc()


async def main(path, count):
    covey.aio.config_file.load(path).wipe()  # the names in what reads it, which is let go
    before = heap()
    async with covey.aio.join(path) as joined:
        await asyncio.sleep(0.5)  # for the job that makes the verifier's table
        while joined.membership.step(port.ticks_ms()) == 0:
            pass
        keys = joined.member.keys
        registered = heap() - before
        while len(keys.live()) < count:
            spi = bytes([1, 2, 3, len(keys.live())])
            assert keys.install(data_sa(spi, port.random_bytes(20)), port.ticks_ms())
        return registered, heap() - before, len(keys.live())


print(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2])))))
