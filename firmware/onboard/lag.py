"""How much later a frame came than the quickest one before, by no clock that is shared.

What is held against each other are two clocks' differences: the moment at which a frame came, by
ours, less the moment at which it left, by the producer's, which the frame tells. The least of all
so far is that of the quickest frame, and what lies above it is lag. Clocks of boards go apart, so
the least grows by 1 ms in 1024, a fifth of which a crystal may be wrong by: who holds frames
back can do so more and more at that pace, and is not found out.

A producer that starts anew begins with another clock, and says so by another run, a number drawn
by lot. How old the first frame of a run is nothing says; but the runs that were left last don't
come back: their frames were held back. Only a frame that is proven to be the producer's says that
it has left one: else any member could, and the producer would be silent for good.
"""

from covey.port import const, ticks_add, ticks_diff

_WRAP = const(0x3FFFFFFF)  # of ticks
_HALF = const(0x20000000)
_DRIFT = const(10)  # the least grows by 1 ms in 2 to the power of this
_LEFT = const(4)  # runs that are remembered
FOR_EVER = const(0x20000000)  # ms: more than any lag that is measured


class Lag:
    """Of one producer's frames. run: which of its clocks they are held against; -1: none yet.

    Nothing here allocates.
    """

    def __init__(self):
        self.run = -1
        self._left = [-1] * _LEFT  # the runs before
        self._oldest = 0  # of these
        self._least = 0  # our ticks less the producer's, of the quickest frame
        self._grown_ms = 0  # up to when the least has grown

    def of(self, run, told_ms, now_ms, is_proven=True):
        """ms, of a frame of this run that left at told_ms and came now. FOR_EVER, and nothing is
        taken from it, where the run was left for another one."""
        apart = now_ms - told_ms & _WRAP
        if run != self.run:
            if run in self._left:
                return FOR_EVER
            if is_proven:
                self._left[self._oldest] = self.run
                self._oldest = (self._oldest + 1) % _LEFT
            self.run = run
            self._least, self._grown_ms = apart, now_ms
            return 0
        self.go_on(now_ms)
        lag = apart - self._least & _WRAP
        if lag < _HALF:
            return lag
        self._least, self._grown_ms = apart, now_ms  # none was as quick
        return 0

    def go_on(self, now_ms):
        """To be called now and then where nothing comes, too: ticks know no more than six days."""
        steps = ticks_diff(now_ms, self._grown_ms) >> _DRIFT
        if steps > 0:
            self._least = ticks_add(self._least, steps)
            self._grown_ms = ticks_add(self._grown_ms, steps << _DRIFT)
