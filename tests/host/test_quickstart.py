"""docs/quickstart.md, typed: each command, and that it prints what stands below it.

Its ports are free ones, on loopback. Where a cable would be, `covey flash` finds the boot ROM of
tests/espressif_rom.py, and `covey doctor --port` MicroPython behind a pseudo-terminal. Figures,
addresses and hashes may be others than in the document; words may not.
"""

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import firmware_files
from board_on_desk import NETWORK, WIFI, board_with
from espressif_rom import Rom
from markdown import ROOT, TEXTS
from processes import ENVIRONMENT, PATIENCE_S
from site_bench import GROUP, free_port
from test_micropython import interpreter, without

DOC = TEXTS[ROOT / "docs" / "quickstart.md"]
HERE = "127.0.0.1"
CABLE = "/dev/ttyUSB0"
NOT_TYPED = ("git", "make", ".")  # setting up; a test of these would need the network
PASSWORD = "correct horse\n"
QUICK = 'atd = "1s"\ndtd = "3s"\nrejoin_spread = "1s"\nrepeat_spacing = "300ms"\n'
FIRMWARE = {"20250415": "v1.25.0", "20241129": "v1.24.1"}


def steps():
    """[(commands, what is printed or None)], in the order of the document."""
    found = re.findall(r"^```(sh|text)\n(.*?)^```$", DOC, re.M | re.S)
    made = []
    for kind, block in found:
        if kind == "sh":
            made.append([block.splitlines(), None])
        else:
            assert made[-1][1] is None, "two outputs of one command"
            made[-1][1] = block.splitlines()
    return made


def shape(line):
    """A line without what differs from run to run."""
    line = re.sub(r"\b[0-9a-f]{64}\b", "HASH", line.strip())
    line = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", line)
    line = re.sub(r"/dev/tty\w+|socket://[\d.]+:\d+", "PORT", line)
    line = re.sub(r"\d+(\.\d+){3}(:\d+)?", "ADDRESS", line)
    line = re.sub(r"ADDRESS(, ?ADDRESS)+", "ADDRESS", line)
    line = re.sub(r"^(ok|warn) +interface: .*", "INTERFACE", line)
    return re.sub(r"\d[\d,.]*", "N", line)


class Desk:
    """A terminal, and what goes on beside it."""

    def __init__(self, folder: Path):
        self.folder, self.site = folder, folder / "plant"
        self.listen, self.carrier = free_port(), free_port()
        self.running: list[subprocess.Popen] = []
        self.said = ""  # all that any command printed

    def type(self, command: str) -> str | None:
        """What it says; None where it is not typed here."""
        words = shlex.split(command)
        if words[0] in NOT_TYPED:
            return None
        if words[0] == "cd":
            return ""
        assert words[0] == "covey", command
        if CABLE in words:
            return self._at_the_cable(words)
        if words[1] in ("serve", "join"):
            return self._beside(command, words)
        said = self._run(self._here(words), PASSWORD if words[1:3] == ["site", "wifi"] else "")
        if words[1] == "init":
            self._settle()
        if words[1:3] == ["group", "add"]:
            with open(self.site / "covey.toml", "a") as file:
                file.write(f"carrier_port = {self.carrier}\n{QUICK}")
        return said

    def _here(self, words: list[str]) -> list[str]:
        """The same on the loopback, and on ports of our own."""
        words = [GROUP if word == "239.192.1.32" else word for word in words[1:]]
        if words[:2] == ["member", "add"]:
            words += ["--server", f"{HERE}:{self.listen}", "--interface", HERE]
        if words[0] in ("serve", "doctor", "attack"):
            words += ["--interface", HERE]
        return words

    def _run(self, words: list[str], typed: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-m", "covey_host", *words],
            cwd=self.site if self.site.exists() else self._beginning(),
            env=ENVIRONMENT,
            input=typed,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout + done.stderr

    def _beginning(self) -> Path:
        """Where Covey lies: the site is made beside it."""
        tree = self.folder / "covey"
        tree.mkdir(exist_ok=True)
        return tree

    def _settle(self) -> None:
        path = self.site / "covey.toml"
        text = path.read_text()
        listen = 'listen = ["0.0.0.0:4500"]'
        assert listen in text
        path.write_text(text.replace(listen, f'listen = ["{HERE}:{self.listen}"]'))
        for date, version in FIRMWARE.items():
            file = self.site / f"ESP32_GENERIC_C3-{date}-{version}.bin"
            file.write_bytes(firmware_files.espressif("esp32c3", version))

    def _beside(self, command: str, words: list[str]) -> str:
        """In a terminal of its own: what it says until it is at work."""
        child = subprocess.Popen(
            [sys.executable, "-m", "covey_host", *self._here(words)],
            cwd=self.site,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.running.append(child)
        if words[1] == "serve":
            return child.stdout.readline()
        said = [child.stdout.readline() for _ in range(2)]
        self._press()
        said += [child.stdout.readline() for _ in range(2)]
        child.send_signal(signal.SIGINT)
        child.wait(PATIENCE_S)
        self.running.remove(child)
        return "".join(said)

    def _press(self) -> None:
        """The board `button` says how it is, as firmware/main.py does."""
        words = ["join", "button", "--send", "off", "--count", "100000", "--interval", "0.02"]
        child = subprocess.Popen(
            [sys.executable, "-m", "covey_host", *words],
            cwd=self.site,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.running.append(child)

    def _at_the_cable(self, words: list[str]) -> str:
        if words[1] == "flash":
            with Rom("esp32c3", self.folder / f"{words[2]}.flash") as rom:
                at = [rom.url if word == CABLE else word for word in words[1:]]
                return self._run(at)
        wrapper, reason = interpreter("x86")
        if wrapper is None:
            without("x86", reason)
        files = {"/lib/network.py": NETWORK.replace("ADDRESS", HERE), "/wifi.json": WIFI}
        folder = self.site / "members" / "lamp"
        files["/covey.json"] = (folder / "covey.json").read_bytes()
        board = board_with(self.folder / "board.flash", files)
        try:
            at = [board.port if word == CABLE else word for word in words]
            return self._run(self._here(at))
        finally:
            board.power_off()

    def close(self) -> None:
        for child in self.running:
            child.kill()
            child.wait()


@pytest.fixture
def desk(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROPYPATH", "/lib:.frozen")
    made = Desk(tmp_path)
    yield made
    made.close()


def test_every_command_prints_what_the_document_says(desk):
    typed = 0
    for commands, shown in steps():
        said = []
        for command in commands:
            printed = desk.type(command)
            if printed is None:
                continue
            typed += 1
            desk.said += printed
            said += printed.splitlines()
        if shown is None:
            continue
        told = [shape(line) for line in said]
        for line in shown:
            assert not line or line == "..." or shape(line) in told, (commands, line, said)
    assert typed > 15
    flashed = {path.name for path in desk.folder.glob("*.flash")}
    assert {"button.flash", "lamp.flash"} <= flashed
    password = PASSWORD.strip()
    assert password not in desk.said
