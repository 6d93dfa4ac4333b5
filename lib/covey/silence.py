"""Whether the key server is still heard: a member that lives in the past is to know it.

    heard --quarter to three quarters of max_silence--> asks --max_silence--> silent --heard--> ...

Heard is what nobody can have kept: a rekey that is new, keys that were asked for, an answer to a
sign of life that we asked for, unless it says that we lack the group's keys. In silence nothing
is confirmed, and with on_silence = "stop" nothing is delivered. Sans-IO; loaded where policy has
a max_silence. When to ask is drawn, so that a group that heard one rekey doesn't ask as one.
"""

from covey import ike
from covey.deadline import Timer
from covey.payloads import notifies

# What answered() says
HEARD = 1
BEHIND = 2  # keys were missed
OVERTAKEN = 3  # it is older than a rekey that we have followed


class Silence:
    """member: member.Member, which is told. random_ms(most_s): a random delay."""

    def __init__(self, member, random_ms):
        self.is_over = False  # there is silence, for longer than policy has it
        self._member = member
        self._random_ms = random_ms
        self._ask = Timer()
        self._end = Timer()
        self._max_s = 0  # 0: policy has none any more
        self._stops = False

    def heard(self, terms, now_ms, left_s=None):
        """From now on, by these group.terms; left_s: that was earlier. → whether silence ends."""
        was_over = self.is_over
        self._max_s, self._stops = terms.silence or (0, False)
        self._say(False)
        self._ask.stop()
        self._end.stop()
        if self._max_s:
            self._end.start(now_ms, self._max_s if left_s is None else left_s)
            self._ask_later(now_ms)
        return was_over

    def answered(self, payloads):
        """A sign of life of the key server, by which TEKs it has, where it says so."""
        spis = b""
        for notification in notifies(payloads or ()):
            if notification.type == ike.COVEY_CURRENT:
                spis = notification.data
        if len(spis) < 4:
            return HEARD  # another make, or another policy
        keys = self._member.keys
        said = BEHIND
        for off in range(0, len(spis) - 3, 4):
            if keys.find(spis, off) is not None:
                return HEARD
            if keys.was_retired(spis, off):
                said = OVERTAKEN
        return said

    def is_asking(self, now_ms):
        """Whether to ask for a sign of life now, once."""
        if not self._ask.is_due(now_ms):
            return False
        self._ask_later(now_ms)
        return True

    def begins(self, now_ms):
        """Whether silence begins now, once."""
        if self.is_over or not self._end.is_due(now_ms):
            return False
        self._say(True)
        return True

    def left_s(self, now_ms):
        """Whole seconds until it does."""
        return 0 if self.is_over else self._end.left_s(now_ms)

    @property
    def reason(self):
        return "Nothing heard from the key server for %d s." % self._max_s

    def _ask_later(self, now_ms):
        self._ask.start(now_ms, self._max_s // 4, self._random_ms(self._max_s // 2))

    def _say(self, is_over):
        self.is_over = is_over
        self._member.may_confirm = not is_over
        self._member.shut(is_over and self._stops)
