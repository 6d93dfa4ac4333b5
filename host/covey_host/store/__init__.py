"""Where the key server keeps what it must not forget: one interface, SQLite behind it.

The interface is small enough for a consensus engine to stand behind it too: versions are
revisions of the whole store, writes are compare-and-swap, and everything that must happen once
is conditional on a fencing term. Keys are ASCII paths ("group/line1/state"); values are octets
that only the caller understands.

Callers keep most values under 1 MiB and most swaps under 100 keys, but not all. The messages of
one change of keys are one value, of 2 MiB if they are 1024 portions; who is removed while no
server runs is a list of names in one value; and putting out many members at once is one swap
of about two keys for each, some 2000 for 1000. A store that can't do that in one piece has to
split it itself, and still write all or none.
"""

import enum
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, Protocol

from ..errors import Problem


class _Keep(enum.Enum):
    KEEP = "keep"


KEEP: Final = _Keep.KEEP  # in place of a value: compare the version, write nothing

Value = bytes | None | Literal[_Keep.KEEP]

# One key of a compare-and-swap: (key, the version it must still have, 0 where it must be absent;
# the new value; None deletes; KEEP only compares)
Change = tuple[str, int, Value]


class Fenced(Problem):
    """A newer term exists: another key server has taken over, this one must stop writing."""


class Ousted(Fenced):
    """This process was stopped for so long that its place is another's: the lock, or its name
    among replicas. It can write nothing any more, whoever has the term: it is to end."""


class Locked(Problem):
    """Another process acts on this store: the holder, as it called itself."""

    def __init__(self, sentence: str, holder: str):
        super().__init__(sentence)
        self.holder = holder


class WentBack(Problem):
    """The store is an older copy of what it was under this process: nothing known of it holds."""


class Lead(NamedTuple):
    """Who does what must happen once. It changes with every beat and every new term."""

    term: int = 0  # the newest; 0: there was none yet
    owner: str = ""  # who acquired it, in its own words
    run: str = ""  # as acquire_term() was last told one
    facts: bytes = b""  # as the last beat() said; b"" where that can't be read
    version: int = 0  # never used twice


class Changed(NamedTuple):
    """What is new since a revision, all from one moment."""

    rows: list[tuple[str, bytes, int]]  # key, value, version, by key; nothing of what was deleted
    revision: int  # of the store at that moment: since, for the next call
    lead: Lead  # at that moment


class Replica(NamedTuple):
    """A process that has joined, or lately had."""

    name: str
    facts: bytes  # as present() last said; b"" before, and where they can't be read
    version: int  # new with every present()


class Store(Protocol):
    """Every method raises Problem (one sentence) where the store can't be read or written.

    After a Problem from a writing method its outcome is unknown: read before trying again. Of a
    swap that may have been written for others to read the Problem says so: is_in_doubt.
    What a writing method returned for is on the disk (or in a quorum), whatever is killed next.
    """

    def read(self, key: str) -> tuple[bytes | None, int]:
        """The value and its version; (None, 0) where there is none.

        A version is the store's revision at the last write of the key: it is never used twice, so
        that a key deleted and made again does not look unchanged.
        """

    def read_many(self, keys: Sequence[str]) -> list[tuple[bytes | None, int]]:
        """The same of each, in their order, from one moment. Where a store is far away this is
        the way to read what is not together under one prefix."""

    def scan(self, prefix: str, after: str = "", most: int = -1) -> list[tuple[str, bytes, int]]:
        """(key, value, version) of every key that begins with prefix, by key, from one moment.

        after: only keys behind that one; most: no more of them than so many, if not negative.
        """

    def compare_and_swap(self, changes: list[Change], term: int | None) -> int:
        """Write all changes or none → their version from now on. 0, and nothing written, where a
        version has moved on. What is KEEP keeps its version.

        With a term the write is conditional on it: Fenced where that is not the newest one.
        None is for what any replica may write.
        """

    def reserve(self, name: str, n: int) -> int:
        """The first of n consecutive numbers that no one gets again, ever. A name starts at 0.

        Durable before it returns. Numbers reserved and not used by a killed process are gaps.
        """

    def changed(self, prefix: str, since: int) -> Changed:
        """The keys that begin with prefix and were written after revision since (0: ever), as
        they are now. Cheap where nothing was written, however many keys there are: for asking
        ten times a second.

        A version is a revision: what compare_and_swap() returned may be taken for since, by who
        knows all before it. A revision never goes back under a living process, in any method:
        WentBack where an older copy of the store was put in its place.
        """

    def acquire_term(
        self, owner: str, seen: int | None = None, run: str | None = None, facts: bytes = b""
    ) -> int:
        """A new term, above all earlier ones, whose holders are Fenced from now on. The lead has
        a new version, this owner and these facts, and keeps its run unless one is given.

        seen: the version of the lead as it was last looked at: 0, and nothing written, where
        there was a beat or another term since.
        """

    def beat(self, term: int, facts: bytes) -> None:
        """The holder of this term lives: the lead gets a new version and these facts. Fenced
        where the term isn't the newest. No entry changes, and changed() shows none."""

    def lock(self, owner: str) -> None:
        """Be the only one that acts on this store until close() or the end of the process.

        Locked where another process is, or a replica has joined. Reading needs no lock.
        """

    def join(self, name: str) -> None:
        """Act on this store beside others, as the replica of this name (ASCII, no "/"), until
        close() or the end of the process, in place of lock().

        Locked where a living process has that name, or has the lock.
        """

    def present(self, facts: bytes) -> None:
        """What others are to know of this replica, after join(): said again every second or so,
        for by that others know that it lives. No entry changes, and changed() shows none."""

    def replicas(self) -> list[Replica]:
        """By name. One that died may be here for some seconds more: its version stands still."""

    def checkpoint(self) -> None:
        """What was replaced is nowhere any more, as far as this store can see to that."""

    def numbers(self) -> tuple[dict[str, int], int, str]:
        """Of each name the next number, the newest term, and who acquired it."""

    def close(self) -> None:
        """Give the lock back and let go of the store. Twice is once."""
