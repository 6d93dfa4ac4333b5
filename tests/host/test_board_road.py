"""The whole road without a board: covey flash by real esptool into the stub of a chip, the file
system taken out of that flash, main.py booted from it, two boards of one group talking.

Only the code's architecture is that of this machine: no emulator of the chips is here.
"""

import json

import pytest

import firmware_files
from board_bench import WIFI, Board
from covey_host.board import boards
from espressif_rom import Rom
from site_bench import Bench

MEMBERS = {"press-7": ["--sender"], "valve-3": []}


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path / "site")
    (bench.root / "wifi.json").write_text(json.dumps(WIFI))
    yield bench
    bench.close()


@pytest.mark.parametrize("chip", ["esp32", "esp32c3"])  # an Xtensa, a RISC-V
def test_from_an_image_to_two_boards_that_talk(chip, bench, tmp_path):
    text = (boards.HOME / f"{chip}.toml").read_text()
    arch = boards.load(chip).arch
    settings = tmp_path / f"{chip}.toml"
    settings.write_text(text.replace(f'"{arch}"', '"x86"'))
    board = boards.load(str(settings))
    firmware = tmp_path / "firmware.bin"
    firmware.write_bytes(firmware_files.espressif(chip))
    bench.serve()
    running = {}
    for name, options in MEMBERS.items():
        bench.member(name, *options)
        with Rom(chip, tmp_path / f"{name}.bin") as rom:
            words = ["--board", settings, "--port", rom.url, "--firmware", firmware]
            assert f"Flashed {name} at " in bench.covey("flash", name, *words)
        flash = (tmp_path / f"{name}.bin").read_bytes()
        running[name] = boot(tmp_path / name, flash[board.vfs.offset : board.vfs.end])
    button, lamp = running["press-7"], running["valve-3"]
    try:
        for each in (button, lamp):
            each.air()
            each.power()
        for each in (button, lamp):
            each.says("covey: member")
        press(button, board, True)
        lamp.shows(board.pins["led"], 1)
        press(button, board, False)
        lamp.shows(board.pins["led"], 0)
    finally:
        for each in (button, lamp):
            each.close()
    said = "\n".join(button.lines + lamp.lines) + bench.said
    assert WIFI["password"] not in said and WIFI["ssid"] not in said


def boot(folder, octets):
    """A board with this file system in its flash."""
    made = Board(folder, {})
    (folder / "flash.bin").write_bytes(octets)
    return made


def press(button, board, is_pressed):
    part = button.world / "inputs.new"
    part.write_text(json.dumps({str(board.pins["button"]): 0 if is_pressed else 1}))
    part.replace(button.world / "inputs")
