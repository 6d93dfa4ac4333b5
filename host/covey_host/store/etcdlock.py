"""The lock of a site in etcd: a key under a lease that a thread keeps alive.

It ends with its process: at once for the next process on this machine, which sees by a lock of
the operating system on a file of the site that the one before is dead; within TTL_S for others.
A process that was stopped for longer than that takes it anew where nobody has written since.
"""

import fcntl
import json
import os
import threading
from contextlib import suppress
from pathlib import Path

from ..errors import Problem
from . import Fenced, Locked
from .etcdclient import Client, Found, delete, get, has_mod, put, was_made
from .place import Place

TTL_S = 10
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Lock:
    """made: the revision at which the key was made; 0: we don't have it."""

    def __init__(self, place: Place, file: Path | None):
        self.made = 0
        self._place = place
        self._key = place.prefix + b"lock"
        self._file = file
        self._fd: int | None = None
        self._lease = 0
        self._said = b""
        self._ended: threading.Event | None = None

    def take(self, client: Client, owner: str) -> bool:
        """Whether it wasn't ours already. Locked where another process has it."""
        if self.made:
            return False
        here = self._take_file(owner)
        name = f"{owner}, process {os.getpid()} on {os.uname().nodename}"
        self._said = json.dumps({"name": name, "here": here}).encode()
        try:
            while not self._put(client, []):
                lock = client.transact([], [get(self._key)]).rows[0]
                if not lock:
                    continue
                holder, where = _parsed(lock[0].value)
                if not here or where != here:
                    raise Locked(
                        f"Another program ({holder}) is working on {self._place.url}:"
                        " stop it first.",
                        holder,
                    )
                client.transact([has_mod(self._key, lock[0].mod)], [delete(self._key)])
        except BaseException:
            self._let_go()
            raise
        self._ended = threading.Event()
        threading.Thread(target=self._keep, args=(self._ended,), daemon=True).start()
        return True

    def take_again(self, client: Client, lock: list[Found], head_mod: int) -> None:
        """After it went: our lease was not kept alive in time. head_mod: of the last that was
        written here, 0 if that was by others."""
        holder = _parsed(lock[0].value)[0] if lock else "which has ended"
        head = self._place.prefix + b"head"
        if lock or not head_mod or not self._put(client, [has_mod(head, head_mod)]):
            raise Fenced(f"Another program ({holder}) has taken over {self._place.url}: stopping.")

    def give_back(self, client: Client) -> None:
        if self._ended:
            self._ended.set()
            self._ended = None
        if self.made:
            with suppress(Problem):  # then it ends with its lease
                client.revoke(self._lease)
            self.made = 0
        self._let_go()

    def _put(self, client: Client, compares: list) -> bool:
        lease = client.grant(TTL_S)
        compares = [was_made(self._key, 0), *compares]
        done = client.transact(compares, [put(self._key, self._said, lease)], [get(self._key)])
        if not done.is_done:
            found = done.rows[0]
            if not found or found[0].lease != lease:  # else an attempt before had been done
                client.revoke(lease)
                return False
        self.made = done.revision if done.is_done else done.rows[0][0].create
        self._lease = lease
        return True

    def _keep(self, ended: threading.Event) -> None:
        client = Client(self._place)
        while not ended.wait(TTL_S / 4):
            with suppress(Problem):  # whoever writes will say so
                client.renew(self._lease)
        client.close()

    def _take_file(self, owner: str) -> str:
        """What tells that file from all others, which only one process has; "": there is none."""
        if self._file is None:
            return ""
        try:
            fd = os.open(self._file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Problem(f"{self._file} can't be opened: {os.strerror(error.errno)}.") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(fd, 0o600)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{owner}, process {os.getpid()}".encode(), 0)
            status = os.fstat(fd)
            boot = _BOOT.read_text().strip() if _BOOT.exists() else ""
        except BlockingIOError:
            holder = os.pread(fd, 200, 0).decode("ascii", "replace") or "unknown"
            os.close(fd)
            raise Locked(
                f"Another program ({holder}) is working on {self._place.url}: stop it first.",
                holder,
            ) from None
        except OSError as error:
            os.close(fd)
            raise Problem(f"{self._file} can't be written: {os.strerror(error.errno)}.") from error
        self._fd = fd
        return f"{boot}:{status.st_dev}:{status.st_ino}" if boot else ""

    def _let_go(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _parsed(value: bytes) -> tuple[str, str]:
    try:
        said = json.loads(value)
        return str(said["name"]), str(said["here"])
    except (ValueError, KeyError, TypeError):
        return "unknown", ""
