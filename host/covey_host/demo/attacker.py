"""The attacker of the demo, a process on the same wire as the group.

    python -m covey_host.demo.attacker

stdin has one JSON object a line, the first says where: {"group", "port", "application",
"interface", "seed", "relay", "server"}. Then {"do": "learn", ...} hands over secrets that a bad
member would have (they go nowhere but into memory), {"do": "attack", "kind": ...} sends one kind
of packets (see attacks.py). Each is answered by an object on stdout. The end of stdin ends it.
"""

import asyncio
import json
import random
import socket
import sys
from collections import Counter

from covey import port

from .attacks import KINDS, Shot
from .capture import Capture
from .relay import Relay

_PAUSE_S = 0.001  # between two shots: no socket's buffer is to overflow
_MOST_OCTETS = 65536


class Attacker:
    def __init__(self, where: dict):
        self._random = random.Random(where["seed"])
        self._capture = Capture()
        self._carrier = where["group"], where["port"]
        self._application = where["group"], where["application"]
        self._ear = port.group_socket(*self._carrier, where["interface"], 1)
        self._buf = bytearray(_MOST_OCTETS)
        self._mouth = _multicast_sender(where["interface"])
        self._own_port = self._mouth.getsockname()[1]
        self._relay = Relay(tuple(where["relay"]), tuple(where["server"]))

    async def run(self, lines: asyncio.StreamReader) -> None:
        asyncio.get_running_loop().add_reader(self._ear, self._listen)
        await self._relay.open()
        _emit("ready", {"from_port": self._own_port})
        while line := await lines.readline():
            order = json.loads(line)
            if order["do"] == "learn":
                self._capture.learn(order["current"], order["retired"])
                _emit("learnt", {})
            elif order["do"] == "attack":
                _emit("attacked", await self._attack(order["kind"]))
            else:
                _emit("relayed", {"lies": self._relay.lies})

    async def _attack(self, kind: str) -> dict:
        """expect: [reason, Sender-ID under a live SPI or null, how many] of each sort."""
        shots = KINDS[kind].make(self._capture, self._random)
        for shot in shots:
            self._shoot(shot)
            await asyncio.sleep(_PAUSE_S)
        sorts = Counter((shot.reason, shot.sender) for shot in shots)
        expect = [[reason, sender, n] for (reason, sender), n in sorts.items()]
        return {"kind": kind, "sent": len(shots), "expect": expect}

    def _shoot(self, shot: Shot) -> None:
        to = self._application if shot.to_application else self._carrier
        self._mouth.sendto(shot.data, to)

    def _listen(self) -> None:
        while True:
            n, source = port.recv_from(self._ear, self._buf)
            if n < 0:
                return
            if source[1] != self._own_port:
                self._capture.note(bytes(self._buf[:n]))


def _multicast_sender(interface: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((interface, 0))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
    return sock


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
