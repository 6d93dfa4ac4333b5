"""The attacker of the demo, a process on the same wire as the group.

    python -m covey_host.demo.attacker

stdin has one JSON object a line, the first says where: {"group", "port", "application",
"interface", "seed", "relay", "server"}. Then {"do": "learn", ...} hands over secrets that a bad
member would have (they go nowhere but into memory), {"do": "attack", "kind": ...} sends one kind
of packets (see attacks.py). Each is answered by an object on stdout. The end of stdin ends it.
"""

import asyncio
import json
import sys

from .intruder import Intruder
from .relay import Relay


class Attacker:
    def __init__(self, where: dict):
        carrier, application = (
            (where["group"], where["port"]),
            (where["group"], where["application"]),
        )
        self._intruder = Intruder(carrier, application, where["interface"], where["seed"])
        self._relay = Relay(tuple(where["relay"]), tuple(where["server"]))

    async def run(self, lines: asyncio.StreamReader) -> None:
        self._intruder.open()
        await self._relay.open()
        _emit("ready", {"from_port": self._intruder.own_port})
        while line := await lines.readline():
            order = json.loads(line)
            if order["do"] == "learn":
                self._intruder.capture.learn(order["current"], order["retired"])
                _emit("learnt", {})
            elif order["do"] == "attack":
                _emit("attacked", await self._intruder.attack(order["kind"]))
            else:
                _emit("relayed", {"lies": self._relay.lies})


def _emit(event: str, facts: dict) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


async def _main() -> None:
    lines = asyncio.StreamReader(limit=1 << 20)
    protocol = asyncio.StreamReaderProtocol(lines)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    where = await lines.readline()
    if where:
        await Attacker(json.loads(where)).run(lines)


if __name__ == "__main__":
    asyncio.run(_main())
