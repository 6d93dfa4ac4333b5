"""A key server with workers on a virtual clock: Front stands where a KeyServer does.

Which worker a datagram comes to follows from its address, as with the kernel, or is set by `via`.
Nothing between them is lost or late, unless a test holds it back.
"""

import os
import zlib
from dataclasses import replace

from covey_host.gcks import frames
from covey_host.gcks.authority import Authority
from covey_host.gcks.cookies import Shared
from covey_host.gcks.keyserver import KeyServer
from covey_host.gcks.ledger import Ledger
from covey_host.gcks.lobby import Lobby
from covey_host.gcks.sockets import Address
from covey_host.gcks.spis import KEEPER, Spis

SECRET = b"s" * 32


class Front:
    """server: a KeyServer that was made with spis()."""

    def __init__(self, server, store, count=2):
        self.server, self.store, self.count = server, store, count
        self.via = None  # the worker that the next datagrams come to
        self.held = None  # a list: what is handed over is kept there, and goes no further
        self.carried = []  # (from, to) of each datagram that had to go on
        self._names = {}  # Address → what a test calls it
        self.lobbies = {}

    def __getattr__(self, name):
        return getattr(self.server, name)

    def start(self, now_ms):
        outs = self.server.start(now_ms)
        self.lobbies = {n: self.lobby(n) for n in range(1, self.count + 1)}
        return outs

    def lobby(self, number):
        """A worker as it begins."""
        made = Lobby(
            frames.read_policy(frames.policy_facts(self.server.policy, self.count)),
            Authority(Ledger(self.store)),
            self.server.counters,
            self.server._tell,
            os.urandom,
            lambda: self.server._time(),
            spis(number),
            Shared(b"c" * 32),
        )
        made.believe(self.server.trust)
        return made

    def follow(self):
        """Workers hear what is in force."""
        for lobby in self.lobbies.values():
            lobby.policy = frames.read_policy(frames.policy_facts(self.server.policy, self.count))
            lobby.believe(self.server.trust)
        self.server.hear_workers(sum(x.half_open for x in self.lobbies.values()), {}, [], {})

    def receive(self, data, address, now_ms):
        at = self._address(address)
        number = self.via or 1 + zlib.crc32(at.packed()) % self.count
        return self._named(self._take(number, bytes(data), at, now_ms))

    def step(self, now_ms):
        outs = [out for x in self.lobbies.values() for out in x.step(now_ms)]
        more, wait_ms = self.server.step(now_ms)
        waits = [x.next_ms() - now_ms for x in self.lobbies.values()]
        return self._named(outs + more), max(0, min(wait_ms, *waits))

    def remove_members(self, *args):
        return self._named(self.server.remove_members(*args))

    def remove_member(self, *args):
        return self._named(self.server.remove_member(*args))

    def rekey(self, *args):
        return self._named(self.server.rekey(*args))

    def reload(self, *args):
        return self._named(self.server.reload(*args))

    def hand_over(self, octets, now_ms):
        return self._named(self.server.take_over(octets, now_ms))

    def _take(self, number, data, at, now_ms):
        if number == KEEPER:
            return self.server.receive(data, at, now_ms)
        lobby = self.lobbies[number]
        owner = lobby.owner_of(data)
        if owner is not None:
            assert owner != number
            self.carried.append((number, owner))
            return self._take(owner, data, at, now_ms)
        outs = lobby.receive(data, at, now_ms)
        outs += lobby.heard(now_ms)
        handed = lobby.take_handed()
        if self.held is not None:
            self.held += handed
            return outs
        for octets in handed:
            outs += self.server.take_over(octets, now_ms)
        return outs

    def _address(self, address):
        if isinstance(address, Address):
            return address
        hashed = zlib.crc32(repr(address).encode())
        host = f"10.{hashed >> 16 & 255}.{hashed >> 8 & 255}.{hashed & 255}"
        made = Address(0, host, 4500, b"", 4500)
        assert self._names.setdefault(made, address) == address
        return made

    def _named(self, outs):
        return [replace(o, address=self._names.get(o.address, o.address)) for o in outs]


def spis(number=KEEPER):
    return Spis(SECRET, number, os.urandom)


class WithWorkers:
    """Beside a Site: its server has two workers."""

    def make(self, **how):
        return Front(KeyServer(self.store, self.policy, spis=spis(), **how), self.store)
