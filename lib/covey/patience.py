"""When to send a request again, and when to give it up: RFC 7296 section 2.4."""

from covey.port import ticks_add, ticks_diff


class Patience:
    """Of one request at a time. config: retransmit_first_ms (doubled each time) and _total_s."""

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
