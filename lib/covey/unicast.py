"""The IKE SA with a key server that has proven itself: from its first message to its end.

    the current IKE SA, and those that it replaces or that replace it
    our requests, one at a time over each: asked, sent again, answered or given up
    the server's requests: answered; what comes of them is an event
    liveness, NAT keep-alives, the IKE SA's age; its rekey is renewal.py's

What answers the server's requests, and what rekeys an IKE SA, is loaded when the first one comes.

RFC 7296 sections 1.4, 1.5, 2.1 to 2.4, 2.8, 2.23.
"""

from covey import ike
from covey.deadline import Patience, Timer
from covey.drops import (
    DROP_CAPACITY,
    DROP_IKE_CRITICAL,
    DROP_IKE_HEADER,
    DROP_IKE_SPI,
    Drops,
    FormatError,
    need,
)
from covey.nat import HOME, KEEPALIVE
from covey.port import const

TIMEOUT = "timeout"  # why it is over where the server answers no more

_IDLE_MS = const(60000)
_GONE = const(2)  # of which the last answer is still known
_KEEPALIVE_S = const(20)  # RFC 3948 section 4
_AGAIN_S = const(10)  # after a rekey of ours that found no memory to begin
_SOFT_PERCENT = const(90)  # of its life, from 80 on by chance: then we rekey the IKE SA


class Unicast:
    """What a Registration is once it has an IKE SA: see there.

    It is told what comes by answered(), ended() and redirected().
    """

    alive = None  # of the last answer to a liveness check: its payloads, when that was asked
    # first, and when the answer came; until somebody takes it
    inbands = ()  # requests.Inband
    most_s = 3600  # that a request of ours may be without an answer, at the latest
    is_closing = False  # we are about to go: no rekey is begun any more

    def __init__(self, config, now_ms, random, drops):
        self.drops = drops or Drops()
        self.now_ms = now_ms
        self.sas = []  # exchange.IkeSA: the current one first, those that are replaced last
        self._gone = []  # those that are over and have answered something, without keys
        self.jobs = []  # of renewal.py, in order
        self._config = config
        self._random = random
        self._outgoing = []  # (datagram, where to: see covey.nat)
        self._to = HOME  # where our requests go
        self._wanted = None  # payloads of a GSA_REGISTRATION, until they are answered
        self._renewal = None  # Renewal, from the first rekey of the IKE SA on
        self._silent = Timer()  # nothing genuine came for so long
        self._idle = Timer()  # we sent nothing for so long, where the way is to be kept open
        self._soft_end = Timer()  # of the current IKE SA's keys, and
        self._hard_end = Timer()

    def say(self, payloads, now_ms, most_s=3600):
        """A sign of life of ours that says something. False: another request is out. most_s: so
        long without an answer, at the latest, and the server is DEAD.
        """
        sa = self._free_sa()
        if sa is None:
            return False
        self.now_ms = now_ms
        self._send(sa, ike.INFORMATIONAL, payloads, most_s)
        return True

    def has_ended(self, data):
        """Whether a datagram is of an IKE SA that is over, whose last answer is still known: it
        may be a repeat."""
        return _of(self._gone, data) is not None

    def wipe(self):
        """Every secret; what the server repeats is still answered."""
        if self._renewal is not None:
            self._renewal.forget()
        self._wanted = None
        while self.sas:
            self.drop(self.sas[-1])

    def begin(self, sa):
        """A new IKE SA: from now on the one to ask over. When to replace it, not all members at
        once. MemoryError: it isn't.
        """
        life_s = self._config.ike_lifetime_s
        if life_s:
            self._hard_end.start(self.now_ms, life_s)
            early_s = int.from_bytes(self._random(4), "big") % (life_s // 10 + 1)
            self.renew_in(life_s * _SOFT_PERCENT // 100 - early_s)
        sa.goes = Timer()
        self.sas.insert(0, sa)

    # Sending

    def put(self, datagrams, source=None):
        to = self._to if source is None else source
        for data in datagrams or ():
            self._outgoing.append((data, to))
        if datagrams and self._idle.is_running:
            self.keep_open()

    def keep_open(self):
        """The way to the server, from now on."""
        self._idle.start(self.now_ms, _KEEPALIVE_S)

    def _free_sa(self):
        """The current one, where nothing is asked over it and it is not replaced; else None."""
        for sa in self.sas:
            return None if sa.patience or sa.goes.is_running else sa
        return None

    def _send(self, sa, exchange, payloads, most_s=3600):
        """MemoryError: nothing is asked."""
        patience = Patience(self._config)
        patience.start(self.now_ms, min(most_s, self.most_s))
        sa.ask(exchange, payloads)
        sa.patience = patience
        sa.asked_ms = self.now_ms
        try:
            self.put(sa.request)
        except MemoryError:  # as good as lost: it is sent again
            self.drops.count(DROP_CAPACITY)

    def _flow(self):
        """Send what waits for a free window."""
        wanted = self._wanted
        for sa in self.sas:
            if sa.is_to_delete:
                self.delete(sa)
            if sa.patience and sa.awaited == ike.GSA_REGISTRATION:
                wanted = None  # it is out
        current = self._free_sa()
        if current is None:
            return
        if wanted is not None:
            return self._send(current, ike.GSA_REGISTRATION, wanted)
        renewal = self._renewal
        payloads = None if renewal is None else renewal.request_over(current)
        if payloads is not None:
            self._send(current, ike.CREATE_CHILD_SA, payloads)
            renewal.sent()

    def delete(self, sa):
        """Say that this IKE SA goes, unless something else is asked over it."""
        if sa.patience is None:
            self._send(sa, ike.INFORMATIONAL, [(ike.DELETE, b"\1\0\0\0")])  # IKE, no SPI
            sa.is_to_delete = False
            sa.is_deleted = True

    # What comes in

    def _take(self, header, data, source):
        """A message in SK or SKF; FormatError: dropped. source: where answers to requests go."""
        sa = _of(self.sas + self._gone, data)
        need(sa is not None, DROP_IKE_SPI)
        is_over = sa.opening is None  # then nothing is taken but a repeat
        need(is_over or (header.flags & ike.FLAG_I == 0) == sa.is_initiator, DROP_IKE_HEADER)
        if header.flags & ike.FLAG_R and not is_over:
            self._take_response(sa, header, data)
        else:
            from covey.answering import take

            take(self, sa, header, data, source)
        self._flow()

    def _take_response(self, sa, header, data):
        request = sa.request
        error, reason = None, 0
        try:
            payloads = sa.open_response(header, data)
            if payloads is None:
                return  # more fragments are to come
            need(ike.unsupported_critical(payloads) is None, DROP_IKE_CRITICAL)
            error = ike.error_of(payloads)
        except FormatError as e:
            if sa.request is request:
                raise  # not the answer
            payloads, reason = None, e.reason
        except MemoryError:
            sa.request = request  # sent again, and so is its answer
            raise
        sa.patience = None
        self.hear()
        if error == ike.INVALID_SYNTAX:  # ends the SA (RFC 7296 section 2.21.3)
            self.end_sa(sa, "invalid_syntax")
        elif sa.awaited == ike.GSA_REGISTRATION:
            self._wanted = None
            self.answered(payloads, reason, sa)
        elif sa.awaited == ike.CREATE_CHILD_SA:
            self._renewal.take_answer(payloads, error)
        elif sa.is_deleted:
            self.drop(sa)
        elif payloads is not None:
            self.alive = payloads, sa.asked_ms, self.now_ms
        need(not reason, reason)

    def hear(self):
        if self._config.liveness_s:
            self._silent.start(self.now_ms, self._config.liveness_s)

    # The ends of IKE SAs

    def end_sa(self, sa, reason):
        """An IKE SA has been ended, by a Delete or an error. The last one ends it all."""
        self.drop(sa)
        if not self.sas or self.sas[0].goes.is_running:
            self.ended(reason)

    def drop(self, sa):
        """Wipe an IKE SA. What was asked over it, and not answered, is asked over the next."""
        sa.wipe()
        self.sas.remove(sa)
        if sa.answers is not None:
            self._gone = [sa] + self._gone[: _GONE - 1]
        if self.sas and self._renewal is not None:
            self._renewal.dropped(sa)

    # Time

    def _follow(self):
        """A slice of work and what is due → ms until the next."""
        if self.jobs:
            self._renewal.work()
        timers = []
        if self.sas:
            self._check_timers()
            self._flow()
            timers += (self._silent, self._soft_end, self._hard_end, self._idle)
        if self.jobs:
            return 0
        for sa in self.sas:
            timers += (sa.goes, sa.patience)
        wait_ms = _IDLE_MS
        for timer in timers:
            if timer:
                wait_ms = min(wait_ms, timer.left_ms(self.now_ms))
        return max(1, wait_ms)

    def _check_timers(self):
        now_ms = self.now_ms
        for sa in list(self.sas):
            patience = sa.patience
            is_over = patience and patience.is_over(now_ms)
            if is_over and sa is self.sas[0] and not sa.is_deleted:
                return self.ended(TIMEOUT)
            if is_over or sa.goes.is_due(now_ms):
                self.drop(sa)
            elif patience and patience.is_due(now_ms):
                self.put(sa.request)
        if not self.sas:
            return self.ended(TIMEOUT)
        if self._hard_end.is_due(now_ms):
            self.delete(self.sas[0])  # our last word, which nobody waits for
            return self.ended("ike_lifetime")
        if self._soft_end.is_due(now_ms):
            self._soft_end.stop()
            try:
                self.renewing().begin_ours()
            except MemoryError:
                self.drops.count(DROP_CAPACITY)
                self.renew_in(_AGAIN_S)
        current = self.sas[0]
        if self._silent.is_due(now_ms):
            self.hear()  # whatever is out already asks the same
            if current.patience is None:
                self._send(current, ike.INFORMATIONAL, [])
        if self._idle.is_due(now_ms):
            self.put([KEEPALIVE])

    def renewing(self):
        if self._renewal is None:
            from covey.renewal import Renewal

            self._renewal = Renewal(self, self._random, self.drops)
        return self._renewal

    def renew_in(self, seconds, ms=0):
        """When we rekey the IKE SA."""
        self._soft_end.start(self.now_ms, seconds, ms)


def _of(sas, data):
    """The IKE SA, one of these, that a message belongs to, by its SPIs; or None."""
    for sa in sas:
        if sa.spi_i + sa.spi_r == data[:16]:
            return sa
    return None
