"""Which key server is asked, and when: one after the other, round after round.

A round without an answer is followed by a pause that doubles, half of it random, so that servers
that come back are not met by everybody at once. An answer that lets us in ends it. What else there
is to know where covey.json has more than one of them is in several.py.
"""

from covey import registration
from covey.port import const

_FIRST_MS = const(1000)
_MOST_MS = const(300000)


class Servers:
    """listed: [config.Server]; random(n): octets."""

    def __init__(self, listed, random):
        self._listed = listed
        self._random = random
        self._at = 0
        self._silent = 0  # how many did not answer, since one did
        self._pause_ms = _FIRST_MS

    @property
    def current(self):
        return self._listed[self._at]

    @property
    def has_asked_all(self):
        """Whether a round is over."""
        return self._silent % len(self._listed) == 0

    def next(self):
        """The current one does not answer → ms until the next is to be asked."""
        self._at = (self._at + 1) % len(self._listed)
        self._silent += 1
        if not self.has_asked_all:
            return 0
        half_ms = self._pause_ms // 2
        self._pause_ms = min(2 * self._pause_ms, _MOST_MS)
        return half_ms + int.from_bytes(self._random(4), "big") % (half_ms + 1)

    def answered(self):
        self._silent = 0
        self._pause_ms = _FIRST_MS

    # What a Several has more to do about

    def registration(self, *args):
        """registration.Registration with the current one."""
        return registration.Registration(*args)

    def has_taken(self, it, outcome):
        """Whether what a registration has come to is no affair of Membership `it` any more."""
        return False

    def wipe(self):
        pass
