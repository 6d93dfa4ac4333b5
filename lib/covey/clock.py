"""What a member knows of its key server's clock: between which two moments it stands.

RFC 4082 section 3.3.1. The key server was asked, and answered with what its clock showed. When we
asked it showed no more than that, when the answer came no less; and since then our clocks have
gone apart by the drift that policy allows. So an answer that was held back makes the bound wider,
but never wrong. Too wide, or too old, it is none: then nothing is confirmed, and nothing sent.

Takes no heap but for learn(). Intervals are counted from the clock's beginning. Our ticks must not
stand still: who has slept without them knows a wrong time until the next answer, which shows it.
"""

from covey.port import const, micropython, ticks_add, ticks_diff, words
from covey.timing import ask_again_s, good_for_s

_TICK_MS = const(1)  # what our ticks leave out, and what is left out of the answer's ms
_NONE = const(-1)
_LATEST = const(0)  # of its facts
_UNTIL = const(1)


class ClockBound:
    """timing: timing.Timing, the group's."""

    def __init__(self, timing):
        lag_ms = timing.lag * timing.interval_ms
        self.most_round_ms = lag_ms // 2  # of an answer, or it is of no use
        terms = timing.lag, timing.interval_ms, timing.drift_ppm
        self.again_s = ask_again_s(*terms)
        self._most_ms = 1000 * good_for_s(*terms)
        self._interval_ms = timing.interval_ms
        self._drift_ppm = timing.drift_ppm
        self._interval = _NONE  # that the answer was of, or none
        self._ms = 0  # of it, that had gone
        self._asked_ms = 0  # ticks
        self._came_ms = 0
        # What receivers go by, who look only when it is over, in words: latest() plus one, and
        # until when, in ticks
        self.facts = words(2)

    @property
    def is_known(self):
        return self._interval >= 0

    @property
    def is_latest(self):
        """What latest() was when somebody looked; -1: nobody has, or it is over."""
        return self.facts[_LATEST] - 1

    @is_latest.setter
    def is_latest(self, interval):
        self.facts[_LATEST] = interval + 1

    @property
    def until(self):
        return self.facts[_UNTIL]

    def learn(self, clock_ms, asked_ms, came_ms):
        """An answer: what the clock showed. False: that took too long, or we know more already. If
        both can't be true, our ticks have stood still, and what we knew is wrong.
        """
        round_ms = ticks_diff(came_ms, asked_ms)
        if not 0 <= round_ms <= self.most_round_ms:
            return False
        if self.is_known and self.width_ms(came_ms) < round_ms + self._drift(0):
            if self._agrees(clock_ms, round_ms, came_ms):
                return False
        self.is_latest = _NONE
        self._interval = clock_ms // self._interval_ms
        self._ms = clock_ms % self._interval_ms
        self._asked_ms = asked_ms
        self._came_ms = came_ms
        return True

    def look(self, now_ms):
        """latest(), and from now on .is_latest, good until .until."""
        self.is_latest = self.latest(now_ms)
        self.facts[_UNTIL] = ticks_add(now_ms, self.holds_ms(now_ms))
        return self.is_latest

    @micropython.native
    def latest(self, now_ms):
        """The interval that it may be on the key server's clock at the latest; -1: who knows."""
        if self._interval < 0:
            return _NONE
        gone = ticks_diff(now_ms, self._asked_ms)
        if gone < 0:
            gone = 0
        if gone > self._most_ms:
            return _NONE
        ms = self._ms + gone + self._drift(gone) + 2 * _TICK_MS
        return self._interval + ms // self._interval_ms

    @micropython.native
    def earliest(self, now_ms):
        """The interval that it is there at the least; -1: who knows."""
        if self._interval < 0:
            return _NONE
        gone = ticks_diff(now_ms, self._came_ms)
        if gone > self._most_ms:
            return _NONE
        ms = self._ms
        if gone > 0:
            ms = max(ms, ms + gone - self._drift(gone) - _TICK_MS)
        return self._interval + ms // self._interval_ms

    @micropython.native
    def holds_ms(self, now_ms):
        """For how long latest() stays what it is at least; 0: who knows."""
        gone = max(0, ticks_diff(now_ms, self._asked_ms))
        ms = self._ms + gone + self._drift(gone) + 2 * _TICK_MS
        left = self._interval_ms - ms % self._interval_ms
        return max(0, left - self._drift(left) - _TICK_MS)

    def left_ms(self, now_ms, interval):
        """The ms until earliest() is as late as this: while it isn't 1 to 1000."""
        if self.earliest(now_ms) >= interval:
            return 0
        gone = max(0, ticks_diff(now_ms, self._came_ms))
        to_go = min(interval - self._interval, 0x3FFFFFFF // self._interval_ms)
        left = to_go * self._interval_ms - self._ms - gone + self._drift(gone) + _TICK_MS
        return min(max(left, 1), 1000)

    def width_ms(self, now_ms):
        """How far apart both are. Of a bound that is known."""
        gone = max(0, ticks_diff(now_ms, self._came_ms))
        return ticks_diff(self._came_ms, self._asked_ms) + 2 * self._drift(gone)

    def step(self, now_ms):
        """To be called each second or so: what is too old is forgotten, before ticks wrap."""
        if self.is_known and ticks_diff(now_ms, self._came_ms) > self._most_ms:
            self._interval = _NONE
        if self.is_latest >= 0 and ticks_diff(now_ms, self.until) >= 0:
            self.is_latest = _NONE

    def forget(self):
        """Nobody knows."""
        self._interval = self.is_latest = _NONE

    def _agrees(self, clock_ms, round_ms, came_ms):
        """Whether an answer says nothing that can't be, by what we know."""
        ours = self._interval * self._interval_ms + self._ms
        gone = max(0, ticks_diff(came_ms, self._came_ms))
        least = ours + gone - self._drift(gone) - _TICK_MS
        gone = max(0, ticks_diff(came_ms, self._asked_ms))
        most = ours + gone + self._drift(gone) + 2 * _TICK_MS
        return clock_ms <= most and clock_ms + round_ms + self._drift(0) + _TICK_MS >= least

    @micropython.native
    def _drift(self, ms):
        """By how much clocks go apart in so long, rounded up."""
        return (ms // 1000 + 1) * self._drift_ppm // 1000 + 1
