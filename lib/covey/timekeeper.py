"""What TESLA needs that time goes by: a bound on the key server's clock, stones, chains of others.

Asked for over the IKE SA in a sign of life (timing.py has its octets), at once when keys have come
and then as often as the drift demands: what was asked, and when, belongs to one answer (RFC 4082,
section 3.3.1, by way of the key server: indirect). Without an answer the bound ends by itself, and
the member says that it is not in step. Lives as long as the group's clock and terms do, through
rekeys. Loaded in groups with source_auth = "tesla" alone.
"""

from covey.chainhash import mac_key
from covey.chains import Chains
from covey.clock import ClockBound
from covey.cmac import CMACContext
from covey.deadline import Timer
from covey.drops import FormatError
from covey.iana import COVEY_CHAINS_TOLD, COVEY_STONES, COVEY_TIME
from covey.payloads import notifies, notify
from covey.port import const
from covey.timing import (
    KEY_LEN,
    WANTS_CHAINS,
    WANTS_STONES,
    emit_ask,
    parse_chains,
    parse_stones,
    parse_time,
)

_AGAIN_S = const(2)  # after a question that could not be asked, or an answer of no use
_FAR = const(256)  # intervals from the latest key that we know of a sender: a walk of some length


class Timekeeper:
    """timing: timing.Timing. own: our identity, in octets; None: we don't send."""

    def __init__(self, timing, own):
        self.timing = timing
        self.clock = ClockBound(timing)
        self.chains = Chains(timing)
        self.own = None
        if own is not None:
            from covey.ownchain import OwnChain

            self.own = OwnChain(timing, own)
        self._ask = Timer()  # when the next question goes; not running: at once
        self._quiet = Timer()  # none before
        self._answer = None  # the one that was looked at last
        self._context = None  # CMACContext of a sender's interval that was asked for last
        self._context_of = None
        self._was_known = False

    def goes_on(self, timing, own):
        """Whether it serves these, too."""
        mine = None if self.own is None else self.own.identity
        return self.timing.is_same(timing) and mine == own

    def step(self, it, now_ms):
        """What is due; it: the membership.Membership. The ms until the next time."""
        self.clock.step(now_ms)
        ike = it._ike
        if ike is not None and ike.alive is not None and ike.alive is not self._answer:
            self._answer = ike.alive
            self._take(it, ike, now_ms)
        if ike is not None:
            self._ask_for(it, ike, now_ms)
        self._say(it, now_ms)
        interval = self.clock.earliest(now_ms)
        if interval < 0:
            return 1000
        self.chains.forget_before(interval - self.timing.lag - _FAR)
        wait_ms = self._ask.left_ms(now_ms)
        if self.own is not None:
            if self.own.step(interval):
                return 0
            wait_ms = min(wait_ms, 4 * self.timing.interval_ms, self._owed_ms(now_ms))
        return wait_ms

    def context(self, index, interval, identity, buf, off):
        """The CMACContext of this sender's interval, whose key stands there; None: its chain is
        not known any more. Takes heap where it is not the one asked for last.
        """
        if self._context is not None:
            of = self._context_of
            if of[1] == interval and of[0] == index and of[2] == identity:
                return self._context
        chain = self.chains.of(index, interval)
        if chain is None:
            return None
        key = mac_key(chain.salt, identity, memoryview(buf)[off : off + KEY_LEN])
        context, self._context = self._context, None
        if context is not None:
            context.wipe()
        self._context_of = index, interval, identity
        self._context = CMACContext(key)
        return self._context

    def wipe(self):
        self.clock.forget()
        if self.own is not None:
            self.own.wipe()
        if self._context is not None:
            self._context.wipe()
            self._context = None

    def _owed_ms(self, now_ms):
        owed_at = self.own.owed_at()
        return 1000 if owed_at < 0 else self.clock.left_ms(now_ms, owed_at)

    # Questions and answers

    def _ask_for(self, it, ike, now_ms):
        wants = 0
        interval = self.clock.earliest(now_ms)
        if interval >= 0:
            if self.own is not None and self.own.lacks(interval):
                wants |= WANTS_STONES
            if self.chains.lacks(interval, _FAR):
                wants |= WANTS_CHAINS
        elif self.own is not None:
            wants |= WANTS_STONES
        if self._quiet.is_running and not self._quiet.is_due(now_ms):
            return
        is_urgent = not self._ask.is_running or self.chains.is_behind or interval < 0
        if not (is_urgent or self._ask.is_due(now_ms) or wants & WANTS_STONES):
            return
        if self.chains.is_behind:
            wants |= WANTS_CHAINS
        self._quiet.start(now_ms, _AGAIN_S)
        if ike.say([notify(COVEY_TIME, emit_ask(wants, it.settings.group))], now_ms):
            self.chains.is_behind = False
        elif not ike.is_established and not ike.is_beginning:
            it._refresh.missed(now_ms)  # nobody to ask: by another IKE SA

    def _take(self, it, ike, now_ms):
        """An answer: what can be used of it."""
        asked_ms, came_ms = ike.alive_times
        try:
            for said in notifies(ike.alive):
                if said.type == COVEY_TIME:
                    clock, ms = parse_time(said.data)
                    if clock != self.timing.clock:
                        return  # another one has begun: a rekey tells
                    if self.clock.learn(ms, asked_ms, came_ms) or self.clock.is_known:
                        spread_ms = it._random_ms(max(1, self.clock.again_s // 4))
                        self._ask.start(now_ms, self.clock.again_s * 3 // 4, spread_ms)
                elif said.type == COVEY_STONES and self.own is not None:
                    self.own.take(*parse_stones(said.data, self.timing.bits))
                elif said.type == COVEY_CHAINS_TOLD:
                    rows = parse_chains(said.data, self.timing.bits)
                    names = it._group.terms.sources.names
                    self.chains.tell(rows, names, it.member.waiting)
        except FormatError as error:
            it.member.drops.count(error.reason)

    def _say(self, it, now_ms):
        """The member is in step, or is not any more."""
        is_known = self.clock.earliest(now_ms) >= 0
        if is_known is not self._was_known:
            self._was_known = is_known
            it.events.append((it.state_name, it.reason))
