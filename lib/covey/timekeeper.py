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
from covey.iana import COVEY_CHAINS_NOW, COVEY_STONES, COVEY_TIME
from covey.ike import notifies, notify
from covey.octets import wipe
from covey.port import const, later_kernels
from covey.timing import (
    KEY_LEN,
    KNOWS_TIME,
    WANTS_CHAINS,
    WANTS_STONES,
    emit_ask,
    parse_chains,
    parse_stones,
    parse_time,
)

_AGAIN_S = const(2)  # after a question that brought too little
_BEHIND_S = const(10)  # between two questions for nearer keys, which others can provoke
_FAR = const(256)  # intervals from the latest key known of a sender, from which on we ask for one
_IDLE_MS = const(1000)

_copy = later_kernels()[0]


class Timekeeper:
    """timing: timing.Timing. own: our identity, in octets; None: we don't send. before: the one of
    the terms before, whose SAs may still be in use, or None. spread_s: over how long the first
    question is spread.
    """

    def __init__(self, timing, own, before=None, spread_s=0):
        self.timing = timing
        self.clock = ClockBound(timing)
        self.chains = Chains(timing)
        self.users = 0  # SAs, and what is known of the senders
        self.own = None
        if own is not None:
            from covey.ownchain import OwnChain

            self.own = OwnChain(timing, own)
        self._before = before
        self._spread_s = spread_s
        # A rekey brought another clock: so the key server's machine has booted, and does not know
        # our IKE SA any more.
        self._is_cut_off = bool(spread_s) and before is not None
        self._is_cut_off = self._is_cut_off and before.timing.clock != timing.clock
        self._is_news = False  # senders may have come whose next chains we don't know
        self._settled = None  # the TimedSources whose chains we were told of last
        self._ask = Timer()  # when the next question goes; not running: none has gone yet
        self._quiet = Timer()  # none before
        self._near = Timer()  # when we ask for nearer keys: not all members at once, and
        self._near_again = Timer()  # not again before
        self._judged = None  # the answer that was looked at; who listens for silence looks, too
        self.context = None  # CMACContext, of the packet that was judged last:
        self.tools = None  # .mac and .parts of that
        self.index = -1  # its sender, and
        self.interval = -1  # this interval; and of a packet of it, as the kernel has them,
        self.judged = bytearray(KEY_LEN + 4)  # the key, the Sender-ID, and whether there is any
        self._was_known = None  # nobody has been told

    @property
    def is_known(self):
        """Whether the clock is."""
        return self.clock.is_known

    def goes_on(self, timing, own, salts):
        """Whether it serves these, too. salts: of our own chains, by their first intervals. Who is
        given another seat has other chains.
        """
        mine = None if self.own is None else self.own.identity
        if not self.timing.is_same(timing) or mine != own:
            return False
        return own is None or self.own.is_of(salts)

    def let_go(self):
        """One uses it no more: the last one wipes it. Takes no heap."""
        self.users -= 1
        if self.users == 0:
            self.clock.forget()
            if self.own is not None:
                self.own.wipe()
            self._end()

    def rest(self, now_ms):
        """To be called each second or so, whatever the member does: what was found out for a while
        is forgotten once that is over, before ticks wrap.
        """
        self.clock.step(now_ms)
        if self.own is not None:
            self.own.rest(now_ms, self.clock.earliest(now_ms))
        if self._before is not None:
            self._before.rest(now_ms)

    def step(self, it, now_ms):
        """What is due; it: the membership.Membership. The ms until the next time."""
        self._settle(it)
        ike = it._ike
        if ike is not None:
            if ike.alive is not self._judged:
                self._take(it, ike, now_ms)
            self._ask_for(it, ike, now_ms)
        wait_ms = min(_IDLE_MS, self._run(now_ms))
        if self._before is not None:
            wait_ms = min(wait_ms, self._before._run(now_ms))
        is_known = self.clock.earliest(now_ms) >= 0
        if is_known is not self._was_known:
            self._was_known = is_known
            it.says_state(now_ms)
        return wait_ms

    def disclose(self, member, now_ms):
        """A packet in the member's tx that tells a key that is owed: its length, or 0."""
        if self._before is not None:
            n = self._before.disclose(member, now_ms)
            if n:
                return n
        if self.own is None:
            return 0
        owed_at = self.own.owed_at()
        if owed_at < 0 or self.clock.earliest(now_ms) < owed_at:
            return 0
        self.own.told()
        keys = member.keys
        keys.keep_up(now_ms)
        usual = keys.sending
        for sa in [usual] + keys.live():
            if sa is None or sa.auth is None or sa.auth.keeper is not self:
                continue
            if sa.may_send:
                keys.send_under(sa)
                try:
                    return max(0, sa.auth.disclose(member, now_ms))
                except OSError:  # the board's AES: it will be told again
                    return 0
                finally:
                    keys.send_under(usual)
        return 0

    def begin(self, index, interval, identity, buf, off):
        """From now on .context is of this sender's interval, whose key stands there. None: its
        chain is not known any more. Takes heap; MemoryError: nothing has changed.
        """
        chain = self.chains.of(index, interval)
        if chain is None or identity is None or self.chains.names.get(index) != identity:
            return None
        key = mac_key(chain.salt, identity, memoryview(buf)[off : off + KEY_LEN])
        self.interval = -1
        wipe(self.judged)
        try:
            if self.context is None:
                context = self.context = CMACContext(key)
                self.tools = context.mac, context.parts
            else:
                self.context.renew(key)
        except OSError:
            raise MemoryError  # a board's AES fails where it finds none
        self.index, self.interval = index, interval
        return self.context

    def note(self, rx, packet, off):
        """The packet in rx is of the interval that was begun, whose key stands there."""
        judged = self.judged
        _copy(judged, 0, packet, off, KEY_LEN)
        judged[KEY_LEN], judged[KEY_LEN + 1], judged[KEY_LEN + 2] = rx[8], rx[9], 1

    def _end(self):
        wipe(self.judged)
        context, self.context = self.context, None
        self.index = self.interval = -1
        if context is not None:
            context.wipe()

    def _settle(self, it):
        """What the last message said of chains."""
        sources = it._group.terms.sources
        if sources is not self._settled:
            self._settled = sources
            self._is_news = True
            self._end()  # an index may be another one's now
            self.chains.tell(sources.chains, sources.names, it.member.waiting)
        if self._before is not None and self._before.users == 0:
            self._before = None

    def _run(self, now_ms):
        """Our own chain, and what of others' is over. The ms until the next time."""
        interval = self.clock.earliest(now_ms)
        if interval < 0:
            return _IDLE_MS
        self.chains.forget_before(interval - _FAR)
        own = self.own
        if own is None:
            return _IDLE_MS
        if own.step(interval):
            return 0
        wait_ms = 4 * self.timing.interval_ms
        owed_at = own.owed_at()
        return wait_ms if owed_at < 0 else min(wait_ms, self.clock.left_ms(now_ms, owed_at))

    # Questions and answers

    def _ask_for(self, it, ike, now_ms):
        if self._spread_s:
            self._quiet.start(now_ms, 0, it._random_ms(self._spread_s))
            self._spread_s = 0
        if self._quiet.is_running and not self._quiet.is_due(now_ms):
            return
        if self._is_cut_off:
            self._is_cut_off = False
            ike.close()  # the membership makes another one
            return
        interval = self.clock.earliest(now_ms)
        wants = 0
        if self.own is not None and (interval < 0 or self.own.lacks(interval)):
            wants = WANTS_STONES
        lacks = interval < 0 or self.chains.lacks(interval, _FAR)
        if self._is_news and interval >= 0:
            self._is_news = False
            if lacks and self._ask.left_ms(now_ms) > _AGAIN_S * 1000:
                self._ask.start(now_ms, 0, it._random_ms(_AGAIN_S))
        is_due = bool(wants) or interval < 0 or self._ask.is_due(now_ms)
        if self._asks_near(it, now_ms):
            wants |= WANTS_CHAINS
            is_due = True
        if not is_due:
            return
        if lacks:
            wants |= WANTS_CHAINS
        flags = wants if interval < 0 else wants | KNOWS_TIME
        ask = [notify(COVEY_TIME, emit_ask(flags, it.settings.group))]
        if ike.say(ask, now_ms, self.clock.again_s):  # another IKE SA, before the bound ends
            self._quiet.start(now_ms, _AGAIN_S)
            if wants & WANTS_CHAINS:
                self.chains.is_behind = False
        elif not ike.is_established and not ike.is_beginning:
            self._quiet.start(now_ms, _AGAIN_S)
            it._refresh.missed(now_ms)  # nobody to ask, but by another IKE SA

    def _asks_near(self, it, now_ms):
        """Whether it is time to ask for nearer keys. One packet makes all members want them."""
        near, again = self._near, self._near_again
        if again.is_due(now_ms):
            again.stop()
        if near.is_running:
            if not near.is_due(now_ms):
                return False
            near.stop()
            again.start(now_ms, _BEHIND_S)
            return self.chains.is_behind
        if self.chains.is_behind and not again.is_running:
            near.start(now_ms, 0, it._random_ms(_BEHIND_S))
        return False

    def _take(self, it, ike, now_ms):
        """An answer: what can be used of it."""
        alive = self._judged = ike.alive
        if alive is None:
            return
        if it._silence is None:
            ike.alive = self._judged = None
        payloads, *times = alive
        try:
            for said in notifies(payloads):
                if said.type == COVEY_TIME:
                    clock, ms = parse_time(said.data)
                    if clock != self.timing.clock:
                        return  # another one has begun: a rekey will tell
                    self.clock.learn(ms, *times)
                    if self.clock.is_known:
                        spread_ms = it._random_ms(self.clock.again_s // 4)
                        self._ask.start(now_ms, self.clock.again_s * 3 // 4, spread_ms)
                elif said.type == COVEY_STONES and self.own is not None:
                    self.own.take(*parse_stones(said.data, self.timing.bits))
                elif said.type == COVEY_CHAINS_NOW:
                    rows = parse_chains(said.data, self.timing.bits)
                    names = it._group.terms.sources.names
                    self.chains.tell(rows, names, it.member.waiting)
        except FormatError as error:
            it.member.drops.count(error.reason)
