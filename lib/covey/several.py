"""More than one key server: who is asked first, how soon the next one is, who sends us on.

To a member they are one key server, on several machines, with one identity and one store. So each
member asks them in an order that it draws as it starts: where one is dead, those that had it are
spread over all others. How one of them is asked is in hopping.py.

A key server that goes, or can't serve us, names another (REDIRECT, RFC 5685). That is a hint which
of those in covey.json to ask, and never a way to anywhere else: in IKE_SA_INIT nothing proves it
but our nonce, which whoever is on the way can read.
"""

from covey import ike
from covey.drops import DROP_IKE_REDIRECT, FormatError
from covey.hopping import REDIRECTED, Hop, Patience
from covey.ike import notifies, notify
from covey.octets import equal, wipe
from covey.port import const, ticks_diff
from covey.registration import FAILED, REFUSED
from covey.servers import Servers

_IN_VAIN = "redirected_too_often"
_ELSEWHERE = ("registration_failed", _IN_VAIN)  # by one server; another may do it

_KEPT_S = const(8)  # that a request over an IKE SA that is kept may be without an answer
_REDIRECTS = const(5)  # RFC 5685 section 7: followed at most, within
_PERIOD_MS = const(300000)


class Several(Servers):
    """settings: config.Config; random(n): octets; path_to(server): its nat.Path, or None."""

    most_s = _KEPT_S
    pair = None  # secret and public value of X25519, as handshake.py has them, unused
    _from = None  # config.Server that has sent us to the current one
    _redirects = ()  # when we were sent on, the latest

    def __init__(self, settings, random, path_to):
        Servers.__init__(self, _shuffled(settings.servers, random), random)
        self._path_to = path_to
        self._settings = settings
        self._hop_ms = settings.retransmit_first_ms

    def next(self):
        if self._from is not None:  # else whoever sent us on would do it again
            gone, self._at = self._at, self._listed.index(self._from)
            if (self._at + 1) % len(self._listed) == gone:
                self._at = gone
        self._from = None
        pause_ms = Servers.next(self)
        if pause_ms:
            self._hop_ms = min(2 * self._hop_ms, self._settings.retransmit_total_s * 1000)
        return pause_ms

    def answered(self):
        Servers.answered(self)
        self._from = None
        self._hop_ms = self._settings.retransmit_first_ms

    def registration(self, *args):
        return Hop(self, *args)

    def patience(self, is_proving):
        """hopping.Patience for what is sent now: IKE_SA_INIT, or GSA_AUTH."""
        hop_ms = self._hop_ms * 4 // 5
        hop_ms += int.from_bytes(self._random(2), "big") % (hop_ms // 2 + 1)
        return Patience(self._settings, hop_ms, is_proving)

    # REDIRECT

    def announcement(self):
        """The notification of our IKE_SA_INIT that we follow it."""
        if self._from is None:
            return notify(ike.REDIRECT_SUPPORTED)
        from covey.redirect import emit_redirect

        return notify(ike.REDIRECTED_FROM, emit_redirect(self._from.host))

    def sends_on(self, payloads, now_ms, nonce=None):
        """What comes of a REDIRECT among these, which the current server has sent: None where
        there is none; REDIRECTED: .current is another one; else it is in vain. nonce: ours,
        where nothing else proves it; then FormatError if it isn't followed.
        """
        for notification in notifies(payloads):
            if notification.type == ike.REDIRECT:
                return self.follow(notification.data, now_ms, nonce)
        return None

    def follow(self, data, now_ms, nonce=None):
        """The data of a REDIRECT: see sends_on."""
        recent = []
        for ms in self._redirects:
            if 0 <= ticks_diff(now_ms, ms) < _PERIOD_MS:
                recent.append(ms)
        host, echo = _parsed(data)
        if len(recent) < _REDIRECTS and (nonce is None or equal(echo, nonce)):
            self._redirects = recent + [now_ms]  # also if it names nobody: see _where
            at = self._where(host)
            if at is None and nonce is None:
                at = (self._at + 1) % len(self._listed)  # it is proven, and doesn't serve us
            if at is not None:
                self._from = self.current
                self._at = at
                return REDIRECTED
        if nonce is not None:
            raise FormatError(DROP_IKE_REDIRECT)
        return _IN_VAIN

    def _where(self, host):
        """The place in our list of whom a REDIRECT names; None: we don't know it. Where it is an
        address, the names in our list may have to be looked up, which takes long."""
        others = [at for at in range(len(self._listed)) if at != self._at]
        for at in others:
            if self._listed[at].host == host:
                return at
        for at in others if host.replace(".", "").isdigit() else ():
            path = self._path_to(self._listed[at])
            if path is not None and path.is_of(host):
                return at
        return None

    # What it means to a membership

    def has_taken(self, it, outcome):
        reason = it._ike.reason
        if outcome == REDIRECTED:
            if not it._leaving:
                self._go(it)
            return True
        if it._leaving:
            return False
        if outcome == FAILED and it.moves:
            return True  # it is left anyway, and whom to ask is settled
        if reason == REDIRECTED:
            it._refresh.answered(it._now_ms)
            self._go(it)
            return True
        if outcome == REFUSED and reason in _ELSEWHERE:
            it._refresh.answered(it._now_ms)
            it.moves = True
            it._failed(reason, None)
            return True
        return False

    def _go(self, it):
        to = self.current
        told = "The key server sends us to %s port %d." % (to.host, to.port)
        it.events.append(("redirected", told))
        it.moves = True
        self.move(it, True)

    def move(self, it, has_time=False):
        """Another one is to be asked. has_time: at a random moment, if we have keys, or had an IKE
        SA: they go on, and many others may have to ask."""
        has_time = has_time or it._ike.kwa is not None
        if it._keys.is_registering or it._group.is_in and has_time:
            it._refresh.start(it._now_ms, 0, it._random_ms())
        elif it._refresh.at.is_running:
            it._refresh.soon(it._now_ms)  # no rekey saves it
        else:
            it._register()

    def part(self, it):
        """From a server that is left for another. Where the IKE SA is the only tie to the group,
        its end would be an exclusion: then the server finds out by itself."""
        it.moves = False
        is_tied = it._group.is_in and it._group.rekey.current is None
        if it._ike.is_established and not is_tied:
            it._ike.part()

    def wipe(self):
        if self.pair is not None:
            wipe(self.pair[0])
            self.pair = None


def _parsed(data):
    """parse_redirect; of what is malformed: nobody."""
    from covey.redirect import parse_redirect

    try:
        return parse_redirect(data)
    except FormatError:
        return "", b""


def _shuffled(listed, random):
    listed = list(listed)
    for last in range(len(listed) - 1, 0, -1):
        at = int.from_bytes(random(4), "big") % (last + 1)
        listed[at], listed[last] = listed[last], listed[at]
    return listed
