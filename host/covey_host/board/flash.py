"""`covey flash`: an image into a board's flash, and looked at again there.

Espressif chips by esptool: write, then an MD5 of what the flash holds, then a start. A board that
takes UF2 files gets a copy on the drive that its boot loader shows.
"""

import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .. import site as sites
from ..errors import MISUSE, Problem
from . import espressif, firmware, ports, uf2
from .boards import BIN, Board, Region
from .flasher import Flasher

_TABLE_LEN = 0xC00
_LITTLEFS = b"littlefs"  # in its first block, behind the tag of the superblock
_READ_ONLY = 1 << 19  # octets of an application's start, in which its texts lie
_NO_FIRMWARE = (
    "The board has no MicroPython yet, and this image is a file system alone: give --firmware,"
    " MicroPython's .bin file; nothing was written."
)
_INFO = "INFO_UF2.TXT"  # what the drive of a UF2 boot loader always shows
_TAKEN_S = 60  # so long a boot loader may take to restart its board


@dataclass(frozen=True)
class Load:
    """What goes into the flash. It holds the member's secrets."""

    octets: bytes = field(repr=False)
    offset: int
    has_firmware: bool


def load_file(path: Path, board: Board) -> Load:
    """A file that `covey image` made. Problem where it is none, or for another board."""
    try:
        octets = path.read_bytes()
    except OSError as error:
        raise Problem(f"{path} can't be read: {os.strerror(error.errno or 0)}.", MISUSE) from None
    if board.format != BIN:
        return _load_uf2(octets, path, board)
    if octets[8:16] == _LITTLEFS:
        return Load(octets, board.vfs.offset, False)
    try:
        chip = espressif.chip_of(octets)
    except espressif.Unfit as error:
        raise Problem(f"{path} {error}", MISUSE) from None
    if chip != board.chip:
        raise Problem(f"{path} is for {chip}, and board {board.id} has {board.chip}.", MISUSE)
    return Load(octets, board.offset, True)


def _load_uf2(octets: bytes, path: Path, board: Board) -> Load:
    try:
        family = uf2.parse(octets).family
    except espressif.Unfit as error:
        raise Problem(f"{path} {error}", MISUSE) from None
    if family != board.family:
        raise Problem(f"{path} is for another chip than that of board {board.id}.", MISUSE)
    return Load(octets, board.offset, True)


def to_chip(load: Load, board: Board, tool: Flasher, folder: Path | None, *, erase: bool) -> None:
    """Write, verify, start. The image lies in a private file of `folder` meanwhile."""
    with _private(folder) as directory:
        if load.has_firmware:
            tool.run("flash-id")  # whether it is that chip
        else:
            _check_release(_check_partitions(load, board, tool, directory), tool, directory)
        path = directory / "image.bin"
        sites.write_private(path, load.octets)
        place = (f"0x{load.offset:x}", str(path))
        tool.state = "its flash is written in part, so flash it again before you use it"
        tool.run("write-flash", *(["--erase-all"] if erase else []), *place)
        tool.state = "all was written, but not verified: flash it again"
        tool.run("verify-flash", *place, restart=True)


def _check_partitions(load: Load, board: Board, tool: Flasher, folder: Path) -> Region:
    """A file system goes where the firmware in the flash will look for it, or nowhere. Where that
    firmware lies.
    """
    end = load.offset + len(load.octets)
    try:
        partitions = espressif.parse_table(_read(Region(board.table, _TABLE_LEN), tool, folder))
    except espressif.Unfit:
        raise Problem(_NO_FIRMWARE) from None
    vfs = next((p.region for p in partitions if p.label == "vfs"), None)
    start = max(p.region.end for p in partitions) if vfs is None else vfs.offset
    if start != load.offset or (vfs is not None and end != vfs.end):
        there = f"from 0x{start:x}" + (f" to 0x{vfs.end:x}" if vfs else "")
        raise Problem(
            f"The firmware on the board keeps its files {there}, and this file system is for"
            f" 0x{load.offset:x} to 0x{end:x}: give --firmware, or use `covey install`; nothing"
            " was written."
        )
    return next((p.region for p in partitions if p.type == espressif.TYPE_APP), Region(0, 0))


def _check_release(app: Region, tool: Flasher, folder: Path) -> None:
    """Our code is for the MicroPython releases that load it: what lies there must be one."""
    found = None
    for size in sorted({min(app.size, _READ_ONLY), app.size}):
        found = found or firmware.release_in(_read(Region(app.offset, size), tool, folder))
    if found is None:
        raise Problem(_NO_FIRMWARE)
    if firmware.is_too_old(found):
        least = ".".join(map(str, firmware.LEAST))
        raise Problem(
            f"The board has MicroPython {found}, and Covey needs {least} or later: give"
            " --firmware; nothing was written."
        )


def _read(place: Region, tool: Flasher, folder: Path) -> bytes:
    """What lies in the flash."""
    if not place.size:
        return b""
    path = folder / "read.bin"
    tool.run("read-flash", f"0x{place.offset:x}", f"0x{place.size:x}", str(path))
    return path.read_bytes()


@contextmanager
def _private(folder: Path | None):
    """A directory for secrets beside others, gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix=".flash-", dir=folder))  # 0700
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def to_drive(load: Load, board: Board, drive: Path | None) -> Path:
    """Copy a UF2 file to the drive of a boot loader; returns when the board has taken it."""
    drive = drive or _find_drive()
    if drive is None:
        raise Problem(
            f"No drive of a boot loader is here: hold BOOTSEL while you plug {board.name} in, wait"
            " for the drive, and try again; --port names its directory where it is mounted"
            " elsewhere."
        )
    if not (drive / _INFO).is_file():
        raise Problem(f"{drive} is no drive of a UF2 boot loader: {_INFO} is missing.", MISUSE)
    try:
        with (drive / "covey.uf2").open("wb") as file:
            file.write(load.octets)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if (drive / _INFO).is_file():
            why = os.strerror(error.errno or 0)
            raise Problem(f"The image could not be copied to {drive}: {why}.") from None
        # the boot loader restarts the board with the last block, before the file is closed
    deadline = time.monotonic() + _TAKEN_S
    while (drive / _INFO).is_file():
        if time.monotonic() > deadline:
            raise Problem(
                f"The image was copied to {drive}, but the board has not restarted: it did not"
                " take all of it; plug it in anew with BOOTSEL held, and try again."
            )
        time.sleep(0.1)
    return drive


def _find_drive() -> Path | None:
    """A mounted drive with a UF2 boot loader's file in it, where desktops put drives."""
    homes = [Path("/media"), Path("/run/media"), Path("/Volumes")]
    for home in homes:
        for found in sorted([*home.glob(f"*/{_INFO}"), *home.glob(f"*/*/{_INFO}")]):
            return found.parent
    return None


def check_port(port: str | None) -> str:
    if port is None:
        raise Problem(f"--port is needed: {ports.named()}", MISUSE)
    ports.check(port)
    return port
