"""The embedded store: one SQLite file, private, in WAL mode, with a sync for every promise.

`kill -9` at any moment: a transaction is in the write-ahead log as a whole or not at all, and it
is synced before the call returns. SQLite gives the log and its index the mode of the main file,
so that all three are 0600 whatever the umask was.
"""

import errno
import fcntl
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from ..errors import Problem
from . import KEEP, Change, Changed, Fenced, Lead, Locked, Replica, WentBack

_APPLICATION_ID = 0x436F7679  # "Covy": tells our file from any other SQLite file
_SCHEMA = 1
_BUSY_S = 5  # how long a write waits for another process's transaction
_MOST = 2**63 - 1  # SQLite's greatest integer

_TABLES = (
    """CREATE TABLE entries (
        key TEXT PRIMARY KEY, value BLOB NOT NULL, version INTEGER NOT NULL
    ) WITHOUT ROWID""",
    "CREATE TABLE counters (name TEXT PRIMARY KEY, next INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE store (revision INTEGER NOT NULL, term INTEGER NOT NULL, owner TEXT NOT NULL)",
    "INSERT INTO store VALUES (0, 0, '')",
)

# What replicas share. A file is on one machine, and `covey serve` there has it for itself; that
# several may work on it is for their tests.
_SHARED = (
    """CREATE TABLE IF NOT EXISTS lead (
        run TEXT NOT NULL, facts BLOB NOT NULL, version INTEGER NOT NULL
    )""",
    "INSERT INTO lead SELECT '', x'', 0 WHERE NOT EXISTS (SELECT * FROM lead)",
    """CREATE TABLE IF NOT EXISTS replicas (
        name TEXT PRIMARY KEY, facts BLOB NOT NULL, version INTEGER NOT NULL
    ) WITHOUT ROWID""",
)

# First match wins; SQLite's extended result codes begin with the plain one's name.
_SENTENCES = (
    ("SQLITE_BUSY", "{path} is in use by another program: try again when it has finished."),
    ("SQLITE_LOCKED", "{path} is in use by another program: try again when it has finished."),
    ("SQLITE_FULL", "The disk that holds {path} is full: make room and try again."),
    ("SQLITE_READONLY", "{path} is read-only: make it and its directory writable to this user."),
    ("SQLITE_PERM", "{path} may not be opened: make it and its directory readable to this user."),
    (
        "SQLITE_CANTOPEN",
        "{path} can't be opened: check that it is there and belongs to this user.",
    ),
    ("SQLITE_CORRUPT", "{path} is damaged: restore it from a backup."),
    ("SQLITE_NOTADB", "{path} is not a Covey store: name another site or restore a backup."),
    ("SQLITE_IOERR", "{path} can't be read or written ({code}): check the disk and its limits."),
)


def create(path: Path) -> "SQLiteStore":
    """Make a new, empty store. Problem where the file exists already."""
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise Problem(f"{path} exists already: a store is never overwritten.") from None
    except OSError as error:
        raise Problem(_os_sentence(path, error)) from error
    os.fchmod(fd, 0o600)  # a umask can only take bits away; this gives them back
    os.close(fd)
    db = _connect(path)
    try:
        _configure(path, db)
        with _plainly(path):
            db.execute("BEGIN IMMEDIATE")
            db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {_SCHEMA}")
            for statement in _TABLES:
                db.execute(statement)
            db.execute("COMMIT")
    except BaseException:
        db.close()
        raise
    return SQLiteStore(path, db)


def open_existing(path: Path) -> "SQLiteStore":
    """Open a store that create() made. Problem where it is missing, foreign or not private."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise Problem(f"{path} is missing: make a site with `covey init`, or name one.") from None
    except OSError as error:
        raise Problem(_os_sentence(path, error)) from error
    if mode & 0o077:
        raise Problem(f"{path} holds keys and others may open it: run `chmod 600 {path}` first.")
    db = _connect(path)
    try:
        _check_schema(path, db)
        _configure(path, db)
    except BaseException:
        db.close()
        raise
    return SQLiteStore(path, db)


class SQLiteStore:
    """Implements covey_host.store.Store. One thread; any number of processes."""

    def __init__(self, path: Path, db: sqlite3.Connection):
        self._path = Path(path)
        self._db = db
        self._lock_fds: list[int] = []
        self._name = ""  # as which replica
        self._revision = 0  # the newest that was seen

    def read(self, key: str) -> tuple[bytes | None, int]:
        with _plainly(self._path):
            row = self._db.execute(
                "SELECT value, version FROM entries WHERE key = ?", (key,)
            ).fetchone()
        return row if row else (None, 0)

    def read_many(self, keys: Sequence[str]) -> list[tuple[bytes | None, int]]:
        with self._moment():
            return [self.read(key) for key in keys]

    def scan(self, prefix: str, after: str = "", most: int = -1) -> list[tuple[str, bytes, int]]:
        begin = ("key > ?", after) if after > prefix else ("key >= ?", prefix)
        with _plainly(self._path):
            return self._db.execute(
                "SELECT key, value, version FROM entries"
                f" WHERE {begin[0]} AND key < ? ORDER BY key LIMIT ?",
                (begin[1], prefix + "\x7f", most),  # keys are ASCII: nothing sorts above
            ).fetchall()

    def compare_and_swap(self, changes: list[Change], term: int | None) -> int:
        with self._transaction():
            if term is not None:
                self._check_term(term)
            for key, expected, _ in changes:
                if self._version(key) != expected:
                    return 0
            revision = self._next_revision()
            for key, _, value in changes:
                if value is not KEEP:
                    self._write(key, value, revision)
        return revision

    def changed(self, prefix: str, since: int) -> Changed:
        with self._moment():
            revision, lead, rows = self._head()[0], self._lead(), []
            if revision < max(since, self._revision):
                raise WentBack(f"{self._path} went back in time: start the key servers anew.")
            if revision > since:
                rows = self._db.execute(
                    "SELECT key, value, version FROM entries"
                    " WHERE key >= ? AND key < ? AND version > ? ORDER BY key",
                    (prefix, prefix + "\x7f", since),
                ).fetchall()
        self._revision = revision
        return Changed(rows, revision, lead)

    def reserve(self, name: str, n: int) -> int:
        if n < 1:
            raise ValueError("reserve at least one number")
        with self._transaction():
            row = self._db.execute("SELECT next FROM counters WHERE name = ?", (name,)).fetchone()
            first = row[0] if row else 0
            if first + n > _MOST:
                raise Problem(f"The numbers called {name} in {self._path} are used up.")
            self._db.execute("INSERT OR REPLACE INTO counters VALUES (?, ?)", (name, first + n))
        return first

    def acquire_term(
        self, owner: str, seen: int | None = None, run: str | None = None, facts: bytes = b""
    ) -> int:
        with self._transaction():
            lead = self._lead()
            if seen is not None and seen != lead.version:
                return 0
            self._db.execute("UPDATE store SET term = ?, owner = ?", (lead.term + 1, owner))
            self._tell(lead.run if run is None else run, facts)
        return lead.term + 1

    def beat(self, term: int, facts: bytes) -> None:
        with self._transaction():
            self._check_term(term)
            self._tell(self._lead().run, facts)

    def lock(self, owner: str) -> None:
        """A lock of the operating system on a file beside the store: it dies with its process."""
        if not self._lock_fds:
            self._take_file(".lock", fcntl.LOCK_EX, f"{owner}, process {os.getpid()}")

    def join(self, name: str) -> None:
        if self._name:
            return
        holder = f"replica {name}, process {os.getpid()}"
        self._take_file(".lock", fcntl.LOCK_SH, holder)
        try:
            self._take_file(f".{name}.lock", fcntl.LOCK_EX, holder)
        except Problem:
            self._give_back()
            raise
        self._name = name

    def present(self, facts: bytes) -> None:
        if not self._name:
            raise ValueError("join first")
        with self._transaction():
            self._make_shared()
            self._db.execute(
                "INSERT OR REPLACE INTO replicas VALUES (?, ?, ?)",
                (self._name, facts, self._next_revision()),
            )

    def replicas(self) -> list[Replica]:
        with self._moment():
            if not self._is_shared():
                return []
            rows = self._db.execute("SELECT name, facts, version FROM replicas ORDER BY name")
            return [Replica(*row) for row in rows.fetchall()]

    def close(self) -> None:
        with suppress(sqlite3.Error):  # all that was promised is in the log already
            self._db.close()
        self._give_back()

    def numbers(self) -> tuple[dict[str, int], int, str]:
        """Of each name the next number, the newest term, and who acquired it."""
        with _plainly(self._path):
            counters = dict(self._db.execute("SELECT name, next FROM counters").fetchall())
            return counters, *self._head()[1:]

    def take_numbers(self, counters: dict[str, int], term: int, owner: str) -> None:
        """The same, into a store that has none."""
        with self._transaction():
            self._db.executemany("INSERT INTO counters VALUES (?, ?)", counters.items())
            self._db.execute("UPDATE store SET term = ?, owner = ?", (term, owner))

    def snapshot(self) -> bytes:
        """A file that holds all of this store as it is at one moment, whoever writes."""
        with _plainly(self._path), closing(sqlite3.connect(":memory:")) as copy:
            self._db.backup(copy)
            return copy.serialize()

    def checkpoint(self) -> None:
        """Move the log into the file and cut it to nothing: what was replaced is in neither.
        Problem where somebody reads for so long that it can't be cut."""
        with _plainly(self._path):
            is_busy = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if is_busy:
            raise Problem(
                f"{self._path} is being read by another program, and its log still holds what was"
                " replaced: try again when that program has finished."
            )

    def _head(self) -> tuple[int, int, str]:
        return self._db.execute("SELECT revision, term, owner FROM store").fetchone()

    def _next_revision(self) -> int:
        """In a transaction: a new one."""
        revision = self._head()[0] + 1
        self._db.execute("UPDATE store SET revision = ?", (revision,))
        return revision

    def _check_term(self, term: int) -> None:
        _, newest, owner = self._head()
        if term != newest:
            raise Fenced(f"Another key server ({owner}) has taken over {self._path}: stopping.")

    def _is_shared(self) -> bool:
        found = self._db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'replicas'")
        return found.fetchone() is not None

    def _make_shared(self) -> None:
        if not self._is_shared():
            for statement in _SHARED:
                self._db.execute(statement)

    def _lead(self) -> Lead:
        _, term, owner = self._head()
        told = ("", b"", 0)
        if self._is_shared():
            told = self._db.execute("SELECT run, facts, version FROM lead").fetchone()
        return Lead(term, owner, *told)

    def _tell(self, run: str, facts: bytes) -> None:
        self._make_shared()
        revision = self._next_revision()
        self._db.execute("UPDATE lead SET run = ?, facts = ?, version = ?", (run, facts, revision))

    def _take_file(self, suffix: str, how: int, holder: str) -> None:
        path = self._path.with_suffix(suffix)
        try:
            fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Problem(_os_sentence(path, error)) from error
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
            os.fchmod(fd, 0o600)
            os.ftruncate(fd, 0)
            os.pwrite(fd, holder.encode(), 0)
        except OSError as error:
            other = os.pread(fd, 200, 0).decode("ascii", "replace") or "unknown"
            os.close(fd)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise Problem(_os_sentence(path, error)) from error
            raise Locked(
                f"Another program ({other}) is working on {self._path}: stop it first.", other
            ) from None
        if not self._path.exists():  # `covey store copy` had the lock before us
            os.close(fd)
            raise Problem(f"{self._path} has moved elsewhere: start again.")
        self._lock_fds.append(fd)

    def _give_back(self) -> None:
        while self._lock_fds:
            os.close(self._lock_fds.pop())
        self._name = ""

    def _version(self, key: str) -> int:
        row = self._db.execute("SELECT version FROM entries WHERE key = ?", (key,)).fetchone()
        return row[0] if row else 0

    def _write(self, key: str, value: bytes | None, version: int) -> None:
        if value is None:
            self._db.execute("DELETE FROM entries WHERE key = ?", (key,))
        else:
            self._db.execute(
                "INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", (key, bytes(value), version)
            )

    def _transaction(self):
        """All of the block, synced when it ends, or nothing of it where it raises."""
        return self._between("BEGIN IMMEDIATE")  # the write lock first: no stale read below

    def _moment(self):
        """All of the block reads from one moment."""
        return self._between("BEGIN")

    @contextmanager
    def _between(self, begin: str):
        with _plainly(self._path):
            self._db.execute(begin)
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # some errors have rolled back already
                    self._db.execute("ROLLBACK")
                raise


def _connect(path: Path) -> sqlite3.Connection:
    """Opened, not yet touched: it may turn out to be somebody else's file."""
    with _plainly(path):
        return sqlite3.connect(
            f"file:{quote(os.fspath(path))}?mode=rw",
            uri=True,
            timeout=_BUSY_S,
            isolation_level=None,  # transactions are begun and ended by us alone
        )


def _configure(path: Path, db: sqlite3.Connection) -> None:
    with _plainly(path):
        journal = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone stops at the drive's cache
        db.execute("PRAGMA secure_delete = ON")  # a replaced key leaves no copy in free pages
    if journal != "wal":
        raise Problem(f"{path} is on a file system without a write-ahead log: use a local disk.")


def _check_schema(path: Path, db: sqlite3.Connection) -> None:
    with _plainly(path):
        application = db.execute("PRAGMA application_id").fetchone()[0]
        schema = db.execute("PRAGMA user_version").fetchone()[0]
    if application != _APPLICATION_ID:
        raise Problem(f"{path} is not a Covey store: name another site or restore a backup.")
    if schema > _SCHEMA:
        raise Problem(f"{path} was written by a newer Covey (schema {schema}): use that version.")
    if schema < _SCHEMA:
        raise Problem(f"{path} has schema {schema}, which no Covey wrote: restore a backup.")


@contextmanager
def _plainly(path: Path):
    """Turn SQLite's errors into a sentence that names the file and what to do."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", type(error).__name__)
        if code.startswith("SQLITE_CANTOPEN") and is_read_only(path):
            said = f"The disk that holds {path} is read-only: what reads it writes beside it, too."
            raise Problem(f"{said} Make it writable.") from error
        for name, sentence in _SENTENCES:
            if code.startswith(name):
                raise Problem(sentence.format(path=path, code=code)) from error
        raise Problem(f"{path} can't be used ({code}): check it or restore a backup.") from error


def is_read_only(path: Path) -> bool:
    """Whether its file system is mounted so that nobody can write there."""
    with suppress(OSError):
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    return False


def _os_sentence(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"The disk that holds {path} is full: make room and try again."
    return f"{path} can't be opened ({os.strerror(error.errno)}): check it and its directory."
