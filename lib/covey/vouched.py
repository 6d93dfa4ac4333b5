"""Whose key is which in a group of signed packets, as the key server says (signers.py)."""

from covey import octets, p256, sources
from covey.drops import DROP_KD, DROP_POLICY, FormatError
from covey.iana import COVEY_RECEIVER_KEY
from covey.kd import ZERO_ID
from covey.p256_sign import derived
from covey.port import const
from covey.signatures import Signatures
from covey.signers import KEY_LABEL, parse_signers

_VERIFIERS = const(4)  # of the senders heard last: each has a table of 1 KB, long in the making


class Signers:
    """What a member holds of its group's senders. rows: (index, incarnation, identity) each;
    points: a sender's identity → 65 octets, on the curve.
    """

    keeper = None  # nothing has to be done as time goes by
    secret = None  # R, which is of no use once our key is derived

    def __init__(self, rows, points):
        self.rows = rows
        self.points = points
        self.key = None  # our private key, a bytearray; None: we don't send
        self._verifiers = []  # (identity, p256.Verifier), the latest first

    def release(self, heir):
        """Of no use afterwards. heir: who may go on with the key. Takes no heap."""
        if self.key is None or isinstance(heir, Signers) and heir.key is self.key:
            return
        octets.wipe(self.key)

    def verifier(self, identity):
        """The p256.Verifier of one sender on the roster."""
        for pair in self._verifiers:
            if pair[0] == identity:
                break
        else:
            pair = identity, p256.Verifier(self.points[identity])
        others = [other for other in self._verifiers if other is not pair]
        self._verifiers = [pair] + others[: _VERIFIERS - 1]
        return pair[1]

    def inherit(self, was):
        """Tables that are made already, of keys that stay."""
        for pair in was._verifiers:
            if self.points.get(pair[0]) == was.points[pair[0]]:
                self._verifiers.append(pair)


def build_job(policies, group_wide, bag, kwk, was, terms):
    """Job: what a message says of it → (Signers, a Signatures for each of the policies).

    The arguments are those of proofs.build_job. FormatError: nothing has changed, and what was
    made is wiped.
    """
    form = terms.sender_form
    if form is None or form[1] > 16 or group_wide is None or group_wide.epoch is None:
        raise FormatError(DROP_POLICY)
    rows, by_changes = sources.roster_of(group_wide, None if kwk else was)
    was = was.sources if isinstance(was.sources, Signers) else None
    names = {}
    for index, _, identity in rows:
        names[index] = identity
    levels = [sources.parse_signed(policy.attributes) for policy in policies]
    yield
    found = parse_signers(group_wide.attributes)
    if by_changes and was is not None:
        for index, _, identity in was.rows:
            if names.get(index) == identity and index not in found:
                found[index] = was.points[identity]
    points = yield from _points(found, names, was)
    made = Signers(rows, points)
    if was is not None:
        made.inherit(was)
    own = None
    is_whole = False
    try:
        if terms.sender_ids:
            own = terms.sender_ids[0] >> form[1] - form[0]
            if own not in names:
                raise FormatError(DROP_POLICY)
            yield from _take_key(made, bag, kwk, was)
        how = names, own, made.key, form[1] - form[0], group_wide.epoch
        each = [Signatures(most, made, *how) for most in levels]
        is_whole = True
        return made, each
    finally:
        if not is_whole:  # refused, or the job was dropped
            made.release(was)


def _points(found, names, was):
    """Job: {identity: its point}, each on the curve and of somebody on the roster."""
    points = {}
    for index in names:
        point = found.pop(index, None)
        if point is None:
            raise FormatError(DROP_POLICY)
        identity = names[index]
        if was is None or was.points.get(identity) != point:
            yield
            if p256.coordinates(point) is None:
                raise FormatError(DROP_POLICY)
        points[identity] = point
    if found or len(points) != len(names):
        raise FormatError(DROP_POLICY)
    return points


def _take_key(made, bag, kwk, was):
    """Job: our private key, by R at a registration; else it stays."""
    if not kwk:
        if was is None or was.key is None:
            raise FormatError(DROP_KD)
        made.key = was.key
        return
    told = [value for kind, value in bag.attributes if kind == COVEY_RECEIVER_KEY] if bag else ()
    if len(told) != 1:
        raise FormatError(DROP_KD)
    secret = yield from sources.unwrap_job(told[0], ZERO_ID, kwk)
    try:
        if len(secret) != sources.SECRET_LEN:
            raise FormatError(DROP_KD)
        yield
        made.key = derived(secret, KEY_LABEL)
    finally:
        octets.wipe(secret)
