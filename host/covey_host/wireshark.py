"""Keys as Wireshark and tshark read them: two tables in a directory of theirs (a profile's).

    esp_sa                  "IPv4","*","239.192.1.32","0x9f3a12c4",
                            "AES-GCM with 16 octet ICV [RFC4106]","0x<key, salt>","NULL",""
    ikev2_decryption_table  <SPIi>,<SPIr>,<SK_ei>,<SK_er>,
                            "AES-GCM-128 with 16 octet ICV [RFC5282]",,,"NONE [RFC4306]"

Each row is one line. Rows are only ever added: what stands there, a person's own rows and
comments too, stays as it is. Ours go in front, since the first row that fits counts.
"""

import csv
import fcntl
import os
import shlex
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from covey.gcm import SALT_LEN

from . import site as sites
from .errors import MISUSE, Problem

ESP, IKE = "esp_sa", "ikev2_decryption_table"

OPTIONS = ("-o esp.enable_encryption_decode:TRUE", "-o esp.enable_authentication_check:TRUE")

_TOLD_BY = {ESP: 6, IKE: 4}  # columns by which rows are told apart; newer versions have more
_LOCK_WAIT_S = 5
_LOCK_POLL_S = 0.05


def row(record: dict) -> tuple[str, str]:
    """(table, line) of one of the key server's records, see gcks/disclosure.py."""
    if record["kind"] == "esp":
        head = f'"IPv4","*","{record["address"]}","0x{record["spi"]}"'
        cipher = '"AES-GCM with 16 octet ICV [RFC4106]"'
        return ESP, f'{head},{cipher},"0x{record["key"]}","NULL",""'
    keys = [record[name] for name in ("spi_i", "spi_r", "sk_ei", "sk_er")]
    bits = (len(record["sk_ei"]) // 2 - SALT_LEN) * 8
    cipher = f'"AES-GCM-{bits} with 16 octet ICV [RFC5282]"'
    return IKE, f'{",".join(keys)},{cipher},,,"NONE [RFC4306]"'


def command(directory: Path | str, ports: dict) -> str:
    """What to type to look into a capture. ports: whether IKE messages have the marker there."""
    known = {500: False, 4500: True}
    decode = [
        f"-d udp.port=={port},{'udpencap' if marker else 'isakmp'}"
        for port, marker in sorted((int(port), marker) for port, marker in ports.items())
        if known.get(port) is not marker
    ]
    words = [f"WIRESHARK_CONFIG_DIR={shlex.quote(os.path.abspath(directory))}", "tshark"]
    return " ".join([*words, *OPTIONS, *decode, "-r FILE"])


class Tables:
    """Both files, 0600, in one directory. Problem where something is not as it should be."""

    def __init__(self, directory: Path):
        self.directory = directory

    def prepare(self) -> None:
        """Make the directory where it is missing, and see that both tables can be written."""
        _make_directory(self.directory)
        self.add([])

    def add(self, rows: Iterable[tuple[str, str]]) -> int:
        """Add those that are not there yet: how many. On the disk when this returns."""
        wanted: dict[str, list[str]] = {ESP: [], IKE: []}
        for name, line in rows:
            wanted[name].append(line)
        with self._locked():
            return sum(self._merge(name, lines) for name, lines in wanted.items())

    def _merge(self, name: str, lines: list[str]) -> int:
        path = self.directory / name
        old = _read(path)
        known = {_identity(name, line) for line in old or ()}
        fresh = {_identity(name, line): line for line in lines}
        fresh = [line for key, line in fresh.items() if key not in known]
        if fresh or old is None:
            n = 0
            while n < len(old or ()) and (not old[n].strip() or old[n].startswith("#")):
                n += 1
            kept = old or []
            self._replace(path, [*kept[:n], *fresh, *kept[n:]])
        return len(fresh)

    def _replace(self, path: Path, lines: list[str]) -> None:
        """All of the new file or all of the old one."""
        draft = path.with_name(f".{path.name}.new")
        text = "".join(line + "\n" for line in lines)
        try:
            draft.unlink(missing_ok=True)  # of an export that was killed
            sites.write_private(draft, text.encode("utf-8", "surrogateescape"))
            os.replace(draft, path)
            sites.sync_directory(self.directory)
        except OSError as error:
            with suppress(OSError):
                draft.unlink(missing_ok=True)  # there may be keys in it
            raise _unwritable(path, error) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One export at a time."""
        try:
            fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise _unwritable(self.directory, error) from error
        try:
            end = time.monotonic() + _LOCK_WAIT_S
            while not _try_lock(fd):
                if time.monotonic() > end:
                    raise Problem(f"Another export is at work in {self.directory}.")
                time.sleep(_LOCK_POLL_S)
            yield
        finally:
            os.close(fd)


def _make_directory(path: Path) -> None:
    """0700 where it is new. One that is there keeps its modes: it may be a person's profile."""
    try:
        path.mkdir(0o700)
        os.chmod(path, 0o700)
        return
    except FileExistsError:
        pass
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise Problem(f"{path} can't be made: {why}.", MISUSE) from error
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _unwritable(path, error) from error
    if not stat.S_ISDIR(mode):
        raise Problem(f"{path} is no directory: name another one.", MISUSE)
    if mode & 0o022:
        what = "Others can write to it, so that no keys are put there"
        raise Problem(f"{path}: {what}; name a directory of your own.", MISUSE)


def _read(path: Path) -> list[str] | None:
    """Its lines, whatever is in them; None where there is no such file."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags)
    except FileNotFoundError:
        return None
    except OSError as error:
        if path.is_symlink():
            raise Problem(f"{path} is a symbolic link: remove it first.") from None
        raise _unwritable(path, error) from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Problem(f"{path} is no regular file: remove it first.")
        os.fchmod(fd, 0o600)
        with open(fd, "rb", closefd=False) as file:
            text = file.read().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        os.close(fd)
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _identity(name: str, line: str) -> tuple[str, ...]:
    """What a row is about, however it is written; a comment or nonsense is only itself."""
    try:
        cells = next(csv.reader([line], skipinitialspace=True), [])
    except csv.Error:
        return (line,)
    if len(cells) < _TOLD_BY[name]:
        return (line,)
    return tuple(cell.strip().casefold() for cell in cells[: _TOLD_BY[name]])


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unwritable(path: Path, error: OSError) -> Problem:
    return Problem(f"{path} can't be written: {os.strerror(error.errno or 0)}.")
