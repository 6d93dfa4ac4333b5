"""`covey bench --port P`: the scripts of `make bench` on a board, in microseconds and cycles.

The board is MicroPython with a Covey member on it. Beside the figures stand instructions counted
on a bare RV32 core (`make bench-rv32`): cycles / instructions says what the core, its flash and
its AES make of them.
"""

import json
from collections.abc import Callable
from pathlib import Path

from ..board.repl import Repl
from ..errors import MISUSE, Problem
from ..output import complain, line
from . import board, gcm, heap, path, publickey
from .results import Missing, Table

_SCRIPTS = Path(__file__).resolve().parent / "scripts"
_MODULES = ("counting", "packets")  # what the scripts import from beside them
_SCRIPT_S = 300  # the longest silence of one

# Instructions on rv32imc: the tables of docs/porting.md, by the rows of docs/bench.md.
COUNTED = {
    "AES, 5 blocks in one call": 5701,
    "GCM seal, 64 octets": 13149,
    "GCM seal, 256 octets": 38085,
    "GCM open, 64 octets": 13715,
    "GCM open, 256 octets": 38651,
    "GCM refuses a forgery, 64 octets": 8482,
    "GCM refuses a forgery, 256 octets": 19618,
    "GCM key made, with its tables": 65175,
    "Member.send, 64 octets": 19697,
    "Member.receive, 64 octets": 21033,
    "Member.receive refuses an unknown SPI, 64 octets": 9120,
    "Member.receive refuses a replayed packet, 64 octets": 5765,
    "Member.receive refuses a forged packet, 64 octets": 13997,
}

# A module made of its text: the scripts lie in no file system there.
_MODULE = """\
import sys
class _Module:
    pass
def _make(name, text):
    names = {"__name__": name}
    exec(text, names)
    module = _Module()
    for each in names:
        setattr(module, each, names[each])
    sys.modules[name] = module
"""
_WHO = (
    "[list(sys.implementation.version), getattr(sys.implementation, '_machine', sys.platform),"
    " freq()]"
)
_FREQUENCY = """\
import sys
def freq():
    try:
        import machine
        found = machine.freq()
        return found[0] if isinstance(found, tuple) else found
    except (ImportError, AttributeError):
        return None
"""


class OnBoard:
    """Runs the scripts on a board; takes the place of the module `board`."""

    def __init__(self, repl: Repl):
        self._repl = repl

    def run(
        self, script: str, table: Table, *words: str, heap: str = "", counted: bool = True
    ) -> board.Costs:
        """As board.run does. The board's heap is as large as it is, and time is all it has."""
        repl = self._repl
        repl.begin_anew()
        repl.run(f"import sys\nsys.argv[:] = {['', 'time', *words]!r}\n{_MODULE}")
        for name in _MODULES:
            repl.run(f"_make({name!r}, {_text(name)!r})", _SCRIPT_S)
        said = repl.run(_text(script), _SCRIPT_S)
        return board.costs_of(json.loads(said.strip().splitlines()[-1]), None)


def run(port: str | None, out: Path | None, *, quick: bool) -> int:
    """The exit status of the command."""
    if port is None:
        raise Problem("Name the board's serial port with --port; `make bench` needs none.", MISUSE)
    with Repl(port) as repl:
        repl.run(_FREQUENCY)
        version, machine, frequency = repl.ask(_WHO)
        _check_member(repl)
        table = _measured(OnBoard(repl), quick)
    if out is not None:
        table.write(out)
    for each in markdown(table, machine, version, frequency):
        line(each)
    return 0


def markdown(table: Table, machine: str, version: list, frequency: int | None) -> list[str]:
    """The lines of a table that can be posted. frequency: of the CPU in Hz."""
    what = f"{machine}, MicroPython {'.'.join(map(str, version[:3]))}"
    clock = f"{frequency / 1e6:g} MHz" if frequency else "clock unknown"
    lines = [f"**{what}, {clock}**", "", "| what | µs | cycles | counted on RV32 | cycles each |"]
    lines.append("|---|---:|---:|---:|---:|")
    octets = []
    for row in table.rows:
        if row["unit"] != board.TIME:
            octets.append(f"{row['name']}: {row['value']:g} {row['unit']}")
            continue
        counted = COUNTED.get(row["name"])
        cycles = row["value"] * frequency / 1e9 if frequency else None
        cells = [f"{row['value'] / 1000:,.1f}", _whole(cycles), _whole(counted)]
        cells.append(f"{cycles / counted:.2f}" if cycles and counted else "")
        lines.append(f"| {row['name']} | {' | '.join(cells)} |")
    lines += ["", *octets, *table.notes]
    return lines


def _measured(runner: OnBoard, quick: bool) -> Table:
    table = Table()
    subjects: list = [gcm, path, heap] + ([] if quick else [publickey])
    for subject in subjects:
        complain(f"bench: {subject.TITLE}")
        _enter(lambda s=subject: s.run(table, quick, runner), table, subject.TITLE)
    return table


def _enter(run: Callable[[], None], table: Table, title: str) -> None:
    """What fails there is named, and the others go on."""
    try:
        run()
    except (Problem, Missing, ValueError, IndexError) as error:
        why = error.sentence if isinstance(error, Problem) else f"{type(error).__name__}."
        table.note(f"Left out: {title}; {why}")


def _check_member(repl: Repl) -> None:
    try:
        repl.run("import covey.gcm")
    except Problem as problem:
        raise Problem(
            f"The board has no member that it can import: `covey install NAME` first."
            f" {problem.sentence}"
        ) from None


def _whole(number: float | None) -> str:
    return "" if number is None else f"{number:,.0f}"


def _text(name: str) -> str:
    return (_SCRIPTS / f"{name}.py").read_text(encoding="utf-8")
