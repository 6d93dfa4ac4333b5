"""Set the tree up: `python tools/setup.py STEP...`; a step that is up to date costs nothing.

venv         .venv with everything in requirements.lock, by hash, and covey itself (editable)
micropython  .build/micropython/{x64,x86}: see fetch_micropython.py
mpy          .build/lib-{x64,x86}: lib/covey compiled, see build_mpy.py
etcd         .build/etcd/etcd, for the tests of the store; see fetch_etcd.py. They do without
peers        in .venv too, what requirements-bench.lock names: others that `make bench` measures.
             It does without those that can't be had
fuzzer       in .venv too, what requirements-fuzz.lock names, for `make fuzz`

Progress goes to stderr, so that a command's own output stays clean. Runs on any Python from 3.11
on; only `venv` needs the one that .venv is to be made with.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "covey-setup.json"
LOCK = ROOT / "requirements.lock"
INPUTS = ["requirements.lock", "pyproject.toml", "tools/setup.py"]
PEERS = "requirements-bench.lock"
FUZZER = "requirements-fuzz.lock"
STEPS = ["venv", "micropython", "mpy", "etcd", "peers", "fuzzer"]


def say(text):
    print(f"setup: {text}", file=sys.stderr, flush=True)


def fail(sentence):
    sys.exit(f"setup: {sentence}")


def clean_environment():
    """Without what would lead a Python elsewhere than into .venv."""
    drop = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in drop}
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}


def run(command):
    """Run it with its output on our stderr; whether it went well."""
    return subprocess.run(command, stdout=sys.stderr, cwd=ROOT, env=clean_environment()).returncode


# .venv


def wanted():
    """What .venv must have been made from. Its path counts: scripts in it name it."""
    digest = hashlib.sha256(str(ROOT).encode())
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def is_current():
    """Whether .venv is finished, made from today's inputs, and still runs."""
    try:
        made = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return False
    asked = os.environ.get("PYTHON")
    if made["inputs"] != wanted() or asked and made["asked"] != asked:
        return False
    return in_venv() or runs(VENV / "bin" / "python")


def in_venv():
    return Path(sys.prefix).resolve() == VENV


def runs(python):
    """Its version, or None: the interpreter under a .venv may have been upgraded or removed."""
    if not os.access(python, os.X_OK):
        return None
    code = "import sys, pip; print(sys.version_info[:2])"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def make_venv():
    if is_current():
        return
    if in_venv():  # it must not rebuild itself
        finder = subprocess.run(
            [ROOT / "tools" / "find_python.sh"], capture_output=True, text=True
        )
        if finder.returncode:
            sys.exit(finder.stderr.strip())
        os.execv(finder.stdout.strip(), [finder.stdout.strip(), *sys.argv])
    began = time.monotonic()
    version = str(sys.version_info[:2])
    STAMP.unlink(missing_ok=True)
    if runs(VENV / "bin" / "python") != version:
        if VENV.exists():
            shutil.rmtree(VENV)
        say(f"making .venv with Python {sys.version.split()[0]} ({sys.executable})")
        create_venv()
    say("installing what requirements.lock names into .venv")
    # esptool comes as source only: what builds it must be there before it, pinned like the rest.
    first = ROOT / ".build" / "first.lock"
    first.write_text(entry(LOCK.read_text(), "setuptools"))
    for lock in (first, LOCK):
        wheels = ["--only-binary", ":all:", "--no-binary", "esptool", "--no-build-isolation"]
        install("--require-hashes", *wheels, "-r", str(lock))
    install("--no-deps", "--no-build-isolation", "--editable", ".")
    made = {"inputs": wanted(), "asked": os.environ.get("PYTHON")}
    STAMP.write_text(json.dumps(made))
    say(f".venv is ready ({time.monotonic() - began:.0f} s)")


def create_venv():
    try:
        from ensurepip import version  # noqa: F401  Debian packs it apart from Python
        from venv import create  # noqa: F401
    except ImportError:
        fail(
            f"{sys.executable} cannot make virtual environments: install its venv module "
            f"(Debian: apt install python3.{sys.version_info[1]}-venv), or name another Python "
            "with PYTHON=."
        )
    if run([sys.executable, "-I", "-m", "venv", str(VENV)]):
        shutil.rmtree(VENV, ignore_errors=True)
        fail(".venv could not be made (see the lines above).")


def entry(lock, name):
    """The lines of a package in a lock file: the first, and all that a backslash joins to it."""
    lines = iter(lock.splitlines())
    for line in lines:
        if line.startswith(name + "=="):
            found = [line]
            while found[-1].endswith("\\"):
                found.append(next(lines))
            return "\n".join(found) + "\n"
    fail(f"requirements.lock does not name {name}.")


def install(*words):
    if not is_installed(*words):
        fail("pip could not install (see the lines above): check the network, then run it again.")


def is_installed(*words):
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    python = str(VENV / "bin" / "python")
    return run([python, "-I", "-m", "pip", "install", "--retries", "2", *quiet, *words]) == 0


# The others


def make_micropython():
    status = run([sys.executable, "-I", "tools/fetch_micropython.py"])
    if status:
        sys.exit(status)


def make_mpy():
    status = run([str(VENV / "bin" / "python"), "-I", "tools/build_mpy.py"])
    if status:
        sys.exit(status)


def make_etcd():
    status = run([sys.executable, "-I", "tools/fetch_etcd.py"])
    if status:
        sys.exit(status)


def make_peers():
    if not add(PEERS):
        say("pip could not install them (see the lines above): `make bench` leaves them out.")


def make_fuzzer():
    if not add(FUZZER):
        fail(f"pip could not install what {FUZZER} names: it has wheels for Linux on x86-64 only.")


def add(name):
    """What a lock file names, into .venv. Whether it is there now."""
    lock, stamp = (ROOT / name).read_text(), VENV / f"covey-{Path(name).stem}"
    if stamp.exists() and stamp.read_text() == lock:
        return True
    say(f"installing what {name} names into .venv")
    hashed = ("--require-hashes", "--no-deps", "--only-binary", ":all:")
    if not is_installed(*hashed, "-r", name):
        return False
    stamp.write_text(lock)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", nargs="+", choices=STEPS)
    steps = parser.parse_args().step
    makers = [make_venv, make_micropython, make_mpy, make_etcd, make_peers, make_fuzzer]
    work = dict(zip(STEPS, makers, strict=True))
    try:
        (ROOT / ".build").mkdir(exist_ok=True)
        with open(ROOT / ".build" / ".setup.lock", "w") as lock:  # two `make` side by side
            fcntl.flock(lock, fcntl.LOCK_EX)
            for step in STEPS:
                if step in steps:
                    work[step]()
    except OSError as error:
        fail(f"{error}.")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
