"""covey image: what MicroPython finds in it when it mounts it, octet by octet; and all refusals.

Firmware files are made by tests/firmware_files.py: no real one can be had here.
"""

import hashlib
import json
import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

import firmware_files as made
from covey_host.board import boards, code, files, image, members, uf2
from covey_host.board.boards import Region
from covey_host.errors import Problem
from processes import ROOT, run
from test_micropython import BUILD, interpreter, without

SECRET = "Pa55-of-the-access-point"
FIRMWARES = {
    "esp32": ("v1.25.0", made.OLD_4MB),
    "esp32s2": ("v1.26.1", made.NEW),
    "esp32s3": ("v1.25.0", made.OLD_8MB),
    "esp32c3": ("v1.28.0", made.NEW),
    "esp32c6": ("v1.27.0", made.NEW),
}
BOARDS = [*FIRMWARES, "rpi_pico_w"]


def covey(*words, **options):
    return run("-m", "covey_host", *words, **options)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site with a member that listens and one that sends, and Wi-Fi settings."""
    root = tmp_path_factory.mktemp("image") / "plant"
    where = ("--site", root)
    for words in (
        ("init", root, "--identity", "gcks.example"),
        ("group", "add", "line1", "--address", "239.192.1.32", "--port", "2222", *where),
        ("member", "add", "press-7", "--group", "line1", "--sender", "--server", "192.0.2.1")
        + where,
        ("member", "add", "valve-3", "--group", "line1", "--server", "192.0.2.1", *where),
    ):
        done = covey(*words)
        assert done.returncode == 0, done.stderr
    (root / "wifi.json").write_text(json.dumps({"ssid": "plant", "password": SECRET}))
    return root


@pytest.fixture
def member(site):
    return members.load(site, "press-7")


def firmware_of(board, tmp_path, **changes):
    path = tmp_path / f"{board}.firmware"
    if board == "rpi_pico_w":
        path.write_bytes(made.pico(**changes))
    else:
        version, partitions = FIRMWARES[board]
        settings = {"version": version, "partitions": partitions, **changes}
        path.write_bytes(made.espressif(board, **settings))
    return path


def mount(octets, place, program, tmp_path, *modules, kind="lfs2"):
    """{path: (length, SHA-256)} as the 32-bit MicroPython finds it."""
    wrapper, reason = interpreter("x86")
    if wrapper is None:
        without("x86", reason)
    path = tmp_path / "flash"
    path.write_bytes(octets)
    script = ROOT / "tests" / "mount_script.py"
    words = [path, place.offset, place.size, program, kind, *modules]
    command = [wrapper, "-X", "heapsize=24m", script, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [name for word, name, *_ in lines if word == "imported"] == list(modules)
    found = {
        p.removeprefix("/board"): (int(n), h) for p, n, h in (x for x in lines if len(x) == 3)
    }
    return found


def digests(expected):
    return {p: (len(data), hashlib.sha256(data).hexdigest()) for p, data in expected.items()}


def flash_of(octets, board):
    """The whole flash after the file was written to it."""
    flash = bytearray(b"\xff" * board.flash_size)
    if board.format == boards.BIN:
        flash[board.offset : board.offset + len(octets)] = octets
    else:
        program = uf2.parse(octets)
        at = program.base - board.base
        flash[at : at + len(program.data)] = program.data
    return bytes(flash)


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
    assert {"/lib/covey/aio.mpy", "/lib/covey/port/mpy.mpy"} < set(found)
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


def test_a_member_by_its_folder_without_a_site(site):
    for path in ("members/press-7", "members/press-7/covey.json"):
        found = members.load(None, str(site / path))
        assert found.name == "press-7" and found.policy is None and found.wifi is None


# Which code


@pytest.mark.parametrize("name", BOARDS)
def test_each_mpy_is_for_the_boards_architecture(name, member):
    board = boards.load(name)
    numbers = {"armv6m": 4, "xtensawin": 10, "rv32imc": 11}  # MicroPython: py/persistentcode.h
    compiled = {p: data for p, data in files.files(member, board).items() if p.startswith("/lib/")}
    assert len(compiled) > 50
    native = 0
    for path, data in compiled.items():
        assert path.endswith(".mpy")
        magic, version, feature, bits = data[:4]
        assert (magic, version) == (ord("M"), 6), path
        assert bits == 31, path  # of small ints
        arch, sub = feature >> 2, feature & 3
        assert (arch, sub) in ((0, 0), (numbers[board.arch], 3)), path
        native += arch != 0
    assert native >= 5, "viper and native code is there"
    assert compiled["/lib/covey/port/mpy_path.mpy"][2] >> 2 == numbers[board.arch]


def everything_named(found):
    """What the kept files of lib/covey may import of it."""
    names = set()
    for path in found.kept.values():
        names |= code.imports(code._text(path, code.SOURCE))
    return {name for name in names if name.startswith("covey.")}


@pytest.mark.parametrize("arch", ["xtensawin", "rv32imc", "armv6m", "x86", "x64"])
def test_all_that_policy_may_switch_on_is_there(arch):
    """What stays behind is only what main.py can't come to: each with its reason."""
    applications = ["import covey.aio"]
    found = code.select(applications, arch, ("udp", "ip"), ())
    assert set(found.kept) | set(found.left) == {
        str(path.relative_to(code.SOURCE)) for path in code.sources()
    }
    assert not set(found.kept) & set(found.left)
    for name in ("unicast", "ikefrag", "ikerekey", "renewal", "requests", "nat", "ipv4", "x25519"):
        assert f"covey/{name}.py" in found.kept, name
    assert all(found.left.values())
    allowed = {"cip", "iana", "port/mpy_tag", "port/mpy_ghash", "port/mpy_ghash_small"}
    assert set(found.left) <= {f"covey/{name}.py" for name in allowed | {"port/mpy_ghash_ct"}}
    missing = {name.replace(".", "/") + ".py" for name in everything_named(found)} & set(
        found.left
    )
    assert missing <= {f"covey/port/mpy_ghash{kind}.py" for kind in ("", "_small", "_ct")}


def test_what_main_py_asks_for_is_there():
    found = code.select(["import covey.aio\nfrom covey import cip"], "rv32imc", ("udp",), ())
    assert "covey/cip.py" in found.kept
    text = "import covey.aio\nfrom covey.gcm import GCMContext\nGCMContext.set_constant_time()"
    found = code.select([text], "xtensawin", ("udp",), ())
    assert {"covey/port/mpy_ghash_ct.py", "covey/port/mpy_tag.py"} < set(found.kept)
    assert "covey/port/mpy_ghash_ct.py" in code.select([text], "armv6m", ("udp",), ()).left


def test_a_board_without_the_ip_carrier(tmp_path):
    """Its files are loaded where policy says ip, so they stay behind where no policy may."""
    root = tmp_path
    (root / "covey").mkdir()
    for name, text in {
        "__init__": "",
        "aio": "from covey import carrier",
        "carrier": "def open():\n    from covey.ipcarrier import IP",
        "ipcarrier": "from covey import ipv4",
        "ipv4": "",
    }.items():
        (root / "covey" / f"{name}.py").write_text(text)
    both = code.select(["import covey.aio"], "rv32imc", ("udp", "ip"), (), root)
    assert set(both.kept) == {f"covey/{n}.py" for n in ("__init__", "aio", "carrier")} | {
        "covey/ipcarrier.py",
        "covey/ipv4.py",
    }
    udp = code.select(["import covey.aio"], "rv32imc", ("udp",), (), root)
    assert udp.left == {
        "covey/ipcarrier.py": "the board file has no ip carrier",
        "covey/ipv4.py": "nothing that main.py loads leads to it",
    }


def test_names_that_are_only_texts_count_too():
    assert "covey.cip" in code.imports('__import__("covey.cip")')
    assert code.imports("from covey.port import mpy") == {"covey", "covey.port", "covey.port.mpy"}


def test_an_own_main_py_and_what_lies_beside_it(member, tmp_path):
    (tmp_path / "main.py").write_text("import covey.aio\nimport pump.motor\nimport machine\n")
    (tmp_path / "pump").mkdir()
    (tmp_path / "pump" / "__init__.py").write_text("")
    (tmp_path / "pump" / "motor.py").write_text("from onboard.wifi import Wifi\n")
    (tmp_path / "other.py").write_text("")
    found = files.files(member, boards.load("esp32"), tmp_path / "main.py")
    assert found["/main.py"] == (tmp_path / "main.py").read_bytes()
    assert found["/boot.py"] == (ROOT / "firmware" / "boot.py").read_bytes()
    ours = {path for path in found if path.startswith("/lib/") and "/covey/" not in path}
    assert {"/lib/pump/__init__.mpy", "/lib/pump/motor.mpy", "/lib/onboard/wifi.mpy"} <= ours
    assert "/lib/other.mpy" not in ours


def test_a_main_py_that_is_none(member, tmp_path):
    board = boards.load("esp32")
    path = tmp_path / "main.py"
    with pytest.raises(Problem, match="main.py can't be read: No such file"):
        files.files(member, board, path)
    path.write_text("import covey.aio\ndef\n")
    with pytest.raises(Problem, match="main.py:2 is not Python"):
        files.files(member, board, path)
    path.write_text("import pump")
    (tmp_path / "pump.py").write_text("match 3:\n    case 3: pass\n")
    with pytest.raises(Problem, match=r"It does not compile: pump.py \(xtensawin\)"):
        files.files(member, board, path)


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
    assert f"write-flash 0x200000 {path}" in done.stdout and "covey install press-7" in done.stdout
    expected = digests(files.files(members.load(site, "press-7"), boards.load("esp32c3")))
    assert mount(path.read_bytes(), Region(0, 0x200000), 32, tmp_path) == expected


def test_what_it_says(site, tmp_path):
    firmware = firmware_of("esp32c3", tmp_path)
    where = ("--site", site, "--firmware", firmware)
    done = covey("image", "press-7", "--board", "esp32c3", *where)
    path = site / "members" / "press-7" / "press-7-esp32c3.bin"
    assert done.stdout.splitlines()[-1] == "Next: covey flash press-7 --board esp32c3 --port PORT"
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
    assert [path.name for path in tmp_path.iterdir()] == ["out.bin"]


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


# ROMFS


def test_romfs(member, tmp_path):
    board = boards.load("esp32")
    partitions = [*made.ROMFS[:3], ("romfs", 1, 0x8F, 0x1E0000, 0x80000)]
    partitions[2] = ("factory", 0, 0, 0x10000, 0x1D0000)
    firmware = firmware_of("esp32", tmp_path, partitions=partitions, version="v1.27.0")
    built = image.build(member, board, firmware, romfs=True)
    flash = flash_of(built.octets, board)
    everything = files.files(member, board)
    compiled = {p: data for p, data in everything.items() if p.startswith("/lib/")}
    rest = {p: data for p, data in everything.items() if p not in compiled}
    rom = {p.removeprefix("/lib"): data for p, data in compiled.items()}
    assert mount(flash, built.vfs, 32, tmp_path) == digests(rest)
    assert mount(flash, Region(0x1E0000, 0x80000), 0, tmp_path, kind="rom") == digests(rom)
    assert built.romfs_used < 0x80000


def test_code_runs_from_romfs(member, tmp_path):
    """On this machine's MicroPython, whose code is x86."""
    board = boards.load("esp32")
    object.__setattr__(board, "arch", "x86")
    partitions = [*made.ROMFS[:3], ("romfs", 1, 0x8F, 0x1E0000, 0x80000)]
    firmware = firmware_of("esp32", tmp_path, partitions=partitions, version="v1.27.0")
    built = image.build(member, board, firmware, romfs=True)
    assert any("x86" in note for note in built.notes)
    flash = flash_of(built.octets, board)
    mount(flash, Region(0x1E0000, 0x80000), 0, tmp_path, "covey.aio", kind="rom")


def test_code_runs_from_littlefs(member, tmp_path):
    board = boards.load("esp32c3")
    object.__setattr__(board, "arch", "x86")
    mount(image.build(member, board).octets, Region(0, 0x200000), 32, tmp_path, "covey.aio")


def test_a_firmware_without_romfs_or_with_too_little(member, tmp_path):
    board = boards.load("esp32")
    with pytest.raises(Problem, match="has no partition named romfs: leave --romfs out"):
        image.build(member, board, firmware_of("esp32", tmp_path), romfs=True)
    small = [*made.ROMFS[:3], ("romfs", 1, 0x8F, 0x1E0000, 0x8000)]
    firmware = firmware_of("esp32", tmp_path, partitions=small, version="v1.27.0")
    with pytest.raises(Problem, match="The code takes .* and the firmware has 32768"):
        image.build(member, board, firmware, romfs=True)


def test_pico_with_romfs(member, tmp_path):
    board = boards.load("rpi_pico_w")
    devices = ("MicroPython", 0x12C000, 0xD4000), ("ROMFS", 0xEC000, 0x40000)
    firmware = firmware_of("rpi_pico_w", tmp_path, devices=devices)
    built = image.build(member, board, firmware, romfs=True)
    rom = {
        p.removeprefix("/lib"): data
        for p, data in files.files(member, board).items()
        if p.startswith("/lib/")
    }
    flash = flash_of(built.octets, board)
    assert mount(flash, Region(0xEC000, 0x40000), 0, tmp_path, kind="rom") == digests(rom)


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
