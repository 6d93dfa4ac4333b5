"""`covey flash` and what goes wrong: one sentence, its status, and nowhere the word "Flashed".

Real esptool, against the boot ROM of each chip (tests/espressif_rom.py).
"""

import fcntl
import os
import pty

import pytest

import firmware_files
from covey_host.board import ports
from espressif_rom import CHIPS, Faults, Rom
from flash_bench import Desk, with_firmware


@pytest.fixture
def desk(tmp_path, capsys, monkeypatch):
    return Desk(tmp_path, capsys, monkeypatch)


@pytest.mark.parametrize(
    "before, sentence",
    [
        ({}, "The board has no MicroPython yet"),
        (
            {"partitions": [*firmware_files.NEW, ("vfs", 1, 0x81, 0x210000, 0x1F0000)]},
            "keeps its files from 0x210000 to 0x400000",
        ),
        (
            {"version": "v1.24.1"},
            "The board has MicroPython v1.24.1, and Covey needs 1.25 or later",
        ),
        ({"version": "elsewhere"}, "The board has no MicroPython yet"),
    ],
)
def test_files_alone_never_go_anywhere_else(desk, tmp_path, before, sentence):
    path = tmp_path / "flash.bin"
    path.write_bytes(b"\xff" * (4 << 20))
    if before:
        with_firmware(path, "esp32c3", **before)
    was = path.read_bytes()
    with Rom("esp32c3", path) as rom:
        words = ("--board", "esp32c3", "--port", rom.url)
        status, said, complaints = desk.run("flash", "press-7", *words)
        assert rom.blocks == 0
    assert (status, said, len(complaints)) == (1, "", 1)
    assert sentence in complaints[0] and "nothing was written" in complaints[0]
    assert path.read_bytes() == was


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("there", CHIPS)
def test_another_chip_is_refused(there, step, desk, tmp_path):
    names = list(CHIPS)
    asked = names[(names.index(there) + step) % len(names)]
    path = tmp_path / "flash.bin"
    with Rom(there, path) as rom:
        words = ("--board", asked, "--port", rom.url, "--firmware", desk.firmware(asked))
        status, said, complaints = desk.run("flash", "press-7", *words)
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
def test_a_failure_is_one_sentence(name, desk, tmp_path):
    faults, sentence = FAULTS[name]
    with Rom("esp32c3", tmp_path / "flash.bin", faults=faults) as rom:
        words = ("--board", "esp32c3", "--port", rom.url, "--firmware", desk.firmware("esp32c3"))
        status, said, complaints = desk.run("flash", "press-7", *words)
    assert (status, said, len(complaints)) == (1, "", 1)
    assert sentence in complaints[0] and complaints[0].endswith(".")
    if "line" in sentence:
        assert "written in part" in complaints[0]
    if "silent" in name:
        assert "nothing was written" in complaints[0]


@pytest.mark.parametrize(
    "content, words, sentence",
    [
        (None, [], "can't be read"),
        (b"", [], "it was cut short"),
        (b"<html>" * 99, [], "has no bootloader"),
        (firmware_files.espressif("esp32c6"), [], "is for esp32c6, and board esp32c3 has esp32c3"),
        (firmware_files.espressif(), ["--firmware", "x.bin"], "is an image already: leave --firm"),
        (firmware_files.espressif(), ["--no-constant-time"], "already: leave --no-constant-time"),
        (firmware_files.espressif(), ["--erase", "--no-stub"], "can't erase all"),
    ],
)
def test_no_image(content, words, sentence, desk, tmp_path):
    image = tmp_path / "it.bin"
    if content is not None:
        image.write_bytes(content)
    with Rom("esp32c3", tmp_path / "flash.bin") as rom:
        status, said, complaints = desk.run(
            "flash", image, "--board", "esp32c3", "--port", rom.url, *words
        )
        assert rom.resets == 0
    assert (status, said, len(complaints)) == (2, "", 1) and sentence in complaints[0]


@pytest.mark.parametrize("command", ["flash", "install"])
def test_ports_that_will_not_do(command, desk, tmp_path):
    def refused(port):
        status, said, complaints = desk.run(
            command, "press-7", "--board", "esp32c3", "--port", port
        )
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


def test_flash_asks_for_a_port(desk):
    status, _, complaints = desk.run("flash", "press-7", "--board", "esp32c3")
    assert status == 2 and complaints[0].startswith("--port is needed: ")


def test_a_port_that_may_not_be_opened():
    refused = ports.refusal("/dev/ttyUSB0", "[Errno 13] could not open port: Permission denied")
    assert "add yourself to its group (sudo usermod -aG dialout $USER)" in refused.sentence


@pytest.mark.parametrize(
    "words, status, sentence",
    [
        (["press-7", "--firmware", "UF2", "--port", "DRIVE"], 2, "is no drive of a UF2 boot load"),
        (["press-7", "--port", "DRIVE"], 2, "takes firmware and files in one: give --firmware"),
        (["press-7", "--firmware", "UF2", "--erase"], 2, "are esptool's"),
        (["press-7", "--firmware", "UF2", "--constant-time"], 2, "has no --constant-time"),
        (["UF2-esp.uf2"], 2, "is no UF2 file"),
    ],
)
def test_a_pico_that_can_not(words, status, sentence, desk, tmp_path):
    (tmp_path / "UF2-esp.uf2").write_bytes(firmware_files.espressif())
    known = {"UF2": desk.uf2(), "DRIVE": tmp_path, "UF2-esp.uf2": tmp_path / "UF2-esp.uf2"}
    found = desk.run("flash", *(known.get(w, w) for w in words), "--board", "rpi_pico_w")
    assert (found[0], found[1], len(found[2])) == (status, "", 1)
    assert sentence in found[2][0]


def test_a_pico_without_its_drive(desk, monkeypatch):
    monkeypatch.setattr("covey_host.board.flash._find_drive", lambda: None)
    words = ("--board", "rpi_pico_w", "--firmware", desk.uf2())
    status, said, complaints = desk.run("flash", "press-7", *words)
    assert (status, said) == (1, "") and "hold BOOTSEL while you plug" in complaints[0]
