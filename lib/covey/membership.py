"""The life of a membership: register, follow rekeys, heal what was lost, leave.

    REGISTERING --> MEMBER <-- rekeys, pulls --> EXCLUDED --> REGISTERING ...
         |            |
         v            v
      REFUSED       LEFT        (REFUSED asks again, ever more slowly)

Sans-IO: drives Registration (unicast) and Rekey (multicast) with the octets and the time it is
handed, and fills the Member's key store. What comes over the network is worked out
completely (an Assignment) before the first key is installed. Allocates; the data path doesn't
wait for it, since step() does a bounded slice of work each time.
"""

from covey import keywork, registration
from covey.drops import (
    DROP_CAPACITY,
    DROP_IKE_EXCHANGE,
    DROP_IKE_SPI,
    DROP_KEEPALIVE,
    ConfigError,
    name_of,
    sentence,
)
from covey.group import Group
from covey.keywork import KeyWork
from covey.nat import KEEPALIVE, addressed
from covey.octets import wipe
from covey.port import const, random_bytes
from covey.refresh import Refresh
from covey.sentences import (
    MAY_NOT_SEND,
    NO_REKEY_SA,
    NOT_TAKEN,
    ONE_SERVER,
    REFUSES,
    UNANSWERED,
    UNANSWERED_BUT,
    UNPROVEN,
)
from covey.servers import Servers

IDLE = 0  # not started
REGISTERING = 1  # no keys yet, a server is being asked
MEMBER = 2  # has the group's keys
EXCLUDED = 3  # the whole GSA was deleted: waits a random time, then registers
REFUSED = 4  # the server said no; asked again later
LEFT = 5  # over; keys wiped
SILENT = 6  # to people: MEMBER, but policy's max_silence is over
UNTIMED = 7  # to people: MEMBER, but what proves the source needs the key server's clock

NAMES = (
    "idle",
    "registering",
    "member",
    "excluded",
    "refused",
    "left",
    "silent",
    "untimed",
)

_REFUSED_S = const(10)  # first pause after a refusal; doubled up to
_REFUSED_MOST_S = const(3600)
_AGAIN_S = const(1)  # where it can't be asked now
_LATER_S = const(10)  # after what is no refusal, and up to as much again by chance
_IDLE_MS = const(1000)
_SLICES = const(6)  # of work on keys between two looks at timers


class Membership:
    """settings: config.Config. member: the Member whose key store this fills.

    path_to(server): the nat.Path to a config.Server, or None where nothing is known of it. None:
    no NAT is looked for.
    """

    # An instance has its own once they change.
    reason = ""  # in words, why the last attempt or membership ended
    rekeys = 0
    _before = None  # the Registration before, if the server has ended it: repeats are answered
    _said_awake = False  # to the server of ._ike: that we have run since we got what we have
    _leaving = False
    _asked_at = 0  # group.rekey.turns as what is out was asked: its answer is of before the next
    moves = False  # another server is asked next, though the IKE SA with this one may live
    _silence = None  # silence.Silence, where policy has a max_silence
    _reporter = None  # Reporter, once a server has asked for reports
    is_amid = False  # the last step was a slice of work: there is nothing new to tell
    _slices = 0  # that may be done before timers are looked at
    _look = 0  # which of them were looked at last

    def __init__(self, settings, member, random=random_bytes, path_to=None):
        self.settings = settings
        self.member = member
        self.state = IDLE
        self.events = []  # (name, detail), oldest first; whoever reads them empties it
        self.listening_changed = False  # whoever follows listening() clears it
        self._random = random
        self._group = Group(member)
        self._keys = KeyWork(settings, member, self._group, random)
        self._ike = None  # registration.Registration, with the config.Server that it asks
        self._path_to = path_to
        if len(settings.servers) == 1:
            self.servers = Servers(settings.servers, random)
        else:
            try:
                from covey.several import Several
            except ImportError:
                raise ConfigError(sentence(ONE_SERVER))
            self.servers = Several(settings, random, path_to)
        self._refresh = Refresh(self._random_ms)
        self._pause_s = _REFUSED_S
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
        self._depart()

    def _depart(self):
        """Leave now, or once what is out is answered; in the end in any case."""
        ike = self._ike
        asking = registration.PULLING, registration.REFUSING, registration.LEAVING
        if ike is None or not (ike.leave(self._now_ms) or ike.state in asking):
            self._end()

    def unicast(self, data, now_ms, source=None):
        """An IKE message from the key server, without marker.

        source: (host, port, had a marker); the answer to a request goes back there.
        """
        self._now_ms = now_ms
        if self._slices:
            self._slices = 1  # it may be to be answered; work goes on all the same
        ike = self._ike
        if data == KEEPALIVE or ike is None:
            self.member.drops.count(DROP_KEEPALIVE if data == KEEPALIVE else DROP_IKE_SPI)
            return
        try:
            if self._before is not None and self._before.has_ended(data):
                ike = self._before
            ike.receive(data, now_ms, source)
        except MemoryError:
            self.member.drops.count(DROP_CAPACITY)  # it will come again
        try:
            self._outcome()  # now, since the next message may end the IKE SA and its keys
            self._take_inbands()
        except MemoryError:
            self._no_memory()

    def multicast(self, data, now_ms):
        """An IKE message from the group, without marker."""
        self._now_ms = now_ms
        self._keys.hear(data)
        if not self.is_amid and not self._slices and self._keys.has_work:
            self._slices = 1  # before timers, which were looked at last

    def outgoing(self):
        """(datagram, config.Server or the source of a request) to send, or (None, None)."""
        ike = self._before  # it may have something left to say
        out = None if ike is None else ike.take_outgoing()
        if out is None:
            ike = self._ike
            out = None if ike is None else ike.take_outgoing()
        return (None, None) if out is None else addressed(*out, ike.server)

    def step(self, now_ms):
        """A bounded slice of work → ms until the next call, a second at most; 0: there is more."""
        self._now_ms = now_ms
        try:
            if self._slices:
                self._slices -= 1
                self.is_amid = True
                if self._work():
                    return 0
                self._slices = 0
            self.is_amid = False
            return self._step()
        except MemoryError:
            self.is_amid = False
            self._no_memory()
            return _IDLE_MS

    def _step(self):
        """A look at what is due: while keys are in work at one thing of three, by turns."""
        if self._keys.has_work:
            self._look = (self._look + 1) % 3
            self._wait_of(self._look)
        else:
            wait = min(self._wait_of(0), self._wait_of(1), self._wait_of(2))
            if not self._keys.has_work:
                return wait
        self._slices = _SLICES
        return 0

    def _wait_of(self, look):
        """What is due of one thing, and the ms until the next."""
        if look == 0:
            return self._group.step(self._now_ms)
        if look == 1:
            return self._timers()
        ike = self._ike
        if ike is None:
            return _IDLE_MS
        wait = self._step_ike()
        self._outcome()
        if self._ike is not ike:
            return 0  # the next server is asked
        if not self._leaving:  # what has come of it starts timers that were looked at before
            wait = min(wait, self._refresh.at.left_ms(self._now_ms))
        return min(wait, _IDLE_MS)

    def _step_ike(self):
        try:
            return self._ike.step(self._now_ms)
        except MemoryError:
            self.member.drops.count(DROP_CAPACITY)
            return _IDLE_MS

    def _no_memory(self):
        """Something has happened, and what is to come of it is lost: ask what is current."""
        self.member.drops.count(DROP_CAPACITY)
        self.listening_changed = True
        if not self._refresh.at.is_running:
            self._refresh.start(self._now_ms, _LATER_S)

    def _work(self):
        """A slice of work on keys, and what comes of it. False: there is none."""
        keys = self._keys
        result = keys.step(self._now_ms)
        if result is None:
            return True
        self.is_amid = False
        if result == keywork.TAKEN:
            self._taken()
        elif result == keywork.REFUSED:
            name = name_of(keys.reason)
            keys.forget_waiting()
            self._ike.refuse(self._now_ms, name)
            self._refused(sentence(NOT_TAKEN, name))
        elif result == keywork.FOLLOWED:
            has_teks = bool(keys.made.data_sas)
            if has_teks:
                self.rekeys += 1
                self.events.append(("rekeyed", self.epoch))
                if self.settings.sender and keys.sends is False:
                    self._refresh.soon(self._now_ms)  # perhaps we may send by now
            self._refresh.followed(self._now_ms, has_teks)
            if self.state != MEMBER:
                self.member.keys.silence()  # new keys let nobody in again
            self._installed(False)
        elif result == keywork.MISSED:
            self._refresh.soon(self._now_ms)
        elif result == keywork.FLOODED and self.state == MEMBER:
            self._refresh.is_doubted = True
        return result != keywork.IDLE

    @property
    def is_asking(self):
        """Whether a key server is asked, or about to be, or what it said is in work."""
        refresh = self._refresh
        if refresh.at.is_running or refresh.is_pulling or self.member.missed_rekey:
            return True
        return self.has_asked and self._ike.is_beginning or self._keys.is_busy

    @property
    def has_asked(self):
        """Whether a key server was asked in this life: one that has slept need not have."""
        return self._ike is not None

    def refresh(self, now_ms):
        """Something may have been missed: ask for the current keys after a random delay."""
        if self.state == MEMBER:
            self._refresh.soon(now_ms)

    def wipe(self):
        """Forget every key."""
        if self.member.waiting is not None:
            self.member.waiting.clear()
        self._keys.wipe()  # first: what it has begun to install is brought to its end
        self._group.wipe()
        if self._ike is not None:
            self._ike.close()
        self.servers.wipe()

    # What the application may know

    @property
    def is_silent(self):
        """Whether the key server was not heard for longer than policy has it."""
        return self._silence is not None and self._silence.is_over

    @property
    def keeper(self):
        """timekeeper.Timekeeper, where the group's proofs need that time goes by; else None."""
        sources = self._group.terms.sources
        return None if sources is None else sources.keeper

    @property
    def condition(self):
        """The state, in more detail: SILENT or UNTIMED, where there is a MEMBER."""
        if self.state == MEMBER:
            if self.is_silent:
                return SILENT
            keeper = self.keeper
            if keeper is not None and not keeper.is_known:
                return UNTIMED
        return self.state

    @property
    def state_name(self):
        return NAMES[self.condition]

    def says_state(self, now_ms):
        """To people, and to the key server: what state_name says has changed."""
        self._say(self.condition, now_ms)

    def _say(self, condition, now_ms):
        self.events.append((NAMES[condition], self.reason))
        if self._reporter is not None:
            self._reporter.changed(condition, now_ms)

    @property
    def sender_id(self):
        """Our Sender-ID, None for a receiver."""
        ids = self._group.terms.sender_ids
        return ids[0] if ids else None

    @property
    def epoch(self):
        return self._group.terms.epoch

    @property
    def server(self):
        """The config.Server asked last, where ESP goes to it: behind no marker, but framed."""
        return self._ike.server.floated()

    def listening(self):
        """Where to listen: see Group.listening."""
        return self._group.listening()

    def routes(self):
        """Where to send: {SPI: (address, port)}."""
        return self._group.routes()

    # Registering

    def _register(self):
        """A new IKE SA with the server whose turn it is."""
        self._refresh.begun()
        self._asked_at = self._group.rekey.turns
        ike = self._ike
        if ike is not None:
            if self.moves:
                self.servers.part(self)
            if ike.state == registration.CLOSED:
                self._before = ike
            ike.close()
        server = self.servers.current
        keys = self.member.keys
        self._said_awake = bool(keys.live()) and not keys.lapsed
        ike = self.servers.registration(
            self.settings,
            self._now_ms,
            self._random,
            self.member.drops,
            self._path_to and self._path_to(server),
            self._said_awake,
        )
        ike.server = server
        self._ike = ike

    def _ask(self):
        """Ask for the current keys, over the IKE SA if it lives."""
        ike = self._ike
        is_over = ike is None or ike.state >= registration.FAILED
        if is_over or self.moves or self.member.keys.lapsed and ike.is_established:
            self._register()  # over what lives a pull may bring again what we had
        elif self._pull():
            self._said_awake = True  # it knows that of who pulls
        else:
            self._refresh.start(self._now_ms, _AGAIN_S)  # something else is out

    def _pull(self, *how):
        """As Registration.pull."""
        if not self._ike.pull(self._now_ms, *how):
            return False
        self._asked_at = self._group.rekey.turns
        self._refresh.pulled(self._now_ms)
        return True

    def _timers(self):
        """Do what is due; the ms until the next is."""
        now_ms = self._now_ms
        refresh = self._refresh
        if self._leaving:
            if self.state != LEFT:
                self._depart()
            return _IDLE_MS
        if refresh.is_due(now_ms):
            if self.state in (EXCLUDED, REFUSED):
                self._set_state(REGISTERING)
            self._ask()
        if refresh.is_unanswered(now_ms):
            self._register()  # the server has lost this IKE SA, or restarted
        is_settled = self.state == MEMBER and not self._keys.is_registering
        if self._ike is not None and self._ike.report_s:
            self._report(self._ike)
        refresh.check(now_ms, self.member, is_settled)
        wait_ms = _IDLE_MS
        keeper = self.keeper
        if keeper is not None:
            keeper.rest(now_ms)
            if is_settled:
                wait_ms = keeper.step(self, now_ms)
        if self._silence is not None:
            self._silence.step(now_ms)
        return min(wait_ms, refresh.at.left_ms(now_ms))  # the others may be late, by _IDLE_MS

    def _report(self, ike):
        """The key server wants to hear how we are. Who has no memory for that says nothing."""
        if self._keys.is_busy:
            return
        try:
            if self._reporter is None:
                from covey.reporter import Reporter

                self._reporter = Reporter(ike.report_s, self._random_ms, self._now_ms)
            self._reporter.step(self, ike, self._now_ms)
        except MemoryError:
            self.member.drops.count(DROP_CAPACITY)
            if self._reporter is None:
                ike.report_s = 0  # until it asks again

    def _outcome(self):
        """What the registration has come to since we looked last."""
        ike = self._ike
        outcome = ike.take_outcome()
        if outcome is None or self.servers.has_taken(self, outcome):
            return
        refresh = self._refresh
        was_pulling = refresh.is_pulling
        refresh.answered(self._now_ms)
        if self._leaving:
            return self._end() if outcome == registration.LEFT else self._depart()
        if outcome == registration.REGISTERED:
            if was_pulling and refresh.is_stale:
                refresh.soon(self._now_ms)  # an inband rekey has overtaken it
            else:
                self._keys.take(ike, self._asked_at, self._said_awake)
        elif outcome == registration.CLOSED:
            self._closed(was_pulling)
        elif ike.reason in ("temporary_failure", registration.NO_MEMORY):
            refresh.start(self._now_ms, _LATER_S, self._random_ms(_LATER_S))
        elif outcome == registration.FAILED:
            self._failed(ike.reason, ike.noted)
        elif self.state != REFUSED:  # else it only knows now that we refused its policy
            if not self._receives_only(ike, was_pulling):
                self._refused(sentence(REFUSES, ike.reason))

    def _take_inbands(self):
        """GSA_INBAND_REKEYs, in the order in which they came."""
        while True:
            inband = self._ike.take_inband()
            if inband is None:
                return
            self._refresh.inband(self._now_ms)
            is_in = self.state == MEMBER or self._keys.is_registering
            if self._leaving or not is_in:  # what is registered for is newer, or will be
                self.member.drops.count(DROP_IKE_EXCHANGE)
                wipe(inband.kwk)
            elif not self._keys.take_inband(inband):
                self._refresh.soon(self._now_ms)

    def _receives_only(self, ike, was_pulling):
        """We asked to send, and may not: ask to receive then. At the next change of keys we ask
        to send again, since that may be allowed by now."""
        if ike.reason != "authorization_failed" or not (
            ike.asked_to_send and self.settings.receiver
        ):
            return False
        self.member.keys.silence()
        self._group.is_in = False  # until what we ask for now is here
        if not self._pull(self._said_awake and not was_pulling, False):
            return False
        if self._keys.sends is not False:
            self.events.append(("may_not_send", sentence(MAY_NOT_SEND)))
        return True

    def _refused(self, reason):
        """The server answered, and said no; or we did. Who is out hears of no Delete any more."""
        self.member.keys.silence()
        self.reason = reason
        self._set_state(REFUSED)
        self._refresh.start(self._now_ms, self._pause_s)
        self._pause_s = min(2 * self._pause_s, _REFUSED_MOST_S)

    def _failed(self, reason, noted):
        """No server has proven itself, or it answers no more: the next one.

        At once while one was not asked yet, else after a growing pause. A refusal that nothing
        proves counts no more than silence, but is told.
        """
        is_refusal = reason != "timeout"
        if is_refusal:
            is_ours = reason[:4] in ("ike_", "cert")  # what it showed proves nothing to us
            self.reason = sentence(UNPROVEN if is_ours else REFUSES, reason)
        else:
            where = self._ike.server.host, self._ike.server.port
            if noted:
                self.reason = sentence(UNANSWERED_BUT, *where, noted)
            else:
                self.reason = sentence(UNANSWERED, *where)
        self.events.append(("unanswered", self.reason))
        pause_ms = self.servers.next()
        if not pause_ms:
            return self.servers.move(self)
        if is_refusal:
            pause_ms = max(pause_ms, _REFUSED_S * 1000)
            if self.state != MEMBER:
                self._set_state(REFUSED)
        self._refresh.start(self._now_ms, 0, pause_ms)

    def _closed(self, was_pulling):
        """The IKE SA is gone. With a Rekey SA we stay (RFC 9838 section 2.3.3)."""
        reason = self._ike.reason
        if self._keys.is_registering:
            return  # its keys are being installed
        if self.state == MEMBER and self._group.rekey.current is None and reason != "ike_lifetime":
            self._keys.forget()  # they came before it: we would send under them
            self.member.keys.silence()
            self._exclude()
        elif self.state == REGISTERING or was_pulling or reason != "deleted":
            self._refresh.soon(self._now_ms)  # by an error, or by its age

    # Keys have come

    def _taken(self):
        self._pause_s = _REFUSED_S
        self.servers.answered()
        if self.state == MEMBER and self.reason:
            self.events.append((NAMES[MEMBER], ""))  # "unanswered" was told meanwhile
        self.reason = ""
        self._set_state(MEMBER)
        self._installed(True)
        if self._ike.is_late:
            self._ike.is_late = False
            self._refresh.soon(self._now_ms)  # of before rekeys that we could not know, perhaps
        if self._group.rekey.current is None and self._ike.state == registration.CLOSED:
            self._keys.forget()  # section 2.3.3: excluded as soon as we are in
            self._refused(sentence(NO_REKEY_SA))

    def _installed(self, registering):
        self.listening_changed = True
        if registering:
            self.member.missed_rekey = False  # what a packet said meanwhile is known by now
            self.member.keys.lapsed = False
        made, self._keys.made = self._keys.made, None
        self._refresh.installed(made, registering, self._now_ms)
        if made.excludes:
            self._exclude()
        self._heard()

    def _heard(self, left_s=None):
        """From the key server, what can't be old: see silence.py."""
        if self._silence is None:
            if self._group.terms.silence is None:
                return
            from covey.silence import Silence

            self._silence = Silence(self)
        self._silence.heard(self._now_ms, left_s)

    def _exclude(self):
        """We are out of the group, like everyone else: register again after a random time.

        An answer that is on its way may be older than that, and would let us send again.
        """
        refresh = self._refresh
        self._set_state(EXCLUDED)
        refresh.excluded()
        self._keys.forget_waiting()
        ike = self._ike
        is_asked = refresh.is_pulling and not refresh.is_stale
        if ike is not None and (is_asked or not ike.is_established):  # None: see resume
            refresh.answered(self._now_ms)
            ike.close()
        refresh.start(self._now_ms, 0, self._random_ms())

    def _end(self):
        self.wipe()
        self._set_state(LEFT)

    def _set_state(self, state):
        self._group.is_in = state == MEMBER
        if state != self.state:
            self.state = state
            self._say(state, self._now_ms)

    def _random_ms(self, most_s=None):
        most_s = self.settings.rejoin_spread_s if most_s is None else most_s
        return int.from_bytes(self._random(3), "big") % (most_s * 1000 + 1)
