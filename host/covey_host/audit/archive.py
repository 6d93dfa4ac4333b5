"""`covey audit archive`: full files of the log go elsewhere, and the store knows that they did."""

import errno
import filecmp
import os
import shutil
from pathlib import Path

from ..errors import MISUSE, Problem
from ..gcks.ledger import Ledger
from ..site import sync_directory
from . import rows
from .journal import FULL, NAME, number_of


def full_files(root: Path) -> list[Path]:
    """The oldest first. One that has just become full may still be audit.log, too."""
    newest = root / NAME
    found = sorted(path for path in root.iterdir() if FULL.fullmatch(path.name))
    return [path for path in found if not (newest.exists() and path.samefile(newest))]


def check(directory: Path, root: Path) -> None:
    """Whether full files could go there, before there are any. Problem where not."""
    try:
        if directory.samefile(root):
            raise Problem(f"{directory} is the site itself: name another directory.", MISUSE)
        os.listdir(directory)
        is_writable = os.access(directory, os.W_OK | os.X_OK)
    except OSError as error:
        raise _unusable(directory, error.errno) from error
    if not is_writable:
        raise _unusable(directory, errno.EACCES)


def copy(files: list[Path], directory: Path) -> None:
    """Durable when this returns. What an interrupted one has copied stays. Problem where another
    file is in the place of one."""
    try:
        for path in files:
            _copy(path, directory / path.name)
        sync_directory(directory)
    except OSError as error:
        raise _unusable(error.filename or directory, error.errno) from error


def record(ledger: Ledger, root: Path, names: object, who: str = "") -> int:
    """These files, the oldest of the site's, need not be here any more → the number of the entry
    with which the log begins then."""
    present = full_files(root)
    known = [path.name for path in present]
    if not isinstance(names, list) or not names or names != known[: len(names)]:
        raise Problem("These are not the oldest full files of the audit log: try again.", MISUSE)
    behind = present[len(names)] if len(names) < len(present) else root / NAME
    with behind.open("rb") as file:
        first = number_of(file.read(64))
    if not first:
        raise Problem(f"{behind} begins with no entry: see `covey audit verify`.")
    if first > rows.read_first(ledger, who):
        ledger.write({rows.of(rows.FIRST, who): str(first).encode()})
    return first


def _unusable(what: Path | str, number: int | None) -> Problem:
    return Problem(f"{what} can't be used: {os.strerror(number or 0)}.", MISUSE)


def _copy(path: Path, target: Path) -> None:
    if not target.exists():
        draft = target.with_name(f".{target.name}.new")
        draft.unlink(missing_ok=True)
        fd = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with path.open("rb") as source, os.fdopen(fd, "wb") as out:
            shutil.copyfileobj(source, out)
            out.flush()
            os.fsync(fd)
        os.rename(draft, target)
    if not filecmp.cmp(path, target, shallow=False):
        raise Problem(
            f"{target} is there already, and another file: name another directory.", MISUSE
        )
