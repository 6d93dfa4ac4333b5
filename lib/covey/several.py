"""More than one key server: who is asked first, how soon the next one is, who sends us on.

To a member they are one key server, on several machines, with one identity and one store. So each
member asks them in an order that it draws as it starts: where one is dead, those that had it are
spread over all others.

    IKE_SA_INIT     again            nothing: the next one, and what X25519 took is used there
        |--- 0.2 s ---|--- 0.3 s ---|        in the second round twice as long, and so on

    GSA_AUTH        again, with IKE_SA_INIT      nothing, not even what that was answered with
        |--- 0.5 s ---|--- 0.2 s, 0.3 s ---|     before: the next one. Else it is only busy

A key server that goes, or can't serve us, names another (REDIRECT, RFC 5685). That is a hint which
of those in covey.json to ask, and never a way to anywhere else: in IKE_SA_INIT nothing proves it
but our nonce, which whoever is on the way can read.
"""

from covey import ike
from covey.drops import DROP_IKE_REDIRECT, FormatError
from covey.octets import equal, wipe
from covey.payloads import notifies, notify
from covey.port import const, ticks_add, ticks_diff
from covey.registration import REDIRECTED
from covey.servers import Servers

REDIRECTED_IN_VAIN = "redirected_too_often"

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
        self.several = self
        self._path_to = path_to
        self._settings = settings
        self._hop_ms = settings.retransmit_first_ms

    def next(self):
        self._from = None
        pause_ms = Servers.next(self)
        if pause_ms:
            self._hop_ms = min(2 * self._hop_ms, self._settings.retransmit_total_s * 1000)
        return pause_ms

    def answered(self):
        Servers.answered(self)
        self._from = None
        self._hop_ms = self._settings.retransmit_first_ms

    def patience(self, is_proving):
        """For what is sent now: IKE_SA_INIT, or GSA_AUTH."""
        hop_ms = self._hop_ms * 4 // 5
        hop_ms += int.from_bytes(self._random(2), "big") % (hop_ms // 2 + 1)
        return Patience(self._settings, hop_ms, is_proving)

    def announcement(self):
        """The notification of our IKE_SA_INIT that we follow REDIRECT."""
        if self._from is None:
            return notify(ike.REDIRECT_SUPPORTED)
        from covey.redirect import emit_redirect

        return notify(ike.REDIRECTED_FROM, emit_redirect(self._from.host))

    def sends_on(self, payloads, now_ms, nonce=None):
        """What comes of a REDIRECT among these, which the current server has sent: None where
        there is none; REDIRECTED: .current is another one; or REDIRECTED_IN_VAIN. nonce: ours,
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
        at = self._where(data, nonce) if len(recent) < _REDIRECTS else None
        if at is None:
            if nonce is not None:
                raise FormatError(DROP_IKE_REDIRECT)
            return REDIRECTED_IN_VAIN
        self._redirects = recent + [now_ms]
        self._from = self.current
        self._at = at
        return REDIRECTED

    def _where(self, data, nonce):
        """The place in our list of whom a REDIRECT names. One that we don't know: None, or the
        next one where the server is proven, as it doesn't serve us."""
        from covey.redirect import parse_redirect

        try:
            host, echo = parse_redirect(data)
            if nonce is not None and not equal(echo, nonce):
                return None
            for at in range(len(self._listed)):
                if at != self._at and self._is_at(self._listed[at], host):
                    return at
        except FormatError:
            pass
        return (self._at + 1) % len(self._listed) if nonce is None else None

    def _is_at(self, server, host):
        if server.host == host:
            return True
        path = self._path_to(server)
        return path is not None and path.is_to(host)

    def wipe(self):
        if self.pair is not None:
            wipe(self.pair[0])
            self.pair = None


class Patience:
    """patience.Patience for a key server that may be dead.

    hop_ms: how long it may say nothing once we doubt that it lives. is_proving: it has answered
    IKE_SA_INIT; so we don't, yet.
    """

    def __init__(self, settings, hop_ms, is_proving):
        self._first_ms = settings.retransmit_first_ms
        self._most_ms = settings.retransmit_total_s * 1000
        self._hop_ms = hop_ms
        self._has_doubts = True
        self._is_proving = is_proving
        self._pause_ms = self._first_ms // 2  # doubled: until we say something again
        self._again_ms = 0  # the same, while there are doubts
        self._due = 0  # ticks of the next repetition,
        self._dead = 0  # of the end, while there are doubts, and
        self._end = 0  # of the end anyway

    def start(self, now_ms):
        """What is awaited an answer to is out."""
        self._end = ticks_add(now_ms, self._most_ms)
        if self._is_proving:
            self.heard(now_ms)
        else:
            self._doubt(now_ms)

    def heard(self, now_ms):
        """It lives, or somebody does in its place: which costs no more than time."""
        if self._has_doubts:
            self._has_doubts = False
            self._pause_ms *= 2
            self._due = ticks_add(now_ms, self._pause_ms)

    def is_over(self, now_ms):
        if self._has_doubts and ticks_diff(self._dead, now_ms) <= 0:
            return True
        return ticks_diff(self._end, now_ms) <= 0

    def is_due(self, now_ms):
        """Whether to say everything again now, so that a living one answers something."""
        if ticks_diff(self._due, now_ms) > 0:
            return False
        if self._has_doubts:
            self._again_ms *= 2
            self._due = ticks_add(now_ms, self._again_ms)
        else:
            self._doubt(now_ms)
        return True

    def left_ms(self, now_ms):
        """Until something is to be done."""
        left_ms = min(ticks_diff(self._end, now_ms), ticks_diff(self._due, now_ms))
        return min(left_ms, ticks_diff(self._dead, now_ms)) if self._has_doubts else left_ms

    def _doubt(self, now_ms):
        self._has_doubts = True
        self._dead = ticks_add(now_ms, self._hop_ms)
        self._again_ms = self._first_ms * 2 // 5
        self._due = ticks_add(now_ms, self._again_ms)


def _shuffled(listed, random):
    listed = list(listed)
    for last in range(len(listed) - 1, 0, -1):
        at = int.from_bytes(random(4), "big") % (last + 1)
        listed[at], listed[last] = listed[last], listed[at]
    return listed
