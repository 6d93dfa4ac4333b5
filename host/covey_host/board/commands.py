"""What the commands around boards do with their arguments."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import output
from ..errors import MISUSE, Problem
from . import boards, members, need, shrink
from . import image as images
from .boards import BIN, Board, Region
from .members import Member

_SIZE = re.compile(r"([0-9]{1,3})MB")


def image(
    option: Path | None, name: str, board_name: str, firmware: Path | None, **wishes: Any
) -> None:
    board = wanted(board_name, wishes)
    member = members.load(option, name)
    need.check(member, board)
    made = images.build(member, board, firmware, main=wishes["main"], romfs=wishes["romfs"])
    path = wishes["output"] or images.default_path(
        member, board, with_firmware=firmware is not None
    )
    images.write(made, path)
    images.write_names(made, images.names_path(path))
    notes = [*made.notes, *need.warnings(member, board, made.contents, romfs=wishes["romfs"])]
    if wishes["as_json"]:
        output.emit({"event": "image", **_facts(made, member, path), "notes": notes})
        return
    for note in notes:
        output.complain(f"Note: {note}")
    _tell(made, member, path, _next(made, name, board_name, path))


def words(names_file: Path, traceback: Path | None) -> None:
    """Print a traceback with the names of the source; None: from stdin, line by line."""
    try:
        names = shrink.parse_names(names_file.read_bytes())
        with open(traceback or 0, encoding="utf-8", errors="replace") as lines:
            for line in shrink.in_words(lines, names):
                output.line(line)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise Problem(f"{error.filename} can't be read: {why}.", MISUSE) from None
    except ValueError:
        raise Problem(
            f"{names_file} holds no names: give the .names.json that covey image made.", MISUSE
        ) from None


def wanted(board_name: str, wishes: dict[str, Any]) -> Board:
    """A board by name or path, with what else a person said of it."""
    board = _of_size(boards.load(board_name), wishes["flash_size"])
    return boards.choose(board, wishes["constant_time"])


def _of_size(board: Board, flash_size: str | None) -> Board:
    """The board with another flash; its file system takes what is more, or gives what is less."""
    if flash_size is None:
        return board
    found = _SIZE.fullmatch(flash_size)
    size = int(found[1]) << 20 if found else 0
    if not size or size & size - 1 or size <= board.vfs.offset:
        least = (board.vfs.offset >> 20) * 2
        raise Problem(
            f"--flash-size {flash_size} is no flash for board {board.id}: write {least}MB,"
            f" {2 * least}MB and so on.",
            MISUSE,
        )
    vfs = Region(board.vfs.offset, size - board.vfs.offset)
    return replace(board, flash_size=size, vfs=vfs)


def _facts(made: images.Image, member: Member, path: Path) -> dict[str, Any]:
    code = made.contents.code
    return {
        "member": member.name,
        "board": made.board.id,
        "file": str(path),
        "names": str(images.names_path(path)),
        "offset": made.offset,
        "octets": len(made.octets),
        "sha256": made.sha256,
        "firmware": made.firmware.version if made.firmware else None,
        "files": len(made.contents.files),
        "code": sum(map(len, code.values())),
        "vfs": made.vfs.size,
        "vfs_used": made.vfs_used,
        "romfs_used": made.romfs_used,
        "constant_time": bool(made.board.constant_time),
        "left_out": made.contents.left,
    }


def _tell(made: images.Image, member: Member, path: Path, next: str) -> None:
    facts = _facts(made, member, path)
    if made.firmware:
        output.line(f"Firmware: MicroPython {made.firmware.version}, {made.firmware.machine}.")
    output.line(
        f"Files: {facts['files']}, of them {len(made.contents.code)} of code"
        f" ({facts['code']} octets); the file system has {made.vfs_used} of {made.vfs.size}"
        " octets in use."
    )
    if made.romfs_used is not None:
        output.line(f"ROMFS: {made.romfs_used} of {made.firmware.romfs.size} octets, all code.")
    if facts["constant_time"]:
        output.line("Constant time: AES-GCM takes some three times as long for each packet.")
    for name, why in made.contents.left.items():
        output.line(f"Left out: {name}: {why}.")
    output.line(f"SHA-256: {made.sha256}")
    output.line(f"Wrote {path} ({len(made.octets)} octets); it holds the keys of {member.name}.")
    output.line(f"Names: {facts['names']}, for covey words: a traceback has short ones.")
    output.line(f"Next: {next}")


def _next(made: images.Image, name: str, board_name: str, path: Path) -> str:
    """What to type now, with member and board as they were typed."""
    board = made.board
    if board.format != BIN:
        return f"hold BOOTSEL, plug {board.name} in, then covey flash {path} --board {board_name}"
    flash = f"covey flash {path} --board {board_name} --port PORT"
    if made.firmware:
        return flash
    return (
        f"covey install {name} --port PORT, where MicroPython runs already; or all of that"
        f" board's files anew: {flash}"
    )
