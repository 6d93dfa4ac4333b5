"""A group's turn, where several key servers write into one store: who writes knew all before it.

    group/NAME/turn   {"n": writes of this group's rows so far, "gone": [[n, [KEY, ...]], ...]
                      which rows each of the last ones deleted, without group/NAME/, "full": who
                      knew fewer writes than these has to read all rows}

Every write of a group's rows compares the turn that its writer knows, and puts the next one. What
was deleted shows in no row that is left: so it stands here, for a while.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

_MOST = 32  # deleted rows that are named
_LAST = 256  # writes for which they are


@dataclass(frozen=True)
class Turn:
    n: int = 0
    full: int = 0
    gone: tuple[tuple[int, tuple[str, ...]], ...] = ()

    def after(self, deleted: list[str]) -> Turn:
        """The one of a write that deletes these."""
        n = self.n + 1
        full, gone = self.full, list(self.gone)
        if deleted:
            gone.append((n, tuple(deleted)))
        while gone and (sum(len(keys) for _, keys in gone) > _MOST or gone[0][0] <= n - _LAST):
            full = gone.pop(0)[0]
        return Turn(n, full, tuple(gone))

    def gone_since(self, known: Turn) -> list[str] | None:
        """What was deleted since a turn before; None: nobody knows any more."""
        if known.n < self.full or known.n > self.n:
            return None
        return [key for n, keys in self.gone if n > known.n for key in keys]


def parsed(value: bytes | None) -> Turn:
    """None: nobody has written there."""
    if value is None:
        return Turn()
    fields = json.loads(value)
    return Turn(fields["n"], fields["full"], tuple((n, tuple(k)) for n, k in fields["gone"]))


def emitted(turn: Turn) -> bytes:
    fields = {"n": turn.n, "full": turn.full, "gone": turn.gone}
    return json.dumps(fields, separators=(",", ":")).encode()
