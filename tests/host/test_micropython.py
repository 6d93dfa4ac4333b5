"""Every test of lib/ on real MicroPython: 32-bit (x86, as the boards count) and 64-bit (x64).

Each test function is an item of its own. A file is run once per interpreter, in a process of its
own, against the compiled .mpy files. A line `# heap: 128k` in a test file sets its heap.
"""

import ast
import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build"
TESTS = ROOT / "tests" / "lib"
ARCHS = ["x86", "x64"]
HEAP = "1m"  # of the interpreter; more than a board has, since .mpy files are loaded into it
TIMEOUT_S = 300


def functions_of(path):
    """The names of the tests in a file, read without importing it."""
    tree = ast.parse(path.read_text())
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def items():
    for arch in ARCHS:
        for path in sorted(TESTS.glob("test_*.py")):
            names = functions_of(path)
            assert names, f"{path.name} holds no test"
            for name in names:
                label = f"{arch}-{path.stem.removeprefix('test_')}-{name.removeprefix('test_')}"
                yield pytest.param(arch, path, name, id=label)


@pytest.mark.parametrize("arch, path, name", list(items()))
def test_on(arch, path, name):
    results, ending = run_file(arch, path)
    if "" in results:
        pytest.fail(f"{path.name} cannot be imported\n{results['']['error']}", pytrace=False)
    if name not in results:
        pytest.fail(f"{path.name} ended before {name} had run: {ending}", pytrace=False)
    if not results[name]["ok"]:
        pytest.fail(results[name]["error"], pytrace=False)


@functools.cache
def interpreter(arch):
    """The wrapper that `make` put there; or why it could not."""
    wrapper = BUILD / "micropython" / arch / "micropython"
    if wrapper.exists():
        return wrapper, None
    skipped = BUILD / "micropython" / f"{arch}.skipped"
    if skipped.exists():
        return None, skipped.read_text().strip()
    return None, f"MicroPython {arch} has not been made: run `make setup`."


@functools.cache
def compile_lib():
    """Bring the .mpy files up to date; the compiler's complaint, if any."""
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "build_mpy.py"], capture_output=True, text=True
    )
    return done.stderr if done.returncode else None


def without(arch, reason):
    """There is no MicroPython: a skip where it can't be had or isn't wanted, never in CI."""
    was_skipped = (BUILD / "micropython" / f"{arch}.skipped").exists()
    if not os.environ.get("CI") and (was_skipped or os.environ.get("WITHOUT_MICROPYTHON")):
        pytest.skip(reason)
    pytest.fail(reason, pytrace=False)


@functools.cache
def run_file(arch, path):
    """Run a file once: ({test name: its line}, how the interpreter ended)."""
    complaint = compile_lib()
    if complaint:
        pytest.fail(complaint, pytrace=False)
    return run(arch, path, BUILD / f"lib-{arch}")


def run(arch, path, lib, names=()):
    """Run a file, or only tests of these names, against what is compiled there; as run_file()."""
    wrapper, reason = interpreter(arch)
    if wrapper is None:
        without(arch, reason)
    heap = re.search(r"^# heap: (\w+)$", path.read_text(), re.M)
    search = [lib, TESTS, ROOT / "tests", ".frozen"]
    command = [wrapper, "-X", f"heapsize={heap[1] if heap else HEAP}", ROOT / "tests/run_mpy.py"]
    try:
        done = subprocess.run(
            [*command, path, *names],
            env={**os.environ, "MICROPYPATH": ":".join(map(str, search))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired as error:
        return reports_in((error.stdout or b"").decode(errors="replace")), "it took too long"
    tail = "\n".join(line for line in done.stdout.splitlines()[-20:] if not is_report(line))
    return reports_in(done.stdout), f"exit status {done.returncode}\n{tail}"


def is_report(line):
    return line.startswith("{") and '"test"' in line


def reports_in(output):
    lines = [json.loads(line) for line in output.splitlines() if is_report(line)]
    return {line["test"]: line for line in lines}
