"""`make test`: pytest on two cores, of which neither hears the other.

Each process takes the next file that nobody has taken yet (tests/turns.py), in a network namespace
of its own: what one sends, to whatever group and port, doesn't reach the other, and no port is
taken by the other. Where the system grants no namespaces there is one process. JOBS=n: so many
(1: plain pytest). Arguments go to pytest.

Progress comes line by line, a file each; failures when their process is done, in one piece; one
line for all at the end. It fails if anything failed anywhere. Ctrl-C ends them all.
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
from pathlib import Path

MOST = 2  # processes, unless JOBS says so: what they run is of many processes itself
OURS = "192.0.2.2"  # of the network that leads nowhere (RFC 5737)
_NEWUSER, _NEWNET = 0x10000000, 0x40000000
_DIES_WITH_US = 1, signal.SIGINT  # prctl(PR_SET_PDEATHSIG)
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # ioctl
_SET_ADDRESS, _SET_MASK, _ADD_ROUTE = 0x8916, 0x891C, 0x890B
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_FROM_HERE = re.compile(r"^=+ .*(ERRORS|FAILURES|PASSES|warnings summary|summary info).* =+$")
_END = re.compile(r"^=+ .+ in [\d.]+s.* =+$")
_BROKEN_OFF = 2  # pytest's exit status

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
    return summed_up(runs, told, time.monotonic() - began)


def wait_for(runs):
    """Ctrl-C is handed on, once a time."""
    for run in runs:
        while run.thread.is_alive():
            try:
                run.thread.join()
            except KeyboardInterrupt:
                for each in runs:
                    each.interrupt()


def summed_up(runs, told, seconds):
    """The last line → the exit status of all."""
    counts = Counter()
    for one in told:
        counts.update(one["counts"])
    status = max(run.status if run.status >= 0 else _BROKEN_OFF for run in runs)
    lost = max((one["of"] for one in told), default=0) - sum(one["ran"] for one in told)
    if not status and (lost or len(told) < len(runs)):
        print(f"suites: {lost} tests were run by nobody")
        status = _BROKEN_OFF
    said = ", ".join(f"{n} {name}" for name, n in sorted(counts.items())) or "no tests ran"
    minutes = f"{int(seconds) // 60}:{int(seconds) % 60:02}"
    print(f" {said} in {seconds:.2f}s ({minutes}), {len(runs)} processes ".center(80, "="))
    return status


class Run:
    """One pytest, and its output on its way to ours."""

    _writing = threading.Lock()

    def __init__(self, arguments, turns):
        options = ["-o", "console_output_style=classic"]
        if sys.stdout.isatty():
            options.append("--color=yes")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, *arguments],
            env={**os.environ, "COVEY_TURNS": turns},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,  # a terminal's Ctrl-C comes by us
            preexec_fn=enter_namespace,
        )
        self.thread = threading.Thread(target=self._tell)
        self.thread.start()

    @property
    def status(self):
        return self._process.returncode

    def interrupt(self):
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def _tell(self):
        held = None
        for line in self._process.stdout:
            plain = _COLOUR.sub("", line).rstrip()
            if _END.match(plain):
                continue
            if held is None and not _FROM_HERE.match(plain):
                self._write(line)
            else:
                held = [*(held or ()), line]
        self._process.wait()
        self._write("".join(held or ()))

    def _write(self, text):
        with self._writing:
            sys.stdout.write(text)
            sys.stdout.flush()


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
