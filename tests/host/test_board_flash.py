"""`covey flash`: real esptool against the boot ROM of each chip (tests/espressif_rom.py).

The flash that comes of it is mounted again, by littlefs-python and by real MicroPython. What goes
wrong is one sentence and status 1, and nowhere does it say "Flashed".
"""

import fcntl
import hashlib
import json
import os
import pty
import shutil
import stat
import subprocess
import sys
import threading

import pytest
from littlefs import LittleFS

import firmware_files
from covey_host import cli
from covey_host.board import boards, files, members, ports
from covey_host.errors import Problem
from espressif_rom import CHIPS, Faults, Rom
from test_micropython import interpreter, without

READ_BACK = """
import hashlib, json, os, sys, vfs
from binascii import hexlify
class Ram:
    def __init__(self, octets):
        self.octets = octets
    def readblocks(self, block, buf, off=0):
        at = block * 4096 + off
        buf[:] = self.octets[at : at + len(buf)]
    def ioctl(self, what, _):
        return len(self.octets) // 4096 if what == 4 else 4096 if what == 5 else 0
with open(sys.argv[1], "rb") as file:
    file.seek(int(sys.argv[2]))
    flash = Ram(file.read(int(sys.argv[3])))
vfs.mount(vfs.VfsLfs2(flash), "/flash")
found = {}
def look(folder):
    for each in os.ilistdir(folder):
        path = folder + "/" + each[0]
        if each[1] & 0x4000:
            look(path)
        else:
            with open(path, "rb") as file:
                found[path[6:]] = hexlify(hashlib.sha256(file.read()).digest()).decode()
look("/flash")
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A site with one member."""
    root = tmp_path_factory.mktemp("site") / "plant"
    for words in (
        ["init", str(root)],
        ["group", "add", "line1", "--address", "239.192.1.32", "--port", "2222"],
        ["member", "add", "press-7", "--group", "line1", "--sender", "--server", "192.0.2.1"],
    ):
        site = [] if words[0] == "init" else ["--site", str(root)]
        assert cli._run([*words, *site]) == 0
    return root


@pytest.fixture
def site(made, tmp_path, monkeypatch):
    """The same for each test, in a copy."""
    shutil.copytree(made, tmp_path / "plant", ignore=shutil.ignore_patterns("run"))
    monkeypatch.setenv("COVEY_SITE", str(tmp_path / "plant"))
    return tmp_path / "plant"


@pytest.fixture
def firmware(tmp_path):
    def make(chip, **wishes):
        path = tmp_path / f"{chip}.bin"
        path.write_bytes(firmware_files.espressif(chip, **wishes))
        return str(path)

    return make


@pytest.fixture
def run(capsys):
    """A command: its status, what it said on stdout, and on stderr."""

    def command(*words):
        capsys.readouterr()
        status = cli._run([str(word) for word in words])
        said = capsys.readouterr()
        complaints = [
            line for line in said.err.splitlines() if line and not line.startswith("Note: ")
        ]
        return status, said.out, complaints

    return command


def read_back(flash, board):
    """{path: octets} of the file system in a flash."""
    fs = LittleFS(block_size=4096, block_count=board.vfs.size // 4096, mount=False)
    fs.context.buffer = bytearray(flash[board.vfs.offset : board.vfs.end])
    fs.mount()
    found = {}
    for folder, _, names in fs.walk("/"):
        for name in names:
            path = f"{folder.rstrip('/')}/{name}"
            with fs.open(path, "rb") as file:
                found[path] = file.read()
    return found


def read_back_by_micropython(path, board, tmp_path):
    """{path: SHA-256} of the same, as a board mounts it."""
    wrapper, reason = interpreter("x86")
    if wrapper is None:
        without("x86", reason)
    script = tmp_path / "read_back.py"
    script.write_text(READ_BACK)
    words = [wrapper, "-X", "heapsize=8m", script, path, board.vfs.offset, board.vfs.size]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def partitions_of(board):
    return firmware_files.OLD_4MB if board.flash_size == 4 << 20 else firmware_files.OLD_8MB


@pytest.mark.parametrize(
    "chip, way", [*((chip, []) for chip in CHIPS), ("esp32c3", ["--no-stub"])], ids=str
)
def test_an_image_is_in_the_flash_and_mounts(chip, way, site, firmware, run, tmp_path):
    board, path = boards.load(chip), tmp_path / "flash.bin"
    partitions = partitions_of(board)
    path.write_bytes(b"\0" * board.flash_size)  # what is not erased can't be written
    with Rom(chip, path) as rom:
        status, said, complaints = run(
            *("flash", "press-7", "--board", chip, "--port", rom.url, *way),
            *("--firmware", firmware(chip, partitions=partitions)),
        )
        assert (status, complaints) == (0, []) and said.startswith("Flashed press-7 at socket://")
        assert rom.resets == 3  # to look, to write, to verify
    flash = path.read_bytes()
    image = firmware_files.espressif(chip, partitions=partitions)
    assert flash[board.offset : board.offset + len(image)] == image
    member = members.load(site, "press-7")
    wanted = files.files(member, board)
    found = read_back(flash, board)
    seed = found.pop("/seed")
    assert len(seed) == 32 and seed != wanted.pop("/seed")  # a fresh one each time
    assert found == wanted
    found["/seed"] = seed
    digests = {path: hashlib.sha256(data).hexdigest() for path, data in found.items()}
    assert read_back_by_micropython(path, board, tmp_path) == digests


@pytest.mark.parametrize("chip", CHIPS)
def test_the_rom_alone_takes_a_file_system(chip, tmp_path):
    """esptool --no-stub, by hand: as on a board whose RAM takes no program."""
    fs = LittleFS(block_size=4096, block_count=16, disk_version=0x00020000)
    with fs.open("/main.py", "wb") as file:
        file.write(b"print(1)\n" * 999)
    image, path = tmp_path / "fs.bin", tmp_path / "flash.bin"
    image.write_bytes(bytes(fs.context.buffer))
    with Rom(chip, path) as rom:
        for command, status in (("write-flash", 0), ("verify-flash", 0), ("verify-flash", 2)):
            words = ["--chip", chip, "--port", rom.url, "--no-stub", command, "0x200000", image]
            done = subprocess.run([sys.executable, "-m", "esptool", *words], capture_output=True)
            assert done.returncode == status
            if rom.resets == 2:
                rom.flash[0x200000 + 99] ^= 4
        assert rom.blocks == 64
        rom.flash[0x200000 + 99] ^= 4
        assert rom.flash[0x200000:0x210000] == image.read_bytes()


def test_secrets_lie_in_private_files_while_it_works_and_are_gone_then(
    site, firmware, run, tmp_path
):
    folder, seen = site / "members" / "press-7", []
    with Rom("esp32c3", tmp_path / "flash.bin") as rom:

        def watch():
            for path in folder.glob(".flash-*"):
                seen.append(stat.S_IMODE(path.stat().st_mode))
                seen.extend(stat.S_IMODE(p.stat().st_mode) for p in path.iterdir())

        rom.watch = watch
        words = ("--board", "esp32c3", "--port", rom.url, "--firmware", firmware("esp32c3"))
        assert run("flash", "press-7", *words)[0] == 0
    assert set(seen) == {0o700, 0o600}
    assert not list(folder.glob(".flash-*"))


def test_erase_leaves_nothing_old(site, firmware, run, tmp_path):
    for erase, left in (([], b"\0"), (["--erase"], b"\xff")):
        path = tmp_path / "flash.bin"
        path.write_bytes(b"\0" * (4 << 20))
        with Rom("esp32", path) as rom:
            words = ("--board", "esp32", "--port", rom.url, "--firmware", firmware("esp32"))
            assert run("flash", "press-7", *words, *erase)[0] == 0
            assert rom.erased_whole == len(erase)
        assert path.read_bytes()[:1] == left  # before the firmware of an ESP32


def with_firmware(path, chip, **wishes):
    """A flash in which MicroPython lies already."""
    flash = bytearray(b"\xff" * (4 << 20))
    image = firmware_files.espressif(chip, **wishes)
    base = firmware_files.BASES[chip]
    flash[base : base + len(image)] = image
    path.write_bytes(flash)
    return bytes(flash)


@pytest.mark.parametrize(
    "partitions", [firmware_files.OLD_4MB, firmware_files.NEW, firmware_files.ROMFS]
)
def test_files_alone_go_where_the_firmware_looks_for_them(site, run, tmp_path, partitions):
    path, board = tmp_path / "flash.bin", boards.load("esp32c3")
    before = with_firmware(path, "esp32c3", partitions=partitions)
    with Rom("esp32c3", path) as rom:
        status, said, _ = run("flash", "press-7", "--board", "esp32c3", "--port", rom.url)
    flash = path.read_bytes()
    assert status == 0 and "verified" in said
    assert flash[: board.vfs.offset] == before[: board.vfs.offset]
    assert "/main.py" in read_back(flash, board)


@pytest.mark.parametrize(
    "before, sentence",
    [
        ({}, "The board has no MicroPython yet"),
        (
            {"partitions": [*firmware_files.NEW, ("vfs", 1, 0x81, 0x210000, 0x1F0000)]},
            "keeps its files from 0x210000 to 0x400000",
        ),
    ],
)
def test_files_alone_never_go_anywhere_else(site, run, tmp_path, before, sentence):
    path = tmp_path / "flash.bin"
    path.write_bytes(b"\xff" * (4 << 20))
    if before:
        with_firmware(path, "esp32c3", **before)
    was = path.read_bytes()
    with Rom("esp32c3", path) as rom:
        words = ("--board", "esp32c3", "--port", rom.url)
        status, said, complaints = run("flash", "press-7", *words)
        assert rom.blocks == 0
    assert (status, said, len(complaints)) == (1, "", 1)
    assert sentence in complaints[0] and "nothing was written" in complaints[0]
    assert path.read_bytes() == was


@pytest.mark.parametrize("there", CHIPS)
@pytest.mark.parametrize("asked", CHIPS)
def test_another_chip_is_refused(there, asked, site, firmware, run, tmp_path):
    if there == asked:
        return
    path = tmp_path / "flash.bin"
    with Rom(there, path) as rom:
        words = ("--board", asked, "--port", rom.url, "--firmware", firmware(asked))
        status, said, complaints = run("flash", "press-7", *words)
        assert rom.blocks == 0 and rom.erased_whole == 0
    assert (status, said, len(complaints)) == (1, "", 1)
    real, other = (
        there.upper().replace("ESP32", "ESP32-"),
        asked.upper().replace("ESP32", "ESP32-"),
    )
    assert (
        f"is an {real.rstrip('-')}, and the board named has an {other.rstrip('-')}:"
        in (complaints[0])
    )
    assert "nothing was written" in complaints[0]
    assert set(path.read_bytes()) == {0xFF}


FAULTS = {
    "silent": (Faults(silent=True), "No chip answers at"),
    "a corrupt block": (Faults(corrupt={1}), "What lies in the board's flash is not what was"),
    "a corrupt block at the end": (Faults(corrupt={4}), "What lies in the board's flash is not"),
    "a bit that falls after the write": (Faults(rot=0x8100), "What lies in the board's flash"),
    "a block garbled for ever": (Faults(garbled={2, 3, 4}), "The line to the board at"),
    "the line drops at once": (Faults(drop=1), "The line to the board at"),
    "the line drops half-way": (Faults(drop=3), "The line to the board at"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_failure_is_one_sentence(name, site, firmware, run, tmp_path):
    faults, sentence = FAULTS[name]
    with Rom("esp32c3", tmp_path / "flash.bin", faults=faults) as rom:
        words = ("--board", "esp32c3", "--port", rom.url, "--firmware", firmware("esp32c3"))
        status, said, complaints = run("flash", "press-7", *words)
    assert (status, said, len(complaints)) == (1, "", 1)
    assert sentence in complaints[0] and complaints[0].endswith(".")
    if "line" in sentence:
        assert "written in part" in complaints[0]
    if "silent" in name:
        assert "nothing was written" in complaints[0]


def test_a_block_garbled_once_is_sent_again(site, firmware, run, tmp_path):
    path = tmp_path / "flash.bin"
    with Rom("esp32c3", path, faults=Faults(garbled={1, 3})) as rom:
        words = ("--board", "esp32c3", "--port", rom.url, "--firmware", firmware("esp32c3"))
        assert run("flash", "press-7", *words)[0] == 0
    assert "/main.py" in read_back(path.read_bytes(), boards.load("esp32c3"))


def test_a_file_that_covey_image_made(site, firmware, run, tmp_path):
    image, path, board = tmp_path / "it.bin", tmp_path / "flash.bin", boards.load("esp32")
    words = ("--board", "esp32", "--firmware", firmware("esp32"), "-o", image)
    assert run("image", "press-7", *words)[0] == 0
    with Rom("esp32", path) as rom:
        assert run("flash", image, "--board", "esp32", "--port", rom.url)[0] == 0
        octets = image.read_bytes()
        assert rom.flash[board.offset : board.offset + len(octets)] == octets
        assert run("image", "press-7", "--board", "esp32", "-o", image)[0] == 0
        assert run("flash", image, "--board", "esp32", "--port", rom.url)[0] == 0
        assert rom.flash[board.vfs.offset : board.vfs.end] == image.read_bytes()
        refused = run("flash", image, "--board", "esp32", "--port", rom.url, "--erase")
    assert refused[0] == 2 and "--erase takes MicroPython away" in refused[2][0]


@pytest.mark.parametrize(
    "content, words, sentence",
    [
        (None, [], "can't be read"),
        (b"", [], "it was cut short"),
        (b"<html>" * 99, [], "has no bootloader"),
        (firmware_files.espressif("esp32c6"), [], "is for esp32c6, and board esp32c3 has esp32c3"),
        (firmware_files.espressif(), ["--firmware", "x.bin"], "is an image already: leave --firm"),
        (firmware_files.espressif(), ["--erase", "--no-stub"], "can't erase all"),
    ],
)
def test_no_image(content, words, sentence, site, run, tmp_path):
    image = tmp_path / "it.bin"
    if content is not None:
        image.write_bytes(content)
    with Rom("esp32c3", tmp_path / "flash.bin") as rom:
        status, said, complaints = run(
            "flash", image, "--board", "esp32c3", "--port", rom.url, *words
        )
        assert rom.resets == 0
    assert (status, said, len(complaints)) == (2, "", 1) and sentence in complaints[0]


@pytest.mark.parametrize("command", ["flash", "install"])
def test_ports_that_will_not_do(command, site, run, tmp_path):
    def refused(port):
        status, said, complaints = run(command, "press-7", "--board", "esp32c3", "--port", port)
        assert (status, said, len(complaints)) == (1, "", 1)
        return complaints[0]

    assert "There is no port /dev/ttyNONE:" in refused("/dev/ttyNONE")
    assert "is no serial port:" in refused(tmp_path)
    assert "Nothing can be reached at socket://127.0.0.1:1." in refused("socket://127.0.0.1:1")
    assert "can't be opened" in refused("/dev/null")
    master, slave = pty.openpty()
    fcntl.flock(slave, fcntl.LOCK_EX)  # as every program does that has a port to itself
    assert "is in use: close whatever has it open" in refused(os.ttyname(slave))
    os.close(master)
    os.close(slave)


def test_flash_asks_for_a_port(site, run):
    status, _, complaints = run("flash", "press-7", "--board", "esp32c3")
    assert status == 2 and complaints[0].startswith("--port is needed: ")


def test_a_port_that_may_not_be_opened():
    refused = ports.refusal("/dev/ttyUSB0", "[Errno 13] could not open port: Permission denied")
    assert "add yourself to its group (sudo usermod -aG dialout $USER)" in refused.sentence


@pytest.fixture
def uf2(tmp_path):
    path = tmp_path / "pico.uf2"
    path.write_bytes(firmware_files.pico())
    return str(path)


class BootLoader:
    """The drive of a Pico: gone as soon as all blocks have come."""

    def __init__(self, drive, size):
        self.drive, self.size = drive, size
        self.got = None
        drive.mkdir()
        (drive / "INFO_UF2.TXT").write_text("UF2 Bootloader v3.0\nModel: Raspberry Pi RP2\n")
        self.thread = threading.Thread(target=self._take, daemon=True)
        self.thread.start()

    def _take(self):
        while self.got is None or len(self.got) < self.size:
            for path in self.drive.glob("*.uf2"):
                self.got = path.read_bytes()
        (self.drive / "INFO_UF2.TXT").unlink()


def test_a_pico_takes_a_copy(site, uf2, run, tmp_path):
    image = tmp_path / "it.uf2"
    words = ("--board", "rpi_pico_w", "--firmware", uf2)
    assert run("image", "press-7", *words, "-o", image)[0] == 0
    loader = BootLoader(tmp_path / "RPI-RP2", image.stat().st_size)
    status, said, _ = run("flash", image, "--board", "rpi_pico_w", "--port", tmp_path / "RPI-RP2")
    assert status == 0 and "the board has taken it" in said
    assert loader.got == image.read_bytes()


@pytest.mark.parametrize(
    "words, status, sentence",
    [
        (["press-7", "--firmware", "UF2", "--port", "DRIVE"], 2, "is no drive of a UF2 boot load"),
        (["press-7", "--port", "DRIVE"], 2, "takes firmware and files in one: give --firmware"),
        (["press-7", "--firmware", "UF2", "--erase"], 2, "are esptool's"),
        (["UF2-esp.uf2"], 2, "is no UF2 file"),
    ],
)
def test_a_pico_that_can_not(words, status, sentence, site, uf2, run, tmp_path):
    (tmp_path / "UF2-esp.uf2").write_bytes(firmware_files.espressif())
    known = {"UF2": uf2, "DRIVE": tmp_path, "UF2-esp.uf2": tmp_path / "UF2-esp.uf2"}
    found = run("flash", *(known.get(w, w) for w in words), "--board", "rpi_pico_w")
    assert (found[0], found[1], len(found[2])) == (status, "", 1)
    assert sentence in found[2][0]


def test_a_pico_without_its_drive(site, uf2, run, monkeypatch):
    monkeypatch.setattr("covey_host.board.flash._find_drive", lambda: None)
    words = ("--board", "rpi_pico_w", "--firmware", uf2)
    status, said, complaints = run("flash", "press-7", *words)
    assert (status, said) == (1, "") and "hold BOOTSEL while you plug" in complaints[0]


def test_a_problem_is_a_problem():
    with pytest.raises(Problem):
        ports.check("/dev/ttyNONE")
