"""What a member and a group take up: rows, octets, memory, time. Numbers for the model (scale.py).

The key server is the real one, on a sealed store, in this process: members are initiators
(initiator.py) that hand their octets over without sockets, so many at once as come in one burst.
Memory is what Python has allocated (tracemalloc): whole numbers that come out alike each time;
what OpenSSL keeps for a cipher of an IKE SA is not in it, and is in the row of `rush`.
"""

import gc
import os
import secrets
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..gcks import authority, policy
from ..gcks.keyserver import KeyServer
from ..gcks.ledger import Ledger, encode
from ..gcks.replica import LOOK_MS, Replica
from ..gcks.sharedserver import SharedKeyServer
from ..store import sqlite
from ..store.sealed import Seal, SealedStore
from . import crowd, etcdcost
from .board import BUILD
from .initiator import Initiator, Us
from .results import Table

TITLE = "what members and groups take up"

MEMBERS = {True: 64, False: 4_000}  # quick or not
_AT_ONCE = 32  # as in `registrations`
_STARTED = {True: 200, False: 100_000}  # members that a server finds as it starts
GROUPS = {True: (1, 20), False: (1, 100, 1_000, 10_000)}
_STEPS = {True: 2, False: 10}
_MINUTE_MS, _REST_MS = 60_000, 600_000
_SITE = 'identity = "gcks.example"\n'
_GROUP = """[group.g{number}]
address = "239.{a}.{b}.{c}"
port = 2222
members = {members}
key_tree = 4
"""


def run(table: Table, quick: bool) -> None:
    rows = _registered(table, MEMBERS[quick])
    _started(table, _STARTED[quick])
    for count in GROUPS[quick]:
        _groups(table, count, _STEPS[quick])
    etcdcost.run(table, rows, MEMBERS[quick], quick)


def policy_of(groups: int, members: int) -> policy.SitePolicy:
    text = _SITE
    for n in range(groups):
        place = {"a": 192 + (n >> 16), "b": n >> 8 & 255, "c": n & 255}
        text += _GROUP.format(number=n, members=members, **place)
    return policy.parse(text)


def _registered(table: Table, count: int) -> etcdcost.Rows:
    """Members come one burst after another, and stay → all rows of the store."""
    names = [crowd.name_of(number) for number in range(count)]
    psk = secrets.token_bytes(32)
    what = "capacity: a member that has registered: "
    with _store() as (store, below):
        server = KeyServer(store, policy_of(1, count))
        server.start(0)
        before, size = _held(below), len(below.snapshot())
        entitled = encode({"psk": psk, "groups": {"g0": False}, "removed": False})
        Ledger(store).write({f"authority/member/{name}": entitled for name in names})
        now_ms = 1_000
        with _memory() as memory:
            for at in range(0, count, _AT_ONCE):
                now_ms += 50
                _come(server, names[at : at + _AT_ONCE], psk, now_ms)
                server.events.clear()
        server.flush()
        assert len(server._groups["g0"].active()) == count
        after = _held(below)
        for value, unit in zip(after, ("rows", "octets"), strict=True):
            kind = "rows in the store" if unit == "rows" else "octets of these"
            table.add(f"{what}{kind}", (value - before[unit == "octets"]) / count, unit)
        grown = len(below.snapshot()) - size
        table.add(f"{what}octets of SQLite's file", grown / count, "octets")
        table.add(f"{what}memory, its IKE SA included", memory[0] / count, "octets")
        return [(key, value) for key, value, _ in below.scan("")]


def _started(table: Table, count: int) -> None:
    """A server that starts where so many members are, none of whom has come again."""
    what = "capacity: a member that the server finds as it starts: "
    with tempfile.TemporaryDirectory(prefix="bench-", dir=BUILD) as home:
        path = Path(home) / "state.db"
        crowd.fill(path, count, 4, list(range(count)))
        store = sqlite.open_existing(path)
        server = KeyServer(store, crowd.rules_of(4))
        cpu = time.process_time()
        server.start(0)
        cpu = time.process_time() - cpu
        table.add(f"{what}CPU", cpu / count * 1e6, "µs")
        server = KeyServer(store, crowd.rules_of(4))
        with _memory() as memory:
            server.start(0)
        table.add(f"{what}memory", memory[0] / count, "octets")
        store.close()


def _groups(table: Table, count: int, steps: int) -> None:
    """So many groups without members: what each costs as the server starts, and in each turn. It
    is one of several: the one that holds, then one that follows."""
    what = f"capacity: {count:,} {'group' if count == 1 else 'groups'}: "
    turn = f"{what}CPU of a turn in which nothing is due"
    with _store() as (store, below):
        rules = policy_of(count, 1_000)
        _leading(store, rules, 0)
        cpu = time.process_time()
        server, replica = _leading(store, rules, _MINUTE_MS)
        cpu = time.process_time() - cpu
        table.add(f"{what}CPU of a start", cpu * 1e3, "ms")
        for now_ms in range(2 * _MINUTE_MS, _REST_MS, _REST_MS // 20):
            replica.step(now_ms)
            server.step(now_ms)  # what was said at the start is repeated
        table.add(turn, _turn_us(server, replica, _REST_MS, steps), "µs")
        replica.resign(_REST_MS)
        follows = _turn_us(server, replica, _REST_MS + _MINUTE_MS, steps)
        table.add(f"{turn}, of a follower", follows, "µs")
        rows, octets = _held(below)
        table.add(f"{what}octets of rows", octets, "octets")


def _come(server: KeyServer, names: list[str], psk: bytes, now_ms: int) -> None:
    us = Us(b"g0", psk)
    coming = {name: Initiator(us, name.encode()) for name in names}
    todo = {name: one.begin() for name, one in coming.items()}
    while todo:
        outs = []
        with server.together(now_ms):
            for name, data in todo.items():
                outs += server.receive(data, (name, 500), now_ms)
        outs += server.step(now_ms)[0]
        todo = {}
        for out in outs:
            name = out.address and out.address[0]
            if name in coming and (again := coming[name].take(out.data)):
                todo[name] = again


def _turn_us(server: SharedKeyServer, replica: Replica, begin_ms: int, steps: int) -> float:
    cpu = time.process_time()
    for now_ms in range(begin_ms, begin_ms + steps):
        replica.step(now_ms)
        server.step(now_ms)
    return (time.process_time() - cpu) / steps * 1e6


def _leading(
    store: SealedStore, rules: policy.SitePolicy, now_ms: int
) -> tuple[SharedKeyServer, Replica]:
    """A key server that holds, in a run of its own."""
    server = SharedKeyServer(store, rules, replica="one")
    replica = Replica(store, server, dict, os.urandom)
    replica.start(now_ms)
    while not server.is_holder:
        now_ms += LOOK_MS
        replica.step(now_ms)
    return server, replica


@contextmanager
def _store() -> Iterator[tuple[SealedStore, sqlite.SQLiteStore]]:
    """A new one, sealed, with a key to sign by; and that below the seal."""
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=BUILD) as home:
        below = sqlite.create(Path(home) / "state.db")
        store = SealedStore(below, Seal(os.urandom(32), os.urandom(8)))
        authority.make_signing_key(store)
        try:
            yield store, below
        finally:
            store.close()


@contextmanager
def _memory() -> Iterator[list[int]]:
    """In the list, behind it: octets that are allocated since, and still."""
    found: list[int] = []
    gc.collect()
    tracemalloc.start()
    try:
        yield found
        gc.collect()
        found.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()


def _held(below: sqlite.SQLiteStore) -> tuple[int, int]:
    """Rows, and octets of their keys and sealed values."""
    rows = below.scan("")
    return len(rows), sum(len(key) + len(value) for key, value, _ in rows)
