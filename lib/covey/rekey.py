"""GSA_REKEY at a member: from a datagram to an Assignment, giving way while it verifies.

    datagram → header and Rekey SA → Message ID → ICV → payloads → signature (long) → Assignment

RFC 9838 section 2.4.1. Cheap checks come before costly ones: a Message ID that is too old is
refused at once, and again after the signature, when another message may have moved it. A message
may come in fragments (section 2.4.1.2), of which each has its own ICV.
"""

from covey import assignment, der, gsa, ike, kd
from covey.deadline import Deadline
from covey.drops import (
    DROP_IKE_FRAGMENT,
    DROP_IKE_TAG,
    DROP_REKEY_BUSY,
    DROP_REKEY_FORMAT,
    DROP_REKEY_MESSAGE_ID,
    DROP_REKEY_REPEAT,
    DROP_REKEY_SIGNATURE,
    DROP_REKEY_SPI,
    DROP_REKEY_TAG,
    FormatError,
)
from covey.exchange import Incoming
from covey.job import tidied
from covey.port import const, sha256

_REASONS = {DROP_IKE_TAG: DROP_REKEY_TAG, DROP_IKE_FRAGMENT: DROP_IKE_FRAGMENT}
_SLOTS = const(3)  # Rekey SAs held at once: the current one, and those in their DTD


class _Held:
    """A Rekey SA and when it goes: at the end of its lifetime, or of its DTD if that is sooner."""

    def __init__(self, sa, now_ms):
        self.sa = sa
        self._parts = Incoming()
        self._coming = ()  # digests of the fragments that it holds
        self._coming_id = 0  # their Message ID
        self._ends = sa.lifetime_s is not None
        self._end = Deadline()
        if self._ends:
            self._end.start(now_ms, sa.lifetime_s)

    def retire(self, now_ms, dtd_s):
        if not self._ends or self._end.left_ms(now_ms) > dtd_s * 1000:
            self._end.start(now_ms, dtd_s)
            self._ends = True

    def is_due(self, now_ms):
        return self._ends and self._end.is_due(now_ms)

    def has(self, digest):
        """Whether this very fragment is here already."""
        return digest in self._coming

    def open(self, data, digest):
        """A datagram → (ike.Opened, digests of all datagrams that it came in), or None so far."""
        header = ike.parse_header(data)
        opened = self._parts.open(self.sa.context, data)
        if header.next_payload != ike.SKF:
            return opened, [digest]
        if header.message_id != self._coming_id:
            self._coming = ()
            self._coming_id = header.message_id
        self._coming = list(self._coming) + [digest]
        if opened is None:
            return None
        digests, self._coming = self._coming, ()
        return opened, digests


class Rekey:
    """The Rekey SAs of one group, and the one message that is in work."""

    def __init__(self):
        self._held = []  # newest first
        self._last = ()  # digests of the latest message whose ICV verified, one a datagram
        self._busy = None  # _Candidate

    @property
    def is_waiting(self):
        """Whether a message waits for work()."""
        return self._busy is not None

    @property
    def current(self):
        """The newest Rekey SA, or None."""
        return self._held[0].sa if self._held else None

    def live(self):
        """The Rekey SAs that are here, newest first, as a list."""
        return [held.sa for held in self._held]

    def install(self, sa, now_ms, dtd_s):
        """From a rekey: the Rekey SAs before it go after DTD (section 2.4.1.4)."""
        self.retire(None, now_ms, dtd_s)
        while len(self._held) >= _SLOTS:
            self._held.pop().sa.wipe()
        self._held.insert(0, _Held(sa, now_ms))

    def holds(self, sa):
        """Whether this Rekey SA is here, by its SPI."""
        return any([held.sa.spi == sa.spi for held in self._held])

    def works_with(self, sa):
        """Whether it is this very object that is here."""
        for held in self._held:
            if held.sa is sa:
                return True
        return False

    def is_stale(self, sa):
        """Whether a registration tells of a Rekey SA over which we have heard more since.

        Section 2.3.3: its answer was overtaken by a rekey, or two registrations ran in parallel.
        """
        for held in self._held:
            if held.sa.spi == sa.spi:
                return sa.next_message_id < held.sa.next_message_id
        return False

    def replace(self, sa, now_ms):
        """From a registration (sa None: without Rekey SA): all before it go now (section 2.3.3).

        So does the message in work, which is of the past; except where it came over this very
        Rekey SA and has a Message ID that the registration does not know of yet.
        """
        busy, last = self._busy, self._last
        self.wipe()
        if sa is None:
            return
        self._held.append(_Held(sa, now_ms))
        if busy and busy.sa.spi == sa.spi and busy.message_id >= sa.next_message_id:
            busy.sa = sa
            self._busy, self._last = busy, last

    def retire(self, spi, now_ms, dtd_s):
        """Let one Rekey SA (None: all) go after DTD; what goes sooner anyway stays so."""
        for held in self._held:
            if spi is None or held.sa.spi == spi:
                held.retire(now_ms, dtd_s)

    def expire(self, now_ms):
        """Wipe what is due."""
        for i in range(len(self._held) - 1, -1, -1):
            if self._held[i].is_due(now_ms):
                self._held.pop(i).sa.wipe()

    def wipe(self):
        while self._held:
            self._held.pop().sa.wipe()
        self._last = ()
        self._busy = None

    def begin(self, data):
        """Take a datagram (without marker): 0, or why not; is_waiting, once a message is whole."""
        try:
            header = ike.parse_header(data)
        except FormatError:
            return DROP_REKEY_FORMAT
        if header.exchange != ike.GSA_REKEY or header.flags & ike.FLAG_R:
            return DROP_REKEY_FORMAT
        held = self._find(header)
        if held is None:
            return DROP_REKEY_SPI
        digest = sha256(data).digest()
        if digest in self._last or held.has(digest):
            return DROP_REKEY_REPEAT
        if header.message_id < held.sa.next_message_id:
            return DROP_REKEY_MESSAGE_ID
        if self._busy:
            return DROP_REKEY_BUSY
        try:
            whole = held.open(data, digest)
            if whole is None:
                return 0
            opened, digests = whole
        except FormatError as error:
            return _REASONS.get(error.reason, DROP_REKEY_FORMAT)
        self._last = digests
        self._busy = _Candidate(held.sa, opened)
        return 0

    def work(self, was, sender_slots, sending):
        """Job on the message in work → Assignment; FormatError for what is wrong with it.

        was: the Terms in force; sender_slots, sending: see assignment.build. The Message ID moves
        only here, after the signature.
        """
        candidate = self._busy
        try:
            parts = yield from _take_apart(candidate)
            if parts.policy and was.key_path:
                from covey import keypath

                yield
                yield from keypath.check_portion(parts.policy, parts.keys, was.key_path, self)
            signed = ike.rekey_signed_octets(candidate.head, candidate.inner, parts.auth.off)
            yield
            digest = sha256(signed).digest()
            yield
            r, s = _signature(parts.auth.body)
            yield
            if not (yield from tidied(candidate.sa.verifier.verify(digest, r, s))):
                raise FormatError(DROP_REKEY_SIGNATURE)
            if candidate.message_id < candidate.sa.next_message_id:
                raise FormatError(DROP_REKEY_MESSAGE_ID)
            if parts.policy:
                kwk = candidate.sa.kwk
                made = yield from assignment.build(
                    parts.policy, parts.keys, kwk, was, False, sending, sender_slots
                )
            else:
                made = assignment.nothing_new(was)
            made.deletes = parts.deletes
            candidate.sa.next_message_id = candidate.message_id + 1
            return made
        except FormatError:
            if len(self._last) > 1:
                self._last = ()  # one fragment may be forged: the genuine others will come again
            raise
        finally:
            self._busy = None

    def _find(self, header):
        for held in self._held:
            if held.sa.spi[:8] == header.spi_i and held.sa.spi[8:] == header.spi_r:
                return held
        return None


class _Candidate:
    def __init__(self, sa, opened):
        self.sa = sa
        self.message_id = opened.header.message_id
        self.head = opened.head
        self.first = opened.first
        self.inner = opened.inner


class _Parts:
    """A GSA_REKEY, taken apart: {GSA, KD, [D ...] [N ...] AUTH} or {D ... [N ...] AUTH}."""

    def __init__(self):
        self.policy = None
        self.keys = None
        self.deletes = []
        self.auth = None  # ike.Payload


def _take_apart(candidate):
    """Job: → _Parts"""
    yield
    try:
        payloads = ike.parse_chain(candidate.first, candidate.inner)
    except FormatError:
        raise FormatError(DROP_REKEY_FORMAT)
    yield
    if ike.unsupported_critical(payloads) is not None:
        raise FormatError(DROP_REKEY_FORMAT)
    parts = _Parts()
    for payload in payloads:
        if payload.kind == ike.GSA and parts.policy is None:
            parts.policy = yield from gsa.parse_gsa_job(payload.body)
        elif payload.kind == ike.KD and parts.keys is None:
            parts.keys = yield from kd.parse_kd_job(payload.body)
        elif payload.kind == ike.AUTH and parts.auth is None:
            parts.auth = payload
        elif payload.kind == ike.DELETE:
            parts.deletes.append(ike.parse_delete(payload.body))
        elif payload.kind in (ike.GSA, ike.KD, ike.AUTH):
            raise FormatError(DROP_REKEY_FORMAT)  # twice
        yield
    if (parts.policy is None) != (parts.keys is None):
        raise FormatError(DROP_REKEY_FORMAT)
    if parts.policy is None and not parts.deletes:
        raise FormatError(DROP_REKEY_FORMAT)
    if parts.auth is None:  # section 2.4.1: must be there with digital signatures
        raise FormatError(DROP_REKEY_SIGNATURE)
    return parts


def _signature(body):
    """AUTH payload → (r, s). The algorithm must be the one of the registration (4.4.2.1.1)."""
    method, data = ike.parse_auth(body)
    if method != ike.AUTH_DIGITAL_SIGNATURE:
        raise FormatError(DROP_REKEY_SIGNATURE)
    algorithm, _, signature = ike.parse_signature_auth(data)
    pair = der.parse_ecdsa(signature)
    if algorithm != der.ECDSA_WITH_SHA256 or pair is None:
        raise FormatError(DROP_REKEY_SIGNATURE)
    return pair
