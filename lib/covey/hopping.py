"""How one of several key servers is asked, which may be dead while the next one lives.

    IKE_SA_INIT      again                nothing: the next one, with the same public value
         |--- 0.2 s ---|------ 0.3 s ------|      in the second round after 1 s, and so on

    GSA_AUTH         again, both          nothing, not even what IKE_SA_INIT was answered with
         |-- 0.25 s -|- 0.2 s -|- 0.3 s -|        before: the next one. Else it is only busy

What X25519 took a board for IKE_SA_INIT is used with the next one, if nobody has answered: with a
new nonce, and before anything was worked out with the secret (RFC 7296 section 2.12).
"""

from covey import ike
from covey.drops import DROP_CAPACITY, DROP_IKE_REDIRECT, FormatError
from covey.handshake import Handshake
from covey.ike import error_of
from covey.nat import HOME
from covey.octets import wipe
from covey.port import ticks_add, ticks_diff
from covey.registration import AUTH, CLOSED, FAILED, INIT, NO_MEMORY, STARTING, Registration

REDIRECTED = "redirected"  # an outcome, and .reason: another server is to be asked, see several.py


class Hop(Registration):
    """several: the several.Several whose current server this asks."""

    def __init__(self, several, *args, **more):
        self._several = several
        Registration.__init__(self, *args, **more)

    def part(self):
        """Delete the IKE SA, which is established: another server is asked from now on."""
        self._unicast.delete()
        self._end(CLOSED, REDIRECTED)

    def _begin(self, path, awake):
        begun = _Handshake(self._config, self._random, self._outgoing, path, awake)
        begun.go_on(self._several)
        return begun

    def _wait(self):
        self._patience = self._several.patience(self.state == AUTH)
        self._patience.start(self._now_ms)

    def _check_timers(self):
        if self.state in (INIT, AUTH) and self._handshake.is_working:  # on an answer
            self._patience.heard(self._now_ms)
        return Registration._check_timers(self)

    def _take_clear(self, header, data):
        if self.state == AUTH:  # it was asked again only to see whether it lives
            if header.exchange == ike.IKE_SA_INIT:
                self._patience.heard(self._now_ms)
        elif self.state == INIT and not self._handshake.is_working:
            payloads = ike.parse_message(data)[1]
            if error_of(payloads) is None and header.flags & ike.FLAG_R:
                nonce = self._handshake.nonce
                if self._several.sends_on(payloads, self._now_ms, nonce) is not None:
                    return self._end(FAILED, REDIRECTED)
        Registration._take_clear(self, header, data)
        if self.state != STARTING:
            self._patience.heard(self._now_ms)

    def keep(self, peer):
        Registration.keep(self, peer)
        self._unicast.most_s = self._several.most_s

    def take_policy(self, payloads, sa):
        where = None
        try:
            if error_of(payloads) is None:
                where = self._several.sends_on(payloads, self._now_ms)
        except FormatError:
            pass  # found below, too
        except MemoryError:
            self.drops.count(DROP_CAPACITY)
            return self._conclude(NO_MEMORY)
        if where is not None:
            return self._conclude(where)
        Registration.take_policy(self, payloads, sa)

    def redirected(self, data):
        if self._several.follow(data, self._now_ms) == REDIRECTED:
            self._outcomes.append(REDIRECTED)
        else:
            self.drops.count(DROP_IKE_REDIRECT)


class _Handshake(Handshake):
    _is_unused = True  # nothing was worked out with our secret
    _several = None

    def go_on(self, several):
        """With what the last one left."""
        self._several = several
        self.payloads = (several.announcement(),)
        pair, several.pair = several.pair, None
        if pair is not None:
            wipe(self._secret)
            self._secret, self._ke = pair
            self._job = self._begin_again()

    @property
    def nonce(self):
        return self._nonce

    @property
    def _is_answered(self):
        return bool(self._untried)  # who asks for a cookie behind GSA_AUTH has forgotten us

    def retransmit(self):
        Handshake.retransmit(self)
        if self.peers and not self._untried:
            self._outgoing.append((self.request, HOME))

    def wipe(self):
        if self._is_unused and self._ke is not None:
            self._several.pair = bytearray(self._secret), self._ke
        Handshake.wipe(self)

    def _begin_again(self):
        """Job: IKE_SA_INIT, by the public value that there is."""
        self._send_init([])
        return
        yield

    def _follow(self, peer):
        self._is_unused = False
        return Handshake._follow(self, peer)


class Patience:
    """deadline.Patience for a key server that may be dead.

    hop_ms: how long it may say nothing once we doubt that it lives. is_proving: it has answered
    IKE_SA_INIT; so we don't, yet.
    """

    def __init__(self, settings, hop_ms, is_proving):
        self._first_ms = settings.retransmit_first_ms
        self._most_ms = settings.retransmit_total_s * 1000
        self._hop_ms = hop_ms
        self._has_doubts = True
        self._is_proving = is_proving
        self._pause_ms = self._first_ms // 4  # doubled: until we say something again
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

    def waited_ms(self, now_ms):
        """Since start()."""
        return self._most_ms - ticks_diff(self._end, now_ms)

    def left_ms(self, now_ms):
        """Until something is to be done."""
        left_ms = min(ticks_diff(self._end, now_ms), ticks_diff(self._due, now_ms))
        return min(left_ms, ticks_diff(self._dead, now_ms)) if self._has_doubts else left_ms

    def _doubt(self, now_ms):
        self._has_doubts = True
        self._dead = ticks_add(now_ms, self._hop_ms)
        self._again_ms = self._first_ms * 2 // 5
        self._due = ticks_add(now_ms, self._again_ms)
