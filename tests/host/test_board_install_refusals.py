"""`covey install` onto boards as they come: new ones, those of others, full ones, wrong ones."""

import dataclasses
import os
import pty
import shutil
import tty

import pytest

from covey_host import cli
from covey_host.board import boards, files, fit, members
from covey_host.board import line as lines
from covey_host.errors import Problem
from serial_line import Board
from serial_member import (
    BLOCKS,
    NEW,
    content,
    flash_with,
    put,
    said_at_start,
    without_seed,
)
from test_micropython import interpreter, without

STOCK_BOOT = b"# This file is executed on every boot\n#import esp\n\n#import webrepl\n"
RUNS_NEW = ["runs: new new new new new"]


@pytest.fixture(scope="module", autouse=True)
def micropython():
    wrapper, reason = interpreter("x86")
    if wrapper is None:
        without("x86", reason)


def test_a_new_board_cut_off_anywhere_runs_nothing_or_all(tmp_path):
    """MicroPython's own boot.py completes nothing, so ours comes first."""
    flash = flash_with(tmp_path / "flash.bin", {"/boot.py": STOCK_BOOT})
    stock = flash.read_bytes()
    board = Board(flash, BLOCKS)
    put(board, NEW)
    seen = set()
    for cable in range(7, board.passed, board.passed // 40):
        flash.write_bytes(stock)
        try:
            assert not put(Board(flash, BLOCKS, cable=cable), NEW).is_restarted
        except Problem:
            pass
        said = said_at_start(flash)
        assert said in ([], RUNS_NEW)
        put(Board(flash, BLOCKS), NEW)
        assert content(flash)[0] == without_seed(NEW)
        seen.add(len(said))
    assert seen == {0, 1}


@pytest.mark.parametrize(
    "theirs, name",
    [
        ({"/main.py": b"print('mine')\n"}, "main.py"),
        ({"/boot.py": b"import esp\nesp.osdebug(None)\n"}, "boot.py"),
    ],
)
def test_nobodys_program_is_lost_unasked(tmp_path, theirs, name):
    flash = flash_with(tmp_path / "flash.bin", theirs)
    with pytest.raises(Problem, match=f"has a {name} that is not Covey's.*nothing was changed"):
        put(Board(flash, BLOCKS), NEW)
    assert content(flash)[0] == theirs
    put(Board(flash, BLOCKS), NEW, may_replace=True)
    assert content(flash)[0] == without_seed(NEW)


def test_code_in_romfs_is_not_shadowed(tmp_path):
    theirs = {"/rom/covey/__init__.mpy": b"M"}
    flash = flash_with(tmp_path / "flash.bin", theirs)
    with pytest.raises(Problem, match="runs Covey from ROMFS.*nothing was changed"):
        put(Board(flash, BLOCKS), NEW)
    assert content(flash)[0] == theirs


def test_what_is_no_member_stays(tmp_path):
    mine = {"/log.txt": b"42\n", "/lib/sensor.py": b"", "/wifi.json": b"{}"}
    flash = flash_with(tmp_path / "flash.bin", mine)
    put(Board(flash, BLOCKS), NEW)
    assert content(flash)[0] == without_seed(NEW) | mine


def test_a_full_board_is_left_as_it_is(tmp_path):
    theirs = {"/log.txt": bytes(range(256)) * 16 * 46}
    flash = flash_with(tmp_path / "flash.bin", theirs)
    with pytest.raises(Problem, match=r"has \d+ KB left, and \d+ KB are needed.*nothing was ch"):
        put(Board(flash, BLOCKS), NEW)
    assert content(flash)[0] == theirs


def test_a_board_without_space_says_so_at_whatever_moment(tmp_path, monkeypatch):
    """Where the reckoning was too low: the file system ends in the middle."""
    monkeypatch.setattr("covey_host.board.install._SPARE_BLOCKS", -99)
    theirs = {"/log.txt": bytes(range(256)) * 16 * 57}
    flash = flash_with(tmp_path / "flash.bin", theirs)
    with pytest.raises(Problem, match="its file system is full; the member on it is as it was"):
        put(Board(flash, BLOCKS), NEW)
    assert said_at_start(flash) == []


def test_code_of_another_architecture_is_refused(tmp_path):
    flash = flash_with(tmp_path / "flash.bin", {})
    other = {path: data for path, data in NEW.items() if not path.endswith(".mpy")}
    other |= {
        path: b"M\x06\x2e\x1f" + data[4:] for path, data in NEW.items() if path.endswith(".mpy")
    }
    with pytest.raises(Problem, match="can't run on this board .*nothing was changed"):
        put(Board(flash, BLOCKS), other)
    assert content(flash)[0] == {}


def running(**changes):
    known = fit.Running(
        (1, 25, 0), 6 | 3 << 8 | 11 << 10, "Generic ESP32C3 module with ESP32C3", ""
    )
    return dataclasses.replace(known, **changes)


NATIVE = {"/lib/a.mpy": b"M\x06" + bytes([11 << 2 | 3]) + b"\x1f"}
BYTECODE = {"/lib/a.mpy": b"M\x06\x00\x1f"}


@pytest.mark.parametrize(
    "there, wanted, sentence",
    [
        (running(version=(1, 24, 1)), BYTECODE, "and Covey needs 1.25"),
        (running(mpy=6 | 3 << 8 | 10 << 10), NATIVE, "can't run on this board"),
        (running(mpy=6 | 2 << 8 | 11 << 10), NATIVE, "can't run on this board"),
        (running(mpy=7 | 11 << 10), BYTECODE, "can't run on this board"),
        (running(machine="ESP32C6 module with ESP32C6"), NATIVE, "has an ESP32C3, and this is"),
    ],
)
def test_what_does_not_fit(there, wanted, sentence):
    with pytest.raises(Problem, match=sentence):
        fit.check(there, boards.load("esp32c3"), wanted)


def test_what_fits():
    board = boards.load("esp32c3")
    fit.check(running(), board, NATIVE | BYTECODE)
    fit.check(running(mpy=6 | 2 << 8 | 11 << 10), board, BYTECODE)
    fit.check(running(machine="ESP32C3 module with ESP32-C3"), board, NATIVE)
    pico = running(mpy=6 | 3 << 8 | 4 << 10, machine="Raspberry Pi Pico W with RP2040")
    fit.check(pico, boards.load("rpi_pico_w"), {"/a.mpy": b"M\x06" + bytes([4 << 2 | 3])})


def test_a_board_says_which_one_it_is():
    assert fit.guess(running()).id == "esp32c3"
    assert fit.guess(running(build="ESP32_GENERIC_S3")).id == "esp32s3"
    with pytest.raises(Problem, match="say with --board"):
        fit.guess(running(machine="linux [GCC 14.2.0] version"))


def test_a_silent_port(monkeypatch):
    """What is there says nothing, and echoes nothing."""
    monkeypatch.setattr(lines, "_READ_S", 0.2)
    master, slave = pty.openpty()
    tty.setraw(slave)
    with (
        pytest.raises(Problem, match="No MicroPython answers at /dev/pts/"),
        lines.Line(os.ttyname(slave)),
    ):
        pass
    os.close(master)
    os.close(slave)


def test_the_command_brings_a_whole_member(tmp_path, capsys, monkeypatch):
    """All of lib/covey that a member needs, and a desktop's architecture as its board file's."""
    site = tmp_path / "plant"
    monkeypatch.setenv("COVEY_SITE", str(site))
    for words in (
        ["init", str(site)],
        ["group", "add", "line1", "--address", "239.192.1.32", "--port", "2222"],
        ["member", "add", "press-7", "--group", "line1", "--server", "192.0.2.1"],
        ["member", "add", "valve-3", "--group", "line1", "--server", "192.0.2.1"],
    ):
        assert cli._run(words) == 0
    there = tmp_path / "desk.toml"
    text = (boards.HOME / "esp32.toml").read_text().replace('"xtensawin"', '"x86"')
    there.write_text(text)
    main = tmp_path / "main.py"
    main.write_text("import covey.aio\nprint('runs:', covey.aio.join)\n")
    flash, blocks = tmp_path / "flash.bin", 512
    said = []
    for name in ("press-7", "press-7", "valve-3"):
        board = Board(flash, blocks)
        capsys.readouterr()
        words = ["--board", str(there), "--port", board.port, "--main", str(main)]
        assert cli._run(["install", name, *words]) == 0
        board.power_off()
        said.append(capsys.readouterr())
        wanted = files.files(members.load(site, name), boards.load(str(there)), main)
        assert content(flash, blocks)[0] == without_seed(wanted)
    assert "Traceback" not in "".join(s.err for s in said)
    count = len(wanted)
    assert f"{count} of its {count} files sent" in said[0].out
    assert f"its {count - 1} files were there already; it starts." in said[1].out
    assert f"3 of its {count - 1} files sent" in said[2].out  # covey.json, psk, and main.py anew
    key = (site / "members" / "valve-3" / "psk").read_text().strip()
    assert key not in "".join(s.out + s.err for s in said)
    assert said_at_start(flash, blocks)[0].startswith("runs: <")
    shutil.rmtree(site)
