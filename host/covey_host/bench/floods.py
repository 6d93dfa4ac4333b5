"""Do members register while somebody floods the key server, and how long does it take them?

A real key server, initiators of load.py as members, and a flooder.py, each a process of its own,
on one machine. A member waits for answers as covey's do, and has failed if there is none within
30 s.
"""

import json
import os
import secrets
import socket
import sys
import threading
import time

from .flooder import MARKER
from .initiator import Initiator, Us
from .plant import GROUP, INTERFACE, Plant
from .registrations import admit, cpu_s
from .results import Missing, Table

TITLE = "registrations under a flood"

RATE = 20_000  # datagrams a second
_HOSTS_RATE = 1_000  # of those who show their cookies: each costs the server an X25519 product
_AT_ONCE = 8
_KINDS = {
    "": "no flood",
    "requests": "IKE_SA_INIT from forged addresses",
    "cookies": "IKE_SA_INIT with made-up cookies",
    "repeats": "repeats, replays, reflected answers",
    "shapes": "oversized, nested, cut, fragments",
    "hosts": "IKE_SA_INIT from four real hosts",
}
_LOAD = (sys.executable, "-m", "covey_host.bench.load")
_FLOODER = (sys.executable, "-m", "covey_host.bench.flooder")
_SETTLES_S = {True: 0.2, False: 2.0}  # of a flood, before members come; quick or not


def run(table: Table, quick: bool) -> None:
    size = 10 if quick else 100
    names = [f"m{number:05d}" for number in range(size * len(_KINDS) + 1)]
    psk = secrets.token_bytes(32)
    with Plant(policy=f"members = {len(names)}\n", serves=False) as plant:
        admit(plant, names, psk)
        plant.serve()
        threading.Thread(target=plant.server.stderr.read, daemon=True).start()
        recorded = _record(plant.port, names.pop(), psk)
        before = _memory_mb(plant.server.pid)
        for at, kind in enumerate(_KINDS):
            some = names[at * size : at * size + size]
            _measure(table, plant, kind, some, psk, recorded, quick)
        more = _memory_mb(plant.server.pid) - before
        table.add("floods: memory that the key server took more", max(0.0, more), "MB")
    table.note(f"Floods: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}.")


def _measure(table, plant, kind, names, psk, recorded, quick) -> None:
    what = f"floods: {_KINDS[kind]}"
    to = [INTERFACE, plant.port]
    order = {
        "names": names,
        "rounds": 1,
        "at_once": _AT_ONCE,
        "sources": None,
        "group": GROUP,
        "child": False,
    }
    load = _started(plant, _LOAD, order | {"to": to, "psk": psk.hex(), "keys": ""})
    flooder = None
    if kind:
        rate = _HOSTS_RATE if kind == "hosts" else RATE
        order = {"to": to, "kind": kind, "rate": rate, "recorded": recorded}
        flooder = _started(plant, _FLOODER, order)
        _say(flooder, "go")
        time.sleep(_SETTLES_S[quick])
    began_s, cpu = time.monotonic(), cpu_s(plant.server.pid)
    _say(load, "go")
    told = json.loads(plant.wait_for(load.stdout, "seconds"))
    busy = (cpu_s(plant.server.pid) - cpu) / (time.monotonic() - began_s)
    if flooder is not None:
        _say(flooder, "stop")
        sent = json.loads(plant.wait_for(flooder.stdout, "seconds"))
        table.add(f"{what}, sent", sent["sent"] / sent["seconds"], "datagrams/s")
    table.add(f"{what}, members that registered", 100 * told["done"] / len(names), "%")
    for share in (50, 99) if told["ms"] else ():
        name = f"p{share}"
        quiet = f"floods: {_KINDS['']}, {name}" if kind else None
        table.add(f"{what}, {name}", told["ms"][len(told["ms"]) * share // 100], "ms", quiet)
    table.add(f"{what}, key server busy", 100 * busy, "% of a core")


def _started(plant: Plant, command: tuple, order: dict):
    child = plant.start(list(command))
    _say(child, json.dumps(order))
    plant.wait_for(child.stdout, "ready")
    return child


def _say(child, line: str) -> None:
    child.stdin.write(line + "\n")
    child.stdin.flush()


def _record(port: int, name: str, psk: bytes) -> list[str]:
    """A member registers; what was said is heard by whoever listens → both ways, in hex."""
    one = Initiator(Us(GROUP.encode(), psk), name.encode())
    said = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((INTERFACE, port))
        sock.settimeout(10)
        data: bytes | None = one.begin()
        try:
            while data:
                sock.send(MARKER + data)
                answer = sock.recv(8192)[len(MARKER) :]
                said += [data, answer]
                data = one.take(answer)
        except TimeoutError:
            raise Missing("the key server does not answer") from None
    return [data.hex() for data in said]


def _memory_mb(pid: int) -> float:
    """What a process holds of the machine's memory. Missing where the system doesn't say."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        raise Missing("this system does not tell a process's memory") from None
