"""A desk for tests of `covey flash`: a site with one member, firmware files, a flash read back."""

import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import firmware_files
from covey_host import cli
from serial_member import opened

MEMBER = "press-7"


@cache
def _site():
    """Made once: each desk has a copy."""
    root = Path(mkdtemp()) / "plant"
    for words in (
        ["init", str(root)],
        ["group", "add", "line1", "--address", "239.192.1.32", "--port", "2222"],
        ["member", "add", MEMBER, "--group", "line1", "--sender", "--server", "192.0.2.1"],
    ):
        site = [] if words[0] == "init" else ["--site", str(root)]
        assert cli._run([*words, *site]) == 0
    return root


class Desk:
    def __init__(self, tmp_path, capsys, monkeypatch):
        self._folder, self._capsys = tmp_path, capsys
        self.site = tmp_path / "plant"
        shutil.copytree(_site(), self.site, ignore=shutil.ignore_patterns("run"))
        monkeypatch.setenv("COVEY_SITE", str(self.site))

    def run(self, *words):
        """A command: its status, what it said on stdout, and its complaints, notes left out."""
        self._capsys.readouterr()
        status = cli._run([str(word) for word in words])
        said = self._capsys.readouterr()
        lines = said.err.splitlines()
        return status, said.out, [s for s in lines if s and not s.startswith("Note: ")]

    def firmware(self, chip, **wishes):
        """MicroPython's file for a chip."""
        path = self._folder / f"{chip}.bin"
        octets = firmware_files.espressif(chip, partitions=partitions_of(chip), **wishes)
        path.write_bytes(octets)
        return path

    def uf2(self):
        path = self._folder / "pico.uf2"
        path.write_bytes(firmware_files.pico())
        return path


def partitions_of(chip):
    return firmware_files.OLD_8MB if chip == "esp32s3" else firmware_files.OLD_4MB


def with_firmware(path, chip, **wishes):
    """A flash in which MicroPython lies already."""
    flash = bytearray(b"\xff" * (4 << 20))
    image = firmware_files.espressif(chip, **wishes)
    base = firmware_files.BASES[chip]
    flash[base : base + len(image)] = image
    path.write_bytes(flash)
    return bytes(flash)


def read_back(flash, board):
    """{path: octets} of the file system in a flash."""
    fs = opened(flash[board.vfs.offset : board.vfs.end], board.vfs.size // 4096)
    found = {}
    for folder, _, names in fs.walk("/"):
        for name in names:
            path = f"{folder.rstrip('/')}/{name}"
            with fs.open(path, "rb") as file:
                found[path] = file.read()
    return found
