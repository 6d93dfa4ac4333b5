"""Make MicroPython for a bare RV32 core under .build/rv32, and count what packets cost there.

`make bench-rv32`: Debian's sources of MicroPython and mbedTLS, its compiler and QEMU, fetched as
fetch_micropython.py does it, with no privilege; lib/covey frozen at -O3; optimised, and with
computed goto, as MicroPython's port for ESP32 is; AES in software; instructions by the core's own
counter, which QEMU's -icount makes exact. Rows go to bench/rv32.json.
"""

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))

from emulated import machines, parts  # noqa: E402
from emulated.parts import Failure, Unavailable, run  # noqa: E402
from rich.console import Console  # noqa: E402

from covey_host.bench import publickey  # noqa: E402
from covey_host.bench.results import Table  # noqa: E402

MACHINE = machines.of("rv32imc")
BUILD = MACHINE.place()
OF_BENCH = ROOT / "host" / "covey_host" / "bench" / "scripts"  # packets, publickey
SCRIPTS = "tables", "constant", "publickey"
LONGEST_S = 120  # of a script
HEAP = 196608  # of which publickey leaves what a member has at rest
HEAP_THAT_GROWS = 98304  # at first: it has grown once when public-key work begins

# Rows, and the most that each may be
AIMS = {
    "GCM seal, 64 octets": 13300,
    "GCM seal, 256 octets": 39000,
    "GCM open, 64 octets": 13800,
    "GCM open, 256 octets": 39500,
    "GCM refuses a forgery, 64 octets": 8500,
    "GHASH's tables of a key": 25000,
    "constant time: a block of GHASH": 5000,
    "octets of heap that a key takes": 2500,
    "X25519": 30_000_000,
    "P-256: verification": 30_000_000,
    **{f"longest step of {name}": 200_000 for name in publickey.ROWS.values()},
    **{
        f"heap that grows: longest step of {publickey.ROWS[label]}": 200_000
        for label in ("x25519", "prepare", "verify")
    },
}
AGAINST = {  # the call of GCM in it, and how many times that it may be
    "Member.receive, 64 octets": ("bare open of a packet", 1.4),
    "Member.send, 64 octets": ("bare seal of a packet", 1.3),
}


def say(text):
    print(f"rv32: {text}", file=sys.stderr, flush=True)


def make(grows=False):
    """The firmware, our code of now in it; made anew where that or a flag has changed.

    grows: the heap takes further areas, as an ESP32's does (instret/pool.c).
    """
    frozen = BUILD / "frozen"
    shutil.rmtree(frozen, ignore_errors=True)
    without = shutil.ignore_patterns("cpy*.py", "__pycache__")
    shutil.copytree(ROOT / "lib" / "covey", frozen / "covey", ignore=without)
    for name in ("packets", "publickey"):
        shutil.copy2(OF_BENCH / f"{name}.py", frozen)
    for path in (HERE / "board").glob("*.py"):
        shutil.copy2(path, frozen)
    qemu = parts.source(BUILD) / "ports" / "qemu"
    board = MACHINE.told()
    flags = board["CFLAGS_EXTRA"] + " -DMICROPY_OPT_COMPUTED_GOTO=1"
    flags += " -DMICROPY_PY_HASHLIB_SHA1=0 -DMICROPY_PY_HASHLIB_MD5=0"
    build = "build-VIRT_RV32"
    if grows:
        build += "-grows"
        flags += " -DMICROPY_GC_SPLIT_HEAP=1 -DMICROPY_GC_SPLIT_HEAP_AUTO=1 -Wno-pointer-arith"
        flags += f" -include {HERE}/instret/pool.h"
    words = {
        **board,
        "BUILD": build,
        "FROZEN_MANIFEST": HERE / "manifest.py",
        "USER_C_MODULES": HERE,
        "MICROPY_HEAP_SIZE": HEAP_THAT_GROWS if grows else HEAP,
        "CFLAGS_EXTRA": flags,
    }
    command = machines.make_command(qemu, words)
    stamp, built = BUILD / ("built-grows" if grows else "built"), repr(command)
    if not stamp.exists() or stamp.read_text() != built:  # make doesn't see changed flags
        shutil.rmtree(qemu / build, ignore_errors=True)
        stamp.write_text(built)
    run(command, env={**os.environ, "RIG": str(frozen)})
    return qemu / build / "firmware.elf"


def count(firmware, script):
    """{label: instructions} of one script."""
    words = [*MACHINE.command(firmware), "-icount", "shift=0"]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        watch = threading.Timer(LONGEST_S, process.kill)
        watch.start()
        process.stdin.write(f"import sys; sys.argv[:] = {words_of(script)}; import {script}\r\n")
        process.stdin.flush()
        try:
            return read(process.stdout, script)
        finally:
            watch.cancel()
            process.kill()


def words_of(script):
    """Its arguments, the mode first."""
    return ["", "count", *(publickey.arguments() if script == "publickey" else ())]


def read(lines, script):
    """The rows of a console. Failure, where it doesn't come to its end."""
    rows, last = {}, ""
    for line in map(str.strip, lines):
        found = re.fullmatch(r"COST (\d+) (.+)", line)
        if found:
            rows[found[2]] = int(found[1])
        elif line == "END":
            return rows
        elif "Error" in line or "EXCEPTION" in line or "MCAUSE" in line:
            raise Failure(f"{script} ended early: {line}")
        last = line or last
    raise Failure(f"{script} didn't come to its end within {LONGEST_S} s; its last line: {last}")


def table(rows):
    """The rows as `make bench` has them, what is reckoned of them too; and what misses its aim."""
    rows = dict(rows)
    for kind, shorter, longer in (
        ("a block of GHASH", "GMAC seal, 64 octets", "GMAC seal, 256 octets"),
        (
            "constant time: a block of GHASH",
            "constant time: GMAC seal, 64 octets",
            "constant time: GMAC seal, 256 octets",
        ),
    ):
        rows[kind] = (rows[longer] - rows[shorter]) // 12
    rows = {named(label): n for label, n in rows.items()}
    heap = rows.pop("heap")
    rows["a collection, for each KB of heap"] = rows.pop("collect") * 1024 // heap
    made = Table()
    for label, n in rows.items():
        unit = "octets" if "octets of" in label else "instructions"
        made.add(label, n, unit, AGAINST.get(label, (None,))[0])
    missed = [
        f"{label}: {rows[label]:,}, the aim is {aim:,}"
        for label, aim in AIMS.items()
        if rows[label] > aim
    ]
    for label, (other, aim) in AGAINST.items():
        if rows[label] > aim * rows[other]:
            missed.append(
                f"{label}: {rows[label] / rows[other]:.2f} times {other}, the aim is {aim}"
            )
    return made, missed


def named(label):
    """What publickey calls by a short name, by that of `make bench`."""
    before, _, last = label.rpartition(" ")
    name = {"point": "P-256: a key read, in one step", **publickey.ROWS}.get(last, last)
    return f"{before} {name}".lstrip()


def main():
    try:
        with MACHINE.alone():
            MACHINE.fetch(say)
            firmware = make()
            rows = {}
            for script in SCRIPTS:
                rows |= count(firmware, script)
            growing = count(make(grows=True), "publickey")
            for label in ("x25519", "prepare", "verify"):
                for row in (label, f"longest step of {label}"):
                    rows[f"heap that grows: {row}"] = growing[row]
    except (Failure, Unavailable, OSError) as failure:
        sys.exit(f"rv32: {failure}")
    made, missed = table(rows)
    print(f"{parts.source(BUILD).name}, a bare rv32imc core, counted")
    made.show(Console(width=100))
    made.write(ROOT / "bench" / "rv32.json")
    for sentence in missed:
        print(f"more than its aim: {sentence}")


if __name__ == "__main__":
    main()
