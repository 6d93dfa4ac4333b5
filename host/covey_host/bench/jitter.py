"""Whether cyclic I/O keeps its interval while keys change and a member is removed: RPI 10 ms.

A producer and consumers of one interpreter are members of a real group with source_auth = "mac",
as firmware/motors.py has them; beside them the same loop over plain UDP, which is the floor that
machine, interpreter and event loop set. Intervals are what a consumer sees between two frames.
Four devices share what cores there are, and verify a rekey at the same time; two have a core each,
as devices do, where this machine has two to spare.
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from ..demo.cast import ROOT
from ..demo.ports import udp_ports
from .board import BUILD
from .plant import INTERFACE, Plant
from .results import Missing, Table

TITLE = "cyclic I/O with an interval of 10 ms, under rekeys and a removal"

_INTERVAL_MS = 10
_SCRIPTS = Path(__file__).parent / "scripts"
_SCRIPT = _SCRIPTS / "cyclic.py"
_WARM_S = {True: 0.5, False: 2}  # until new members' first packets are over
_SPAN_S = {True: 0.6, False: 6}  # of a phase; quick or not
_REKEYS = {True: 1, False: 3}
_QUIET, _REKEYED, _REMOVED = "quiet", "keys change", "a member is removed"
_PLAIN, _TWO, _FOUR = "plain UDP", "two devices", "four devices"
_FLOOR = (_PLAIN, 2)  # consumers that stay; others are held against it
_WAYS = {True: (_FLOOR, (_FOUR, 2)), False: (_FLOOR, (_TWO, 1), (_FOUR, 2))}
_LEAVER = "leaver"
_KINDS = {"MicroPython": "x86", "CPython": None}
_HEAP = "heapsize=512k"  # the member's code lies in it, as on a board that imports .mpy files
_POLICY = """\
atd = "2s"
dtd = "6s"
evict_dtd = "6s"
fresh_join = false
"""  # all have new keys before one sends


def run(table: Table, quick: bool) -> None:
    for kind, arch in list(_KINDS.items())[: 1 if quick else None]:
        if arch and not _interpreter(arch)[0].exists():
            table.note(f"Left out: {TITLE}, {kind}; it is not here.")
            continue
        for way, count in _WAYS[quick]:
            with Plant("mac", policy=_POLICY, is_default=True) as plant:
                loop = _Loop(plant, arch, count, plain=way == _PLAIN)
                _measure(table, f"RPI {_INTERVAL_MS} ms, {kind}, {way}", loop, quick)
    table.note(f"Cyclic I/O: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}.")


class _Loop:
    """Processes that produce and consume, started one after the other."""

    def __init__(self, plant: Plant, arch: str | None, count: int, *, plain: bool):
        """count: of consumers that stay. Where it is one, who is to be removed is always this
        Python, which needs next to nothing of a core."""
        self.plant, self.is_plain = plant, plain
        self._where = ["-", f"239.200.{random.randrange(256)}.9", *udp_ports(1), INTERFACE]
        self._stay = [self._start(arch, "consume", f"consumer-{n}") for n in range(count)]
        self._others = [
            self._start(arch if count > 1 else None, "consume", _LEAVER),
            self._start(arch, "produce", "producer", "--sender"),
        ]

    def _start(self, arch: str | None, role: str, name: str, *words: str) -> subprocess.Popen:
        where = self._where if self.is_plain else [self.plant.member(name, *words)]
        paths = [str(ROOT / "firmware"), str(_SCRIPTS)]
        if arch:
            paths = [".frozen", str(BUILD / f"lib-{arch}"), *paths]
            found = f"MICROPYPATH={os.pathsep.join(paths)}"
        else:
            found = f"PYTHONPATH={os.pathsep.join([str(ROOT / 'lib'), *paths])}"
        command = ["env", found, *_interpreter(arch), _SCRIPT, role, _INTERVAL_MS, *where]
        child = self.plant.start(command, stderr=sys.stderr)
        self.plant.wait_for(child.stdout, "ready")
        return child

    def heard(self) -> None:
        """Once all hear the producer. Where senders are proven its first keys are those that tell
        who hears it, and rest for ATD."""
        for child in (*self._stay, self._others[0]):
            self.plant.wait_for(child.stdout, "hears")

    def phase(self, name: str) -> None:
        for child in (*self._stay, *self._others):
            child.stdin.write(f"{name}\n")
            child.stdin.flush()

    def end(self) -> list[dict]:
        """What each consumer says that stayed."""
        self.phase("end")
        return [_report(child) for child in self._stay]


def _interpreter(arch: str | None) -> list:
    if arch is None:
        return [sys.executable]
    return [BUILD / "micropython" / arch / "micropython", "-X", _HEAP]


def _report(child: subprocess.Popen) -> dict:
    lines = child.stdout.read().splitlines()
    if not lines:
        raise Missing("a consumer ended without a report")
    return json.loads(lines[-1])


def _measure(table: Table, name: str, loop: _Loop, quick: bool) -> None:
    stayed = _play(loop, quick)
    for phase in stayed[0]["phases"]:
        if not all(one["phases"][phase] for one in stayed):
            raise Missing(f"a consumer heard nothing in the phase: {phase}")
        if not loop.is_plain and not all(one["proven"] for one in stayed):
            raise Missing("frames came that nothing proves")
        gaps = [us for one in stayed for us in one["phases"][phase]]
        for what, us in zip(_WHAT, _figures(gaps), strict=True):
            floor = f"{name.replace(_TWO, _PLAIN).replace(_FOUR, _PLAIN)}: {_QUIET}: {what}"
            against = None if loop.is_plain else floor
            table.add(f"{name}: {phase}: {what}", us / 1000, "ms", against)
    table.add(f"{name}: frames missed", sum(one["missed"] for one in stayed), "packets")
    if len(stayed) > 1:
        for which, what in (("arrived", "by the frame itself"), ("latched", "by its instant")):
            apart = sorted(_apart(stayed, which)) or [0]
            table.add(f"{name}: a setting {what}: apart, p50", _at(apart, 50) / 1e6, "ms")
            table.add(f"{name}: a setting {what}: apart, most", apart[-1] / 1e6, "ms")


def _play(loop: _Loop, quick: bool) -> list[dict]:
    """What those consumers say that stay to the end, phases in order."""
    loop.heard()
    time.sleep(_WARM_S[quick])
    phases = [_QUIET]
    loop.phase(_QUIET)
    time.sleep(_SPAN_S[quick])
    if not loop.is_plain:
        phases.append(_REKEYED)
        loop.phase(_REKEYED)
        for _ in range(_REKEYS[quick]):
            loop.plant.rekey()
            time.sleep(_SPAN_S[quick] / _REKEYS[quick])
        phases.append(_REMOVED)
        loop.phase(_REMOVED)
        loop.plant.covey("member", "remove", _LEAVER)
        time.sleep(_SPAN_S[quick])
    stayed = loop.end()
    for one in stayed:
        one["phases"] = {phase: one["phases"].get(phase) for phase in phases}
    return stayed


_WHAT = ("off by, p50", "off by, p99", "longest gap")


def _figures(gaps: list[int]) -> tuple[float, float, float]:
    """µs: how far intervals are from what was asked for, and the longest one."""
    off = sorted(abs(us - _INTERVAL_MS * 1000) for us in gaps)
    return _at(off, 50), _at(off, 99), max(gaps)


def _at(ordered: list, percent: int):
    return ordered[len(ordered) * percent // 100]


def _apart(told: list[dict], which: str) -> list[int]:
    """ns between the two that have taken up the same setting."""
    first, other = (one[which] for one in told)
    return [abs(first[number] - other[number]) for number in first.keys() & other.keys()]
