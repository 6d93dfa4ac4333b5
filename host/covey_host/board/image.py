"""`covey image`: the file system of a member's board, alone or behind a firmware, in one file.

Everything is a function of the inputs: the same ones give the same octets. The file holds the
member's key, so it is 0600 whatever the umask.
"""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import esptool

from .. import site as sites
from ..errors import MISUSE, Problem
from . import filesystem, uf2
from .boards import BIN, Board, Region
from .files import CODE, Contents, contents
from .firmware import Firmware, read
from .members import Member

ROMFS_LABEL = "romfs"


@dataclass(frozen=True)
class Image:
    octets: bytes = field(repr=False)  # of the file; it holds the member's secrets
    offset: int  # where they go in the flash; UF2: where the file system goes
    board: Board
    contents: Contents = field(repr=False)
    vfs: Region
    vfs_used: int
    firmware: Firmware | None
    romfs_used: int | None  # octets of ROMFS; None: there is none

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.octets).hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        return self.firmware.notes if self.firmware else ()


def build(
    member: Member,
    board: Board,
    firmware: Path | None = None,
    *,
    main: Path | None = None,
    romfs: bool = False,
) -> Image:
    """The image of a member's board. Problem, one sentence, where it can't be made."""
    found = read(firmware, board) if firmware else None
    vfs = found.vfs if found else board.vfs
    rom = _romfs_place(firmware, found) if romfs else None
    holds = contents(member, board, main)
    files, code = apart(holds) if rom else (holds.files, b"")
    parts = {vfs.offset: filesystem.littlefs(files, vfs.size, board)}
    if rom:
        parts[rom.offset] = _fill(code, rom)
    used = filesystem.littlefs_used(parts[vfs.offset], board)
    if found:
        parts[found.offset] = found.data
    octets, offset = _merge(parts, board)
    return Image(octets, offset, board, holds, vfs, used, found, len(code) if rom else None)


def apart(holds: Contents) -> tuple[dict[str, bytes], bytes]:
    """The files that stay in LittleFS, and the code as a ROMFS."""
    files = {path: data for path, data in holds.files.items() if path not in holds.code}
    # /lib/covey/sa.mpy is covey/sa.mpy there: /rom is on the path, too.
    code = {path.removeprefix(f"{CODE}/"): data for path, data in holds.code.items()}
    return files, filesystem.romfs(code)


def default_path(member: Member, board: Board, *, with_firmware: bool) -> Path:
    """Beside the member's other secrets."""
    kind = "" if with_firmware else "-files"
    return member.folder / f"{member.name}-{board.id}{kind}.{board.format}"


def write(image: Image, path: Path) -> None:
    """Put the file there, 0600, whole or not at all."""
    if path.exists() and not path.is_file():
        raise Problem(f"{path} can't be written: it is no file.", MISUSE)
    draft = path.with_name(path.name + ".new")
    try:
        draft.unlink(missing_ok=True)
        sites.write_private(draft, image.octets)
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        why = os.strerror(error.errno or 0)
        raise Problem(f"{path} can't be written: {why}.", MISUSE) from None


def names_path(path: Path) -> Path:
    """Where the names of an image's code go: beside it."""
    return path.with_name(path.stem + sites.NAMES)


def write_names(image: Image, path: Path) -> None:
    """What short names in a traceback stand for (`covey words`). No secret is in it."""
    draft = path.with_name(path.name + ".new")
    try:
        draft.write_bytes(image.contents.shrunk.names_json())
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        why = os.strerror(error.errno or 0)
        raise Problem(f"{path} can't be written: {why}.", MISUSE) from None


def _merge(parts: dict[int, bytes], board: Board) -> tuple[bytes, int]:
    """All parts, by their offset in the flash, as one file; and where that goes."""
    offset = min(parts)
    if board.format != BIN:
        return uf2.emit(
            {board.base + at: part for at, part in parts.items()}, board.family
        ), offset
    esptool.logger.log.set_verbosity("silent")
    try:
        merged = esptool.merge_bin(sorted(parts.items()), chip=board.chip, target_offset=offset)
    finally:
        esptool.logger.log.set_verbosity("auto")
    return merged, offset


def _romfs_place(path: Path | None, firmware: Firmware | None) -> Region:
    if firmware is None:
        raise Problem(
            "--romfs needs --firmware: whether there is a place for it, only the firmware tells.",
            MISUSE,
        )
    if firmware.romfs is None:
        raise Problem(
            f"{path} has no partition named {ROMFS_LABEL}: leave --romfs out, or build MicroPython"
            " with one (partitions-4MiB-romfs.csv and MICROPY_VFS_ROM).",
            MISUSE,
        )
    return firmware.romfs


def _fill(octets: bytes, place: Region) -> bytes:
    if len(octets) > place.size:
        raise Problem(
            f"The code takes {len(octets)} octets of ROMFS, and the firmware has {place.size}:"
            " leave --romfs out, or build MicroPython with more."
        )
    return octets.ljust(place.size, b"\xff")
