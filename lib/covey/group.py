"""What a member holds of its group: terms, data SAs, Rekey SAs; how an Assignment changes it.

All or nothing: changes() refuses before the first of them or carries out everything, unless memory
runs out: then the key server is to be asked again. give_up() comes behind it in any case.
"""

from covey import ike
from covey.assignment import Terms
from covey.drops import DROP_CAPACITY, DROP_POLICY, DROP_REKEY_MESSAGE_ID, need
from covey.job import finish
from covey.keystore import is_among
from covey.octets import wipe
from covey.port import const
from covey.rekey import Rekey

_MARKER_PORT = const(4500)  # RFC 3948 rules it, even if no data go there
_SOFT_PERCENT = const(85)  # of a lifetime; the key server pushes new keys before


class Group:
    """member: whose key store is filled."""

    def __init__(self, member):
        self.terms = Terms()
        self.rekey = Rekey()
        self.is_in = True  # whoever is out follows rekeys, but sends under none
        self._keys = member.keys

    def step(self, now_ms):
        """Let go of what is over; the ms until the next time."""
        self.rekey.expire(now_ms)
        return self._keys.keep_up(now_ms)

    def wipe(self):
        self._keys.wipe()
        self.rekey.wipe()
        self._follow(Terms())

    def routes(self):
        """Where the packets of each data SA go: {SPI: (address, UDP port; None: protocol 50)}, or
        {SPI: None}: to the key server, which relays them.
        """
        relayed = self.terms.is_relayed
        sas = self._keys.live()
        return {s.spi: None if relayed else (_dotted(s.destination), s.carrier_port) for s in sas}

    def listening(self):
        """Where datagrams come: {(address, UDP port): whether RFC 3948 rules there}.

        Where it does, ESP comes, and rekeys behind the marker; else only rekeys, bare. A port of
        None is IP protocol 50: ESP only. A place of None is the IKE SA's own way, for ESP too.
        """
        if self.terms.is_relayed:
            return {None: True} if self._keys.live() else {}
        found = {place: place[1] is not None for place in self.routes().values()}
        framed = [_MARKER_PORT] + [number for _, number in found]
        for sa in self.rekey.held:
            number = sa.destination[2]
            found[_dotted(sa.destination[0]), number] = number in framed
        return found

    def changes(self, made, now_ms):
        """Job: carry out an Assignment; FormatError at its first step: see _check. Whoever has
        begun it has to bring it to its end.
        """
        keys = self._keys
        keys.keep_up(now_ms)  # what is over goes before we look, and nothing in between
        old = keys.live()
        told = [sa.spi for sa in made.data_sas]
        replaced = [sa for sa in old if made.registering and sa.spi not in told]
        fresh = self._check(made)
        made.has_news = fresh > 0
        need(keys.room_for(fresh - len(replaced)), DROP_CAPACITY)
        if keys.room_for(fresh):
            yield from self._change(made, replaced, now_ms)
        else:  # no packet finds the old ones gone and the new ones not there
            for sa in replaced:
                keys.retire(sa.spi, now_ms, 0)
            finish(self._change(made, (), now_ms))
        try:
            self._settle(made, now_ms)
        finally:  # what is deleted must go all the same, also where memory is out
            yield
            yield from self._delete(made, old, now_ms)

    def _check(self, made):
        """FormatError where an Assignment must not be carried out; how many of its data SAs are
        not here yet.
        """
        keys = self._keys
        sa = made.rekey_sa
        if made.registering and sa is not None:  # else a rekey has overtaken it
            need(not self.rekey.is_stale(sa, made.turns), DROP_REKEY_MESSAGE_ID)
        fresh = 0
        for sa in made.data_sas:
            held = keys.find(sa.spi, 0)
            if held is not None:
                need(held.senders.bits == sa.senders.bits, DROP_POLICY)  # its windows must go on
                continue
            fresh += 1
            if is_among(keys.retired, sa.spi, 0):
                # Its numbers are forgotten, and our Sender-ID is the one that we had: IVs would
                # come again, and replays be taken.
                need(made.registering, DROP_POLICY)
                need(not (made.goes_on and keys.lapsed), DROP_REKEY_MESSAGE_ID)  # ask anew
        return fresh

    def _change(self, made, replaced, now_ms):
        """Job: what packets see of it. One after the other can be received; all are sent under at
        once.
        """
        keys = self._keys
        terms = made.terms
        sending = []
        keys.is_held = True
        try:
            for sa in made.data_sas:
                yield
                held = keys.find(sa.spi, 0)
                # Of one told again by a rekey we are a sender, or were stopped
                sends = terms.sender_ids and (made.registering or held is None)
                if held is None:
                    keys.install(sa, now_ms)
                else:  # its windows stay
                    if held.auth is not None and sa.auth is not None:
                        held.auth, sa.auth = sa.auth, held.auth  # the old keys can go
                    keys.renew(held, now_ms, sa.lifetime_s)
                    sa = held
                sa.carrier_port = terms.udp_port
                if sends:
                    sa.become_sender(terms.sender_ids[0], terms.sender_bits)
                    sending.append(sa.spi)
            yield
            for spi in sending:
                if made.registering or self.is_in:
                    keys.activate(spi, now_ms, terms.atd_s)
            for sa in replaced:  # behind: so a sender goes on under it until their ATD is over
                yield
                keys.retire(sa.spi, now_ms, terms.dtd_s)
            self._follow(terms)
        finally:
            keys.is_held = False
            keys.step(now_ms)
        yield

    def _settle(self, made, now_ms):
        """Its Rekey SA, and what it announces."""
        rekey, sa = self.rekey, made.rekey_sa
        if made.registering:
            rekey.replace(sa, now_ms)
        elif sa is not None and rekey.find(sa.spi) is None:  # else its Message IDs go on
            rekey.install(sa, now_ms, made.terms.dtd_s)
        elif rekey.current is not None:
            rekey.current.verifier = made.terms.verifier  # it may bring a new AUTH_KEY
        if made.data_sas:
            self._keys.announce(made.next_spis)

    def _delete(self, made, old, now_ms):
        """Job: its Deletes, RFC 9838 section 2.4.3: what is named goes after DTD; an SPI of zeros
        means all. old: the SAs that were here before.

        Where the Rekey SA goes without another in its place, we are out of the group, as everyone
        is: made.excludes.
        """
        dtd_s = made.terms.dtd_s
        for delete in made.deletes:
            is_all = not (delete.protocol and all([any(spi) for spi in delete.spis]))
            if delete.protocol in (0, ike.ESP):
                for sa in old:
                    if is_all or sa.spi in delete.spis:
                        self._keys.retire(sa.spi, now_ms, dtd_s)
                        yield
            if delete.protocol in (0, ike.GIKE_UPDATE):
                for spi in [None] if is_all else delete.spis:
                    self.rekey.retire(spi, now_ms, dtd_s)
                made.excludes = made.excludes or is_all
        if made.excludes:
            self.rekey.turns += 1

    def give_up(self, made):
        """Wipe what of an Assignment is not in use: all, or what found no memory, or was told
        again, or nothing. Takes no heap.
        """
        for sa in made.data_sas:
            if sa not in self._keys.sas:
                sa.wipe()
        if made.rekey_sa is not None and made.rekey_sa not in self.rekey.held:
            made.rekey_sa.wipe()
        _let_go(made.terms, self.terms)

    def put_out(self, now_ms):
        """No key path leads on from ours (RFC 9838 section 3.2.3): as if all were deleted, but
        that we ask for other keys over the IKE SA that we have.
        """
        for sa in self._keys.live():
            self._keys.retire(sa.spi, now_ms, self.terms.dtd_s)

    def _follow(self, terms):
        """From now on."""
        old, self.terms = self.terms, terms
        _let_go(old, terms)


def soft_lifetime_s(sas):
    """When to ask for new keys, in seconds from now: later than the server should push them.

    None where no SA has a lifetime. Never at once: the answer may be the same again.
    """
    lifetimes = [sa.lifetime_s for sa in sas if sa.lifetime_s is not None]
    return max(1, min(lifetimes) * _SOFT_PERCENT // 100) if lifetimes else None


def _let_go(terms, kept):
    """Wipe what these Terms hold, and those that are kept do not. Takes no heap."""
    for pair in terms.key_path:
        for other in kept.key_path:
            if other[1] is pair[1]:
                break
        else:
            wipe(pair[1])
    if terms.sources is not None and terms.sources is not kept.sources:
        terms.sources.release(kept.sources)  # what SAs work with goes with the last of them


def _dotted(address):
    return "%d.%d.%d.%d" % tuple(address)
