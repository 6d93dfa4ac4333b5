"""Look for octets that break a parser, led by what of the code they reach: `make fuzz MINUTES=n`.

Each target of tests/fuzz has its turn, in one process at a time, with atheris (libFuzzer). It
begins with its corpus, and with what earlier runs have left in .build/fuzz. A finding (an
exception, ten seconds or a gigabyte for one input) is kept there, told, and makes this fail;
others go on.

ONLY="NAME ...": these alone. KEEP=1: some of what together reaches all becomes the corpus.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / ".build" / "fuzz"
FINDINGS = OUT / "findings"
_ONE = "--one"  # NAME FLAG ...: libFuzzer itself, in this process
_MOST_INPUT = 4096  # octets
_MOST_CORPUS = 8192  # octets of a target's corpus
_MOST_KEPT = {"control": 60, "sleep": 60, "server": 60, "outsider": 40, "mole": 60, "master": 60}
_MOST_KEPT |= {"tesla": 40, "ecdsa": 40}  # inputs, where each takes milliseconds
_BOUNDS = ["-timeout=10", "-rss_limit_mb=1024", f"-max_len={_MOST_INPUT}"]
_MOST_SAID = 6000  # characters about a finding
_RAISED = " === Uncaught Python exception"
_DONE = re.compile(r"^Done (\d+) runs|^stat::number_of_executed_units: +(\d+)", re.M)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of libFuzzer; 0: another each time")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--try", dest="file", type=Path, help="run one input, such as a finding")
    parser.add_argument("names", nargs="*")
    for folder in ("tests", "tests/lib", "tests/host"):
        sys.path.insert(0, str(ROOT / folder))
    if sys.argv[1:2] == [_ONE]:
        return run_one(sys.argv[2], sys.argv[3:])
    asked = parser.parse_args()
    from fuzz.targets import TARGETS

    names = asked.names or list(TARGETS)
    unknown = [name for name in names if name not in TARGETS]
    if unknown or asked.file and len(names) != 1:
        parser.error(f"name targets of these: {' '.join(TARGETS)}")
    if asked.file:
        return print(TARGETS[names[0]](asked.file.read_bytes()))
    seconds = max(1, int(asked.minutes * 60 / len(names)))
    return 1 if [name for name in names if not fuzz(name, seconds, asked)] else 0


def fuzz(name, seconds, asked):
    """One target for so long. Whether nothing was found."""
    from fuzz.targets import corpus, keep

    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    FINDINGS.mkdir(exist_ok=True)
    for number, data in enumerate(corpus(name)):
        (folder / f"corpus-{number}").write_bytes(data)
    flags = [f"-max_total_time={seconds}", f"-seed={asked.seed}", "-print_final_stats=1"]
    flags.append(f"-artifact_prefix={FINDINGS}/{name}-")
    status, said = call(name, [*flags, *_BOUNDS, str(folder)])
    runs = [one or other for one, other in _DONE.findall(said)]
    covered = re.findall(r"cov: (\d+)", said)
    print(f"{name}: {runs[-1] if runs else '?'} runs in {seconds} s, coverage "
          f"{covered[-1] if covered else '?'}", flush=True)  # fmt: skip
    if status:
        kept = re.findall(r"Test unit written to (\S+)", said)
        again = f"python tools/fuzz.py --try {kept[-1]} {name}" if kept else "see above"
        at = said.find(_RAISED)
        what = said[-_MOST_SAID:] if at < 0 else said[at : at + _MOST_SAID]
        print(f"{what}\n{name}: FOUND SOMETHING: {again}", flush=True)
        return False
    if asked.keep:
        keep(name, smallest(name, folder))
    return True


def smallest(name, folder):
    """What libFuzzer keeps of a folder: the same coverage by few inputs, within our bound."""
    into = OUT / f"{name}.merged"
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    status, said = call(name, ["-merge=1", *_BOUNDS, str(into), str(folder)])
    if status:
        sys.exit(said[-_MOST_SAID:])
    found = sorted((path.read_bytes() for path in into.iterdir()), key=len)
    most = min(_MOST_KEPT.get(name, len(found)), len(found))
    while sum(map(len, chosen := evenly(found, most))) > _MOST_CORPUS:
        most -= 1
    return chosen


def evenly(found, count):
    """So many of them, short ones and long ones."""
    return [found[at * len(found) // count] for at in range(count)]


def call(name, flags):
    """libFuzzer in a process of its own → (status, what it says)"""
    command = [sys.executable, __file__, _ONE, name, *flags]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    return done.returncode, done.stdout


def run_one(name, flags):
    import atheris

    with atheris.instrument_imports(include=["covey", "covey_host"]):
        from fuzz.targets import TARGETS
    target = TARGETS[name]
    again = f"{sys.executable} {__file__} {_ONE} {name}"  # how libFuzzer starts itself, to merge
    atheris.Setup([again, *flags], lambda data: target(data) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
