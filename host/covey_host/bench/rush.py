"""A plant that powers up: 10,000 members register at once, over sockets, each at its own address.

All begin within a second or two and wait as covey's members do (load.py). The group is as
`covey group add` makes it: who starts anew gets keys under which nobody has sent, and somebody may
have sent under those of before.
"""

import json
import os
import secrets
import sys
import threading
import time
from pathlib import Path

from .plant import GROUP, Plant
from .registrations import HOST, admit, cpu_s, loader
from .results import Table

TITLE = "10,000 members that register at once"

_PROCESSES = 4
_SENDER = (sys.executable, "-m", "covey_host", "join", "press", "--json", "--send", "-")
_MOST = {True: 200, False: 10_000}


def run(table: Table, quick: bool) -> None:
    count = _MOST[quick]
    name = f"rush: {count:,} members at once"
    told, spent_s, octets = rush(count)
    ms = sorted(ms for one in told for ms in one["ms"])
    table.add(f"{name}: registered", sum(one["done"] for one in told), "members")
    table.add(f"{name}: given up", sum(one["refused"] for one in told), "members")
    table.add(f"{name}: until the last is in", max(one["seconds"] for one in told), "s")
    for share in (50, 99):
        table.add(f"{name}: p{share}", ms[len(ms) * share // 100], "ms")
    table.add(f"{name}: messages sent again", sum(one["repeats"] for one in told), "datagrams")
    table.add(f"{name}: CPU of the server", spent_s, "s")
    for what, value in octets.items():
        table.add(f"{name}: memory of the server {what}", value / (1 << 20), "MB")
    cores = os.cpu_count()
    table.note(f"Rush: {cores} cores for the server and {_PROCESSES} processes of members.")


def rush(count: int) -> tuple[list[dict], float, dict[str, int]]:
    """→ (what the processes of members told, seconds of the server's CPU, its memory in octets)"""
    names = [f"m{number:05d}" for number in range(count)]
    psk = secrets.token_bytes(32)
    with Plant(policy=f"members = {count + 1}\n", serves=False, is_default=True) as plant:
        admit(plant, names, psk)
        plant.serve()
        threading.Thread(target=plant.server.stderr.read, daemon=True).start()
        plant.member("press", "--sender")
        sender = plant.start(_SENDER)
        plant.wait_for(sender.stdout, "registered")
        order = {"to": [HOST, plant.port], "group": GROUP, "child": False, "psk": psk.hex()}
        order |= {"rounds": 1, "at_once": count}
        loaders = [
            loader(plant, order | {"names": names[at::_PROCESSES], "sources": f"127.{100 + at}"})
            for at in range(_PROCESSES)
        ]
        pid = plant.server.pid
        before, begun_s = _memory(pid), cpu_s(pid)
        for one in loaders:
            one.stdin.write("go\n")
            one.stdin.flush()
        told = [json.loads(plant.wait_for(one.stdout, "seconds")) for one in loaders]
        time.sleep(2)  # what it writes later
        after = _memory(pid)
        octets = {"before": before["VmRSS"], "afterwards": after["VmRSS"]}
        octets["at most"] = after["VmHWM"]
        return told, cpu_s(pid) - begun_s, octets


def _memory(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    pairs = (line.split(":") for line in lines if line.startswith("Vm"))
    return {name: int(value.split()[0]) << 10 for name, value in pairs}
