"""The files of a member's board: a function of its directory, the board file and lib/covey.

/boot.py /main.py          from firmware/, or main.py as a person wrote it
/lib/covey/**.mpy          compiled for the board
/covey.json                the member's, with the board's limits where it says none
/NAME                      the pre-shared key, as psk_file names it; or key_file, certificate_file,
                           ca_file
/board.json                what main.py needs to know: name, and [pins] of the board file
/wifi.json                 network and password, if they are known
/seed                      32 random octets, which the board renews
"""

import json
from dataclasses import dataclass
from pathlib import Path

from ..errors import MISUSE, Problem
from . import code
from .boards import Board
from .members import Member
from .shrink import Shrunk

FIRMWARE = Path(__file__).resolve().parents[3] / "firmware"
CODE = "/lib"


@dataclass(frozen=True)
class Contents:
    files: dict[str, bytes]  # by path, in order
    left: dict[str, str]  # files of lib/covey that stay behind: why
    shrunk: Shrunk  # what its code was compiled from

    @property
    def code(self) -> dict[str, bytes]:
        """What would run from ROMFS."""
        return {path: data for path, data in self.files.items() if path.startswith(CODE + "/")}


def contents(member: Member, board: Board, main: Path | None = None) -> Contents:
    """All that its file system holds. Problem where something is missing or does not compile.

    main: a person's own main.py. What it imports is looked for beside it, then in firmware/.
    """
    main = main or FIRMWARE / "main.py"
    homes = tuple(dict.fromkeys((main.parent, FIRMWARE)))
    boot = next((home / "boot.py" for home in homes if (home / "boot.py").is_file()), FIRMWARE)
    texts = {"/boot.py": _source(boot), "/main.py": _source(main)}
    try:
        roles = {*board.carriers, *member.roles}
        if board.constant_time:
            roles.add(code.CONSTANT_TIME)
        selection = code.select(texts.values(), board.arch, roles, homes)
        compiled, shrunk = code.compile_all(selection, board.arch)
    except code.Broken as error:
        raise Problem(f"It does not compile: {error}") from None
    found = {
        **{path: text.encode() for path, text in texts.items()},
        **{f"{CODE}/{name}": data for name, data in compiled.items()},
        "/covey.json": _covey_json(member, board),
        "/board.json": _board_json(board),
        **{"/" + name: data for name, data in member.files.items()},
        "/seed": member.seed,
    }
    if member.wifi is not None:
        found["/wifi.json"] = member.wifi
    return Contents(dict(sorted(found.items())), selection.left, shrunk)


def files(member: Member, board: Board, main: Path | None = None) -> dict[str, bytes]:
    return contents(member, board, main).files


def limits(member: Member, board: Board) -> dict[str, int]:
    """What the member says, else what the board has room for."""
    return {**board.limits, **(member.fields.get("limits") or {})}


def _covey_json(member: Member, board: Board) -> bytes:
    fields = {**member.fields, "limits": limits(member, board)}
    return (json.dumps(fields, indent=2) + "\n").encode()


def _board_json(board: Board) -> bytes:
    fields = {"name": board.id, **board.pins}
    return (json.dumps(fields, indent=2) + "\n").encode()


def _source(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
        compile(text, str(path), "exec", dont_inherit=True)
        return text
    except OSError as error:
        raise Problem(f"{path} can't be read: {error.strerror}.", MISUSE) from None
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise Problem(f"{path}{f':{line}' if line else ''} is not Python.", MISUSE) from None
