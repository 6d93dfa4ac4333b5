"""Counting the instructions of the 32-bit MicroPython: the same number each time, on any machine.

Board scripts call os.getenv() as a mark: valgrind's callgrind writes down what it has counted
whenever getenv is entered, and begins again. So one run gives any number of counts.

It runs a copy of the interpreter. valgrind before 3.23 does not know two nops that newer binutils
write (lea with a needless prefix 2E); the copy has the prefix 3E there, which it knows. A nop
remains a nop of the same length.
"""

import re
import shutil
import subprocess
from pathlib import Path

from .results import Missing

_NOPS = (bytes.fromhex("2e8db42600000000"), bytes.fromhex("2e8d742600"))
_DUMP = "--dump-before=getenv"
_PROBE = "import os\nos.getenv('a')\nfor _ in range(300000): pass\nos.getenv('b')"


class Callgrind:
    """interpreter: the wrapper of the 32-bit MicroPython. home: a directory of our own."""

    def __init__(self, interpreter: Path, home: Path):
        valgrind = shutil.which("valgrind")
        if valgrind is None:
            raise Missing("valgrind is not installed (Debian: apt install valgrind)")
        self._home = home
        self._command = [valgrind, "-q", "--tool=callgrind", "--trace-children=yes"]
        self._command += ["--combine-dumps=yes", _DUMP]
        self._interpreter = _copy(interpreter.parent, home / "micropython") / interpreter.name
        counts, done = self._counts(["-c", _PROBE], {}, 60)
        # The interpreter itself calls getenv before the script, and once more at its end.
        self._behind = counts[::-1].index(max(counts)) if counts else 0
        if done.returncode or not counts:
            said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[0]
            raise Missing(f"valgrind can't run the 32-bit MicroPython ({said})")

    def run(self, words: list[str], environment: dict[str, str], timeout_s: float):
        """(instructions up to each mark since the one before, the CompletedProcess). The counts
        of the last marks are those of the script; what is before them is not.
        """
        counts, done = self._counts(words, environment, timeout_s)
        return counts[: len(counts) - self._behind], done

    def _counts(self, words, environment, timeout_s):
        for old in self._home.glob("counts.*"):
            old.unlink()
        out = f"--callgrind-out-file={self._home}/counts.%p"
        done = finished([*self._command, out, self._interpreter, *words], environment, timeout_s)
        counts = []
        for path in sorted(self._home.glob("counts.*")):  # the wrapper's shell has one, if any
            found = read_counts(path.read_text(errors="replace"))
            counts = found if len(found) > len(counts) else counts
        return counts, done


def finished(command: list, environment: dict[str, str], timeout_s: float):
    """The CompletedProcess of a command that has no stdin. Missing if it takes too long."""
    try:
        return subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"{Path(command[0]).name} did not end in {timeout_s} s") from None


def read_counts(text: str) -> list[int]:
    """What callgrind counted before each mark, from the file that it wrote."""
    found = re.findall(r"^desc: Trigger: (.*)$|^totals: (\d+)$", text, re.M)
    counts = []
    for (trigger, _), (_, total) in zip(found[::2], found[1::2], strict=True):
        if trigger == _DUMP:
            counts.append(int(total))
    return counts


def _copy(source: Path, target: Path) -> Path:
    """The wrapper, and what is unpacked beside it, with nops that an older valgrind knows."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("gconv", "doc"))
    for path in target.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        octets = path.read_bytes()
        if octets[:4] == b"\x7fELF":
            for nop in _NOPS:
                octets = octets.replace(nop, b"\x3e" + nop[1:])
            path.write_bytes(octets)
    return target
