"""Whether the key server is still heard: a member that lives in the past is to know it.

    heard --quarter to half of max_silence--> asks --> registers --max_silence--> silent

Heard is what nobody can have kept: a rekey that is new, keys that were asked for, an answer to a
sign of life that we asked for, unless it says that we lack the group's keys. In silence nothing
is confirmed, and with on_silence = "stop" nothing is delivered. Sans-IO; loaded where policy has
a max_silence. When to ask is drawn, so that a group that heard one rekey doesn't ask as one. Who
gets no answer, as after a restart of the key server, registers in time before it is silent.
"""

from covey import ike
from covey.deadline import Timer
from covey.ike import notifies
from covey.keystore import is_among

# What answered() says
HEARD = 1
BEHIND = 2  # keys were missed
OVERTAKEN = 3  # it is older than a rekey that we have followed


class Silence:
    """it: the membership.Membership, whose part this is."""

    def __init__(self, it):
        self.is_over = False  # there is silence, for longer than policy has it
        self._it = it
        self._ask = Timer()
        self._end = Timer()
        self._max_s = 0  # 0: policy has none any more
        self._stops = False
        self._has_asked = False  # since it was heard
        self._has_told = False  # of the silence

    def heard(self, now_ms, left_s=None):
        """From now on, by the group's terms; left_s: that was earlier, and 0 so early
        that there is silence at once."""
        it, was_over = self._it, self.is_over
        self._max_s, self._stops = it._group.terms.silence or (0, False)
        self._say(left_s == 0 and self._max_s > 0)
        self._has_told = False
        self._ask.stop()
        self._end.stop()
        if self._max_s:
            left_s = self._max_s if left_s is None else left_s
            self._end.start(now_ms, left_s)
            self._ask.start(now_ms, left_s // 4, it._random_ms(left_s // 4))
            self._has_asked = False
        if was_over and not (it.events and it.events[-1][0] == it.state_name):
            it.events.append((it.state_name, it.reason))

    def step(self, now_ms):
        """What has come of a sign of life; ask for one; say that there is silence."""
        it = self._it
        ike_sa = it._ike
        if ike_sa is not None and ike_sa.alive is not None:
            alive, ike_sa.alive = ike_sa.alive, None
            said = self._answered(alive[0])
            if said == HEARD:
                self.heard(now_ms)
            elif said == BEHIND and not it._keys.is_registering:
                it._refresh.missed(now_ms)
        if self._ask.is_due(now_ms):
            is_again, self._has_asked = self._has_asked, True
            self._ask.start(now_ms, self._max_s // 8, it._random_ms(self._max_s // 16))
            if ike_sa is not None and ike_sa.is_beginning:
                pass  # it is being asked
            elif is_again or ike_sa is None or not ike_sa.is_established:
                it._refresh.missed(now_ms)
            else:
                ike_sa.say((), now_ms)
        if not self._has_told and self._end.is_due(now_ms):
            self._say(True)
            self._has_told = True
            why = "Nothing heard from the key server for %d s." % self._max_s
            it.events.append(("silent", why))

    def _answered(self, payloads):
        """A sign of life of the key server, by which TEKs it has, where it says so."""
        spis = b""
        for notification in notifies(payloads):
            if notification.type == ike.COVEY_CURRENT:
                spis = notification.data
        if len(spis) < 4:
            return HEARD  # another make, or another policy
        keys = self._it.member.keys
        said = BEHIND
        for off in range(0, len(spis) - 3, 4):
            if keys.find(spis, off) is not None:
                return HEARD
            if is_among(keys.retired, spis, off):
                said = OVERTAKEN
        return said

    def forget(self):
        """Nothing was heard, and nothing is missed."""
        self._max_s = 0
        self._ask.stop()
        self._end.stop()
        self._say(False)

    def _say(self, is_over):
        self.is_over = is_over
        member = self._it.member
        member.may_confirm = not is_over
        member.shut(is_over and self._stops)
