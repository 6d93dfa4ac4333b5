"""Make `.build/etcd/etcd`: a real etcd for the tests of the store.

An `etcd` on PATH of version 3.4 or newer is used as it is. Otherwise Debian's package etcd-server
is downloaded as MicroPython is (see fetch_micropython.py), and its program unpacked. Where it
cannot be had `.build/etcd/skipped` holds the reason in one sentence, and the tests that need it
are skipped by name.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from fetch_micropython import (
    RELEASES,
    Failure,
    Unavailable,
    apt_config,
    apt_get,
    keyring_option,
    mirrors,
)

BUILD = Path(__file__).resolve().parent.parent / ".build" / "etcd"
LEAST = (3, 4)
_PACKAGE = "etcd-server"


def say(text):
    print(f"etcd: {text}", file=sys.stderr, flush=True)


def version(program):
    """As text. Unavailable where it won't do."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        raise Unavailable(f"{program} does not run here") from None
    found = re.search(r"etcd Version: (\d+)\.(\d+)\S*", done.stdout)
    if not found or (int(found[1]), int(found[2])) < LEAST:
        raise Unavailable(f"{program} is no etcd of version 3.4 or newer")
    return found[0].split()[-1]


def fetch(home):
    """The program out of Debian's package, in home."""
    if sys.platform != "linux" or not shutil.which("dpkg") or not shutil.which("apt-get"):
        raise Unavailable("without apt and dpkg it cannot be fetched")
    done = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True)
    debian_arch = done.stdout.strip()
    scratch = home / "apt"
    scratch.mkdir()
    config = apt_config(scratch, debian_arch)
    signed = keyring_option()
    for uri in mirrors():
        for release in RELEASES:
            line = f"deb [{signed}arch={debian_arch}] {uri} {release} main\n"
            (scratch / "sources.list").write_text(line)
            say(f"fetching the package lists of Debian {release}")
            if apt_get(config, "-o", "APT::Update::Error-Mode=any", "update"):
                continue
            os.chdir(scratch)  # where apt leaves it
            trouble = apt_get(config, "download", _PACKAGE)
            debs = sorted(scratch.glob("*.deb"))
            if trouble is None and debs:
                return unpack(debs[0], home)
    raise Unavailable("Debian's package could not be fetched")


def unpack(deb, home):
    root = home / "root"
    done = subprocess.run(["dpkg", "-x", str(deb), str(root)], capture_output=True, text=True)
    programs = sorted(root.rglob("bin/etcd"))
    if done.returncode or not programs:
        raise Unavailable("Debian's package is not laid out as expected")
    return programs[0]


def make():
    home = Path(tempfile.mkdtemp(prefix=".new-", dir=BUILD))
    try:
        program = fetch(home)
        program.chmod(0o755)
        text = version(str(program))
        os.replace(program, BUILD / "etcd")
        say(f"etcd {text} made")
    except Failure as failure:
        raise Unavailable(str(failure).rstrip(".")) from None
    finally:
        os.chdir(BUILD)
        shutil.rmtree(home, ignore_errors=True)


def provide():
    own = shutil.which("etcd")
    if (BUILD / "etcd").exists():
        return
    if own:
        version(own)
    else:
        make()


def main():
    BUILD.mkdir(parents=True, exist_ok=True)
    skipped = BUILD / "skipped"
    with open(BUILD / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            provide()
            skipped.unlink(missing_ok=True)
        except Unavailable as why:
            skipped.write_text(f"{why}.\n")
            say(f"{why}: the tests that need etcd are skipped by name.")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        sys.exit(f"etcd: cannot write under .build: {error}.")
    except KeyboardInterrupt:
        sys.exit(130)
