"""`covey install` into running MicroPython over a pseudo-terminal, LittleFS in a file.

The cable is pulled, and the power fails, anywhere: what starts afterwards is the old member or the
new one, and the file system holds the files of that one and nothing else.
"""

import dataclasses
import json
import time

import pytest
from littlefs import LittleFS
from serial_line import Board

from covey_host.board import boards, code, files, install
from covey_host.errors import Problem

from .test_micropython import interpreter, without

BOARD = dataclasses.replace(boards.load("esp32"), arch="x86")
BLOCKS = 64
MAIN = """
import json, covey.one, covey.port.two
fields = json.load(open("/covey.json"))
key = open("/" + fields["psk_file"]).read()
print("runs:", covey.one.V, covey.port.two.V, fields["version"], key, "%s")
"""
SEED = "/seed"


@pytest.fixture(scope="module", autouse=True)
def micropython():
    wrapper, reason = interpreter("x86")
    if wrapper is None:
        without("x86", reason)


@pytest.fixture(scope="module")
def settler():
    """What boot.py calls, compiled as for a board."""
    texts = [(files.FIRMWARE / "boot.py").read_text()]
    kept = code.select(texts, BOARD.arch, files.FIRMWARE).kept
    compiled = code.compile_all(kept, BOARD.arch)
    return {f"/lib/{name}": data for name, data in compiled.items()}


def member(settler, version, key):
    """Some files of a member: small, so that there are many places where it can be cut off."""
    return {
        "/boot.py": (files.FIRMWARE / "boot.py").read_bytes(),
        "/covey.json": json.dumps({"version": version, "psk_file": key}).encode(),
        "/lib/covey/__init__.py": b"",
        "/lib/covey/one.py": f"V = {version!r}\n".encode() + b"#" * 1500,
        "/lib/covey/port/__init__.py": b"",
        "/lib/covey/port/two.py": f"V = {version!r}\n".encode(),
        f"/lib/covey/only_{version}.py": b"",
        **settler,
        "/main.py": (MAIN % version).encode(),
        f"/{key}": version.encode(),
        SEED: bytes(32),
    }


@pytest.fixture(scope="module")
def old(settler):
    return member(settler, "old", "psk")


@pytest.fixture(scope="module")
def new(settler):
    return member(settler, "new", "other.psk")


@pytest.fixture(scope="module")
def installed(old, tmp_path_factory):
    """The flash of a board that has the old member."""
    flash = tmp_path_factory.mktemp("board") / "old.bin"
    assert put(Board(flash, BLOCKS), old).sent == len(old)
    assert content(flash)[0] == without_seed(old)
    return flash.read_bytes()


def put(board, wanted, **options):
    """Install on a board that is on; it is switched off then."""
    try:
        return install.install(board.port, lambda _: dict(wanted), BOARD, **options)
    finally:
        board.power_off()


def without_seed(wanted):
    return {path: data for path, data in wanted.items() if path != SEED}


def content(flash):
    """Every file but the seed, and the seed."""
    fs = LittleFS(block_size=4096, block_count=BLOCKS, mount=False)
    fs.context.buffer = bytearray(flash.read_bytes())
    fs.mount()
    found = {}
    for folder, _, names in fs.walk("/"):
        for name in names:
            path = f"{folder.rstrip('/')}/{name}"
            with fs.open(path, "rb") as file:
                found[path] = file.read()
    return found, found.pop(SEED, None)


def said_at_start(flash):
    """What main.py says when power comes back."""
    board = Board(flash, BLOCKS)
    deadline = time.monotonic() + 20
    while b">>> " not in board.output and board.is_on() and time.monotonic() < deadline:
        time.sleep(0.01)
    board.power_off()
    return [line for line in board.output.decode().splitlines() if line.startswith("runs:")]


def check_whole(flash, old, new):
    """One of the two runs, and is all there is. Which one."""
    said = said_at_start(flash)
    found, _ = content(flash)
    is_new = found == without_seed(new)
    name = "new" if is_new else "old"
    assert is_new or found == without_seed(old), sorted(found)
    assert said == [f"runs: {name} {name} {name} {name} {name}"]
    return name


def test_only_what_differs_is_sent(tmp_path, installed, old, new):
    flash = tmp_path / "flash.bin"
    flash.write_bytes(installed)
    seed = content(flash)[1]
    again = put(Board(flash, BLOCKS), old)
    assert (again.sent, again.octets, again.removed) == (0, 0, 0)
    done = put(Board(flash, BLOCKS), new)
    differing = {path for path, data in without_seed(new).items() if old.get(path) != data}
    assert (done.sent, done.removed) == (len(differing), 2)
    assert check_whole(flash, old, new) == "new"
    assert content(flash)[1] == seed  # the board's own is younger


def test_the_board_starts_again_with_the_new_member(tmp_path, installed, new):
    flash = tmp_path / "flash.bin"
    flash.write_bytes(installed)
    board = Board(flash, BLOCKS)
    install.install(board.port, lambda _: dict(new), BOARD)
    deadline = time.monotonic() + 20
    while b"runs: new" not in board.output and time.monotonic() < deadline:
        time.sleep(0.01)
    board.power_off()
    assert b"SW_CPU_RESET" in board.output and b"runs: new" in board.output


def test_a_first_seed_is_drawn(installed, tmp_path, old):
    flash = tmp_path / "flash.bin"
    flash.write_bytes(installed)
    seed = content(flash)[1]
    assert len(seed) == 32 and seed != old[SEED]


def octets_to(flash, wanted):
    board = Board(flash, BLOCKS)
    put(board, wanted)
    return board.passed


def test_the_cable_is_pulled_anywhere(tmp_path, installed, old, new):
    flash = tmp_path / "flash.bin"
    flash.write_bytes(installed)
    whole = octets_to(flash, new)
    seen = []
    for cable in range(3, whole, whole // 60):
        flash.write_bytes(installed)
        board = Board(flash, BLOCKS, cable=cable)
        with pytest.raises(Problem) as problem:
            put(board, new)
        assert problem.value.status == 1 and "\n" not in problem.value.sentence
        seen.append(check_whole(flash, old, new))
        if "nothing was changed" in problem.value.sentence or "as it was" in problem.value.sentence:
            assert seen[-1] == "old", problem.value.sentence
        if "takes over" in problem.value.sentence:
            assert seen[-1] == "new", problem.value.sentence
    assert seen == sorted(seen, reverse=True) and {"old", "new"} == set(seen)


def changes_of(flash, wanted):
    board = Board(flash, BLOCKS)
    install.install(board.port, lambda _: dict(wanted), BOARD)
    return board.unplug()


def test_the_power_fails_anywhere(tmp_path, installed, old, new):
    """At every write and erasure of the flash, half of which is done."""
    flash = tmp_path / "flash.bin"
    flash.write_bytes(installed)
    whole = changes_of(flash, new)
    seen = []
    for power in range(1, whole + 1):
        flash.write_bytes(installed)
        with pytest.raises(Problem):
            put(Board(flash, BLOCKS, power=power), new)
        seen.append(check_whole(flash, old, new))
    assert seen == sorted(seen, reverse=True) and {"old", "new"} == set(seen)


def committed(flash, installed, new):
    """A flash where the new member waits: the power failed at the first change after the commit."""
    for power in range(1, 1000):
        flash.write_bytes(installed)
        with pytest.raises(Problem):
            put(Board(flash, BLOCKS, power=power), new)
        if "/covey.next/plan" in content(flash)[0]:
            return flash.read_bytes()
    raise AssertionError("it was never committed")


def test_the_power_fails_again_while_boot_completes_it(tmp_path, installed, old, new):
    flash = tmp_path / "flash.bin"
    waiting = committed(flash, installed, new)
    flash.write_bytes(waiting)
    board = Board(flash, BLOCKS)
    while b">>> " not in board.output:
        time.sleep(0.01)
    whole = board.unplug()
    assert whole > 10
    for power in range(1, whole + 1):
        flash.write_bytes(waiting)
        board = Board(flash, BLOCKS, power=power)
        board.wait()
        board.power_off()
        assert b"runs:" not in board.output or power == whole
        assert check_whole(flash, old, new) == "new"
