"""Who may send in a group, and what proves that it was they: formats. The rest: proofs.py.

Each receiver has a slot in every packet, and a secret R that only it and the key server know. What
a sender puts into a slot is a MAC under K = prf(R, label | the sender's identity): the receiver
makes K of each sender on the roster, a sender is given its own for each slot. So what a receiver
has to be given does not grow with the senders, and no receiver can make what another will check.

In the policy of an ESP SA, COVEY_SOURCE_AUTH (16400, TLV):

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------+---------------+---------------+---------------+
    | Mode: 1, MACs | Octets of one |     Slots     |   RESERVED    |
    +---------------+---------------+---------------+---------------+
    ~      Slot IDs, 4 octets each, as they lie in a packet         ~
    +---------------------------------------------------------------+

Mode 2 is in timing.py. Mode 3, signatures of packets or of trees of up to 2^levels of them:

    +---------------+---------------+-------------------------------+
    |    Mode: 3    |  Most levels  |            RESERVED           |
    +---------------+---------------+-------------------------------+

In the group-wide policy, COVEY_ROSTER (16401, TLV), one after the other:

    +---------------+---------------+---------------+---------------+
    |      Index of its Sender-ID   |          Incarnation          |
    +---------------+---------------+---------------+---------------+
    |    RESERVED   | Octets of ID  |             Identity          ~
    +---------------+---------------+-------------------------------+

A rekey may tell changes instead, COVEY_ROSTER_CHANGES (16406, TLV), where that is shorter: the
epoch that they follow, 4 octets; how many indexes are gone, 2; these, 2 each; rows as above, new
or in place of others. With signatures COVEY_SIGNERS has their points alone, then.

In the member bag, COVEY_RECEIVER_KEY (16402, TLV) is R, and COVEY_SENDER_KEYS (16403, TLV) any
number of (Slot ID, K): a KWK ID, then the output of RFC 5649. KWK ID zero is GSK_w, at a
registration; in a GSA_REKEY it is the Key ID of the sender's personal key in the key tree.
"""

from struct import pack

from covey import keywrap
from covey.drops import DROP_CAPACITY, DROP_KD, DROP_KEY_WRAP, DROP_POLICY, FormatError
from covey.iana import (
    COVEY_RECEIVER_KEY,
    COVEY_ROSTER,
    COVEY_ROSTER_CHANGES,
    COVEY_SENDER_KEYS,
    COVEY_SOURCE_AUTH,
)
from covey.octets import u16, u32
from covey.port import const
from covey.prf import prf

# Modes
MACS = 1
TESLA = 2  # see timing.py
SIGNED = 3
MOST_SLOTS = 16
MOST_LEVELS = 6  # of a tree
SECRET_LEN = 32  # octets of R
KEY_LEN = 16  # of K
ID_LEN = 4  # of a Slot ID
_DEFAULT_KWK = b"\0\0\0\0"
_CHANGES = const(6)  # octets of an epoch and a count
_LEAST_TAG = const(8)
_MOST_TAG = const(16)

# As replay.py has them.
_LOW_BITS = const(1)
_WINDOWS = const(3)
_WINDOW_LEN = const(7)
_INDEX = const(0)
_INCARNATION = const(1)
_NEWEST = const(2)
_LAST_ROW = const(0x20000000)

_NOBODY = const(0xFFFFFFFF)  # an index that no Sender-ID has


def slot_id(secret):
    """How others name the slot of the receiver that has this secret: 4 octets."""
    return prf(secret, b"Covey slot")[:ID_LEN]


def pair_key(secret, sender):
    """K of one sender, whose identity this is, for the receiver that has this secret."""
    return prf(secret, b"Covey receiver-specific MAC", pack(">H", len(sender)), sender)[:KEY_LEN]


def mode_of(attributes):
    """Of an ESP SA's policy: how what is sent under it proves who sent it; None: it doesn't."""
    value = only(attributes, COVEY_SOURCE_AUTH)
    if value is None:
        return None
    if not value:
        raise FormatError(DROP_POLICY)
    return value[0]


def parse_macs(attributes):
    """Attributes of an ESP SA's policy → (octets of a tag, Slot IDs)"""
    value = only(attributes, COVEY_SOURCE_AUTH)
    if value is None or len(value) < 4 or value[0] != MACS:
        raise FormatError(DROP_POLICY)
    if not _LEAST_TAG <= value[1] <= _MOST_TAG or value[2] > MOST_SLOTS:
        raise FormatError(DROP_POLICY)
    if len(value) != 4 + ID_LEN * value[2]:
        raise FormatError(DROP_POLICY)
    return value[1], [value[off : off + ID_LEN] for off in range(4, len(value), ID_LEN)]


def parse_signed(attributes):
    """Attributes of an ESP SA's policy → the most levels of a tree"""
    value = only(attributes, COVEY_SOURCE_AUTH)
    if value is None or len(value) != 4 or value[0] != SIGNED or value[1] > MOST_LEVELS:
        raise FormatError(DROP_POLICY)
    return value[1]


def roster_of(group_wide, was):
    """What a gsa.GroupWide says of the roster → ([(index, incarnation, identity)], whether by
    changes of what there was). was: the Terms so far; None at a registration, which tells all.
    """
    value = only(group_wide.attributes, COVEY_ROSTER_CHANGES)
    if value is None:
        return parse_roster(group_wide.attributes), False
    if was is None or was.sources is None or len(value) < _CHANGES:
        raise FormatError(DROP_POLICY)
    if u32(value, 0) != was.epoch or only(group_wide.attributes, COVEY_ROSTER) is not None:
        raise FormatError(DROP_POLICY)
    begin = _CHANGES + 2 * u16(value, 4)
    if begin > len(value):
        raise FormatError(DROP_POLICY)
    rows = {}
    for row in was.sources.rows:
        rows[row[0]] = row
    for off in range(_CHANGES, begin, 2):
        if rows.pop(u16(value, off), None) is None:
            raise FormatError(DROP_POLICY)
    for row in _rows_of(value, begin):
        rows[row[0]] = row
    return [rows[index] for index in sorted(rows)], True


def parse_roster(attributes):
    """Attributes of the group-wide policy → [(index, incarnation, identity)]"""
    value = only(attributes, COVEY_ROSTER)
    if value is None:
        raise FormatError(DROP_POLICY)
    return _rows_of(value, 0)


def _rows_of(value, off):
    rows = []
    while off < len(value):
        if len(value) - off < 6:
            raise FormatError(DROP_POLICY)
        end = off + 6 + value[off + 5]
        if end > len(value):
            raise FormatError(DROP_POLICY)
        rows.append((u16(value, off), u16(value, off + 2), bytes(value[off + 6 : end])))
        off = end
    if len({row[0] for row in rows}) != len(rows):
        raise FormatError(DROP_POLICY)
    return rows


def unwrap_job(value, kwk_id, kwk):
    """Job: what COVEY_RECEIVER_KEY or COVEY_SENDER_KEYS holds under this key → a bytearray, which
    the caller wipes.
    """
    if isinstance(value, int) or value[:4] != kwk_id:
        raise FormatError(DROP_KD)
    found = yield from keywrap.unwrap_job(kwk, value[4:])
    if found is None:
        raise FormatError(DROP_KEY_WRAP)
    return found


def enlist(sa, rows):
    """From now on nobody but these senders passes under a DataSA that is not installed yet: each
    has a window. rows: (index, incarnation, identity); a newer incarnation may come, but no older
    one.
    """
    table = sa.senders
    w = table.words
    for row in rows:
        window = table.window_of(row[0])
        if window is None:
            raise FormatError(DROP_CAPACITY)
        w[window + _INDEX] = row[0]
        w[window + _INCARNATION] = row[1] & (1 << w[_LOW_BITS]) - 1
        w[window + _NEWEST] = 1  # the row of the first numbers
    for window in range(_WINDOWS, len(w), _WINDOW_LEN):
        if not w[window + _NEWEST]:
            w[window + _INDEX] = _NOBODY
            w[window + _NEWEST] = _LAST_ROW


def only(attributes, wanted):
    """The value of the one attribute of this kind, a TLV; None: there is none."""
    found = None
    for kind, value in attributes:
        if kind == wanted:
            if found is not None or isinstance(value, int):
                raise FormatError(DROP_POLICY)
            found = value
    return found


# ---- The key server's half, which boards are built without


def emit_macs(tag_len, slot_ids):
    return COVEY_SOURCE_AUTH, pack(">BBBB", MACS, tag_len, len(slot_ids), 0) + b"".join(slot_ids)


def emit_signed(levels):
    return COVEY_SOURCE_AUTH, pack(">BBxx", SIGNED, levels)


def emit_roster(rows):
    """rows: (index, incarnation, identity) each."""
    out = b""
    for index, incarnation, identity in rows:
        out += pack(">HHBB", index, incarnation, 0, len(identity)) + identity
    return COVEY_ROSTER, out


def emit_roster_changes(epoch, gone, rows):
    """Of the roster of this epoch: indexes that are gone, and rows that are new or others."""
    head = pack(">IH", epoch & 0xFFFFFFFF, len(gone)) + b"".join([pack(">H", i) for i in gone])
    return COVEY_ROSTER_CHANGES, head + emit_roster(rows)[1]


def emit_receiver_key(kwk, secret):
    return COVEY_RECEIVER_KEY, _DEFAULT_KWK + bytes(keywrap.wrap(kwk, secret))


def emit_sender_keys(kwk_id, kwk, pairs):
    """pairs: (Slot ID, K) each."""
    keys = b"".join([slot + key for slot, key in pairs])
    return COVEY_SENDER_KEYS, kwk_id + bytes(keywrap.wrap(kwk, keys))
