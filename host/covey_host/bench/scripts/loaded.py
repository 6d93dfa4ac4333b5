"""On MicroPython: which files of covey two senders of one group load. Arguments: two covey.json.

Both register; each sends until the other has heard it; then comes a line, "ready", after which
the key server should rekey; and when both have followed, each hears the other under the new keys.
The last line is the names of the modules, those that `import covey.aio` brought first; what read
covey.json was let go.
"""

import asyncio
import json
import sys

from covey import port  # noqa: F401  first: nested imports use up the C stack

# isort: split
import covey.aio


def modules():
    return [name for name in sys.modules if name.split(".")[0] == "covey"]


async def hear(member, heard):
    async for packet in member:
        heard.append(bytes(packet.payload))


async def talk(members, heard, word):
    """Until each has heard the word of the other."""
    while not all([word in words for words in heard]):
        for member in members:
            await member.send(word)
        await asyncio.sleep(0.05)


async def main(paths):
    first = modules()
    async with covey.aio.join(paths[0]) as one, covey.aio.join(paths[1]) as other:
        members = one, other
        heard = [], []
        for at in range(2):
            asyncio.create_task(hear(members[at], heard[at]))
        await talk(members, heard, b"before")
        print("ready")
        while not all([member.membership.rekeys for member in members]):
            await asyncio.sleep(0.05)
        await talk(members, heard, b"behind")
        return first + [name for name in modules() if name not in first] + ["covey.fields"]


print(json.dumps(asyncio.run(main(sys.argv[1:]))))
