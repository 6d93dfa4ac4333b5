"""Run the tests of lib/ on emulated boards: `run.py [ARCH ...] [test_file ...]`.

For each architecture that boards have, MicroPython is built for a core that QEMU has, lib/ is
compiled as for a board (at -O0, so that what it asserts about itself is checked), and each file of
tests/lib runs in an emulator of its own. What a bare core can't have is left out by name.
"""

import ast
import json
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOOLS))

import build_mpy  # noqa: E402
from emulated import machines, parts  # noqa: E402

ROOT = parts.ROOT
TESTS = ROOT / "tests" / "lib"
HERE = Path(__file__).resolve().parent
LONGEST_S = 1200  # of a file
_FAULTS = re.compile(r"EXCEPTION|HardFault|Fatal error|uncaught")


def say(text):
    print(text, file=sys.stderr, flush=True)


def names_of(path):
    """The tests of a file."""
    return [
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def script_of(arch, path):
    """What is typed at the board's console."""
    search = [ROOT / ".build" / f"lib-{arch}", TESTS, ROOT / "tests", HERE / "python"]
    search.append(parts.source(machines.of(arch).place()) / "extmod")
    lines = [
        "import sys, host",
        f"exec(host.read({str(HERE / 'python' / 'mount.py')!r}))",
        f"sys.path[:] = {[str(one) for one in search]!r}",
        f"sys.argv[:] = ['run_mpy.py', {str(path)!r}]",
    ]
    lines.append(f"exec(host.read({str(ROOT / 'tests' / 'run_mpy.py')!r}))")
    return "".join(line + "\r\n" for line in lines)


def run(machine, firmware, path):
    """({test: None or its traceback}, how the board ended, seconds)"""
    began = time.monotonic()
    results, last = {}, ""
    with subprocess.Popen(
        machine.command(firmware),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        watch = threading.Timer(LONGEST_S, process.kill)
        watch.start()
        try:
            process.stdin.write(script_of(machine.arch, path))
            process.stdin.flush()
            for line in map(str.strip, process.stdout):
                if line.startswith("{") and '"test"' in line:
                    report = json.loads(line)
                    results[report["test"]] = None if report["ok"] else report["error"]
                elif line == "MPY: soft reboot":
                    break
                elif line:
                    last = line
                    if _FAULTS.search(line):
                        break
        except BrokenPipeError:
            pass
        finally:
            watch.cancel()
            process.kill()
    for name in names_of(path):
        if name not in results:
            results[name] = f"it did not come to this test: {last or 'the board ended'}"
    return results, time.monotonic() - began


def test(machine, files):
    """(passed, failed) of one architecture."""
    say(f"{machine.arch} ({machine.boards}): its MicroPython, and lib/ for it")
    machine.fetch(say)
    firmware = machine.build()
    build_mpy.build(machine.arch)
    passed = failed = 0
    with ThreadPoolExecutor(int(os.environ.get("JOBS") or os.cpu_count() or 1)) as pool:
        for path, (results, seconds) in zip(
            files, pool.map(lambda path: run(machine, firmware, path), files), strict=True
        ):
            bad = {name: error for name, error in results.items() if error is not None}
            passed += len(results) - len(bad)
            failed += len(bad)
            print(f"{machine.arch} {path.stem}: {len(results) - len(bad)} passed, {seconds:.0f} s")
            for name, error in bad.items():
                print(
                    f"  FAILED {name or path.name}\n    " + error.strip().replace("\n", "\n    ")
                )
            sys.stdout.flush()
    return passed, failed


def main(words):
    archs = [word for word in words if not word.startswith("test_")]
    stems = [word for word in words if word.startswith("test_")]
    files = [p for p in sorted(TESTS.glob("test_*.py")) if not stems or p.stem in stems]
    totals = []
    try:
        subprocess.run([sys.executable, ROOT / "tests" / "vectors.py"], check=True)
        for machine in machines.MACHINES:
            if not archs or machine.arch in archs:
                totals.append((machine, *test(machine, files)))
    except (parts.Failure, parts.Unavailable, OSError) as failure:
        sys.exit(f"emulated boards: {failure}")
    for machine, passed, failed in totals:
        print(f"{machine.arch} ({machine.boards}): {passed} passed, {failed} failed")
    return 1 if any(failed for _, _, failed in totals) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
