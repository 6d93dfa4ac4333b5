"""`covey flash`: real esptool against the boot ROM of each chip (tests/espressif_rom.py).

The flash that comes of it is mounted again, by littlefs-python and by real MicroPython.
"""

import hashlib
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from littlefs import LittleFS

import firmware_files
from covey_host.board import boards, bring, files, members
from espressif_rom import CHIPS, Faults, Rom
from flash_bench import Desk, partitions_of, read_back, with_firmware
from test_micropython import interpreter, without

MOUNT = Path(__file__).parents[1] / "mount_script.py"


@pytest.fixture
def desk(tmp_path, capsys, monkeypatch):
    return Desk(tmp_path, capsys, monkeypatch)


def read_back_by_micropython(path, board):
    """{path: SHA-256} of the same, as a board mounts it."""
    wrapper, reason = interpreter("x86")
    if wrapper is None:
        without("x86", reason)
    place = (board.vfs.offset, board.vfs.size, board.program, "lfs2")
    words = [wrapper, "-X", "heapsize=16m", MOUNT, path, *place]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    return {path.removeprefix("/board"): digest for path, _, digest in rows}


@pytest.mark.parametrize(
    "chip, way", [*((chip, []) for chip in CHIPS), ("esp32c3", ["--no-stub"])], ids=str
)
def test_an_image_is_in_the_flash_and_mounts(chip, way, desk, tmp_path):
    board, path = boards.load(chip), tmp_path / "flash.bin"
    partitions = partitions_of(chip)
    path.write_bytes(b"\0" * board.flash_size)  # what is not erased can't be written
    with Rom(chip, path) as rom:
        status, said, complaints = desk.run(
            *("flash", "press-7", "--board", chip, "--port", rom.url, *way),
            *("--firmware", desk.firmware(chip)),
        )
        assert (status, complaints) == (0, []) and said.startswith("Flashed press-7 at socket://")
        assert rom.resets == 3  # to look, to write, to verify
    flash = path.read_bytes()
    image = firmware_files.espressif(chip, partitions=partitions)
    assert flash[board.offset : board.offset + len(image)] == image
    member = members.load(desk.site, "press-7")
    wanted = files.files(member, board)
    found = read_back(flash, board)
    seed = found.pop("/seed")
    assert len(seed) == 32 and seed != wanted.pop("/seed")  # a fresh one each time
    assert found == wanted
    found["/seed"] = seed
    digests = {path: hashlib.sha256(data).hexdigest() for path, data in found.items()}
    assert read_back_by_micropython(path, board) == digests


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


def test_secrets_lie_in_private_files_while_it_works_and_are_gone_then(desk, tmp_path):
    folder, seen = desk.site / "members" / "press-7", []
    with Rom("esp32c3", tmp_path / "flash.bin") as rom:

        def watch():
            for path in folder.glob(".flash-*"):
                seen.append(stat.S_IMODE(path.stat().st_mode))
                seen.extend(stat.S_IMODE(p.stat().st_mode) for p in path.iterdir())

        rom.watch = watch
        words = ("--board", "esp32c3", "--port", rom.url, "--firmware", desk.firmware("esp32c3"))
        assert desk.run("flash", "press-7", *words)[0] == 0
    assert set(seen) == {0o700, 0o600}
    assert not list(folder.glob(".flash-*"))


def test_erase_leaves_nothing_old(desk, tmp_path):
    for erase, left in (([], b"\0"), (["--erase"], b"\xff")):
        path = tmp_path / "flash.bin"
        path.write_bytes(b"\0" * (4 << 20))
        with Rom("esp32", path) as rom:
            words = ("--board", "esp32", "--port", rom.url, "--firmware", desk.firmware("esp32"))
            assert desk.run("flash", "press-7", *words, *erase)[0] == 0
            assert rom.erased_whole == len(erase)
        assert path.read_bytes()[:1] == left  # before the firmware of an ESP32


@pytest.mark.parametrize(
    "partitions", [firmware_files.OLD_4MB, firmware_files.NEW, firmware_files.ROMFS]
)
def test_files_alone_go_where_the_firmware_looks_for_them(desk, tmp_path, partitions):
    path, board = tmp_path / "flash.bin", boards.load("esp32c3")
    before = with_firmware(path, "esp32c3", partitions=partitions)
    with Rom("esp32c3", path) as rom:
        status, said, _ = desk.run("flash", "press-7", "--board", "esp32c3", "--port", rom.url)
    flash = path.read_bytes()
    assert status == 0 and "verified" in said
    assert flash[: board.vfs.offset] == before[: board.vfs.offset]
    assert "/main.py" in read_back(flash, board)


def test_a_block_garbled_once_is_sent_again(desk, tmp_path):
    path = tmp_path / "flash.bin"
    with Rom("esp32c3", path, faults=Faults(garbled={1, 3})) as rom:
        words = ("--board", "esp32c3", "--port", rom.url, "--firmware", desk.firmware("esp32c3"))
        assert desk.run("flash", "press-7", *words)[0] == 0
    assert "/main.py" in read_back(path.read_bytes(), boards.load("esp32c3"))


def test_code_in_romfs_takes_no_heap_that_it_warns_of(desk, tmp_path, monkeypatch):
    path = tmp_path / "firmware.bin"
    path.write_bytes(firmware_files.espressif("esp32c3", partitions=firmware_files.ROMFS))
    words = ("press-7", "--board", "esp32c3", "--firmware", path, "--romfs")
    asked = []
    monkeypatch.setattr(bring.need, "warnings", lambda *_, romfs=False: asked.append(romfs) or [])
    with Rom("esp32c3", tmp_path / "flash.bin") as rom:
        assert desk.run("flash", *words, "--port", rom.url)[0] == 0
    assert asked == [True]


def test_a_file_that_covey_image_made_under_another_name(desk, tmp_path):
    image = tmp_path / "press-7.image"
    words = ("--board", "esp32", "--firmware", desk.firmware("esp32"), "-o", image)
    assert desk.run("image", "press-7", *words)[0] == 0
    with Rom("esp32", tmp_path / "flash.bin") as rom:
        assert desk.run("flash", image, "--board", "esp32", "--port", rom.url)[0] == 0


def test_a_file_that_covey_image_made(desk, tmp_path):
    image, path, board = tmp_path / "it.bin", tmp_path / "flash.bin", boards.load("esp32")
    words = ("--board", "esp32", "--firmware", desk.firmware("esp32"), "-o", image)
    assert desk.run("image", "press-7", *words)[0] == 0
    with Rom("esp32", path) as rom:
        assert desk.run("flash", image, "--board", "esp32", "--port", rom.url)[0] == 0
        octets = image.read_bytes()
        assert rom.flash[board.offset : board.offset + len(octets)] == octets
        assert desk.run("image", "press-7", "--board", "esp32", "-o", image)[0] == 0
        assert desk.run("flash", image, "--board", "esp32", "--port", rom.url)[0] == 0
        assert rom.flash[board.vfs.offset : board.vfs.end] == image.read_bytes()
        refused = desk.run("flash", image, "--board", "esp32", "--port", rom.url, "--erase")
    assert refused[0] == 2 and "--erase takes MicroPython away" in refused[2][0]


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


def test_a_pico_takes_a_copy(desk, tmp_path):
    image = tmp_path / "it.uf2"
    words = ("--board", "rpi_pico_w", "--firmware", desk.uf2())
    assert desk.run("image", "press-7", *words, "-o", image)[0] == 0
    loader = BootLoader(tmp_path / "RPI-RP2", image.stat().st_size)
    status, said, _ = desk.run(
        "flash", image, "--board", "rpi_pico_w", "--port", tmp_path / "RPI-RP2"
    )
    assert status == 0 and "the board has taken it" in said
    assert loader.got == image.read_bytes()
