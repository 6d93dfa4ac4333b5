"""A member in a process of its own, and the covey.json that a person would write for it."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from processes import ENVIRONMENT, PATIENCE_S, wait_until
from test_micropython import BUILD, compile_lib, interpreter, without

ROOT = Path(__file__).resolve().parents[1]
REPEATED = ("ike_message_id", "rekey_repeat", "rekey_message_id", "rekey_spi", "rekey_busy")


def configure(folder, servers, *, psk=b"k" * 32, name="press-7", **fields):
    """Write covey.json and the key beside it; its path. servers: [host, port, marker] each."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "psk").write_text(psk.hex() + "\n")
    settings = {
        "version": 1,
        "group": "line1",
        "idi": name,
        "idr": "gcks.foreign",
        "servers": servers,
        "psk_file": "psk",
        "interface": "127.0.0.1",
        "carrier": "udp",
        "rejoin_spread_s": 0,
        "retransmit": {"first_ms": 100, "total_s": 10},
        **fields,
    }
    path = folder / "covey.json"
    path.write_text(json.dumps(settings))
    return path


def join(path, *arguments):
    """`covey join --json`."""
    command = [sys.executable, "-m", "covey_host", "join", path, "--json", *arguments]
    return MemberProcess(command, ENVIRONMENT)


def micropython(path, timeout_s=30, arch="x86", lib=None, loss=0):
    """The same member on MicroPython. timeout_s: how long it tries to get in; lib: a folder of
    .mpy files in place of the tests' own; loss: percent of what the group sends.
    """
    wrapper, reason = interpreter(arch)
    complaint = compile_lib()
    if complaint:
        pytest.fail(complaint, pytrace=False)
    if wrapper is None:
        without(arch, reason)
    search = f".frozen:{lib or BUILD / f'lib-{arch}'}"
    script = ROOT / "tests" / "member_script.py"
    command = [wrapper, "-X", "heapsize=1m", script, path, timeout_s, loss]
    return MemberProcess(command, {**os.environ, "MICROPYPATH": search}, ends_with_input=True)


class MemberProcess:
    """Its events as they come; lines for its stdin."""

    def __init__(self, command, environment, ends_with_input=False):
        self.events = []
        self._ends_with_input = ends_with_input
        self._process = subprocess.Popen(
            [str(word) for word in command],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._threads = [
            threading.Thread(target=self._read_events, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        self._errors = ""
        for thread in self._threads:
            thread.start()

    def _read_events(self):
        for line in self._process.stdout:
            self.events.append(json.loads(line) if line.startswith("{") else {"said": line})

    def _read_errors(self):
        self._errors = self._process.stderr.read()

    def say(self, text):
        """Have it send a payload."""
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def count(self, event, **facts):
        """How often this was told."""
        return len(self._hits({"event": event, **facts}))

    def heard(self, event, n=1, timeout_s=PATIENCE_S, **facts):
        """The n-th event with these facts."""
        wanted = {"event": event, **facts}
        try:
            return wait_until(lambda: self._hits(wanted)[n - 1 :], timeout_s, 0.005)[0]
        except AssertionError:
            story = f"no {wanted} x {n} in {self.events}"
        raise AssertionError(story + "\n" + self._errors)

    def _hits(self, wanted):
        return [e for e in list(self.events) if wanted.items() <= e.items()]

    def packet(self, payload, n=1, **facts):
        """It delivered this payload n times at least."""
        return self.heard("packet", n, payload=payload.hex(), **facts)

    def opened(self, payload):
        return self.count("packet", payload=payload.hex())

    def drops(self):
        """By reason, as it says later than now; without what comes of messages that were said
        twice.
        """
        status = self.heard("status", self.count("status") + 1)
        found = (status.get("detail") or status)["drops"]
        return {name: n for name, n in found.items() if name not in REPEATED}

    def leave(self):
        """Have it leave the group: (exit status, stderr)."""
        if self._ends_with_input:
            self._process.stdin.close()
        else:
            self._process.terminate()
        status, errors = self.end()
        return (0 if status == 128 + signal.SIGTERM else status), errors

    def end(self, timeout_s=PATIENCE_S):
        """It ends: (exit status, stderr)."""
        status = self._process.wait(timeout_s)
        for thread in self._threads:
            thread.join()
        assert "Traceback" not in self._errors, self._errors
        return status, self._errors

    def close(self):
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
