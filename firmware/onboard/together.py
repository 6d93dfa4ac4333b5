"""Several works side by side, none of which should end while the others go on."""

import asyncio


async def together(*works):
    """Until the first of them ends; what it raised, if anything. The others are cancelled."""
    over = asyncio.Event()
    raised = []
    tasks = [asyncio.create_task(_watched(work, over, raised)) for work in works]
    try:
        await over.wait()
    finally:
        for task in tasks:
            task.cancel()
    if raised:
        raise raised[0]


async def _watched(work, over, raised):
    try:
        await work
    except Exception as error:
        raised.append(error)
    finally:
        over.set()
