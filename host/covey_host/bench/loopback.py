"""Packets that a receiver on CPython loses while a sender beside it sends 20,000 a second.

Sender and receiver are members of a real group, each a process with covey.aio; the group's key
server runs too. What is lost is mostly the machine's to say: it needs a core for each of the two.
"""

import json
import os
import sys

from .plant import Plant
from .results import Table

TITLE = "a receiver on CPython beside a sender of 20,000 packets a second"

_RATE = 20000
COUNTS = {True: 2000, False: 100000}  # quick or not
_SENT = "loopback: packets sent"
_TRAFFIC = (sys.executable, "-m", "covey_host.bench.traffic")


def run(table: Table, quick: bool) -> None:
    count = COUNTS[quick]
    with Plant() as plant:
        source = plant.member("press", "--sender")
        sink = plant.member("desk")
        receiver = plant.start([*_TRAFFIC, "receive", sink, count])
        sender = plant.start([*_TRAFFIC, "send", source, _RATE, count])
        plant.wait_for(receiver.stdout, "ready")
        plant.wait_for(sender.stdout, "ready")
        sender.stdin.write("go\n")
        sender.stdin.flush()
        sent = json.loads(plant.wait_for(sender.stdout, "seconds"))
        received = json.loads(plant.wait_for(receiver.stdout, "got"))
    made = count - sent["unsent"]
    table.add(_SENT, made, "packets")
    table.add("loopback: packets lost", made - received["got"], "packets", _SENT)
    table.add("loopback: rate of the sender", made / sent["seconds"], "packets/s")
    drops = {name: n for name, n in received["drops"].items() if n} or "none"
    where = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    table.note(f"Loopback: drops that the receiver counted: {drops}; {where}.")
