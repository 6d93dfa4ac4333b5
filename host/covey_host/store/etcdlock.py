"""Who works on a site in etcd: one alone, or replicas: a key each under a lease that a thread
keeps alive.

It ends with its process: at once for the next process on this machine, which sees by a lock of
the operating system on a file of the site that the one before is dead; within TTL_S for others.
A process that was stopped for longer than that takes it anew: a replica where nobody has its
name, and nobody has worked alone since, which leaves a mark; one that worked alone where nobody
has come since.
"""

import fcntl
import json
import os
import threading
from base64 import b64decode, b64encode
from contextlib import suppress
from pathlib import Path

from ..errors import Problem
from . import Locked, Ousted, Replica
from .etcdclient import Client, Found, delete, get, has_mod, has_none, put, was_made
from .etcdrows import span
from .place import Place

TTL_S = 10
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Lock:
    """made: the revision at which the key was made; 0: we don't have it."""

    def __init__(self, place: Place, file: Path | None):
        self.made = 0
        self.key = place.prefix + b"lock"
        self._place = place
        self._name = ""  # of a replica
        self._file = file
        self._fd: int | None = None
        self._lease = 0
        self._alone = 0  # the mark of who was alone last, as we took ours
        self._said: dict[str, str] = {}
        self._ended: threading.Event | None = None

    def held(self) -> list[dict]:
        """What holds while it is ours."""
        return [was_made(self.key, self.made)] if self.made else []

    def take(self, client: Client, owner: str, name: str = "") -> bool:
        """Whether it wasn't ours already. name: of a replica; "": to be alone. Locked where
        another process is in the way."""
        if self.made:
            return False
        here = self._take_file(owner)
        self._name = name
        self.key = self._place.prefix + (b"r/" + name.encode() if name else b"lock")
        who = f"{owner}, process {os.getpid()} on {os.uname().nodename}"
        self._said = {"name": who, "here": here, "facts": ""}
        try:
            while not self._put(client, []):
                for found in self._in_the_way(client):
                    holder, where = _parsed(found.value)
                    if not here or where != here:
                        raise Locked(
                            f"Another program ({holder}) is working on {self._place.url}:"
                            " stop it first.",
                            holder,
                        )
                    client.transact([has_mod(found.key, found.mod)], [delete(found.key)])
        except BaseException:
            self._let_go()
            raise
        self._ended = threading.Event()
        threading.Thread(target=self._keep, args=(self._ended,), daemon=True).start()
        return True

    def take_again(self, client: Client, lock: list[Found], head: bytes, head_mod: int) -> None:
        """After it went: our lease was not kept alive in time. head, and head_mod: of the last
        that was written here, 0 if that was by others."""
        if self._name:
            unchanged = [has_mod(self._mark, self._alone)]
        else:
            unchanged = [has_mod(head, head_mod), has_mod(self._used, self.made)]
        is_mine = not lock and (self._name or head_mod)
        if not is_mine or not self._put(client, unchanged):
            raise self._ousted(client, lock)

    def saying(self, facts: bytes) -> dict:
        """A put of what others are to know of us."""
        self._said["facts"] = b64encode(facts).decode()
        return put(self.key, self._value(), self._lease)

    def give_back(self, client: Client) -> None:
        if self._ended:
            self._ended.set()
            self._ended = None
        if self.made:
            with suppress(Problem):  # then it ends with its lease
                client.revoke(self._lease)
            self.made = 0
        self._let_go()

    @property
    def _used(self) -> bytes:
        return self._place.prefix + b"used"

    @property
    def _mark(self) -> bytes:
        return self._place.prefix + b"alone"

    def _ousted(self, client: Client, lock: list[Found]) -> Problem:
        there = [*lock, *self._in_the_way(client)]
        mark = client.transact([], [get(self._mark)]).rows[0]
        alone = mark[0].mod if mark else 0
        if alone < self._alone:
            return client.went_back()
        holder = "which has ended"
        if there:
            holder = _parsed(there[0].value)[0]
        elif alone > self._alone:
            holder = f"{_parsed(mark[0].value)[0]}, {holder}"
        return Ousted(f"Another program ({holder}) has taken over {self._place.url}: stopping.")

    def _in_the_way(self, client: Client) -> list[Found]:
        lock, start = self._place.prefix + b"lock", self._place.prefix + b"r/"
        asked = [get(lock), get(self.key) if self._name else get(*span(start))]
        locks, replicas = client.transact([], asked).rows
        return [*locks, *replicas]

    def _put(self, client: Client, compares: list) -> bool:
        lease = client.grant(TTL_S)
        compares = [was_made(self.key, 0), *compares]
        if self._name:
            compares.append(was_made(self._place.prefix + b"lock", 0))
        else:
            compares.append(has_none(*span(self._place.prefix + b"r/")))
        puts = [put(self.key, self._value(), lease), put(self._used, os.urandom(8))]
        if not self._name:
            puts.append(put(self._mark, self._value()))
        asked = [get(self.key), get(self._mark)]
        found, mark = client.transact(compares, [*puts, *asked], asked).rows[-2:]
        if not found or found[0].lease != lease:  # ours too where an attempt before had been done
            client.revoke(lease)
            return False
        self.made, self._lease = found[0].create, lease
        self._alone = mark[0].mod if mark else 0
        return True

    def _value(self) -> bytes:
        return json.dumps(self._said).encode()

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


def replica_of(found: Found) -> Replica:
    try:
        facts = b64decode(json.loads(found.value)["facts"])
    except (ValueError, KeyError, TypeError):
        facts = b""
    return Replica(found.key.rpartition(b"/")[2].decode(), facts, found.mod)


def _parsed(value: bytes) -> tuple[str, str]:
    try:
        said = json.loads(value)
        return str(said["name"]), str(said["here"])
    except (ValueError, KeyError, TypeError):
        return "unknown", ""
