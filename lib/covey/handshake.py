"""IKE_SA_INIT up to a proven key server: RFC 7296 sections 1.2, 2.4, 2.6, 2.14, 2.15.

Anybody can answer IKE_SA_INIT. Until the AUTH in its answer to GSA_AUTH has verified, such a peer
is nobody: several are followed side by side (section 2.4), and nothing that they say is believed.
Each is asked where its own answer says: a forger who tells of a NAT moves nobody but himself.

Who we are is proven by a pre-shared key, or by a signature (digital.py): then signing and judging
are work as agreeing on keys is, and one answer is judged after the other. A PPK (ppk.py) goes
with either.
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
)
from covey.exchange import IkeSA, most_len_of
from covey.nat import HOME
from covey.octets import equal, wipe
from covey.payloads import error_name, error_of, every, notifies, notify, only
from covey.port import const

WAITS = "waits"  # what verify() returns of an answer that work() will judge
GENUINE = "genuine"  # what is judged to come from the key server

_NO_SPI = b"\0\0\0\0\0\0\0\0"
_NONCE_LEN = const(32)
_X25519_LEN = const(32)  # of secrets and public values
_COOKIE_MOST = const(64)  # octets
_COOKIES = const(4)  # taken between two retransmissions: forgers can send any number
_PEERS = const(3)  # followed at once: each costs two GCM contexts

# Without a Delete these end an IKE SA that is being made (RFC 7296 section 2.21.2).
_FATAL = (ike.AUTHENTICATION_FAILED, ike.INVALID_SYNTAX, ike.UNSUPPORTED_CRITICAL_PAYLOAD)


class Peer:
    """One who answered IKE_SA_INIT. FormatError where it takes up nothing that was offered."""

    def __init__(self, header, data, payloads):
        self.response = bytes(data)  # what its AUTH must cover
        self.spi_r = header.spi_r
        self.to = HOME  # where its messages go, and
        self.is_natted = False  # whether we are behind a NAT, as its answer has it
        self.fragments = ike.IKEV2_FRAGMENTATION_SUPPORTED in [n.type for n in notifies(payloads)]
        self.key_bits, self.kwa, _ = offer.parse_sar(only(payloads, ike.SA))
        method, self.public = ike.parse_ke(only(payloads, ike.KE))
        if method != ike.CURVE25519 or len(self.public) != _X25519_LEN:
            raise FormatError(DROP_IKE_KE)
        self.nonce = ike.check_nonce(only(payloads, ike.NONCE))
        self.has_ppk = False  # whether we have one for it, it uses PPKs, and it isn't settled yet
        self.sa = None  # IkeSA, once agree() is through; taken over by whoever keeps it
        self.payloads = None  # of the answer to GSA_AUTH, while it is judged
        self._keys = None  # ike.Keys

    def agree(self, secret, nonce_i, spi_i, most_len, iv_space):
        """Job: the keys that our secret and nonce share with this peer. FormatError: no good."""
        shared = yield from x25519.multiply(secret, self.public)
        if shared is None:  # RFC 7748 section 6.1: all zeros, whatever our secret is
            raise FormatError(DROP_IKE_KE)
        spis = spi_i, self.spi_r
        self._keys = ike.derive(nonce_i, self.nonce, shared, *spis, self.key_bits)
        wipe(shared)
        yield
        self.sa = IkeSA(
            *spis,
            self._keys,
            self.kwa,
            fragments=self.fragments,
            most_len=most_len,
            iv_space=iv_space,
        )

    def prove(self, config, request, idi):
        """Job: the payloads that prove us. request: our IKE_SA_INIT; idi: body of our IDi."""
        if self.has_ppk:
            return config.ppk.prove(self._sign, self._keys.sk_pi, config, request, idi)
        return self._sign(config, request, idi)

    def _sign(self, config, request, idi):
        """Job: the same by SK_pi as it is, AUTH at the end."""
        sk_pi = self._keys.sk_pi
        if config.credentials is not None:
            payloads = yield from config.credentials.prove(sk_pi, request, self.nonce, idi)
            return payloads
        proof = ike.psk_auth(config.psk, sk_pi, request, self.nonce, idi)
        return [(ike.AUTH, ike.emit_auth(ike.AUTH_SHARED_KEY, proof))]

    def verify(self, config, nonce_i, payloads):
        """Judge an answer to GSA_AUTH → None if it comes from the key server.

        Else the name of the error with which the peer ended it, WAITS (for judge()), or
        FormatError.
        """
        error = error_of(payloads)
        if not every(payloads, ike.AUTH):
            if error in _FATAL:
                return error_name(error)
            raise FormatError(DROP_IKE_AUTH)
        if ike.unsupported_critical(payloads) is not None:
            raise FormatError(DROP_IKE_CRITICAL)
        idr = only(payloads, ike.IDr)
        method, proof = ike.parse_auth(only(payloads, ike.AUTH))
        if config.idr is not None and ike.parse_id(idr) != (ike.ID_FQDN, config.idr):
            raise FormatError(DROP_IKE_AUTH)
        if self.has_ppk:
            config.ppk.settle(payloads, self.sa.sk_d, self._keys.sk_pr)
            self.has_ppk = (
                False  # once, though memory may end behind it, and the answer come again
            )
        if config.credentials is not None:
            self.payloads = payloads
            return WAITS
        expected = ike.psk_auth(config.psk, self._keys.sk_pr, self.response, nonce_i, idr)
        if method != ike.AUTH_SHARED_KEY or not equal(proof, expected):
            raise FormatError(DROP_IKE_AUTH)
        return error_name(error) if error in _FATAL else None

    def judge(self, credentials, nonce_i):
        """Job: of .payloads, which verify() has looked at → GENUINE, or what is wrong."""
        proof = ike.parse_auth(only(self.payloads, ike.AUTH))
        idr = only(self.payloads, ike.IDr)
        signed = self._keys.sk_pr, self.response, nonce_i, idr
        found = yield from credentials.judge(self.payloads, proof, *signed)
        error = error_of(self.payloads)
        return error_name(error) if found == GENUINE and error in _FATAL else found

    def wipe(self):
        if self._keys:
            self._keys.wipe()
        if self.sa:
            self.sa.wipe()


class Handshake:
    """Our side: one SPI, one nonce, one X25519 secret, and whoever answers.

    What is to be sent is appended to `outgoing`, a list of (datagram, HOME or FLOATED). path: a
    nat.Path to the server, or None: then no NAT is looked for. awake: see offer.ask_for.
    """

    payloads = ()  # payloads behind all others of our IKE_SA_INIT

    def __init__(self, config, random, outgoing, path=None, awake=False):
        self.spi_i = bytes(random(len(_NO_SPI)))
        self.peers = []  # Peer: GSA_AUTH is out to each
        self.request = None  # our IKE_SA_INIT as sent last
        self._config = config
        self._outgoing = outgoing
        self._path = path
        self._awake = awake
        self._nonce = bytes(random(_NONCE_LEN))
        self._secret = bytearray(random(_X25519_LEN))
        self._ke = None  # body of our KE payload
        self._cookies = _COOKIES
        self._untried = []  # Peer: the first is in work, or will be
        self._to_judge = []  # Peer: likewise, and before those
        self.judged = None  # (Peer, what judge() found, or a DROP_*): whoever takes it clears it
        self._followed = 0  # peers
        self._job = self._begin()

    @property
    def is_working(self):
        """Whether work() has something to do."""
        return bool(self._job or self._untried or self._to_judge)

    @property
    def _is_answered(self):
        """Whether IKE_SA_INIT is, so that nobody has to ask for a cookie."""
        return bool(self._untried or self.peers)

    def work(self):
        """A slice of work. FormatError: the answer in work was no good and is forgotten."""
        if self._job is None:
            judges = self._to_judge
            self._job = self._judge(judges[0]) if judges else self._follow(self._untried[0])
        try:
            next(self._job)
        except StopIteration:
            self._job = None
        except FormatError:
            self._job = None
            self._untried.pop(0).wipe()
            raise

    def take_answer(self, header, data):
        """An answer to IKE_SA_INIT: a cookie, or work to be done."""
        payloads = ike.parse_message(data)[1]
        if ike.unsupported_critical(payloads) is not None:
            raise FormatError(DROP_IKE_CRITICAL)
        for n in notifies(payloads):
            if n.type == ike.COOKIE:
                return self._take_cookie(n.data)
        if self._config.credentials is not None:
            self._config.credentials.check_answer(payloads)
        known = self._untried + self.peers
        if len(known) >= _PEERS or any([peer.response == data for peer in known]):
            raise FormatError(DROP_IKE_MESSAGE_ID)
        if header.spi_r == _NO_SPI:
            raise FormatError(DROP_IKE_SPI)
        peer = Peer(header, data, payloads)
        if self._config.ppk is not None:
            peer.has_ppk = self._config.ppk.is_known(payloads)
        if self._path is not None:
            peer.to, peer.is_natted = self._path.judge(self.spi_i, peer.spi_r, payloads)
        self._untried.append(peer)

    def verify(self, peer, payloads):
        """See Peer.verify."""
        found = peer.verify(self._config, self._nonce, payloads)
        if found == WAITS:
            self._to_judge.append(peer)
        return found

    def lose(self, peer):
        """peer is not the server, or has ended it."""
        self.peers.remove(peer)
        peer.wipe()

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
            (ike.SA, offer.emit_sai()),
            (ike.KE, self._ke),
            (ike.NONCE, self._nonce),
        ]
        if self._path is not None:
            payloads += self._path.notify(self.spi_i)
        payloads.append(notify(ike.IKEV2_FRAGMENTATION_SUPPORTED))
        if self._config.credentials is not None:
            payloads.append(self._config.credentials.announcement())
        if self._config.ppk is not None:
            payloads.append(self._config.ppk.announcement())
        payloads += self.payloads
        spis = self.spi_i, _NO_SPI
        self.request = ike.emit_message(*spis, ike.IKE_SA_INIT, ike.FLAG_I, 0, payloads)
        self._outgoing.append((self.request, HOME))

    def _send(self, peer):
        self._outgoing.extend([(data, peer.to) for data in peer.sa.request or ()])

    def _take_cookie(self, cookie):
        """RFC 7296 section 2.6: the same message again, with the cookie before its payloads."""
        if not 1 <= len(cookie) <= _COOKIE_MOST:
            raise FormatError(DROP_IKE_FORMAT)
        if self._is_answered or not self._cookies:
            raise FormatError(DROP_IKE_MESSAGE_ID)
        self._cookies -= 1
        self._send_init([notify(ike.COOKIE, cookie)])

    def _follow(self, peer):
        """Job: the keys shared with someone who answered, then GSA_AUTH to it."""
        config = self._config
        most_len = most_len_of(config.fragment_size)
        iv_space = 0
        if config.credentials is not None or config.ppk is not None:
            # no two signatures are the same, nor what is said where USE_PPK was taken away
            iv_space = self._followed
            self._followed += 1
        id_type = config.credentials.id_type if config.credentials else ike.ID_KEY_ID
        yield from peer.agree(self._secret, self._nonce, self.spi_i, most_len, iv_space)
        idi = ike.emit_id(id_type, config.idi)
        payloads = [(ike.IDi, idi)]
        if config.idr is not None:
            payloads.append((ike.IDr, ike.emit_id(ike.ID_FQDN, config.idr)))
        proof = yield from peer.prove(config, self.request, idi)
        payloads += proof
        peer.sa.ask(ike.GSA_AUTH, payloads + offer.ask_for(config, self._awake))
        self.peers.append(self._untried.pop(0))
        self._send(peer)

    def _judge(self, peer):
        """Job: see Peer.judge. What ends without a word has found no memory."""
        found = None
        try:
            found = yield from peer.judge(self._config.credentials, self._nonce)
        except FormatError as e:
            found = e.reason
        finally:
            self._to_judge.remove(peer)
            self.judged = peer, found
