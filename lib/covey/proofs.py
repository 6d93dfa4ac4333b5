"""A member's proofs of who sends in its group: made of what the key server says (sources.py)."""

from covey import octets, sources
from covey.cmac import CMACContext
from covey.drops import DROP_KD, DROP_POLICY, FormatError
from covey.iana import COVEY_RECEIVER_KEY, COVEY_SENDER_KEYS
from covey.kd import ZERO_ID
from covey.mac import ReceiverMACs, hold, let_go
from covey.port import const

_PAIR = const(20)  # octets of a Slot ID and K


class Sources:
    """What a member holds of its group's senders. rows: (index, incarnation, identity) each.

    Of its CMACContexts it is one user, an SA another: the last of them wipes.
    """

    keeper = None  # nothing has to be done as time goes by

    def __init__(self, rows):
        self.rows = rows
        self.secret = None  # R, a bytearray; None: this member has no slot
        self.heard = {}  # a sender's identity → CMACContext
        self.told = {}  # a Slot ID → CMACContext: what we put there

    def release(self, heir):
        """Of no use afterwards. heir: the Sources that may go on with R. Takes no heap."""
        if self.secret and (heir is None or heir.secret is not self.secret):
            octets.wipe(self.secret)
        _empty(self.heard)
        _empty(self.told)


def build_job(policies, group_wide, bag, kwk, was, terms):
    """Job: what a message says of it → (Sources, a ReceiverMACs for each of the policies).

    policies: gsa.SAPolicy of the ESP SAs. group_wide: gsa.GroupWide or None. bag: kd.MemberBag or
    None. kwk: GSK_w at a registration, None in a GSA_REKEY. was, terms: assignment.Terms so far,
    and from now on. FormatError: nothing has changed, and what was made is wiped.
    """
    form = terms.sender_form
    if form is None or form[1] > 16 or group_wide is None or group_wide.epoch is None:
        raise FormatError(DROP_POLICY)  # our own count of epochs is no one else's
    made = Sources(sources.roster_of(group_wide, None if kwk else was)[0])
    shapes = [sources.parse_macs(policy.attributes) for policy in policies]
    each = []
    is_whole = False
    try:
        yield from _take_keys(made, shapes, bag, kwk, was)
        low_bits = form[1] - form[0]
        own = terms.sender_ids[0] >> low_bits if terms.sender_ids else None
        names = {}
        for index, _, identity in made.rows:
            names[index] = identity
        by_index = yield from _hear(made, names, own, was.sources)
        own_slot = None if made.secret is None else sources.slot_id(made.secret)
        for tag_len, slots in shapes:
            senders = [made.told.get(one) for one in slots] if own is not None else None
            at = slots.index(own_slot) if own_slot in slots else None
            how = at, by_index, senders, names, low_bits, group_wide.epoch
            each.append(ReceiverMACs(tag_len, len(slots), *how))
            yield
        found = made, each
        is_whole = True
        return found
    finally:
        if not is_whole:  # refused, or the job was dropped
            for macs in each:
                macs.release()
            made.release(was.sources)


def _take_keys(made, shapes, bag, kwk, was):
    """Job: R, and what we put into the slots that there are, as far as it was known or is told."""
    path, was = was.key_path, was.sources if isinstance(was.sources, Sources) else None
    named = [slot for _, slots in shapes for slot in slots]
    if was is not None and not kwk:
        made.secret = was.secret
        for slot in named:
            if slot in was.told:
                _put(made.told, slot, was.told[slot])
    for kind, value in bag.attributes if bag else ():
        if kind == COVEY_RECEIVER_KEY and kwk:
            if made.secret is not None:
                raise FormatError(DROP_KD)
            made.secret = yield from sources.unwrap_job(value, ZERO_ID, kwk)
            if len(made.secret) != sources.SECRET_LEN:
                raise FormatError(DROP_KD)
        elif kind == COVEY_SENDER_KEYS:
            if isinstance(value, int):
                raise FormatError(DROP_KD)
            if kwk:
                yield from _learn(value, ZERO_ID, kwk, named, made.told)
            elif path and value[:4] == path[-1][0]:
                yield from _learn(value, path[-1][0], path[-1][1], named, made.told)


def _learn(value, kwk_id, kwk, named, told):
    pairs = yield from sources.unwrap_job(value, kwk_id, kwk)
    try:
        if len(pairs) % _PAIR:
            raise FormatError(DROP_KD)
        view = memoryview(pairs)
        for off in range(0, len(pairs), _PAIR):
            yield
            slot = bytes(view[off : off + sources.ID_LEN])
            if slot in named:
                _put(told, slot, CMACContext(view[off + sources.ID_LEN : off + _PAIR]))
    finally:
        octets.wipe(pairs)


def _hear(made, names, own, was):
    """Job: {index of a sender: its CMACContext}, without ourselves; made of R where it is new."""
    by_index = {}
    is_same = was is not None and was.secret is not None and made.secret is not None
    is_same = is_same and octets.equal(was.secret, made.secret)
    for index in names if made.secret else ():
        identity = names[index]
        if index == own:
            continue
        context = made.heard.get(identity) or (was.heard.get(identity) if is_same else None)
        if context is None:
            key = sources.pair_key(made.secret, identity)
            yield
            context = CMACContext(key)
        _put(made.heard, identity, context)
        by_index[index] = context
        yield
    return by_index


def _put(contexts, name, context):
    """In place of another one, if there is one."""
    hold(context)
    old = context  # where it finds no memory
    try:
        was = contexts.get(name)
        contexts[name] = context
        old = was
    finally:
        if old is not None:
            let_go(old)


def _empty(contexts):
    for name in contexts:
        let_go(contexts[name])
    contexts.clear()
