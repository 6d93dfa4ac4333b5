"""Requests of the peer over an IKE SA: each is taken once and answered, and its answer repeated.

Loaded when the first one comes; what judges them (requests.py), when one is genuine. RFC 7296
sections 2.1 to 2.3.
"""

from covey import ike
from covey.drops import DROP_IKE_FRAGMENT, DROP_IKE_MESSAGE_ID, DROP_IKE_SPI, need
from covey.exchange import Incoming
from covey.job import finish
from covey.octets import equal
from covey.port import sha256


class Answers:
    """sa: the exchange.IkeSA whose .answers this is. Without a clock, as that is."""

    def __init__(self, sa):
        self.last = None  # to the last request, kept for its repetition, a list of datagrams
        self.is_awaited = False  # whether that was taken and is not yet replied to
        self._sa = sa
        self._incoming = Incoming(sa.most_len is not None)
        self._next_id = 0  # Message ID that the next one must have
        self._exchange = 0  # of the last one
        self._digest = None  # SHA-256 of its first datagram
        self._coming_digest = None  # the same of one whose other fragments are awaited

    def is_repeat(self, header, data):
        """Whether this is the last request again: .last is to be sent again, if it is there.

        Bit by bit the same (section 2.1) needs no key, so that the answer to a Delete can be
        repeated after wipe(). Of a fragmented one only the first fragment counts (RFC 7383
        section 2.6.1), which its sender may have cut anew.
        """
        sa = self._sa
        if self._digest is None or header.message_id != self._next_id - 1:
            return False
        if equal(sha256(data).digest(), self._digest):
            return True
        if header.next_payload != ike.SKF or sa.most_len is None or sa.opening is None:
            return False
        need(header.exchange == self._exchange and _is_first(data), DROP_IKE_FRAGMENT)
        finish(Incoming().open_job(sa.opening, data))
        return True

    def open(self, header, data):
        """A new request → ike.Opened, to be replied to; None: more fragments are to come."""
        need(self._sa.opening is not None, DROP_IKE_SPI)
        is_next = header.message_id == self._next_id and not self.is_awaited
        need(is_next, DROP_IKE_MESSAGE_ID)
        opened = finish(self._incoming.open_job(self._sa.opening, data))
        if header.next_payload != ike.SKF or _is_first(data):
            self._coming_digest = sha256(data).digest()
        if opened is None:
            return None
        self._digest = self._coming_digest
        self._exchange = header.exchange
        self._next_id += 1
        self.last = None
        self.is_awaited = True
        return opened

    def untake(self):
        """The request that was taken last could not be looked at: it may come again."""
        self.is_awaited = False
        self._next_id -= 1
        self._digest = None

    def reply(self, payloads):
        """Seal the answer to the request that was taken last, into .last."""
        self.is_awaited = False
        self.last = self._sa.seal(self._exchange, ike.FLAG_R, self._next_id - 1, payloads)

    def wipe(self):
        """The keys are gone; .last, which is sealed, stays."""
        self._incoming = None
        self.is_awaited = False


def take(unicast, sa, header, data, source):
    """A request over an IKE SA of a Unicast. FormatError: dropped."""
    if sa.answers is None:
        sa.answers = Answers(sa)
    answers = sa.answers
    if answers.is_repeat(header, data):
        return unicast.put(answers.last, source)  # none yet while it is worked on
    opened = answers.open(header, data)
    if opened is None:
        return
    unicast.hear()
    try:
        from covey.requests import judge

        judged = judge(opened)
        if judged.rekey is not None:
            judged = unicast.renewing().begin_theirs(sa, judged.rekey, source)
    except MemoryError:
        answers.untake()
        raise
    if judged is not None:
        reply(unicast, sa, judged, source)


def reply(unicast, sa, judged, source):
    """To the request that was taken over this IKE SA, and carry out what it means."""
    answers = sa.answers
    try:
        answers.reply(judged.reply)
        if judged.inband is not None:
            judged.inband.kwk = ike.default_kwk(sa.sk_d, sa.kwa)
            unicast.inbands = list(unicast.inbands) + [judged.inband]
        if judged.redirect is not None:
            unicast.redirected(judged.redirect)
    except MemoryError:  # nothing was answered, so that it comes again
        answers.untake()
        raise
    unicast.put(answers.last, source)
    if judged.reason:
        unicast.drops.count(judged.reason)
    if judged.end:
        unicast.end_sa(sa, judged.end)


def _is_first(data):
    """Whether a fragment is the first of its message."""
    from covey.ikefrag import number_of

    return number_of(data) == 1
