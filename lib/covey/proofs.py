"""A member's proofs of who sends in its group: made of what the key server says (sources.py)."""

from covey import keywrap, octets, sources
from covey.cmac import CMACContext
from covey.drops import DROP_CAPACITY, DROP_KD, DROP_KEY_WRAP, DROP_POLICY, FormatError
from covey.iana import COVEY_RECEIVER_KEY, COVEY_SENDER_KEYS
from covey.kd import ZERO_ID
from covey.mac import ReceiverMACs
from covey.port import const

_PAIR = const(20)  # octets of a Slot ID and K


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
    if form is None or form[1] > 16:
        raise FormatError(DROP_POLICY)
    low_bits = form[1] - form[0]
    own = terms.sender_ids[0] >> low_bits if terms.sender_ids else None
    was = was.sources
    rows = sources.parse_roster(group_wide.attributes if group_wide else ())
    names = {}
    for index, _, identity in rows:
        names[index] = identity
    secret = None if kwk else was and was.secret
    told = {} if kwk or was is None else dict(was.told)
    for kind, value in bag.attributes if bag else ():
        if kind == COVEY_RECEIVER_KEY and kwk:
            secret = yield from _unwrapped(value, ZERO_ID, kwk)
            if len(secret) != sources.SECRET_LEN:
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
            key = sources.pair_key(secret, identity)
            yield
            context = CMACContext(key)
            yield
        heard[identity] = context
    made = Sources(rows, secret, heard, told)
    own_slot = None if secret is None else sources.slot_id(secret)
    each = []
    for policy in policies:
        tag_len, slots = sources.parse_macs(policy.attributes)
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


def _learn(pairs, told):
    if len(pairs) % _PAIR:
        raise FormatError(DROP_KD)
    for off in range(0, len(pairs), _PAIR):
        yield
        told[bytes(pairs[off : off + sources.ID_LEN])] = CMACContext(
            pairs[off + sources.ID_LEN : off + _PAIR]
        )
    octets.wipe(pairs)


def _unwrapped(value, kwk_id, kwk):
    if isinstance(value, int) or value[:4] != kwk_id:
        raise FormatError(DROP_KD)
    found = yield from keywrap.unwrap_job(kwk, value[4:])
    if found is None:
        raise FormatError(DROP_KEY_WRAP)
    return found


def enlist(sa, rows):
    """From now on nobody but these senders passes under a DataSA that is not installed yet."""
    if not sa.senders.enlist(rows):
        raise FormatError(DROP_CAPACITY)
