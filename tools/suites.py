"""`make test`: pytest on two cores, of which neither hears the other.

Each process takes the next file that nobody has taken yet (tests/turns.py), in a network namespace
of its own: what one sends, to whatever group and port, doesn't reach the other, and no port is
taken by the other. Where the system grants no namespaces there is one process. JOBS=n: so many
(1: plain pytest). Arguments go to pytest.

Progress comes line by line, a file each; failures when their process is done, in one piece; one
line for all at the end. It fails if anything failed anywhere. Ctrl-C ends them all.

But where no more than three tests failed, each of them one of IN_REAL_TIME and in its own body,
they are run again when all else is over: each alone, twice. If all of that passes, they are named
as UNSTEADY at the end, and nothing has failed: such a test is to be mended. What is GRAVE, in
whichever line of its report, and what fixtures find, is not run again; nor is anything where a
person chose tests (-k, a path), or in plain pytest.

A test that hangs ends its process, and so fails all (pyproject.toml: faulthandler_timeout).
"""

import ctypes
import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

MOST = 2  # processes, unless JOBS says so: what they run is of many processes itself
MOST_UNSTEADY, TIMES = 3, 2
# Tests of real processes, which a busy machine may keep waiting for longer than they allow for.
# None looks for attacks that come through, or for keys that don't change as they must.
IN_REAL_TIME = re.compile(
    r"(tests/host/)?test_(board_road|doctor|eviction_processes|firmware|firmware_faults"
    r"|firmware_sleep|foreign_\w+|inband_processes|integrity_processes|ip_carrier|join|keys_export"
    r"|quickstart|relay_processes|server|shipped|source_auth_ecdsa_processes|cli_certificates"
    r"|tesla_processes|tshark|usecases|why_processes)\.py::"
)
# What is too much if it happens once.
GRAVE = re.compile(
    r"\bnonces?\b|\btwice\b|obeyed|poses as|forged|replay was|was shown|'Traceback' not in"
)
OURS = "192.0.2.2"  # of the network that leads nowhere (RFC 5737)
_NEWUSER, _NEWNET = 0x10000000, 0x40000000
_DIES_WITH_US = 1, signal.SIGINT  # prctl(PR_SET_PDEATHSIG)
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # ioctl
_SET_ADDRESS, _SET_MASK, _ADD_ROUTE = 0x8916, 0x891C, 0x890B
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_FROM_HERE = re.compile(r"^=+ .*(ERRORS|FAILURES|PASSES|warnings summary|summary info).* =+$")
_END = re.compile(r"^=+ .+ in [\d.]+s.* =+$")
_FAILED, _BROKEN_OFF = 1, 2  # pytest's exit statuses

_libc = ctypes.CDLL(None, use_errno=True)


def main():
    arguments = sys.argv[1:]
    jobs = int(os.environ.get("JOBS") or min(os.cpu_count() or 1, MOST))
    if jobs < 2 or not has_namespaces():
        os.execv(sys.executable, [sys.executable, "-m", "pytest", *arguments])
    began = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as turns:
        runs = [Run(arguments, turns) for _ in range(jobs)]
        wait_for(runs)
        told = [json.loads(path.read_text()) for path in Path(turns).glob("told-*")]
        for path in Path(turns).glob("now-*"):
            print(f"suites: a process ended in the midst of {path.read_text()}")
    unsteady = those_unsteady(runs, told)
    return summed_up(runs, told, unsteady, time.monotonic() - began)


def wait_for(runs):
    """Ctrl-C is handed on, once a time."""
    for run in runs:
        while not run.is_over.is_set():
            try:
                run.is_over.wait()  # join() may take an interrupted wait for the end (bpo-45274)
            except KeyboardInterrupt:
                for each in runs:
                    each.interrupt()


def those_unsteady(runs, told):
    """{test: why it failed}, if there are such and nothing else failed."""
    failed = {test: why for one in told for test, why in one["failed"].items()}
    reports = [report for one in told for report in one["reports"]]
    is_known = len(told) == len(runs) and lost(told) == 0 and status_of(runs) == _FAILED
    is_known = is_known and all(one["is_whole"] and not one["counts"].get("error") for one in told)
    can_be = all(map(IN_REAL_TIME.match, failed)) and not any(map(GRAVE.search, reports))
    if not (is_known and can_be and len(failed) <= MOST_UNSTEADY):
        return {}
    print(f"suites: again, alone, {TIMES} times: {', '.join(failed)}", flush=True)
    for test in failed:
        for _ in range(TIMES):
            again = Run([test])
            wait_for([again])
            if again.status:
                return {}
    return failed


def lost(told):
    """How many tests nobody has run."""
    return max((one["of"] for one in told), default=0) - sum(one["ran"] for one in told)


def status_of(runs):
    return max(run.status if run.status >= 0 else _BROKEN_OFF for run in runs)


def summed_up(runs, told, unsteady, seconds):
    """The last lines → the exit status of all."""
    counts = Counter()
    for one in told:
        counts.update(one["counts"])
    status = status_of(runs)
    if not status and (lost(told) or len(told) < len(runs)):
        print(f"suites: {lost(told)} tests were run by nobody")
        status = _BROKEN_OFF
    if unsteady:
        counts["unsteady"] = counts.pop("failed")
        status = 0
        print(" failed, but not alone ".center(80, "="))
        for test, why in unsteady.items():
            print(f"UNSTEADY {test} - {why}")
    said = ", ".join(f"{n} {name}" for name, n in sorted(counts.items())) or "no tests ran"
    minutes = f"{int(seconds) // 60}:{int(seconds) % 60:02}"
    print(f" {said} in {seconds:.2f}s ({minutes}), {len(runs)} processes ".center(80, "="))
    return status


class Run:
    """One pytest, and its output on its way to ours. turns: the directory of those that share a
    suite; without, it says nothing unless it fails.
    """

    _writing = threading.Lock()

    def __init__(self, arguments, turns=None):
        self._is_alone = turns is None
        options = ["-o", "console_output_style=classic"]
        if sys.stdout.isatty():
            options.append("--color=yes")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, *arguments],
            env=_environment(turns),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,  # a terminal's Ctrl-C comes by us
            preexec_fn=enter_namespace,
        )
        self.is_over = threading.Event()
        threading.Thread(target=self._tell).start()

    @property
    def status(self):
        return self._process.returncode

    def interrupt(self):
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def _tell(self):
        held = [] if self._is_alone else None
        for line in self._process.stdout:
            plain = _COLOUR.sub("", line).rstrip()
            if _END.match(plain):
                continue
            if held is None and not _FROM_HERE.match(plain):
                self._write(line)
            else:
                held = [*(held or ()), line]
        self._process.wait()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # what it left, if it died
        if self.status or not self._is_alone:
            self._write("".join(held or ()))
        self.is_over.set()

    def _write(self, text):
        with self._writing:
            sys.stdout.write(text)
            sys.stdout.flush()


def _environment(turns):
    """Who is alone takes turns with nobody, also where this is one of others' tests."""
    found = {name: value for name, value in os.environ.items() if name != "COVEY_TURNS"}
    return found if turns is None else {**found, "COVEY_TURNS": turns}


def enter_namespace():
    """A network of nothing but a loopback, where what goes elsewhere is lost; for who isn't root
    with a table of users, too."""
    _libc.prctl(*_DIES_WITH_US)
    user, group = os.geteuid(), os.getegid()
    if _libc.unshare(_NEWNET if user == 0 else _NEWNET | _NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare")
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for card, address in ((b"lo", "127.0.0.1"), (b"lo:1", OURS)):
            fcntl.ioctl(sock, _SET_ADDRESS, card.ljust(16, b"\0") + _place(address))
        fcntl.ioctl(sock, _SET_MASK, b"lo:1".ljust(16, b"\0") + _place("255.255.255.255"))
        flags = struct.unpack("16xH6x", fcntl.ioctl(sock, _GET_FLAGS, struct.pack("16s8x", b"lo")))
        fcntl.ioctl(sock, _SET_FLAGS, struct.pack("16sH6x", b"lo", flags[0] | _UP))
        name = ctypes.create_string_buffer(b"lo")
        fcntl.ioctl(sock, _ADD_ROUTE, _route(ctypes.addressof(name)))


def _place(address):
    """struct sockaddr_in"""
    return struct.pack("H2x4s8x", socket.AF_INET, socket.inet_aton(address))


def _route(card):
    """struct rtentry: to everywhere, by the card whose name is in memory there."""
    where = _place("0.0.0.0") * 3
    return struct.pack("L48sHhLPhPLLH", 0, where, _UP, 0, 0, 0, 0, card, 0, 0, 0)


def has_namespaces():
    """Whether this system grants them."""
    try:
        done = subprocess.run([sys.executable, "-I", "-c", ""], preexec_fn=enter_namespace)
    except (OSError, AttributeError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
