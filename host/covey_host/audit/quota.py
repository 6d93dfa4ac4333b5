"""How much of the audit log others may fill: a few entries each, then one in a while.

Whoever causes entries is a key: a member, or a stranger's address. What is left out is counted,
and the counts are entries, too, once in a while. Keys are bounded: who finds no place shares one.
"""

from collections.abc import Hashable, Iterator
from typing import Any


class Quota:
    """burst: entries at once; every_s: until one more is had; most: keys."""

    def __init__(self, burst: int, every_s: float, most: int):
        self._burst = burst
        self._every_s = every_s
        self._most = most
        self._looked_s = float("-inf")  # when _forget() has looked at all
        self._seen: dict[Hashable, list] = {}  # key → [tokens, when that was, left out]

    def take(self, key: Hashable, now_s: float) -> bool:
        """Whether one more of key is to be entered; False: it is counted."""
        if key not in self._seen and len(self._seen) >= self._most:
            self._forget(now_s)
            key = key if len(self._seen) < self._most else None
        row = self._seen.setdefault(key, [float(self._burst), now_s, 0])
        row[0] = min(self._burst, row[0] + (now_s - row[1]) / self._every_s)
        row[1] = now_s
        if row[0] < 1:
            row[2] += 1
            return False
        row[0] -= 1
        return True

    def leave_out(self, key: Hashable, count: int, now_s: float) -> None:
        """So many of key were left out before they came here."""
        if key not in self._seen and len(self._seen) >= self._most:
            key = None
        self._seen.setdefault(key, [float(self._burst), now_s, 0])[2] += count

    def left_out(self) -> Iterator[tuple[Any, int]]:
        """(key, how many) since this was asked last; key is None for those that share one."""
        for key, row in self._seen.items():
            if row[2]:
                count, row[2] = row[2], 0
                yield key, count

    def _forget(self, now_s: float) -> None:
        """Keys that would be given a whole burst again. O(keys): once in a while."""
        if now_s - self._looked_s < self._every_s:
            return
        self._looked_s = now_s
        whole_s = self._burst * self._every_s
        for key in [k for k, r in self._seen.items() if now_s - r[1] >= whole_s and not r[2]]:
            del self._seen[key]
