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
    DROP_KEY_PATH,
    DROP_KEY_PORTION,
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
_NO_WAY = DROP_KEY_PATH, DROP_KEY_PORTION  # drops behind the signature, for good
_REFUSED = const(32)  # notes of such messages that are kept
_ICV = const(16)  # octets, at the end
_AT_ONCE = const(1024)  # octets that are digested in one step
_SLOTS = const(3)  # Rekey SAs held at once: the current one, and those in their DTD


class _Held:
    """A Rekey SA and when it goes: at the end of its lifetime, or of its DTD if that is sooner."""

    def __init__(self, sa, now_ms):
        self.sa = sa
        self.parts = Incoming()
        self.coming = ()  # notes of the fragments that it holds
        self.refused = ()  # notes of messages that lead nowhere from here, though well signed
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

    def took(self, header, note, is_whole):
        """A datagram is opened → notes of all that its message came in, () so far."""
        if header.next_payload != ike.SKF:
            return [note]
        self.coming = list(self.coming) + [note]
        self.follow_parts()
        if not is_whole:
            return ()
        notes, self.coming = self.coming, ()
        return notes

    def follow_parts(self):
        """Only what is held is known: a fragment of another message may have taken its place."""
        taken = self.parts.taken
        self.coming = list(self.coming)[-taken:] if taken else ()


class Rekey:
    """The Rekey SAs of one group, and the one message that is in work."""

    is_proven = False  # whether the signature of what was in work last is good; work() says so
    has_displaced = False  # a fragment has taken the place of another message's
    turns = 0  # how often the group has gone on without asking the key server; see is_stale

    def __init__(self):
        self._held = []  # newest first
        self._last = ()  # notes of the latest message whose ICV verified, one a datagram
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
        if self._held:
            self.turns += 1
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

    def is_stale(self, sa, turns):
        """Whether a registration tells of a Rekey SA over which we have heard more since. turns:
        what they were as its question was asked.

        Section 2.3.3: its answer was overtaken by a rekey, or two registrations ran in parallel. A
        key server repeats an answer as it was, however late. Over a Rekey SA that we have the
        Message ID says so. Another one may be older than ours or newer, if ours came since we
        asked, or the group ended: asking again costs less than to follow an old one, whose TEKs
        had windows that are gone.
        """
        for held in self._held:
            if held.sa.spi == sa.spi and sa.next_message_id < held.sa.next_message_id:
                return True
        current = self.current
        is_ours = current is not None and current.spi == sa.spi
        return not is_ours and self.turns != turns

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

    def glance(self, data):
        """A datagram (without marker), by its header: (0 or why not, ike.Header, its _Held, notes
        that may be its own). No key is needed for that.
        """
        try:
            header = ike.parse_header(data)
        except FormatError:
            return DROP_REKEY_FORMAT, None, None, ()
        if header.exchange != ike.GSA_REKEY or header.flags & ike.FLAG_R:
            return DROP_REKEY_FORMAT, header, None, ()
        held = self._find(header)
        if held is None:
            return DROP_REKEY_SPI, header, None, ()
        icv = bytes(data[-_ICV:])
        known = list(self._last) + list(held.coming) + list(held.refused)
        alike = [note for note in known if note[:_ICV] == icv]
        reason = 0
        if header.message_id < held.sa.next_message_id:
            reason = DROP_REKEY_REPEAT if alike else DROP_REKEY_MESSAGE_ID
        return reason, header, held, alike

    def begin(self, data):
        """Job: take a datagram (without marker) → 0, or why not; is_waiting, once a message is
        whole.

        What an outsider makes up is refused by its ICV. A repeat shows by its own: only what has
        the ICV of a message in work is looked at closer.
        """
        reason, header, held, alike = self.glance(data)
        if reason:
            return reason
        yield
        if alike and (yield from _note_of(data)) in alike:
            return DROP_REKEY_REPEAT
        if self._busy:
            return DROP_REKEY_BUSY
        if held not in self._held:
            return DROP_REKEY_SPI  # it has gone meanwhile
        try:
            opened = yield from held.parts.open_job(held.sa.context, data)
        except FormatError as error:
            if held not in self._held:
                return DROP_REKEY_SPI
            held.follow_parts()
            return _REASONS.get(error.reason, DROP_REKEY_FORMAT)
        yield
        note = yield from _note_of(data)
        if held not in self._held:
            return DROP_REKEY_SPI
        self.has_displaced = header.next_payload == ike.SKF and held.parts.taken <= len(
            held.coming
        )
        notes = held.took(header, note, opened is not None)
        if opened is not None:
            self._last = notes
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
            digest = yield from _digest_of(signed)
            r, s = _signature(parts.auth.body)
            yield
            if not (yield from tidied(candidate.sa.verifier.verify(digest, r, s))):
                raise FormatError(DROP_REKEY_SIGNATURE)
            self.is_proven = True
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
        except FormatError as error:
            if error.reason in _NO_WAY:
                self._refuse(candidate.sa)
            elif len(self._last) > 1:
                self._last = ()  # one fragment may be forged: the genuine others will come again
            raise
        finally:
            self._busy = None

    def _refuse(self, sa):
        """The message in work has no way for us: repeated, it costs no signature again."""
        for held in self._held:
            if held.sa is sa:
                held.refused = (list(self._last) + list(held.refused))[:_REFUSED]

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
        payloads = yield from ike.parse_chain_job(candidate.first, candidate.inner)
    except FormatError:
        raise FormatError(DROP_REKEY_FORMAT)
    parts = _Parts()
    for payload in payloads:
        yield
        if ike.unsupported_critical((payload,)) is not None:
            raise FormatError(DROP_REKEY_FORMAT)
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
    if (parts.policy is None) != (parts.keys is None):
        raise FormatError(DROP_REKEY_FORMAT)
    if parts.policy is None and not parts.deletes:
        raise FormatError(DROP_REKEY_FORMAT)
    if parts.auth is None:  # section 2.4.1: must be there with digital signatures
        raise FormatError(DROP_REKEY_SIGNATURE)
    return parts


def _digest_of(data):
    """Job: SHA-256"""
    digest = sha256()
    for off in range(0, len(data), _AT_ONCE):
        digest.update(data[off : off + _AT_ONCE])
        yield
    return digest.digest()


def _note_of(data):
    """Job: what a datagram is known by: its ICV, which anybody can copy, and half its digest."""
    digest = yield from _digest_of(data)
    return data[-_ICV:] + digest[:_ICV]


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
