"""File systems as octets: LittleFS, which MicroPython mounts at /, and ROMFS, at /rom.

The same files give the same octets: no times are kept, and files are written in the order of
their names.
"""

from littlefs import LittleFS, LittleFSError
from mpremote.romfs import VfsRomWriter

from ..errors import Problem
from .boards import Board

_DISK_VERSION = 0x00020000  # the oldest of LittleFS 2, which all of MicroPython's read
_LOOKAHEAD = 32  # octets, as MicroPython has it
_NO_SPACE = -28


def littlefs(files: dict[str, bytes], size: int, board: Board) -> bytes:
    """A file system of `size` octets with these files. Problem where they don't fit."""
    fs = LittleFS(
        block_size=board.block,
        block_count=size // board.block,
        read_size=min(board.program, 32),
        prog_size=board.program,
        cache_size=max(board.program, 128),
        lookahead_size=_LOOKAHEAD,
        disk_version=_DISK_VERSION,
    )
    try:
        for folder in _folders(files):
            fs.mkdir(folder)
        for path, data in sorted(files.items()):
            with fs.open(path, "wb") as file:
                file.write(data)
    except LittleFSError as error:
        if error.code != _NO_SPACE:
            raise
        total = sum(map(len, files.values()))
        raise Problem(
            f"The files ({total} octets) do not fit into the file system of board {board.id}"
            f" ({size} octets)."
        ) from None
    return bytes(fs.context.buffer)


def littlefs_used(octets: bytes, board: Board) -> int:
    """How much of a file system is in use, in octets: whole blocks."""
    blocks = range(0, len(octets), board.block)
    blank = b"\xff" * board.block
    return sum(octets[at : at + board.block] != blank for at in blocks) * board.block


def romfs(files: dict[str, bytes]) -> bytes:
    """A ROMFS with these files; what fills its partition up is for the caller to add."""
    writer = VfsRomWriter()
    _write(writer, _tree(files))
    return bytes(writer.finalise())


def _write(writer: VfsRomWriter, tree: dict) -> None:
    for name, inner in sorted(tree.items()):
        if isinstance(inner, dict):
            writer.opendir(name)
            _write(writer, inner)
            writer.closedir()
        else:
            writer.mkfile(name, inner)


def _tree(files: dict[str, bytes]) -> dict:
    tree = {}
    for path, data in files.items():
        *folders, name = path.strip("/").split("/")
        inner = tree
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[name] = data
    return tree


def _folders(files: dict[str, bytes]) -> list[str]:
    found = set()
    for path in files:
        parts = path.strip("/").split("/")[:-1]
        found |= {"/" + "/".join(parts[: i + 1]) for i in range(len(parts))}
    return sorted(found)
