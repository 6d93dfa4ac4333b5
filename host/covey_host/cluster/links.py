"""TCP between machines that are processes of one: each link listens on a port and goes to another.

`python -m covey_host.cluster.links`: orders are JSON lines on stdin, each is answered when it is
done by {"event": "done", "order": n}; the end of stdin ends it.

    {"order": n, "open": {link: [own port, port it goes to]}}
    {"order": n, "set": [[link, source, mode], ...]}
    {"order": n, "slow": ms that all links take from now on, with each piece}

mode    pass     what comes goes on
        hold     nothing passes, and nothing is lost: packets are, and come again by TCP when it
                 passes again; a connection can be made meanwhile, and says nothing
        cut      connections end, and so does each new one

source: "" is whoever has no rule of its own; else an etcd node's ID (hexadecimal), by which it
names itself to others in its first request (X-Server-From).
"""

import asyncio
import json
import re
import sys
from contextlib import suppress

HOST = "127.0.0.1"
PASS, HOLD, CUT = "pass", "hold", "cut"
_CHUNK = 1 << 16
_POLL_S = 0.005
_FROM = re.compile(rb"(?i)\r\nX-Server-From: ([0-9a-f]+)\r\n")
_LOOKED_AT = 2048  # octets of a connection's beginning


class Link:
    def __init__(self, port: int, links: "Links"):
        """port: where it goes to."""
        self.links = links
        self._port = port
        self._modes: dict[str, str] = {}  # by source
        self._pipes: set[_Pipe] = set()

    def mode(self, source: str) -> str:
        return self._modes.get(source) or self._modes.get("", PASS)

    def set(self, source: str, mode: str) -> None:
        self._modes[source] = mode
        for pipe in list(self._pipes):
            pipe.heed()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pipe = _Pipe(self, writer)
        self._pipes.add(pipe)
        try:
            await pipe.run(reader, self._port)
        finally:
            self._pipes.remove(pipe)


class _Pipe:
    """One connection, both ways."""

    def __init__(self, link: Link, client: asyncio.StreamWriter):
        self._link = link
        self._ends = [client]
        self._source = ""
        self._seen = b""

    async def run(self, reader: asyncio.StreamReader, port: int) -> None:
        client = self._ends[0]
        self.heed()
        try:
            await self._passable()
            from_there, there = await asyncio.open_connection(HOST, port)
        except OSError:
            client.transport.abort()
            return
        self._ends.append(there)
        ways = (self._pump(reader, there, True), self._pump(from_there, client, False))
        with suppress(OSError):
            await asyncio.gather(*ways)
        for end in self._ends:
            end.close()

    def heed(self) -> None:
        if self._link.mode(self._source) == CUT:
            for end in self._ends:
                end.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_there: bool
    ) -> None:
        while data := await reader.read(_CHUNK):
            if is_there and len(self._seen) < _LOOKED_AT:
                self._look(data)
            await asyncio.sleep(self._link.links.delay_s)
            await self._passable()
            writer.write(data)
            await writer.drain()
        await self._passable()
        with suppress(OSError):
            writer.write_eof()

    async def _passable(self) -> None:
        while self._link.mode(self._source) == HOLD:
            await asyncio.sleep(_POLL_S)
        self.heed()

    def _look(self, data: bytes) -> None:
        self._seen += data[:_LOOKED_AT]
        found = _FROM.search(self._seen)
        if found:
            self._source = found[1].decode()
            self._seen = bytes(_LOOKED_AT)


class Links:
    def __init__(self):
        self.delay_s = 0.0
        self._links: dict[str, Link] = {}
        self._servers: list[asyncio.Server] = []

    async def obey(self, order: dict) -> None:
        for name, (own, to) in order.get("open", {}).items():
            self._links[name] = link = Link(to, self)
            self._servers.append(await asyncio.start_server(link.serve, HOST, own))
        for name, source, mode in order.get("set", ()):
            self._links[name].set(source, mode)
        self.delay_s = order.get("slow", self.delay_s * 1000) / 1000


async def main() -> None:
    links, lines = Links(), asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, _context: None)  # of connections that were cut
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        order = json.loads(line)
        await links.obey(order)
        print(json.dumps({"event": "done", "order": order["order"]}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
