"""IKE_SA_INIT up to a proven key server: RFC 7296 sections 1.2, 2.4, 2.6, 2.14, 2.15.

Anybody can answer IKE_SA_INIT. Until the AUTH in its answer to GSA_AUTH has verified, such a peer
is nobody: several are followed side by side (section 2.4), and nothing that they say is believed.
Each is asked where its own answer says: a forger who tells of a NAT moves nobody but himself.

Who we are is proven by a pre-shared key, or by a signature (digital.py): then signing and judging
are work as agreeing on keys is. A PPK (ppk.py) goes with either.
"""

from covey import ike, offer, x25519
from covey.drops import (
    DROP_IKE_AUTH,
    DROP_IKE_CRITICAL,
    DROP_IKE_FORMAT,
    DROP_IKE_KE,
    DROP_IKE_MESSAGE_ID,
    DROP_IKE_SPI,
    FormatError,
    need,
)
from covey.exchange import IkeSA
from covey.nat import HOME
from covey.octets import equal, wipe
from covey.port import const

WAITS = 0  # what verify() returns of an answer that work() will judge

_NO_SPI = b"\0\0\0\0\0\0\0\0"
_NONCE_LEN = const(32)
_X25519_LEN = const(32)  # of secrets and public values
_COOKIE_MOST = const(64)  # octets
_COOKIES = const(4)  # taken between two retransmissions: forgers can send any number
_AROUND = const(28 + 4)  # IP and UDP headers; a marker, whether or not there is one: how a message
# is split must not depend on where it goes
_PEERS = const(3)  # followed at once: each costs two GCM contexts

# Without a Delete these end an IKE SA that is being made (RFC 7296 section 2.21.2).
FATAL = (ike.AUTHENTICATION_FAILED, ike.INVALID_SYNTAX, ike.UNSUPPORTED_CRITICAL_PAYLOAD)


class Peer:
    """One who answered IKE_SA_INIT. FormatError where it takes up nothing that was offered."""

    to = HOME  # where its messages go, and
    keeps_alive = False  # whether that way is to be kept open
    has_ppk = False  # whether we have one for it, it uses PPKs, and it isn't settled yet
    sa = None  # IkeSA, once we have agreed; taken over by whoever keeps it
    keys = ()  # of ike.derive(), likewise

    def __init__(self, header, data, payloads):
        self.response = bytes(data)  # what its AUTH must cover
        self.spi_r = header.spi_r
        self.fragments = bool(ike.said(payloads, ike.IKEV2_FRAGMENTATION_SUPPORTED))
        self.key_bits, self.kwa, _ = offer.parse_sar(ike.only(payloads, ike.SA))
        method, self.public = ike.parse_ke(ike.only(payloads, ike.KE))
        need(method == ike.CURVE25519 and len(self.public) == _X25519_LEN, DROP_IKE_KE)
        self.nonce = ike.check_nonce(ike.only(payloads, ike.NONCE))

    def sign(self, config, request, idi):
        """Job: the payloads that prove us, by SK_pi as it is, AUTH at the end. request: our
        IKE_SA_INIT; idi: body of our IDi.
        """
        sk_pi = self.keys[ike.SK_PI]
        if config.credentials is not None:
            payloads = yield from config.credentials.prove(sk_pi, request, self.nonce, idi)
            return payloads
        proof = ike.psk_auth(config.psk, sk_pi, request, self.nonce, idi)
        yield
        return [(ike.AUTH, ike.emit_auth(ike.AUTH_SHARED_KEY, proof))]

    def wipe(self):
        for key in self.keys:
            wipe(key)
        if self.sa:
            self.sa.wipe()


class Handshake:
    """Our side: one SPI, one nonce, one X25519 secret, and whoever answers.

    What is to be sent is appended to `outgoing`, a list of (datagram, HOME or FLOATED). path: a
    nat.Path to the server, or None: then no NAT is looked for. awake: see offer.ask_for.
    """

    payloads = ()  # payloads behind all others of our IKE_SA_INIT
    may_begin_again = False  # whether who asks for a cookie behind GSA_AUTH may have forgotten us

    def __init__(self, config, random, outgoing, path=None, awake=False):
        self.spi_i = bytes(random(len(_NO_SPI)))
        self.peers = []  # Peer: GSA_AUTH is out to each
        self.request = None  # our IKE_SA_INIT as sent last
        self._config = config
        self._outgoing = outgoing
        self._path = path  # nat.Path or None
        self._awake = awake
        self._nonce = bytes(random(_NONCE_LEN))
        self._secret = bytearray(random(_X25519_LEN))
        self._ke = None  # body of our KE payload
        self._cookies = _COOKIES
        self._untried = []  # Peer: the first is in work, or will be
        self._judging = []  # jobs of credentials, before those: see digital.py
        self._followed = 0  # peers
        self._job = self._begin()

    @property
    def is_working(self):
        """Whether work() has something to do."""
        return bool(self._job or self._untried or self._judging)

    def work(self):
        """A slice of work. FormatError: the answer in work was no good and is forgotten."""
        job = self._job
        if job is None:
            job = self._judging.pop(0) if self._judging else self._follow(self._untried[0])
        self._job = None  # nobody closes it while it runs
        try:
            next(job)
            self._job = job
        except StopIteration:
            pass
        except FormatError:
            self._untried.pop(0).wipe()
            raise

    def take_answer(self, header, data, payloads):
        """An answer to IKE_SA_INIT: a cookie, or work to be done."""
        need(ike.unsupported_critical(payloads) is None, DROP_IKE_CRITICAL)
        for cookie in ike.said(payloads, ike.COOKIE):
            need(1 <= len(cookie) <= _COOKIE_MOST, DROP_IKE_FORMAT)
            is_answered = self._untried or self.peers and not self.may_begin_again
            need(self._cookies and not is_answered, DROP_IKE_MESSAGE_ID)
            self._cookies -= 1
            # RFC 7296 section 2.6: the same message again, with the cookie before its payloads
            return self._send_init([ike.notify(ike.COOKIE, cookie)])
        config = self._config
        if config.credentials is not None:
            config.credentials.check_answer(payloads)
        known = self._untried + self.peers
        need(len(known) < _PEERS, DROP_IKE_MESSAGE_ID)
        for peer in known:
            need(data != peer.response, DROP_IKE_MESSAGE_ID)
        need(header.spi_r != _NO_SPI, DROP_IKE_SPI)
        peer = Peer(header, data, payloads)
        if config.ppk is not None:
            peer.has_ppk = config.ppk.is_known(payloads)
        if self._path is not None:
            spis = self.spi_i, peer.spi_r
            peer.to, peer.keeps_alive = self._path.judge(*spis, payloads, config.is_relayed)
        self._untried.append(peer)

    def verify(self, peer, payloads, error, holder):
        """Judge an answer to GSA_AUTH → None if it comes from the key server.

        Else the name of the error with which the peer ended it, or FormatError. WAITS where
        credentials are to judge it, by work(): then holder, the Registration, hears of it.
        """
        config = self._config
        end = ike.error_name(error) if error in FATAL else None
        if not ike.every(payloads, ike.AUTH):
            need(end, DROP_IKE_AUTH)
            return end
        need(ike.unsupported_critical(payloads) is None, DROP_IKE_CRITICAL)
        idr = ike.only(payloads, ike.IDr)
        method, proof = ike.parse_auth(ike.only(payloads, ike.AUTH))
        named = config.idr is None or ike.parse_auth(idr) == (ike.ID_FQDN, config.idr)
        need(named, DROP_IKE_AUTH)
        sk_pr = peer.keys[ike.SK_PR]
        if peer.has_ppk:
            config.ppk.settle(payloads, peer.sa.sk_d, sk_pr)
            peer.has_ppk = False  # once, though memory may end then, and the answer come again
        if config.credentials is not None:
            judge = config.credentials.conclude
            self._judging.append(judge(holder, peer, payloads, self._nonce))
            return WAITS
        expected = ike.psk_auth(config.psk, sk_pr, peer.response, self._nonce, idr)
        need(method == ike.AUTH_SHARED_KEY and equal(proof, expected), DROP_IKE_AUTH)
        return end

    def retransmit(self):
        """Send again what is not answered: the same octets (RFC 7296 section 2.1)."""
        self._cookies = _COOKIES
        if self.request and not self.peers and not self._untried:
            self._outgoing.append((self.request, HOME))
        for peer in self.peers:
            self._send(peer)

    def wipe(self):
        """Every secret that only the way to an IKE SA needs."""
        if self._job is not None:
            self._job.close()  # it holds a copy of the secret, or what came of it
        self._job = None
        wipe(self._secret)
        for peer in self.peers + self._untried:
            peer.wipe()

    def _begin(self):
        """Job: our public value, then IKE_SA_INIT."""
        public = yield from x25519.multiply(self._secret, x25519.BASE)
        self._ke = ike.emit_ke(ike.CURVE25519, public)
        self._send_init([])

    def _send_init(self, cookie):
        payloads = cookie + [
            (ike.SA, offer.SAI),
            (ike.KE, self._ke),
            (ike.NONCE, self._nonce),
        ]
        if self._path is not None:
            payloads += self._path.notify(self.spi_i)
        payloads.append(ike.notify(ike.IKEV2_FRAGMENTATION_SUPPORTED))
        for more in (self._config.credentials, self._config.ppk):
            if more is not None:
                payloads.append(more.announcement())
        payloads += self.payloads
        spis = self.spi_i, _NO_SPI
        self.request = ike.emit_message(*spis, ike.IKE_SA_INIT, ike.FLAG_I, 0, payloads)
        self._outgoing.append((self.request, HOME))

    def _send(self, peer):
        for data in peer.sa.request or ():
            self._outgoing.append((data, peer.to))

    def _follow(self, peer):
        """Job: the keys shared with someone who answered, then GSA_AUTH to it. FormatError: it is
        no good.
        """
        config = self._config
        id_type = ike.ID_KEY_ID
        if config.credentials is not None:
            id_type = config.credentials.id_type
        most_len = None
        if peer.fragments:
            most_len = config.fragment_size and config.fragment_size - _AROUND
        iv_space = 0
        if config.credentials is not None or config.ppk is not None:
            # no two signatures are the same, nor what is said where USE_PPK was taken away
            iv_space = self._followed
            self._followed += 1
        shared = yield from x25519.multiply(self._secret, peer.public)
        need(shared is not None, DROP_IKE_KE)  # RFC 7748 section 6.1: zeros, whatever our secret
        spis = self.spi_i, peer.spi_r
        derived = ike.derive(self._nonce, peer.nonce, shared, *spis, peer.key_bits)
        peer.keys = yield from derived
        yield
        peer.sa = IkeSA(*spis, peer.keys, peer.kwa, True, 1, most_len, iv_space)
        yield
        idi = ike.emit_id(id_type, config.idi)
        payloads = [(ike.IDi, idi)]
        if config.idr is not None:
            payloads.append((ike.IDr, ike.emit_id(ike.ID_FQDN, config.idr)))
        proof = config, self.request, idi
        if peer.has_ppk:
            payloads += yield from config.ppk.prove(peer.sign, peer.keys[ike.SK_PI], *proof)
        else:
            payloads += yield from peer.sign(*proof)
        peer.sa.ask(ike.GSA_AUTH, payloads + offer.ask_for(config, self._awake))
        self.peers.append(self._untried.pop(0))
        self._send(peer)
