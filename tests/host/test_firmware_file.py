"""Firmware files: what is read out of one, and each that does not fit is refused."""

import struct
import subprocess
import sys
import time

import pytest

import firmware_files as made
from covey_host.board import boards, firmware, uf2
from covey_host.board.boards import Region
from covey_host.errors import MISUSE, Problem

ESPRESSIF = ["esp32", "esp32s2", "esp32s3", "esp32c3", "esp32c6"]
VFS_4MB = Region(0x200000, 0x200000)


@pytest.fixture
def read(tmp_path):
    """Reads octets as the firmware of a board: what was found, or the Problem's sentence."""

    def one(octets, board="esp32c3", **changes):
        path = tmp_path / "firmware.bin"
        path.write_bytes(octets)
        loaded = boards.load(board)
        for name, value in changes.items():
            object.__setattr__(loaded, name, value)
        try:
            return firmware.read(path, loaded)
        except Problem as problem:
            assert problem.status == MISUSE
            assert problem.sentence.startswith(str(path)) and problem.sentence.endswith(".")
            return problem.sentence.removeprefix(f"{path} ")

    return one


@pytest.mark.parametrize("chip", ESPRESSIF)
def test_what_these_tests_make_is_valid_to_esptool(chip, tmp_path):
    for octets in (made.espressif(chip), made.application(chip)):
        path = tmp_path / "file.bin"
        path.write_bytes(octets)
        command = [sys.executable, "-m", "esptool", "image-info", str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + done.stdout
        assert f"Detected image type: {chip.upper()[:5]}" in done.stdout
        assert done.stdout.count("(valid)") == 2, done.stdout


@pytest.mark.parametrize("chip", ESPRESSIF)
def test_a_release_before_1_26_has_the_file_system_in_its_table(chip, read):
    partitions = made.OLD_8MB if chip == "esp32s3" else made.OLD_4MB
    octets = made.espressif(chip, "v1.25.0", f"Generic module with {chip}", partitions)
    found = read(octets, chip)
    assert (found.version, found.machine) == ("v1.25.0", f"Generic module with {chip}")
    assert found.offset == made.BASES[chip]
    assert found.data == octets
    assert found.vfs == boards.load(chip).vfs and found.romfs is None
    assert found.notes == ()


@pytest.mark.parametrize("version", ["v1.26.0", "v1.28.0", "v1.29.0-preview.312.gabcdef012"])
def test_a_later_one_takes_what_is_left_of_the_flash(version, read):
    found = read(made.espressif("esp32c6", version, partitions=made.NEW), "esp32c6")
    assert found.version == version and found.vfs == VFS_4MB and found.notes == ()


def test_the_firmwares_own_place_counts_and_is_told(read):
    table = [made.NVS, made.PHY, made.FACTORY, ("vfs", 1, 0x81, 0x300000, 0x100000)]
    found = read(made.espressif(partitions=table))
    assert found.vfs == Region(0x300000, 0x100000)
    assert len(found.notes) == 1 and "0x300000" in found.notes[0]


def test_octets_behind_the_application_are_not_kept(read):
    octets = made.espressif()
    assert read(octets + b"old secrets").data == octets


def test_a_dump_of_the_flash_from_0_on_is_taken_too(read):
    octets = made.espressif("esp32")
    found = read(b"\xff" * 0x1000 + octets, "esp32")
    assert found.data == octets and found.offset == 0x1000


def test_romfs_is_seen_in_the_table(read):
    found = read(made.espressif("esp32", "v1.27.0", partitions=made.ROMFS), "esp32")
    assert found.romfs == Region(0x1E0000, 0x20000)
    assert found.vfs == VFS_4MB


@pytest.mark.parametrize("version", ["v1.24.1", "v1.19", "v1.16-237-g1613dc8a1-dirty", "v0.9"])
def test_too_old(version, read):
    said = read(made.espressif(version=version))
    assert said == f"is MicroPython {version}, which can't load our code: take 1.25 or later."


def test_newer_than_we_know_is_a_note(read):
    (note,) = read(made.espressif(version="v1.31.0")).notes
    assert "v1.31.0 is newer" in note
    assert read(made.espressif(version="v2.0.0", partitions=made.NEW)).notes


@pytest.mark.parametrize("chip", ESPRESSIF)
@pytest.mark.parametrize("board", ESPRESSIF)
def test_wrong_chip(chip, board, read):
    if chip == board:
        return
    said = read(made.espressif(chip), board)
    wanted = boards.load(board)
    assert said == (
        f"is for {chip}, and board {board} has {board}: take the firmware that MicroPython calls"
        f" {wanted.firmware}."
    )


def test_parts_for_two_chips(read):
    assert "bootloader for esp32c3 and an application for esp32c6" in read(
        made.espressif("esp32c3", app_chip="esp32c6")
    )


def test_chips_that_have_no_board_file(read):
    for number, name in ((16, "esp32h2"), (99, r"id 99")):
        made.CHIP_IDS["esp32c3"], kept = number, made.CHIP_IDS["esp32c3"]
        try:
            octets = made.espressif("esp32c3")
        finally:
            made.CHIP_IDS["esp32c3"] = kept
        said = read(octets)
        assert said.startswith("is for ") and name in said


def test_the_application_alone(read):
    assert read(made.application("esp32c3")).startswith("holds the application alone")


@pytest.mark.parametrize("kept", [1, 23, 24, 40, 0x1000, 0x7FFF, 0x8010, 0xFFFF, 0x10020, -1])
def test_cut_short(kept, read):
    said = read(made.espressif()[:kept])
    assert "cut short" in said, said


@pytest.mark.parametrize(
    "at, what", [(0x100, "bootloader"), (0x8004, "partition table"), (0x10200, "application")]
)
def test_a_flipped_bit(at, what, read):
    octets = bytearray(made.espressif())
    octets[at] ^= 1
    assert read(octets).startswith(f"is damaged: the checksum of its {what}")


def test_without_a_hash_the_checksum_tells(read):
    whole = made.espressif()
    plain = made.image("esp32c3", whole[0x10020:-48], has_hash=False)
    octets = bytearray(whole[:0x10000] + plain)
    assert read(octets).version == "v1.25.0"
    octets[0x10200] ^= 1
    assert read(octets).startswith("is damaged: the checksum of its application")


@pytest.mark.parametrize(
    "octets, said",
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"PK\3\4" + bytes(100), "archive"),
        (b"\x7fELF" + bytes(4096), "has no bootloader of an Espressif chip"),
        (bytes(0x20000), "has no bootloader of an Espressif chip"),
        (b"\xff" * 0x20000, "has no bootloader of an Espressif chip"),
        (uf2.emit({0x10000000: bytes(512)}, 1), "is a UF2 file"),
    ],
)
def test_no_firmware_at_all(octets, said, read):
    assert said in read(octets)


def test_no_partition_table(read):
    octets = bytearray(made.espressif())
    octets[0x8000:0x8C00] = b"\xff" * 0xC00
    assert read(octets).startswith("has no partition table")


def test_no_application_partition(read):
    octets = bytearray(made.espressif())
    octets[0x8000:0x8C00] = made.table([made.NVS])
    assert read(octets).startswith("has no application in")


def test_another_program(read):
    octets = made.espressif()
    program = octets[0x10020:-48].replace(b"MicroPython ", b"SomeOtherPy ")
    assert "no MicroPython" in read(octets[:0x10000] + made.image("esp32c3", program))


def test_a_fat_file_system(read):
    table = [made.NVS, made.PHY, made.FACTORY, ("ffat", 1, 0x81, 0x200000, 0x200000)]
    assert "FAT" in read(made.espressif(partitions=table))


def test_a_file_system_behind_the_end_of_the_flash(read):
    said = read(made.espressif("esp32c3", partitions=made.OLD_8MB))
    assert "0x800000" in said and "--flash-size" in said
    assert "0x200000 to 0x200000" in read(
        made.espressif("esp32c3", "v1.27.0", partitions=made.NEW), flash_size=0x200000
    )


def test_a_file_system_over_the_application(read):
    table = [made.NVS, made.PHY, made.FACTORY, ("vfs", 1, 0x81, 0x20000, 0x200000)]
    assert "overlaps" in read(made.espressif(partitions=table))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(Problem, match="can't be read: No such file"):
        firmware.read(tmp_path / "none.bin", boards.load("esp32"))
    with pytest.raises(Problem, match="can't be read: Is a directory"):
        firmware.read(tmp_path, boards.load("esp32"))


# The Pico


def test_pico(read):
    found = read(made.pico("v1.27.0"), "rpi_pico_w")
    assert (found.version, found.machine) == ("v1.27.0", "Raspberry Pi Pico W with RP2040")
    assert found.vfs == boards.load("rpi_pico_w").vfs and found.romfs is None
    assert found.notes == () and found.offset == 0


def test_pico_with_romfs(read):
    devices = ("MicroPython", 0x12C000, 0xD4000), ("ROMFS", 0x10C000, 0x20000)
    assert read(made.pico(devices=devices), "rpi_pico_w").romfs == Region(0x10C000, 0x20000)


def test_pico_that_says_nothing_of_its_file_system(read):
    found = read(made.pico(devices=None), "rpi_pico_w")
    assert found.vfs == boards.load("rpi_pico_w").vfs and "as the board file" in found.notes[0]


def test_pico_that_does_not_fit(read):
    octets = made.pico()
    assert "another chip (family 0xe48bff59)" in read(made.pico(family=0xE48BFF59), "rpi_pico_w")
    assert "v1.24.0" in read(made.pico("v1.24.0"), "rpi_pico_w")
    assert "within a block" in read(octets[:-1], "rpi_pico_w")
    assert "lacks blocks" in read(octets[:-512], "rpi_pico_w")
    assert "lacks blocks" in read(octets[512:], "rpi_pico_w")
    assert "is no UF2" in read(made.espressif("esp32c3"), "rpi_pico_w")
    broken = bytearray(octets)
    broken[512 * 3 + 508] ^= 1
    assert "block 3" in read(broken, "rpi_pico_w")


def test_uf2_is_read_as_it_is_written():
    parts = {0x10000000: bytes(range(256)) * 2, 0x10001000: b"end".ljust(256, b"\0")}
    program = uf2.parse(uf2.emit(parts, 0xE48BFF56))
    assert program.base == 0x10000000 and program.family == 0xE48BFF56
    assert program.data[:512] == parts[0x10000000]
    assert program.data[512:0x1000] == b"\xff" * (0x1000 - 512)
    assert program.data[0x1000:] == parts[0x10001000]


def test_uf2_that_is_spread_over_all_addresses(read):
    """Found by fuzzing: two blocks of 512 octets made a gigabyte."""
    blocks = uf2.emit({0x10000000: bytes(256), 0x50000000: bytes(256)}, 0xE48BFF56)
    assert "further apart" in read(blocks, "rpi_pico_w")


def test_binary_info_without_end():
    """Found by fuzzing: a table of four gigabytes of pointers was walked through."""
    info = struct.pack("<5I", 0x7188EBF2, 0, 0xFFFFFFFF, 0, 0xE71AA390)
    began = time.monotonic()
    program = uf2.parse(uf2.emit({0x10000000: info + bytes(1024)}, 0xE48BFF56))
    assert uf2.block_devices(program) == {}
    assert time.monotonic() - began < 5
