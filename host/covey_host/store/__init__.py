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

from typing import Protocol

from ..errors import Problem

# One key of a compare-and-swap: (key, the version it must still have, the new value; None deletes)
Change = tuple[str, int, bytes | None]


class Fenced(Problem):
    """A newer term exists: another key server has taken over, this one must stop writing."""


class Locked(Problem):
    """Another process acts on this store: the holder, as it called itself."""

    def __init__(self, sentence: str, holder: str):
        super().__init__(sentence)
        self.holder = holder


class Store(Protocol):
    """Every method raises Problem (one sentence) where the store can't be read or written.

    After a Problem from a writing method its outcome is unknown: read before trying again.
    What a writing method returned for is on the disk (or in a quorum), whatever is killed next.
    """

    def read(self, key: str) -> tuple[bytes | None, int]:
        """The value and its version; (None, 0) where there is none.

        A version is the store's revision at the last write of the key: it is never used twice, so
        that a key deleted and made again does not look unchanged.
        """

    def scan(self, prefix: str, after: str = "", most: int = -1) -> list[tuple[str, bytes, int]]:
        """(key, value, version) of every key that begins with prefix, by key, from one moment.

        after: only keys behind that one; most: no more of them than so many, if not negative.
        """

    def compare_and_swap(self, changes: list[Change], term: int | None) -> int:
        """Write all changes or none → their version from now on. 0, and nothing written, where a
        version has moved on.

        With a term the write is conditional on it: Fenced where that is not the newest one.
        None is for what any replica may write.
        """

    def reserve(self, name: str, n: int) -> int:
        """The first of n consecutive numbers that no one gets again, ever. A name starts at 0.

        Durable before it returns. Numbers reserved and not used by a killed process are gaps.
        """

    def acquire_term(self, owner: str) -> int:
        """A new term, above all earlier ones, whose holders are Fenced from now on."""

    def lock(self, owner: str) -> None:
        """Be the only one that acts on this store until close() or the end of the process.

        Locked where another process is. Reading needs no lock.
        """

    def checkpoint(self) -> None:
        """What was replaced is nowhere any more, as far as this store can see to that."""

    def numbers(self) -> tuple[dict[str, int], int, str]:
        """Of each name the next number, the newest term, and who acquired it."""

    def close(self) -> None:
        """Give the lock back and let go of the store. Twice is once."""
