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
    FormatError,
    need,
)
from covey.nat import KEEPALIVE
from covey.port import const

TIMEOUT = "timeout"  # why it is over where the server answers no more

# What a request of ours is for
_ASKED = 1  # whoever called ask()
_LIVENESS = 2
_REKEY = 3
_DELETE = 4

_GONE = const(2)  # of which the last answer is still known
_KEEPALIVE_S = const(20)  # RFC 3948 section 4
_AGAIN_S = const(10)  # after a rekey of ours that found no memory to begin
_SOFT_PERCENT = const(90)  # of its life, from 80 on by chance: then we rekey the IKE SA


class _Line:
    """One IKE SA, and our request over it."""

    def __init__(self, sa):
        self.sa = sa
        self.asked = 0  # what .sa.request is for, 0: there is none
        self.patience = None  # while .asked
        self.asked_ms = 0  # when that was sent first
        self.goes = Timer()  # running: it is replaced
        self.is_to_delete = False  # by us, as soon as no other request is out


class Unicast:
    """sa: the proven IkeSA; outgoing: list of (datagram, where to), see covey.nat.

    holder, a Registration, is told what comes: answered(), ended(), redirected(), and by its
    .inbands and .alive.
    """

    _gone = ()  # IkeSA without keys, that have answered something
    most_s = 3600  # that a request of ours may be without an answer, at the latest

    def __init__(self, holder, config, sa, to, keeps_alive, outgoing, random, drops, now_ms):
        self.holder = holder
        self.is_closing = False  # we are about to go: no rekey is begun any more
        self.lines = []  # the current one first, those that are replaced last
        self._config = config
        self._to = to
        self._keeps_alive = keeps_alive
        self._outgoing = outgoing
        self._random = random
        self.drops = drops
        self.now_ms = now_ms
        self._wanted = None  # (exchange, payloads) of ask(), until it is answered
        self._renewal = None  # Renewal, from the first rekey of the IKE SA on
        self._silent = Timer()  # nothing genuine came for so long
        self._idle = Timer()  # we sent nothing for so long, where that is to be kept alive
        self._soft_end = Timer()  # of the current IKE SA's keys, and
        self._end = Timer()
        self.begin(sa)
        self.hear()
        self._speak()

    @property
    def is_working(self):
        return self._renewal is not None and self._renewal.is_working

    @property
    def is_waiting(self):
        """Whether what was asked has no answer yet."""
        return self._wanted is not None

    def ask(self, exchange, payloads, now_ms):
        """A request of our holder, one at a time; its answer is an event."""
        self.now_ms = now_ms
        self._wanted = exchange, payloads
        try:
            self._flow()
        except MemoryError:  # step() tries again
            self.drops.count(DROP_CAPACITY)

    def say(self, payloads, now_ms, most_s=3600):
        """A sign of life of ours that says something. False: another request is out. most_s: so
        long without an answer, at the latest, and the server is DEAD.
        """
        line = self._free_line()
        if line is None:
            return False
        self.now_ms = now_ms
        self._send(line, _LIVENESS, ike.INFORMATIONAL, payloads, most_s)
        return True

    def _free_line(self):
        """The current one, where nothing is asked over it and it is not replaced; else None."""
        for line in self.lines:
            return None if line.asked or line.goes.is_running else line
        return None

    def has_ended(self, data):
        """Whether a datagram is of an IKE SA that is over, whose last answer is still known."""
        for sa in self._gone:
            if sa.spi_i + sa.spi_r == data[:16]:
                return True
        return False

    def receive(self, header, data, now_ms, source):
        """A message in SK or SKF; FormatError: dropped. source: where answers to requests go."""
        self.now_ms = now_ms
        for sa in self._gone:
            if sa.is_of(header):
                is_request = not header.flags & ike.FLAG_R
                need(is_request and sa.answers.is_repeat(header, data), DROP_IKE_SPI)
                return self.put(sa.answers.last, source)
        for line in self.lines:
            if line.sa.is_of(header):
                need((header.flags & ike.FLAG_I == 0) == line.sa.is_initiator, DROP_IKE_HEADER)
                if header.flags & ike.FLAG_R:
                    self._take_response(line, header, data)
                else:
                    from covey.answering import take

                    take(self, line, header, data, source)
                return self._flow()
        raise FormatError(DROP_IKE_SPI)

    def step(self, now_ms):
        """A slice of work and what is due → ms until the next."""
        self.now_ms = now_ms
        if self.is_working:
            self._renewal.work()
        if self.lines:
            self._check_timers()
            self._flow()
        if self.is_working:
            return 0
        wait_ms = 60000
        if self.lines:
            for timer in (self._silent, self._soft_end, self._end, self._idle):
                wait_ms = min(wait_ms, timer.left_ms(now_ms))
        for line in self.lines:
            wait_ms = min(wait_ms, line.goes.left_ms(now_ms))
            if line.asked:
                wait_ms = min(wait_ms, line.patience.left_ms(now_ms))
        return max(1, wait_ms)

    def delete(self):
        """Our last word: a Delete of the IKE SA, which nobody waits for."""
        line = self.lines[0]
        if not line.asked:
            self._delete(line)

    def wipe(self):
        """Every secret; what the server repeats is still answered."""
        if self._renewal is not None:
            self._renewal.forget()
        self._wanted = None
        while self.lines:
            self.drop(self.lines[-1])

    # Sending

    def put(self, datagrams, source=None):
        to = self._to if source is None else source
        for data in datagrams or ():
            self._outgoing.append((data, to))
            self._speak()

    def _speak(self):
        if self._keeps_alive:
            self._idle.start(self.now_ms, _KEEPALIVE_S)

    def _send(self, line, purpose, exchange, payloads, most_s=3600):
        """MemoryError: nothing is asked."""
        patience = Patience(self._config)
        patience.start(self.now_ms, min(most_s, self.most_s))
        line.sa.ask(exchange, payloads)
        line.patience = patience
        line.asked = purpose
        line.asked_ms = self.now_ms
        try:
            self.put(line.sa.request)
        except MemoryError:  # as good as lost: it is sent again
            self.drops.count(DROP_CAPACITY)

    def _flow(self):
        """Send what waits for a free window."""
        wanted = self._wanted
        for line in self.lines:
            if line.is_to_delete and not line.asked:
                self._delete(line)
            if line.asked == _ASKED:
                wanted = None  # it is out
        current = self._free_line()
        if current is None:
            return
        if wanted is not None:
            return self._send(current, _ASKED, *wanted)
        renewal = self._renewal
        payloads = None if renewal is None else renewal.request_over(current)
        if payloads is not None:
            self._send(current, _REKEY, ike.CREATE_CHILD_SA, payloads)
            renewal.sent()

    def _delete(self, line):
        self._send(line, _DELETE, ike.INFORMATIONAL, [_DELETE_IKE])
        line.is_to_delete = False

    # Answers

    def _take_response(self, line, header, data):
        purpose, request = line.asked, line.sa.request
        payloads, reason = None, 0
        try:
            payloads = line.sa.open_response(header, data)
            if payloads is None:
                return  # more fragments are to come
            need(ike.unsupported_critical(payloads) is None, DROP_IKE_CRITICAL)
            error = ike.error_of(payloads)
        except FormatError as e:
            if line.sa.request is not None or not purpose:
                raise  # not the answer
            payloads, reason, error = None, e.reason, None
        except MemoryError:
            line.sa.request = request  # sent again, and so is its answer
            raise
        line.asked = 0
        line.patience = None
        self.hear()
        if error == ike.INVALID_SYNTAX:  # ends the SA (RFC 7296 section 2.21.3)
            self.end_line(line, "invalid_syntax")
        elif purpose == _ASKED:
            self._wanted = None
            self.holder.answered(payloads, reason, line.sa)
        elif purpose == _LIVENESS:
            if payloads is not None:
                self.holder.alive = payloads, line.asked_ms, self.now_ms
        elif purpose == _DELETE:
            self.drop(line)
        elif purpose == _REKEY:
            self._renewal.take_answer(payloads, error)
        need(not reason, reason)

    def hear(self):
        if self._config.liveness_s:
            self._silent.start(self.now_ms, self._config.liveness_s)

    # The ends of IKE SAs

    def end_line(self, line, reason):
        """An IKE SA has been ended, by a Delete or an error. The last one ends it all."""
        self.drop(line)
        if not self.lines or self.lines[0].goes.is_running:
            self._end_all(reason)

    def drop(self, line):
        """Wipe an IKE SA. What was asked over it, and not answered, is asked over the next."""
        line.sa.wipe()
        line.asked = 0
        self.lines.remove(line)
        if line.sa.answers is not None:
            self._gone = [line.sa] + list(self._gone)[: _GONE - 1]
        if self.lines and self._renewal is not None:
            self._renewal.dropped(line)

    def _end_all(self, reason=TIMEOUT):
        self.wipe()
        self.holder.ended(reason)

    # Time

    def _check_timers(self):
        now_ms = self.now_ms
        for line in list(self.lines):
            if line.goes.is_due(now_ms):
                self.drop(line)
            elif line.asked and line.patience.is_over(now_ms):
                if line is self.lines[0] and line.asked != _DELETE:
                    return self._end_all()
                self.drop(line)
            elif line.asked and line.patience.is_due(now_ms):
                self.put(line.sa.request)
        if not self.lines:
            return self._end_all()
        if self._end.is_due(now_ms):
            self.delete()
            return self._end_all("ike_lifetime")
        if self._soft_end.is_due(now_ms):
            self._soft_end.stop()
            try:
                self.renewing().begin_ours()
            except MemoryError:
                self.drops.count(DROP_CAPACITY)
                self.renew_in(_AGAIN_S)
        current = self.lines[0]
        if self._silent.is_due(now_ms):
            self.hear()  # whatever is out already asks the same
            if not current.asked:
                self._send(current, _LIVENESS, ike.INFORMATIONAL, [])
        if self._idle.is_due(now_ms):
            self.put([KEEPALIVE])

    def renewing(self):
        if self._renewal is None:
            from covey.renewal import Renewal

            self._renewal = Renewal(self, self._random, self.drops)
        return self._renewal

    def begin(self, sa):
        """A new IKE SA: from now on the one to ask over. When to replace it, not all members at
        once.
        """
        line = _Line(sa)
        self.lines.insert(0, line)
        life_s = self._config.ike_lifetime_s
        if life_s:
            self._end.start(self.now_ms, life_s)
            early_s = int.from_bytes(self._random(4), "big") % (life_s // 10 + 1)
            self.renew_in(max(1, life_s * _SOFT_PERCENT // 100 - early_s))
        return line

    def renew_in(self, seconds, ms=0):
        """When we rekey the IKE SA."""
        self._soft_end.start(self.now_ms, seconds, ms)


_DELETE_IKE = ike.DELETE, b"\1\0\0\0"  # protocol IKE, no SPI
