"""Who may send in a group, and with which keys they prove that it was they. Loaded where a policy
asks for it.

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

In the group-wide policy, COVEY_ROSTER (16401, TLV), one after the other:

    +---------------+---------------+---------------+---------------+
    |      Index of its Sender-ID   |          Incarnation          |
    +---------------+---------------+---------------+---------------+
    |    RESERVED   | Octets of ID  |             Identity          ~
    +---------------+---------------+-------------------------------+

In the member bag, COVEY_RECEIVER_KEY (16402, TLV) is R, and COVEY_SENDER_KEYS (16403, TLV) any
number of (Slot ID, K): a KWK ID, then the output of RFC 5649. KWK ID zero is GSK_w, at a
registration; in a GSA_REKEY it is the Key ID of the sender's personal key in the key tree.
"""

from struct import pack

from covey import keywrap, octets
from covey.cmac import CMACContext
from covey.drops import DROP_CAPACITY, DROP_KD, DROP_KEY_WRAP, DROP_POLICY, FormatError
from covey.iana import (
    COVEY_RECEIVER_KEY,
    COVEY_ROSTER,
    COVEY_SENDER_KEYS,
    COVEY_SOURCE_AUTH,
)
from covey.kd import ZERO_ID
from covey.mac import ReceiverMACs
from covey.octets import u16
from covey.port import const
from covey.prf import prf

MACS = 1  # the mode
MOST_SLOTS = 16
SECRET_LEN = 32  # octets of R
KEY_LEN = 16  # of K
_ID_LEN = const(4)
_LEAST_TAG = const(8)
_MOST_TAG = const(16)
_PAIR = const(20)  # a Slot ID and K


class Sources:
    """What a member holds of its group's senders. rows: (index, incarnation, identity) each."""

    def __init__(self, rows, secret, heard, told):
        self.rows = rows
        self.secret = secret  # R, a bytearray; None: this member has no slot
        self.heard = heard  # a sender's identity → CMACContext
        self.told = told  # a Slot ID → CMACContext: what we put there

    def wipe(self):
        octets.wipe(self.secret or b"")
        for contexts in (self.heard, self.told):
            for name in contexts:
                contexts[name].wipe()


def build_job(policies, group_wide, bag, kwk, was, terms):
    """Job: what a message says of it → (Sources, a ReceiverMACs for each of the policies).

    policies: gsa.SAPolicy of the ESP SAs. group_wide: gsa.GroupWide or None. bag: kd.MemberBag or
    None. kwk: GSK_w at a registration, None in a GSA_REKEY. was, terms: assignment.Terms so far,
    and from now on. FormatError: nothing has changed.
    """
    form, path = terms.sender_form, was.key_path
    if form is None or form[0] > 16:
        raise FormatError(DROP_POLICY)
    low_bits = form[1] - form[0]
    own = terms.sender_ids[0] >> low_bits if terms.sender_ids else None
    was = was.sources
    rows = _roster(group_wide)
    names = {}
    for index, _, identity in rows:
        names[index] = identity
    secret = None if kwk else was and was.secret
    told = {} if kwk or was is None else dict(was.told)
    for kind, value in bag.attributes if bag else ():
        if kind == COVEY_RECEIVER_KEY and kwk:
            secret = yield from _unwrapped(value, ZERO_ID, kwk)
            if len(secret) != SECRET_LEN:
                raise FormatError(DROP_KD)
        elif kind == COVEY_SENDER_KEYS and (kwk or path and value[:4] == path[-1][0]):
            id, key = (ZERO_ID, kwk) if kwk else path[-1]
            pairs = yield from _unwrapped(value, id, key)
            yield from _learn(pairs, told)
    heard = {}
    is_same = was is not None and was.secret is not None and secret is not None
    is_same = is_same and octets.equal(was.secret, secret)
    for index in names if secret else ():
        identity = names[index]
        if index == own:
            continue
        context = was.heard.get(identity) if is_same else None
        if context is None:
            key = pair_key(secret, identity)
            yield
            context = CMACContext(key)
            yield
        heard[identity] = context
    made = Sources(rows, secret, heard, told)
    own_slot = None if secret is None else slot_id(secret)
    each = []
    for policy in policies:
        tag_len, slots = _parse_macs(policy)
        by_index = {}
        for index in names:
            if names[index] in heard:
                by_index[index] = heard[names[index]]
        senders = [told.get(one) for one in slots] if own is not None else None
        at = slots.index(own_slot) if own_slot in slots else None
        macs = ReceiverMACs(
            tag_len, len(slots), at, by_index, senders, names, low_bits, terms.epoch
        )
        each.append(macs)
        yield
    return made, each


def slot_id(secret):
    """How others name the slot of the receiver that has this secret: 4 octets."""
    return prf(secret, b"Covey slot")[:_ID_LEN]


def pair_key(secret, sender):
    """K of one sender, whose identity this is, for the receiver that has this secret."""
    return prf(secret, b"Covey receiver-specific MAC", pack(">H", len(sender)), sender)[:KEY_LEN]


def _learn(pairs, told):
    if len(pairs) % _PAIR:
        raise FormatError(DROP_KD)
    for off in range(0, len(pairs), _PAIR):
        yield
        told[bytes(pairs[off : off + _ID_LEN])] = CMACContext(pairs[off + _ID_LEN : off + _PAIR])
    octets.wipe(pairs)


def _unwrapped(value, kwk_id, kwk):
    if isinstance(value, int) or value[:4] != kwk_id:
        raise FormatError(DROP_KD)
    found = yield from keywrap.unwrap_job(kwk, value[4:])
    if found is None:
        raise FormatError(DROP_KEY_WRAP)
    return found


def _only(attributes, wanted):
    found = None
    for kind, value in attributes:
        if kind == wanted:
            if found is not None or isinstance(value, int):
                raise FormatError(DROP_POLICY)
            found = value
    return found


def _parse_macs(policy):
    """→ (octets of a tag, Slot IDs)"""
    value = _only(policy.attributes, COVEY_SOURCE_AUTH)
    if value is None or len(value) < 4 or value[0] != MACS:
        raise FormatError(DROP_POLICY)
    if not _LEAST_TAG <= value[1] <= _MOST_TAG or value[2] > MOST_SLOTS:
        raise FormatError(DROP_POLICY)
    if len(value) != 4 + _ID_LEN * value[2]:
        raise FormatError(DROP_POLICY)
    return value[1], [value[off : off + _ID_LEN] for off in range(4, len(value), _ID_LEN)]


def _roster(group_wide):
    value = group_wide and _only(group_wide.attributes, COVEY_ROSTER)
    if value is None:
        raise FormatError(DROP_POLICY)
    rows = []
    off = 0
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


def enlist(sa, rows):
    """From now on nobody but these senders passes under a DataSA that is not installed yet."""
    if not sa.senders.enlist(rows):
        raise FormatError(DROP_CAPACITY)


# ---- The key server's half, which boards are built without


def emit_macs(tag_len, slot_ids):
    return COVEY_SOURCE_AUTH, pack(">BBBB", MACS, tag_len, len(slot_ids), 0) + b"".join(slot_ids)


def emit_roster(rows):
    """rows: (index, incarnation, identity) each."""
    out = b""
    for index, incarnation, identity in rows:
        out += pack(">HHBB", index, incarnation, 0, len(identity)) + identity
    return COVEY_ROSTER, out


def emit_receiver_key(kwk, secret):
    return COVEY_RECEIVER_KEY, ZERO_ID + bytes(keywrap.wrap(kwk, secret))


def emit_sender_keys(kwk_id, kwk, pairs):
    """pairs: (Slot ID, K) each."""
    keys = b"".join([slot + key for slot, key in pairs])
    return COVEY_SENDER_KEYS, kwk_id + bytes(keywrap.wrap(kwk, keys))
