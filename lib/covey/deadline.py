"""When something is due, on a clock that wraps every 12.4 days: in years, or again and again."""

from covey.port import const, ticks_add, ticks_diff

_DAY_MS = const(86400000)


class Timer:
    """Counts down from a number of seconds (u32) while it runs; moved forward by whoever asks.

    Ask at least once in six days: beyond half the clock's range a step forward reads as one
    back. left_ms() is capped at a day, so that a caller who sleeps as long as it says does.
    """

    def __init__(self):
        self.is_running = False  # else it is never due
        self._days = 0  # whole days still to run; with _ms apart both stay small ints
        self._ms = 0  # the rest; not above 0 with no days left: due
        self._seen_ms = 0  # ticks up to which the two are counted down

    def start(self, now_ms, seconds, ms=0):
        """Due in so many seconds and milliseconds; a running one starts anew."""
        self.is_running = True
        seconds += ms // 1000
        self._days = seconds // 86400
        self._ms = seconds % 86400 * 1000 + ms % 1000
        self._seen_ms = now_ms

    def hasten(self, now_ms, seconds):
        """Due in so many seconds, less than a day, as every ATD and DTD is: or sooner anyway."""
        if self.left_ms(now_ms) > seconds * 1000:
            self.start(now_ms, seconds)

    def stop(self):
        self.is_running = False

    def is_due(self, now_ms):
        if not self.is_running:
            return False
        elapsed = ticks_diff(now_ms, self._seen_ms)
        if elapsed > 0:  # an older now_ms than one seen before changes nothing
            self._seen_ms = now_ms
            self._ms -= elapsed
            while self._ms <= 0 and self._days:
                self._days -= 1
                self._ms += _DAY_MS
            if self._ms < 0:
                self._ms = 0
        return self._ms == 0 and self._days == 0

    def rings(self, now_ms):
        """Whether it is due, once: then it stops."""
        is_due = self.is_due(now_ms)
        if is_due:
            self.is_running = False
        return is_due

    def left_ms(self, now_ms):
        """Milliseconds to run, 0 when due, a day at most."""
        if self.is_due(now_ms):
            return 0
        if self._days or not self.is_running:
            return _DAY_MS
        return self._ms


def seconds_left(deadline, now_ms):
    """Whole seconds to run, however many."""
    deadline.is_due(now_ms)
    return deadline._days * 86400 + deadline._ms // 1000


class Patience:
    """When to send a request again, and when to give it up: RFC 7296 section 2.4.

    Of one at a time. config: retransmit_first_ms (doubled each time) and _total_s.
    """

    def __init__(self, config):
        self._config = config
        self._interval_ms = 0
        self._due = 0  # ticks of the next repetition, and
        self._end = 0  # of the end

    def start(self, now_ms, most_s=3600):
        """The request is out, or will be soon. most_s: then it is given up at the latest."""
        self._interval_ms = self._config.retransmit_first_ms
        self._due = ticks_add(now_ms, self._interval_ms)
        self._end = ticks_add(now_ms, min(self._config.retransmit_total_s, most_s) * 1000)

    def is_over(self, now_ms):
        return ticks_diff(self._end, now_ms) <= 0

    def is_due(self, now_ms):
        """Whether to send it again now; if so, twice the time goes by before the next."""
        if ticks_diff(self._due, now_ms) > 0:
            return False
        self._interval_ms *= 2
        self._due = ticks_add(now_ms, self._interval_ms)
        return True

    def waited_ms(self, now_ms):
        """Since start(), without most_s."""
        return self._config.retransmit_total_s * 1000 - ticks_diff(self._end, now_ms)

    def left_ms(self, now_ms):
        """Until something is to be done."""
        return min(ticks_diff(self._end, now_ms), ticks_diff(self._due, now_ms))
