"""Runs a script of scripts/ on the tree's 32-bit MicroPython, and reads what it counted.

With callgrind a cost is a number of instructions. Without it the script takes the time of many
calls, and the unit says so.
"""

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from ..demo.cast import ROOT
from .callgrind import Callgrind, finished
from .results import Missing, Table

BUILD = ROOT / ".build"
_HERE = Path(__file__).resolve().parent / "scripts"
_TIMEOUT_S = 600

INSTRUCTIONS = "instructions"
TIME = "ns, timed"  # what stands in their place


class Costs:
    """What one script measured: costs by label, an empty call taken off; and its facts."""

    def __init__(self, unit: str, lists: dict[str, list[float]], facts: dict):
        self.unit = unit
        self.facts = facts
        empty = lists.pop("", [0])[0]
        self._lists = {label: [max(n - empty, 0) for n in lists[label]] for label in lists}

    def __getitem__(self, label: str) -> float:
        return sum(self._lists[label])

    def longest(self, label: str) -> float:
        return max(self._lists[label])

    def steps(self, label: str) -> int:
        return len(self._lists.get(label, ()))


def run(script: str, table: Table, *words: str, heap: str = "256k", counted: bool = True) -> Costs:
    """Run scripts/SCRIPT.py. Missing where there is no 32-bit MicroPython. counted: whether it is
    worth it to count instructions, where that can be done."""
    counter = None
    if counted:
        counter, why_not = _counter()
        if why_not:
            table.note(f"Timed, not counted: {why_not}.")
    arguments = ["-X", f"heapsize={heap}", str(_HERE / f"{script}.py")]
    arguments += ["count" if counter else "time", *words]
    # Nothing of ours: how long it is moves the stack, and with it counts.
    environment = {"MICROPYPATH": f"{BUILD / 'lib-x86'}:{_HERE}:.frozen"}
    environment["PATH"] = os.environ.get("PATH", os.defpath)
    if counter:
        counts, done = counter.run(arguments, environment, _TIMEOUT_S)
    else:
        counts, done = None, finished([_interpreter(), *arguments], environment, _TIMEOUT_S)
    return _read(script, done, counts)


def run_here(script: str, *words: str) -> Costs:
    """The same script on CPython, timed."""
    path = os.pathsep.join([str(ROOT / "lib"), str(_HERE)])
    command = [sys.executable, str(_HERE / f"{script}.py"), "time", *words]
    done = finished(command, {**os.environ, "PYTHONPATH": path}, _TIMEOUT_S)
    return _read(script, done, None)


def _read(script: str, done: subprocess.CompletedProcess, counts: list[int] | None) -> Costs:
    """What a script has reported: with counts of instructions, or with times of its own."""
    if done.returncode:
        raise Missing(f"{script}.py failed: {_last(done.stderr or done.stdout)}")
    return costs_of(json.loads(done.stdout.splitlines()[-1]), counts)


def costs_of(report: dict, counts: list[int] | None) -> Costs:
    """A report's costs: counts of instructions, or times that the script took itself."""
    labels, values = report["labels"], report["values"]
    if counts is not None:
        values = counts[len(counts) - len(labels) :]
    lists: dict[str, list[float]] = {}
    for label, value in zip(labels, values, strict=True):
        if label is not None:
            lists.setdefault(label, []).append(value)
    return Costs(TIME if counts is None else INSTRUCTIONS, lists, report["facts"])


@cache
def _counter() -> tuple[Callgrind | None, str | None]:
    interpreter = _interpreter()  # without one there is nothing to time either
    home = Path(tempfile.mkdtemp(prefix="counts-", dir=BUILD))  # two of us may run side by side
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    try:
        return Callgrind(interpreter, home), None
    except Missing as error:
        return None, str(error)


def _interpreter() -> Path:
    wrapper = BUILD / "micropython" / "x86" / "micropython"
    if not wrapper.exists():
        skipped = wrapper.parent.with_suffix(".skipped")
        why = skipped.read_text().strip() if skipped.exists() else "run `make setup`."
        raise Missing(f"there is no 32-bit MicroPython: {why}")
    return wrapper


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]
