"""A site: the directory that belongs to one key server. Private through and through.

.gitignore          of a site, only policy belongs into a repository
covey.toml          policy; the one file that a person edits
state.db            members, keys and all that must survive, sealed (see covey_host.store)
store.toml          where all that is in place of state.db, if it is in etcd
site.key            what it is sealed under, or a link to that (see covey_host.vault)
wifi.json           the Wi-Fi of its boards, once `covey site wifi` has asked (see covey_host.wifi)
crl.pem             certificates that were revoked, for others; state.db says it to the key server
members/NAME/       what the board of that name needs: covey.json, seed, and psk, or key.pem,
                    cert.pem and ca.pem
run/control.sock    commands to the running server (see covey_host.control)
"""

import errno
import fcntl
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

from .errors import MISUSE, Problem

NAMES = ".names.json"  # ends the file beside an image that says what short names mean: no secret
_DRAFT = ".covey-init"  # where a site is built; whatever it holds is none
_MOVED = ".names"  # in there: of what is being moved out of it
_GITIGNORE = """\
# Made by `covey init`. All else of a site is secret or passing: keys, state.db, members/, images,
# captures. Nothing of it belongs into a repository, whatever it is called.
*
!.gitignore
!covey.toml
"""
_OURS = re.compile(r"\.?[A-Za-z0-9][A-Za-z0-9._-]*")  # what may be in the draft, and no path
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Site:
    """The paths of a site, and nothing opened yet."""

    def __init__(self, root: Path):
        self.root = root
        self.policy = root / "covey.toml"
        self.store = root / "state.db"
        self.elsewhere = root / "store.toml"  # see covey_host.store.location
        self.key = root / "site.key"
        self.wifi = root / "wifi.json"
        self.crl = root / "crl.pem"
        self.members = root / "members"
        self.control = root / "run" / "control.sock"


def find(option: Path | None) -> Site:
    """The site that --site, $COVEY_SITE or the current directory names. Problem if it is none."""
    site = Site(option or Path(os.environ.get("COVEY_SITE") or "."))
    store = site.elsewhere if os.path.lexists(site.elsewhere) else site.store
    for file in (site.policy, store):
        try:
            file.stat()
        except FileNotFoundError:
            raise Problem(
                f"{site.root} is no site ({file.name} is missing): make one with `covey init`,"
                " or name one with --site or COVEY_SITE.",
                MISUSE,
            ) from None
        except OSError as error:
            raise Problem(f"{file} can't be used: {os.strerror(error.errno)}.", MISUSE) from error
    return site


def create(root: Path, policy_text: str | None, fill) -> Site:
    """Make a site in a new or empty directory: .gitignore, covey.toml, and state.db as fill(path)
    makes it, perhaps with other files beside it; policy_text is None where these are among them. A
    site.key that is there already stays.

    All is built in a draft directory inside and renamed, state.db last: without it there is no
    site, so that whoever was killed meanwhile can simply be run again. What was renamed by then is
    taken away again: the draft says what it is, and still holds state.db.
    """
    made = _make_directory(root)
    try:
        with _locked(root):
            _take_back(root)
            _check_empty(root)
            try:
                _build(root, policy_text, fill)
            finally:
                _take_back(root)
                shutil.rmtree(root / _DRAFT, ignore_errors=True)
                if made and not os.path.lexists(root / "state.db"):
                    shutil.rmtree(root, ignore_errors=True)
    except OSError as error:
        raise Problem(f"No site can be made in {root}: {os.strerror(error.errno)}.") from error
    return Site(root)


def check_name(kind: str, name: str) -> str:
    """The name of a member or a group: it becomes a path, an ID on the wire and a TOML key."""
    if not _NAME.fullmatch(name):
        raise Problem(
            f"{_shown(name)} can't name a {kind}: use 1 to 63 letters, digits, '.', '_' and '-',"
            " a letter or digit first.",
            MISUSE,
        )
    return name


def private_directory(path: Path) -> Path:
    """The directory, 0700, made where it is missing."""
    try:
        path.mkdir(0o700, exist_ok=True)
        os.chmod(path, 0o700)
    except OSError as error:
        raise Problem(f"{path} can't be made: {os.strerror(error.errno)}.") from error
    return path


def write_private(path: Path, data: bytes) -> None:
    """A new file, 0600 whatever the umask, on the disk when this returns."""
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, 0o600)
        file.write(data)
        file.flush()
        os.fsync(fd)


def replace_private(path: Path, data: bytes) -> None:
    """The same in place of what is there, whole or not at all. Problem where it can't be."""
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.unlink(missing_ok=True)
        write_private(draft, data)
        os.replace(draft, path)
        sync_directory(path.parent)
    except OSError as error:
        raise Problem(f"{path} can't be written: {os.strerror(error.errno or 0)}.") from error


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable, not only what they point to."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _build(root: Path, policy_text: str | None, fill) -> None:
    draft = root / _DRAFT
    shutil.rmtree(draft, ignore_errors=True)
    private_directory(draft)
    os.chmod(root, 0o700)
    if policy_text is not None:
        write_private(draft / ".gitignore", _GITIGNORE.encode())
        write_private(draft / "covey.toml", policy_text.encode())
    fill(draft / "state.db")
    names = sorted(each.name for each in draft.iterdir())
    names.sort(key="state.db".__eq__)
    replace_private(draft / _MOVED, "\n".join(names).encode())
    for name in names:
        os.rename(draft / name, root / name)
    sync_directory(root)


def _take_back(root: Path) -> None:
    """What was moved out of a draft that became no site."""
    draft = root / _DRAFT
    if not (draft / _MOVED).exists() or not os.path.lexists(draft / "state.db"):
        return
    for name in (draft / _MOVED).read_text().split("\n"):
        path = root / name
        if not _OURS.fullmatch(name):
            continue  # whoever prepared this directory wants more away
        if os.path.lexists(draft / name) or name == "site.key":
            continue  # not moved yet; or the only copy of it, which may stay
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _shown(name: str) -> str:
    return repr(name if len(name) <= 40 else name[:40] + "...")


def _make_directory(root: Path) -> bool:
    """Whether it had to be made."""
    try:
        root.mkdir(0o700)
        os.chmod(root, 0o700)
    except FileExistsError:
        if root.is_dir():
            return False
        raise Problem(f"{root} is no directory: name another one.", MISUSE) from None
    except OSError as error:
        raise Problem(f"{root} can't be made: {os.strerror(error.errno)}.", MISUSE) from error
    return True


@contextmanager
def _locked(root: Path):
    """Two `covey init` at once: the second one is told."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except OSError as error:
        if error.errno != errno.EAGAIN:
            raise
        raise Problem(f"Another `covey init` is at work in {root}.") from None
    finally:
        os.close(fd)


def _check_empty(root: Path) -> None:
    found = {entry.name for entry in root.iterdir()} - {_DRAFT, "site.key"}
    if "state.db" in found:
        raise Problem(f"{root} is a site already: it is never overwritten.", MISUSE)
    if found:
        raise Problem(f"{root} is not empty: name a new directory for the site.", MISUSE)
