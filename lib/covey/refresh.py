"""When a member asks for the group's current keys: timers, and whether an answer is still current.

Over one IKE SA the server's answer to a pull and its GSA_INBAND_REKEY can overtake each other, as
each is sent again until it is acknowledged. Nothing in them says which is newer. So

    an inband rekey while a pull is out     makes its answer worth nothing: pulled again
    an inband rekey soon after the answer   is taken, as it may be new, and pulled behind it

A pull replaces all that is there, and what is asked for last is current.
"""

from covey.deadline import Timer
from covey.group import soft_lifetime_s
from covey.port import const

_PULL_S = const(5)
_MISSED_S = const(30)  # at most one registration in so long, whatever SPIs are shown to us;
_MISSED_MOST_S = const(3600)  # doubled up to this while it brings no new keys
_DOUBTED_S = const(30)  # from one question under a flood to the next, and up to as much more
_DOUBTED_WAIT_S = const(10)  # until such a question at most, however long a member else waits
_OVERLAP_S = const(60)  # a server has given up a request long before


class Refresh:
    """spread_ms(most_s): a random delay, so that a whole group does not ask at the same moment;
    without most_s one as covey.json has it.
    """

    # An instance has its own once they change
    is_doubted = False  # something genuine may be lost among forgeries
    _doubted_until = None  # Timer: no further question because of that before

    def __init__(self, spread_ms):
        self.at = Timer()  # when to register (again)
        self._spread_ms = spread_ms
        self._soft_ends = Timer(), Timer()  # of the data SAs' lifetimes, of the Rekey SA's
        self._patience = Timer()  # for an answer over an old IKE SA
        self._missed_until = Timer()  # no further registration for a missed rekey before
        self._answered = Timer()  # a pull was answered a moment ago
        # From here on, that they change takes no memory
        self._missed_s = _MISSED_S
        self._is_missing = False  # and it is too early to register for that
        self._is_unheard = False  # .at runs only as a rekey was missed, or not heard yet
        # Keys that a pull brings may be older than those of an inband rekey, which came since
        self.is_stale = False
        self._is_doubtful = False  # one that is in work came soon after a pull

    @property
    def is_pulling(self):
        return self._patience.is_running

    def start(self, now_ms, seconds, ms=0):
        """In so long, whatever was to be before."""
        self._is_unheard = False
        self.at.start(now_ms, seconds, ms)

    def begun(self):
        """A new IKE SA is begun: what was to be asked is, and what is out has no answer."""
        self.at.stop()
        self._patience.stop()

    def soon(self, now_ms):
        """After a random delay, unless it is to be anyway."""
        self._is_unheard = False
        if not self.at.is_running:
            self.at.start(now_ms, 0, self._spread_ms())

    def missed(self, now_ms):
        """The key server says that we lack keys: as soon(), unless a repeat brings them."""
        if not (self.at.is_running or self.is_pulling):
            self.soon(now_ms)
            self._is_unheard = True

    def is_due(self, now_ms):
        """Whether to ask now, once."""
        if not self.at.rings(now_ms):
            return False
        self._is_unheard = False
        return True

    def pulled(self, now_ms):
        """A pull is out."""
        self._patience.start(now_ms, _PULL_S)
        self.is_stale = False

    def is_unanswered(self, now_ms):
        """Whether the pull has waited long enough, once."""
        return self._patience.rings(now_ms)

    def answered(self, now_ms):
        """An outcome is there: of a pull, if one is out."""
        if self.is_pulling:
            self._answered.start(now_ms, _OVERLAP_S)
        self._patience.stop()

    def inband(self, now_ms):
        """An inband rekey has come."""
        if self.is_pulling:
            self.is_stale = True
        elif self._answered.is_running and not self._answered.is_due(now_ms):
            self._is_doubtful = True

    def followed(self, now_ms, has_teks):
        """A rekey is carried out."""
        if has_teks:
            self._is_missing = False
            if self._is_unheard:  # a repeat was in time
                self._is_unheard = False
                self.at.stop()
                self._missed_until.stop()
        if self._is_doubtful:
            self._is_doubtful = False
            self.soon(now_ms)

    def installed(self, made, registering, now_ms):
        """The lifetimes of what was installed count from now."""
        if registering:
            self._is_missing = False
        if made.has_news:
            self._missed_s = _MISSED_S
            over = self._missed_until
            if over.is_running:
                over.hasten(now_ms, _MISSED_S)  # not anew: rekeys may come more often than that
        rekey_sas = [made.rekey_sa] if made.rekey_sa is not None else []
        for soft_end, sas in zip(self._soft_ends, (made.data_sas, rekey_sas)):
            soft_s = soft_lifetime_s(sas)
            if soft_s is not None:
                # A whole access point may have missed a rekey: not all at one moment, but in a
                # tenth of the lifetime.
                soft_end.start(now_ms, soft_s, self._spread_ms(soft_s // 8))
            elif sas or registering:
                soft_end.stop()

    def excluded(self):
        for soft_end in self._soft_ends:
            soft_end.stop()

    def check(self, now_ms, member, is_member):
        """What lifetimes, announced SPIs and used-up numbers ask for."""
        may_ask = is_member and not self.is_pulling
        for soft_end in self._soft_ends:
            # What is being asked for, or installed, has another end.
            if soft_end.is_due(now_ms) and may_ask:
                soft_end.stop()
                self.soon(now_ms)
        for over in (self._missed_until, self._answered):
            over.rings(now_ms)
        if self._doubted_until is not None and self._doubted_until.is_due(now_ms):
            self._doubted_until = None
        if self.is_doubted and may_ask:
            if self._doubted_until is None:  # else then: it is not forgotten
                self.is_doubted = False
                self._doubted_until = Timer()
                self._doubted_until.start(now_ms, _DOUBTED_S, self._spread_ms(_DOUBTED_S))
                wait_ms = min(self._spread_ms(), self._spread_ms(_DOUBTED_WAIT_S))
                self.start(now_ms, 0, min(wait_ms, self.at.left_ms(now_ms)))
        is_missing = member.missed_rekey or member.wants_rekey or self._is_missing
        if is_missing and may_ask:
            is_unheard = not (member.wants_rekey or self.at.is_running)
            member.missed_rekey = member.wants_rekey = False
            self._is_missing = self._missed_until.is_running
            if not self._is_missing:
                self._missed_until.start(now_ms, self._missed_s)
                self._missed_s = min(2 * self._missed_s, _MISSED_MOST_S)
                self.soon(now_ms)
                self._is_unheard = is_unheard
