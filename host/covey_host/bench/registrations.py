"""Registrations at the key server, beside IKE SAs that strongSwan's charon sets up.

The same initiators (load.py), the same algorithms, the same machine, in turns. What is counted is
the CPU time of the responder's process alone. Bare IKE SAs are held against each other: ours asks
for a group that does not exist, charon's is childless. A whole registration (the group's keys, the
member's place in the key tree, all of it on the disk before it is answered) is held against an IKE
SA with a Child SA, whose keys charon gives to its userland IPsec.
"""

import json
import secrets
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from ..demo.ports import udp_ports
from ..gcks import issuing, trust
from ..gcks.authority import Authority
from ..gcks.ledger import Ledger, encode
from ..site import Site
from ..vault.opening import open_store
from .charon import HOST, SERVER, Charon, Pems
from .plant import GROUP, Plant
from .results import Missing, Table

TITLE = "registrations beside strongSwan's charon"

_BARE, _CHILD, _REGISTRATIONS = "IKE SAs", "IKE SAs with a Child SA", "registrations"
_AGAINST = {
    f"covey: {_BARE}": f"charon: {_BARE}",
    f"covey: {_REGISTRATIONS}": f"charon: {_CHILD}",
}
_AT_ONCE = 32
_LOAD = (sys.executable, "-m", "covey_host.bench.load")
_ROUNDS = 4  # the first is for warming up; of the others the best counts
# Quick or not: what a responder writes later, behind a round, is counted too.
_SETTLES_S = {True: 0.0, False: 1.5}
_DAYS = 30


def run(table: Table, quick: bool) -> None:
    for how in ("PSK", "P-256"):
        _measure(table, how, quick)


def _measure(table: Table, how: str, quick: bool) -> None:
    size = 20 if quick else 1000
    names = [f"m{number:05d}" for number in range(2 * size * _ROUNDS)]
    halves = names[::2], names[1::2]  # who comes again has an older IKE SA deleted
    psk = secrets.token_bytes(32) if how == "PSK" else None
    with ExitStack() as stack:
        plant = stack.enter_context(Plant(policy=f"members = {len(names)}\n", serves=False))
        pems = admit(plant, names, psk)
        plant.serve()
        threading.Thread(target=plant.server.stderr.read, daemon=True).start()
        order = {"names": halves[0], "rounds": _ROUNDS, "at_once": _AT_ONCE, "sources": None}
        order |= {"psk": psk and psk.hex(), "keys": str(plant.folder / "keys.json")}
        sides = {}
        try:
            charon = stack.enter_context(Charon(udp_ports(2), psk, pems, may_fetch=not quick))
        except Missing as error:
            table.note(f"Left out: strongSwan's charon, {how}; {error}.")
        else:
            for what, child in ((_BARE, False), (_CHILD, True)):
                to = {"to": [HOST, charon.port], "group": None, "child": child}
                sides[f"charon: {what}"] = charon.pid, loader(plant, order | to)
        for half, what, group in ((0, _BARE, ""), (1, _REGISTRATIONS, GROUP)):
            to = {"to": [HOST, plant.port], "group": group, "child": False}
            to["names"] = halves[half]
            sides[f"covey: {what}"] = plant.server.pid, loader(plant, order | to)
        _add_rows(table, how, _take_turns(plant, sides, _SETTLES_S[quick]))


def admit(plant: Plant, names: list[str], psk: bytes | None) -> Pems | None:
    """Enter members, while no server runs. Without a psk: each with a certificate, whose keys are
    in keys.json → what charon needs."""
    store = open_store(Site(plant.folder))
    try:
        ledger = Ledger(store)
        authority, site, now = Authority(ledger), trust.load(ledger), time.time()
        if psk is not None:
            row = encode({"psk": psk, "groups": {GROUP: False}, "removed": False})
            ledger.write({f"authority/member/{name}": row for name in names})
            return None
        kept = {}
        for name in names:
            key = issuing.new_key()
            made = site.issue(key.public_key(), name, _DAYS, now)
            known = [(trust.id_of(made), trust.until_of(made))]
            authority.add(name, [GROUP], certificates=known)
            kept[name] = issuing.key_der(key).hex(), issuing.der(made).hex()
        (plant.folder / "keys.json").write_text(json.dumps(kept))
        key = issuing.new_key()
        how = site.ca, site.ca_key, key.public_key(), SERVER, issuing.SERVER, _DAYS, now
        own = issuing.issue(*how)
        return issuing.pem([site.ca]), issuing.pem([own]), issuing.key_pem(key)
    finally:
        store.close()


def loader(plant: Plant, order: dict):
    """A process that waits for each round."""
    child = plant.start(_LOAD)
    child.stdin.write(json.dumps(order) + "\n")
    child.stdin.flush()
    plant.wait_for(child.stdout, "ready")
    return child


def _take_turns(plant: Plant, sides: dict, settles_s: float) -> dict[str, list[dict]]:
    """Each side's rounds but the first, with the responder's CPU time."""
    found: dict[str, list[dict]] = {what: [] for what in sides}
    for _ in range(_ROUNDS):
        for what, (pid, loader) in sides.items():
            before = cpu_s(pid)
            loader.stdin.write("go\n")
            loader.stdin.flush()
            told = json.loads(plant.wait_for(loader.stdout, "seconds"))
            if told["refused"]:
                raise Missing(f"{what}: {told['refused']} of them failed ({told['why']})")
            time.sleep(settles_s)
            found[what].append(told | {"cpu_s": cpu_s(pid) - before})
    return {what: rounds[1:] for what, rounds in found.items()}


def _add_rows(table: Table, how: str, found: dict[str, list[dict]]) -> None:
    rates, latencies = {}, {}
    for what, rounds in found.items():
        rates[what] = max(one["done"] / one["cpu_s"] for one in rounds)
        latencies[what] = sorted(ms for one in rounds for ms in one["ms"])
    for what, rate in rates.items():
        _add(table, rates, what, f"for a second of CPU, {how}", rate, "per CPU second")
    if f"charon: {_BARE}" in rates:
        name, other = f"covey: {_REGISTRATIONS}", f"charon: {_BARE}, for a second of CPU, {how}"
        beside = f"{name} beside IKE SAs of charon, for a second of CPU, {how}"
        table.add(beside, rates[name], "per CPU second", other)
    for share in (50, 99):
        for what, ms in latencies.items():
            name = f"{_AT_ONCE} at once, {how}: p{share}"
            _add(table, rates, what, name, ms[len(ms) * share // 100], "ms")


def _add(table: Table, sides, what: str, name: str, value: float, unit: str) -> None:
    other = _AGAINST.get(what)
    table.add(f"{what}, {name}", value, unit, f"{other}, {name}" if other in sides else None)


def cpu_s(pid: int) -> float:
    """CPU time that a process has taken with all its threads, in the kernel too."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9
