"""What `covey flash` and `covey install` do with their arguments."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from .. import output
from ..errors import MISUSE, Problem
from . import boards, files, members, need
from . import flash as flashing
from . import image as images
from . import install as installing
from .boards import BIN, UF2, Board
from .commands import wanted
from .flasher import Flasher

_IMAGES = (f".{BIN}", f".{UF2}")


def flash(
    option: Path | None, name: str, board_name: str, port: str | None, **wishes: Any
) -> None:
    board = wanted(board_name, wishes)
    _check(name, board, wishes)
    if board.format == BIN:
        port = flashing.check_port(port)
    load, folder = _load(option, name, board, wishes)
    if board.format != BIN:
        drive = flashing.to_drive(load, board, Path(port) if port else None)
        output.line(f"Copied {name} to {drive}; the board has taken it and starts.")
        return
    if wishes["erase"] and not load.has_firmware:
        raise Problem("--erase takes MicroPython away, too: give --firmware.", MISUSE)
    tool = Flasher(port, board.chip, wishes["baud"], is_rom_only=wishes["no_stub"])
    try:
        flashing.to_chip(load, board, tool, folder, erase=wishes["erase"])
    except KeyboardInterrupt:
        output.complain(f"Interrupted: {tool.state}.")
        raise
    what = "firmware and files" if load.has_firmware else "files"
    output.line(
        f"Flashed {name} at {port}: {len(load.octets)} octets ({what}) from 0x{load.offset:x} on,"
        " verified; the board starts."
    )


def _check(name: str, board: Board, wishes: dict[str, Any]) -> None:
    """What does not go together."""
    if board.format != BIN and (wishes["erase"] or wishes["no_stub"]):
        raise Problem(f"--erase and --no-stub are esptool's: {board.name} does without.", MISUSE)
    if wishes["erase"] and wishes["no_stub"]:
        raise Problem("The chip's ROM can't erase all: leave --erase or --no-stub out.", MISUSE)
    makes = [key for key in ("firmware", "main", "romfs") if wishes[key]]
    if wishes["constant_time"] is not None:
        makes.append("constant-time" if wishes["constant_time"] else "no-constant-time")
    if _is_image(name) and makes:
        raise Problem(f"{name} is an image already: leave --{makes[0]} out.", MISUSE)


def _is_image(name: str) -> bool:
    """Whether it is a file that `covey image` made, under whatever name, and no member."""
    if name.endswith(_IMAGES):
        return True
    return os.sep in name and not name.endswith(".json") and Path(name).is_file()


def _load(
    option: Path | None, name: str, board: Board, wishes: dict[str, Any]
) -> tuple[flashing.Load, Path | None]:
    """What to write, and a directory where secrets may lie."""
    if _is_image(name):
        return flashing.load_file(Path(name), board), None
    member = members.load(option, name)
    need.check(member, board)
    fresh = replace(member, seed=os.urandom(members.SEED_LEN))  # no start from an old one again
    made = images.build(
        fresh, board, wishes["firmware"], main=wishes["main"], romfs=wishes["romfs"]
    )
    if board.format != BIN and made.firmware is None:
        raise Problem(
            f"{board.name} takes firmware and files in one: give --firmware, MicroPython's .uf2"
            " file; or use `covey install`.",
            MISUSE,
        )
    warnings = need.warnings(member, board, made.contents, romfs=wishes["romfs"])
    for note in (*made.notes, *warnings):
        output.complain(f"Note: {note}")
    return flashing.Load(made.octets, made.offset, made.firmware is not None), member.folder


def install(
    option: Path | None,
    name: str,
    port: str,
    board_name: str | None,
    *,
    main: Path | None,
    constant_time: bool | None,
    may_replace: bool,
) -> None:
    board = boards.load(board_name) if board_name else None
    member = members.load(option, name)

    def make(board: Board) -> dict[str, bytes]:
        board = boards.choose(board, constant_time)
        need.check(member, board)
        contents = files.contents(member, board, main)
        for note in need.warnings(member, board, contents):
            output.complain(f"Note: {note}")
        return contents.files

    columns = TextColumn("Sending"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, disable=not sys.stdout.isatty(), transient=True) as bar:
        task = bar.add_task("", total=None)

        def progress(done: int, whole: int) -> None:
            bar.update(task, completed=done, total=whole)

        done = installing.install(port, make, board, may_replace, progress)
    if not done.sent and not done.removed:
        what = f"its {done.files} files were there already"
    else:
        what = f"{done.sent} of its {done.files} files sent ({done.octets} octets)"
        what += f", {done.removed} old ones removed" if done.removed else ""
    starts = "it starts" if done.is_restarted else "press the board's reset button to start it"
    output.line(f"Installed {member.name} at {port} (board {done.board}): {what}; {starts}.")
