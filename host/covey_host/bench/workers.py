"""What workers bring: registrations a second, and what is left to the keeper.

The initiators are those of load.py, each at an address of its own: the system shares out what
comes by where it comes from. They need the processors, too: how fast a server with workers is
shows only where there are more cores than workers. What does not depend on that is the keeper's
own time for a registration: a second divided by it can't be exceeded, however many workers.
"""

import json
import os
import secrets
import threading
import time

from .plant import GROUP, INTERFACE, Plant
from .registrations import admit, cpu_s, loader
from .results import Missing, Table

TITLE = "registrations with workers"

_COUNTS = {True: (0, 1), False: (0, 1, 2)}  # quick or not
_HOWS = {True: ("PSK",), False: ("PSK", "P-256")}
_LOADERS = 2
_AT_ONCE = 64  # of each
_ROUNDS = 3  # the first is for warming up; of the others the best counts
_SETTLES_S = 1.0


def run(table: Table, quick: bool) -> None:
    for how in _HOWS[quick]:
        found = _measure(how, 8 if quick else 400, _COUNTS[quick])
        base = {}
        for count, rounds in found.items():
            shown = {0: "none", 1: "1 worker"}.get(count, f"{count} workers")
            for what, value, unit in (
                ("registrations a second", max(r["rate"] for r in rounds), "registrations/s"),
                ("CPU time of the keeper", min(r["keeper_us"] for r in rounds), "µs"),
                ("CPU time of all its processes", min(r["all_us"] for r in rounds), "µs"),
            ):
                name = f"workers: {what}, {how}, {shown}"
                table.add(name, value, unit, base.get(what))
                base.setdefault(what, name)
    table.note(f"Workers: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}.")


def _measure(how: str, each: int, counts: tuple[int, ...]) -> dict[int, list[dict]]:
    """{workers: rounds}; each: registrations of one loader in one round."""
    size = each * _ROUNDS
    names = [f"m{number:05d}" for number in range(size * _LOADERS)]
    psk = secrets.token_bytes(32) if how == "PSK" else None
    found = {}
    with Plant(policy=f"members = {len(names)}\n", serves=False) as plant:
        admit(plant, names, psk)
        for count in counts:
            plant.serve(*(("--workers", str(count)) if count else ()))
            threading.Thread(target=plant.server.stderr.read, daemon=True).start()
            loaders = []
            for at in range(0, len(names), size):
                order = {"names": names[at : at + size], "rounds": _ROUNDS, "at_once": _AT_ONCE}
                order |= {"psk": psk and psk.hex(), "keys": str(plant.folder / "keys.json")}
                order |= {"to": [INTERFACE, plant.port], "group": GROUP, "child": False}
                order |= {"sources": f"127.{110 + len(loaders)}"}
                loaders.append(loader(plant, order))
            found[count] = [_round(plant, loaders) for _ in range(_ROUNDS)][1:]
            plant.server.terminate()
            plant.server.wait()
    return found


def _round(plant: Plant, loaders: list) -> dict:
    keeper = plant.server.pid
    processes = [keeper, *children_of(keeper)]
    before = {pid: cpu_s(pid) for pid in processes}
    began = time.perf_counter()
    for one in loaders:
        one.stdin.write("go\n")
        one.stdin.flush()
    told = [json.loads(plant.wait_for(one.stdout, "seconds")) for one in loaders]
    took = time.perf_counter() - began
    time.sleep(_SETTLES_S)
    if any(one["refused"] for one in told):
        raise Missing(f"{sum(one['refused'] for one in told)} registrations failed")
    done = sum(one["done"] for one in told)
    spent = {pid: cpu_s(pid) - before[pid] for pid in processes}
    return {
        "rate": done / took,
        "keeper_us": spent[keeper] / done * 1e6,
        "all_us": sum(spent.values()) / done * 1e6,
    }


def children_of(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        raise Missing("this system does not tell a process's children") from None
