"""The audit log's files: audit.log, and audit-N.log that begin with entry N and are full.

Entries are made in memory and become durable by commit(), many at once: what they tell of is told
to nobody before. Where the disk takes none they wait, a bounded number of them; the rest is
counted, and the count is an entry. What the store knows of them (see rows.py) shows where the log
is cut off at its end, and how many wait: whoever dies with them leaves a gap that verify finds.
"""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import Problem
from ..gcks.ledger import Ledger
from ..site import sync_directory
from . import chain, rows
from .chain import BEGIN, Mark
from .rows import KEY, MARK

NAME = "audit.log"
FULL = re.compile(r"audit-[0-9]{12}\.log")
MOST_OCTETS = 16 << 20  # of one file; a line more at most
MOST_WAITING = 10_000  # entries that no disk has taken yet
_TAIL = 2 * chain.MOST_OCTETS  # in which the last line is found
_MARK_S = 1  # between two marks in the store

_sync = getattr(os, "fdatasync", os.fsync)  # macOS has the latter only


class Journal:
    """One program writes at a time: whoever has the store's lock, or is the replica `who`. time():
    seconds since 1970."""

    def __init__(
        self,
        directory: Path,
        ledger: Ledger,
        time: Callable[[], float],
        random: Callable[[int], bytes] = os.urandom,
        who: str = "",
    ):
        """Problem where the log can't be read or written, or the store not."""
        self._path = directory / NAME
        self._ledger = ledger
        self._time = time
        self._fd = -1
        self._size = 0  # octets of the file, of whole lines
        self._first = 0  # number of the entry that it begins with; 0: it is empty
        self._waiting: list[bytes] = []
        self._lost = 0  # entries, with nothing in the log that says so
        self._meddled = ""  # what was found in the file's place, and is not entered yet
        self.was_cut = False  # since this was made it was found so, and entered
        self._marked_s = 0.0
        missing = rows.missing(ledger, who)
        self._key = ledger.read(KEY) or self._new_key(random(chain.KEY_LEN))
        self._mark_row = rows.of(MARK, who)
        self._marked = rows.read_mark(ledger, who)
        self._last = self._marked
        try:
            found = self._found()
            self._open(found, rows.lost(missing, who, is_empty=found == BEGIN))
        except OSError as error:
            raise Problem(self._sentence(error)) from error

    def add(self, event: str, by: Any, **facts: Any) -> None:
        """An entry, durable with the next commit(). by: a name, or facts of whoever it was."""
        if len(self._waiting) >= MOST_WAITING:
            self._lost += 1
            return
        self._enter(event, by, facts)

    def _enter(self, event: str, by: Any, facts: dict[str, Any]) -> None:
        time = datetime.fromtimestamp(self._time(), UTC).isoformat(timespec="milliseconds")
        entry = {"time": time.replace("+00:00", "Z"), "event": event, "by": by}
        entry |= {name: value for name, value in facts.items() if name not in entry}
        behind = self._key, self._last, self._last.n + 1
        try:
            line, self._last = chain.seal(*behind, entry)
        except ValueError as error:
            short = {name: entry[name] for name in ("time", "event", "by")}
            line, self._last = chain.seal(*behind, short | {"left_out": str(error)})
        self._waiting.append(line)

    def look(self) -> str | None:
        """commit(), and whether the file is as it was left where nothing is to be written."""
        try:
            self._check_file()
        except OSError as error:
            return self._sentence(error)
        return self.commit()

    def commit(self) -> str | None:
        """Make durable what was added; a sentence where it can't be: it waits, and the store knows
        how much does."""
        if not self._waiting:
            return None
        try:
            self._check_file()
            data = b"".join(self._waiting)
            self._append(data)
        except OSError as error:
            with suppress(Problem):  # mark() tries again, and tells
                self._tell_store()
            return self._sentence(error)
        self._size += len(data)
        self._first = self._first or self._last.n - len(self._waiting) + 1
        self._waiting.clear()
        if self._lost:
            lost, self._lost = self._lost, 0
            self.add("lost", "server", count=lost)
            failed = self.commit()
            with suppress(Problem):  # its mark was further than the log is now
                self._tell_store()
            return failed
        return None

    def mark(self, now_s: float, *, at_once: bool = False) -> None:
        """Tell the store how far the log has come, once in a while; begin another file where this
        one is full. now_s: of any steady clock. Problem where that fails: it is tried again."""
        try:
            is_due = at_once or not self._marked_s or now_s - self._marked_s >= _MARK_S
            if is_due and self._reached != self._marked:
                self._marked_s = now_s
                self._tell_store()
        finally:
            if self._size >= MOST_OCTETS:
                self._rotate()

    def _tell_store(self) -> None:
        if self._reached == self._marked:
            return
        self._ledger.read(self._mark_row)  # a write that failed may have been done
        self._ledger.write({self._mark_row: str(self._reached).encode()})
        self._marked = self._reached

    @property
    def _reached(self) -> Mark:
        """The last entry, written or not, and behind it what was let go."""
        return Mark(self._last.n + self._lost, self._last.sha256)

    def _append(self, data: bytes) -> None:
        try:
            _write(self._fd, data)
            _sync(self._fd)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, self._size)  # half a line, or lines that are written again
            raise

    @property
    def is_marked(self) -> bool:
        """Whether the store knows of all there is."""
        return not self._waiting and self._reached == self._marked

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # Opening

    def _new_key(self, key: bytes) -> bytes:
        self._ledger.write({KEY: key})
        return key

    def _found(self) -> Mark:
        """The last entry of the files, after what a kill left behind was cut off: half a line."""
        self._fd = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.fchmod(self._fd, 0o600)
        sync_directory(self._path.parent)
        self._size = os.fstat(self._fd).st_size
        tail = os.pread(self._fd, _TAIL, max(0, self._size - _TAIL))
        torn = len(tail) - tail.rfind(b"\n") - 1
        if torn:
            os.ftruncate(self._fd, self._size - torn)
            self._size -= torn
        if self._size:
            self._first = number_of(os.pread(self._fd, 64, 0))
            return _last_of(tail[: len(tail) - torn])
        full = sorted(p for p in self._path.parent.iterdir() if FULL.fullmatch(p.name))
        return _last_of(full[-1].read_bytes()[-_TAIL:]) if full else BEGIN

    def _open(self, found: Mark, missing: list[str]) -> None:
        """Go on behind what is there. What the store knows of and is not there is entered.
        missing: what the store knows no more."""
        self._last = found
        self.was_cut = found.n < self._marked.n or bool(missing)
        if found.n < self._marked.n:
            expected = self._marked
            if self._first:
                self._begin_anew()
            self._last = Mark(expected.n, found.sha256)
            self.add("cut", "server", expected=str(expected), found=str(found))
        if missing:
            self.add("cut", "server", missing=missing, found=str(found))

    # The file

    def _check_file(self) -> None:
        """Somebody may have removed, moved, replaced or written to it: then another one begins,
        and says so."""
        mine = os.fstat(self._fd) if self._fd >= 0 else None
        there = self._there()
        if mine and there and os.path.samestat(mine, there) and mine.st_size == self._size:
            return
        if mine or there:  # neither: what failed when the one before was full
            self._meddled = f"{mine.st_nlink if mine else 0} files"
            self._meddled += f", {there.st_size} octets" if there else ", none in its place"
        if there:
            self._begin_anew()
        else:
            self._reopen()
        if self._meddled:
            self.was_cut = True
            self._enter("cut", "server", {"found": self._meddled})
            self._meddled = ""

    def _there(self) -> os.stat_result | None:
        """What has the log's name now."""
        for look in (os.stat, os.lstat):  # it may be a link, and that may lead nowhere
            with suppress(FileNotFoundError):
                return look(self._path)
        return None

    def _rotate(self) -> None:
        try:
            self._check_file()
            if self._size >= MOST_OCTETS:
                self._begin_anew()
        except OSError as error:
            raise Problem(self._sentence(error)) from error

    def _begin_anew(self) -> None:
        try:
            os.link(self._path, self._full)  # unlike a renaming it never replaces what is there
        except FileExistsError:
            if not os.path.samefile(self._path, self._full):
                raise
        os.unlink(self._path)
        self._reopen()

    @property
    def _full(self) -> Path:
        """What the file is called when it is full, or was meddled with."""
        return self._path.with_name(f"audit-{self._first:012d}.log")

    def _reopen(self) -> None:
        self.close()
        self._size = self._first = 0
        self._fd = os.open(
            self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        os.fchmod(self._fd, 0o600)
        sync_directory(self._path.parent)

    def _sentence(self, error: OSError) -> str:
        why, helps = os.strerror(error.errno or 0), "make room, or mend its mode"
        if isinstance(error, FileExistsError):
            helps = f"it was replaced, and {self._full.name} is there already: move that elsewhere"
        return f"The audit log {self._path} can't be written ({why}): {helps}."


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def number_of(data: bytes) -> int:
    """With which entry a file begins; 0: with none."""
    found = re.match(rb'\{"n":([0-9]{1,15}),', data)
    return int(found[1]) if found else 0


def _last_of(data: bytes) -> Mark:
    """The mark of the last line that is one: whoever wrote something else is found by verify."""
    for line in reversed(data.split(b"\n")):
        mark = chain.read_mark(line)
        if mark:
            return mark
    return BEGIN
