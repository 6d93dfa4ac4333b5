"""What the tests of images share: a site, firmware files, MicroPython to mount what was made."""

import hashlib
import json
import subprocess

import pytest

import firmware_files as made
from covey_host.board import boards, members, uf2
from processes import ROOT, run
from test_micropython import interpreter, without

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
