"""GSA_REKEY at a member: from a datagram to an Assignment, giving way while it verifies.

    datagram → header and Rekey SA → Message ID → ICV → payloads → signature (long) → Assignment

RFC 9838 section 2.4.1. Cheap checks come before costly ones: a Message ID that is too old is
refused at once, and again after the signature, when another message may have moved it. A message
may come in fragments (section 2.4.1.2), of which each has its own ICV.
"""

from covey import assignment, der, gsa, ike, kd
from covey.deadline import Timer
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
    need,
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


class Rekey:
    """The Rekey SAs of one group, and the one message that is in work.

    Of an sa.RekeySA that is held, this file sets: end, a Timer, when it goes: at the end of its
    lifetime, or of its DTD if that is sooner; parts, of messages that come in fragments; coming,
    notes of the fragments that parts holds; refused, notes of messages that lead nowhere from
    here, though well signed.
    """

    is_proven = False  # whether the signature of what was in work last is good; work() says so
    has_displaced = False  # a fragment has taken the place of another message's
    turns = 0  # how often the group has gone on without asking the key server; see is_stale

    def __init__(self):
        self.held = []  # newest first
        self._last = ()  # notes of the latest message whose ICV verified, one a datagram
        self.waiting = None  # that message, an ike.Opened, until work() is through with it; and
        self._over = None  # the Rekey SA that it came over

    @property
    def current(self):
        """The newest Rekey SA, or None."""
        return self.held[0] if self.held else None

    def install(self, sa, now_ms, dtd_s):
        """From a rekey: the Rekey SAs before it go after DTD (section 2.4.1.4)."""
        self.retire(None, now_ms, dtd_s)
        if self.held:
            self.turns += 1
        while len(self.held) >= _SLOTS:
            self.held.pop().wipe()
        self._hold(sa, now_ms)

    def _hold(self, sa, now_ms):
        sa.parts = Incoming()
        sa.coming = sa.refused = ()
        sa.end = Timer()
        if sa.lifetime_s is not None:
            sa.end.start(now_ms, sa.lifetime_s)
        self.held.insert(0, sa)

    def find(self, spi):
        """The Rekey SA of this SPI, or None."""
        for sa in self.held:
            if sa.spi == spi:
                return sa
        return None

    def is_stale(self, sa, turns):
        """Whether a registration tells of a Rekey SA over which we have heard more since. turns:
        what they were as its question was asked.

        Section 2.3.3: its answer was overtaken by a rekey, or two registrations ran in parallel. A
        key server repeats an answer as it was, however late. Over a Rekey SA that we have the
        Message ID says so. Another one may be older than ours or newer, if ours came since we
        asked, or the group ended: asking again costs less than to follow an old one, whose TEKs
        had windows that are gone.
        """
        held = self.find(sa.spi)
        if held is not None and sa.next_message_id < held.next_message_id:
            return True
        is_ours = held is not None and held is self.current
        return not is_ours and self.turns != turns

    def replace(self, sa, now_ms):
        """From a registration (sa None: without Rekey SA): all before it go now (section 2.3.3).

        So does the message in work, which is of the past; except where it came over this very
        Rekey SA and has a Message ID that the registration does not know of yet.
        """
        waiting, over, last = self.waiting, self._over, self._last
        self.wipe()
        if sa is None:
            return
        self._hold(sa, now_ms)
        if waiting and over.spi == sa.spi and waiting.header.message_id >= sa.next_message_id:
            self.waiting, self._over, self._last = waiting, sa, last

    def retire(self, spi, now_ms, dtd_s):
        """Let one Rekey SA (None: all) go after DTD; what goes sooner anyway stays so."""
        for sa in self.held:
            if spi is None or sa.spi == spi:
                sa.end.hasten(now_ms, dtd_s)

    def expire(self, now_ms):
        """Wipe what is due."""
        for i in range(len(self.held) - 1, -1, -1):
            if self.held[i].end.is_due(now_ms):
                self.held.pop(i).wipe()

    def wipe(self):
        while self.held:
            self.held.pop().wipe()
        self._last = ()
        self.waiting = self._over = None

    def glance(self, data):
        """A datagram (without marker), by its header: (0 or why not, ike.Header, its Rekey SA,
        notes that may be its own). No key is needed for that.
        """
        try:
            header = ike.parse_header(data)
            need(header.exchange == ike.GSA_REKEY and not header.flags & ike.FLAG_R)
        except FormatError:
            return DROP_REKEY_FORMAT, None, None, ()
        sa = self.find(header.spi_i + header.spi_r)
        if sa is None:
            return DROP_REKEY_SPI, header, None, ()
        icv = bytes(data[-_ICV:])
        alike = [note for note in self._last + sa.coming + sa.refused if note[:_ICV] == icv]
        reason = 0
        if header.message_id < sa.next_message_id:
            reason = DROP_REKEY_REPEAT if alike else DROP_REKEY_MESSAGE_ID
        return reason, header, sa, alike

    def begin(self, data):
        """Job: take a datagram (without marker) → 0, or why not; .waiting, once a message is
        whole.

        What an outsider makes up is refused by its ICV. A repeat shows by its own: only what has
        the ICV of a message in work is looked at closer.
        """
        reason, header, sa, alike = self.glance(data)
        if reason:
            return reason
        yield
        if alike and (yield from _note_of(data)) in alike:
            return DROP_REKEY_REPEAT
        if self.waiting:
            return DROP_REKEY_BUSY
        try:
            opened = yield from sa.parts.open_job(sa.context, data)
            yield
            notes = ((yield from _note_of(data)),)
        except FormatError as error:
            reason = _REASONS.get(error.reason, DROP_REKEY_FORMAT)
        if sa not in self.held:
            return DROP_REKEY_SPI  # it has gone meanwhile
        if reason:
            _follow_parts(sa)
            return reason
        is_part = header.next_payload == ike.SKF
        if is_part:
            self.has_displaced = sa.parts.taken <= len(sa.coming)
            sa.coming += notes
            _follow_parts(sa)
            notes = sa.coming
        if opened is not None:
            if is_part:
                sa.coming = ()
            self._last = notes
            self.waiting, self._over = opened, sa
        return 0

    def work(self, made, was, sender_slots):
        """Job: what the message in work brings, into an Assignment; FormatError for what is wrong
        with it. was, sender_slots: see assignment.build. The Message ID moves only here, after the
        signature.
        """
        self.is_proven = False  # even where the job itself finds no memory
        return self._work(self.waiting, self._over, made, was, sender_slots)

    def _work(self, opened, sa, made, was, sender_slots):
        try:
            auth, brought = yield from _take_apart(opened, made)
            made.kwk = sa.kwk
            if brought and was.key_path:
                from covey import keypath

                yield from _parse(brought, made)
                yield
                yield from keypath.check_portion(made.policy, made.keys, was.key_path, self)
            signed = ike.rekey_signed_octets(opened.head, opened.inner, auth.off)
            opened.inner = opened.head = None  # for room: a verification is long
            yield
            digest = yield from _digest_of(signed)
            signed = None
            r, s = _signature(auth.body)
            auth = None
            yield
            is_good = yield from tidied(sa.verifier.verify(digest, r, s))
            need(is_good, DROP_REKEY_SIGNATURE)
            self.is_proven = True
            yield from _parse(brought, made)
            message_id = opened.header.message_id
            need(message_id >= sa.next_message_id, DROP_REKEY_MESSAGE_ID)
            yield from assignment.build(made, was, sender_slots)
            sa.next_message_id = message_id + 1
        except FormatError as error:
            if error.reason in _NO_WAY:  # repeated, it costs no signature again
                sa.refused = (self._last + sa.refused)[:_REFUSED]
            elif len(self._last) > 1:
                self._last = ()  # one fragment may be forged: the genuine others will come again
            raise
        finally:
            self.waiting = self._over = None


def _follow_parts(sa):
    """Only what is held is known: a fragment of another message may have taken its place."""
    taken = sa.parts.taken
    sa.coming = sa.coming[-taken:] if taken else ()


def _take_apart(opened, made):
    """Job: GSA, KD (both or neither) and Deletes of a GSA_REKEY, into an Assignment → its AUTH.

    It is {GSA, KD, [D ...] [N ...] AUTH} or {D ... [N ...] AUTH}.
    """
    made.deletes = []
    yield
    try:
        payloads = yield from ike.parse_chain_job(opened.first, opened.inner)
    except FormatError:
        raise FormatError(DROP_REKEY_FORMAT)
    found = {ike.GSA: None, ike.KD: None, ike.AUTH: None}
    for payload in payloads:
        yield
        need(ike.unsupported_critical((payload,)) is None, DROP_REKEY_FORMAT)
        if payload.kind in found:
            need(found[payload.kind] is None, DROP_REKEY_FORMAT)  # twice
            found[payload.kind] = payload
        elif payload.kind == ike.DELETE:
            made.deletes.append(ike.parse_delete(payload.body))
    policy, keys, auth = found[ike.GSA], found[ike.KD], found[ike.AUTH]
    need((policy is None) == (keys is None) and (policy or made.deletes), DROP_REKEY_FORMAT)
    need(auth, DROP_REKEY_SIGNATURE)  # section 2.4.1: must be there with digital signatures
    return auth, [policy.body, keys.body] if policy else []


def _parse(brought, made):
    """Job: what GSA and KD say, into an Assignment, once: behind the signature, if nothing asks
    before, as what they say takes more room than they.
    """
    if brought:
        made.keys = yield from kd.parse_kd_job(brought.pop())
        made.policy = yield from gsa.parse_gsa_job(brought.pop())


def _digest_of(data):
    """Job: SHA-256"""
    digest = sha256()
    data = memoryview(data)
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
    need(method == ike.AUTH_DIGITAL_SIGNATURE, DROP_REKEY_SIGNATURE)
    algorithm, _, signature = ike.parse_signature_auth(data)
    pair = der.parse_ecdsa(signature)
    need(pair and algorithm == der.ECDSA_WITH_SHA256, DROP_REKEY_SIGNATURE)
    return pair
