"""When a member tells its key server how it is, and what: see report.py. Loaded when it is asked.

At most once in the interval that the server named, up to half as much later by chance; after a
change of state or epoch as soon as that allows, at a random moment: not all members at once. A
report takes the place of a sign of life, which it is.
"""

from covey import ike
from covey.deadline import Timer
from covey.port import const, ticks_diff
from covey.report import emit_report

_CHANGES = const(4)  # that are remembered
_AGAIN_S = const(5)  # after another request was out, or there was no IKE SA


class Reporter:
    """random_ms(most_s): a random time. interval_s: between two reports; 0: no more of them."""

    def __init__(self, interval_s, random_ms, now_ms):
        self._interval_s = interval_s
        self._random_ms = random_ms
        self._at = Timer()  # when the next one goes
        self._quiet = Timer()  # none before
        self._epoch = None
        self._changes = []  # (state, at which second), oldest first
        self._seen_ms = now_ms
        self._ms = 0
        self._seconds = 0  # since we began
        self._at.start(now_ms, interval_s // 2, random_ms(interval_s))

    def changed(self, state, now_ms):
        """The member is in another state."""
        self._pass(now_ms)
        self._changes = self._changes[1 - _CHANGES :] + [(state, self._seconds)]
        self._hurry(now_ms)

    def step(self, membership, over, now_ms):
        """To be called each second or so. over: the Registration that is reported over."""
        self._interval_s = interval_s = over.report_s
        self._pass(now_ms)
        if membership.epoch != self._epoch:
            self._epoch = membership.epoch
            self._hurry(now_ms)
        if interval_s and self._at.is_due(now_ms):
            self._at.start(now_ms, _AGAIN_S)
            if over.say([ike.notify(ike.COVEY_REPORT, self._say(membership))], now_ms):
                self._quiet.start(now_ms, interval_s)
                self._at.start(now_ms, interval_s, self._random_ms(interval_s // 2))

    def _say(self, membership):
        member = membership.member
        sa = member.keys.newest()
        spi = None if sa is None else bytes(sa.spi)
        now = self._seconds
        changes = [(state, now - at) for state, at in reversed(self._changes)]
        facts = membership.epoch, now, member.opened, member.sent, changes, member.drops
        return emit_report(membership.condition, spi, *facts)

    def _hurry(self, now_ms):
        """The next report goes soon, but not before its time."""
        if not self._interval_s:
            return
        quiet_s = self._quiet.left_ms(now_ms) // 1000 + 1 if self._quiet.is_running else 0
        wait_ms = self._random_ms(self._interval_s // 4)
        if quiet_s * 1000 + wait_ms < self._at.left_ms(now_ms):
            self._at.start(now_ms, quiet_s, wait_ms)

    def _pass(self, now_ms):
        """Count the seconds."""
        self._ms += max(0, ticks_diff(now_ms, self._seen_ms))
        self._seen_ms = now_ms
        self._seconds += self._ms // 1000
        self._ms %= 1000
