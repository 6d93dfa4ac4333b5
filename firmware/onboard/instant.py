"""One setting for many, in force everywhere at one instant, without a clock that all share.

    0         2         4             6
    +---------+---------+-------------+
    | number  | value   | ms until it |   little-endian; value is signed; 0 ms: it is in force
    +---------+---------+-------------+

The producer says in each frame how long it takes until a new setting counts. To who hears it, that
is: the moment at which it came, plus so long. A frame may come late, never early: the least of all
these moments is the best, and what one frame waited somewhere does not matter. Where frames tell
the producer's clock, what each waited is known, and is taken off (cyclic.py). What remains is what
the quickest of them took, in which consumers differ by microseconds on one switch, and a
millisecond of the clock. Settings that must agree better need a clock that is shared, such as
IEEE 1588 in CIP Sync.

A Follower takes up no setting that it has not heard announced: whoever starts, or comes back,
stands still until the next one.
"""

from struct import pack_into, unpack_from

from covey.port import ticks_add, ticks_diff

LEN = 6
_FORM = "<HhH"


class Announcer:
    """The producer's side. lead_ms: how long a setting is announced, longer than a connection's
    timeout: who has heard nothing of it has timed out.
    """

    def __init__(self, lead_ms):
        self._lead_ms = lead_ms
        self.number = 0
        self.value = 0
        self.due_ms = None  # by our ticks; None: it is in force

    def set(self, value, now_ms):
        """A new setting; False while the last one is still being announced."""
        if self._left(now_ms):
            return False
        self.number = self.number + 1 & 0xFFFF
        self.value = value
        self.due_ms = ticks_add(now_ms, self._lead_ms)
        return True

    def emit(self, buf, off, now_ms):
        """Put it there, in the frame that leaves now."""
        pack_into(_FORM, buf, off, self.number, self.value, self._left(now_ms))

    def _left(self, now_ms):
        if self.due_ms is None:
            return 0
        left = ticks_diff(self.due_ms, now_ms)
        if left <= 0:
            self.due_ms = None
        return max(left, 0)


class Follower:
    """A consumer's side. number, value: of the setting in force here; None and 0: we stand."""

    def __init__(self):
        self.stop()

    def stop(self):
        """Whatever was announced."""
        self.number = None
        self.value = 0
        self._next = None  # (number, value)
        self._due_ms = 0  # of _next

    def hear(self, buf, off, now_ms):
        """What a frame that came now says. False: a setting is in force that was never announced
        to us; the others have it, and we stand.
        """
        number, value, left = unpack_from(_FORM, buf, off)
        if number == self.number and value == self.value:
            return True
        due_ms = ticks_add(now_ms, left)
        if self._next != (number, value):
            if not left:
                is_behind = self.number is not None
                self.stop()
                return not is_behind
            self._next = number, value
            self._due_ms = due_ms
        elif ticks_diff(due_ms, self._due_ms) < 0:
            self._due_ms = due_ms
        return True

    def latch(self, now_ms):
        """Whether a setting comes into force now."""
        if self._next is None or ticks_diff(self._due_ms, now_ms) > 0:
            return False
        self.number, self.value = self._next
        self._next = None
        return True

    def wait_ms(self, most_ms, now_ms):
        """How long there is nothing to latch."""
        if self._next is None:
            return most_ms
        return max(0, min(most_ms, ticks_diff(self._due_ms, now_ms)))
