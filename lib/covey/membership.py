"""The life of a membership: register, follow rekeys, heal what was lost, leave.

    REGISTERING --> MEMBER <-- rekeys, pulls --> EXCLUDED --> REGISTERING ...
         |            |
         v            v
      REFUSED       LEFT        (REFUSED asks again, ever more slowly)

Sans-IO: drives Registration (unicast, one IKE SA) and Rekey (multicast) with the octets and the
time it is handed, and fills the Member's key store. What comes over the network is worked out
completely (an Assignment) before the first key is installed. Allocates; the data path doesn't
wait for it, since step() does a bounded slice of work each time.
"""

from covey import keywork, registration
from covey.deadline import Timer
from covey.drops import DROP_IKE_SPI
from covey.drops import NAMES as DROP_NAMES
from covey.group import Group, soft_lifetime_s
from covey.keywork import KeyWork
from covey.port import const, random_bytes

IDLE = 0  # not started
REGISTERING = 1  # no keys yet, a server is being asked
MEMBER = 2  # has the group's keys
EXCLUDED = 3  # the whole GSA was deleted: waits a random time, then registers
REFUSED = 4  # the server said no; asked again later
LEFT = 5  # over; keys wiped

NAMES = {
    IDLE: "idle",
    REGISTERING: "registering",
    MEMBER: "member",
    EXCLUDED: "excluded",
    REFUSED: "refused",
    LEFT: "left",
}

_REFUSED_S = const(10)  # first pause after a refusal; doubled up to
_REFUSED_MOST_S = const(3600)
_PULL_S = const(5)
_MISSED_S = const(30)  # at most one registration in so long, whatever SPIs are shown to us
_IDLE_MS = const(1000)


class Membership:
    """settings: config.Config. member: the Member whose key store this fills."""

    def __init__(self, settings, member, random=random_bytes):
        self.settings = settings
        self.member = member
        self.state = IDLE
        self.reason = ""  # in words, why the last attempt or membership ended
        self.events = []  # (name, detail), oldest first; whoever reads them empties it
        self.rekeys = 0
        self.listening_changed = False  # whoever follows listening() clears it
        self._random = random
        self._group = Group(member)
        self._keys = KeyWork(settings, member, self._group)
        self._ike = None  # registration.Registration
        self._last_word = None  # of the one before, not sent yet: its answer to a Delete
        self._server = 0  # index of the server that is asked, or that we registered with
        self._register_at = Timer()  # when to register (again)
        self._soft_ends = Timer(), Timer()  # of the data SAs' lifetimes, of the Rekey SA's
        self._pull_until = Timer()  # patience for an answer over an old IKE SA
        self._missed_until = Timer()  # no further registration for a missed rekey before
        self._pause_s = _REFUSED_S
        self._leaving = False
        self._now_ms = 0

    # What the carrier of datagrams calls

    def start(self, now_ms):
        """Ask the first server."""
        self._now_ms = now_ms
        self._set_state(REGISTERING)
        self._register()

    def leave(self, now_ms):
        """Tell the key server that we go; LEFT once it has answered, or won't."""
        self._now_ms = now_ms
        self._leaving = True
        ike = self._ike
        if ike is None or not (ike.leave(now_ms) or self._pull_until.is_running):
            self._end()  # else a pull is to be answered first, see _outcome

    def unicast(self, data, now_ms):
        """An IKE message from the key server, without marker."""
        self._now_ms = now_ms
        if self._ike is None:
            self.member.drops.count(DROP_IKE_SPI)
            return
        self._ike.receive(data, now_ms)
        self._outcome()  # now, since the next message may end the IKE SA and its keys

    def multicast(self, data, now_ms):
        """An IKE message from the group, without marker."""
        self._now_ms = now_ms
        self._keys.hear(data)

    def outgoing(self):
        """(octets, config.Server) to send, without marker; (None, None) if there is nothing."""
        data, self._last_word = self._last_word, None
        if data is None and self._ike is not None:
            data = self._ike.take_outgoing()
        return data, self.settings.servers[self._server] if data else None

    def step(self, now_ms):
        """One bounded slice of work. Returns the ms until the next call, 0 if there is more."""
        self._now_ms = now_ms
        wait = min(self._group.step(now_ms), _IDLE_MS, self._timers())
        if self._ike is not None:
            wait = min(wait, self._ike.step(now_ms))
            self._outcome()
        return 0 if self._work() else wait

    def _work(self):
        """A slice of work on keys, and what comes of it. False: there is none."""
        keys = self._keys
        result = keys.step(self._now_ms)
        if result == keywork.TAKEN:
            self._taken()
        elif result == keywork.REFUSED:
            name = DROP_NAMES[keys.reason]
            self._ike.refuse(self._now_ms, name)
            self._refused("What the key server sent is not taken: " + name + ".")
        elif result == keywork.FOLLOWED:
            if keys.made.data_sas:
                self.rekeys += 1
                self.events.append(("rekeyed", self.epoch))
            self._installed(False)
        elif result == keywork.MISSED:
            self._refresh_soon()
        return result != keywork.IDLE

    def wipe(self):
        """Forget every key."""
        self._group.wipe()
        if self._ike is not None:
            self._ike.close()
        self._keys.wipe()

    # What the application may know

    @property
    def sender_id(self):
        """Our Sender-ID, None for a receiver."""
        ids = self._group.terms.sender_ids
        return ids[0] if ids else None

    @property
    def epoch(self):
        return self._group.terms.epoch

    def listening(self):
        """Where to listen: see Group.listening."""
        return self._group.listening()

    def routes(self):
        """Where to send: {SPI: (address, port)}."""
        return self._group.routes()

    # Registering

    def _register(self):
        """A new IKE SA with the server whose turn it is."""
        self._register_at.stop()
        if self._ike is not None:
            if self._ike.state == registration.CLOSED:
                self._last_word = self._ike.take_outgoing()
            self._ike.close()
        self._ike = registration.Registration(
            self.settings, self._now_ms, random=self._random, drops=self.member.drops
        )

    def _refresh(self):
        """Ask for the current keys, over the IKE SA if it lives."""
        self._register_at.stop()
        ike = self._ike
        if ike is not None and ike.pull(self._now_ms):
            self._pull_until.start(self._now_ms, _PULL_S)
        elif ike is None or ike.state in (registration.FAILED, registration.CLOSED):
            self._register()

    def _refresh_soon(self):
        """After a random delay, so that a whole group does not ask at the same moment."""
        if not self._register_at.is_running:
            self._register_at.start(self._now_ms, 0, self._random_ms())

    def _timers(self):
        """Do what is due; the ms until the next is."""
        now_ms = self._now_ms
        member = self.member
        if self._leaving:
            return _IDLE_MS
        if self._register_at.is_due(now_ms):
            if self.state in (EXCLUDED, REFUSED):
                self._set_state(REGISTERING)
            self._refresh()
        if self._pull_until.is_due(now_ms):
            self._pull_until.stop()
            self._register()  # the server has lost this IKE SA, or restarted
        for soft_end in self._soft_ends:
            if soft_end.is_due(now_ms):
                soft_end.stop()
                self._refresh_soon()
        if self._missed_until.is_due(now_ms):
            self._missed_until.stop()
        if (member.missed_rekey or member.wants_rekey) and self.state == MEMBER:
            member.missed_rekey = member.wants_rekey = False
            if not self._missed_until.is_running:
                self._missed_until.start(now_ms, _MISSED_S)
                self._refresh_soon()
        return self._register_at.left_ms(now_ms)  # the others may be late, by _IDLE_MS

    def _outcome(self):
        """What the registration has come to since we looked last."""
        ike = self._ike
        outcome = ike.take_outcome()
        if outcome is None:
            return
        was_pulling = self._pull_until.is_running
        self._pull_until.stop()
        if self._leaving:
            if outcome == registration.LEFT or not ike.leave(self._now_ms):
                self._end()
        elif outcome == registration.REGISTERED:
            self._keys.take(ike)
        elif outcome == registration.REFUSED:
            if self.state != REFUSED:  # else it only knows now that we refused its policy
                self.member.keys.silence()
                self._refused("The key server refused: " + ike.reason + ".")
        elif outcome == registration.FAILED and ike.reason == "timeout":
            self._unanswered(ike.noted)
        elif outcome == registration.FAILED:
            self._refused("The key server refused: " + ike.reason + ".")
        elif outcome == registration.CLOSED:
            self._closed(was_pulling)

    def _refused(self, reason):
        """The server answered, and said no."""
        self.reason = reason
        self._set_state(REFUSED)
        self._register_at.start(self._now_ms, self._pause_s)
        self._pause_s = min(2 * self._pause_s, _REFUSED_MOST_S)

    def _unanswered(self, noted):
        """The next server: at once while one was not asked yet, else after a random time."""
        server = self.settings.servers[self._server]
        self.reason = "No answer from %s port %d" % (server.host, server.port)
        self.reason += " (somebody said, without proof: " + noted + ")." if noted else "."
        self.events.append(("unanswered", self.reason))
        self._server = (self._server + 1) % len(self.settings.servers)
        if self._server:
            self._register()
        else:
            self._refresh_soon()

    def _closed(self, was_pulling):
        """The IKE SA is gone. With a Rekey SA we stay (RFC 9838 section 2.3.3)."""
        if self._keys.has_job:
            return  # its keys are being installed
        elif self.state == REGISTERING or was_pulling or self._ike.reason != "deleted":
            self._refresh_soon()  # by an error, or by an exchange that we don't speak
        elif self.state == MEMBER and self._group.rekey.current is None:
            self._exclude()

    # Keys have come

    def _taken(self):
        self._pause_s = _REFUSED_S
        self.reason = ""
        self._set_state(MEMBER)
        self._installed(True)
        if self._group.rekey.current is None and self._ike.state == registration.CLOSED:
            self.member.keys.silence()  # section 2.3.3: excluded as soon as we are in
            self._refused("The key server ended the IKE SA and gave no Rekey SA.")

    def _installed(self, registering):
        made = self._keys.made
        self.listening_changed = True
        rekey_sas = [made.rekey_sa] if made.rekey_sa is not None else []
        for soft_end, sas in zip(self._soft_ends, (made.data_sas, rekey_sas)):
            soft_s = soft_lifetime_s(sas)
            if soft_s is not None:
                soft_end.start(self._now_ms, soft_s)
            elif sas or registering:
                soft_end.stop()
        if self._keys.excluded:
            self._exclude()

    def _exclude(self):
        """We are out of the group, like everyone else: register again after a random time.

        An answer that is on its way may be older than that, and would let us send again.
        """
        self._set_state(EXCLUDED)
        for soft_end in self._soft_ends:
            soft_end.stop()
        self._keys.forget_waiting()
        if self._pull_until.is_running or not self._ike.is_established:
            self._pull_until.stop()
            self._ike.close()
        self._register_at.start(self._now_ms, 0, self._random_ms())

    def _end(self):
        self.wipe()
        self._set_state(LEFT)

    def _set_state(self, state):
        if state != self.state:
            self.state = state
            self.events.append((NAMES[state], self.reason))

    def _random_ms(self):
        number = self._random(3)
        number = number[0] << 16 | number[1] << 8 | number[2]
        return number % (self.settings.rejoin_spread_s * 1000 + 1)
