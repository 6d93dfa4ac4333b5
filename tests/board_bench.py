"""A board on this desktop: its file system in a LittleFS image, its access point, its power.

The image is mounted by real 32-bit MicroPython, or its files lie in a directory for CPython; in
both main.py runs with host/shim's `machine` and `network`, over real sockets on loopback.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import littlefs
import pytest

from covey_host.board import boards, members
from covey_host.board import files as contents
from processes import ENVIRONMENT, PATIENCE_S, wait_until
from test_micropython import interpreter, without

ROOT = Path(__file__).resolve().parents[1]
FIRMWARE = ROOT / "firmware"
RUN = ROOT / "host" / "shim" / "run.py"
WIFI = {"ssid": "plant floor", "password": "correct horse battery"}
BOARD = {"name": "desk", "led": 2, "button": 0, "relay": 5, "hold_ms": 1500}
RESET, ASLEEP, CUT = 64, 65, 66
BITTEN = -signal.SIGALRM
_LAYOUT = {  # as MicroPython's boards have it
    "block_size": 4096,
    "block_count": 256,
    "prog_size": 32,
    "read_size": 32,
    "lookahead_size": 32,
    "disk_version": 0x00020000,
}
_TOML = """
name = "a desktop"
arch = "{arch}"
firmware = "unix"
read_in = ["1.25.0"]
carriers = ["udp"]
[flash]
size = 0x100000
format = "uf2"
offset = 0
family = 1
base = 0
[vfs]
offset = 0x1000
size = 0xFF000
block = 4096
program = 32
[limits]
sas = 4
senders = 16
payload = 1400
[memory]
heap_from = "a desktop"
"""


def files_of(member, kind="x86", main="main.py", change=str, **board):
    """What a board of this member (its directory) holds: {path: octets}. change: main's text."""
    folder = member.parent.parent / "mains" / member.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "main.py").write_text(change((FIRMWARE / main).read_text()))
    settings = boards.parse(_TOML.format(arch="x86" if kind == "cpython" else kind), "desk", "-")
    loaded = members.load(None, str(member) + os.sep)
    found = contents.files(loaded, settings, folder / "main.py")
    found["/wifi.json"] = json.dumps(WIFI).encode()
    found["/board.json"] = json.dumps({**BOARD, **board}).encode()
    return {path.lstrip("/"): octets for path, octets in found.items()}


def image_of(files):
    """A LittleFS image as MicroPython's boards have it."""
    fs = littlefs.LittleFS(**_LAYOUT)
    for path in sorted(files):
        folder = os.path.dirname(path)
        if folder:
            fs.makedirs(folder, exist_ok=True)
        with fs.open(path, "wb") as file:
            file.write(files[path])
    return bytes(fs.context.buffer)


class Board:
    """kind: "x86" or "x64" for MicroPython, "cpython"."""

    def __init__(self, folder, files, kind="x86", heap="512k"):
        self.world = folder / "world"
        self.world.mkdir(parents=True)
        self._kind = kind
        self._heap = heap
        self.lines = []  # all that it has said, over all starts
        self._process = None
        self._threads = []
        if kind == "cpython":
            self._flash = folder / "flash"
            for path, octets in files.items():
                if path.endswith(".mpy"):
                    continue  # the source is on its path
                (self._flash / path).parent.mkdir(parents=True, exist_ok=True)
                (self._flash / path).write_bytes(octets)
        else:
            self._flash = folder / "flash.bin"
            self._flash.write_bytes(image_of(files))

    # The world around it

    def air(self, ssid=WIFI["ssid"], password=WIFI["password"]):
        """The access point is there."""
        part = self.world / "air.new"
        part.write_text(f"{ssid}\n{password}\n")
        part.replace(self.world / "air")

    def no_air(self):
        (self.world / "air").unlink()

    def press(self, is_pressed):
        part = self.world / "inputs.new"
        part.write_text(json.dumps({str(BOARD["button"]): 0 if is_pressed else 1}))
        part.replace(self.world / "inputs")

    def level(self, pin):
        """What an output was last set to; None: never."""
        pins = self.world / "pins"
        lines = pins.read_text().splitlines() if pins.exists() else []
        levels = [line.split()[1] for line in lines if line.split()[0] == str(pin)]
        return int(levels[-1]) if levels else None

    def file(self, path):
        """Octets of a file in its flash; the power must be off."""
        assert self._process is None
        if self._kind == "cpython":
            return (self._flash / path).read_bytes()
        newer = {**_LAYOUT, "disk_version": 0}  # MicroPython writes what its LittleFS knows
        fs = littlefs.LittleFS(**newer, mount=False)
        fs.context.buffer[:] = self._flash.read_bytes()
        fs.mount()
        with fs.open(path, "rb") as file:
            return file.read()

    # Power

    def power(self):
        """On. What RTC memory and `cause` say is of the test's making, or of the last end's."""
        assert self._process is None
        self._process = subprocess.Popen(
            [*self._command(), RUN, self.world, self._flash],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._thread = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._thread.start()
        return self

    def _command(self):
        if self._kind == "cpython":
            return [sys.executable]
        wrapper, reason = interpreter(self._kind)
        if wrapper is None:
            without(self._kind, reason)
        return [str(wrapper), "-X", f"heapsize={self._heap}"]

    def _environment(self):
        if self._kind != "cpython":
            return {**os.environ, "MICROPYPATH": ".frozen"}
        path = os.pathsep.join([str(ROOT / "lib"), str(FIRMWARE)])
        return {**ENVIRONMENT, "PYTHONPATH": path}

    def _read(self, process):
        for line in process.stdout:
            self.lines.append(line.rstrip())

    def cut(self):
        """The power is gone, at whatever moment, and RTC memory with it."""
        self._process.kill()
        self._over()
        for name in ("rtc", "cause"):
            (self.world / name).unlink(missing_ok=True)

    def interrupt(self):
        """Ctrl-C at the cable."""
        self._process.send_signal(signal.SIGINT)

    def ended(self, timeout_s=PATIENCE_S):
        """It ends by itself: how."""
        self._process.wait(timeout_s)
        return self._over()

    def ends_cut(self):
        """Whether a write to the flash ended it before it was a member."""
        before = self.count("covey: member")
        wait_until(
            lambda: self._process.poll() is not None or self.count("covey: member") > before
        )
        if self._process.poll() is None:
            return False
        assert self._over() == CUT, self.lines[-20:]
        return True

    def _over(self):
        status = self._process.wait(30)
        self._thread.join()
        self._process = None
        return status

    def close(self):
        if self._process is not None:
            self._process.kill()
            self._over()

    # What it says

    def count(self, text):
        return sum(text in line for line in list(self.lines))

    def says(self, text, n=1, timeout_s=PATIENCE_S):
        """Its n-th line with this text is there, of all starts."""
        try:
            wait_until(lambda: self.count(text) >= n, timeout_s, 0.01)
        except AssertionError:
            pytest.fail(f"no {text!r} x {n} in:\n" + "\n".join(self.lines[-40:]))

    def shows(self, pin, level, timeout_s=PATIENCE_S):
        try:
            wait_until(lambda: self.level(pin) == level, timeout_s, 0.01)
        except AssertionError:
            pytest.fail(f"pin {pin} is not {level}:\n" + "\n".join(self.lines[-40:]))
