"""What a backup consists of: all of a site that isn't passing, but its key; made beside a running
server, its store from one moment.

It is a tar of state.db (sealed as it is), covey.toml, the audit log, wifi.json, crl.pem and
members/, sealed once more as a whole: the files of members are in clear in the site.
"""

import io
import os
import re
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .. import site as sites
from ..audit import journal
from ..errors import MISUSE, Problem
from ..output import complain
from ..site import Site
from ..store import sqlite
from . import sitekey
from .opening import open_store, open_with
from .sitekey import SiteKeys
from .stream import Opening, Sealing

_FILES = re.compile(r"\.gitignore|covey\.toml|wifi\.json|crl\.pem|audit(-[0-9]+)?\.log")
_MOST_NAMED = 10  # files that are left out
_STORE = "state.db"
_OF_MEMBER = re.compile(r"members/[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


def make(site: Site, file: Path) -> bytes:
    """A backup in a new file, 0600, on the disk when this returns → the ID of the key that it
    opens with. Problem, and no file, where it can't be. Which files of members are left out is
    complained about."""
    keys = _settled_keys(site)
    try:
        with _new(file) as out:
            odd = _write(site, Sealing(out, keys.newest, int(time.time())))
        _complain_of(odd, "Not in the backup, since Covey calls no file so")
        return keys.newest.id
    finally:
        keys.wipe()


def restore(file: Path, root: Path, key_file: Path | None) -> int:
    """A site as it was, in a new or empty directory → when the backup was made, in seconds since
    1970. Problem, and no site, where it can't be. Killed before, it is simply run again."""
    moment = 0
    place = Site(root).key
    keys, key_file = _keys_for(place, key_file)

    def fill(path: Path) -> None:
        nonlocal moment
        moment, odd = _read(file, path.parent, keys)
        _complain_of(odd, "Left out, since Covey calls no file so")
        store = open_with(path, keys)
        try:
            store.scan("")  # all of it can be opened
        finally:
            store.close()
        if key_file is not None:
            sitekey.write(path.with_name(place.name), keys.newest, put=sites.write_private)

    try:
        sites.create(root, None, fill)
    finally:
        keys.wipe()
    return moment


def _keys_for(place: Path, key_file: Path | None) -> tuple[SiteKeys, Path | None]:
    """The keys for a site that is to have its key in place; and the file, unless it is there."""
    given = sitekey.find(place)
    if given is not None and key_file is not None:
        named = sitekey.read(key_file)
        is_same = named.newest.id == given.newest.id
        named.wipe()
        if is_same:  # as after a restore that was killed
            return given, None
        given.wipe()
        raise Problem(f"{given.place} gives the site key: leave --key-file out.", MISUSE)
    if given is not None:
        return given, None
    if key_file is None:
        raise Problem(
            f"The site key is missing: bring it as {place}, name it by --key-file or give it by"
            f" {sitekey.VARIABLE}.",
            MISUSE,
        )
    return sitekey.read(key_file), key_file


def _settled_keys(site: Site) -> SiteKeys:
    """All values are under the newest of them."""
    keys = sitekey.find(site.key)
    if keys is None or keys.in_change:
        store = open_store(site)
        try:
            if not store.is_settled:
                store.lock("covey backup")
        finally:
            store.close()
        keys = sitekey.find(site.key)
    return keys


def _write(site: Site, out: Sealing) -> list[str]:
    """→ names of files in members/ that are left out."""
    store = sqlite.open_existing(site.store)
    try:
        snapshot = store.snapshot()
    finally:
        store.close()
    with tarfile.open(fileobj=out, mode="w|") as tar:
        _add(tar, _STORE, snapshot)
        for name, data in _top(site.root):
            _add(tar, name, data)
        odd = []
        for path in _of_members(site):  # after the store: whoever is in there has its files here
            name = str(path.relative_to(site.root))
            if not _OF_MEMBER.fullmatch(name):
                odd.append(name)
                continue
            with suppress(FileNotFoundError):  # its member was removed just now
                _add(tar, name, path.read_bytes())
    out.finish()
    return odd


def _top(root: Path) -> Iterator[tuple[str, bytes]]:
    """Files of the site itself. The newest of the audit log is opened before the others are looked
    for, since it may become one of them."""
    with ExitStack() as stack:
        newest = None
        with suppress(FileNotFoundError):
            newest = stack.enter_context(open(root / journal.NAME, "rb"))
        for path in sorted(root.iterdir()):
            if path.name == journal.NAME or not (_FILES.fullmatch(path.name) and path.is_file()):
                continue
            with suppress(FileNotFoundError), open(path, "rb") as file:  # it may be archived now
                if newest is None or not os.path.sameopenfile(file.fileno(), newest.fileno()):
                    yield path.name, file.read()
        if newest is not None:
            yield journal.NAME, newest.read()


def _of_members(site: Site) -> Iterator[Path]:
    """Whoever is removed meanwhile is left out."""
    for folder in _listed(site.members):
        for path in _listed(folder):
            if path.is_file():
                yield path


def _listed(folder: Path) -> list[Path]:
    """But hidden ones: those are drafts."""
    try:
        return sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _complain_of(odd: list[str], what: str) -> None:
    if odd:
        more = f" and {len(odd) - _MOST_NAMED} more" if len(odd) > _MOST_NAMED else ""
        complain(f"{what}: {', '.join(odd[:_MOST_NAMED])}{more}.")


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    head = tarfile.TarInfo(name)
    head.size, head.mode = len(data), 0o600
    tar.addfile(head, io.BytesIO(data))


def _read(file: Path, folder: Path, keys: SiteKeys) -> tuple[int, list[str]]:
    """→ when it was made, and what is left out of it."""
    odd = []
    try:
        with open(file, "rb") as sealed:
            opening = Opening(sealed, keys.newest, str(file), keys.place)
            with tarfile.open(fileobj=opening, mode="r|") as tar:
                for head in tar:
                    if not _take(tar, head, folder):
                        odd.append(head.name)
            opening.finish()
    except OSError as error:
        what = f"{error.filename or folder} can't be used"
        raise Problem(f"{what}: {os.strerror(error.errno or 0)}.") from error
    except tarfile.TarError as error:
        raise Problem(f"{file} is no backup that this Covey can read.") from error
    return opening.time, odd


def _take(tar: tarfile.TarFile, head: tarfile.TarInfo, folder: Path) -> bool:
    """Whether it was a file that we know. TarError where it can't come from any Covey."""
    name = head.name
    if not head.isfile() or name.startswith("/") or ".." in name.split("/"):
        raise tarfile.TarError(name)
    if not (name == _STORE or _FILES.fullmatch(name) or _OF_MEMBER.fullmatch(name)):
        return False
    path = folder / head.name
    for above in reversed(path.relative_to(folder).parents[:-1]):
        sites.private_directory(folder / above)
    sites.write_private(path, tar.extractfile(head).read())
    return True


@contextmanager
def _new(file: Path) -> Iterator[BinaryIO]:
    """Whole and on the disk when the block has ended; gone again where it fails."""
    try:
        fd = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise Problem(f"{file} exists already: no backup is overwritten.", MISUSE) from None
    except OSError as error:
        raise Problem(f"{file} can't be written: {os.strerror(error.errno or 0)}.") from error
    try:
        with os.fdopen(fd, "wb") as out:
            os.fchmod(fd, 0o600)
            yield out
            out.flush()
            os.fsync(fd)
        sites.sync_directory(file.absolute().parent)
    except BaseException as error:
        file.unlink(missing_ok=True)
        if isinstance(error, OSError):
            what = f"{error.filename or file} can't be used"
            raise Problem(f"{what}: {os.strerror(error.errno or 0)}.") from error
        raise
