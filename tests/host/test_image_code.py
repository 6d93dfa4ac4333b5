"""The code in an image: which files, for which architecture; and that it runs from there."""

# ruff: noqa: F811  fixtures are imported by name
import threading
from pathlib import Path

import pytest

import firmware_files as made
from covey_host.board import boards, code, files, image, shrink
from covey_host.board.boards import Region
from covey_host.board.members import Member
from covey_host.errors import Problem
from covey_host.gcks.policy import GroupPolicy
from image_bench import (  # noqa: F401  fixtures among them
    BOARDS,
    digests,
    firmware_of,
    flash_of,
    member,
    mount,
    site,
)
from processes import ROOT

# Which code


@pytest.mark.parametrize("name", BOARDS)
def test_each_mpy_is_for_the_boards_architecture(name, member):
    board = boards.load(name)
    numbers = {"armv6m": 4, "xtensawin": 10, "rv32imc": 11}  # MicroPython: py/persistentcode.h
    compiled = {p: data for p, data in files.files(member, board).items() if p.startswith("/lib/")}
    assert len(compiled) > 20
    native = 0
    for path, data in compiled.items():
        assert path.endswith(".mpy")
        magic, version, feature, bits = data[:4]
        assert (magic, version) == (ord("M"), 6), path
        assert bits == 31, path  # of small ints
        arch, sub = feature >> 2, feature & 3
        assert (arch, sub) in ((0, 0), (numbers[board.arch], 3)), path
        native += arch != 0
    assert native >= 3, "viper and native code is there"
    assert compiled["/lib/covey/stack.mpy"][2] >> 2 == numbers[board.arch]


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
    allowed = {"cip", "iana", "job", "port/mpy_crypt", "port/mpy_ghash", "port/mpy_ghash_small"}
    allowed |= {"port/mpy_ghash_ct", "port/mpy_desktop", "resume", "relay", "ppk", "rawkeys"}
    allowed |= {"several", "hopping", "redirect"}
    signing = {f"covey/{name}.py" for name in ("digital", "keyfiles", "p256_sign")}
    certs = {f"covey/{name}.py" for name in ("certs", "certfiles", "x509")} | signing
    roles = {
        role: set(code.select(applications, arch, ("udp", "ip", role), ()).kept) - set(found.kept)
        for role in ("mac", "tesla", "ecdsa")
    }
    proving = roles["mac"] | roles["tesla"] | roles["ecdsa"]
    assert set(found.left) <= proving | certs | {f"covey/{name}.py" for name in allowed}
    missing = {name.replace(".", "/") + ".py" for name in everything_named(found)} & set(
        found.left
    )
    kernels = {f"covey/port/mpy_ghash{kind}.py" for kind in ("", "_small", "_ct")}
    assert missing - proving - certs <= kernels | {
        "covey/port/mpy_desktop.py",
        "covey/resume.py",
        "covey/relay.py",
        "covey/ppk.py",
        "covey/rawkeys.py",
        "covey/several.py",
    }
    certified = code.select(applications, arch, ("udp", "ip", "certificates"), ())
    assert set(certified.kept) - set(found.kept) == certs
    raw = code.select(applications, arch, ("udp", "ip", "rawkeys"), ())
    assert set(raw.kept) - set(found.kept) == signing | {"covey/rawkeys.py"}
    many = code.select(applications, arch, ("udp", "ip", "several"), ())
    assert set(many.kept) - set(found.kept) == {
        f"covey/{name}.py" for name in ("several", "hopping", "redirect")
    }
    mixed = code.select(applications, arch, ("udp", "ip", "ppk"), ())
    assert set(mixed.kept) - set(found.kept) == {"covey/ppk.py"}
    relayed = code.select(applications, arch, ("udp", "relay"), ())
    assert set(relayed.kept) - set(found.kept) == {"covey/relay.py"}
    own = {f"covey/{name}.py" for name in ("mac", "proofs", "cmac", "sources", "proving")}
    assert roles["mac"] == own | {"covey/port/mpy_cmac.py"}
    assert "covey/waiting.py" in roles["ecdsa"] and "covey/cmac.py" not in roles["ecdsa"]
    assert "covey/vouched.py" not in roles["tesla"]


def test_what_main_py_asks_for_is_there():
    found = code.select(["import covey.aio\nfrom covey import cip"], "rv32imc", ("udp",), ())
    assert "covey/cip.py" in found.kept
    text = "import covey.aio\nfrom covey.gcm import GCMContext\nGCMContext.set_constant_time()"
    found = code.select([text], "xtensawin", ("udp",), ())
    assert {"covey/port/mpy_ghash_ct.py", "covey/port/mpy_crypt.py"} < set(found.kept)
    assert "covey/port/mpy_ghash_ct.py" in code.select([text], "armv6m", ("udp",), ()).left
    sleeper = (ROOT / "firmware" / "sleep.py").read_text()
    assert "covey/resume.py" in code.select([sleeper], "rv32imc", ("udp",), ()).kept


@pytest.mark.parametrize("arch", ["xtensawin", "rv32imc", "x86", "x64"])
def test_a_board_in_constant_time_has_no_tables(arch):
    roles = ("udp", code.CONSTANT_TIME)
    found = code.select(["import covey.aio"], arch, roles, ())
    kernels = {Path(name).stem for name in found.kept if "mpy_ghash" in name}
    assert kernels == {"mpy_ghash_ct"} and "covey/port/mpy_tables.py" in found.left
    assert found.left["covey/port/mpy_ghash.py"] == "the board is to take constant time"
    texts = code.rewritten(found).texts
    assert {f"covey/port/{name}.py" for name in ("mpy_ghash_ct", "mpy_crypt")} < texts.keys()
    loads = [line for line in texts["covey/stack.py"].splitlines() if "mpy_ghash" in line]
    assert loads and all(
        ".mpy_ghash_ct import" in line or "mpy_ghash_ct as" in line for line in loads
    )
    usual = code.select(["import covey.aio"], arch, ("udp",), ())
    assert "mpy_ghash_ct import" not in code.rewritten(usual).texts["covey/stack.py"]


def test_the_board_file_chooses_constant_time(member):
    board = boards.load("esp32s3")
    kernel = "/lib/covey/port/mpy_ghash_ct.mpy"
    assert kernel not in files.files(member, board)
    found = files.contents(member, boards.choose(board, True))
    assert kernel in found.files and "/lib/covey/port/mpy_tables.mpy" not in found.files
    assert files.files(member, boards.choose(board, False)) == files.files(member, board)


def test_what_a_file_beside_main_py_asks_for_is_there(tmp_path):
    (tmp_path / "night.py").write_text("import covey.aio\nfor kept in group.suspend(0): pass\n")
    found = code.select(["import night"], "rv32imc", ("udp",), (tmp_path,))
    assert "covey/resume.py" in found.kept and found.kept["night.py"] == tmp_path / "night.py"


def test_a_board_without_the_ip_carrier(tmp_path):
    """Its files are loaded where policy says ip, so they stay behind where no policy may."""
    root = tmp_path
    (root / "covey").mkdir()
    for name, text in {
        "__init__": "",
        "aio": "from covey import carrier\nprint(carrier)",
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


def test_one_thread_makes_syntax_trees(monkeypatch):
    """CPython 3.11 can't make some in two at once; the compiler runs in many."""
    threads = []

    def fold(source, root):
        threads.append(threading.get_ident())
        return source.read_text(encoding="utf-8")

    monkeypatch.setattr(shrink, "fold", fold)
    monkeypatch.setattr(code, "_known", lambda *_: None)
    found = code.select(["import covey.aio  # once"], "rv32imc", ("udp",), ())
    code.compile_all(found, "rv32imc", in_one=False)
    assert len(threads) > 50 and set(threads) == {threading.get_ident()}


@pytest.mark.parametrize("source_auth", ["none", "mac", "tesla", "ecdsa", None])
def test_a_member_has_what_its_group_asks_for(tmp_path, source_auth):
    """None: nobody knows the group's policy."""
    rules = source_auth and GroupPolicy("line1", "239.192.1.32", 2222, source_auth=source_auth)
    member = Member("valve", tmp_path, {}, {}, None, None, rules, None)
    wanted = {source_auth} if source_auth else {"mac", "tesla", "ecdsa"}
    assert member.roles == wanted - {"none"}
