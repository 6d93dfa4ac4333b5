"""A member's proofs by time of who sends in its group: made of what the key server says."""

from covey import sources
from covey.drops import DROP_POLICY, FormatError
from covey.iana import COVEY_CHAINS
from covey.port import const
from covey.tesla import TimedMACs
from covey.timekeeper import Timekeeper
from covey.timing import parse_chains, parse_timing

_MOST_ID_BITS = const(16)  # of a Sender-ID, as cmac.py covers it
_SPREAD_S = const(2)  # over which all ask for the time whom one rekey tells of another clock


class TimedSources:
    """What a member holds of its group's senders. rows: (index, incarnation, identity) each;
    chains: rows of timing.parse_chains(). keeper: Timekeeper, which goes on through rekeys.
    """

    secret = None  # a receiver needs none

    def __init__(self, rows, names, chains, keeper):
        self.rows = rows
        self.names = names
        self.chains = chains
        self.keeper = keeper
        keeper.users += 1

    def release(self, heir):
        """Of no use afterwards. Takes no heap."""
        self.keeper.let_go()


def build_job(policies, group_wide, bag, kwk, was, terms):
    """Job: what a message says of it → (TimedSources, a TimedMACs for each of the policies).

    The arguments are those of proofs.build_job. FormatError: nothing has changed.
    """
    form = terms.sender_form
    if form is None or form[1] > _MOST_ID_BITS or group_wide is None or group_wide.epoch is None:
        raise FormatError(DROP_POLICY)
    rows, _ = sources.roster_of(group_wide, None if kwk else was)
    names = {}
    for index, _, identity in rows:
        names[index] = identity
    yield
    timing = parse_timing(policies[0].attributes)
    for policy in policies:
        if not timing.is_same(parse_timing(policy.attributes)):
            raise FormatError(DROP_POLICY)
    yield
    chains = sources.only(group_wide.attributes, COVEY_CHAINS)
    chains = parse_chains(chains, timing.bits) if chains is not None else []
    yield
    low_bits = form[1] - form[0]
    own = names.get(terms.sender_ids[0] >> low_bits) if terms.sender_ids else None
    if terms.sender_ids and own is None:
        raise FormatError(DROP_POLICY)
    before = None if was.sources is None else was.sources.keeper
    keeper = before
    salts = {}
    for index, first, salt, _, _ in chains:
        if own is not None and names.get(index) == own:
            salts[first] = salt
    if before is None or not before.goes_on(timing, own, salts):
        keeper = Timekeeper(timing, own, before, 0 if kwk else _SPREAD_S)
    yield
    made = TimedSources(rows, names, chains, keeper)
    each = []
    is_whole = False
    try:
        for _ in policies:
            each.append(TimedMACs(keeper, names, low_bits, group_wide.epoch))
            yield
        is_whole = True
        return made, each
    finally:
        if not is_whole:  # the job was dropped
            for macs in each:
                macs.release()
            made.release(None)
