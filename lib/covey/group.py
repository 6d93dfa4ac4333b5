"""What a member holds of its group: terms, data SAs, Rekey SAs; how an Assignment changes it.

All or nothing: changes() refuses before the first of them or carries out everything, unless memory
runs out: then the key server is to be asked again. give_up() comes behind it in any case.
"""

from covey import ike
from covey.assignment import Terms
from covey.drops import DROP_CAPACITY, DROP_POLICY, DROP_REKEY_MESSAGE_ID, FormatError
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
        if self.terms.is_relayed:
            return {sa.spi: None for sa in self._keys.live()}
        return {sa.spi: (_dotted(sa.destination), sa.carrier_port) for sa in self._keys.live()}

    def listening(self):
        """Where datagrams come: {(address, UDP port): whether RFC 3948 rules there}.

        Where it does, ESP comes, and rekeys behind the marker; else only rekeys, bare. A port of
        None is IP protocol 50: ESP only. A place of None is the IKE SA's own way, for ESP too.
        """
        if self.terms.is_relayed:
            return {None: True} if self._keys.live() else {}
        places = set(self.routes().values())
        framed = {_MARKER_PORT}
        for _, number in places:
            framed.add(number)
        framed.discard(None)
        for sa in self.rekey.held:
            places.add((_dotted(sa.destination[0]), sa.destination[2]))
        return {place: place[1] in framed for place in places}

    def changes(self, made, registering, now_ms):
        """Job: carry out an Assignment; FormatError at its first step: see _check. Whoever has
        begun it has to bring it to its end.

        registering: it replaces all that was known before (RFC 9838 section 2.3.3).
        """
        keys = self._keys
        keys.keep_up(now_ms)  # what is over goes before we look, and nothing in between
        old = keys.live()
        fresh = [sa for sa in made.data_sas if not _is_among(sa, old)]
        made.has_news = bool(fresh)
        replaced = [sa for sa in old if registering and not _is_among(sa, made.data_sas)]
        self._check(made, registering, len(fresh) - len(replaced))
        if keys.room_for(len(fresh)):
            yield from self._change(made, replaced, registering, now_ms)
        else:  # no packet finds the old ones gone and the new ones not there
            for sa in replaced:
                keys.retire(sa.spi, now_ms, 0)
            finish(self._change(made, (), registering, now_ms))
        try:
            self._settle(made, registering, now_ms)
        finally:  # what is deleted must go all the same, also where memory is out
            yield
            yield from self._delete(made, old, now_ms)

    def _change(self, made, replaced, registering, now_ms):
        """Job: what packets see of it. One after the other can be received; all are sent under at
        once.
        """
        keys = self._keys
        terms = made.terms
        sending = []
        keys.hold()
        try:
            for sa in made.data_sas:
                yield
                self._install_data(sa, terms, registering, now_ms, sending)
            yield
            for spi in sending:
                if registering or self.is_in:
                    keys.activate(spi, now_ms, terms.atd_s)
            for sa in replaced:  # behind: so a sender goes on under it until their ATD is over
                yield
                keys.retire(sa.spi, now_ms, terms.dtd_s)
            self._follow(terms)
        finally:
            keys.go_on(now_ms)
        yield

    def give_up(self, made):
        """Wipe what of an Assignment is not in use: all, or what found no memory, or nothing.
        Takes no heap.
        """
        for sa in made.data_sas:
            if sa not in self._keys.sas:
                sa.wipe()
        if made.rekey_sa is not None and made.rekey_sa not in self.rekey.held:
            made.rekey_sa.wipe()
        for key in made.new_keys:
            for pair in self.terms.key_path:
                if pair[1] is key:
                    break
            else:
                wipe(key)
        made.give_up_sources(self.terms)

    def put_out(self, now_ms):
        """No key path leads on from ours (RFC 9838 section 3.2.3): as if all were deleted, but
        that we ask for other keys over the IKE SA that we have.
        """
        for sa in self._keys.live():
            self._keys.retire(sa.spi, now_ms, self.terms.dtd_s)

    def _follow(self, terms):
        """From now on; what is no longer on our key path is wiped."""
        for pair in self.terms.key_path:
            if pair not in terms.key_path:
                wipe(pair[1])
        old, new = self.terms.sources, terms.sources
        if old is not None and old is not new:
            old.release(new)  # what SAs work with goes with the last of them
        self.terms = terms

    def _check(self, made, registering, slots):
        """FormatError where an Assignment can't be carried out, or must not be.

        slots: how many it takes more than it frees.
        """
        keys = self._keys
        sa = made.rekey_sa
        if registering and sa is not None and self.rekey.is_stale(sa, made.turns):
            raise FormatError(DROP_REKEY_MESSAGE_ID)  # a rekey has overtaken it
        for sa in made.data_sas:
            held = keys.find(sa.spi, 0)
            if held is not None:
                if held.senders.bits != sa.senders.bits:
                    raise FormatError(DROP_POLICY)  # its windows could not go on
            elif not registering and is_among(keys.retired, sa.spi, 0):
                # Its numbers are forgotten, and our Sender-ID is the one that we had: IVs would
                # come again, and replays be taken.
                raise FormatError(DROP_POLICY)
            elif made.goes_on and keys.lapsed and is_among(keys.retired, sa.spi, 0):
                raise FormatError(DROP_REKEY_MESSAGE_ID)  # so they would; to be asked for anew
        if not keys.room_for(slots):
            raise FormatError(DROP_CAPACITY)

    def _install_data(self, sa, terms, registering, now_ms, sending):
        """One SA: new, or told again, in which case its windows stay and the copy goes. sending:
        takes the SPIs of those that are to be sent under.
        """
        keys = self._keys
        held = keys.find(sa.spi, 0)
        if held is None:
            keys.install(sa, now_ms)
        else:
            if held.auth is not None and sa.auth is not None:
                held.auth, sa.auth = sa.auth, held.auth  # the old keys can go
            sa.wipe()
            keys.renew(sa.spi, now_ms, sa.lifetime_s)
            sa = held
        sa.carrier_port = terms.udp_port
        if terms.sender_ids and (registering or held is None):  # else we send, or were stopped
            sa.become_sender(terms.sender_ids[0], terms.sender_bits)
            sending.append(sa.spi)

    def _settle(self, made, registering, now_ms):
        """Its Rekey SA, and what it announces."""
        terms = made.terms
        if registering:
            self.rekey.replace(made.rekey_sa, now_ms)
        elif made.rekey_sa is not None and not self.rekey.holds(made.rekey_sa):
            self.rekey.install(made.rekey_sa, now_ms, terms.dtd_s)
        else:
            if made.rekey_sa is not None:
                made.rekey_sa.wipe()  # told again: its Message IDs go on
            if self.rekey.current is not None:
                self.rekey.current.verifier = terms.verifier  # it may bring a new AUTH_KEY
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
            is_all = delete.protocol == 0
            for spi in delete.spis:
                is_all = is_all or not any(spi)
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


def soft_lifetime_s(sas):
    """When to ask for new keys, in seconds from now: later than the server should push them.

    None where no SA has a lifetime. Never at once: the answer may be the same again.
    """
    lifetimes = [sa.lifetime_s for sa in sas if sa.lifetime_s is not None]
    return max(1, min(lifetimes) * _SOFT_PERCENT // 100) if lifetimes else None


def _is_among(sa, others):
    for other in others:
        if other.spi == sa.spi:
            return True
    return False


def _dotted(address):
    return "%d.%d.%d.%d" % tuple(address)
