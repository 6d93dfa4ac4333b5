"""Virtual time: what is due next happens next, and nothing waits."""

import heapq
from itertools import count


class Clock:
    """now_ms: of the world. Members and the key server read it through clocks of their own."""

    def __init__(self):
        self.now_ms = 0
        self._due = []
        self._serial = count()  # two at one moment: first come, first served

    def at(self, ms, call, *args):
        """Call it then; a moment that has passed is now."""
        entry = max(ms, self.now_ms), next(self._serial), call, args
        heapq.heappush(self._due, entry)

    def after(self, ms, call, *args):
        self.at(self.now_ms + ms, call, *args)

    def run_until(self, ms):
        """Everything that is due up to this moment, in order. What is called may call this: time
        passes while it stands still."""
        due = self._due
        while due and due[0][0] <= ms:
            self.now_ms, _, call, args = heapq.heappop(due)
            call(*args)
        self.now_ms = max(self.now_ms, ms)


class Alarm:
    """The one next time that somebody wants to be called; an earlier wish replaces a later one."""

    def __init__(self, clock, call):
        self._clock = clock
        self._call = call
        self._due_ms = None

    def set(self, ms):
        """Be called then, or earlier if that was wished before."""
        if self._due_ms is None or ms < self._due_ms:
            self._due_ms = ms
            self._clock.at(ms, self._ring, ms)

    def clear(self):
        self._due_ms = None

    def _ring(self, ms):
        if self._due_ms == ms:  # else it was replaced
            self._due_ms = None
            self._call()
