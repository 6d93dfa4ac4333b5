"""A member's proofs by time of who sends in its group: made of what the key server says."""

from covey import sources
from covey.drops import DROP_POLICY, FormatError
from covey.iana import COVEY_CHAINS
from covey.port import const
from covey.tesla import TimedMACs
from covey.timekeeper import Timekeeper
from covey.timing import parse_chains, parse_timing

_MOST_ID_BITS = const(16)  # of a Sender-ID, as cmac.py covers it


class TimedSources:
    """What a member holds of its group's senders. rows: (index, incarnation, identity) each;
    chains: rows of timing.parse_chains(). keeper: Timekeeper, which goes on through rekeys.
    """

    secret = None  # a receiver needs none

    def __init__(self, rows, names, chains, keeper):
        self.rows = rows
        self.names = names
        self.keeper = keeper
        self._chains = chains

    def settle(self):
        """From now on it is these senders."""
        self.keeper.chains.tell(self._chains, self.names)

    def release(self, heir):
        """Of no use afterwards. heir: who may go on with the keeper."""
        if isinstance(heir, TimedSources) and heir.keeper is self.keeper:
            heir.settle()
        else:
            self.keeper.wipe()


def build_job(policies, group_wide, bag, kwk, was, terms):
    """Job: what a message says of it → (TimedSources, a TimedMACs for each of the policies).

    The arguments are those of proofs.build_job. FormatError: nothing has changed.
    """
    form = terms.sender_form
    if form is None or form[1] > _MOST_ID_BITS or group_wide is None or group_wide.epoch is None:
        raise FormatError(DROP_POLICY)
    rows = sources.parse_roster(group_wide.attributes)
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
    keeper = None if was.sources is None else was.sources.keeper
    if keeper is None or not keeper.goes_on(timing, own):
        keeper = Timekeeper(timing, own)
    yield
    made = TimedSources(rows, names, chains, keeper)
    if was.sources is None or keeper is not was.sources.keeper:
        made.settle()
    sends = own is not None
    how = names, low_bits, group_wide.epoch, sends
    each = []
    for _ in policies:
        each.append(TimedMACs(keeper, *how))
        yield
    return made, each
