"""Which IKE SAs have something to do: found without looking at those that have not.

Each is put down for one time, the earliest that was asked for; when it comes, whoever wakes it
puts it down anew. Times that no longer hold stay in the heap until they are on top, or too many.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

NEVER = 1 << 62
_LEAST = 64  # entries that are not worth tidying up

if TYPE_CHECKING:
    from .ikesa import IkeSA


class Timers:
    def __init__(self):
        self._heap: list[tuple[int, int, IkeSA]] = []
        self._serial = count()  # IKE SAs have no order
        self._most = _LEAST

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, sa: IkeSA, due_ms: int) -> None:
        """Wake it then, or earlier if that was asked for before."""
        if due_ms >= sa.wake_ms:
            return
        sa.wake_ms = due_ms
        heapq.heappush(self._heap, (due_ms, next(self._serial), sa))
        if len(self._heap) > self._most:
            self._heap = [entry for entry in self._heap if _holds(entry)]
            heapq.heapify(self._heap)
            self._most = _LEAST + 2 * len(self._heap)

    def take(self, sa: IkeSA) -> None:
        """It is not to be woken any more."""
        sa.wake_ms = NEVER

    def due(self, now_ms: int, most: int) -> list[IkeSA]:
        """Those whose time has come, so many of them; they are put down no more."""
        found = []
        while len(found) < most and self.next_ms() <= now_ms:
            _, _, sa = heapq.heappop(self._heap)
            self.take(sa)
            found.append(sa)
        return found

    def next_ms(self) -> int:
        while self._heap and not _holds(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else NEVER


def _holds(entry: tuple[int, int, IkeSA]) -> bool:
    due_ms, _, sa = entry
    return due_ms == sa.wake_ms
