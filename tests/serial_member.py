"""A small member for tests of `covey install`: little to send, and many places to be cut off."""

import dataclasses
import functools
import json
import time

from littlefs import LittleFS

from covey_host.board import boards, code, files, install
from serial_line import Board

BOARD = dataclasses.replace(boards.load("esp32"), arch="x86")
BLOCKS = 64
MAIN = """
import json, covey.one, covey.port.two
fields = json.load(open("/covey.json"))
key = open("/" + fields["psk_file"]).read()
print("runs:", covey.one.V, covey.port.two.V, fields["version"], key, "%s")
"""
SEED = "/seed"


@functools.cache
def settler():
    """What boot.py calls, compiled as for a board."""
    texts = [(files.FIRMWARE / "boot.py").read_text()]
    kept = code.select(texts, BOARD.arch, BOARD.carriers, [files.FIRMWARE])
    compiled, _ = code.compile_all(kept, BOARD.arch)
    return {f"/lib/{name}": data for name, data in compiled.items()}


def member(version, key):
    """{path: octets} of a member whose every file knows its version."""
    return {
        "/boot.py": (files.FIRMWARE / "boot.py").read_bytes(),
        "/covey.json": json.dumps({"version": version, "psk_file": key}).encode(),
        "/lib/covey/__init__.py": b"",
        "/lib/covey/one.py": f"V = {version!r}\n".encode() + b"#" * 1500,
        "/lib/covey/port/__init__.py": b"",
        "/lib/covey/port/two.py": f"V = {version!r}\n".encode(),
        f"/lib/covey/only_{version}.py": b"",
        **settler(),
        "/main.py": (MAIN % version).encode(),
        f"/{key}": version.encode(),
        SEED: bytes(32),
    }


OLD = member("old", "psk")
NEW = member("new", "other.psk")


def put(board, wanted, **options):
    """Install on a board that is on; it is switched off then."""
    try:
        return install.install(board.port, lambda _: dict(wanted), BOARD, **options)
    finally:
        board.power_off()


def without_seed(wanted):
    return {path: data for path, data in wanted.items() if path != SEED}


def content(flash, blocks=BLOCKS):
    """Every file but the seed, and the seed."""
    found = {}
    fs = opened(flash.read_bytes(), blocks)
    for folder, _, names in fs.walk("/"):
        for name in names:
            path = f"{folder.rstrip('/')}/{name}"
            with fs.open(path, "rb") as file:
                found[path] = file.read()
    return found, found.pop(SEED, None)


def opened(octets, blocks=BLOCKS):
    fs = LittleFS(block_size=4096, block_count=blocks, mount=False)
    fs.context.buffer = bytearray(octets)
    fs.mount()
    return fs


def flash_with(path, wanted, blocks=BLOCKS):
    """A flash with these files in it, as from somewhere else."""
    fs = LittleFS(block_size=4096, block_count=blocks, disk_version=0x00020000)
    for name, data in wanted.items():
        fs.makedirs(name.rpartition("/")[0] or "/", exist_ok=True)
        with fs.open(name, "wb") as file:
            file.write(data)
    path.write_bytes(bytes(fs.context.buffer))
    return path


def wait_for(board, text):
    """Until the board has said it; it fails where it never does."""
    deadline = time.monotonic() + 60
    while text not in board.output:
        assert board.is_on() and time.monotonic() < deadline, bytes(board.output[-2000:])
        time.sleep(0.01)


def said_at_start(flash, blocks=BLOCKS):
    """What main.py says when power comes back."""
    board = Board(flash, blocks)
    wait_for(board, b">>> ")
    board.power_off()
    return [line for line in board.output.decode().splitlines() if line.startswith("runs:")]
