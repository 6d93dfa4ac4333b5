"""A member that follows a rekey, on MicroPython or CPython: how long others wait for their turn.

Arguments: mode, covey.json, a file to be made when the rekey may come. A task beside the member's
own takes a turn whenever it can, as the task that reads packets would.
"""

import asyncio
import gc
import sys

from covey import port  # first: on a 32-bit interpreter nested imports use up the C stack

# isort: split
from counting import Turns, cost, report

import covey.aio
import covey.assignment
import covey.job

_PATIENCE_S = 120


async def follow(path, ready):
    """Gaps from the moment at which a GSA_REKEY is there until its keys are in use."""
    turns = Turns("gap")
    is_there = asyncio.Event()
    async with covey.aio.join(path) as joined:
        membership = joined.membership
        take = membership.multicast

        def multicast(data, now_ms):
            if not is_there.is_set():
                is_there.set()
                gc.collect()
                turns.begin()
            return take(data, now_ms)

        membership.multicast = multicast

        def tidied(filling):
            tidy = port.tidy(filling)
            while True:
                turns.label = "tidy"
                try:
                    next(tidy)
                except StopIteration as end:
                    return end.value
                yield

        def labelled(call):
            def labels():
                turns.label = "tidy"
                return call()

            return labels

        covey.job.tidy = tidied
        covey.job.mem_free = labelled(port.mem_free)
        covey.assignment.collect = labelled(port.collect)
        while membership.is_asking:  # the table of the server's key is still in the making
            await asyncio.sleep(0.01)
        with open(ready, "w"):
            pass
        await asyncio.wait_for(is_there.wait(), _PATIENCE_S)
        turns.here()
        while not membership.rekeys:
            await asyncio.sleep(0)
            turns.here()
        await asyncio.sleep(0)
        turns.here()
    turns.tell()
    return turns.count


count = asyncio.run(follow(sys.argv[2], sys.argv[3]))
heap = 0
if hasattr(gc, "mem_free"):
    heap = gc.mem_alloc() + gc.mem_free()
    cost("collect", gc.collect)
report(turns=count, heap=heap)
