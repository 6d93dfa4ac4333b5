"""Registration: how a member gets a group's policy and keys from a key server (RFC 9838, 2.3).

    GM                                                                                 GCKS
    IKE_SA_INIT       HDR, [N(COOKIE)], SAi, KEi, Ni                                    -->
                                                                   <--  HDR, SAr, KEr, Nr
    GSA_AUTH          HDR, SK{IDi, [IDr], AUTH, IDg, SAg, [N(GROUP_SENDER)]}            -->
                                                    <--  HDR, SK{IDr, AUTH, GSA, KD, [N]}
    GSA_REGISTRATION  HDR, SK{IDg, SAg, [N(GROUP_SENDER)]}              pull            -->
                                                               <--  HDR, SK{GSA, KD, [N]}
    GSA_REGISTRATION  HDR, SK{IDg, N}                                   leave, refuse   -->
                                                                           <--  HDR, SK{}

Sans-IO: datagrams (without marker), addresses and the time go in; datagrams, parsed policy and
wrapped keys come out. handshake.py goes up to a proven server, unicast.py keeps the IKE SA from
there on; here is what is asked of the group, and what comes of it. Only what is proven to come
from the key server is believed, and nothing else ends a registration but running out of
retransmissions (RFC 7296 sections 2.4 and 2.21).
"""

from covey import gsa, ike, offer
from covey.deadline import Patience
from covey.drops import (
    DROP_CAPACITY,
    DROP_IKE_CLEAR_ERROR,
    DROP_IKE_EXCHANGE,
    DROP_IKE_HEADER,
    DROP_IKE_MESSAGE_ID,
    DROP_IKE_SPI,
    FormatError,
    name_of,
    need,
)
from covey.handshake import WAITS, Handshake
from covey.job import finish
from covey.octets import wipe
from covey.port import const, random_bytes
from covey.unicast import TIMEOUT, Unicast

STARTING = 0  # our public value is being computed
INIT = 1  # IKE_SA_INIT is out
AUTH = 2  # GSA_AUTH is out, to everyone who answered; from here on the server has proven itself:
PULLING = 3  # .gsa and .kd are asked for again
REFUSING = 4  # the server is told that we don't take its policy
LEAVING = 5  # the server is told that we go
# Outcomes:
REGISTERED = 6  # .gsa and .kd are those of the group
REFUSED = 7  # no policy for us (.reason); the IKE SA is up
LEFT = 8  # the server knows; the IKE SA is up
FAILED = 9  # no IKE SA (.reason, .noted): none was made, or the server answers no more
CLOSED = 10  # the IKE SA is over (.reason): ended by the server, or by close()

NO_MEMORY = "no_memory"  # .reason where the server's answer was good, and could not be read

# What leads where, besides to FAILED and CLOSED: a bit for each state
_NEXT = (
    1 << INIT,  # from STARTING
    1 << AUTH,  # from INIT, and so on
    1 << REGISTERED | 1 << REFUSED | 1 << REFUSING,
    1 << REGISTERED | 1 << REFUSED | 1 << REFUSING,
    1 << REFUSED,
    1 << LEFT,
    1 << PULLING | 1 << LEAVING | 1 << REFUSING,
    1 << PULLING | 1 << LEAVING,
    1 << PULLING,
    0,
    0,
)

_IDLE_MS = const(60000)
_LATE_MS = const(5000)  # from GSA_AUTH to its answer, which is repeated as it was


class Registration(Unicast):
    """One IKE SA with a key server, from its first message to its end.

    config: a Config; its psk is read until the server has proven itself. random(n) draws SPI (8),
    nonce (32) and X25519 secret (32), in this order. drops: where each refused message is counted.
    path: a nat.Path to the server, None: no NAT is looked for. awake: we have keys and windows.
    """

    # An instance has its own once they change.
    reason = None  # short name of why we are REFUSED, FAILED or CLOSED
    noted = None  # the last error that nothing proves, by name: a hint for a person
    server = None  # config.Server that is asked: told by whoever asks
    kwa = None  # KWA transform of the IKE SA over which .gsa and .kd came
    is_late = False  # the server may have made .gsa and .kd long ago: see _LATE_MS
    report_s = 0  # how far apart the server wants reports, see report.py; 0: none

    def __init__(self, config, now_ms, random=random_bytes, drops=None, path=None, awake=False):
        Unicast.__init__(self, config, now_ms, random, drops)
        self.state = STARTING
        self.gsa = None  # gsa.GSA and
        self.kd = None  # kd.KD of the last registration or pull, until somebody takes them
        self.transport_mode = False  # whether N(USE_TRANSPORT_MODE) came with them
        self.kwk = None  # the default KWK (GSK_w), a bytearray; wiped with the IKE SA
        self.asked_to_send = config.sender  # the last time
        self._handshake = self._begin(path, awake)  # until the server has proven itself
        self._spi_i = self._handshake.spi_i
        self._outcomes = []
        self._patience = Patience(config)
        self._patience.start(now_ms)

    @property
    def is_beginning(self):
        """Whether the server has still to prove itself."""
        return self.state <= AUTH

    @property
    def is_established(self):
        """Whether there is an IKE SA with a server that has proven itself."""
        return AUTH < self.state < FAILED

    def receive(self, data, now_ms, source=None):
        """One datagram from the server, without marker → 0, or the DROP_* that was counted.

        source: what take_outgoing() says of the answer to it (RFC 7296 section 2.11); None: the
        server's usual place.
        """
        self.now_ms = now_ms
        try:
            header = ike.parse_header(data)
            is_clear = header.next_payload not in (ike.SK, ike.SKF)
            if not is_clear and self._handshake is None:
                self._take(header, data, source)
                return 0
            need(header.spi_i == self._spi_i, DROP_IKE_SPI)
            need(not header.flags & ike.FLAG_I, DROP_IKE_HEADER)  # we are the original initiator
            if is_clear:
                self._take_clear(header, data, ike.parse_clear(header, data))
            else:
                need(self.state == AUTH, DROP_IKE_SPI)
                self._take_auth(header, data)
        except FormatError as e:
            return self.drops.count(e.reason)
        return 0

    def step(self, now_ms):
        """A slice of work, a few ms on a board → ms until the next is needed; 0: at once."""
        self.now_ms = now_ms
        handshake = self._handshake
        if handshake and handshake.is_working:
            self._work(handshake)
        if self.sas and self.state == AUTH:  # memory ended where its answer was taken
            self._end(FAILED, NO_MEMORY)
        wait_ms = self._await() if self.state <= AUTH else self._follow()
        if self._outgoing or self._handshake and self._handshake.is_working:
            return 0
        return wait_ms

    def take_outgoing(self):
        """The next (datagram without marker, where to: see covey.nat), or None.

        A keep-alive is among them: nat.KEEPALIVE never has a marker.
        """
        return self._outgoing.pop(0) if self._outgoing else None

    def take_outcome(self):
        """REGISTERED, REFUSED, LEFT, FAILED or CLOSED, once each time it is reached; else None.

        A server may close the IKE SA behind its answer: .kwk lives until the CLOSED is taken.
        """
        if not self._outcomes:
            return None
        outcome = self._outcomes.pop(0)
        if outcome in (FAILED, CLOSED):
            self._wipe_kwk()
        return outcome

    def take_inband(self):
        """The next requests.Inband, answered already, or None; whoever takes it owns its kwk."""
        return self.inbands.pop(0) if self.inbands else None

    def pull(self, now_ms, awake=False, sends=True):
        """Ask for policy and keys again, and for a fresh Sender-ID; see offer.ask_for. False: not
        in this state."""
        if not self._ask(PULLING, offer.ask_for(self._config, awake, sends), now_ms):
            return False
        self.asked_to_send = self._config.sender and sends
        return True

    def leave(self, now_ms):
        """Tell the server that we leave the group. False: not in this state."""
        if not self._tell(LEAVING, ike.REGISTRATION_FAILED, now_ms):
            return False
        self.is_closing = True
        return True

    def refuse(self, now_ms, reason="policy"):
        """Tell the server that we don't take its policy: REFUSED. False: not in this state."""
        if not self._tell(REFUSING, ike.NO_PROPOSAL_CHOSEN, now_ms):
            return False
        self.reason = reason
        return True

    def close(self, reason="closed"):
        """Wipe every secret; nothing is sent (RFC 9838: the GCKS closes the IKE SA)."""
        if self.state < FAILED:
            self._end(CLOSED, reason)
            self._outgoing.clear()
        for inband in self.inbands:
            wipe(inband.kwk)
        self._wipe_kwk()

    # What one of several servers is asked in another way, see hopping.py

    def _begin(self, path, awake):
        return Handshake(self._config, self._random, self._outgoing, path, awake)

    def _wait(self):
        """An answer is awaited from now on."""
        self._patience.start(self.now_ms)

    # What comes in

    def _take_clear(self, header, data, payloads):
        """A message without protection: an answer to IKE_SA_INIT, or an error to be noted."""
        error = ike.error_of(payloads)
        if error is not None:
            self.noted = ike.error_name(error)
            raise FormatError(DROP_IKE_CLEAR_ERROR)
        is_answer = header.exchange == ike.IKE_SA_INIT and header.flags & ike.FLAG_R
        need(is_answer, DROP_IKE_EXCHANGE)
        need(header.message_id == 0 and INIT <= self.state <= AUTH, DROP_IKE_MESSAGE_ID)
        self._handshake.take_answer(header, data, payloads)

    def _take_auth(self, header, data):
        """The answer to GSA_AUTH, of one of those who answered IKE_SA_INIT.

        Whoever altered that answer on its way may have left the keys alone: two peers can have
        the same, and each is tried.
        """
        need(header.flags & ike.FLAG_R, DROP_IKE_EXCHANGE)
        reason = DROP_IKE_SPI
        for peer in list(self._handshake.peers):
            if peer.spi_r != header.spi_r:
                continue
            error, sa = None, peer.sa
            request = sa.request
            try:
                payloads = sa.open_response(header, data)
                end = WAITS  # for more fragments, or until it is judged
                if payloads is not None:
                    error = ike.error_of(payloads)
                    end = self._handshake.verify(peer, payloads, error, self)
                if end is None:
                    self.keep(peer)
            except MemoryError:
                sa.request = request  # sent again, and so is its answer
                raise
            except FormatError as e:
                reason = e.reason
                if error is not None:
                    self.noted = ike.error_name(error)
                if sa.request is not request:  # it was the answer: no other comes
                    self.lose(peer, name_of(reason))
                continue
            if end is None:
                return self.take_policy(payloads, sa)
            reason = 0
            if end != WAITS:
                self.lose(peer, end)
        need(not reason, reason)

    # What the IKE SA comes to: see Unicast

    def answered(self, payloads, reason, sa):
        """The answer to GSA_REGISTRATION; payloads None: it does not parse, for this reason."""
        if payloads is None:
            self._conclude(name_of(reason))
        elif self.state == PULLING:
            self.take_policy(payloads, sa)
        else:
            self._conclude(self.reason)

    def ended(self, reason):
        """The IKE SA is over."""
        self._end(FAILED if reason == TIMEOUT else CLOSED, reason)

    def redirected(self, data):
        """Of those who know of one key server nobody goes elsewhere."""

    def take_policy(self, payloads, sa):
        """The answer to a registration or a pull: GSA and KD, or why not (RFC 9838, 2.3.1)."""
        try:
            error = ike.error_of(payloads)
            if error is not None:
                return self._conclude(ike.error_name(error))
            policy = finish(gsa.parse_gsa_job(ike.only(payloads, ike.GSA)))
            keys = finish(gsa.parse_kd_job(ike.only(payloads, ike.KD)))
            kwk = ike.default_kwk(sa.sk_d, sa.kwa)
        except FormatError as e:
            self.refuse(self.now_ms, name_of(e.reason))
            raise
        except MemoryError:
            self.drops.count(DROP_CAPACITY)
            return self._conclude(NO_MEMORY)
        self.gsa = policy
        self.kd = keys
        self._wipe_kwk()
        self.kwa = sa.kwa
        self.kwk = kwk
        self.transport_mode = bool(ike.said(payloads, ike.USE_TRANSPORT_MODE))
        self.report_s = policy.group_wide and policy.group_wide.report_s or 0
        self._become(REGISTERED)

    def _conclude(self, reason):
        """Our request is answered, without policy."""
        if self.state == LEAVING:
            self._become(LEFT)
        else:
            self.reason = reason
            self._become(REFUSED)

    # What goes out, and when

    def _tell(self, state, type, now_ms):
        return self._ask(state, [offer.group_of(self._config), ike.notify(type)], now_ms)

    def _ask(self, state, payloads, now_ms):
        """A GSA_REGISTRATION; its answer is an event. False: not in this state, or one is out."""
        if not _NEXT[self.state] >> state & 1 or not self.sas or self._wanted is not None:
            return False
        self.now_ms = now_ms
        self._wanted = payloads
        try:
            self._flow()
        except MemoryError:  # step() tries again
            self.drops.count(DROP_CAPACITY)
        self._become(state)
        return True

    def _work(self, handshake):
        """The next slice; states follow from what it has sent. Apart, so that step() has a small
        frame."""
        try:
            handshake.work()
        except FormatError as e:
            self._fail_if_alone(name_of(self.drops.count(e.reason)))
        state = self.state
        if state == STARTING and handshake.request or state == INIT and handshake.peers:
            self._become(state + 1)
            self._wait()

    def _await(self):
        """A proven server: what is due until then → ms until the next."""
        patience = self._patience
        if patience.is_over(self.now_ms):
            self._end(FAILED, TIMEOUT)
            return _IDLE_MS
        if patience.is_due(self.now_ms):
            self._handshake.retransmit()
        return patience.left_ms(self.now_ms)

    # States and ends

    def _become(self, state):
        assert self.state < FAILED <= state or _NEXT[self.state] >> state & 1
        self.state = state
        if state >= REGISTERED:
            self._outcomes.append(state)

    def lose(self, peer, reason):
        """peer is not the server, or has ended it."""
        self._handshake.peers.remove(peer)
        peer.wipe()
        self._fail_if_alone(reason)

    def _fail_if_alone(self, reason):
        if self.state == AUTH and not self._handshake.peers and not self._handshake.is_working:
            self._end(FAILED, reason)

    def keep(self, peer):
        """This is the server: its IKE SA stays, all other secrets go."""
        self.is_late = self._patience.waited_ms(self.now_ms) > _LATE_MS
        self.begin(peer.sa)
        peer.sa = None
        self._to = peer.to
        if peer.keeps_alive:
            self.keep_open()
        self.hear()
        self._end_handshake()

    def _end(self, state, reason):
        self._become(state)
        self.reason = reason
        self._end_handshake()
        self.wipe()
        if REGISTERED not in self._outcomes:
            self._wipe_kwk()

    def _wipe_kwk(self):
        if self.kwk:
            wipe(self.kwk)

    def _end_handshake(self):
        self._patience = None
        if self._handshake:
            self._handshake.wipe()
            self._handshake = None
