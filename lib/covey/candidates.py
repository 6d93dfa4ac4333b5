"""Messages from the group that nobody has looked at yet: a bounded few, and whose turn is next.

    heard --> waits --> looked at --> in work (rekey.py), or a drop
                |
                +--> turned away, by lot

Who has the group's keys, and is about to be put out, can send any number that only a signature
tells from the key server's. So what finds no room takes the place of one that waits, or of none,
by lot, and by lot it is whose turn is next: nobody can time it. Doubts are counted of what may
have been genuine and was lost; enough of them are a reason to ask the key server (refresh.py).
"""

from covey.drops import (
    DROP_CAPACITY,
    DROP_IKE_FRAGMENT,
    DROP_REKEY_BUSY,
    DROP_REKEY_REPEAT,
    DROP_REKEY_SPI,
)
from covey.octets import u16
from covey.port import const

_TOO_EARLY = (DROP_REKEY_BUSY, DROP_REKEY_SPI)  # while keys are in work these may pass by
_SHORT = (MemoryError, OSError)  # see keywork.py
_LEAST = const(2)  # messages that wait, and
_MOST_LEN = const(4096)  # octets of more, however many

_ENOUGH = const(96)  # doubts, with which the key server is to be asked:
_FORGED = const(32)  # a message whose ICV is good, and its signature not;
_SPOILED = const(8)  # a fragment that doesn't go with those that came;
_LOST = const(1)  # what was turned away, or whose other fragments were displaced


class Candidates:
    """rekey: the Rekey whose begin() looks at a message. drops: where they are counted."""

    # An instance has its own once they change: until a rekey comes it needs no room for them
    _seen = 0  # so many of those that wait, the first, came too early
    _is_crowded = False  # whether one was turned away since nothing waited
    _look = None  # generator: Rekey.begin, of
    _looked_at = None  # this one
    _doubts = 0

    def __init__(self, rekey, drops, random):
        self._rekey = rekey
        self._drops = drops
        self._random = random
        self.clear()

    def clear(self):
        """Forget all that wait; see stop()."""
        if self._seen or self._is_crowded:
            self._seen, self._is_crowded = 0, False
        self._waiting = []

    def stop(self):
        """Forget the one that is looked at."""
        look = self._look
        if look is not None:
            self._look = self._looked_at = None
            look.close()

    @property
    def is_any(self):
        """Whether one waits or is looked at."""
        return bool(self._waiting or self._look)

    @property
    def is_new(self):
        """Whether look() has something to do."""
        return bool(self._look or len(self._waiting) > self._seen)

    def hear(self, data, is_working):
        """Whoever reads packets goes on at once. What its header alone rules out takes no place.
        is_working: keys are in work, and may bring the Rekey SA that this one came over.
        """
        try:
            reason = self._rekey.glance(data)[0]
            if reason == DROP_REKEY_SPI and is_working:
                reason = 0
            if not reason and data in self._waiting:
                reason = DROP_REKEY_REPEAT
            if not reason:
                self._find_room(data)
        except MemoryError:
            reason = DROP_CAPACITY
        self._drop(reason)

    def _find_room(self, data):
        waiting = self._waiting
        while len(waiting) >= _LEAST and sum(map(len, waiting)) + len(data) > _MOST_LEN:
            self._is_crowded = True
            self._drop(DROP_REKEY_BUSY)
            at = self._by_lot(len(waiting) + 1)
            if at == len(waiting):
                return  # it was this one's lot
            waiting.pop(at)
            if at < self._seen:
                self._seen -= 1
        waiting.append(data)

    def look(self, is_busy):
        """A slice of looking at one. is_busy: keys are in work, so it may have come too early."""
        try:
            if self._look is None:
                at = self._seen
                if self._is_crowded:
                    at += self._by_lot(len(self._waiting) - at)
                self._looked_at = self._waiting[at]
                self._look = None  # both have room from here on, so it is not lost
                self._waiting.pop(at)
                self._look = self._rekey.begin(self._looked_at)
            next(self._look)
            return
        except StopIteration as end:
            reason = end.value
        except _SHORT:
            reason = DROP_CAPACITY
        data, self._looked_at, self._look = self._looked_at, None, None
        if reason in _TOO_EARLY and is_busy:
            self._waiting.insert(self._seen, data)
            self._seen += 1
        else:
            self._drop(reason)
        if self._rekey.has_displaced:
            self._rekey.has_displaced = False
            self._doubts += _LOST
        self._is_crowded = self._is_crowded and bool(self._waiting)

    def look_again(self):
        """At what came too early: what was in work is through."""
        self._seen = 0

    # Doubts

    @property
    def is_flooded(self):
        """Whether to ask the key server; see settle()."""
        return self._doubts >= _ENOUGH

    def doubt(self):
        """What was looked at, and worked on, was forged."""
        self._doubts += _FORGED

    def settle(self):
        """Something genuine was followed, or the key server is asked."""
        if self._doubts:
            self._doubts = 0

    # Inside

    def _drop(self, reason):
        """0: nothing is dropped."""
        if reason:
            self._drops.count(reason)
        if reason == DROP_IKE_FRAGMENT:
            self._doubts += _SPOILED
        elif reason in (DROP_REKEY_BUSY, DROP_CAPACITY):
            self._doubts += _LOST

    def _by_lot(self, count):
        """One of so many."""
        return u16(self._random(2), 0) % count
