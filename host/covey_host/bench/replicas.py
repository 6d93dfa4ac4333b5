"""CPU that a registration costs: a key server with SQLite, and one, two, three with etcd.

The initiators are those of `registrations` (load.py), by pre-shared keys, 32 at once at each
server; counted is the time of the servers' processes and of etcd's, with their threads and the
kernel. Of three rounds the first is for warming up, of the others the best counts.
"""

import asyncio
import json
import re
import secrets
import subprocess
import sys
import threading
import time

from ..cluster import nodes
from ..cluster.plant import GROUP, Plant
from ..cluster.probes import admit
from ..demo.cast import Lost
from . import plant as single
from .plant import INTERFACE
from .registrations import admit as admit_single
from .registrations import cpu_s
from .results import Missing, Table
from .workers import children_of

_COUNTS = {True: (3,), False: (1, 2, 3)}
_EACH = {True: 8, False: 600}  # registrations of a round, at each server
_AT_ONCE = 32
_ROUNDS = 3
_SETTLES_S = 1.0
_LOAD = (sys.executable, "-m", "covey_host.bench.load")
_SETTINGS = 'fresh_join = false\nmembers = 10000\natd = "0s"\ndtd = "3s"\n'
_NAME = "cluster: CPU of a registration, "


def run(table: Table, quick: bool) -> None:
    each = _EACH[quick]
    psk = secrets.token_bytes(32)
    base = _NAME + "SQLite"
    table.add(base, _with_sqlite(each, psk), "µs")
    for count in _COUNTS[quick]:
        servers, etcd = asyncio.run(_with_etcd(count, each, psk))
        what = f"etcd, {count} {'server' if count == 1 else 'servers'}"
        table.add(f"{_NAME}{what}", servers, "µs", base)
        table.add(f"{_NAME}{what}: etcd's nodes besides", etcd, "µs", base)


def _with_sqlite(each: int, psk: bytes) -> float:
    names = [f"m{number:05d}" for number in range(each * _ROUNDS)]
    with single.Plant(policy=f"members = {len(names)}\n", serves=False) as plant:
        admit_single(plant, names, psk)
        plant.serve()
        threading.Thread(target=plant.server.stderr.read, daemon=True).start()
        loaders = [_loader(names, psk, plant.port)]
        try:
            return _best([_round(loaders, [[plant.server.pid]]) for _ in range(_ROUNDS)])[0]
        finally:
            _end(loaders)


async def _with_etcd(count: int, each: int, psk: bytes) -> tuple[float, float]:
    """→ µs of a registration: of the servers, of etcd's nodes."""
    names = [f"m{number:05d}" for number in range(each * _ROUNDS * count)]
    plant = Plant(
        servers=count,
        options=nodes.DEFAULTS,
        settings=_SETTINGS,
        serve=lambda name: ("--replica", name),
    )
    loaders = []
    try:
        await plant.open()
        for machine in plant.machines:  # the initiators speak behind a marker
            policy = machine.site.policy
            listen = f'listen = [{{ address = "{INTERFACE}:{machine.port}", marker = true }}]'
            text = re.sub(r"(?m)^listen = .*$", listen, policy.read_text(), count=1)
            policy.write_text(text)
        admit(plant.machines[0].site, names, psk)
        for machine in plant.machines:
            await machine.start()
        for machine in plant.machines:
            await machine.serving()
        size = each * _ROUNDS
        for at, machine in enumerate(plant.machines):
            loaders.append(_loader(names[at * size : at * size + size], psk, machine.port))
        etcds = [child for node in plant.nodes for child in children_of(node.pid)]
        sides = [[machine.child.pid for machine in plant.machines], etcds]
        rounds = [await asyncio.to_thread(_round, loaders, sides) for _ in range(_ROUNDS)]
        return tuple(_best(rounds))
    except Lost as error:
        raise Missing(str(error).rstrip(".")) from None
    finally:
        _end(loaders)
        await plant.close()


def _loader(names: list[str], psk: bytes, port: int) -> subprocess.Popen:
    child = subprocess.Popen(_LOAD, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    order = {"names": names, "rounds": _ROUNDS, "at_once": _AT_ONCE, "sources": None, "keys": None}
    order |= {"to": [INTERFACE, port], "group": GROUP, "child": False, "psk": psk.hex()}
    _tell(child, json.dumps(order))
    child.stdout.readline()
    return child


def _round(loaders: list[subprocess.Popen], sides: list[list[int]]) -> list[float]:
    """µs of a registration, of each side's processes."""
    before = [sum(map(cpu_s, side)) for side in sides]
    for one in loaders:
        _tell(one, "go")
    told = [json.loads(one.stdout.readline()) for one in loaders]
    time.sleep(_SETTLES_S)
    if refused := sum(one["refused"] for one in told):
        raise Missing(f"{refused} registrations failed ({told[0]['why']})")
    done = sum(one["done"] for one in told)
    spent = [sum(map(cpu_s, side)) for side in sides]
    return [1e6 * (s - b) / done for s, b in zip(spent, before, strict=True)]


def _best(rounds: list[list[float]]) -> list[float]:
    return min(rounds[1:])


def _tell(child: subprocess.Popen, line: str) -> None:
    child.stdin.write(line + "\n")
    child.stdin.flush()


def _end(loaders: list[subprocess.Popen]) -> None:
    for one in loaders:
        one.kill()
        one.communicate()
