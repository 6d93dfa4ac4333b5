"""Which multicast connections are open, by what targets answered. Sans I/O, bounded.

Several originators share a multicast connection: its ID stays known until the last of them has
closed it, or it has been silent for as long as any timeout may be. An owner (connection serial
number, vendor, serial number) has one connection at a time: opened anew, the old one is gone.
"""

from .encap import Opened

MOST_CONNECTIONS = 32  # of one flow
MOST_OWNERS = 64  # of one connection

_LONGEST = 512  # times its interval: the greatest timeout that a connection may have
_LEAST_S = 10.0  # before which no connection times out that has just been opened


class Learned:
    """The connections of one flow."""

    def __init__(self):
        self._open: dict[bytes, _Connection] = {}

    def __contains__(self, connection: bytes) -> bool:
        return connection in self._open

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, told: Opened, now_s: float) -> bool:
        """False: there is no room for it."""
        self.closed(told.owner)
        known = self._open.get(told.connection)
        if known is None:
            if len(self._open) == MOST_CONNECTIONS:
                return False
            known = self._open[told.connection] = _Connection()
        elif len(known.owners) == MOST_OWNERS:
            return False
        known.owners.add(told.owner)
        known.patience_s = max(known.patience_s, told.interval_us * _LONGEST / 1e6)
        known.heard_s = now_s
        return True

    def closed(self, owner: bytes) -> bytes | None:
        """The connection that nobody has any more."""
        for connection, known in self._open.items():
            if owner in known.owners:
                known.owners.discard(owner)
                if known.owners:
                    return None
                del self._open[connection]
                return connection
        return None

    def heard(self, connection: bytes, now_s: float) -> None:
        self._open[connection].heard_s = now_s

    def expire(self, now_s: float) -> list[bytes]:
        """Those that have been silent for too long, and are forgotten."""
        over = [c for c, known in self._open.items() if now_s - known.heard_s > known.patience_s]
        for connection in over:
            del self._open[connection]
        return over


class _Connection:
    def __init__(self):
        self.owners: set[bytes] = set()
        self.patience_s = _LEAST_S
        self.heard_s = 0.0
