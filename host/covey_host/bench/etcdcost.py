"""What etcd takes for rows as a key server writes them: time, and room in its database.

Three nodes on this machine, each of which syncs what it is told to the one disk of this machine;
who writes needs the same cores. So a real cluster is faster; ratios are worth more than figures.
"""

import asyncio
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

from ..cluster import nodes
from ..demo.cast import Lost
from ..demo.ports import tcp_ports
from ..store.etcdclient import Client, has_mod, put
from ..store.place import Place
from .board import BUILD
from .results import Missing, Table

_WRITERS = 16
_AT_ONCE = 50  # rows in one write, while they are entered
_BURST = 16  # registrations of one turn of a server under load
_ROWS = 3  # of each
_SETTLES_S = 0.5  # etcd moves what it was told to its database ten times a second

Rows = list[tuple[str, bytes]]


def run(table: Table, rows: Rows, members: int, quick: bool) -> None:
    """rows: of a store with so many members. Missing where there is no etcd."""
    BUILD.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=BUILD))
    try:
        asyncio.run(_measured(table, folder, rows, members, quick))
    except Lost as error:
        raise Missing(str(error).rstrip(".")) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _measured(table: Table, folder: Path, rows: Rows, members: int, quick: bool) -> None:
    ports = iter(tcp_ports(6))
    some = []
    for number in range(3):
        port, peer = next(ports), next(ports)
        some.append(nodes.Node(folder, f"n{number}", port, peer, peer))
    try:
        for node in some:
            await node.start(some, nodes.DEFAULTS)
        for node in some:
            await node.up()
        place = Place("etcd://" + ",".join(f"{nodes.HOST}:{node.port}" for node in some))
        await asyncio.to_thread(_measure, table, place, rows, members, quick)
    finally:
        for node in some:
            await node.kill()


def _measure(table: Table, place: Place, rows: Rows, members: int, quick: bool) -> None:
    client = Client(place)
    what = "capacity: etcd: "
    size, _ = _space(client)
    _enter(client, rows)
    live, _ = _space(client)
    table.add(f"{what}octets of its database for a member", (live - size) / members, "octets")
    _enter(client, rows)
    twice, revision = _space(client)
    grown = (twice - live) / members
    table.add(f"{what}octets more for one written again, before it compacts", grown, "octets")
    client.call("kv/compaction", {"revision": str(revision), "physical": True})
    count = 20 if quick else 400
    for name, size in (("a row", 1), (f"{_BURST} registrations", _BURST * _ROWS)):
        ms = _one_by_one(client, size, count)
        table.add(f"{what}a write of {name}, p50", ms[len(ms) // 2], "ms")
        table.add(f"{what}a write of {name}, p99", ms[len(ms) * 99 // 100], "ms")
    client.close()
    cpu = time.process_time()
    rate = _at_once(place, _WRITERS, count)
    table.add(f"{what}writes a second", rate, "writes/s")
    us = (time.process_time() - cpu) / (_WRITERS * count) * 1e6
    table.add(f"{what}CPU of the client for a write", us, "µs")


def _enter(client: Client, rows: Rows) -> None:
    for at in range(0, len(rows), _AT_ONCE):
        some = rows[at : at + _AT_ONCE]
        client.transact(
            [], [put(b"/covey/e/" + key.encode(), b"\0" + value) for key, value in some]
        )


def _space(client: Client) -> tuple[int, int]:
    """Octets of the database that are in use, and the revision."""
    time.sleep(_SETTLES_S)
    said = client.call("maintenance/status", {})
    return int(said["dbSizeInUse"]), int(said["header"]["revision"])


def _one_by_one(client: Client, size: int, count: int) -> list[float]:
    """ms of each of so many writes of so many rows, conditional on the one before; sorted."""
    mod, found = 0, []
    values = [os.urandom(170) for _ in range(size)]  # as long as a member's row under a seal
    for _ in range(count):
        began = time.perf_counter()
        ops = [put(b"/bench/%d/%d" % (size, i), value) for i, value in enumerate(values)]
        done = client.transact([has_mod(b"/bench/%d/0" % size, mod)], ops)
        assert done.is_done
        mod = done.revision
        found.append(1e3 * (time.perf_counter() - began))
    return sorted(found)


def _at_once(place: Place, writers: int, count: int) -> float:
    """Writes a second of so many writers, each of rows of its own."""

    def write(number: int) -> None:
        client = Client(place)
        value = os.urandom(170)
        key = b"/bench/w%d" % number
        for _ in range(count):
            client.transact([], [put(key, value)])
        client.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    began = time.perf_counter()
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return writers * count / (time.perf_counter() - began)
