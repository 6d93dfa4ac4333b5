"""covey image: what MicroPython finds in it when it mounts it, octet by octet; and all refusals.

Firmware files are made by tests/firmware_files.py: no real one can be had here.
"""

# ruff: noqa: F811  fixtures are imported by name
import hashlib
import json
import os
import re
import resource
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

import firmware_files as made
from covey_host.board import boards, files, image, members
from covey_host.board.boards import Region
from covey_host.errors import Problem
from image_bench import (  # noqa: F401  fixtures among them
    BOARDS,
    SECRET,
    covey,
    digests,
    firmware_of,
    flash_of,
    member,
    mount,
    site,
)
from processes import ROOT
from test_micropython import BUILD

# What is in it


@pytest.mark.parametrize("name", BOARDS)
def test_micropython_mounts_it_and_finds_each_file(name, member, tmp_path):
    board = boards.load(name)
    firmware = firmware_of(name, tmp_path)
    built = image.build(member, board, firmware)
    flash = flash_of(built.octets, board)
    assert built.vfs == board.vfs
    expected = files.files(member, board)
    assert mount(flash, board.vfs, board.program, tmp_path) == digests(expected)
    # The oldest format of LittleFS 2, whatever MicroPython's own would take: SPEC.md, superblock.
    superblock = flash[board.vfs.offset :]
    assert (superblock[8:16], superblock[20:24]) == (b"littlefs", b"\0\0\2\0")
    assert flash[board.offset :].startswith(built.firmware.data)
    if board.format == boards.BIN:
        assert built.octets.startswith(firmware.read_bytes())
        assert built.offset == board.offset
        assert len(built.octets) == board.vfs.end - board.offset


def test_the_files(member, site):
    board = boards.load("esp32c3")
    found = files.files(member, board)
    assert list(found) == sorted(found)
    folder = site / "members" / "press-7"
    assert found["/psk"] == (folder / "psk").read_bytes()
    assert found["/seed"] == (folder / "seed").read_bytes() and len(found["/seed"]) == 32
    assert found["/wifi.json"] == (site / "wifi.json").read_bytes()
    assert found["/main.py"] == (ROOT / "firmware" / "main.py").read_bytes()
    assert found["/boot.py"] == (ROOT / "firmware" / "boot.py").read_bytes()
    fields = json.loads((folder / "covey.json").read_text())
    assert json.loads(found["/covey.json"]) == {**fields, "limits": board.limits}
    assert json.loads(found["/board.json"]) == {"name": "esp32c3", **board.pins}
    assert {"/lib/covey/aio.mpy", "/lib/covey/stack.mpy"} < set(found)
    assert "/lib/covey/port/mpy.mpy" not in found, "it is in stack.mpy"
    others = set(found) - {path for path in found if path.startswith("/lib/")}
    assert len(others) == 7


def test_limits_of_the_member_come_before_the_boards(member):
    board = boards.load("esp32s2")
    member.fields["limits"] = {"sas": 3}
    found = json.loads(files.files(member, board)["/covey.json"])
    assert found["limits"] == {"sas": 3, "senders": 16, "payload": 512}


def test_wifi_of_the_member_comes_before_the_sites(site):
    own = site / "members" / "valve-3" / "wifi.json"
    own.write_text('{"ssid": "hall 2", "password": ""}')
    try:
        assert members.load(site, "valve-3").wifi == own.read_bytes()
    finally:
        own.unlink()
    assert members.load(site, "valve-3").wifi == (site / "wifi.json").read_bytes()


def test_a_member_by_its_folder_without_a_site(site, tmp_path):
    shutil.copytree(site / "members" / "press-7", tmp_path / "members" / "press-7")
    for path in ("members/press-7", "members/press-7/covey.json"):
        found = members.load(None, str(tmp_path / path))
        assert found.name == "press-7" and found.policy is None and found.wifi is None


def test_a_member_that_was_removed_gets_no_image(site):
    add = ("member", "add", "gone", "--group", "line1", "--server", "192.0.2.1", "--site", site)
    assert covey(*add).returncode == 0
    assert covey("image", "gone", "--board", "esp32", "--site", site).returncode == 0
    assert covey("member", "remove", "gone", "--site", site).returncode == 0
    for name in ("gone", site / "members" / "gone"):
        done = covey("image", name, "--board", "esp32", "--site", site)
        assert done.returncode == 2 and done.stderr.startswith("gone is no member of this site")


def test_a_folder_in_a_site_knows_its_site(site, monkeypatch):
    """As the shell completes it: the same image as by the name."""
    monkeypatch.chdir(site)
    for path in ("members/press-7", "members/press-7/", "members/press-7/covey.json"):
        assert members.load(None, path).wifi == (site / "wifi.json").read_bytes()
        assert members.load(None, path).policy == members.load(site, "press-7").policy


# The same input, the same octets


@pytest.mark.parametrize("name", ["esp32", "esp32c3", "rpi_pico_w"])
def test_reproducible(name, site, tmp_path):
    firmware = firmware_of(name, tmp_path)
    seen = []
    for number in range(2):  # in processes of their own, where dicts and sets fall out otherwise
        path = tmp_path / f"{number}.out"
        words = ("--board", name, "--firmware", firmware, "-o", path, "--site", site)
        done = covey("image", "press-7", *words)
        assert done.returncode == 0, done.stderr
        seen.append(path.read_bytes())
        assert re.search(r"^SHA-256: (\w+)$", done.stdout, re.M)[1] == _sha256(seen[-1])
    assert seen[0] == seen[1]


def _sha256(octets):
    return hashlib.sha256(octets).hexdigest()


def test_another_key_gives_another_image(site, member):
    board = boards.load("esp32c3")
    other = image.build(members.load(site, "valve-3"), board)
    assert image.build(member, board).octets != other.octets


# The command


def test_without_a_firmware(site, tmp_path):
    done = covey("image", "press-7", "--board", "esp32c3", "--site", site)
    assert done.returncode == 0, done.stderr
    path = site / "members" / "press-7" / "press-7-esp32c3-files.bin"
    assert path.stat().st_size == 0x200000
    assert f"covey flash {path} --board esp32c3" in done.stdout
    assert "covey install press-7" in done.stdout
    expected = digests(files.files(members.load(site, "press-7"), boards.load("esp32c3")))
    assert mount(path.read_bytes(), Region(0, 0x200000), 32, tmp_path) == expected


def test_what_it_says(site, tmp_path):
    firmware = firmware_of("esp32c3", tmp_path)
    where = ("--site", site, "--firmware", firmware)
    done = covey("image", "press-7", "--board", "esp32c3", *where)
    path = site / "members" / "press-7" / "press-7-esp32c3.bin"
    assert done.stdout.splitlines()[-1] == f"Next: covey flash {path} --board esp32c3 --port PORT"
    assert f"Wrote {path} ({path.stat().st_size} octets)" in done.stdout
    assert "Firmware: MicroPython v1.28.0, ESP32-C3 module with ESP32C3." in done.stdout
    assert "Left out: covey/cip.py: nothing that main.py loads leads to it." in done.stdout
    done = covey("image", "press-7", "--board", "esp32c3", "--json", *where)
    facts = json.loads(done.stdout)
    assert facts["sha256"] == _sha256(path.read_bytes())
    assert (facts["firmware"], facts["offset"], facts["vfs"]) == ("v1.28.0", 0, 0x200000)
    assert facts["octets"] == path.stat().st_size and 0 < facts["vfs_used"] < facts["vfs"]
    done = covey("image", "press-7", "--board", "rpi_pico_w", "--site", site)
    assert "hold BOOTSEL" in done.stdout.splitlines()[-1]


def test_what_it_says_of_constant_time(site, tmp_path):
    out = tmp_path / "out.bin"
    words = ("image", "press-7", "--board", "esp32s3", "--site", site, "-o", out)
    usual = covey(*words)
    assert "Constant time" not in usual.stdout and "Board esp32s3 may have PSRAM" in usual.stderr
    chosen = covey(*words, "--constant-time")
    assert "takes some three times as long" in chosen.stdout and "PSRAM" not in chosen.stderr
    assert "Left out: covey/port/mpy_ghash.py: the board is to take constant" in chosen.stdout
    own = tmp_path / "own.toml"
    own.write_text("constant_time = true\n" + (boards.HOME / "esp32s3.toml").read_text())
    for options, is_chosen in (((), True), (("--no-constant-time",), False)):
        done = covey(*words, "--board", own, "--json", *options)
        facts = json.loads(done.stdout)
        assert facts["constant_time"] is is_chosen and "PSRAM" not in "".join(facts["notes"])
    refused = covey("image", "press-7", "--board", "rpi_pico_w", "--constant-time", "--site", site)
    assert refused.returncode == 2 and "has no --constant-time" in refused.stderr


def test_what_comes_next_names_member_and_board_as_they_were_typed(site, tmp_path):
    own = tmp_path / "own.toml"
    shutil.copy(boards.HOME / "esp32c3.toml", own)
    name, out = site / "members" / "press-7", tmp_path / "out.bin"
    done = covey("image", name, "--board", own, "-o", out)
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"Next: covey install {name} --port PORT")
    assert last.endswith(f"covey flash {out} --board {own} --port PORT")


def test_secrets_stay_where_they_belong(site, tmp_path):
    folder = site / "members" / "press-7"
    out = tmp_path / "out.bin"
    old = os.umask(0)
    try:
        done = covey("image", "press-7", "--board", "esp32", "-o", out, "--site", site)
        covey("image", "press-7", "--board", "esp32", "--site", site)
    finally:
        os.umask(old)
    secrets = [SECRET, (folder / "psk").read_text().strip(), (folder / "seed").read_bytes().hex()]
    assert not [s for s in secrets if s in done.stdout + done.stderr]
    for path in (out, folder / "press-7-esp32-files.bin", folder / "seed"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not [secret for secret in secrets if secret in repr(members.load(site, "press-7"))]
    built = image.build(members.load(site, "press-7"), boards.load("esp32"))
    assert not [secret for secret in secrets if secret in repr(built)]


def test_the_output_is_replaced_whole_or_not_at_all(site, tmp_path):
    out = tmp_path / "out.bin"
    out.write_text("old")
    refused = covey(
        "image", "press-7", "--board", "esp32", "--site", site, "-o", tmp_path / "none" / "out"
    )
    assert refused.returncode == 2 and "can't be written: No such file" in refused.stderr
    bad = covey(
        "image", "press-7", "--board", "esp32", "--site", site, "--firmware", out, "-o", out
    )
    assert bad.returncode == 2 and out.read_text() == "old"
    done = covey("image", "press-7", "--board", "esp32", "--site", site, "-o", out)
    assert done.returncode == 0 and stat.S_IMODE(out.stat().st_mode) == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"out.bin", "out.names.json"}
    names = json.loads((tmp_path / "out.names.json").read_text())
    assert any("_take_response" in meant.split("|") for meant in names["stack"].values())


def test_a_device_is_no_place_for_it(site, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    done = covey("image", "press-7", "--board", "esp32", "--site", site, "-o", pipe)
    assert (done.returncode, done.stderr) == (2, f"{pipe} can't be written: it is no file.\n")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_disk_that_is_full(site, tmp_path):
    """By the process's own limit on the size of a file."""
    out = tmp_path / "out.bin"
    out.write_text("old")
    words = ("image", "press-7", "--board", "esp32", "--site", site, "-o", out)
    full = (resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    done = covey(*words, preexec_fn=lambda: resource.setrlimit(*full))
    assert (done.returncode, done.stderr) == (2, f"{out} can't be written: File too large.\n")
    assert out.read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["out.bin"]


def test_a_firmware_that_does_not_fit_writes_nothing(site, tmp_path):
    out = tmp_path / "out.bin"
    cases = {
        "old": firmware_of("esp32c3", tmp_path, version="v1.22.0").read_bytes(),
        "chip": made.espressif("esp32"),
        "short": made.espressif("esp32c3")[:0x11000],
        "none": b"<html>",
    }
    for name, octets in cases.items():
        path = tmp_path / name
        path.write_bytes(octets)
        done = covey(
            *("image", "press-7", "--board", "esp32c3", "--firmware", path, "-o", out),
            *("--site", site),
        )
        assert done.returncode == 2, name
        assert done.stderr.count("\n") == 1 and done.stderr.startswith(str(path)), done.stderr
        assert done.stdout == "" and not out.exists()


@pytest.mark.parametrize(
    "words, said",
    [
        (("image", "nobody", "--board", "esp32"), "nobody/covey.json: add the member"),
        (("image", "../press-7x", "--board", "esp32"), "covey.json: add the member"),
        (("image", "press 7", "--board", "esp32"), "can't name a member"),
        (("image", "press-7", "--board", "esp33"), "no board 'esp33'"),
        (("image", "press-7"), "Missing option '--board'"),
        (("image", "press-7", "--board", "esp32", "--romfs"), "--romfs needs --firmware"),
        (("image", "press-7", "--board", "esp32", "--flash-size", "3MB"), "write 4MB, 8MB"),
        (("image", "press-7", "--board", "esp32", "--flash-size", "2MB"), "write 4MB, 8MB"),
        (("image", "press-7", "--board", "esp32", "--flash-size", "big"), "write 4MB, 8MB"),
    ],
)
def test_misuse(words, said, site):
    done = covey(*words, "--site", site)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_member_whose_files_are_wrong(site, tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    fields = json.loads((site / "members" / "press-7" / "covey.json").read_text())

    def said(change=None, psk="00" * 16):
        (folder / "covey.json").write_text(json.dumps({**fields, **(change or {})}))
        (folder / "psk").write_text(psk)
        with pytest.raises(Problem) as caught:
            members.load(None, str(folder))
        return caught.value.sentence

    assert "colour is not a field of covey.json" in said({"colour": 1})
    assert "must hold a key of at least 16 octets" in said(psk="short")
    assert "keys/psk can't be read" in said({"psk_file": "keys/psk"})
    (folder / "keys").mkdir()
    (folder / "keys" / "psk").write_text("00" * 16)
    assert "psk_file must be a name without '/'" in said({"psk_file": "keys/psk"})
    (folder / "covey.json").write_text("{")
    with pytest.raises(Problem, match="is not JSON"):
        members.load(None, str(folder))
    (folder / "covey.json").write_text(json.dumps(fields))
    (folder / "seed").write_bytes(b"too short")
    with pytest.raises(Problem, match="seed must hold 32 random octets"):
        members.load(None, str(folder))


def test_a_larger_flash(site, tmp_path):
    """8 MB on a C6: the file system that MicroPython makes there goes to its end."""
    firmware = firmware_of("esp32c6", tmp_path)
    out = tmp_path / "out.bin"
    words = ("--board", "esp32c6", "--flash-size", "8MB", "--firmware", firmware, "-o", out)
    done = covey("image", "press-7", *words, "--site", site)
    assert done.returncode == 0, done.stderr
    octets = out.read_bytes()
    assert len(octets) == 0x800000 and "Note: Its file system" not in done.stderr
    place = Region(0x200000, 0x600000)
    expected = digests(files.files(members.load(site, "press-7"), boards.load("esp32c6")))
    assert mount(octets, place, 32, tmp_path) == expected


def test_more_than_the_file_system_holds(member, tmp_path):
    board = boards.load("esp32")
    object.__setattr__(board, "vfs", Region(0x200000, 0x20000))
    with pytest.raises(Problem, match=r"do not fit into the file system of board esp32 \(131072"):
        image.build(member, board)


@pytest.mark.parametrize("target", ["image", "flash"])
def test_make_says_what_it_lacks(target):
    done = subprocess.run(["make", "-s", target, "X=a"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and f"make {target} X=member BOARD=board" in done.stderr
    assert done.stderr.count("\n") == 1


def test_make_image(site):
    firmware = BUILD / "no-such-file"
    words = ["make", "-s", "image", "X=press-7", "BOARD=esp32c3", f"FIRMWARE={firmware}"]
    done = subprocess.run(
        words,
        cwd=ROOT,
        env={**os.environ, "COVEY_SITE": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0 and f"{firmware} can't be read: No such file" in done.stderr
    done = subprocess.run(
        words[:-1], cwd=ROOT, env={**os.environ, "COVEY_SITE": str(site)}, capture_output=True
    )
    assert (
        done.returncode == 0 and Path(site, "members/press-7/press-7-esp32c3-files.bin").exists()
    )
