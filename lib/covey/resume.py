"""A membership that sleeps: what it holds as octets, and back. docs/spec.md has their form.

    suspend(membership, clock_s, now_ms)          octets; from then on the member is dead
    revive(membership, octets, clock_s, now_ms)   whether the member is one again

No nonce comes twice, and no packet is taken twice, as long as the octets are used ONCE: whoever
keeps them lets go of them before he calls revive(). Numbers go on where they were, and nothing is
sent between the two, since suspend() wipes the keys. Loaded only by members that sleep.

What is not kept: the IKE SA (who wakes and must ask, registers), keys in their DTD, rekeys in
work. clock_s: seconds on a clock that goes on meanwhile; one that goes back is not believed.
"""

from struct import calcsize, pack, unpack_from

from covey import assignment
from covey.deadline import seconds_left
from covey.drops import FormatError
from covey.gcm import GMACContext
from covey.ike import KWK_LEN
from covey.keystore import remember
from covey.membership import MEMBER
from covey.octets import equal, wipe
from covey.port import const
from covey.prf import PRF_LEN, prf
from covey.sa import DataSA, RekeySA, keep_keys

_VERSION = const(3)
_NEVER = const(0xFFFFFFFF)  # in place of seconds: no end
_NONE = const(0xFF)
_MOST_S = const(2592000)  # asleep; longer is a clock that was set
_HEAD = ">2sBHIB"  # "Cv", version, slots of a sender table, clock, data SAs
_TERMS = ">IIBBBHIIBB"
_DATA = ">4sBBBI4sHHHHHIIIqBBB"
_REKEY = ">16sBBBIIIHH4s"
_SOFT = ">II"
_SILENCE = ">II"
_WINDOW = ">B7I"

keep_keys()  # from now on an SA can tell its own

# What octets that are no good lead to; a tuple could not be made just then. OSError: a board's AES
# found no memory.
_UNFIT = (FormatError, ValueError, MemoryError, OSError)

# As replay.py has them.
_BITS, _LOW_BITS, _SLOTS, _WINDOWS, _WINDOW_LEN, _NEWEST = 0, 1, 2, 3, 7, 2


def suspend(membership, clock_s, now_ms):
    """None where it can't be: no member, keys in work, or a group whose rekeys come over the IKE
    SA. It is dead then too. Whoever gets the octets wipes them when they are stored.
    """
    out = bytearray()
    try:
        if _suspend(out, membership, clock_s, now_ms):
            return out
    except MemoryError:
        pass
    finally:
        membership.wipe()
    wipe(out)
    return None


def _suspend(out, membership, clock_s, now_ms):
    member, group = membership.member, membership._group
    group.step(now_ms)
    keys = member.keys
    sas = [sa for sa in keys.live() if not sa.is_retiring]
    if membership.state != MEMBER or membership._keys.has_work or group.terms.sources:
        return False
    if not sas or group.rekey.current is None or None in [sa.keymat for sa in sas]:
        return False  # the latter: it came before this file was loaded
    out += pack(_HEAD, b"Cv", _VERSION, member.sender_slots, clock_s, len(sas))
    _emit_terms(out, group.terms)
    for sa in keys.live():
        if sa.is_retiring:
            remember(keys.retired, sa.spi)  # it goes now
    out += keys.retired + keys.announced
    for sa in sas:
        _emit_data(out, sa, now_ms)
    _emit_rekey(out, group.rekey.current, now_ms)
    softs = membership._refresh._soft_ends
    soft = [_left_of(timer, now_ms) for timer in softs]
    out += pack(_SOFT, *soft)
    most_s, stops = group.terms.silence or (0, False)
    silence = membership._silence
    is_heard = silence and not silence.is_over
    heard_s = seconds_left(silence._end, now_ms) if is_heard else 0
    out += pack(_SILENCE, stops << 24 | most_s, heard_s)
    out += prf(_key(membership.settings), out)
    return True


def revive(membership, octets, clock_s, now_ms):
    """False: these octets are not ours, damaged, or too old; nothing has changed, and the member
    has to register. They are wiped.
    """
    try:
        reader = _Reader(octets)
        if not reader.is_sound(_key(membership.settings)):
            return False
        return _revive(membership, reader, clock_s, now_ms)
    finally:
        wipe(octets)


def _revive(membership, reader, clock_s, now_ms):
    member, group = membership.member, membership._group
    _, version, sender_slots, then_s, count = reader.take(_HEAD)
    slept_s = clock_s - then_s
    if version != _VERSION or sender_slots != member.sender_slots:
        return False
    if not 0 <= slept_s <= _MOST_S:
        return False
    most_s = slept_s + (slept_s >> 4) + 1  # a board's clock runs badly while it sleeps
    try:
        terms = _parse_terms(reader)
        for spis in (member.keys.retired, member.keys.announced):
            spis[:] = reader.octets(len(spis))
        for _ in range(count):
            _install_data(reader, member, slept_s, most_s, now_ms)
        rekey_sa = _parse_rekey(reader, terms, most_s)
        softs = [_left(seconds, most_s) for seconds in reader.take(_SOFT)]
        silence, heard_s = reader.take(_SILENCE)
        if silence:
            terms.silence = silence & 0xFFFFFF, silence >> 24 != 0
        if rekey_sa is None or not member.keys.live():
            raise ValueError
        group.terms = terms
        group.rekey.replace(rekey_sa, now_ms)
        membership._now_ms = now_ms
        membership._heard(max(0, heard_s - most_s))
    except _UNFIT:
        group.wipe()
        if membership._silence is not None:
            membership._silence.forget()
            membership._silence = None
        return False
    for timer, soft_s in zip(membership._refresh._soft_ends, softs):
        if soft_s is not None:
            timer.start(now_ms, soft_s)
    membership.listening_changed = True
    membership._set_state(MEMBER)
    return True


def _key(settings):
    """Of whom these octets are: another member, or another key, can't use them."""
    who = pack(">BB", len(settings.group), len(settings.idi)) + settings.group + settings.idi
    return prf(settings.secret, b"Covey sleeps", who)


def _left_of(timer, now_ms):
    return seconds_left(timer, now_ms) if timer.is_running else _NEVER


def _left(seconds, slept_s):
    """What is left after so long: None for no end, 0 for over."""
    return None if seconds == _NEVER else max(0, seconds - slept_s)


# Terms: ATD, DTD, width of Sender-IDs (0xFF: unknown), form (index bits, bits; 0: none), UDP port
# (0: none), generation, epoch, how many Sender-IDs, length of AUTH_KEY; then these.


def _emit_terms(out, terms):
    bits = _NONE if terms.sender_bits is None else terms.sender_bits
    widths = (bits,) + (terms.sender_form or (0, 0))
    numbers = terms.udp_port or 0, terms.generation, terms.epoch
    counts = len(terms.sender_ids), len(terms.auth_key)
    out += pack(_TERMS, terms.atd_s, terms.dtd_s, *widths, *numbers, *counts)
    for sender_id in terms.sender_ids:
        out += pack(">I", sender_id)
    out += terms.auth_key
    out += bytes([len(terms.key_path)])
    for key_id, key in terms.key_path:
        out += key_id + bytes([len(key)]) + key


def _parse_terms(reader):
    terms = assignment.Terms()
    fields = reader.take(_TERMS)
    terms.atd_s, terms.dtd_s, bits, index_bits, form_bits, udp_port = fields[:6]
    terms.generation, terms.epoch, ids, key_len = fields[6:]
    terms.sender_bits = None if bits == _NONE else bits
    terms.sender_form = (index_bits, form_bits) if index_bits else None
    terms.udp_port = udp_port or None
    terms.sender_ids = tuple([reader.take(">I")[0] for _ in range(ids)])
    terms.auth_key = reader.octets(key_len)
    for _ in range(reader.octets(1)[0]):
        key_id, key_len = reader.take(">4sB")
        terms.key_path += ((key_id, bytearray(reader.octets(key_len))),)
    terms.verifier = assignment.verifier_of(terms.auth_key)
    return terms


# A data SA: SPI, length of its key, SN, whether integrity only, epoch, destination, port ranges
# (source, destination), UDP port (0: protocol 50), seconds to live, seconds until it is sent
# under (0: it is, _NEVER: it is not), next number, Sender-ID (-1: none), width of Sender-IDs in
# its table and of the incarnation, windows in use; then the key and the windows, each behind its
# slot.


def _emit_data(out, sa, now_ms):
    table = sa.senders.words
    used = [n for n in range(table[_SLOTS]) if table[_at(n) + _NEWEST]]
    wait_s = _NEVER
    if sa.may_send:
        wait_s = 0
    elif sa.atd.is_running:
        wait_s = 1 + seconds_left(sa.atd, now_ms)
    what = len(sa.keymat), sa.sn, isinstance(sa.context, GMACContext), sa.epoch, sa.destination
    left_s = _left_of(sa.end, now_ms)
    port, own = sa.carrier_port or 0, (sa.next_seq, sa.sender_id)
    widths = table[_BITS], table[_LOW_BITS]
    out += pack(
        _DATA, sa.spi, *what, *sa.words[4:8], port, left_s, wait_s, *own, *widths, len(used)
    )
    out += sa.keymat
    for n in used:
        out += pack(_WINDOW, n, *table[_at(n) : _at(n) + _WINDOW_LEN])


def _install_data(reader, member, slept_s, most_s, now_ms):
    fields = reader.take(_DATA)
    spi, key_len, sn, integrity_only, epoch, destination = fields[:6]
    source_lo, source_hi, port_lo, port_hi, udp_port = fields[6:11]
    left_s, wait_s, next_seq, sender_id, bits, low_bits, used = fields[11:]
    keymat = bytearray(reader.octets(key_len))
    windows = [reader.take(_WINDOW) for _ in range(used)]
    left_s = _left(left_s, most_s)
    if left_s == 0:
        remember(member.keys.retired, spi)
        member.keys.lapsed = True
        return wipe(keymat)
    places = (
        (destination, destination, port_lo, port_hi, 17),
        (bytes(4), b"\xff" * 4, source_lo, source_hi, 17),
    )
    form = (bits - low_bits, bits) if low_bits else None
    told = sn, bits or None, form, left_s, epoch, member.sender_slots, bool(integrity_only)
    sa = DataSA(spi, keymat, *places, *told)
    wipe(keymat)
    sa.carrier_port = udp_port or None
    for window in windows:
        if window[0] >= sa.senders.words[_SLOTS]:
            raise ValueError
        for i in range(_WINDOW_LEN):
            sa.senders.words[_at(window[0]) + i] = window[1 + i]
    if sender_id >= 0:
        sa.become_sender(sender_id, bits)
        sa.next_seq = next_seq
    member.keys.install(sa, now_ms)
    if sender_id >= 0 and wait_s != _NEVER:
        member.keys.activate(spi, now_ms, max(0, wait_s - slept_s))


def _at(n):
    return _WINDOWS + _WINDOW_LEN * n


# The Rekey SA: SPI, lengths of its key and KWK, key wrap transform, next Message ID, seconds to
# live, epoch, ports and address of its destination; then the key and the KWK.


def _emit_rekey(out, sa, now_ms):
    out += pack(
        _REKEY,
        sa.spi,
        len(sa.gsk_e),
        len(sa.kwk),
        sa.kwa,
        sa.next_message_id,
        _left_of(sa.end, now_ms),
        sa.epoch,
        *sa.destination[2:4],
        sa.destination[0],
    )
    out += sa.gsk_e
    out += sa.kwk


def _parse_rekey(reader, terms, most_s):
    """None where its life is over."""
    fields = reader.take(_REKEY)
    spi, key_len, kwk_len, kwa, message_id, left_s, epoch = fields[:7]
    lo, hi, address = fields[7:]
    keymat = bytearray(reader.octets(key_len + kwk_len))
    left_s = _left(left_s, most_s)
    try:
        if left_s == 0 or KWK_LEN.get(kwa) != kwk_len:
            return None
        place = (address, address, lo, hi, 17)
        told = terms.verifier, message_id, place, left_s, epoch
        return RekeySA(spi, keymat, kwa, (key_len - 4) * 8, *told)
    finally:
        wipe(keymat)


class _Reader:
    def __init__(self, data):
        self._data = data
        self._off = 0

    def is_sound(self, key):
        end = len(self._data) - PRF_LEN
        body = memoryview(self._data)
        return end >= calcsize(_HEAD) and equal(prf(key, body[:end]), body[end:])

    def take(self, form):
        return unpack_from(form, self._data, self._pass(calcsize(form)))

    def octets(self, n):
        off = self._pass(n)
        return bytes(self._data[off : off + n])

    def _pass(self, n):
        """Where the next n octets begin. ValueError: there are fewer."""
        off = self._off
        self._off += n
        if self._off > len(self._data) - PRF_LEN:
            raise ValueError
        return off
