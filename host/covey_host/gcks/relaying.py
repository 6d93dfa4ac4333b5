"""The relay's sockets and its queue, beside the key server's own work and behind it.

What comes is put into one queue of fixed length, at once, so that IKE messages on the same socket
are not kept waiting; a full queue drops, and counts. A few datagrams are worked on at a time, and
between two such turns the event loop looks at everything else. Nothing is sent twice: what the
system does not take is counted and lost, as on any network.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from covey import port
from covey.drops import ConfigError

from .relay import Carried, Relay
from .sockets import Endpoint

_QUEUE = 1024  # datagrams that wait
_BATCH = 16  # worked on before anything else gets its turn
_READ = 32  # read from one group's socket likewise
_MOST_LEN = 1536
_LEAST_LEN = 36
_RETRY_S = 5  # after a group that could not be joined


class Relaying:
    """endpoints: the key server's sockets, as Address.endpoint numbers them. way(port): interface
    and TTL for multicast from the socket of that port. trouble(sentence) is told."""

    def __init__(
        self,
        relay: Relay,
        endpoints: list[Endpoint],
        counters: Counter,
        way: Callable[[int], tuple[str | None, int]],
        trouble: Callable[[str], None],
        now_ms: Callable[[], int],
    ):
        self._relay = relay
        self._endpoints = endpoints
        self._counters = counters
        self._way = way
        self._trouble = trouble
        self._now_ms = now_ms
        self._queue: deque[tuple[str | None, bytes, Any]] = deque()
        self._is_awake = False
        self._heard: dict[tuple[str, int], tuple[Any, str]] = {}  # socket, group's name
        self._failed: dict[tuple[str, int], float] = {}

    def take(self, data: bytes, address: Any) -> bool:
        """ESP that came to one of the endpoints. False: it is of no member."""
        if self._relay.is_idle:
            return False
        if self._relay.knows(address):
            self._put(None, data, address)
        return True

    def follow(self) -> None:
        """Hear the groups that are to be heard, and no others."""
        wanted = {place: name for name, place in self._relay.listening().items()}
        for place in [
            place for place in self._heard if wanted.get(place) != self._heard[place][1]
        ]:
            self._leave(place)
        for place in wanted.keys() - self._heard.keys():
            if time.monotonic() >= self._failed.get(place, 0.0):
                self._join(place, wanted[place])

    def close(self) -> None:
        for place in list(self._heard):
            self._leave(place)
        self._queue.clear()

    def _join(self, place: tuple[str, int], name: str) -> None:
        interface, ttl = self._way(place[1])
        try:
            sock = port.group_socket(*place, interface, ttl)
        except ConfigError as error:
            self._failed[place] = time.monotonic() + _RETRY_S
            self._trouble(f"Group {name} is not relayed to and from multicast: {error}.")
            return
        self._heard[place] = sock, name
        asyncio.get_running_loop().add_reader(sock, self._readable, sock, name)

    def _leave(self, place: tuple[str, int]) -> None:
        sock, _ = self._heard.pop(place)
        asyncio.get_running_loop().remove_reader(sock)
        port.close(sock)

    def _readable(self, sock: Any, name: str) -> None:
        for _ in range(_READ):
            try:
                data = sock.recv(_MOST_LEN + 1)
            except OSError:
                return
            if len(data) < _LEAST_LEN or not any(data[:4]):
                continue  # no ESP: a rekey, most likely ours
            if self._relay.expects(name, data, self._now_ms()):
                self._put(name, data, None)

    def _put(self, name: str | None, data: bytes, address: Any) -> None:
        if len(self._queue) == _QUEUE:
            self._counters["relay_queue_full"] += 1
            return
        self._queue.append((name, data, address))
        if not self._is_awake:
            self._is_awake = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._is_awake = False
        now_ms = self._now_ms()
        for _ in range(min(_BATCH, len(self._queue))):
            name, data, address = self._queue.popleft()
            if name is None:
                carried = self._relay.from_member(data, address, now_ms)
            else:
                carried = self._relay.from_group(name, data, now_ms)
            if carried is not None:
                self._send(carried)
        if self._queue:
            self._is_awake = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _send(self, carried: Carried) -> None:
        sent = 0
        for address in carried.addresses:
            sent += not self._endpoints[address.endpoint].send_esp(carried.data, address)
        wanted = len(carried.addresses)
        if carried.group is not None:
            wanted += 1
            sent += self._multicast(carried)
        self._counters["relay_sent"] += sent
        if sent < wanted:
            self._counters["relay_unsent"] += wanted - sent

    def _multicast(self, carried: Carried) -> bool:
        for place, (sock, name) in self._heard.items():
            if name == carried.group:
                return port.send(sock, carried.data, place) is None
        return False
